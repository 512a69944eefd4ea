"""Copies: planted ones are found, other pictures are not taken for copies, and groups are kept whole."""

import shutil
from functools import reduce
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from planetlib.data import check_samples, find_samples
from planetlib.draw.planets import PLANETS as DRAWN
from planetlib.draw.planets import draw_planets
from planetlib.images import read_image
from planetlib.settings import PROJECT
from planetlib.study.copies import audit_samples, find_copies, list_copies
from tests.conftest import encode

PLANETS = PROJECT.parent / "shared" / "data" / "planets"


def resize(picture: np.ndarray, rng) -> np.ndarray:
    scale = rng.uniform(0.5, 0.9)
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def recompress(picture: np.ndarray, rng) -> np.ndarray:
    return read_image(encode(picture, "JPEG", quality=int(rng.integers(50, 90))))


def flip(picture: np.ndarray, rng) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(picture, rng.integers(4))[:, ::-1])


def crop(picture: np.ndarray, rng) -> np.ndarray:
    lost = [round(0.05 * side) for side in picture.shape[:2]]
    top, left = (rng.integers(side + 1) for side in lost)
    return picture[top : top + picture.shape[0] - lost[0], left : left + picture.shape[1] - lost[1]]


def brighten(picture: np.ndarray, rng) -> np.ndarray:
    return (picture * rng.uniform(1.1, 1.4) + rng.uniform(0, 10)).clip(0, 255).astype(np.uint8)


ALL = (flip, crop, resize, brighten, recompress)
CHANGES = [*((step,) for step in ALL), (flip, brighten), (resize, recompress), ALL]


def plant(sources: list[Path], folder: Path) -> pd.DataFrame:
    """Pictures and a changed copy of each by each of `CHANGES`: `path, label, source`."""
    rng, rows = np.random.default_rng(0), []
    for number, source in enumerate(sources):
        rows.append((str(source), source.parent.name, number))
        for steps in CHANGES:
            path = folder / f"{len(rows)}.png"
            changed = reduce(lambda picture, step: step(picture, rng), steps, read_image(source))
            Image.fromarray(changed).save(path, compress_level=1)
            rows.append((str(path), source.parent.name, number))
    return pd.DataFrame(rows, columns=["path", "label", "source"])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> list[Path]:
    """Three pictures of each of seven planets."""
    folder = tmp_path_factory.mktemp("drawn")
    paths = [folder / name / f"{name}_{number:03d}.jpg" for name in DRAWN for number in range(3)]
    for path, picture in zip(paths, draw_planets(list(DRAWN), range(3), 192).image, strict=True):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path, quality=85)
    return paths


@pytest.mark.parametrize("kind", ["drawn", "screenshots"])
def test_planted_copies_are_found(kind, drawn, tmp_path):
    if kind == "screenshots" and not PLANETS.is_dir():
        pytest.skip("the public set does not lie beside the project")
    sources = drawn[::3] if kind == "drawn" else sorted(PLANETS.rglob("*.png"))[::200]
    grouped = audit_samples(check_samples(plant(sources, tmp_path)))
    assert not list_copies(grouped).conflict.any()
    found = grouped.group == grouped.groupby("source").group.transform("first")
    assert found[grouped.duplicated("source")].mean() >= 0.95


def test_different_pictures_are_not_copies_and_equal_pixels_are_in_any_file(drawn, tmp_path):
    again = tmp_path / "elsewhere.png"
    Image.fromarray(read_image(drawn[4])).save(again)
    assert find_copies([*drawn, again]).values.tolist() == [[4, 21]]


def test_a_folder_of_nothing_but_bad_files_has_no_copies(tmp_path):
    (tmp_path / "bad.png").touch()
    checked = check_samples(pd.DataFrame({"path": [str(tmp_path / "bad.png")] * 2}))
    assert audit_samples(checked).group.tolist() == [0, 1]


@pytest.fixture(scope="module")
def audited(drawn, tmp_path_factory) -> pd.DataFrame:
    """Seven classes of three; a picture of mars lies flipped among the moons, and one file is no picture."""
    folder = shutil.copytree(drawn[0].parent.parent, tmp_path_factory.mktemp("audited") / "data")
    mars = read_image(folder / "mars" / "mars_001.jpg")
    Image.fromarray(mars[::-1].copy()).save(folder / "moon" / "stray.png")
    (folder / "moon" / "words.png").write_text("words")
    return audit_samples(check_samples(find_samples(folder)))


def test_copies_share_a_group_with_different_labels_they_are_a_conflict_and_a_bad_file_is_alone(audited):
    assert list(audited.group.drop_duplicates()) == list(range(len(audited) - 1))
    assert (audited.group == audited.group[audited.status != "ok"].item()).sum() == 1
    copies = list_copies(audited)
    assert list(copies.columns) == ["group", "label", "path", "conflict"]
    assert [Path(path).name for path in copies.path] == ["mars_001.jpg", "stray.png"] and copies.conflict.all()
    assert not list_copies(audited.assign(label="mars")).conflict.any()
    assert list_copies(audited.assign(group=range(len(audited)))).empty
