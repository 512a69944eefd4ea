"""Predictions as pictures, with Pillow: one with its answer on a band, and many on a contact sheet."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageColor, ImageDraw, ImageFont

from planetlib.images import UnreadableImage, read_image
from planetlib.transforms import fit_to_square

BLUE, RED, GREY = "#0173b2", "#d55e00", "#6b6b6b"  # the first two are of seaborn's `colorblind` palette
TILE = 192  # pixels, side of a picture in a contact sheet


def describe_prediction(row) -> tuple[str, str]:
    """What to write beside a picture, and the colour: right (blue, ✓), wrong (red, ✗), no verdict (grey)."""
    if row.status == "unreadable":
        return f"unreadable: {row.error}", GREY
    text = f"{row.predicted} {row.confidence:.0%}" + ("\nunknown?" if row.status == "unknown" else "")
    if not row.label:
        return text, GREY
    return (f"✓ {text}", BLUE) if row.label == row.predicted else (f"✗ {text}\ntrue: {row.label}", RED)


def annotate_picture(row, side: int = 512) -> Image.Image:
    """A picture with its prediction on a band below it.

    Args:
        row: of the predictions table, as `itertuples` gives it.
        side: of the picture in pixels.
    """
    try:
        picture = fit_to_square(read_image(row.path), side)
    except UnreadableImage:
        picture = np.full((side, side, 3), 40, np.uint8)
    text, colour = describe_prediction(row)
    verdict, *truth = text.replace("✓", "right:").replace("✗", "wrong:").split("\n")
    band = max(34, side // 8)
    tile = Image.new("RGB", (side, side + band), ImageColor.getrgb(colour))
    tile.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(tile)
    _draw_line(draw, verdict, (6, side + 2), side - 12, band * 0.42)
    _draw_line(draw, " · ".join([*truth, Path(row.path).name]), (6, side + 2 + band * 0.5), side - 12, band * 0.34)
    return tile


def _draw_line(draw: ImageDraw.ImageDraw, text: str, corner: tuple[float, float], width: float, size: float) -> None:
    font = ImageFont.load_default(size)
    if draw.textlength(text, font) > width:
        while text and draw.textlength(text + "…", font) > width:
            text = text[:-1]
        text += "…"
    draw.text(corner, text, "white", font)


def make_contact_sheet(predictions: pd.DataFrame, columns: int = 10, limit: int = 200) -> Image.Image:
    """The first rows of the predictions table as one picture of annotated tiles."""
    tiles = [annotate_picture(row, TILE) for row in predictions.head(limit).itertuples()]
    columns = min(columns, max(1, len(tiles)))
    width, height = (tiles[0].size if tiles else (TILE, TILE)) + np.array([4, 4])
    sheet = Image.new("RGB", (columns * int(width) + 4, -(-len(tiles) // columns) * int(height) + 4), "white")
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (4 + index % columns * int(width), 4 + index // columns * int(height)))
    return sheet
