"""Seconds of training until the test pictures are told right: planetlib against its peers.

    python -m benchmarks.train --data PLANETS --out runs/train

trains `efficientnet_lite0` from files with each engine in turn, seeds 0–2, every run in a process of its own with empty
caches, and prints a table, which it also writes as `table.md`; the clock of every epoch goes to `epochs.csv`.

| engine | what it is |
|---|---|
| `ours` | `planetlib train` as it is: drawn planets and outliers mixed in, calibrated, with a model card |
| `ours-quick` | `planetlib train --profile quick`: without those, as its peers are, with fewer views and epochs |
| `reference` | the recipe of the reference project from files: 15 and 85 epochs, batch 16, decoding in each epoch |
| `fastai` | `vision_learner` and `fine_tune(5)` with fastai's defaults; needs the extra `[benchmarks]` |

All have the same split (`planetlib.data.split_samples`) and the same weights to begin with. The clock starts with the
process, so it has the imports in it; testing after each epoch is taken out. «until 99 %» is the first epoch with that
test accuracy, «for good» the first from which on no epoch is below. `--limit` stops a run; what it did not reach counts
as longer than all it did. `--profile short` takes seconds on the embedded pictures, and its figures mean nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.tables import format_table, make_parser, print_table
from planetlib.files.tables import read_samples, write_table
from planetlib.settings import PROJECT


def run_engine(engine: str, table: Path, seed: int, started: float, limit: float, short: bool) -> dict:
    """Trains in this process. Returns `rows`, (seconds, accuracy) of each epoch, `total` seconds, and `ended`."""
    from benchmarks.trainers import ENGINES, Clock, TimeUp

    clock, ended = Clock(started, limit), True
    try:
        ENGINES[engine](read_samples(table), seed, clock, short)
    except TimeUp:
        ended = False
    return {"rows": clock.rows, "total": clock.seconds, "ended": ended}


def start_engine(engine: str, table: Path, seed: int, limit: float, short: bool) -> pd.DataFrame:
    """Trains in a process of its own. Returns `engine, seed, epoch, seconds, accuracy, total, ended`."""
    work = [engine, str(table.resolve()), seed, time.time(), limit, short]
    command = [sys.executable, "-m", "benchmarks.train", "--work", json.dumps(work)]
    anew = {**os.environ, "PLANETLIB_CACHE": ""}  # no drawings of an earlier run
    printed = subprocess.run(command, cwd=PROJECT, env=anew, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = json.loads(printed.splitlines()[-1])
    epochs = pd.DataFrame(found["rows"], columns=["seconds", "accuracy"])
    epochs.insert(0, "epoch", range(1, len(epochs) + 1))
    epochs.insert(0, "engine", engine)
    epochs.insert(1, "seed", seed)
    return epochs.assign(total=found["total"], ended=found["ended"])


def find_seconds(epochs: pd.DataFrame, target: float) -> pd.Series:
    """Of one run: seconds `until` the target and until it is held `for good`, or infinity; `total`, `accuracy`."""
    right = epochs.accuracy.to_numpy() >= target
    good = right & (np.cumsum(~right[::-1])[::-1] == 0)
    first, last = (epochs.seconds[hits].min() if hits.any() else np.inf for hits in (right, good))
    return pd.Series(
        {"until": first, "for good": last, "total": epochs.total.iloc[0], "accuracy": epochs.accuracy.iloc[-1]}
    )


def make_table(epochs: pd.DataFrame, target: float) -> str:
    """Markdown: a line for each engine; median over the seeds, and from the least to the most."""
    runs = epochs.groupby(["engine", "seed"], sort=False).apply(find_seconds, target=target, include_groups=False)
    first = runs["until"].groupby("engine", sort=False).median().iloc[0]
    head = ["engine", f"seconds until {target:.0%}", f"{target:.0%} for good", "in all", "times the first"]
    lines = []
    for engine, part in runs.groupby("engine", sort=False):
        stopped = "" if epochs.ended[epochs.engine == engine].all() else ", stopped"
        median = part["until"].median()
        lines.append([
            engine, _spread(part["until"], part.total), _spread(part["for good"], part.total),
            _spread(part.total, part.total) + stopped,
            f"{median / first:.2f}" if np.isfinite([median, first]).all() else "-",
            _spread(100 * part.accuracy, part.total),
        ])  # fmt: skip
    return format_table([*head, "accuracy at the end, %"], lines)


def _spread(values: pd.Series, total: pd.Series) -> str:
    # What was not reached is more than the run took.
    text = [f"{value:.1f}" if np.isfinite(value) else f"> {all_of_it:.1f}" for value, all_of_it in zip(values, total)]
    order = np.argsort(values.to_numpy(), kind="stable")
    return f"{text[order[len(order) // 2]]} ({text[order[0]]} to {text[order[-1]]})"


def main(arguments: list[str] | None = None) -> None:
    engines = ("ours", "ours-quick", "reference", "fastai")
    parser = make_parser(__doc__, "data", "seeds", "profile")
    parser.add_argument("--out", type=Path, default=Path("runs/train"), help="(default: %(default)s)")
    parser.add_argument("--engines", nargs="+", choices=engines, default=engines, help="(default: all)")
    parser.add_argument("--target", type=float, default=0.99, help="test accuracy, 0 to 1 (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds of a run, after which it is stopped")
    parser.add_argument("--work", help=argparse.SUPPRESS)  # of a run's own process
    options = parser.parse_args(arguments)
    if options.work:
        engine, table, seed, started, limit, short = json.loads(options.work)
        print(json.dumps(run_engine(engine, Path(table), seed, started, limit, short)))
        return
    from planetlib.data import check_samples, find_samples, split_samples

    found = []
    for seed in options.seeds:
        table = options.out / f"samples{seed}.csv"
        write_table(split_samples(check_samples(find_samples(options.data.resolve())), seed), table)
        for engine in options.engines:
            found.append(start_engine(engine, table, seed, options.limit, options.profile == "short"))
            write_table(pd.concat(found), options.out / "epochs.csv")
    print_table(make_table(pd.concat(found), options.target), options.out / "table.md")


if __name__ == "__main__":
    main()
