"""What a recipe draws beside a folder's pictures: of planets and of kinds of outliers, kept between runs."""

import os
from contextlib import suppress

import joblib
import numpy as np
from platformdirs import user_cache_path

from planetlib.draw.outliers import draw_outliers
from planetlib.draw.planets import draw_planets

#: room that drawn pictures may take between runs; those used longest ago go first
MOST_KEPT = "1G"
#: names and numbers of pictures
Chosen = tuple[list[str], range]


def draw_mixture(planets: Chosen, kinds: Chosen, size: int, seed: int, keep: list | None = None) -> np.ndarray:
    """Pictures of planets and of kinds of outliers, the names of each and their numbers: uint8 (N, size, size, 3).

    They are kept, and found again, with `keep`: what else than these arguments the pixels depend on.
    """
    cache = joblib.Memory(None) if keep is None else open_cache()
    pixels = cache.cache(_draw_mixture)(planets, kinds, size, seed, keep)
    cache.reduce_size(MOST_KEPT)
    return pixels


def _draw_mixture(planets: Chosen, kinds: Chosen, size: int, seed: int, keep: list | None) -> np.ndarray:
    parts = [np.empty((0, size, size, 3), np.uint8)]
    if planets[0]:
        parts.append(draw_planets(*planets, size, seed).image)
    if kinds[0]:
        parts.append(draw_outliers(*kinds, size, seed))
    return np.concatenate(parts)


def open_cache() -> joblib.Memory:
    """What keeps drawn pictures between runs: in the folder that `PLANETLIB_CACHE` names, else in the user's cache.

    Where the name is empty, or the folder may not be written, nothing is kept.
    """
    folder = os.environ.get("PLANETLIB_CACHE", user_cache_path("planetlib"))
    with suppress(OSError):
        return joblib.Memory(folder or None, compress=1, verbose=0)
    return joblib.Memory(None)
