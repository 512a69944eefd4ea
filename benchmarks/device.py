"""All that a device is timed by, in one table: for whoever has a GPU, to be held against the processor beside it.

    python -m benchmarks.device --data PLANETS
    python -m benchmarks.device --data PLANETS --device cpu

Pictures per second of the network alone, as an ordinary script calls it and as `planetlib` does, of files to the
predictions table, and of activation maps; and the seconds of both phases of `planetlib train --profile quick`. Median
of the repeats, after one that warms up, from the least to the most. Weights are random, which cost what trained ones
do. `--profile short` takes seconds on the embedded pictures, and its figures mean nothing.
"""

import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.predict import make_run
from benchmarks.tables import format_table, make_parser, say_spread
from benchmarks.trainers import SHORT
from planetlib.checkpoint import PHASES
from planetlib.classify import Classifier
from planetlib.data import check_samples, find_samples, read_square, split_samples
from planetlib.explain import map_activation
from planetlib.nets.device import choose_device
from planetlib.settings import load_settings
from planetlib.train import train_phase


def predict_plainly(classifier: Classifier, images: torch.Tensor) -> torch.Tensor:
    """As an ordinary script does: float32, no norm folded, a copy to the device and back."""
    with torch.inference_mode():
        return classifier.model(images.to(classifier.device)).softmax(1).cpu()


def call_each(call: Callable[[Any], object], parts: Iterable) -> None:
    for part in parts:
        call(part)


def time_calls(call: Callable[[], object], count: int, repeats: int) -> list[float]:
    """Pictures per second, `count` of them in a call, of each repeat but the first."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return [count / took for took in seconds[1:]]


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__, "data", "repeats", "profile")
    parser.add_argument("--backbone", default="efficientnet_lite0", help="(default: %(default)s)")
    parser.add_argument("--device", default="auto", help="(default: %(default)s)")
    parser.add_argument("--images", type=int, default=512, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    count, changes = (8, dict(SHORT)) if options.profile == "short" else (options.images, {})
    device = choose_device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    samples = split_samples(check_samples(find_samples(options.data)))
    paths = (samples.path.tolist() * count)[:count]
    rows = []

    def add(way: str, call: Callable[[], object], pictures: int) -> None:
        rows.append([way, say_spread(time_calls(call, pictures, options.repeats)), "pictures/s"])

    with tempfile.TemporaryDirectory() as temporary:
        run = make_run(options.backbone, None, Path(temporary), list("abcdefg"))
        exact, half, chosen = (
            Classifier.load(run, device=str(device), precision=name) for name in ("float32", "bfloat16", "auto")
        )
        size = chosen.checkpoint.image_size
        images = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
        networks = {
            "ordinary script": partial(predict_plainly, exact),
            "float32": exact.predict_tensors,
            "bfloat16": half.predict_tensors,
        }
        for batch, (way, network) in product((32, 256), networks.items()):
            add(f"network, {way}, batches of {batch}", partial(call_each, network, images.split(batch)), count)
        add("files to the predictions table", lambda: chosen.predict(paths, progress=False), count)
        explain = partial(map_activation, chosen, class_name=chosen.class_names[0])
        pictures = [read_square(path, size) for path in paths[:16]]
        add("activation maps, one after the other", partial(call_each, explain, pictures), len(pictures))
        changes |= {"backbone": options.backbone, "device": str(device)}
        settings = load_settings("quick", data=options.data, run=Path(temporary) / "train", **changes)
        for phase in PHASES:
            started = time.perf_counter()
            train_phase(phase, settings, samples, progress=False)
            rows.append([f"train --profile quick, {phase}", f"{time.perf_counter() - started:.1f}", "s"])
    print(f"{options.backbone}, {device} ({name}), torch {torch.__version__}\n")
    print(format_table(["what", "median (least–most)", "unit"], rows))


if __name__ == "__main__":
    main()
