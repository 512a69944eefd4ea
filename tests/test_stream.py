"""A table that is written as it comes and goes on where it stopped: the same bytes as if it never had, or a refusal."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from planetlib import PlanetlibError
from planetlib.batch.stream import predict_resumably
from planetlib.classify import Classifier

NAMES = ["a.png", 'quo"te.png', "line\nbreak.png", '"\n".png', "comma, semicolon;.png", "é.png", "bad.png", "=b.png"]


@pytest.fixture(scope="module")
def inputs(samples, tmp_path_factory) -> list[tuple[str, str]]:
    """Eight files, four of whose names break lines, quotes or a spreadsheet; one is no picture."""
    folder = tmp_path_factory.mktemp("named")
    for name, source in zip(NAMES, samples.path):
        shutil.copy(source, folder / name)
    (folder / "bad.png").write_text("no picture")
    return [(str(folder / name), "red" if index % 2 else "") for index, name in enumerate(NAMES)]


@pytest.fixture(scope="module")
def whole(classifier, inputs, tmp_path_factory) -> bytes:
    """The table of a call that nothing interrupted."""
    path = tmp_path_factory.mktemp("whole") / "new" / "p.csv"
    list(predict_resumably(classifier, inputs, path, batch_size=3))
    assert [place.name for place in path.parent.iterdir()] == ["p.csv"]
    return path.read_bytes()


@pytest.fixture
def stopped(classifier, inputs, tmp_path) -> Path:
    """Where two calls stopped, each after one of the three batches; an older table is there as well."""
    path = tmp_path / "p.csv"
    path.write_text("what was there before")
    for resumes in (False, True):
        pieces = predict_resumably(classifier, inputs, path, batch_size=3, resume=resumes)
        next(pieces)
        if resumes:
            next(pieces)  # the first one was that of the call before
        pieces.close()
    return path


def resume(path: Path, classifier: Classifier, inputs: list, batch_size: int = 3) -> pd.DataFrame:
    return pd.concat(predict_resumably(classifier, inputs, path, batch_size, resume=True), ignore_index=True)


def test_a_stopped_call_leaves_its_rows_which_come_again_and_the_older_table(classifier, inputs, stopped, whole):
    done = Path(f"{stopped}.part").read_bytes()
    assert whole.startswith(done) and len(pd.read_csv(f"{stopped}.part")) == 6
    assert stopped.read_text() == "what was there before"
    table = resume(stopped, classifier, inputs)
    expected = pd.concat(classifier.stream(inputs, 3), ignore_index=True)
    pd.testing.assert_frame_equal(table, expected, rtol=1e-5)
    list(predict_resumably(classifier, inputs, stopped, batch_size=3))  # it is not asked to go on
    assert stopped.read_bytes() == whole


@pytest.mark.parametrize("lost", ["part", "journal"])
def test_with_nothing_to_go_on_with_it_starts_anew(lost, classifier, inputs, whole, stopped):
    Path(f"{stopped}.{lost}").unlink()
    resume(stopped, classifier, inputs)
    assert stopped.read_bytes() == whole


def test_wherever_a_write_was_cut_it_ends_the_same_bytes(classifier, inputs, whole, tmp_path, monkeypatch):
    path = tmp_path / "p.csv"
    part, journal = Path(f"{path}.part"), Path(f"{path}.journal")
    pieces = predict_resumably(classifier, inputs, path, batch_size=3)
    next(pieces), next(pieces), next(pieces)
    pieces.close()
    told = journal.read_bytes()
    asked, stream = [], Classifier.stream
    monkeypatch.setattr(Classifier, "stream", lambda *a, **o: (asked.append(len(a[1])), stream(*a, **o))[1])
    places = [0, 5, *range(90, len(whole), 127), len(whole) - 1, len(whole)]
    cuts = [(place, len(told)) for place in places]
    cuts += [(len(whole), place) for place in range(told.index(b"\n") + 1, len(told))]
    for table_cut, journal_cut in cuts:
        part.write_bytes(whole[:table_cut])
        journal.write_bytes(told[:journal_cut])
        assert len(resume(path, classifier, inputs)) == len(inputs)
        assert path.read_bytes() == whole, (table_cut, journal_cut)
        assert [place.name for place in tmp_path.iterdir()] == ["p.csv"]
    assert sorted(set(asked)) == [0, 2, 5, 8]  # whole batches are kept, and of the last one nothing or all


@pytest.mark.parametrize("end, damage", [
    ("journal", lambda content: b""), ("journal", lambda content: b"7\n"),
    ("journal", lambda content: content + b"x\n"), ("part", lambda content: b"\xff" * len(content)),
])  # fmt: skip
def test_what_is_damaged_is_told_and_left_as_it_is(end, damage, classifier, inputs, stopped):
    path = Path(f"{stopped}.{end}")
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(PlanetlibError, match=f"{path.name}: damaged .*leave --resume out"):
        resume(stopped, classifier, inputs)
    assert path.read_bytes() == before


@pytest.mark.parametrize("differing", ["inputs", "batch_size", "checkpoint", "versions", "precision", "runtime"])
def test_rows_that_were_made_otherwise_are_refused(differing, classifier, inputs, stopped, trained_run, monkeypatch):
    before = Path(f"{stopped}.part").read_bytes()
    if differing == "versions":
        monkeypatch.setattr("planetlib.batch.stream.library_versions", dict)
    if differing == "runtime":
        monkeypatch.setattr(classifier.compute, "name", "another", raising=False)
    others = {
        "inputs": (classifier, inputs[::-1]),
        "batch_size": (classifier, inputs, 4),
        "checkpoint": (Classifier.load(trained_run.run / "head.safetensors", device="cpu"), inputs),
        "precision": (Classifier(classifier.checkpoint, "cpu", "bfloat16"), inputs),
    }
    with pytest.raises(PlanetlibError, match=f"made with {differing} .*now .* leave --resume out"):
        resume(stopped, *others.get(differing, (classifier, inputs)))
    assert Path(f"{stopped}.part").read_bytes() == before
