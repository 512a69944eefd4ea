"""From the predictions table to a report: scores by class, confusion, calibration."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from planetlib import list_few
from planetlib.files.tables import DataError, write_table
from planetlib.files.whole import open_whole


@dataclass(frozen=True)
class Evaluation:
    """How good a predictions table is.

    Attributes:
        summary: `images, unreadable, accuracy, balanced_accuracy, mean_confidence, mean_confidence_when_wrong,
            calibration_error, called_unknown`, all but the counts in 0–1; where there are pictures of none of the
            classes, what `score_strangers` returns as well.
        by_class: index class; `precision, recall, f1, images, right, accuracy, low, high`; the last two are the 95 %
            Wilson interval of the accuracy.
        confusion: counts, index true class, columns predicted class.
        calibration: a row for each bin of confidence that holds pictures: `confidence, accuracy, images`.
        wrong: the rows of the predictions table that are wrong, surest first.
    """

    summary: dict[str, float | None]
    by_class: pd.DataFrame
    confusion: pd.DataFrame
    calibration: pd.DataFrame
    wrong: pd.DataFrame


def evaluate_predictions(predictions: pd.DataFrame) -> Evaluation:
    """Scores the rows of the predictions table whose label is known and whose picture could be read.

    A picture that is called unknown counts by the class that was likeliest. Classes of which there is no picture count
    as columns of the confusion matrix only. Pictures whose label is none of the network's classes count for nothing but
    `score_strangers`.

    Raises:
        DataError: no row has both a label, one of the network's classes, and a prediction.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support  # not needed to predict

    labelled = predictions[(predictions.label != "") & (predictions.status != "unreadable")]
    is_stranger = find_strangers(labelled)
    known = labelled[~is_stranger]
    if known.empty:
        raise DataError("nothing to evaluate: no picture has both a known class and a prediction")
    right = (known.label == known.predicted).to_numpy()
    labels = sorted(known.label.unique())
    names = sorted({*labels, *class_columns(known)})
    scores = precision_recall_fscore_support(known.label, known.predicted, labels=labels, zero_division=0)
    by_class = pd.DataFrame(dict(zip(["precision", "recall", "f1", "images"], scores)), labels)
    counts = confusion_matrix(known.label, known.predicted, labels=names)
    confusion = pd.DataFrame(counts, pd.Index(names, name="true"), pd.Index(names, name="predicted")).loc[labels]
    by_class["right"] = [confusion.at[name, name] for name in labels]
    by_class["accuracy"] = by_class.right / by_class.images
    by_class[["low", "high"]] = [wilson_interval(row.right, row.images) for row in by_class.itertuples()]
    calibration = calibration_table(known.confidence.to_numpy(), right)
    gaps = (calibration.confidence - calibration.accuracy).abs()
    summary: dict[str, float | None] = {
        "images": len(known),
        "unreadable": int((predictions.status == "unreadable").sum()),
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(by_class.recall.mean()),  # by its definition
        "mean_confidence": float(known.confidence.mean()),
        "mean_confidence_when_wrong": float(known.confidence[~right].mean()) if not right.all() else None,
        "calibration_error": float((gaps * calibration.images).sum() / len(known)),
        "called_unknown": float((known.status == "unknown").mean()),
    }
    if is_stranger.any():
        summary |= score_strangers(known, labelled[is_stranger])
    wrong = known[~right].sort_values("confidence", ascending=False)
    return Evaluation(summary, by_class, confusion, calibration, wrong)


