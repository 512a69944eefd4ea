"""What is fitted when a stage has ended: temperature, detector, threshold."""

import dataclasses

import pytest
import torch
from torch.nn import functional

from planetlib.calibrate import calibrate, fit_temperature
from planetlib.checkpoint import Checkpoint
from planetlib.features import outlier_kinds


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    torch.manual_seed(0)
    logits = 4 * torch.randn(20_000, 5)
    labels = torch.multinomial((logits / temperature).softmax(1), 1)[:, 0]
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


def test_no_other_temperature_makes_the_labels_likelier():
    torch.manual_seed(0)
    logits, labels = torch.randn(200, 3), torch.randint(3, (200,))
    logits[torch.arange(200), labels] += 1
    best = fit_temperature(logits, labels)

    def loss(temperature):
        return functional.cross_entropy(logits / temperature, labels, label_smoothing=1 / 201)

    assert all(loss(best) < loss(best * factor) for factor in (0.8, 0.95, 1.05, 1.25))


def test_a_network_that_is_always_right_is_not_made_sure_of_everything():
    labels = torch.arange(30) % 3
    logits = 2.0 * functional.one_hot(labels, 3)
    sure = (logits / fit_temperature(logits, labels)).softmax(1).amax(1)
    assert sure == pytest.approx((30 + 1 / 3) / (30 + 1), abs=1e-3)  # one more, as likely of any of the three classes


@pytest.fixture(scope="module")
def checkpoint(trained_run) -> Checkpoint:
    return Checkpoint.load(trained_run.run / "finetune.pt")


def test_training_ends_with_a_calibrated_checkpoint(checkpoint, trained_run):
    assert checkpoint.temperature != 1 and 0 < checkpoint.unknown_threshold < 1
    rows, _ = checkpoint.detector["weight"].shape
    assert rows > len(checkpoint.class_names) and len(checkpoint.detector["bias"]) == rows
    assert Checkpoint.load(trained_run.run / "head.pt").detector
    assert sum(value.nbytes for value in checkpoint.detector.values()) < 1e6


def test_calibration_leaves_weights_alone_and_is_repeatable(checkpoint, trained_run, samples):
    bare = dataclasses.replace(checkpoint, temperature=1.0, detector={}, unknown_threshold=1.0, calibration={})
    again = calibrate(bare, trained_run, samples, progress=False)
    assert again.state_dict is bare.state_dict and bare.temperature == 1
    assert again.calibration == checkpoint.calibration
    assert again.temperature == checkpoint.temperature and again.unknown_threshold == checkpoint.unknown_threshold
    assert all(torch.equal(value, checkpoint.detector[name]) for name, value in again.detector.items())


def test_the_users_own_class_is_no_kind_of_outlier(checkpoint, trained_run):
    kinds = outlier_kinds(["blue", "green", "venus"], trained_run)
    assert (
        kinds == [kind for kind in checkpoint.outlier_kinds if kind != "venus"] and "venus" in checkpoint.outlier_kinds
    )


def test_without_outliers_only_the_temperature_is_fitted(checkpoint, trained_run, samples):
    bare = dataclasses.replace(checkpoint, temperature=1.0, detector={}, unknown_threshold=1.0, calibration={})
    found = calibrate(bare, trained_run.replace(outliers=0), samples, progress=False)
    assert found.temperature != 1 and found.detector == {} and found.unknown_threshold == 1
    assert set(found.calibration) == {"log_loss_before", "log_loss_after"}
