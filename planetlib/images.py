"""Any image file to RGB, and every way a file can be bad to one error with a reason."""

import io
import struct
import warnings
import zlib
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from planetlib import PlanetlibError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
SMALLEST_SIDE = 8  # pixels; below this there is nothing left to recognise

# What Pillow's decoders raise on damaged files: written nowhere, found by damaging many kinds of files at random.
DAMAGE = (OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError)
DAMAGE += (struct.error,)

# EXIF orientation, 2 to 8 → how to turn the picture upright.
_turn = Image.Transpose
UPRIGHT = {2: _turn.FLIP_LEFT_RIGHT, 3: _turn.ROTATE_180, 4: _turn.FLIP_TOP_BOTTOM, 5: _turn.TRANSPOSE}
UPRIGHT |= {6: _turn.ROTATE_270, 7: _turn.TRANSVERSE, 8: _turn.ROTATE_90}

PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
#: of PNG files; none of them changes the pixels, as Pillow reads them
PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"pHYs", b"sRGB", b"gAMA", b"cHRM", b"tIME"}

# Pillow warns of oddities that do not hinder reading. Once for all, as pictures are read in threads, and
# `warnings.catch_warnings` in one thread upsets the others.
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnreadableImage(PlanetlibError):
    """A file that gives no usable picture.

    Attributes:
        source: the path, or `<bytes>`.
        reason: one short clause, fit for a table cell.
    """

    def __init__(self, source, reason: str):
        super().__init__(f"{source}: {reason}")
        self.source = str(source)
        self.reason = reason


def read_image(source: str | PathLike | bytes) -> np.ndarray:
    """Reads one picture as 8-bit RGB, upright.

    EXIF orientation is applied; palettes and CMYK are converted; transparency is laid on black (the sky);
    pictures of more than 8 bits are stretched linearly from their darkest to their brightest pixel, as astronomical
    ones seldom fill their range; of an animation the first frame is taken.

    Args:
        source: a path, or the bytes of a file.

    Returns:
        uint8 array (H, W, 3), RGB, 0–255.

    Raises:
        UnreadableImage: no such file, no permission, empty, not an image, truncated, too large or too small.
    """
    if (picture := _read_plain_png(source)) is not None:
        return picture
    name, image = _open(source)
    with image:
        _require_size(name, image.width, image.height)
        try:
            image.load()
            return _to_rgb(_stand_upright(image))
        except DAMAGE as error:
            raise UnreadableImage(name, f"damaged or truncated ({_one_line(error)})") from error


def inspect_image(source: str | PathLike | bytes) -> dict:
    """Reads a picture and tells what kind of file it is.

    Returns:
        `format` (PNG, JPEG, …), `mode` (Pillow's name: RGB, RGBA, P, I;16, CMYK, …), `width` and `height` in pixels
        as stored in the file.

    Raises:
        UnreadableImage: as `read_image`, which is called, so that a file that passes can be used.
    """
    read_image(source)
    _, image = _open(source)
    with image:
        return {"format": image.format, "mode": image.mode, "width": image.width, "height": image.height}


def _read_plain_png(source) -> np.ndarray | None:
    """A PNG of three times 8 bits with nothing odd about it, by OpenCV: a quarter faster than Pillow, the same pixels.

    None for every other file, and for every damaged one, so that there is one place that tells what is wrong with it.
    """
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
            content = file.read(33)
            if not (content.startswith(PNG_START) and content[24:26] == b"\x08\x02"):
                return None
            content += file.read()
    except (OSError, ValueError):
        return None
    width, height = struct.unpack(">II", content[16:24])
    _require_size("<bytes>" if isinstance(source, bytes) else str(source), width, height)
    place, kind, view = 8, b"", memoryview(content)
    while kind != b"IEND":
        if place + 12 > len(content):
            return None
        length, kind = struct.unpack_from(">I4s", content, place)
        text = kind == b"tEXt" and content.startswith(b"Software\0", place + 8)
        if not text and kind not in PLAIN_CHUNKS:  # transparency, orientation, animation
            return None
        end = place + 8 + length
        if zlib.crc32(view[place + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return None
        place = end + 4
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)


def _open(source) -> tuple[str, Image.Image]:
    """Opens a file without decoding it; every failure becomes an `UnreadableImage`."""
    name = "<bytes>" if isinstance(source, bytes) else str(source)
    try:
        if (len(source) if isinstance(source, bytes) else Path(source).stat().st_size) == 0:
            raise UnreadableImage(name, "empty file")
        return name, Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except FileNotFoundError as error:
        raise UnreadableImage(name, "no such file") from error
    except PermissionError as error:
        raise UnreadableImage(name, "no permission to read it") from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(name, "not an image, whatever its name says") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(name, f"too large ({_one_line(error)})") from error
    except DAMAGE as error:
        raise UnreadableImage(name, f"cannot be opened ({_one_line(error)})") from error


def _stand_upright(image: Image.Image) -> Image.Image:
    """Like `ImageOps.exif_transpose`, which also rewrites the EXIF block and so fails where only that is damaged."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except DAMAGE:
        return image
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith(("I", "F")):  # 16- and 32-bit grey: Pillow's own conversion would clip at 255
        with np.errstate(invalid="ignore"):  # astronomical pictures mark missing pixels with NaN
            values = np.asarray(image, dtype=np.float64)
        finite = values[np.isfinite(values)]
        if not finite.size:
            raise ValueError("no pixel has a finite value")
        low, high = finite.min(), finite.max()
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
        grey = ((values - low) * (255 / (high - low) if high > low else 0)).round().astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return np.array(image.convert("RGB"))


def _require_size(name: str, width: int, height: int) -> None:
    if min(width, height) < SMALLEST_SIDE:
        raise UnreadableImage(name, f"{width} × {height} pixels; at least {SMALLEST_SIDE} × {SMALLEST_SIDE} are needed")
    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:  # Pillow itself only warns up to twice that
        raise UnreadableImage(name, f"too large ({width} × {height} pixels; at most {Image.MAX_IMAGE_PIXELS} in all)")


def _one_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)  # the system's words, without the path
    return " ".join(text.split()) or type(error).__name__
