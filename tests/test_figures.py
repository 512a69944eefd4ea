"""Every figure can be saved, shows the numbers it was given, and its words fit."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from planetlib.classify import Classifier
from planetlib.data import check_samples
from planetlib.evaluate import evaluate_predictions
from planetlib.show.figures import (
    plot_calibration,
    plot_class_accuracy,
    plot_class_counts,
    plot_confusion,
    plot_history,
    plot_image_sizes,
    save_evaluation,
    save_figure,
    show_class_maps,
    show_class_means,
    show_grid,
    show_maps,
    show_predictions,
    show_samples,
)
from planetlib.show.sheets import BLUE, GREY, RED, TILE, describe_prediction
from tests.conftest import SEVEN, predictions_of, row_of

MANY = [f"a class with a long name {index:02d}" for index in range(25)]
BLACK = np.zeros((TILE, TILE, 3), np.uint8)


@pytest.fixture
def evaluation(predictions):
    return evaluate_predictions(predictions)


def draw(figure: Figure):
    """Draws a figure, so that its words have a place; returns the renderer that tells it."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    return renderer


def words_of(figure: Figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in (axis.title, *axis.texts) if text.get_text()]


def require_titles_fit(figure: Figure) -> None:
    renderer = draw(figure)
    for axis in figure.axes:
        width = axis.get_window_extent(renderer).width
        assert axis.title.get_window_extent(renderer).width <= width, axis.get_title()


def require_words_inside(figure: Figure) -> None:
    """Nothing that is drawn or written reaches beyond the edge of the figure."""
    box, (width, height) = figure.get_tightbbox(draw(figure)), figure.get_size_inches()
    assert box.x0 > -0.01 and box.y0 > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01, box


def require_ticks_apart(axis, which: str) -> None:
    """The names along an axis, `x` or `y`, do not lie on each other."""
    renderer = draw(axis.figure)
    labels = getattr(axis, f"get_{which}ticklabels")()
    spans = [getattr(label.get_window_extent(renderer), f"interval{which}") for label in labels]
    spans = sorted(tuple(sorted(span)) for span in spans)
    assert all(first[1] <= second[0] + 1 for first, second in zip(spans, spans[1:]))


# Saving


def test_a_figure_is_the_same_file_each_time(tmp_path, evaluation):
    first = save_figure(plot_calibration(evaluation), tmp_path / "deep" / "er" / "a.png")
    second = save_figure(plot_calibration(evaluation), tmp_path / "b.png")
    assert first == tmp_path / "deep" / "er" / "a.png" and first.read_bytes() == second.read_bytes()
    assert Image.open(first).size == (460, 460) and "Software" not in Image.open(first).info


def test_no_figure_is_left_open(evaluation):
    from matplotlib import pyplot as plt

    plot_confusion(evaluation), plot_calibration(evaluation), show_grid([BLACK], ["x"])
    assert plt.get_fignums() == []


def test_all_figures_of_an_evaluation_are_saved(tmp_path, evaluation, predictions):
    paths = save_evaluation(evaluation, predictions, tmp_path)
    assert [path.stem for path in paths] == ["confusion", "confusion_normalised", "class_accuracy", "calibration",
                                             "predictions", "wrong"]  # fmt: skip
    for path in paths:
        Image.open(path).load()


def test_where_nothing_is_wrong_no_figure_of_it_is_left(tmp_path, evaluation, predictions):
    save_evaluation(evaluation, predictions, tmp_path)
    right = predictions[predictions.label == predictions.predicted]
    save_evaluation(evaluate_predictions(right), right, tmp_path)
    assert (tmp_path / "predictions.png").exists() and not (tmp_path / "wrong.png").exists()


# Samples


@pytest.fixture
def dealt() -> pd.DataFrame:
    splits = ["train"] * 5 + ["val"] * 2 + ["test"]
    return pd.DataFrame([(name, split) for name in SEVEN for split in splits], columns=["label", "split"])


