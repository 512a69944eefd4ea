"""What a person waits for: seconds and memory until the first answer, and images per second of large photographs.

    python -m benchmarks.answer --data PLANETS --run RUN

First each way is a process of its own, run in turn, and tells its peak memory (VmHWM of Linux) at its end. Then
pictures enlarged to JPEG files of some megapixels are predicted, in turn as `planetlib predict` does and with each
decoded whole. `--profile short` only shows that it works.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from benchmarks.predict import make_run
from benchmarks.tables import format_table, make_parser, say_spread
from planetlib.classify import Classifier
from planetlib.data import find_samples
from planetlib.files import pictures
from planetlib.images import read_image

CHILD = "{}; print(*(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
COMMAND = "import sys; from planetlib.cli import main; main({!r})"
WIDGET = "from planetlib.widgets import ActivationExplorer as Explorer; from planetlib.classify import Classifier as C"
WIDGET += "; classifier = C.load({!r}); Explorer(classifier, classifier.predict([{!r}]))"


def time_ways(picture: str, run: Path, folder: Path, repeats: int) -> list[list[str]]:
    """Rows of seconds, their ratio to `import torch`, and megabytes."""
    words = [picture, "--run", str(run), "--out", str(folder / "out")]
    ways = {"import torch": "import torch", "import planetlib.classify": "import planetlib.classify"}
    ways |= {f"planetlib {name}": COMMAND.format([name, *words]) for name in ("predict", "explain")}
    ways["the explorer, one picture"] = WIDGET.format(str(run), picture)
    seconds, peaks = defaultdict(list), defaultdict(list)
    for _ in range(repeats):
        for way, code in ways.items():
            started = time.perf_counter()
            said = subprocess.check_output([sys.executable, "-c", CHILD.format(code)], text=True)
            seconds[way].append(time.perf_counter() - started)
            peaks[way].append(int(said.split()[-1]) / 1e3)
    ratios = {way: np.divide(taken, seconds["import torch"]) for way, taken in seconds.items()}
    return [[way, say_spread(seconds[way], 2), say_spread(ratios[way], 2), say_spread(peaks[way], 0)] for way in ways]


def enlarge(path: str, megapixels: float) -> bytes:
    """A picture as a JPEG of that size, with the noise of a camera, without which decoding would be quicker."""
    picture = read_image(path)
    scale = (megapixels * 1e6 / picture[:, :, 0].size) ** 0.5
    large = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0).normal(0, 3, large.shape)
    noisy = (large + noise).clip(0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", cv2.cvtColor(noisy, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, 92))[1].tobytes()


def time_photographs(classifier: Classifier, files: list[bytes], repeats: int) -> list[list[str]]:
    """Rows of images per second, and of how far the answers differ."""
    rates, tables = defaultdict(list), {}
    usual = pictures.LARGE
    for _ in range(repeats):
        for way, large in (("at the scale that is needed", usual), ("decoded whole", sys.maxsize)):
            pictures.LARGE, started = large, time.perf_counter()
            tables[way] = [table for table in classifier.stream([(file, "") for file in files], 4)]
            rates[way].append(len(files) / (time.perf_counter() - started))
    pictures.LARGE = usual
    ours, whole = (np.concatenate([table.filter(like="prob_").to_numpy() for table in t]) for t in tables.values())
    ratio = np.divide(*rates.values())
    same = (ours.argmax(1) == whole.argmax(1)).sum()
    rows = [[way, say_spread(taken)] for way, taken in rates.items()] + [["ratio", say_spread(ratio, 2)]]
    return [
        *rows,
        ["same label", f"{same} of {len(files)}"],
        ["probabilities differ by", f"{abs(ours - whole).max():.3f}"],
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__, "data", "run", "repeats", "profile")
    parser.add_argument("--images", type=int, default=36, help="large photographs (default: %(default)s)")
    parser.add_argument("--megapixels", type=float, default=12, help="of each (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.profile == "short":
        vars(options).update(images=4, megapixels=3, repeats=1)
    os.environ["TQDM_DISABLE"] = "1"
    samples = find_samples(options.data)
    chosen = samples.sample(options.images, random_state=0, replace=len(samples) < options.images).path
    with tempfile.TemporaryDirectory() as temporary:
        folder, names = Path(temporary), sorted(samples.label.unique())
        run = options.run or make_run("efficientnet_lite0", None, folder / "run", names)
        rows = time_ways(chosen.iloc[0], run, folder, options.repeats)
        print(format_table(["way", "seconds", "times import torch", "peak memory, MB"], rows))
        files = [enlarge(path, options.megapixels) for path in chosen]
        rows = time_photographs(Classifier.load(run), files, options.repeats)
    print(format_table([f"{options.images} JPEG files of {options.megapixels:g} megapixels", "images/s"], rows))


if __name__ == "__main__":
    main()
