"""Rendered planets in many looks: reproducible, different from each other, and still of their class."""

import numpy as np
import pytest

from planetlib.draw.render import PLANETS, render_planet
from planetlib.draw.variety import draw_palette, draw_variants, render_variant


def colours_of(name: str, size: int = 48, seeds: range = range(24)) -> np.ndarray:
    """Mean colour of the brighter half of the body in each of many variants, (N, 3)."""
    colours = []
    for seed in seeds:
        drawn = render_variant(name, size, seed)
        body = drawn.image[drawn.mask].astype(float)
        if len(body):
            colours.append(body[body.max(1) >= np.median(body.max(1))].mean(0))
    return np.array(colours)


@pytest.mark.parametrize("name", PLANETS)
def test_seed_settles_every_pixel(name):
    first = render_variant(name, 48, seed=3).image
    render_variant("mars", 48, seed=8)
    assert np.array_equal(first, render_variant(name, 48, seed=3).image)
    assert not np.array_equal(first, render_variant(name, 48, seed=4).image)


@pytest.mark.parametrize("name", ["jupiter", "mars", "saturn", "uranus"])
def test_variants_vary_more_than_the_planet_they_vary(name):
    variants = colours_of(name)
    plain = [render_planet(name, 48, seed) for seed in range(24)]
    plain = np.array([drawn.image[drawn.mask].mean(0) for drawn in plain])
    hue = lambda colours: (colours / colours.sum(1, keepdims=True)).std(0).sum()  # noqa: E731
    assert hue(variants) > 2 * hue(plain)


def test_uranus_stays_greener_than_neptune():
    uranus, neptune = colours_of("uranus"), colours_of("neptune")
    assert np.median(uranus[:, 1] / uranus[:, 2]) > 0.15 + np.median(neptune[:, 1] / neptune[:, 2])


def test_the_moon_stays_grey_and_mars_red():
    moon, mars = colours_of("moon"), colours_of("mars")
    assert (np.ptp(moon, axis=1) < 0.2 * moon.max(1)).all()
    assert (mars[:, 0] > mars[:, 2]).all()


def test_a_palette_keeps_to_its_ranges_and_without_contrast_to_one_tone():
    rng = np.random.default_rng(0)
    shades = draw_palette(rng, (190, 200), (0.5, 0.6), (0.4, 0.5), 5, 0).split()
    assert len(shades) == 5 and len(set(shades)) == 1
    red, green, blue = bytes.fromhex(shades[0])
    assert red < green < blue and 0.4 * 255 <= blue + 1 and blue - 1 <= 0.5 * 255
    assert len(set(draw_palette(rng, (190, 200), (0.5, 0.6), (0.4, 0.5), 5, 0.2).split())) == 5


def test_a_set_holds_so_many_of_each_in_order_and_another_seed_another_set():
    drawn = draw_variants(("mars", "saturn"), 2, 32, seed=1)
    assert drawn.shape == (4, 32, 32, 3) and drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn[3], render_variant("saturn", 32, 100_001).image)
    assert not np.array_equal(drawn, draw_variants(("mars", "saturn"), 2, 32, seed=2))


def test_an_unknown_planet_says_what_is_possible():
    with pytest.raises(ValueError, match="unknown planet 'pluto'; possible are earth, jupiter, mars"):
        render_variant("pluto")
