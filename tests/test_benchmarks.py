"""The benchmarks: that their figures are what they say and their tables whole; those that train run in `make soak`."""

import csv
import importlib.util
import shutil
import time

import numpy as np
import pandas as pd
import pytest

from benchmarks import predict, predictors, robustness, strangers, train, train_head, trainers
from benchmarks.tables import average_seeds
from planetlib.classify import Classifier
from planetlib.data import check_samples, find_samples, split_samples
from planetlib.draw.planets import draw_planet
from planetlib.files.tables import write_table
from planetlib.settings import load_settings

EPOCHS = {"ours": 3, "ours-quick": 3, "reference": 2, "fastai": 2}


def rows_of(printed: str) -> list[list[str]]:
    """Cells of the lines of a Markdown table, without its head."""
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in lines if "---" not in line][1:]


def epochs_of(engine: str, seed: int, accuracy: list[float], **changes) -> pd.DataFrame:
    seconds = 10.0 * np.arange(1, len(accuracy) + 1)
    row = {"engine": engine, "seed": seed, "epoch": range(1, len(accuracy) + 1), "seconds": seconds, "ended": True}
    return pd.DataFrame({**row, "accuracy": accuracy, "total": seconds[-1] + 5, **changes})


@pytest.fixture
def strange(fixture_folder, tmp_path):
    """The fixture with a class that no network knows: a copy of red."""
    shutil.copytree(fixture_folder, tmp_path / "strange")
    shutil.copytree(fixture_folder / "red", tmp_path / "strange" / "venus")
    return tmp_path / "strange"


def test_a_mean_comes_with_half_the_range_of_the_seeds():
    scores = pd.DataFrame({"recipe": ["robust"] * 2, "seed": [0, 1], "photos, balanced": [90.0, 93.0]})
    assert rows_of(average_seeds(scores, "recipe")) == [["robust", "91.5 ± 1.5"]]


def test_until_is_the_first_hit_and_for_good_the_first_after_the_last_miss():
    found = train.find_seconds(epochs_of("a", 0, [0.5, 0.99, 0.98, 1.0, 0.99]), 0.99)
    assert found.to_dict() == {"until": 20, "for good": 40, "total": 55, "accuracy": 0.99}
    never = train.find_seconds(epochs_of("a", 0, [0.99, 0.5]), 0.99)
    assert never["until"] == 10 and np.isinf(never["for good"])


def test_what_is_never_reached_is_more_than_all_the_run_took():
    runs = [epochs_of("a", seed, accuracy) for seed, accuracy in enumerate([[1.0], [0.0, 1.0], [0.0, 0.0]])]
    runs.append(epochs_of("b", 0, [0.0, 0.0, 0.5], ended=False))
    reached, stopped = rows_of(train.make_table(pd.concat(runs), 0.99))
    assert reached[1:5] == ["20.0 (10.0 to > 25.0)", "20.0 (10.0 to > 25.0)", "25.0 (15.0 to 25.0)", "1.00"]
    assert stopped[1] == "> 35.0 (> 35.0 to > 35.0)" and stopped[3].endswith("stopped") and stopped[4] == "-"


def test_the_clock_stands_while_testing_and_stops_a_run_at_its_limit():
    clock = trainers.Clock(time.time() - 100, limit=110)
    clock.test(lambda: time.sleep(0.2) or 0.5)
    (seconds, accuracy), elapsed = clock.rows[0], time.time() - clock.started
    assert accuracy == 0.5 and elapsed - seconds < 0.15
    clock.started -= 20
    with pytest.raises(trainers.TimeUp):
        clock.test(lambda: 1.0)
    assert [accuracy for _, accuracy in clock.rows] == [0.5, 1.0]


def test_the_threshold_is_laid_by_known_photographs_alone():
    known, photo = np.array([1] * 20 + [0, 0] + [1] * 5 + [0, 0]) > 0, np.arange(29) < 22
    scores = np.r_[np.arange(20) / 100, 0.1, 0.9, [0.8] * 5, 0.15, 0.7]
    rated = strangers.rate_score(scores, known, photo)
    assert (rated["let through"], rated["let through, photos"]) == (50, 50)  # 0.1 and 0.15, of four
    assert rated["photos"] == pytest.approx(100 * (20 + 10.5) / 40) and rated["renders"] == 0


def test_strangers_are_told_by_their_score_or_by_low_confidence():
    table = pd.DataFrame({
        "label": ["mars", "mars", "venus", "venus"], "confidence": [0.9, 0.8, 0.7, 0.85], "prob_mars": 0.5,
        "unknown_score": [0.1, 0.2, 0.9, 0.8], "status": ["ok", "ok", "unknown", "ok"],
    })  # fmt: skip
    assert list(robustness.rate_strangers(table, table).values()) == [100, 50, 0]
    unscored = robustness.rate_strangers(table.assign(unknown_score=np.nan), table)
    assert unscored["strangers, AUROC"] == 75
    assert np.isnan(list(robustness.rate_strangers(table[:2], table).values())).all()


