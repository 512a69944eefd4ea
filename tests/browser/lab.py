"""JupyterLab on this machine, driven through a browser as a person would."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Locator, Page, sync_playwright

from planetlib.settings import PROJECT

TOKEN = "browser-tests"
SLOWEST = 180_000  # milliseconds that a whole notebook may take on a busy machine


def find_browser() -> str | None:
    """A Chromium of this machine, or Playwright's own; None where there is neither."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if os.path.exists(path) else None


class JupyterLab:
    """A server on a free port over a copy of the notebooks, and a browser beside it; a context manager.

    Args:
        folder: receives the copy, the run and JupyterLab's own settings.

    Attributes:
        page: the browser's page.
        complaints: errors that the browser's console has shown.
    """

    def __init__(self, folder: Path):
        self.folder, self.notebooks, self.run = folder, folder / "notebooks", folder / "run"
        self.complaints = []

    def __enter__(self) -> "JupyterLab":
        shutil.copytree(PROJECT / "notebooks", self.notebooks, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
        settings = self.folder / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True, exist_ok=True)
        silent = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(silent))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = {
            **os.environ,
            "PLANETLIB_RUN": str(self.run),
            "JUPYTER_CONFIG_DIR": str(self.folder / "config"),
            "JUPYTERLAB_SETTINGS_DIR": str(self.folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self.folder / "workspaces"),
        }
        environment.pop("TQDM_DISABLE", None)  # a person sees the progress bars
        command = [sys.executable, "-m", "jupyterlab", str(self.notebooks), "--no-browser", f"--port={self.port}",
                   f"--IdentityProvider.token={TOKEN}", "--ServerApp.ip=127.0.0.1", "--allow-root"]  # fmt: skip
        self.log = open(self.folder / "server.log", "ab")
        self.server = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)
        self._wait_for_server()
        self.playwright = sync_playwright().start()
        self.browser = self.playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        self.page = self.browser.new_page(viewport={"width": 1280, "height": 900})
        self.page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return self

    def __exit__(self, *failure) -> None:
        self.browser.close()
        self.playwright.stop()
        self.server.terminate()
        self.server.wait(30)
        self.log.close()

    def _wait_for_server(self) -> None:
        for _ in range(240):
            if self.server.poll() is not None:
                break
            try:
                return self.ask("api/status")
            except OSError:
                time.sleep(0.25)
        raise RuntimeError(f"JupyterLab did not start: {(self.folder / 'server.log').read_text()[-2000:]}")

    def ask(self, place: str):
        """What the server's REST interface answers."""
        address = f"http://127.0.0.1:{self.port}/{place}?token={TOKEN}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)

    def open(self, name: str) -> Page:
        """Opens a notebook and waits for its kernel."""
        self.page.goto(f"http://127.0.0.1:{self.port}/lab/tree/{name}.ipynb?token={TOKEN}&reset")
        # The status bar tells of the kernel itself; the notebook's own mark says idle before there is one.
        self.page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
        return self.page

    def wait_until_idle(self) -> None:
        """Waits until the kernel has nothing to do."""
        self.page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=SLOWEST)

    def choose(self, menu: str, entry: str) -> None:
        """Chooses an entry of a menu in the bar."""
        self.page.get_by_role("menuitem", name=menu, exact=True).first.click()
        self.page.get_by_role("menuitem", name=entry).first.click()

    def run_all(self) -> list[dict]:
        """Runs all cells to the end; returns the code cells as they are stored then."""
        self.choose("Run", "Run All Cells")
        self.page.wait_for_timeout(500)
        self.page.locator(".jp-InputPrompt", has_text="[*]").first.wait_for(state="detached", timeout=SLOWEST)
        self.wait_until_idle()
        return self.save()

    def use_theme(self, theme: str) -> None:
        """Changes between `JupyterLab Light` and `JupyterLab Dark`, by the menu."""
        self.page.get_by_role("menuitem", name="Settings", exact=True).first.click()
        self.page.locator(".lm-Menu-item", has_text="Theme").first.hover()
        self.page.locator(".lm-Menu-item", has_text=theme).first.click()
        light = str(theme == "JupyterLab Light").lower()
        self.page.locator(f"body[data-jp-theme-light={light}]").wait_for(state="attached")

    def restart_kernel(self) -> None:
        """Restarts the kernel of the open notebook."""
        before = list(self.complaints)
        self.choose("Kernel", "Restart Kernel…")
        self.page.get_by_role("button", name="Confirm Kernel Restart").click()
        self.page.wait_for_timeout(2000)
        self.page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
        self.complaints[:] = before  # JupyterLab itself complains of the requests that a restart cancels

    def save(self) -> list[dict]:
        """Saves the open notebook; returns its code cells."""
        self.page.keyboard.press("Control+s")
        self.page.wait_for_timeout(500)
        name = self.page.url.partition("/tree/")[2].partition("?")[0]
        content = self.ask(f"api/contents/{name}")["content"]
        return [cell for cell in content["cells"] if cell["cell_type"] == "code"]

    def output_of(self, text: str) -> Locator:
        """The output area of the last code cell whose source contains a text."""
        cell = self.page.locator(".jp-CodeCell", has=self.page.locator(".jp-InputArea", has_text=text)).last
        cell.scroll_into_view_if_needed()
        return cell.locator(".jp-OutputArea")
