"""A person at JupyterLab uses every widget with keyboard, mouse and files; and names like scripts run nothing."""

import re
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from planetlib.batch import reports
from planetlib.files.tables import read_marks
from planetlib.settings import PROJECT

MOVED = 20_000  # milliseconds within which a widget has to answer on a busy machine
SCREENSHOTS = PROJECT / "reports" / "browser"
FAINT_WORDS = Path(__file__).with_name("faint_words.js").read_text(encoding="utf-8")

expect.set_options(timeout=MOVED)


@pytest.fixture(autouse=True)
def no_complaints(lab):
    """The browser's console stays without errors in every test."""
    lab.complaints.clear()
    yield
    assert lab.complaints == []


def content(image: Locator) -> str:
    """The pixels that the page shows."""
    return image.evaluate(
        """async image => {
            if (!image.complete) await new Promise(done => image.addEventListener("load", done, { once: true }));
            const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
            const drawing = canvas.getContext("2d");
            drawing.drawImage(image, 0, 0);
            const pixels = drawing.getImageData(0, 0, canvas.width, canvas.height).data;
            return [...new Uint8Array(await crypto.subtle.digest("SHA-1", pixels))].join();
        }"""
    )


def eventually(ask, good) -> None:
    """Waits until the answer to a question is good."""
    until = time.monotonic() + MOVED / 1000
    while not good(got := ask()):
        assert time.monotonic() < until, f"got {got}"
        time.sleep(0.05)


def wait_for_change(image: Locator, before: str) -> str:
    """Waits until the page shows another picture; returns its digest."""
    eventually(lambda: content(image), lambda now: now != before)
    return content(image)


def wait_for(image: Locator, wanted: str) -> None:
    """Waits until the page shows the picture with this digest."""
    eventually(lambda: content(image), lambda now: now == wanted)


def slider(part: Locator, name: str) -> Locator:
    return part.locator(".widget-slider", has_text=name).locator(".noUi-handle")


def test_the_stop_button_ends_training_cleanly_and_keeps_the_best(lab):
    cell = lab.cell("# training")
    cell.locator(".jp-InputArea-editor").click()
    lab.page.keyboard.press("Control+Enter")
    bar = cell.locator(".jp-OutputArea", has_text=re.compile(r"head.*accuracy"))  # an epoch is done
    bar.wait_for(timeout=60_000)
    lab.page.get_by_role("button", name="Interrupt the kernel").click()
    expect(cell).to_contain_text(re.compile("Interrupted after epoch .* of 1000000"))
    expect(cell).to_contain_text("interrupted=True")
    lab.wait_until_idle()
    assert "Traceback" not in cell.inner_text() and (lab.folder / "stopped" / "head.safetensors").exists()


def test_a_slider_and_another_draw_change_the_sheet(lab):
    studio = lab.output("# studio")
    sheet, handle = studio.locator("img").first, slider(studio, "place")
    before = content(sheet)
    studio.get_by_role("button", name="another draw").click()
    before = wait_for_change(sheet, before)
    handle.focus()
    handle.press("Home")
    wait_for_change(sheet, before)
    expect(studio).to_contain_text("strength={'place': 0.0")


@pytest.fixture
def explorer(lab):
    return lab.output("# explorer")


def test_arrow_keys_walk_through_the_pictures_and_back(explorer):
    picture, overlay, handle = *explorer.locator("img").all()[:2], slider(explorer, "picture")
    handle.focus()
    walked = [(content(picture), content(overlay))]
    for _ in range(3):
        handle.press("ArrowRight")
        walked.append((wait_for_change(picture, walked[-1][0]), wait_for_change(overlay, walked[-1][1])))
    assert len(set(walked)) == 4
    for _ in range(3):
        handle.press("ArrowLeft")
    wait_for(picture, walked[0][0])


def test_dragging_fast_ends_at_the_newest_position_and_shows_few_on_the_way(explorer):
    picture, handle, mouse = explorer.locator("img").first, slider(explorer, "picture"), explorer.page.mouse
    first = content(picture)
    handle.focus()
    handle.press("End")  # the last picture, to know it
    last = wait_for_change(picture, first)
    handle.press("Home")
    wait_for(picture, first)
    picture.evaluate(
        "image => { window.frames_shown = 0; new MutationObserver(() => window.frames_shown++)"
        ".observe(image, { attributes: true, attributeFilter: ['src'] }); }"
    )
    box, rail = handle.bounding_box(), explorer.locator(".noUi-base").first.bounding_box()
    mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    mouse.down()
    mouse.move(rail["x"] + rail["width"] + 20, box["y"] + box["height"] / 2, steps=200)  # a position each, or nearly
    mouse.up()
    dragged = time.monotonic()
    wait_for(picture, last)
    assert time.monotonic() - dragged < 5  # had each of the positions been queued, it would not be there yet
    assert explorer.page.evaluate("window.frames_shown") < 100
    handle.press("Home")
    wait_for(picture, first)


def test_choices_filter_and_the_overlay_is_faded(explorer):
    picture, overlay = explorer.locator("img").all()[:2]
    verdict = explorer.locator("select", has_text="wrong")
    verdict.select_option("wrong")
    expect(explorer).to_contain_text("No picture that is wrong.")
    expect(picture).to_be_hidden()
    verdict.select_option("all")
    expect(picture).to_be_visible()
    slider(explorer, "overlay").focus()
    slider(explorer, "overlay").press("Home")
    wait_for(overlay, content(picture))


