"""The checkpoint: one file with all that inference needs, written whole or not at all."""

import dataclasses
import io
import math
import os
import pickle
import re
import reprlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from planetlib import PlanetlibError
from planetlib.files.whole import open_whole
from planetlib.model import BACKBONES, DETECTOR_STAGES, HEADS, Network
from planetlib.settings import CHOICES
from planetlib.transforms import RECIPES

CHECKPOINT_FORMAT = 2
STAGES = ("head", "finetune")  # in the order of training
MOST_CLASSES = 10_000  # a head for more would ask for memory that few have
# What zipfile, torch and pickle raise for a file that is damaged or of another kind.
_UNREADABLE = (zipfile.BadZipFile, OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError)


class CheckpointError(PlanetlibError):
    """A file that is no checkpoint of ours, or is not there."""


def library_versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {
        name: version(name) for name in ("torch", "torchvision", "timm", "numpy", "pillow", "opencv-python-headless")
    }


@dataclass
class Checkpoint:
    """All that inference needs, in one file; read with `weights_only=True`, so that a stranger's file runs no code.

    Attributes:
        backbone: a name in `BACKBONES`.
        head: `linear` or `reference`.
        class_names: in the order of the logits.
        image_size: side of the square in pixels.
        fit: how a picture is fitted to it, `pad` or `squash`.
        state_dict: the weights.
        outlier_kinds: what else it learnt to tell; their logits come after those of the classes.
        stage: `head` or `finetune`, which made it.
        epoch: of that stage, from 1.
        metrics: of that epoch, on the validation split.
        temperature: logits are divided by it before the softmax.
        detector: of pictures of none of the classes, see `planetlib.calibrate`; empty until the stage is calibrated.
        unknown_threshold: a picture whose score for «none of these» is above this is `unknown`.
        calibration: what was found when temperature, detector and threshold were fitted.
        recipe: `Settings.recipe_choices()`.
        data_fingerprint: `fingerprint_samples` of the table it was trained on.
        versions: `library_versions()` at the time.
    """

    backbone: str
    head: str
    class_names: list[str]
    image_size: int
    fit: str
    state_dict: dict[str, Tensor]
    outlier_kinds: list[str] = field(default_factory=list)
    stage: str = ""
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
        """Writes the file, whole or not at all."""
        write_torch(
            {"format": CHECKPOINT_FORMAT, **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)}}, path
        )

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Checkpoint":
        """Reads a file that `save` wrote.

        Raises:
            CheckpointError: no such file, or not a checkpoint of this format.
        """
        content = read_torch(path)
        expected = {f.name for f in dataclasses.fields(cls)}
        made = content.pop("format", None) if isinstance(content, dict) else None
        if type(made) is int and made > CHECKPOINT_FORMAT:
            raise CheckpointError(
                f"{path}: got format {made}, expected {CHECKPOINT_FORMAT}: it is of a newer planetlib; install that"
            )
        if made != CHECKPOINT_FORMAT or set(content) != expected:
            raise CheckpointError(f"{path}: not a planetlib checkpoint of format {CHECKPOINT_FORMAT}; train one anew")
        checkpoint = cls(**content)
        for name, good, wanted in checkpoint._facts():
            if not good:
                got = reprlib.repr(content[name])
                raise CheckpointError(f"{path}: {name} is {got}; expected {wanted}; train one anew")
        return checkpoint

    def _facts(self) -> Iterator[tuple[str, bool, str]]:
        """What a stranger may have altered: each attribute, whether it can be used, and what can."""
        for name, known in (
            ("backbone", BACKBONES),
            ("head", HEADS),
            ("fit", sorted(set(RECIPES.values()))),
            ("stage", ("", *STAGES)),
        ):
            yield name, isinstance(getattr(self, name), str) and getattr(self, name) in known, f"one of {list(known)}"
        classes, kinds = self.class_names, self.outlier_kinds
        yield "class_names", _are_names(classes) and 2 <= len(classes) <= MOST_CLASSES, "two or more different names"
        good = _are_names(kinds) and not set(kinds) & set(classes) and len(kinds) <= MOST_CLASSES
        yield "outlier_kinds", good, "different names that are none of a class"
        least, most = CHOICES["image_size"].metadata["bounds"]
        yield "image_size", type(self.image_size) is int and least <= self.image_size <= most, f"{least} to {most}"
        yield "epoch", type(self.epoch) is int and self.epoch >= 0, "a whole number, 0 or more"
        yield "temperature", _is_number(self.temperature) and self.temperature > 0, "a number above 0"
        yield "unknown_threshold", _is_number(self.unknown_threshold), "a number"
        for name in ("metrics", "calibration"):
            values = getattr(self, name)
            good = isinstance(values, dict) and all(isinstance(key, str) for key in values)
            yield name, good and all(map(_is_number, values.values())), "numbers by name"
        good = isinstance(self.recipe, dict) and all(isinstance(key, str) for key in self.recipe)
        yield "recipe", good and type(self.recipe.get("seed", 0)) is int, "choices by name, the seed a whole number"
        yield "data_fingerprint", isinstance(self.data_fingerprint, str), "a word"
        good = isinstance(self.versions, dict) and all(isinstance(value, str) for value in self.versions.values())
        yield "versions", good, "versions by name"
        for name in ("state_dict", "detector"):
            values = getattr(self, name)
            good = isinstance(values, dict) and all(isinstance(key, str) for key in values)
            yield name, good and all(type(value) is Tensor for value in values.values()), "tensors by name"

    def build_model(self) -> Network:
        """The model with these weights, in evaluation mode, channels last.

        Raises:
            CheckpointError: a tensor is missing, of no use, or of another shape or type than backbone, head and classes
                ask for.
        """
        outputs = len(self.class_names) + len(self.outlier_kinds)
        model = Network(self.backbone, outputs, self.head, weights="random")
        of = f"of '{self.backbone}' with head '{self.head}' and {outputs} outputs"
        _require_alike("weights", self.state_dict, model.state_dict(), of)
        model.load_state_dict(self.state_dict)
        model = model.eval().to(memory_format=torch.channels_last)
        if self.detector:
            with torch.inference_mode():
                seen = model.embed(model.pass_trunk(torch.zeros(1, 3, 32, 32), DETECTOR_STAGES), DETECTOR_STAGES)[1]
            detector = {"weight": torch.zeros(outputs, seen.shape[1]), "bias": torch.zeros(outputs)}
            _require_alike("detector", self.detector, detector, of)
        return model


