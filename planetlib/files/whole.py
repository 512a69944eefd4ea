"""Writing to disk: a file is whole or not there at all, and a folder has one writer at a time."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from planetlib import PlanetlibError

LOCK = ".planetlib.lock"


@contextlib.contextmanager
def name_failures(path: str | os.PathLike) -> Iterator[None]:
    """Adds a file's name to an OSError of its body that has none, as those of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


@contextlib.contextmanager
def open_whole(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """A binary file to write, which takes its name, or the place of an earlier one, only when it is whole on the disk.

    Until then it is `<path>.part`, which the next write replaces where a killed process left it. Folders are made as
    needed. Where it cannot be written, an OSError names it, nothing new is left, and what was there is untouched.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with name_failures(path), open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the name without the content
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()  # on a full disk its room is needed
        raise


def explain_failure(error: OSError) -> str:
    """What the system said, and what to do where it would not write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{error}; make room, then run the same command again: what was there before is untouched"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error}; take another folder, or ask for the right to write there"
    return str(error)


@contextlib.contextmanager
def lock_folder(folder: str | os.PathLike) -> Iterator[None]:
    """Holds a folder for this process alone. The system lets go of it whenever the process ends, also when killed.

    Of the processes of `torchrun` the first one holds it for all.

    Raises:
        PlanetlibError: another process holds it.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / LOCK, timeout=0).acquire()
    except Timeout as error:
        raise PlanetlibError(
            f"{folder}: another planetlib process is writing there; expected none",
            do="wait until it has ended, or take another folder",
        ) from error
    with lock:
        yield
