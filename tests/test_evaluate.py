"""From the predictions table to scores: every number here is one that can be worked out by hand."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from planetlib.evaluate import (
    calibration_table,
    evaluate_predictions,
    undo_temperature,
    wilson_interval,
    write_evaluation,
)
from planetlib.files.tables import DataError
from tests.conftest import predictions_of

# A report is no place for warnings about absent classes. What another test left open is swept up at any moment.
pytestmark = pytest.mark.filterwarnings("error", "ignore::ResourceWarning")

ROWS = [  # label, predicted, confidence, status
    ("earth", "earth", 0.95, "ok"),
    ("earth", "earth", 0.85, "ok"),
    ("earth", "mars", 0.75, "ok"),
    ("mars", "mars", 0.65, "ok"),
    ("mars", "venus", 0.45, "unknown"),
    ("mars", "", math.nan, "unreadable"),
    ("", "earth", 0.99, "ok"),
]


def make_predictions(rows=ROWS) -> pd.DataFrame:
    table = predictions_of(rows, ["earth", "mars", "venus"], "")
    return table.assign(path=[f"{number}.png" for number in range(len(table))])


@pytest.fixture
def evaluation():
    return evaluate_predictions(make_predictions())


def test_summary_counts_the_labelled_readable_rows(evaluation):
    assert evaluation.summary["images"] == 5
    assert evaluation.summary["unreadable"] == 1
    assert evaluation.summary["accuracy"] == pytest.approx(3 / 5)
    assert evaluation.summary["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)  # mean recall of the classes
    assert evaluation.summary["mean_confidence"] == pytest.approx((0.95 + 0.85 + 0.75 + 0.65 + 0.45) / 5)
    assert evaluation.summary["mean_confidence_when_wrong"] == pytest.approx((0.75 + 0.45) / 2)


def test_scores_by_class_and_confusion(evaluation):
    scores, confusion = evaluation.by_class, evaluation.confusion
    assert list(scores.columns) == ["precision", "recall", "f1", "images", "right", "accuracy", "low", "high"]
    assert scores.precision.tolist() == pytest.approx([2 / 2, 1 / 2])
    assert scores.recall.tolist() == scores.accuracy.tolist() == pytest.approx([2 / 3, 1 / 2])
    assert scores.f1.tolist() == pytest.approx([0.8, 0.5])
    assert scores.images.tolist() == [3, 2] and scores.right.tolist() == [2, 1]
    assert (scores.low["earth"], scores.high["earth"]) == pytest.approx(wilson_interval(2, 3))
    assert scores.index.tolist() == confusion.index.tolist() == ["earth", "mars"]  # each class of which there is one
    assert confusion.columns.tolist() == ["earth", "mars", "venus"]
    assert confusion.to_numpy().tolist() == [[2, 1, 0], [0, 1, 1]]


def test_wrong_rows_come_surest_first(evaluation):
    assert evaluation.wrong.path.tolist() == ["2.png", "4.png"]
    assert list(evaluation.wrong.columns) == list(make_predictions().columns)


def test_calibration_by_hand(evaluation):
    # In tenths each picture has a bin of its own; 0.75 and 0.45 are wrong.
    assert evaluation.summary["calibration_error"] == pytest.approx((0.05 + 0.15 + 0.75 + 0.35 + 0.45) / 5)
    # Bins without pictures are left out, and certainty falls into the last.
    tenths = calibration_table(np.array([0.0, 0.1, 1.0, 0.99]), np.array([False, True, True, False]))
    assert tenths.confidence.tolist() == pytest.approx([0, 0.1, 0.995])
    assert tenths.accuracy.tolist() == [0, 1, 0.5] and tenths.images.tolist() == [1, 1, 2]


def test_interval_of_the_published_example():
    # Newcombe 1998, Statistics in Medicine 17, 857-872, table I: 81 of 263.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_pictures_of_no_class_of_the_checkpoint_count_for_the_unknowns_alone():
    rows = [(name, "mars", 0.8, "ok") for name in ["mars"] * 20 + ["sun"] * 4]
    predictions = make_predictions(rows)
    predictions["unknown_score"] = [*np.linspace(0, 0.19, 20), 0.05, 0.185, 0.5, 0.9]
    predictions["status"] = np.where(predictions.unknown_score > 0.6, "unknown", "ok")
    evaluation = evaluate_predictions(predictions)
    assert evaluation.by_class.recall.to_dict() == {"mars": 1} and evaluation.summary["images"] == 20
    assert evaluation.confusion.index.tolist() == ["mars"] and len(evaluation.wrong) == 0
    pairs = [score > known for score in (0.0501, 0.185, 0.5, 0.9) for known in np.linspace(0, 0.19, 20)]
    assert evaluation.summary["unknown_auroc"] == pytest.approx((np.sum(pairs) - 0.5) / len(pairs))  # a tie is half
    assert (evaluation.summary["unknowns"], evaluation.summary["unknowns_let_through"]) == (4, 3 / 4)
    assert evaluation.summary["unknowns_let_through_at_95"] == 1 / 4  # of the known, one of 20 is above
    assert evaluation.summary["called_unknown"] == 0


def test_without_scores_unknowns_are_only_counted():
    predictions = make_predictions([("sun", "mars", 0.9, "ok"), ("mars", "mars", 0.8, "ok")])
    summary = evaluate_predictions(predictions.assign(unknown_score=math.nan)).summary
    assert summary["unknowns"] == 1 and "unknown_auroc" not in summary


def test_undoing_a_temperature_gives_the_softmax_of_the_logits():
    logits = np.array([[2.0, 1.0, -1.0], [0.5, 3.0, 0.0]])
    predictions = make_predictions(ROWS[:2])
    names = ["prob_earth", "prob_mars", "prob_venus"]
    predictions[names] = softmax(logits / 2.5, axis=1)
    raw = undo_temperature(predictions, 2.5)
    np.testing.assert_allclose(raw[names], softmax(logits, axis=1))
    np.testing.assert_allclose(raw.confidence, softmax(logits, axis=1).max(1))


def test_nothing_to_evaluate_is_told():
    useless = [("", "earth", 0.9, "ok"), ("earth", "", math.nan, "unreadable"), ("sun", "earth", 0.9, "ok")]
    for rows in ([], useless):
        with pytest.raises(DataError, match="nothing to evaluate"):
            evaluate_predictions(make_predictions(rows))


@pytest.mark.parametrize("rows", [ROWS, [("earth", "earth", 1.0, "ok")]], ids=["some wrong", "none wrong"])
def test_written_files_can_be_read_back_and_the_report_is_valid_json(rows, tmp_path):
    table, folder = make_predictions(rows), tmp_path / "report"
    evaluation = evaluate_predictions(table)
    write_evaluation(evaluation, table, folder)
    read = {path.name: pd.read_csv(path) for path in folder.glob("*.csv")}
    assert read.keys() == {"predictions.csv", "report.csv", "confusion.csv", "calibration.csv"}
    assert read["predictions.csv"].path.tolist() == table.path.tolist()
    scores = read["report.csv"].set_index("class")
    pd.testing.assert_frame_equal(scores, evaluation.by_class, check_names=False, check_index_type=False)
    assert read["confusion.csv"].set_index("true").to_numpy().tolist() == evaluation.confusion.to_numpy().tolist()
    pd.testing.assert_frame_equal(read["calibration.csv"], evaluation.calibration)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert report == {**evaluation.summary, "classes": evaluation.by_class.to_dict("index")}


def test_a_class_may_be_called_true(tmp_path):
    table = predictions_of([("true", "true", 0.9, "ok"), ("false", "true", 0.6, "ok")], ["false", "true"], "a")
    write_evaluation(evaluate_predictions(table), table, tmp_path)
    confusion = pd.read_csv(tmp_path / "confusion.csv", dtype={"true class": str})
    assert confusion.to_numpy().tolist() == [["false", 0, 1], ["true", 0, 1]]