def _are_names(names) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _is_number(value) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _require_alike(what: str, got: dict[str, Tensor], expected: dict[str, Tensor], of: str) -> None:
    """Raises CheckpointError where names, shapes or types differ, or a value is not finite."""
    advice = "the file was altered, or is of another planetlib: train one anew"
    if names := sorted(set(got) ^ set(expected)):
        few = reprlib.repr(names)
        raise CheckpointError(
            f"{what}: got {len(got)} tensors, expected the {len(expected)} {of}; not in both: {few}; {advice}"
        )
    for name, value in expected.items():
        kinds = [f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in (got[name], value)]
        if kinds[0] != kinds[1] or got[name].layout != torch.strided:
            raise CheckpointError(f"{what}: '{name}' is {kinds[0]}; expected {kinds[1]}, {of}; {advice}")
        if not got[name].isfinite().all():
            raise CheckpointError(f"{what}: '{name}' is not finite; expected numbers; {advice}")


def find_checkpoint(run: str | os.PathLike) -> Path:
    """The checkpoint to use of a run folder: that of the last stage that has one; a file is given back as it is.

    Raises:
        CheckpointError: there is none.
    """
    run = Path(run)
    if run.is_file():
        return run
    found = [run / f"{stage}.pt" for stage in reversed(STAGES) if (run / f"{stage}.pt").is_file()]
    if not found:
        raise CheckpointError(f"{run}: no checkpoint there; 'planetlib train --run {run}' or notebook 02 makes it")
    return found[0]


def write_torch(content: dict, path: str | os.PathLike) -> None:
    """Writes with `torch.save`, whole or not at all; the same content gives the same bytes under any name."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with open_whole(path) as file:
        file.write(buffer.getbuffer())


def read_torch(path: str | os.PathLike):
    """Reads what `write_torch` wrote. Raises CheckpointError where that cannot be done."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; 'planetlib train' or notebook 02 makes it")
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not notice a weight that has changed
            claimed = sum(entry.file_size for entry in archive.infolist())
            if claimed > path.stat().st_size:  # torch compresses nothing: whoever does may hide more than there is room
                raise zipfile.BadZipFile(f"its entries claim {claimed} bytes, more than the file has")
            if (entry := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"the checksum of {entry} differs")
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))  # what a pickle would call when it is opened
        reason = f"it carries code, {code[1]}, which was not run" if code else "its pickle is damaged"
        raise CheckpointError(
            f"{path}: damaged or not a checkpoint ({reason}); expected numbers and words alone: train one anew"
        ) from error
    except _UNREADABLE as error:
        reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__  # torch's go on at length
        raise CheckpointError(f"{path}: damaged or not a checkpoint ({reason})") from error
