"""The leakage audit: planted copies are found, other pictures are not taken for copies, and groups are kept whole."""

import io
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from planetlib.data import check_samples, find_samples, split_samples
from planetlib.draw.render import write_rendered_set
from planetlib.images import read_image
from planetlib.settings import PROJECT
from planetlib.study.copies import audit_samples, find_copies, list_copies

PLANETS = PROJECT.parent / "shared" / "data" / "planets"


def resize(picture: np.ndarray, rng) -> np.ndarray:
    scale = rng.uniform(0.5, 0.9)
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def recompress(picture: np.ndarray, rng) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=int(rng.integers(50, 90)))
    return np.array(Image.open(buffer))


def flip(picture: np.ndarray, rng) -> np.ndarray:
    turned = np.rot90(picture, rng.integers(4))
    return np.ascontiguousarray(turned[:, ::-1])


def crop(picture: np.ndarray, rng) -> np.ndarray:
    height, width = picture.shape[:2]
    rows, columns = round(0.05 * height), round(0.05 * width)
    top, left = rng.integers(rows + 1), rng.integers(columns + 1)
    return picture[top : top + height - rows, left : left + width - columns]


def brighten(picture: np.ndarray, rng) -> np.ndarray:
    return (picture * rng.uniform(1.1, 1.4) + rng.uniform(0, 10)).clip(0, 255).astype(np.uint8)


CHANGES = {
    "resized": [resize],
    "recompressed": [recompress],
    "flipped": [flip],
    "cropped": [crop],
    "brightened": [brighten],
    "flipped, brightened": [flip, brighten],
    "resized, recompressed": [resize, recompress],
    "all of it": [flip, crop, resize, brighten, recompress],
}


def plant(sources: list[Path], folder: Path, seed: int = 0) -> pd.DataFrame:
    """Pictures and a changed copy of each by each of `CHANGES`: `path, label, source, change`."""
    rng, rows = np.random.default_rng(seed), []
    for number, source in enumerate(sources):
        label = source.parent.name
        rows.append((str(source), label, number, ""))
        for change, steps in CHANGES.items():
            picture = read_image(source)
            for step in steps:
                picture = step(picture, rng)
            path = folder / label / f"{len(rows)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
            rows.append((str(path), label, number, change))
    return pd.DataFrame(rows, columns=["path", "label", "source", "change"])


def check_plants(planted: pd.DataFrame) -> None:
    """At least 95 % of the copies are in their original's group, and no pair joins two classes."""
    grouped = audit_samples(check_samples(planted, progress=False), progress=False)
    assert (list_copies(grouped).conflict == False).all()  # noqa: E712
    original = grouped[grouped.change == ""].set_index("source").group
    copies = grouped[grouped.change != ""]
    found = copies.group == copies.source.map(original)
    assert found.mean() >= 0.95, found.groupby(copies.change).mean().to_dict()


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> list[Path]:
    """Three pictures of each of seven planets."""
    return write_rendered_set(tmp_path_factory.mktemp("rendered"), per_class=3, size=192)


def test_planted_copies_of_rendered_planets_are_found(rendered, tmp_path):
    check_plants(plant(rendered, tmp_path))


@pytest.mark.skipif(not PLANETS.is_dir(), reason="the public set does not lie beside the project")
def test_planted_copies_of_screenshots_are_found(tmp_path):
    check_plants(plant(sorted(PLANETS.rglob("*.png"))[::50], tmp_path))


def test_different_pictures_are_not_copies(rendered):
    assert find_copies(rendered, progress=False).empty


def test_equal_pixels_are_found_in_any_file_and_any_class(rendered, tmp_path):
    again = tmp_path / "elsewhere.png"
    Image.fromarray(read_image(rendered[4])).save(again)
    pairs = find_copies([*rendered, again], progress=False)
    assert pairs.to_dict("records") == [{"first": 4, "second": 21, "exact": True, "light": 1.0, "structure": 1.0}]


@pytest.fixture(scope="module")
def audited(rendered, tmp_path_factory) -> pd.DataFrame:
    """Seven classes of three; a picture of mars lies flipped among the moons, and one file is no picture."""
    folder = tmp_path_factory.mktemp("audited")
    for path in rendered:
        (folder / path.parent.name).mkdir(exist_ok=True)
        (folder / path.parent.name / path.name).write_bytes(path.read_bytes())
    mars = read_image(folder / "mars" / "mars_001.jpg")
    Image.fromarray(mars[::-1].copy()).save(folder / "moon" / "stray.png")
    (folder / "moon" / "words.png").write_text("words")
    return audit_samples(check_samples(find_samples(folder), progress=False), progress=False)


def test_copies_share_a_group_and_a_bad_file_is_alone(audited):
    names = audited.path.map(lambda path: Path(path).name)
    group = dict(zip(names, audited.group))
    assert group["stray.png"] == group["mars_001.jpg"] and audited.group.nunique() == len(audited) - 1
    assert (audited.group == group["words.png"]).sum() == 1
    assert list(audited.group.drop_duplicates()) == list(range(len(audited) - 1))


def test_copies_with_different_labels_are_a_conflict(audited):
    copies = list_copies(audited)
    assert list(copies.columns) == ["group", "label", "path", "conflict"]
    assert [Path(path).name for path in copies.path] == ["mars_001.jpg", "stray.png"] and copies.conflict.all()
    assert not list_copies(audited.assign(label="mars")).conflict.any()


def test_a_folder_without_copies_has_an_empty_list(audited):
    assert list_copies(audited.assign(group=range(len(audited)))).empty


@pytest.mark.parametrize("seed", range(5))
def test_the_split_keeps_a_group_on_one_side(audited, seed):
    samples = split_samples(audited, seed)
    assert samples.groupby("group").split.nunique().max() == 1 and samples.group.nunique() == len(samples) - 1
