"""Cross-validation: folds that leak nothing, one judgement of each picture for each seed, and going on after a stop."""

import numpy as np
import pandas as pd
import pytest

from planetlib.checkpoint import find_checkpoint
from planetlib.evaluate import wilson_interval
from planetlib.files.tables import DataError
from planetlib.settings import Settings
from planetlib.study import crossval
from planetlib.study.crossval import cross_validate, describe_scores, make_folds, score_seeds
from tests.conftest import predictions_of


def table_of(per_class: int = 20, copies: int = 4) -> pd.DataFrame:
    """A samples table of two classes; the first `copies` pictures of each are copies of one another."""
    rows = [(f"{label}/{n}", label, "train", f"{label}{n}", f"{label}{max(n, copies - 1)}")
            for label in ("earth", "mars") for n in range(per_class)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["path", "label", "split", "sha256", "group"])
    return table.assign(group=pd.factorize(table.group)[0])


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_each_picture_is_held_out_once_and_groups_stay_whole(folds):
    tables = make_folds(table_of(), folds, seed=1)
    assert len(tables) == folds and (sum((table.split == "test").astype(int) for table in tables) == 1).all()
    for table in tables:
        assert table.groupby("group").split.nunique().max() == 1
        assert table.groupby("split").label.nunique().to_dict() == {"train": 2, "val": 2, "test": 2}


def test_folds_have_their_share_of_each_class_and_of_validation_and_are_decided_by_the_seed():
    samples = table_of(per_class=100, copies=1)
    for table in make_folds(samples, 5):
        counts = table.groupby(["label", "split"]).size().unstack()
        assert (counts.test == 20).all() and counts.val.between(12, 16).all()
    first, again, other = (make_folds(samples, 5, seed)[0].split for seed in (0, 0, 1))
    assert first.equals(again) and not first.equals(other)


def test_too_few_pictures_of_a_class_are_told():
    with pytest.raises(DataError, match="5 folds: 'earth' has 3, 'mars' has 3; expected 5"):
        make_folds(table_of(per_class=6, copies=4), 5)


@pytest.fixture(scope="module")
def settings(trained_run, tmp_path_factory) -> Settings:
    run = tmp_path_factory.mktemp("folds")
    return trained_run.replace(run=run, views=1, outliers=0, head_epochs=2, finetune_epochs=1)


@pytest.fixture(scope="module")
def finished(settings, samples):
    return cross_validate(settings, samples, folds=2, seeds=[0, 1])


def test_every_fold_is_trained_and_scored(finished, settings, samples):
    scores, predictions = finished
    assert scores[["seed", "fold"]].values.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert (scores.images == 12).all() and (scores.accuracy == scores.correct / scores.images).all()
    assert predictions.groupby("seed").path.apply(lambda paths: set(paths) == set(samples.path)).all()
    assert (predictions.label == predictions.predicted).sum() == scores.correct.sum()
    for name in ("fold-0-0", "fold-0-1", "fold-1-0", "fold-1-1"):
        assert find_checkpoint(settings.run / name).stem == "finetune"
    pd.testing.assert_frame_equal(pd.read_csv(settings.run / "crossval.csv"), scores)
    assert len(pd.read_csv(settings.run / "crossval_predictions.csv")) == 48


def test_an_interrupted_training_ends_it(settings, samples, monkeypatch, tmp_path):
    monkeypatch.setattr(crossval, "train_phase", lambda *_, **__: (pd.DataFrame(), True))
    with pytest.raises(KeyboardInterrupt):
        cross_validate(settings.replace(run=tmp_path), samples, folds=2, seeds=[0])


def test_a_picture_that_has_become_unreadable_is_told(finished, settings, samples):
    lost = samples.assign(path=samples.path.replace(samples.path[3], "lost.png"))
    with pytest.raises(DataError, match="lost.png"):
        cross_validate(settings, lost, folds=2, seeds=[0])


def test_folds_are_pooled_and_seeds_are_not_counted_as_pictures():
    rows = [(0, 0, 10, 10, 1.0, 1.0), (0, 1, 30, 24, 0.8, 0.7), (1, 0, 10, 9, 0.9, 0.9), (1, 1, 30, 27, 0.9, 0.8)]
    said = describe_scores(pd.DataFrame(rows, columns="seed fold images correct accuracy balanced_accuracy".split()))
    low, high = wilson_interval(35, 40)
    assert f"accuracy 87.50%, 95 % Wilson interval {low:.2%} to {high:.2%} (40 images" in said
    assert "from 85.00% to 90.00%" in said and "balanced accuracy 85" in said


def test_each_seed_has_its_calibration():
    table = predictions_of([("red", "red", 0.9, "ok"), ("red", "blue", 0.7, "unknown")], ["blue", "red"], "a.png")
    scores = score_seeds(pd.concat([table.assign(seed=3), table[:1].assign(seed=4)]))
    assert scores.seed.tolist() == [3, 4] and scores.accuracy.tolist() == [0.5, 1.0]
    assert scores.mean_confidence_when_wrong[0] == 0.7 and np.isnan(scores.mean_confidence_when_wrong[1])
    assert scores.calibration_error.tolist() == pytest.approx([0.4, 0.1]) and scores.called_unknown.tolist() == [0.5, 0]
