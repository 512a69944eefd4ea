"""Every choice of a run in one frozen dataclass: its default, its bounds and what it means, each said once.

The command line is made from it. Profiles and recipes are the usual sets of choices.
"""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planetlib import PlanetlibError, require_known

_HERE = Path(__file__).resolve().parent.parent
#: the clone; where planetlib was installed without one, the current folder
PROJECT = _HERE if (_HERE / "notebooks" / "01_explore_and_augment.ipynb").is_file() else Path.cwd()
#: the embedded pictures: those to train on, others of the same classes from elsewhere, and some of none of them
FIXTURE, ELSEWHERE, STRANGERS = (PROJECT / "data" / name for name in ("fixture", "elsewhere", "strangers"))


def _choice(default, says: str, least: float | None = None, most: float | None = None, among: tuple = ()) -> Any:
    """A field: its default, what it means, and what it may be: a number in `least`–`most`, or a word of `among`."""
    return dataclasses.field(default=default, metadata={"says": says, "bounds": (least, most), "among": among})


@dataclass(frozen=True)
class Settings:
    """What a run is made from (`data`), where it and its figures are kept (`run`, `figures`), and how it is trained.

    Raises:
        PlanetlibError: a choice that is out of its bounds.
    """

    data: Path
    run: Path
    figures: Path
    backbone: str = _choice(
        "efficientnet_lite0", "efficientnet_lite0, efficientnet_lite2, efficientnet_b3, resnet50 or ensemble"
    )
    weights: str = _choice("imagenet", "of the backbone at first: imagenet or random", among=("imagenet", "random"))
    head: str = _choice("linear", "linear, or reference (1024, 512, ReLU, Dropout)", among=("linear", "reference"))
    image_size: int | None = _choice(None, "side of the square the network sees, in pixels", 32, 4096)
    recipe: str = _choice(
        "robust",
        "how pictures are fitted and augmented, and what goes with it: robust or reference",
        among=("robust", "reference"),
    )
    strength: float | dict[str, float] = _choice(
        1.0, "of the augmentation: 0 is none, 1 the recipe's; in Python also by name of the step", 0, 10
    )
    drawn: int = _choice(100, "drawn pictures mixed into the training of each planet", 0, 100_000)
    outliers: int = _choice(
        60, "drawn pictures of each kind of «none of these» mixed in, as classes never predicted", 0, 100_000
    )
    test_share: float = _choice(0.15, "share of each class that is set aside for the test", 0.01, 0.8)
    views: int = _choice(3, "augmented views of each picture, met in turn; 0: new ones in each epoch", 0, 10_000)
    head_epochs: int = _choice(20, "epochs of the phase head: the backbone is frozen", 1, 1_000_000)
    finetune_epochs: int = _choice(5, "epochs of the phase finetune: the backbone's tail is free", 1, 1_000_000)
    free_stages: int = _choice(5, "how many of the backbone's last stages finetune frees", 0, 100)
    head_lr: float = _choice(3e-3, "peak learning rate of head", 1e-12, 1e3)
    finetune_lr: float = _choice(5e-4, "peak learning rate of finetune", 1e-12, 1e3)
    weight_decay: float = _choice(1e-4, "of AdamW", 0, 1e3)
    label_smoothing: float = _choice(0.1, "share of the target spread over all classes (arXiv:1512.00567)", 0, 1)
    norm: str = _choice("frozen", "BatchNorm statistics of free stages: frozen or moving", among=("frozen", "moving"))
    warmup: float = _choice(0.1, "share of a phase's steps in which the learning rate rises", 0, 1)
    patience: int = _choice(20, "epochs without a better validation loss that end a phase", 1, 1_000_000)
    batch_size: int = _choice(32, "pictures in a step", 1, 65_536)
    precision: str = _choice(
        "auto", "float32, bfloat16, or auto: bfloat16 where the processor has it", among=("auto", "float32", "bfloat16")
    )
    workers: int = _choice(2, "processes that augment ahead of the arithmetic; does not change results", 0, 1024)
    device: str = _choice("auto", "that computes: auto, cpu, cuda, …")
    seed: int = _choice(0, "of split, first weights, order and augmentation", 0, 2**32 - 1)  # what NumPy takes

    def __post_init__(self):
        for name, field in CHOICES.items():
            value, (least, most) = getattr(self, name), field.metadata["bounds"]
            if field.metadata["among"]:
                require_known(name, value, field.metadata["among"])
            elif least is not None and isinstance(value, (int, float)) and not least <= value <= most:  # nor NaN
                raise PlanetlibError(f"{name} is {value}; expected {least:g} to {most:g}")

    def replace(self, **changes) -> "Settings":
        """A copy with some choices changed."""
        return dataclasses.replace(self, **changes)

    def recipe_choices(self) -> dict:
        """The choices that decide the weights, as plain numbers and words: two runs that agree here train alike."""
        places = {"data", "run", "figures", "workers", "device"}
        return {key: value for key, value in dataclasses.asdict(self).items() if key not in places}


