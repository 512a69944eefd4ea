"""FITS: the right plane, stretched as viewers do; bombs are not unpacked."""

import gzip
import sys
import tracemalloc

import numpy as np
import pytest
from astropy.io import fits

import planetlib.files.fits
from planetlib.files.read import UnreadableImage
from planetlib.images import decode_image, read_image
from tests.conftest import encode_fits

SIDE = 16
PICTURE = np.float32(1000 + 10 * np.tile(np.arange(SIDE), (SIDE, 1)))
SKY = encode_fits(fits.PrimaryHDU(PICTURE))


def test_fits_is_stretched_as_viewers_do_with_the_first_row_below():
    sky = np.random.default_rng(0).normal(1000, 5, (40, 60))
    sky[:10, 50:] = 60_000  # a star that would leave everything else black
    sky[30, 30] = np.nan
    picture = read_image(encode_fits(fits.PrimaryHDU(np.float32(sky))))
    assert (picture[-10:, 50:] == 255).all() and (picture[9, 30] == 0).all()
    assert 50 < picture[:20, :20].mean() < 200 and picture[:20, :20].std() > 20


def test_of_a_cube_the_first_plane_is_read_and_no_more():
    picture, facts = decode_image(encode_fits(fits.PrimaryHDU(np.stack([PICTURE, PICTURE.T, PICTURE.T]))))
    np.testing.assert_array_equal(picture, read_image(SKY))
    assert facts == {"format": "FITS", "mode": "float32", "width": 16, "height": 16, "note": "first of 3 planes"}


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_a_frame_is_stretched_with_little_more_memory_than_it_has_pixels(kind):
    frame = (np.arange(2_000_000) % 60_000).reshape(2000, 1000).astype(kind)
    tracemalloc.start()
    picture = planetlib.files.fits.stretch(frame)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert picture.shape == (2000, 1000, 3) and np.ptp(picture) == 255
    assert peak < 6 * frame.size  # bytes: 4 are of the picture; as float64 the frame alone would have 8


def test_without_astropy_a_fits_file_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "astropy.io", None)
    with pytest.raises(UnreadableImage, match=r"needs astropy: pip install 'planetlib\[fits\]'"):
        read_image(SKY)


def test_a_zipped_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(planetlib.files.fits, "LARGEST_FILE", 5000)
    with pytest.raises(UnreadableImage, match="too large .more than 5,000 bytes, unpacked"):
        read_image(gzip.compress(SKY))


@pytest.mark.parametrize(("algorithm", "kind"), [("GZIP_1", np.int16), ("RICE_1", np.float32)])
def test_a_tile_that_unpacks_to_more_than_its_pixels_is_not_unpacked(algorithm, kind):
    large = np.zeros((SIDE, 3000), kind)  # numbers with a point, all equal, are not for Rice: gzip packs them
    packed = encode_fits(fits.PrimaryHDU(), fits.CompImageHDU(large, compression_type=algorithm, tile_shape=(1, 3000)))
    assert read_image(packed).shape == (SIDE, 3000, 3)
    assert packed.count(b"                3000") == 2  # width of picture and tile, which the bomb belies
    with pytest.raises(UnreadableImage, match="too large .a tile of more than 128 bytes, unpacked"):
        read_image(packed.replace(b"                3000", b"                  16"))
