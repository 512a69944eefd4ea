"""Faithfulness of activation maps: each measure tells a good map from a bad one."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from planetlib.classify import Classifier
from planetlib.explain import METHODS
from planetlib.study import faithful
from planetlib.transforms import to_tensor


@pytest.fixture
def ramp() -> np.ndarray:
    """A map, more important to the right; 20 × 20."""
    return np.tile(np.linspace(0, 1, 20, dtype=np.float32), (20, 1))


def test_the_most_important_pixels_go_and_come_first(ramp):
    picture = np.full((20, 20, 3), 200, np.uint8)
    picture[:, :10] = 100
    deleted, inserted = faithful.perturb_picture(picture, ramp, steps=4)
    assert deleted.shape == inserted.shape == (5, 20, 20, 3) and deleted.dtype == inserted.dtype == np.uint8
    np.testing.assert_array_equal(deleted[0], picture)
    np.testing.assert_array_equal(inserted[4], picture)
    assert (deleted[4] == 0).all() and not np.array_equal(inserted[0], picture)
    assert (deleted[1][:, 15:] == 0).all()
    np.testing.assert_array_equal(deleted[1][:, :15], picture[:, :15])
    np.testing.assert_array_equal(inserted[2][:, 10:], picture[:, 10:])


class Bright:
    """In place of a classifier: the class `light` is as likely as the right half of the picture is bright."""

    class_names = ["dark", "light"]

    def prepare(self, picture):
        return to_tensor(picture)

    def predict_tensors(self, images):
        light = images[..., images.shape[-1] // 2 :].float().mean((1, 2, 3)) / 255
        return torch.stack([1 - light, light], 1)


def test_a_map_of_what_decides_has_less_area_by_deletion_than_one_of_what_does_not(ramp):
    picture = np.full((20, 20, 3), 255, np.uint8)
    deletion, insertion = faithful.measure_curves(Bright(), picture, [ramp, ramp[:, ::-1]], "light", steps=4)
    np.testing.assert_allclose(deletion, [[1, 0.5, 0, 0, 0], [1, 1, 1, 0.5, 0]], atol=1e-6)
    assert insertion.shape == (2, 5) and (insertion[:, -1] == 1).all()
    assert faithful.measure_curves(Bright(), picture, [ramp], "dark", steps=4)[0][0, -1] == 1


def test_mass_is_the_share_within_the_mask_and_correlation_is_of_ranks_without_their_sign(ramp):
    mask = ramp > 0.5
    assert faithful.measure_mass(np.ones((20, 20)), mask) == 0.5 < faithful.measure_mass(ramp, mask)
    assert faithful.measure_mass(ramp * mask, mask) == pytest.approx(1) and faithful.measure_mass(0 * ramp, mask) == 0
    assert faithful.correlate_maps(ramp, ramp**3) == pytest.approx(1) == faithful.correlate_maps(ramp, -ramp)
    assert faithful.correlate_maps(ramp, ramp.T) == pytest.approx(0, abs=1e-6)
    assert faithful.correlate_maps(ramp, 0 * ramp) == 0


def test_random_weights_replace_the_head_or_everything(classifier):
    before = {name: value.clone() for name, value in classifier.model.state_dict().items()}
    for everything in (False, True):
        other = faithful.randomize_weights(classifier, everything).model.state_dict()
        changed = {name for name, value in other.items() if not torch.equal(value, before[name])}
        assert any(name.startswith("head.") for name in changed)
        assert any(name.startswith("backbones.") for name in changed) == everything
        again = faithful.randomize_weights(classifier, everything).model.state_dict()
        assert all(torch.equal(again[name], value) for name, value in other.items())
    assert all(torch.equal(value, before[name]) for name, value in classifier.model.state_dict().items())


def test_the_table_has_a_row_for_each_method_the_best_first(classifier, samples):
    table = faithful.compare_methods(classifier, samples.path[:3], steps=3)
    assert sorted(table.index) == sorted(METHODS) and list(table.columns) == [*faithful.BETTER_HIGH, "rank"]
    assert table["rank"].is_monotonic_increasing
    scores = table[["deletion", "insertion", "sanity_head", "sanity_all"]]
    assert scores.notna().all(axis=None) and scores.ge(0).all(axis=None) and scores.le(1 + 1e-6).all(axis=None)
    assert table.on_planet.isna().all()  # none of red, green and blue can be drawn
    assert table.sanity_head["eigencam"] > 0.999


def test_drawn_planets_tell_what_lies_on_the_planet_whatever_the_threads(classifier, samples):
    classifier = Classifier(dataclasses.replace(classifier.checkpoint, class_names=["earth", "mars", "moon"]), "cpu")
    tables = []
    for threads in (5, 1):
        torch.set_num_threads(threads)
        tables.append(faithful.compare_methods(classifier, samples.path[:4], ["gradcam", "eigencam"], 2, renders=1))
        assert torch.get_num_threads() == threads
    assert tables[0].on_planet.between(0, 1).all() and 0.05 < tables[0].attrs["planet_area"] < 0.7
    pd.testing.assert_frame_equal(*tables, check_exact=True)
