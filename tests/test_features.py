"""Frozen features: what they are, and that none is stale."""

import shutil
import warnings
from unittest.mock import Mock

import joblib
import numpy as np
import pytest
import torch

from planetlib import features as features_module
from planetlib.draw import mixture
from planetlib.draw.outliers import OUTLIERS
from planetlib.features import DRAWN_PER_VALIDATION, FrozenFeatures, outlier_kinds
from planetlib.model import Network, Tail


@pytest.fixture(scope="module")
def model(trained_run):
    torch.manual_seed(0)
    return Network(trained_run.backbone, 3 + len(OUTLIERS)).eval()


@pytest.fixture
def settings(trained_run, tmp_path):
    return trained_run.replace(run=tmp_path / "run", image_size=32)


@pytest.fixture
def make(settings, samples, model):
    """`FrozenFeatures` of the training pictures, or as said."""

    def make(split="train", table=samples, **changes) -> FrozenFeatures:
        return FrozenFeatures(split, settings.replace(**changes), table, model, progress=False)

    return make


def test_trunk_and_tail_together_give_what_the_model_gives(make, model):
    features = make()
    images = torch.stack([image for image, _ in (*features.augment_files(0), *features.augment_drawn(0))])
    with torch.inference_mode():
        expected = model(images)
        tail = Tail(model, features.tail)(*features.load(0).tensors[:-1])
        torch.testing.assert_close(tail, expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(model.head(features.embed(0, model)[0]), expected, rtol=1e-3, atol=1e-4)


def test_bfloat16_is_kept_in_half_the_space_and_agrees(make, settings):
    full, half = (make(precision=precision).load(0).tensors[0] for precision in ("float32", "bfloat16"))
    assert (full.dtype, half.dtype) == (torch.float32, torch.bfloat16)
    assert 1e-3 < (full - half.float()).norm() / full.norm() < 0.1
    sizes = sorted(path.stat().st_size for path in (settings.run / "features").iterdir())
    assert sizes == [128 + 2 * full.numel(), 128 + 4 * full.numel()]  # 128 bytes are NumPy's header


def test_labels_are_of_the_pictures_then_of_the_drawn_then_of_the_outliers(make, samples, settings):
    named = samples.assign(label=samples.label.replace({"red": "mars", "blue": "neptune"}))  # the same pictures
    features, names = make(table=named, drawn=2), ["green", "mars", "neptune"]
    numbers = [names.index(label) for label in named.label[named.split == "train"]] + [1, 1, 2, 2]
    numbers += [3 + kind for kind in range(len(OUTLIERS)) for _ in range(settings.outliers)]
    assert features.labels.tolist() == numbers
    assert len(features.load(0)) == len(numbers)


def test_validation_has_fewer_planets_and_outliers_all_of_its_own(make, samples, settings):
    named = samples.assign(label=samples.label.replace("red", "mars"))
    train, val = (make(split, named, drawn=2 * DRAWN_PER_VALIDATION) for split in ("train", "val"))
    drawn, few = 2 * DRAWN_PER_VALIDATION, -(-settings.outliers // DRAWN_PER_VALIDATION)
    assert len(val.labels) == (samples.split == "val").sum() + 2 + few * len(OUTLIERS)
    views = [(train, 0), (train, 1), (val, 0), (val, 1)]
    pictures = [pixels.tobytes() for features, number in views for pixels in features.augment_drawn(number).pixels]
    assert len(set(pictures)) == len(pictures) == 2 * (drawn + 2 + (settings.outliers + few) * len(OUTLIERS))


def test_the_users_own_class_is_no_kind_of_outlier(settings):
    assert "venus" in OUTLIERS and outlier_kinds(["blue"], settings.replace(outliers=0)) == []
    for name in ("venus", "VENUS"):
        assert outlier_kinds(["blue", name], settings) == [kind for kind in OUTLIERS if kind != "venus"]


def test_names_of_planets_may_begin_with_capitals(make, samples):
    tables = [samples.assign(label=samples.label.replace("red", name)) for name in ("mars", "Mars")]
    small, large = (make(table=table, drawn=2) for table in tables)
    assert len(small.planets) == len(large.planets) == 1
    pictures = [torch.stack([image for image, _ in features.augment_drawn(0)]) for features in (small, large)]
    assert torch.equal(*pictures)


@pytest.mark.parametrize("length", [0, 60, -5])
def test_kept_features_that_were_damaged_are_made_anew(length, make, settings):
    first = make().load(0).tensors[0].clone()
    path = next((settings.run / "features").iterdir())
    path.write_bytes(path.read_bytes()[:length])
    assert torch.equal(make().load(0).tensors[0], first)


def test_what_is_kept_is_read_not_made_anew(make, monkeypatch):
    first = make().load(0).tensors[0].clone()
    monkeypatch.setattr(FrozenFeatures, "pixels", property(lambda self: pytest.fail("decoded again")))
    assert torch.equal(make().load(0).tensors[0], first)


def test_drawn_pictures_are_kept_between_runs_unless_they_are_met_once(make, monkeypatch, tmp_path):
    monkeypatch.setenv("PLANETLIB_CACHE", str(tmp_path / "kept"))
    assert not len(make(outliers=0).augment_drawn(0)) and not (tmp_path / "kept").exists()
    first = make().augment_drawn(0).pixels
    once = make(views=0).augment_drawn(1).pixels
    monkeypatch.setattr(mixture, "draw_outliers", lambda *what: pytest.fail("drawn again"))
    assert np.array_equal(make(run=tmp_path / "another").augment_drawn(0).pixels, first)
    for anew in ({"seed": 1}, {"views": 0}, {"image_size": 48}):
        with pytest.raises(pytest.fail.Exception):
            make(**anew).augment_drawn(1)
    assert once.any()


@pytest.mark.parametrize("harm", ["torn", "a file in its place", "full"])
def test_a_cache_that_cannot_be_used_costs_time_alone(harm, make, monkeypatch, tmp_path):
    kept = tmp_path / "kept"
    monkeypatch.setenv("PLANETLIB_CACHE", str(kept))
    first = make().augment_drawn(0).pixels
    (file,) = kept.rglob("output.pkl")
    if harm == "torn":
        file.write_bytes(file.read_bytes()[:100])
    else:
        shutil.rmtree(kept)
    if harm == "a file in its place":
        kept.touch()
    if harm == "full":
        monkeypatch.setattr(joblib.numpy_pickle, "dump", Mock(side_effect=OSError(28, "full")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(make().augment_drawn(0).pixels, first)


def test_whatever_changes_nothing_stale_is_read(make, settings, samples, monkeypatch):
    def count_kept(**changes) -> int:
        make(**changes).load(0)
        return len(list((settings.run / "features").iterdir()))

    different = [
        {}, {"seed": 1}, {"strength": 0.5}, {"outliers": 5}, {"free_stages": 5}, {"image_size": 48},
        {"recipe": "reference"}, {"batch_size": 7}, {"precision": "bfloat16"}, {"split": "val"},
        {"table": samples.assign(label=samples.label.replace("red", "pink"))}, {"table": samples.iloc[::-1]},
    ]  # fmt: skip
    for number, changes in enumerate(different, 1):
        assert count_kept(**changes) == number, changes
    with monkeypatch.context() as patch:
        patch.setattr(features_module, "library_versions", lambda: {"torch": "0"})
        assert count_kept() == len(different) + 1
    monkeypatch.setattr(features_module, "FEATURES_FORMAT", 0)
    assert count_kept() == len(different) + 2
