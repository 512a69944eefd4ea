"""Class activation maps."""

import dataclasses
import gc
import re

import cv2
import numpy as np
import pytest
import torch
from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMElementWise, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

import planetlib.explain as explain_module
from planetlib import PlanetlibError
from planetlib.checkpoint import Checkpoint
from planetlib.classify import Classifier
from planetlib.explain import COLOURS, CONTOURS, FORMULAS, METHODS, map_activation, overlay_map
from planetlib.images import read_image
from planetlib.model import BACKBONES, Network


def make_classifier(backbone: str, fit: str = "pad") -> Classifier:
    """A classifier with random weights."""
    torch.manual_seed(0)
    weights = Network(backbone, 3, weights="random").state_dict()
    return Classifier(Checkpoint(backbone, "linear", ["a", "b", "c"], 64, fit, dict(weights)), "cpu")


@pytest.fixture
def classifier(trained_run) -> Classifier:
    return Classifier.load(trained_run.run, device="cpu")


@pytest.fixture
def picture(samples) -> np.ndarray:
    """A red disc, 64 × 64, as large as what the network of `trained_run` sees: so nothing is resized on the way in."""
    return cv2.resize(read_image(samples.path[samples.label == "red"].iloc[0]), (64, 64))


def stretch(heat: np.ndarray) -> np.ndarray:
    return (heat - heat.min()) / (heat.max() - heat.min())


@pytest.mark.parametrize("shape", [(30, 90), (101, 70)])
@pytest.mark.parametrize("method", METHODS)
def test_maps_lie_on_the_pictures_own_pixels_between_0_and_1(method, shape, classifier, picture):
    resized = cv2.resize(picture, shape[::-1])
    # Nothing need speak for a class that is not predicted.
    heat = map_activation(classifier, resized, classifier.predict_picture(resized).predicted, method)
    assert heat.shape == shape and heat.dtype == np.float32
    assert np.isfinite(heat).all() and heat.min() >= 0 and heat.max() <= 1
    assert heat.max() > heat.min()


PEERS = dict(zip(FORMULAS, (GradCAM, GradCAMPlusPlus, HiResCAM, XGradCAM, LayerCAM, GradCAMElementWise, EigenCAM)))


@pytest.mark.parametrize("stage", ["toy.stage1", "toy.stage2", "toy.top"])
@pytest.mark.parametrize("method", FORMULAS)
def test_every_formula_gives_what_pytorch_grad_cam_gives(method, stage, classifier, picture):
    model, image = classifier.model, classifier.prepare(picture)[None]
    heats = {name: map_activation(classifier, picture, name, method, stage) for name in classifier.class_names}
    model.set_free_stages(model.stage_names)  # it asks for gradients of weights
    with PEERS[method](model, [model.get_stage(stage)]) as peer:
        for index, heat in enumerate(heats.values()):
            np.testing.assert_allclose(heat, peer(image, [ClassifierOutputTarget(index)])[0], atol=1e-4)
    assert np.ptp(heats[classifier.predict_picture(picture).predicted]) > 0.9


def test_the_fused_map_is_gradcam_of_the_last_stage_times_layercam_of_a_finer_one(classifier, picture):
    name = classifier.predict_picture(picture).predicted
    (fine,), (last,) = classifier.model.finer_stages, classifier.model.last_stages(1)
    choices = (("gradcam", last), ("layercam", fine))
    parts = [map_activation(classifier, picture, name, *choice) for choice in choices]
    fused = map_activation(classifier, picture, name, "fused")
    # Enlarged, a map no longer quite reaches 0 and 1; alone it is stretched again.
    np.testing.assert_allclose(fused, stretch(parts[0] * parts[1]), atol=0.03)
    assert np.abs(fused - parts[0]).max() > 0.1 < np.abs(fused - parts[1]).max()


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "resnet50", "ensemble"])
def test_the_finer_stage_has_fourteen_rows_where_the_last_has_seven(backbone):
    model = Network(backbone, 2, weights="random").eval()
    rows: dict[torch.nn.Module, int] = {}
    for name in (*model.finer_stages, *model.last_stages(1)):
        model.get_stage(name).register_forward_hook(lambda stage, inputs, maps: rows.update({stage: maps.shape[2]}))
    with torch.inference_mode():
        model(torch.zeros(1, 3, 224, 224))
    assert [rows[model.get_stage(name)] for name in model.finer_stages] == [14] * len(model.backbones)
    assert [rows[model.get_stage(name)] for name in model.last_stages(1)] == [7] * len(model.backbones)


def test_maps_do_not_depend_on_which_stages_are_frozen(classifier, picture):
    frozen = map_activation(classifier, picture, "red", "gradcam", "toy.stage3")
    classifier.model.set_free_stages(classifier.model.stage_names)
    free = map_activation(classifier, picture, "red", "gradcam", "toy.stage3")
    np.testing.assert_allclose(free, frozen, atol=1e-4)
    assert np.ptp(frozen) > 0.9


def test_a_map_leaves_nothing_behind_in_the_model(classifier, picture):
    model, image = classifier.model, classifier.prepare(picture)[None]
    model.set_free_stages(model.last_stages(2))
    before = classifier.predict_tensors(image)
    for method in METHODS:
        map_activation(classifier, picture, "red", method)
    gc.collect()
    assert not any(part._forward_hooks or part._backward_hooks for part in model.modules())
    assert [name for name, parameter in model.named_parameters() if parameter.grad is not None] == []
    assert not any(part.training for part in model.modules())
    assert torch.equal(classifier.predict_tensors(image), before)


