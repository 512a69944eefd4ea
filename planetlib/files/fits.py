"""FITS files, as astronomers keep them, to RGB; and numbers of any range to grey."""

import gzip
import io
import math
import warnings
import zlib

import cv2
import numpy as np

from planetlib.files.read import LARGEST_FILE, UnreadableImage, one_line, require_size

ROWS = 64  # of a picture that are stretched at a time

warnings.filterwarnings("ignore", module=r"astropy\.")  # of oddities; see `images`


@np.errstate(all="ignore")  # within ZScale
def decode_fits(name: str, content: bytes) -> tuple[np.ndarray, dict]:
    """The first plane of the first image, and the facts, as `images.decode_image`; `name` is for errors."""
    try:
        from astropy.io import fits
    except ImportError as error:
        raise UnreadableImage(name, "a FITS file, which needs astropy: pip install 'planetlib[fits]'") from error
    try:
        with fits.open(io.BytesIO(content)) as hdus:
            place = next((place for place, hdu in enumerate(hdus) if hdu.is_image and len(hdu.shape) > 1), None)
            if place is None:
                raise UnreadableImage(name, "a FITS file without an image")
            hdu = hdus[place]
            *planes, height, width = hdu.shape
            require_size(name, width, height)
            if isinstance(hdu, fits.CompImageHDU):
                _require_honest_tiles(name, content, place, hdu.tile_shape, hdu.shape)
            plane = hdu.section[(*[0] * len(planes), slice(None), slice(None))]
        picture = stretch(plane[::-1], *_choose_limits(plane))
    except UnreadableImage:
        raise
    except Exception as error:  # astropy has its own, and those of all that it calls
        raise UnreadableImage(name, f"damaged or truncated ({one_line(error)})") from error
    note = f"first of {math.prod(planes)} planes" if math.prod(planes) > 1 else ""
    facts = {"format": "FITS", "mode": plane.dtype.name, "width": width, "height": height, "note": note}
    return picture, facts


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
        for column in columns & set(table.columns.names):
            for tile in table.data[:used][column]:
                unpacked = gzip.GzipFile(fileobj=io.BytesIO(tile.tobytes()))
                if len(tile) and len(unpacked.read(most + 1)) > most:
                    raise UnreadableImage(name, f"too large (a tile of more than {most:,} bytes, unpacked)")


def unzip(name: str, content: bytes) -> bytes:
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
        raise UnreadableImage(name, f"damaged or truncated ({one_line(error)})") from error


def _choose_limits(plane: np.ndarray) -> tuple[float, float]:
    """ZScale's, which looks at every so manieth finite number: only those are converted."""
    from astropy.visualization import ZScaleInterval

    known = np.isfinite(plane)
    finite = plane.ravel() if known.all() else plane[known]
    interval = ZScaleInterval()
    samples = finite[:: max(1, finite.size // interval.n_samples)][: interval.n_samples].astype(np.float64)
    return interval.get_limits(samples) if samples.size else (0, 0)


@np.errstate(all="ignore")  # what is not a number is dealt with
def stretch(numbers: np.ndarray, low: float = -np.inf, high: float = np.inf) -> np.ndarray:
    """Numbers (H, W) of any type as grey uint8 (H, W, 3): black at `low`, white at `high`.

    Limits that are not finite are those of the numbers. Astronomical pictures mark missing pixels with NaN: black.
    A few rows at a time become float64, which takes four to eight times the room of the numbers in the file.

    Raises:
        ValueError: no number is finite, or they span more than a float holds.
    """
    pieces = [slice(top, top + ROWS) for top in range(0, len(numbers), ROWS)]
    least, most = np.inf, -np.inf
    for piece in pieces:
        values = numbers[piece].astype(np.float64)
        finite = np.isfinite(values)
        least = values.min(where=finite, initial=least)
        most = values.max(where=finite, initial=most)
    if least > most:
        raise ValueError("no pixel has a finite value")
    low, high = max(low, least), min(high, most)
    if not np.isfinite(span := high - low):
        raise ValueError(f"values from {low:g} to {high:g}")
    grey = np.empty(numbers.shape, np.uint8)
    for piece in pieces:
        values = np.nan_to_num(numbers[piece].astype(np.float64), copy=False, nan=low)
        values.clip(low, high, out=values)
        values -= low
        values *= 255 / span if span > 0 else 0
        grey[piece] = values.round(out=values)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
