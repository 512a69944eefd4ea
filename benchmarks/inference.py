"""What computes a network fastest on a processor: milliseconds of one core for an image, and seconds to get ready.

    python -m benchmarks.inference --run RUN
    python -m benchmarks.inference --backbone efficientnet_b3

Processor time, one thread, batches of 32. «Differs» is the largest difference of a probability from the model as it was
trained, in float32, on noise; with random weights it says little.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from benchmarks.predict import make_run
from benchmarks.tables import format_table, make_parser
from planetlib.batch.export import export_checkpoint
from planetlib.batch.runtime import use_runtime
from planetlib.checkpoint import Checkpoint, find_checkpoint
from planetlib.classify import Classifier
from planetlib.nets.device import use_precision


def run_plainly(checkpoint: Checkpoint, precision: str) -> Callable:
    """As trained: no norm is folded."""
    model, classes = checkpoint.build_model(), len(checkpoint.class_names)

    def compute(images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), use_precision(precision, torch.device("cpu")):
            return (model(images)[:, :classes].float() / checkpoint.temperature).softmax(1)

    return compute


def run_classifier(checkpoint: Checkpoint, precision: str, runtime: str) -> Callable:
    classifier = Classifier(checkpoint, "cpu", precision)
    use_runtime(classifier, runtime)
    return classifier.predict_tensors


def run_onnx(checkpoint: Checkpoint, folder: Path) -> Callable:
    choices = onnxruntime.SessionOptions()
    choices.intra_op_num_threads = 1
    path = export_checkpoint(checkpoint, folder / "model.onnx")
    session = onnxruntime.InferenceSession(path, choices, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__, "run", "repeats")
    parser.add_argument("--backbone", choices=("efficientnet_lite0", "efficientnet_b3"), default="efficientnet_lite0")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        run = options.run or make_run(options.backbone, None, Path(temporary), list("abcdefg"))
        checkpoint = Checkpoint.load(find_checkpoint(run))
        size, ways, rows = checkpoint.image_size, {}, []
        images = torch.randint(0, 256, (32, 3, size, size), dtype=torch.uint8)
        for precision in ("float32", "bfloat16"):
            ways[f"as trained, {precision}"] = partial(run_plainly, checkpoint, precision)
            for name in ("torch", "openvino"):
                ways[f"runtime {name}, {precision}"] = partial(run_classifier, checkpoint, precision, name)
        ways["ONNX Runtime, float32"] = partial(run_onnx, checkpoint, Path(temporary))
        expected = run_plainly(checkpoint, "float32")(images)
        for way, make in ways.items():
            started = time.process_time()
            compute = make()
            found = compute(images)
            ready, took = time.process_time() - started, []
            for _ in range(options.repeats):
                started = time.process_time()
                compute(images)
                took.append(1000 * (time.process_time() - started) / len(images))
            ready, differs = max(0, ready - len(images) * np.median(took) / 1000), (found - expected).abs().max()
            spread = f"{min(took):.1f}–{max(took):.1f}"
            rows.append([way, f"{np.median(took):.1f}", spread, f"{ready:.1f}", f"{differs:.1e}"])
    head = ["way", "ms for an image: median", "lowest–highest", "s to get ready", "differs"]
    print(format_table(head, rows))


if __name__ == "__main__":
    main()
