"""Every figure, with matplotlib and seaborn.

Functions return a figure and show nothing themselves, so that notebooks and the command line share them.
Colours are those of seaborn's `colorblind` palette; right and wrong differ in mark as well as in colour. seaborn, which
takes as long to import as the rest, is asked for by the figures that need it.
"""

import textwrap
from collections.abc import Iterable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from planetlib import printable
from planetlib.classify import Classifier
from planetlib.data import SPLITS, read_square
from planetlib.evaluate import Evaluation, find_strangers
from planetlib.explain import map_activation, overlay_map
from planetlib.files.tables import class_probabilities
from planetlib.files.whole import open_whole
from planetlib.show.sheets import BLUE, GREY, TILE, describe_prediction, verbatim

ORANGE, GREEN = "#de8f05", "#029e73"
MAP_SIDE = 320  # pixels, side of a picture and of the maps below it
BLACK = repeat("black")  # the colour of each title
WHOLE_NUMBERS: dict[str, Any] = {"integer": True, "steps": [1, 2, 5, 10]}  # where an axis has its ticks


def new_figure(rows: int, columns: int, width: float, height: float, **options) -> tuple[Figure, np.ndarray]:
    """A figure of `width` × `height` inches and its axes as an array; closed, so that a notebook shows it once."""
    with matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}):
        figure, axes = plt.subplots(
            rows, columns, squeeze=False, figsize=(width, height), dpi=100, layout="constrained", **options
        )
    plt.close(figure)
    return figure, axes


def new_plot(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one plot in it, and its axes."""
    figure, axes = new_figure(1, 1, width, height)
    return figure, axes[0, 0]


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Saves a figure as PNG, with folders as needed; the file carries no date, so the same figure is the same file."""
    with open_whole(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})
    return Path(path)


