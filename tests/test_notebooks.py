"""The five notebooks as they are stored, and how they are run into reports."""

import base64
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

import planetlib.batch.reports
from planetlib import PlanetlibError
from planetlib.batch.reports import run_notebooks
from planetlib.files.tables import DataError, write_table
from planetlib.files.tensors import CheckpointError
from planetlib.settings import PROJECT

FOLDER = PROJECT / "notebooks"
NAMES = ["01_explore_and_augment", "02_train_head", "03_fine_tune", "04_evaluate_and_explain", "05_batch_inference"]

# The cells whose stored output is not held against a recomputed one, by their first line of code.
EXEMPT = [
    ("02_train_head", 'history.tail(3)[["epoch", '),
    ("02_train_head", "table.rename("),
    ("03_fine_tune", 'history.tail(3)[["epoch", '),
    ("03_fine_tune", "table.rename("),
    ("03_fine_tune", "broken.rename("),
    ("04_evaluate_and_explain", "from planetlib.evaluate import"),
    ("04_evaluate_and_explain", "from planetlib.study.faithful import compare_methods"),
]

each_notebook = pytest.mark.parametrize("name", NAMES)


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(name: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def markdown_cells(name: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(name).cells if cell.cell_type == "markdown"]


# As they are stored


def test_there_are_five_notebooks_in_order():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


@each_notebook
def test_it_is_a_valid_notebook_of_any_python_3(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"


@each_notebook
def test_it_opens_with_its_title_and_what_it_covers_needs_makes_and_takes(name):
    first = read(name).cells[0]
    assert first.cell_type == "markdown" and re.match(rf"# {int(name[:2])} · \w", first.source)
    rows = re.findall(r"^\| \*\*(\w+)\*\* \| \S.*\|$", first.source, re.MULTILINE)
    assert rows == ["covers", "needs", "makes", "takes"]
    assert len([cell for cell in markdown_cells(name) if cell.source.startswith("# ")]) == 1


@each_notebook
def test_it_ends_with_what_was_learnt_two_questions_and_three_things_to_try(name):
    last = read(name).cells[-1]
    assert last.cell_type == "markdown"
    questions = re.search(r"^## Two questions\n\n1\. .+\n2\. .+\n", last.source, re.MULTILINE)
    before = NAMES.index(name)
    assert questions and (f"## Answers to notebook {before}\n\n1. " in last.source) == (before > 0)
    learnt, _, to_try = last.source.partition("## Three things to try\n")
    assert re.search(r"^## What was learnt\n\n(- .*\n(  .*\n)*)+", learnt, re.MULTILINE)
    assert re.findall(r"^(\d)\. \S", to_try, re.MULTILINE) == ["1", "2", "3"]


@each_notebook
def test_its_links_lead_to_files_that_exist(name):
    text = "\n".join(cell.source for cell in markdown_cells(name))
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert targets and all((FOLDER / target).is_file() for target in targets)


@each_notebook
def test_code_cells_are_short(name):
    assert not [cell.source for cell in code_cells(name) if len(cell.source.splitlines()) > 25]


def test_one_cell_alone_teaches_and_may_define_something_and_the_next_holds_it_against_the_library():
    cells = [cell for name in NAMES for cell in code_cells(name)]
    (teaching,) = [index for index, cell in enumerate(cells) if "teaching" in cell.metadata.get("tags", [])]
    assert cells[teaching] in code_cells("04_evaluate_and_explain") and "assert " in cells[teaching + 1].source
    definition = re.compile(r"^ *(async def|def|class) \w", re.MULTILINE)
    assert {index for index, cell in enumerate(cells) if definition.search(cell.source)} <= {teaching}


@each_notebook
def test_every_code_cell_has_been_run_in_order_without_error_or_warning(name):
    cells = code_cells(name)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


def test_the_cells_that_are_not_compared_are_these_and_few_and_each_says_why():
    cells = [(name, cell) for name in NAMES for cell in code_cells(name)]
    found = [(name, cell.source) for name, cell in cells if "NBVAL_" in cell.source or "nbval" in str(cell.metadata)]
    assert len(found) * 10 <= len(cells) and len(found) == len(EXEMPT)
    for (name, source), (stated, line) in zip(found, EXEMPT):
        assert re.match(r"# NBVAL_(IGNORE_OUTPUT|SKIP)\n# \w.{20,}", source), (name, source)
        code = next(line for line in source.splitlines() if not line.startswith("#"))
        assert name == stated and code.startswith(line)


# Where the input is missing


def run_first_cell(name: str) -> None:
    exec(compile(code_cells(name)[0].source, name, "exec"), {})


@pytest.mark.parametrize("name", NAMES[1:4])
def test_without_samples_it_says_that_notebook_01_makes_them(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PLANETLIB_RUN", str(tmp_path))
    with pytest.raises(DataError, match="no samples table.*notebook 01"):
        run_first_cell(name)


@pytest.mark.parametrize("name", NAMES[2:])
def test_without_a_checkpoint_it_says_that_notebook_02_makes_one(name, tmp_path, monkeypatch, samples):
    monkeypatch.setenv("PLANETLIB_RUN", str(tmp_path))
    write_table(samples, tmp_path / "samples.csv")
    with pytest.raises(CheckpointError, match="notebook 02"):
        run_first_cell(name)


# Running them


PIXEL = base64.b64encode(b"a still picture").decode()
VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET = f"""from IPython.display import display
display({{"{VIEW}": {{"model_id": "abc"}}, "image/png": "{PIXEL}", "text/plain": "Panel()"}}, raw=True)"""
LOOK_AROUND = """import os, pathlib
print("data", os.environ["PLANETLIB_DATA"], "bars off", os.environ["TQDM_DISABLE"], "in", pathlib.Path.cwd().name)"""


@pytest.fixture
def write_notebooks(tmp_path, monkeypatch):
    """Makes a folder of notebooks, each of the cells that are given, in place of the project's five."""
    folder = tmp_path / "books"
    folder.mkdir()
    monkeypatch.setattr(planetlib.batch.reports, "FOLDER", folder)

    def write(**books: list[str]) -> Path:
        for name, sources in books.items():
            cells = [nbformat.v4.new_code_cell(source, id=f"cell-{index}") for index, source in enumerate(sources)]
            kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
            nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / f"{name.strip('_')}.ipynb")
        return folder

    return write


def run(out: Path, **options) -> list[Path]:
    return run_notebooks(out, {"PLANETLIB_DATA": "mine"}, **options)


def test_reports_are_written_in_order_and_the_notebooks_left_as_they_are(write_notebooks, tmp_path):
    folder = write_notebooks(_02_second=["print(6 * 7)"], _01_first=[LOOK_AROUND, WIDGET], notes=["1 / 0"])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    reports = run(tmp_path / "deep" / "out")
    assert reports == [tmp_path / "deep" / "out" / f"{name}.html" for name in ("index", "01_first", "02_second")]
    index, first, second = (report.read_text(encoding="utf-8") for report in reports)
    assert re.findall(r'<h2><a href="(.+?)"', index) == ["01_first.html", "02_second.html"]
    assert "data mine bars off 1 in books" in first and "<pre>42\n</pre>" in second
    # The still picture stands in place of the widget.
    assert f"data:image/png;base64,{PIXEL}" in first and f'type="{VIEW}"' not in first
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_index_has_title_lead_and_main_figure_of_each(write_notebooks, tmp_path):
    folder = write_notebooks(_01_first=["1", WIDGET])
    notebook = nbformat.read(folder / "01_first.ipynb", as_version=4)
    notebook.cells[1].metadata["tags"] = ["main-figure"]
    words = "# 1 · <Look>\n\n**What is\nfound.** More: [2](02_next.ipynb)"
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(words, id="title"))
    nbformat.write(notebook, folder / "01_first.ipynb")
    index = run(tmp_path / "out")[0].read_text(encoding="utf-8")
    assert "1 · &lt;Look&gt;</a>" in index and "What is\nfound." in index and "More." not in index
    assert f"data:image/png;base64,{PIXEL}" in index and '<details class="code">' not in index
    page = (tmp_path / "out" / "01_first.html").read_text(encoding="utf-8")
    assert '<details class="code">' in page and 'href="02_next.html"' in page


def test_outputs_are_stored_where_that_is_asked_for(write_notebooks, tmp_path):
    folder = write_notebooks(_01_first=[LOOK_AROUND, WIDGET])
    run(tmp_path / "out", in_place=True)
    stored = nbformat.read(folder / "01_first.ipynb", as_version=4)
    assert [cell.execution_count for cell in stored.cells] == [1, 2]
    assert stored.cells[0].outputs[0].text == "data mine bars off 1 in books\n"
    assert set(stored.cells[1].outputs[0].data) == {"image/png", "text/plain"}  # as a page without a kernel shows it
    assert not any(cell.metadata for cell in stored.cells) and "widgets" not in stored.metadata
    assert [path.name for path in folder.iterdir()] == ["01_first.ipynb"]


def test_a_failing_notebook_is_named_and_ends_the_run(write_notebooks, tmp_path):
    cells = ["print('so far')", "raise ValueError('two\\nlines')", "print('un' + 'reached')"]
    folder = write_notebooks(_01_bad=cells, _02_later=["1"])
    before = (folder / "01_bad.ipynb").read_bytes()
    with pytest.raises(PlanetlibError) as caught:
        run(tmp_path / "out", in_place=True)
    report = tmp_path / "out" / "01_bad.html"
    assert str(caught.value) == f"01_bad.ipynb: ValueError: two lines; see {report}"
    page = report.read_text(encoding="utf-8")
    assert "so far" in page and "ValueError" in page and "unreached" not in page
    assert [path.name for path in report.parent.iterdir()] == ["01_bad.html"]
    assert (folder / "01_bad.ipynb").read_bytes() == before


def test_a_kernel_that_dies_is_told_in_the_same_way(write_notebooks, tmp_path):
    write_notebooks(_01_bad=["print('so far', flush=True)", "import os; os._exit(9)"])
    with pytest.raises(PlanetlibError, match=r"^01_bad.ipynb: Kernel died; see .*01_bad.html$"):
        run(tmp_path / "out")
    assert "so far" in (tmp_path / "out" / "01_bad.html").read_text(encoding="utf-8")


def test_without_notebooks_it_is_told_where_there_are_some(write_notebooks, tmp_path, monkeypatch):
    write_notebooks(notes=["1"])
    record = SimpleNamespace(read_text=lambda name: '{"url": "https://example.org/planetlib"}')
    monkeypatch.setattr(planetlib.batch.reports, "distribution", lambda name: record)
    with pytest.raises(PlanetlibError, match="books: .*clone.*https://example.org/planetlib"):
        run(tmp_path / "out")
