"""A person at JupyterLab: runs the five notebooks, then uses every widget with keyboard, mouse and files.

The tests build on each other: the first runs the notebooks, which makes the run that the widgets show.
"""

import base64
import re
import time

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, expect

from planetlib.files.tables import read_marks, read_samples
from planetlib.settings import FIXTURE

MOVED = (
    20_000  # milliseconds within which a widget has to answer on a busy machine; how fast it is, is measured elsewhere
)


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


def wait_for_change(image: Locator, before: str) -> str:
    """Waits until the page shows another picture; returns its digest."""
    until = time.monotonic() + MOVED / 1000
    while time.monotonic() < until:
        if (now := content(image)) != before:
            return now
        image.page.wait_for_timeout(50)
    raise AssertionError(f"the picture has not changed in {MOVED} ms")


def eventually(ask, wanted) -> None:
    """Waits until a question is answered as wanted."""
    until = time.monotonic() + MOVED / 1000
    while (got := ask()) != wanted:
        assert time.monotonic() < until, f"got {got}, expected {wanted}"
        time.sleep(0.05)


def slider(part: Locator, name: str) -> Locator:
    return part.locator(".widget-slider", has_text=name).locator(".noUi-handle")


def dropdown(part: Locator, name: str) -> Locator:
    return part.locator(".widget-dropdown", has=part.page.get_by_text(name, exact=True)).locator("select")


def shares(part: Locator) -> list[float]:
    """The percentages beside the bars."""
    return [float(text.rstrip("%")) for text in part.locator(".planetlib-share").all_text_contents()]


def run_to_the_end(lab, name: str) -> None:
    """Opens a notebook, where it is not open, and runs it: every cell in order and no error."""
    if f"/{name}.ipynb" not in lab.page.url:
        lab.open(name)
    cells = lab.run_all()
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert None not in [cell["execution_count"] for cell in cells]


# Notebook 1, and the studio


def test_notebook_01_runs_to_its_end_without_an_error(lab, screenshot):
    run_to_the_end(lab, "01_explore_and_augment")
    screenshot("01_explore_and_augment")


@pytest.fixture
def studio(lab):
    return lab.output_of("import AugmentationStudio")


def test_another_draw_and_every_slider_change_the_sheet(studio, screenshot):
    sheet = studio.locator("img").first
    before = content(sheet)
    studio.get_by_role("button", name="another draw").click()
    before = wait_for_change(sheet, before)
    for handle in studio.locator(".noUi-handle").all():
        handle.focus()
        handle.press("Home")
        before = wait_for_change(sheet, before)
    expect(studio).to_contain_text("strength=0.0)")
    studio.locator(".noUi-handle").first.press("End")
    expect(studio).to_contain_text("strength={'", timeout=MOVED)
    screenshot("augmentation_studio", studio)


# Notebook 2


def test_notebook_02_runs_to_its_end_without_an_error(lab, screenshot):
    run_to_the_end(lab, "02_train_head")
    screenshot("02_train_head")


# Notebook 3, and the stop button


def test_the_stop_button_ends_training_cleanly_and_keeps_the_best(lab, screenshot):
    page = lab.open("03_fine_tune")
    cell = page.locator(".jp-CodeCell", has_text='train_phase("finetune"').first
    lab.choose("Run", "Run All Cells")
    bar = cell.locator(".jp-OutputArea", has_text=re.compile(r"finetune.*accuracy"))  # an epoch is done
    bar.wait_for(timeout=60_000)
    screenshot("training_bar", cell)
    page.get_by_role("button", name="Interrupt the kernel").click()
    expect(cell).to_contain_text(re.compile("Interrupted after epoch .* of 5 .* Train with resume"), timeout=60_000)
    lab.wait_until_idle()
    assert "Traceback" not in cell.inner_text() and (lab.run / "finetune.pt").exists()
    screenshot("training_interrupted", cell)


def test_notebook_03_runs_to_its_end_without_an_error(lab, screenshot):
    run_to_the_end(lab, "03_fine_tune")
    screenshot("03_fine_tune")


# Notebook 4: the explorer


def test_notebook_04_runs_to_its_end_without_an_error(lab, screenshot):
    run_to_the_end(lab, "04_evaluate_and_explain")
    screenshot("04_evaluate_and_explain")


@pytest.fixture
def explorer(lab):
    return lab.output_of("import ActivationExplorer")


def test_arrow_keys_walk_through_the_pictures_and_back(explorer, screenshot):
    picture, overlay, handle = (
        explorer.locator("img").nth(0),
        explorer.locator("img").nth(1),
        slider(explorer, "picture"),
    )
    handle.focus()
    walked = [(content(picture), content(overlay))]
    for _ in range(4):
        handle.press("ArrowRight")
        walked.append((wait_for_change(picture, walked[-1][0]), wait_for_change(overlay, walked[-1][1])))
    assert len(set(walked)) == 5
    assert sum(shares(explorer)) == pytest.approx(100, abs=0.5) and len(shares(explorer)) == 7
    screenshot("explorer", explorer)
    for _ in range(4):
        handle.press("ArrowLeft")
    wait_for_change(picture, walked[-1][0])
    eventually(lambda: content(picture), walked[0][0])


