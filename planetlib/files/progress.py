"""The progress bar of whatever goes through many files."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tqdm.auto import tqdm


def progress_bar(items: Iterable | None = None, progress: bool = True, leave: bool = True, **options) -> tqdm:
    """tqdm's bar, for a terminal or a notebook; nothing where `progress` is False or TQDM_DISABLE=1 is set.

    In a log, which keeps whatever is drawn, there is one line, how it ended; of a bar that does not stay, none.
    """
    if "ipykernel" not in sys.modules and not sys.stderr.isatty():
        never = float("inf")
        options |= {"mininterval": never, "maxinterval": never, "delay": 1e-9}
        progress = progress and leave
    return tqdm(items, disable=not progress or os.environ.get("TQDM_DISABLE") == "1", leave=leave, **options)


def map_in_threads(
    function: Callable, items: Iterable, what: str, progress: bool = True, unit: str = "image"
) -> Iterator:
    """Maps over items in order, under a bar; reading and decoding let go of Python's lock, so threads do."""
    items = list(items)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(function, items)
        yield from progress_bar(done, progress, desc=what, total=len(items), unit=unit, leave=False)
