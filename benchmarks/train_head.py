"""Seconds of the phase head, 15 epochs on a frozen backbone: its features computed once, or in each epoch.

    python -m benchmarks.train_head --data PLANETS --out runs/train_head

runs each way in turn, five times over, in one process, decoding included, and prints a table, which it also writes as
`table.md`: the median, from the least to the most, and how often it would go into the last.

| way | what it is |
|---|---|
| `kept` | the frozen features are there, as for a second try with another learning rate, or a run that is resumed |
| `computed` | as `planetlib train` does it: 4 views of each picture pass through the backbone, then 15 epochs |
| `script` | an ordinary script: decoding, augmenting, the whole backbone and a validation pass in each epoch, float32 |

The pictures are those of the training split alone, without drawn planets and outliers, so that all do the same.
`--profile short` takes seconds on the embedded pictures, and its figures mean nothing.
"""

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torchvision import transforms

from benchmarks.tables import format_table, make_parser, print_table, say_spread
from benchmarks.trainers import SHORT, Clock, Peer
from planetlib.data import check_samples, find_samples, split_samples
from planetlib.files.tables import write_table
from planetlib.nets.processes import ALONE
from planetlib.settings import Settings, load_settings
from planetlib.train import Phase

EPOCHS = 15
WAYS = ("kept", "computed", "script")


def time_phase(settings: Settings, samples: pd.DataFrame, keep: bool) -> float:
    """Seconds with an empty run folder or, with `keep`, with one that holds the frozen features."""
    shutil.rmtree(settings.run, ignore_errors=True)
    if keep:
        phase = Phase("head", settings, samples, False, ALONE)
        for features in (phase.train_features, phase.val_features):
            for number in features.numbers:
                features.load(number)
    started = time.perf_counter()
    Phase("head", settings, samples, False, ALONE).train()
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


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__, "data", "repeats", "profile")
    parser.add_argument("--out", type=Path, default=Path("runs/train_head"), help="(default: %(default)s)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="(default: all)")
    options = parser.parse_args(arguments)
    short = options.profile == "short"
    epochs, samples, rows = 2 if short else EPOCHS, split_samples(check_samples(find_samples(options.data))), []
    choices = {**(SHORT if short else {}), "head_epochs": epochs, "patience": epochs, "drawn": 0, "outliers": 0}
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings("full", data=options.data, run=Path(folder) / "run", **choices)
        for _ in range(options.repeats):
            for way in options.ways:
                torch.manual_seed(0)
                if way == "script":
                    seconds = time_script(samples, epochs, short)
                else:
                    seconds = time_phase(settings, samples, way == "kept")
                rows.append({"way": way, "seconds": seconds})
                write_table(pd.DataFrame(rows), options.out / "seconds.csv")
    ways = pd.DataFrame(rows).groupby("way", sort=False).seconds.agg(list)
    last = np.median(ways.iloc[-1])
    lines = [[way, say_spread(times, 2), f"{last / np.median(times):.1f}"] for way, times in ways.items()]
    print_table(format_table(["way", "seconds", "times faster than the last"], lines), options.out / "table.md")


if __name__ == "__main__":
    main()
