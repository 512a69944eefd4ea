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
    assert main([*map(str, training(fixture_folder, folder))]) == 0
    return folder


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """A copy of `finished`, to be changed."""
    return shutil.copytree(finished, tmp_path / "run")


def training(data: Path, run: Path, *more) -> list:
    return ["train", "--data", data, "--run", run, *TINY, *more]


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


def test_help_answers_at_once_without_loading_torch():
    code = """
import sys, time
started = time.process_time()
from planetlib.cli import main
try: main(["train", "--help"])
except SystemExit: print(time.process_time() - started, *sys.modules)
"""
    seconds, *modules = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()[-1].split()
    assert not {"torch", "numpy", "pandas", "sklearn", "matplotlib", "ipywidgets", "cv2", "PIL"} & {*modules}
    assert float(seconds) < 0.5


def test_answers_and_maps_import_what_they_need_and_no_more(fixture_folder, tmp_path):
    weights = Network("efficientnet_lite0", 2, weights="random").state_dict()
    Checkpoint("efficientnet_lite0", "linear", ["a", "b"], 32, "pad", weights).save(tmp_path / "head.safetensors")
    words = [*map(str, (fixture_folder / "red" / "red 1.png", "--run", tmp_path, "--out", tmp_path))]
    code = f"""
import sys
from planetlib.cli import main
main(["predict", *{words!r}])
print(*sys.modules)
main(["explain", *{words!r}])
main(["explain", *{words!r}, "--method", "eigencam"])
print(*sys.modules)
"""
    *_, answered, _, _, mapped = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    heavy = """torchvision torch._dynamo timm sympy sklearn scipy matplotlib seaborn ipywidgets tensorboard
               pytorch_grad_cam openvino ray astropy planetlib.train planetlib.evaluate planetlib.draw planetlib.study
               planetlib.widgets planetlib.features planetlib.show.figures"""
    assert "torch" in mapped.split() and not {*heavy.split()} & {*mapped.split()}
    rooms = {name.split(".")[1] for name in answered.split() if name.startswith("planetlib.")}
    allowed = "cli batch files nets show calibrate checkpoint classify data images model settings transforms"
    assert rooms <= {*allowed.split()}


def test_the_version_is_the_librarys(run):
    assert run("--version") == (0, f"planetlib {__version__}\n", "")


@pytest.mark.parametrize("words, told", [
    ("train --data d --run r --image-size=31", "--image-size: got 31, expected 32 to 4096"),
    ("train --data d --run r --finetune-lr=nan", "--finetune-lr: got nan, expected 1e-12 to 1000"),
    ("predict a.png --batch-size=1000000000", "--batch-size: got 1000000000, expected 1 to 65536"),
])  # fmt: skip
def test_a_number_out_of_its_bounds_is_refused_with_them(words, told, capsys):
    with pytest.raises(SystemExit, match="2"):
        make_parser().parse_args(words.split())
    assert capsys.readouterr().err.endswith(f"argument {told}\n")


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


BAD_LINES = """unreadable: {0}/red/empty.png: empty file
unreadable: {0}/red/words.jpg: not an image, whatever its name says
"""


def test_names_of_files_and_classes_do_not_steer_the_terminal(run, fixture_folder, tmp_path):
    hostile = "\x1b[2J\u202emars\nok"
    copy_picture(fixture_folder / "red" / "red 1.png", tmp_path / "data" / hostile / f"a{hostile}.png")
    copy_picture(fixture_folder / "red" / "red 1.png", tmp_path / "data" / "other" / "a.png")
    (tmp_path / "data" / hostile / f"{hostile}.png").touch()
    answer = run("data", "check", "--data", tmp_path / "data")
    shown = r"\x1b[2J\u202emars\nok"
    assert answer.code == 1 and not set(answer.out + answer.err) & {"\x1b", "\u202e"}
    assert answer.err.endswith(f"unreadable: {tmp_path}/data/{shown}/{shown}.png: empty file\n")
    assert f"\n{shown} " in answer.out and "label conflict: copies with different labels: " in answer.err
    assert (
        run("data", "check", "--data", tmp_path / hostile).refused().startswith(f"{tmp_path}/{shown}: no such folder")
    )


