"""The bytes of a file, and every way a file can be bad to one error with a reason."""

import os
import stat
from os import PathLike
from pathlib import Path

from PIL import Image

from planetlib import PlanetlibError

SMALLEST_SIDE = 8  # pixels; below this there is nothing left to recognise
LARGEST_FILE = 512 << 20  # bytes; as many pixels as Pillow allows, at 6 bytes each


class UnreadableImage(PlanetlibError):
    """A file that gives no usable picture.

    Attributes:
        reason: one short clause, fit for a table cell.
    """

    def __init__(self, source, reason: str):
        super().__init__(f"{source}: {reason}")
        self.reason = reason


def read_file(path: str | PathLike) -> bytes:
    """The bytes of a file.

    Raises:
        UnreadableImage: no such file, no permission, too large; or a folder, pipe or device, which is not even opened.
    """
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableImage(path, _describe_folder(path))
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage(path, "a pipe, socket or device, not a file")
        if status.st_size > LARGEST_FILE:
            raise UnreadableImage(path, f"too large ({status.st_size:,} bytes; at most {LARGEST_FILE:,})")
        return path.read_bytes()
    except FileNotFoundError as error:
        if path.is_symlink():
            raise UnreadableImage(path, "a link to nothing") from error
        if "\\udc" in str(path):  # as `path_text` writes it
            raise UnreadableImage(path, "its name is not UTF-8; rename it") from error
        raise UnreadableImage(path, "no such file") from error
    except PermissionError as error:
        raise UnreadableImage(path, "no permission to read it") from error
    except (OSError, ValueError) as error:
        raise UnreadableImage(path, f"cannot be opened ({one_line(error)})") from error


def _describe_folder(path: Path) -> str:
    if path.is_symlink():
        return "a link to a folder, which is not followed; name the folder itself"
    return "a folder, not a file" if os.access(path, os.R_OK | os.X_OK) else "a folder that may not be looked into"


def require_size(name: str, width: int, height: int) -> None:
    """Raises UnreadableImage for sides in pixels that are too small to show anything, or more than memory may bear."""
    if min(width, height) < SMALLEST_SIDE:
        raise UnreadableImage(name, f"{width} × {height} pixels; at least {SMALLEST_SIDE} × {SMALLEST_SIDE} are needed")
    if is_too_large(width, height):  # Pillow itself only warns up to twice that
        raise UnreadableImage(name, f"too large ({width} × {height} pixels; at most {Image.MAX_IMAGE_PIXELS} in all)")


def is_too_large(width: int, height: int) -> bool:
    """Whether a picture has more pixels than memory may bear, which is for Pillow's `MAX_IMAGE_PIXELS` to say."""
    return Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS


def one_line(error: Exception) -> str:
    """What a decoder or the system says of a file, on one line."""
    text = getattr(error, "strerror", None) or str(error)  # the system's words, without the path
    return " ".join(text.split()) or type(error).__name__
