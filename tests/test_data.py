"""The samples table: found, checked, split, kept; and the data sets made from it."""

import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from planetlib import data
from planetlib.data import (
    ImageData,
    check_samples,
    find_images,
    find_samples,
    load_pixels,
    make_loader,
    make_samples,
    split_samples,
    write_blind_test,
)
from planetlib.files.read import UnreadableImage
from planetlib.files.tables import DataError, write_table
from planetlib.images import read_image
from planetlib.transforms import fit_to_square, make_training_transform

SIZE = 24


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def checked_table(**counts: int) -> pd.DataFrame:
    """What `check_samples` returns of so many pictures of each class, all different; no file is needed to split it."""
    rows = [(f"{label}/{number}.png", label) for label, count in counts.items() for number in range(count)]
    table = pd.DataFrame(rows, columns=["path", "label"])
    return table.assign(status="ok", sha256=[hashlib.sha256(path.encode()).hexdigest() for path in table.path])


# Finding


def test_images_are_found_at_any_depth_sorted_and_by_suffix_in_any_case(tmp_path):
    touch(tmp_path, "b.PNG", "a.jpg", "deep/er/c.Tiff", "notes.txt", "png", "d.jpg.part")
    assert find_images(tmp_path) == [tmp_path / name for name in ("a.jpg", "b.PNG", "deep/er/c.Tiff")]


def test_hidden_files_and_folders_are_left_out(tmp_path):
    touch(tmp_path, "a.png", ".b.png", ".ipynb_checkpoints/c.png", "deep/.d/e.png")
    assert find_images(tmp_path) == [tmp_path / "a.png"]


def test_a_folder_without_pictures_holds_no_images(tmp_path):
    assert find_images(tmp_path) == []


def test_zipped_fits_is_found_and_other_archives_are_not(tmp_path):
    touch(tmp_path, "a.fits.gz", "b.tar.gz", "c.fits.FZ", "d.gz")
    assert find_images(tmp_path) == [tmp_path / "a.fits.gz", tmp_path / "c.fits.FZ"]


def test_links_to_folders_are_listed_and_not_followed_even_in_a_circle(tmp_path):
    touch(tmp_path, "in/a.png", "out/b.png", "folder.png/c.png")
    (tmp_path / "in" / "circle").symlink_to("..")
    (tmp_path / "in" / "elsewhere").symlink_to("../out")
    (tmp_path / "in" / "dangling.png").symlink_to("gone")
    assert find_images(tmp_path / "in") == [
        tmp_path / "in" / n for n in ("a.png", "circle", "dangling.png", "elsewhere")
    ]
    checked = check_samples(pd.DataFrame({"path": map(str, find_images(tmp_path / "in"))}), progress=False)
    followed = "a link to a folder, which is not followed; name the folder itself"
    assert checked.error.tolist() == ["empty file", followed, "a link to nothing", followed]
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


@pytest.mark.parametrize("find", [find_images, find_samples])
def test_a_missing_folder_is_named(tmp_path, find):
    with pytest.raises(DataError, match="nowhere: no such folder; "):
        find(tmp_path / "nowhere")


def test_the_sub_folder_gives_the_label(tmp_path):
    touch(tmp_path, "mars/deep/a.png", "earth/b.png", "earth/a.png", "stray.png", ".hidden/a.png", "empty/notes.txt")
    samples = find_samples(tmp_path)
    assert [*zip(samples.path, samples.label)] == [
        (str(tmp_path / "earth" / "a.png"), "earth"),
        (str(tmp_path / "earth" / "b.png"), "earth"),
        (str(tmp_path / "mars" / "deep" / "a.png"), "mars"),
    ]


@pytest.mark.parametrize(
    "names, got",
    [
        ([], "got 0 sub-folders, 0 of them with pictures"),
        (["a.png", "b.png"], "got 0 sub-folders, 0 of them with pictures"),
        (["earth/a.png"], "got 1 sub-folders, 1 of them with pictures"),
        (["earth/a.png", "mars/notes.txt"], "got 2 sub-folders, 1 of them with pictures"),
    ],
    ids=["empty", "files but no folders", "a single class", "a class without pictures"],
)
def test_fewer_than_two_classes_are_refused_with_what_was_found(tmp_path, names, got):
    with pytest.raises(DataError, match=f"{got}; expected a sub-folder with pictures for each of two or more classes"):
        find_samples(touch(tmp_path, *names))


