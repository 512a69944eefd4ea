"""The model card: what it says, that it names no place, and that evaluations find their section."""

import dataclasses
import re

import pandas as pd
import pytest
from nbconvert.filters import markdown2html

from planetlib.checkpoint import Checkpoint
from planetlib.evaluate import evaluate_predictions
from planetlib.show.card import CARD, add_evaluation, write_card
from tests.conftest import predictions_of


@pytest.fixture
def card(trained_run, tmp_path):
    path = tmp_path / CARD
    path.write_bytes((trained_run.run / CARD).read_bytes())
    return path


def test_training_writes_the_card_of_its_last_stage(trained_run, samples):
    text = (trained_run.run / CARD).read_text(encoding="utf-8")
    checkpoint = Checkpoint.load(trained_run.run / "finetune.pt")
    for words in ("`finetune.pt`", checkpoint.data_fingerprint, f"Folder `{trained_run.data.name}`", "seed 0",
                  "Apache-2.0", f"divided by {checkpoint.temperature:.3f}", "## Limits", "torch ",
                  f"above {checkpoint.unknown_threshold:.3f}"):  # fmt: skip
        assert words in text, words
    for label, part in samples.groupby("label"):
        assert (
            f"| {label} | {' | '.join(str((part.split == split).sum()) for split in ('train', 'val', 'test'))} |"
            in text
        )
    assert str(trained_run.data.parent) not in text


def test_the_card_of_a_run_without_outliers_says_that_nothing_is_called_unknown(trained_run, samples, tmp_path):
    checkpoint = Checkpoint.load(trained_run.run / "finetune.pt")
    bare = dataclasses.replace(checkpoint, detector={}, calibration={"log_loss_before": 1.0, "log_loss_after": 0.5})
    text = write_card(tmp_path, bare, samples, trained_run).read_text(encoding="utf-8")
    assert "trained without outliers: no picture is ever called unknown" in text


def test_an_evaluation_adds_its_section_and_a_second_one_replaces_it(card, predictions):
    before, evaluation = card.read_text(encoding="utf-8"), evaluate_predictions(predictions)
    add_evaluation(card.parent, "all pictures of photos", evaluation, evaluation)
    once = card.read_text(encoding="utf-8")
    assert once.startswith(before) and once.count("## Results: all pictures of photos\n") == 1
    assert "- accuracy: 0.6667\n" in once and "| mars | 3 | 2 |" in once
    add_evaluation(card.parent, "test pictures", evaluation, evaluation)
    fewer = evaluate_predictions(predictions.head(7))
    add_evaluation(card.parent, "all pictures of photos", fewer, fewer)
    text = card.read_text(encoding="utf-8")
    assert re.findall(r"## Results: (.*)", text) == ["validation pictures", "test pictures", "all pictures of photos"]
    assert "- images: 7\n" in text


def test_without_a_card_nothing_is_written(tmp_path, predictions):
    evaluation = evaluate_predictions(predictions)
    add_evaluation(tmp_path, "test pictures", evaluation, evaluation)
    assert not list(tmp_path.iterdir())


HOSTILE = ["<img src=x onerror=alert(1)>", "a | b", "[click](javascript:alert(1))", "`code`", "two\nlines", "*bold*"]


def test_names_of_classes_and_folders_are_text_in_the_card(card, trained_run, samples, pictures):
    rows = [(name, name, 0.9, "ok") for name in HOSTILE]
    evaluation = evaluate_predictions(predictions_of(rows, HOSTILE, pictures[0]))
    add_evaluation(card.parent, "pictures of <script>`\n## x", evaluation, evaluation)
    checkpoint = Checkpoint.load(trained_run.run / "finetune.pt")
    settings = dataclasses.replace(trained_run, data=card.parent / "fol`der\n<b>")
    renamed = pd.concat([samples, samples.head(1).assign(label=HOSTILE[0])])
    (card.parent / "own").mkdir()
    own = write_card(card.parent / "own", checkpoint, renamed, settings)
    for path in (card, own):
        page = markdown2html(path.read_text(encoding="utf-8"))
        assert page.count("<table") >= 1
        for tag in ("<img", "<script", 'href="javascript', "<b>"):
            assert tag not in page, tag
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
    page = markdown2html(card.read_text(encoding="utf-8"))
    for name in ("a | b", "[click](javascript:alert(1))", "`code`", r"two\nlines", "*bold*"):
        assert f"<td>{name}</td>" in page
