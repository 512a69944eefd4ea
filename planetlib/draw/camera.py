"""How bodies are photographed and published, apart from what they are: view, light, sky, camera and what came after."""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from planetlib.draw.globe import Body, View, render_body, turn_axes
from planetlib.draw.sky import draw_sky, draw_stars, write_labels
from planetlib.draw.surface import GAMMA, LUMA, draw_noise, draw_ratio

#: paints a body with a surface of about the given width in pixels
Painter = Callable[[Generator, int], Body]


class Drawn(NamedTuple):
    """A drawn picture, RGB, uint8 (size, size, 3), and its mask, bool (size, size): on the body, lit or not, and on
    dense rings. Of several, both have one dimension more."""

    image: Array
    mask: Array


class Habit(NamedTuple):
    """How pictures show a kind of body; angles in degrees.

    Attributes:
        reach: radii about its centre that belong into the frame.
        ringed: seen from the sunlit side of its rings, mostly.
        near: share of close-ups.
        free: share of views from anywhere, so that poles are seen.
        lean: otherwise the poles lean so far, to the viewer or away, at most.
        longitude: that faces the viewer but in free views; None where any does.
        grey: share of pictures in black and white.
        faithful: 0–1, how far those who publish keep to the colours, where these tell one body from another.
    """

    reach: float = 1
    ringed: bool = False
    near: float = 0.15
    free: float = 0.2
    lean: float = 25
    longitude: float | None = None
    grey: float = 0.06
    faithful: float = 0


def take_picture(
    rng: Generator, paint: Painter, habit: Habit, size: int, plain: bool = False, moon: Painter | None = None
) -> Drawn:
    """Draws a view, a body and a sky, and photographs them.

    Args:
        rng: draws all that is left open.
        paint: the body.
        habit: how it is shown.
        size: width and height in pixels.
        plain: the whole body, well lit, before stars, with nothing between it and the picture.
        moon: a body to be seen small beside it.
    """
    view = draw_view(rng, habit, plain)
    body = paint(rng, 16 * round(np.clip(2.6 * view.radius * size, 96, 1024) / 16))  # about as fine as the picture
    light, alpha = render_body(body, view, size)
    mask = alpha > 0.3
    if moon is not None:
        axes, (right, up) = turn_axes(0, 0, rng.uniform(-180, 180)), rng.uniform(-0.9, 0.9, 2).tolist()
        small = View(rng.uniform(0.015, 0.08), (right, up), axes, axes.T @ (view.axes @ view.sun))
        beside, cover = render_body(moon(rng, 96), small, size)
        light, alpha = light * (1 - cover)[..., None] + beside, 1 - (1 - alpha) * (1 - cover)
    if plain:
        sky = draw_stars(rng, size).clip(0, 1) ** GAMMA
        return Drawn(_encode((light + sky * (1 - alpha)[..., None]) ** (1 / GAMMA)), mask)
    image = _publish(rng, _photograph(rng, light, alpha, mask, habit))
    if rng.random() < 0.3:  # it was not square: black bars on two sides
        bar, upright = int(size * rng.uniform(0, 0.28)), rng.random() < 0.25
        for picture in (image, mask):
            bars = picture.swapaxes(0, 1) if upright else picture
            bars[:bar] = bars[size - bar :] = 0
    return Drawn(image, mask)


