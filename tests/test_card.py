"""The model card: what it says, that it names no place, and that evaluations find their section."""

import dataclasses
import re

import pandas as pd
import pytest
from nbconvert.filters import markdown2html

from planetlib.checkpoint import Checkpoint
from planetlib.evaluate import evaluate_predictions
from planetlib.show.card import add_evaluation, write_card
from tests.conftest import predictions_of


@pytest.fixture(scope="module")
def checkpoint(trained_run) -> Checkpoint:
    return Checkpoint.load(trained_run.run / "finetune.safetensors")


@pytest.fixture
def card(trained_run, checkpoint, samples, tmp_path):
    return write_card(tmp_path, checkpoint, samples, trained_run)


def test_the_card_says_what_it_was_trained_on_how_and_what_it_is_worth(card, checkpoint, trained_run, samples):
    text = card.read_text(encoding="utf-8")
    for words in (
        *("`finetune.safetensors`", checkpoint.data_fingerprint, f"Folder `{trained_run.data.name}`", "seed 0"),
        *(f"divided by {checkpoint.temperature:.3f}", f"above {checkpoint.unknown_threshold:.3f}"),
        *("## Limits", "torch ", "## Results: validation pictures\n"),
    ):
        assert words in text, words
    for label, part in samples.groupby("label"):
        counts = [str((part.split == split).sum()) for split in ("train", "val", "test")]
        assert f"| {label} | {' | '.join(counts)} |" in text
    assert str(trained_run.data.parent) not in text


def test_without_outliers_the_card_says_that_nothing_is_called_unknown(trained_run, checkpoint, samples, tmp_path):
    bare = dataclasses.replace(checkpoint, detector={}, calibration={"log_loss_before": 1.0, "log_loss_after": 0.5})
    assert "no picture is ever called unknown" in write_card(tmp_path, bare, samples, trained_run).read_text("utf-8")


def test_an_evaluation_adds_its_section_a_second_one_replaces_it_and_without_a_card_none_is_made(card, predictions):
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
    card.unlink()
    add_evaluation(card.parent, "test pictures", evaluation, evaluation)
    assert not list(card.parent.iterdir())


HOSTILE = ["<img src=x onerror=alert(1)>", "a | b", "[click](javascript:alert(1))", "`code`", "two\nlines", "*bold*"]


def test_names_of_classes_and_folders_are_text_in_the_card(card, checkpoint, trained_run, samples, pictures):
    settings = dataclasses.replace(trained_run, data=card.parent / "fol`der\n<b>")
    write_card(card.parent, checkpoint, pd.concat([samples, samples.head(1).assign(label=HOSTILE[0])]), settings)
    evaluation = evaluate_predictions(predictions_of([(name, name, 0.9, "ok") for name in HOSTILE], HOSTILE, ""))
    before = markdown2html(card.read_text(encoding="utf-8"))
    add_evaluation(card.parent, "pictures of <script>`\n## x", evaluation, evaluation)
    page = markdown2html(card.read_text(encoding="utf-8"))
    for text in (before, page):
        assert "&lt;img src=x onerror=alert(1)&gt;" in text
        assert not [tag for tag in ("<img", "<script", 'href="javascript', "<b>") if tag in text]
    for name in ("a | b", "[click](javascript:alert(1))", "`code`", r"two\nlines", "*bold*"):
        assert f"<td>{name}</td>" in page
