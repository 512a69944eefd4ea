"""Seconds of stage one, 15 epochs of a head on a frozen backbone: views computed once, or anew in each epoch.

    python -m benchmarks.stage_one --data PLANETS --out runs/stage_one

runs each way in turn, five times over, in one process, decoding included, and prints a table, which it also writes as
`table.md`: the median, from the least to the most, and how often it would go into the last.

| way | what it is |
|---|---|
| `kept` | the views are there, as for a second try with another learning rate, or a run that is resumed |
| `computed` | as `planetlib train` does it: 4 views of each picture pass through the backbone, then 15 epochs |
| `each epoch` | `views=0`: a new view in each epoch, decoded once, bfloat16 where the processor has it |
| `script` | an ordinary script: decoding, augmenting, the whole backbone and a validation pass in each epoch, float32 |

The pictures are those of the training split alone, without rendered planets and outliers, so that all do the same.
`--profile short` takes seconds on the embedded pictures, and its figures mean nothing.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torchvision import transforms

from benchmarks.trainers import SHORT, Clock, Peer
from planetlib.data import make_samples
from planetlib.files.tables import write_table
from planetlib.settings import FIXTURE, Settings, load_settings
from planetlib.train import Phase

EPOCHS = 15
WAYS = ("kept", "computed", "each epoch", "script")


def time_stage(settings: Settings, samples: pd.DataFrame, keep: bool) -> float:
    """Seconds of stage one with an empty run folder or, with `keep`, with one that holds the views."""
    shutil.rmtree(settings.run, ignore_errors=True)
    if keep:
        views = Phase("head", settings, samples, progress=False).views.values()
        for view in views:
            for number in view.numbers:
                view.load(number)
    started = time.perf_counter()
    Phase("head", settings, samples, progress=False).train()
    return time.perf_counter() - started


def time_script(samples: pd.DataFrame, epochs: int, short: bool) -> float:
    """Seconds of as many epochs of an ordinary script, the backbone frozen."""
    clock = Clock(time.time())
    clock.test = lambda measure: None
    peer = Peer(samples, 0, clock, short, lambda features: nn.Linear(features, samples.label.nunique()))
    train = peer.load("train", [transforms.RandomResizedCrop(peer.size), transforms.RandomHorizontalFlip()], 32)
    val = peer.load("val", [transforms.Resize((peer.size, peer.size))], 32)
    peer.free(0)
    peer.fit(train, val, nn.CrossEntropyLoss(), epochs, 0, 1e-3, 0)
    return clock.seconds


def make_table(times: pd.DataFrame) -> str:
    """Markdown: a line for each way."""
    last = times.seconds[times.way == times.way.iloc[-1]].median()
    lines = [["way", "seconds", "times faster than the last"], ["---"] * 3]
    for way, part in times.groupby("way", sort=False):
        seconds = part.seconds
        spread = f"{seconds.median():.2f} ({seconds.min():.2f} to {seconds.max():.2f})"
        lines.append([way, spread, f"{last / seconds.median():.1f}"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=FIXTURE, help="folder of class folders (default: the embedded one)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/stage_one"), help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="(default: all)")
    parser.add_argument("--profile", choices=("full", "short"), default="full", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    short = options.profile == "short"
    epochs, samples, rows = 2 if short else EPOCHS, make_samples(options.data, 0, False), []
    choices = {**(SHORT if short else {}), "head_epochs": epochs, "patience": epochs, "rendered": 0, "outliers": 0}
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings("full", data=options.data, run=Path(folder) / "run", **choices)
        for _ in range(options.repeats):
            for way in options.ways:
                torch.manual_seed(0)
                if way == "script":
                    seconds = time_script(samples, epochs, short)
                else:
                    views = 0 if way == "each epoch" else settings.views
                    seconds = time_stage(settings.replace(views=views), samples, way == "kept")
                rows.append({"way": way, "seconds": seconds})
                write_table(pd.DataFrame(rows), options.out / "seconds.csv")
    table = make_table(pd.DataFrame(rows))
    (options.out / "table.md").write_text(table, encoding="utf-8")
    print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