def test_a_file_is_chosen_or_dropped_large_ones_too_and_one_that_cannot_be_read_says_why(lab, fixture_folder, tmp_path):
    own = lab.output("# own")
    good, bad, large = fixture_folder / "red" / "red 3.png", tmp_path / "no <b>picture.jpg", tmp_path / "large.bmp"
    bad.write_text("text")
    Image.fromarray(np.zeros((2100, 2100, 3), np.uint8)).save(large)  # 13 MB, in four parts
    for file, said in ((good, "red 3.png · map for"), (bad, f"{bad.name}: not an image"), (large, "large.bmp · map")):
        with own.page.expect_file_chooser() as chooser:
            own.locator(".planetlib-picker").click()
        chooser.value.set_files(file)
        expect(own).to_contain_text(said, timeout=2 * MOVED)
    transfer = own.page.evaluate_handle(
        """([name, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(bytes)], name));
            return transfer;
        }""",
        ["dropped.png", list(good.read_bytes())],
    )
    own.locator(".planetlib-picker").dispatch_event("drop", {"dataTransfer": transfer})
    expect(own).to_contain_text("dropped.png · map for")


def test_a_mark_is_written_and_taken_back(lab):
    review, table = lab.output("# review"), lab.folder / "samples.csv"
    review.get_by_role("button", name="exclude").click()
    expect(review).to_contain_text("1 exclude")
    assert read_marks(table)["mark"].tolist() == ["exclude"]
    slider(review, "doubt rank").focus()
    slider(review, "doubt rank").press("Home")
    expect(review.locator(".planetlib-mark")).to_have_text("exclude")
    review.get_by_role("button", name="take back").click()
    expect(review).to_contain_text("none yet")
    assert read_marks(table).empty


def column(grid: Locator, place: int) -> list[str]:
    return grid.locator(f"tbody tr td:nth-child({place})").all_inner_texts()


def test_the_grid_sorts_and_filters_and_a_click_shows_the_picture_or_what_is_wrong(lab):
    grid = lab.output("# grid")
    search = grid.get_by_role("searchbox").first
    sort = grid.locator("th", has_text="confidence").locator("button").first
    search.fill("green")  # all of which can be read and have a confidence
    eventually(lambda: set(column(grid, 3)), lambda labels: labels == {"green"})
    assert grid.locator("tbody img").count() == len(column(grid, 3)) == 8
    sort.click()
    eventually(lambda: column(grid, 5), lambda cells: cells == sorted(cells, key=float))
    sort.click()
    eventually(lambda: column(grid, 5), lambda cells: cells == sorted(cells, key=float, reverse=True))
    name = column(grid, 2)[1]
    grid.locator("tbody tr").nth(1).click()
    expect(grid).to_contain_text(f"{name} · map for")
    search.fill("mystery")
    eventually(lambda: column(grid, 2), lambda names: names == ["mystery.jpg"])
    grid.locator("tbody tr").first.click()
    expect(grid).to_contain_text("mystery.jpg: not an image")
    search.fill("")
    eventually(lambda: len(column(grid, 2)), lambda rows: rows == 8)
    grid.locator("tbody tr").nth(1).click()


@pytest.mark.parametrize("theme", ["Dark", "Light"])
def test_every_word_is_readable(lab, theme):
    """Screenshots of all widgets, for people to look at, and no words of too little contrast."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    lab.use_theme(theme)
    for name in ("studio", "explorer", "own", "review", "grid"):
        part = lab.output(f"# {name}")
        part.screenshot(path=SCREENSHOTS / f"{name}_{theme.lower()}.png")
        assert part.evaluate(FAINT_WORDS) == [], name


def require_that_nothing_ran(page: Page) -> None:
    page.wait_for_function("window.control === 1", timeout=MOVED)  # a script that is let in does run
    page.wait_for_timeout(300)
    assert page.evaluate("window.hacked") is None


def test_names_like_scripts_run_nothing_in_jupyterlab(lab):
    lab.page.on("dialog", lambda dialog: pytest.fail("a script opened a dialog"))
    grid = lab.output("# clickable names")
    grid.locator("tbody tr").first.click()
    expect(grid).to_contain_text("map for")
    assert grid.locator("tbody tr").first.locator("td").nth(1).inner_text().startswith("0<img src=x onerror=")
    require_that_nothing_ran(lab.page)


def test_names_like_scripts_run_nothing_in_a_report(lab, tmp_path, monkeypatch):
    book = nbformat.read(lab.notebooks / "widgets.ipynb", as_version=4)
    book.cells = [cell for cell in book.cells if re.search("names|# let in", cell.source)]
    nbformat.write(book, tmp_path / "90_widgets.ipynb")
    monkeypatch.setattr(reports, "FOLDER", tmp_path)
    _, report = reports.run_notebooks(tmp_path, {"PYTHONPATH": str(PROJECT)})
    page = lab.browser.new_page()
    page.goto(report.as_uri())
    require_that_nothing_ran(page)
    assert "onerror=" in page.inner_text("body")  # as text it is there
    assert page.locator("img[src^='data:image/png']").count() == 7  # five widgets, a sheet and a figure
    page.close()