def test_the_map_of_several_backbones_is_the_mean_of_theirs(picture, monkeypatch):
    (toy,) = BACKBONES["toy"]
    monkeypatch.setitem(BACKBONES, "pair", (toy, dataclasses.replace(toy, name="other")))
    classifier = make_classifier("pair")
    parts = [map_activation(classifier, picture, "b", "layercam", name) for name in ("toy.top", "other.top")]
    assert np.abs(parts[0] - parts[1]).max() > 0.1
    together = map_activation(classifier, picture, "b", "layercam")
    np.testing.assert_allclose(together, stretch(np.mean(parts, axis=0)), atol=1e-3)


ROWS = np.zeros(64, np.float32)  # 1 in the middle 22 of 64, where a picture of 20 × 60 lies, and 0 in the padding
ROWS[21:42] = 1


@pytest.fixture
def by_stripes(monkeypatch) -> None:
    """A method whose map is `ROWS`, whatever the picture."""
    stripes = torch.from_numpy(np.repeat(ROWS[None, :, None], 64, axis=2))
    monkeypatch.setitem(FORMULAS, "striped", lambda maps, slopes: stripes)
    monkeypatch.setattr(explain_module, "METHODS", ("striped",))


def test_padding_is_cut_off_and_nothing_else(classifier, by_stripes):
    picture = np.full((20, 60, 3), 99, np.uint8)
    content = classifier.prepare(picture)[0, :, 0] > 0
    assert np.array_equal(content.numpy(), ROWS == 1)
    assert map_activation(classifier, picture, "red", "striped").min() > 0.999
    assert (map_activation(classifier, picture.transpose(1, 0, 2).copy(), "red", "striped").mean(1) < 0.999).any()


def test_a_squashed_picture_has_no_padding_to_cut_off(by_stripes):
    heat = map_activation(make_classifier("toy", "squash"), np.zeros((64, 128, 3), np.uint8), "b", "striped")
    np.testing.assert_allclose(heat[:, 0], ROWS, atol=1e-6)


def test_unknown_choices_are_told_with_the_known_ones(classifier, picture):
    with pytest.raises(PlanetlibError, match="'pluto'.*blue, green, red"):
        map_activation(classifier, picture, "pluto")
    with pytest.raises(PlanetlibError, match=f"'scorecam'.*{', '.join(map(re.escape, METHODS))}"):
        map_activation(classifier, picture, "red", "scorecam")
    with pytest.raises(PlanetlibError, match="'top'.*toy.stem"):
        map_activation(classifier, picture, "red", stage="top")


# Overlays


@pytest.fixture
def ramp() -> np.ndarray:
    return np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))


def test_an_overlay_of_no_strength_is_the_picture_and_none_changes_what_it_is_given(picture, ramp):
    kept = picture.copy(), ramp.copy()
    for strength in (0, 0.5):
        shown = overlay_map(picture, ramp, strength)
        assert shown.dtype == np.uint8 and np.array_equal(shown, picture) == (strength == 0)
    assert np.array_equal(picture, kept[0]) and np.array_equal(ramp, kept[1])


def test_an_overlay_of_full_strength_is_the_map_in_its_colours(picture, ramp):
    shown = overlay_map(picture, ramp, strength=1)
    np.testing.assert_array_equal(shown, overlay_map(255 - picture, ramp, strength=1))
    contours = (shown == 255).all((0, 2))
    lightness = cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY)[0, ~contours].astype(int)
    assert lightness[0] < 10 and lightness[-1] > 200 and (np.diff(lightness) >= 0).all()
    assert shown[0, 29, 0] > shown[0, 29, 2]  # the middle of `inferno` is red rather than blue


def test_of_half_strength_it_covers_half_where_it_is_warmest_and_a_quarter_where_it_is_cold(picture, ramp):
    none, half, full = (overlay_map(picture, ramp, strength).astype(int) for strength in (0, 0.5, 1))
    for column, share in ((0, 0.25), (63, 0.5)):  # far from any contour
        expected = none[:, column] + share * (full - none)[:, column]
        assert np.abs(half[:, column] - expected).max() <= 1


def test_contours_are_at_a_quarter_a_half_and_three_quarters(picture, ramp):
    columns = np.flatnonzero((overlay_map(picture, ramp) == 255).all((0, 2)))
    assert columns.tolist() == [np.flatnonzero(ramp[0] >= level)[0] for level in CONTOURS]


def test_all_colours_can_be_had_and_differ_and_others_are_told(picture, ramp):
    assert len({overlay_map(picture, ramp, 1, colours).tobytes() for colours in COLOURS}) == len(COLOURS) == 5
    with pytest.raises(PlanetlibError, match="'jet'.*inferno, viridis"):
        overlay_map(picture, ramp, colours="jet")


def test_a_map_costs_one_pass_forward_and_one_back(classifier, picture):
    stem, head, passes = classifier.model.get_stage("toy.stem"), classifier.model.head, []

    def watch_back(module, inputs, output):
        output.register_hook(lambda gradient: passes.append("back"))

    with stem.register_forward_hook(lambda *_: passes.append("forward")), head.register_forward_hook(watch_back):
        map_activation(classifier, picture, "red")
    assert passes == ["forward", "back"]
