"""The download, against a server on this machine, and the listing that is shipped."""

import hashlib
import socket
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest

from planetlib.files.download import LISTING, fetch_planets
from planetlib.files.tables import DataError
from planetlib.settings import PROJECT

NAMES = ("a0", "a1", "a2", "b0", "b1", "b2")
FILES = {f"{name[0]}/{name[0]} planet_{name[1]}.png": name.encode() * 99 for name in NAMES}
PUBLIC = PROJECT.parent / "shared" / "data" / "planets"


class Server(ThreadingHTTPServer):
    """Serves a folder; after `whole_answers` requests it fails in the way of `failure`.

    With `ranges` it sends the rest of a file where that is asked for.
    """

    def __init__(self, folder: Path):
        self.folder, self.asked, self.whole_answers, self.failure, self.lock = folder, [], 99, "", threading.Lock()
        self.ranges, self.sent = False, 0
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/input"


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, request, address, server):
        super().__init__(request, address, server, directory=server.folder)

    def do_GET(self):
        with self.server.lock:
            self.server.asked.append(self.path)
            fails = len(self.server.asked) > self.server.whole_answers
        content = Path(self.translate_path(self.path)).read_bytes()
        first = int(self.headers.get("Range", "bytes=0-")[6:-1]) if self.server.ranges else 0
        if first > len(content):
            return self.send_error(416)
        if not fails:
            return self.send(content, first, len(content))
        if self.server.failure == "error 500":
            return self.send_error(500)
        if self.server.failure in ("half a file", "silence"):
            self.send(content, first, len(content) // 2)
        if self.server.failure == "silence":
            self.wfile.flush()
            self.server.silent.wait(20)
        # Else nothing is answered at all: the connection is just closed.

    def send(self, content: bytes, first: int, end: int) -> None:
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        with self.server.lock:  # counted first, as whoever asked may look as soon as it has come
            self.server.sent += max(0, end - first)
        self.wfile.write(content[first:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    for name, content in FILES.items():
        (tmp_path / "input" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "input" / name).write_bytes(content)
    with Server(tmp_path) as server:
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
    return lambda source=server.url: fetch_planets(tmp_path / "planets", source, listing, progress=False)


def contents(folder: Path) -> dict[str, bytes]:
    """What is there under a name of its own: `.part` is what has not come whole."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".part"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_all_files_are_downloaded_and_nothing_else_is_left(fetch, tmp_path):
    assert fetch() == len(FILES)
    assert contents(tmp_path / "planets") == FILES and not list(tmp_path.rglob("*.part"))


def test_a_second_call_downloads_nothing(fetch, server):
    fetch()
    server.asked.clear()
    assert fetch() == 0 and server.asked == []


@pytest.mark.parametrize("content", [b"", b"a1" * 9, b"b1" * 99], ids=["empty", "cut", "altered"])
def test_a_file_that_is_not_whole_is_downloaded_again(fetch, server, tmp_path, content):
    fetch()
    (tmp_path / "planets" / "a" / "a planet_1.png").write_bytes(content)
    server.asked.clear()
    assert fetch() == 1 and server.asked == ["/input/a/a%20planet_1.png"]
    assert contents(tmp_path / "planets") == FILES


@pytest.mark.parametrize("failure", ["error 500", "half a file", "no answer"])
def test_a_download_that_broke_off_goes_on_where_it_stopped(fetch, server, tmp_path, failure):
    server.whole_answers, server.failure = 4, failure
    advice = "download failed .* what came so far is kept in .*: run the same command again to go on$"
    with pytest.raises(DataError, match=advice):
        fetch()
    kept = contents(tmp_path / "planets")
    assert len(kept) == 4 and kept.items() <= FILES.items()
    server.whole_answers = 99
    assert fetch() == len(FILES) - 4
    assert contents(tmp_path / "planets") == FILES and not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_of_a_file_that_came_in_part_the_rest_is_asked_for(ranges, fetch, server, tmp_path):
    name, content = next(iter(FILES.items()))
    (tmp_path / "planets" / name).parent.mkdir(parents=True)
    (tmp_path / "planets" / f"{name}.part").write_bytes(content[:150])
    server.ranges = ranges
    assert fetch() == len(FILES) and contents(tmp_path / "planets") == FILES
    assert server.sent == sum(map(len, FILES.values())) - (150 if ranges else 0)


@pytest.mark.parametrize("before", [b"x" * 150, b"x" * 198, b"x" * 999], ids=["shorter", "equal", "longer"])
def test_what_came_before_and_is_of_something_else_is_thrown_away(before, fetch, server, tmp_path):
    name = next(iter(FILES))
    (tmp_path / "planets" / name).parent.mkdir(parents=True)
    (tmp_path / "planets" / f"{name}.part").write_bytes(before)
    server.ranges = True
    assert fetch() == len(FILES) and contents(tmp_path / "planets") == FILES


def test_a_server_with_less_than_came_before_does_not_block_the_way(fetch, server, tmp_path):
    name, content = next(iter(FILES.items()))
    (tmp_path / "planets" / name).parent.mkdir(parents=True)
    (tmp_path / "planets" / f"{name}.part").write_bytes(content[:150])
    (server.folder / "input" / name).write_bytes(b"gone")
    server.ranges = True
    with pytest.raises(DataError, match="download failed .*run the same command again"):
        fetch()
    (server.folder / "input" / name).write_bytes(content)
    fetch()
    assert contents(tmp_path / "planets") == FILES


def test_a_server_that_falls_silent_is_given_up(fetch, server, tmp_path, monkeypatch):
    monkeypatch.setattr("planetlib.files.download.TIMEOUT", 0.3)
    server.whole_answers, server.failure, server.silent = 4, "silence", threading.Event()
    with pytest.raises(DataError, match=r"download failed \(.*timed out\); .*run the same command again to go on"):
        fetch()
    server.silent.set()
    assert len(contents(tmp_path / "planets")) == 4


def test_a_server_that_sends_without_end_is_not_listened_to(fetch, server, tmp_path):
    (server.folder / "input" / "b" / "b planet_2.png").write_bytes(bytes(3_000_000))
    with pytest.raises(
        DataError, match=r"b%20planet_2.png: got \d{1,5} bytes with SHA-256 .*; the file was not kept: "
    ):
        fetch()
    assert not list((tmp_path / "planets" / "b").glob("b planet_2*"))


ESCAPES = ["../outside.png", "a/../../outside.png", "/etc/outside.png", "C:\\outside.png", "a\\..\\..\\outside.png"]


@pytest.mark.parametrize("name", ESCAPES)
def test_a_name_that_leads_out_of_the_folder_is_refused(name, fetch, server, listing, tmp_path):
    table = pd.read_csv(listing)
    pd.concat([table, table.head(1).assign(file=name)]).to_csv(listing, index=False)
    with pytest.raises(DataError, match="got a name that leads out of .*, expected one within; nothing was downloaded"):
        fetch()
    assert server.asked == []


@pytest.mark.parametrize("link", ["a", "a/a planet_1.png", "a/a planet_1.png.part"])
def test_a_link_that_leads_out_of_the_folder_is_refused(link, fetch, server, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "planets" / link).parent.mkdir(parents=True)
    (tmp_path / "planets" / link).symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="got a name that leads out of "):
        fetch()
    assert server.asked == [] and not list((tmp_path / "outside").iterdir())


def test_a_full_disk_is_not_taken_for_a_bad_connection(fetch, tmp_path):
    name = next(iter(FILES))
    (tmp_path / "planets" / name).parent.mkdir(parents=True)
    (tmp_path / "planets" / f"{name}.part").mkdir()  # nothing can be written there
    with pytest.raises(OSError, match=f"{Path(name).name}.part"):
        fetch()


def test_a_file_with_the_wrong_checksum_is_not_kept(fetch, server, tmp_path):
    (server.folder / "input" / "b" / "b planet_2.png").write_bytes(b"advertisement")
    with pytest.raises(DataError, match="b%20planet_2.png: got 13 bytes with SHA-256 .*; the file was not kept: "):
        fetch()
    assert contents(tmp_path / "planets") == {name: FILES[name] for name in FILES if name != "b/b planet_2.png"}


def test_a_server_that_cannot_be_reached_is_named(fetch):
    with socket.socket() as unused:  # bound but not listening: every connection is refused
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(DataError, match=rf"^{url}/.*: download failed \(.*refused\); .*run the same command again"):
            fetch(url)


def test_the_shipped_listing_has_a_hundred_different_files_of_each_class():
    files = pd.read_csv(LISTING)
    classes = files.file.str.split("/").str[0].value_counts()
    assert len(files) == 700 and len(classes) == 7 and set(classes) == {100}
    assert files.sha256.str.fullmatch("[0-9a-f]{64}").all() and (files.bytes > 0).all()
    assert files.file.is_unique and files.sha256.is_unique


@pytest.mark.skipif(not PUBLIC.is_dir(), reason=f"the public data set is not at {PUBLIC}")
def test_the_public_data_set_is_what_the_listing_says():
    for row in pd.read_csv(LISTING).itertuples():
        assert hashlib.sha256((PUBLIC / row.file).read_bytes()).hexdigest() == row.sha256, row.file
        assert (PUBLIC / row.file).stat().st_size == row.bytes
