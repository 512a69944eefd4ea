"""What is fitted when a phase has ended: temperature, detector, threshold."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from planetlib.calibrate import calibrate, fit_detector, fit_temperature
from planetlib.checkpoint import Checkpoint
from planetlib.draw.outliers import OUTLIERS
from planetlib.features import FrozenFeatures
from planetlib.model import score_unknown


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    torch.manual_seed(0)
    logits = 4 * torch.randn(20_000, 5)
    labels = torch.multinomial((logits / temperature).softmax(1), 1)[:, 0]
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


def test_a_network_that_is_always_right_is_not_made_sure_of_everything():
    labels = torch.arange(30) % 3
    logits = 2.0 * functional.one_hot(labels, 3)
    sure = (logits / fit_temperature(logits, labels)).softmax(1).amax(1)
    assert sure == pytest.approx((30 + 1 / 3) / (30 + 1), abs=1e-3)  # one more, as likely of any of the three classes


@pytest.fixture
def clouds() -> tuple[torch.Tensor, torch.Tensor]:
    """Two classes and two kinds of outliers, each a cloud of 40 points about a corner of a square; 600 features."""
    rng = np.random.default_rng(0)
    corners = np.array([(1, 1), (-1, -1), (1, -1), (-1, 1)])
    numbers = np.repeat(np.arange(4), 40)
    features = corners[numbers] @ rng.normal(0, 1, (2, 600)) + rng.normal(0, 0.5, (160, 600))
    return torch.tensor(features, dtype=torch.float32), torch.tensor(numbers)


def test_outliers_score_higher_than_the_classes_even_where_no_line_parts_them(clouds):
    features, numbers = clouds
    scores = score_unknown(fit_detector(features, numbers, 2), features, 2)
    assert scores[numbers >= 2].min() > scores[numbers < 2].max()
    assert ((scores >= 0) & (scores <= 1)).all()


def test_scale_and_offset_of_a_feature_do_not_matter(clouds):
    features, numbers = clouds
    moved = features * torch.tensor([1, 1000, 0.01]).repeat(200) + 7
    plain = score_unknown(fit_detector(features, numbers, 2), features, 2)
    torch.testing.assert_close(score_unknown(fit_detector(moved, numbers, 2), moved, 2), plain, atol=1e-3, rtol=0)


def test_a_rare_kind_is_not_outvoted_by_a_common_one(clouds):
    features, numbers = clouds
    rare = (numbers != 3) | (torch.arange(160) % 10 == 0)
    scores = score_unknown(fit_detector(features[rare], numbers[rare], 2), features, 2)
    assert scores[numbers == 3].min() > scores[numbers < 2].max()


@pytest.fixture(scope="module")
def checkpoint(trained_run) -> Checkpoint:
    return Checkpoint.load(trained_run.run / "finetune.safetensors")


def test_training_ends_with_a_calibrated_checkpoint(checkpoint, trained_run):
    assert checkpoint.temperature != 1 and 0 < checkpoint.unknown_threshold < 1
    assert checkpoint.detector["weight"].shape == (3 + len(OUTLIERS), 24 + 32 + 64)
    assert checkpoint.calibration["log_loss_after"] < checkpoint.calibration["log_loss_before"]
    assert 0.5 < checkpoint.calibration["outlier_auroc"] <= 1
    assert Checkpoint.load(trained_run.run / "head.safetensors").detector


def test_without_outliers_only_the_temperature_is_fitted(checkpoint, trained_run, samples, tmp_path):
    rows = {name: checkpoint.state_dict[name][:3] for name in ("head.1.weight", "head.1.bias")}
    bare = dataclasses.replace(
        checkpoint, outlier_kinds=[], state_dict={**checkpoint.state_dict, **rows},
        temperature=1.0, detector={}, unknown_threshold=1.0, calibration={},
    )  # fmt: skip
    settings, model = trained_run.replace(run=tmp_path, outliers=0), bare.build_model()
    features = [FrozenFeatures(split, settings, samples, model, progress=False) for split in ("train", "val")]
    found = calibrate(bare, *features)
    assert found.temperature != 1 and found.detector == {} and found.unknown_threshold == 1
    assert found.state_dict is bare.state_dict and set(found.calibration) == {"log_loss_before", "log_loss_after"}
