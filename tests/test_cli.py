"""The command line: what each command prints, writes and returns, on good folders and on bad ones."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import planetlib.cli.commands
from planetlib import __version__
from planetlib.checkpoint import Checkpoint
from planetlib.cli import main, make_parser
from planetlib.data import check_samples, find_samples, split_samples
from planetlib.explain import DEFAULT_METHOD, METHODS
from planetlib.files.whole import LOCK, lock_folder
from planetlib.images import read_image
from planetlib.model import Network
from planetlib.settings import load_settings

COLUMNS = "path label predicted confidence unknown_score status error note prob_blue prob_green prob_red".split()
COMMANDS = ["", "data", "data fetch", "data check", "data split", "train", "crossval", "evaluate", "predict", "explain"]
COMMANDS += ["faithful", "export", "notebooks"]
TINY = ["--backbone", "toy", "--image-size", 64, "--outliers", 2, "--head-epochs", 3, "--finetune-epochs", 1]
TINY += ["--batch-size", 8, "--workers", 0, "--precision", "float32", "--device", "cpu", "--no-audit"]


class Answer(NamedTuple):
    """What a command gave."""

    code: int
    out: str
    err: str

    def refused(self) -> str:
        """The one line on stderr of a command that could not be used."""
        assert self.code == 2 and self.err.count("\n") == 1 and self.err.startswith("planetlib: "), self
        return self.err.removeprefix("planetlib: ").rstrip()


@pytest.fixture
def run(capsys):
    """Calls a command in this process; paths and numbers need not be made strings."""

    def call(*arguments) -> Answer:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse's own
            code = stop.code
        return Answer(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def finished(fixture_folder, tmp_path_factory) -> Path:
    """A run that the command line trained; to be read only."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main([*map(str, ["train", "--data", fixture_folder, "--run", folder, *TINY])]) == 0
    return folder


