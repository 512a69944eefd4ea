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

#: way → how many processes at once, and what each of them does with a `classifier` and `paths`
WAYS = {
    "predict": (2, "classifier.predict(paths, progress=False)"),
    "the explorer, 50 moves": (4, "for place in range(2, min(52, len(paths))): explorer.walk.slider.value = place"),
    "methods compared": (2, "compare_methods(classifier, paths[:2], renders=1)"),
    "a head trained": (2, "train_phase('head', settings, samples, progress=False)"),
}
CHILD = """
import json, sys, time
from pathlib import Path
run, data, folder, paths, act = json.loads(sys.argv[1])
from planetlib.classify import Classifier
from planetlib.data import check_samples, find_samples, split_samples
from planetlib.settings import load_settings
from planetlib.study.faithful import compare_methods
from planetlib.train import train_phase
from planetlib.widgets import ActivationExplorer
classifier = Classifier.load(run)
explorer = ActivationExplorer(classifier, classifier.predict(paths, progress=False))
samples = split_samples(check_samples(find_samples(data).groupby("label").head(10)))
settings = load_settings("quick", data=Path(data), run=Path(folder), views=1, head_epochs=2)
act = compile(act, "act", "exec")
print(flush=True)
sys.stdin.readline()
started = time.perf_counter()
exec(act)
print(time.perf_counter() - started)
"""


def time_at_once(count: int, arguments: list, folder: Path) -> float:
    """Seconds of the slowest of so many processes."""
    children = []
    for number in range(count):
        words = json.dumps([*arguments[:2], str(folder / str(number)), *arguments[2:]])
        command = [sys.executable, "-c", CHILD, words]
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
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = options.run or make_run("efficientnet_lite0", None, folder / "run", sorted(samples.label.unique()))
        for _ in range(repeats):
            for way, (most, act) in WAYS.items():
                for count in (1, most):
                    place = folder / f"{len(took)}-{len(took[way, count])}"
                    took[way, count].append(time_at_once(count, [str(run), str(options.data), paths, act], place))
        for way, (most, _) in WAYS.items():
            alone, beside = took[way, 1], took[way, most]
            ratios = np.divide(beside, alone)
            rows.append([way, say_spread(alone, 2), str(most), say_spread(beside, 2), say_spread(ratios, 2)])
    print(format_table(["way", "seconds alone", "processes at once", "seconds", "times"], rows))


if __name__ == "__main__":
    main()
