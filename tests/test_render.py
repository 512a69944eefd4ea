"""The drawn planets: reproducible, well masked, coloured like their models, as committed."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from planetlib.draw.render import PLANETS, render_planet, write_rendered_set

FIXTURE = Path(__file__).parents[1] / "data" / "fixture"


def read(path):
    return cv2.imread(str(path)).astype(float)


@pytest.mark.parametrize("name", PLANETS)
def test_seed_settles_every_pixel(name):
    first = render_planet(name, 64, seed=3)
    render_planet("mars", 64, seed=8)
    again, other = render_planet(name, 64, seed=3), render_planet(name, 64, seed=4)
    assert np.array_equal(first.image, again.image) and np.array_equal(first.mask, again.mask)
    assert np.abs(first.image.astype(int) - other.image).mean() > 1


@pytest.mark.parametrize("size", [48, 96])
def test_shapes_and_types(size):
    drawn = render_planet("saturn", size, seed=1)
    assert drawn.image.shape == (size, size, 3) and drawn.image.dtype == np.uint8
    assert drawn.mask.shape == (size, size) and drawn.mask.dtype == bool


@pytest.mark.parametrize("name", PLANETS)
def test_mask_covers_the_bright_part(name):
    for seed in range(6):
        drawn = render_planet(name, 64, seed)
        assert 0.05 < drawn.mask.mean() < 0.9
        inside, outside = drawn.image[drawn.mask], drawn.image[~drawn.mask]
        assert inside.mean() > 30 + outside.mean()


def test_size_changes_only_the_resolution():
    small, large = (render_planet("moon", size, seed=2).mask for size in (48, 192))
    shrunk = cv2.resize(large.astype(np.float32), (48, 48), interpolation=cv2.INTER_AREA) > 0.5
    assert (small != shrunk).mean() < 0.03


def elongation(mask):
    """Ratio of the longest to the shortest axis of the masked area, from its second moments."""
    short, long = np.linalg.eigvalsh(np.cov(np.argwhere(mask).T))
    return np.sqrt(long / short)


def test_rings_make_saturn_wider_than_a_disc():
    for seed in range(6):
        assert elongation(render_planet("saturn", 64, seed).mask) > 1.3
        assert elongation(render_planet("mars", 64, seed).mask) < 1.05


def test_colours_are_in_order():
    def mean_colour(name):
        drawn = [render_planet(name, 64, seed) for seed in range(6)]
        return np.mean([each.image[each.mask].mean(0) for each in drawn], 0)

    red, green, blue = np.transpose([mean_colour(name) for name in PLANETS])
    at = PLANETS.index
    for warm in ("mars", "jupiter", "saturn"):
        assert red[at(warm)] > green[at(warm)] > blue[at(warm)]
    for cold in ("neptune", "uranus", "earth"):
        assert blue[at(cold)] > red[at(cold)]
    assert np.argmax(red / blue) == at("mars") and np.argmax(blue / red) == at("neptune")
    assert abs(red[at("moon")] / blue[at("moon")] - 1) < 0.1
    assert green[at("uranus")] / blue[at("uranus")] > 0.9


def test_unknown_name_says_what_is_possible():
    with pytest.raises(ValueError, match="unknown planet 'pluto'.*earth, jupiter, mars"):
        render_planet("pluto")


def test_committed_fixture_is_what_the_code_draws(tmp_path):
    written = [path.relative_to(tmp_path) for path in write_rendered_set(tmp_path)]
    committed = sorted(FIXTURE.rglob("*.jpg"))
    assert written == [path.relative_to(FIXTURE) for path in committed]
    assert sum(path.stat().st_size for path in committed) < 1_000_000
    for path in written:
        assert np.abs(read(tmp_path / path) - read(FIXTURE / path)).mean() < 1, path