def test_check_counts_and_lists_copies_and_names_those_with_different_labels(run, fixture_folder, tmp_path):
    folder = shutil.copytree(fixture_folder, tmp_path / "data")
    answer = run("data", "check", "--data", folder)
    assert answer.code == 0 and answer.err == "" and answer.out.endswith("\n0 pictures have copies, in 0 groups\n")
    copy_picture(folder / "red" / "red 0.png", folder / "red" / "again.png")
    copy_picture(folder / "red" / "red 1.png", folder / "blue" / "astray.png")
    answer = run("data", "check", "--data", folder)
    assert answer.code == 1 and "4 pictures have copies, in 2 groups" in answer.out
    assert re.search(r"group \d+: .*red/again.png, .*red/red 0.png", answer.out)
    (conflict,) = answer.err.splitlines()
    assert "blue/astray.png (blue)" in conflict and "red/red 1.png (red)" in conflict
    assert run("data", "check", "--data", folder, "--no-audit").code == 0


def test_check_names_each_unreadable_file_and_returns_1(run, spoilt, tmp_path):
    answer = run("data", "check", "--data", spoilt, "--out", tmp_path / "deep" / "checked.csv")
    assert answer.code == 1 and answer.err == BAD_LINES.format(spoilt)
    assert answer.out.splitlines()[-2].split() == ["red", "8", "2"]
    assert pd.read_csv(tmp_path / "deep" / "checked.csv").status.value_counts().to_dict() == {"ok": 24, "unreadable": 2}


def test_split_writes_the_table_with_whole_paths_and_prints_what_it_holds(run, spoilt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = contents(spoilt)
    answer = run("data", "split", "--data", "spoilt", "--out", "samples.csv", "--seed", 1, "--no-audit")
    assert answer.code == 1 and answer.err == BAD_LINES.format(spoilt)
    expected = split_samples(check_samples(find_samples(spoilt)), 1)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "samples.csv"), expected, check_dtype=False)
    assert answer.out.splitlines()[-1].split() == ["red", "6", "1", "1"]
    assert contents(spoilt) == before


def test_fetch_says_how_much_it_has_downloaded(run, tmp_path, monkeypatch):
    monkeypatch.setattr("planetlib.files.download.fetch_planets", lambda folder: 4)
    assert run("data", "fetch", "--data", tmp_path) == (0, f"{tmp_path}: 4 pictures downloaded, the set is whole\n", "")


# train


def test_train_says_what_is_kept_and_phases_can_be_trained_apart(run, finished, fixture_folder, tmp_path):
    kept = []
    for phase in ("head", "finetune"):
        answer = run(*training(fixture_folder, tmp_path / "run", "--phase", phase))
        assert answer.code == 0 and answer.err == ""
        kept += [line for line in answer.out.splitlines() if " kept, validation accuracy " in line]
    assert [line.split(":")[0] for line in kept] == ["head", "finetune"]
    assert kept[0].endswith(f"({tmp_path / 'run' / 'head.safetensors'})") and "epoch 1 of 1 kept" in kept[1]
    wanted = {f"{phase}{end}" for phase in ("head", "finetune") for end in (".safetensors", "_state.pt")}
    wanted |= {LOCK, "MODEL_CARD.md", "history.csv", "samples.csv", "tensorboard"}
    assert set(names(tmp_path / "run")) == wanted
    assert (tmp_path / "run" / "finetune.safetensors").read_bytes() == (finished / "finetune.safetensors").read_bytes()


