"""`read_file`: whatever lies at a path gives its bytes, or one error with a reason, whatever its name."""

import os
import socket
import time
from pathlib import Path

import pytest

from planetlib import printable
from planetlib.files.read import UnreadableImage, read_file

CONTENT = b"bytes"


def reason_for(path) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_file(path)
    return caught.value.reason


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "a.png").write_bytes(CONTENT)
    monkeypatch.setattr(Path, "read_bytes", refuse)  # the superuser may read everything
    assert reason_for(tmp_path / "a.png") == "no permission to read it"


def test_a_pipe_a_socket_and_a_device_are_not_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    monkeypatch.chdir(tmp_path)  # the name of a socket may be 100 bytes long
    with socket.socket(socket.AF_UNIX) as there:
        there.bind("socket.png")
        places = [tmp_path / "pipe.png", tmp_path / "socket.png", os.devnull]
        monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("a pipe would be waited for"))
        assert {reason_for(path) for path in places} == {"a pipe, socket or device, not a file"}


def test_links_that_lead_nowhere_or_to_a_folder_say_so(tmp_path):
    (tmp_path / "folder").mkdir()
    for name, target in {"nothing.png": "gone", "circle.png": "circle.png", "folder.png": "folder"}.items():
        (tmp_path / name).symlink_to(target)
    assert reason_for(tmp_path / "nothing.png") == "a link to nothing"
    assert "symbolic links" in reason_for(tmp_path / "circle.png")
    assert "a link to a folder" in reason_for(tmp_path / "folder.png")


def test_a_folder_that_may_not_be_looked_into_says_so(tmp_path, monkeypatch):
    assert reason_for(tmp_path) == "a folder, not a file"
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the superuser may look into everything
    assert reason_for(tmp_path) == "a folder that may not be looked into"


def test_a_file_that_vanishes_between_two_looks_is_told(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(CONTENT)
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (path.unlink(), read(path)))
    assert reason_for(tmp_path / "a.png") == "no such file"


def test_a_file_of_gigabytes_is_not_read(tmp_path):
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(5 << 30)  # all of it a hole, which takes no room on the disk
    start = time.process_time()
    assert reason_for(tmp_path / "a.jpg").startswith("too large (5,368,709,120 bytes")
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    "name", ["two\nlines", "a \"b\" 'c'", "é木", "\u202egnp.exe", "\x1b[31mred", "n" * 251, b"\xff"]
)
def test_names_of_every_kind_are_read_and_shown_on_one_line(tmp_path, name):
    path = tmp_path / f"{os.fsdecode(name)}.png"
    try:
        path.write_bytes(CONTENT)
    except OSError:
        pytest.skip("this file system takes no such names")
    assert read_file(path) == CONTENT
    shown = printable(path.name)
    assert shown.isprintable() and (shown == path.name) == path.name.isprintable()
