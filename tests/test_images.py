"""`read_image`: an odd picture gives the right pixels, a bad file gives one error with a reason, and nothing else."""

import gzip
import io
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from astropy.io import fits
from PIL import ExifTags, Image, PngImagePlugin

from planetlib import images
from planetlib.files.read import UnreadableImage
from planetlib.images import SUFFIXES, _read_plain_png, decode_image, read_image
from tests.conftest import encode, encode_fits

SIDE = 16
RED, GREEN, BLACK = (200, 30, 20), (10, 180, 40), (0, 0, 0)
STEPS = np.tile(np.arange(SIDE), (SIDE, 1))  # each column one brighter than the one before


def halves(left, right) -> np.ndarray:
    """Left half of one colour, right half of another."""
    return np.uint8([[left] * (SIDE // 2) + [right] * (SIDE // 2)] * SIDE)


def grey(values) -> np.ndarray:
    return np.repeat(np.uint8(values)[:, :, None], 3, axis=2)


def first_row(image: np.ndarray, changes: dict) -> np.ndarray:
    """A copy of `image` with the pixels of its first row changed: column → value."""
    image = image.copy()
    for column, value in changes.items():
        image[0, column] = value
    return image


def two_colours() -> Image.Image:
    """`halves(RED, GREEN)` as numbers 0 and 1 in a palette."""
    image = Image.fromarray(np.uint8(STEPS >= SIDE // 2)).convert("P")
    image.putpalette([*RED, *GREEN])
    return image


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    return exif


PLAIN = encode(halves(RED, GREEN))
PHOTO = encode(halves(RED, GREEN), "JPEG", quality=95, subsampling=0, exif=orientation(6))
FLOAT = np.float32(1000 + 10 * STEPS)
SKY = encode_fits(fits.PrimaryHDU(FLOAT))

ODD_BUT_GOOD = {  # file, its pixels, how far each may be off
    "RGB": (PLAIN, halves(RED, GREEN), 0),
    "RGBA": (encode(halves((*RED, 255), (*GREEN, 0))), halves(RED, BLACK), 0),
    "RGBA half seen through": (encode(halves((200, 100, 0, 51), (*GREEN, 255))), halves((40, 20, 0), GREEN), 1),
    "palette": (encode(two_colours()), halves(RED, GREEN), 0),
    "palette, one colour transparent": (encode(two_colours(), transparency=1), halves(RED, BLACK), 0),
    "palette, a transparency for each": (encode(two_colours(), transparency=b"\xff\x00"), halves(RED, BLACK), 0),
    "grey": (encode(np.uint8(10 * STEPS)), grey(10 * STEPS), 0),
    "LA": (encode(halves((90, 255), (200, 0))), halves((90, 90, 90), BLACK), 0),
    "one bit": (encode(halves(BLACK, (255, 255, 255)), mode="1"), halves(BLACK, (255, 255, 255)), 0),
    "16-bit grey": (encode(np.uint16(1000 + 10 * STEPS)), grey(17 * STEPS), 0),
    "16-bit grey, all the same": (encode(np.full((SIDE, SIDE), 1000, np.uint16)), grey(0 * STEPS), 0),
    "32-bit integers": (encode(np.int32(-70 + 10 * STEPS), "TIFF"), grey(17 * STEPS), 0),
    "float": (encode(FLOAT, "TIFF"), grey(17 * STEPS), 0),
    "float with NaN": (encode(first_row(FLOAT, {9: np.nan}), "TIFF"), first_row(grey(17 * STEPS), {9: 0}), 0),
    "float with infinities": (
        encode(first_row(FLOAT, {4: np.inf, 9: -np.inf}), "TIFF"),
        first_row(grey(17 * STEPS), {4: 255, 9: 0}),
        0,
    ),
    "CMYK JPEG": (encode(halves(RED, GREEN), "JPEG", "CMYK", quality=95), halves(RED, GREEN), 8),
    "JPEG on its side": (PHOTO, np.rot90(halves(RED, GREEN), -1), 8),
    "animated GIF": (
        encode(two_colours(), "GIF", save_all=True, append_images=[Image.new("RGB", (SIDE, SIDE), "white")]),
        halves(RED, GREEN),
        0,
    ),
    "WebP": (encode(halves(RED, GREEN), "WEBP", lossless=True), halves(RED, GREEN), 0),
}


@pytest.mark.parametrize("content, pixels, tolerance", ODD_BUT_GOOD.values(), ids=ODD_BUT_GOOD)
def test_odd_but_good_pictures_give_their_pixels(content, pixels, tolerance):
    picture = read_image(content)
    assert picture.dtype == np.uint8 and picture.shape == pixels.shape
    assert np.abs(picture.astype(int) - pixels).max() <= tolerance


@pytest.mark.parametrize(
    "value, turn",
    {
        1: lambda stored: stored,
        2: np.fliplr,
        3: lambda stored: np.rot90(stored, 2),
        4: np.flipud,
        5: lambda stored: stored.swapaxes(0, 1),
        6: lambda stored: np.rot90(stored, -1),
        7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
        8: np.rot90,
        9: lambda stored: stored,  # means nothing
    }.items(),
)
def test_every_exif_orientation_is_turned_upright(value, turn):
    stored = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read_image(encode(stored, exif=orientation(value))), turn(stored))


@pytest.mark.parametrize("name", ["with spaces.png", "Größe é 木星.png", "no suffix", "wrong suffix.jpg"])
@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_the_name_of_a_file_does_not_matter(tmp_path, name, kind):
    (tmp_path / name).write_bytes(PLAIN)
    np.testing.assert_array_equal(read_image(kind(tmp_path / name)), halves(RED, GREEN))


BAD = {  # name of the file, its content (None: nothing is written), how the reason begins
    "truncated PNG": ("a.png", PLAIN[:60], "damaged or truncated ("),
    "truncated JPEG": ("a.jpg", PHOTO[:-12], "damaged or truncated ("),
    "text": ("a.jpg", b"This is no picture.\n", "not an image, whatever its name says"),
    "empty": ("a.png", b"", "empty file"),
    "missing": ("a.png", None, "no such file"),
    "a folder": (".", None, "a folder, not a file"),
    "an undecodable name, as tables write it": ("a\\udcff.png", None, "its name is not UTF-8; rename it"),
    "a program for Ghostscript": ("a.png", encode(Image.new("RGB", (9, 9)), "EPS"), "not an image, whatever"),
    "a damaged start": ("a.png", PLAIN[:8] + PLAIN[20:], "damaged at its start, or a rare kind of PNG"),
    "a zipped text": ("a.fits.gz", gzip.compress(b"text"), "not an image, whatever its name says"),
    "a torn zip": ("a.fits.gz", gzip.compress(SKY)[:-30], "damaged or truncated (Compressed file ended"),
    "a torn FITS": ("a.fits", SKY[:3500], "damaged or truncated ("),
    "FITS without an image": ("a.fits", encode_fits(fits.PrimaryHDU()), "a FITS file without an image"),
    "FITS of NaN": ("a.fits", encode_fits(fits.PrimaryHDU(FLOAT * np.nan)), "damaged or truncated (no pixel has a"),
    "FITS of one row": ("a.fits", encode_fits(fits.PrimaryHDU(FLOAT[:1])), "16 × 1 pixels; at least 8 × 8 are needed"),
    "FITS of a huge picture": (
        "a.fits",
        SKY.replace(b"NAXIS1  =                   16", b"NAXIS1  =             99999999"),
        "too large (99999999 ×",
    ),
    "30,000 pixels in a row": ("a.png", encode(Image.new("L", (30_000, 1))), "30000 × 1 pixels; at least 8 × 8 are"),
    "values without measure": (
        "a.fits",
        encode_fits(fits.PrimaryHDU(np.where(STEPS > 7, 1.7e308, -1.7e308))),
        "damaged or truncated (values from",
    ),
    "name too long": ("a" * 300, None, "cannot be opened (File name too long)"),
    "one pixel": ("a.png", encode(Image.new("RGB", (1, 1))), "1 × 1 pixels; at least 8 × 8 are needed"),
    "one row": ("a.png", encode(Image.new("RGB", (50, 1))), "50 × 1 pixels; at least 8 × 8 are needed"),
    "only NaN": ("a.tif", encode(np.full_like(FLOAT, np.nan), "TIFF"), "damaged or truncated (no pixel has a finite"),
}


@pytest.mark.parametrize("name, content, reason", BAD.values(), ids=BAD)
def test_a_bad_file_gives_one_error_with_a_reason(tmp_path, name, content, reason):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableImage) as caught:
        read_image(path)
    assert caught.value.reason.startswith(reason)
    assert str(caught.value) == f"{path}: {caught.value.reason}" and caught.value.source == str(path)
    assert "\n" not in caught.value.reason and str(tmp_path) not in caught.value.reason


def test_bad_bytes_are_named_as_bytes():
    with pytest.raises(UnreadableImage, match="^<bytes>: empty file$"):
        read_image(b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest undoes the library's own filter
@pytest.mark.parametrize("limit", [SIDE**2 - 1, SIDE**2 // 2 - 1], ids=["beyond the limit", "beyond twice the limit"])
def test_a_decompression_bomb_is_not_unpacked(monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UnreadableImage, match="^<bytes>: too large"):
        read_image(PLAIN)


@pytest.mark.parametrize("limit", [SIDE**2, None])
def test_a_picture_within_the_limit_is_read(monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert read_image(PLAIN).shape == (SIDE, SIDE, 3)


def with_damaged_exif() -> bytes:
    """A JPEG whose EXIF description claims to be a fraction: readable, but `ImageOps.exif_transpose` fails on it."""
    exif = orientation(6)
    exif[ExifTags.Base.ImageDescription] = ""
    text, fraction = bytes.fromhex("010e 0002 00000001"), bytes.fromhex("010e 0005 00000001")  # tag, type, length
    content = encode(halves(RED, GREEN), "JPEG", quality=95, subsampling=0, exif=exif)
    assert text in content
    return content.replace(text, fraction)


def test_damaged_exif_does_not_spoil_a_good_picture():
    picture = read_image(with_damaged_exif())
    assert np.abs(picture.astype(int) - np.rot90(halves(RED, GREEN), -1)).max() <= 8


def test_unreadable_exif_leaves_the_picture_as_it_is_stored():
    content = encode(halves(RED, GREEN), "WEBP", lossless=True, exif=orientation(6))
    assert b"MM\0*" in content  # how EXIF begins
    np.testing.assert_array_equal(read_image(content.replace(b"MM\0*", b"XX\0*")), halves(RED, GREEN))


def damaged(content: bytes, seed: int) -> bytes:
    """Cut off anywhere, or with a few bytes changed."""
    rng = np.random.default_rng(seed)
    if seed % 2:
        return content[: rng.integers(len(content))]
    changed = np.frombuffer(content, np.uint8).copy()
    changed[rng.integers(len(content), size=rng.integers(1, 5))] = rng.integers(256)
    return changed.tobytes()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("content", [PLAIN, PHOTO, with_damaged_exif()], ids=["PNG", "JPEG", "damaged EXIF"])
def test_random_damage_gives_a_picture_or_the_one_error(content):
    unreadable = 0
    for seed in range(600):
        try:
            picture = read_image(damaged(content, seed))
            assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        except UnreadableImage as error:
            unreadable += 1
            assert error.reason
    assert 300 < unreadable  # nearly every cut, and of the changes those that matter


def test_pillows_warnings_are_not_shown(tmp_path):
    one, many = bytes.fromhex("0112 0003 00000001"), bytes.fromhex("0112 0003 00000099")  # orientations
    (tmp_path / "a.jpg").write_bytes(PHOTO.replace(one, many))
    read = "import sys; from PIL import Image; from planetlib.images import read_image; read_image(sys.argv[1])"
    plain = "import sys; from PIL import Image; Image.open(sys.argv[1]).getexif()"

    def shown(code):
        command = [sys.executable, "-W", "always", "-c", code, tmp_path / "a.jpg"]
        return subprocess.run(command, capture_output=True, check=True).stderr

    assert shown(read) == b"" and b"Warning" in shown(plain)


def test_inspect_tells_what_is_stored():
    stored = np.zeros((9, 12, 3), np.uint8)
    _, facts = decode_image(encode(stored, exif=orientation(6)))
    assert facts == {"format": "PNG", "mode": "RGB", "width": 12, "height": 9, "note": ""}


def test_inspect_refuses_what_cannot_be_read():
    with pytest.raises(UnreadableImage, match="damaged or truncated"):
        decode_image(PLAIN[:60])


# Every format


def test_a_file_of_every_format_is_read_and_the_first_of_several_is_told(every_format):
    notes = {}
    for name, content in every_format.items():
        picture, facts = decode_image(content)
        assert picture.shape == (48, 48, 3) and picture.dtype == np.uint8, name
        assert picture[24, 24, 0] > int(picture[2, 2, 0]) + 60, name  # a bright disc on black
        notes[name] = facts["note"]
    several = {"animated.png", "animated.webp", "animated.gif", "animated.avif", "two.jpg", "pages.tif"}
    assert {name for name, note in notes.items() if note == "first of several frames"} == several
    assert {name: note for name, note in notes.items() if note and name not in several} == {
        "cube.fts": "first of 2 planes"
    }
    assert {name[name.index(".") :] for name in notes} - {".fits.fz"} <= SUFFIXES


def test_of_an_animation_the_first_frame_is_shown(every_format):
    for name in ("animated.png", "animated.webp", "animated.gif", "animated.avif", "pages.tif", "two.jpg"):
        assert read_image(every_format[name])[2, 2].max() < 40, name  # the second has a bright sky


def test_a_damaged_second_frame_does_not_spoil_the_first(every_format):
    content = every_format["plain.gif"]
    assert content.endswith(b";")
    torn = content[:-1] + bytes.fromhex("21f9 01 00 00")  # how long the next frame is shown, cut short
    np.testing.assert_array_equal(read_image(torn), read_image(content))


def test_junk_is_not_stepped_over_for_ever():
    start = time.process_time()
    with pytest.raises(UnreadableImage, match="no picture within 1,000,000 reads"):
        read_image(b"\xff\xd8\xff" + bytes(20 << 20))
    assert time.process_time() - start < 4


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_alpha_that_is_multiplied_already_is_laid_on_black(mode):
    image = Image.fromarray(halves((90, 255), (200, 0))).convert("LA" if mode == "La" else "RGBA").convert(mode)
    np.testing.assert_array_equal(images._to_rgb(image), halves((90, 90, 90), BLACK))


# Plain PNG files, which OpenCV reads


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)


@pytest.mark.parametrize("chunk", [None, b"gAMA", b"sRGB", b"cHRM", b"pHYs", b"tIME"])
def test_plain_png_files_are_read_by_opencv_to_the_last_bit(chunk, noise, tmp_path):
    extra = PngImagePlugin.PngInfo()
    extra.add_text("Software", "a camera")
    content = {b"gAMA": (22222).to_bytes(4, "big"), b"sRGB": b"\0", b"cHRM": struct.pack(">8I", *range(1, 9))}
    content |= {b"pHYs": bytes(8) + b"\1", b"tIME": b"\x07\xea\1\1\1\1\1"}
    if chunk:
        extra.add(chunk, content[chunk])
    (tmp_path / "a.png").write_bytes(encode(noise, "PNG", pnginfo=extra))
    assert (_read_plain_png((tmp_path / "a.png").read_bytes()) == noise).all()
    assert (read_image(tmp_path / "a.png") == noise).all()


def test_whatever_is_odd_about_a_png_is_left_to_pillow(noise):
    exif, text = Image.Exif(), PngImagePlugin.PngInfo()
    exif[ExifTags.Base.Orientation] = 6
    text.add_text("Raw profile type exif", "anything")
    odd = [
        encode(noise, "PNG", exif=exif),
        encode(noise, "PNG", transparency=(0, 0, 0)),
        encode(noise, "PNG", pnginfo=text),
    ]
    others = (noise[:, :, 0], noise.astype(np.uint16)[:, :, 0], np.dstack([noise, noise[..., :1]]))
    odd += [encode(picture, "PNG") for picture in others]
    assert [_read_plain_png(content) for content in odd] == [None] * len(odd)
    assert read_image(odd[0]).shape == (53, 37, 3)


@pytest.mark.soak
def test_opencv_reads_no_damaged_png_that_pillow_refuses(noise, amount):
    rng, counts = np.random.default_rng(0), {"refused": 0, "read, by Pillow alike": 0}
    noise[5:30, 5:40] = 7  # something to compress
    for level in rng.integers(0, 10, amount(400, 20_000)):
        torn = bytearray(encode(noise, "PNG", compress_level=int(level)))
        start, end = torn.index(b"IDAT"), len(torn) - 16  # the checksum that follows is made right for what is damaged
        for place in rng.integers(start + 4, end, rng.integers(1, 3)):
            torn[place] = rng.integers(256)
        torn[end : end + 4] = zlib.crc32(torn[start:end]).to_bytes(4, "big")
        picture = _read_plain_png(bytes(torn))
        counts["refused" if picture is None else "read, by Pillow alike"] += 1
        if picture is not None:
            assert (np.array(Image.open(io.BytesIO(torn))) == picture).all()
    assert counts["refused"]
    print("damaged files:", counts)


@pytest.mark.parametrize("place", [30, 45, 100, -30, -14, -6])
def test_a_plain_png_whose_checksum_is_wrong_is_left_to_pillow(place, noise):
    torn = bytearray(encode(noise, "PNG"))
    torn[place] ^= 1
    assert _read_plain_png(bytes(torn)) is None and _read_plain_png(bytes(torn[:-4])) is None
