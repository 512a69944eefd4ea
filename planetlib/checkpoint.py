"""The checkpoint: one file with all that inference needs, written whole or not at all."""

import dataclasses
import io
import os
import pickle
import zipfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from planetlib import PlanetlibError
from planetlib.model import PlanetClassifier

CHECKPOINT_FORMAT = 2
STAGES = ("head", "finetune")  # in the order of training
# What zipfile, torch and pickle raise for a file that is damaged or of another kind.
_UNREADABLE = (zipfile.BadZipFile, OSError, RuntimeError, EOFError, ValueError, LookupError, pickle.UnpicklingError)


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
        detector: of pictures of none of the classes, see `planetlib.unknowns`; empty until the stage is calibrated.
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
        if (
            not isinstance(content, dict)
            or content.pop("format", None) != CHECKPOINT_FORMAT
            or set(content) != expected
        ):
            raise CheckpointError(f"{path}: not a planetlib checkpoint of format {CHECKPOINT_FORMAT}; train one anew")
        return cls(**content)

    def build_model(self) -> PlanetClassifier:
        """The model with these weights, in evaluation mode, channels last."""
        outputs = len(self.class_names) + len(self.outlier_kinds)
        model = PlanetClassifier(self.backbone, outputs, self.head, weights="random")
        model.load_state_dict(self.state_dict)
        return model.eval().to(memory_format=torch.channels_last)


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
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    partial = path.with_name(path.name + ".part")
    with open(partial, "wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def read_torch(path: str | os.PathLike):
    """Reads what `write_torch` wrote. Raises CheckpointError where that cannot be done."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; 'planetlib train' or notebook 02 makes it")
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not notice a weight that has changed
            if (entry := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"the checksum of {entry} differs")
        return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__  # torch's go on at length
        raise CheckpointError(f"{path}: damaged or not a checkpoint ({reason})") from error
