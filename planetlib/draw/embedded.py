"""The pictures that come with the project: small sets made to teach, with flaws that are planted and known.

    python -m planetlib.draw.embedded data

draws `fixture/`, `elsewhere/` and `strangers/` anew. `data/README.md` lists the flaws.
"""

import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from numpy import ndarray as Array

from planetlib.draw.camera import Drawn
from planetlib.draw.outliers import OUTLIERS, draw_outlier
from planetlib.draw.planets import PLANETS, SEEDS_PER_SET, draw_each, draw_planet
from planetlib.draw.sky import write_labels
from planetlib.draw.surface import draw_ratio
from planetlib.files.whole import open_whole

SIZE = 176  # pixels, side of a picture
#: pictures of each planet in `fixture/`, but of the one that is rare
PER_CLASS, RARE, OF_RARE = 28, "saturn", 14
#: of each planet in `elsewhere/`, and of each kind in `strangers/`
ELSEWHERE, STRANGERS = 25, 3
#: of these sets; only a training with this seed would meet the same pictures
SEED = 40_000
_JPEG, _PNG = ".jpg", ".png"


def write_embedded_sets(folder: Path | str) -> None:
    """Draws the three sets into a folder; files of the same names are replaced.

    Raises:
        OSError: a picture could not be written.
    """
    folder = Path(folder)
    usual = [name for name in PLANETS if name != RARE]
    _save_set(folder / "fixture", _draw_usual, usual, PER_CLASS, SEED, 85)
    _save_set(folder / "fixture", _draw_usual, [RARE], OF_RARE, SEED, 85)
    _plant_flaws(folder / "fixture")
    _save_set(folder / "elsewhere", lambda *scene: draw_elsewhere(*scene).image, PLANETS, ELSEWHERE, SEED + 1, 75)
    _save_set(folder / "strangers", draw_outlier, OUTLIERS, STRANGERS, SEED + 1, 75)


def draw_elsewhere(name: str, size: int = SIZE, seed: int = 0) -> Drawn:
    """A planet through a small telescope: blurred, noisy, in colours of its own, at times captioned."""
    drawn = draw_planet(name, size, seed)
    rng = np.random.default_rng([seed, 1, *name.encode()])
    blurred = cv2.GaussianBlur(drawn.image.astype(np.float32), (0, 0), draw_ratio(rng, 0.7, 2) * size / 224)
    balance = np.exp(rng.normal(0, 0.08, 3))
    grain = draw_ratio(rng, 2, 10) * rng.standard_normal(blurred.shape, np.float32)
    picture = (blurred * balance + grain).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        write_labels(picture, rng)
    return Drawn(picture, drawn.mask)


def _draw_usual(name: str, size: int, seed: int) -> Array:
    """Two pictures of three show the whole planet, well lit; the third is as it may be met anywhere."""
    return draw_planet(name, size, seed, plain=seed % 3 > 0).image


def _plant_flaws(fixture: Path) -> None:
    """Puts into the set what folders of pictures have in them, each at a place that `data/README.md` names."""
    last = f"{PER_CLASS:03d}"

    def draw_good(name: str, number: int):
        return draw_planet(name, SIZE, (SEED + 2) * SEEDS_PER_SET + number, plain=True)

    whole = _encode(draw_good("mars", 0).image, _JPEG, 85)
    _write(whole[: len(whole) // 2], fixture / "mars" / f"mars_{last}.jpg")  # half a download
    deep = draw_good("moon", 1).image.mean(2) * 257
    _write(_encode(deep.astype(np.uint16), _PNG), fixture / "moon" / f"moon_{last}.png")
    cut_out = draw_good("saturn", 2)
    transparent = np.dstack((cut_out.image, cut_out.mask * np.uint8(255)))
    _write(_encode(transparent, _PNG), fixture / "saturn" / f"saturn_{last}.png")
    for name, number, turns, side in (("jupiter", 4, 1, SIZE), ("earth", 7, 0, SIZE * 2 // 3)):  # copies
        original = _draw_usual(name, SIZE, SEED * SEEDS_PER_SET + number)
        picture = cv2.resize(np.rot90(original, turns), (side, side), interpolation=cv2.INTER_AREA)
        _save(picture, fixture / name / f"{name}_{last}", 60)
    for shown, label in (("mars", "moon"), ("saturn", "neptune")):  # wrong labels
        _save(draw_good(shown, 3).image, fixture / label / f"{label}_{PER_CLASS + 1:03d}", 85)


def _save_set(folder: Path, draw: Callable, kinds: Sequence[str], count: int, seed: int, quality: int) -> None:
    pictures = draw_each(draw, kinds, range(count), SIZE, seed)
    for (name, number), picture in zip(product(kinds, range(count)), pictures):
        _save(picture, folder / name / f"{name}_{number:03d}", quality)


def _save(picture: Array, stem: Path, quality: int) -> None:
    _write(_encode(picture, _JPEG, quality), stem.with_name(stem.name + _JPEG))


def _encode(picture: Array, suffix: str, quality: int = 0) -> bytes:
    """A picture in grey, RGB or RGBA as the content of a file; the quality, 0 to 100, is that of JPEG."""
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    return cv2.imencode(suffix, picture, (cv2.IMWRITE_JPEG_QUALITY, quality) if quality else ())[1].tobytes()


def _write(content: bytes, path: Path) -> None:
    with open_whole(path) as file:
        file.write(content)


if __name__ == "__main__":
    write_embedded_sets(sys.argv[1])
