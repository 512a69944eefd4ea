"""Prediction on a Ray cluster: the same rows as in one process, from any address, also where a worker is killed."""

import contextlib
import functools
import importlib.util
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
from planetlib.batch import on_ray
from planetlib.batch.on_ray import gather_addresses, join_cluster
from planetlib.batch.stream import WORDS
from planetlib.checkpoint import Checkpoint
from planetlib.classify import Classifier
from planetlib.cli import main
from planetlib.files.tables import DataError
from planetlib.files.whole import LOCK
from planetlib.model import Network


@pytest.fixture(scope="module")
def cluster():
    """A cluster as one made for a call is, for all tests: to start one takes seconds."""
    if not importlib.util.find_spec("ray"):  # not imported before the library does, as it heeds some of these only then
        pytest.skip("Ray is not installed: pip install 'planetlib[scale]'")
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as ends:
        # Where the processor is busy, its parts are slow to find each other.
        patch.setenv("RAY_agent_register_timeout_ms", "300000")
        patch.setenv("RAY_worker_register_timeout_seconds", "300")
        # Workers unpickle nothing of this file, but they have to find the library that is tested.
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        for further in (2, 1, 0):  # Ray itself waits half a minute for a cluster and no longer
            try:
                ray = ends.enter_context(join_cluster())
                break
            except PlanetlibError:
                if not further:
                    raise
        yield ray


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """Of a backbone that workers know, with a head that has learnt nothing and no detector of strangers."""
    path, names = tmp_path_factory.mktemp("run") / "head.safetensors", ["blue", "green", "red"]
    weights = dict(Network("efficientnet_lite0", 3).state_dict())
    Checkpoint("efficientnet_lite0", "linear", names, 64, "pad", weights).save(path)
    return path


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