def test_a_run_is_not_overwritten_unasked_and_resuming_a_finished_one_changes_nothing(run, finished, fixture_folder):
    before, order = contents(finished), training(fixture_folder, finished)
    for more in ([], ["--phase", "finetune"], ["--resume", "--overwrite"]):
        message = run(*order, *more).refused()
        assert message.startswith(f"{finished}: ") and "--resume" in message and "--overwrite" in message
    answer = run(*order, "--resume")
    assert answer.code == 0 and answer.err == "" and "of 3 kept" in answer.out and "of 1 kept" in answer.out
    assert contents(finished) == before


def test_overwrite_starts_anew(run, finished, copied, fixture_folder):
    answer = run(*training(fixture_folder, copied, "--phase", "head", "--seed", 1, "--overwrite"))
    assert answer.code == 0 and "of 3 kept" in answer.out and len(pd.read_csv(copied / "history.csv")) == 3
    assert (copied / "head.safetensors").read_bytes() != (finished / "head.safetensors").read_bytes()
    assert not (copied / "finetune.safetensors").exists()


@pytest.mark.parametrize("changes, told", [
    (["--phase", "finetune", "--image-size", 96], "image_size 64 (now 96)"),
    (["--backbone", "lite9"], "unknown backbone 'lite9'"),
])  # fmt: skip
def test_a_refused_overwrite_changes_nothing(changes, told, run, copied, fixture_folder):
    before = contents(copied)
    assert told in run(*training(fixture_folder, copied, "--overwrite", "--seed", 3, *changes)).refused()
    assert contents(copied) == before


@pytest.mark.parametrize("lost, more, said", [
    ("*_state.pt", [], "holds a run"),
    ("*_state.pt", ["--resume"], "no head_state.pt to go on from: --overwrite starts anew"),
    ("finetune_state.pt", ["--resume"], "no finetune_state.pt to go on from"),
    ("*.safetensors", ["--resume"], "--overwrite starts anew"),
])  # fmt: skip
def test_checkpoints_without_their_states_are_a_run_and_states_without_a_checkpoint_are_told(
    lost, more, said, run, copied, fixture_folder
):
    for path in copied.glob(lost):
        path.unlink()
    before = contents(copied)
    assert said in run(*training(fixture_folder, copied, *more)).refused() and contents(copied) == before


def test_a_history_that_was_damaged_is_begun_anew(run, finished, copied, fixture_folder):
    (copied / "history.csv").write_bytes(b"\xff\xfe")
    assert run(*training(fixture_folder, copied, "--resume")).code == 0
    assert contents(copied)["history.csv"] == contents(finished)["history.csv"]


@pytest.mark.parametrize("place", [".", "red/run"])
def test_a_run_inside_the_folder_of_classes_is_refused(place, run, spoilt):
    message = run(*training(spoilt, spoilt / place)).refused()
    assert "would be a class" in message and not (spoilt / place / "samples.csv").exists()


def test_an_unreadable_picture_is_named_and_resuming_with_other_classes_is_refused(run, spoilt, tmp_path):
    order = training(spoilt, tmp_path / "run", "--phase", "head")
    answer = run(*order)
    assert answer.code == 1 and answer.err == BAD_LINES.format(spoilt)
    before = contents(tmp_path / "run")
    shutil.copytree(spoilt / "red", spoilt / "violet")
    message = run(*order, "--resume").refused()
    assert message.startswith(f"{spoilt}: got the classes blue, green, red, violet;") and "samples.csv" in message
    assert contents(tmp_path / "run") == before


def test_a_learning_rate_that_diverges_is_told(run, fixture_folder, tmp_path):
    answer = run(*training(fixture_folder, tmp_path, "--phase", "head", "--head-lr", 1000))
    assert answer.code == 0 and re.match(r"head: got the validation loss .*: lower --head-lr, now 1000", answer.err)


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


