"""The blind test: names that tell nothing, in a folder that held nothing else."""

from pathlib import Path

import pandas as pd
import pytest

from planetlib.files.tables import DataError
from planetlib.study.blind import write_blind_test


def test_pictures_are_copied_under_names_that_tell_nothing(samples, tmp_path):
    mapping = write_blind_test(samples, tmp_path / "blind", seed=1)
    assert sorted(path.name for path in (tmp_path / "blind").iterdir()) == sorted(mapping.blind)
    assert set(mapping.blind.str.fullmatch(r"\d{4}\.png")) == {True}
    for row in mapping.itertuples():
        assert (tmp_path / "blind" / row.blind).read_bytes() == Path(row.path).read_bytes()
    assert list(mapping.label) != sorted(mapping.label)
    assert pd.read_csv(tmp_path / "blind_mapping.csv").equals(mapping)


def test_an_earlier_one_is_replaced_and_nothing_else(samples, tmp_path):
    write_blind_test(samples, tmp_path / "blind")
    assert len(write_blind_test(samples.head(5), tmp_path / "blind")) == 5 == len(list((tmp_path / "blind").iterdir()))
    (tmp_path / "blind" / "mine.png").touch()
    with pytest.raises(DataError, match="got files that are no blind test's"):
        write_blind_test(samples, tmp_path / "blind")
    assert (tmp_path / "blind" / "mine.png").exists()
