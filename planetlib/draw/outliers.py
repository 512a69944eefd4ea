"""Pictures of none of the planets: what a classifier is shown so that it learns to say «none of these».

Other bodies of the solar system in many looks, drawn as `variety` draws the planets, and things that are no body at
all: photographs of the ground, noise, gradients, stars. Outlier exposure (Hendrycks et al. 2019, arXiv:1812.04606).
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator
from sklearn.datasets import load_sample_images

from planetlib.draw.render import BODIES, SEEDS_PER_SET, Body, render_body
from planetlib.draw.texture import GAMMA, colour_ramp, fractal_noise
from planetlib.draw.variety import draw_palette

#: where a body may stand: from a distant disc to a close-up that fills the frame, any way up
PLACE: dict[str, Any] = {"lean": (-60, 60), "roll": (-180, 180), "diameter": (0.25, 2), "reach": 0.4}


def _draw_mercury(size: int, rng: Generator) -> Array:
    """Grey to brown stone, at times in enhanced colour, with craters and rays all over and no dark seas."""
    enhanced = rng.random() < 0.2
    hue, saturation = ((200, 400), (0.05, 0.5)) if enhanced else ((15, 50), (0, 0.25))
    stone = draw_palette(rng, hue, saturation, (0.3, 0.75), 3, rng.uniform(0.02, 0.1))
    relief = (rng.uniform(0.001, 0.008), rng.uniform(0.1, 1), int(rng.integers(60, 250)), rng.uniform(0.01, 0.03))
    paint = partial(BODIES["moon"].paint, stone=stone, dark=stone.split()[1], rays=int(rng.integers(2, 20)))
    body = replace(BODIES["moon"], paint=paint, relief=relief, minnaert=rng.uniform(0.6, 1.1))
    return render_body(replace(body, **PLACE), size, rng).image


def _draw_venus(size: int, rng: Generator) -> Array:
    """Cream cloud with hardly a feature, streaked in the ultraviolet, or the orange ground that radar sees."""
    kind = rng.random()
    if kind < 0.4:
        tones = (
            f"{draw_palette(rng, (10, 40), saturation, value, 1, 0)}"
            for saturation, value in (((0.6, 1), (0.05, 0.4)), ((0.5, 1), (0.5, 0.8)), ((0.1, 0.7), (0.9, 1)))
        )
        paint = partial(_paint_lava, palette=" ".join(tones))
        body = Body(paint, rng.uniform(0.4, 1), relief=(rng.uniform(0, 0.004), 0.2, int(rng.integers(0, 30)), 0.02))
    else:
        hue, saturation = ((25, 60), (0.02, 0.6)) if kind < 0.85 else ((0, 360), (0, 0.5))
        palette = draw_palette(rng, hue, saturation, (0.6, 0.98), rng.integers(3, 9), rng.uniform(0, 0.08))
        stir, streaks = rng.uniform(0.03, 0.15), rng.uniform(0, 0.06)
        paint = partial(BODIES["saturn"].paint, belts=palette, stir=stir, streaks=streaks)
        body = replace(BODIES["jupiter"], paint=paint, squash=(1, 1, 1), minnaert=rng.uniform(0.8, 1.3))
    return render_body(replace(body, **PLACE), size, rng).image


def _paint_lava(points: Array, rng: Generator, palette: str) -> Array:
    """Dark plains under a bright web of ridges: the rough ground sends radar back."""
    height = fractal_noise(points, rng, rng.uniform(1.2, 3), 6)
    web = 1 - np.abs(fractal_noise(points, rng, rng.uniform(1.2, 3), 5))
    return colour_ramp(height + rng.uniform(0, 1.2) * web, palette, -1.5, 2)


def _draw_pluto(size: int, rng: Generator) -> Array:
    """Beige to reddish ice and tar in large patches, one of them bright."""
    stone = draw_palette(rng, (15, 50), (0.05, 0.5), (0.4, 0.95), 5, rng.uniform(0.05, 0.2))
    dark = draw_palette(rng, (5, 35), (0.2, 0.7), (0.1, 0.4), 1, 0)
    paint = partial(BODIES["mars"].paint, stone=stone, dark=dark, caps=rng.uniform(0.2, 1), rays=0)
    relief = (rng.uniform(0.001, 0.004), rng.uniform(0.1, 0.4), int(rng.integers(0, 80)), 0.015)
    body = replace(
        BODIES["moon"], paint=paint, relief=relief, minnaert=rng.uniform(0.7, 1.1), air=("8fa8c8", 0.2, 0.01)
    )
    return render_body(replace(body, **PLACE), size, rng).image


def _draw_moons(size: int, rng: Generator) -> Array:
    """Stone and ice of any colour, as Io, Titan, Europa or Callisto."""
    stone = draw_palette(rng, (0, 360), (0, 0.8), (0.3, 0.95), 4, rng.uniform(0.02, 0.25))
    paint = partial(BODIES["mars"].paint, stone=stone, dark=draw_palette(rng, (0, 360), (0, 0.8), (0.1, 0.5), 1, 0))
    paint = partial(paint, caps=rng.uniform(0.6, 1.5), rays=int(rng.integers(0, 3)))
    return render_body(replace(BODIES["mars"], paint=paint, **PLACE), size, rng).image


def _draw_sun(size: int, rng: Generator) -> Array:
    """A glowing ball in the colour of some filter: grains, spots, bright regions, a corona with tongues of fire."""
    radius, centre = rng.uniform(0.3, 1.8), rng.uniform(-0.3, 0.3, 2)
    x, y = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32),) * 2)
    x, y = (x - centre[0]) / radius, (y - centre[1]) / radius
    away = np.hypot(x, y)
    inside = away < 1
    rise = np.sqrt((1 - away**2).clip(0))
    points = np.dstack((x, y, rise)).reshape(-1, 3)
    grains = fractal_noise(points, rng, rng.uniform(6, 14), 4) * rng.uniform(0.05, 0.5)
    regions = fractal_noise(points, rng, rng.uniform(1.5, 4), 4)
    light = (
        0.55
        + 0.25 * grains
        + rng.uniform(0, 0.5) * (regions - 1).clip(0)
        - rng.uniform(0, 0.4) * (-1.5 - regions).clip(0)
    )
    # Visible light darkens towards the limb; what the corona sends brightens.
    light = light.reshape(size, size) * (1 + rng.uniform(-0.6, 0.4) * (1 - rise))
    flames = fractal_noise(np.dstack((x / away.clip(0.1), y / away.clip(0.1), 0.3 * away)).reshape(-1, 3), rng, 3, 4)
    corona = np.exp(-(away - 1).clip(0) / rng.uniform(0.02, 0.3)) * (0.3 + 0.2 * flames.reshape(size, size))
    hue = rng.uniform(5, 55) if rng.random() < 0.7 else rng.uniform(0, 360)
    vivid = draw_palette(rng, (hue, hue), (0.7, 1), (0.6, 1), 1, 0)
    ramp = f"000000 {vivid} {draw_palette(rng, (hue, hue + 15), (0, 0.6), (0.95, 1), 1, 0)}"
    glow = colour_ramp(np.where(inside, light, rng.uniform(0, 0.9) * corona), ramp)
    return _encode(glow)


def _draw_ground(size: int, rng: Generator) -> Array:
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


def _draw_texture(size: int, rng: Generator) -> Array:
    """Noise, fog, gradients and stars in any colour: no body at all."""
    x, y = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32),) * 2)
    points = np.dstack((x, y, 0 * x)).reshape(-1, 3)
    kind = rng.integers(4)
    if kind == 0:
        return rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    if kind == 1:  # stars
        sky = (rng.random((size, size, 1)) < rng.uniform(0.0005, 0.01)) * rng.uniform(0.3, 1, (size, size, 3))
        return _encode(cv2.GaussianBlur(sky.astype(np.float32), (0, 0), rng.uniform(0.4, 1.2)) * 4)
    if kind == 2:
        values = fractal_noise(points, rng, rng.uniform(0.5, 8), int(rng.integers(1, 7))).reshape(size, size)
    else:
        angle = rng.uniform(0, 2 * np.pi)
        values = np.cos(angle) * x + np.sin(angle) * y
    return _encode(
        colour_ramp(values, draw_palette(rng, (0, 360), (0, 1), (0, 1), 4, rng.uniform(0.1, 0.6)), -1.5, 1.5)
    )


@lru_cache(maxsize=1)
def _sample_photographs() -> list[Array]:
    return load_sample_images().images


def _encode(light: Array) -> Array:
    return (255 * light.clip(0, 1) ** (1 / GAMMA)).round().astype(np.uint8)


#: kind → what draws it: size, generator → uint8 (size, size, 3)
OUTLIERS: dict[str, Callable[[int, Generator], Array]] = {
    "mercury": _draw_mercury,
    "venus": _draw_venus,
    "sun": _draw_sun,
    "pluto": _draw_pluto,
    "moons": _draw_moons,
    "ground": _draw_ground,
    "texture": _draw_texture,
}


def draw_outlier(kind: str, size: int = 128, seed: int = 0) -> Array:
    """Draws a picture of a kind in `OUTLIERS`: uint8 (size, size, 3); the same arguments give the same pixels."""
    return OUTLIERS[kind](size, np.random.default_rng([seed, *kind.encode()]))


def draw_outliers(kinds: Sequence[str], numbers: range, size: int, seed: int = 0) -> Array:
    """Draws the pictures of these numbers of each kind, uint8 (len(kinds) · len(numbers), size, size, 3), by kind."""
    scenes = [(kind, size, seed * SEEDS_PER_SET + number) for kind in kinds for number in numbers]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(draw_outlier, *zip(*scenes))))
