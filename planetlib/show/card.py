"""The model card of a run (Mitchell et al. 2019, arXiv:1810.03993): what it is, what it was seen to do, where it fails.

`MODEL_CARD.md` lies in the run folder. Training writes it anew; each evaluation adds a section of its own or renews it.
"""

import os
import re
from pathlib import Path

import pandas as pd

from planetlib import printable
from planetlib.calibrate import ACCEPTED
from planetlib.checkpoint import Checkpoint
from planetlib.classify import Classifier
from planetlib.data import SPLITS
from planetlib.evaluate import Evaluation, evaluate_predictions, undo_temperature
from planetlib.files.whole import open_whole
from planetlib.model import backbone_licences
from planetlib.settings import Settings

CARD = "MODEL_CARD.md"
LIMITS = """\
- Whatever it is shown, it names one of its classes. The score for «none of these» catches much of what is none of them,
  but not all: what looks like a class, such as mercury like the moon, may pass.
- It has seen pictures of few sources. On pictures of another kind (another camera, false colour, a close-up without a
  limb) it is less often right than in its own validation, and its confidence is worth less.
- A confidence of 80 % means that of many such answers one in five is wrong, as far as the sections below bear it out.
- For teaching, and for sorting pictures that a person looks over; not for decisions that nobody looks over.
"""


def write_card(run: str | os.PathLike, checkpoint: Checkpoint, samples: pd.DataFrame, settings: Settings) -> Path:
    """Writes the card of a calibrated checkpoint, with its results in validation and no others yet.

    Args:
        run: folder.
        checkpoint: calibrated.
        samples: the samples table it was trained on.
        settings: those it was trained with.

    Returns:
        The file.
    """
    val = samples[samples.split == "val"]
    predictions = Classifier(checkpoint, settings.device).predict(val.path, val.label, progress=False)
    evaluation = evaluate_predictions(predictions)
    uncalibrated = evaluate_predictions(undo_temperature(predictions, checkpoint.temperature))
    counts = samples.groupby(["label", "split"]).size().unstack(fill_value=0).rename_axis("class")
    counts = counts.reindex(columns=list(SPLITS), fill_value=0)
    licences = {"not pretrained": "none"} if settings.weights == "random" else backbone_licences(checkpoint.backbone)
    found = checkpoint.calibration
    folder = printable(Path(settings.data).resolve().name).replace("`", "'")
    text = f"""# Model card: {checkpoint.backbone}, {len(checkpoint.class_names)} classes

`{checkpoint.stage}.pt`, epoch {checkpoint.epoch}; sees squares of {checkpoint.image_size} pixels, fitted by
`{checkpoint.fit}`.

## Data

Folder `{folder}`, fingerprint `{checkpoint.data_fingerprint}`, pictures by split:

{_make_table(counts)}

## Recipe

{", ".join(f"{name} {value}" for name, value in checkpoint.recipe.items() if value not in ("", None))}

## Calibration

Logits are divided by {checkpoint.temperature:.3f}, fitted on augmented validation pictures; their mean log loss went
from {found["log_loss_before"]:.3f} to {found["log_loss_after"]:.3f}.

## Unknowns

{_describe_unknowns(checkpoint)}

## Limits

{LIMITS}
## Licences

- Weights: {"; ".join(f"{licence} ({name})" for name, licence in licences.items())}
- Data: that of the pictures in the folder, which planetlib does not know; `data/README.md` has it for the data sets it
  offers. The trained weights may be bound by both.

## Versions

{", ".join(f"{name} {version}" for name, version in checkpoint.versions.items())}

{describe_evaluation("validation pictures", evaluation, uncalibrated)}"""
    path = Path(run) / CARD
    with open_whole(path) as file:
        file.write(text.encode())
    return path


def _describe_unknowns(checkpoint: Checkpoint) -> str:
    if not checkpoint.detector:
        return "It was trained without outliers: no picture is ever called unknown."
    found = checkpoint.calibration
    return f"""\
A picture whose score for «none of these» is above {checkpoint.unknown_threshold:.3f} is called unknown;
{ACCEPTED:.0%} of the augmented validation pictures are below. Of drawn bodies and textures that it had not learnt from,
{found["outliers_called_unknown"]:.0%} are above (area under the ROC curve {found["outlier_auroc"]:.3f})."""


def add_evaluation(run: str | os.PathLike, name: str, evaluation: Evaluation, uncalibrated: Evaluation) -> None:
    """Adds a section of results to the card, in place of an earlier one of the same name; does nothing without a card.

    Args:
        run: folder.
        name: of what was evaluated, such as `test pictures of planets`; no path.
        evaluation: of the predictions as they are.
        uncalibrated: of the same at temperature 1 (`undo_temperature`).
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
    before = uncalibrated.summary["calibration_error"]
    by_class = evaluation.by_class[["images", "right", "precision", "recall"]].rename_axis("class").round(3)
    found = {**evaluation.summary, "calibration_error_at_temperature_1": before}
    lines = [f"- {key.replace('_', ' ')}: {value:.4g}" for key, value in found.items() if value is not None]
    return f"## Results: {_escape(name)}\n\n{_make_table(by_class)}\n\n" + "\n".join(lines) + "\n\n"


def _make_table(table: pd.DataFrame) -> str:
    rows = [["class", *table.columns], ["---"] * (1 + len(table.columns)), *table.reset_index().values.tolist()]
    return "\n".join(f"| {' | '.join(_escape(str(cell)) for cell in row)} |" for row in rows)


def _escape(text: str) -> str:
    """Names of classes and folders as text, whatever they hold: no HTML, no links, no further cells of a table."""
    return re.sub(r"([\\`*_\[\]<>&|~#!$])", r"\\\1", printable(text))