@pytest.fixture
def server(folder):
    """The address of a web server for the folder, on this machine."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def predict(out: Path, checkpoint: Path, *words) -> pd.DataFrame:
    """The table that a command writes; some pictures cannot be read."""
    told = ["predict", "--run", checkpoint, "--out", out, "--batch-size", 2, "--pictures", "none", *words]
    assert main([str(word) for word in told]) == 1
    (path,) = out.glob("predictions.*")
    assert set(os.listdir(out)) == {LOCK, path.name}
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    table = pd.read_csv(path, dtype=dict.fromkeys(WORDS, str), keep_default_na=False)
    return table.apply(lambda column: column if column.name in WORDS else pd.to_numeric(column))


def assert_same_rows(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    # A file that is missing makes a batch smaller, and its sums may be taken in another order.
    found, expected = (table.drop(columns="path") for table in (found, expected))
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-4)


def test_a_cluster_gives_the_rows_of_the_local_engine(
    cluster, folder, server, checkpoint, tmp_path, capsys, monkeypatch
):
    pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'planetlib[openvino]'")
    monkeypatch.chdir(folder)
    addresses = [folder.as_uri(), f"{server}/red/red%200.png", f"{server}/red/gone.png", "nosuch://place/a.png"]
    places, runtime = ["red", folder], ["--runtime", "openvino"]
    local = predict(tmp_path / "local", checkpoint, *places, folder, folder / "red" / "red 0.png", *runtime)
    capsys.readouterr()
    options = "--engine ray --workers 1 --format parquet".split()
    found = predict(tmp_path / "ray", checkpoint, *places, *addresses, *runtime, *options)
    paths = local.path[:35].tolist() + [f"file://{path}" for path in local.path[35:-1]] + addresses[1:]
    assert found.path.tolist() == paths and paths[0] == os.path.join("red", "empty.png")
    assert_same_rows(found[:-2], local)
    assert found.unknown_score.dtype == "float64" and found.unknown_score.isna().all()  # of numbers, though it has none
    assert set(found.status[-2:]) == {"unreadable"} and found.error.iloc[-2] == "not found"
    assert found.error.iloc[-1].startswith("cannot be fetched (")
    plain = Classifier.load(checkpoint, device="cpu").predict(paths[:9], progress=False)
    assert (found.confidence[:9] - plain.confidence).abs().max() > 0  # rounded otherwise than by torch
    printed = capsys.readouterr()
    assert f"{len(found)} pictures predicted: {tmp_path / 'ray' / 'predictions.parquet'}" in printed.out
    assert printed.err.count("unreadable: ") == 1 + 2 * 2 + 2 and "empty.png: empty file" in printed.err


@pytest.mark.campaign
def test_a_worker_that_is_killed_costs_no_row(cluster, folder, checkpoint, tmp_path, monkeypatch):
    import psutil

    write, killed = on_ray._write_parquet, []

    def write_and_kill(tables, path):
        for table in write(tables, path):
            yield table
            if not killed:
                mine = psutil.Process().children(recursive=True)
                killed.append(next(process for process in mine if process.name().startswith("ray::MapWorker")))
                killed[0].send_signal(signal.SIGKILL)

    monkeypatch.setattr(on_ray, "_write_parquet", write_and_kill)
    places, options = [folder] * 20, "--engine ray --workers 2 --format parquet".split()
    local = predict(tmp_path / "local", checkpoint, *places)
    assert_same_rows(predict(tmp_path / "ray", checkpoint, *places, *options), local)
    assert killed and not killed[0].is_running()


@pytest.mark.campaign
def test_a_cluster_writes_the_same_csv(cluster, folder, checkpoint, tmp_path):
    found, local = (predict(tmp_path / engine, checkpoint, folder, "--engine", engine) for engine in ("ray", "local"))
    assert found.path.tolist() == local.path.tolist()
    assert_same_rows(found, local)


def test_a_cluster_made_for_the_call_is_out_of_reach(cluster):
    import psutil

    mine = [found for child in psutil.Process().children(recursive=True) for found in child.net_connections("inet")]
    assert {found.laddr.ip.removeprefix("::ffff:") for found in mine if found.status == "LISTEN"} == {"127.0.0.1"}


def test_a_cluster_that_does_not_start_is_told(cluster, monkeypatch):
    def time_out(*_, **__):
        raise Exception("The current node timed out")  # as Ray does

    for name, function in {"is_initialized": lambda: False, "init": time_out, "shutdown": lambda: None}.items():
        monkeypatch.setattr(cluster, name, function)
    with pytest.raises(PlanetlibError, match="did not start: The current node timed out"), join_cluster():
        pass


@pytest.mark.campaign
def test_a_cluster_made_for_the_call_leaves_nothing(cluster):
    leaves = """
import psutil
from planetlib.batch.on_ray import join_cluster

with join_cluster():
    assert psutil.Process().children(recursive=True)
assert not psutil.Process().children(recursive=True)
"""
    subprocess.run([sys.executable, "-c", leaves], check=True)


class Dying:
    def __init__(self, *_, **__):
        pass

    def __call__(self, files):
        os._exit(1)


@pytest.mark.campaign
def test_what_kills_every_worker_ends_in_one_line(cluster, checkpoint, folder, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(on_ray, "_Worker", Dying)
    monkeypatch.setattr(cluster.data.DataContext.get_current(), "execution_no_progress_timeout_s", 5)
    words = ["predict", folder, "--run", checkpoint, "--out", tmp_path, "--engine", "ray"]
    assert main([str(word) for word in words]) == 2
    assert "planetlib: the cluster gave up: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "place, told", [("nosuch://bucket/a", "cannot be listed"), ("memory://nothing", "no pictures")]
)
def test_addresses_that_lead_nowhere_are_told(place, told):
    pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'planetlib[scale]'")
    with pytest.raises(DataError, match=f"{place}: {told}"):
        gather_addresses([place])


def test_a_machine_without_ray_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PlanetlibError, match=r"pip install 'planetlib\[scale\]'"), join_cluster():
        pass


@pytest.mark.parametrize(
    "words", ["--format parquet", "--workers 2", "--engine ray --resume", "--engine ray --pictures all"]
)
def test_what_an_engine_cannot_do_is_refused(words, checkpoint, tmp_path, capsys):
    assert main(["predict", str(tmp_path), "--run", str(checkpoint), "--out", str(tmp_path), *words.split()]) == 2
    assert "--engine ray" in capsys.readouterr().err
