"""How much slower what people wait for becomes while others do the same on the same cores.

    python -m benchmarks.busy --data PLANETS --run RUN

Each way is timed alone, then in several processes at once, in turn. Every process has imported and read what it needs
before one of them begins; of those at once the slowest counts. `--profile short` only shows that it works.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.predict import make_run
from benchmarks.tables import format_table, make_parser, say_spread
from planetlib.data import find_samples

#: way → how many processes at once, what each makes ready with a `classifier`, `paths` and places, and what is timed
WAYS = {
    "predict": (2, "classifier.predict(paths[:32])", "classifier.predict(paths)"),
    "the explorer, 50 moves": (
        4,
        "explorer = ActivationExplorer(classifier, classifier.predict(paths[:52]))",
        "for place in range(2, min(52, len(paths))): explorer.walk.slider.value = place",
    ),
    "methods compared": (2, "", "compare_methods(classifier, paths[:2], renders=1)"),
    "a head trained": (
        2,
        "samples = split_samples(check_samples(find_samples(data).groupby('label').head(10)));"
        "settings = load_settings('quick', data=Path(data), run=Path(folder), views=1, head_epochs=2)",
        "train_phase('head', settings, samples)",
    ),
}
CHILD = """
import json, sys, time
from pathlib import Path
run, data, paths, prepare, act, folder = json.loads(sys.argv[1])
from planetlib.classify import Classifier
from planetlib.data import check_samples, find_samples, split_samples
from planetlib.settings import load_settings
from planetlib.study.faithful import compare_methods
from planetlib.train import train_phase
from planetlib.widgets import ActivationExplorer
classifier = Classifier.load(run)
exec(prepare)
print(flush=True)
sys.stdin.readline()
started = time.perf_counter()
exec(act)
print(time.perf_counter() - started)
"""


def time_at_once(count: int, words: list, folder: str) -> float:
    """Seconds of the slowest of so many processes, each with a folder of its own."""
    children = []
    for _ in range(count):
        told = json.dumps([*words, tempfile.mkdtemp(dir=folder)])
        command = [sys.executable, "-c", CHILD, told]
        children.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        children[-1].stdout.readline()  # it is ready
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    return max(float(child.communicate()[0]) for child in children)


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__, "data", "run", "repeats", "profile")
    options = parser.parse_args(arguments)
    images, repeats = (4, 1) if options.profile == "short" else (200, options.repeats)
    os.environ["TQDM_DISABLE"] = "1"
    samples = find_samples(options.data)
    paths = samples.path.sample(min(images, len(samples)), random_state=0).tolist()
    rows, took = [], defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        made = options.run or make_run("efficientnet_lite0", None, Path(folder, "run"), sorted(samples.label.unique()))
        for _ in range(repeats):
            for way, (most, *code) in WAYS.items():
                for count in (1, most):
                    words = [str(made), str(options.data), paths, *code]
                    took[way, count].append(time_at_once(count, words, folder))
        for way, (most, *_) in WAYS.items():
            alone, beside = took[way, 1], took[way, most]
            ratios = np.divide(beside, alone)
            rows.append([way, say_spread(alone, 2), str(most), say_spread(beside, 2), say_spread(ratios, 2)])
    print(format_table(["way", "seconds alone", "processes at once", "seconds", "times"], rows))


if __name__ == "__main__":
    main()
