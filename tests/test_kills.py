"""Killed or interrupted at any moment: what is on disk is whole, and what goes on ends as if nothing had happened.

Processes are killed at counted moments; under --soak also by the clock, at moments drawn by seed: where exactly that
is differs from run to run.
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
from importlib import import_module
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import tests.toy  # noqa: F401 - adds the backbone `toy`, here and in processes that are started from here
from planetlib.checkpoint import PHASES, Checkpoint
from planetlib.cli import main
from planetlib.files.download import fetch_planets
from planetlib.files.tables import MARKS, read_marks, read_samples, write_mark, write_table
from planetlib.files.tensors import read_state

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
KILLED = -getattr(signal, "SIGKILL", 9)
TINY = """--backbone toy --image-size 32 --outliers 1 --head-epochs 2 --finetune-epochs 2 --batch-size 8 --workers 0
          --precision float32 --device cpu --no-audit --free-stages 1 --views 1""".split()


@pytest.fixture(scope="module")
def processes():
    """New processes that need not import torch again, forked from one that has."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "planetlib.batch.stream", "planetlib.cli.commands", "planetlib.train"])
    run(context, (time.sleep, 0))  # starts it
    return context


def command(*words) -> None:
    """A command whose pictures may be unreadable; it says nothing."""
    sys.stdout = sys.stderr = open(os.devnull, "w")
    sys.exit(main([str(word) for word in words]) & ~1)


def call(deadly: tuple[str, int, bool] | None, function, *arguments) -> None:
    """What a process does; `deadly` is the name of a function, which call of it kills, and whether that is made."""
    if deadly:
        (place, _, name), number, made = deadly[0].rpartition("."), count(1), deadly[2]
        module = import_module(place)
        real = getattr(module, name, print)

        def counted(*given, **options):
            last = next(number) == deadly[1]
            if made or not last:
                real(*given, **options)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(module, name, counted)
    function(*arguments)


def run(processes, job: tuple, deadly=None, seconds: float | None = None) -> bool:
    """Whether a process is killed: at a call, after so many seconds, or never."""
    process = processes.Process(target=call, args=(deadly, *job))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode in (0, KILLED)
    return process.exitcode == KILLED


def kill_often(processes, job, anew, check, finished, by_clock=0, deadly="os.replace", every=1) -> None:
    """Kills a job and starts it again until it ends.

    `anew` empties the place where it works, `check` is called after each kill, and `finished` when a process has ended
    by itself. The first process is killed just before it calls `deadly` for the so many-th time, the second just after
    twice as many calls, and so on; then `by_clock` of them get a time to live, drawn by seed.
    """
    anew()
    started, rng = time.perf_counter(), np.random.default_rng(0)
    assert not run(processes, job)
    seconds = time.perf_counter() - started
    finished()
    anew()
    kills = 1
    while run(processes, job, (deadly, kills * every, kills % 2 == 0)):
        check()
        kills += 1
    assert kills > 3
    finished()
    if not by_clock:
        return
    anew()
    for _ in range(by_clock):
        if run(processes, job, seconds=rng.uniform(0, seconds)):
            check()
        else:
            finished()
            anew()
    assert not run(processes, job)
    finished()


@pytest.mark.soak
def test_a_training_that_is_killed_again_and_again_ends_as_one_left_alone(processes, amount, fixture_folder, tmp_path):
    folder, ended = tmp_path / "run", []

    def check():  # all that the folder shows by a name of its own can be read
        for name, read in (("*.safetensors", Checkpoint.load), ("*_state.pt", read_state), ("*.npy", np.load),
                           ("samples.csv", read_samples), ("history.csv", pd.read_csv)):  # fmt: skip
            for path in folder.rglob(name):
                read(path)

    def finished():
        check()
        history = pd.read_csv(folder / "history.csv").drop(columns="seconds")
        states = [read_state(folder / f"{phase}_state.pt")["trained"] for phase in PHASES]
        names = *(f"{phase}.safetensors" for phase in PHASES), "MODEL_CARD.md", "samples.csv"
        files = {name: (folder / name).read_bytes() for name in names}
        ended.append((history, states, files, sorted(path.name for path in folder.iterdir())))
        assert ended[-1][2:] == ended[0][2:]
        pd.testing.assert_frame_equal(history, ended[0][0], check_exact=True)
        for mine, theirs in zip(states, ended[0][1]):
            assert all(torch.equal(mine[name], value) for name, value in theirs.items())

    job = command, "train", "--data", fixture_folder, "--run", folder, "--resume", *TINY
    anew = partial(shutil.rmtree, folder, ignore_errors=True)
    kill_often(processes, job, anew, check, finished, amount(0, 50), every=2)


