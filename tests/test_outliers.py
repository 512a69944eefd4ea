"""Drawn pictures of none of the planets: reproducible, varied, and what they are meant to be."""

import numpy as np
import pytest

from planetlib.draw.outliers import OUTLIERS, draw_outlier, draw_outliers


@pytest.mark.parametrize("kind", OUTLIERS)
def test_seed_settles_every_pixel(kind):
    first = draw_outlier(kind, 48, seed=3)
    draw_outlier("mercury", 48, seed=8)
    assert first.shape == (48, 48, 3) and first.dtype == np.uint8
    assert np.array_equal(first, draw_outlier(kind, 48, seed=3))
    assert not np.array_equal(first, draw_outlier(kind, 48, seed=4))


def test_a_set_holds_so_many_of_each_in_order_and_another_seed_another_set():
    drawn = draw_outliers(("sun", "venus"), range(3, 5), 32, seed=1)
    assert drawn.shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(drawn[3], draw_outlier("venus", 32, 100_004))
    assert not np.array_equal(drawn, draw_outliers(("sun", "venus"), range(3, 5), 32, seed=2))


def test_the_sun_glows_all_over_and_has_no_night_side():
    for seed in range(8):
        centre = draw_outlier("sun", 48, seed)[16:32, 16:32].max(axis=2)
        assert np.median(centre) > 60


def test_mercury_is_mostly_grey_and_venus_mostly_warm():
    def colours(kind):
        pictures = [draw_outlier(kind, 48, seed).reshape(-1, 3).astype(float) for seed in range(24)]
        return np.array([picture[picture.max(1) > 40].mean(0) for picture in pictures if (picture.max(1) > 40).any()])

    mercury, venus = colours("mercury"), colours("venus")
    assert np.median(np.ptp(mercury, axis=1) / mercury.max(1)) < 0.3
    assert np.mean(venus[:, 0] > venus[:, 2]) > 0.6


def test_an_unknown_kind_is_a_key_error_that_names_it():
    with pytest.raises(KeyError, match="vulcan"):
        draw_outlier("vulcan")
