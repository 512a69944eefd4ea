"""Prediction past one machine: Ray Data maps a `Classifier` over files on a disc, in a bucket or behind a web server.

The cluster is the one that the environment variable RAY_ADDRESS names (`auto`: the one that runs on this machine), or
else one made for the call, which nobody can reach from elsewhere. Needs the extra `[scale]`.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from planetlib import PlanetlibError
from planetlib.batch.runtime import use_runtime
from planetlib.batch.stream import WORDS, write_predictions
from planetlib.checkpoint import Checkpoint, find_checkpoint
from planetlib.classify import Classifier
from planetlib.files.find import SUFFIXES, gather_inputs
from planetlib.files.progress import progress_bar
from planetlib.files.tables import DataError
from planetlib.files.whole import open_whole

ADDRESS = "://"  # in `s3://…` or `https://…`, and in no path
STEPS_IN_TASK = 8  # what is done again where a worker is lost
FETCHES = 16  # files that a worker fetches at a time


def predict_places(
    run: str | os.PathLike, places: Iterable[str | os.PathLike], out: str | os.PathLike, **options
) -> Iterator[pd.DataFrame]:
    """Predicts files, folders and addresses into a table on disc, CSV or by its suffix Parquet; passes the pieces on.

    Takes the options and raises the errors of `stream_on_ray`, and the errors of `gather_addresses`.
    """
    checkpoint = Checkpoint.load(find_checkpoint(run))
    inputs = gather_addresses(places, checkpoint.class_names)
    write = _write_parquet if Path(out).suffix == ".parquet" else write_predictions
    with progress_bar(desc="predicting", total=len(inputs), unit="image") as bar:
        for table in write(stream_on_ray(checkpoint, inputs, **options), out):
            bar.update(len(table))
            yield table


def _write_parquet(tables: Iterable[pd.DataFrame], path: str | os.PathLike) -> Iterator[pd.DataFrame]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    tables = iter(tables)
    first = next(tables)
    schema = pa.Schema.from_pandas(first, preserve_index=False)
    with open_whole(path) as file, ParquetWriter(file, schema) as writer:
        for table in chain([first], tables):
            writer.write_table(pa.Table.from_pandas(table, schema, preserve_index=False))
            yield table


def gather_addresses(places: Iterable[str | os.PathLike], class_names: Iterable[str] = ()) -> list[tuple[str, str]]:
    """As `files.find.gather_inputs`, of paths and of addresses that fsspec can read; folders are listed to any depth.

    Raises:
        DataError: as `gather_inputs`; also an address whose file system is unknown, not installed or does not answer.
    """
    names, pairs = set(class_names), []
    for place in map(str, places):
        if ADDRESS in place:
            found = [(address, address.split("/")[-2]) for address in _list_addresses(place)]
            pairs += [(address, label if label in names else "") for address, label in found]
        else:
            pairs += gather_inputs([place], names)
    return pairs


def _list_addresses(place: str) -> list[str]:
    if Path(place).suffix.lower() in SUFFIXES:
        return [place]
    try:
        from fsspec.core import url_to_fs

        system, root = url_to_fs(place)
        found = [name for name in system.find(root) if Path(name).suffix.lower() in SUFFIXES]
        found = sorted(system.unstrip_protocol(name) for name in found if "/." not in name.removeprefix(root))
    except Exception as error:  # each file system has errors of its own
        advice = "install what fsspec needs for it: s3fs for s3://, gcsfs for gs://, aiohttp for https://"
        raise DataError(f"{place}: cannot be listed ({error}); expected a folder of pictures", do=advice) from error
    if not found:
        raise DataError(f"{place}: no pictures there; expected files such as .png, .jpg, .tif")
    return found


def stream_on_ray(
    checkpoint: Checkpoint, inputs: list[tuple[str, str]], batch_size: int = 32, workers: int | None = None, **options
) -> Iterator[pd.DataFrame]:
    """As `Classifier.stream`, also of addresses, by workers of a Ray cluster: the same rows in the same order.

    A worker that is lost is replaced, and what it had in hand is done again; a cluster that gets no further for half an
    hour, as where one file kills every worker, is given up. Paths must lead to the same files on every machine of the
    cluster; the checkpoint is handed to the workers.

    By default there is a worker for each GPU of the cluster or, where it has none, for each CPU. The options are
    `runtime` and those of `Classifier`.

    Raises:
        PlanetlibError: Ray is not installed, or the cluster fails.
    """
    with join_cluster() as ray:
        there = ray.cluster_resources()
        cpus, gpus = int(there.get("CPU", 1)), int(there.get("GPU", 0))
        count = workers or gpus or cpus
        # A task is a whole number of steps, which are so made of the same pictures as those of `Classifier.stream`.
        files, size = pd.DataFrame(inputs, columns=["path", "label"]), STEPS_IN_TASK * batch_size
        tasks = ray.data.from_pandas([files[start : start + size] for start in range(0, len(files), size)])
        rows = tasks.map_batches(
            _Worker,
            batch_size=None,
            batch_format="pandas",
            compute=ray.data.ActorPoolStrategy(size=count),
            # In a list the checkpoint stays a reference, which a worker that is started again resolves again.
            fn_constructor_args=([ray.put(checkpoint)], batch_size, os.getcwd(), len(inputs)),
            fn_constructor_kwargs=options,
            num_cpus=cpus // count or cpus / count,
            num_gpus=gpus / count,
        )
        for batch in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
            table = batch.to_pandas()  # where a column has no number, Arrow forgets that it is one of numbers
            yield table.astype(dict.fromkeys(table.columns.difference(WORDS), float))


@contextmanager
def join_cluster() -> Iterator[Any]:
    """Ray, with the cluster this process has joined already, that of RAY_ADDRESS, or one that ends with the body.

    Raises:
        PlanetlibError: Ray is not installed, the cluster does not start, or it fails in the body.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # its makers are told nothing
    if "RAY_ADDRESS" not in os.environ:  # on Linux, too, a cluster made for the call listens on 127.0.0.1 alone
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
        import ray.data
        from ray.data.exceptions import ExecutionTimeoutError
    except ImportError as error:
        raise PlanetlibError(f"Ray is not there ({error})", do="pip install 'planetlib[scale]'") from error
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ours = not ray.is_initialized()
    if ours:
        address = os.environ.get("RAY_ADDRESS", "local")
        try:
            ray.init(address, include_dashboard=False, logging_level=logging.WARNING)
        except Exception as error:  # nothing narrower is raised where its processes take over half a minute to meet
            ray.shutdown()
            raise PlanetlibError(f"the cluster at {address} did not start: {error}", do="try again") from error
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order, context.enable_progress_bars = True, False
    try:
        yield ray
    except (ray.exceptions.RayError, ExecutionTimeoutError) as error:
        raise PlanetlibError(f"the cluster gave up: {str(error).splitlines()[0]}") from error
    finally:
        if ours:
            ray.shutdown()


