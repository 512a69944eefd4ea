"""Any image file to RGB: FITS, as astronomers keep it, and whatever else is a picture."""

from os import PathLike

import numpy as np

from planetlib.files.fits import decode_fits, unzip
from planetlib.files.pictures import decode_picture
from planetlib.files.read import UnreadableImage, read_file


def read_image(source: str | PathLike | bytes, side: int | None = None) -> np.ndarray:
    """Reads one picture as 8-bit RGB, upright.

    EXIF orientation is applied; palettes and CMYK are converted; transparency is laid on black (the sky);
    pictures of more than 8 bits are stretched linearly from their darkest to their brightest pixel, as astronomical
    ones seldom fill their range; of an animation the first frame is taken, of a document the first page.

    Of a FITS file the first plane of the first image is taken, stretched as astronomers' viewers do (`ZScaleInterval`,
    after IRAF's display task), with the first row at the bottom. It needs astropy.

    A JPEG of more pixels than memory may bear, and no more than four times as many, is read at half its size, unless
    it is progressive: such a one is held in memory as a whole.

    Args:
        source: a path, or the bytes of a file.
        side: of the square that the picture will be fitted to, in pixels, if that is known. A JPEG of more than two
            million pixels is then decoded at 1/2, 1/4 or 1/8 of its size, the smallest whose shorter side is six times
            as long: libjpeg does not average as `fit_to_square` does, and with less to spare answers differ.

    Returns:
        uint8 array (H, W, 3), RGB, 0–255.

    Raises:
        UnreadableImage: no such file, no permission, empty, not an image, truncated, too large or too small.
    """
    return decode_image(source, side)[0]


def decode_image(source: str | PathLike | bytes, side: int | None = None) -> tuple[np.ndarray, dict]:
    """As `read_image`; returns the picture, and what kind of file it is.

    That is `format` (PNG, JPEG, …), `mode` (Pillow's name: RGB, RGBA, P, I;16, CMYK, …; of FITS NumPy's type), `width`
    and `height` in pixels as stored in the file, and `note` (`first of several frames`, `read at a reduced
    scale`, mostly empty).
    """
    name = "<bytes>" if isinstance(source, bytes) else str(source)
    content = source if isinstance(source, bytes) else read_file(source)
    if not content:
        raise UnreadableImage(name, "empty file")
    if content.startswith(b"\x1f\x8b"):
        content = unzip(name, content)
    if content.startswith(b"SIMPLE  ="):
        return decode_fits(name, content)
    return decode_picture(name, content, side)
