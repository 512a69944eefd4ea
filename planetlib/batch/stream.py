"""Predictions of any number of pictures into a CSV; one that was killed goes on, and ends with the same bytes.

Until it is whole the table is `predictions.csv.part`. `predictions.csv.journal` beside it says what the rows are made
from, and then for each piece, once it is written, where in the table it ends. A piece without such a line may be torn
and is made again.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from planetlib import PlanetlibError
from planetlib.checkpoint import library_versions
from planetlib.classify import Classifier
from planetlib.files.tables import restore, write_rows
from planetlib.files.whole import name_failures, open_whole

#: columns of the predictions table that hold text; the others hold numbers
WORDS = ("path", "label", "predicted", "status", "error", "note")


def write_predictions(
    tables: Iterable[pd.DataFrame], path: str | os.PathLike, append: bool = False
) -> Iterator[pd.DataFrame]:
    """Writes pieces of the predictions table to a CSV as they come, and passes each on.

    The file is `<path>.part` until the last row is written, so a file without `.part` is always whole, and what a
    killed process had done is not lost: `append` goes on with it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with name_failures(part), open(part, "a" if append else "w", newline="", encoding="utf-8") as file:
        for index, table in enumerate(tables, append):
            write_rows(table, file, header=index == 0, float_format="%.6g")
            file.flush()
            yield table
        os.fsync(file.fileno())
    os.replace(part, path)


def predict_resumably(
    classifier: Classifier,
    inputs: list[tuple[str, str]],
    path: str | os.PathLike,
    batch_size: int = 32,
    resume: bool = False,
) -> Iterator[pd.DataFrame]:
    """Predicts (path, label) pairs into a CSV, from the first or, to `resume`, from where an earlier call stopped.

    Yields:
        Pieces of the predictions table, those of an earlier call first.

    Raises:
        PlanetlibError: what is there was made from something else.
    """
    path = Path(path)
    part, journal = (path.with_name(f"{path.name}.{end}") for end in ("part", "journal"))
    made_from = _describe(classifier, inputs, batch_size)
    ends = _read_journal(journal, part, made_from) if resume and journal.is_file() and part.is_file() else []
    with open_whole(journal) as file:
        file.write("\n".join([json.dumps(made_from), *map(str, ends), ""]).encode())
    done = 0
    if ends:
        os.truncate(part, ends[-1])
        earlier = _read_rows(part, inputs)
        done = len(earlier)
        yield earlier
    tables = classifier.stream(inputs[done:], batch_size)
    with name_failures(journal), open(journal, "a", encoding="utf-8", buffering=1) as lines:
        for table in write_predictions(tables, path, append=done > 0):
            print(part.stat().st_size, file=lines)
            yield table
    journal.unlink()


def _describe(classifier: Classifier, inputs: list[tuple[str, str]], batch_size: int) -> dict:
    """What the bytes of the table depend on. Pictures computed in other batches may differ in the last digit."""
    return {
        "inputs": f"{len(inputs)}, digest {hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]}",
        "checkpoint": classifier.checkpoint.digest(),
        "batch_size": batch_size,
        "precision": classifier.precision,
        "runtime": classifier.compute.name,
        "device": classifier.device.type,
        "versions": library_versions(),
    }


def _read_journal(journal: Path, part: Path, made_from: dict) -> list[int]:
    """Where the pieces that are there end, in bytes. Raises PlanetlibError where they are made from something else."""
    try:
        first, *lines = journal.read_text(encoding="utf-8").split("\n")[:-1]  # the last may be torn
        then, ends = dict(json.loads(first)), list(map(int, lines))
    except (ValueError, TypeError) as error:
        raise _tell_damaged(journal, error) from error
    differing = [f"{name} {then.get(name)} (now {now})" for name, now in made_from.items() if then.get(name) != now]
    if differing:
        raise PlanetlibError(
            f"{part}: was made with {', '.join(differing)}; expected the same to go on",
            do="give the same, or leave --resume out to start anew",
        )
    size = part.stat().st_size  # after a power cut it may have less than was written
    return [end for end in ends if end <= size]


def _tell_damaged(path: Path, error: Exception) -> PlanetlibError:
    return PlanetlibError(f"{path}: damaged ({error})", do="leave --resume out to start anew")


def _read_rows(part: Path, inputs: list[tuple[str, str]]) -> pd.DataFrame:
    try:
        table = restore(pd.read_csv(part, dtype=str, keep_default_na=False))
        numbers = table.columns.difference(WORDS)
        table[numbers] = table[numbers].replace("", "nan").astype(float)
        paths, labels = zip(*inputs[: len(table)])
        return table.assign(path=paths, label=labels)
    except ValueError as error:
        raise _tell_damaged(part, error) from error
