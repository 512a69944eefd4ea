"""The comparison of scores for «none of these»: that its figures are what they say, and that it runs."""

import importlib.util
import shutil

import numpy as np
import pandas as pd
import pytest

from planetlib.files.tables import write_table
from planetlib.settings import PROJECT

spec = importlib.util.spec_from_file_location("unknowns", PROJECT / "benchmarks" / "unknowns.py")
unknowns = importlib.util.module_from_spec(spec)
spec.loader.exec_module(unknowns)


def test_the_threshold_is_laid_by_known_photographs_alone():
    known, photo = np.array([1] * 20 + [0, 0] + [1] * 5 + [0, 0]) > 0, np.arange(29) < 22
    scores = np.r_[np.arange(20) / 100, 0.1, 0.9, [0.8] * 5, 0.15, 0.7]
    rated = unknowns.rate_score(scores, known, photo)
    assert (rated["let through"], rated["let through, photos"]) == (50, 50)  # 0.1 and 0.15, of four
    assert rated["photos"] == pytest.approx(100 * (20 + 10.5) / 40) and rated["renders"] == 0


def test_it_makes_both_tables(trained_run, samples, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(trained_run.run / "finetune.pt", run)
    write_table(samples, run / "samples.csv")
    shutil.copytree(trained_run.data, tmp_path / "data")
    shutil.copytree(tmp_path / "data" / "red", tmp_path / "data" / "venus")
    folders = ["--renders", str(tmp_path / "data"), "--photos", str(tmp_path / "data")]
    assert unknowns.main(["--runs", str(run), *folders, "--out", str(tmp_path / "out")]) == 0
    found = pd.read_csv(tmp_path / "out" / "unknowns.csv").set_index("score")
    assert len(found) == 5 and found.drop(columns="seed").stack().between(0, 100).all()
    # The unknowns are copies of a third of the known pictures: nothing can tell them from those.
    assert found.AUROC.between(100 / 6, 500 / 6).all()
    calibration = pd.read_csv(tmp_path / "out" / "calibration.csv")
    assert calibration.temperature.str.contains("photos").sum() == 3
    assert "| detector (outlier exposure, Hendrycks et al. 2019) |" in capsys.readouterr().out
