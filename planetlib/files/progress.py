"""The progress bar of whatever goes through many files."""

import os
from collections.abc import Iterable

from tqdm.auto import tqdm


def progress_bar(items: Iterable | None = None, progress: bool = True, **options) -> tqdm:
    """tqdm's bar, for a terminal or a notebook; nothing where `progress` is False or TQDM_DISABLE=1 is set."""
    return tqdm(items, disable=not progress or os.environ.get("TQDM_DISABLE") == "1", **options)
