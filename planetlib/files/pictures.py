"""Pictures of any kind to RGB: by Pillow, of its decoders those that are safe, and plain PNG by OpenCV."""

import io
import warnings

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile, jpeg_factory
from PIL.PngImagePlugin import ChunkStream

from planetlib.files.fits import stretch
from planetlib.files.read import UnreadableImage, is_too_large, one_line, require_size

# Pillow's decoders that are let near a file, whatever its name. That of EPS, for one, runs a program of the file's own.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM")
MOST_READS = 1_000_000  # about a second
LARGE = 1 << 21  # pixels; smaller pictures are never read at a reduced scale
SPARE = 6  # times the side that is asked for, of what is read at a reduced scale

# EXIF orientation, 2 to 8 → how to turn the picture upright.
_turn = Image.Transpose
UPRIGHT = {2: _turn.FLIP_LEFT_RIGHT, 3: _turn.ROTATE_180, 4: _turn.FLIP_TOP_BOTTOM, 5: _turn.TRANSPOSE}
UPRIGHT |= {6: _turn.ROTATE_270, 7: _turn.TRANSVERSE, 8: _turn.ROTATE_90}

#: of PNG files; none of them changes the pixels, as Pillow reads them
PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"pHYs", b"sRGB", b"gAMA", b"cHRM", b"tIME", b"tEXt"}

# Pillow warns of oddities that do not hinder reading. Once for all, as pictures are read in threads, and
# `warnings.catch_warnings` in one thread upsets the others.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode_picture(name: str, content: bytes, side: int | None = None) -> tuple[np.ndarray, dict]:
    """The picture in the bytes of a file, and the facts, as `images.decode_image`; `name` is for errors."""
    with _open(name, content) as image:
        facts = {"format": image.format, "mode": image.mode, "width": image.width, "height": image.height}
        notes = ["read at a reduced scale"] if _reduce(image, content, side) else []
        require_size(name, image.width, image.height)
        try:
            picture = _decode_plain_png(content) if image.format == "PNG" else None
            if picture is None:
                image.load()
                picture = _to_rgb(_stand_upright(image))
        except Exception as error:  # what decoders raise on damaged files is written nowhere, and not only OSError
            raise UnreadableImage(name, f"damaged or truncated ({one_line(error)})") from error
        notes += ["first of several frames"] if _has_more(image) else []
        return picture, {**facts, "note": ", ".join(notes)}


def _reduce(image: Image.Image, content: bytes, side: int | None) -> bool:
    """Lets libjpeg scale a JPEG while it decodes; returns whether it must, as the whole has too many pixels."""
    if not isinstance(image, JpegImageFile) or not image.fp:
        return False
    width, height = image.size
    shorter, too_large = min(width, height), is_too_large(width, height)
    least = SPARE * side if side and width * height > LARGE else shorter
    if too_large:
        # Of several scans libjpeg keeps all in memory until it makes the first row. A scan says how many of the colours
        # are in it; that of the first has just been read.
        several = content[image.fp.tell() - 4 - 2 * image.layers] != image.layers or "progressive" in image.info
        if several or is_too_large(-(-width // 2), -(-height // 2)):
            return False
        least = min(least, shorter // 2)
    if least < shorter:
        image.draft(None, (least, least))
    return too_large


def _decode_plain_png(content: bytes) -> np.ndarray | None:
    """A PNG of three times 8 bits with nothing odd about it, by OpenCV: a quarter faster than Pillow, the same pixels.

    None for every other file, and for every damaged one, so that there is one place that tells what is wrong with it.
    """
    texts_are_plain = content.count(b"tEXt") == content.count(b"tEXtSoftware\0")  # others may turn the picture
    if content[24:26] != b"\x08\x02" or not texts_are_plain:
        return None
    file = _Rationed(content)
    file.seek(8)
    try:
        chunks = ChunkStream(file).verify()
    except (OSError, SyntaxError):  # a checksum is wrong, or the end is missing
        return None
    if not PLAIN_CHUNKS.issuperset(chunks):
        return None
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)


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
        kinds = [kind for kind in FORMATS if (accepts := Image.OPEN[kind][1]) and accepts(content[:16]) is True]
        reason = (
            f"damaged at its start, or a rare kind of {kinds[0]}" if kinds else "not an image, whatever its name says"
        )
        raise UnreadableImage(name, reason) from error
    except Image.DecompressionBombError as error:  # of twice as many pixels as are allowed
        if content.startswith(b"\xff\xd8\xff"):
            return jpeg_factory(_Rationed(content))
        raise UnreadableImage(name, f"too large ({one_line(error)})") from error
    except Exception as error:
        raise UnreadableImage(name, f"cannot be opened ({one_line(error)})") from error


def _has_more(image: Image.Image) -> bool:
    try:
        return getattr(image, "is_animated", False)
    except Exception:  # whatever comes second is of no use
        return False


def _stand_upright(image: Image.Image) -> Image.Image:
    """Like `ImageOps.exif_transpose`, which also rewrites the EXIF block and so fails where only that is damaged."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return image
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith(("I", "F")):  # 16- and 32-bit grey: Pillow's own conversion would clip at 255
        return stretch(np.asarray(image))
    if image.mode == "La":  # already multiplied by alpha, which Pillow undoes in one way alone
        image = image.convert("LA")
    if image.mode in {"RGBA", "RGBa", "LA", "PA"} or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))
