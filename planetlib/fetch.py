"""Download of the public data set: a pinned commit, a checksum for each file, resumable."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pandas as pd

from planetlib.data import progress_bar
from planetlib.settings import PROJECT
from planetlib.tables import DataError

LISTING = PROJECT / "data" / "planets.csv"
SOURCE = (
    "https://raw.githubusercontent.com/knuxzq/PlanetaryImageClassifier/"
    "cd1638f0a387a0a950b213beebd5a99701709246/data/input"
)


def fetch_planets(
    folder: str | os.PathLike, source: str = SOURCE, listing: Path = LISTING, progress: bool = True
) -> int:
    """Downloads the data set, or what is missing of it.

    A file whose checksum is right is left alone, so a download that broke off goes on where it stopped. A file appears
    under its name only when it is whole.

    Args:
        folder: receives `<class>/<file>`; made where it is missing.
        source: address of the folder that holds the classes.
        listing: CSV with `file, bytes, sha256`.
        progress: show a bar.

    Returns:
        Number of files downloaded now.

    Raises:
        DataError: the server cannot be reached, or what it sends is not what the listing says.
    """
    folder, files = Path(folder), pd.read_csv(listing)
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
    return right_size and hashlib.sha256(path.read_bytes()).hexdigest() == row.sha256


def _fetch_file(source: str, folder: Path, row) -> int:
    url, path = f"{source}/{quote(row.file)}", folder / row.file
    try:
        with urlopen(url, timeout=30) as response:
            content = response.read()
    except (OSError, HTTPException) as error:  # refused, timed out, unknown host, certificate: all OSError
        raise DataError(
            f"{url}: download failed ({getattr(error, 'reason', error)}); what came so far is kept in {folder}: "
            "run the same command again to go on"
        ) from error
    got = hashlib.sha256(content).hexdigest()
    if got != row.sha256:
        raise DataError(
            f"{url}: got {len(content)} bytes with SHA-256 {got[:12]}…, expected {row.bytes} with {row.sha256[:12]}…; "
            "the file was not kept: run the same command again, or look for a proxy that alters downloads"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(content)
    os.replace(partial, path)
    return len(content)
