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

from playwright.sync_api import ConsoleMessage, Locator, sync_playwright

from planetlib.settings import PROJECT

TOKEN = "browser-tests"
SLOWEST = 120_000  # milliseconds that a notebook may take on a busy machine


def find_browser() -> str | None:
    """A Chromium of this machine, or Playwright's own; None where there is neither."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if os.path.exists(path) else None


class JupyterLab:
    """A server on a free port over a folder of notebooks, and a browser beside it; a context manager.

    Args:
        folder: receives JupyterLab's own settings; the notebooks lie in `notebooks` in it.

    Attributes:
        page: the browser's page.
        complaints: errors that the browser's console has shown.
    """

    def __init__(self, folder: Path):
        self.folder, self.notebooks = folder, folder / "notebooks"
        self.complaints: list[str] = []

    def __enter__(self) -> "JupyterLab":
        settings = self.folder / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        silent = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(silent))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        environment = {
            **os.environ,
            "PYTHONPATH": str(PROJECT),  # of the tests, which have the toy backbone
            "JUPYTER_CONFIG_DIR": str(self.folder / "config"),
            "JUPYTERLAB_SETTINGS_DIR": str(self.folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(self.folder / "workspaces"),
        }
        environment.pop("TQDM_DISABLE", None)  # a person sees the progress bars
        command = [sys.executable, "-m", "jupyterlab", str(self.notebooks), "--no-browser", f"--port={port}"]
        command += [f"--IdentityProvider.token={TOKEN}", "--ServerApp.ip=127.0.0.1", "--allow-root"]
        self.log = open(self.folder / "server.log", "ab")
        self.server = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)
        self.playwright = sync_playwright().start()
        self.browser = self.playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        self.page = self.browser.new_page(viewport={"width": 1280, "height": 1100})
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self._wait_for_server()
        return self

    def __exit__(self, *failure) -> None:
        self.browser.close()
        self.playwright.stop()
        self.server.terminate()
        self.server.wait(30)
        self.log.close()

    def _note(self, said: ConsoleMessage) -> None:
        if said.type == "error":
            self.complaints.append(f"{said.text} {said.location['url']}")

    def _wait_for_server(self) -> None:
        until = time.monotonic() + 60
        while self.server.poll() is None and time.monotonic() < until:
            try:
                return self.ask("api/status")
            except OSError:
                time.sleep(0.25)
        raise RuntimeError(f"JupyterLab did not start: {(self.folder / 'server.log').read_text()[-2000:]}")

    def ask(self, place: str):
        """What the server's REST interface answers."""
        with urllib.request.urlopen(f"{self.address}/{place}?token={TOKEN}", timeout=10) as answer:
            return json.load(answer)

    def open(self, name: str) -> None:
        """Opens a notebook and waits for its kernel."""
        self.page.goto(f"{self.address}/lab/tree/{name}.ipynb?token={TOKEN}&reset")
        # The status bar tells of the kernel itself; the notebook's own mark says idle before there is one.
        self.page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=SLOWEST)

    def wait_until_idle(self) -> None:
        """Waits until the kernel has nothing to do."""
        self.page.locator(".jp-InputPrompt", has_text="[*]").first.wait_for(state="detached", timeout=SLOWEST)
        self.page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=SLOWEST)

    def choose(self, menu: str, entry: str) -> None:
        """Chooses an entry of a menu in the bar."""
        self.page.get_by_role("menuitem", name=menu, exact=True).click()
        self.page.get_by_role("menuitem", name=entry).first.click()

    def use_theme(self, theme: str) -> None:
        """Changes between the themes `Light` and `Dark`, by the menu."""
        self.page.get_by_role("menuitem", name="Settings", exact=True).click()
        self.page.locator(".lm-Menu-item", has_text="Theme").first.hover()
        self.page.locator(".lm-Menu-item", has_text=f"JupyterLab {theme}").first.click()
        light = str(theme == "Light").lower()
        self.page.locator(f"body[data-jp-theme-light={light}]").wait_for(state="attached")

    def cell(self, text: str) -> Locator:
        """The code cell whose source contains a text."""
        cell = self.page.locator(".jp-CodeCell", has=self.page.locator(".jp-InputArea", has_text=text)).first
        cell.scroll_into_view_if_needed()
        return cell

    def output(self, text: str) -> Locator:
        """What the cell shows."""
        return self.cell(text).locator(".jp-OutputArea").first
