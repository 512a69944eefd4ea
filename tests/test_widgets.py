"""The widgets without a browser: moving a control changes the bytes of the picture, and nothing else is needed."""

import asyncio
import base64
import html
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from planetlib.explain import DEFAULT_METHOD
from planetlib.files.tables import DataError, read_marks, read_samples, write_table
from planetlib.images import read_image
from planetlib.settings import Settings
from planetlib.transforms import draw_augmented, fit_to_square, make_training_transform, to_picture
from planetlib.widgets import ActivationExplorer, AugmentationStudio, LabelReview, OwnPicture, PredictionsBrowser
from planetlib.widgets.explain import _draw_bars
from planetlib.widgets.panel import SIDE


def decode(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG"
    return np.array(image)


def fitted(path: str) -> np.ndarray:
    return fit_to_square(read_image(path), SIDE)


@pytest.fixture(scope="module")
def predictions(classifier, samples) -> pd.DataFrame:
    """One picture of each class, and between them one that cannot be read."""
    chosen = samples.groupby("label").head(1)
    table = classifier.predict([chosen.path.iloc[0], "missing.png", *chosen.path[1:]], progress=False)
    names, status = ["blue", "", "green", "red"], ["ok", "unreadable", "ok", "ok"]
    return table.assign(label=names, predicted=names, status=status)


# Augmentation


@pytest.fixture
def studio(samples) -> AugmentationStudio:
    return AugmentationStudio(read_image(samples.path[0]), size=40)


def test_the_sheet_shows_the_original_and_twelve_draws(studio, samples):
    sheet = decode(studio.sheet.value)
    assert sheet.shape == (80, 80 + 6 * 40, 3)
    assert (sheet[:80:2, :80:2] == fit_to_square(read_image(samples.path[0]), 40)).all()
    draws = sheet[:, 80:].reshape(2, 40, 6, 40, 3).swapaxes(1, 2).reshape(12, -1)
    assert len({draw.tobytes() for draw in draws}) == 12
    studio.again.click()
    assert (decode(studio.sheet.value) != sheet).any()


def test_every_step_has_a_slider_that_changes_the_draws_and_without_any_all_are_the_original(studio):
    start = studio.sheet.value
    for name, slider in studio.controls.items():
        slider.value = 0
        assert studio.sheet.value != start, name
        slider.value = 1
        assert studio.sheet.value == start, name
    for slider in studio.controls.values():
        slider.value = 0
    sheet = decode(studio.sheet.value)
    assert (sheet[:40, 80:120] == sheet[:80:2, :80:2]).all() and (sheet[40:, -40:] == sheet[:80:2, :80:2]).all()


def test_the_code_can_be_pasted_and_gives_what_is_shown(studio):
    assert "strength=1.0)" in studio.code.value
    studio.controls["blur"].value = 0.3
    names = {}
    exec(html.unescape(studio.code.value.partition(">")[2].removesuffix("</pre>")), names)
    settings = names["settings"]
    assert isinstance(settings, Settings) and settings.strength["blur"] == 0.3 and settings.strength["hue"] == 1
    transform = make_training_transform(settings.recipe, 40, settings.strength)
    first = to_picture(draw_augmented(transform, studio.tensor, 0, 0))
    assert (decode(studio.sheet.value)[:40, 80:120] == first).all()


# Activation


@pytest.fixture
def explorer(classifier, predictions, tmp_path) -> ActivationExplorer:
    return ActivationExplorer(classifier, predictions, tmp_path / "figures")


def test_unreadable_pictures_are_left_out_and_one_readable_is_enough(explorer, classifier, predictions):
    assert explorer.walk.slider.max == 3 and explorer.walk.table.label.tolist() == ["blue", "green", "red"]
    assert ActivationExplorer(classifier, predictions.head(1)).walk.slider.max == 1
    with pytest.raises(DataError, match="none of the 4 pictures can be read"):
        ActivationExplorer(classifier, predictions.assign(status="unreadable"))


def test_the_picture_its_overlay_verdict_and_probabilities_are_shown(explorer, predictions):
    picture, overlay = decode(explorer.picture.value), decode(explorer.overlay.value)
    assert (picture == fitted(predictions.path[0])).all()
    assert overlay.shape == (SIDE, SIDE, 3) and (overlay != picture).any()
    assert "✓ blue " in explorer.words.value and explorer.words.value.endswith(" · map for blue")
    shares = [float(part.partition("%")[0].rpartition(">")[2]) for part in explorer.bars.value.split("-share")[1:]]
    assert len(shares) == 3 and sum(shares) == pytest.approx(100, abs=0.15)


def test_moving_a_control_changes_the_overlay_alone_and_back_again(explorer, classifier):
    picture, overlay = explorer.picture.value, explorer.overlay.value
    stage = classifier.model.stage_names[2]
    moves = {"class": "red", "method": "layercam", "stage": stage, "overlay": 0.8, "colours": "viridis"}
    for name, value in moves.items():
        control = explorer.controls[name]
        start, control.value = control.value, value
        assert explorer.picture.value == picture and explorer.overlay.value != overlay, name
        control.value = start
        assert explorer.picture.value == picture and explorer.overlay.value == overlay, name


def test_the_last_stage_is_the_same_by_its_name_and_no_overlay_is_the_picture(explorer, classifier):
    explorer.controls["method"].value = "gradcam"  # of one stage
    before = explorer.overlay.value
    explorer.controls["stage"].value = classifier.model.stage_names[-1]
    assert explorer.overlay.value == before
    explorer.controls["overlay"].value = 0
    assert explorer.overlay.value == explorer.picture.value
    cache = explorer._map.cache_info()  # each map is computed once, and only so many are kept
    assert (cache.misses, cache.hits) == (3, 1) and cache.maxsize <= 100


def test_the_true_class_can_be_explained_where_it_is_known(classifier, predictions):
    explorer = ActivationExplorer(classifier, predictions.assign(label=["red", "", "", "red"]))
    explorer.controls["class"].value = "true"
    assert explorer.words.value.endswith("map for red") and "✗ blue" in explorer.words.value
    explorer.walk.slider.value = 2  # nobody knows its class
    assert explorer.words.value.endswith("map for green")


def test_filters_choose_what_to_walk_through(classifier, predictions):
    wrong_red = predictions.assign(label=["red", "", "green", "red"], confidence=[0.9, np.nan, 0.3, 0.9], status="ok")
    explorer = ActivationExplorer(classifier, wrong_red.drop(1))
    seen = {}
    for verdict in ("right", "wrong", "unsure", "all"):
        explorer.controls["that are"].value = verdict
        seen[verdict] = explorer.walk.chosen.path.tolist()
    paths = predictions.path.tolist()
    assert seen == {"right": paths[2:], "wrong": paths[:1], "unsure": [paths[2]], "all": [paths[0], *paths[2:]]}
    explorer.controls["show"].value = "red"
    assert explorer.walk.chosen.path.tolist() == [paths[0], paths[3]] and explorer.walk.slider.max == 2


def test_walking_shows_the_next_and_a_filter_its_first_picture_or_says_that_there_is_none(explorer, predictions):
    explorer.walk.slider.value = 3
    assert (decode(explorer.picture.value) == fitted(predictions.path[3])).all()
    explorer.controls["show"].value = "green"
    assert (explorer.walk.slider.value, explorer.walk.slider.max) == (1, 1) and "green" in explorer.words.value
    explorer.controls["show"].value = "all"
    assert explorer.walk.slider.max == 3 and "blue" in explorer.words.value
    explorer.controls["that are"].value = "wrong"
    assert explorer.words.value == "No picture that is wrong."
    explorer.controls["show"].value = "blue"
    assert explorer.words.value == "No picture of blue that is wrong."
    assert explorer.walk.slider.disabled and explorer.shown.layout.display == "none"
    explorer.controls["that are"].value = "all"
    assert not explorer.walk.slider.disabled and explorer.shown.layout.display is None


def walk(classifier, predictions, steps: list[tuple[float, int]], then: float = 0, close: bool = False) -> list[int]:
    """How many maps have been computed: at first, after each pause and step, and a while later; in a kernel's loop."""

    async def go() -> list[int]:
        explorer = ActivationExplorer(classifier, predictions)
        counts = [explorer._map.cache_info().misses]
        for pause, place in steps:
            await asyncio.sleep(pause)
            explorer.walk.slider.value = place
            counts.append(explorer._map.cache_info().misses)
        if close:
            explorer.close()
        await asyncio.sleep(then)
        return [*counts, explorer._map.cache_info().misses]

    return asyncio.run(go())


def test_the_neighbours_are_computed_ahead_where_a_kernel_waits(classifier, predictions):
    # The first is computed when it is shown, the second and the third while nothing else is to be done.
    assert walk(classifier, predictions, [(0.4, 2), (0.4, 3)]) == [1, 2, 3, 3]


def test_nothing_is_computed_ahead_while_a_person_hurries(classifier, predictions, monkeypatch):
    monkeypatch.setattr("planetlib.widgets.explain.QUIET", 0.4)
    # The second, a neighbour of both, comes when all is quiet, and not yet when the first place is left for so long.
    assert walk(classifier, predictions, [(0.1, 3), (0.1, 1), (0.1, 3), (0.25, 3)], then=0.6) == [1, 2, 2, 2, 2, 3]


def test_closing_the_explorer_ends_the_look_ahead(classifier, predictions):
    assert walk(classifier, predictions, [(0, 3)], then=0.4, close=True) == [1, 2, 2]


def test_a_view_is_saved_under_a_name_that_says_what_it_is(explorer, tmp_path):
    saved = tmp_path / "figures" / f"view_blue 0_blue_{DEFAULT_METHOD}_last.png"
    explorer.save.click()
    assert Image.open(saved).size == (4 + 3 * 364, 360 + 45 + 8) and f"saved as {saved.name}" in explorer.saved.value
    saved.unlink()
    saved.mkdir()
    explorer.save.click()
    assert "not saved: " in explorer.saved.value


def test_a_picture_that_has_vanished_is_named(classifier, predictions):
    explorer = ActivationExplorer(classifier, predictions.assign(status="ok"))
    explorer.walk.slider.value = 2
    assert explorer.words.value == "missing.png: no such file"


# One's own picture


@pytest.fixture
def own(classifier, tmp_path) -> OwnPicture:
    return OwnPicture(classifier, tmp_path)


def test_a_file_in_parts_is_predicted_and_explained_at_once_and_the_next_begins_anew(own, classifier, predictions):
    content = Path(predictions.path[2]).read_bytes()
    own._receive({"name": "torn.png", "part": 0, "parts": 3}, [memoryview(content[:50])])
    for part, piece in enumerate((content[:100], content[100:])):
        assert "mine.png" not in own.words.value
        own._receive({"name": "mine.png", "part": part, "parts": 2}, [memoryview(piece)])
    assert "mine.png" in own.words.value and own.parts == []
    assert (decode(own.picture.value) == fitted(predictions.path[2])).all()
    assert own.row.prob_green == pytest.approx(predictions.prob_green[2], abs=1e-4)


def test_a_file_that_cannot_be_read_says_why_and_the_next_ones_are_shown_also_of_equal_names(own, predictions):
    own.show_file("<b>.jpg", b"not a picture")
    assert "&lt;b&gt;.jpg: not an image" in own.words.value and own.shown.layout.display == "none"
    for index in (0, 2):
        own.show_file("mine.png", Path(predictions.path[index]).read_bytes())
        assert (decode(own.picture.value) == fitted(predictions.path[index])).all()
    assert own.shown.layout.display is None and own._map.cache_info().currsize == 1


# Label review


@pytest.fixture
def table(tmp_path, samples) -> Path:
    """A samples table on disk; two labels of it are wrong."""
    wrong = samples.copy()
    wrong.loc[0, "label"], wrong.loc[20, "label"] = "red", "green"
    write_table(wrong, tmp_path / "samples.csv")
    return tmp_path / "samples.csv"


@pytest.fixture
def doubts(table, samples) -> pd.DataFrame:
    """Predictions of those pictures that are sure of the right class."""
    everything = read_samples(table, reviewed=False)
    shares = {f"prob_{name}": np.where(samples.label == name, 0.9, 0.05) for name in ("blue", "green", "red")}
    return everything[["path", "label"]].assign(predicted=samples.label, status="ok", **shares)


@pytest.fixture
def review(table, doubts) -> LabelReview:
    return LabelReview(table, doubts)


def test_the_wrong_labels_come_first_with_their_rival(review, table, doubts, samples):
    assert review.walk.table.path[:2].tolist() == [samples.path[0], samples.path[20]]
    assert review.new_label.value == "blue" and "rival: blue (90%)" in review.words.value
    with pytest.raises(DataError, match="none of the 24 predicted pictures"):
        LabelReview(table, doubts.assign(path="elsewhere/" + doubts.path))


def test_marks_are_kept_while_walking_filtering_and_starting_anew(review, table, doubts, samples):
    before = table.read_bytes()
    review.buttons["relabel"].click()  # and it walks on by itself
    assert review.walk.slider.value == 2
    review.buttons["exclude"].click()
    review.controls["class"].value = "blue"
    review.buttons["keep"].click()
    review.controls["class"].value = "all"
    for again in (review, LabelReview(table, doubts)):
        assert "relabel" in again.words.value and "1 relabel" in again.total.value
        again.walk.slider.value = 2
        assert "exclude" in again.words.value
    reviewed = read_samples(table)
    assert reviewed.label[0] == "blue" and samples.path[20] not in set(reviewed.path)
    assert len(reviewed) == len(samples) - 1 and table.read_bytes() == before


def test_a_mark_can_be_taken_back_and_one_that_cannot_be_saved_says_so(review, table):
    review.buttons["exclude"].click()
    review.walk.slider.value = 1
    review.buttons["take back"].click()
    assert read_marks(table).empty and "not marked" in review.words.value and review.walk.slider.value == 1
    table.with_name("marks.csv.part").mkdir()
    review.buttons["exclude"].click()
    assert "not saved: " in review.total.value and read_marks(table).empty


# Predictions browser


@pytest.fixture
def browser(classifier, predictions, tmp_path) -> PredictionsBrowser:
    return PredictionsBrowser(classifier, predictions, tmp_path)


def test_the_grid_has_a_row_for_each_prediction_with_its_thumbnail(browser, classifier, predictions):
    assert browser.grid.df.file.tolist() == [Path(path).name for path in predictions.path]
    assert all('src="data:image/jpeg;base64,' in cell for cell in browser.grid.df.picture)
    assert browser.grid.df.status.tolist() == ["ok", "unreadable: no such file", "ok", "ok"]
    few = PredictionsBrowser(classifier, predictions, limit=3)
    assert len(few.grid.df) == 3 and few.grid.caption.startswith("1 further rows")


def test_a_selected_row_shows_its_picture_with_its_map(browser, predictions):
    assert browser.shown.layout.display == "none"
    browser.grid.selected_rows = [2]
    assert (decode(browser.picture.value) == fitted(predictions.path[2])).all()
    for selected in ([1], []):
        browser.grid.selected_rows = selected
        assert browser.words.value == "missing.png: no such file"


# Without a kernel


def test_without_a_kernel_a_still_picture_with_a_sentence_takes_its_place(studio, explorer, own, browser, review):
    for panel in (studio, explorer, own, browser, review):
        bundle, metadata = panel._repr_mimebundle_()
        still, view = decode(base64.b64decode(bundle["image/png"])), panel.draw_still()
        assert (still[: len(view), : view.shape[1]] == view).all()
        assert still[len(view) :].min() < 100 and still.shape[0] >= len(view) + 28  # the sentence, in black
        assert "A still picture: open this notebook in JupyterLab" in metadata["image/png"]["alt"]
        assert bundle["text/plain"] == repr(panel)
        assert "application/vnd.jupyter.widget-view+json" in bundle


def test_the_text_form_of_a_panel_is_its_state(review):
    review.controls["class"].value = "blue"
    assert repr(review) == "LabelReview(class='blue', doubt rank=1)"


def test_names_of_classes_beside_their_bars_are_text():
    bars = _draw_bars(pd.Series({"prob_<img src=x>": 1.0}), "mars")
    assert "<img" not in bars and "&lt;img src=x&gt;" in bars
