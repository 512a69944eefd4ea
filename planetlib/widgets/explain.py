"""Pictures beside their maps: a slider over many, and one's own."""

import asyncio
import contextlib
from functools import lru_cache
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from anywidget import AnyWidget
from ipywidgets import HTML, Button, Dropdown, FloatSlider, Image, VBox, Widget

from planetlib.classify import Classifier
from planetlib.data import read_square
from planetlib.explain import COLOURS, DEFAULT_METHOD, METHODS, map_activation, overlay_map
from planetlib.files.read import UnreadableImage
from planetlib.files.tables import DataError, class_probabilities
from planetlib.files.whole import open_whole
from planetlib.images import read_image
from planetlib.show.sheets import clean_name, describe_prediction, draw_explanation
from planetlib.transforms import fit_to_square
from planetlib.widgets.panel import SIDE, Panel, Walk, encode_picture, in_a_row, on_change

QUIET = 0.05  # seconds without a move after which the neighbours are computed
UNSURE = 0.6  # a prediction less confident than this, or called unknown, is unsure


class ExplainingPanel(Panel):
    """Something to choose a picture with; below it the picture, its map and the probabilities of all classes.

    The button `save view` writes into the folder `figures`.
    """

    def __init__(self, chooser: Widget, use: str, classifier: Classifier, figures: str | Path):
        self.classifier, self.figures = classifier, Path(figures)
        self.row: pd.Series | None = None
        self._given: np.ndarray | None = None
        self._map = lru_cache(32)(self._compute_map)
        controls = {
            "class": Dropdown(options=["predicted", "true", *classifier.class_names]),
            "method": Dropdown(options=list(METHODS), value=DEFAULT_METHOD),
            # From the last stage, the usual choice, back to the first.
            "stage": Dropdown(options=["last", *reversed(classifier.model.stage_names)]),
            "overlay": FloatSlider(0.5, min=0, max=1, step=0.05),
            "colours": Dropdown(options=list(COLOURS)),
        }
        for name, control in controls.items():
            control.description = name
        on_change(self._draw, *controls.values())
        self.save = Button(description="save view", icon="save", tooltip="write what is on view as a picture")
        self.save.on_click(lambda button: self._save())
        self.picture, self.overlay = (Image(format="png", width=SIDE, height=SIDE) for _ in range(2))
        self.words, self.saved, self.bars = HTML(), HTML(), HTML()
        pictures = in_a_row(self.picture, self.overlay, self.bars)
        self.shown = VBox([in_a_row(*controls.values(), self.save, self.saved), pictures])
        super().__init__(controls, [chooser, self.words, self.shown], use)

    def show(self, row: pd.Series, picture: np.ndarray | None = None) -> None:
        """Shows a row of the predictions table; its picture, uint8 (H, W, 3), is read from its path unless given."""
        if picture is not None:
            self._given = fit_to_square(picture, SIDE)
            self._map.cache_clear()  # another may have had the same name
        self.row = row
        self._draw()

    def clear(self, text: str) -> None:
        """Shows a sentence in place of a picture."""
        self.row = None
        self.words.value = escape(text)
        self.shown.layout.display = "none"

    def draw_still(self) -> np.ndarray:
        """What is on view as one picture, uint8 (H, W, 3); without a picture a white line."""
        if self.row is None:
            return np.full((1, 2 * SIDE, 3), 255, np.uint8)
        return np.array(draw_explanation(*self._on_view))

    def _explain(self, row: pd.Series) -> tuple[np.ndarray, np.ndarray, str]:
        """The picture, its map and the class that the map is of."""
        name, method, stage = (self.controls[name].value for name in ("class", "method", "stage"))
        true = row.label if row.label in self.classifier.class_names else row.predicted
        name = {"predicted": row.predicted, "true": true}.get(name, name)
        return *self._map(row.path, name, method, None if stage == "last" else stage), name

    def _compute_map(self, path: str, *choices) -> tuple[np.ndarray, np.ndarray]:
        picture = read_square(path, SIDE) if self._given is None else self._given
        return picture, map_activation(self.classifier, picture, *choices)

    def _draw(self) -> None:
        if self.row is None:
            return
        file = Path(self.row.path).name
        try:
            picture, heat, name = self._explain(self.row)
        except UnreadableImage as error:  # it was readable when it was predicted
            return self.clear(f"{file}: {error.reason}")
        overlay = overlay_map(picture, heat, self.controls["overlay"].value, self.controls["colours"].value)
        self._on_view = picture, overlay, self.row, name
        self.picture.value = encode_picture(picture)
        self.overlay.value = encode_picture(overlay)
        text, colour = describe_prediction(self.row)
        verdict, *rest = map(escape, [*text.split("\n"), file, f"map for {name}"])
        badge = f'<b class="planetlib-verdict" style="background:{colour}">{verdict}</b>'
        self.words.value = " · ".join([badge, *rest])
        self.bars.value = _draw_bars(self.row, name)
        self.saved.value = ""
        self.shown.layout.display = None

    def _save(self) -> None:
        *_, row, name = self._on_view
        choices = [self.controls[name].value for name in ("method", "stage")]
        file = f"view_{clean_name(Path(row.path).stem, name, *choices)}.png"
        try:
            with open_whole(self.figures / file) as saved:
                draw_explanation(*self._on_view).save(saved, "PNG")
            self.saved.value = escape(f"saved as {file} in {self.figures.name}/")
        except OSError as error:
            self.saved.value = escape(f"not saved: {file}: {error.strerror}")


