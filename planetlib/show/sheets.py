"""Predictions as pictures, with Pillow: one with its answer on a band, and many on a contact sheet."""

import math
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageColor, ImageDraw, ImageFont

from planetlib import printable
from planetlib.data import progress_bar
from planetlib.files.read import UnreadableImage
from planetlib.files.tables import class_probabilities
from planetlib.files.whole import open_whole
from planetlib.images import read_image
from planetlib.transforms import fit_to_square

BLUE, RED, GREY = "#0173b2", "#d55e00", "#6b6b6b"  # the first two are of seaborn's `colorblind` palette
TILE = 192  # pixels, side of a picture in a contact sheet


def describe_prediction(row) -> tuple[str, str]:
    """What to write beside a picture, and the colour: right (blue, ✓), wrong (red, ✗), no verdict (grey)."""
    if row.status == "unreadable":
        return f"unreadable: {row.error}", GREY
    text = f"{printable(row.predicted)} {row.confidence:.0%}" + ("\nunknown?" if row.status == "unknown" else "")
    if not row.label:
        return text, GREY
    return (f"✓ {text}", BLUE) if row.label == row.predicted else (f"✗ {text}\ntrue: {printable(row.label)}", RED)


def verbatim(text: str) -> str:
    """A line of text that matplotlib draws as it is: unprintable characters are escaped, `$` begins no formula."""
    return printable(text).replace("$", r"\$")


def name_picture(index: int, path: str | Path, *more: str) -> str:
    """A name, without suffix, for a picture made of another: `000012_saturn` and what is to be added.

    Numbered, as two folders may hold equal names; cut short, as a name may have 255 bytes and no more; and without what
    a file system or a terminal takes amiss, as names of files and classes are whatever somebody wrote.
    """
    parts = [printable(Path(path).stem)[:40], *(printable(part)[:20] for part in more)]
    return "_".join([f"{index:06d}", *(re.sub(r'[/\\:*?"<>|]', "-", part) for part in parts)])


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


def draw_explanation(picture: np.ndarray, overlay: np.ndarray, row: pd.Series, explained: str) -> np.ndarray:
    """A picture, its map and the probabilities of all classes side by side, with the verdict above.

    Args:
        picture: uint8 (S, S, 3).
        overlay: likewise.
        row: of the predictions table.
        explained: the class the map is of.

    Returns:
        uint8 (S + 28, 2 S + 252, 3), on white.
    """
    side = len(picture)
    sheet = Image.new("RGB", (2 * side + 252, side + 28), "white")
    for left, part in ((0, picture), (side, overlay)):
        sheet.paste(Image.fromarray(part), (left, 28))
    draw = ImageDraw.Draw(sheet)
    text, colour = describe_prediction(row)
    words = text.replace("✓", "right:").replace("✗", "wrong:").split("\n")
    _draw_line(draw, " · ".join([*words, Path(row.path).name]), (6, 5), 2 * side - 170, 15, colour)
    _draw_line(draw, f"map for {explained}", (2 * side - 160, 5), 160, 15, "black")
    shares = class_probabilities(row)
    step = min(22, side / len(shares))
    for line, (name, share) in enumerate(shares.items()):
        top = 28 + line * step
        _draw_line(draw, name, (2 * side + 8, top), 84, step * 0.62, "black")
        if long := round(100 * share):
            draw.rectangle((2 * side + 96, top + 2, 2 * side + 96 + long, top + step * 0.7), BLUE)
        _draw_line(draw, f"{share:.1%}", (2 * side + 202, top), 48, step * 0.62, "black")
    return np.array(sheet)


def write_caption(picture: np.ndarray, text: str) -> np.ndarray:
    """A picture, uint8 (H, W, 3), with a line of text on white below it; a narrow one is widened to hold the line."""
    size = max(14, picture.shape[1] // 60)  # wide pictures are shown smaller
    font = ImageFont.load_default(size)
    width = max(picture.shape[1], math.ceil(font.getlength(text)) + 12)
    sheet = Image.new("RGB", (width, picture.shape[0] + 2 * size), "white")
    sheet.paste(Image.fromarray(picture), (0, 0))
    ImageDraw.Draw(sheet).text((6, picture.shape[0] + size // 3), text, "black", font)
    return np.array(sheet)


def _draw_line(draw: ImageDraw.ImageDraw, text: str, corner, width: float, size: float, colour: str = "white") -> None:
    font, text = ImageFont.load_default(size), printable(text)
    if draw.textlength(text, font) > width:
        while text and draw.textlength(text + "…", font) > width:
            text = text[:-1]
        text += "…"
    draw.text(corner, text, colour, font)


def make_contact_sheet(predictions: pd.DataFrame, columns: int = 10, limit: int = 200) -> Image.Image:
    """The first rows of the predictions table as one picture of annotated tiles."""
    tiles = [annotate_picture(row, TILE) for row in predictions.head(limit).itertuples()]
    columns = min(columns, max(1, len(tiles)))
    width, height = (tiles[0].size if tiles else (TILE, TILE)) + np.array([4, 4])
    sheet = Image.new("RGB", (columns * int(width) + 4, -(-len(tiles) // columns) * int(height) + 4), "white")
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (4 + index % columns * int(width), 4 + index // columns * int(height)))
    return sheet


def draw_predictions(predictions: pd.DataFrame, folder: str | os.PathLike) -> None:
    """Writes `pictures/`, each row's with its answer, and `contact_sheet.png`; the table is numbered from 0."""
    for row in progress_bar(predictions.itertuples(), desc="drawing", total=len(predictions), unit="image"):
        with open_whole(Path(folder, "pictures", f"{name_picture(row.Index, row.path)}.jpg")) as file:
            annotate_picture(row).save(file, "JPEG", quality=90)
    with open_whole(Path(folder, "contact_sheet.png")) as file:
        make_contact_sheet(predictions).save(file, "PNG")
