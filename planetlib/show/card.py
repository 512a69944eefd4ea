"""The model card of a run (Mitchell et al. 2019, arXiv:1810.03993): what it is, what it was seen to do, where it fails.

`MODEL_CARD.md` lies in the run folder. It is written anew after each phase of training, from the words in `card.md`;
each evaluation adds a section of its own or renews it.
"""

import os
import re
from importlib import resources
from pathlib import Path

import pandas as pd

from planetlib import printable
from planetlib.calibrate import ACCEPTED
from planetlib.checkpoint import CARD, Checkpoint
from planetlib.classify import Classifier
from planetlib.data import SPLITS
from planetlib.evaluate import Evaluation, evaluate_predictions, undo_temperature
from planetlib.files.whole import open_whole
from planetlib.model import BACKBONES
from planetlib.settings import Settings

WORDS = resources.files("planetlib.show").joinpath("card.md")
WITHOUT_OUTLIERS = "It was trained without outliers: no picture is ever called unknown."
WITH_OUTLIERS = """\
A picture whose score for «none of these» is above {checkpoint.unknown_threshold:.3f} is called unknown;
{accepted:.0%} of the augmented validation pictures are below. Of drawn bodies and textures that it had not learnt from,
{checkpoint.calibration[outliers_called_unknown]:.0%} are above (area under the ROC curve \
{checkpoint.calibration[outlier_auroc]:.3f})."""


def write_card(run: str | os.PathLike, checkpoint: Checkpoint, samples: pd.DataFrame, settings: Settings) -> Path:
    """Writes the card of a calibrated checkpoint into its run folder, with its results in validation and no others yet.

    `samples` and `settings` are those it was trained with. Returns the file.
    """
    val = samples[samples.split == "val"]
    predictions = Classifier(checkpoint, settings.device).predict(val.path, val.label, progress=False)
    uncalibrated = evaluate_predictions(undo_temperature(predictions, checkpoint.temperature))
    results = describe_evaluation("validation pictures", evaluate_predictions(predictions), uncalibrated)
    counts = samples.groupby(["label", "split"]).size().unstack(fill_value=0)
    licences = {"not pretrained": "none"}
    if settings.weights != "random":
        licences = {part.name: part.licence for part in BACKBONES[checkpoint.backbone]}
    unknowns = WITH_OUTLIERS if checkpoint.detector else WITHOUT_OUTLIERS
    text = WORDS.read_text(encoding="utf-8").format(
        checkpoint=checkpoint,
        classes=len(checkpoint.class_names),
        folder=printable(Path(settings.data).resolve().name).replace("`", "'"),
        counts=_format_table(counts.reindex(columns=SPLITS, fill_value=0)),
        recipe=", ".join(f"{name} {value}" for name, value in checkpoint.recipe.items() if value not in ("", None)),
        unknowns=unknowns.format(checkpoint=checkpoint, accepted=ACCEPTED),
        licences="; ".join(f"{licence} ({name})" for name, licence in licences.items()),
        versions=", ".join(f"{name} {version}" for name, version in checkpoint.versions.items()),
    )
    path = Path(run) / CARD
    with open_whole(path) as file:
        file.write((text + results).encode())
    return path


def add_evaluation(run: str | os.PathLike, name: str, evaluation: Evaluation, uncalibrated: Evaluation) -> None:
    """Adds a section of results to the card, in place of an earlier one of the same name; does nothing without a card.

    `name` is of what was evaluated, such as `test pictures of planets`, and no path; `uncalibrated` is the evaluation
    at temperature 1 (`undo_temperature`).
    """
    path = Path(run) / CARD
    if path.is_file():
        section = describe_evaluation(name, evaluation, uncalibrated)
        heading = section.partition("\n")[0]
        parts = re.split(r"^(?=## )", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        kept = [part for part in parts if part.partition("\n")[0] != heading]
        with open_whole(path) as file:
            file.write("".join([*kept, section]).encode())


def describe_evaluation(name: str, evaluation: Evaluation, uncalibrated: Evaluation) -> str:
    """A section of the card; arguments as `add_evaluation`."""
    by_class = evaluation.by_class[["images", "right", "precision", "recall"]].round(3)
    found = {**evaluation.summary, "calibration_error_at_temperature_1": uncalibrated.summary["calibration_error"]}
    lines = [f"- {key.replace('_', ' ')}: {value:.4g}" for key, value in found.items() if value is not None]
    return "\n".join([f"## Results: {_escape(name)}\n", _format_table(by_class), "", *lines, "\n"])


def _format_table(table: pd.DataFrame) -> str:
    rows = [["class", *table.columns], ["---"] * (1 + len(table.columns)), *table.reset_index().values.tolist()]
    return "\n".join(f"| {' | '.join(_escape(str(cell)) for cell in row)} |" for row in rows)


def _escape(text: str) -> str:
    """Names of classes and folders as text, whatever they hold: no HTML, no links, no further cells of a table."""
    return re.sub(r"([\\`*_\[\]<>&|~#!$])", r"\\\1", printable(text))
