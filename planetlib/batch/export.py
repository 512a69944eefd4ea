"""A trained run as one file for other runtimes: ONNX, with the calibration inside and the rest as metadata."""

import io
import json
import os
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from planetlib import PlanetlibError, __version__, require_known
from planetlib.calibrate import score_unknown
from planetlib.checkpoint import Checkpoint
from planetlib.model import Embedder, fold_norms

FORMATS = ("onnx",)


class Calibrated(nn.Module):
    """A checkpoint's model with its temperature and its detector of unknowns.

    Args:
        checkpoint: what `Checkpoint.load` returns.
    """

    def __init__(self, checkpoint: Checkpoint):
        super().__init__()
        model = fold_norms(checkpoint.build_model())
        self.embedder, self.temperature = Embedder(model), checkpoint.temperature
        self.known, self.detector = len(checkpoint.class_names), checkpoint.detector

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (B, classes) and scores for «none of these» (B,) of images, uint8 (B, 3, S, S), RGB."""
        logits, lower = self.embedder(images)
        if self.detector:
            unknown = score_unknown(self.detector, lower, self.known)
        else:
            unknown = lower[:, 0] * torch.nan
        return (logits[:, : self.known] / self.temperature).softmax(1), unknown


def export_checkpoint(checkpoint: Checkpoint, path: str | os.PathLike, form: str = "onnx") -> Path:
    """Writes a checkpoint for other runtimes, whole or not at all.

    Input `images`: uint8 (B, 3, S, S), RGB 0–255, any B; S and how a picture is fitted to the square are in the
    metadata, and `planetlib.transforms.fit_to_square` does it. Outputs: `probabilities` float32 (B, classes),
    calibrated; `unknown_score` float32 (B,), 0–1, NaN where the checkpoint has not been calibrated. Metadata:
    `class_names` (JSON), `image_size`, `fit`, `unknown_threshold`, `backbone`, `planetlib`.

    Args:
        checkpoint: what `Checkpoint.load` returns.
        path: of the file.
        form: a name in `FORMATS`.

    Raises:
        PlanetlibError: unknown format, or the extra `onnx` is not installed.
    """
    require_known("format", form, FORMATS)
    try:
        import onnx
        import onnxscript  # noqa: F401 - what torch's exporter is written in
    except ImportError as error:
        raise PlanetlibError(f"cannot export ({error}): pip install 'planetlib[onnx]'") from error
    size, buffer = checkpoint.image_size, io.BytesIO()
    example = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of the exporter's own insides
        program = torch.onnx.export(
            Calibrated(checkpoint).eval(), (example,), input_names=["images"],
            output_names=["probabilities", "unknown_score"], dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True, verbose=False,
        )  # fmt: skip
    facts = {"class_names": json.dumps(checkpoint.class_names), "image_size": size, "fit": checkpoint.fit}
    facts |= {"unknown_threshold": checkpoint.unknown_threshold, "backbone": checkpoint.backbone}
    model = program.model_proto  # type: ignore[union-attr]
    onnx.helper.set_model_props(model, {name: str(fact) for name, fact in (facts | {"planetlib": __version__}).items()})
    onnx.save(model, buffer)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(buffer.getvalue())
    os.replace(partial, path)
    return path