def hang_pictures(parts: list[Drawn], size: int) -> Drawn:
    """Two to four pictures of half the size in one."""
    image, mask, half = np.zeros((size, size, 3), np.uint8), np.zeros((size, size), bool), size // 2
    for number, part in enumerate(parts):
        top, left = half * (number // 2) + (half // 2 if len(parts) == 2 else 0), half * (number % 2)
        image[top : top + half, left : left + half], mask[top : top + half, left : left + half] = part
    return Drawn(image, mask)


def draw_view(rng: Generator, habit: Habit, plain: bool = False) -> View:
    """From where, from how far and in what light a body is seen."""
    if not plain and rng.random() < habit.near:  # a part of it fills the frame
        radius, angle = draw_ratio(rng, 0.8, 2.6), rng.uniform(0, 2 * np.pi)
        away = radius * rng.uniform(0.2, max(0.9, habit.reach - 0.5))
        right, up = float(away * np.cos(angle)), float(away * np.sin(angle))
    else:
        share = rng.uniform(0.6, 1) if plain or rng.random() < 0.65 else draw_ratio(rng, 0.08, 0.7)
        # At times its rings are cut off.
        radius = share / habit.reach ** (1 if plain or rng.random() < 0.65 else rng.uniform(0.3, 1))
        right, up = (rng.uniform(-0.6, 0.6, 2) * max(0.03, 1 - radius * habit.reach)).tolist()
    free = not plain and rng.random() < habit.free
    lean = float(np.rad2deg(np.arcsin(rng.uniform(-1, 1)))) if free else rng.uniform(-1, 1) * habit.lean
    lean = lean if abs(lean) > 0.5 else 0.5  # of rings seen from the side something is left
    roll = rng.uniform(-180, 180) if free or rng.random() < 0.15 else rng.normal(0, 18)
    facing = None if free else habit.longitude
    axes = turn_axes(lean, roll, rng.uniform(-180, 180) if facing is None else rng.normal(facing, 5))
    low, high = ((5, 50), (40, 100), (40, 150))[0 if plain else rng.choice(3, p=(0.65, 0.25, 0.1))]
    phase = np.deg2rad(rng.uniform(low, high))
    # Mostly from the side: planets go round the sun near the plane of their equators.
    around = np.deg2rad(roll + rng.choice((0, 180)) + rng.normal(0, 25))
    sun = (np.sin(phase) * np.cos(around), np.sin(phase) * np.sin(around), np.cos(phase)) @ axes
    sun = sun.astype(np.float32)
    if habit.ringed and rng.random() < 0.92:
        sun[1] = np.copysign(max(abs(sun[1]), 0.03), axes[2, 1])
    ambient = 0 if plain or rng.random() < 0.7 else draw_ratio(rng, 0.003, 0.2)
    return View(radius, (right, up), axes, sun, ambient)


def _photograph(rng: Generator, light: Array, alpha: Array, mask: Array, habit: Habit) -> Array:
    """Telescope, exposure and colours: encoded for displays, float32 (size, size, 3)."""
    size, loose = len(light), 1 - habit.faithful
    if rng.random() < 0.25:  # seeing, of a small telescope, or a small picture made larger
        layers = cv2.GaussianBlur(np.dstack((light, alpha)), (0, 0), draw_ratio(rng, 0.4, 4) * size / 224)
        light, alpha = layers[..., :3], layers[..., 3]
    sky = draw_sky(rng, size).clip(0, 1) ** np.float32(GAMMA)
    # Exposed so that the body is neither dark nor burnt out, but not always with success.
    bright = np.quantile(light[mask].max(1), 0.95) if mask.any() else 1
    aim = rng.uniform(0.6, 1) if rng.random() < 0.75 else draw_ratio(rng, 0.15, 1.6)
    gain = min(aim**GAMMA / max(float(bright), 0.01), 6)
    image = (light * gain + sky * (1 - alpha)[..., None]).clip(0, 1) ** np.float32(draw_ratio(rng, 0.8, 1.3) / GAMMA)
    image *= np.float32(np.exp(rng.normal(0, 0.01 + 0.05 * loose, 3)))
    grey = (image @ LUMA)[..., None]
    vivid = draw_ratio(rng, 0.85 - 0.25 * loose, 1.15 + 0.6 * loose)
    return grey + (image - grey) * (0 if rng.random() < habit.grey else vivid)


def _publish(rng: Generator, image: Array) -> Array:
    """What comes between a picture and who sees it: uint8 (size, size, 3)."""
    size = len(image)
    if rng.random() < 0.12:  # haze, or a black that is none
        haze = rng.uniform(0, 0.15) * (1 + 0.3 * draw_noise(rng, size, size, 0, 2)).clip(0)
        image = image + haze[..., None] * (1 - image)
    if rng.random() < 0.1:  # vignette
        steps = np.linspace(-1, 1, size, dtype=np.float32)
        image = image * (1 - rng.uniform(0.1, 0.35) * (steps[:, None] ** 2 + steps**2))[..., None]
    if rng.random() < 0.3:
        grain = rng.standard_normal((size, size, 1 if rng.random() < 0.5 else 3), np.float32)
        image = image + draw_ratio(rng, 0.005, 0.08) * grain
    image = _encode(image)
    for _ in range(rng.integers(1, 6) if rng.random() < 0.04 else 0):  # tiles or lines that never arrived
        top, left = rng.integers(0, size, 2)
        height, width = (size // 50 + 1, size) if rng.random() < 0.3 else rng.integers(size // 16, size // 3, 2)
        image[top : top + height, left : left + width] = 0
    if rng.random() < 0.08:
        write_labels(image, rng)
    if rng.random() < 0.5:
        _, encoded = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))))
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)  # type: ignore[assignment]
    return image


def _encode(image: Array) -> Array:
    return (image.clip(0, 1) * 255).round().astype(np.uint8)
