"""A slider over pictures and their maps, and one's own picture."""

import asyncio
from pathlib import Path

import anywidget
import numpy as np
import pandas as pd
from ipywidgets import Dropdown, HBox, IntSlider, Layout

from planetlib.classify import Classifier
from planetlib.files.read import UnreadableImage
from planetlib.files.tables import DataError
from planetlib.images import read_image
from planetlib.widgets.panel import Panel, PictureView

QUIET = 0.05  # seconds without a move after which the neighbours are computed
UNSURE = 0.6  # a prediction less confident than this, or called unknown, is unsure


class ActivationExplorer(Panel):
    """A slider over pictures; beside each its map, for the class, the method and the stage that are chosen.

    Args:
        classifier: predicts and is explained.
        predictions: the predictions table of the pictures to walk through; unreadable ones are left out.
        figures: folder that the button `save view` writes to.

    Raises:
        DataError: none of them is readable.
    """

    _ahead: asyncio.Handle | None = None  # of one that could not be made, too, as it is closed all the same

    def __init__(self, classifier: Classifier, predictions: pd.DataFrame, figures: str | Path = "figures"):
        self.table = predictions[predictions.status != "unreadable"].reset_index(drop=True)
        if self.table.empty:
            raise DataError(
                f"none of the {len(predictions)} pictures can be read; expected at least one to walk through"
            )
        self.view = PictureView(classifier, figures)
        labels = self.table.label.where(self.table.label != "", self.table.predicted)
        self.label = Dropdown(options=["all", *sorted(labels.unique())], description="show")
        self.verdict = Dropdown(options=["all", "right", "wrong", "unsure"], description="that are")
        self.index = IntSlider(1, min=1, max=len(self.table), description="picture", layout=Layout(width="95%"))
        self.chosen = self.table
        self._verdicts = {
            "right": self.table.label == self.table.predicted,
            "wrong": (self.table.label != "") & (self.table.label != self.table.predicted),
            "unsure": (self.table.status == "unknown") | (self.table.confidence < UNSURE),
        }
        self._labels = labels
        for control in (self.label, self.verdict):
            control.observe(lambda change: self._filter(), "value")
        self.index.observe(lambda change: self._show(), "value")
        self._show()
        controls = {"show": self.label, "that are": self.verdict, "picture": self.index, **self.view.controls}
        super().__init__(
            controls, [HBox([self.label, self.verdict]), self.index, self.view], "walk through the pictures"
        )

    def draw_still(self) -> np.ndarray:
        """What is on view."""
        return self.view.draw_still()

    def close(self) -> None:
        """Takes the box off the page, and nothing more is computed ahead."""
        if self._ahead:
            self._ahead.cancel()
        super().close()

    def _filter(self) -> None:
        keep = pd.Series(True, self.table.index) if self.label.value == "all" else self._labels == self.label.value
        if self.verdict.value != "all":
            keep &= self._verdicts[self.verdict.value]
        self.chosen = self.table[keep]
        self.index.disabled = self.chosen.empty
        with self.index.hold_trait_notifications():  # one picture is drawn, not one for each change
            self.index.value, self.index.max = 1, max(1, len(self.chosen))
        self._show()

    def _show(self) -> None:
        if self.chosen.empty:
            return self.view.clear(f"No picture of {self.label.value} that is {self.verdict.value}.")
        row = self.chosen.iloc[self.index.value - 1]
        self.view.show(row, row.path)
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Has the neighbours' maps computed once the kernel has nothing else to do: the next step finds them there."""
        if self._ahead:
            self._ahead.cancel()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # not in a kernel, so nobody walks on
            return
        self._ahead = loop.call_later(QUIET, self._prepare_neighbour, [1, -1])

    def _prepare_neighbour(self, steps: list[int]) -> None:
        place = self.index.value - 1 + steps[0]
        if 0 <= place < len(self.chosen):
            row = self.chosen.iloc[place]
            self.view.prepare(row, row.path)
        if rest := steps[1:]:  # one at a time, so that a key press need not wait for both
            self._ahead = asyncio.get_running_loop().call_soon(self._prepare_neighbour, rest)