def show_grid(
    pictures: Sequence[np.ndarray], titles: Sequence[str], columns: int = 7, colours: Iterable[str] = BLACK, side=1.5
) -> Figure:
    """Pictures (H, W, 3) in rows, each with a title; `colours` are those of the titles, `side` is in inches."""
    titles = [_wrap_title(title, side) for title in titles]
    rows = max(1, -(-len(pictures) // columns))
    # Room for two at least: a figure keeps its size where one verdict more or less is «unknown?».
    lines = max([2, *(title.count("\n") + 1 for title in titles)])
    figure, axes = new_figure(rows, columns, columns * side, rows * (side + 0.18 * lines))
    _show_pictures(axes, pictures, titles, colours)
    return figure


def _show_pictures(
    axes: np.ndarray, pictures: Sequence, titles: Iterable[str] = repeat(""), colours: Iterable[str] = BLACK
) -> None:
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture, title, colour in zip(axes.flat, pictures, titles, colours):
        axis.imshow(picture, cmap="gray")
        axis.set_title(title, fontsize=9, color=colour)


def _wrap_title(title: str, side: float) -> str:
    """Breaks lines that are longer than a picture of `side` inches is wide."""
    lines = [part for line in title.split("\n") for part in textwrap.wrap(printable(line), int(12 * side))]
    return "\n".join(map(verbatim, lines))


def plot_class_counts(samples: pd.DataFrame) -> Figure:
    """Pictures of each class, stacked by split where the table has one."""
    by = samples.split if "split" in samples else pd.Series("all", samples.index, name="split")
    counts = samples.groupby(["label", by]).size().unstack(fill_value=0).rename(index=verbatim)
    counts = counts[[name for name in (*SPLITS, "all") if name in counts]]
    longest = max(map(len, counts.index))
    crowded = len(counts) * longest > 90  # more characters than fit beside each other: the names are turned
    figure, axis = new_plot(8, 3 + crowded * 0.08 * longest)
    look = {"width": 0.8, "color": [BLUE, ORANGE, GREEN], "rot": 90 if crowded else 0}
    counts.plot.bar(stacked=True, ax=axis, xlabel="", ylabel="pictures", **look)
    for bars, ink in zip(axis.containers, ("white", "black", "black")):
        axis.bar_label(bars, label_type="center", color=ink, fontsize=8)  # type: ignore[arg-type]
    axis.autoscale()
    axis.margins(x=0.01)
    axis.locator_params("y", **WHOLE_NUMBERS)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def plot_image_sizes(checked: pd.DataFrame) -> Figure:
    """Width against height of every readable picture, and the sizes of the files; each class in its colour."""
    import seaborn

    readable = checked[checked.status == "ok"]
    readable = readable.assign(kilobytes=readable.bytes / 1000, label=readable.label.map(verbatim))
    classes = readable.label.nunique()
    figure, ((left, right),) = new_figure(1, 2, 9, max(3.4, 0.9 + 0.25 * classes))
    palette = "colorblind" if classes <= 10 else "husl"  # ten colours, or any number
    look = {"hue": "label", "palette": palette, "legend": False}
    seaborn.scatterplot(readable, x="width", y="height", alpha=0.6, s=25, ax=left, **look)
    left.set(xlabel="width, pixels", ylabel="height, pixels")
    seaborn.boxplot(readable, x="kilobytes", y="label", fill=False, fliersize=3, ax=right, **look)
    right.set(xlabel="file, kB", ylabel="")
    return figure


def show_samples(samples: pd.DataFrame, per_class: int = 8, seed: int = 0) -> Figure:
    """A row of pictures of each class, drawn at random."""
    labels = sorted(samples.label.unique())
    figure, axes = new_figure(len(labels), per_class, per_class * 1.1, len(labels) * 1.12)
    for row, label in zip(axes, labels):
        part = samples[samples.label == label]
        chosen = part.sample(min(per_class, len(part)), random_state=seed)
        _show_pictures(row, [read_square(path, TILE) for path in chosen.path])
        row[0].text(-0.08, 0.5, verbatim(label), ha="right", va="center", transform=row[0].transAxes)
    return figure


def show_class_means(samples: pd.DataFrame, size: int = 96) -> tuple[Figure, pd.DataFrame]:
    """Mean picture and mean colour of each class.

    Returns:
        The figure, and the mean colours: index class, columns `red, green, blue`, 0–255.
    """
    pictures, colours = {}, {}
    for label, part in samples.groupby("label"):
        mean = np.mean([read_square(path, size) for path in part.path], axis=0)
        colours[label] = mean.mean((0, 1))
        swatch = np.broadcast_to(colours[label], (size // 3, size, 3))
        pictures[label] = np.vstack([mean, swatch]) / 255
    table = pd.DataFrame.from_dict(colours, "index", columns=["red", "green", "blue"]).rename_axis("label")
    return show_grid(list(pictures.values()), list(pictures), columns=len(pictures)), table


def plot_history(history: pd.DataFrame) -> Figure:
    """Loss, accuracy and learning rate over the epochs of both phases, with the kept epochs marked."""
    figure, ((losses, accuracies, rates),) = new_figure(1, 3, 12, 3.4)
    history = history.reset_index(drop=True)
    epochs = history.index + 1
    kept = history.groupby("phase").val_loss.idxmin()
    rates.plot(epochs, history.learning_rate, ".-", color=GREEN)
    rates.set(ylabel="learning rate", yscale="log")
    for axis, name, words in ((losses, "loss", "cross entropy"), (accuracies, "accuracy", "accuracy")):
        axis.plot(epochs, history[f"train_{name}"], "--", color=BLUE, label="training, augmented")
        axis.plot(epochs, history[f"val_{name}"], "-", color=ORANGE, label="validation, augmented")
        axis.plot(epochs[kept], history[f"val_{name}"][kept], "*", color=ORANGE, ms=13, mec="black", label="kept")
        axis.set_ylabel(words)
    small = {"color": GREY, "fontsize": 8, "va": "bottom"}
    for axis in (losses, accuracies, rates):
        axis.set_xlabel("epoch")
        axis.locator_params("x", **WHOLE_NUMBERS)
        for phase, start in history.groupby("phase").epoch.idxmin().sort_values().items():
            axis.axvline(start + 0.5, color=GREY, lw=0.8, ls=":")
            axis.text(start + 0.6, 1.0, phase, transform=axis.get_xaxis_transform(), **small)
    losses.set_ylim(bottom=0)
    losses.legend(frameon=False, fontsize=8)
    return figure


def plot_confusion(evaluation: Evaluation, normalised: bool = False) -> Figure:
    """Confusion matrix: counts, or shares of each true class."""
    import seaborn

    table = evaluation.confusion.rename(index=verbatim, columns=verbatim)
    side = 2.2 + 0.55 * len(table.columns)
    figure, axis = new_plot(side, side * 0.85)
    shown, form = (table.div(table.sum(axis=1), axis=0), ".0%") if normalised else (table, "d")
    look = {"cmap": "cividis", "cbar": False, "linewidths": 0.5, "vmin": 0, "annot_kws": {"fontsize": 9}}
    seaborn.heatmap(shown, annot=True, fmt=form, ax=axis, **look)
    axis.set(xlabel="predicted", ylabel="true")
    plt.setp(axis.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    axis.tick_params(axis="y", rotation=0)
    return figure


def plot_class_accuracy(evaluation: Evaluation) -> Figure:
    """Accuracy of each class with its 95 % Wilson interval."""
    table = evaluation.by_class
    figure, axis = new_plot(8, 0.9 + 0.35 * len(table))
    reach = np.abs([table.accuracy - table.low, table.high - table.accuracy])
    axis.errorbar(table.accuracy, range(len(table)), xerr=reach, fmt="o", color=BLUE, capsize=3)
    names = [f"{verbatim(row.Index)} ({row.right} of {row.images})" for row in table.itertuples()]
    axis.set_yticks(range(len(table)), names)
    axis.set(xlim=(0, 1.02), xlabel="accuracy, with its 95 % interval")
    axis.invert_yaxis()
    return figure


def plot_calibration(evaluation: Evaluation, uncalibrated: Evaluation | None = None) -> Figure:
    """Reliability diagram: accuracy against confidence, over the number of pictures in each bin.

    `uncalibrated` is of the same predictions at temperature 1 (`undo_temperature`), to be drawn beside.
    """
    table = evaluation.calibration
    figure, ((above,), (below,)) = new_figure(2, 1, 4.6, 4.6, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], ":", color=GREY, label="as sure as right")
    if uncalibrated:
        before, error = uncalibrated.calibration, uncalibrated.summary["calibration_error"]
        label = f"at temperature 1: error {error:.1%}"
        above.plot(before.confidence, before.accuracy, "^--", color=ORANGE, label=label)
    above.plot(table.confidence, table.accuracy, "o-", color=BLUE, label="pictures")
    above.set(ylabel="accuracy", ylim=(-0.02, 1.05), xlim=(0, 1.02))
    above.set_title(f"expected calibration error {evaluation.summary['calibration_error']:.1%}", fontsize=10)
    above.legend(frameon=False, fontsize=8)
    below.bar(table.confidence, table.images, width=0.04, color=BLUE)
    below.set(xlabel="confidence", ylabel="pictures")
    return figure


def plot_strangers(predictions: pd.DataFrame, threshold: float) -> Figure:
    """Scores for «none of these» of pictures of the classes and of strangers, with the threshold between them."""
    import seaborn

    labelled = predictions[(predictions.label != "") & (predictions.status != "unreadable")]
    kinds = ["one of the classes", "none of the classes"]
    labelled = labelled.assign(kind=np.take(kinds, find_strangers(labelled)))
    figure, axis = new_plot(6, 3.2)
    look = {"palette": [BLUE, ORANGE], "bins": 20, "stat": "proportion", "common_norm": False}
    seaborn.histplot(labelled, x="unknown_score", hue="kind", hue_order=kinds, ax=axis, **look)
    axis.axvline(threshold, color="black", ls=":")
    axis.set(xlabel="score for «none of these»; unknown to the right of the line", ylabel="share of pictures")
    seaborn.move_legend(axis, "best", title="")
    return figure


def save_evaluation(
    evaluation: Evaluation, predictions: pd.DataFrame, folder: str | Path, uncalibrated: Evaluation, threshold: float
) -> list[Path]:
    """Saves the figures of an evaluation; those of wrong pictures and of strangers only where there are any.

    `uncalibrated` is as for `plot_calibration`, `threshold` as for `plot_strangers`.
    """
    strangers = find_strangers(predictions)
    figures = {
        "confusion": plot_confusion(evaluation),
        "confusion_normalised": plot_confusion(evaluation, normalised=True),
        "class_accuracy": plot_class_accuracy(evaluation),
        "calibration": plot_calibration(evaluation, uncalibrated),
        "predictions": show_predictions(predictions[~strangers]),
    }
    for name in ("wrong", "unknowns"):
        (Path(folder) / f"{name}.png").unlink(missing_ok=True)  # of an earlier evaluation
    if len(evaluation.wrong):
        figures["wrong"] = show_predictions(evaluation.wrong, limit=len(evaluation.wrong))
    if strangers.any() and predictions.unknown_score.notna().any():  # else it has no detector
        figures["unknowns"] = plot_strangers(predictions, threshold)
    return [save_figure(figure, Path(folder) / f"{name}.png") for name, figure in figures.items()]


def show_predictions(predictions: pd.DataFrame, columns: int = 7, limit: int = 28) -> Figure:
    """Rows of the predictions table as pictures with their verdicts; `limit` of them, evenly spaced."""
    readable = predictions[predictions.status != "unreadable"]
    rows = list(readable.iloc[np.linspace(0, len(readable) - 1, min(limit, len(readable))).astype(int)].itertuples())
    words = [describe_prediction(row) for row in rows]
    pictures = [read_square(row.path, TILE) for row in rows]
    return show_grid(pictures, [text for text, _ in words], columns, [colour for _, colour in words])


def show_class_maps(classifier: Classifier, predictions: pd.DataFrame) -> Figure:
    """For the first picture of each class, downwards: itself, its map for the likeliest class and for the runner-up."""
    stacks = []
    for label, row in predictions[predictions.status != "unreadable"].groupby("label").first().iterrows():
        picture = read_square(row.path, MAP_SIDE)
        stack = [(picture, label)]
        for name, share in class_probabilities(row).nlargest(2).items():
            heat = map_activation(classifier, picture, name)
            # A map has no scale of its own: bright tells where, not that much speaks for the class.
            read_as = "tells only where" if heat.any() else "nothing for it"
            stack.append((overlay_map(picture, heat), f"{name} {share:.0%}\n{read_as}"))
        stacks.append(stack)
    columns = max(1, min(7, len(stacks)))
    blank = np.full((MAP_SIDE, MAP_SIDE, 3), 255, np.uint8), ""
    stacks += [[blank] * 3] * (-len(stacks) % columns)
    blocks = [zip(*stacks[start : start + columns]) for start in range(0, len(stacks), columns)]
    cells = [cell for block in blocks for line in block for cell in line]
    return show_grid([picture for picture, _ in cells], [title for _, title in cells], columns)
