"""Runs the five notebooks into a small site of readable reports, and leaves the notebooks as they are."""

import json
import os
import re
from importlib.metadata import distribution
from pathlib import Path

import jinja2
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter

from planetlib import PlanetlibError
from planetlib.files.progress import progress_bar
from planetlib.files.whole import open_whole
from planetlib.settings import PROJECT

FOLDER = PROJECT / "notebooks"
PAGES = Path(__file__).parent / "pages"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def run_notebooks(out: str | os.PathLike, environment: dict[str, str], in_place: bool = False) -> list[Path]:
    """Executes the notebooks in order and writes each as HTML, and a page that leads to them.

    Args:
        out: folder for the reports, `<notebook>.html`, and `index.html`.
        environment: variables for the kernels, such as `PLANETLIB_DATA`; see `planetlib.settings.load_settings`.
        in_place: store the outputs in the notebooks themselves as well.

    Returns:
        The index, then the reports.

    Raises:
        PlanetlibError: a cell raised, or the kernel died, which its report shows; the notebooks after it are not run.
    """
    notebooks = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
    if not notebooks:
        raise PlanetlibError(f"{FOLDER}: got no notebooks; expected those of a clone of the project", do=_say_where())
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    bar = progress_bar(notebooks, desc="notebooks", unit="notebook")
    pages = [_run_notebook(path, out, environment, in_place) for path in bar]
    index = jinja2.Template(_read_page("index.html.j2"), autoescape=True)
    with open_whole(out / "index.html") as file:
        file.write(index.render(pages=pages, style=_read_page("style.css")).encode())
    return [out / "index.html", *(out / page["file"] for page in pages)]


def _read_page(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")


def _say_where() -> str:
    """Where a clone may be: pip writes down what a package was installed from (PEP 610)."""
    origin = json.loads(distribution("planetlib").read_text("direct_url.json") or "{}").get("url")
    return "run this in one" + (f"; planetlib was installed from {origin}" if origin else "")


def _run_notebook(path: Path, out: Path, environment: dict[str, str], in_place: bool) -> dict[str, str]:
    """Runs a notebook; returns what the index shows of it."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=None,
        store_widget_state=False,
        extra_arguments=["--log-level=ERROR"],  # no word on every start that loopback is not encrypted
        resources={"metadata": {"path": str(path.parent)}},
    )
    failure: Exception | None = None
    try:
        # Bars belong on a terminal; in a stored page they are noise that changes with the clock.
        client.execute(env={**os.environ, **environment, "TQDM_DISABLE": "1"})
    except (CellExecutionError, DeadKernelError) as error:  # a kernel dies as when memory ran out
        failure = error
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        output.get("data", {}).pop(WIDGET_VIEW, None)  # it needs a kernel; the still picture beside it does not
    exporter = HTMLExporter(raw_template=_read_page("report.html.j2"))
    page, _ = exporter.from_notebook_node(notebook, {"style": _read_page("style.css")})
    report = out / f"{path.stem}.html"
    with open_whole(report) as file:
        file.write(page.replace('.ipynb">', '.html">').encode())  # a link to a notebook leads to its page
    if failure:
        said = f"{failure.ename}: {failure.evalue}" if isinstance(failure, CellExecutionError) else str(failure)
        raise PlanetlibError(f"{path.name}: {' '.join(said.split())}; see {report}") from failure
    if in_place:
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
        with open_whole(path) as file:
            file.write(f"{nbformat.writes(notebook)}\n".encode())
    return {"file": report.name, **_summarize(notebook)}


def _summarize(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """Title, the bold lines under it, and the output of the cell with the tag `main-figure`, base64 of a PNG."""
    title, _, text = notebook.cells[0].source.removeprefix("# ").partition("\n")
    lead = re.search(r"\*\*(.+?)\*\*", text, re.DOTALL)
    cells = [cell for cell in notebook.cells if "main-figure" in cell.metadata.get("tags", [])]
    figures = (output.get("data", {}).get("image/png") for cell in cells for output in cell.outputs)
    return {"title": title, "lead": lead[1] if lead else "", "figure": next(filter(None, figures), "")}
