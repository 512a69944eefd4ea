"""The checkpoint: one file with all that inference needs, written whole or not at all.

A safetensors file: tensors, and beside them one JSON of everything else, with a digest over both. It holds numbers and
words alone, so a stranger's file runs no code; `Checkpoint.load` refuses one that was damaged or altered.
"""

import dataclasses
import hashlib
import io
import json
import os
import pickle
import reprlib
import sys
import textwrap
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args, get_origin

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from planetlib import PlanetlibError
from planetlib.files.whole import open_whole
from planetlib.model import BACKBONES, DETECTOR_STAGES, HEADS, Network
from planetlib.settings import CHOICES
from planetlib.transforms import RECIPES

CHECKPOINT_FORMAT = 3
PHASES = ("head", "finetune")  # in the order of training
CARD = "MODEL_CARD.md"  # of a run folder
TENSORS = ("state_dict", "detector")  # attributes that hold tensors by name; the others go into the JSON
MOST_CLASSES = 10_000  # a head for more would ask for memory that few have


class CheckpointError(PlanetlibError):
    """A file that is no checkpoint of ours, or is not there."""

    def __init__(self, message: str, do: str = "train one anew ('planetlib train' or notebook 02)"):
        super().__init__(message, do)


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
        tensors, words = self._parts()
        said = {"format": CHECKPOINT_FORMAT, "sha256": _digest(tensors, words), **words}
        content = save_tensors(tensors, {"planetlib": json.dumps(said, sort_keys=True)})
        with open_whole(path) as file:
            file.write(content)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Checkpoint":
        """Reads a file that `save` wrote.

        Raises:
            CheckpointError: no such file, or not a checkpoint of this format, whole and unaltered.
        """
        path = Path(path)
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file", do="'planetlib train' or notebook 02 makes it")
        content = path.read_bytes()
        try:
            tensors = load_tensors(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            words = json.loads(header["__metadata__"]["planetlib"])
            made, digest = words.pop("format"), words.pop("sha256")
        except (SafetensorError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{path}: damaged or not a checkpoint ({reprlib.repr(str(error))})") from error
        if type(made) is int and made > CHECKPOINT_FORMAT:
            said = f"{path}: got format {made}, expected {CHECKPOINT_FORMAT}: it is of a newer planetlib"
            raise CheckpointError(said, do="install that")
        if made != CHECKPOINT_FORMAT or digest != _digest(tensors, words):
            raise CheckpointError(f"{path}: damaged, altered or not a checkpoint of format {CHECKPOINT_FORMAT}")
        groups: dict[str, dict[str, Tensor]] = {name: {} for name in TENSORS}
        for name, tensor in tensors.items():
            kind = torch.int64 if name.endswith(".num_batches_tracked") else torch.float32
            if tensor.dtype != kind or not tensor.isfinite().all():
                raise CheckpointError(f"{path}: '{name}' is {tensor.dtype}; expected {kind}, all of it finite")
            group, _, name = name.partition(".")
            groups.setdefault(group, {})[name] = tensor
        if sorted([*words, *groups]) != sorted(entry.name for entry in dataclasses.fields(cls)):
            raise CheckpointError(f"{path}: got other entries than a checkpoint of format {CHECKPOINT_FORMAT} has")
        kinds = {entry.name: entry.type for entry in dataclasses.fields(cls)}
        for name, value in words.items():
            if not _is_a(value, kinds[name]):
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
            "recipe": (all(_is_a(*pair) for pair in dealt), "the seed a whole number, test_share a number"),
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
        return _digest(*self._parts())[:16]

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


def _digest(tensors: dict[str, Tensor], words: dict) -> str:
    digest = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _is_a(value: Any, kind: Any) -> bool:
    """Whether a value from JSON is of an annotated type; a float is a finite number, however it was written."""
    parts = get_args(kind)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_is_a(one, parts[1]) for one in value.values())
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is_a(one, parts[0]) for one in value)
    if kind is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max  # a whole number may be above it
    return type(value) is kind


def find_checkpoint(run: str | os.PathLike) -> Path:
    """The checkpoint of a run folder's last phase that has one, or the file that is named.

    Raises:
        CheckpointError: there is none.
    """
    for path in (Path(run), *(Path(run, f"{phase}.safetensors") for phase in reversed(PHASES))):
        if path.is_file():
            return path
    raise CheckpointError(f"{run}: no checkpoint there", do=f"'planetlib train --run {run}' or notebook 02 makes it")


def write_state(content: dict, path: str | os.PathLike) -> None:
    """Writes where a training stands, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with open_whole(path) as file:
        file.write(buffer.getbuffer())


def read_state(path: str | os.PathLike) -> dict:
    """Reads what `write_state` wrote. Raises CheckpointError where that cannot be done."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise CheckpointError(f"{path}: damaged ({reprlib.repr(str(error))})", do="--overwrite starts anew") from error
