"""For all of pytest: no progress bars; under --nbval the notebooks run on the fixture, in a folder of their own."""

import os
import shutil
import tempfile


def pytest_configure(config):
    for name in ("DATA", "RUN", "FIGURES", "BACKBONE"):
        os.environ.pop(f"PLANETLIB_{name}", None)
    os.environ["TQDM_DISABLE"] = "1"
    if config.getoption("nbval", False):
        os.environ["PLANETLIB_RUN"] = tempfile.mkdtemp(prefix="planetlib")


def pytest_unconfigure(config):
    if config.getoption("nbval", False):
        shutil.rmtree(os.environ["PLANETLIB_RUN"], ignore_errors=True)