class _Worker:
    """What a worker process holds: the classifier; called with `path, label`, it returns the predictions table."""

    def __init__(self, handed: list, batch_size: int, folder: str, images: int, runtime: str = "torch", **options):
        import ray

        self.batch_size, self.folder = batch_size, folder
        self.classifier = Classifier(ray.get(handed[0]), **options)
        use_runtime(self.classifier, runtime, images)

    def __call__(self, files: pd.DataFrame) -> pd.DataFrame:
        with ThreadPoolExecutor(FETCHES) as pool:
            sources, reasons = zip(*pool.map(self._fetch, files.path))
        table = pd.concat(self.classifier.stream(zip(sources, files.label), self.batch_size), ignore_index=True)
        errors = [reason or error for reason, error in zip(reasons, table.error)]
        return table.assign(path=files.path.to_numpy(), error=pd.Series(errors, dtype=table.error.dtype))

    def _fetch(self, place: str) -> tuple[str | bytes, str]:
        """A path, or the bytes behind an address; where there are none, no bytes and the reason."""
        if ADDRESS not in place:
            return os.path.join(self.folder, place), ""
        import fsspec

        try:
            with fsspec.open(place) as file:
                return file.read(), ""
        except FileNotFoundError:  # fsspec says so of a web server that does not answer, too
            return b"", "not found"
        except Exception as error:  # each file system has errors of its own
            return b"", f"cannot be fetched ({' '.join(str(error).split()) or type(error).__name__})"