def test_pictures_trained_on_are_not_scored(strange, fixture_folder):
    samples, renders = split_samples(check_samples(find_samples(fixture_folder))), find_samples(strange)
    trained, scored = robustness.add_renders(samples, {"renders": renders, "photos": renders}, 0)
    more = trained[len(samples) :]
    assert set(more.split) == {"train", "val", "test"} and "venus" not in set(more.label)
    seen = set(more.path[more.split != "test"])
    assert not seen & set(scored["renders"].path) and "venus" in set(scored["renders"].label)
    assert len(seen) + len(scored["renders"]) == len(renders) == len(scored["photos"])


def test_a_recipe_is_scored_on_every_set(trained_run, samples, strange):
    test = samples[samples.split == "test"].assign(copied=False)
    sets = {"planets": test, **dict.fromkeys(robustness.ELSEWHERE, find_samples(strange))}
    scores, classes, mistakes = robustness.score_variant(Classifier.load(trained_run.run), sets)
    of_renders = classes[classes.set == "renders"]
    assert len(of_renders) == 3 and (of_renders.images == 8).all()
    assert scores["renders, worst class"] == 100 * of_renders.accuracy.min() <= scores["renders, balanced"]
    assert scores["planets, right"] == scores["planets, without copies"] > 50
    # The strangers are copies of a third of the known pictures: nothing can tell them from those.
    assert 16.6 <= scores["strangers, AUROC"] <= 83.4
    table = robustness.make_tables(pd.DataFrame([{"recipe": "robust", "seed": 0, **scores}])).splitlines()
    assert [line.count("|") for line in table] == [10] * 3 + [0] + [15] * 3
    right = classes.assign(images=classes.images * classes.accuracy)
    counted = pd.concat([right, mistakes]).groupby("set").images.sum()
    assert counted.to_dict() == pytest.approx(classes.groupby("set").images.sum().to_dict())


def test_a_recipe_is_reported_where_it_was_not_chosen():
    rows = [("vivid", 0, 90, 80, 60), ("vivid", 1, 92, 80, 60), ("plain", 0, 70, 90, 90), ("plain", 1, 70, 90, 92)]
    names = [f"{name}, balanced" for name in robustness.ELSEWHERE]  # renders, photos, websites
    scores = pd.DataFrame([*rows, (*robustness.EXTENDED, 0, 99, 99, 99)], columns=["recipe", "seed", *names])
    table = robustness.choose_without(scores).splitlines()[2:]
    assert table == [
        "| renders, balanced | plain | 90.5 | 70.0 |",  # vivid, at 91, was not to be had
        "| photos, balanced | plain | 80.5 | 90.0 |",
        "| websites, balanced | vivid | 85.5 | 60.0 |",
    ]


