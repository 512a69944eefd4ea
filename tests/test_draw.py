"""Drawn pictures: reproducible, well masked, from maps whose sources are told, and what they are meant to be."""

import re

import cv2
import numpy as np
import pandas as pd
import pytest

from planetlib.draw.camera import Habit, draw_view
from planetlib.draw.embedded import write_embedded_sets
from planetlib.draw.globe import Body, Rings, View, render_body, turn_axes
from planetlib.draw.outliers import OUTLIERS, draw_outlier, draw_outliers
from planetlib.draw.planets import PLANETS, draw_planet, draw_planets
from planetlib.draw.sky import SKIES
from planetlib.draw.surface import MAPS, draw_tone, grade_colours, load_map
from planetlib.settings import FIXTURE

GREY = Body(np.full((64, 128, 3), 0.5, np.float32))


def front(**changes) -> View:
    view = {"radius": 0.8, "centre": (0.0, 0.0), "axes": turn_axes(0, 0, 0), "sun": np.float32((0, 0, 1))}
    return View(**{**view, **changes})


def test_every_map_has_its_source_terms_and_credit_line():
    rows = re.findall(r"^\| (\S+\.\w+) \| (.+) \| (.+) \| (.+) \|$", (MAPS / "README.md").read_text(), re.MULTILINE)
    files = [path for path in MAPS.iterdir() if path.name != "README.md"]
    assert sorted(row[0] for row in rows) == sorted(path.name for path in files)
    assert all(cell.strip() for row in rows for cell in row)
    assert all("CC BY" in terms for name, _, terms, _ in rows if "_scope" in name)


@pytest.mark.parametrize("name", [*PLANETS, *OUTLIERS])
def test_seed_settles_every_pixel(name):
    def draw(seed: int) -> tuple:
        return draw_planet(name, 64, seed) if name in PLANETS else (draw_outlier(name, 64, seed),)

    first, other, again = draw(3), draw(4), draw(3)
    assert first[0].shape == (64, 64, 3) and first[0].dtype == np.uint8
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert np.abs(first[0].astype(int) - other[0]).mean() > 1


def test_a_set_holds_these_numbers_of_each_in_order_and_another_seed_another_set():
    images, masks = draw_planets(("mars", "saturn"), range(2, 4), 32, seed=1)
    assert images.shape == (4, 32, 32, 3) and masks.shape == (4, 32, 32)
    np.testing.assert_array_equal(images[3], draw_planet("saturn", 32, 100_003).image)
    assert not np.array_equal(images, draw_planets(("mars", "saturn"), range(2, 4), 32, seed=2).image)
    drawn = draw_outliers(("sun", "venus"), range(3, 5), 32, seed=1)
    np.testing.assert_array_equal(drawn[3], draw_outlier("venus", 32, 100_004))


@pytest.mark.parametrize("name", PLANETS)
def test_a_plain_planet_is_whole_and_bright_before_a_dark_sky(name):
    for seed in range(6):
        image, mask = draw_planet(name, 64, seed, plain=True)
        assert mask.shape == (64, 64) and mask.dtype == bool
        assert 0.05 < mask.mean() < 0.9
        assert image[mask].mean() > 30 + image[~mask].mean()
        assert not mask[[0, -1]].all() and not mask[:, [0, -1]].all()


def test_the_mask_is_the_disc_and_size_changes_only_the_resolution():
    for size in (48, 192):
        _, alpha = render_body(GREY, front(radius=0.5, centre=(0.25, 0.0)), size)
        assert (alpha > 0.5).mean() == pytest.approx(np.pi / 16, rel=0.03)
        assert np.argwhere(alpha > 0.5).mean(0) == pytest.approx([size / 2 - 0.5, size * 0.625 - 0.5], abs=0.1)


def test_a_flattened_body_is_wider_than_high():
    _, alpha = render_body(Body(GREY.surface, flattening=0.1), front(), 128)
    rows, columns = (alpha > 0.5).any(1).sum(), (alpha > 0.5).any(0).sum()
    assert rows / columns == pytest.approx(0.9, abs=0.02)


def test_the_map_faces_the_viewer_with_north_up_and_east_to_the_right():
    surface = np.zeros((64, 128, 3), np.float32)
    surface[:32, :, 0], surface[:, 64:, 1] = 1, 1  # the north in red, the east in green
    light, _ = render_body(Body(surface, minnaert=0.5), front(), 64)
    north_west, south_east = light[20, 20], light[43, 43]
    assert north_west[0] > 0.5 > north_west[1] and south_east[1] > 0.5 > south_east[0]
    # The pole leant towards the viewer is seen in the upper half.
    light, _ = render_body(Body(surface, minnaert=0.5), front(axes=turn_axes(60, 0, 0)), 64)
    assert light[40, 20, 0] > 0.5


