"""The seven planets, each in the many looks in which it is published.

Where colours and features are drawn widely, a network learns from them what they have in common, and a photograph looks
like one more variation (domain randomisation, Tobin et al. 2017, arXiv:1703.06907). With `plain`, a painter leaves out
what stands for something else, as filters or heights.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import cv2
import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from planetlib.draw.camera import Drawn, Habit, hang_pictures, take_picture
from planetlib.draw.globe import Air, Body, Rings
from planetlib.draw.surface import (
    LUMA,
    Range,
    blend_maps,
    draw_noise,
    draw_ratio,
    draw_sign,
    draw_streaks,
    draw_tone,
    grade_colours,
    latitudes,
    load_map,
    mix_colours,
    ramp_colours,
    smooth_step,
    tint_surface,
)

#: pictures of each planet, or of each kind of outliers, that seeds keep apart
SEEDS_PER_SET = 100_000
MOONS = "ganymede enceladus rhea dione tethys mimas ariel charon titan ceres vesta".split()


def _paint_earth(rng: Generator, width: int, plain: bool = False) -> Body:
    ground = blend_maps(rng, width, "earth", "earth_scope")
    sea = smooth_step(ground[..., 2] - ground[..., 0], 0.02, 0.12)
    water = draw_tone(rng, (195, 232), (0.45, 0.95), (0.15, 0.6))
    ground = grade_colours(ground, rng.normal(0, 5), draw_ratio(rng, 0.8, 1.6), draw_ratio(rng, 0.7, 1.4))
    ground = mix_colours(ground * rng.uniform(0.7, 1.3), water, sea * rng.uniform(0.3, 1))
    # The air lies blue over all that is dark.
    ground = mix_colours(ground, draw_tone(rng, (205, 225), (0.4, 0.8), (0.4, 0.9)), rng.uniform(0, 0.35))
    if plain or rng.random() < 0.85:
        cover = blend_maps(rng, width, "earth_clouds_scope")[:: draw_sign(rng), :, 0]
        cover = np.roll(cover, rng.integers(cover.shape[1]), 1) ** draw_ratio(rng, 0.5, 1.6) * rng.uniform(0.5, 1.3)
        ground = mix_colours(ground, draw_tone(rng, (200, 220), (0, 0.04), (0.85, 1)), cover.clip(0, 1))
    air = Air(draw_tone(rng, (200, 220), (0.4, 0.8), (0.6, 1)), rng.uniform(0.1, 0.9), draw_ratio(rng, 0.004, 0.03))
    return Body(ground, 0.003, rng.uniform(0.7, 1.1), 0.3, air)


def _paint_jupiter(rng: Generator, width: int, plain: bool = False) -> Body:
    clouds = blend_maps(rng, width, "jupiter", "jupiter_scope")
    if not plain and rng.random() < 0.08:  # filters that the eye has not
        clouds = grade_colours(clouds, rng.uniform(-110, 110), rng.uniform(1, 4), rng.uniform(0.8, 1.5))
    else:
        clouds = grade_colours(clouds, rng.normal(0, 7), draw_ratio(rng, 0.5, 2.6), draw_ratio(rng, 0.6, 1.7))
        warm = draw_tone(rng, (15, 45), (0.1, 0.6), (0.7, 1))
        clouds = mix_colours(clouds, clouds * warm, rng.uniform(0, 1))
    if rng.random() < 0.6:
        clouds = _add_spots(rng, clouds, int(rng.integers(0, 12)), 65)
        if not plain and rng.random() < 0.6:  # poles without belts, as Juno sees them
            hues = (210, 25, 215, 30)
            tones = [
                draw_tone(rng, (hue, hue), (0.1, 0.6), (0.2 + 0.2 * i, 0.4 + 0.2 * i)) for i, hue in enumerate(hues)
            ]
            height, width = clouds.shape[:2]
            chaos = draw_noise(rng, height, width, int(rng.integers(3, 6)), 5, 0.7)
            share = smooth_step(np.abs(latitudes(clouds)), rng.uniform(-90, 40), 60) * rng.uniform(0.3, 1)
            clouds = mix_colours(clouds, ramp_colours(np.repeat(chaos[..., None], 3, 2), tones), share)
        clouds = stir_clouds(rng, clouds, draw_ratio(rng, 2, 40))
    if rng.random() < 0.45:
        clouds = tint_poles(rng, clouds, draw_tone(rng, (175, 240), (0.1, 0.6), (0.4, 0.8)), (35, 60))
    return Body(clouds, 0.065, rng.uniform(0.7, 1.3))


def _paint_saturn(rng: Generator, width: int, plain: bool = False) -> Body:
    clouds, false = blend_maps(rng, width, "saturn", "saturn_scope"), not plain and rng.random() < 0.12
    if false:
        # Any hue but Uranus' own.
        clouds = grade_colours(clouds, rng.uniform(-180, 90), rng.uniform(2, 6), rng.uniform(1, 2))
    else:
        clouds = grade_colours(clouds, rng.normal(0, 7), draw_ratio(rng, 0.4, 2.2), draw_ratio(rng, 0.6, 2.5))
        clouds = clouds * draw_tone(rng, (20, 50), (0, 0.35), (0.6, 1))
    if rng.random() < 0.2:
        clouds = tint_poles(rng, clouds, draw_tone(rng, (190, 240), (0.1, 0.5), (0.4, 0.8)), (10, 50))
    colour, opacity = np.split(load_map("saturn_rings")[0] / np.float32(255), [3], 1)
    shade = (colour @ LUMA)[:, None] * draw_tone(rng, (25, 50), (0, 0.4), (1, 1))
    # Ringlets are the brighter the denser they are.
    colour = mix_colours(colour, shade, rng.uniform(0.3, 1)) * (0.4 + 0.6 * opacity ** rng.uniform(0, 2))
    colour = (colour * rng.uniform(1.2, 2)).clip(0, 1)
    if false or (not plain and rng.random() < 0.08):
        tones = [draw_tone(rng, (0, 360), (0, 1), (0.2, 1)) for _ in range(rng.integers(3, 12))]
        colour = cv2.resize(np.stack(tones)[:, None], (1, len(colour)))[:, 0]
    rings = Rings(np.hstack((colour, opacity ** draw_ratio(rng, 0.5, 1.6))), 1.236, 2.329)
    return Body(clouds, 0.098, rng.uniform(0.7, 1.2), rings=rings)


def _paint_mars(rng: Generator, width: int, plain: bool = False) -> Body:
    ground = blend_maps(rng, width, "mars", "mars_scope")
    ground = grade_colours(ground, rng.normal(4, 6), draw_ratio(rng, 0.5, 1.3), draw_ratio(rng, 0.5, 1.5))
    ground = ground * draw_tone(rng, (10, 40), (0, 0.3), (0.7, 1.1))
    lat, luma = latitudes(ground), ground @ LUMA
    if rng.random() < 0.4:  # the ice of winter
        edge = rng.uniform(58, 84)
        ice = smooth_step(lat * draw_sign(rng) + 25 * (luma - luma.mean()), edge, edge + 4)
        ground = mix_colours(ground, draw_tone(rng, (20, 40), (0, 0.04), (0.9, 1)), ice)
    if rng.random() < 0.35:
        cover = draw_streaks(rng, ground, 1) * smooth_step(np.abs(lat), rng.uniform(-40, 40), 90)
        ground = mix_colours(ground, draw_tone(rng, (200, 230), (0, 0.25), (0.7, 1)), cover * rng.uniform(0.2, 0.9))
    if not plain and rng.random() < 0.03:
        ground = ramp_colours(ground, [draw_tone(rng, (h, h), (0.6, 1), (0.5, 1)) for h in (270, 220, 160, 60, 20, 0)])
    hue = (200, 230) if rng.random() < 0.3 else (10, 40)
    air = Air(draw_tone(rng, hue, (0.1, 0.5), (0.5, 1)), max(0, rng.uniform(-0.3, 0.6)), draw_ratio(rng, 0.003, 0.015))
    return Body(ground, 0.006, rng.uniform(0.6, 1.1), rng.uniform(0, 1), air)


def _paint_moon(rng: Generator, width: int, plain: bool = False) -> Body:
    ground, chance = blend_maps(rng, width, "moon", "moon_scope"), 0.5 if plain else rng.random()
    # At times the colours of its minerals, made stronger.
    saturation = rng.uniform(3, 10) if chance > 0.9 else rng.uniform(0, 1.5)
    ground = grade_colours(ground, 0, saturation, draw_ratio(rng, 0.7, 1.7))
    if chance < 0.1:  # low above the horizon, or in the earth's shadow
        ground = ground * draw_tone(rng, (10, 45), (0.2, 0.8), (0.8, 1))
    elif chance < 0.25:
        ground = ground * draw_tone(rng, (200, 225), (0.05, 0.4), (0.8, 1))
    return Body(ground, 0, rng.uniform(0.4, 0.8), rng.uniform(0, 1))


def _paint_uranus(rng: Generator, width: int, plain: bool = False) -> Body:
    """Pale and even to the eye, from greenish to grey and blue; vivid, belted and ringed in the near infrared."""
    clouds = blend_maps(rng, width, "uranus", "uranus_scope")
    kind = "pale" if plain else rng.choice(("pale", "grey", "vivid", "infrared"), p=(0.25, 0.32, 0.36, 0.07))
    hue, saturation, value, contrast, rings = {
        "pale": ((172, 206), (0.05, 0.36), (0.7, 1), (0, 0.6), 0.25),
        "grey": ((195, 214), (0.05, 0.45), (0.25, 0.9), (0, 1), 0.25),
        "vivid": ((168, 204), (0.4, 1), (0.4, 0.95), (0.5, 4), 0.75),
        "infrared": ((195, 240), (0.2, 0.7), (0.5, 0.95), (0.5, 4), 0.8),
    }[kind]
    clouds = tint_surface(clouds, draw_tone(rng, hue, saturation, value), rng.uniform(*contrast))
    if kind in ("vivid", "infrared"):
        clouds = _add_belts(rng, clouds, int(rng.integers(0, 5)))
        tint = (150, 210) if kind == "vivid" else (0, 360)
        clouds = tint_poles(rng, clouds, draw_tone(rng, tint, (0, 0.5), (0.8, 1)), (0, 50))
        clouds = _add_spots(rng, clouds, int(rng.integers(0, 6)))
    elif rng.random() < 0.4:
        clouds = tint_poles(rng, clouds, draw_tone(rng, (170, 200), (0, 0.1), (0.9, 1)), (-60, 20))
    air = Air(draw_tone(rng, (180, 210), (0.1, 0.4), (0.8, 1)), max(0, rng.uniform(-0.3, 0.4)), 0.008)
    return Body(clouds, 0.023, rng.uniform(0.7, 1.15), 0, air, _draw_thin_rings(rng, rings))


def _paint_neptune(rng: Generator, width: int, plain: bool = False) -> Body:
    """Deep blue as its pictures were made to show it, or pale as it is, with dark spots, belts and white wisps.

    Where hue and features do not tell it from Uranus, nothing does: there the two overlap.
    """
    clouds = blend_maps(rng, width, "neptune", "neptune_scope")
    kind = "deep" if plain else rng.choice(("deep", "pale", "azure", "infrared"), p=(0.5, 0.25, 0.2, 0.05))
    hue, saturation, value, wisps = {
        "deep": ((214, 236), (0.5, 0.92), (0.35, 0.98), 0.5),
        "pale": ((215, 226), (0.24, 0.52), (0.5, 0.9), 0.9),
        "azure": ((203, 216), (0.6, 1), (0.55, 0.98), 0.85),
        "infrared": ((192, 240), (0.5, 0.9), (0.4, 0.9), 0.9),
    }[kind]
    clouds = tint_surface(clouds, draw_tone(rng, hue, saturation, value), rng.uniform(1, 2.8))
    if kind == "azure" or rng.random() < 0.2:
        clouds = _add_belts(rng, clouds, int(rng.integers(0, 4)))
    if rng.random() < wisps:
        band = np.exp(-(((latitudes(clouds) - rng.uniform(-60, 40)) / rng.uniform(4, 30)) ** 2)) * rng.uniform(0.3, 1)
        cover = draw_streaks(rng, clouds, int(rng.integers(2, 6))) ** rng.uniform(1, 2.5)
        odd = kind == "infrared"
        white = draw_tone(rng, (300, 360) if odd else (200, 220), (0.4, 0.9) if odd else (0, 0.05), (0.9, 1))
        clouds = _add_spots(rng, mix_colours(clouds, white, cover * band), int(rng.integers(0, 4)))
    if not plain and rng.random() < 0.15:
        clouds = stir_clouds(rng, clouds, rng.uniform(2, 20))
    air = Air(draw_tone(rng, (200, 225), (0.2, 0.6), (0.8, 1)), max(0, rng.uniform(-0.3, 0.5)), 0.01)
    return Body(clouds, 0.017, rng.uniform(0.7, 1.2), 0, air, _draw_thin_rings(rng, 0 if plain else 0.15))


def paint_moon(rng: Generator, width: int) -> Body:
    """Any moon or dwarf planet, in stone and ice of its own or another colour."""
    ground = blend_maps(rng, width, str(rng.choice(MOONS)))
    ground = grade_colours(ground, 0, rng.uniform(0, 2), draw_ratio(rng, 0.6, 1.8))
    if rng.random() < 0.3:
        ground = ground * draw_tone(rng, (0, 360), (0, 0.7), (0.7, 1.2))
    return Body(ground, 0, rng.uniform(0.5, 1.1), rng.uniform(0, 1))


def stir_clouds(rng: Generator, clouds: Array, strength: float) -> Array:
    """Eddies, mostly towards the poles, where maps have none; strength in thousandths of the eddies' size."""
    height, width = clouds.shape[:2]
    u, v = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    where = smooth_step(np.abs(latitudes(clouds)), rng.uniform(-90, 30), 70)
    for first in rng.integers(3, 6, 2).tolist():
        # Along the contours of one field, and so round its hills: nothing is torn.
        south, east = np.gradient(draw_noise(rng, height, width, first, 3) * where)
        reach = strength / 1000 * height * height / 2**first
        drawn = (u - reach * south, v + reach * east)
        clouds = cv2.remap(clouds, *drawn, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return clouds


def tint_poles(rng: Generator, clouds: Array, tone: Array, start: Range) -> Array:
    """Another tone, from some latitude on, towards one pole or both; features stay."""
    lat = latitudes(clouds)
    lat = lat * draw_sign(rng) if rng.random() < 0.6 else np.abs(lat)
    return mix_colours(
        clouds, tint_surface(clouds, tone), smooth_step(lat, rng.uniform(*start), 85) * rng.uniform(0.1, 0.9)
    )


def _add_belts(rng: Generator, clouds: Array, count: int) -> Array:
    """Bright and dark belts, blue to white."""
    for _ in range(count):
        belt = np.exp(-(((latitudes(clouds) - rng.uniform(-70, 70)) / draw_ratio(rng, 2, 25)) ** 2))
        clouds = mix_colours(clouds, draw_tone(rng, (170, 225), (0, 0.9), (0.3, 1)), rng.uniform(0.1, 0.8) * belt)
    return clouds


def _add_spots(rng: Generator, clouds: Array, count: int, most: float = 50) -> Array:
    """Small white clouds up to some latitude, drawn out along the parallels."""
    lat, lon = latitudes(clouds), np.linspace(-180, 180, clouds.shape[1], dtype=np.float32)
    for _ in range(count):
        breadth = rng.uniform(1, 5)
        north, east = (lat - rng.uniform(-most, most)) / breadth, (lon - rng.uniform(-120, 120)) / breadth
        spot = np.exp(-(north**2) - (east / rng.uniform(1, 5)) ** 2)
        clouds = mix_colours(clouds, 1, spot * rng.uniform(0.3, 1))
    return clouds


def _draw_thin_rings(rng: Generator, share: float) -> Rings | None:
    """Rings as those of Uranus: threads, of which the outermost is the brightest."""
    if rng.random() > share:
        return None
    profile = np.zeros((120, 4), np.float32)
    profile[:, :3] = draw_tone(rng, (0, 360), (0, 0.4), (0.4, 1))
    for place in rng.integers(0, 110, rng.integers(0, 6)):
        profile[place : place + rng.integers(1, 4), 3] = rng.uniform(0.1, 0.6)
    profile[rng.integers(108, 118) : 119, 3] = rng.uniform(0.2, 1)
    if rng.random() < 0.5:  # as painters have it: a broad band
        profile[rng.integers(30, 100) : 118, 3] += rng.uniform(0.05, 0.6)
    return Rings(profile.clip(0, 1), 1.5, rng.uniform(1.9, 2.05))


#: name → what paints the body, and how pictures show it
_PLANETS: dict[str, tuple[Callable[..., Body], Habit]] = {
    "earth": (_paint_earth, Habit(lean=50, grey=0.02)),
    "jupiter": (_paint_jupiter, Habit(near=0.25, free=0.35, lean=8, grey=0.12)),
    "mars": (_paint_mars, Habit(lean=30, grey=0.02)),
    "moon": (_paint_moon, Habit(lean=8, longitude=0, near=0.12, free=0.35, grey=0.4)),
    "neptune": (_paint_neptune, Habit(lean=40, grey=0, faithful=1)),
    "saturn": (_paint_saturn, Habit(reach=2.3, ringed=True, lean=28, grey=0.15)),
    "uranus": (_paint_uranus, Habit(reach=1.3, ringed=True, lean=20, free=0.45, grey=0, faithful=1)),
}
PLANETS = tuple(_PLANETS)


def draw_planet(name: str, size: int = 224, seed: int = 0, plain: bool = False) -> Drawn:
    """Draws a picture of a planet.

    Args:
        name: one of `PLANETS`.
        size: width and height in pixels.
        seed: non-negative; the same arguments always give the same pixels.
        plain: the whole planet in its usual colours, well lit, before stars.

    Raises:
        ValueError: the name is not one of `PLANETS`.
    """
    if name not in _PLANETS:
        raise ValueError(f"unknown planet {name!r}; possible are {', '.join(PLANETS)}")
    rng = np.random.default_rng([seed, *name.encode()])
    paint, habit = _PLANETS[name]
    if plain:
        return take_picture(rng, partial(paint, plain=True), habit, size, plain=True)
    if rng.random() < 0.02:
        return hang_pictures([take_picture(rng, paint, habit, size // 2) for _ in range(rng.integers(2, 5))], size)
    return take_picture(rng, paint, habit, size, moon=paint_moon if rng.random() < 0.08 else None)


def draw_planets(names: Sequence[str], numbers: range, size: int, seed: int = 0, plain: bool = False) -> Drawn:
    """Draws the pictures of these numbers of each planet, by name: uint8 (N, size, size, 3) and bool (N, size, size).

    Pictures of different seeds differ, up to 100 000 of each planet.
    """
    drawn = draw_each(partial(draw_planet, plain=plain), names, numbers, size, seed)
    images, masks = zip(*drawn)
    return Drawn(np.stack(images), np.stack(masks))


def draw_each(draw: Callable, names: Sequence[str], numbers: Iterable[int], size: int, seed: int) -> list:
    """What `draw` makes of each name and number, by name."""
    scenes = [(name, size, seed * SEEDS_PER_SET + number) for name in names for number in numbers]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(draw, *zip(*scenes)))
