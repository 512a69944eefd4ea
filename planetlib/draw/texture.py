"""Noise, colour and relief on a sphere, from which `render` paints its planets.

Points are unit vectors or near, float32 (N, 3); colours are linear RGB, 0–1.
"""

from itertools import product

import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

LATTICE = 16  # nodes along each side of the noise's repeating cube
GAMMA = 2.2  # of displays: linear light = (value / 255) ** GAMMA


def colour_ramp(values: Array | float, palette: str, low: float = 0, high: float = 1) -> Array:
    """Linear RGB (..., 3) of values (...); a palette is colours evenly spread from low to high."""
    table = np.array([list(bytes.fromhex(colour)) for colour in palette.split()]) / 255
    places = np.linspace(low, high, len(table))
    channels = [np.interp(values, places, channel) for channel in table.T**GAMMA]
    return np.stack(channels, -1).astype(np.float32)


def smooth_step(values: Array, low: float, high: float) -> Array:
    """Smooth step from 0 (at low) to 1 (at high)."""
    t = ((values - low) / (high - low)).clip(0, 1)
    return t * t * (3 - 2 * t)


def mix_colours(below: Array, above: Array | str, amount: Array) -> Array:
    """Colours (..., 3) of which a share (...) is covered by others."""
    above = colour_ramp(0, above) if isinstance(above, str) else above
    return below + (above - below) * amount[..., None]


def fractal_noise(points: Array, rng: Generator, scale: float, octaves: int = 5, flat: float = 1) -> Array:
    """Fractal value noise (N,), mean 0, deviation about 1; ``flat`` draws it out along parallels.

    The lattice fills space: no seam, no pole. Each octave is turned, to hide the lattice's axes.
    """
    lattice = rng.standard_normal((LATTICE,) * 3, dtype=np.float32)
    corners = [np.roll(lattice, s, (0, 1, 2)).ravel() for s in product((0, -1), repeat=3)]
    total = np.zeros(len(points), np.float32)
    for octave in range(octaves):
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] * ((1,), (flat,), (1,)) * scale * 2**octave
        place = points @ np.float32(turn) + np.float32(rng.uniform(0, LATTICE, 3))
        cell = np.floor(place)
        index = (cell.astype(np.int32) % LATTICE) @ np.array((LATTICE**2, LATTICE, 1), np.int32)
        values = np.stack([corner[index] for corner in corners])
        for near in smooth_step(place - cell, 0, 1).T.copy():
            low, high = np.split(values, 2)
            values = low + (high - low) * near
        total += values[0] * np.float32(1.6 * 0.5**octave)
    return total


def random_centres(rng: Generator, count: int) -> Array:
    """Random unit vectors, float32 (count, 3), on the half +z that the viewer sees most of."""
    centres = rng.normal(size=(count, 3)).astype(np.float32)
    centres[:, 2] = np.abs(centres[:, 2])
    return centres / np.linalg.norm(centres, axis=1, keepdims=True)


def twirl_points(points: Array, rng: Generator, count: int, size: float, turn: float) -> Array:
    """Points (N, 3) turned about random centres, fading outwards: the eddies of an atmosphere."""
    points = points.copy()
    for centre in random_centres(rng, count):
        width, most = np.array(rng.uniform((0.4 * size, 0.5 * turn), (size, turn)), np.float32)
        inside = np.flatnonzero(points @ centre > 1 - 3 * width**2)
        p, hemisphere = points[inside], np.sign(centre[1])
        along = (p @ centre)[:, None] * centre
        angle = hemisphere * most * np.exp(-((p - centre) ** 2).sum(1) / width**2)[:, None]
        # Rodrigues' rotation formula.
        points[inside] = along + (p - along) * np.cos(angle) + np.cross(centre, p) * np.sin(angle)
    return points


def cratered_heights(points: Array, rng: Generator, rough: float, depth: float, count: int, size: float):
    """Heights (N,) in radii: rough ground with bowls whose sizes follow a power law."""
    height = rough * fractal_noise(points, rng, 5, 4)
    for centre in random_centres(rng, count):
        radius = min(size * rng.uniform(0.01, 1) ** -0.5, 0.15)
        inside = np.flatnonzero(points @ centre > 1 - 2 * radius**2)
        away = np.linalg.norm(points[inside] - centre, axis=1) / radius
        bowl = np.where(away < 1, np.maximum(1.25 * away**2 - 1, -0.6), 0.25 * np.exp(4 - 4 * away))
        height[inside] += depth * rng.uniform(0.3, 1) * radius * bowl
    return height
