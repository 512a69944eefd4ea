"""JupyterLab as `make lab` starts it: for this machine alone, and for whoever has the token."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from planetlib.settings import PROJECT

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="no make here")
QUIET = {"ServerApp": {"open_browser": False, "allow_root": True}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where `make lab` makes its working copies; one of them has been worked in."""
    folder = tmp_path_factory.mktemp("copies")
    (folder / "02_train_head.ipynb").write_text("mine")
    return folder


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    """The facts that a running server writes down of itself."""
    place = tmp_path_factory.mktemp("jupyter")
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "HOME")
    nobody = {name: str(place / name) for name in names}
    Path(nobody["JUPYTER_CONFIG_DIR"]).mkdir()
    (place / "JUPYTER_CONFIG_DIR" / "jupyter_server_config.json").write_text(json.dumps(QUIET))
    command = ["make", "--old-file=install", "lab", f"LAB={folder}", f"BIN={Path(sys.executable).parent}"]
    environment = {**os.environ, **nobody, "no_proxy": "*"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        with subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                yield wait_for_facts(process, place / "JUPYTER_RUNTIME_DIR")
            finally:
                process.terminate()  # which make passes on
                process.communicate()


def wait_for_facts(process: subprocess.Popen, runtime: Path) -> dict:
    for _ in range(600):
        for path in runtime.glob("jpserver-*.json"):
            facts = json.loads(path.read_text())
            try:
                urlopen(facts["url"] + "api", timeout=5).close()
                return facts
            except (URLError, ValueError):  # not listening yet
                pass
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    raise AssertionError("JupyterLab did not start in a minute")


def test_it_listens_on_this_machine_alone(server):
    assert server["hostname"] in ("localhost", "127.0.0.1")
    listening = Path(f"/proc/{server['pid']}/net/tcp")
    if not listening.exists():
        pytest.skip("no /proc here, which tells who listens where")
    rows = [line.split() for line in listening.read_text().splitlines()[1:]]
    places = {
        row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == server["port"]
    }
    assert places == {"0100007F"}  # 127.0.0.1, its bytes in reverse


def test_it_answers_to_its_token_alone(server):
    assert len(server["token"]) >= 32
    contents = f"{server['url']}api/contents"
    with pytest.raises(HTTPError, match="403"):
        urlopen(contents, timeout=30)
    with pytest.raises(HTTPError, match="403"):
        urlopen(f"{contents}?token=guess", timeout=30)
    with urlopen(f"{contents}?token={server['token']}", timeout=30) as answer:
        assert "01_" in answer.read().decode()


def test_it_opens_copies_and_leaves_those_that_were_worked_in(server, folder):
    there = {path.name: path.read_bytes() for path in folder.glob("*.ipynb")}
    committed = {path.name: path.read_bytes() for path in (PROJECT / "notebooks").glob("*.ipynb")}
    assert there == {**committed, "02_train_head.ipynb": b"mine"}
    assert Path(server["root_dir"]).resolve() == folder.resolve()