NAMES = ["a", 'quo"te', "line\nbreak", '"\n"', "comma, and;", "é", "b", "=1+1"]


@pytest.mark.soak
def test_a_prediction_that_is_killed_often_gives_the_same_bytes(processes, amount, trained_run, samples, tmp_path):
    out, whole = tmp_path / "out", []
    for number in range(48):  # many have names that CSV must quote, and some are no pictures
        target = tmp_path / "pictures" / str(number) / f"{NAMES[number % 8]}.png"
        target.parent.mkdir(parents=True)
        shutil.copy(samples.path[number % 24], target)
        if number % 11 == 0:
            target.write_text("no picture")

    def check():
        for name in ("predictions.csv", "predictions.csv.part"):
            assert not (out / name).exists() or whole[0].startswith((out / name).read_bytes())

    def finished():
        whole.append((out / "predictions.csv").read_bytes())
        assert whole[-1] == whole[0] and not list(out.glob("*.part"))
        assert len(pd.read_csv(out / "predictions.csv")) == 48

    words = ["--run", trained_run.run, "--out", out, "--batch-size", 4, "--pictures", "none", "--resume"]
    job, anew = (command, "predict", tmp_path / "pictures", *words), partial(shutil.rmtree, out, ignore_errors=True)
    journal = "planetlib.batch.stream.print"  # a line of the journal, after each piece
    kill_often(processes, job, anew, check, finished, amount(0, 50), journal)


# Long and large


def start_predict(*words, **options) -> subprocess.Popen:
    line = [sys.executable, "-m", "tests.toy", "predict", *map(str, words), "--pictures", "none"]
    return subprocess.Popen(line, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1], **options)


def wait_for_rows(part: Path, rows: int, process: subprocess.Popen) -> None:
    while process.poll() is None and not (part.exists() and part.read_bytes().count(b"\n") > rows):
        time.sleep(0.01)


@pytest.mark.soak
def test_a_download_that_is_killed_again_and_again_leaves_whole_files(processes, amount, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    rng, served, got, rows = np.random.default_rng(0), tmp_path / "served", tmp_path / "got", []
    for number in range(24):
        content, name = rng.bytes(3000), f"{number % 3}/{number}.png"
        (served / name).parent.mkdir(parents=True, exist_ok=True)
        (served / name).write_bytes(content)
        rows.append((name, len(content), hashlib.sha256(content).hexdigest()))
    pd.DataFrame(rows, columns=["file", "bytes", "sha256"]).to_csv(tmp_path / "listing.csv", index=False)

    def check():
        for path in got.rglob("*.png"):
            assert path.read_bytes() == (served / path.relative_to(got)).read_bytes()

    def finished():
        check()
        there, expected = ({path.relative_to(folder) for path in folder.rglob("*")} for folder in (got, served))
        assert there == expected

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=served)) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        job = fetch_planets, got, f"http://127.0.0.1:{server.server_port}", tmp_path / "listing.csv"
        anew = partial(shutil.rmtree, got, ignore_errors=True)
        kill_often(processes, job, anew, check, finished, amount(0, 50), every=3)
        server.shutdown()


def mark_all(table: Path) -> None:
    """Marks every picture, one by one, as a person does who clicks on."""
    for number, row in enumerate(read_samples(table, reviewed=False).itertuples()):
        write_mark(table, row, MARKS[number % 3], "red" if MARKS[number % 3] == "relabel" else "")


