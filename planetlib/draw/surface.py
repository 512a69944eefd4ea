"""Surfaces of planets and moons, from maps that were made of what probes saw.

A surface is an equirectangular picture, float32 (H, 2 H, 3), 0–1 as displays have it: longitude -180…180° from left to
right, latitude 90…-90° from top to bottom. `maps/README.md` says where each map is from.
"""

import colorsys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

MAPS = Path(__file__).parent / "maps"
GAMMA = 2.2  # of displays: linear light = value ** GAMMA
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
#: 0–255 as displays have it → linear light
LINEAR = ((np.arange(256) / 255) ** GAMMA).astype(np.float32)
#: a (low, high) pair
Range = tuple[float, float]


def draw_ratio(rng: Generator, low: float, high: float) -> float:
    """A factor, evenly distributed in its logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def draw_sign(rng: Generator) -> int:
    """-1 or 1."""
    return 1 if rng.random() < 0.5 else -1


def draw_tone(rng: Generator, hue: Range, saturation: Range, value: Range) -> Array:
    """One RGB colour (3,), of HSV; hue in degrees."""
    h, s, v = rng.uniform(*hue) / 360 % 1, rng.uniform(*saturation), rng.uniform(*value)
    return np.array(colorsys.hsv_to_rgb(h, s, v), np.float32)


def smooth_step(values: Array, low: float, high: float) -> Array:
    """Smooth step from 0 (at low) to 1 (at high)."""
    t = ((values - float(low)) / float(high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def draw_noise(rng: Generator, height: int, width: int, first: int = 1, octaves: int = 6, rough: float = 0.5) -> Array:
    """Fractal noise (height, width), mean 0, deviation about 1; `first` is the octave of its largest features."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        nodes = 2 ** (first + octave)
        grid = rng.standard_normal((min(nodes, height), min(nodes, width)), np.float32)
        total += np.float32(rough**octave) * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return total


@cache
def load_map(name: str) -> Array:
    """A map as it lies in the folder, uint8 (H, W, 3), or (1, W, 4) of rings."""
    path = next(MAPS.glob(f"{name}.*"))
    pixels: Any = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def blend_maps(rng: Generator, width: int, *names: str) -> Array:
    """A mixture of a body's maps, as published ones differ, not wider than the widest."""
    shares = rng.dirichlet(np.full(len(names), 0.7)).astype(np.float32)
    width = min(width, max(load_map(name).shape[1] for name in names))
    blend = np.zeros((width // 2, width, 3), np.float32)
    for share, name in zip(shares, names):
        blend += share / 255 * cv2.resize(load_map(name), (width, width // 2), interpolation=cv2.INTER_AREA)
    return blend


def grade_colours(surface: Array, hue: float = 0, saturation: float = 1, contrast: float = 1) -> Array:
    """Hue turned (degrees) and saturation and contrast times a factor, as published pictures differ."""
    turn = np.deg2rad(hue)
    # About the grey axis (Rodrigues' rotation formula), then away from or towards it.
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    turned = np.cos(turn) * np.eye(3) + np.sin(turn) * cross + (1 - np.cos(turn)) / 3
    grey = np.tile(LUMA, (3, 1))
    matrix = contrast * ((turned - grey @ turned) * saturation + grey)
    middle = surface.mean((0, 1))
    shifted = cv2.transform(surface, matrix.astype(np.float32))
    return shifted + np.float32((matrix @ middle) * (1 / contrast - 1))


def tint_surface(surface: Array, tone: Array, contrast: float = 1) -> Array:
    """The same features, lighter and darker, in one colour."""
    luma = surface @ LUMA
    return tone * (1 + contrast * (luma / luma.mean() - 1)).clip(0, 1 / tone.max())[..., None]


def ramp_colours(surface: Array, tones: Sequence[Array]) -> Array:
    """False colours: the surface's brightness, from its darkest to its brightest, as tones (3,), one after another."""
    luma = surface @ LUMA
    low, high = np.quantile(luma[::4, ::4], (0.01, 0.99))
    fine = cv2.resize(np.stack(tones).astype(np.float32)[None], (256, 1), interpolation=cv2.INTER_LINEAR)[0]
    return fine[((luma - low) / max(high - low, 1e-3) * 255).clip(0, 255).astype(np.uint8)]


def latitudes(surface: Array) -> Array:
    """Latitude in degrees of each row, (H, 1)."""
    height = len(surface)
    return (90 - (np.arange(height, dtype=np.float32) + 0.5) / height * 180)[:, None]


def mix_colours(below: Array, above: Array | float, amount: Array | float) -> Array:
    """Colours (..., 3) of which a share, a number or (...), is covered by others."""
    return below + (above - below) * np.asarray(amount, np.float32)[..., None]


def draw_streaks(rng: Generator, surface: Array, stretch: int) -> Array:
    """White clouds for a surface, a share 0–1 (H, W): a part of the earth's, drawn out along the parallels."""
    cover = load_map("earth_clouds_scope")[..., 0]
    part = cover.shape[1] // (2 * stretch)
    left = rng.integers(cover.shape[1] - part)
    strip = cover[:, left : left + part]
    # Beside its mirror image it has no seam.
    return cv2.resize(np.hstack((strip, strip[:, ::-1])), surface.shape[1::-1]) / np.float32(255)