class FilePicker(anywidget.AnyWidget):
    """A field to choose a file with, or to drop one on; it sends the file as messages of a few megabytes.

    ipywidgets' own upload button takes no drop, and sends a file as one message: one of more than 10 MB breaks the
    page's connection to the kernel.
    """

    _esm = """
    const PART = 4 << 20, MOST = 256 << 20;
    function render({ model, el }) {
      const field = document.createElement("label"), input = document.createElement("input"),
        words = document.createElement("span");
      field.className = "planetlib-picker";
      field.style.cssText = "position:relative;display:inline-block;padding:14px 40px;border-radius:6px;" +
        "border:2px dashed var(--jp-border-color1,#999);color:var(--jp-ui-font-color1,inherit);" +
        "font-family:var(--jp-ui-font-family,sans-serif);";
      input.type = "file";
      input.style.cssText = "position:absolute;opacity:0;inset:0;width:100%;cursor:pointer;";  // the whole field
      input.accept = "image/*,.tif,.tiff,.jp2,.j2k,.avif,.fits,.fit,.fts,.fz,.gz";
      const say = text => { words.textContent = text; };
      say("choose a picture, or drop one here");
      const send = async file => {
        if (!file) return;
        if (file.size > MOST)
          return say(`${file.name}: ${Math.round(file.size / (1 << 20))} MB; at most ${MOST >> 20} MB can be sent`);
        say(`${file.name} · choose or drop another`);
        const parts = Math.max(1, Math.ceil(file.size / PART));
        for (let part = 0; part < parts; part++) {
          const content = await file.slice(part * PART, (part + 1) * PART).arrayBuffer();
          model.send({ name: file.name, part, parts }, undefined, [content]);
        }
      };
      input.addEventListener("focus", () => { field.style.borderColor = "var(--jp-brand-color1,#1976d2)"; });
      input.addEventListener("blur", () => { field.style.borderColor = "var(--jp-border-color1,#999)"; });
      const shade = on => { field.style.background = on ? "var(--jp-layout-color2,#eee)" : "none"; };
      input.addEventListener("change", async () => { await send(input.files[0]); input.value = ""; });
      field.addEventListener("dragover", event => { event.preventDefault(); shade(true); });
      field.addEventListener("dragleave", () => shade(false));
      field.addEventListener("drop", event => {
        event.preventDefault();
        event.stopPropagation();
        shade(false);
        send(event.dataTransfer.files[0]);
      });
      field.append(words, input);
      el.appendChild(field);
    }
    export default { render };
    """


class OwnPicture(Panel):
    """Choose or drop a picture: its prediction, the probabilities and the map, at once.

    A file that cannot be read is answered with the reason.

    Args:
        classifier: predicts and is explained.
        figures: folder that the button `save view` writes to.
    """

    def __init__(self, classifier: Classifier, figures: str | Path = "figures"):
        self.classifier = classifier
        self.picker = FilePicker()
        self.parts: list[bytes] = []
        self.view = PictureView(classifier, figures)
        self.view.clear("No picture yet.")
        self.picker.on_msg(lambda picker, content, buffers: self._receive(content, buffers))
        super().__init__(self.view.controls, [self.picker, self.view], "try a picture of your own")

    def show(self, name: str, content: bytes) -> None:
        """Predicts and explains the picture in the bytes of a file."""
        try:
            row = self.classifier.predict_picture(read_image(content), name)
        except UnreadableImage as error:
            return self.view.clear(f"{name}: {error.reason}. Choose another file.")
        self.view.show(row, content)

    def draw_still(self) -> np.ndarray:
        """What is on view."""
        return self.view.draw_still()

    def _receive(self, content: dict, buffers: list) -> None:
        """Puts the parts of a file together; shows the picture when the last has come."""
        self.parts = [*self.parts[: content["part"]], bytes(buffers[0])]
        if len(self.parts) == content["parts"]:
            self.show(content["name"], b"".join(self.parts))
            self.parts = []
