"""Killed or interrupted at any moment: what is on disk is whole, and what goes on ends as if nothing had happened.

Processes are killed by the clock, at moments drawn by seed: where exactly that is differs from run to run.
"""

import hashlib
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from planetlib.checkpoint import Checkpoint, read_torch
from planetlib.classify import Classifier
from planetlib.cli import main
from planetlib.data import find_samples
from planetlib.files.download import fetch_planets
from planetlib.files.tables import MARKS, read_marks, read_samples, write_table
from planetlib.widgets import LabelReview

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
KILLED = -getattr(signal, "SIGKILL", 9)
TINY = ["--image-size", 32, "--outliers", 1, "--rendered", 0, "--head-epochs", 2, "--finetune-epochs", 2,
        "--batch-size", 8, "--workers", 0, "--precision", "float32", "--device", "cpu", "--no-audit",
        "--free-stages", 1]  # fmt: skip


@pytest.fixture(scope="module")
def processes():
    """New processes that need not import torch again, forked from one that has."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "planetlib.cli", "planetlib.train", "planetlib.batch.resume"])
    return context


def call(function, *arguments) -> None:
    """What a process does: a function, or a command without its words."""
    if function is main:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        sys.exit(main([str(argument) for argument in arguments[0]]))
    function(*arguments)


def run_for(seconds: float | None, processes, *job) -> int:
    """The exit code of a process that is killed after so many seconds, or left alone."""
    process = processes.Process(target=call, args=job)
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode


def kill_often(kills: int, processes, job, anew, check, finished) -> None:
    """Kills a job and starts it again until it ends, over and over.

    Args:
        kills: how many.
        processes: context to start them from.
        job: function and arguments of a process that goes on where the one before it stopped.
        anew: empties the place where it works.
        check: called after each kill.
        finished: called when a process has ended by itself.
    """
    anew()
    run_for(None, processes, *job)  # the first one also starts the server that the others are forked from
    anew()
    started = time.perf_counter()
    assert run_for(None, processes, *job) == 0
    seconds = time.perf_counter() - started
    finished()
    anew()
    rng, killed, ended = np.random.default_rng(0), 0, 1
    while killed < kills:
        code = run_for(rng.uniform(0, seconds), processes, *job)
        assert code in (0, KILLED), code
        if code == KILLED:
            check()
            killed += 1
        else:
            finished()
            anew()
            ended += 1
    assert run_for(None, processes, *job) == 0
    finished()
    print(f"{killed} processes killed within {seconds:.1f} s, {ended + 1} came to an end, nothing lost")


def contents(folder: Path, *without: str) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in without]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def history_of(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "history.csv").drop(columns="seconds")


def require_whole(run: Path) -> None:
    """All that a run folder shows by a name of its own can be read."""
    for path in run.glob("*.pt"):
        read_torch(path) if path.stem.endswith("_state") else Checkpoint.load(path)
    for path in run.glob("views/*.npy"):
        assert np.load(path, mmap_mode="r").size
    if (run / "samples.csv").exists():
        assert len(read_samples(run / "samples.csv")) == 24
    if (run / "history.csv").exists():
        assert history_of(run).notna().all(axis=None)
    if (run / "MODEL_CARD.md").exists():
        assert re.search(r"\n- calibration error at temperature 1: [\d.e-]+\n\n$", (run / "MODEL_CARD.md").read_text())


@pytest.mark.soak
def test_a_training_that_is_killed_again_and_again_ends_as_one_left_alone(processes, amount, fixture_folder, tmp_path):
    run, ended = tmp_path / "run", []

    def finished():
        require_whole(run)
        states = [read_torch(run / f"{stage}_state.pt")["trained"] for stage in ("head", "finetune")]
        files = {name: (run / name).read_bytes() for name in ("head.pt", "finetune.pt", "MODEL_CARD.md", "samples.csv")}
        ended.append((sorted(path.name for path in run.iterdir()), files, history_of(run), states))
        names, files, history, states = ended[0]
        assert ended[-1][:2] == (names, files)
        pd.testing.assert_frame_equal(ended[-1][2], history, check_exact=True)
        for mine, theirs in zip(ended[-1][3], states):
            assert all(torch.equal(mine[name], value) for name, value in theirs.items())

    job = main, ["train", "--data", fixture_folder, "--run", run, "--resume", *TINY]
    anew = partial(shutil.rmtree, run, ignore_errors=True)
    kill_often(amount(2, 50), processes, job, anew, lambda: require_whole(run), finished)


NAMES = ["a", 'quo"te', "line\nbreak", '"\n"', "comma, and;", "é", "b", "=1+1"]


@pytest.fixture
def pictures(fixture_folder, tmp_path) -> Path:
    """48 files, many with names that CSV must quote, and some that are no pictures."""
    sources = list(find_samples(fixture_folder).path)
    folder = tmp_path / "pictures"
    for number in range(48):
        target = folder / str(number) / f"{NAMES[number % 8]}.png"
        target.parent.mkdir(parents=True)
        shutil.copy(sources[number % 24], target)
        if number % 11 == 0:
            target.write_text("no picture")
    return folder


@pytest.mark.soak
def test_a_prediction_that_is_killed_again_and_again_gives_the_same_bytes(
    processes, amount, trained_run, pictures, tmp_path
):
    out, whole = tmp_path / "out", []

    def check():
        if (out / "predictions.csv").exists():
            assert (out / "predictions.csv").read_bytes() == whole[0]
        if (out / "predictions.csv.part").exists():
            assert whole[0].startswith((out / "predictions.csv.part").read_bytes())

    def finished():
        whole.append((out / "predictions.csv").read_bytes())
        assert whole[-1] == whole[0] and not list(out.glob("*.part"))
        assert len(pd.read_csv(out / "predictions.csv")) == 48

    job = predict, ["predict", pictures, "--run", trained_run.run, "--out", out, "--batch-size", 4,
                    "--pictures", "none", "--resume"]  # fmt: skip
    kill_often(amount(3, 50), processes, job, partial(shutil.rmtree, out, ignore_errors=True), check, finished)


def predict(arguments) -> None:
    """The exit code is 1 where files were unreadable, as they are here."""
    sys.stdout = sys.stderr = open(os.devnull, "w")
    sys.exit(main([str(argument) for argument in arguments]) - 1)


class SlowHandler(SimpleHTTPRequestHandler):
    """Sends in small pieces, and from the middle where that is asked for."""

    def do_GET(self):
        content = Path(self.translate_path(self.path)).read_bytes()
        first = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        for place in range(first, len(content), 500):
            try:
                self.wfile.write(content[place : min(place + 500, len(content))])
            except OSError:  # who asked was killed
                return
            time.sleep(0.005)

    def log_message(self, *_):
        pass


@pytest.mark.soak
def test_a_download_that_is_killed_again_and_again_leaves_whole_files(processes, amount, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    rng, served, got = np.random.default_rng(0), tmp_path / "served", tmp_path / "got"
    files = {f"{number % 3}/{number}.png": rng.bytes(3000) for number in range(24)}
    for name, content in files.items():
        (served / name).parent.mkdir(parents=True, exist_ok=True)
        (served / name).write_bytes(content)
    rows = [(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()]
    pd.DataFrame(rows, columns=["file", "bytes", "sha256"]).to_csv(tmp_path / "listing.csv", index=False)

    def check():
        found = {name: content for name, content in contents(got).items() if not name.endswith(".part")}
        assert found.items() <= files.items()

    def finished():
        assert contents(got) == files

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SlowHandler, directory=served)) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        job = fetch_planets, got, f"http://127.0.0.1:{server.server_port}", tmp_path / "listing.csv", False
        try:
            kill_often(amount(5, 50), processes, job, partial(shutil.rmtree, got, ignore_errors=True), check, finished)
        finally:
            server.shutdown()
            thread.join()


def mark_all(table: Path, predictions: pd.DataFrame) -> None:
    """Marks every picture, one by one, as a person does who clicks on."""
    review = LabelReview(table, predictions)
    for number in range(len(predictions)):
        review.index.value = number + 1
        review.new_label.value = review.new_label.options[0]
        review.buttons[MARKS[number % 3]].click()


@pytest.mark.soak
def test_marks_are_whole_whenever_their_saving_is_killed(processes, amount, samples, trained_run, tmp_path):
    table = tmp_path / "samples.csv"
    write_table(samples, table)
    classifier = Classifier.load(trained_run.run, device="cpu")
    predictions = classifier.predict(samples.path, samples.label, progress=False)
    orders = []

    def check():
        marks = read_marks(table)
        order = list(zip(marks.path, marks["mark"]))
        assert order == orders[0][: len(order)]  # those that were made, in their order

    def finished():
        marks = read_marks(table)
        orders.append(list(zip(marks.path, marks["mark"])))
        assert len(orders[-1]) == 24 and orders[-1] == orders[0]

    def anew():
        (tmp_path / "marks.csv").unlink(missing_ok=True)

    def check_and_forget():  # the next one marks them anew
        check()
        anew()

    kill_often(amount(5, 50), processes, (mark_all, table, predictions), anew, check_and_forget, finished)


# Long and large


def rows_of(part: Path) -> int:
    return max(0, part.read_bytes().count(b"\n") - 1) if part.exists() else 0


def start_predict(*arguments, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "planetlib", "predict", *map(str, arguments), "--pictures", "none"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def wait_for_rows(part: Path, rows: int, process: subprocess.Popen) -> None:
    while rows_of(part) < rows and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None or not part.exists()


@pytest.fixture
def many(fixture_folder, tmp_path):
    """Makes a folder of so many pictures, all links to a few."""

    def make(count: int, per_folder: int) -> Path:
        sources = list(find_samples(fixture_folder).path)
        for number in range(count):
            folder = tmp_path / "many" / f"{number // per_folder:05d}"
            if number % per_folder == 0:
                folder.mkdir(parents=True)
            os.symlink(sources[number % len(sources)], folder / f"{number:06d}.png")
        return tmp_path / "many"

    return make


def test_an_interrupt_says_what_is_saved_and_how_to_go_on(many, trained_run, tmp_path):
    folder, out = many(1200, 1200), tmp_path / "out"
    order = [folder, "--run", trained_run.run, "--out", out, "--batch-size", 4]
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    # What a shell starts in the background has interrupts ignored, and so has all that it starts in turn.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with start_predict(*order, env=environment, preexec_fn=heed) as process:
        wait_for_rows(out / "predictions.csv.part", 8, process)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert re.search(r"predicting: .*\d+/1200 \[\d\d:\d\d<\d\d:\d\d, .*image/?s?", told)  # with time left and rate
    said = re.search(
        r"\nInterrupted after (\d+) of 1200 pictures; their rows are in .*\.part\. Predict with --resume", told
    )
    assert "Traceback" not in told and 8 <= int(said[1]) <= rows_of(out / "predictions.csv.part") < 1200
    assert main([str(word) for word in ["predict", *order, "--pictures", "none", "--resume"]]) == 0
    assert main([str(word) for word in ["predict", *order, "--pictures", "none", "--out", tmp_path / "unbroken"]]) == 0
    assert (out / "predictions.csv").read_bytes() == (tmp_path / "unbroken" / "predictions.csv").read_bytes()


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here, which tells memory")
def test_memory_does_not_grow_with_the_number_of_inputs(many, amount, trained_run, tmp_path):
    early, count = amount((300, 600), (1_000, 100_000))
    folder, out = many(count, 1000), tmp_path / "out"
    started, memory = time.perf_counter(), []
    with start_predict(folder, "--run", trained_run.run, "--out", out) as process:
        status = Path(f"/proc/{process.pid}/status")
        wait_for_rows(out / "predictions.csv.part", early, process)
        while process.poll() is None:
            if found := re.search(r"VmRSS:\s+(\d+) kB", status.read_text()):
                memory.append(int(found[1]) / 1024)
            time.sleep(0.02 if count < 1000 else 0.5)
        told = process.stderr.read()
    assert process.returncode == 0, told
    assert len(pd.read_csv(out / "predictions.csv")) == count
    print(f"{count} files in {time.perf_counter() - started:.0f} s: {memory[0]:.0f} MB after {early}, then at most "
          f"{max(memory):.0f} MB")  # fmt: skip
    assert max(memory) < memory[0] + 150


@pytest.mark.soak
def test_ten_thousand_class_folders_do_not_hang_the_check(many, amount, tmp_path, capsys):
    count = amount(300, 10_000)
    folder, started = many(count, 1), time.perf_counter()
    assert find_samples(folder).label.nunique() == count
    found = time.perf_counter() - started
    assert main(["data", "check", "--data", str(folder), "--no-audit", "--out", str(tmp_path / "checked.csv")]) == 0
    took = time.perf_counter() - started
    assert capsys.readouterr().out.count("\n") == count + 2
    print(f"{count} class folders: found in {found:.1f} s, checked in {took - found:.1f} s")
    assert took < 300
