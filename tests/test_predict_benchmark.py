"""The benchmarks of prediction: that each part runs, and that the tables have a row for every way."""

import csv

import pytest

from benchmarks import figures_each, memory, ordinary, predict


@pytest.fixture
def folder(fixture_folder, tmp_path):
    predict.link_images(fixture_folder, 4, tmp_path / "in")
    return tmp_path / "in"


@pytest.mark.parametrize("options", [[], ["--fast"]])
def test_the_ordinary_script_writes_a_row_for_each_image(options, folder, tmp_path):
    ordinary.main([str(folder), str(tmp_path / "out.csv"), "--size", "64", *options])
    with open(tmp_path / "out.csv", newline="") as file:
        assert len(list(csv.reader(file))) == 1 + 4


def test_the_reference_recipe_draws_a_figure_of_each_image(folder, tmp_path):
    figures_each.main([str(folder), str(tmp_path / "out.csv"), "--backbone", "efficientnet_lite0"])
    assert len(list(tmp_path.glob("*.png"))) == 4 and (tmp_path / "out.csv").read_text().count("\n") == 1 + 4


def test_the_table_of_rates_has_a_row_for_every_way(capsys, fixture_folder, monkeypatch):
    monkeypatch.setattr(predict, "run_timed", lambda command: 1.0 + ("/one" not in "".join(command)))
    options = ["--profile", "short", "--data", str(fixture_folder), "--runtimes", "torch"]
    assert predict.main(options) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    ways = ["planetlib predict, torch", "ordinary script, float32", "ordinary script, channels last, bfloat16"]
    ways += ["reference recipe, a figure for each", "torch: decode and resize alone"]
    assert [row[0].removeprefix("| ") for row in rows[:5]] == ways and len(rows) == 7
    assert rows[0][1:3] == ["4.0 (4.0–4.0)", "7.0 (7.0–7.0)"] and rows[0][3].endswith("% |")


def test_the_table_of_memory_has_a_row_for_every_count(capsys, fixture_folder, trained_run):
    assert memory.main(["--data", str(fixture_folder), "--run", str(trained_run.run), "--files", "30"]) == 0
    (row,) = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert row[0] == "| 30" and int(row[1]) > 100