def choose_pictures(samples: pd.DataFrame, class_names: Iterable[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of a table with `label`, the pictures of a network's classes, and the strangers, which are of none.

    Raises:
        DataError: no picture is of one of the classes.
    """
    is_known = samples.label.isin(class_names)
    if not is_known.any():
        got, expected = list_few(samples.label), list_few(class_names)
        said = f"got pictures of {got}; expected some of the network's classes, {expected}"
        raise DataError(said, do="give a folder of those, or a run that was trained on these")
    return samples[is_known], samples[~is_known]


def find_strangers(predictions: pd.DataFrame) -> pd.Series:
    """Which rows (bool) have a label that is none of the network's classes; a row without a label is not one."""
    return ~predictions.label.isin(["", *class_columns(predictions)])


def class_columns(predictions: pd.DataFrame) -> dict[str, str]:
    """Class of the network → the column of the predictions table that has its probability."""
    return {name.removeprefix("prob_"): name for name in predictions if name.startswith("prob_")}


def score_strangers(known: pd.DataFrame, strangers: pd.DataFrame) -> dict[str, float]:
    """How well strangers are told from pictures of the classes, both rows of the predictions table.

    Returns:
        `unknowns`, how many; `unknown_auroc`, the area under the ROC curve; `unknowns_let_through`, the share that is
        not called unknown; `unknowns_let_through_at_95`, the same were the threshold laid so that 95 % of these known
        pictures pass: what the score is worth, wherever the threshold was fitted.
    """
    scores = np.concatenate([known.unknown_score, strangers.unknown_score])
    if np.isnan(scores).any():  # of a phase that was interrupted
        return {"unknowns": len(strangers)}
    from sklearn.metrics import roc_auc_score

    threshold = np.quantile(known.unknown_score, 0.95)
    return {
        "unknowns": len(strangers),
        "unknown_auroc": float(roc_auc_score(np.arange(len(scores)) >= len(known), scores)),
        "unknowns_let_through": float((strangers.status != "unknown").mean()),
        "unknowns_let_through_at_95": float((strangers.unknown_score <= threshold).mean()),
    }


def undo_temperature(predictions: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """The predictions table as it would be without calibration: probabilities and confidence at temperature 1."""
    from scipy.special import softmax

    columns = list(class_columns(predictions).values())
    raw = softmax(temperature * np.log(predictions[columns].to_numpy(float).clip(1e-30)), axis=1)
    return predictions.assign(confidence=raw.max(axis=1), **dict(zip(columns, raw.T)))


def wilson_interval(right: int, images: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion (Wilson 1927, JASA 22, 209–212), as SciPy computes it."""
    from scipy.stats import binomtest

    interval = binomtest(int(right), int(images)).proportion_ci(0.95, "wilson")
    return float(interval.low), float(interval.high)


def calibration_table(confidence: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """Mean confidence and accuracy in each tenth of confidence that holds any: `confidence, accuracy, images`.

    The expected calibration error is the mean of |confidence − accuracy| weighted by images
    (Guo et al. 2017, arXiv:1706.04599, equation 3). `confidence` is (N,) of 0–1, `right` is (N,) of bool.
    """
    tenth = np.minimum((confidence * 10).astype(int), 9)
    table = pd.DataFrame({"confidence": confidence, "accuracy": right, "images": 1})
    return table.groupby(tenth).agg({"confidence": "mean", "accuracy": "mean", "images": "sum"}).reset_index(drop=True)


def write_evaluation(evaluation: Evaluation, predictions: pd.DataFrame, folder: str | os.PathLike) -> None:
    """Writes `predictions.csv, report.csv, report.json, confusion.csv, calibration.csv` into a folder."""
    write_table(predictions, Path(folder, "predictions.csv"))
    write_table(evaluation.by_class.rename_axis("class").reset_index(), Path(folder, "report.csv"))
    first = "true" if "true" not in evaluation.confusion else "true class"  # a class may be called so
    write_table(evaluation.confusion.reset_index(names=first), Path(folder, "confusion.csv"))
    write_table(evaluation.calibration, Path(folder, "calibration.csv"))
    report = {**evaluation.summary, "classes": evaluation.by_class.to_dict("index")}
    with open_whole(Path(folder, "report.json")) as file:
        file.write((json.dumps(report, indent=2) + "\n").encode())


def rank_doubts(predictions: pd.DataFrame) -> pd.DataFrame:
    """Readable rows of the predictions table with `doubt`, 0–1, the least believed label first.

    A label is doubted as much as its probability lacks to 1 (self-confidence, Northcutt et al. 2021,
    arXiv:1911.00068). Pictures that the network was trained on are believed too easily: a wrong label that it learnt
    by heart stays hidden.
    """
    readable = predictions[predictions.status != "unreadable"]
    doubt = [1 - row.get(f"prob_{row.label}", 0.0) for _, row in readable.iterrows()]
    return readable.assign(doubt=doubt).sort_values("doubt", ascending=False, kind="stable", ignore_index=True)
