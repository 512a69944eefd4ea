"""A prediction that goes on where it stopped: the same bytes as if it had never stopped, or a refusal."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from planetlib import PlanetlibError
from planetlib.batch.resume import predict_resumably
from planetlib.classify import Classifier

NAMES = ["a.png", 'quo"te.png', "line\nbreak.png", '"\n".png', "comma, semicolon;.png", "é.png", "bad.png", "b.png"]


@pytest.fixture(scope="module")
def classifier(trained_run) -> Classifier:
    return Classifier.load(trained_run.run, device="cpu")


@pytest.fixture(scope="module")
def inputs(samples, tmp_path_factory) -> list[tuple[str, str]]:
    """Eight files, three of whose names break lines or quotes; one is no picture."""
    folder = tmp_path_factory.mktemp("named")
    for name, source in zip(NAMES, samples.path):
        shutil.copy(source, folder / name)
    (folder / "bad.png").write_text("no picture")
    return [(str(folder / name), "red" if index % 2 else "") for index, name in enumerate(NAMES)]


@pytest.fixture(scope="module")
def whole(classifier, inputs, tmp_path_factory) -> bytes:
    """The table of a call that nothing interrupted."""
    path = tmp_path_factory.mktemp("whole") / "p.csv"
    list(predict_resumably(classifier, inputs, path, batch_size=3))
    assert [place.name for place in path.parent.iterdir()] == ["p.csv"]
    return path.read_bytes()


@pytest.fixture
def stopped(classifier, inputs, tmp_path) -> Path:
    """Where a call stopped after two of its three batches."""
    pieces = predict_resumably(classifier, inputs, tmp_path / "p.csv", batch_size=3)
    next(pieces), next(pieces)
    pieces.close()
    return tmp_path / "p.csv"


def resume(classifier, inputs, path, batch_size=3, **options) -> pd.DataFrame:
    return pd.concat(predict_resumably(classifier, inputs, path, batch_size, resume=True, **options), ignore_index=True)


def test_wherever_the_table_was_cut_it_ends_the_same_bytes(classifier, inputs, whole, stopped, monkeypatch):
    part, made_from = Path(f"{stopped}.part"), Path(f"{stopped}.made_from.json")
    described = made_from.read_bytes()
    asked, stream = [], Classifier.stream
    monkeypatch.setattr(Classifier, "stream", lambda *a, **o: (asked.append(len(a[1])), stream(*a, **o))[1])
    for cut in [0, 5, *range(90, len(whole), 61), len(whole) - 1, len(whole)]:
        made_from.write_bytes(described)
        part.write_bytes(whole[:cut])
        assert len(resume(classifier, inputs, stopped)) == len(inputs)
        assert stopped.read_bytes() == whole, cut
        assert not part.exists() and not made_from.exists()
        stopped.unlink()
    assert set(asked) == {8, 5, 2, 0}  # whole batches are kept, and of the last one nothing or all


def test_earlier_rows_come_again_as_they_were(classifier, inputs, whole, stopped):
    table = resume(classifier, inputs, stopped)
    expected = pd.concat(classifier.stream(inputs, 3), ignore_index=True)
    pd.testing.assert_frame_equal(table, expected, rtol=1e-5)


def test_with_nothing_to_go_on_with_it_starts_anew(classifier, inputs, whole, stopped, tmp_path):
    (tmp_path / "p.csv.part").unlink()
    resume(classifier, inputs, stopped)
    assert stopped.read_bytes() == whole
    resume(classifier, inputs, stopped)
    assert stopped.read_bytes() == whole


def test_without_resume_it_starts_anew(classifier, inputs, whole, stopped):
    Path(f"{stopped}.part").write_bytes(b"something else")
    list(predict_resumably(classifier, inputs, stopped, batch_size=3))
    assert stopped.read_bytes() == whole


def test_another_order_of_inputs_or_batch_size_is_refused(classifier, inputs, stopped):
    before = Path(f"{stopped}.part").read_bytes()
    told = r"p.csv.part: was made with inputs 8, digest \w+ \(now 8, digest \w+\); expected the same to go on: give the"
    with pytest.raises(PlanetlibError, match=told):
        resume(classifier, inputs[::-1], stopped)
    with pytest.raises(
        PlanetlibError, match=r"was made with batch_size 3 \(now 4\); .* leave --resume out to start anew"
    ):
        resume(classifier, inputs, stopped, batch_size=4)
    assert Path(f"{stopped}.part").read_bytes() == before


def test_another_checkpoint_is_refused(classifier, inputs, stopped, trained_run):
    with pytest.raises(PlanetlibError, match=r"was made with checkpoint \w+ \(now \w+\)"):
        resume(Classifier.load(trained_run.run / "head.pt", device="cpu"), inputs, stopped)


def test_another_library_is_refused(classifier, inputs, stopped):
    made_from = Path(f"{stopped}.made_from.json")
    described = json.loads(made_from.read_text())
    described["versions"]["torch"] = "1.0"
    made_from.write_text(json.dumps(described))
    with pytest.raises(PlanetlibError, match="was made with versions "):
        resume(classifier, inputs, stopped)
