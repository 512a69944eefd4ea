"""Every choice of a run in one frozen dataclass; profiles are the usual sets of choices."""

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planetlib import PlanetlibError, require_known

PROJECT = Path(__file__).resolve().parent.parent
FIXTURE = PROJECT / "data" / "fixture"

#: bounds of the settings that are whole numbers
LEAST = {
    "image_size": 32,
    "outliers": 0,
    "views": 0,
    "rendered": 0,
    "head_epochs": 1,
    "finetune_epochs": 1,
    "free_stages": 0,
    "patience": 1,
    "batch_size": 1,
    "workers": 0,
    "seed": 0,
}


#: and what no machine has room or time for
MOST = {
    "image_size": 4096,
    "outliers": 100_000,
    "views": 10_000,
    "rendered": 100_000,
    "head_epochs": 1_000_000,
    "finetune_epochs": 1_000_000,
    "batch_size": 65_536,
    "workers": 1024,
    "seed": 2**32 - 1,  # what NumPy and scikit-learn take
}


@dataclass(frozen=True)
class Settings:
    """What a run is made from, where it is kept and how it is trained.

    Attributes:
        data: folder with one sub-folder for each class.
        run: folder that receives checkpoints, history, logs and tables.
        figures: folder that receives the pictures the notebooks draw.
        backbone: a name in `planetlib.model.BACKBONES`.
        weights: `imagenet` (pretrained) or `random`.
        head: `linear` or `reference` (1024, 512, ReLU, Dropout).
        image_size: side of the square the network sees, in pixels; None takes the backbone's own.
        recipe: a name in `planetlib.transforms.RECIPES`; how pictures are fitted to the square and augmented.
        strength: of the augmentation; 0 is none, 1 the recipe's. By name of the step, it is that step's alone.
        rendered: pictures drawn by `planetlib.draw.variety` mixed into the training of each class it can draw.
        outliers: pictures of each kind in `planetlib.draw.outliers` mixed into the training, as classes of their own
            that are never predicted (Hendrycks et al. 2019, arXiv:1812.04606); 0 leaves unknowns undetected.
        views: augmented views of each training image, which epochs meet in turn; 0 draws a new one in each epoch.
        head_epochs: epochs of stage one (the backbone is frozen).
        finetune_epochs: epochs of stage two (the backbone's tail is free).
        free_stages: how many of the backbone's stages, counted from its end, stage two frees.
        head_lr: peak learning rate of stage one.
        finetune_lr: peak learning rate of stage two.
        weight_decay: of AdamW.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016, arXiv:1512.00567).
        norm: of the stages that stage two frees: BatchNorm statistics are `frozen` as pretrained, or `moving`.
        warmup: share of a stage's steps in which the learning rate rises linearly, before the cosine.
        patience: epochs without a better validation loss after which a stage stops.
        batch_size: images in a step.
        precision: `float32`, `bfloat16` or `auto` (bfloat16 where the processor has instructions for it).
        workers: processes that augment ahead of the arithmetic; 0, or no more cores than workers, augments in turn.
            Does not change results.
        device: `cpu`, `cuda`, … or `auto`.
        seed: of the split, the head's first weights, the order of images and the augmentation.

    Raises:
        PlanetlibError: a number is out of its bounds in `LEAST` and `MOST`, a learning rate is not above 0, or a share
            not in 0–1.
    """

    data: Path
    run: Path
    figures: Path
    backbone: str = "efficientnet_lite0"
    weights: str = "imagenet"
    head: str = "linear"
    image_size: int | None = None
    recipe: str = "robust"
    strength: float | dict[str, float] = 1.0
    rendered: int = 60
    outliers: int = 60
    views: int = 4
    head_epochs: int = 20
    finetune_epochs: int = 6
    free_stages: int = 5
    head_lr: float = 3e-3
    finetune_lr: float = 5e-4
    weight_decay: float = 1e-4
    label_smoothing: float = 0.1
    norm: str = "frozen"
    warmup: float = 0.1
    patience: int = 20
    batch_size: int = 32
    precision: str = "auto"
    workers: int = 2
    device: str = "auto"
    seed: int = 0

    def __post_init__(self):
        for name, least in LEAST.items():
            if (value := getattr(self, name)) is not None and value < least:
                raise PlanetlibError(f"{name} is {value}; expected {least} or more")
        for name, most in MOST.items():
            if (value := getattr(self, name)) is not None and value > most:
                raise PlanetlibError(f"{name} is {value}; expected {most} or less")
        for name in ("head_lr", "finetune_lr"):
            if not 0 < (value := getattr(self, name)) < math.inf:  # not a number is neither
                raise PlanetlibError(
                    f"{name} is {value}; expected a learning rate above 0, such as {getattr(Settings, name)}"
                )
        if not 0 <= self.weight_decay < math.inf:
            raise PlanetlibError(f"weight_decay is {self.weight_decay}; expected 0 or more")
        for name in ("label_smoothing", "warmup"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise PlanetlibError(f"{name} is {value}; expected a share, 0 to 1")

    def replace(self, **changes) -> "Settings":
        """A copy with some choices changed."""
        return dataclasses.replace(self, **changes)

    def recipe_choices(self) -> dict:
        """The choices that decide the weights, as plain numbers and words: two runs that agree here train alike."""
        places = {"data", "run", "figures", "workers", "device"}
        return {key: value for key, value in dataclasses.asdict(self).items() if key not in places}


#: what a recipe asks for beside its transforms; robust is what `Settings` has anyway
RECIPE_SETTINGS = {
    "robust": {},
    # As published in augmentation, head, epochs, learning rates and batches. Not as published: the size is the
    # backbone's own, AdamW with a warm-up of a tenth, norms that stay as pretrained in stage one, the epoch of least
    # validation loss is kept, and a temperature is fitted.
    "reference": {
        "head": "reference",
        "rendered": 0,
        "outliers": 0,
        "views": 0,
        "head_epochs": 15,
        "finetune_epochs": 85,
        "head_lr": 5e-4,
        "finetune_lr": 5e-5,
        "weight_decay": 1e-5,
        "label_smoothing": 0.0,
        "norm": "moving",
        "patience": 85,
        "batch_size": 16,
    },
}

PROFILES: dict[str, dict[str, Any]] = {
    # Small enough to run five notebooks in a few minutes, in float32 so that any processor prints the same.
    "fixture": {
        "image_size": 160,
        "rendered": 0,  # its pictures are rendered anyway
        "outliers": 8,
        "head_epochs": 20,
        "finetune_epochs": 5,
        "patience": 20,
        "precision": "float32",
        "workers": 0,
    },
    "full": {},
    # Nothing drawn, so nothing learnt of other skies, other styles and unknowns: for pictures all of one kind.
    "quick": {"rendered": 0, "outliers": 0, "views": 2, "head_epochs": 10, "finetune_epochs": 4},
}


def load_settings(profile: str | None = None, **changes) -> Settings:
    """Settings of a profile and a recipe, with changes.

    Environment variables give what is not passed: `PLANETLIB_DATA` (and with it the profile `full`), `PLANETLIB_RUN`,
    `PLANETLIB_FIGURES`, `PLANETLIB_BACKBONE`. So one notebook serves the embedded pictures and anyone's own.

    Args:
        profile: a name in `PROFILES`; by default `full` where a data folder is named and `fixture` where none is.
        **changes: any attribute of `Settings`.

    Raises:
        PlanetlibError: unknown profile or recipe, or the profile `quick` with another recipe than `robust`.
    """
    for name in ("data", "run", "figures", "backbone"):
        if changes.get(name) is None:
            changes.pop(name, None)
            if value := os.environ.get(f"PLANETLIB_{name.upper()}"):
                changes[name] = value
    profile = profile or ("full" if "data" in changes else "fixture")
    if profile not in PROFILES:
        raise PlanetlibError(f"unknown profile '{profile}'; expected one of: {', '.join(PROFILES)}")
    data = Path(changes.pop("data", FIXTURE))
    run = Path(changes.pop("run", PROJECT / "runs" / data.resolve().name))
    figures = Path(changes.pop("figures", run / "figures"))
    recipe = changes.setdefault("recipe", Settings.recipe)
    require_known("recipe", recipe, RECIPE_SETTINGS)
    if profile == "quick" and RECIPE_SETTINGS[recipe]:
        raise PlanetlibError(f"got the profile quick and the recipe {recipe}, which sets the same; take one of the two")
    return Settings(data, run, figures, **{**PROFILES[profile], **RECIPE_SETTINGS[recipe], **changes})
