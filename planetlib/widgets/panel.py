"""What all widgets share: a text form that is their state, a still picture, and the view of one explained picture."""

import base64
import contextlib
import io
import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from ipywidgets import HTML, Button, Dropdown, FloatSlider, HBox, Image, Layout, VBox
from PIL import Image as PillowImage

from planetlib.classify import Classifier
from planetlib.explain import COLOURS, DEFAULT_METHOD, METHODS, map_activation, overlay_map
from planetlib.files.read import UnreadableImage
from planetlib.files.tables import class_probabilities
from planetlib.files.whole import open_whole
from planetlib.images import read_image
from planetlib.show.sheets import describe_prediction, draw_explanation, write_caption
from planetlib.transforms import fit_to_square

SIDE = 288  # pixels, of a picture on the page


class Panel(VBox):
    """A box whose text form is its state, so that stored outputs compare by what a person set, not by drawn bytes.

    Where there is no kernel, as in a report, a still picture with a sentence below it takes its place.

    Args:
        controls: name → widget; their values are the state.
        children: what the box holds.
        use: what one can do with it in JupyterLab, as the end of a sentence.
    """

    def __init__(self, controls: dict, children: Sequence, use: str):
        self._controls, self._use = controls, use
        super().__init__(list(children))

    def draw_still(self) -> np.ndarray:
        """What is on view, as one picture, uint8 (H, W, 3)."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **options):
        sentence = f"A still picture: open this notebook in JupyterLab and run it to {self._use}."
        still = base64.b64encode(encode_png(write_caption(self.draw_still(), sentence))).decode()
        view = super()._repr_mimebundle_(**options)
        return {**view, "text/plain": repr(self), "image/png": still}, {"image/png": {"alt": f"{self!r}. {sentence}"}}

    def __repr__(self):
        state = ", ".join(f"{name}={control.value!r}" for name, control in self._controls.items())
        return f"{type(self).__name__}({state})"


class PictureView(VBox):
    """A picture, its map laid over it and the probabilities of all classes, with the controls of the map.

    Args:
        classifier: is explained.
        figures: folder that the button `save view` writes to.

    Attributes:
        controls: name → widget, for the text form of a panel.
    """

    def __init__(self, classifier: Classifier, figures: str | Path):
        self.classifier, self.figures = classifier, Path(figures)
        self.row: pd.Series | None = None
        self.source: str | bytes | None = None
        self.target = Dropdown(options=["predicted", "true", *classifier.class_names], description="class")
        self.method = Dropdown(options=list(METHODS), value=DEFAULT_METHOD, description="method")
        # From the last stage, the usual choice, back to the first.
        self.stage = Dropdown(options=["last", *reversed(classifier.model.stage_names)], description="stage")
        self.colours = Dropdown(options=list(COLOURS), description="colours")
        self.strength = FloatSlider(0.5, min=0, max=1, step=0.05, description="overlay")
        self.save = Button(description="save view", icon="save", tooltip="write what is on view as a picture")
        self.picture, self.overlay = (Image(format="png", width=SIDE, height=SIDE) for _ in range(2))
        self.words, self.bars = HTML(), HTML(layout=Layout(min_width="230px"))
        self.controls = {"class": self.target, "method": self.method, "stage": self.stage}
        self.controls |= {"overlay": self.strength, "colours": self.colours}
        for control in self.controls.values():
            control.observe(lambda change: self._draw(), "value")
        self.save.on_click(lambda button: self._save())
        self._map = lru_cache(32)(self._compute_map)
        rows = [HBox([self.target, self.method]), HBox([self.stage, self.colours]), HBox([self.strength, self.save])]
        self.shown = VBox(
            [*rows, HBox([self.picture, self.overlay, self.bars], layout=Layout(flex_flow="row wrap", grid_gap="12px"))]
        )
        super().__init__([self.words, self.shown])

    def show(self, row, source: str | bytes) -> None:
        """Shows a row of the predictions table (a Series); `source` is the picture's path, or the bytes of its file."""
        if not isinstance(source, str):
            self._map.cache_clear()  # what a person drops in may be large, and seldom comes back
        self.row, self.source = row, source
        self._draw()

    def prepare(self, row: pd.Series, source: str) -> None:
        """Computes the map of a row that may be shown next, so that it is there by then."""
        with contextlib.suppress(UnreadableImage):  # said when it is shown
            self._map(source, self._explained(row), self.method.value, self.stage.value)

    def clear(self, text: str) -> None:
        """Shows a sentence in place of a picture."""
        self.row = None
        self.words.value, self.shown.layout.display = escape(text), "none"

    def draw_still(self) -> np.ndarray:
        """What is on view as one picture: uint8 (H, W, 3); without a picture a white line."""
        if self.row is None:
            return np.full((1, 2 * SIDE, 3), 255, np.uint8)
        picture, overlay = (
            np.array(PillowImage.open(io.BytesIO(image.value))) for image in (self.picture, self.overlay)
        )
        return draw_explanation(picture, overlay, self.row, self._explained(self.row))

    def _explained(self, row: pd.Series) -> str:
        chosen = self.target.value
        if chosen == "true" and row.label in self.classifier.class_names:
            return row.label
        return row.predicted if chosen in ("predicted", "true") else chosen

    def _compute_map(self, source, class_name: str, method: str, stage: str) -> tuple[np.ndarray, np.ndarray]:
        picture = fit_to_square(read_image(source), SIDE)
        named = None if stage == "last" else stage
        return picture, map_activation(self.classifier, picture, class_name, method, named)

    def _draw(self) -> None:
        if self.row is None:
            return
        name = self._explained(self.row)
        try:
            picture, heat = self._map(self.source, name, self.method.value, self.stage.value)
        except UnreadableImage as error:  # it was readable when it was predicted
            return self.clear(f"{Path(self.row.path).name}: {error.reason}")
        self.picture.value = encode_png(picture)
        self.overlay.value = encode_png(overlay_map(picture, heat, self.strength.value, self.colours.value))
        self.words.value = _word_verdict(self.row, name)
        self.bars.value = _draw_bars(self.row, name)
        self.shown.layout.display = None

    def _save(self) -> None:
        if self.row is None:
            return
        parts = (Path(self.row.path).stem, self._explained(self.row), self.method.value, self.stage.value)
        path = self.figures / f"view_{'_'.join(re.sub(r'[^A-Za-z0-9+.-]+', '-', part) for part in parts)}.png"
        try:
            with open_whole(path) as file:
                file.write(encode_png(self.draw_still()))
            said = f"saved as {path.name} in {self.figures.name}/"
        except OSError as error:
            said = f"not saved: {path.name}: {error.strerror}"
        self.words.value = f"{_word_verdict(self.row, self._explained(self.row))} · {escape(said)}"


