"""The widgets without a browser: moving a control changes the bytes of the picture, and nothing else is needed."""

import asyncio
import base64
import html
import io
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from planetlib.classify import Classifier
from planetlib.files.tables import DataError, read_marks, read_samples, write_table
from planetlib.images import read_image
from planetlib.settings import Settings
from planetlib.transforms import draw_augmented, fit_to_square, make_training_transform, to_picture
from planetlib.widgets import ActivationExplorer, AugmentationStudio, LabelReview, OwnPicture, PredictionsBrowser
from planetlib.widgets.panel import SIDE, _draw_bars, encode_png

AWKWARD = "<script>alert(1)<!--"


def decode(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG"
    return np.array(image)


@pytest.fixture(scope="module")
def classifier(trained_run) -> Classifier:
    return Classifier.load(trained_run.run, device="cpu")


@pytest.fixture(scope="module")
def predictions(classifier, samples) -> pd.DataFrame:
    """One picture of each class, and between them one that cannot be read."""
    chosen = samples.groupby("label").head(1)
    table = classifier.predict([chosen.path.iloc[0], "missing.png", *chosen.path[1:]], progress=False)
    return table.assign(label=["blue", "", "green", "red"])


def test_an_encoded_picture_comes_back_as_it_was():
    picture = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    assert (decode(encode_png(picture)) == picture).all()


# Augmentation


@pytest.fixture
def studio(samples) -> AugmentationStudio:
    return AugmentationStudio(read_image(samples.path[0]), size=40)


def test_the_sheet_shows_the_original_and_twelve_draws(studio, samples):
    sheet = decode(studio.sheet.value)
    assert sheet.shape == (80, 80 + 6 * 40, 3)
    original = fit_to_square(read_image(samples.path[0]), 40)
    assert (sheet[:80:2, :80:2] == original).all()
    draws = sheet[:, 80:].reshape(2, 40, 6, 40, 3).swapaxes(1, 2).reshape(12, -1)
    assert len({draw.tobytes() for draw in draws}) == 12


def test_every_step_has_a_slider_that_changes_the_draws_and_back_again(studio):
    start = studio.sheet.value
    for name, slider in studio.steps.items():
        slider.value = 0
        assert studio.sheet.value != start, name
        slider.value = 1
        assert studio.sheet.value == start, name


def test_without_strength_every_draw_is_the_original(studio):
    for slider in studio.steps.values():
        slider.value = 0
    sheet = decode(studio.sheet.value)
    assert (sheet[:40, 80:120] == sheet[:80:2, :80:2]).all() and (sheet[40:, -40:] == sheet[:80:2, :80:2]).all()


def test_another_draw_is_another(studio):
    before = studio.sheet.value
    studio.again.click()
    assert studio.sheet.value != before


def test_the_code_can_be_pasted_and_gives_what_is_shown(studio):
    assert "strength=1.0)" in studio.code.value
    studio.steps["blur"].value = 0.3
    code = html.unescape(studio.code.value.partition(">")[2].removesuffix("</pre>"))
    names = {}
    exec(code, names)
    settings = names["settings"]
    assert isinstance(settings, Settings) and settings.strength["blur"] == 0.3 and settings.strength["hue"] == 1
    transform = make_training_transform(settings.recipe, 40, settings.strength)
    first = to_picture(draw_augmented(transform, studio.tensor, 0, 0))
    assert (decode(studio.sheet.value)[:40, 80:120] == first).all()


def test_recipes_draw_differently(samples):
    picture = read_image(samples.path[0])
    assert len({AugmentationStudio(picture, recipe, 40).sheet.value for recipe in ("robust", "reference")}) == 2


def test_the_text_form_of_the_studio_is_its_state(studio):
    studio.steps["blur"].value = 0.5
    assert repr(studio).startswith("AugmentationStudio(") and "blur=0.5" in repr(studio)


# Activation


@pytest.fixture
def explorer(classifier, predictions, tmp_path) -> ActivationExplorer:
    return ActivationExplorer(classifier, predictions, tmp_path / "figures")


def test_unreadable_pictures_are_left_out(explorer):
    assert (explorer.index.min, explorer.index.max) == (1, 3)
    assert explorer.table.label.tolist() == ["blue", "green", "red"]


def test_readable_pictures_are_asked_for(classifier, predictions):
    with pytest.raises(DataError, match="^none of the 4 pictures can be read; expected at least one to walk through$"):
        ActivationExplorer(classifier, predictions.assign(status="unreadable"))


def test_one_picture_is_enough(classifier, predictions):
    assert ActivationExplorer(classifier, predictions.head(1)).index.max == 1


def test_the_picture_its_overlay_verdict_and_probabilities_are_shown(explorer, predictions):
    view = explorer.view
    picture, overlay = decode(view.picture.value), decode(view.overlay.value)
    assert (picture == fit_to_square(read_image(predictions.path[0]), SIDE)).all()
    assert overlay.shape == (SIDE, SIDE, 3) and (overlay != picture).any()
    assert "✓ blue " in view.words.value and view.words.value.endswith(" · map for blue")
    shares = [float(part.partition("%")[0].rpartition(">")[2]) for part in view.bars.value.split("planetlib-share")[1:]]
    assert len(shares) == 3 and sum(shares) == pytest.approx(100, abs=0.15)


@pytest.mark.parametrize(
    "control, value", [("target", "red"), ("method", "eigencam"), ("strength", 0.8), ("colours", "viridis")]
)
def test_moving_a_control_changes_the_overlay_alone_and_back_again(explorer, control, value):
    view, widget = explorer.view, getattr(explorer.view, control)
    before, start = (view.picture.value, view.overlay.value), widget.value
    widget.value = value
    assert view.picture.value == before[0] and view.overlay.value != before[1]
    widget.value = start
    assert (view.picture.value, view.overlay.value) == before


def test_an_earlier_stage_gives_another_map(explorer):
    before = explorer.view.overlay.value
    explorer.view.stage.value = explorer.view.stage.options[4]
    assert explorer.view.overlay.value != before


def test_the_last_stage_is_the_same_by_its_name(explorer, classifier):
    before = explorer.view.overlay.value
    explorer.view.stage.value = classifier.model.stage_names[-1]
    assert explorer.view.overlay.value == before


def test_walking_on_shows_the_next_readable_picture(explorer, predictions):
    explorer.index.value = 2
    assert (decode(explorer.view.picture.value) == fit_to_square(read_image(predictions.path[2]), SIDE)).all()
    assert "green" in explorer.view.words.value


def test_the_true_class_can_be_explained_where_it_is_known(classifier, predictions):
    explorer = ActivationExplorer(classifier, predictions.assign(label=["red", "", "", "red"]))
    explorer.view.target.value = "true"
    assert explorer.view.words.value.endswith("map for red") and "✗ blue" in explorer.view.words.value
    explorer.index.value = 2  # nobody knows its class
    assert explorer.view.words.value.endswith("map for green")


def test_filters_choose_what_to_walk_through(classifier, predictions):
    wrong_red = predictions.assign(label=["red", "", "green", "red"], confidence=[0.9, np.nan, 0.3, 0.9])
    explorer = ActivationExplorer(classifier, wrong_red)
    seen = {}
    for verdict in ("right", "wrong", "unsure", "all"):
        explorer.verdict.value = verdict
        seen[verdict] = explorer.chosen.path.tolist()
    paths = predictions.path.tolist()
    assert seen == {"right": paths[2:], "wrong": paths[:1], "unsure": [paths[2]], "all": [paths[0], *paths[2:]]}
    explorer.label.value = "red"
    assert explorer.chosen.path.tolist() == [paths[0], paths[3]] and explorer.index.max == 2


def test_a_filter_starts_at_its_first_picture(explorer):
    explorer.index.value = 3
    explorer.label.value = "green"
    assert (explorer.index.value, explorer.index.max) == (1, 1) and "green" in explorer.view.words.value
    explorer.label.value = "all"
    assert explorer.index.max == 3 and "blue" in explorer.view.words.value


def test_a_filter_that_leaves_nothing_says_so(explorer):
    explorer.label.value, explorer.verdict.value = "blue", "wrong"
    assert explorer.view.words.value == "No picture of blue that is wrong." and explorer.index.disabled
    assert explorer.view.shown.layout.display == "none"
    explorer.verdict.value = "all"
    assert not explorer.index.disabled and explorer.view.shown.layout.display is None


def test_without_strength_the_overlay_is_the_picture(explorer):
    explorer.view.strength.value = 0
    assert explorer.view.overlay.value == explorer.view.picture.value


def test_a_map_is_computed_once_and_only_so_many_are_kept(explorer):
    for strength in (0.1, 0.2, 0.3):
        explorer.view.strength.value = strength
    cache = explorer.view._map.cache_info()
    assert (cache.misses, cache.hits) == (1, 3) and cache.maxsize <= 100


def test_the_neighbours_are_computed_ahead_where_a_kernel_waits(classifier, predictions):
    async def walk() -> list[int]:
        explorer = ActivationExplorer(classifier, predictions)
        counts = [explorer.view._map.cache_info().misses]
        for place in (2, 3):
            await asyncio.sleep(0.5)
            counts.append(explorer.view._map.cache_info().misses)
            explorer.index.value = place
            counts.append(explorer.view._map.cache_info().misses)
        return counts

    # The first is computed when it is shown, the second and the third while nothing else is to be done.
    assert asyncio.run(walk()) == [1, 2, 2, 3, 3]


@pytest.mark.parametrize("after", [0.0, 0.07])  # before the first neighbour, and between the two at the earliest
def test_closing_the_explorer_ends_the_look_ahead(after, classifier, predictions):
    async def leave() -> list[int]:
        explorer = ActivationExplorer(classifier, predictions)
        explorer.index.value = 2
        await asyncio.sleep(after)
        explorer.close()
        counts = [explorer.view._map.cache_info().misses]
        await asyncio.sleep(0.5)
        return [*counts, explorer.view._map.cache_info().misses]

    before, then = asyncio.run(leave())
    assert before == then


def test_nothing_is_computed_ahead_while_a_person_hurries(classifier, predictions, monkeypatch):
    monkeypatch.setattr("planetlib.widgets.explain.QUIET", 0.5)

    async def hurry() -> list[int]:
        explorer, counts = ActivationExplorer(classifier, predictions), []
        for place in (3, 1, 3):
            await asyncio.sleep(0.2)
            explorer.index.value = place
            counts.append(explorer.view._map.cache_info().misses)
        await asyncio.sleep(1.2)
        return [*counts, explorer.view._map.cache_info().misses]

    assert asyncio.run(hurry()) == [2, 2, 2, 3]  # the second, a neighbour of both, comes when all is quiet


def test_names_of_classes_are_shown_as_text(classifier, predictions):
    explorer = ActivationExplorer(classifier, predictions.assign(label=AWKWARD))
    assert "<script" not in explorer.view.words.value and "&lt;script" in explorer.view.words.value
    bars = _draw_bars(pd.Series({f"prob_{AWKWARD}": 1.0}), AWKWARD)
    assert "<script" not in bars and "&lt;script" in bars


def test_a_view_is_saved_under_a_name_that_says_what_it_is(explorer, tmp_path):
    explorer.view.save.click()
    (saved,) = (tmp_path / "figures").iterdir()
    assert saved.name == "view_blue-0_blue_gradcam_last.png" and f"saved as {saved.name}" in explorer.view.words.value
    image = decode(saved.read_bytes())
    assert (image[28:, :SIDE] == decode(explorer.view.picture.value)).all()
    assert (image[28:, SIDE : 2 * SIDE] == decode(explorer.view.overlay.value)).all()


def test_a_view_that_cannot_be_saved_says_why(explorer, tmp_path):
    (tmp_path / "figures").write_text("in the way")
    explorer.view.save.click()
    assert "not saved: " in explorer.view.words.value


def test_a_picture_that_has_vanished_is_named(classifier, predictions, tmp_path):
    path = tmp_path / "gone.png"
    shutil.copy(predictions.path[0], path)
    table = classifier.predict([str(path), predictions.path[2]], progress=False)
    explorer = ActivationExplorer(classifier, table)
    explorer.index.value = 2
    path.unlink()
    explorer.view._map.cache_clear()
    explorer.index.value = 1
    assert explorer.view.words.value == "gone.png: no such file"


def test_the_text_form_of_the_explorer_is_its_state(explorer):
    explorer.view.target.value = "green"
    assert repr(explorer) == (
        "ActivationExplorer(show='all', that are='all', picture=1, class='green', method='gradcam', stage='last', "
        "overlay=0.5, colours='inferno')"
    )


# One's own picture


@pytest.fixture
def own(classifier, tmp_path) -> OwnPicture:
    return OwnPicture(classifier, tmp_path)


def test_a_dropped_picture_is_predicted_and_explained_at_once(own, predictions):
    own.show("mine.png", open(predictions.path[2], "rb").read())
    assert (decode(own.view.picture.value) == fit_to_square(read_image(predictions.path[2]), SIDE)).all()
    assert predictions.predicted[2] in own.view.words.value and "mine.png" in own.view.words.value
    assert own.view.row.prob_green == pytest.approx(predictions.prob_green[2], abs=1e-4)


def test_a_file_comes_in_parts_and_the_next_begins_anew(own, predictions):
    content = open(predictions.path[2], "rb").read()
    own._receive({"name": "torn.png", "part": 0, "parts": 3}, [memoryview(content[:50])])
    for part in range(2):
        assert "mine.png" not in own.view.words.value
        half = content[:100] if part == 0 else content[100:]
        own._receive({"name": "mine.png", "part": part, "parts": 2}, [memoryview(half)])
    assert "mine.png" in own.view.words.value and own.parts == []
    assert (decode(own.view.picture.value) == fit_to_square(read_image(content), SIDE)).all()


def test_a_file_that_cannot_be_read_says_why_and_the_next_one_works(own, predictions):
    own.show(AWKWARD + ".jpg", b"not a picture")
    said = own.view.words.value
    assert "not an image, whatever its name says. Choose another file." in said and "<script" not in said
    assert own.view.shown.layout.display == "none"
    own.show("mine.png", open(predictions.path[0], "rb").read())
    assert own.view.shown.layout.display is None


def test_a_name_is_shown_as_text(own, predictions):
    own.show(AWKWARD, open(predictions.path[0], "rb").read())
    assert "<script" not in own.view.words.value and "&lt;script" in own.view.words.value


def test_large_uploads_are_not_kept_once_another_comes(own, predictions):
    for index in (0, 2, 3):
        own.show("mine.png", open(predictions.path[index], "rb").read())
    assert own.view._map.cache_info().currsize == 1


# Label review


@pytest.fixture
def table(tmp_path, samples):
    """A samples table on disk; two labels of it are wrong."""
    wrong = samples.copy()
    wrong.loc[0, "label"], wrong.loc[20, "label"] = "red", "green"
    write_table(wrong, tmp_path / "samples.csv")
    return tmp_path / "samples.csv"


@pytest.fixture
def doubts(classifier, table) -> pd.DataFrame:
    everything = read_samples(table, reviewed=False)
    return classifier.predict(everything.path, everything.label, progress=False)


def test_the_wrong_labels_come_first_with_their_rival(table, doubts, samples):
    review = LabelReview(table, doubts)
    assert set(review.table.path[:2]) == {samples.path[0], samples.path[20]}
    assert review.new_label.value == samples.label[samples.path == review.row.path].item()


def test_marks_are_kept_while_walking_filtering_and_starting_anew(table, doubts, samples):
    before = table.read_bytes()
    review = LabelReview(table, doubts)
    first, second = review.table.path[:2]
    review.buttons["relabel"].click()  # and it walks on by itself
    assert review.index.value == 2
    review.buttons["exclude"].click()
    review.label.value = "blue"
    review.buttons["keep"].click()
    review.label.value = "all"
    for again in (review, LabelReview(table, doubts)):
        assert "relabel" in again.words.value and "1 relabel" in again.total.value
        again.index.value = 2
        assert "exclude" in again.words.value
    reviewed = read_samples(table)
    assert reviewed.label[reviewed.path == first].item() == samples.label[samples.path == first].item()
    assert second not in set(reviewed.path) and len(reviewed) == len(samples) - 1
    assert table.read_bytes() == before


def test_a_mark_can_be_taken_back(table, doubts):
    review = LabelReview(table, doubts)
    review.buttons["exclude"].click()
    review.index.value = 1
    review.buttons["take back"].click()
    assert read_marks(table).empty and "not marked" in review.words.value and review.index.value == 1


def test_a_mark_that_cannot_be_saved_says_so(table, doubts):
    review = LabelReview(table, doubts)
    table.with_name("marks.csv.part").mkdir()
    review.buttons["exclude"].click()
    assert "not saved: " in review.total.value and read_marks(table).empty


def test_predictions_of_other_pictures_are_refused(table, doubts):
    with pytest.raises(DataError, match="lists none of the 24 predicted pictures; predict those that it lists"):
        LabelReview(table, doubts.assign(path="elsewhere/" + doubts.path))


# Predictions browser


@pytest.fixture
def browser(classifier, predictions, tmp_path) -> PredictionsBrowser:
    return PredictionsBrowser(classifier, predictions, tmp_path)


def test_the_grid_has_a_row_for_each_prediction_with_its_thumbnail(browser, predictions):
    assert browser.grid.df.file.tolist() == [path.rpartition("/")[2] for path in predictions.path]
    thumbnails = browser.grid.df.picture
    assert thumbnails[1] == "" and all('src="data:image/jpeg;base64,' in cell for cell in thumbnails.drop(1))
    assert browser.grid.df.status.tolist() == ["ok", "unreadable: no such file", "ok", "ok"]


def test_a_selected_row_shows_its_picture_with_its_map(browser, predictions):
    assert browser.view.shown.layout.display == "none"
    browser.grid.selected_rows = [2]
    assert (decode(browser.view.picture.value) == fit_to_square(read_image(predictions.path[2]), SIDE)).all()
    browser.grid.selected_rows = [1]
    assert browser.view.words.value == "missing.png: no such file"
    browser.grid.selected_rows = []
    assert browser.view.words.value == "missing.png: no such file"


def test_rows_beyond_the_limit_are_left_out_and_told(classifier, predictions):
    browser = PredictionsBrowser(classifier, predictions, limit=3)
    assert len(browser.grid.df) == 3 and browser.grid.caption == "1 further rows are left out"


def test_names_from_files_and_folders_run_nothing_in_the_grid(classifier, predictions):
    hostile = predictions.assign(path=AWKWARD + ".png", label=AWKWARD, predicted=AWKWARD, error=AWKWARD)
    grid = PredictionsBrowser(classifier, hostile).grid
    assert "<script" not in str(grid.df.to_dict()) and "<script" not in str(grid._dt_args)


# Without a kernel


def test_without_a_kernel_a_still_picture_with_a_sentence_takes_its_place(
    studio, explorer, own, browser, table, doubts
):
    for panel in (studio, explorer, own, browser, LabelReview(table, doubts)):
        bundle, metadata = panel._repr_mimebundle_()
        still = decode(base64.b64decode(bundle["image/png"]))
        shown = panel.draw_still()
        assert (still[: len(shown), : shown.shape[1]] == shown).all()
        assert still[len(shown) :].min() < 100 and still.shape[0] >= len(shown) + 28  # the sentence, in black
        assert "A still picture: open this notebook in JupyterLab" in metadata["image/png"]["alt"]
        assert bundle["text/plain"] == repr(panel)
        assert "application/vnd.jupyter.widget-view+json" in bundle