#: name → field of every choice that is not a place
CHOICES = {field.name: field for field in dataclasses.fields(Settings) if "says" in field.metadata}

#: what a recipe asks for beside its transforms; robust is what `Settings` has anyway
RECIPE_SETTINGS: dict[str, dict[str, Any]] = {
    "robust": {},
    # As published in augmentation, head, epochs, learning rates and batches. Not as published: the size is the
    # backbone's own, AdamW with a warm-up of a tenth, norms that stay as pretrained in the phase head, the epoch of
    # least validation loss is kept, and a temperature is fitted.
    "reference": {
        "head": "reference",
        "drawn": 0,
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
    # Small enough to run five notebooks in five minutes, in float32 so that any processor prints the same.
    "fixture": {
        "image_size": 160,
        "test_share": 0.4,  # of few pictures: intervals are to mean something
        "drawn": 60,
        "outliers": 24,
        "views": 3,
        "finetune_epochs": 6,
        "precision": "float32",
    },
    "full": {},
    # Nothing drawn, so nothing learnt of other skies, other styles and unknowns: for pictures all of one kind.
    "quick": {"drawn": 0, "outliers": 0, "views": 2, "head_epochs": 10, "finetune_epochs": 4},
}


def load_settings(profile: str | None = None, **changes) -> Settings:
    """Settings of a profile and a recipe, with changes.

    Environment variables give what is not passed: `PLANETLIB_DATA` (and with it the profile `full`), `PLANETLIB_RUN`,
    `PLANETLIB_FIGURES`, `PLANETLIB_BACKBONE`. So one notebook serves the embedded pictures and anyone's own.

    Args:
        profile: a name in `PROFILES`; by default `full` where a data folder is named and `fixture` where none is.
        **changes: any attribute of `Settings`; None stands for the default.

    Raises:
        PlanetlibError: unknown profile or recipe, the profile `quick` with another recipe than `robust`, a choice out
            of its bounds, or no data named where the embedded pictures are not.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    named = {name: os.environ.get(f"PLANETLIB_{name.upper()}") for name in ("data", "run", "figures", "backbone")}
    changes = {name: value for name, value in named.items() if value} | given
    profile = profile or ("full" if "data" in changes else "fixture")
    require_known("profile", profile, PROFILES)
    if "data" not in changes and not FIXTURE.is_dir():
        raise PlanetlibError(
            f"{FIXTURE}: got no folder of pictures, and the embedded ones are not here",
            do="name a folder with one sub-folder for each class (--data), or go to a clone of the project",
        )
    data = Path(changes.pop("data", FIXTURE))
    run = Path(changes.pop("run", PROJECT / "runs" / data.resolve().name))
    figures = Path(changes.pop("figures", run / "figures"))
    recipe = changes.setdefault("recipe", "robust")
    require_known("recipe", recipe, RECIPE_SETTINGS)
    if profile == "quick" and RECIPE_SETTINGS[recipe]:
        raise PlanetlibError(f"got the profile quick and the recipe {recipe}, which sets the same; take one of the two")
    return Settings(data, run, figures, **{**PROFILES[profile], **RECIPE_SETTINGS[recipe], **changes})
