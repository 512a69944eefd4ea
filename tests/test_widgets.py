"""The widgets without a browser: moving a control changes the bytes of the picture, and nothing else is needed."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from planetlib.classify import Classifier
from planetlib.data import DataError
from planetlib.images import read_image
from planetlib.transforms import fit_to_square
from planetlib.widgets import SIDE, ActivationExplorer, AugmentationExplorer, encode_png


def decode(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG"
    return np.array(image)


def test_an_encoded_picture_comes_back_as_it_was():
    picture = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    assert (decode(encode_png(picture)) == picture).all()


# Augmentation


@pytest.fixture
def augmentation(samples) -> AugmentationExplorer:
    return AugmentationExplorer(read_image(samples.path[0]), size=40, draws=4)


def test_the_sheet_shows_the_original_and_the_draws_in_two_rows(augmentation, samples):
    sheet = decode(augmentation.sheet.value)
    assert sheet.shape == (80, 120, 3)  # 3 columns; the sixth tile is blank
    assert (sheet[:40, :40] == fit_to_square(read_image(samples.path[0]), 40)).all()
    assert sheet[40:, 80:].max() == 0 and sheet[40:, :40].max() > 0


@pytest.mark.parametrize("control, value", [("strength", 0.5), ("seed", 7)])
def test_moving_a_control_draws_anew_and_back_again_the_same(augmentation, control, value):
    slider = getattr(augmentation, control)
    before, start = augmentation.sheet.value, slider.value
    slider.value = value
    moved = augmentation.sheet.value
    assert moved != before and decode(moved).shape == (80, 120, 3)
    slider.value = start
    assert augmentation.sheet.value == before


def test_without_strength_every_draw_is_the_original(augmentation):
    augmentation.strength.value = 0
    sheet = decode(augmentation.sheet.value).reshape(2, 40, 3, 40, 3).swapaxes(1, 2).reshape(6, 40, 40, 3)
    flipped = {tile.tobytes() for tile in sheet[:5]}
    assert flipped == {sheet[0].tobytes()}


def test_recipes_draw_differently(samples):
    picture = read_image(samples.path[0])
    sheets = {AugmentationExplorer(picture, recipe, 40, 3).sheet.value for recipe in ("robust", "reference")}
    assert len(sheets) == 2


def test_the_text_form_of_the_augmentation_is_its_state(augmentation):
    assert repr(augmentation) == "AugmentationExplorer(strength=1.0, draw=0)"
    augmentation.seed.value = 3
    assert repr(augmentation) == "AugmentationExplorer(strength=1.0, draw=3)"


# Activation


@pytest.fixture(scope="module")
def classifier(trained_run) -> Classifier:
    return Classifier.load(trained_run.run, device="cpu")


@pytest.fixture(scope="module")
def predictions(classifier, samples) -> pd.DataFrame:
    """One picture of each class, and between them one that cannot be read."""
    chosen = samples.groupby("label").head(1)
    table = classifier.predict([chosen.path.iloc[0], "missing.png", *chosen.path[1:]], progress=False)
    return table.assign(label=["blue", "", "green", "red"])


@pytest.fixture
def activation(classifier, predictions) -> ActivationExplorer:
    return ActivationExplorer(classifier, predictions)


def test_unreadable_pictures_are_left_out(activation):
    assert (activation.index.min, activation.index.max) == (0, 2)
    assert [row.label for row in activation.rows] == ["blue", "green", "red"]


def test_readable_pictures_are_asked_for(classifier, predictions):
    with pytest.raises(DataError, match="^none of the 4 pictures can be read; expected at least one to walk through$"):
        ActivationExplorer(classifier, predictions.assign(status="unreadable"))


def test_one_picture_is_enough(classifier, predictions):
    assert ActivationExplorer(classifier, predictions.head(1)).index.max == 0


def test_the_picture_and_its_overlay_are_shown(activation, predictions):
    picture, overlay = decode(activation.picture.value), decode(activation.overlay.value)
    assert (picture == fit_to_square(read_image(predictions.path[0]), SIDE)).all()
    assert overlay.shape == (SIDE, SIDE, 3) and (overlay != picture).any()
    assert activation.words.value.startswith("✓ blue ") and activation.words.value.endswith(" · map for blue")


@pytest.mark.parametrize("control, value", [("target", "red"), ("method", "eigencam"), ("strength", 0.8)])
def test_moving_a_control_changes_the_overlay_alone_and_back_again(activation, control, value):
    widget = getattr(activation, control)
    before, start = (activation.picture.value, activation.overlay.value), widget.value
    widget.value = value
    assert activation.picture.value == before[0] and activation.overlay.value != before[1]
    assert decode(activation.overlay.value).shape == (SIDE, SIDE, 3)
    widget.value = start
    assert (activation.picture.value, activation.overlay.value) == before


def test_walking_on_shows_the_next_readable_picture(activation, predictions):
    activation.index.value = 1
    assert (decode(activation.picture.value) == fit_to_square(read_image(predictions.path[2]), SIDE)).all()
    assert "green" in activation.words.value


def test_without_strength_the_overlay_is_the_picture(activation):
    activation.strength.value = 0
    assert activation.overlay.value == activation.picture.value


def test_the_words_name_the_class_that_is_mapped(activation):
    activation.target.value = "red"
    assert activation.words.value.startswith("✓ blue ") and activation.words.value.endswith(" · map for red")


def test_a_map_is_computed_once_and_only_so_many_are_kept(activation):
    for strength in (0.1, 0.2, 0.3):
        activation.strength.value = strength
    cache = activation._map.cache_info()
    assert (cache.misses, cache.hits) == (1, 3) and cache.maxsize is not None and cache.maxsize <= 100


def test_the_text_form_of_the_activation_is_its_state(activation):
    activation.target.value = "green"
    assert repr(activation) == "ActivationExplorer(picture=0, class='green', method='gradcam', overlay=0.5)"


def test_without_a_kernel_the_still_picture_is_shown(augmentation, activation):
    for panel, still in ((augmentation, augmentation.sheet), (activation, activation.overlay)):
        bundle = panel._repr_mimebundle_()
        assert base64.b64decode(bundle["image/png"]) == still.value
        assert bundle["text/plain"] == repr(panel)
        assert "application/vnd.jupyter.widget-view+json" in bundle
