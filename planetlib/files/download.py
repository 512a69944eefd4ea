"""Download of the public data set: a pinned commit, a checksum for each file, resumable."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, IncompleteRead
from pathlib import Path, PureWindowsPath
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pandas as pd

from planetlib.data import progress_bar
from planetlib.files.tables import DataError
from planetlib.files.whole import name_failures
from planetlib.settings import PROJECT

LISTING = PROJECT / "data" / "planets.csv"
SOURCE = (
    "https://raw.githubusercontent.com/knuxzq/PlanetaryImageClassifier/"
    "cd1638f0a387a0a950b213beebd5a99701709246/data/input"
)
TIMEOUT = 30  # seconds that a server may keep silent
CHUNK = 1 << 16  # bytes


def fetch_planets(
    folder: str | os.PathLike, source: str = SOURCE, listing: Path = LISTING, progress: bool = True
) -> int:
    """Downloads the data set, or what is missing of it.

    A file whose checksum is right is left alone, and of one that came in part the rest is asked for, so a download that
    broke off goes on where it stopped. A file appears under its name only when its checksum is right.

    Args:
        folder: receives `<class>/<file>`; made where it is missing.
        source: address of the folder that holds the classes.
        listing: CSV with `file, bytes, sha256`.
        progress: show a bar.

    Returns:
        Number of files downloaded now.

    Raises:
        DataError: the server cannot be reached, or what it sends is not what the listing says; or a name in the listing
            leads out of the folder.
    """
    folder, files = Path(folder), pd.read_csv(listing)
    for name in files.file:
        _require_within(folder, name)
    wanted = [row for row in files.itertuples(index=False) if not _is_whole(folder / row.file, row)]
    pool = ThreadPoolExecutor(8)
    try:
        total = sum(row.bytes for row in wanted)
        with progress_bar(None, progress, desc="planets", total=total, unit="B", unit_scale=True) as bar:
            for size in pool.map(lambda row: _fetch_file(source, folder, row), wanted):
                bar.update(size)
    finally:
        pool.shutdown(cancel_futures=True)
    return len(wanted)


def _is_whole(path: Path, row) -> bool:
    right_size = path.is_file() and path.stat().st_size == row.bytes
    return right_size and _digest(path) == row.sha256


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _require_within(folder: Path, name: str) -> None:
    """Raises DataError for a name in the listing that leads out of the folder, by itself or through a link there."""
    place = folder / name
    partial = place.with_name(f"{place.name}.part")
    within = all(path.resolve().is_relative_to(folder.resolve()) for path in (place, partial))
    if not within or PureWindowsPath(name).anchor or ".." in PureWindowsPath(name).parts:
        raise DataError(
            f"{name!r}: got a name that leads out of {folder}, expected one within; nothing was downloaded: "
            "take an empty folder, or the listing that came with planetlib"
        )


def _fetch_file(source: str, folder: Path, row) -> int:
    url, path = f"{source}/{quote(row.file)}", folder / row.file
    partial = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    resumed = partial.is_file()
    try:
        _transfer(url, partial, row.bytes)
        if resumed and _digest(partial) != row.sha256:  # what was there may have been of anything
            partial.unlink()
            _transfer(url, partial, row.bytes)
    except (OSError, HTTPException) as error:  # refused, timed out, unknown host, certificate: all OSError
        if getattr(error, "filename", None) and not isinstance(error, HTTPError):
            raise  # of the disk, not of the network
        raise DataError(
            f"{url}: download failed ({getattr(error, 'reason', error)}); what came so far is kept in {folder}: "
            "run the same command again to go on"
        ) from error
    got, size = _digest(partial), partial.stat().st_size
    if got != row.sha256:
        partial.unlink()
        raise DataError(
            f"{url}: got {size} bytes with SHA-256 {got[:12]}…, expected {row.bytes} with {row.sha256[:12]}…; "
            "the file was not kept: run the same command again, or look for a proxy that alters downloads"
        )
    os.replace(partial, path)
    return size


def _transfer(url: str, partial: Path, size: int) -> None:
    """Completes a file that has come in part; a server that knows no ranges sends it from its beginning."""
    start = partial.stat().st_size if partial.exists() else 0
    if start >= size:
        return
    request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})  # noqa: S310 - a setting, no input
    with (
        urlopen(request, timeout=TIMEOUT) as response,  # noqa: S310
        open(partial, "ab" if response.status == 206 else "wb") as file,
    ):
        while file.tell() <= size and (part := response.read1(CHUNK)):  # no more than was promised
            with name_failures(partial):
                file.write(part)
                file.flush()
        if response.length and file.tell() < size:
            raise IncompleteRead(b"", response.length)
