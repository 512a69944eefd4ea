"""The checkpoint: one file with all that inference needs, written whole or not at all.

A safetensors file: tensors, and beside them one JSON of everything else. It comes from whoever made it, so
`Checkpoint.load` refuses what was damaged or altered, or would ask for nonsense.
"""

import dataclasses
import os
import reprlib
import textwrap
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from planetlib.files.tensors import CheckpointError, digest_tensors, is_a, read_tensors, write_tensors
from planetlib.model import BACKBONES, DETECTOR_STAGES, HEADS, Network
from planetlib.settings import CHOICES
from planetlib.transforms import RECIPES

CHECKPOINT_FORMAT = 3
PHASES = ("head", "finetune")  # in the order of training
CARD = "MODEL_CARD.md"  # of a run folder
TENSORS = ("state_dict", "detector")  # attributes that hold tensors by name; the others go into the JSON
MOST_CLASSES = 10_000  # a head for more would ask for memory that few have


def library_versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {name: version(name) for name in "torch torchvision numpy pillow opencv-python-headless".split()}


@dataclass
class Checkpoint:
    """All that inference needs.

    Attributes:
        backbone, head: as `Network` takes them.
        class_names: in the order of the logits.
        image_size: side of the square in pixels; `fit` is how a picture is fitted to it, `pad` or `squash`.
        outlier_kinds: what else it learnt to tell; their logits come after those of the classes.
        phase: `head` or `finetune`, which made it; `epoch`, from 1, is its best one, and `metrics` that one's.
        temperature: logits are divided by it before the softmax.
        detector: of strangers, see `planetlib.calibrate`; empty until the phase is calibrated.
        unknown_threshold: a picture whose score for «none of these» is above this is `unknown`.
        calibration: what was found when temperature, detector and threshold were fitted.
        recipe: `Settings.recipe_choices()`.
        data_fingerprint: `fingerprint_samples` of the table it was trained on.
    """

    backbone: str
    head: str
    class_names: list[str]
    image_size: int
    fit: str
    state_dict: dict[str, Tensor]
    outlier_kinds: list[str] = field(default_factory=list)
    phase: str = ""
    epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    detector: dict[str, Tensor] = field(default_factory=dict)
    unknown_threshold: float = 1.0
    calibration: dict[str, float] = field(default_factory=dict)
    recipe: dict = field(default_factory=dict)
    data_fingerprint: str = ""
    versions: dict[str, str] = field(default_factory=library_versions)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the file, whole or not at all; equal checkpoints give equal bytes."""
        write_tensors(*self._parts(), path, CHECKPOINT_FORMAT)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Checkpoint":
        """Reads a file that `save` wrote.

        Raises:
            CheckpointError: no such file, or not a checkpoint of this format, whole and unaltered.
        """
        tensors, words = read_tensors(path, CHECKPOINT_FORMAT)
        groups: dict[str, dict[str, Tensor]] = {name: {} for name in TENSORS}
        for name, tensor in tensors.items():
            group, _, name = name.partition(".")
            groups.setdefault(group, {})[name] = tensor
        kinds = {entry.name: entry.type for entry in dataclasses.fields(cls)}
        if sorted([*words, *groups]) != sorted(kinds):
            raise CheckpointError(f"{path}: got other entries than a checkpoint of format {CHECKPOINT_FORMAT} has")
        for name, value in words.items():
            if not is_a(value, kinds[name]):
                raise CheckpointError(f"{path}: {name} is {reprlib.repr(value)}; expected {kinds[name]}")
        checkpoint = cls(**{**words, **groups})
        least, most = CHOICES["image_size"].metadata["bounds"]
        classes, names = checkpoint.class_names, checkpoint.class_names + checkpoint.outlier_kinds
        dealt = (checkpoint.recipe.get("seed", 0), int), (checkpoint.recipe.get("test_share", 0.0), float)
        expected = {  # where a stranger may ask for nonsense, or for more memory than there is
            "backbone": (checkpoint.backbone in BACKBONES, f"one of {sorted(BACKBONES)}"),
            "head": (checkpoint.head in HEADS, f"one of {sorted(HEADS)}"),
            "fit": (checkpoint.fit in RECIPES.values(), "pad or squash"),
            "phase": (checkpoint.phase in ("", *PHASES), f"one of {PHASES}"),
            "epoch": (checkpoint.epoch >= 0, "0 or more"),
            "recipe": (all(is_a(*pair) for pair in dealt), "the seed a whole number, test_share a number"),
            "class_names": (len(classes) >= 2 and len(names) <= MOST_CLASSES, f"2 to {MOST_CLASSES}"),
            "outlier_kinds": (len(set(names)) == len(names), "none twice, nor that of a class"),
            "image_size": (least <= checkpoint.image_size <= most, f"{least} to {most}"),
            "temperature": (checkpoint.temperature > 0, "above 0"),
        }
        for name, (is_good, wanted) in expected.items():
            if not is_good:
                raise CheckpointError(f"{path}: {name} is {reprlib.repr(words[name])}; expected {wanted}")
        return checkpoint

    def digest(self) -> str:
        """16 hexadecimal digits that change when anything in the checkpoint does."""
        return digest_tensors(*self._parts())[:16]

    def _parts(self) -> tuple[dict[str, Tensor], dict]:
        """Tensors by `<attribute>.<name>`, and everything else by attribute."""
        words = dict(vars(self))
        parts = {f"{group}.{name}": value for group in TENSORS for name, value in words.pop(group).items()}
        return {name: value.detach().cpu().contiguous() for name, value in parts.items()}, words

    def build_model(self) -> Network:
        """The model with these weights, in evaluation mode, channels last.

        Raises:
            CheckpointError: the tensors are not those that backbone, head and classes ask for.
        """
        outputs = len(self.class_names) + len(self.outlier_kinds)
        model = Network(self.backbone, outputs, self.head, weights="random")
        model.eval().to(memory_format=torch.channels_last)
        try:
            model.load_state_dict(self.state_dict)
            if self.detector:
                with torch.inference_mode():
                    trunk = model.pass_trunk(torch.zeros(1, 3, 32, 32), DETECTOR_STAGES)
                    seen = model.embed(trunk, DETECTOR_STAGES)[1].shape[1]
                nn.Linear(seen, outputs).load_state_dict(self.detector)
        except RuntimeError as error:  # its message names tensors and shapes, be they hundreds
            expected = f"those of '{self.backbone}' with head '{self.head}' and {outputs} outputs"
            raise CheckpointError(f"{textwrap.shorten(str(error), 400)}; expected {expected}") from error
        return model


def find_checkpoint(run: str | os.PathLike) -> Path:
    """The checkpoint of a run folder's last phase that has one, or the file that is named.

    Raises:
        CheckpointError: there is none.
    """
    for path in (Path(run), *(Path(run, f"{phase}.safetensors") for phase in reversed(PHASES))):
        if path.is_file():
            return path
    raise CheckpointError(f"{run}: no checkpoint there", do=f"'planetlib train --run {run}' or notebook 02 makes it")
