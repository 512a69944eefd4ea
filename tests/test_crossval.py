"""Cross-validation: folds that leak nothing, one judgement of each picture for each seed, and going on after a stop."""

import numpy as np
import pandas as pd
import pytest

from planetlib.checkpoint import CheckpointError
from planetlib.evaluate import wilson_interval
from planetlib.files.tables import DataError
from planetlib.settings import Settings
from planetlib.study import crossval
from planetlib.study.crossval import cross_validate, make_folds, summarize_scores


def table_of(per_class: int = 20, copies: int = 4) -> pd.DataFrame:
    """A samples table of two classes; the first `copies` pictures of each are copies of one another."""
    rows = [(f"{label}/{n}", label, "train", f"{label}{n}", f"{label}{max(n, copies - 1)}")
            for label in ("earth", "mars") for n in range(per_class)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["path", "label", "split", "sha256", "group"])
    return table.assign(group=pd.factorize(table.group)[0])


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_each_picture_is_held_out_once_and_groups_stay_whole(folds):
    tables = make_folds(table_of(), folds, seed=1)
    held_out = np.sum([(table.split == "test").to_numpy() for table in tables], axis=0)
    assert len(tables) == folds and (held_out == 1).all()
    for table in tables:
        assert table.groupby("group").split.nunique().max() == 1
        assert (table.groupby("split").label.nunique() == 2).all() and set(table.split) == {"train", "val", "test"}


def test_folds_have_their_share_of_each_class_and_of_validation():
    for table in make_folds(table_of(per_class=100, copies=1), 5):
        counts = table.groupby(["label", "split"]).size().unstack()
        assert (counts.test == 20).all() and counts.val.between(12, 16).all()


def test_folds_are_decided_by_the_seed():
    first, again, other = (make_folds(table_of(), 5, seed)[0].split for seed in (0, 0, 1))
    assert first.equals(again) and not first.equals(other)


def test_too_few_pictures_of_a_class_are_told():
    message = "too few different pictures for 5 folds: 'earth' has 3, 'mars' has 3; expected 5 or more of each class"
    with pytest.raises(DataError, match=message):
        make_folds(table_of(per_class=6, copies=4), 5)


@pytest.fixture(scope="module")
def settings(fixture_folder, tmp_path_factory) -> Settings:
    return Settings(
        fixture_folder, tmp_path_factory.mktemp("folds"), tmp_path_factory.mktemp("figures"), image_size=64, views=1,
        head_epochs=3, finetune_epochs=1, free_stages=1, head_lr=0.01, batch_size=8, precision="float32", workers=0,
        device="cpu", outliers=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(settings, samples):
    return cross_validate(settings, samples, folds=2, seeds=[0, 1], progress=False)


def test_every_fold_is_trained_and_scored(finished, settings, samples):
    scores, predictions = finished
    assert scores[["seed", "fold"]].values.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert (scores.images == 12).all() and (scores.accuracy == scores.correct / scores.images).all()
    assert predictions.groupby("seed").path.apply(lambda paths: set(paths) == set(samples.path)).all()
    assert (predictions.label == predictions.predicted).sum() == scores.correct.sum()
    for name in ("fold-0-0", "fold-0-1", "fold-1-0", "fold-1-1"):
        assert (settings.run / name / "finetune.pt").is_file()
    pd.testing.assert_frame_equal(pd.read_csv(settings.run / "crossval.csv"), scores)
    assert len(pd.read_csv(settings.run / "crossval_predictions.csv")) == 48


def test_finished_folds_are_not_trained_again(finished, settings, samples, monkeypatch):
    times = {path: path.stat().st_mtime_ns for path in settings.run.rglob("*.pt")}
    again = cross_validate(settings, samples, folds=2, seeds=[0, 1], progress=False)
    assert len(times) == 16 and {path: path.stat().st_mtime_ns for path in times} == times
    pd.testing.assert_frame_equal(again[0], finished[0])


def test_other_settings_are_refused(finished, settings, samples):
    with pytest.raises(CheckpointError, match="was made with batch_size 8"):
        cross_validate(settings.replace(batch_size=4), samples, folds=2, seeds=[0, 1], progress=False)


def test_an_interrupt_ends_it_and_keeps_what_is_done(settings, samples, monkeypatch, tmp_path):
    def interrupt(stage, *_, **__):
        history = pd.DataFrame()
        history.attrs["interrupted"] = True
        return history

    monkeypatch.setattr(crossval, "train_phase", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(settings.replace(run=tmp_path), samples, folds=2, seeds=[0], progress=False)


def test_the_summary_pools_folds_and_does_not_count_seeds_as_pictures():
    rows = [(0, 0, 10, 10, 1.0, 1.0), (0, 1, 30, 24, 0.8, 0.7), (1, 0, 10, 9, 0.9, 0.9), (1, 1, 30, 27, 0.9, 0.8)]
    scores = pd.DataFrame(rows, columns="seed fold images correct accuracy balanced_accuracy".split())
    found = summarize_scores(scores)
    assert (found["images"], found["seeds"]) == (40, 2)
    assert found["accuracy"] == pytest.approx(35 / 40) and found["balanced_accuracy"] == pytest.approx(0.85)
    assert (found["low"], found["high"]) == wilson_interval(35, 40)
    assert (found["seed_low"], found["seed_high"]) == pytest.approx((34 / 40, 36 / 40))
