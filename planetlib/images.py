"""Any image file to RGB, and every way a file can be bad to one error with a reason."""

import gzip
import io
import math
import os
import re
import stat
import struct
import warnings
import zlib
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from planetlib import PlanetlibError

SUFFIXES = {".png", ".apng", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".jp2"}
SUFFIXES |= {".j2k", ".fits", ".fit", ".fts", ".fits.gz", ".fz"}
# Pillow's decoders that are let near a file, whatever its name. That of EPS, for one, runs a program of the file's own.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM")
SMALLEST_SIDE = 8  # pixels; below this there is nothing left to recognise
LARGEST_FILE = 512 << 20  # bytes; as many pixels as Pillow allows, at 6 bytes each
MOST_READS = 1_000_000  # about a second

# EXIF orientation, 2 to 8 → how to turn the picture upright.
_turn = Image.Transpose
UPRIGHT = {2: _turn.FLIP_LEFT_RIGHT, 3: _turn.ROTATE_180, 4: _turn.FLIP_TOP_BOTTOM, 5: _turn.TRANSPOSE}
UPRIGHT |= {6: _turn.ROTATE_270, 7: _turn.TRANSVERSE, 8: _turn.ROTATE_90}

PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
#: of PNG files; none of them changes the pixels, as Pillow reads them
PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"pHYs", b"sRGB", b"gAMA", b"cHRM", b"tIME"}

# Pillow and astropy warn of oddities that do not hinder reading. Once for all, as pictures are read in threads, and
# `warnings.catch_warnings` in one thread upsets the others.
warnings.filterwarnings("ignore", module=r"(PIL|astropy)\.")


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
    ones seldom fill their range; of an animation the first frame is taken, of a document the first page.

    Of a FITS file the first plane of the first image is taken, stretched as astronomers' viewers do (`ZScaleInterval`,
    after IRAF's display task), with the first row at the bottom. It needs astropy.

    Args:
        source: a path, or the bytes of a file.

    Returns:
        uint8 array (H, W, 3), RGB, 0–255.

    Raises:
        UnreadableImage: no such file, no permission, empty, not an image, truncated, too large or too small.
    """
    return decode_image(source)[0]


def decode_image(source: str | PathLike | bytes) -> tuple[np.ndarray, dict]:
    """Reads one picture, and what kind of file it is.

    Args:
        source: a path, or the bytes of a file.

    Returns:
        The picture, as `read_image`; and `format` (PNG, JPEG, …), `mode` (Pillow's name: RGB, RGBA, P, I;16, CMYK, …;
        of FITS NumPy's type), `width` and `height` in pixels as stored in the file, `note` (`first of several frames`,
        mostly empty).

    Raises:
        UnreadableImage: as `read_image`.
    """
    name = "<bytes>" if isinstance(source, bytes) else str(source)
    content = source if isinstance(source, bytes) else read_file(source)
    if not content:
        raise UnreadableImage(name, "empty file")
    if content.startswith(b"\x1f\x8b"):
        content = _unzip(name, content)
    if content.startswith(b"SIMPLE  ="):
        return _decode_fits(name, content)
    if (picture := _read_plain_png(content, name)) is not None:
        facts = {"format": "PNG", "mode": "RGB", "width": picture.shape[1], "height": picture.shape[0]}
        return picture, {**facts, "note": ""}
    with _open(name, content) as image:
        facts = {"format": image.format, "mode": image.mode, "width": image.width, "height": image.height}
        _require_size(name, image.width, image.height)
        try:
            image.load()
            picture = _to_rgb(_stand_upright(image))
        except Exception as error:  # what decoders raise on damaged files is written nowhere, and not only OSError
            raise UnreadableImage(name, f"damaged or truncated ({_one_line(error)})") from error
        return picture, {**facts, "note": "first of several frames" if _has_more(image) else ""}


def _read_plain_png(content: bytes, name: str = "<bytes>") -> np.ndarray | None:
    """A PNG of three times 8 bits with nothing odd about it, by OpenCV: a quarter faster than Pillow, the same pixels.

    None for every other file, and for every damaged one, so that there is one place that tells what is wrong with it.
    """
    if not (content.startswith(PNG_START) and content[24:26] == b"\x08\x02"):
        return None
    width, height = struct.unpack(">II", content[16:24])
    _require_size(name, width, height)
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
        raise UnreadableImage(path, f"cannot be opened ({_one_line(error)})") from error


def _describe_folder(path: Path) -> str:
    if path.is_symlink():
        return "a link to a folder, which is not followed; name the folder itself"
    return "a folder, not a file" if os.access(path, os.R_OK | os.X_OK) else "a folder that may not be looked into"


def _unzip(name: str, content: bytes) -> bytes:
    """The FITS file in a .fits.gz; nothing else that is compressed is of use, nor is a bomb unpacked."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            if (start := file.read(9)) != b"SIMPLE  =":
                raise UnreadableImage(name, "not an image, whatever its name says")
            rest = file.read(LARGEST_FILE)
            if file.read(1):
                raise UnreadableImage(name, f"too large (more than {LARGEST_FILE:,} bytes, unpacked)")
            return start + rest
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableImage(name, f"damaged or truncated ({_one_line(error)})") from error


