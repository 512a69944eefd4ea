"""The samples table: find, check, split; and the data sets that are made from it.

The table (pandas) has the columns `path, label, split, sha256, group`. Files are never copied, moved or rewritten.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from planetlib.files.find import find_images, path_text, require_folder
from planetlib.files.progress import map_in_threads
from planetlib.files.read import UnreadableImage, read_file
from planetlib.files.tables import SAMPLE_COLUMNS, DataError
from planetlib.images import decode_image, read_image
from planetlib.settings import ELSEWHERE, Settings
from planetlib.transforms import draw_augmented, fit_to_square, to_tensor

SPLITS = ("train", "val", "test")
VAL_SHARE = 0.15  # of each class; what is neither this nor the test's is for training
TEST_SHARE = Settings.test_share
IN_MEMORY_BYTES = 1 << 30  # decoded pictures beyond this lie in a memory-mapped file


def find_samples(folder: str | os.PathLike) -> pd.DataFrame:
    """The pictures in a folder that has a sub-folder for each class: `path, label`, sorted. Nothing is opened yet.

    Raises:
        DataError: no such folder, or fewer than two classes with pictures in it.
    """
    places = sorted(require_folder(folder).iterdir())
    classes = [place for place in places if place.is_dir() and not place.name.startswith(".")]
    rows = [(path_text(path), path_text(place.name)) for place in classes for path in find_images(place)]
    samples = pd.DataFrame(rows, columns=["path", "label"])
    if samples.label.nunique() < 2:
        raise DataError(
            f"{folder}: got {len(classes)} sub-folders, {samples.label.nunique()} of them with pictures",
            do="give a folder that has a sub-folder with pictures for each of two or more classes",
        )
    return samples


def find_elsewhere(samples: pd.DataFrame, folder: str | os.PathLike = ELSEWHERE) -> pd.DataFrame:
    """Pictures of a run's classes from another source than its own, `path, label`.

    Where the folder has none of the classes, the run's own test pictures stand in for them.
    """
    elsewhere = find_samples(folder)
    elsewhere = elsewhere[elsewhere.label.isin(samples.label)].reset_index(drop=True)
    return elsewhere if len(elsewhere) else samples.loc[samples.split == "test", ["path", "label"]]


def check_samples(samples: pd.DataFrame) -> pd.DataFrame:
    """Opens and decodes every file of a table with `path`.

    Returns:
        `samples` with `status` (`ok`, `unreadable`), `error`, `note` (such as `first of several frames`), `format`,
        `mode`, `width`, `height`, `bytes`, `sha256`.
    """
    facts = list(map_in_threads(_check_file, samples.path, "checking"))
    return samples.reset_index(drop=True).join(pd.DataFrame(facts))


def _check_file(path: str) -> dict:
    blank = {"error": "", "note": "", "format": "", "mode": "", "width": 0, "height": 0, "bytes": 0, "sha256": ""}
    try:
        content = read_file(path)
        blank |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        return {"status": "ok", **blank, **decode_image(content)[1]}
    except UnreadableImage as error:
        return {"status": "unreadable", **blank, "error": error.reason}


def split_samples(checked: pd.DataFrame, seed: int = 0, test_share: float = TEST_SHARE) -> pd.DataFrame:
    """Deals the readable pictures of each class into train, val and test.

    A group of copies is never torn apart: no test picture is also a training picture. Each class is dealt by itself, so
    the shares hold for each, and each split has at least one picture of every class.

    The table is that of `check_samples`, or of `audit_samples`, which adds `group`; else equal files are one.

    Returns:
        The samples table, in the order of `checked`, without unreadable files.

    Raises:
        DataError: a class has fewer different readable pictures than there are splits.
    """
    samples = checked[checked.status == "ok"].reset_index(drop=True)
    samples["group"] = samples.groupby("group" if "group" in samples else "sha256", sort=False).ngroup()
    sizes = samples.groupby("group").size()
    leaders = samples.drop_duplicates("group")  # a group goes with the class of its first picture
    counts = leaders.label.value_counts().reindex(sorted(checked.label.unique()), fill_value=0)
    if few := [f"'{label}' has {count}" for label, count in counts.items() if count < len(SPLITS)]:
        raise DataError(
            f"too few different readable pictures to fill {', '.join(SPLITS)}: {', '.join(few)}",
            do=f"add pictures until there are {len(SPLITS)}, or take the class folder away",
        )
    split_of: dict[int, str] = {}
    for label, groups in leaders.groupby("label").group:
        # Seeded by the label too, so that adding a class does not deal the others anew.
        order = np.random.default_rng([seed, *label.encode()]).permutation(groups)
        split_of |= _deal({group: sizes[group] for group in order.tolist()}, test_share)
    samples["split"] = samples.group.map(split_of)
    return samples[SAMPLE_COLUMNS]


def _deal(sizes: dict[int, int], test_share: float) -> dict[int, str]:
    """Group → split, from group → number of its pictures, in the order in which they are dealt."""
    left, split_of = dict(sizes), {}
    for splits_to_come, split, share in ((2, "test", test_share), (1, "val", VAL_SHARE)):
        room = max(1, round(sum(sizes.values()) * share))
        chosen: list[int] = []
        for group, size in left.items():
            if size <= room and len(left) - len(chosen) > splits_to_come:
                chosen.append(group)
                room -= size
        for group in chosen or [min(left, key=left.__getitem__)]:
            del left[group]
            split_of[group] = split
    return split_of | dict.fromkeys(left, "train")


def read_square(path: str | os.PathLike, size: int, fit: str = "pad") -> np.ndarray:
    """A picture as `fit_to_square` fits it, uint8 (size, size, 3), decoded no larger than that asks for.

    Raises:
        UnreadableImage: it cannot be read.
    """
    return fit_to_square(read_image(path, size), size, fit)


def load_pixels(paths: Iterable, size: int, fit: str, progress: bool = True) -> np.ndarray:
    """Decodes and fits each picture once: uint8 (N, size, size, 3); beyond 1 GiB memory-mapped from a nameless file.

    Raises:
        UnreadableImage: a picture has become unreadable since it was checked.
    """
    paths = list(paths)
    shape = (len(paths), size, size, 3)
    decoded = map_in_threads(lambda path: read_square(path, size, fit), paths, "decoding", progress)
    if np.prod(shape) <= IN_MEMORY_BYTES:
        return np.fromiter(decoded, np.dtype((np.uint8, shape[1:])), len(paths))
    file = tempfile.TemporaryFile(prefix="planetlib")
    for picture in decoded:  # written in turn: in mapped memory, a full disk would kill the process without a word
        file.write(picture.tobytes())
    file.flush()
    return np.memmap(file, np.uint8, "r+", shape=shape)


class ImageData(Dataset):
    """Squares and class numbers: item → uint8 (3, size, size), int.

    Args:
        pixels: uint8 (N, size, size, 3).
        labels: class numbers (N,).
        transform: random; uint8 (3, size, size) → the same. None for evaluation.
        seed: of the transform. An item depends on these numbers and its own alone.
        first: number of the first item.
    """

    def __init__(self, pixels: np.ndarray, labels: Sequence[int], transform=None, seed=(), first: int = 0):
        self.pixels, self.labels = pixels, labels
        self.transform, self.seed, self.first = transform, seed, first

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = to_tensor(self.pixels[index])
        if self.transform is not None:
            image = draw_augmented(self.transform, image, *self.seed, self.first + index)
        return image, int(self.labels[index])


def make_loader(
    data: Dataset,
    batch_size: int,
    shuffle_seed: int | None = None,
    workers: int = 0,
    device: str | torch.device = "cpu",
) -> DataLoader:
    """Batches of a data set: in order, or shuffled by a seed; for a GPU in memory that it can copy from by itself."""
    generator = None if shuffle_seed is None else torch.Generator().manual_seed(shuffle_seed)
    shuffle, pinned = generator is not None, torch.device(device).type == "cuda"
    return DataLoader(data, batch_size, shuffle, num_workers=workers, generator=generator, pin_memory=pinned)