@pytest.mark.soak
def test_marks_are_whole_whenever_their_saving_is_killed(processes, amount, samples, tmp_path):
    table, whole = tmp_path / "samples.csv", []
    write_table(samples, table)

    def anew():
        (tmp_path / "marks.csv").unlink(missing_ok=True)

    def check():
        marks = read_marks(table).values.tolist()
        assert marks == whole[0][: len(marks)]  # those that were made, in their order
        anew()  # the next one marks them anew

    def finished():
        whole.append(read_marks(table).values.tolist())
        assert len(whole[0]) == 24 and whole[-1] == whole[0]

    kill_often(processes, (mark_all, table), anew, check, finished, amount(0, 50), every=5)


@pytest.fixture
def many(samples, tmp_path):
    """Makes a folder of so many pictures, all links to a few."""

    def make(pictures: int, per_folder: int) -> Path:
        for number in range(pictures):
            folder = tmp_path / "many" / f"{number // per_folder:05d}"
            if number % per_folder == 0:
                folder.mkdir(parents=True)
            os.symlink(samples.path[number % 24], folder / f"{number:06d}.png")
        return tmp_path / "many"

    return make


def test_an_interrupt_says_what_is_saved_and_how_to_go_on(many, trained_run, tmp_path):
    folder, out = many(1200, 1200), tmp_path / "out"
    words = [folder, "--run", trained_run.run, "--batch-size", 4, "--runtime", "torch"]
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    # What a shell starts in the background has interrupts ignored, and so has all that it starts in turn.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with start_predict(*words, "--out", out, env=environment, preexec_fn=heed) as process:
        wait_for_rows(out / "predictions.csv.part", 8, process)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert re.search(r"predicting: .*\d+/1200 \[\d\d:\d\d<\d\d:\d\d, .*image/?s?", told)  # with time left and rate
    said = re.search(r"\nInterrupted after (\d+) of 1200 pictures; .*\.part\. Predict with --resume", told)
    done = (out / "predictions.csv.part").read_bytes()
    assert "Traceback" not in told
    assert 8 - 4 <= int(said[1]) < done.count(b"\n") < 1200  # a batch of four may be written and not yet counted
    assert main([str(word) for word in ["predict", *words, "--out", out, "--pictures", "none", "--resume"]]) == 0
    table = (out / "predictions.csv").read_bytes()
    assert table.startswith(done[: done.rindex(b"\n")]) and table.count(b"\n") == 1201


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here, which tells memory")
def test_memory_does_not_grow_with_the_number_of_inputs(many, amount, trained_run, tmp_path):
    early, pictures = amount((300, 1200), (1_000, 100_000))
    folder, out = many(pictures, 1000), tmp_path / "out"
    started, memory = time.perf_counter(), []
    with start_predict(folder, "--run", trained_run.run, "--out", out) as process:
        status = Path(f"/proc/{process.pid}/status")
        wait_for_rows(out / "predictions.csv.part", early, process)
        while process.poll() is None:
            if found := re.search(r"VmRSS:\s+(\d+) kB", status.read_text()):
                memory.append(int(found[1]) / 1024)
            time.sleep(0.02 if pictures < 10_000 else 0.5)
        told = process.stderr.read()
    assert process.returncode == 0, told
    assert len(pd.read_csv(out / "predictions.csv")) == pictures
    says = f"{memory[0]:.0f} MB after {early}, then at most {max(memory):.0f} MB"
    print(f"{pictures} files in {time.perf_counter() - started:.0f} s: {says}")
    assert max(memory) < memory[0] + 150


@pytest.mark.soak
def test_ten_thousand_class_folders_do_not_hang_the_check(many, amount, tmp_path, capsys):
    folders = amount(300, 10_000)
    folder, started = many(folders, 1), time.perf_counter()
    assert main(["data", "check", "--data", str(folder), "--no-audit", "--out", str(tmp_path / "checked.csv")]) == 0
    took = time.perf_counter() - started
    assert capsys.readouterr().out.count("\n") == folders + 2
    print(f"{folders} class folders checked in {took:.1f} s")
    assert took < 300
