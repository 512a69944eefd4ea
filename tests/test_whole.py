"""Files that are whole or not there at all, and folders that have one writer."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from planetlib import PlanetlibError
from planetlib.files.whole import explain_failure, lock_folder, name_failures, open_whole


def write(path, content: bytes) -> None:
    with open_whole(path) as file:
        file.write(content)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_and_its_folders_are_made(tmp_path):
    write(tmp_path / "deep" / "er" / "a", b"new")
    assert (tmp_path / "deep" / "er" / "a").read_bytes() == b"new" and names(tmp_path / "deep" / "er") == ["a"]


def test_until_it_is_whole_the_earlier_file_stands(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a.part").write_bytes(b"much that a killed process left")
    with open_whole(tmp_path / "a") as file:
        file.write(b"ne")
        assert (tmp_path / "a").read_bytes() == b"old"
    assert (tmp_path / "a").read_bytes() == b"ne" and names(tmp_path) == ["a"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_a_failure_leaves_the_earlier_file_and_nothing_else(failure, tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(type(failure)), open_whole(tmp_path / "a") as file:
        file.write(b"ne")
        raise failure
    assert (tmp_path / "a").read_bytes() == b"old" and names(tmp_path) == ["a"]


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append(os.fstat(number).st_size), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("named"), replace(*paths)))
    write(tmp_path / "a", b"new")
    assert done == [3, "named"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_told_with_the_file_and_what_to_do(tmp_path):
    with pytest.raises(OSError) as caught, name_failures(tmp_path / "a"), open("/dev/full", "wb", 0) as file:
        file.write(b"x")
    told = explain_failure(caught.value)
    assert f"No space left on device: '{tmp_path / 'a'}'; make room" in told


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_closed_folder_is_told_with_what_to_do(number):
    assert "closed: 'a'; take another folder" in explain_failure(OSError(number, "closed", "a"))
    assert explain_failure(FileNotFoundError(2, "no such file", "a")) == "[Errno 2] no such file: 'a'"


HOLDER = """
import sys, time
from planetlib.files.whole import lock_folder
with lock_folder(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_and_a_killed_one_holds_nothing(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(PlanetlibError, match="another planetlib process"), lock_folder(tmp_path):
                pass
        finally:
            holder.send_signal(signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(ValueError), lock_folder(tmp_path):
            raise ValueError