def test_a_part_of_the_drawing_is_left_out_while_a_variant_trains(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(
        robustness, "train_phase", lambda *given, **more: (drawn.append(draw_planet("mars", 32)), False)
    )
    samples = pd.DataFrame({"path": ["a"]})
    for variant in ("robust", "no maps", "no photography"):
        robustness.train_variant(variant, load_settings(run=tmp_path), samples)
    whole, flat, plain = (pictures[0].image for pictures in zip(*[iter(drawn)] * 2))
    assert (whole != flat).any() and (whole != plain).any() and (flat != plain).any()
    assert (draw_planet("mars", 32).image == whole).all()


def test_who_is_taken_for_whom_is_counted_over_seeds():
    rows = [("planets", "moon", "mars", 2), ("photos", "moon", "mars", 1), ("photos", "mars", "moon", 2)]
    mistakes = pd.DataFrame(rows, columns=["set", "label", "predicted", "images"]).assign(recipe="robust")
    table = robustness.count_mistakes(mistakes).splitlines()
    assert table[0] == "| recipe | label | predicted | photos | planets | all |"
    assert table[2:] == ["| robust | moon | mars | 1 | 2 | 3 |"]
    assert len(robustness.count_mistakes(mistakes[:0]).splitlines()) == 2


def test_scores_for_strangers_and_temperatures_have_their_tables(trained_run, samples, strange, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    shutil.copy(trained_run.run / "finetune.safetensors", run)
    write_table(samples, run / "samples.csv")
    strangers.main(["--runs", str(run), "--renders", str(strange), "--photos", str(strange), "--out", str(out)])
    found = pd.read_csv(out / "strangers.csv").set_index("score")
    assert len(found) == 5 and found.drop(columns="seed").stack().between(0, 100).all()
    assert found.AUROC.between(16.6, 83.4).all()
    assert pd.read_csv(out / "calibration.csv").temperature.str.contains("photos").sum() == 3
    assert len(rows_of(capsys.readouterr().out)) == 5 + 1 + 9  # two tables, the head of the second counted


def test_the_table_of_rates_has_a_row_for_every_way(capsys, fixture_folder, trained_run, monkeypatch):
    monkeypatch.setattr(predict, "run_timed", lambda command, folder: 1.0 + (folder.name != "one"))
    options = ["--profile", "short", "--data", str(fixture_folder), "--runtimes", "torch"]
    predict.main([*options, "--run", str(trained_run.run)])
    rows = rows_of(capsys.readouterr().out)
    ways = ["planetlib predict, torch", "ordinary script, float32", "ordinary script, channels last, bfloat16"]
    ways += ["reference recipe, a figure for each", "torch: decode and resize alone"]
    assert [row[0] for row in rows[:5]] == ways and len(rows) == 7
    assert rows[0][1:3] == ["4.0 (4.0–4.0)", "7.0 (7.0–7.0)"] and rows[0][3].endswith("%")


@pytest.mark.parametrize("options", [["ordinary"], ["ordinary", "--fast"], ["figures"]])
def test_a_peer_of_prediction_writes_a_row_for_each_image(options, fixture_folder, tmp_path):
    predict.link_images(fixture_folder, 4, tmp_path / "in")
    way, *fast = options
    predictors.main([way, str(tmp_path / "in"), str(tmp_path / "out.csv"), "--size", "64", *fast])
    with open(tmp_path / "out.csv", newline="") as file:
        assert len(list(csv.reader(file))) == 1 + 4
    assert len(list(tmp_path.glob("*.png"))) == 4 * (way == "figures")


@pytest.mark.campaign
def test_what_is_timed_in_processes_of_its_own_has_its_tables(capsys, fixture_folder):
    from benchmarks import answer, busy, device, inference, memory, startup

    memory.main(["--data", str(fixture_folder), "--files", "30"])
    startup.main(["--repeats", "1"])
    inference.main(["--repeats", "1"])
    answer.main(["--profile", "short"])
    busy.main(["--profile", "short"])
    device.main(["--profile", "short", "--repeats", "1", "--device", "cpu"])
    (files, peak, _), *rest = rows_of(capsys.readouterr().out)
    assert files == "30" and int(peak) > 100
    # of each table but the first the head is counted, too
    assert len(rest) == sum(1 + rows for rows in (len(startup.WAYS), 7, 5, 5, len(busy.WAYS), 10))


@pytest.mark.campaign
def test_the_table_of_recipes_is_repeated_from_the_runs(tmp_path, capsys):
    def run() -> pd.DataFrame:
        variants = ["robust", "reference", "robust, trained on renders too"]
        robustness.main(["--profile", "short", "--seeds", "0", "--out", str(tmp_path), "--variants", *variants])
        return pd.read_csv(tmp_path / "scores.csv")

    scores, trained = run(), tmp_path / "robust" / "seed0" / "finetune.safetensors"
    assert scores.recipe.tolist() == ["robust", "head only", "reference", "robust, trained on renders too"]
    assert set(pd.read_csv(tmp_path / "classes.csv").set) == {"planets", *robustness.ELSEWHERE}
    assert capsys.readouterr().out.strip() == (tmp_path / "table.md").read_text(encoding="utf-8").strip()
    written = trained.stat().st_mtime_ns
    pd.testing.assert_frame_equal(run(), scores)
    assert trained.stat().st_mtime_ns == written


@pytest.mark.campaign
def test_every_engine_runs_in_a_process_of_its_own(tmp_path):
    there = [name for name in EPOCHS if name != "fastai" or importlib.util.find_spec("fastai")]
    train.main(["--profile", "short", "--seeds", "1", "--out", str(tmp_path), "--engines", *there])
    epochs = pd.read_csv(tmp_path / "epochs.csv")
    assert epochs.groupby("engine").size().to_dict() == {name: EPOCHS[name] for name in there}
    assert (epochs.seed == 1).all() and epochs.accuracy.between(0, 1).all() and epochs.ended.all()
    for _, part in epochs.groupby("engine"):
        assert part.seconds.is_monotonic_increasing and part.total.iloc[0] > part.seconds.iloc[-1] > 0
    assert len(rows_of((tmp_path / "table.md").read_text(encoding="utf-8"))) == len(there)


@pytest.mark.campaign
def test_every_way_of_training_a_head_runs(tmp_path):
    train_head.main(["--profile", "short", "--repeats", "1", "--out", str(tmp_path)])
    times = pd.read_csv(tmp_path / "seconds.csv")
    assert times.way.tolist() == list(train_head.WAYS) and (times.seconds > 0).all()
    assert [row[0] for row in rows_of((tmp_path / "table.md").read_text(encoding="utf-8"))] == list(train_head.WAYS)
