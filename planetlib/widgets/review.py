"""Doubtful labels, one by one: keep, relabel or exclude."""

from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from ipywidgets import HTML, Button, Dropdown, Image

from planetlib.evaluate import rank_doubts
from planetlib.files.tables import DataError, class_probabilities, read_marks, read_samples, write_mark
from planetlib.show.sheets import fit_or_blank
from planetlib.widgets.panel import SIDE, Panel, Walk, encode_picture, in_a_row

BUTTONS = {
    "keep": ("check", "the label is right"),
    "relabel": ("tag", "the picture is of the class chosen at «as»"),
    "exclude": ("ban", "leave the picture out of training and evaluation; the file stays"),
    "take back": ("undo", "take this picture's mark away"),
}


class LabelReview(Panel):
    """The pictures whose label the network doubts most, to keep, relabel or exclude.

    Each mark is written at once to `marks.csv` beside the samples table, and `read_samples` applies it: the next
    training uses it. No picture is moved, changed or deleted. The predictions are of the table's pictures with its own
    labels (`read_samples(..., reviewed=False)`).

    Raises:
        DataError: none of the predictions is of a picture in the table.
    """

    def __init__(self, samples_path: str | Path, predictions: pd.DataFrame):
        self.samples_path = Path(samples_path)
        samples = read_samples(samples_path, reviewed=False)
        self.table = rank_doubts(predictions).merge(samples[["path", "sha256"]], on="path")
        if self.table.empty:
            got = f"{samples_path}: lists none of the {len(predictions)} predicted pictures"
            raise DataError(got, do="predict those that it lists")
        self.marks = read_marks(samples_path)
        by_label = self.table.groupby("label").groups
        self.walk = Walk(self.table, "doubt rank", {"class": by_label}, self._show)
        self.new_label = Dropdown(options=list(by_label), description="as")
        self.buttons = {name: Button(description=name, icon=icon, tooltip=tip) for name, (icon, tip) in BUTTONS.items()}
        for button in self.buttons.values():
            button.on_click(self._mark)
        self.words, self.total, self.picture = HTML(), HTML(), Image(format="png", width=SIDE, height=SIDE)
        row = in_a_row(*self.buttons.values(), self.new_label)
        super().__init__(self.walk.controls, [self.walk, self.words, self.picture, row, self.total], "mark labels")
        self._show()

    def draw_still(self) -> np.ndarray:
        """The four most doubted pictures."""
        return np.hstack([fit_or_blank(path, SIDE) for path in self.table.path.head(4)])

    def _mark(self, button: Button) -> None:
        mark = None if button.description == "take back" else button.description
        new_label = self.new_label.value if mark == "relabel" else ""
        try:
            self.marks = write_mark(self.samples_path, self.walk.row, mark, new_label)
        except (OSError, DataError) as error:  # a full disk, no permission, marks that something else has damaged
            self.total.value = f"<b>not saved: {escape(getattr(error, 'strerror', None) or str(error))}</b>"
            return
        if mark and self.walk.slider.value < self.walk.slider.max:
            self.walk.slider.value += 1  # which is shown
        else:
            self._show()

    def _show(self) -> None:
        row = self.walk.row
        self.picture.value = encode_picture(fit_or_blank(row.path, SIDE))
        # The likeliest class other than the label is what it would be relabelled as.
        shares = class_probabilities(row)
        rival = shares.drop(row.label, errors="ignore").idxmax()
        if rival in self.new_label.options:
            self.new_label.value = rival
        mark = self.marks[self.marks.sha256 == row.sha256]
        said = "not marked" if mark.empty else " ".join(mark.iloc[0][["mark", "new_label"]]).strip()
        label, other = f"label: {row.label} ({1 - row.doubt:.0%})", f"rival: {rival} ({shares[rival]:.0%})"
        text = escape(" · ".join([Path(row.path).name, label, other]))
        self.words.value = f'{text} · <b class="planetlib-mark">{escape(said)}</b>'
        counts = self.marks["mark"].value_counts()
        listed = ", ".join(f"{count} {name}" for name, count in counts.items()) or "none yet"
        self.total.value = f"marks: {listed} · marks.csv"