def copy_picture(source: str | Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(Path(source).read_bytes())
    return target


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_lists_the_exit_codes(command, run):
    answer = run(*command.split(), "--help")
    assert answer.code == 0 and answer.err == ""
    assert answer.out.startswith(f"usage: {f'planetlib {command}'.strip()} ")
    assert all(code in answer.out for code in ("0 done", "1 done, but", "2 not usable", "130 interrupted"))
    if not command:
        assert re.findall(r"^    (\w+)", answer.out, re.MULTILINE) == [name for name in COMMANDS[1:] if " " not in name]


HEAVY = {"torch", "numpy", "pandas", "sklearn", "matplotlib", "ipywidgets", "cv2", "PIL"}


HELP = "from planetlib.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass"


@pytest.mark.parametrize("ask", ["import planetlib", HELP], ids=["import", "help"])
def test_help_and_import_answer_at_once_without_loading_torch(ask):
    ask = f"import sys, time; started = time.process_time(); {ask}\nprint(time.process_time() - started, *sys.modules)"
    seconds, *modules = subprocess.check_output([sys.executable, "-c", ask], text=True).splitlines()[-1].split()
    assert not HEAVY & set(modules)
    assert float(seconds) < 0.5


HEAVY_FOR_AN_ANSWER = {"torchvision", "torch._dynamo", "timm", "sympy", "sklearn", "scipy", "matplotlib", "seaborn",
                       "ipywidgets", "tensorboard", "pytorch_grad_cam", "openvino", "ray", "astropy", "planetlib.train",
                       "planetlib.evaluate", "planetlib.draw", "planetlib.show.figures"}  # fmt: skip
TO_AN_ANSWER = {"cli", "batch", "files", "nets", "show", "calibrate", "checkpoint", "classify", "data", "images",
                "model", "settings", "transforms"}  # fmt: skip


@pytest.fixture(scope="session")
def usual_run(tmp_path_factory) -> Path:
    """A run folder of the default backbone, with random weights."""
    folder = tmp_path_factory.mktemp("usual")
    weights = Network("efficientnet_lite0", 2, weights="random").state_dict()
    Checkpoint("efficientnet_lite0", "linear", ["a", "b"], 32, "pad", weights).save(folder / "head.safetensors")
    return folder


def test_answers_and_maps_import_what_they_need_and_no_more(usual_run, fixture_folder, tmp_path):
    words = [*map(str, (fixture_folder / "red" / "red 1.png", "--run", usual_run, "--out", tmp_path))]
    code = f"""
import sys
from planetlib.cli import main
main(["predict", *{words!r}])
print(*sys.modules)
main(["explain", *{words!r}])
main(["explain", *{words!r}, "--method", "eigencam"])
print(*sys.modules)
"""
    *_, for_an_answer, _, _, for_a_map = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    assert not HEAVY_FOR_AN_ANSWER & {*for_a_map.split()}
    rooms = {name.split(".")[1] for name in for_an_answer.split() if name.startswith("planetlib.")}
    assert rooms <= TO_AN_ANSWER


def test_the_version_is_the_librarys(run):
    assert run("--version") == (0, f"planetlib {__version__}\n", "")


OUT_OF_BOUNDS = [
    ("train", "image-size", 31, 32, 4096),
    ("train", "seed", -1, 0, 2**32 - 1),
    ("train", "finetune-lr", "nan", 1e-12, 1000),
    ("predict", "batch-size", 10**9, 1, 65_536),
]


@pytest.mark.parametrize("command, option, value, least, most", OUT_OF_BOUNDS)
def test_a_number_out_of_its_bounds_is_refused_with_them(
    command, option, value, least, most, run, trained_run, fixture_folder, tmp_path
):
    order = writing_commands(fixture_folder, trained_run.run, tmp_path / "out")[command]
    answer = run(*order, f"--{option}={value}")
    assert answer.code == 2 and f"argument --{option}: got " in answer.err
    assert answer.err.rstrip().endswith(f"expected {least:g} to {most:g}") and not (tmp_path / "out").exists()


def test_an_interrupt_gives_130_and_no_traceback(run, monkeypatch, fixture_folder):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("planetlib.data.find_samples", interrupt)
    assert run("data", "check", "--data", fixture_folder) == (130, "", "planetlib: interrupted\n")


# data


@pytest.fixture
def spoilt(fixture_folder, tmp_path) -> Path:
    """The fixture with two bad files among the red ones."""
    shutil.copytree(fixture_folder, tmp_path / "spoilt")
    (tmp_path / "spoilt" / "red" / "words.jpg").write_text("these are words")
    (tmp_path / "spoilt" / "red" / "empty.png").touch()
    return tmp_path / "spoilt"


BAD_LINES = [
    "unreadable: {}/red/empty.png: empty file",
    "unreadable: {}/red/words.jpg: not an image, whatever its name says",
]


def test_names_of_files_and_classes_do_not_steer_the_terminal(run, fixture_folder, tmp_path):
    hostile = "\x1b[2J\u202emars\nok"
    copy_picture(fixture_folder / "red" / "red 1.png", tmp_path / "data" / hostile / f"a{hostile}.png")
    copy_picture(fixture_folder / "red" / "red 1.png", tmp_path / "data" / "other" / "a.png")
    (tmp_path / "data" / hostile / f"{hostile}.png").touch()
    answer = run("data", "check", "--data", tmp_path / "data")
    shown = r"\x1b[2J\u202emars\nok"
    assert answer.code == 1 and not set(answer.out + answer.err) & {"\x1b", "\u202e"}
    unreadable = answer.err.splitlines()[-1]
    assert unreadable == f"unreadable: {tmp_path}/data/{shown}/{shown}.png: empty file"
    assert f"\n{shown} " in answer.out and "label conflict: copies with different labels: " in answer.err
    missing = run("data", "check", "--data", tmp_path / hostile).refused()
    assert missing.startswith(f"{tmp_path}/{shown}: no such folder")


def test_check_counts_and_lists_copies_and_names_those_with_different_labels(run, fixture_folder, tmp_path):
    folder = shutil.copytree(fixture_folder, tmp_path / "data")
    answer = run("data", "check", "--data", folder)
    assert answer.code == 0 and answer.err == ""
    *_, blue, green, red, copies = answer.out.splitlines()
    assert [line.split() for line in (blue, green, red)] == [["blue", "8"], ["green", "8"], ["red", "8"]]
    assert copies == "0 pictures have copies, in 0 groups"
    copy_picture(folder / "red" / "red 0.png", folder / "red" / "again.png")
    copy_picture(folder / "red" / "red 1.png", folder / "blue" / "astray.png")
    answer = run("data", "check", "--data", folder)
    assert answer.code == 1 and "4 pictures have copies, in 2 groups" in answer.out
    assert re.search(r"group \d+: .*red/again.png, .*red/red 0.png", answer.out)
    (conflict,) = answer.err.splitlines()
    assert conflict.startswith("label conflict: copies with different labels: ")
    assert "blue/astray.png (blue)" in conflict and "red/red 1.png (red)" in conflict
    assert run("data", "check", "--data", folder, "--no-audit").code == 0


def test_check_names_each_unreadable_file_and_returns_1(run, spoilt, tmp_path):
    answer = run("data", "check", "--data", spoilt, "--out", tmp_path / "deep" / "checked.csv")
    assert answer.code == 1
    assert answer.err.splitlines() == [line.format(spoilt) for line in BAD_LINES]
    assert answer.out.splitlines()[-2].split() == ["red", "8", "2"]
    assert pd.read_csv(tmp_path / "deep" / "checked.csv").status.value_counts().to_dict() == {"ok": 24, "unreadable": 2}


def test_split_writes_the_table_with_whole_paths_and_prints_what_it_holds(run, spoilt, tmp_path, monkeypatch):
    before = contents(spoilt)
    monkeypatch.chdir(tmp_path)
    answer = run("data", "split", "--data", "spoilt", "--out", "samples.csv", "--seed", 1, "--no-audit")
    assert answer.code == 1 and answer.err.splitlines() == [line.format(spoilt) for line in BAD_LINES]
    expected = split_samples(check_samples(find_samples(spoilt)), 1)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "samples.csv"), expected, check_dtype=False)
    assert answer.out.splitlines()[-1].split() == ["red", "6", "1", "1"] and contents(spoilt) == before


