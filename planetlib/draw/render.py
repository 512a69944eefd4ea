"""Planets drawn from numbers: pictures for teaching and tests, without any download or licence.

Body axes have the equatorial radius as unit and the north pole along +y; the view has +x right,
+y up and +z towards the viewer. Colours are linear light until the last step. To add a body,
write a row of ``BODIES``: stone like Mercury with ``_rock``, cloud like Venus with ``_clouds``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from numpy import ndarray as Array
from numpy.random import Generator

from planetlib.draw.texture import (
    GAMMA,
    colour_ramp,
    cratered_heights,
    fractal_noise,
    mix_colours,
    random_centres,
    smooth_step,
    twirl_points,
)
from planetlib.files.whole import open_whole

SEEDS_PER_SET = 100_000


@dataclass(frozen=True)
class Rendering:
    """One drawn planet.

    Attributes:
        image: RGB picture, uint8, shape (size, size, 3).
        mask: bool, shape (size, size); True on the body, lit or not, and on dense rings (neither
            on their gaps nor on the thin ring of Uranus).
    """

    image: Array
    mask: Array


@dataclass(frozen=True)
class Body:
    """Recipe of one kind of body; pairs are (low, high), angles in degrees."""

    paint: Callable[..., Array]  # of surface points (N, 3) and a Generator; gives linear RGB (N, 3)
    minnaert: float  # 1 is Lambert, lower is flat as the full Moon, higher darkens the limb
    relief: tuple[float, float, int, float] | None = None  # arguments of cratered_heights
    squash: tuple[float, float, float] = (1, 1, 1)  # 1 / length of each half axis
    diameter: tuple[float, float] = (0.48, 0.9)  # share of the frame
    reach: float = 1.0  # how many radii stay inside the frame
    lean: tuple[float, float] = (-20, 20)  # north pole towards the viewer
    roll: tuple[float, float] = (-35, 35)
    air: tuple[str, float, float] = ("ffffff", 0.0, 0.01)  # colour, strength, height in radii
    ring: tuple[tuple[float, float], ...] = ((0, 0),)  # rows of radius and opacity
    ring_colour: str = "ead9b4"


def _ocean_world(points: Array, rng: Generator) -> Array:
    """Seas, land by dryness and height, ice at the poles, and weather over all of it."""
    height = fractal_noise(points, rng, 1.3, 6) - 0.25
    latitude = np.abs(points[:, 1]) + 0.05 * fractal_noise(points, rng, 4, 3)
    dry = np.exp(-(((latitude - 0.4) / 0.17) ** 2)) + 0.3 * fractal_noise(points, rng, 2.5, 3)
    land = colour_ramp(dry, "1f4a1c 3f652a 7d7a40 b09458 d0ae78", -0.2, 1.1)
    sea = colour_ramp(height, "08204f 0d2b62 123a78 2a6a9c", -1.5, 0)
    ground = mix_colours(sea, land, smooth_step(height, -0.02, 0.06))
    ground = mix_colours(ground, "f2f6fa", smooth_step(latitude - 0.06 * height.clip(-1, 1), 0.84, 0.9))
    eddies = twirl_points(points, rng, 9, 0.3, 2.4)
    cover = fractal_noise(eddies, rng, 2, 6, flat=1.8) + 0.45 * fractal_noise(eddies, rng, 7, 3)
    return mix_colours(ground, "fbfcff", smooth_step(cover + 0.4 * np.cos(6.5 * points[:, 1]), -0.1, 2.3))


def _rock(points: Array, rng: Generator, stone: str, dark: str, caps: float, rays: int) -> Array:
    """Mottled stone with dark plains, ice above the sine of latitude ``caps``, crater rays."""
    ground = colour_ramp(fractal_noise(points, rng, 2.5, 6), stone, -2, 2)
    plains = fractal_noise(twirl_points(points, rng, 10, 0.4, 1.2), rng, 1.4, 5, flat=1.3)
    ground = mix_colours(ground, dark, 0.8 * smooth_step(plains, 0.2, 1.5))
    for centre in random_centres(rng, rays):
        east, north = np.linalg.svd(centre[None])[2][1:]
        away = np.linalg.norm(points - centre, axis=1) / rng.uniform(0.1, 0.3)
        angle = np.arctan2(points @ north, points @ east)
        spokes = sum(np.cos(n * angle + rng.uniform(0, 7)) for n in (5, 8, 13, 21)) / 4
        ground *= 1 + 0.8 * (smooth_step(spokes, 0, 0.8) * np.exp(-away) + np.exp(-25 * away**2))[:, None]
    north = points[:, 1] * rng.choice((-1, 1)) + 0.02 * fractal_noise(points, rng, 5, 3)
    ice = smooth_step(north, caps, caps + 0.04) + 0.9 * smooth_step(-north, caps + 0.05, caps + 0.08)
    return mix_colours(ground.clip(0, 0.9), "f7efe8", ice)


def _clouds(
    points: Array, rng: Generator, belts: str, stir: float, streaks: float,
    eddies: int = 0, spot: str = "", collar: float = 0, wisps: float = 0,
) -> Array:  # fmt: skip
    """Belts (south to north) stirred along the parallels; eddies, an oval spot, white wisps."""
    flow = twirl_points(points, rng, eddies, 0.09, 2.5)
    sine, latitude = points[:, 1], rng.uniform(-0.4, -0.3)
    east = np.arctan2(points[:, 0], points[:, 2]) - rng.uniform(-0.8, 0.8)
    oval = np.hypot(east * np.cos(latitude), 2 * (sine - latitude)) / rng.uniform(0.2, 0.27)
    # Belts swing around a spot: beside it they are sampled nearer to its own latitude.
    flow[:, 1] -= collar * (sine - latitude) * np.exp(-(oval**2) / 2)
    place = flow[:, 1] + stir * fractal_noise(flow, rng, 2.5, flat=4) + rng.uniform(-0.02, 0.02)
    fine = 1 + streaks * fractal_noise(flow, rng, 1.8, 4, flat=14)
    colour = colour_ramp(place, belts, -1, 1) * fine[:, None].clip(0.3, 1.7)
    if spot:
        colour = mix_colours(colour, "efe2cc", collar * np.exp(-(((oval - 1.2) / 0.22) ** 2)))
        tone = colour_ramp(oval + 0.12 * fractal_noise(points, rng, 9, 3), spot)
        colour = mix_colours(colour, tone, 0.9 * smooth_step(oval, 1.15, 0.8))
    if wisps:
        thread = fractal_noise(points, rng, 1.6, flat=12)
        rim = np.exp(-((oval - 1.1) ** 2) * 12) * smooth_step(latitude - sine, 0, 0.1)
        white = np.maximum(smooth_step(thread, 1.5, 3.5), rim * smooth_step(thread, -1.5, 1))
        colour = mix_colours(colour, "eaf2ff", wisps * white)
    return colour


# Ring radii and flattening after NASA's planetary fact sheets; the rest is tuned to the eye.
BODIES = {
    "earth": Body(_ocean_world, 1.0, air=("5f9cf0", 0.75, 0.02)),
    "jupiter": Body(partial(
        _clouds, stir=0.017, streaks=0.1, eddies=60, spot="b04a2c cf8058", collar=0.7, belts=
        "6c6867 7c746f 8a7f78 a0907f b3a08c 9a8270 cdb9a0 a98c72 dccdb8 b08460 946448 b98a63 eadfcb"
        " f1e8d8 c99a70 9a6044 a8724f e2d2b8 d3bf9f a88a6c c9b499 b3a08c 8f847c 857d79 66666a",
    ), 1.2, squash=(1, 1.07, 1), lean=(-6, 6)),
    "mars": Body(partial(
        _rock, stone="8f4f30 b4683f c9804f dca578", dark="57342a", caps=0.9, rays=0,
    ), 0.95, relief=(0.004, 0.25, 40, 0.02), air=("d8a888", 0.3, 0.006)),
    "moon": Body(partial(
        _rock, stone="86837f a9a6a1 cbc8c2", dark="65625f", caps=2, rays=3,
    ), 0.68, relief=(0.004, 0.5, 200, 0.018)),
    "neptune": Body(partial(
        _clouds, stir=0.03, streaks=0.04, spot="142a78 2448a0", wisps=0.85,
        belts="2c50a8 3560c4 2f58bd 4577dc 4c80e2 3a69cf 4374d4 3158b4",
    ), 1.15, squash=(1, 1.017, 1), air=("86b4ff", 0.3, 0.01)),
    "saturn": Body(partial(
        _clouds, stir=0.006, streaks=0.025, belts=
        "8f8468 b8a67c d6c08e c4a873 e0c896 eedcb0 f3e4bd d8bc85 e3cd9c c7ad79 d1bb8b a99b76",
    ), 1.1, squash=(1, 1.109, 1), diameter=(0.35, 0.43), reach=2.28, lean=(8, 27), ring=(
        (1.23, 0), (1.25, 0.1), (1.51, 0.25), (1.53, 0.7), (1.65, 0.8), (1.8, 0.95), (1.94, 0.9),
        (1.955, 0.05), (2.02, 0.05), (2.035, 0.65), (2.2, 0.5), (2.22, 0.1), (2.27, 0.4), (2.28, 0),
    )),
    "uranus": Body(partial(
        _clouds, stir=0.01, streaks=0.006, belts="97d2da 9cd9e0 9ad6de a4dee4 bce9ea c6eeee",
    ), 1.1, squash=(1, 1.023, 1), diameter=(0.38, 0.8), lean=(15, 60), roll=(60, 120),
    air=("c8f4f6", 0.2, 0.008), ring=((1.97, 0), (1.99, 0.25), (2.01, 0.25), (2.03, 0))),
}  # fmt: skip

PLANETS = tuple(sorted(BODIES))


def _stars(size: int, rng: Generator) -> Array:
    """Sky in linear light (size, size, 3): few bright stars, many faint ones, faintly coloured."""
    sky = np.zeros((size, size, 3), np.float32)
    for x, y, rank, warmth in rng.uniform(0, 1, (rng.integers(20, 80), 4)):
        tint = colour_ramp(warmth, "9bb4ff cad8ff ffffff fff1dc ffd2a1 ffb07a")
        sky[int(y * size), int(x * size)] += 0.04 / (0.015 + rank) * tint
    core, halo = (cv2.GaussianBlur(sky, (0, 0), size / width) for width in (560, 140))
    return (core + 0.05 * halo) * (2 * np.pi * (size / 560) ** 2)


def _meet(origin: Array, ray: Array, body: Body) -> tuple[Array, Array]:
    """Way (...) from origins (..., 3) along a direction (3,) to where it leaves the body, and how
    near to the centre (...) the line passes in flattened radii; above 1 it misses the body."""
    squash = np.array(body.squash, np.float32)
    origin, ray = origin * squash, ray * squash
    middle = -(origin @ ray) / (ray @ ray)
    passing = np.linalg.norm(origin + middle[..., None] * ray, axis=-1)
    return middle + np.sqrt((1 - passing**2).clip(0) / (ray @ ray)), passing


def _ring_opacity(points: Array, ray: Array, body: Body) -> tuple[Array, Array]:
    """Way (...) from points (..., 3) along a direction (3,) to the ring plane; opacity there."""
    way = -points[..., 1] / ray[1]
    radius = np.linalg.norm(points + way[..., None] * ray, axis=-1)
    ringlets = 1 + 0.07 * np.sin(90 * radius + 4 * np.sin(23 * radius) + 2 * np.sin(61 * radius))
    radii, shares = np.array(body.ring).T
    opacity = np.interp(radius, radii, shares, 0, 0)
    return way, (opacity * ringlets).clip(0, 0.97)


def _surface(points: Array, ray: Array, light: Array, body: Body, rng: Generator) -> Array:
    """Linear RGB (N, 3) of lit surface points (N, 3)."""
    normals = points * np.square(np.array(body.squash, np.float32))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    incidence, emission = normals @ light, (normals @ ray).clip(0.1, 1)
    if body.relief:
        sunward = points + 0.008 * (light - incidence[:, None] * normals)
        heights = cratered_heights(np.concatenate((points, sunward)), rng, *body.relief)
        slope = np.subtract(*np.split(heights, 2)) / 0.008
        incidence = incidence + slope * smooth_step(incidence, -0.05, 0.1)
    brightness = incidence.clip(0, 1) ** body.minnaert * emission ** (body.minnaert - 1)
    way, cover = _ring_opacity(points, light, body)
    brightness *= 1 - 0.85 * cover * (way > 0)
    hazy = mix_colours(body.paint(points, rng), body.air[0], body.air[1] * (1 - emission) ** 2.5)
    return hazy * brightness[:, None]


def render_planet(name: str, size: int = 128, seed: int = 0) -> Rendering:
    """Draw one planet before a starry sky.

    Shading follows Minnaert's law, I = mu0^k mu^(k-1) with mu0 and mu the cosines of incidence
    and of emission (M. Minnaert, Astrophysical Journal 93, 1941, p. 403); k differs per planet.

    Args:
        name: one of ``PLANETS``.
        size: width and height in pixels; it changes the resolution, not the scene.
        seed: non-negative; together with the name it settles every random choice.

    Returns:
        The picture and its mask; the same arguments always give the same pixels.

    Raises:
        ValueError: the name is not one of ``PLANETS``.
    """
    if name not in BODIES:
        raise ValueError(f"unknown planet {name!r}; possible are {', '.join(PLANETS)}")
    return render_body(BODIES[name], size, np.random.default_rng([seed, *name.encode()]), 2)


def render_body(body: Body, size: int, rng: Generator, supersample: int = 1) -> Rendering:
    """Draw one body of any kind, as `render_planet`; what is random is drawn from ``rng``.

    With ``supersample`` 2, each pixel is the mean of four: smoother at the limb, four times slower.
    """
    radius = rng.uniform(*body.diameter)
    centre = rng.uniform(-0.7, 0.7, 2) * max(1 - radius * body.reach, 0.05)
    gains = rng.uniform(0.85, 1.2) * rng.uniform(0.95, 1.05, 3)
    lean, roll = np.deg2rad((rng.uniform(*body.lean), rng.uniform(*body.roll)))
    phase = np.deg2rad(rng.uniform(75, 95) if rng.random() < 0.2 else rng.uniform(12, 60))
    around = rng.normal(0, 0.5) + rng.choice((0, np.pi))
    axes = np.array(cv2.Rodrigues((0, 0, roll))[0] @ cv2.Rodrigues((lean, 0, 0))[0], np.float32)  # type: ignore[call-overload]
    sun = cv2.Rodrigues((0, 0, around))[0] @ (np.sin(phase), 0, np.cos(phase))  # type: ignore[call-overload]
    ray, light = axes[2], np.array(sun, np.float32) @ axes
    # Rings are dull seen from their dark side: keep the sun on the viewer's side of the equator.
    light[1] = np.copysign(light[1], lean)

    fine = size * supersample
    canvas = _stars(fine, rng)
    steps = (np.arange(fine) + 0.5) / fine * 2 - 1
    x, y = np.meshgrid((steps - centre[0]) / radius, (-steps - centre[1]) / radius)
    origin = np.array(np.dstack((x, y, 0 * x)), np.float32) @ axes
    depth, passing = _meet(origin, ray, body)
    hit = passing < 1
    points = origin[hit] + depth[hit][:, None] * ray
    hue, strength, height = body.air
    glow = np.exp((1 - passing).clip(max=0) / height) * (origin @ light / passing + 0.2).clip(0)
    canvas += colour_ramp(0, hue) * strength * glow[..., None]
    canvas[hit] = _surface(points, ray, light, body, rng)

    way, cover = _ring_opacity(origin, ray, body)
    cover *= ~hit | (way > depth)
    behind, near = _meet(origin + way[..., None] * ray, light, body)
    sunlit = np.where((near < 1) & (behind > 0), 0.02, 0.2 + 0.8 * cover)
    canvas = mix_colours(canvas, colour_ramp(0, body.ring_colour) * sunlit[..., None], cover)

    layers = np.dstack((canvas, np.maximum(hit, cover))).astype(np.float32)
    small = cv2.resize(layers, (size, size), interpolation=cv2.INTER_AREA)
    image = 255 * (small[..., :3] * gains).clip(0, 1) ** (1 / GAMMA)
    return Rendering(image.round().astype(np.uint8), small[..., 3] > 0.3)


def write_rendered_set(
    folder: Path | str, per_class: int = 20, size: int = 128, seed: int = 0, quality: int = 88
) -> list[Path]:
    """Draw and save a labelled set as ``folder/<class>/<class>_000.jpg`` and so on.

    Args:
        folder: made where it is missing; files of the same names are replaced.
        per_class: pictures of each planet, at most 100 000.
        size: width and height in pixels.
        seed: non-negative; sets of different seeds share no picture.
        quality: JPEG quality, 0 to 100.

    Returns:
        The written files, by class and number.

    Raises:
        OSError: a picture could not be written.
    """
    paths = []
    for name, number in product(PLANETS, range(per_class)):
        path = Path(folder) / name / f"{name}_{number:03d}.jpg"
        image = render_planet(name, size, seed * SEEDS_PER_SET + number).image
        _, content = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
        with open_whole(path) as file:
            file.write(content)  # type: ignore[call-overload]
        paths.append(path)
    return paths
