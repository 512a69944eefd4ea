"""Tables on disk, and the marks of people who reviewed the labels."""

import csv
import io
import os
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planetlib import PlanetlibError
from planetlib.files.tables import (
    DataError,
    fingerprint_samples,
    neutralise,
    read_marks,
    read_samples,
    restore,
    write_mark,
    write_table,
)

# Keeping


@pytest.mark.parametrize("labels", [["007", "8"], ["NA", "null"], ['ü, "quoted"', "a b"]])
def test_a_table_comes_back_as_it_was_written(tmp_path, samples, labels):
    awkward = samples.assign(label=np.resize(labels, len(samples)))  # what pandas would gladly take for something else
    write_table(awkward, tmp_path / "new" / "samples.csv")
    pd.testing.assert_frame_equal(read_samples(tmp_path / "new" / "samples.csv"), awkward)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["samples.csv"]


def test_a_write_that_fails_leaves_the_old_table_whole(tmp_path, samples, monkeypatch):
    def fill_the_disk(_):
        raise OSError(28, "No space left on device")

    write_table(samples, tmp_path / "samples.csv")
    monkeypatch.setattr(os, "fsync", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        write_table(samples, tmp_path / "samples.csv")
    pd.testing.assert_frame_equal(read_samples(tmp_path / "samples.csv"), samples)


def test_a_missing_table_is_told_what_makes_it(tmp_path):
    advice = "samples.csv: no samples table there; notebook 01 or 'planetlib data split' makes it"
    with pytest.raises(DataError, match=advice):
        read_samples(tmp_path / "samples.csv")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"path,label,sha256\na,b,c\n", "not a samples table, lacks the columns group, split$"),
        (b"", r"not a samples table \(No columns"),
        (b"\x89PNG\r\n\x1a\n\xff", r"not a samples table \(.*codec"),
        (b'path,label\na,b,c\n"', r"not a samples table \("),
    ],
    ids=["columns missing", "empty", "a picture", "broken lines"],
)
def test_a_file_that_is_no_samples_table_is_refused(tmp_path, content, message):
    (tmp_path / "samples.csv").write_bytes(content)
    with pytest.raises(DataError, match=f"samples.csv: {message}"):
        read_samples(tmp_path / "samples.csv")


# Spreadsheets

HOSTILE = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=1", "＝1", "a;=1", "a\n@b", "'=1", "''+1", "'plain", "it's", ""]


def cells(content: str) -> list[str]:
    """What a spreadsheet makes of a CSV: the cells between commas, and between the semicolons of those."""
    return [part for row in csv.reader(io.StringIO(content)) for cell in row for part in re.split("[;\n]", cell)]


def test_no_cell_of_a_written_table_is_a_formula(tmp_path, samples):
    hostile = pd.DataFrame({"path": HOSTILE, "label": HOSTILE[::-1], "=column": HOSTILE, "confidence": -0.5})
    write_table(hostile, tmp_path / "t.csv")
    written = cells((tmp_path / "t.csv").read_text(encoding="utf-8"))
    assert not [cell for cell in written if cell and cell[0] in "=+-@\t\r＝" and cell != "-0.5"]
    assert "-0.5" in written and "plain" not in written and "'plain" in written  # numbers and the harmless stay


def test_names_that_look_like_formulas_come_back_as_they_were(tmp_path, samples):
    names = pd.Series(np.resize(HOSTILE, len(samples)))
    hostile = samples.assign(path=names, label=names)
    write_table(hostile, tmp_path / "samples.csv")
    pd.testing.assert_frame_equal(read_samples(tmp_path / "samples.csv"), hostile)
    row = next(hostile.itertuples())
    mark = write_mark(tmp_path / "samples.csv", row, "relabel", "@new")
    pd.testing.assert_frame_equal(read_marks(tmp_path / "samples.csv"), mark)


@settings(deadline=None)
@given(st.lists(st.text("'=+-@;\t\r\n ＝ab"), min_size=1))
def test_what_is_made_harmless_can_always_be_undone(texts):
    table = pd.DataFrame({"path": texts, "number": -1.5}).rename(columns={"number": texts[0] or "n"})
    safe = neutralise(table)
    pd.testing.assert_frame_equal(restore(safe), table)
    assert not safe.path.str.contains(r"(?:\A|[;\t\r\n])[=+\-@\t\r\n＝]").any()


