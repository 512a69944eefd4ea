"""Images per second of batch inference, from files to a CSV: `planetlib predict` and its peers, run in turn.

    python -m benchmarks.predict --data PLANETS

Each run is a process of its own. The bound is what decoding with resizing alone, and the network alone, would allow one
after the other on all cores: 1 / (1 / decode + 1 / model). «Beyond start-up» leaves out what the same command takes for
one image. `--profile short` shows in a minute that it works; its figures mean nothing.
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from benchmarks.tables import format_table, make_parser, say_spread
from planetlib.batch.runtime import use_runtime
from planetlib.checkpoint import Checkpoint
from planetlib.classify import Classifier
from planetlib.data import find_samples
from planetlib.images import read_image
from planetlib.model import Network

SHORT = {"images": 8, "repeats": 1, "figures": 2, "size": 64}


def link_images(data: Path, count: int, folder: Path) -> list[Path]:
    """A folder of class folders of `count` links to the pictures of another, each as often as it takes."""
    samples, links = find_samples(data).sample(frac=1, random_state=0), []
    for number, row in zip(range(count), cycle(samples.itertuples())):
        links.append(folder / row.label / f"{number:07d}{Path(row.path).suffix}")
        links[-1].parent.mkdir(parents=True, exist_ok=True)
        links[-1].symlink_to(Path(row.path).resolve())
    return links


def make_run(backbone: str, size: int | None, folder: Path, names: list[str]) -> Path:
    """A run folder with random weights, which cost what trained ones do."""
    torch.manual_seed(0)
    model = Network(backbone, len(names), weights="random")
    checkpoint = Checkpoint(backbone, "linear", names, size or model.image_size, "pad", dict(model.state_dict()))
    checkpoint.save(folder / "finetune.safetensors")
    return folder


def run_timed(command: list[str], folder: Path) -> float:
    """Seconds a module takes with a folder in the place of IN. Whatever it prints is shown where it fails."""
    words = [sys.executable, "-m", *(str(folder) if word == "IN" else word for word in command)]
    started = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return time.perf_counter() - started


def measure_bound(run: Path, paths: list[Path], runtime: str) -> dict[str, float]:
    """Images per second of decoding with resizing alone, of the network alone, and of one after the other."""
    classifier, threads, rates = Classifier.load(run), torch.get_num_threads(), {}
    use_runtime(classifier, runtime)
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        read = list(pool.map(lambda path: classifier.prepare(read_image(path)), paths[:2]))
        started = time.perf_counter()
        for _ in pool.map(lambda path: classifier.prepare(read_image(path)), paths):
            pass
        rates["decode"] = len(paths) / (time.perf_counter() - started)
        batches = [torch.stack([read[0]] * 32)] * max(threads, len(paths) // 32)
        for _ in (classifier.score_tensors(batches[0]), *pool.map(classifier.score_tensors, batches[:threads])):
            pass
        started = time.perf_counter()
        for _ in pool.map(classifier.score_tensors, batches):
            pass
        rates["model"] = 32 * len(batches) / (time.perf_counter() - started)
    return rates | {"bound": 1 / (1 / rates["decode"] + 1 / rates["model"])}


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__, "data", "run", "repeats", "profile")
    parser.add_argument("--backbone", choices=("efficientnet_lite0", "efficientnet_b3"), default="efficientnet_lite0")
    parser.add_argument("--images", type=int, default=700, help="(default: %(default)s)")
    parser.add_argument("--figures", type=int, default=70, help="images of the peer that draws (default: %(default)s)")
    parser.add_argument("--size", type=int, help="side of the square (default: the backbone's own)")
    parser.add_argument("--runtimes", nargs="+", choices=("torch", "openvino"), default=["torch", "openvino"])
    options = parser.parse_args(arguments)
    if options.profile == "short":
        vars(options).update(SHORT)
    os.environ["TQDM_DISABLE"] = "1"
    names = sorted(find_samples(options.data).label.unique())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = options.run or make_run(options.backbone, options.size, folder / "run", names)
        links = link_images(options.data, options.images, folder / "many")
        link_images(options.data, options.figures, folder / "few")
        link_images(options.data, 1, folder / "one")
        ours = ["planetlib", "predict", "IN", "--run", f"{run}", "--out", f"{folder}/out", "--pictures", "none"]
        peer = ["benchmarks.predictors", "ordinary", "IN", f"{folder}/out.csv", "--backbone", options.backbone]
        peer += ["--size", str(options.size)] if options.size else []
        each = ["benchmarks.predictors", "figures", "IN", f"{folder}/each.csv", "--backbone", options.backbone]
        ways = {f"planetlib predict, {name}": ([*ours, "--runtime", name], "many") for name in options.runtimes}
        ways["ordinary script, float32"] = (peer, "many")
        ways["ordinary script, channels last, bfloat16"] = ([*peer, "--fast"], "many")
        ways["reference recipe, a figure for each"] = (each, "few")
        counts = {"many": options.images, "few": options.figures}
        found = {way: ([], []) for way in ways}
        bounds = {name: [] for name in options.runtimes}
        for _ in range(options.repeats):
            for name in options.runtimes:
                bounds[name].append(measure_bound(run, links, name))
            for way, (command, place) in ways.items():
                one, all_of_it = (run_timed(command, folder / where) for where in ("one", place))
                found[way][0].append(counts[place] / all_of_it)
                found[way][1].append((counts[place] - 1) / max(1e-9, all_of_it - one))
    cores = torch.get_num_threads()
    print(f"{options.backbone}, {options.images} images, {options.repeats} runs in turn, {cores} cores")
    print("images/s: median (lowest–highest)\n")
    rows = []
    for way, (whole, beyond) in found.items():
        rates = bounds.get(way.removeprefix("planetlib predict, "))
        share = f"{np.median(beyond) / np.median([one['bound'] for one in rates]):.0%}" if rates else ""
        rows.append([way, say_spread(whole), say_spread(beyond), share])
    for name, rates in bounds.items():
        for part, words in (("decode", "decode and resize alone"), ("model", "network alone"), ("bound", "bound")):
            rows.append([f"{name}: {words}", "", say_spread([one[part] for one in rates]), ""])
    print(format_table(["way", "with start-up", "beyond start-up", "of its bound"], rows))


if __name__ == "__main__":
    main()
