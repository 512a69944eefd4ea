"""What the benchmarks share: options, and tables in Markdown."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from planetlib.settings import FIXTURE

OPTIONS = {
    "data": {"type": Path, "default": FIXTURE, "help": "folder of class folders (default: the embedded pictures)"},
    "run": {"type": Path, "help": "run folder (default: random weights)"},
    "seeds": {"type": int, "nargs": "+", "default": [0, 1, 2], "help": "(default: 0 1 2)"},
    "repeats": {"type": int, "default": 5, "help": "(default: %(default)s)"},
    "profile": {"choices": ("full", "short"), "default": "full", "help": "short only shows that it works"},
}


def make_parser(says: str | None, *shared: str) -> argparse.ArgumentParser:
    """A parser that says a module's docstring, with the named ones of `OPTIONS`."""
    parser = argparse.ArgumentParser(description=says, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in shared:
        parser.add_argument(f"--{name}", **OPTIONS[name])
    return parser


def format_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def say_spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, least and greatest."""
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def average_seeds(scores: pd.DataFrame, row: str, columns: Iterable[str] | None = None) -> str:
    """Markdown: a line for each value of the column `row`; the mean over seeds ± half the range, of the columns."""
    columns = [name for name in columns or scores.columns if name not in (row, "seed")]
    lines = []
    for first, part in scores.groupby(row, sort=False):
        middle, spread = part[columns].mean(), (part[columns].max() - part[columns].min()) / 2
        digits = {name: 2 if "confidence" in name or "value" in name else 1 for name in columns}
        lines.append([first, *(f"{middle[n]:.{digits[n]}f} ± {spread[n]:.{digits[n]}f}" for n in columns)])
    return format_table([row, *columns], lines)


def print_table(table: str, path: Path) -> None:
    """Prints a table, and writes it to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(table, encoding="utf-8")
    print(table)