def test_bars_are_as_high_as_there_are_pictures(dealt):
    figure = plot_class_counts(dealt)
    heights = [[bar.get_height() for bar in bars] for bars in figure.axes[0].containers]
    assert heights == [[5] * 7, [2] * 7, [1] * 7]
    assert [text.get_text() for text in figure.axes[0].get_legend().texts] == ["train", "val", "test"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == SEVEN


def test_without_splits_there_is_one_bar_for_each_class(dealt):
    bars = plot_class_counts(dealt.drop(columns="split")).axes[0].containers
    assert len(bars) == 1 and [bar.get_height() for bar in bars[0]] == [8] * 7


@pytest.mark.parametrize("names", [SEVEN, MANY], ids=["seven", "many"])
def test_names_of_classes_do_not_lie_on_each_other(names):
    samples = pd.DataFrame({"label": names, "split": "train"})
    figure = plot_class_counts(samples)
    require_ticks_apart(figure.axes[0], "x")
    require_words_inside(figure)
    assert figure.axes[0].get_window_extent().height > 100  # and leave room for the bars


@pytest.mark.parametrize("names", [SEVEN, MANY], ids=["seven", "many"])
def test_every_readable_picture_is_a_point_in_a_colour_of_its_class(names):
    checked = pd.DataFrame({"label": names, "width": range(10, 10 + len(names)), "height": 20, "bytes": 3000})
    bad = pd.DataFrame([{"label": names[0], "width": 0, "height": 0, "bytes": 9, "status": "unreadable"}])
    figure = plot_image_sizes(pd.concat([checked.assign(status="ok"), bad], ignore_index=True))
    points = figure.axes[0].collections[0]
    assert points.get_offsets().data.tolist() == [[10 + index, 20] for index in range(len(names))]
    assert len(np.unique(points.get_facecolors(), axis=0)) == len(names)
    require_ticks_apart(figure.axes[1], "y")
    assert min(axis.get_window_extent(draw(figure)).height for axis in figure.axes) > 150


def test_samples_are_drawn_a_row_for_each_class_and_seeded(samples):
    first, again, other = (show_samples(samples, per_class=3, seed=seed) for seed in (0, 0, 1))
    assert words_of(first) == ["blue", "green", "red"]
    require_words_inside(first)
    shown = [[axis.images[0].get_array() for axis in figure.axes] for figure in (first, again, other)]
    assert len(shown[0]) == 9 and shown[0][0].shape == (TILE, TILE, 3)
    assert all((a == b).all() for a, b in zip(shown[0], shown[1])) and any(
        (a != b).any() for a, b in zip(shown[0], shown[2])
    )


def test_a_class_with_fewer_pictures_than_columns_shows_what_it_has(samples):
    figure = show_samples(samples.groupby("label").head(2), per_class=4)
    assert [len(axis.images) for axis in figure.axes] == [1, 1, 0, 0] * 3


def test_mean_colours_are_those_of_the_pictures(pictures):
    table = pd.DataFrame({"path": [*pictures, pictures[0]], "label": ["r", "g", "b", "r"]})
    figure, colours = show_class_means(table, size=32)
    # Half of each padded square is sky; Pillow's green is 0, 128, 0.
    assert colours.loc["r"].tolist() == [127.5, 0, 0] and colours.loc["g"].tolist() == [0, 64, 0]
    assert colours.index.name == "label" and words_of(figure) == ["b", "g", "r"]


def test_the_sizes_of_a_checked_folder_are_drawn(fixture_folder, samples):
    figure = plot_image_sizes(check_samples(samples[["path", "label"]], progress=False))
    assert set(map(tuple, figure.axes[0].collections[0].get_offsets().data)) == {(48, 48)}


# Grids


def test_a_grid_has_as_many_rows_as_its_pictures_need():
    figure = show_grid([BLACK] * 5, list("abcde"), columns=2, colours=[BLUE, RED, GREY, BLUE, RED])
    assert len(figure.axes) == 6 and words_of(figure) == list("abcde")
    assert [axis.title.get_color() for axis in figure.axes[:3]] == [BLUE, RED, GREY]
    assert not any(axis.axison for axis in figure.axes)


def test_grey_pictures_are_drawn_grey():
    figure = show_grid([np.zeros((8, 8))], ["grey"])
    assert figure.axes[0].images[0].get_cmap().name == "gray"


def test_of_no_pictures_an_empty_figure_is_made(tmp_path, predictions):
    for name, figure in (
        ("grid", show_grid([], [])),
        ("maps", show_maps([])),
        ("some", show_predictions(predictions.head(0))),
    ):
        Image.open(save_figure(figure, tmp_path / f"{name}.png")).load()


# Training and evaluation


@pytest.fixture
def history() -> pd.DataFrame:
    table = pd.DataFrame({"stage": ["head"] * 3 + ["finetune"] * 2, "epoch": [1, 2, 3, 1, 2]})
    table["learning_rate"] = [0.1, 0.2, 0.1, 0.01, 0.001]
    for part, losses in (("train", [3.0, 2, 1, 2, 1]), ("val", [2.0, 0.9, 1, 0.8, 0.7])):
        table[f"{part}_loss"], table[f"{part}_accuracy"] = losses, 1 - np.array(losses) / 10
    return table


def test_curves_are_the_history_and_stars_its_kept_epochs(history):
    loss, accuracy, rate = plot_history(history).axes
    train, val, kept = loss.lines[:3]
    assert train.get_ydata().tolist() == history.train_loss.tolist() and val.get_xdata().tolist() == [1, 2, 3, 4, 5]
    assert sorted(zip(kept.get_xdata(), kept.get_ydata())) == [(2, 0.9), (5, 0.7)]
    assert accuracy.lines[1].get_ydata().tolist() == history.val_accuracy.tolist()
    assert rate.lines[0].get_ydata().tolist() == history.learning_rate.tolist() and rate.get_yscale() == "log"


def test_stages_are_named_where_they_begin(history):
    axis = plot_history(history).axes[0]
    assert [(text.get_text(), text.get_position()[0]) for text in axis.texts] == [("head", 0.6), ("finetune", 3.6)]
    require_words_inside(axis.figure)


def test_the_history_of_one_epoch_can_be_drawn(history, tmp_path):
    Image.open(save_figure(plot_history(history.head(1)), tmp_path / "one.png")).load()


def test_the_confusion_matrix_says_how_many(evaluation):
    axis = plot_confusion(evaluation).axes[0]
    assert [text.get_text() for text in axis.texts] == [str(count) for count in evaluation.confusion.to_numpy().ravel()]
    assert evaluation.confusion.loc["earth", "jupiter"] == 1
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted", "true")
    assert [label.get_text() for label in axis.get_yticklabels()] == SEVEN


@pytest.mark.filterwarnings("error")
def test_the_normalised_matrix_says_what_share_of_each_true_class(evaluation):
    axis = plot_confusion(evaluation, normalised=True).axes[0]
    assert [text.get_text() for text in axis.texts[:7]] == ["67%", "33%", "0%", "0%", "0%", "0%", "0%"]


def test_error_bars_end_at_the_interval(evaluation):
    axis = plot_class_accuracy(evaluation).axes[0]
    points, caps, (bars,) = axis.containers[0]
    ends = np.array([segment[:, 0] for segment in bars.get_segments()], dtype=float)
    np.testing.assert_allclose(ends, evaluation.by_class[["low", "high"]])
    assert list(points.get_xdata()) == [2 / 3] * 7
    assert axis.get_yticklabels()[0].get_text() == "earth (2 of 3)" and axis.yaxis_inverted()


def test_calibration_points_are_the_bins(evaluation):
    above, below = plot_calibration(evaluation).axes
    points = next(line for line in above.lines if line.get_marker() == "o")
    np.testing.assert_allclose(points.get_xydata(), [[0.55, 0], [0.95, 1]])
    assert [bar.get_height() for bar in below.patches] == [7, 14]
    # 14 of 21 are surer by 0.05 less than right, 7 by 0.55 more.
    assert above.get_title() == f"expected calibration error {(14 * 0.05 + 7 * 0.55) / 21:.1%}"


def test_figures_of_many_classes_with_long_names_keep_their_names_apart(pictures):
    rows = [(name, name, 0.9, "ok") for name in MANY]
    evaluation = evaluate_predictions(predictions_of(rows, MANY, pictures[0]))
    accuracy, confusion = plot_class_accuracy(evaluation), plot_confusion(evaluation)
    for figure in (accuracy, confusion):
        require_ticks_apart(figure.axes[0], "y")
        require_words_inside(figure)


# Words beside a picture


def test_titles_of_the_planets_are_no_wider_than_their_pictures():
    longest = row_of(label="jupiter", predicted="neptune", confidence=1.0, status="unknown")
    words = describe_prediction(longest)[0]
    require_titles_fit(show_grid([BLACK] * 7, [words] * 7))
    require_titles_fit(show_maps([("neptune", [BLACK] * 3, ["", "neptune 100%", "jupiter 100%"])]))
    require_words_inside(show_maps([("neptune", [BLACK] * 3, ["", "neptune 100%", "jupiter 100%"])]))


def test_titles_of_all_methods_fit_beside_each_other():
    from planetlib.explain import METHODS

    require_titles_fit(show_maps([("", [BLACK] * 8, ["picture", *METHODS])], side=1.5))


def test_shown_predictions_carry_their_words_and_leave_unreadable_ones_out(predictions):
    table = pd.concat(
        [predictions.assign(status=["unreadable", *predictions.status[1:]]), predictions], ignore_index=True
    )
    figure = show_predictions(table, limit=99)
    assert len(words_of(figure)) == len(table) - 1 and words_of(figure)[:2] == ["✓ earth 95%", "✓ jupiter 95%"]
    assert "✗ jupiter 55%\nunknown?\ntrue: earth" in words_of(figure)
    require_titles_fit(figure)


def test_of_many_predictions_a_few_are_shown_evenly_spaced(predictions):
    table = predictions.assign(label="", status="ok", predicted=[str(number) for number in range(len(predictions))])
    words = words_of(show_predictions(table, limit=3))
    assert [word.split()[0] for word in words] == ["0", "10", "20"]


# Maps


@pytest.fixture(scope="module")
def classifier(trained_run) -> Classifier:
    return Classifier.load(trained_run.run, device="cpu")


def test_maps_of_each_class_are_those_of_the_two_likeliest(classifier, samples):
    one_of_each = samples.groupby("label").head(1)
    predictions = classifier.predict(one_of_each.path, one_of_each.label, progress=False)
    figure = show_class_maps(classifier, predictions)
    words = words_of(figure)
    assert words[:3] == ["blue", "green", "red"]
    for column in range(3):
        shares = predictions.loc[column, ["prob_blue", "prob_green", "prob_red"]].astype(float).nlargest(2)
        expected = [f"{name.removeprefix('prob_')} {share:.0%}" for name, share in shares.items()]
        assert [words[3 + column], words[6 + column]] == expected
    shown = [axis.images[0].get_array() for axis in figure.axes]
    assert all((shown[index] != shown[index + 3]).any() for index in range(6))
    require_titles_fit(figure)


def test_maps_of_unreadable_pictures_alone_are_an_empty_figure(classifier, predictions):
    assert words_of(show_class_maps(classifier, predictions.assign(status="unreadable"))) == []


HOSTILE = ["$\\frac{$", "a$b$c", "two\nlines\x1b", "<script>"]


def test_names_of_classes_are_drawn_as_they_are_and_never_as_formulas(samples, pictures):
    """`$…$` begins a formula in matplotlib, and a bad one is an error when the figure is drawn."""
    rows = [(name, other, 0.9, "ok") for name in HOSTILE for other in HOSTILE]
    table = predictions_of(rows, HOSTILE, pictures[0])
    evaluation = evaluate_predictions(table)
    hostile = table[["path", "label"]].assign(status="ok", width=48, height=48, bytes=9)
    figures = [
        *(plot_confusion(evaluation), plot_class_accuracy(evaluation), show_predictions(table)),
        *(plot_class_counts(hostile), plot_image_sizes(hostile), show_samples(hostile, 1)),
        *(show_class_means(hostile, 8)[0], show_maps([(HOSTILE[0], [np.zeros((4, 4, 3))], [HOSTILE[1]])])),
    ]
    for figure in figures:
        draw(figure)
    shown = [label.get_text().replace(r"\$", "$") for label in plot_confusion(evaluation).axes[0].get_xticklabels()]
    assert shown == sorted([*HOSTILE[:2], r"two\nlines\x1b", HOSTILE[3]])
