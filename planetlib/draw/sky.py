"""What lies behind a body, and what is written over it, in published pictures.

A sky is encoded for displays, float32 (size, size, 3), 0–1; what is brighter than 1 is cut off where it is used.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from planetlib.draw.surface import draw_noise, draw_ratio, draw_tone, mix_colours, smooth_step

WORDS = (
    "Planet Jupiter Saturn Mars Earth Neptune Uranus Moon NASA JPL ESA Hubble Voyager Cassini north 1989 2 km".split()
)


def draw_black(rng: Generator, size: int) -> Array:
    """Black, or nearly."""
    return np.full((size, size, 3), max(0, rng.uniform(-0.1, 0.1)), np.float32)


def draw_stars(rng: Generator, size: int) -> Array:
    """Few bright stars, many faint ones, faintly coloured."""
    sky = np.zeros((size, size, 3), np.float32)
    count = int(draw_ratio(rng, 15, 600))
    x, y = rng.integers(0, size, (2, count))
    rank, warmth = rng.random((2, count))
    cold, warm = np.array(((0.6, 0.7, 1), (1, 0.75, 0.5)), np.float32)
    sky[y, x] = mix_colours(cold, warm, warmth)
    sky[y, x] *= (0.06 / (0.04 + rank)).clip(0, 1.5)[:, None]
    return cv2.GaussianBlur(sky, (0, 0), rng.uniform(0.4, 0.8) * max(1, size / 224)) * rng.uniform(1, 3)


def draw_gradient(rng: Generator, size: int) -> Array:
    """Shaded off to one side, or outwards, in two related tones, bright or dark."""
    hue = rng.uniform(0, 330)
    one, other = (draw_tone(rng, (hue, hue + 30), (0, 0.8), (0, 0.9)) for _ in range(2))
    x, y = _frame(size)
    angle, middle = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.6, 2)
    across = np.cos(angle) * x + np.sin(angle) * y if rng.random() < 0.5 else np.hypot(x - middle[0], y - middle[1]) - 1
    return mix_colours(one, other, smooth_step(across, -1, 1))


def draw_nebula(rng: Generator, size: int) -> Array:
    """Stars behind glowing gas of two tones."""
    hue = rng.uniform(180, 330) if rng.random() < 0.7 else rng.uniform(0, 360)
    sky = draw_stars(rng, size)
    for turn in (0, rng.uniform(-60, 60)):
        gas = smooth_step(draw_noise(rng, size, size), rng.uniform(-1.5, 0), 3)
        sky = sky + gas[..., None] * draw_tone(rng, (hue + turn, hue + turn), (0.3, 0.9), (0.2, 0.9))
    return sky


def draw_milky_way(rng: Generator, size: int) -> Array:
    """A band of light across stars."""
    x, y = _frame(size)
    angle = rng.uniform(0, np.pi)
    across = (np.cos(angle) * x + np.sin(angle) * y - rng.uniform(-0.7, 0.7)) / rng.uniform(0.15, 0.5)
    band = np.exp(-(across**2)) * (0.5 + 0.25 * draw_noise(rng, size, size)).clip(0)
    return draw_stars(rng, size) + band[..., None] * draw_tone(rng, (0, 360), (0, 0.5), (0.1, 0.6))


def draw_plain(rng: Generator, size: int) -> Array:
    """White, a grey or a colour."""
    vivid = rng.choice((0, 0.1, 0.8), p=(0.4, 0.4, 0.2))
    return np.tile(draw_tone(rng, (0, 360), (0, vivid), (0.1 if vivid else 1, 1)), (size, size, 1))


def draw_chequers(rng: Generator, size: int) -> Array:
    """The pattern that stands for nothing in pictures that were cut out."""
    squares = np.arange(size) // max(2, int(size * rng.uniform(0.012, 0.05)))
    even = (squares[:, None] + squares) % 2
    return np.where(even[..., None], np.float32(1), np.float32(rng.uniform(0.75, 0.95))).repeat(3, 2)


#: what draws a sky, and how often
SKIES: dict[Callable[[Generator, int], Array], float] = {
    draw_black: 0.42,
    draw_stars: 0.22,
    draw_plain: 0.12,
    draw_nebula: 0.08,
    draw_gradient: 0.07,
    draw_milky_way: 0.05,
    draw_chequers: 0.04,
}


def draw_sky(rng: Generator, size: int) -> Array:
    """Any of the skies."""
    return list(SKIES)[rng.choice(len(SKIES), p=list(SKIES.values()))](rng, size)


def write_labels(image: Array, rng: Generator) -> None:
    """Puts captions, arrows and boxes into a picture, uint8 (size, size, 3), in place."""
    size = len(image)
    colour = rng.choice(([255] * 3, [255, 220, 60], [30] * 3, [200] * 3)).tolist()
    for kind in rng.choice(("text", "arrow", "box"), rng.integers(1, 4), p=(0.5, 0.25, 0.25)):
        x, y = rng.integers(0, size, 2).tolist()
        if kind == "text":
            text, place = (
                " ".join(rng.choice(WORDS, rng.integers(1, 4))),
                (x // 2, int(size * rng.choice((0.06, 0.97)))),
            )
            scale = size / 224 * rng.uniform(0.25, 0.7)
            cv2.putText(image, text, place, int(rng.integers(0, 4)), scale, colour, 1, cv2.LINE_AA)
        elif kind == "arrow":
            tip = (np.array((x, y)) + rng.uniform(-0.2, 0.2, 2) * size).astype(int).tolist()
            cv2.arrowedLine(image, (x, y), tip, colour, 1, cv2.LINE_AA, tipLength=0.2)
        else:
            cv2.rectangle(image, (x, y), (x + size // 4, y + size // 5), colour, 1)


def _frame(size: int) -> Sequence[Array]:
    """Places across and down, -1 to 1, each (size, size)."""
    return np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32),) * 2)
