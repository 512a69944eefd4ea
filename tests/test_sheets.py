"""Words beside a picture, annotated pictures and contact sheets."""

import io

import numpy as np
import pytest
from matplotlib import colors
from PIL import Image

from planetlib.show import sheets
from planetlib.show.sheets import (
    BLUE,
    GREY,
    RED,
    TILE,
    annotate_picture,
    describe_prediction,
    make_contact_sheet,
    name_picture,
)
from tests.conftest import row_of


@pytest.mark.parametrize(
    "changes, words, colour",
    [({}, "✓ mars 87%", BLUE),
     ({"label": "moon"}, "✗ mars 87%\ntrue: moon", RED),
     ({"label": ""}, "mars 87%", GREY),
     ({"status": "unknown"}, "✓ mars 87%\nunknown?", BLUE),
     ({"status": "unknown", "label": "moon"}, "✗ mars 87%\nunknown?\ntrue: moon", RED),
     ({"status": "unreadable", "error": "empty file", "confidence": np.nan}, "unreadable: empty file", GREY)],
    ids=["right", "wrong", "no label", "unknown", "unknown and wrong", "unreadable"],
)  # fmt: skip
def test_words_and_colour_tell_right_from_wrong(changes, words, colour):
    assert describe_prediction(row_of(**changes)) == (words, colour)


def drawn_lines(monkeypatch, row, side: int = 512) -> list[str]:
    """What `annotate_picture` writes, line by line."""
    lines = []
    monkeypatch.setattr(sheets.ImageDraw.ImageDraw, "text", lambda draw, place, text, *more: lines.append(text))
    annotate_picture(row, side)
    return lines


def test_an_annotated_picture_has_a_band_in_the_colour_of_the_verdict(pictures):
    for label, colour in (("mars", BLUE), ("moon", RED), ("", GREY)):
        tile = annotate_picture(row_of(path=pictures[0], label=label), side=256)
        assert tile.size == (256, 256 + 34)
        assert tile.getpixel((255, 280)) == tuple(round(255 * part) for part in colors.to_rgb(colour))
        assert tile.getpixel((128, 128)) == (255, 0, 0) and tile.getpixel((128, 10)) == (0, 0, 0)


def test_the_band_says_verdict_truth_and_name(monkeypatch, pictures):
    assert drawn_lines(monkeypatch, row_of(path=pictures[0])) == ["right: mars 87%", "red.png"]
    row = row_of(path=pictures[0], label="moon", status="unknown")
    assert drawn_lines(monkeypatch, row) == ["wrong: mars 87%", "unknown? · true: moon · red.png"]


def test_long_names_are_cut_with_an_ellipsis(monkeypatch):
    first, second = drawn_lines(monkeypatch, row_of(path=f"{'long ' * 60}.png", predicted="word " * 60, label=""), TILE)
    assert first.endswith("…") and second.endswith("…") and second.startswith("long long")
    font = sheets.ImageFont.load_default(34 * 0.34)
    assert TILE - 40 < sheets.ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(second, font) <= TILE - 12


def test_an_unreadable_picture_is_a_dark_tile_with_the_reason(monkeypatch):
    row = row_of(path="nowhere.png", status="unreadable", error="no such file", confidence=np.nan, predicted="")
    tile = annotate_picture(row, side=64)
    assert tile.getpixel((32, 32)) == (40, 40, 40)
    assert drawn_lines(monkeypatch, row) == ["unreadable: no such file", "nowhere.png"]


def test_an_annotated_picture_is_the_same_file_each_time(pictures):
    files = []
    for _ in range(2):
        annotate_picture(row_of(path=pictures[1])).save(buffer := io.BytesIO(), "JPEG", quality=90)
        files.append(buffer.getvalue())
    assert files[0] == files[1]


@pytest.mark.parametrize("count, tiles", [(1, (1, 1)), (3, (3, 1)), (4, (4, 1)), (5, (4, 2)), (21, (4, 6))])
def test_a_contact_sheet_is_as_large_as_its_tiles_need(count, tiles, predictions):
    sheet = make_contact_sheet(predictions.head(count), columns=4)
    assert sheet.size == (tiles[0] * (TILE + 4) + 4, tiles[1] * (TILE + 34 + 4) + 4)


def test_a_contact_sheet_shows_no_more_than_its_limit_and_keeps_the_order(predictions, pictures):
    table = predictions.head(3).assign(path=pictures)
    sheet = make_contact_sheet(table, limit=2)
    assert sheet.width == 2 * (TILE + 4) + 4
    assert [sheet.getpixel((100 + column * (TILE + 4), 100)) for column in range(2)] == [(255, 0, 0), (0, 128, 0)]


def test_a_contact_sheet_of_nothing_is_a_blank(predictions):
    assert make_contact_sheet(predictions.head(0)).getcolors() == [(200 * 4, (255, 255, 255))]


def test_names_with_newlines_and_control_characters_are_drawn_on_one_line(monkeypatch, pictures):
    row = row_of(path="two\nlines\x1b.png", predicted="ma\nrs", label="mo\u202eon")
    annotate_picture(row, 64)  # Pillow measures no text of several lines
    lines = drawn_lines(monkeypatch, row)
    assert lines == [r"wrong: ma\nrs 87%", r"true: mo\u202eon · two\nlines\x1b.png"]


def test_the_name_of_a_picture_made_of_another_can_be_written_anywhere(tmp_path):
    name = name_picture(7, "/deep/a:b\n\x1b<c>|\u202e.png", "../../etc", "gradcam++")
    assert name == r"000007_a-b\n\x1b-c--\u202e_..-..-etc_gradcam++".replace("\\", "-")
    (tmp_path / f"{name_picture(1, '木' * 80 + '.png', '木' * 80, 'gradcam++')}.jpg").touch()
    assert name_picture(3, "saturn 1.png", "mars") == "000003_saturn 1_mars"
