"""Predictions as pictures, with Pillow: one with its answer on a band, and many on a contact sheet."""

import math
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageColor, ImageDraw, ImageFont

from planetlib import printable
from planetlib.data import read_square
from planetlib.files.find import CONTACT_SHEET, PICTURES
from planetlib.files.progress import progress_bar
from planetlib.files.read import UnreadableImage
from planetlib.files.tables import class_probabilities
from planetlib.files.whole import open_whole
from planetlib.transforms import fit_to_square

BLUE, RED, GREY = "#0173b2", "#d55e00", "#6b6b6b"  # the first two are of seaborn's `colorblind` palette
TILE, GAP = 192, 4  # pixels, side of a picture in a contact sheet and what lies between two
LINE = 24  # pixels, height of a class and its probability


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
    """A name, without suffix, for a picture made of another: `000012_saturn`, as two folders may hold equal names."""
    return f"{index:06d}_{clean_name(Path(path).stem, *more)}"


def clean_name(*parts: str) -> str:
    """A name made of what somebody wrote: cut short, and without what a file system or a terminal takes amiss."""
    name = re.sub(r'[/\\:*?"<>|]', "-", "_".join(printable(part)[:40] for part in parts))
    return name.encode()[:200].decode(errors="ignore")  # of 255 bytes, as more may come before and after


def fit_or_blank(path: str | Path, side: int) -> np.ndarray:
    """A picture fitted to a square, uint8 (side, side, 3); a dark one for what cannot be read."""
    try:
        return read_square(path, side)
    except UnreadableImage:
        return np.full((side, side, 3), 40, np.uint8)


def annotate_picture(row, side: int = 512) -> Image.Image:
    """A picture, `side` pixels wide, with its row of the predictions table on a band below it."""
    return _add_answer(fit_or_blank(row.path, side), row)


def draw_explanation(
    picture: np.ndarray, overlay: np.ndarray, row: pd.Series, explained: str, side: int = 360
) -> Image.Image:
    """A picture with its answer, its map, and the probabilities of the likeliest classes beside each other.

    Picture and map, `overlay`, are uint8 (H, W, 3); `row` is of the predictions table; the map is of `explained`.
    """
    likeliest = class_probabilities(row).nlargest(side // LINE)
    bars = Image.new("RGB", (side, side), "white")
    draw, font = ImageDraw.Draw(bars), ImageFont.load_default(LINE * 0.65)
    for top, (name, share) in zip(range(0, side, LINE), likeliest.items()):
        draw.rectangle((0.4 * side, top + 3, (0.4 + 0.42 * share) * side, top + LINE - 3), BLUE)
        draw.text((6, top + LINE / 2), _cut_to_fit(name, font, 0.38 * side), "black", font, "lm")
        draw.text((side - 6, top + LINE / 2), f"{share:.1%}", "black", font, "rm")
    tiles = [
        _add_answer(fit_to_square(picture, side), row),
        _add_band(fit_to_square(overlay, side), GREY, f"map for {explained}", "what speaks for it, and where"),
        _add_band(np.array(bars), GREY, "probabilities"),
    ]
    return _lay_out(tiles, len(tiles))


def _add_answer(picture: np.ndarray, row) -> Image.Image:
    text, colour = describe_prediction(row)
    verdict, *truth = text.replace("✓", "right:").replace("✗", "wrong:").split("\n")
    return _add_band(picture, colour, verdict, " · ".join([*truth, Path(row.path).name]))


def _add_band(picture: np.ndarray, colour: str, first: str, second: str = "") -> Image.Image:
    """A square picture with two lines on a band below it; what is too long for it ends in an ellipsis."""
    side = len(picture)
    band = max(34, side // 8)
    tile = Image.new("RGB", (side, side + band), ImageColor.getrgb(colour))
    tile.paste(Image.fromarray(picture))
    for text, top, size in ((first, 2, 0.42 * band), (second, 2 + 0.5 * band, 0.34 * band)):
        font = ImageFont.load_default(size)
        ImageDraw.Draw(tile).text((6, side + top), _cut_to_fit(text, font, side - 12), "white", font)
    return tile


def _cut_to_fit(text: str, font, width: float) -> str:
    """Printable text, no longer than `width` pixels."""
    line = text = printable(text)
    while text and font.getlength(line) > width:
        text = text[:-1]
        line = text + "…"
    return line


def _lay_out(tiles: list[Image.Image], columns: int) -> Image.Image:
    """Tiles of one size in rows, on white."""
    columns, (width, height) = min(columns, len(tiles)), (side + GAP for side in tiles[0].size)
    rows = math.ceil(len(tiles) / columns)
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * width + GAP, number // columns * height + GAP))
    return sheet


def write_caption(picture: np.ndarray, text: str) -> np.ndarray:
    """A picture, uint8 (H, W, 3), with a line of text on white below it; a narrow one is widened to hold the line."""
    size = max(14, picture.shape[1] // 60)  # wide pictures are shown smaller
    font = ImageFont.load_default(size)
    width = max(picture.shape[1], math.ceil(font.getlength(text)) + 12)
    sheet = Image.new("RGB", (width, picture.shape[0] + 2 * size), "white")
    sheet.paste(Image.fromarray(picture), (0, 0))
    ImageDraw.Draw(sheet).text((6, picture.shape[0] + size // 3), text, "black", font)
    return np.array(sheet)


def make_contact_sheet(predictions: pd.DataFrame, columns: int = 10, limit: int = 200) -> Image.Image:
    """The first rows of the predictions table as one picture of annotated tiles."""
    tiles = [annotate_picture(row, TILE) for row in predictions.head(limit).itertuples()]
    if not tiles:
        return Image.new("RGB", (TILE, TILE), "white")
    return _lay_out(tiles, columns)


def draw_predictions(predictions: pd.DataFrame, folder: str | os.PathLike) -> None:
    """Writes `pictures/`, each row's with its answer, and `contact_sheet.png`; the table is numbered from 0."""
    for row in progress_bar(predictions.itertuples(), desc="drawing", total=len(predictions), unit="image"):
        with open_whole(Path(folder, PICTURES, f"{name_picture(row.Index, row.path)}.jpg")) as file:
            annotate_picture(row).save(file, "JPEG", quality=90)
    with open_whole(Path(folder, CONTACT_SHEET)) as file:
        make_contact_sheet(predictions).save(file, "PNG")
