"""The download, against a server on this machine, and the listing that is shipped."""

import hashlib
import socket
import stat
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from planetlib.files.download import LISTING, fetch_planets
from planetlib.files.tables import DataError
from planetlib.settings import PROJECT

NAMES = ("a0", "a1", "a2", "b0", "b1", "b2")
FILES = {f"{name[0]}/{name[0]} planet_{name[1]}.png": name.encode() * 99 for name in NAMES}
FIRST = next(iter(FILES))
PUBLIC = PROJECT.parent / "shared" / "data" / "planets"


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; after `server.whole_answers` requests it fails in the way of `server.failure`."""

    def do_GET(self):
        with self.server.lock:
            self.server.asked.append(self.path)
            fails = len(self.server.asked) > self.server.whole_answers
        content = self.server.files[unquote(self.path).removeprefix("/input/")]
        if fails and self.server.failure == "error 500":
            return self.send_error(500)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if fails else content)
        if fails and self.server.failure == "silence":
            self.wfile.flush()
            self.server.silent.wait(20)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.asked, server.whole_answers, server.failure = dict(FILES), [], 99, ""
        server.lock, server.silent = threading.Lock(), threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def listing(tmp_path) -> Path:
    rows = [(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in FILES.items()]
    pd.DataFrame(rows, columns=["file", "bytes", "sha256"]).to_csv(tmp_path / "listing.csv", index=False)
    return tmp_path / "listing.csv"


@pytest.fixture
def fetch(tmp_path, server, listing):
    """Downloads into `tmp_path / "planets"`."""
    return lambda: fetch_planets(tmp_path / "planets", f"http://127.0.0.1:{server.server_port}/input", listing)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_all_files_are_downloaded_once_and_nothing_else_is_left(fetch, server, tmp_path):
    assert fetch() == len(FILES) and contents(tmp_path / "planets") == FILES
    (tmp_path / "mine").touch()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "mine", tmp_path / "planets" / FIRST)]
    assert modes[0] == modes[1]  # whoever may read other files of this user may read these
    server.asked.clear()
    assert fetch() == 0 and server.asked == []


def test_a_file_that_was_altered_is_downloaded_again(fetch, server, tmp_path):
    fetch()
    (tmp_path / "planets" / "a" / "a planet_1.png").write_bytes(b"b1" * 99)
    (tmp_path / "planets" / "a" / "a planet_1.png.part").write_bytes(b"what a killed process left")
    server.asked.clear()
    assert fetch() == 1 and server.asked == ["/input/a/a%20planet_1.png"]
    assert contents(tmp_path / "planets") == FILES


@pytest.mark.parametrize("failure", ["error 500", "half a file", "silence"])
def test_a_download_that_broke_off_goes_on_where_it_stopped(failure, fetch, server, tmp_path, monkeypatch):
    monkeypatch.setattr("planetlib.files.download.TIMEOUT", 0.5 if failure == "silence" else 30)
    server.whole_answers, server.failure = 4, failure
    with pytest.raises(DataError, match="run the same command again") as caught:
        fetch()
    server.silent.set()
    assert ("got 99 bytes" if failure == "half a file" else "download failed") in str(caught.value)
    kept = contents(tmp_path / "planets")
    assert len(kept) == 4 and kept.items() <= FILES.items()
    server.whole_answers = 99
    assert fetch() == len(FILES) - 4 and contents(tmp_path / "planets") == FILES


@pytest.mark.parametrize("content, size", [(b"advertisement", 13), (bytes(3_000_000), 199)], ids=["other", "endless"])
def test_what_is_not_the_file_is_not_kept_nor_listened_to(content, size, fetch, server, tmp_path):
    server.files[FIRST] = content
    with pytest.raises(DataError, match=f"a%20planet_0.png: got {size} bytes.*; expected 198 "):
        fetch()
    assert FIRST not in contents(tmp_path / "planets")


def test_a_server_that_cannot_be_reached_is_named(listing, tmp_path):
    with socket.socket() as unused:  # bound but not listening: every connection is refused
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(DataError, match=rf"^{url}/.*download failed \(.*refused\).*run the same command again"):
            fetch_planets(tmp_path / "planets", url, listing)


@pytest.mark.parametrize("name", ["../outside.png", "a/../../outside.png", "/etc/outside.png"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name, fetch, server, listing):
    table = pd.read_csv(listing)
    pd.concat([table, table.head(1).assign(file=name)]).to_csv(listing, index=False)
    with pytest.raises(DataError, match="a name that leads out of .*nothing was downloaded"):
        fetch()
    assert server.asked == []


@pytest.mark.parametrize("link", ["a", "a/a planet_1.png", "a/a planet_1.png.part"])
def test_a_link_that_leads_out_of_the_folder_is_refused(link, fetch, server, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "planets" / link).parent.mkdir(parents=True)
    (tmp_path / "planets" / link).symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="a name that leads out of "):
        fetch()
    assert server.asked == [] and not list((tmp_path / "outside").iterdir())


def test_the_shipped_listing_has_a_hundred_different_files_of_each_class():
    files = pd.read_csv(LISTING)
    assert files.file.str.split("/").str[0].value_counts().tolist() == [100] * 7
    assert files.sha256.str.fullmatch("[0-9a-f]{64}").all() and (files.bytes > 0).all()
    assert files.file.is_unique and files.sha256.is_unique


@pytest.mark.skipif(not PUBLIC.is_dir(), reason=f"the public data set is not at {PUBLIC}")
def test_the_public_data_set_is_what_the_listing_says():
    assert fetch_planets(PUBLIC, "http://127.0.0.1:9/nowhere") == 0
