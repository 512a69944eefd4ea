"""Tables as CSV, whole and harmless; the samples table, and the marks of people who reviewed its labels.

Marks lie in `marks.csv` beside the samples table, one row for each marked picture: `sha256, path, label, mark,
new_label`. A mark belongs to the picture, not to its name: it holds after the file is renamed and for equal files.
"""

import codecs
import csv
import hashlib
import os
import re
from functools import partial
from pathlib import Path
from typing import TextIO

import pandas as pd

from planetlib import PlanetlibError, list_few, require_known
from planetlib.files.whole import open_whole

#: what a person may say of a picture's label: it is right, it is `new_label`, or the picture is of no use
MARKS = ("keep", "relabel", "exclude")
SAMPLE_COLUMNS = ["path", "label", "split", "sha256", "group"]
MARK_COLUMNS = ["sha256", "path", "label", "mark", "new_label"]

# Where a spreadsheet would see a formula: at the start of a cell and, as some split at semicolons whatever is quoted,
# after a separator (OWASP, «CSV Injection»). Apostrophes there count, so that what was added can be told and undone.
CELL_START = r"(?:\A|(?<=[;\t\r\n]))"
FORMULA = r"(?='*[=+\-@\t\r\n＝＋－＠])"


class DataError(PlanetlibError):
    """A folder or a table that cannot be trained on or predicted, with what to do about it."""


def neutralise(table: pd.DataFrame) -> pd.DataFrame:
    """Makes a table harmless in a spreadsheet: an apostrophe before what would be taken for a formula, as `=cmd|…`.

    Names of files and classes are whatever somebody wrote. `restore` undoes it, to the letter.
    """
    return _substitute(CELL_START + FORMULA, "'", table)


def restore(table: pd.DataFrame) -> pd.DataFrame:
    """The table that `neutralise` was given."""
    return _substitute(CELL_START + "'" + FORMULA, "", table)


def _substitute(pattern: str, by: str, table: pd.DataFrame) -> pd.DataFrame:
    """Replaces in every cell of text, and in the names of the columns."""

    def change(cell):
        return re.sub(pattern, by, cell) if isinstance(cell, str) else cell

    return table.assign(**table.select_dtypes(exclude="number").map(change)).rename(columns=change)


def write_rows(table: pd.DataFrame, file: TextIO | codecs.StreamWriter, **options) -> None:
    """Writes a table, `neutralise` applied, as rows of a CSV into an open file; options of `DataFrame.to_csv`."""
    to_csv = partial(neutralise(table).to_csv, index=False, lineterminator="\n", **options)
    rows = to_csv()
    if "\r" in rows:  # before Python 3.13 only this puts a name with one in quotes, and it would end its row
        rows = to_csv(quoting=csv.QUOTE_NONNUMERIC)
    file.write(rows)


def write_table(table: pd.DataFrame, path: str | os.PathLike) -> None:
    """Writes a table as CSV, whole or not at all, with folders as needed; `neutralise` is applied."""
    with open_whole(path) as file:
        write_rows(table, codecs.getwriter("utf-8")(file))


def _read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    """Reads what `write_table` wrote; raises DataError for what lacks these columns."""
    words = dict.fromkeys(["path", "label", "new_label", "sha256"], str)
    expected, do = f"expected the columns {', '.join(columns)}", "put back what was there, or delete it"
    try:
        table = restore(pd.read_csv(path, dtype=words, keep_default_na=False))
    except ValueError as error:  # pandas derives its parsing errors from it
        raise DataError(f"{path}: got no CSV ({error}); {expected}", do) from error
    if not set(columns) <= set(table.columns):
        raise DataError(f"{path}: got the columns {list_few(table.columns)}; {expected}", do)
    return table


def read_samples(path: str | os.PathLike, reviewed: bool = True) -> pd.DataFrame:
    """Reads a samples table that `write_table` wrote.

    Where `reviewed`, the marks that lie beside it are applied: relabelled pictures have their new label, excluded ones
    are left out.

    Raises:
        DataError: no such file, no CSV, columns are missing, or a mark that is none of `MARKS`.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no samples table there", do="notebook 01 or 'planetlib data split' makes it")
    samples = _read_table(path, SAMPLE_COLUMNS)
    return apply_marks(samples, path) if reviewed else samples


def apply_marks(samples: pd.DataFrame, path: str | os.PathLike) -> pd.DataFrame:
    """A samples table as it was read from `path`, with the marks beside it; raises the errors of `read_marks`."""
    marks = read_marks(path).set_index("sha256")
    mark, new_label = samples.sha256.map(marks["mark"]), samples.sha256.map(marks.new_label)
    relabelled = samples.assign(label=samples.label.mask(mark == "relabel", new_label))
    return relabelled[mark != "exclude"].reset_index(drop=True)


def fingerprint_samples(samples: pd.DataFrame) -> str:
    """16 hexadecimal digits that change when a picture, a label or the split of one changes; paths do not matter."""
    rows = sorted(zip(samples.label, samples.split, samples.sha256))
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def read_marks(samples_path: str | os.PathLike) -> pd.DataFrame:
    """The marks beside a samples table; no rows where nobody made any.

    Raises:
        DataError: a file without these columns, or with a mark that is none of `MARKS` or lacks its new label.
    """
    path = Path(samples_path).with_name("marks.csv")
    if not path.is_file():
        return pd.DataFrame(columns=MARK_COLUMNS, dtype=str)
    marks = _read_table(path, MARK_COLUMNS)
    if strange := set(marks["mark"]) - set(MARKS):
        raise DataError(f"{path}: got the marks {list_few(strange)}; expected {', '.join(MARKS)}", "put them right")
    if unnamed := list(marks.path[(marks["mark"] == "relabel") & (marks.new_label == "")]):
        raise DataError(f"{path}: got no new_label for {list_few(unnamed)}; expected a class", "put it right")
    return marks.drop_duplicates("sha256", keep="last")


def write_mark(samples_path: str | os.PathLike, row, mark: str | None, new_label: str = "") -> pd.DataFrame:
    """Marks a row of the samples table, in place of any earlier mark of its picture; returns all marks.

    None takes the mark away; `relabel` needs the right class as `new_label`.

    Raises:
        PlanetlibError: unknown mark, or `relabel` without a new label.
    """
    marks = read_marks(samples_path)  # anew each time: another notebook may have written meanwhile
    marks = marks[marks.sha256 != row.sha256]
    if mark is not None:
        require_known("mark", mark, MARKS)
        if (mark == "relabel") != bool(new_label):
            raise DataError(f"got the mark '{mark}' with the new label '{new_label}'; expected one for 'relabel' alone")
        added = pd.DataFrame([[row.sha256, row.path, row.label, mark, new_label]], columns=MARK_COLUMNS)
        marks = pd.concat([marks, added], ignore_index=True)
    write_table(marks, Path(samples_path).with_name("marks.csv"))
    return marks


def class_probabilities(row: pd.Series) -> pd.Series:
    """Class → probability, of a row of the predictions table."""
    return row.filter(regex="^prob_").astype(float).rename(lambda column: column.removeprefix("prob_"))