@pytest.mark.parametrize("column, value", {"label": "moon", "split": "none", "sha256": "0" * 64}.items())
def test_the_fingerprint_changes_with_what_is_learnt_from(samples, column, value):
    changed = samples.copy()
    changed.loc[3, column] = value
    assert fingerprint_samples(changed) != fingerprint_samples(samples)


def test_the_fingerprint_does_not_change_with_the_place_or_order(samples):
    moved = samples.assign(path="elsewhere/" + samples.path).iloc[::-1]
    assert fingerprint_samples(moved) == fingerprint_samples(samples)
    assert len(fingerprint_samples(samples)) == 16 and int(fingerprint_samples(samples), 16)


# Marks


@pytest.fixture
def table(tmp_path, samples):
    """A samples table on disk, to be marked."""
    write_table(samples, tmp_path / "samples.csv")
    return tmp_path / "samples.csv"


def mark(table, index: int, *mark) -> pd.DataFrame:
    rows = list(read_samples(table, reviewed=False).itertuples())
    return write_mark(table, rows[index], *mark)


def test_without_marks_the_table_is_as_it_was_written(table, samples):
    assert read_samples(table).equals(samples) and read_marks(table).empty


def test_marks_change_what_is_read_and_leave_the_table_as_it_is(table, samples):
    before = table.read_bytes()
    mark(table, 0, "keep")
    mark(table, 1, "relabel", "red")
    mark(table, 2, "exclude")
    expected = samples.copy()
    expected.loc[1, "label"] = "red"
    assert read_samples(table).equals(expected.drop(index=2).reset_index(drop=True))
    assert table.read_bytes() == before and read_samples(table, reviewed=False).equals(samples)


def test_pictures_that_are_marked_stay_where_they_are(table, samples):
    before = {path: os.stat(path).st_mtime_ns for path in samples.path}
    mark(table, 2, "exclude")
    assert {path: os.stat(path).st_mtime_ns for path in samples.path} == before


def test_a_later_mark_takes_the_place_of_an_earlier_and_none_takes_it_away(table, samples):
    mark(table, 3, "exclude")
    mark(table, 3, "relabel", "green")
    assert mark(table, 4, "keep")["mark"].tolist() == ["relabel", "keep"]
    mark(table, 3, None)
    assert read_marks(table).sha256.tolist() == [samples.sha256[4]] and read_samples(table).equals(samples)


def test_a_mark_holds_for_the_picture_under_whatever_name(table, samples):
    mark(table, 0, "exclude")
    renamed = pd.concat([samples.assign(path="elsewhere/" + samples.path), samples])
    write_table(renamed, table)
    assert samples.sha256[0] not in set(read_samples(table).sha256)
    assert len(read_samples(table)) == 2 * len(samples) - 2


@pytest.mark.parametrize(
    "wrong, message",
    [
        (("burn",), "unknown mark 'burn'; expected one of: keep, relabel, exclude"),
        (("relabel",), "got the mark 'relabel' with the new label ''; expected a label for 'relabel' alone"),
        (("keep", "red"), "got the mark 'keep' with the new label 'red'"),
    ],
)
def test_a_mark_that_means_nothing_is_refused_and_nothing_lost(table, wrong, message):
    mark(table, 0, "keep")
    with pytest.raises(PlanetlibError, match=message):
        mark(table, 1, *wrong)
    assert len(read_marks(table)) == 1


def test_a_mark_written_by_hand_is_checked(table):
    mark(table, 0, "keep")
    path = table.with_name("marks.csv")
    path.write_text(path.read_text(encoding="utf-8").replace("keep", "kept"), encoding="utf-8")
    with pytest.raises(DataError, match=r"marks.csv: got the marks 'kept'; expected one of: keep, relabel, exclude"):
        read_samples(table)


def test_a_mark_that_cannot_be_written_leaves_the_earlier_ones_whole(table, monkeypatch):
    mark(table, 0, "keep")

    def fail(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("planetlib.files.tables.os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        mark(table, 1, "exclude")
    assert read_marks(table)["mark"].tolist() == ["keep"]


def test_marks_change_the_fingerprint_so_that_a_run_notices(table):
    before = fingerprint_samples(read_samples(table))
    mark(table, 1, "relabel", "red")
    assert fingerprint_samples(read_samples(table)) != before
