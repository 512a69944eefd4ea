"""JupyterLab as `make lab` starts it: for this machine alone, and for whoever has the token."""

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

from planetlib.settings import PROJECT


def lab_options() -> list[str]:
    """What `make lab` passes to `jupyter lab`."""
    return shlex.split(re.search(r"\$\(BIN\)/jupyter lab(.*)", (PROJECT / "Makefile").read_text(encoding="utf-8"))[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The facts that a running server writes down of itself."""
    place = tmp_path_factory.mktemp("jupyter")
    nobody = {
        name: str(place / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "HOME")
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in nobody.items():
            patch.setenv(name, value)
        patch.setenv("no_proxy", "*")
        command = [sys.executable, "-m", "jupyterlab", *lab_options(), "--no-browser", "--allow-root"]
        with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True) as process:
            try:
                yield wait_for_facts(process, place / "JUPYTER_RUNTIME_DIR")
            finally:
                process.terminate()
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