def test_the_sun_lights_the_side_it_stands_on():
    light, alpha = render_body(GREY, front(sun=np.float32((1, 0, 0))), 64)
    assert light[32, 50].min() > 0.1 and light[32, 14].max() == 0
    assert alpha[32, 14] == 1  # the night side hides the sky all the same


def test_the_moon_mostly_shows_its_near_side():
    seas = load_map("moon_scope").mean(2)
    near, far = seas[128:384, 256:768].mean(), seas[128:384, np.r_[:256, 768:1024]].mean()
    assert near < far - 5  # the maria lie in the middle of the map
    habit = Habit(longitude=0, free=0.2)
    ahead = np.array([draw_view(np.random.default_rng(seed), habit).axes[2] for seed in range(60)])
    assert np.mean(np.abs(np.rad2deg(np.arctan2(ahead[:, 0], ahead[:, 2]))) < 20) > 0.7


def test_rings_may_be_seen_without_their_planet():
    rings = Rings(np.ones((8, 4), np.float32), 1.2, 2.2)
    view = front(radius=2, centre=(3.4, 0.0), axes=turn_axes(30, 0, 0), sun=turn_axes(30, 0, 0)[2])
    light, alpha = render_body(GREY._replace(rings=rings), view, 32)
    assert alpha.max() == 1 and light.max() > 0.5
    light, alpha = render_body(GREY, view, 32)
    assert alpha.max() == light.max() == 0


def test_rings_make_saturn_wider_than_a_disc():
    def elongation(name):  # ratio of the longest to the shortest axis of the mask, from its second moments
        masks = [draw_planet(name, 64, seed, plain=True).mask for seed in range(7)]
        short, long = np.transpose([np.linalg.eigvalsh(np.cov(np.argwhere(mask).T)) for mask in masks])
        return np.median(np.sqrt(long / short))

    assert elongation("saturn") > 1.3 and elongation("mars") < 1.05


def test_colours_are_in_order():
    colours = pd.DataFrame(columns=["red", "green", "blue"], index=PLANETS, dtype=float)
    for name in PLANETS:
        drawn = [draw_planet(name, 64, seed, plain=True) for seed in range(8)]
        colours.loc[name] = np.mean([image[mask].mean(0) for image, mask in drawn], 0)
    red, green, blue = (colours[name] for name in colours)
    warm, cold = ["mars", "jupiter", "saturn"], ["neptune", "uranus", "earth"]
    assert (red > green)[warm].all() and (green > blue)[warm].all() and (blue > red)[cold].all()
    assert (red / blue).idxmax() == "mars" and (blue / red).idxmax() == "neptune"
    assert abs(red.moon / blue.moon - 1) < 0.15 and green.uranus / blue.uranus > 0.85


def test_what_shines_has_no_night_side():
    shining = GREY._replace(shines=True)
    left, right = (render_body(shining, front(sun=np.float32((side, 0, 0))), 64)[0] for side in (-1, 1))
    np.testing.assert_array_equal(left, right)
    assert left[32, 14].min() > 0.1


def test_grading_keeps_the_mean_and_takes_or_gives_colour():
    surface = np.random.default_rng(0).random((8, 16, 3), np.float32)
    np.testing.assert_allclose(grade_colours(surface), surface, atol=1e-5)
    flat = grade_colours(surface, contrast=0.5)
    np.testing.assert_allclose(flat.mean((0, 1)), surface.mean((0, 1)), atol=1e-5)
    assert flat.std() < 0.6 * surface.std()
    assert np.ptp(grade_colours(surface, saturation=0), axis=2).max() < 1e-5
    red, green, blue = draw_tone(np.random.default_rng(0), (200, 200), (1, 1), (0.5, 0.5))
    assert red == 0 and 0 < green < blue == pytest.approx(0.5)


@pytest.mark.parametrize("sky", SKIES)
def test_skies_fill_the_frame(sky):
    drawn = sky(np.random.default_rng(0), 32)
    assert drawn.shape == (32, 32, 3) and np.isfinite(drawn).all() and drawn.min() >= 0


def test_an_unknown_name_says_what_is_possible():
    with pytest.raises(ValueError, match="unknown planet 'pluto'.*earth"):
        draw_planet("pluto")
    with pytest.raises(ValueError, match="vulcan"):
        draw_outlier("vulcan")


def test_the_embedded_pictures_are_those_that_are_drawn_anew(tmp_path):
    write_embedded_sets(tmp_path)
    drawn, stored = ({path.relative_to(top): path for path in top.rglob("*.*")} for top in (tmp_path, FIXTURE.parent))
    assert sorted(drawn) == sorted(path for path in stored if path.name != "README.md")
    assert sum(path.stat().st_size for path in [*stored.values(), *MAPS.iterdir()]) < 3_500_000
    for name in sorted(drawn)[::9]:  # another processor may round another way
        pictures = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (drawn[name], stored[name])]
        assert pictures[0] is None is pictures[1] or np.abs(np.subtract(*pictures, dtype=float)).mean() < 1, name
