"""The benchmarks of training: that their figures are what they say, and that every engine runs."""

import importlib.util
import time

import numpy as np
import pandas as pd
import pytest

from benchmarks import stage_one, train, trainers

ENGINES = ["ours", "ours-quick", "reference", "fastai", "script"]
PEER_EPOCHS = {"ours": 3, "ours-quick": 3, "reference": 2, "fastai": 2, "script": 2}


def epochs_of(engine: str, seed: int, accuracy: list[float], **changes) -> pd.DataFrame:
    seconds = 10.0 * np.arange(1, len(accuracy) + 1)
    row = {"engine": engine, "seed": seed, "epoch": range(1, len(accuracy) + 1), "seconds": seconds, "ended": True}
    return pd.DataFrame({**row, "accuracy": accuracy, "total": seconds[-1] + 5, **changes})


def test_until_is_the_first_hit_and_for_good_the_first_after_the_last_miss():
    found = train.find_seconds(epochs_of("a", 0, [0.5, 0.99, 0.98, 1.0, 0.99]), 0.99)
    assert found.to_dict() == {"until": 20, "for good": 40, "total": 55, "accuracy": 0.99}
    never = train.find_seconds(epochs_of("a", 0, [0.99, 0.5]), 0.99)
    assert never["until"] == 10 and np.isinf(never["for good"])


def test_what_is_never_reached_is_more_than_all_the_run_took():
    runs = [epochs_of("a", seed, accuracy) for seed, accuracy in enumerate([[1.0], [0.0, 1.0], [0.0, 0.0]])]
    runs.append(epochs_of("b", 0, [0.0, 0.0, 0.5], ended=False))
    lines = train.make_table(pd.concat(runs), 0.99).splitlines()
    assert (
        lines[2]
        == "| a | 20.0 (10.0 to > 25.0) | 20.0 (10.0 to > 25.0) | 25.0 (15.0 to 25.0) | 1.00 | 100.0 (0.0 to 100.0) |"
    )
    assert lines[3].startswith("| b | > 35.0 (> 35.0 to > 35.0) |") and "35.0), stopped | - |" in lines[3]


def test_the_clock_stands_while_testing_and_stops_a_run_at_its_limit():
    clock = trainers.Clock(time.time() - 10, limit=10.2)
    clock.test(lambda: time.sleep(0.3) or 0.5)
    assert clock.seconds < 10.2 and clock.rows[0][1] == 0.5
    clock.started -= 1
    with pytest.raises(trainers.TimeUp):
        clock.test(lambda: 1.0)
    assert [accuracy for _, accuracy in clock.rows] == [0.5, 1.0]


def test_every_engine_runs_in_a_process_of_its_own(tmp_path, capsys):
    there = [name for name in ENGINES if name != "fastai" or importlib.util.find_spec("fastai")]
    options = ["--profile", "short", "--seeds", "1", "--out", str(tmp_path), "--engines", *there]
    assert train.main(options) == 0
    epochs = pd.read_csv(tmp_path / "epochs.csv")
    assert epochs.groupby("engine").size().to_dict() == {name: PEER_EPOCHS[name] for name in there}
    assert (epochs.seed == 1).all() and epochs.accuracy.between(0, 1).all() and epochs.ended.all()
    for _, part in epochs.groupby("engine"):
        assert part.seconds.is_monotonic_increasing and part.total.iloc[0] > part.seconds.iloc[-1] > 0
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert table in capsys.readouterr().out and len(table.splitlines()) == 2 + len(there)


def test_every_way_of_stage_one_runs(tmp_path, capsys):
    assert stage_one.main(["--profile", "short", "--repeats", "1", "--out", str(tmp_path)]) == 0
    times = pd.read_csv(tmp_path / "seconds.csv")
    assert times.way.tolist() == list(stage_one.WAYS) and (times.seconds > 0).all()
    assert capsys.readouterr().out.splitlines()[-2].startswith("| script | ")
