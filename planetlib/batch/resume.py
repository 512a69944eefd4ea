"""A prediction that was killed goes on where it stopped, and ends with the same table, byte for byte.

`predictions.csv.part` holds the rows so far. `predictions.csv.made_from.json` beside it tells what they were made from:
only the same is gone on with. Both are gone once `predictions.csv` is whole.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from planetlib import PlanetlibError
from planetlib.checkpoint import Checkpoint, library_versions
from planetlib.classify import Classifier, write_predictions
from planetlib.files.tables import restore
from planetlib.files.whole import open_whole


def predict_resumably(
    classifier: Classifier,
    inputs: list[tuple[str, str]],
    path: str | os.PathLike,
    batch_size: int = 32,
    resume: bool = False,
) -> Iterator[pd.DataFrame]:
    """Predicts into a CSV, from its first row or from where an earlier call stopped.

    Args:
        classifier: see `Classifier`.
        inputs: (path, label) pairs, see `gather_inputs`.
        path: of the CSV.
        batch_size: images in a step.
        resume: go on with the rows that are there, if any; otherwise start anew.

    Yields:
        Pieces of the predictions table, those of an earlier call first.

    Raises:
        PlanetlibError: what is there was made from something else.
    """
    path = Path(path)
    made_from = path.with_name(f"{path.name}.made_from.json")
    now = _describe(classifier, inputs, batch_size)
    earlier = _take_up(path, made_from, now, inputs, batch_size) if resume and made_from.is_file() else []
    done = len(earlier)
    if done:
        yield earlier
    else:
        with open_whole(made_from) as file:
            file.write(json.dumps(now, indent=2).encode())
    yield from write_predictions(classifier.stream(inputs[done:], batch_size), path, append=done > 0)
    made_from.unlink(missing_ok=True)


def _describe(classifier: Classifier, inputs: list[tuple[str, str]], batch_size: int) -> dict:
    """What the bytes of the table depend on."""
    return {
        "inputs": f"{len(inputs)}, digest {hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]}",
        "checkpoint": _digest(classifier.checkpoint),
        "batch_size": batch_size,
        "precision": classifier.precision,
        "runtime": classifier.runtime,
        "device": classifier.device.type,
        "versions": library_versions(),
    }


def _digest(checkpoint: Checkpoint) -> str:
    digest = hashlib.sha256()
    for field in dataclasses.fields(checkpoint):
        value = getattr(checkpoint, field.name)
        if field.name in ("state_dict", "detector"):
            for name, tensor in value.items():
                digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()[:16]


def _take_up(
    path: Path, made_from: Path, now: dict, inputs: list[tuple[str, str]], batch_size: int
) -> pd.DataFrame | list:
    """The whole batches among the rows that are there; the rest is cut off."""
    then = json.loads(made_from.read_text(encoding="utf-8"))
    if differing := [f"{name} {then.get(name)} (now {now[name]})" for name in now if then.get(name) != now[name]]:
        raise PlanetlibError(
            f"{path}.part: was made with {', '.join(differing)}; expected the same to go on: give the same, or leave "
            "--resume out to start anew"
        )
    partial = path.with_name(path.name + ".part")
    ends = _row_ends(partial) if partial.is_file() else []
    rows = len(ends) - 1  # the first line has the names of the columns
    # Pictures that were computed together are computed together again: in other batches the last digit may differ.
    rows = rows if rows == len(inputs) else rows // batch_size * batch_size
    if rows <= 0:
        return []
    os.truncate(partial, ends[rows])
    words = ("path", "label", "predicted", "status", "error", "note")
    table = restore(pd.read_csv(partial, dtype=str, keep_default_na=False))
    table = table.apply(lambda column: column if column.name in words else pd.to_numeric(column))
    return table.assign(path=[path for path, _ in inputs[:rows]], label=[label for _, label in inputs[:rows]])


def _row_ends(path: Path) -> list[int]:
    """Where each whole row ends, in bytes. A line break between quotes, as a file's name may have, ends none."""
    ends, position, quotes = [], 0, 0
    with open(path, "rb") as file:
        for line in file:
            position, quotes = position + len(line), quotes + line.count(b'"')
            if line.endswith(b"\n") and quotes % 2 == 0:
                ends.append(position)
    return ends
