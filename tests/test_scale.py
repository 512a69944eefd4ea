"""Prediction on a Ray cluster: the same rows as in one process, from any address, also where a worker is killed."""

import functools
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest

from planetlib import PlanetlibError
from planetlib.batch import on_ray as scale
from planetlib.checkpoint import Checkpoint
from planetlib.classify import Classifier
from planetlib.cli import main
from planetlib.files.tables import DataError
from planetlib.files.whole import LOCK

BATCH = 2


@pytest.fixture(scope="module")
def cluster():
    """Two workers' worth of a cluster, for all tests: to start one takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on 127.0.0.1 alone
        # Where the processor is busy, its parts are slow to find each other.
        patch.setenv("RAY_agent_register_timeout_ms", "300000")
        patch.setenv("RAY_worker_register_timeout_seconds", "300")
        # Workers unpickle nothing of this file, but they have to find the library that is tested.
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'planetlib[scale]'")
        pytest.importorskip("ray.data", reason="without pandas and pyarrow: pip install 'planetlib[scale]'")
        ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20)
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def folder(fixture_folder, tmp_path_factory) -> Path:
    """The pictures, with one that is empty, one that is none, and some that are hidden or something else."""
    folder = tmp_path_factory.mktemp("scale") / "discs"
    shutil.copytree(fixture_folder, folder)
    (folder / "red" / "empty.png").write_bytes(b"")
    (folder / "blue" / "text.png").write_text("no picture", encoding="utf-8")
    (folder / "notes.txt").write_text("no picture by its name", encoding="utf-8")
    (folder / ".hidden").mkdir()
    shutil.copy(folder / "red" / "red 0.png", folder / ".hidden" / "red.png")
    return folder


@pytest.fixture(scope="module")
def expected(folder, trained_run, tmp_path_factory) -> pd.DataFrame:
    out = tmp_path_factory.mktemp("local")
    options = ["--run", str(trained_run.run), "--pictures", "none", "--batch-size", str(BATCH)]
    assert main(["predict", str(folder), *options, "--out", str(out)]) == 1
    return read(out / "predictions.csv")


def read(place) -> pd.DataFrame:
    return pd.read_csv(place).fillna({"label": "", "predicted": "", "error": ""})


def write_and_read(table: pd.DataFrame) -> pd.DataFrame:
    return read(io.StringIO(table.to_csv(index=False)))


def predict_on_ray(trained_run, out: Path, *arguments: str) -> int:
    options = ["--run", str(trained_run.run), "--engine", "ray", "--workers", "2", "--batch-size", str(BATCH)]
    return main(["predict", *map(str, arguments), *options, "--out", str(out)])


def assert_same_rows(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    # A file that is missing makes a batch smaller, and its sums may be taken in another order.
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-4)


def test_ray_gives_the_rows_of_the_local_engine(cluster, folder, trained_run, expected, tmp_path, capsys):
    assert predict_on_ray(trained_run, tmp_path, folder) == 1
    assert_same_rows(read(tmp_path / "predictions.csv"), expected)
    assert set(os.listdir(tmp_path)) == {LOCK, "predictions.csv"}
    printed = capsys.readouterr()
    assert f"26 pictures predicted: {tmp_path / 'predictions.csv'}" in printed.out
    assert printed.err.count("unreadable: ") == 2 and "empty.png: empty file" in printed.err


def test_parquet_holds_the_same_rows_as_csv(cluster, folder, trained_run, expected, tmp_path):
    assert predict_on_ray(trained_run, tmp_path, folder, "--format", "parquet") == 1
    found = pd.read_parquet(tmp_path / "predictions.parquet")
    assert_same_rows(write_and_read(found), expected)
    assert found.confidence.dtype == "float64" and set(os.listdir(tmp_path)) == {LOCK, "predictions.parquet"}


def test_relative_paths_are_found_by_workers_elsewhere(cluster, folder, trained_run, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    assert predict_on_ray(trained_run, tmp_path, "red") == 1
    found = read(tmp_path / "predictions.csv")
    assert found.path.tolist() == [os.path.join("red", name) for name in sorted(os.listdir("red"))]
    red = expected[expected.path.str.contains("/red/")].reset_index(drop=True)
    assert_same_rows(found.drop(columns="path"), red.drop(columns="path"))


@pytest.fixture
def server(folder):
    """The address of a web server for the folder, on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_addresses_give_the_rows_of_the_files_behind_them(cluster, folder, server, trained_run, expected):
    checkpoint = Checkpoint.load(trained_run.run / "finetune.pt")
    pairs = scale.gather_addresses([folder.as_uri()], checkpoint.class_names)
    assert [path for path, _ in pairs] == [f"file://{path}" for path in expected.path]
    pairs += [(f"{server}/red/red%200.png", "red"), (f"{server}/red/gone.png", ""), ("nosuch://place/a.png", "")]
    found = pd.concat(scale.stream_on_ray(checkpoint, pairs, BATCH, 2), ignore_index=True)
    assert found.path.tolist() == [path for path, _ in pairs]
    same = expected[expected.path.str.endswith("red 0.png")]
    behind = pd.concat([expected, same], ignore_index=True)
    assert_same_rows(write_and_read(found[:27]).drop(columns="path"), behind.drop(columns="path"))
    assert found.status[27:].tolist() == ["unreadable"] * 2
    assert found.error[27] == "not found" and found.error[28].startswith("cannot be fetched (")


