"""The predictions table as a grid to sort, filter and click."""

import base64
import io
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from itables.widget import ITable
from PIL import Image as PillowImage

from planetlib.classify import Classifier
from planetlib.files.read import UnreadableImage
from planetlib.images import read_image
from planetlib.show.sheets import make_contact_sheet
from planetlib.transforms import fit_to_square
from planetlib.widgets.panel import Panel, PictureView

THUMBNAIL = 40  # pixels


class PredictionsBrowser(Panel):
    """The predictions table as a grid with thumbnails; a click on a row shows its picture with its map.

    Args:
        classifier: is explained.
        predictions: the predictions table.
        figures: folder that the button `save view` writes to.
        limit: rows beyond are left out, as each carries a thumbnail to the page.
    """

    def __init__(
        self, classifier: Classifier, predictions: pd.DataFrame, figures: str | Path = "figures", limit: int = 1000
    ):
        self.table = predictions.head(limit).reset_index(drop=True)
        self.view = PictureView(classifier, figures)
        self.view.clear("Click a row to see its picture.")
        shown = pd.DataFrame(
            {
                "picture": [_make_thumbnail(path) for path in self.table.path],
                "file": [escape(Path(path).name) for path in self.table.path],
                "label": self.table.label.map(escape),
                "predicted": self.table.predicted.map(escape),
                "confidence": self.table.confidence.round(3),
                "status": (self.table.status + ": " + self.table.error + self.table.get("note", ""))
                .str.removesuffix(": ")
                .map(escape),
            }
        )
        left_out = len(predictions) - len(shown)
        self.grid = ITable(
            shown,
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
        super().__init__(self.view.controls, [self.grid, self.view], "sort, filter and click the rows")

    def draw_still(self) -> np.ndarray:
        """A contact sheet of the first rows."""
        return np.array(make_contact_sheet(self.table, columns=6, limit=12))

    def _show(self) -> None:
        if not self.grid.selected_rows:
            return
        row = self.table.iloc[self.grid.selected_rows[0]]
        if row.status == "unreadable":
            return self.view.clear(f"{Path(row.path).name}: {row.error}")
        self.view.show(row, row.path)


def _make_thumbnail(path: str) -> str:
    try:
        picture = fit_to_square(read_image(path), THUMBNAIL)
    except UnreadableImage:
        return ""
    buffer = io.BytesIO()
    PillowImage.fromarray(picture).save(buffer, "JPEG", quality=80)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="" width="{THUMBNAIL}" height="{THUMBNAIL}" src="data:image/jpeg;base64,{content}">'
