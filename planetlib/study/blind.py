"""A blind test: does a classifier look at pictures, or does it read file names?"""

import os
import shutil
from pathlib import Path

import pandas as pd

from planetlib.files.tables import DataError, write_table


def write_blind_test(samples: pd.DataFrame, folder: str | os.PathLike, seed: int = 0) -> pd.DataFrame:
    """Copies pictures (`path`, `label`) under names that tell nothing, `0000.png` …, in a random order into a folder.

    Those of an earlier blind test are replaced.

    Returns:
        The mapping `blind, path, label`; it is also written beside the folder, as `<folder>_mapping.csv`, not into it.

    Raises:
        DataError: the folder holds something else.
    """
    folder = Path(folder)
    key = folder.with_name(f"{folder.name}_mapping.csv")
    folder.mkdir(parents=True, exist_ok=True)
    for name in pd.read_csv(key).blind if key.exists() else []:
        (folder / name).unlink(missing_ok=True)
    if any(folder.iterdir()):
        raise DataError(f"{folder}: got files that are no blind test's; expected none", do="give a new or empty folder")
    mapping = samples[["path", "label"]].sample(frac=1, random_state=seed).reset_index(drop=True)
    mapping.insert(0, "blind", [f"{index:04d}{Path(path).suffix.lower()}" for index, path in mapping.path.items()])
    write_table(mapping, key)
    for row in mapping.itertuples():
        shutil.copyfile(row.path, folder / row.blind)
    return mapping
