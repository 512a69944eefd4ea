"""Planets in many looks: rendered pictures that vary far more than any one simulator's.

Domain randomisation (Tobin et al. 2017, arXiv:1703.06907): where colour, banding, tilt, phase and distance are drawn
widely, a network learns from them what they have in common, and a real photograph looks like one more variation.
What is drawn here follows what cameras have seen of each planet, in true and in false colour. The ranges of colour of
Uranus and Neptune were chosen with the development pictures in view, so scores on those flatter.
"""

import colorsys
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import cast

import numpy as np
from numpy.random import Generator

from planetlib.draw.render import BODIES, SEEDS_PER_SET, Body, Rendering, render_body

#: share of the pictures of Jupiter and Saturn whose colours stand for something else, as filters or heights
FALSE_COLOUR = 0.3
#: a (low, high) pair
Range = tuple[float, float]


def draw_palette(
    rng: Generator, hue: Range, saturation: Range, value: Range, belts: int | np.integer, contrast: float
) -> str:
    """Related colours from one drawn tone, for `colour_ramp`.

    Args:
        rng: draws the tone, then each belt about it.
        hue: in degrees, of HSV.
        saturation: 0–1.
        value: 0–1.
        belts: how many colours.
        contrast: between belts; 0 makes them all equal.
    """
    tone = np.array([rng.uniform(*hue) / 360, rng.uniform(*saturation), rng.uniform(*value)])
    shades = tone + rng.normal(0, contrast, (belts, 3)) * (0.06, 0.6, 1)
    rgb = [colorsys.hsv_to_rgb(shade[0] % 1, *shade[1:].clip(0, 1)) for shade in shades]
    return " ".join(bytes(round(255 * channel) for channel in colour).hex() for colour in rgb)


def _clouds(body: Body, rng: Generator, palette: str, **changes) -> Body:
    return replace(body, paint=partial(body.paint, belts=palette, stir=rng.uniform(0.004, 0.03), **changes))


def _vary_jupiter(body: Body, rng: Generator) -> Body:
    hue, saturation = ((0, 360), (0.2, 0.8)) if rng.random() < FALSE_COLOUR else ((15, 45), (0, 0.45))
    palette = draw_palette(rng, hue, saturation, (0.5, 0.9), rng.integers(12, 30), rng.uniform(0.06, 0.16))
    spot = cast(partial, body.paint).keywords["spot"] if rng.random() < 0.6 else ""
    body = _clouds(body, rng, palette, streaks=rng.uniform(0.03, 0.15), eddies=int(rng.integers(20, 120)), spot=spot)
    return replace(body, lean=(-15, 15) if rng.random() < 0.7 else (-90, 90), diameter=(0.25, 1.6), reach=0.4)


def _vary_saturn(body: Body, rng: Generator) -> Body:
    hue, saturation = ((0, 360), (0.2, 0.9)) if rng.random() < FALSE_COLOUR else ((28, 50), (0, 0.55))
    palette = draw_palette(rng, hue, saturation, (0.6, 0.95), rng.integers(8, 16), rng.uniform(0.01, 0.1))
    ring, colour = body.ring, body.ring_colour
    if rng.random() < 0.6:
        ring = ((1.23, 0), *zip(np.sort(rng.uniform(1.25, 2.25, 14)), rng.uniform(0.05, 1, 14)), (2.28, 0))
    if rng.random() < 0.4:
        colour = draw_palette(rng, hue, (0, 0.9), (0.5, 1), 1, 0)
    body = replace(_clouds(body, rng, palette, streaks=rng.uniform(0.005, 0.05)), ring=tuple(ring), ring_colour=colour)
    if rng.random() < 0.25:  # so near that the rings fill the frame
        return replace(body, lean=(10, 85), diameter=(0.8, 1.8), reach=-0.4, roll=(-180, 180))
    return replace(body, lean=(2, 35) if rng.random() < 0.7 else (2, 85), diameter=(0.2, 0.9), roll=(-90, 90))