def test_fetch_says_how_much_it_has_downloaded(run, tmp_path, monkeypatch):
    monkeypatch.setattr("planetlib.files.download.fetch_planets", lambda folder: 4)
    assert run("data", "fetch", "--data", tmp_path) == (0, f"{tmp_path}: 4 pictures downloaded, the set is whole\n", "")


# train


def test_train_says_what_is_kept_and_phases_can_be_trained_apart(run, finished, fixture_folder, tmp_path):
    kept = []
    for phase in ("head", "finetune"):
        answer = run("train", "--data", fixture_folder, "--run", tmp_path / "run", "--phase", phase, *TINY)
        assert answer.code == 0 and answer.err == ""
        kept += [line for line in answer.out.splitlines() if " kept, validation accuracy " in line]
    assert [line.split(":")[0] for line in kept] == ["head", "finetune"]
    assert kept[0].endswith(f"({tmp_path / 'run' / 'head.safetensors'})") and "epoch 1 of 1 kept" in kept[1]
    wanted = {f"{phase}{end}" for phase in ("head", "finetune") for end in (".safetensors", "_state.pt")}
    wanted |= {LOCK, "MODEL_CARD.md", "history.csv", "samples.csv", "tensorboard"}
    assert set(names(tmp_path / "run")) == wanted
    columns = "phase epoch learning_rate train_loss train_accuracy val_loss val_accuracy seconds".split()
    assert list(pd.read_csv(tmp_path / "run" / "history.csv")) == columns
    assert (tmp_path / "run" / "finetune.safetensors").read_bytes() == (finished / "finetune.safetensors").read_bytes()


