"""Doubtful labels, one by one: keep, relabel or exclude."""

from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from ipywidgets import HTML, Button, Dropdown, HBox, Image, IntSlider, Layout

from planetlib.evaluate import rank_doubts
from planetlib.files.read import UnreadableImage
from planetlib.files.tables import DataError, class_probabilities, read_marks, read_samples, write_mark
from planetlib.images import read_image
from planetlib.transforms import fit_to_square
from planetlib.widgets.panel import SIDE, Panel, encode_png


class LabelReview(Panel):
    """The pictures whose label the network doubts most, to keep, relabel or exclude.

    Each mark is written at once to `marks.csv` beside the samples table, and `read_samples` applies it: the next
    training uses it. No picture is moved, changed or deleted.

    Args:
        samples_path: the samples table on disk.
        predictions: of its pictures, with their labels as in the table (`read_samples(..., reviewed=False)`).

    Raises:
        DataError: none of the predictions is of a picture in the table.
    """

    def __init__(self, samples_path: str | Path, predictions: pd.DataFrame):
        self.samples_path = Path(samples_path)
        samples = read_samples(samples_path, reviewed=False)
        self.table = rank_doubts(predictions).merge(samples[["path", "sha256"]], on="path")
        if self.table.empty:
            raise DataError(
                f"{samples_path}: lists none of the {len(predictions)} predicted pictures; predict those that it lists"
            )
        self.marks = read_marks(samples_path)
        names = sorted(self.table.label.unique())
        self.label = Dropdown(options=["all", *names], description="class")
        self.index = IntSlider(1, min=1, max=len(self.table), description="doubt rank", layout=Layout(width="95%"))
        self.new_label = Dropdown(options=names, description="as")
        self.buttons = {
            name: Button(description=name, icon=icon, tooltip=tip, layout=Layout(width="8em"))
            for name, icon, tip in (
                ("keep", "check", "the label is right"),
                ("relabel", "tag", "the picture is of the class chosen at «as»"),
                ("exclude", "ban", "leave the picture out of training and evaluation; the file stays"),
                ("take back", "undo", "take this picture's mark away"),
            )
        }
        self.words, self.total, self.picture = HTML(), HTML(), Image(format="png", width=SIDE, height=SIDE)
        self.label.observe(lambda change: self._filter(), "value")
        self.index.observe(lambda change: self._show(), "value")
        for button in self.buttons.values():
            button.on_click(self._mark)
        self._filter()
        deeds = HBox([*self.buttons.values(), self.new_label], layout=Layout(flex_flow="row wrap"))
        super().__init__(
            {"class": self.label, "doubt rank": self.index},
            [self.label, self.index, self.words, self.picture, deeds, self.total],
            "mark labels",
        )

    def draw_still(self) -> np.ndarray:
        """The four most doubted pictures."""
        return np.hstack([_read_or_blank(path) for path in self.table.path.head(4)])

    @property
    def row(self) -> pd.Series:
        """The picture on view."""
        return self.chosen.iloc[self.index.value - 1]

    def _filter(self) -> None:
        every = self.label.value == "all"
        self.chosen = self.table if every else self.table[self.table.label == self.label.value]
        with self.index.hold_trait_notifications():
            self.index.value, self.index.max = 1, len(self.chosen)
        self._show()

    def _mark(self, button: Button) -> None:
        row, name = self.row, button.description
        mark = None if name == "take back" else name
        try:
            self.marks = write_mark(self.samples_path, row, mark, self.new_label.value if mark == "relabel" else "")
        except (OSError, DataError) as error:  # a full disk, no permission, marks that something else has damaged
            self.total.value = f"<b>not saved: {escape(getattr(error, 'strerror', None) or str(error))}</b>"
            return
        if mark is not None and self.index.value < self.index.max:
            self.index.value += 1
        else:
            self._show()
        self._count()

    def _show(self) -> None:
        row = self.row
        self.picture.value = encode_png(_read_or_blank(row.path))
        # The likeliest class other than the label is what it would be relabelled as.
        shares = class_probabilities(row)
        rival = shares.drop(row.label, errors="ignore").idxmax()
        if rival in self.new_label.options:
            self.new_label.value = rival
        marked = self.marks[self.marks.sha256 == row.sha256]
        said = "not marked" if marked.empty else " ".join(marked.iloc[0][["mark", "new_label"]]).strip()
        text = (
            f"{Path(row.path).name} · label: {row.label} ({1 - row.doubt:.0%}) · rival: {rival} ({shares[rival]:.0%})"
        )
        self.words.value = f'{escape(text)} · <b class="planetlib-mark">{escape(said)}</b>'
        self._count()

    def _count(self) -> None:
        counts = self.marks["mark"].value_counts()
        listed = ", ".join(f"{counts[name]} {name}" for name in counts.index) or "none yet"
        self.total.value = f"marks: {listed} · {escape(self.samples_path.with_name('marks.csv').name)}"


def _read_or_blank(path: str) -> np.ndarray:
    try:
        return fit_to_square(read_image(path), SIDE)
    except UnreadableImage:  # it was readable when it was predicted
        return np.full((SIDE, SIDE, 3), 40, np.uint8)
