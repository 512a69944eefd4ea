"""Pictures of none of the planets: what a classifier is shown so that it learns to say «none of these».

Other bodies of the solar system, drawn and photographed as the planets are, and things that are no body at all:
photographs of the ground, noise, gradients, stars. Outlier exposure (Hendrycks et al. 2019, arXiv:1812.04606).
"""

from collections.abc import Callable, Sequence
from functools import cache

import cv2
import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from sklearn.datasets import load_sample_images

from planetlib.draw.camera import Habit, Painter, take_picture
from planetlib.draw.globe import Air, Body
from planetlib.draw.planets import draw_each, paint_moon
from planetlib.draw.sky import SKIES, draw_black
from planetlib.draw.surface import (
    blend_maps,
    draw_noise,
    draw_ratio,
    draw_tone,
    grade_colours,
    mix_colours,
    ramp_colours,
)


def _paint_mercury(rng: Generator, width: int) -> Body:
    """Grey to brown, at times in enhanced colour; rays all over and no dark seas."""
    ground = blend_maps(rng, width, "mercury", "mercury_scope")
    ground = grade_colours(ground, 0, rng.uniform(0, 2), draw_ratio(rng, 0.7, 2.2)) * draw_tone(
        rng, (15, 50), (0, 0.35), (0.7, 1.1)
    )
    if rng.random() < 0.15:
        tones = [draw_tone(rng, (hue, hue + 40), (0.1, 0.7), (0.4, 1)) for hue in (200, 30, 180, 40)]
        ground = mix_colours(ground, ramp_colours(ground, tones), rng.uniform(0.3, 1))
    return Body(ground, 0, rng.uniform(0.5, 1), rng.uniform(0.2, 1.5))


def _paint_venus(rng: Generator, width: int) -> Body:
    """Cream cloud, streaked in the ultraviolet, or the ground as radar sees it: orange, grey or by height."""
    if rng.random() < 0.4:
        clouds = blend_maps(rng, width, "venus_atmosphere_scope")
        clouds = grade_colours(clouds, rng.normal(0, 8), draw_ratio(rng, 0.15, 1.6), draw_ratio(rng, 0.2, 2.5))
        return Body(clouds * rng.uniform(0.8, 1.2), 0, rng.uniform(0.7, 1.2))
    ground = blend_maps(rng, width, "venus_surface_scope")
    chance = rng.random()
    if chance < 0.15:
        ground = ramp_colours(ground, [draw_tone(rng, (h, h), (0.5, 1), (0.4, 1)) for h in (240, 180, 120, 50, 0)])
    saturation = 0 if chance > 0.85 else draw_ratio(rng, 0.5, 1.5)
    ground = grade_colours(ground, rng.normal(-6, 10), saturation, draw_ratio(rng, 0.7, 1.8))
    return Body(ground * rng.uniform(0.7, 1.1), 0, rng.uniform(0.3, 0.9), rng.uniform(0, 0.6))


def _paint_pluto(rng: Generator, width: int) -> Body:
    """Beige to reddish ice and tar in large patches, one of them bright."""
    ground = grade_colours(blend_maps(rng, width, "pluto"), 0, rng.uniform(0, 1.6), draw_ratio(rng, 0.7, 1.6))
    air = Air(draw_tone(rng, (200, 230), (0.2, 0.6), (0.6, 1)), max(0, rng.uniform(-0.5, 0.4)), 0.01)
    return Body(ground * rng.uniform(0.8, 1.4), 0, rng.uniform(0.5, 1), rng.uniform(0, 0.8), air)