def _word_verdict(row, explained: str) -> str:
    text, colour = describe_prediction(row)
    badge = f'<b style="background:{colour};color:white;padding:2px 8px;border-radius:3px">'
    verdict, *rest = map(escape, text.split("\n"))
    return " · ".join([f"{badge}{verdict}</b>", *rest, escape(Path(row.path).name), f"map for {escape(explained)}"])


def _draw_bars(row, explained: str) -> str:
    """Bars in the colours of JupyterLab's theme, so that they are readable in the dark one too."""
    lines = []
    for name, share in class_probabilities(row).items():
        weight = "bold" if name == explained else "normal"
        lines.append(
            f'<span style="font-weight:{weight}">{escape(name)}</span>'
            f'<span style="background:var(--jp-layout-color2, #ddd)"><span style="display:block;height:12px;'
            f'width:{share:.1%};background:var(--jp-brand-color1, #1976d2)"></span></span>'
            f'<span class="planetlib-share" style="text-align:right">{share:.1%}</span>'
        )
    style = "display:grid;grid-template-columns:auto 1fr 4em;gap:2px 8px;align-items:center;line-height:1.5"
    return f'<div style="{style};max-height:{SIDE}px;overflow-y:auto">{"".join(lines)}</div>'


def encode_png(picture: np.ndarray) -> bytes:
    """uint8 (H, W, 3) as the bytes of a PNG file, compressed little: it goes no further than the page."""
    buffer = io.BytesIO()
    PillowImage.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
