"""The samples table: found, checked, split; and the data sets made from it."""

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from planetlib.data import (
    ImageData,
    check_samples,
    find_elsewhere,
    find_samples,
    load_pixels,
    make_loader,
    split_samples,
)
from planetlib.files.find import find_images
from planetlib.files.read import UnreadableImage
from planetlib.files.tables import DataError
from planetlib.images import read_image
from planetlib.transforms import fit_to_square, make_training_transform
from tests.conftest import encode, photograph

SIZE = 24


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def check(*paths) -> pd.DataFrame:
    return check_samples(pd.DataFrame({"path": map(str, paths)}))


# Finding


def test_images_are_found_at_any_depth_sorted_by_suffix_in_any_case_unless_hidden(tmp_path):
    assert find_images(tmp_path) == []
    found = ["a.jpg", "b.PNG", "c.fits.gz", "d.fits.FZ", "deep/er/e.Tiff"]
    hidden = [".b.png", ".ipynb_checkpoints/c.png", "deep/.d/e.png"]
    touch(tmp_path, *found[::-1], *hidden, "notes.txt", "png", "d.jpg.part", "b.tar.gz", "d.gz")
    assert find_images(tmp_path) == [tmp_path / name for name in found]
    with pytest.raises(DataError, match="nowhere: no such folder"):
        find_images(tmp_path / "nowhere")


def test_what_an_earlier_prediction_drew_is_no_picture_to_predict(tmp_path):
    touch(tmp_path, "a.png", "pictures/b.png", "answers/contact_sheet.png", "answers/pictures/a.jpg", "answers/c.png")
    assert len(find_images(tmp_path)) == 5
    touch(tmp_path, "answers/predictions.csv")
    assert find_images(tmp_path) == [tmp_path / name for name in ("a.png", "answers/c.png", "pictures/b.png")]


def test_links_to_folders_are_listed_and_not_followed_even_in_a_circle(tmp_path):
    touch(tmp_path, "in/a.png", "out/b.png", "folder.png/c.png")
    for name, target in {"circle": "..", "elsewhere": "../out", "dangling.png": "gone"}.items():
        (tmp_path / "in" / name).symlink_to(target)
    found = find_images(tmp_path / "in")
    assert [path.name for path in found] == ["a.png", "circle", "dangling.png", "elsewhere"]
    followed = "a link to a folder, which is not followed; name the folder itself"
    assert check(*found).error.tolist() == ["empty file", followed, "a link to nothing", followed]
    assert find_images(tmp_path / "folder.png") == [tmp_path / "folder.png" / "c.png"]  # it is a folder, as any other