def _paint_sun(rng: Generator, width: int) -> Body:
    """A glowing ball in the colour of some filter, with spots and bright regions, before its corona."""
    glow = blend_maps(rng, width, "sun_scope")
    hue = rng.uniform(0, 60 if rng.random() < 0.6 else 360)
    tones = [draw_tone(rng, (hue, hue), (0, 1), (0.3, 1)) for _ in range(2)]
    if rng.random() < 0.6:
        glow = ramp_colours(glow, [tones[0] * rng.uniform(0, 0.5), *tones, np.ones(3)])
    glow = grade_colours(glow, rng.normal(0, 8), rng.uniform(0.5, 1.2), draw_ratio(rng, 0.1, 1.5))
    # Visible light darkens towards the limb; what the corona sends brightens.
    air = Air(tones[1], rng.uniform(0, 1), draw_ratio(rng, 0.01, 0.2))
    return Body(glow, 0, rng.uniform(0.7, 1.6), 0, air, shines=True)


def _draw_ground(rng: Generator, size: int) -> Array:
    """A crop of the photographs that scikit-learn ships, in half of the pictures on a disc before black."""
    picture = _sample_photographs()[rng.integers(2)]
    side = int(rng.uniform(80, min(picture.shape[:2])))
    top, left = rng.integers(0, np.array(picture.shape[:2]) - side)
    crop = cv2.resize(picture[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        disc = np.zeros((size, size), np.uint8)
        cv2.circle(disc, (size // 2, size // 2), int(size * rng.uniform(0.2, 0.5)), 255, -1, cv2.LINE_AA)
        crop = (crop * (disc / 255)[..., None]).astype(np.uint8)
    return np.ascontiguousarray(crop)


def _draw_texture(rng: Generator, size: int) -> Array:
    """Skies without a body, noise and fog in any colour."""
    if rng.random() < 0.5:
        kinds = [kind for kind in SKIES if kind is not draw_black]
        picture = kinds[rng.integers(len(kinds))](rng, size)
    elif rng.random() < 0.2:
        picture = rng.random((size, size, 3))
    else:
        tones = [draw_tone(rng, (0, 360), (0, 1), (0, 1)) for _ in range(4)]
        fog = draw_noise(rng, size, size, int(rng.integers(0, 4)), int(rng.integers(1, 7)), rng.uniform(0.4, 0.9))
        picture = ramp_colours(np.repeat(fog[..., None], 3, 2), tones)
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)


@cache
def _sample_photographs() -> list[Array]:
    return load_sample_images().images


#: kind → what draws the body, and how pictures show it
_BODIES: dict[str, tuple[Painter, Habit]] = {
    "mercury": (_paint_mercury, Habit(near=0.35, free=0.4, grey=0.4)),
    "venus": (_paint_venus, Habit(near=0.25, free=0.4)),
    "sun": (_paint_sun, Habit(near=0.3)),
    "pluto": (_paint_pluto, Habit(near=0.1, free=0.5)),
    "moons": (paint_moon, Habit(free=0.3, grey=0.2)),
}
#: kind → what draws a picture: generator, size → uint8 (size, size, 3)
_SCENES: dict[str, Callable[[Generator, int], Array]] = {"ground": _draw_ground, "texture": _draw_texture}
OUTLIERS = (*_BODIES, *_SCENES)


def draw_outlier(kind: str, size: int = 224, seed: int = 0) -> Array:
    """Draws a picture of a kind in `OUTLIERS`: uint8 (size, size, 3); the same arguments give the same pixels.

    Raises:
        ValueError: the kind is not one of `OUTLIERS`.
    """
    if kind not in OUTLIERS:
        raise ValueError(f"unknown kind {kind!r}; possible are {', '.join(OUTLIERS)}")
    rng = np.random.default_rng([seed, *kind.encode()])
    if kind in _SCENES:
        return _SCENES[kind](rng, size)
    return take_picture(rng, *_BODIES[kind], size).image


def draw_outliers(kinds: Sequence[str], numbers: range, size: int, seed: int = 0) -> Array:
    """Draws the pictures of these numbers of each kind, uint8 (len(kinds) · len(numbers), size, size, 3), by kind."""
    return np.stack(draw_each(draw_outlier, kinds, numbers, size, seed))
