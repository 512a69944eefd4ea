"""One JupyterLab in one browser for all browser tests, with a notebook of every widget over a run that is there."""

import os

import nbformat
import pytest

from planetlib.settings import Settings
from tests.browser.lab import JupyterLab, find_browser

RUNS = "window.hacked = (window.hacked || 0) + 1"
#: names of files and classes that would run, were they let into a page as they are
HOSTILE = [f"<img src=x onerror='{RUNS}'>", f"<script>{RUNS}<!--"]

#: each cell is found by the comment at its start; the last one trains until it is interrupted
CELLS = [
    """# first
import sys
from planetlib.widgets import AugmentationStudio
loaded = {"sklearn", "scipy", "matplotlib", "itables", "planetlib.widgets.explain"} & set(sys.modules)
assert not loaded, loaded""",
    """# run
import pandas as pd
import tests.toy
from IPython.display import HTML
from planetlib.classify import Classifier
from planetlib.files.tables import read_samples
from planetlib.images import read_image
from planetlib.settings import load_settings
from planetlib.show.figures import show_predictions
from planetlib.show.sheets import make_contact_sheet
from planetlib.train import train_phase
from planetlib.widgets import ActivationExplorer, LabelReview, OwnPicture, PredictionsBrowser

classifier = Classifier.load(RUN, device="cpu")
samples, hostile = read_samples(FOLDER + "/samples.csv"), read_samples(FOLDER + "/hostile/samples.csv")
predictions = classifier.predict([*samples.path, FOLDER + "/mystery.jpg"], [*samples.label, ""])
right = predictions[predictions.error == ""].assign(predicted=samples.label, status="ok")
names = classifier.predict(hostile.path, hostile.label)
unread = names.assign(status="unreadable", error=hostile.label[0])""",
    "# studio\nAugmentationStudio(read_image(samples.path[0]), size=80)",
    """# explorer
import time
import planetlib.widgets.explain as explaining

map_quickly = explaining.map_activation

def map_slowly(*choices):  # as a network that is no toy
    time.sleep(0.2)
    return map_quickly(*choices)

explaining.map_activation = map_slowly
ActivationExplorer(classifier, pd.concat([right] * 10))""",
    "# own\nOwnPicture(classifier)",
    "# review\nLabelReview(FOLDER + '/samples.csv', right)",
    "# grid\nPredictionsBrowser(classifier, predictions)",
    """# names
own, other = OwnPicture(classifier), OwnPicture(classifier)
own.show_file(hostile.label[0] + ".png", open(hostile.path[0], "rb").read())
other.show_file(hostile.label[0], b"no picture")
display(names, names.groupby("label").size().to_frame(), make_contact_sheet(names), show_predictions(names))
display(ActivationExplorer(classifier, names), LabelReview(FOLDER + "/hostile/samples.csv", names), own, other)""",
    "# clickable names\nPredictionsBrowser(classifier, pd.concat([names, unread], ignore_index=True))",
    # its picture is asked of nobody: the answer, that there is none, would come late on a busy machine
    "# let in\nHTML(\"<img src='data:,' onerror='window.control = 1'>\")",
    """# training
settings = load_settings(data=DATA, run=FOLDER + "/stopped", backbone="toy", image_size=64, views=1, outliers=0,
                         head_epochs=1_000_000, patience=1_000_000, drawn=0, workers=0, device="cpu")
history, interrupted = train_phase("head", settings, samples)
print(f"{interrupted=}")""",
]


@pytest.fixture(scope="module")  # while it runs, Playwright keeps an event loop running
def lab(tmp_path_factory, trained_run: Settings, samples):
    """JupyterLab with `widgets.ipynb` open, of which all cells but the last have been run."""
    if find_browser() is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium found; in CI that is a failure: install it (apt-get install chromium)")
        pytest.skip("no Chromium found; install it (apt-get install chromium, or playwright install chromium)")
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    (folder / "mystery.jpg").write_text("not a picture")
    samples.to_csv(folder / "samples.csv", index=False)
    table = samples.head(6).assign(label=[name.replace("/", "") for name in HOSTILE] * 3)
    for row in table.itertuples():
        path = folder / "hostile" / row.label / f"{row.Index}{row.label}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(open(row.path, "rb").read())
        table.loc[row.Index, "path"] = str(path)
    table.to_csv(folder / "hostile" / "samples.csv", index=False)
    places = f"RUN, DATA, FOLDER = {str(trained_run.run)!r}, {str(trained_run.data)!r}, {str(folder)!r}\n"
    cells = [nbformat.v4.new_code_cell(source) for source in [CELLS[0], places + CELLS[1], *CELLS[2:]]]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "notebooks" / "widgets.ipynb")
    with JupyterLab(folder) as lab:
        lab.open("widgets")
        lab.cell("# training").locator(".jp-InputArea-editor").click()
        lab.choose("Run", "Run All Above Selected Cell")
        lab.page.wait_for_timeout(500)
        lab.wait_until_idle()
        errors = lab.page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']")
        assert errors.all_inner_texts() == []
        yield lab
