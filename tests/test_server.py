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


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The facts that a running server writes down of itself; one of the working copies has been worked in."""
    place = tmp_path_factory.mktemp("jupyter")
    for name in ("copies", "config"):
        (place / name).mkdir()
    (place / "copies" / "02_train_head.ipynb").write_text("mine")
    quiet = {"ServerApp": {"open_browser": False, "allow_root": True}}
    (place / "config" / "jupyter_server_config.json").write_text(json.dumps(quiet))
    parts = {f"JUPYTER_{part.upper()}_DIR": str(place / part) for part in ("config", "runtime", "data")}
    command = ["make", "--old-file=install", "lab", f"LAB={place / 'copies'}", f"BIN={Path(sys.executable).parent}"]
    environment = {**os.environ, **parts, "HOME": str(place / "home"), "no_proxy": "*"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        with subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                yield wait_for_facts(process, place / "runtime")
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
    places = {row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{server['port']:04X}")}
    assert places == {f"0100007F:{server['port']:04X}"}  # 127.0.0.1, its bytes in reverse


def test_it_answers_to_its_token_alone(server):
    assert len(server["token"]) >= 32
    contents = f"{server['url']}api/contents"
    for guess in ("", "?token=guess"):
        with pytest.raises(HTTPError, match="403"):
            urlopen(contents + guess, timeout=30)
    with urlopen(f"{contents}?token={server['token']}", timeout=30) as answer:
        assert "01_" in answer.read().decode()


def test_it_opens_copies_and_leaves_those_that_were_worked_in(server):
    there = {path.name: path.read_bytes() for path in Path(server["root_dir"]).glob("*.ipynb")}
    committed = {path.name: path.read_bytes() for path in (PROJECT / "notebooks").glob("*.ipynb")}
    assert there == {**committed, "02_train_head.ipynb": b"mine"}
