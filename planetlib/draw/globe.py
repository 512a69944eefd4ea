"""A body as light: surface, figure, relief, air and rings, seen from a place and lit by the sun.

Body axes have the equatorial radius as unit, the north pole along +y and longitude 0 along +z; the view has +x right,
+y up and +z towards the viewer. Shading follows Minnaert's law, I = mu0^k mu^(k-1) with mu0 and mu the cosines of
incidence and of emission (M. Minnaert, Astrophysical Journal 93, 1941, p. 403).
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy import ndarray as Array

from planetlib.draw.surface import GAMMA, LINEAR, LUMA, mix_colours, smooth_step


class Air(NamedTuple):
    """Haze over the limb and a glow beyond it: colour (3,), strength 0–1, height in radii."""

    colour: Array
    strength: float
    height: float


class Rings(NamedTuple):
    """Rings about the equator: colour and opacity (N, 4), 0–1, from the inner to the outer edge, and their radii."""

    profile: Array
    inner: float
    outer: float


class Body(NamedTuple):
    """What a body is.

    Attributes:
        surface: see `planetlib.draw.surface`.
        flattening: by how much the polar radius is shorter.
        minnaert: 1 is Lambert, lower is flat as the full moon, higher darkens the limb.
        relief: how steep the ground is where the map changes.
        air: none where its strength is 0.
        rings: or None.
        shines: of itself, as the sun.
    """

    surface: Array
    flattening: float = 0
    minnaert: float = 1
    relief: float = 0
    air: Air = Air(np.ones(3, np.float32), 0, 0.01)
    rings: Rings | None = None
    shines: bool = False


class View(NamedTuple):
    """From where a body is seen and lit.

    Attributes:
        radius: of the equator, in half frames.
        centre: right and up of the middle of the frame, in half frames.
        axes: rows are the directions right, up and towards the viewer, in body axes (3, 3).
        sun: direction in body axes (3,).
        ambient: light on the night side, 0–1.
    """

    radius: float
    centre: tuple[float, float]
    axes: Array
    sun: Array
    ambient: float = 0


def turn_axes(lean: float, roll: float, longitude: float) -> Array:
    """Axes of a `View`, in degrees: north pole towards the viewer, turned left in the frame, longitude shown."""
    turns = ((lean, 0, 0), (0, -longitude, 0), (0, 0, roll))
    x, y, z = (cv2.Rodrigues(np.deg2rad(np.array(turn, float)))[0] for turn in turns)
    return np.asarray(z @ x @ y, np.float32)


def render_body(body: Body, view: View, size: int) -> tuple[Array, Array]:
    """Light that a camera gets of a body.

    Returns:
        Linear light, float32 (size, size, 3), and how much of the sky the body and its rings hide, (size, size), 0–1.
    """
    fine = size * (2 if body.rings and view.radius < 0.8 else 1)  # thin rings would be torn into dots
    steps = (np.arange(fine, dtype=np.float32) + 0.5) / fine * 2 - 1
    x, y = (steps - view.centre[0]) / view.radius, (-steps - view.centre[1]) / view.radius
    # Only where there is anything to see.
    extent = max(body.rings.outer if body.rings else 1, 1 + 5 * body.air.height * (body.air.strength > 0))
    columns, rows = (np.flatnonzero(np.abs(side) < extent + 2 / (fine * view.radius)) for side in (x, y))
    window = np.ix_(rows, columns)
    origin = x[columns][None, :, None] * view.axes[0] + y[rows][:, None, None] * view.axes[1]
    ray = view.axes[2]
    depth, passing = _meet(origin, ray, body)
    alpha = ((1 - passing) * (view.radius * fine / 2) + 0.5).clip(0, 1)
    light = np.zeros_like(origin)
    if alpha.any():  # and not a view of rings alone
        disc = np.ix_(alpha.any(1), alpha.any(0))
        light[disc] = _shade(origin[disc] + depth[disc][..., None] * ray, body, view) * alpha[disc][..., None]
    if body.air.strength:
        sunward = 1 if body.shines else (_dot(origin, view.sun) / passing.clip(0.1) + 0.3).clip(0, 1)
        glow = body.air.strength * np.exp((1 - passing).clip(max=0) / body.air.height) * sunward * (1 - alpha)
        light = light + body.air.colour**GAMMA * glow[..., None]
    if body.rings:
        light, alpha = _add_rings(light, alpha, origin, depth, body, view)
    canvas = np.zeros((fine, fine, 4), np.float32)
    canvas[window] = np.dstack((light, alpha))
    small = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return small[..., :3], small[..., 3]


def _dot(vectors: Array, direction: Array) -> Array:
    """Inner products (...) of vectors (..., 3) and one (3,); unlike those of `@`, the same on any processor."""
    return vectors[..., 0] * direction[0] + vectors[..., 1] * direction[1] + vectors[..., 2] * direction[2]


def _meet(origin: Array, ray: Array, body: Body) -> tuple[Array, Array]:
    """Way (...) from origins (..., 3) along a direction (3,) to where it leaves the body, and how near to the centre
    (...) the line passes in flattened radii; above 1 it misses the body."""
    squash = np.array((1, 1 / (1 - body.flattening), 1), np.float32)
    origin, ray = origin * squash, ray * squash
    middle = -_dot(origin, ray) / _dot(ray, ray)
    nearest = origin + middle[..., None] * ray
    square = _dot(nearest * nearest, np.ones(3, np.float32))
    return middle + np.sqrt((1 - square).clip(0) / _dot(ray, ray)), np.sqrt(square)


def _shade(points: Array, body: Body, view: View) -> Array:
    """Linear light (..., 3) of surface points (..., 3)."""
    normals = points * np.array((1, 1 / (1 - body.flattening) ** 2, 1), np.float32)
    normals /= np.sqrt(_dot(normals * normals, np.ones(3, np.float32))).clip(1e-3)[..., None]
    incidence, emission = _dot(normals, view.sun), _dot(normals, view.axes[2]).clip(0.08, 1)
    height, width = body.surface.shape[:2]
    u = (np.arctan2(points[..., 0], points[..., 2]) / (2 * np.pi) + 0.5) * width - 0.5
    v = (0.5 - np.arcsin(normals[..., 1].clip(-1, 1)) / np.pi) * height - 0.5
    linear = cv2.LUT(cv2.convertScaleAbs(body.surface.clip(0), alpha=255), LINEAR)
    layers = np.dstack((linear, _slopes(body.surface, view.sun))) if body.relief else linear
    seen = cv2.remap(layers, u, v.clip(0, height - 1), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    if body.shines:
        return seen * (emission ** (body.minnaert - 1))[..., None]
    if body.relief:  # not at the limb, where the map's grain would fray it
        steep = body.relief * smooth_step(incidence, -0.1, 0.15) * smooth_step(emission, 0.1, 0.5)
        incidence = incidence + steep * seen[..., 3]
    brightness = incidence.clip(0, 1) ** body.minnaert * emission ** (body.minnaert - 1)
    if body.rings:  # their shadow
        cover, way, _ = _look_up_rings(points, view.sun, body.rings)
        brightness *= 1 - 0.8 * cover[..., 3] * (way > 0)
    hazy = mix_colours(seen[..., :3], body.air.colour**GAMMA, body.air.strength * (1 - emission) ** 2.5)
    return hazy * (view.ambient + (1 - view.ambient) * brightness)[..., None]


def _slopes(surface: Array, sun: Array) -> Array:
    """How the surface rises towards the sun (H, W), where what is bright is taken for high."""
    height, width = surface.shape[:2]
    east, south = (np.gradient(surface @ LUMA, axis=axis) for axis in (1, 0))
    lon = (np.arange(width, dtype=np.float32) + 0.5) / width * 2 * np.pi - np.pi
    lat = (0.5 - (np.arange(height, dtype=np.float32)[:, None] + 0.5) / height) * np.pi
    to_east = sun[0] * np.cos(lon) - sun[2] * np.sin(lon)
    to_north = sun[1] * np.cos(lat) - np.sin(lat) * (sun[0] * np.sin(lon) + sun[2] * np.cos(lon))
    return np.float32(width / 100) * (south * to_north - east / np.cos(lat).clip(0.2) * to_east)


def _look_up_rings(points: Array, ray: Array, rings: Rings) -> tuple[Array, Array, Array]:
    """Colour and opacity (..., 4) where lines from points (..., 3) along a direction (3,) meet the rings, the way there
    (...), and the meeting points."""
    way = -points[..., 1] / ray[1]
    there = points + way[..., None] * ray
    radius = np.sqrt(there[..., 0] ** 2 + there[..., 2] ** 2)
    place = (radius - rings.inner) / (rings.outer - rings.inner) * len(rings.profile) + 1
    padded = np.pad(rings.profile, ((1, 1), (0, 0)))
    return padded[place.clip(0, len(padded) - 1).astype(np.int32)], way, there


def _add_rings(light: Array, alpha: Array, origin: Array, depth: Array, body: Body, view: View) -> tuple[Array, Array]:
    seen, way, there = _look_up_rings(origin, view.axes[2], body.rings)  # type: ignore[arg-type]
    cover = seen[..., 3] * np.where(way > depth, 1, 1 - alpha)
    behind, near = _meet(there, view.sun, body)
    lit = np.where((near < 1) & (behind > 0), np.float32(0.02), np.float32(1))
    if view.sun[1] * view.axes[2, 1] < 0:  # from their dark side, thin rings are bright and dense ones dark
        lit = lit * 3 * (1 - seen[..., 3])
    glow = seen[..., :3] ** np.float32(GAMMA) * (lit * cover)[..., None]
    return light * (1 - cover)[..., None] + glow, 1 - (1 - alpha) * (1 - cover)
