"""How long the explorer of notebook 04 takes from a key press to the new picture on the page, and what it holds on to.

    python -m benchmarks.explorer --data data/fixture
    python -m benchmarks.explorer --data PLANETS --run RUN

The first runs the five notebooks in JupyterLab in Chromium, then walks through the pictures with the arrow keys. A move
ends when both pictures, the plain one and the one with its map, have been decoded by the page. The second times the
kernel's part alone, without a browser: from a new place of the slider to the new pictures, without and with look-ahead.
Nothing is asserted.
"""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

import planetlib.widgets.explain
from planetlib.classify import Classifier
from planetlib.data import find_samples
from planetlib.settings import FIXTURE

NAMES = ["01_explore_and_augment", "02_train_head", "03_fine_tune", "04_evaluate_and_explain", "05_batch_inference"]
WATCH = """panel => {
    window.moves = [];
    panel.addEventListener("keydown", () => window.moves.push({ pressed: performance.now(), shown: [] }), true);
    for (const image of panel.querySelectorAll("img"))
        image.addEventListener("load", () => window.moves.at(-1)?.shown.push(performance.now()));
}"""
SHOWN = "count => window.moves.length == count && window.moves.at(-1).shown.length >= 2"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--moves", type=int, default=50, help="key presses that are timed (default: %(default)s)")
    parser.add_argument("--walk", type=int, default=500, help="moves till memory is read again (default: %(default)s)")
    text = "folder of class folders; the network then sees its own size, 224 pixels (default: the fixture, at 160)"
    parser.add_argument("--data", type=Path, help=text)
    parser.add_argument("--run", type=Path, help="run folder: time the kernel's part on --data, without a browser")
    options = parser.parse_args()
    if options.run:
        return time_kernel(options.run, options.data, options.moves)
    from tests.browser.lab import JupyterLab

    if options.data:
        os.environ["PLANETLIB_DATA"] = str(options.data.resolve())
    with tempfile.TemporaryDirectory() as folder, JupyterLab(Path(folder)) as lab:
        started = time.perf_counter()
        for name in NAMES:
            opened = time.perf_counter()
            run_all(lab, name)
            print(f"{name}: {time.perf_counter() - opened:.1f} s from opening to its end")
        print(f"all five notebooks: {time.perf_counter() - started:.1f} s")

        run_all(lab, NAMES[3])
        panel = lab.output("import ActivationExplorer")
        handle = panel.locator(".widget-slider", has_text="picture").locator(".noUi-handle")
        handle.focus()
        lab.page.wait_for_timeout(2000)
        panel.evaluate(WATCH)
        last = int(float(handle.get_attribute("aria-valuemax"))) - 1
        for move in range(options.walk):
            handle.press("ArrowRight" if move // last % 2 == 0 else "ArrowLeft")
            lab.page.wait_for_function(SHOWN, arg=move + 1)
            if move < options.moves:
                lab.page.wait_for_timeout(250)  # as a person looks
            if move + 1 in (10, options.walk):
                print(f"after {move + 1} moves: {read_memory(lab)}")
        moves = lab.page.evaluate("window.moves")[: options.moves]
        took = np.array([max(move["shown"][:2]) - move["pressed"] for move in moves])
        median, late = np.percentile(took, [50, 95])
        print(f"key press to picture, {len(took)} moves: median {median:.0f} ms, 95th percentile {late:.0f} ms")


def run_all(lab, name: str) -> None:
    lab.open(name)
    lab.choose("Run", "Run All Cells")
    lab.page.wait_for_timeout(500)
    lab.wait_until_idle()


def time_kernel(run: Path, data: Path | None, moves: int) -> None:
    classifier = Classifier.load(run)
    samples = find_samples(data or FIXTURE).sample(frac=1, random_state=0).head(moves + 2)
    predictions = classifier.predict(samples.path, samples.label)
    for words, quiet in (("without", 1e9), ("with", planetlib.widgets.explain.QUIET)):
        planetlib.widgets.explain.QUIET = quiet
        median, late = np.percentile(asyncio.run(walk(classifier, predictions)), [50, 95])
        print(f"new map, {words} look-ahead: median {median:.0f} ms, 95th percentile {late:.0f} ms ({moves} moves)")


async def walk(classifier: Classifier, predictions: pd.DataFrame) -> list[float]:
    """Milliseconds of each move from picture to picture, as a person does who looks at each for half a second."""
    explorer, took = planetlib.widgets.ActivationExplorer(classifier, predictions), []
    for place in range(2, len(explorer.walk.table)):
        await asyncio.sleep(0.5)
        started = time.perf_counter()
        explorer.walk.slider.value = place
        took.append(1000 * (time.perf_counter() - started))
    explorer.close()
    return took


def read_memory(lab) -> str:
    """What the kernel of the open notebook and the page hold on to, after a collection of garbage."""
    import psutil

    lab.page.wait_for_timeout(1000)
    session = lab.page.context.new_cdp_session(lab.page)
    session.send("HeapProfiler.collectGarbage")
    session.send("Performance.enable")
    metrics = {entry["name"]: entry["value"] for entry in session.send("Performance.getMetrics")["metrics"]}
    kernels = {entry["id"]: entry["last_activity"] for entry in lab.ask("api/kernels")}
    newest = max(kernels, key=kernels.get)
    processes = psutil.Process(lab.server.pid).children(recursive=True)
    (kernel,) = [process for process in processes if newest in " ".join(process.cmdline())]
    return (
        f"kernel {kernel.memory_info().rss / 1e6:.0f} MB, page {metrics['JSHeapUsedSize'] / 1e6:.0f} MB of JavaScript "
        f"and {metrics['Nodes']:.0f} nodes"
    )


if __name__ == "__main__":
    main()
