"""Download of the public data set: a pinned commit, a checksum for each file, again from where it broke off."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pandas as pd

from planetlib.files.progress import progress_bar
from planetlib.files.tables import DataError
from planetlib.files.whole import open_whole

LISTING = Path(__file__).with_name("planets.csv")
REPOSITORY = "https://raw.githubusercontent.com/knuxzq/PlanetaryImageClassifier"
SOURCE = f"{REPOSITORY}/cd1638f0a387a0a950b213beebd5a99701709246/data/input"
TIMEOUT = 30  # seconds that a server may keep silent


def fetch_planets(folder: str | os.PathLike, source: str = SOURCE, listing: Path = LISTING) -> int:
    """Downloads the data set, or what is missing of it, as `<folder>/<class>/<file>`; returns how many files that were.

    A file appears under its name only when its checksum is right, and one whose checksum is right is left alone: a
    download that broke off goes on where it stopped.

    Args:
        folder: made where it is missing.
        source: address of the folder that holds the classes.
        listing: CSV with `file, bytes, sha256`.

    Raises:
        DataError: the server cannot be reached, or what it sends is not what the listing says; or a name in the listing
            leads out of the folder.
    """
    folder, rows, fetched = Path(folder), list(pd.read_csv(listing).itertuples(index=False)), 0
    for row in rows:
        _require_within(folder, row.file)
    bar = progress_bar(desc="planets", total=sum(row.bytes for row in rows), unit="B", unit_scale=True)
    with bar, ThreadPoolExecutor(8) as pool:
        for row, was_missing in zip(rows, pool.map(lambda row: _fetch_file(source, folder, row), rows)):
            bar.update(row.bytes)
            fetched += was_missing
    return fetched


def _require_within(folder: Path, name: str) -> None:
    """Raises DataError for a name in the listing that leads out of the folder, by itself or through a link there."""
    places = folder / name, folder / f"{name}.part"
    if not all(place.resolve().is_relative_to(folder.resolve()) for place in places):
        raise DataError(
            f"{name!r}: got a name that leads out of {folder}; expected one within; nothing was downloaded",
            do="take an empty folder, or the listing that came with planetlib",
        )


def _fetch_file(source: str, folder: Path, row) -> bool:
    """Downloads a file unless it is there; returns whether it was missing."""
    url, path = f"{source}/{quote(row.file)}", folder / row.file
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == row.sha256:
        return False
    try:
        with urlopen(url, timeout=TIMEOUT) as response:  # noqa: S310 - a setting, no input
            content = response.read(row.bytes + 1)  # no more than was promised
    except (OSError, HTTPException) as error:  # refused, timed out, unknown host, certificate: all OSError
        raise DataError(
            f"{url}: download failed ({getattr(error, 'reason', error)}); what came whole is kept in {folder}",
            do="run the same command again to go on",
        ) from error
    if (got := hashlib.sha256(content).hexdigest()) != row.sha256:
        raise DataError(
            f"{url}: got {len(content)} bytes with SHA-256 {got[:12]}…; expected {row.bytes} with {row.sha256[:12]}…",
            do="run the same command again, or look for a proxy that alters downloads; the file was not kept",
        )
    with open_whole(path) as file:
        file.write(content)
    return True
