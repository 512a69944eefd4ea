"""For all of pytest: no progress bars, --soak; under --nbval the notebooks run on the fixture, in their own folder."""

import os
import shutil
import tempfile

import pytest


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="tests marked soak in full size, and those marked campaign")


@pytest.fixture(scope="session")
def amount(request):
    """How much of something a test marked `soak` does: `amount(sample, full)` is the second under --soak."""
    return lambda sample, full: full if request.config.getoption("--soak") else sample


def pytest_configure(config):
    for name in ("DATA", "RUN", "FIGURES", "BACKBONE"):
        os.environ.pop(f"PLANETLIB_{name}", None)
    os.environ["TQDM_DISABLE"] = "1"
    if config.getoption("nbval", False):
        os.environ["PLANETLIB_RUN"] = tempfile.mkdtemp(prefix="planetlib")


def pytest_unconfigure(config):
    if config.getoption("nbval", False):
        shutil.rmtree(os.environ["PLANETLIB_RUN"], ignore_errors=True)


def pytest_collection_modifyitems(config, items):
    """Leaves campaigns out but for --soak."""
    campaigns = [] if config.getoption("--soak") else [item for item in items if item.get_closest_marker("campaign")]
    config.hook.pytest_deselected(items=campaigns)
    items[:] = [item for item in items if item not in campaigns]