def test_a_run_is_not_overwritten_unless_asked_and_resuming_a_finished_one_changes_nothing(
    run, finished, fixture_folder
):
    before, order = contents(finished), ["train", "--data", fixture_folder, "--run", finished, *TINY]
    for more in ([], ["--phase", "head"], ["--phase", "finetune"], ["--resume", "--overwrite"]):
        message = run(*order, *more).refused()
        assert message.startswith(f"{finished}: ") and "--resume" in message and "--overwrite" in message
    answer = run(*order, "--resume")
    assert answer.code == 0 and answer.err == "" and "of 3 kept" in answer.out and "of 1 kept" in answer.out
    assert contents(finished) == before


def test_overwrite_starts_anew(run, finished, fixture_folder, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    order = ["train", "--data", fixture_folder, "--run", tmp_path / "run", "--phase", "head", *TINY, "--seed", 1]
    answer = run(*order, "--overwrite")
    assert answer.code == 0 and "of 3 kept" in answer.out and len(pd.read_csv(tmp_path / "run" / "history.csv")) == 3
    assert (tmp_path / "run" / "head.safetensors").read_bytes() != (finished / "head.safetensors").read_bytes()
    assert not (tmp_path / "run" / "finetune.safetensors").exists()


@pytest.mark.parametrize("changes, told", [
    (["--phase", "finetune", "--image-size", 96], "image_size 64 (now 96)"),
    (["--backbone", "lite9"], "unknown backbone 'lite9'"),
])  # fmt: skip
def test_a_refused_overwrite_changes_nothing(changes, told, run, finished, fixture_folder, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    order = ["train", "--data", fixture_folder, "--run", tmp_path / "run", *TINY, "--overwrite", "--seed", 3, *changes]
    before = contents(tmp_path / "run")
    assert told in run(*order).refused()
    assert contents(tmp_path / "run") == before


def test_checkpoints_without_their_states_are_a_run_and_states_without_a_checkpoint_are_told(
    run, finished, fixture_folder, tmp_path
):
    order = ["train", "--data", fixture_folder, "--run", tmp_path / "run", *TINY]
    told = {
        ("_state.pt",): "holds a run",
        ("_state.pt", "--phase", "head"): "holds a run",
        ("_state.pt", "--resume"): "no head_state.pt to go on from: --overwrite starts anew",
        (".safetensors", "--resume"): "--overwrite starts anew",
    }
    for (lost, *more), said in told.items():
        shutil.copytree(finished, tmp_path / "run")
        for phase in ("head", "finetune"):
            (tmp_path / "run" / f"{phase}{lost}").unlink()
        before = contents(tmp_path / "run")
        assert said in run(*order, *more).refused() and contents(tmp_path / "run") == before
        shutil.rmtree(tmp_path / "run")
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "finetune_state.pt").unlink()
    assert "no finetune_state.pt to go on from" in run(*order, "--resume").refused()


def test_a_history_that_was_damaged_is_begun_anew(run, finished, fixture_folder, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "history.csv").write_bytes(b"\xff\xfe")
    assert run("train", "--data", fixture_folder, "--run", tmp_path / "run", *TINY, "--resume").code == 0
    assert contents(tmp_path / "run")["history.csv"] == contents(finished)["history.csv"]


@pytest.mark.parametrize("place", [".", "run", "red/run"])
def test_a_run_inside_the_folder_of_classes_is_refused(place, run, spoilt):
    message = run("train", "--data", spoilt, "--run", spoilt / place, *TINY).refused()
    assert "would be a class" in message and not (spoilt / place / "samples.csv").exists()


def test_an_unreadable_picture_is_named_and_resuming_with_other_classes_is_refused(run, spoilt, tmp_path):
    order = ["train", "--data", spoilt, "--run", tmp_path / "run", "--phase", "head", *TINY]
    answer = run(*order)
    assert answer.code == 1 and answer.err.splitlines() == [line.format(spoilt) for line in BAD_LINES]
    before = contents(tmp_path / "run")
    shutil.copytree(spoilt / "red", spoilt / "violet")
    message = run(*order, "--resume").refused()
    assert message.startswith(f"{spoilt}: got the classes blue, green, red, violet;") and "samples.csv" in message
    assert contents(tmp_path / "run") == before


def test_a_learning_rate_that_diverges_is_told(run, fixture_folder, tmp_path):
    answer = run("train", "--data", fixture_folder, "--run", tmp_path, "--phase", "head", *TINY, "--head-lr", 1000)
    assert answer.code == 0
    assert re.match(
        r"head: got the validation loss \S+, expected 1.1 or less.* lower --head-lr, now 1\S+\n", answer.err
    )


# crossval


def test_crossval_prints_an_interval_and_goes_on_where_it_stopped_unless_elsewhere(run, fixture_folder, tmp_path):
    order = ["crossval", "--data", fixture_folder, "--run", tmp_path, "--folds", 2, "--seeds", 3, 3, *TINY]
    first = run(*order)
    assert first.code == 0 and "% Wilson interval " in first.out and "(24 images" in first.out
    assert " accuracy  calibration_error  mean_confidence_when_wrong  called_unknown\n    3 " in first.out
    assert len(pd.read_csv(tmp_path / "crossval_predictions.csv")) == 24
    assert list(pd.read_csv(tmp_path / "crossval.csv").seed) == [3, 3]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = run(*order)
    assert again.code == 0 and first.out.endswith(again.out)  # but for the table of the split
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
    order[2] = fixture_folder / "red"
    assert "lists pictures from elsewhere than" in run(*order).refused()


# evaluate


WRITTEN = {LOCK, "predictions.csv", "report.csv", "report.json", "confusion.csv", "calibration.csv", "confusion.png",
           "confusion_normalised.png", "class_accuracy.png", "calibration.png", "predictions.png"}  # fmt: skip


def test_evaluate_takes_the_test_pictures_of_the_run_and_writes_into_it(run, finished, tmp_path):
    for name in ("finetune.safetensors", "samples.csv"):
        copy_picture(finished / name, tmp_path / name)
    answer, out = run("evaluate", "--run", tmp_path / "finetune.safetensors"), tmp_path / "evaluation"
    assert answer.code == 0 and answer.err == "" and answer.out.endswith(f"written to {out}\n")
    samples = pd.read_csv(finished / "samples.csv")
    assert pd.read_csv(out / "predictions.csv").path.tolist() == samples.path[samples.split == "test"].tolist()
    assert set(names(out)) - {"wrong.png"} == WRITTEN
    report = json.loads((out / "report.json").read_text())
    assert report["images"] == 3 and {"accuracy", "balanced_accuracy"} <= set(report)
    assert f"accuracy: {report['accuracy']:.4g}\n" in answer.out


@pytest.fixture
def with_stranger(spoilt, fixture_folder) -> Path:
    """`spoilt` with one picture of a class that no network here knows."""
    copy_picture(fixture_folder / "red" / "red 1.png", spoilt / "venus" / "v.png")
    return spoilt


def test_evaluate_of_a_whole_folder_counts_strangers_as_unknowns(run, finished, with_stranger, tmp_path):
    out = tmp_path / "out"
    answer = run("evaluate", "--run", finished, "--data", with_stranger, "--split", "all", "--out", out, "--no-audit")
    assert answer.code == 1 and "counted as unknowns: venus\n" in answer.out
    assert answer.err.splitlines() == [line.format(with_stranger) for line in BAD_LINES]
    report = json.loads((out / "report.json").read_text())
    assert report["unknowns"] == 1 and 0 <= report["unknown_auroc"] <= 1 and "unknowns.png" in names(out)
    assert (report["images"], report["unreadable"], list(report["classes"])) == (24, 2, ["blue", "green", "red"])
    scores = pd.DataFrame(report["classes"]).T
    assert report["accuracy"] == pytest.approx(scores.right.sum() / 24)
    assert report["balanced_accuracy"] == pytest.approx(scores.recall.mean())


@pytest.mark.parametrize("is_old", [False, True])
def test_evaluate_of_a_folder_deals_it_as_the_training_did(is_old, run, finished, with_stranger, tmp_path):
    checkpoint = Checkpoint.load(finished / "finetune.safetensors")
    if is_old:  # from before there was a choice
        del checkpoint.recipe["test_share"]
    checkpoint.save(tmp_path / "a.safetensors")
    order = ["evaluate", "--run", tmp_path / "a.safetensors", "--data", with_stranger, "--out", tmp_path / "out"]
    answer = run(*order, "--no-audit")
    assert answer.code == 1  # although the unreadable ones are in no split
    assert answer.err.splitlines() == [line.format(with_stranger) for line in BAD_LINES]
    samples, written = pd.read_csv(finished / "samples.csv"), pd.read_csv(tmp_path / "out" / "predictions.csv")
    dealt = [Path(p).name for p in samples.path[samples.split == "test"]]
    assert [Path(p).name for p in written.path] == [*dealt, "v.png"]  # it has seen no venus, so all are test pictures


def test_evaluate_leaves_out_what_the_run_was_trained_on_though_its_folder_has_grown(run, finished, spoilt, tmp_path):
    for name in ("red 90.png", "red 91.png"):  # the classes are dealt otherwise now
        Image.effect_noise((64, 64), 50).convert("RGB").save(spoilt / "red" / name)
    order = ["evaluate", "--run", finished, "--data", spoilt, "--out", tmp_path / "out", "--no-audit"]
    answer = run(*order)
    samples, tested = pd.read_csv(finished / "samples.csv"), pd.read_csv(tmp_path / "out" / "predictions.csv")
    learnt = {Path(path).name for path in samples.path[samples.split != "test"]}
    assert "left out, as the run was trained on them: 2 pictures\n" in answer.out
    assert len(tested) == 2 and not learnt & {Path(path).name for path in tested.path}


def test_evaluate_of_strangers_alone_is_refused(run, trained_run, fixture_folder, tmp_path):
    for label in ("venus", "pluto"):
        copy_picture(fixture_folder / "red" / "red 1.png", tmp_path / "data" / label / "a.png")
    message = run("evaluate", "--run", trained_run.run, "--data", tmp_path / "data").refused()
    assert "pluto, venus" in message and "blue, green, red" in message


# predict


@pytest.fixture
def predict(run, trained_run, tmp_path):
    """Predicts into `tmp_path / "out"`; returns the answer and the written table."""

    def call(*arguments) -> tuple[Answer, pd.DataFrame]:
        answer = run("predict", *arguments, "--run", trained_run.run, "--out", tmp_path / "out")
        words = dict.fromkeys(COLUMNS[:3] + COLUMNS[5:8], str)
        numbers = {"na_values": {name: [""] for name in ("confidence", "unknown_score", *COLUMNS[8:])}}
        return answer, pd.read_csv(tmp_path / "out" / "predictions.csv", dtype=words, keep_default_na=False, **numbers)

    return call


@pytest.fixture
def nested(fixture_folder, tmp_path) -> Path:
    """A folder with names that trip: spaces, accents, the same name twice, and one bad file."""
    for number, name in enumerate(["a/same.png", "b/deep/same.png", "mes étés/la lune à midi, 1.png", "red/x.PNG"]):
        copy_picture(fixture_folder / "red" / f"red {number}.png", tmp_path / "in" / name)
    (tmp_path / "in" / "b" / "bad.jpg").write_text("no picture")
    return tmp_path / "in"


def test_predict_goes_on_after_a_bad_file_and_names_and_draws_it_and_those_of_equal_name(
    predict, nested, fixture_folder, tmp_path
):
    answer, table = predict(nested, fixture_folder / "blue" / "blue 1.png")
    bad = nested / "b" / "bad.jpg"
    assert answer.code == 1 and answer.err == f"unreadable: {bad}: not an image, whatever its name says\n"
    *answers, predicted, drawn = answer.out.splitlines()
    shown = ["same.png", "same.png", "la lune à midi, 1.png", "x.PNG", "blue 1.png"]
    assert [line.partition(": ")[0] for line in answers] == shown  # the bad one is told on stderr
    assert predicted.startswith("6 pictures predicted: ") and drawn.startswith("6 of them drawn: ")
    assert list(table.columns) == COLUMNS
    assert table.label.tolist() == ["", "", "", "", "red", "blue"]
    row = table[table.path == str(bad)].iloc[0]
    assert (row.status, row.error, row.predicted) == ("unreadable", "not an image, whatever its name says", "")
    good = table[table.path != str(bad)]
    assert set(good.status) <= {"ok", "unknown"}
    assert good.filter(like="prob_").sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)

    out, stems = tmp_path / "out", ["same", "bad", "same", "la lune à midi, 1", "x", "blue 1"]
    assert names(out) == [LOCK, "contact_sheet.png", "pictures", "predictions.csv"]
    assert names(out / "pictures") == [f"{number:06d}_{stem}.jpg" for number, stem in enumerate(stems)]
    first, second = (read_image(out / "pictures" / f"00000{number}_same.jpg") for number in (0, 2))
    assert (first != second).any()
    assert read_image(out / "contact_sheet.png").shape == (4 + 192 + 34 + 4, 6 * (192 + 4) + 4, 3)