# Checking


def test_check_tells_what_each_file_is(fixture_folder):
    checked = check_samples(find_samples(fixture_folder), progress=False)
    assert len(checked) == 24 and set(checked.status) == {"ok"} and set(checked.error) == {""}
    first = checked.iloc[0]
    content = Path(first.path).read_bytes()
    assert (first["format"], first["mode"], first.width, first.height) == ("PNG", "RGB", 48, 48)
    assert (first.bytes, first.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_check_says_that_a_picture_is_the_first_of_several(tmp_path, every_format):
    (tmp_path / "a.gif").write_bytes(every_format["animated.gif"])
    checked = check_samples(pd.DataFrame({"path": [str(tmp_path / "a.gif")]}), progress=False)
    assert (checked.status[0], checked.error[0], checked.note[0]) == ("ok", "", "first of several frames")


def test_check_does_not_wait_for_a_pipe_nor_read_gigabytes(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with open(tmp_path / "hole.png", "wb") as file:
        file.truncate(5 << 30)
    paths = [str(tmp_path / name) for name in ("pipe.png", "hole.png")]
    checked = check_samples(pd.DataFrame({"path": paths}), progress=False)
    assert checked.error.str[:9].tolist() == ["a pipe, s", "too large"]


def test_check_says_why_a_file_is_unreadable_and_keeps_its_row(tmp_path, fixture_folder):
    good = next(fixture_folder.rglob("*.png")).read_bytes()
    for name, content in {"a.png": good[:100], "b.png": b"", "c.png": b"text", "d.png": good}.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in ("d.png", "a.png", "b.png", "c.png", "gone.png")]
    # As after leaving rows out, the index has gaps.
    checked = check_samples(pd.DataFrame({"path": paths, "label": "mars"}, index=[9, 7, 5, 3, 1]), progress=False)
    assert list(checked.path) == paths
    assert list(checked.status) == ["ok"] + ["unreadable"] * 4
    reasons = ["", "damaged or truncated", "empty file", "not an image", "no such file"]
    assert all(error.startswith(reason) for error, reason in zip(checked.error, reasons, strict=True))
    assert checked.bytes[1] == 100 and checked.width[1] == 0


# Splitting


def test_each_class_of_twenty_is_split_14_3_3():
    samples = split_samples(checked_table(earth=20, mars=20, venus=20))
    counts = samples.groupby(["label", "split"]).size().unstack()
    assert (counts.train == 14).all() and (counts.val == 3).all() and (counts.test == 3).all()


@pytest.mark.parametrize("count", range(3, 12))
def test_each_split_has_every_class_however_few(count):
    samples = split_samples(checked_table(earth=count, mars=20))
    assert len(samples) == count + 20
    assert samples.groupby("split").label.nunique().to_dict() == {"train": 2, "val": 2, "test": 2}


def test_the_split_depends_on_the_seed():
    checked = checked_table(earth=20, mars=20)
    pd.testing.assert_frame_equal(split_samples(checked, seed=1), split_samples(checked, seed=1))
    assert not split_samples(checked, seed=1).split.equals(split_samples(checked, seed=2).split)


def test_classes_are_dealt_differently():
    samples = split_samples(checked_table(earth=20, mars=20))
    assert list(samples.split[:20]) != list(samples.split[20:])


def test_adding_a_class_does_not_deal_the_others_anew():
    before = split_samples(checked_table(mars=20, venus=20)).set_index("path").split
    after = split_samples(checked_table(earth=20, mars=20, venus=20)).set_index("path").split
    pd.testing.assert_series_equal(after[before.index], before)


@pytest.mark.parametrize("seed", range(5))
def test_equal_files_stay_on_one_side(seed):
    checked = checked_table(earth=20, mars=20)
    checked.loc[[1, 2, 30], "sha256"] = checked.sha256[0]  # three copies, one of them in the other class
    samples = split_samples(checked, seed)
    assert samples.groupby("sha256").split.nunique().max() == 1
    assert samples.group[[0, 1, 2, 30]].nunique() == 1 and samples.group.nunique() == 37


def grouped_table(**sizes: list[int]) -> pd.DataFrame:
    """As `checked_table`, with groups of such sizes in each class, as the audit finds them."""
    checked = checked_table(**{label: sum(groups) for label, groups in sizes.items()})
    groups = [size for groups in sizes.values() for size in groups]
    return checked.assign(group=np.repeat(np.arange(len(groups)), groups))


@pytest.mark.parametrize("seed", range(5))
def test_groups_of_the_audit_stay_on_one_side_and_the_shares_hold(seed):
    samples = split_samples(grouped_table(earth=[8, 5, 3, 2] + [1] * 82, mars=[1] * 100), seed)
    assert samples.groupby("group").split.nunique().max() == 1
    dealt = samples.groupby(["label", "split"]).size().unstack()[["train", "val", "test"]]
    assert (dealt == [70, 15, 15]).all(axis=None)


@pytest.mark.parametrize("sizes", [[18, 1, 1], [5, 5, 5], [1, 9, 9, 1], [30, 2, 2, 2]])
def test_each_split_has_every_class_however_large_its_groups(sizes):
    samples = split_samples(grouped_table(earth=sizes, mars=[1] * 20))
    assert samples.groupby("split").label.nunique().to_dict() == {"train": 2, "val": 2, "test": 2}
    assert samples.groupby("group").split.nunique().max() == 1


def test_the_samples_table_has_its_columns_and_the_order_of_the_files():
    checked = checked_table(mars=5, earth=4)
    samples = split_samples(checked)
    assert list(samples.columns) == ["path", "label", "split", "sha256", "group"]
    assert list(samples.path) == list(checked.path)


def test_unreadable_files_are_left_out():
    checked = checked_table(earth=6, mars=6)
    checked.loc[[0, 8], "status"] = "unreadable"
    samples = split_samples(checked)
    assert list(samples.index) == list(range(10)) and not set(samples.path) & {"earth/0.png", "mars/2.png"}


def test_too_small_classes_are_named_with_their_counts():
    checked = checked_table(earth=5, mars=1, venus=5, zero=1)
    checked.loc[checked.label == "zero", "status"] = "unreadable"
    checked.loc[checked.label == "venus", "sha256"] = "five times the same file"
    expected = (
        "^too few different readable pictures to fill train, val, test: 'mars' has 1, 'venus' has 1, 'zero' has 0; "
        "add pictures until there are 3 or take the class folder away$"
    )
    with pytest.raises(DataError, match=expected):
        split_samples(checked)


def test_make_samples_finds_checks_and_splits(fixture_folder, samples):
    assert list(samples.path) == list(find_samples(fixture_folder).path)
    assert Counter(samples.split) == {"train": 18, "val": 3, "test": 3}


def test_nothing_in_the_folder_is_changed(fixture_folder):
    def state():
        paths = fixture_folder.rglob("*")
        return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in paths}

    before = state()
    samples = make_samples(fixture_folder, progress=False)
    ImageData(samples, sorted(samples.label.unique()), SIZE, progress=False)
    assert state() == before and len(before) == 27


