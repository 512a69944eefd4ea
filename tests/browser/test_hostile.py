"""Files and classes named like scripts: nothing of them runs, neither in JupyterLab nor in a report."""

import nbformat
import pytest

from planetlib.batch import reports as notebooks
from planetlib.batch.reports import run_notebooks

RUNS = "window.hacked = (window.hacked || 0) + 1"
IMAGE, SCRIPT = f"<img src=x onerror='{RUNS}'>", f"<script>{RUNS}<!--"

# Everything that shows names, once; the last cell is what the names would be, were they not escaped.
SHOW = """
import pandas as pd
from IPython.display import HTML, display
from planetlib.classify import Classifier, gather_inputs
from planetlib.show.figures import show_predictions
from planetlib.show.sheets import make_contact_sheet
from planetlib.files.tables import read_samples
from planetlib.widgets import ActivationExplorer, LabelReview, OwnPicture, PredictionsBrowser

classifier = Classifier.load({run!r}, device="cpu")
samples = read_samples({samples!r})
predictions = classifier.predict(samples.path, samples.label)
unread = predictions.assign(status="unreadable", error={names!r}[0])
"""
SHOWN = [
    "predictions",
    "predictions.groupby('label').size().to_frame()",
    "make_contact_sheet(predictions)",
    "show_predictions(predictions)",
    "ActivationExplorer(classifier, predictions)",
    "PredictionsBrowser(classifier, pd.concat([predictions, unread], ignore_index=True))",
    "LabelReview({samples!r}, predictions)",
    "own = OwnPicture(classifier); own.show(samples.path[0], open(samples.path[0], 'rb').read()); own",
    "own.show({names!r}[0], b'no picture'); own",
]
CONTROL = "HTML(\"<img src=x onerror='window.control = 1'>\")"


@pytest.fixture(scope="module")
def hostile(trained_run, samples, lab, tmp_path_factory):
    """A notebook that shows pictures whose files and classes are named like scripts."""
    folder, names = tmp_path_factory.mktemp("hostile"), [IMAGE.replace("/", ""), SCRIPT]
    paths, labels = [], []
    for name, path in zip(names * 3, samples.path):
        (folder / name).mkdir(exist_ok=True)
        target = folder / name / f"{len(paths)}{name}.png"
        target.write_bytes(open(path, "rb").read())
        paths.append(str(target))
        labels.append(name)
    table = samples.head(len(paths)).assign(path=paths, label=labels)
    table.to_csv(folder / "samples.csv", index=False)
    fill = {"run": str(trained_run.run), "samples": str(folder / "samples.csv"), "names": names}
    cells = [nbformat.v4.new_code_cell(source.format(**fill)) for source in (SHOW, *SHOWN)]
    cells.append(nbformat.v4.new_code_cell(CONTROL))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    book = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(book, lab.notebooks / "90_hostile.ipynb")
    return lab.notebooks / "90_hostile.ipynb"


def require_that_nothing_ran(page) -> None:
    page.wait_for_function("window.control === 1", timeout=20_000)  # a script that is let in does run
    page.wait_for_timeout(500)
    assert page.evaluate("window.hacked") is None


def test_names_like_scripts_run_nothing_in_jupyterlab(lab, hostile):
    lab.page.on("dialog", lambda dialog: pytest.fail("a script opened a dialog"))
    page = lab.open("90_hostile")
    cells = lab.run_all()
    errors = [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert not errors, errors
    grid = lab.output_of("PredictionsBrowser")
    grid.locator("tbody tr").first.click()
    page.wait_for_timeout(1000)
    assert grid.locator("tbody tr").first.locator("td").nth(1).inner_text().startswith("0<img src=x onerror=")
    require_that_nothing_ran(page)


def test_names_like_scripts_run_nothing_in_a_report(lab, hostile, tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path / "books")
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / hostile.name).write_bytes(hostile.read_bytes())
    (report,) = run_notebooks(tmp_path / "out", {}, progress=False)
    page = lab.browser.new_page()
    page.goto(report.as_uri())
    require_that_nothing_ran(page)
    assert "onerror=" in page.inner_text("body")  # as text it is there
    page.close()
