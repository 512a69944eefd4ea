"""One JupyterLab in one browser for all browser tests, over a copy of the notebooks; screenshots for people."""

import os

import pytest
from lab import JupyterLab, find_browser

from planetlib.settings import PROJECT

SCREENSHOTS = PROJECT / "reports" / "browser"


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """JupyterLab with the notebooks; the run folder fills as the notebooks are run in order."""
    if find_browser() is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium found; in CI that is a failure: install it (apt-get install chromium)")
        pytest.skip("no Chromium found; install it (apt-get install chromium, or playwright install chromium)")
    with JupyterLab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="session")
def screenshot(lab):
    """Takes a picture of the page, or of one part of it, for people to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    def take(name: str, part=None) -> None:
        lab.page.wait_for_timeout(300)  # fonts and thumbnails
        (part or lab.page).screenshot(path=SCREENSHOTS / f"{name}.png")

    return take