# Data sets


@pytest.fixture(scope="module")
def class_names(samples) -> list[str]:
    return sorted(samples.label.unique())


@pytest.fixture
def augmented(samples, class_names) -> ImageData:
    return ImageData(samples, class_names, SIZE, "pad", make_training_transform("robust", SIZE), seed=5, progress=False)


def test_pixels_are_the_pictures_in_their_order(samples):
    pixels = load_pixels(samples.path, SIZE, "pad", progress=False)
    assert pixels.dtype == np.uint8 and pixels.shape == (24, SIZE, SIZE, 3)
    for index in (0, 11, 23):
        np.testing.assert_array_equal(pixels[index], fit_to_square(read_image(samples.path[index]), SIZE))


@pytest.mark.parametrize("fit", ["pad", "squash"])
def test_pixels_are_fitted_as_asked(tmp_path, fit):
    wide = np.random.default_rng(0).integers(0, 256, (20, 60, 3), dtype=np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    pixels = load_pixels([tmp_path / "wide.png"], SIZE, fit, progress=False)
    np.testing.assert_array_equal(pixels[0], fit_to_square(wide, SIZE, fit))


def test_pixels_beyond_the_memory_limit_are_mapped_and_equal(samples, monkeypatch):
    in_memory = load_pixels(samples.path, SIZE, "squash", progress=False)
    monkeypatch.setattr(data, "IN_MEMORY_BYTES", in_memory.nbytes - 1)
    mapped = load_pixels(samples.path, SIZE, "squash", progress=False)
    assert isinstance(mapped, np.memmap) and not isinstance(in_memory, np.memmap)
    np.testing.assert_array_equal(mapped, in_memory)


def test_a_picture_that_has_become_unreadable_is_named(samples, tmp_path):
    with pytest.raises(UnreadableImage, match="gone.png: no such file"):
        load_pixels([samples.path[0], tmp_path / "gone.png"], SIZE, "pad", progress=False)


def test_items_are_the_pixels_and_the_class_number(samples, class_names):
    dataset = ImageData(samples, class_names[::-1], SIZE, progress=False)
    image, number = dataset[0]
    assert len(dataset) == 24 and class_names[::-1][number] == samples.label[0]
    np.testing.assert_array_equal(image.permute(1, 2, 0), dataset.pixels[0])


def test_an_augmented_item_depends_on_seed_epoch_and_index_alone(augmented):
    first = augmented[3][0]
    augmented[4]  # what is drawn in between does not matter
    assert torch.equal(augmented[3][0], first)
    augmented.pixels[4] = augmented.pixels[3]
    assert not torch.equal(augmented[4][0], first)
    augmented.epoch = 1
    assert not torch.equal(augmented[3][0], first)
    augmented.epoch, augmented.seed = 0, 6
    assert not torch.equal(augmented[3][0], first)


def test_workers_do_not_change_what_is_drawn(augmented):
    alone, helped = (list(make_loader(augmented, 5, shuffle_seed=1, workers=workers)) for workers in (0, 2))
    assert len(alone) == len(helped) == 5
    for one, other in zip(alone, helped):
        assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def drawn_order(shuffle_seed, epochs: int = 1) -> list[int]:
    loader = make_loader(range(20), 6, shuffle_seed)
    return [int(item) for _ in range(epochs) for batch in loader for item in batch]


def test_the_order_depends_on_the_shuffle_seed():
    torch.manual_seed(1)
    first = drawn_order(3)
    torch.manual_seed(2)
    assert drawn_order(3) == first != drawn_order(4)
    assert sorted(first) == list(range(20))


def test_each_epoch_is_shuffled_anew():
    order = drawn_order(3, epochs=2)
    assert order[:20] != order[20:]


def test_without_a_shuffle_seed_the_order_is_kept():
    assert drawn_order(None) == list(range(20))


def test_a_blind_test_copies_pictures_under_names_that_tell_nothing(samples, tmp_path):
    mapping = write_blind_test(samples, tmp_path / "blind", seed=1)
    assert sorted(path.name for path in (tmp_path / "blind").iterdir()) == sorted(mapping.blind)
    assert set(mapping.blind.str.fullmatch(r"\d{4}\.png")) == {True}
    for row in mapping.itertuples():
        assert (tmp_path / "blind" / row.blind).read_bytes() == Path(row.path).read_bytes()
    assert list(mapping.label) != sorted(mapping.label)
    assert pd.read_csv(tmp_path / "blind_mapping.csv").equals(mapping)


def test_a_blind_test_replaces_an_earlier_one_and_nothing_else(samples, tmp_path):
    write_blind_test(samples, tmp_path / "blind")
    assert len(write_blind_test(samples.head(5), tmp_path / "blind")) == 5 == len(list((tmp_path / "blind").iterdir()))
    (tmp_path / "blind" / "mine.png").touch()
    with pytest.raises(DataError, match="holds files that are no blind test's"):
        write_blind_test(samples, tmp_path / "blind")
    assert (tmp_path / "blind" / "mine.png").exists()


def test_a_name_that_is_not_utf8_is_a_row_that_cannot_be_read(fixture_folder, tmp_path):
    folder = shutil.copytree(fixture_folder, tmp_path / "copy")
    source = next((folder / "red").iterdir())
    source.rename(folder / "red" / b"caf\xe9.png".decode("utf-8", "surrogateescape"))
    checked = check_samples(find_samples(folder), progress=False)
    write_table(checked, tmp_path / "checked.csv")
    assert list(checked.path[checked.status == "unreadable"]) == [str(folder / "red" / "caf\\udce9.png")]


@pytest.mark.parametrize("device, pinned", [("cpu", False), (torch.device("cuda"), True)])
def test_batches_for_a_gpu_come_in_pinned_memory(device, pinned):
    assert make_loader(TensorDataset(torch.zeros(4)), 2, device=device).pin_memory is pinned