def test_evaluate_takes_the_test_pictures_of_the_run_and_writes_into_it(run, finished, tmp_path):
    for name in ("finetune.safetensors", "samples.csv"):
        copy_picture(finished / name, tmp_path / name)
    answer, out = run("evaluate", "--run", tmp_path / "finetune.safetensors"), tmp_path / "evaluation"
    assert answer.code == 0 and answer.err == "" and answer.out.endswith(f"written to {out}\n")
    samples = pd.read_csv(finished / "samples.csv")
    assert pd.read_csv(out / "predictions.csv").path.tolist() == samples.path[samples.split == "test"].tolist()
    assert {"report.csv", "confusion.csv", "calibration.csv", "confusion.png", "predictions.png"} < set(names(out))
    report = json.loads((out / "report.json").read_text())
    assert report["images"] == 3 and f"accuracy: {report['accuracy']:.4g}\n" in answer.out


@pytest.fixture
def with_stranger(spoilt, fixture_folder) -> Path:
    """`spoilt` with one picture of a class that no network here knows."""
    copy_picture(fixture_folder / "red" / "red 1.png", spoilt / "venus" / "v.png")
    return spoilt


def test_evaluate_of_a_whole_folder_counts_strangers_as_unknowns(run, finished, with_stranger, tmp_path):
    out = tmp_path / "out"
    answer = run("evaluate", "--run", finished, "--data", with_stranger, "--split", "all", "--out", out, "--no-audit")
    assert answer.code == 1 and answer.err == BAD_LINES.format(with_stranger)
    assert "counted as unknowns: venus\n" in answer.out
    report = json.loads((out / "report.json").read_text())
    assert report["unknowns"] == 1 and 0 <= report["unknown_auroc"] <= 1 and "unknowns.png" in names(out)
    assert (report["images"], report["unreadable"], list(report["classes"])) == (24, 2, ["blue", "green", "red"])


@pytest.mark.parametrize("is_old", [False, True])
def test_evaluate_of_a_folder_deals_it_as_the_training_did(is_old, run, finished, with_stranger, tmp_path):
    checkpoint = Checkpoint.load(finished / "finetune.safetensors")
    if is_old:  # from before there was a choice
        del checkpoint.recipe["test_share"]
    checkpoint.save(tmp_path / "a.safetensors")
    order = ["evaluate", "--run", tmp_path / "a.safetensors", "--data", with_stranger, "--out", tmp_path / "out"]
    answer = run(*order, "--no-audit")
    # They are told although they are in no split.
    assert answer.code == 1 and answer.err == BAD_LINES.format(with_stranger)
    samples, written = pd.read_csv(finished / "samples.csv"), pd.read_csv(tmp_path / "out" / "predictions.csv")
    dealt = [Path(p).name for p in samples.path[samples.split == "test"]]
    assert [Path(p).name for p in written.path] == [*dealt, "v.png"]  # it has seen no venus, so all are test pictures


def test_evaluate_leaves_out_what_the_run_was_trained_on_though_its_folder_has_grown(run, finished, spoilt, tmp_path):
    for name in ("red 90.png", "red 91.png"):  # the classes are dealt otherwise now
        Image.effect_noise((64, 64), 50).convert("RGB").save(spoilt / "red" / name)
    answer = run("evaluate", "--run", finished, "--data", spoilt, "--out", tmp_path / "out", "--no-audit")
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
        return answer, pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False)

    return call


@pytest.fixture
def nested(fixture_folder, tmp_path) -> Path:
    """A folder with names that trip: spaces, accents, the same name twice, and one bad file."""
    for number, name in enumerate(["a/same.png", "b/deep/same.png", "mes étés/la lune à midi, 1.png", "red/x.PNG"]):
        copy_picture(fixture_folder / "red" / f"red {number}.png", tmp_path / "in" / name)
    (tmp_path / "in" / "b" / "bad.jpg").write_text("no picture")
    return tmp_path / "in"


