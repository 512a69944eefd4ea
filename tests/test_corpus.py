"""Folders of odd files: every one of them gets a row with a status and a reason; nothing is skipped, nothing stops."""

import os
import socket
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from planetlib.batch.stream import WORDS, write_predictions
from planetlib.data import check_samples
from planetlib.files.find import gather_inputs, path_text
from planetlib.files.tables import restore
from tests.conftest import encode

HOSTILE_NAMES = ["two\nlines", "a\rb", "tab\t", "a \"b\" 'c'", "é木", "\u202egnp", "\x1b[31m", "=1+1", "+1", "-1", "@x",
                 "<img src=x onerror=alert(1)>", "a;=b", "$x$", "n" * 251]  # fmt: skip


@pytest.fixture
def odd_folder(tmp_path, every_format, monkeypatch) -> Path:
    """A file of every format, and what else may lie in a folder under the name of a picture."""
    folder = tmp_path / "odd"
    folder.mkdir()
    good = every_format["rgb.png"]
    for name, content in every_format.items():
        (folder / name).write_bytes(content)
    for name in HOSTILE_NAMES:
        (folder / f"{name}.png").write_bytes(good)
    bad = {"empty.png": b"", "text.jpg": b"text", "torn.png": good[:90], "torn.fits": every_format["plain.fits"][:3000],
           "one pixel.png": encode(Image.new("RGB", (1, 1))), "row.png": encode(Image.new("L", (30_000, 1))),
           "script.png": encode(Image.new("RGB", (9, 9)), "EPS"),
           "bomb.png": encode(Image.new("L", (10_000, 10_000)))}  # fmt: skip
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    with open(folder / "hole.tif", "wb") as file:
        file.truncate(5 << 30)
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    (folder / "folder.png" / "within.png").write_bytes(good)
    for name, target in {"nothing.png": "gone", "circle.png": "circle.png", "loop": ".", "link.png": "rgb.png"}.items():
        (folder / name).symlink_to(target)
    monkeypatch.chdir(folder)  # the name of a socket may be 100 bytes long
    with socket.socket(socket.AF_UNIX) as there:
        there.bind("socket.png")
    return folder


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")  # of odd files; pytest undoes the library's own filter
def test_every_oddity_has_a_row_with_a_status_and_a_reason(classifier, odd_folder, every_format, tmp_path):
    inputs = gather_inputs([odd_folder, odd_folder / "nothing.png"])  # a link to nothing, also named outright
    everything = [path for path in odd_folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    assert sorted(path for path, _ in inputs[:-1]) == sorted(map(path_text, everything))
    assert inputs[-1][0].endswith("nothing.png")
    table = pd.concat(write_predictions(classifier.stream(inputs, 16), tmp_path / "p.csv"), ignore_index=True)
    assert table.path.tolist() == [path for path, _ in inputs]
    print(f"\n{len(table)} odd files: {table.status.value_counts().to_dict()}")
    lost = table[table.status == "unreadable"].set_index("path").error
    assert {Path(path).name for path in lost.index} == {
        "empty.png", "text.jpg", "torn.png", "torn.fits", "one pixel.png", "row.png", "script.png", "bomb.png",
        "hole.tif", "pipe.png", "nothing.png", "circle.png", "loop", "socket.png",
    }  # fmt: skip
    assert (lost != "").all() and not lost.str.contains(r"[\n\x1b]|Traceback").any()
    noted = table[table.note != ""].set_index("path").note
    assert set(noted) == {"first of several frames", "first of 2 planes"} and len(noted) == 7
    written = restore(pd.read_csv(tmp_path / "p.csv", dtype=dict.fromkeys(WORDS, str), keep_default_na=False))
    assert written.path.tolist() == table.path.tolist() and written.note.tolist() == table.note.tolist()
    checked = check_samples(table[["path"]])
    assert (checked.status == table.status.replace("unknown", "ok")).all() and (checked.error == table.error).all()


def test_a_name_that_is_no_text_has_its_row(classifier, every_format, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    try:
        path.write_bytes(every_format["rgb.png"])
    except OSError:
        pytest.skip("this file system takes no such names")
    (row,) = classifier.predict(*zip(*gather_inputs([tmp_path])), progress=False).itertuples()
    assert (row.status, row.error) == ("unreadable", "its name is not UTF-8; rename it")
    assert classifier.predict([path], progress=False).path[0].endswith(r"\udcff.png")  # from Python it can be named