def test_dragging_fast_ends_at_the_newest_position_and_shows_few_on_the_way(explorer):
    picture, handle = explorer.locator("img").nth(0), slider(explorer, "picture")
    handle.focus()
    handle.press("Home")
    handle.press("End")  # the last picture, to know it
    explorer.page.wait_for_timeout(1000)
    last = content(picture)
    handle.press("Home")
    explorer.page.wait_for_timeout(1000)
    picture.evaluate(
        "image => { window.frames_shown = 0; new MutationObserver(() => window.frames_shown++)"
        ".observe(image, { attributes: true, attributeFilter: ['src'] }); }"
    )
    box, rail = handle.bounding_box(), explorer.locator(".noUi-base").first.bounding_box()
    mouse = explorer.page.mouse
    mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    mouse.down()
    mouse.move(rail["x"] + rail["width"] + 20, box["y"] + box["height"] / 2, steps=120)  # some hundred events
    mouse.up()
    dragged = time.monotonic()
    eventually(lambda: content(picture), last)
    assert time.monotonic() - dragged < 5  # had each of the positions been queued, it would not be there yet
    assert explorer.page.evaluate("window.frames_shown") <= 21


def test_filters_choose_the_pictures_and_say_when_there_are_none(explorer, screenshot):
    dropdown(explorer, "show").select_option("saturn")
    expect(explorer).to_contain_text("saturn", timeout=MOVED)
    eventually(lambda: slider(explorer, "picture").get_attribute("aria-valuemax"), "3.0")
    dropdown(explorer, "that are").select_option("wrong")
    expect(explorer).to_contain_text("No picture of saturn that is wrong.", timeout=MOVED)
    expect(explorer.locator("img").first).to_be_hidden()
    dropdown(explorer, "that are").select_option("all")
    expect(explorer.locator("img").first).to_be_visible(timeout=MOVED)
    dropdown(explorer, "show").select_option("all")


@pytest.mark.parametrize(
    "name, value", [("class", "mars"), ("method", "layercam"), ("stage", 4), ("colours", "viridis")]
)
def test_every_choice_changes_the_overlay_and_not_the_picture(explorer, name, value):
    picture, overlay = explorer.locator("img").nth(0), explorer.locator("img").nth(1)
    before = content(picture), content(overlay)
    chosen = dropdown(explorer, name)
    chosen.select_option(**({"index": value} if isinstance(value, int) else {"label": value}))
    wait_for_change(overlay, before[1])
    assert content(picture) == before[0]
    chosen.select_option(index=0)
    eventually(lambda: content(overlay), before[1])


def test_the_overlay_can_be_faded_by_the_keyboard(explorer):
    overlay, handle = explorer.locator("img").nth(1), slider(explorer, "overlay")
    before = content(overlay)
    handle.focus()
    handle.press("Home")
    wait_for_change(overlay, before)
    eventually(lambda: content(overlay), content(explorer.locator("img").nth(0)))


def test_a_view_is_saved(lab, explorer):
    explorer.get_by_role("button", name="save view").click()
    expect(explorer).to_contain_text("saved as view_", timeout=MOVED)
    name = re.search(r"view_[^ ]+\.png", explorer.inner_text()).group()
    assert (lab.run / "figures" / name).stat().st_size > 10_000


# One's own picture


@pytest.fixture
def own(lab):
    return lab.output_of("import OwnPicture")


def choose_file(own: Locator, file) -> None:
    with own.page.expect_file_chooser() as chooser:
        own.locator(".planetlib-picker").click()
    chooser.value.set_files(file)


def drop_file(own: Locator, path) -> None:
    transfer = own.page.evaluate_handle(
        """([name, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(atob(bytes), c => c.charCodeAt(0))], name));
            return transfer;
        }""",
        [path.name, base64.b64encode(path.read_bytes()).decode()],
    )
    own.locator(".planetlib-picker").dispatch_event("drop", {"dataTransfer": transfer})


def test_a_chosen_file_is_predicted_and_explained(own, screenshot):
    choose_file(own, FIXTURE / "saturn" / "saturn_003.jpg")
    expect(own).to_contain_text("saturn_003.jpg · map for", timeout=MOVED)
    expect(own.locator("img")).to_have_count(2)
    assert sum(shares(own)) == pytest.approx(100, abs=0.5)
    screenshot("own_picture", own)


def test_a_dropped_file_is_predicted_and_explained(own):
    drop_file(own, FIXTURE / "mars" / "mars_003.jpg")
    expect(own).to_contain_text("mars_003.jpg · map for", timeout=MOVED)
    assert sum(shares(own)) == pytest.approx(100, abs=0.5)


