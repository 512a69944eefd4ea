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


@pytest.fixture
def table(tmp_path, samples):
    """A samples table on disk."""
    write_table(samples, tmp_path / "new" / "samples.csv")
    return tmp_path / "new" / "samples.csv"


# Keeping


@pytest.mark.parametrize("labels", [["007", "8"], ["NA", "null"], ['ü, "quoted"', "a b"]])
def test_a_table_comes_back_as_it_was_written(table, samples, labels):
    awkward = samples.assign(label=np.resize(labels, len(samples)))  # what pandas would gladly take for something else
    write_table(awkward, table)
    pd.testing.assert_frame_equal(read_samples(table), awkward)


@pytest.mark.parametrize("content, got", [
    (None, "no samples table there.*planetlib data split"),
    (b"path,label,sha256\na,b,c\n", "got the columns label, path, sha256; expected the columns path, label, split"),
    (b"", "got no CSV"), (b"\x89PNG\r\n\x1a\n\xff", "got no CSV"), (b'path,label\na,b,c\n"', "got no CSV"),
], ids=["missing", "columns missing", "empty", "a picture", "broken lines"])  # fmt: skip
def test_a_file_that_is_no_samples_table_is_refused(tmp_path, content, got):
    if content is not None:
        (tmp_path / "samples.csv").write_bytes(content)
    with pytest.raises(DataError, match=f"samples.csv: {got}"):
        read_samples(tmp_path / "samples.csv")


def test_the_fingerprint_changes_with_what_is_learnt_from_and_with_nothing_else(samples):
    moved = samples.assign(path="elsewhere/" + samples.path).iloc[::-1]
    assert fingerprint_samples(moved) == fingerprint_samples(samples) and len(fingerprint_samples(samples)) == 16
    for column, value in {"label": "moon", "split": "none", "sha256": "0" * 64}.items():
        moved.loc[3, column] = value
        assert fingerprint_samples(moved) != fingerprint_samples(samples), column
        moved[column] = samples[column]


# Spreadsheets

HOSTILE = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=1", "＝1", "a;=1", "a\n@b", "'=1", "''+1", "'plain", "it's", ""]


def cells(content: str) -> list[str]:
    """What a spreadsheet makes of a CSV: the cells between commas, and between the semicolons of those."""
    return [part for row in csv.reader(io.StringIO(content)) for cell in row for part in re.split("[;\n]", cell)]


def test_no_cell_of_a_written_table_is_a_formula(tmp_path):
    hostile = pd.DataFrame({"path": HOSTILE, "label": HOSTILE[::-1], "=column": HOSTILE, "confidence": -0.5})
    write_table(hostile, tmp_path / "t.csv")
    written = cells((tmp_path / "t.csv").read_text(encoding="utf-8"))
    assert not [cell for cell in written if cell and cell[0] in "=+-@\t\r＝" and cell != "-0.5"]
    assert "-0.5" in written and "plain" not in written and "'plain" in written  # numbers and the harmless stay


def test_names_that_look_like_formulas_come_back_as_they_were(table, samples):
    names = pd.Series(np.resize(HOSTILE, len(samples)))
    hostile = samples.assign(path=names, label=names)
    write_table(hostile, table)
    pd.testing.assert_frame_equal(read_samples(table), hostile)
    marks = mark(table, 0, "relabel", "@new")
    pd.testing.assert_frame_equal(read_marks(table), marks)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text("'=+-@;\t\r\n ＝ab"), min_size=1))
def test_what_is_made_harmless_can_always_be_undone(texts):
    table = pd.DataFrame({"path": texts, "number": -1.5}).rename(columns={"number": texts[0] or "n"})
    safe = neutralise(table)
    pd.testing.assert_frame_equal(restore(safe), table)
    assert not safe.path.str.contains(r"(?:\A|[;\t\r\n])[=+\-@\t\r\n＝]").any()


# Marks


def mark(table, index: int, *mark) -> pd.DataFrame:
    return write_mark(table, list(read_samples(table, reviewed=False).itertuples())[index], *mark)


def test_marks_change_what_is_read_and_nothing_on_the_disk(table, samples):
    assert read_samples(table).equals(samples) and read_marks(table).empty
    before, pictures = table.read_bytes(), [os.stat(path).st_mtime_ns for path in samples.path]
    mark(table, 0, "keep")
    mark(table, 1, "relabel", "red")
    mark(table, 2, "exclude")
    expected = samples.copy()
    expected.loc[1, "label"] = "red"
    assert read_samples(table).equals(expected.drop(index=2).reset_index(drop=True))
    assert fingerprint_samples(read_samples(table)) != fingerprint_samples(samples)  # a run notices
    assert table.read_bytes() == before and read_samples(table, reviewed=False).equals(samples)
    assert [os.stat(path).st_mtime_ns for path in samples.path] == pictures


def test_a_later_mark_takes_the_place_of_an_earlier_and_none_takes_it_away(table, samples):
    mark(table, 3, "exclude")
    mark(table, 4, "keep")
    mark(table, 3, "relabel", "green")
    assert mark(table, 5, "exclude")["mark"].tolist() == ["keep", "relabel", "exclude"]
    mark(table, 3, None)
    mark(table, 5, None)
    assert read_marks(table).sha256.tolist() == [samples.sha256[4]] and read_samples(table).equals(samples)


def test_a_mark_holds_for_the_picture_under_whatever_name(table, samples):
    mark(table, 0, "exclude")
    write_table(pd.concat([samples.assign(path="elsewhere/" + samples.path), samples]), table)
    assert samples.sha256[0] not in set(read_samples(table).sha256)
    assert len(read_samples(table)) == 2 * len(samples) - 2


@pytest.mark.parametrize("wrong", [("burn",), ("relabel",), ("keep", "red")])
def test_a_mark_that_means_nothing_is_refused_and_nothing_lost(table, wrong):
    mark(table, 0, "keep")
    with pytest.raises(PlanetlibError, match=f"mark '{wrong[0]}'.*expected"):
        mark(table, 1, *wrong)
    assert len(read_marks(table)) == 1


def test_a_mark_written_by_hand_is_checked(table):
    mark(table, 0, "keep")
    path = table.with_name("marks.csv")
    path.write_text(path.read_text(encoding="utf-8").replace("keep", "kept"), encoding="utf-8")
    with pytest.raises(DataError, match="marks.csv: got the marks kept; expected keep, relabel, exclude"):
        read_samples(table)


def test_of_two_marks_for_a_picture_the_later_holds_and_a_new_label_is_asked_for(table, samples):
    path, head = table.with_name("marks.csv"), "sha256,path,label,mark,new_label\n"
    lines = [f"{samples.sha256[0]},a.png,{samples.label[0]},{said}\n" for said in ("exclude,", "relabel,pink")]
    path.write_text(head + "".join(lines), encoding="utf-8")
    assert read_samples(table).label[0] == "pink" and len(read_samples(table)) == len(samples)
    path.write_text(head + lines[1].replace("pink", ""), encoding="utf-8")
    with pytest.raises(DataError, match="marks.csv: got no new_label for a.png; expected a class"):
        read_samples(table)
