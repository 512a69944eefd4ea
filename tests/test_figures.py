"""Every figure can be saved, shows the numbers it was given, and its words fit."""

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from planetlib.evaluate import evaluate_predictions, undo_temperature
from planetlib.explain import METHODS
from planetlib.show import figures
from planetlib.show.sheets import BLUE, GREY, RED, TILE, describe_prediction
from tests.conftest import SEVEN, predictions_of, row_of

MANY = [f"a class with a long name {index:02d}" for index in range(25)]
BLACK = np.zeros((TILE, TILE, 3), np.uint8)

each_set_of_names = pytest.mark.parametrize("names", [SEVEN, MANY], ids=["seven", "many"])


@pytest.fixture
def evaluation(predictions):
    return evaluate_predictions(predictions)


@lru_cache(1)  # one that is looked at in several ways is drawn once
def draw(figure: Figure):
    """Draws a figure, so that its words have a place; returns the renderer that tells it."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    return renderer


def words_of(figure: Figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in (axis.title, *axis.texts) if text.get_text()]


def ticks_of(axis, which: str) -> list[str]:
    return [label.get_text() for label in getattr(axis, f"get_{which}ticklabels")()]


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
    boxes = [label.get_window_extent(renderer) for label in getattr(axis, f"get_{which}ticklabels")()]
    spans = sorted(tuple(sorted(getattr(box, f"interval{which}"))) for box in boxes)
    assert all(first[1] <= second[0] + 1 for first, second in zip(spans, spans[1:]))


# Saving


def test_a_figure_is_the_same_file_each_time_and_none_is_left_open(tmp_path, evaluation):
    first = figures.save_figure(figures.plot_calibration(evaluation), tmp_path / "deep" / "er" / "a.png")
    second = figures.save_figure(figures.plot_calibration(evaluation), tmp_path / "b.png")
    assert first == tmp_path / "deep" / "er" / "a.png" and first.read_bytes() == second.read_bytes()
    with Image.open(first) as image:
        assert image.size == (460, 460) and "Software" not in image.info
    assert plt.get_fignums() == []


def test_figures_of_an_evaluation_are_saved_and_those_of_what_there_is_none_go(tmp_path, evaluation, predictions):
    strange = predictions.assign(label=["pluto", *predictions.label[1:]])
    paths = figures.save_evaluation(evaluation, strange, tmp_path, evaluation, 0.5)
    always = ["calibration", "class_accuracy", "confusion", "confusion_normalised", "predictions"]
    assert sorted(path.stem for path in paths) == [*always, "unknowns", "wrong"]
    unscored = strange.assign(unknown_score=np.nan)  # by a run without a detector
    figures.save_evaluation(evaluation, unscored, tmp_path, evaluation, 1.0)
    assert "unknowns" not in [path.stem for path in tmp_path.iterdir()]
    right = predictions[predictions.label == predictions.predicted]
    of_right = evaluate_predictions(right)
    figures.save_evaluation(of_right, right, tmp_path, of_right, 0.5)
    assert sorted(path.stem for path in tmp_path.iterdir()) == always


# Samples


def test_bars_are_as_high_as_there_are_pictures():
    splits = ["train"] * 5 + ["val"] * 2 + ["test"]
    dealt = pd.DataFrame([(name, split) for name in SEVEN for split in splits], columns=["label", "split"])
    (axis,) = figures.plot_class_counts(dealt).axes
    assert [[bar.get_height() for bar in bars] for bars in axis.containers] == [[5] * 7, [2] * 7, [1] * 7]
    assert [bars[0].get_y() for bars in axis.containers] == [0, 5, 7]
    assert [text.get_text() for text in axis.get_legend().texts] == ["train", "val", "test"]
    assert ticks_of(axis, "x") == SEVEN
    (bars,) = figures.plot_class_counts(dealt.drop(columns="split")).axes[0].containers
    assert [bar.get_height() for bar in bars] == [8] * 7


@each_set_of_names
def test_names_of_classes_do_not_lie_on_each_other(names):
    figure = figures.plot_class_counts(pd.DataFrame({"label": names, "split": "train"}))
    require_ticks_apart(figure.axes[0], "x")
    require_words_inside(figure)
    assert figure.axes[0].get_window_extent().height > 100  # and leave room for the bars


@each_set_of_names
def test_every_readable_picture_is_a_point_in_the_colour_that_its_class_has_beside_it(names):
    checked = pd.DataFrame({"label": names, "width": range(10, 10 + len(names)), "height": 20, "bytes": 3000})
    bad = pd.DataFrame([{"label": names[0], "width": 0, "height": 0, "bytes": 9, "status": "unreadable"}])
    figure = figures.plot_image_sizes(pd.concat([checked.assign(status="ok"), bad], ignore_index=True))
    points = figure.axes[0].collections[0]
    assert points.get_offsets().data.tolist() == [[10 + index, 20] for index in range(len(names))]
    assert len(np.unique(points.get_facecolors(), axis=0)) == len(names)
    boxes = {tuple(np.round(to_rgb(line.get_color()), 2)) for line in figure.axes[1].lines}
    assert {tuple(np.round(colour[:3], 2)) for colour in points.get_facecolors()} <= boxes
    require_ticks_apart(figure.axes[1], "y")
    assert min(axis.get_window_extent(draw(figure)).height for axis in figure.axes) > 150


def test_samples_are_drawn_a_row_for_each_class_and_seeded(samples):
    first, again, other = (figures.show_samples(samples, per_class=3, seed=seed) for seed in (0, 0, 1))
    assert words_of(first) == ["blue", "green", "red"]
    require_words_inside(first)
    shown = [np.stack([axis.images[0].get_array() for axis in figure.axes]) for figure in (first, again, other)]
    assert shown[0].shape == (9, TILE, TILE, 3)
    assert (shown[0] == shown[1]).all() and (shown[0] != shown[2]).any()
    few = figures.show_samples(samples.groupby("label").head(2), per_class=4)
    assert [len(axis.images) for axis in few.axes] == [1, 1, 0, 0] * 3


def test_mean_colours_are_those_of_the_pictures(pictures):
    table = pd.DataFrame({"path": [*pictures, pictures[0]], "label": ["r", "g", "b", "r"]})
    figure, colours = figures.show_class_means(table, size=32)
    # Half of each padded square is sky; Pillow's green is 0, 128, 0.
    assert colours.loc["r"].tolist() == [127.5, 0, 0] and colours.loc["g"].tolist() == [0, 64, 0]
    assert colours.index.name == "label" and words_of(figure) == ["b", "g", "r"]


# Grids


def test_a_grid_has_as_many_rows_as_its_pictures_need():
    figure = figures.show_grid([BLACK] * 5, list("abcde"), columns=2, colours=[BLUE, RED, GREY, BLUE, RED])
    assert len(figure.axes) == 6 and words_of(figure) == list("abcde")
    assert [axis.title.get_color() for axis in figure.axes[:3]] == [BLUE, RED, GREY]
    assert not any(axis.axison for axis in figure.axes)
    assert figures.show_grid([np.zeros((8, 8))], ["grey"]).axes[0].images[0].get_cmap().name == "gray"


def test_of_no_pictures_an_empty_figure_is_made(predictions):
    figure = figures.show_predictions(predictions.head(0))
    draw(figure)
    assert words_of(figure) == [] and not figure.axes[0].axison


def test_titles_are_no_wider_than_their_pictures():
    longest = describe_prediction(row_of(label="jupiter", predicted="neptune", confidence=1.0, status="unknown"))[0]
    figure = figures.show_grid([BLACK] * 9, [longest, *METHODS], columns=9)
    assert figure.axes[0].get_title() == longest  # and these need not be broken
    require_titles_fit(figure)
    require_titles_fit(figures.show_grid([BLACK] * 7, [f"✓ {MANY[0]} 87%\nunknown?"] * 7))


# Training and evaluation


def test_curves_are_the_history_with_its_phases_and_kept_epochs():
    history = pd.DataFrame({"phase": ["head"] * 3 + ["finetune"] * 2, "epoch": [1, 2, 3, 1, 2]})
    history["learning_rate"] = [0.1, 0.2, 0.1, 0.01, 0.001]
    for part, losses in (("train", [3.0, 2, 1, 2, 1]), ("val", [2.0, 0.9, 1, 0.8, 0.7])):
        history[f"{part}_loss"], history[f"{part}_accuracy"] = losses, 1 - np.array(losses) / 10
    loss, accuracy, rate = figures.plot_history(history).axes
    train, val, kept = loss.lines[:3]
    assert train.get_ydata().tolist() == history.train_loss.tolist() and val.get_xdata().tolist() == [1, 2, 3, 4, 5]
    assert sorted(zip(kept.get_xdata(), kept.get_ydata())) == [(2, 0.9), (5, 0.7)]
    assert accuracy.lines[1].get_ydata().tolist() == history.val_accuracy.tolist()
    assert rate.lines[0].get_ydata().tolist() == history.learning_rate.tolist() and rate.get_yscale() == "log"
    assert [(text.get_text(), text.get_position()[0]) for text in loss.texts] == [("head", 0.6), ("finetune", 3.6)]
    require_words_inside(loss.figure)
    draw(figures.plot_history(history.head(1)))


@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")
def test_the_confusion_matrix_says_how_many_and_what_share_of_each_true_class(evaluation):
    (axis,) = figures.plot_confusion(evaluation).axes
    assert [text.get_text() for text in axis.texts] == [str(count) for count in evaluation.confusion.to_numpy().ravel()]
    assert evaluation.confusion.loc["earth", "jupiter"] == 1
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted", "true") and ticks_of(axis, "y") == SEVEN
    (shares,) = figures.plot_confusion(evaluation, normalised=True).axes
    assert [text.get_text() for text in shares.texts[:7]] == ["67%", "33%", "0%", "0%", "0%", "0%", "0%"]


def test_error_bars_end_at_the_interval(evaluation):
    (axis,) = figures.plot_class_accuracy(evaluation).axes
    points, _, (bars,) = axis.containers[0]
    np.testing.assert_allclose([ends[:, 0] for ends in bars.get_segments()], evaluation.by_class[["low", "high"]])
    assert list(points.get_xdata()) == [2 / 3] * 7
    assert ticks_of(axis, "y")[0] == "earth (2 of 3)" and axis.yaxis_inverted()


def test_calibration_points_are_the_bins_and_those_before_stand_beside_them(evaluation, predictions):
    uncalibrated = evaluate_predictions(undo_temperature(predictions, 2.0))
    above, below = figures.plot_calibration(evaluation, uncalibrated).axes
    points, before = (next(line for line in above.lines if line.get_marker() == mark) for mark in "o^")
    np.testing.assert_allclose(points.get_xydata(), [[0.55, 0], [0.95, 1]])
    np.testing.assert_allclose(before.get_xydata(), uncalibrated.calibration[["confidence", "accuracy"]])
    assert [bar.get_height() for bar in below.patches] == [7, 14]
    # 14 of 21 are surer by 0.05 less than right, 7 by 0.55 more.
    assert above.get_title() == f"expected calibration error {(14 * 0.05 + 7 * 0.55) / 21:.1%}"


def test_scores_of_strangers_and_of_others_are_shares_of_each_with_the_threshold(predictions):
    table = predictions.assign(label=["pluto"] * 7 + list(predictions.label[7:]))
    (axis,) = figures.plot_strangers(table, 0.4).axes
    heights = [sum(bar.get_height() for bar in bars) for bars in axis.containers]
    assert heights == pytest.approx([1, 1]) and axis.lines[0].get_xdata() == [0.4, 0.4]
    assert [text.get_text() for text in axis.get_legend().texts] == ["one of the classes", "none of the classes"]


def test_figures_of_many_classes_with_long_names_keep_their_names_apart(pictures):
    evaluation = evaluate_predictions(predictions_of([(name, name, 0.9, "ok") for name in MANY], MANY, pictures[0]))
    for figure in (figures.plot_class_accuracy(evaluation), figures.plot_confusion(evaluation)):
        require_ticks_apart(figure.axes[0], "y")
        require_words_inside(figure)


# Predictions and maps


def test_shown_predictions_carry_their_words_and_leave_unreadable_ones_out(predictions):
    unread = predictions.assign(status=["unreadable", *predictions.status[1:]])
    figure = figures.show_predictions(unread, limit=99)
    words = words_of(figure)
    assert len(words) == len(unread) - 1 and words[:2] == ["✓ earth 95%", "✓ jupiter 95%"]
    assert "✗ jupiter 55%\nunknown?\ntrue: earth" in words
    require_titles_fit(figure)


def test_of_many_predictions_a_few_are_shown_evenly_spaced(predictions):
    table = predictions.assign(label="", status="ok", predicted=[str(number) for number in range(len(predictions))])
    words = words_of(figures.show_predictions(table, limit=3))
    assert [word.split()[0] for word in words] == ["0", "10", "20"]


def test_maps_of_each_class_are_those_of_the_two_likeliest(classifier, samples, predictions):
    one_of_each = samples.groupby("label").head(1)
    table = classifier.predict(one_of_each.path, one_of_each.label, progress=False)
    figure = figures.show_class_maps(classifier, table)
    words = words_of(figure)
    assert words[:3] == ["blue", "green", "red"]
    for column in range(3):
        shares = table.loc[column, ["prob_blue", "prob_green", "prob_red"]].astype(float).nlargest(2)
        expected = [f"{name.removeprefix('prob_')} {share:.0%}" for name, share in shares.items()]
        titles = [words[3 + column].splitlines(), words[6 + column].splitlines()]
        assert [title[0] for title in titles] == expected
        assert {title[1] for title in titles} <= {"tells only where", "nothing for it"}
    shown = [axis.images[0].get_array() for axis in figure.axes]
    assert all((shown[index] != shown[index + 3]).any() for index in range(6))
    require_titles_fit(figure)
    assert words_of(figures.show_class_maps(classifier, predictions.assign(status="unreadable"))) == []


HOSTILE = ["$\\frac{$", "a$b$c", "two\nlines\x1b", "<script>"]


def test_names_of_classes_are_drawn_as_they_are_and_never_as_formulas(pictures):
    """`$…$` begins a formula in matplotlib, and a bad one is an error when the figure is drawn."""
    rows = [(name, other, 0.9, "ok") for name in HOSTILE for other in HOSTILE]
    table = predictions_of(rows, HOSTILE, pictures[0])
    evaluation = evaluate_predictions(table)
    hostile = table[["path", "label"]].assign(status="ok", width=48, height=48, bytes=9)
    drawn = [
        *(figures.plot_confusion(evaluation), figures.plot_class_accuracy(evaluation), figures.show_predictions(table)),
        *(figures.plot_class_counts(hostile), figures.plot_image_sizes(hostile), figures.show_samples(hostile, 1)),
        figures.show_class_means(hostile, 8)[0],
        figures.show_grid([BLACK], ["a $b$c$ " * 9]),  # broken between the two marks of a formula
    ]
    for figure in drawn:
        draw(figure)
    shown = [name.replace(r"\$", "$") for name in ticks_of(figures.plot_confusion(evaluation).axes[0], "x")]
    assert shown == sorted([*HOSTILE[:2], r"two\nlines\x1b", HOSTILE[3]])
