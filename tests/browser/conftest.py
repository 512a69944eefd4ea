"""One JupyterLab in one browser for all browser tests, over a copy of the notebooks; screenshots for people."""

import os

import pytest
from lab import JupyterLab, find_browser

from planetlib.settings import PROJECT

SCREENSHOTS = PROJECT / "reports" / "browser"


@pytest.fixture(scope="module")  # while it runs, Playwright keeps an event loop running
def lab(tmp_path_factory):
    """JupyterLab with the notebooks; the run folder fills as the notebooks are run in order."""
    if find_browser() is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium found; in CI that is a failure: install it (apt-get install chromium)")
        pytest.skip("no Chromium found; install it (apt-get install chromium, or playwright install chromium)")
    with JupyterLab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="module")
def screenshot(lab):
    """Takes a picture of the page for people to look at; of a part of it in both themes."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    def take(name: str, part=None) -> None:
        lab.page.wait_for_timeout(300)  # fonts and thumbnails
        if part is None:
            lab.page.screenshot(path=SCREENSHOTS / f"{name}.png")
            return
        for theme in ("Dark", "Light"):
            lab.use_theme(f"JupyterLab {theme}")
            lab.page.wait_for_timeout(300)
            part.screenshot(path=SCREENSHOTS / f"{name}_{theme.lower()}.png")
            assert faint_words(part) == [], f"words that are hard to read in the theme {theme}"

    return take


def faint_words(part) -> list[str]:
    """Words whose contrast with what is behind them is below 4.5 to 1, or 3 to 1 if bold (WCAG 2.2, 1.4.3)."""
    return part.evaluate(CONTRAST)


CONTRAST = """part => {
    const parse = text => text.match(/[0-9.]+/g).map(Number);
    const light = ([red, green, blue]) => [red, green, blue].map(value => value / 255)
        .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
    const behind = element => {
        for (let place = element; place; place = place.parentElement) {
            const colour = parse(getComputedStyle(place).backgroundColor);
            if (colour.length < 4 || colour[3] > 0.5) return colour;
        }
        return [255, 255, 255];
    };
    const faint = [];
    const texts = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement, words = texts.currentNode.textContent.trim();
        // A selected row of the grid is coloured by a shadow, which is no background.
        const passed_over = "style, script, option, svg, .jp-OutputPrompt, :disabled, .disabled, tr.selected";
        if (!words || !element.checkVisibility() || element.closest(passed_over)) continue;
        const style = getComputedStyle(element);
        const [one, other] = [light(parse(style.color)), light(behind(element))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (ratio < (style.fontWeight >= 700 ? 3 : 4.5)) faint.push(`${words}: ${ratio.toFixed(1)}`);
    }
    return faint;
}"""