def test_a_folder_that_may_not_be_looked_into_is_listed(tmp_path, monkeypatch):
    touch(tmp_path, "a.png", "closed/b.png")
    look, closed = os.scandir, str(tmp_path / "closed")

    def refuse(path):  # the superuser may look into everything
        if os.fspath(path) == closed:
            raise PermissionError(13, "Permission denied", closed)
        return look(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find_images(tmp_path) == [tmp_path / "a.png", tmp_path / "closed"]


def test_the_sub_folder_gives_the_label(tmp_path):
    touch(tmp_path, "mars/deep/a.png", "earth/b.png", "earth/a.png", "stray.png", ".hidden/a.png", "empty/notes.txt")
    (tmp_path / "mars" / os.fsdecode(b"caf\xe9.png")).touch()
    samples = find_samples(tmp_path)
    names = [os.path.relpath(path, tmp_path) for path in samples.path]
    assert names == ["earth/a.png", "earth/b.png", r"mars/caf\udce9.png", "mars/deep/a.png"]
    assert samples.label.tolist() == ["earth", "earth", "mars", "mars"]
    assert check_samples(samples).error[2] == "its name is not UTF-8; rename it"


def test_fewer_than_two_classes_are_refused_with_what_was_found(tmp_path):
    touch(tmp_path, "stray.png", "earth/a.png", "mars/notes.txt")
    with pytest.raises(DataError, match="got 2 sub-folders, 1 of them with pictures: .*two or more classes"):
        find_samples(tmp_path)


# Checking


def test_check_tells_what_each_file_is(fixture_folder, every_format, tmp_path):
    checked = check_samples(find_samples(fixture_folder))
    assert len(checked) == 24 and set(checked.status) == {"ok"} and set(checked.error) == {""}
    first = checked.iloc[0]
    content = Path(first.path).read_bytes()
    assert (first["format"], first["mode"], first.width, first.height) == ("PNG", "RGB", 48, 48)
    assert (first.bytes, first.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    (tmp_path / "a.gif").write_bytes(every_format["animated.gif"])
    assert check(tmp_path / "a.gif").note[0] == "first of several frames"


def test_check_keeps_the_row_of_an_unreadable_file(tmp_path, every_format):
    for name, size in {"good.png": None, "torn.png": 100}.items():
        (tmp_path / name).write_bytes(every_format["rgb.png"][:size])
    paths = [str(tmp_path / name) for name in ("good.png", "torn.png", "gone.png")]
    # As after leaving rows out, the index has gaps.
    checked = check_samples(pd.DataFrame({"path": paths, "label": "mars"}, index=[9, 7, 5]))
    assert list(checked.path) == paths and list(checked.status) == ["ok", "unreadable", "unreadable"]
    assert checked.error[1].startswith("damaged or truncated") and checked.error[2] == "no such file"
    assert checked.bytes[1] == 100 and checked.width[1] == 0


def test_pictures_from_elsewhere_are_of_the_runs_classes_or_its_own_test_pictures(fixture_folder, samples, tmp_path):
    shutil.copytree(fixture_folder / "red", tmp_path / "elsewhere" / "red")
    shutil.copytree(fixture_folder / "blue", tmp_path / "elsewhere" / "violet")
    assert set(find_elsewhere(samples, tmp_path / "elsewhere").label) == {"red"}
    test = samples[samples.split == "test"]
    assert find_elsewhere(samples).path.tolist() == test.path.tolist()  # the embedded planets are none of its classes


# Splitting


def checked_table(**sizes: int | list[int]) -> pd.DataFrame:
    """What `check_samples` returns of so many pictures of each class, all different; no file is needed to split it.

    Where the sizes of groups are given, as the audit finds them, it has `group` as well.
    """
    groups = {label: [1] * size if isinstance(size, int) else size for label, size in sizes.items()}
    rows = [(f"{label}/{number}.png", label) for label, part in groups.items() for number in range(sum(part))]
    table = pd.DataFrame(rows, columns=["path", "label"]).assign(status="ok")
    table["sha256"] = [hashlib.sha256(path.encode()).hexdigest() for path in table.path]
    flat = [size for part in groups.values() for size in part]
    return table.assign(group=np.repeat(np.arange(len(flat)), flat)) if max(flat) > 1 else table


def count_splits(samples: pd.DataFrame) -> list[list[int]]:
    """Of each class, how many pictures are in train, val and test; asserts that no group is torn."""
    assert samples.groupby("group").split.nunique().max() == 1
    return samples.groupby(["label", "split"]).size().unstack()[["train", "val", "test"]].to_numpy().tolist()


def test_each_class_is_dealt_by_itself_and_by_the_seed():
    checked = checked_table(earth=20, mars=20, venus=20)
    samples = split_samples(checked, seed=1)
    assert list(samples.columns) == ["path", "label", "split", "sha256", "group"]
    assert list(samples.path) == list(checked.path)
    assert count_splits(samples) == [[14, 3, 3]] * 3
    assert list(samples.split[:20]) != list(samples.split[20:40])
    pd.testing.assert_frame_equal(split_samples(checked, seed=1), samples)
    assert not split_samples(checked, seed=2).split.equals(samples.split)
    assert count_splits(split_samples(checked, test_share=0.4)) == [[9, 3, 8]] * 3


def test_adding_a_class_does_not_deal_the_others_anew():
    before = split_samples(checked_table(mars=20, venus=20)).set_index("path").split
    after = split_samples(checked_table(earth=20, mars=20, venus=20)).set_index("path").split
    pd.testing.assert_series_equal(after[before.index], before)


@pytest.mark.parametrize("sizes", [*range(3, 12), [18, 1, 1], [5, 5, 5], [1, 9, 9, 1], [30, 2, 2, 2]], ids=str)
def test_each_split_has_every_class_however_few_its_pictures_or_large_its_groups(sizes):
    samples = split_samples(checked_table(earth=sizes, mars=20))
    assert np.min(count_splits(samples)) >= 1
    assert len(samples) == np.sum(sizes) + 20


@pytest.mark.parametrize("seed", range(3))
def test_groups_of_the_audit_and_else_equal_files_stay_on_one_side_and_the_shares_hold(seed):
    samples = split_samples(checked_table(earth=[8, 5, 3, 2] + [1] * 82, mars=100), seed)
    assert count_splits(samples) == [[70, 15, 15]] * 2
    checked = checked_table(earth=20, mars=20)
    checked.loc[[1, 2, 30], "sha256"] = checked.sha256[0]  # three copies, one of them in the other class
    samples = split_samples(checked, seed)
    assert samples.group[[0, 1, 2, 30]].nunique() == 1 and samples.group.nunique() == 37
    assert samples.groupby("sha256").split.nunique().max() == 1


def test_unreadable_files_are_left_out_and_too_small_classes_named_with_their_counts():
    checked = checked_table(earth=6, mars=6)
    checked.loc[[0, 8], "status"] = "unreadable"
    samples = split_samples(checked)
    assert list(samples.index) == list(range(10)) and not set(samples.path) & {"earth/0.png", "mars/2.png"}
    checked = checked_table(earth=5, mars=1, venus=5, zero=1)
    checked.loc[checked.label == "zero", "status"] = "unreadable"
    checked.loc[checked.label == "venus", "sha256"] = "five times the same file"
    with pytest.raises(DataError, match="'mars' has 1, 'venus' has 1, 'zero' has 0: .*until there are 3"):
        split_samples(checked)


# Data sets


@pytest.mark.parametrize("fit", ["pad", "squash"])
@pytest.mark.parametrize("limit", [0, 1 << 30], ids=["mapped", "in memory"])
def test_pixels_are_the_pictures_in_their_order_fitted_as_asked(samples, tmp_path, monkeypatch, fit, limit):
    wide = np.random.default_rng(0).integers(0, 256, (20, 60, 3), dtype=np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    paths = [*samples.path, tmp_path / "wide.png"]
    monkeypatch.setattr("planetlib.data.IN_MEMORY_BYTES", limit)
    pixels = load_pixels(paths, SIZE, fit)
    assert pixels.dtype == np.uint8 and isinstance(pixels, np.memmap) == (limit == 0)
    np.testing.assert_array_equal(pixels, [fit_to_square(read_image(path), SIZE, fit) for path in paths])


def test_a_picture_is_decoded_at_the_scale_that_training_needs_and_named_where_it_is_gone(tmp_path, decoded):
    (tmp_path / "a.jpg").write_bytes(encode(photograph(), "JPEG"))
    assert load_pixels([tmp_path / "a.jpg"], 100, "pad", progress=False).shape == (1, 100, 100, 3)
    assert decoded == [(1000, 600)]
    with pytest.raises(UnreadableImage, match="gone.png: no such file"):
        load_pixels([tmp_path / "a.jpg", tmp_path / "gone.png"], SIZE, "pad")


def test_an_augmented_item_depends_on_the_seed_and_its_number_alone(samples):
    pixels = load_pixels(samples.path, SIZE, "pad")
    augmented = ImageData(pixels, [0] * len(pixels), make_training_transform("robust", SIZE), (5, 0))
    plain = ImageData(augmented.pixels, [*range(len(augmented))])
    assert torch.equal(plain[3][0], torch.tensor(augmented.pixels[3]).movedim(2, 0)) and plain[3][1] == 3
    first = augmented[3][0]
    augmented[4]  # what is drawn in between does not matter
    assert torch.equal(augmented[3][0], first)
    augmented.pixels[4] = augmented.pixels[3]
    assert not torch.equal(augmented[4][0], first)
    for seed, number in (((5, 1), 0), ((6, 0), 0), ((5, 0), 1)):
        other = ImageData(augmented.pixels, augmented.labels, augmented.transform, seed, number)
        assert not torch.equal(other[3][0], first)


def test_the_order_depends_on_the_shuffle_seed_alone():
    def draw(shuffle_seed) -> list[int]:
        return [int(item) for batch in make_loader(range(20), 6, shuffle_seed) for item in batch]

    torch.manual_seed(1)
    first = draw(3)
    torch.manual_seed(2)
    assert draw(3) == first != draw(4)
    assert sorted(first) == list(range(20)) == draw(None)


@pytest.mark.parametrize("device, pinned", [("cpu", False), (torch.device("cuda"), True)])
def test_batches_for_a_gpu_come_in_pinned_memory(device, pinned):
    assert make_loader(TensorDataset(torch.zeros(4)), 2, device=device).pin_memory is pinned
