"""What other choices would have given: the same training with one of them changed, scored on the same pictures."""

import shutil
from collections.abc import Mapping
from typing import Any

import pandas as pd

from planetlib.classify import Classifier
from planetlib.settings import Settings
from planetlib.train import train_phase


def compare_variants(
    settings: Settings,
    samples: pd.DataFrame,
    variants: Mapping[str, Mapping[str, Any]],
    sets: Mapping[str, pd.DataFrame],
    phase: str = "head",
) -> pd.DataFrame:
    """Trains one phase with other settings, each variant in a folder of its own below the run.

    `variants` is name → the settings that differ from the run's, `sets` name → pictures to be scored (`path`, `label`).
    The phase `finetune` starts from the run's head.

    Returns:
        Index variant; for each set how many pictures are right.
    """
    rows = {}
    for name, changes in variants.items():
        run = settings.run / "variants" / name.replace(" ", "_")
        run.mkdir(parents=True, exist_ok=True)
        if phase == "finetune":
            shutil.copy(settings.run / "head.safetensors", run)
        train_phase(phase, settings.replace(run=run, **changes), samples, progress=False)
        rows[name] = count_right(Classifier.load(run / f"{phase}.safetensors"), sets)
    return pd.DataFrame.from_dict(rows, "index").rename_axis("variant")


def count_right(classifier: Classifier, sets: Mapping[str, pd.DataFrame]) -> dict[str, int]:
    """Of each set (`path`, `label`), how many pictures a classifier gets right."""
    tables = {name: classifier.predict(table.path, table.label) for name, table in sets.items()}
    return {name: int((table.predicted == table.label).sum()) for name, table in tables.items()}