class _Rationed(io.BytesIO):
    """A file that gives out after so many reads: Pillow steps over junk byte by byte, in a large file for minutes."""

    left = MOST_READS

    def read(self, size=-1):
        """As `BytesIO.read`; raises OSError once there have been too many."""
        self.left -= 1
        if self.left < 0:
            raise OSError(f"no picture within {MOST_READS:,} reads")
        return super().read(size)


def _open(name: str, content: bytes) -> Image.Image:
    """Opens a file without decoding it; every failure becomes an `UnreadableImage`."""
    try:
        return Image.open(_Rationed(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        kinds = [kind for kind in FORMATS if Image.OPEN[kind][1](content[:16]) is True]  # type: ignore[misc]
        reason = (
            f"damaged at its start, or a rare kind of {kinds[0]}" if kinds else "not an image, whatever its name says"
        )
        raise UnreadableImage(name, reason) from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(name, f"too large ({_one_line(error)})") from error
    except Exception as error:
        raise UnreadableImage(name, f"cannot be opened ({_one_line(error)})") from error


def _has_more(image: Image.Image) -> bool:
    try:
        return getattr(image, "is_animated", False)
    except Exception:  # whatever comes second is of no use
        return False


@np.errstate(all="ignore")  # within ZScale
def _decode_fits(name: str, content: bytes) -> tuple[np.ndarray, dict]:
    try:
        from astropy.io import fits
        from astropy.visualization import ZScaleInterval
    except ImportError as error:
        raise UnreadableImage(name, "a FITS file, which needs astropy: pip install 'planetlib[fits]'") from error
    try:
        with fits.open(io.BytesIO(content)) as hdus:
            place = next((place for place, hdu in enumerate(hdus) if hdu.is_image and len(hdu.shape) > 1), None)
            if place is None:
                raise UnreadableImage(name, "a FITS file without an image")
            hdu = hdus[place]
            *planes, height, width = hdu.shape
            _require_size(name, width, height)
            if isinstance(hdu, fits.CompImageHDU):
                _require_honest_tiles(name, content, place, hdu.tile_shape, hdu.shape)
            plane = hdu.section[(*[0] * len(planes), slice(None), slice(None))]
        values = plane.astype(np.float64)
        picture = _stretch(values, *ZScaleInterval().get_limits(values) if np.isfinite(values).any() else (0, 0))
    except UnreadableImage:
        raise
    except Exception as error:  # astropy has its own, and those of all that it calls
        raise UnreadableImage(name, f"damaged or truncated ({_one_line(error)})") from error
    note = f"first of {math.prod(planes)} planes" if math.prod(planes) > 1 else ""
    facts = {"format": "FITS", "mode": plane.dtype.name, "width": width, "height": height, "note": note}
    return picture[::-1].copy(), facts


def _require_honest_tiles(name: str, content: bytes, place: int, tile_shape: tuple, shape: tuple) -> None:
    """Refuses a .fz where gzip makes more of a tile than its pixels, be it a thousand times: astropy unpacks all."""
    from astropy.io import fits

    most = 8 * math.prod(map(min, tile_shape, shape))  # bytes, as no pixel of FITS has more than 8
    used = math.prod(math.ceil(side / tile) for side, tile in zip(shape[-2:], tile_shape[-2:]))  # by the first plane
    with fits.open(io.BytesIO(content), disable_image_compression=True) as hdus:
        table = hdus[place]
        columns = {"GZIP_COMPRESSED_DATA"}
        if str(table.header["ZCMPTYPE"]).startswith("GZIP"):
            columns.add("COMPRESSED_DATA")
        heap = table.fileinfo()["datLoc"] + table.header.get("THEAP", table.header["NAXIS1"] * table.header["NAXIS2"])
        for column in columns & set(table.columns.names):
            if not re.match(r"\d*[PQ]B", str(table.columns[column].format)):
                raise UnreadableImage(name, f"damaged (a column {column} that is not of bytes)")
            for size, start in table.data.view(np.ndarray)[column][:used].tolist():
                tile = gzip.GzipFile(fileobj=io.BytesIO(content[heap + start : heap + start + size]))
                if size and len(tile.read(most + 1)) > most:
                    raise UnreadableImage(name, f"too large (a tile of more than {most:,} bytes, unpacked)")


def _stand_upright(image: Image.Image) -> Image.Image:
    """Like `ImageOps.exif_transpose`, which also rewrites the EXIF block and so fails where only that is damaged."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return image
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith(("I", "F")):  # 16- and 32-bit grey: Pillow's own conversion would clip at 255
        return _stretch(np.array(image, dtype=np.float64))
    if image.mode == "La":  # already multiplied by alpha, which Pillow undoes in one way alone
        image = image.convert("LA")
    if image.mode in {"RGBA", "RGBa", "LA", "PA"} or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return np.array(image.convert("RGB"))


@np.errstate(all="ignore")  # what is not a number is dealt with
def _stretch(values: np.ndarray, low: float = -np.inf, high: float = np.inf) -> np.ndarray:
    """Numbers (H, W), which are overwritten, as grey uint8 (H, W, 3): black at `low`, white at `high`.

    Limits that are not finite are those of the numbers. Astronomical pictures mark missing pixels with NaN: black.
    """
    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError("no pixel has a finite value")
    low = max(low, values.min(where=finite, initial=np.inf))
    high = min(high, values.max(where=finite, initial=-np.inf))
    if not np.isfinite(span := high - low):
        raise ValueError(f"values from {low:g} to {high:g}")
    np.nan_to_num(values, copy=False, nan=low)
    values.clip(low, high, out=values)
    values -= low
    values *= 255 / span if span > 0 else 0
    return np.repeat(values.round(out=values).astype(np.uint8)[:, :, None], 3, axis=2)


def _require_size(name: str, width: int, height: int) -> None:
    if min(width, height) < SMALLEST_SIDE:
        raise UnreadableImage(name, f"{width} × {height} pixels; at least {SMALLEST_SIDE} × {SMALLEST_SIDE} are needed")
    if Image.MAX_IMAGE_PIXELS and width * height > Image.MAX_IMAGE_PIXELS:  # Pillow itself only warns up to twice that
        raise UnreadableImage(name, f"too large ({width} × {height} pixels; at most {Image.MAX_IMAGE_PIXELS} in all)")


def _one_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)  # the system's words, without the path
    return " ".join(text.split()) or type(error).__name__
