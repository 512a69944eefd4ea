"""The predictions table as a grid to sort, filter and click."""

import base64
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from itables.widget import ITable

from planetlib.classify import Classifier
from planetlib.show.sheets import fit_or_blank, make_contact_sheet
from planetlib.widgets.explain import ExplainingPanel
from planetlib.widgets.panel import encode_picture

THUMBNAIL = 40  # pixels


class PredictionsBrowser(ExplainingPanel):
    """The predictions table as a grid with thumbnails; a click on a row shows its picture with its map.

    Rows beyond `limit` are left out, as each carries a thumbnail to the page.
    """

    def __init__(
        self, classifier: Classifier, predictions: pd.DataFrame, figures: str | Path = "figures", limit: int = 1000
    ):
        self.table = predictions.head(limit).reset_index(drop=True)
        left_out = len(predictions) - len(self.table)
        self.grid = ITable(
            _describe_rows(self.table),
            caption=f"{left_out} further rows are left out" if left_out else None,
            select="single",
            allow_html=True,  # for the thumbnails; all that comes from file names and folders is escaped
            columnControl=["order", "searchDropdown"],
            ordering={"indicators": False},  # the column's own control shows it
            columnDefs=[{"targets": 0, "columnControl": [], "orderable": False, "searchable": False}],
            showIndex=False,
            maxBytes=0,
            pageLength=8,
            lengthMenu=[8, 25, 100],
            classes="display compact nowrap",
            autoWidth=False,
        )
        self.grid.observe(lambda change: self._show(), "selected_rows")
        super().__init__(self.grid, "sort, filter and click the rows", classifier, figures)
        self.clear("Click a row to see its picture.")

    def draw_still(self) -> np.ndarray:
        """A contact sheet of the first rows."""
        return np.array(make_contact_sheet(self.table, columns=6, limit=12))

    def _show(self) -> None:
        if not self.grid.selected_rows:
            return
        row = self.table.iloc[self.grid.selected_rows[0]]
        if row.status == "unreadable":
            return self.clear(f"{Path(row.path).name}: {row.error}")
        self.show(row)


def _describe_rows(table: pd.DataFrame) -> pd.DataFrame:
    """What the grid shows of each row, as HTML."""
    shown = table[["label", "predicted", "confidence"]].round(3)
    shown.insert(0, "file", table.path.map(lambda path: Path(path).name))
    shown["status"] = (table.status + ": " + table.error + table.note).str.removesuffix(": ")
    shown = shown.map(lambda cell: escape(cell) if isinstance(cell, str) else cell)
    shown.insert(0, "picture", table.path.map(_make_thumbnail))
    return shown


def _make_thumbnail(path: str) -> str:
    content = base64.b64encode(encode_picture(fit_or_blank(path, THUMBNAIL), "JPEG")).decode()
    return f'<img alt="" width="{THUMBNAIL}" height="{THUMBNAIL}" src="data:image/jpeg;base64,{content}">'