def test_a_file_that_cannot_be_read_says_why_and_the_kernel_goes_on(own, tmp_path):
    (tmp_path / "not <b>a picture.jpg").write_text("text")
    choose_file(own, tmp_path / "not <b>a picture.jpg")
    expect(own).to_contain_text("not <b>a picture.jpg: not an image, whatever its name says", timeout=MOVED)
    choose_file(own, FIXTURE / "moon" / "moon_003.jpg")
    expect(own).to_contain_text("moon_003.jpg · map for", timeout=MOVED)


def test_a_large_picture_arrives(own, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2400, 2400, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")  # 17 MB, as noise does not compress
    choose_file(own, tmp_path / "large.png")
    expect(own).to_contain_text("large.png · map for", timeout=2 * MOVED)
    drop_file(own, FIXTURE / "moon" / "moon_004.jpg")
    expect(own).to_contain_text("moon_004.jpg · map for", timeout=MOVED)


# Label review


@pytest.fixture
def review(lab):
    return lab.output_of("import LabelReview")


def mark(review: Locator) -> str:
    return review.locator(".planetlib-mark").inner_text()


def test_marks_survive_the_filter_and_a_restart_and_are_used(lab, screenshot):
    review = lab.output_of("import LabelReview")
    table = lab.run / "samples.csv"
    pictures = {path: path.stat().st_mtime_ns for path in FIXTURE.rglob("*.jpg")}
    before = table.read_bytes(), read_samples(table)
    for deed, count in (("exclude", "1 exclude"), ("relabel", "1 relabel"), ("keep", "1 keep")):
        review.get_by_role("button", name=deed).click()
        expect(review).to_contain_text(count, timeout=MOVED)
    handle = slider(review, "doubt rank")
    handle.focus()
    handle.press("Home")
    eventually(lambda: mark(review), "exclude")
    handle.press("ArrowRight")
    eventually(lambda: mark(review).split()[0], "relabel")
    dropdown(review, "class").select_option("mars")
    dropdown(review, "class").select_option("all")
    eventually(lambda: mark(review), "exclude")
    screenshot("label_review", review)

    lab.restart_kernel()
    lab.run_all()
    review = lab.output_of("import LabelReview")
    eventually(lambda: mark(review), "exclude")
    expect(review).to_contain_text("1 relabel")

    marks = read_marks(table)
    assert sorted(marks["mark"]) == ["exclude", "keep", "relabel"]
    used = read_samples(table)
    assert len(used) == len(before[1]) - 1
    relabelled = marks[marks["mark"] == "relabel"].iloc[0]
    assert used.label[used.sha256 == relabelled.sha256].item() == relabelled.new_label != relabelled.label
    assert table.read_bytes() == before[0]
    assert {path: path.stat().st_mtime_ns for path in FIXTURE.rglob("*.jpg")} == pictures


def test_marks_can_be_taken_back(lab, review):
    for place in (1, 2, 3):
        slider(review, "doubt rank").press("Home")
        for _ in range(place - 1):
            slider(review, "doubt rank").press("ArrowRight")
        eventually(lambda: mark(review) != "not marked", True)
        review.get_by_role("button", name="take back").click()
        eventually(lambda: mark(review), "not marked")
    assert read_marks(lab.run / "samples.csv").empty


# Notebook 5, and the predictions browser


def test_notebook_05_runs_to_its_end_without_an_error(lab, screenshot):
    run_to_the_end(lab, "05_batch_inference")
    screenshot("05_batch_inference")


@pytest.fixture
def grid(lab):
    return lab.output_of("import PredictionsBrowser")


def column(grid: Locator, place: int) -> list[str]:
    return grid.locator(f"tbody tr td:nth-child({place})").all_inner_texts()


def test_the_grid_sorts_by_a_column(grid):
    grid.get_by_role("searchbox").first.fill("_0")  # all but the one that cannot be read and has no confidence
    sort = grid.locator("th", has_text="confidence").locator(".dtcc-button_order").first
    sort.click()
    eventually(lambda: column(grid, 5) == sorted(column(grid, 5), key=float) and column(grid, 5)[0] < "0.9", True)
    sort.click()
    eventually(lambda: column(grid, 5) == sorted(column(grid, 5), key=float, reverse=True), True)


def test_the_grid_filters_and_a_click_shows_the_picture_with_its_map(grid, screenshot):
    grid.get_by_role("searchbox").first.fill("uranus_00")
    eventually(lambda: set(column(grid, 3)), {"uranus"})
    assert grid.locator("tbody img").count() == len(column(grid, 3))
    grid.locator("tbody tr").nth(1).click()
    name = column(grid, 2)[1]
    expect(grid).to_contain_text(f"{name} · map for uranus", timeout=MOVED)
    assert sum(shares(grid)) == pytest.approx(100, abs=0.5)
    screenshot("predictions_browser", grid)


def test_an_unreadable_row_says_why(grid):
    grid.get_by_role("searchbox").first.fill("mystery")
    grid.locator("tbody tr").first.click()
    expect(grid).to_contain_text("mystery.jpg: not an image, whatever its name says", timeout=MOVED)
    grid.get_by_role("searchbox").first.fill("")