def test_predict_names_and_draws_bad_files_and_those_of_equal_name(predict, nested, fixture_folder, tmp_path):
    answer, table = predict(nested, fixture_folder / "blue" / "blue 1.png")
    bad = nested / "b" / "bad.jpg"
    assert answer.code == 1 and answer.err == f"unreadable: {bad}: not an image, whatever its name says\n"
    *answers, predicted, drawn = answer.out.splitlines()
    shown = ["same.png", "same.png", "la lune à midi, 1.png", "x.PNG", "blue 1.png"]
    assert [line.partition(": ")[0] for line in answers] == shown  # the bad one is told on stderr
    assert predicted.startswith("6 pictures predicted: ") and drawn.startswith("6 of them drawn: ")
    assert table.label.tolist() == ["", "", "", "", "red", "blue"]
    assert table.path[table.status == "unreadable"].tolist() == [str(bad)]
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


def test_predict_prints_answers_for_the_first_pictures(predict, every_format, fixture_folder, tmp_path, monkeypatch):
    (tmp_path / "two.gif").write_bytes(every_format["animated.gif"])
    monkeypatch.setattr(planetlib.cli.commands, "SHOWN", 3)
    answer, table = predict(tmp_path / "two.gif", fixture_folder / "red", "--pictures", "none")
    *lines, count = answer.out.splitlines()
    assert len(lines) == 3 and count.startswith("9 pictures predicted")
    for line, row in zip(lines, table.itertuples()):
        assert line.startswith(f"{Path(row.path).name}: ") and f"{row.predicted} {row.confidence:.0%}" in line
        assert ("unknown" in line) == (row.status == "unknown") and (row.note in line)
    assert lines[0].endswith("(first of several frames)")
    assert predict(tmp_path / "two.gif", "--pictures", "none")[0].out.splitlines()[1].startswith("1 picture predicted")


def test_without_run_and_out_the_network_of_make_run_answers():
    parsed = make_parser().parse_args(["predict", "a.png"])
    assert (parsed.run, parsed.out) == (load_settings().run, Path("answers"))


# explain


def test_explain_draws_the_predicted_class_by_the_method_asked_for(run, trained_run, fixture_folder, tmp_path):
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


def test_an_output_folder_that_cannot_be_made_gives_one_line(run, finished, fixture_folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "out"
    for order in (["data", "check", "--data", fixture_folder, "--out", out / "checked.csv", "--no-audit"],
                  ["predict", fixture_folder, "--run", finished, "--out", out]):  # fmt: skip
        assert run(*order).refused() == f"[Errno 20] Not a directory: '{out}'"


@pytest.mark.parametrize("number", [1, 4, 9])
def test_a_disk_that_fills_in_between_loses_nothing(number, run, finished, fixture_folder, tmp_path, monkeypatch):
    order, fsync, count = training(fixture_folder, tmp_path), os.fsync, iter(range(1, 999))

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


def test_a_second_run_into_a_folder_leaves_it_alone(run, finished, fixture_folder, tmp_path):
    words = training(fixture_folder, tmp_path)[1:]
    orders = [["train", *words], ["crossval", *words], ["evaluate", "--run", finished, "--out", tmp_path]]
    with lock_folder(tmp_path):
        for order in (*orders, ["predict", fixture_folder, "--run", finished, "--out", tmp_path]):
            assert run(*order).refused().startswith(f"{tmp_path}: another planetlib process")
    assert names(tmp_path) == [LOCK]


# faithful


def test_faithful_scores_every_method_on_the_test_pictures(run, finished, tmp_path):
    answer = run("faithful", "--run", finished, "--out", tmp_path / "faithful.csv")
    assert answer.code == 0 and "3 pictures; " in answer.out
    table = pd.read_csv(tmp_path / "faithful.csv")
    assert sorted(table.method) == sorted(METHODS) and {"deletion", "insertion", "sanity_head", "rank"} < set(table)