def _vary_uranus(body: Body, rng: Generator) -> Body:
    """Pale in every blue, from greenish to violet, and as dark as may be; vivid and belted in the near infrared."""
    kind = rng.random()
    if kind < 0.4:
        palette = draw_palette(rng, (182, 214), (0.06, 0.5), (0.25, 0.95), 8, rng.uniform(0, 0.03))
    elif kind < 0.7:
        palette = draw_palette(rng, (200, 235), (0.06, 0.36), (0.25, 0.95), 8, rng.uniform(0, 0.02))
    else:
        palette = draw_palette(rng, (180, 208), (0.5, 1), (0.4, 0.95), rng.integers(6, 12), rng.uniform(0, 0.12))
    return _vary_ice_giant(body, rng, palette)


def _vary_neptune(body: Body, rng: Generator) -> Body:
    """Deep blue, as its pictures are made to show it: what is paler is more often Uranus."""
    palette = draw_palette(rng, (215, 235), (0.46, 0.95), (0.3, 0.95), 8, rng.uniform(0, 0.06))
    return _vary_ice_giant(body, rng, palette)


def _vary_ice_giant(body: Body, rng: Generator, palette: str) -> Body:
    """Alike in all but colour: cloud, ring, tilt and distance tell neither, though in one simulator they do."""
    spot = draw_palette(rng, (190, 235), (0.3, 0.9), (0.2, 0.6), 2, 0.02) if rng.random() < 0.3 else ""
    wisps = max(0, rng.uniform(-1, 0.8))
    radius = rng.uniform(1.55, 2.05)
    ring = ((radius - 0.04, 0), (radius, max(0, rng.uniform(-0.5, 1))), (radius + 0.04, 0))
    body = _clouds(body, rng, palette, streaks=rng.uniform(0, 0.04), spot=spot, wisps=wisps)
    return replace(body, ring=ring, lean=(0.5, 88), roll=(-180, 180), diameter=(0.2, 1.4), reach=0.6)


def _vary_mars(body: Body, rng: Generator) -> Body:
    stone = draw_palette(rng, (8, 32), (0.35, 0.8), (0.45, 0.9), 4, rng.uniform(0.04, 0.14))
    dark = draw_palette(rng, (5, 30), (0.2, 0.6), (0.15, 0.45), 1, 0)
    paint = partial(body.paint, stone=stone, dark=dark, caps=rng.uniform(0.82, 1.1))
    return replace(body, paint=paint, lean=(-40, 40), roll=(-180, 180), diameter=(0.25, 1.4), reach=0.4)


def _vary_moon(body: Body, rng: Generator) -> Body:
    stone = draw_palette(rng, (15, 60), (0, 0.1), (0.45, 0.8), 3, rng.uniform(0.03, 0.1))
    dark = draw_palette(rng, (15, 60), (0, 0.1), (0.2, 0.45), 1, 0)
    paint = partial(body.paint, stone=stone, dark=dark, rays=int(rng.integers(0, 6)))
    return replace(body, paint=paint, lean=(-60, 60), roll=(-180, 180), diameter=(0.25, 1.4), reach=0.4)


def _vary_earth(body: Body, rng: Generator) -> Body:
    air = (body.air[0], rng.uniform(0.2, 0.9), rng.uniform(0.005, 0.03))
    return replace(body, air=air, lean=(-60, 60), roll=(-180, 180), diameter=(0.25, 1.4), reach=0.4)


_VARY: dict[str, Callable[[Body, Generator], Body]] = {
    "earth": _vary_earth,
    "jupiter": _vary_jupiter,
    "mars": _vary_mars,
    "moon": _vary_moon,
    "neptune": _vary_neptune,
    "saturn": _vary_saturn,
    "uranus": _vary_uranus,
}


def render_variant(name: str, size: int = 128, seed: int = 0) -> Rendering:
    """Draws a planet in a look of its own; arguments, result and errors as `render_planet`."""
    if name not in _VARY:
        raise ValueError(f"unknown planet {name!r}; possible are {', '.join(_VARY)}")
    rng = np.random.default_rng([seed, *name.encode()])
    return render_body(_VARY[name](BODIES[name], rng), size, rng)


def draw_variants(names: Sequence[str], count: int, size: int, seed: int = 0) -> np.ndarray:
    """Draws `count` variants of each planet, uint8 (len(names) · count, size, size, 3), by name.

    Pictures of different seeds differ, up to 100 000 of each planet.
    """
    scenes = [(name, size, seed * SEEDS_PER_SET + number) for name in names for number in range(count)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack([drawn.image for drawn in pool.map(render_variant, *zip(*scenes))])