def test_a_killed_worker_costs_no_row(cluster, folder, trained_run):
    import psutil

    checkpoint = Checkpoint.load(trained_run.run / "finetune.pt")
    pictures = sorted(str(path) for path in folder.rglob("*.png"))
    pairs = [(path, "") for path in pictures * 12]  # 20 tasks
    tables, killed = [], []
    for table in scale.stream_on_ray(checkpoint, pairs, BATCH, 2):
        tables.append(table)
        if not killed:
            mine = psutil.Process().children(recursive=True)
            killed = [process for process in mine if process.name().startswith("ray::MapWorker")][:1]
            killed[0].send_signal(signal.SIGKILL)
    found, expected = pd.concat(tables, ignore_index=True), Classifier(checkpoint).predict(pictures)
    assert killed and not killed[0].is_running()
    assert found.path.tolist() == pictures * 12
    assert_same_rows(write_and_read(found), write_and_read(pd.concat([expected] * 12, ignore_index=True)))


def test_what_kills_every_worker_ends_in_one_line(cluster, trained_run, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(scale, "_Worker", _Dying)
    monkeypatch.setattr(cluster.data.DataContext.get_current(), "execution_no_progress_timeout_s", 5)
    assert predict_on_ray(trained_run, tmp_path, trained_run.data / "red") == 2
    assert "planetlib: the cluster gave up: " in capsys.readouterr().err


class _Dying:
    def __init__(self, *arguments):
        pass

    def __call__(self, files):
        os._exit(1)


LISTENING = """
import psutil, sys, threading
from planetlib.checkpoint import Checkpoint
from planetlib.batch.on_ray import stream_on_ray

tables = stream_on_ray(Checkpoint.load(sys.argv[1]), [(path, "") for path in sys.argv[2:]], 2, 1)
next(tables)
found = [c for p in psutil.Process().children(recursive=True) for c in p.net_connections("inet")]
print("listening", sorted({c.laddr.ip.removeprefix("::ffff:") for c in found if c.status == psutil.CONN_LISTEN}))
tables.close()
print("left", [p.name() for p in psutil.Process().children(recursive=True)])
"""


def test_a_cluster_made_for_the_call_is_out_of_reach_and_leaves_nothing(cluster, trained_run, folder):
    command = [sys.executable, "-c", LISTENING, trained_run.run / "finetune.pt", folder / "red" / "red 0.png"]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert "listening ['127.0.0.1']" in found and "left []" in found


@pytest.mark.parametrize(
    "place, told",
    [
        ("nosuch://bucket/a", "nosuch://bucket/a: cannot be listed"),
        ("memory://nothing", "memory://nothing: no pictures there"),
    ],
)
def test_addresses_that_lead_nowhere_are_told(place, told):
    pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'planetlib[scale]'")
    with pytest.raises(DataError, match=told):
        scale.gather_addresses([place])


def test_a_machine_without_ray_is_told_what_to_install(trained_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    checkpoint = Checkpoint.load(trained_run.run / "finetune.pt")
    with pytest.raises(PlanetlibError, match=r"pip install 'planetlib\[scale\]'"):
        next(scale.stream_on_ray(checkpoint, [("a.png", "")]))


@pytest.mark.parametrize(
    "options, told",
    [
        (["--format", "parquet"], "--format parquet comes with --engine ray"),
        (["--workers", "2"], "--workers comes with --engine ray"),
        (["--engine", "ray", "--resume"], "--resume does not go with --engine ray"),
        (["--engine", "ray", "--pictures", "all"], "--pictures all does not go with --engine ray"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(options, told, trained_run, tmp_path, capsys):
    arguments = ["predict", str(trained_run.data), "--run", str(trained_run.run), "--out", str(tmp_path)]
    assert main([*arguments, *options]) == 2
    assert told in capsys.readouterr().err


def test_workers_compute_with_the_runtime_that_is_asked_for(cluster, folder, trained_run, expected, tmp_path):
    pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'planetlib[openvino]'")
    assert predict_on_ray(trained_run, tmp_path / "ray", folder, "--runtime", "openvino") == 1
    options = ["--run", str(trained_run.run), "--pictures", "none", "--batch-size", str(BATCH)]
    assert main(["predict", str(folder), *options, "--runtime", "openvino", "--out", str(tmp_path)]) == 1
    found, local = read(tmp_path / "ray" / "predictions.csv"), read(tmp_path / "predictions.csv")
    assert_same_rows(found, local)
    # Those of torch differ, if by rounding alone.
    assert (found.confidence - local.confidence).abs().max() < (found.confidence - expected.confidence).abs().max()