@pytest.mark.parametrize("choice, drawn", [("none", 0), ("sample", 3), ("all", 8)])
def test_predict_draws_a_sample_or_all_or_nothing(choice, drawn, predict, fixture_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(planetlib.cli.commands, "SAMPLE_PICTURES", 3)
    answer, table = predict(fixture_folder / "red", "--pictures", choice, "--batch-size", 2)
    assert answer.code == 0 and answer.err == "" and (table.predicted == "red").mean() > 0.8
    found = [path.name for path in sorted(tmp_path.glob("out/pictures/*"))]
    assert found == [f"{index:06d}_red {index}.jpg" for index in range(drawn)]
    assert (f"\n{drawn} of them drawn: " if drawn else "8 pictures predicted: ") in answer.out
    assert drawn or names(tmp_path / "out") == [LOCK, "predictions.csv"]


def test_predict_answers_on_the_screen_for_the_first_pictures(predict, fixture_folder, tmp_path, monkeypatch):
    Image.new("RGB", (40, 40), (60, 90, 220)).save(
        tmp_path / "two.gif", save_all=True, append_images=[Image.new("L", (40, 40))]
    )
    monkeypatch.setattr(planetlib.cli.commands, "SHOWN", 3)
    answer, table = predict(tmp_path / "two.gif", fixture_folder / "red", "--pictures", "none")
    *lines, count = answer.out.splitlines()
    assert len(lines) == 3 and count.startswith("9 pictures predicted")
    for line, row in zip(lines, table.itertuples()):
        assert line.startswith(f"{Path(row.path).name}: ") and f"{row.predicted} {row.confidence:.0%}" in line
        assert ("unknown" in line) == (row.status == "unknown") and (row.note in line)
    assert lines[0].endswith("(first of several frames)")
    assert predict(tmp_path / "two.gif", "--pictures", "none")[0].out.splitlines()[1].startswith("1 picture predicted")


def test_without_run_and_out_the_network_of_make_run_answers(run, fixture_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parsed = make_parser().parse_args(["predict", "a.png"])
    assert (parsed.run, parsed.out) == (load_settings().run, Path("answers"))


# explain


def test_explain_draws_a_picture_of_the_predicted_class_by_the_method_asked_for(
    run, trained_run, fixture_folder, tmp_path
):
    picture, written = fixture_folder / "green" / "green 2.png", tmp_path / "000000_green 2_green_gradcam.png"
    answer = run("explain", picture, "--run", trained_run.run, "--out", tmp_path, "--method", "gradcam")
    assert answer == (0, f"{written}\n", "")
    assert np.ptp(read_image(written)) > 200


def test_explain_names_bad_files_goes_on_and_keeps_equal_names_apart(run, trained_run, nested, tmp_path):
    files = [nested / "a/same.png", nested / "b/bad.jpg", nested / "b/deep/same.png"]
    answer = run("explain", *files, "--run", trained_run.run, "--out", tmp_path / "out", "--class", "blue")
    assert answer.code == 1 and answer.err == f"planetlib: {files[1]}: not an image, whatever its name says\n"
    assert names(tmp_path / "out") == [f"{number:06d}_same_blue_{DEFAULT_METHOD}.png" for number in (0, 2)]


# What can go wrong with any command


@pytest.mark.parametrize("command", ["evaluate", "predict", "explain"])
def test_a_folder_that_is_no_run_is_told_what_makes_one(command, run, fixture_folder, tmp_path):
    message = run(*writing_commands(fixture_folder, tmp_path, tmp_path / "out")[command]).refused()
    assert message.startswith(f"{tmp_path}: no checkpoint") and f"planetlib train --run {tmp_path}" in message


def writing_commands(data: Path, run: Path, out: Path) -> dict[str, list]:
    """Every command that writes, with all its output going to `out`."""
    picture = data / "red" / "red 1.png"
    return {
        "check": ["data", "check", "--data", data, "--out", out / "checked.csv", "--no-audit"],
        "split": ["data", "split", "--data", data, "--out", out / "samples.csv", "--no-audit"],
        "train": ["train", "--data", data, "--run", out, *TINY],
        "evaluate": ["evaluate", "--run", run, "--out", out],
        "predict": ["predict", data, "--run", run, "--out", out],
        "explain": ["explain", picture, "--run", run, "--out", out],
    }


@pytest.mark.parametrize("command", writing_commands(*[Path()] * 3))
def test_an_output_folder_that_cannot_be_made_gives_one_line(command, run, finished, fixture_folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    orders = writing_commands(fixture_folder, finished, tmp_path / "file" / "out")
    assert run(*orders[command]).refused() == f"[Errno 20] Not a directory: '{tmp_path / 'file' / 'out'}'"
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("number", [1, 4, 9])
def test_a_disk_that_fills_in_between_loses_nothing(number, run, finished, fixture_folder, tmp_path, monkeypatch):
    order, fsync, count = ["train", "--data", fixture_folder, "--run", tmp_path, *TINY], os.fsync, iter(range(1, 999))

    def fill(file):
        if next(count) >= number:
            raise OSError(28, "No space left on device")
        fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill)
        assert "make room" in run(*order).refused()
    assert not list(tmp_path.rglob("*.part"))
    assert run(*order, "--resume").code == 0
    assert (tmp_path / "finetune.safetensors").read_bytes() == (finished / "finetune.safetensors").read_bytes()


def test_a_folder_that_may_not_be_written_gives_one_line(finished, fixture_folder, tmp_path):
    # The superuser may write anywhere, save when the right to is dropped for good.
    drop = [] if os.geteuid() else ["setpriv", "--bounding-set", "-all"]
    if drop and not shutil.which("setpriv"):
        pytest.skip("run as the superuser, and there is no setpriv to drop its rights")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "earlier").write_text("stays")
    (tmp_path / "closed").chmod(0o555)
    arguments = writing_commands(fixture_folder, finished, tmp_path / "closed")["check"]
    line = [*drop, sys.executable, "-m", "tests.toy", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "Permission denied: " in done.stderr
    assert "take another folder" in done.stderr
    assert names(tmp_path / "closed") == ["earlier"]


@pytest.mark.parametrize("command", ["train", "crossval", "predict"])
def test_a_second_run_into_a_folder_leaves_it_alone(command, run, finished, fixture_folder, tmp_path):
    orders = writing_commands(fixture_folder, finished, tmp_path)
    orders["crossval"] = ["crossval", *orders["train"][1:]]
    with lock_folder(tmp_path):
        message = run(*orders[command]).refused()
    assert message.startswith(f"{tmp_path}: another planetlib process")
    assert names(tmp_path) == [LOCK]


# faithful


def test_faithful_scores_every_method_on_the_test_pictures(run, finished, tmp_path):
    answer = run("faithful", "--run", finished, "--out", tmp_path / "faithful.csv")
    assert answer.code == 0 and "3 pictures; " in answer.out
    table = pd.read_csv(tmp_path / "faithful.csv")
    assert sorted(table.method) == sorted(METHODS) and {"deletion", "insertion", "sanity_head", "rank"} < set(table)
