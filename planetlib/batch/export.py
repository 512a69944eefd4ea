"""A trained run as one file for other runtimes: ONNX, with the calibration inside and the rest as metadata."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from planetlib import PlanetlibError, __version__
from planetlib.checkpoint import Checkpoint
from planetlib.files.whole import open_whole
from planetlib.model import Embedder, score_unknown
from planetlib.nets.folding import fold_copy


class Calibrated(nn.Module):
    """A checkpoint's network with its temperature and its detector of strangers."""

    def __init__(self, checkpoint: Checkpoint):
        super().__init__()
        self.embedder = fold_copy(Embedder(checkpoint.build_model()), "float32")
        self.temperature, self.detector = checkpoint.temperature, checkpoint.detector
        self.known = len(checkpoint.class_names)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (B, classes) and scores for «none of these» (B,) of images, uint8 (B, 3, S, S), RGB."""
        logits, lower = self.embedder(images)
        probabilities = (logits[:, : self.known] / self.temperature).softmax(1)
        if not self.detector:
            return probabilities, lower[:, 0] * torch.nan
        return probabilities, score_unknown(self.detector, lower, self.known)


def export_checkpoint(checkpoint: Checkpoint, path: str | os.PathLike) -> Path:
    """Writes a checkpoint as ONNX, whole or not at all.

    Input `images`: uint8 (B, 3, S, S), RGB 0–255, any B; S and how a picture is fitted to the square are in the
    metadata, and `planetlib.transforms.fit_to_square` does it. Outputs: `probabilities` float32 (B, classes),
    calibrated; `unknown_score` float32 (B,), 0–1, NaN where the checkpoint has not been calibrated. Metadata:
    `class_names` (JSON), `image_size`, `fit`, `unknown_threshold`, `backbone`, `planetlib`.

    Raises:
        PlanetlibError: the extra `onnx` is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - what torch's exporter is written in
    except ImportError as error:
        raise PlanetlibError(f"cannot export ({error})", do="pip install 'planetlib[onnx]'") from error
    size = checkpoint.image_size
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of the exporter's own insides
        program: Any = torch.onnx.export(
            Calibrated(checkpoint).eval(),
            (torch.zeros(2, 3, size, size, dtype=torch.uint8),),
            input_names=["images"],
            output_names=["probabilities", "unknown_score"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
    facts = {name: getattr(checkpoint, name) for name in ("image_size", "fit", "unknown_threshold", "backbone")}
    facts |= {"class_names": json.dumps(checkpoint.class_names), "planetlib": __version__}
    model = program.model_proto
    onnx.helper.set_model_props(model, {name: str(fact) for name, fact in facts.items()})
    with open_whole(path) as file:
        onnx.save(model, file)
    return Path(path)
