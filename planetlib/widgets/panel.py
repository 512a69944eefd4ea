"""What all widgets share: a box with a text form and a still picture, and a slider over the rows of a table."""

import base64
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from ipywidgets import HTML, Dropdown, HBox, IntSlider, Layout, VBox, Widget
from PIL import Image

from planetlib.show.sheets import write_caption

SIDE = 288  # pixels, of a picture on the page
CSS = Path(__file__).with_name("widgets.css").read_text(encoding="utf-8")


class Panel(VBox):
    """A box whose text form is its state, so that stored outputs compare by what a person set, not by drawn bytes.

    The values of `controls` are the state. Where there is no kernel, as in a report, a still picture takes the place of
    the box, with a sentence below it that ends in its `use`.
    """

    def __init__(self, controls: Mapping[str, Widget], children: list[Widget], use: str):
        self.controls, self.use = controls, use
        super().__init__([HTML(f"<style>{CSS}</style>", layout=Layout(display="none")), *children])

    def draw_still(self) -> np.ndarray:
        """What is on view as one picture, uint8 (H, W, 3)."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **options):
        sentence = f"A still picture: open this notebook in JupyterLab and run it to {self.use}."
        still = base64.b64encode(encode_picture(write_caption(self.draw_still(), sentence))).decode()
        view = super()._repr_mimebundle_(**options)
        return {**view, "text/plain": repr(self), "image/png": still}, {"image/png": {"alt": f"{self!r}. {sentence}"}}

    def __repr__(self):
        state = ", ".join(f"{name}={control.value!r}" for name, control in self.controls.items())
        return f"{type(self).__name__}({state})"


class Walk(VBox):
    """A slider over the rows of a table, numbered from 0, below filters that choose which.

    A filter is name → choice → numbers of the rows it lets through; each has the choice `all` as well. `show` is called
    when another row is on view, or none; `chosen` are the rows that the filters let through.
    """

    def __init__(self, table: pd.DataFrame, name: str, filters: Mapping[str, Mapping], show: Callable[[], None]):
        self.table, self.chosen, self._filters, self._show = table, table, filters, show
        self.slider = IntSlider(1, min=1, max=len(table), description=name, layout=Layout(width="95%"))
        choices = {key: Dropdown(options=["all", *rows], description=key) for key, rows in filters.items()}
        self.controls = {**choices, name: self.slider}
        on_change(self._filter, *choices.values())
        on_change(show, self.slider)
        super().__init__([in_a_row(*choices.values()), self.slider])

    @property
    def row(self) -> pd.Series:
        """The row on view, where `chosen` has any."""
        return self.chosen.iloc[self.slider.value - 1]

    def _filter(self) -> None:
        rows = self.table.index
        for name, choices in self._filters.items():
            if (choice := self.controls[name].value) != "all":
                rows = rows.intersection(choices[choice])
        self.chosen = self.table.loc[rows]
        self.slider.disabled = self.chosen.empty
        with self.slider.hold_trait_notifications():  # or a row is shown for each of the two changes
            self.slider.value, self.slider.max = 1, max(1, len(rows))
        self._show()


def on_change(act: Callable[[], None], *controls: Widget) -> None:
    """Has something done whenever the value of one of these changes."""
    for control in controls:
        control.observe(lambda change: act(), "value")


def in_a_row(*children: Widget) -> HBox:
    """Widgets beside each other, in as many lines as the page needs."""
    return HBox(children, layout=Layout(flex_flow="row wrap", grid_gap="4px 12px"))


def encode_picture(picture: np.ndarray, format: str = "PNG") -> bytes:
    """A picture, uint8 (H, W, 3), as the bytes of a file, compressed little: it goes no further than the page."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format, compress_level=1, quality=80)  # each format takes what it knows
    return buffer.getvalue()
