"""`read_image`: an odd picture gives the right pixels, a bad file gives one error with a reason, and nothing else."""

import gzip
import io
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from random import Random

import numpy as np
import pytest
from astropy.io import fits
from PIL import ExifTags, Image, PngImagePlugin

from planetlib.files import pictures
from planetlib.files.find import SUFFIXES
from planetlib.files.read import UnreadableImage
from planetlib.images import decode_image, read_image
from planetlib.transforms import fit_to_square
from tests.conftest import encode, encode_fits, photograph

# pytest undoes the library's own filter
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")

SIDE = 16
RED, GREEN, BLACK = (200, 30, 20), (10, 180, 40), (0, 0, 0)
STEPS = np.tile(np.arange(SIDE), (SIDE, 1))  # each column one brighter than the one before


def halves(left, right) -> np.ndarray:
    """Left half of one colour, right half of another."""
    return np.uint8([[left] * (SIDE // 2) + [right] * (SIDE // 2)] * SIDE)


def grey(values) -> np.ndarray:
    return np.repeat(np.uint8(values)[:, :, None], 3, axis=2)


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
HUGE = SKY.replace(b"NAXIS1  =                   16", b"NAXIS1  =             99999999")
WILD = np.where(STEPS > 7, 1.7e308, -1.7e308)
SPOILT, SHOWN = FLOAT.copy(), 17 * STEPS
SPOILT[0, [4, 7, 9]], SHOWN[0, [4, 7, 9]] = (np.inf, -np.inf, np.nan), (255, 0, 0)

ODD_BUT_GOOD = {  # file, its pixels, how far each may be off
    "RGBA": (encode(halves((200, 100, 0, 51), (*GREEN, 255))), halves((40, 20, 0), GREEN), 1),
    "palette": (encode(two_colours()), halves(RED, GREEN), 0),
    "palette, one colour transparent": (encode(two_colours(), transparency=1), halves(RED, BLACK), 0),
    "grey": (encode(np.uint8(10 * STEPS)), grey(10 * STEPS), 0),
    "LA": (encode(halves((90, 255), (200, 0))), halves((90, 90, 90), BLACK), 0),
    "16-bit grey": (encode(np.uint16(1000 + 10 * STEPS)), grey(17 * STEPS), 0),
    "16-bit grey, all the same": (encode(np.full((SIDE, SIDE), 1000, np.uint16)), grey(0 * STEPS), 0),
    "32-bit integers": (encode(np.int32(-70 + 10 * STEPS), "TIFF"), grey(17 * STEPS), 0),
    "float with infinities and NaN": (encode(SPOILT, "TIFF"), grey(SHOWN), 0),
    "CMYK JPEG": (encode(halves(RED, GREEN), "JPEG", "CMYK", quality=95), halves(RED, GREEN), 8),
}


@pytest.mark.parametrize("content, pixels, tolerance", ODD_BUT_GOOD.values(), ids=ODD_BUT_GOOD)
def test_odd_but_good_pictures_give_their_pixels(content, pixels, tolerance):
    picture = read_image(content)
    assert picture.dtype == np.uint8 and picture.shape == pixels.shape
    assert np.abs(picture.astype(int) - pixels).max() <= tolerance


TURNS = {  # 9 means nothing
    2: np.fliplr, 3: lambda stored: np.rot90(stored, 2), 4: np.flipud, 5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1), 7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1), 8: np.rot90,
    9: np.asarray,
}  # fmt: skip


@pytest.mark.parametrize("value, turn", TURNS.items())
def test_every_exif_orientation_is_turned_upright(value, turn):
    stored = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    picture, facts = decode_image(encode(stored, exif=orientation(value)))
    np.testing.assert_array_equal(picture, turn(stored))
    assert facts == {"format": "PNG", "mode": "RGB", "width": 12, "height": 9, "note": ""}  # as it is stored


def test_the_name_of_a_file_does_not_matter(tmp_path):
    path = tmp_path / "wrong suffix.jpg"
    path.write_bytes(PLAIN)
    for source in (path, str(path)):
        np.testing.assert_array_equal(read_image(source), halves(RED, GREEN))


BAD = {  # name of the file, its content, how the reason begins; what is no file at all is in `test_read`
    "truncated": ("a.png", PLAIN[:60], "damaged or truncated ("),
    "text": ("a.jpg", b"This is no picture.\n", "not an image"),
    "empty": ("a.png", b"", "empty file"),
    "a program for Ghostscript": ("a.png", encode(Image.new("RGB", (9, 9)), "EPS"), "not an image"),
    "a damaged start": ("a.png", PLAIN[:8] + PLAIN[20:], "damaged at its start, or a rare kind of PNG"),
    "a zipped text": ("a.fits.gz", gzip.compress(b"text"), "not an image"),
    "a torn zip": ("a.fits.gz", gzip.compress(SKY)[:-30], "damaged or truncated ("),
    "a torn FITS": ("a.fits", SKY[:3500], "damaged or truncated ("),
    "FITS without an image": ("a.fits", encode_fits(fits.PrimaryHDU()), "a FITS file without an image"),
    "FITS of NaN": ("a.fits", encode_fits(fits.PrimaryHDU(FLOAT * np.nan)), "damaged or truncated (no pixel has"),
    "FITS of a huge picture": ("a.fits", HUGE, "too large (99999999 ×"),
    "FITS without measure": ("a.fits", encode_fits(fits.PrimaryHDU(WILD)), "damaged or truncated (values from"),
    "30,000 pixels in a row": ("a.png", encode(Image.new("L", (30_000, 1))), "30000 × 1 pixels; at least 8"),
}


@pytest.mark.parametrize("name, content, reason", BAD.values(), ids=BAD)
def test_a_bad_file_gives_one_error_with_a_reason(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnreadableImage) as caught:
        read_image(path)
    assert caught.value.reason.startswith(reason)
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert "\n" not in caught.value.reason and str(tmp_path) not in caught.value.reason


@pytest.mark.parametrize("limit", [SIDE**2 - 1, SIDE**2 // 2 - 1], ids=["beyond the limit", "beyond twice the limit"])
def test_a_decompression_bomb_is_not_unpacked(monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UnreadableImage, match="^<bytes>: too large"):
        read_image(PLAIN)
    for enough in (SIDE**2, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", enough)
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
    content = encode(halves(RED, GREEN), "WEBP", lossless=True, exif=orientation(6))
    assert b"MM\0*" in content  # how EXIF begins; where it cannot be read, the picture is left as it is stored
    np.testing.assert_array_equal(read_image(content.replace(b"MM\0*", b"XX\0*")), halves(RED, GREEN))


def test_pillows_warnings_are_not_shown(tmp_path):
    one, many = bytes.fromhex("0112 0003 00000001"), bytes.fromhex("0112 0003 00000099")  # orientations
    (tmp_path / "a.jpg").write_bytes(PHOTO.replace(one, many))
    read = "import sys; from PIL import Image; from planetlib.images import read_image; read_image(sys.argv[1])"
    plain = "import sys; from PIL import Image; Image.open(sys.argv[1]).getexif()"

    def shown(code):
        command = [sys.executable, "-W", "always", "-c", code, tmp_path / "a.jpg"]
        return subprocess.run(command, capture_output=True, check=True).stderr

    assert shown(read) == b"" and b"Warning" in shown(plain)


# Every format


def test_a_file_of_every_format_is_read_and_the_first_of_several_is_told(every_format):
    notes, several = {}, {"animated.png", "animated.webp", "animated.gif", "animated.avif", "two.jpg", "pages.tif"}
    for name, content in every_format.items():
        picture, facts = decode_image(content)
        assert picture.shape == (48, 48, 3) and picture.dtype == np.uint8, name
        assert picture[24, 24, 0] > int(picture[2, 2, 0]) + 60, name  # a bright disc on black
        assert name not in several or picture[2, 2].max() < 40, name  # their second frames have a bright sky
        notes[name] = facts["note"]
    expected = {**dict.fromkeys(several, "first of several frames"), "cube.fts": "first of 2 planes"}
    assert {name: note for name, note in notes.items() if note} == expected
    assert {name[name.index(".") :] for name in notes} - {".fits.fz"} <= SUFFIXES


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
    np.testing.assert_array_equal(pictures._to_rgb(image), halves((90, 90, 90), BLACK))


# Large JPEG files, which libjpeg scales while it decodes


SMALL = photograph(200, 120)


@pytest.fixture
def small_is_large(monkeypatch) -> None:
    """Pictures a hundredth as large as usual count as large."""
    monkeypatch.setattr(pictures, "LARGE", pictures.LARGE // 100)


LARGE_PICTURES = {"RGB": {}, "progressive": {"progressive": True}, "on its side": {"exif": orientation(6)},
                  "grey": {"mode": "L"}, "CMYK": {"mode": "CMYK"}}  # fmt: skip


@pytest.mark.parametrize("options", LARGE_PICTURES.values(), ids=LARGE_PICTURES)
def test_a_large_jpeg_for_a_small_square_is_decoded_at_a_reduced_scale_to_the_same_picture(options, decoded):
    content = encode(photograph(), "JPEG", quality=92, **options)
    whole, facts = decode_image(content)
    reduced, known = decode_image(content, 48)
    assert decoded == [(2000, 1200), (500, 300)] and known == facts and (facts["width"], facts["note"]) == (2000, "")
    squares = [fit_to_square(picture, 48).astype(float) for picture in (whole, reduced)]
    difference = np.abs(squares[0] - squares[1])
    assert difference.mean() < (2 if facts["mode"] == "CMYK" else 1) and difference.max() < 24
    assert squares[0].std() > 40


@pytest.mark.parametrize("side, decoded_to", [(None, 200), (20, 200), (10, 100), (2, 25)])
def test_what_is_decoded_has_several_times_the_side_that_is_asked_for(side, decoded_to, decoded, small_is_large):
    read_image(encode(SMALL, "JPEG"), side)
    assert [width for width, _ in decoded] == [decoded_to]


def test_small_pictures_and_other_formats_are_decoded_to_the_same_pixels_whatever_is_asked_for(small_is_large):
    contents = [encode(photograph(170, 120), "JPEG"), encode(SMALL, "PNG"), encode(SMALL, "WEBP")]
    contents += [encode(np.uint16(SMALL[:, :, 0]) * 200, "TIFF")]
    for content in contents:
        np.testing.assert_array_equal(read_image(content, 2), read_image(content))


def test_a_torn_large_jpeg_is_damaged_at_any_scale(small_is_large):
    with pytest.raises(UnreadableImage, match="damaged or truncated"):
        read_image(encode(SMALL, "JPEG")[:-500], 2)


@pytest.mark.parametrize("limit", [20_000, 7_000])
def test_a_jpeg_of_too_many_pixels_is_read_at_half_its_size_and_says_so(limit, monkeypatch, small_is_large):
    content = encode(SMALL, "JPEG", quality=92)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)  # Pillow itself refuses twice as many
    picture, facts = decode_image(content)
    assert picture.shape == (60, 100, 3) and picture.std() > 40
    assert facts["note"] == "read at a reduced scale" and (facts["width"], facts["height"]) == (200, 120)
    assert read_image(content, 2).shape == (15, 25, 3)


def scans_of_a_colour_each(content: bytes) -> bytes:
    """The header of a JPEG changed as if its first scan had one colour only."""
    place = content.rindex(b"\xff\xda")
    return content[: place + 2] + b"\0\x08\1\1\0" + content[place + 11 :]


HELD_AS_A_WHOLE = {
    "too large at half its size": (5_999, encode(SMALL, "JPEG")),
    "progressive": (7_000, encode(SMALL, "JPEG", progressive=True)),
    "a scan for each colour": (7_000, scans_of_a_colour_each(encode(SMALL, "JPEG"))),
}


@pytest.mark.parametrize("limit, content", HELD_AS_A_WHOLE.values(), ids=HELD_AS_A_WHOLE)
def test_what_libjpeg_would_hold_in_memory_as_a_whole_stays_too_large(limit, content, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UnreadableImage, match="too large .200 × 120 pixels"):
        read_image(content, 8)


# Plain PNG files, which OpenCV reads


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)


PLAIN_CHUNKS = {b"gAMA": struct.pack(">I", 22222), b"sRGB": b"\0", b"cHRM": struct.pack(">8I", *range(1, 9)),
                b"pHYs": bytes(8) + b"\1", b"tIME": b"\x07\xea\1\1\1\1\1", b"tEXt": b"Software\0a camera"}  # fmt: skip


def test_plain_png_files_are_read_by_opencv_to_the_last_bit(noise):
    extra = PngImagePlugin.PngInfo()
    for kind, chunk in PLAIN_CHUNKS.items():
        extra.add(kind, chunk)
    content = encode(noise, pnginfo=extra)
    assert (pictures._decode_plain_png(content) == noise).all() and (read_image(content) == noise).all()


def test_whatever_is_odd_about_a_png_or_torn_in_it_is_left_to_pillow(noise):
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "anything")
    odd = [encode(noise, exif=orientation(6)), encode(noise, transparency=(0, 0, 0)), encode(noise, pnginfo=text)]
    others = (noise[:, :, 0], noise.astype(np.uint16)[:, :, 0], np.dstack([noise, noise[..., :1]]))
    odd += [encode(picture) for picture in others]
    for place in (30, 45, 100, -30, -14, -6):  # a checksum is wrong, and then the end is missing, too
        torn = bytearray(encode(noise))
        torn[place] ^= 1
        odd += [bytes(torn), bytes(torn[:-4])]
    assert [pictures._decode_plain_png(content) for content in odd] == [None] * len(odd)
    assert read_image(odd[0]).shape == (53, 37, 3)


@pytest.mark.soak
def test_opencv_reads_no_damaged_png_that_pillow_refuses(noise, amount):
    rng, counts = np.random.default_rng(0), Counter()
    noise[5:30, 5:40] = 7  # something to compress
    for level in rng.integers(0, 10, amount(200, 20_000)):
        torn = bytearray(encode(noise, compress_level=int(level)))
        start, end = torn.index(b"IDAT"), len(torn) - 16  # the checksum that follows is made right for what is damaged
        for place in rng.integers(start + 4, end, rng.integers(1, 3)):
            torn[place] = rng.integers(256)
        torn[end : end + 4] = zlib.crc32(torn[start:end]).to_bytes(4, "big")
        picture = pictures._decode_plain_png(bytes(torn))
        counts["refused" if picture is None else "read, by Pillow alike"] += 1
        if picture is not None:
            assert (np.array(Image.open(io.BytesIO(torn))) == picture).all()
    assert counts["refused"]
    print("damaged files:", dict(counts))


# Mutants

SECONDS = 2  # of the processor's time, for one file
MEGABYTES = 600  # beyond what was taken before; a header that lies asks for as much as the pixel limit allows
ODD_NUMBERS = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\x40\0", b"99999999"]


def mutate(rng: Random, files: list[bytes]) -> bytes:
    """A good file with its end cut off, a bit turned, bytes overwritten, left out or repeated, or joined to another."""
    content = rng.choice(files)
    for _ in range(rng.choice([1, 2])):
        # Half of the places are near the start, where the headers are.
        start = rng.randrange(1 + rng.choice([len(content), min(200, len(content))]))
        stop, other = start + rng.randint(1, 64), rng.choice(files)
        middle, end = rng.choice([
            (b"", b""),
            (bytes(byte ^ 1 << rng.randrange(8) for byte in content[start : start + 1]), content[start + 1 :]),
            (rng.choice([*ODD_NUMBERS, rng.randbytes(8)]), content[start + 4 :]),
            (b"", content[stop:]),
            (content[start:stop] * rng.randint(1, 20), content[start:]),
            (b"", other[start:]),
            (b"", other[rng.randrange(len(other)) :]),
        ])  # fmt: skip
        content = content[:start] + middle + end
    return content


def peak_megabytes() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")  # of odd files; pytest undoes the library's own filter
def test_mutants_of_good_files_give_a_picture_or_the_one_error_soon_and_in_little_memory(every_format, amount):
    rng, counts, slowest, before = Random(0), Counter(), 0.0, peak_megabytes()
    files = [*every_format.values(), PHOTO, with_damaged_exif()]
    for number in range(amount(400, 10_000)):
        content, start = mutate(rng, files), time.process_time()
        try:
            picture = read_image(content)
            assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3, number
            counts["ok"] += 1
        except UnreadableImage as error:
            assert error.reason and "\n" not in error.reason, number
            counts["unreadable"] += 1
        slowest = max(slowest, time.process_time() - start)
        assert slowest < SECONDS, number
    grown = peak_megabytes() - before
    print(f"\n{counts.total()} mutants: {dict(counts)}; slowest {slowest:.2f} s; {grown:.0f} MB more memory at most")
    assert min(counts.values()) > counts.total() / 20  # neither harmless nor mere rubbish
    assert grown < MEGABYTES
