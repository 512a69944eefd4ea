"""Pictures in folders of any depth, by suffix."""

import os
from collections.abc import Iterable
from pathlib import Path

from planetlib.files.tables import DataError

SUFFIXES = {".png", ".apng", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".jp2"}
SUFFIXES |= {".j2k", ".fits", ".fit", ".fts", ".fits.gz", ".fz"}
#: what a prediction draws beside its table: a folder and a picture
DRAWN_RESULTS = PICTURES, CONTACT_SHEET = "pictures", "contact_sheet.png"


def find_images(folder: str | os.PathLike) -> list[Path]:
    """Image files of a folder at any depth, by suffix, sorted; hidden files and folders are left out.

    So is what an earlier prediction drew, `DRAWN_RESULTS` beside a `predictions.csv`.

    Links to folders, which may lead in circles, are listed as they stand, and so are folders that may not be looked
    into: both turn up as unreadable, so that nothing is left out unseen.

    Raises:
        DataError: no such folder.
    """
    found: list[Path] = []
    closed: list[OSError] = []
    for place, folders, files in os.walk(require_folder(folder), onerror=closed.append):
        drawn = DRAWN_RESULTS if "predictions.csv" in files else ()
        folders[:] = [name for name in folders if not name.startswith(".") and name not in drawn]
        shown = [name for name in files if not name.startswith(".") and name not in drawn]
        found += [Path(place, name) for name in folders if os.path.islink(os.path.join(place, name))]
        found += [Path(place, name) for name in shown if name.lower().endswith(tuple(SUFFIXES))]
    return sorted(found + [Path(error.filename) for error in closed])


def gather_inputs(places: Iterable[str | os.PathLike], class_names: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Files and folders of any depth → (path, label) pairs, in the order given, each folder sorted.

    A file named outright is taken whatever its suffix; in folders, suffixes decide. The label is the name of the folder
    a picture lies in, where that is one of `class_names`, and "" elsewhere.

    Raises:
        DataError: a place that is not there, or no picture in any.
    """
    names, pairs = set(class_names), []
    for place in map(Path, places):
        if not os.path.lexists(place):  # a link to nothing is there, and gets a row
            raise DataError(f"{place}: no such file or folder")
        for path in find_images(place) if place.is_dir() else [place]:
            pairs.append((path_text(path), path.parent.name if path.parent.name in names else ""))
    if not pairs:
        raise DataError(f"{', '.join(map(str, places))}: no pictures there; expected files such as .png, .jpg, .tif")
    return pairs


def require_folder(folder: str | os.PathLike) -> Path:
    """The folder. Raises DataError where there is none."""
    if not Path(folder).is_dir():
        raise DataError(f"{folder}: no such folder; expected one that holds pictures")
    return Path(folder)


def path_text(path: str | os.PathLike) -> str:
    """A path as text for a table; bytes of a name that are not UTF-8 are written as `\\udcXX`.

    Tables cannot hold such names, so their files count as unreadable until they are renamed.
    """
    return os.fspath(path).encode("utf-8", "backslashreplace").decode()
