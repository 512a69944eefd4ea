"""The progress bar of whatever goes through many files."""

import os
import sys
from collections.abc import Iterable

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