def _draw_bars(row: pd.Series, explained: str) -> str:
    lines = [
        f"<span{' class=planetlib-explained' if name == explained else ''}>{escape(name)}</span>"
        f'<span class="planetlib-bar"><span style="width:{share:.1%}"></span></span>'
        f'<span class="planetlib-share">{share:.1%}</span>'
        for name, share in class_probabilities(row).items()
    ]
    return f'<div class="planetlib-bars" style="max-height:{SIDE}px">{"".join(lines)}</div>'


class ActivationExplorer(ExplainingPanel):
    """A slider over the readable pictures of a predictions table, each beside its map by class, method and stage.

    Raises:
        DataError: none of them is readable.
    """

    def __init__(self, classifier: Classifier, predictions: pd.DataFrame, figures: str | Path = "figures"):
        table = predictions[predictions.status != "unreadable"].reset_index(drop=True)
        if table.empty:
            raise DataError(f"none of the {len(predictions)} pictures can be read; expected at least one")
        verdicts = {
            "right": table.label == table.predicted,
            "wrong": (table.label != "") & (table.label != table.predicted),
            "unsure": (table.status == "unknown") | (table.confidence < UNSURE),
        }
        filters = {
            "show": table.groupby(table.label.where(table.label != "", table.predicted)).groups,
            "that are": {name: table.index[rows] for name, rows in verdicts.items()},
        }
        self.walk = Walk(table, "picture", filters, self._show)
        super().__init__(self.walk, "walk through the pictures", classifier, figures)
        self.controls = {**self.walk.controls, **self.controls}
        self._show()

    def _show(self) -> None:
        if self.walk.chosen.empty:
            name, verdict = (self.controls[name].value for name in ("show", "that are"))
            return self.clear(f"No picture{'' if name == 'all' else f' of {name}'} that is {verdict}.")
        self.show(self.walk.row)
        with contextlib.suppress(RuntimeError):  # where no kernel waits, nobody walks on
            asyncio.get_running_loop().create_task(self._look_ahead(self.row))

    async def _look_ahead(self, row: pd.Series) -> None:
        """Computes the maps of a row's neighbours while it stays on view: the next step finds them there."""
        place = self.walk.slider.value - 1
        for pause, neighbour in ((QUIET, place + 1), (0, place - 1)):  # so that a key press need not wait for both
            await asyncio.sleep(pause)
            is_on_view = self.row is row and self.comm is not None
            if is_on_view and 0 <= neighbour < len(self.walk.chosen):
                with contextlib.suppress(UnreadableImage):  # said when it is shown
                    self._explain(self.walk.chosen.iloc[neighbour])


class FilePicker(AnyWidget):
    """A field to choose a file with, or to drop one on; it sends the file as messages of a few megabytes.

    ipywidgets' own upload button takes no drop, and sends a file as one message, however large.
    """

    _esm = Path(__file__).with_name("picker.js")


class OwnPicture(ExplainingPanel):
    """Choose or drop a picture: its prediction, the probabilities and the map, at once; or why it cannot be read."""

    def __init__(self, classifier: Classifier, figures: str | Path = "figures"):
        self.parts: list[bytes] = []
        picker = FilePicker()
        picker.on_msg(lambda picker, content, buffers: self._receive(content, buffers))
        super().__init__(picker, "try a picture of your own", classifier, figures)
        self.clear("No picture yet.")

    def show_file(self, name: str, content: bytes) -> None:
        """Predicts and explains the picture in the bytes of a file."""
        try:
            picture = read_image(content)
        except UnreadableImage as error:
            return self.clear(f"{name}: {error.reason}. Choose another file.")
        self.show(self.classifier.predict_picture(picture, name), picture)

    def _receive(self, content: dict, buffers: list) -> None:
        """Puts the parts of a file together; shows the picture when the last has come."""
        self.parts = [*self.parts[: content["part"]], bytes(buffers[0])]
        if len(self.parts) == content["parts"]:
            self.show_file(content["name"], b"".join(self.parts))
            self.parts = []
