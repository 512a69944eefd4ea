"""Words beside a picture, annotated pictures and contact sheets."""

import numpy as np
import pytest
from PIL import ImageColor

from planetlib.show import sheets
from tests.conftest import encode, photograph, predictions_of, row_of


@pytest.mark.parametrize(
    "changes, words, colour",
    [
        ({}, "✓ mars 87%", sheets.BLUE),
        ({"label": ""}, "mars 87%", sheets.GREY),
        ({"status": "unknown", "label": "moon"}, "✗ mars 87%\nunknown?\ntrue: moon", sheets.RED),
        ({"status": "unreadable", "error": "empty file"}, "unreadable: empty file", sheets.GREY),
    ],
)
def test_words_and_colour_tell_right_from_wrong(changes, words, colour):
    assert sheets.describe_prediction(row_of(**changes)) == (words, colour)


def written(monkeypatch, row, side: int = 512, draw=sheets.annotate_picture) -> list[str]:
    """What `annotate_picture`, or another, writes, line by line."""
    lines = []
    monkeypatch.setattr(sheets.ImageDraw.ImageDraw, "text", lambda draw, place, text, *more: lines.append(text))
    draw(row, side)
    return [line for line in lines if line]


def test_an_annotated_picture_has_a_band_in_the_colour_of_the_verdict(pictures):
    for label, colour in (("mars", sheets.BLUE), ("moon", sheets.RED)):
        tile = sheets.annotate_picture(row_of(path=pictures[0], label=label), side=256)
        assert tile.size == (256, 256 + 34) and tile.getpixel((255, 280)) == ImageColor.getrgb(colour)
        assert tile.getpixel((128, 128)) == (255, 0, 0) and tile.getpixel((128, 10)) == (0, 0, 0)


def test_the_band_says_verdict_truth_and_name(monkeypatch, pictures):
    assert written(monkeypatch, row_of(path=pictures[0])) == ["right: mars 87%", "red.png"]
    row = row_of(path=pictures[0], label="moon", status="unknown")
    assert written(monkeypatch, row) == ["wrong: mars 87%", "unknown? · true: moon · red.png"]


def test_long_names_are_cut_with_an_ellipsis(monkeypatch):
    row = row_of(path=f"{'long ' * 60}.png", predicted="word " * 60, label="")
    first, second = written(monkeypatch, row, sheets.TILE)
    assert first.endswith("…") and second.endswith("…") and second.startswith("long long")
    assert sheets.TILE - 40 < sheets.ImageFont.load_default(34 * 0.34).getlength(second) <= sheets.TILE - 12


def test_an_unreadable_picture_is_a_dark_tile_with_the_reason(monkeypatch):
    row = row_of(path="nowhere.png", status="unreadable", error="no such file", confidence=np.nan, predicted="")
    assert sheets.annotate_picture(row, side=64).getpixel((32, 32)) == (40, 40, 40)
    assert written(monkeypatch, row) == ["unreadable: no such file", "nowhere.png"]


@pytest.fixture
def explanation(pictures):
    """Draws one of red, beside a map in white, for a network that knows 30 classes of long names."""
    names = ["mars", "two\nlines", *(f"{'long ' * 9}{number}" for number in range(28))]
    row = predictions_of([("moon", "mars", 0.42, "ok")], names, pictures[0]).iloc[0]
    red, white = (np.full((40, 20, 3), colour, np.uint8) for colour in ((255, 0, 0), 255))
    return lambda *unused: sheets.draw_explanation(red, white, row, "mars", 240)


def test_an_explanation_says_verdict_name_and_the_likeliest_classes(monkeypatch, explanation):
    *bars, answer, name, of, _, heading = written(monkeypatch, None, draw=explanation)
    assert bars[:4] == ["mars", "42.0%", r"two\nlines", "2.0%"] and len(bars) == 20 and bars[-2].endswith("…")
    assert [answer, name, of, heading] == ["wrong: mars 42%", "true: moon · red.png", "map for mars", "probabilities"]


def test_an_explanation_shows_picture_map_and_a_bar_as_long_as_its_probability(explanation):
    drawn = np.array(explanation())
    assert drawn.shape == (4 + 240 + 34 + 4, 4 + 3 * 244, 3)
    assert [drawn[120, left + 120].tolist() for left in (4, 248)] == [[255, 0, 0], [255, 255, 255]]
    bar = (drawn[4 + 12, 492:732] == ImageColor.getrgb(sheets.BLUE)).all(1)
    assert bar.sum() == pytest.approx(0.42 * 0.42 * 240, abs=2)


def test_a_contact_sheet_is_as_large_as_its_tiles_need(predictions):
    for count, columns, rows in ((2, 2, 1), (4, 4, 1), (5, 4, 2)):
        sheet = sheets.make_contact_sheet(predictions.head(count), columns=4)
        assert sheet.size == (columns * (sheets.TILE + 4) + 4, rows * (sheets.TILE + 34 + 4) + 4)


def test_a_tile_of_a_large_picture_is_decoded_at_a_reduced_scale(tmp_path, decoded):
    (tmp_path / "a.jpg").write_bytes(encode(photograph(), "JPEG"))
    sheets.annotate_picture(row_of(path=tmp_path / "a.jpg"), 100)
    assert decoded == [(1000, 600)]


def test_a_contact_sheet_keeps_the_order_and_its_limit_and_one_of_nothing_is_white(predictions, pictures):
    sheet = sheets.make_contact_sheet(predictions.head(3).assign(path=pictures), limit=2)
    assert sheet.width == 2 * (sheets.TILE + 4) + 4
    assert [sheet.getpixel((left + 100, 100)) for left in (0, sheets.TILE + 4)] == [(255, 0, 0), (0, 128, 0)]
    assert {colour for _, colour in sheets.make_contact_sheet(predictions.head(0)).getcolors()} == {(255, 255, 255)}


def test_names_with_newlines_and_control_characters_are_drawn_on_one_line(monkeypatch):
    row = row_of(path="two\nlines\x1b.png", predicted="ma\nrs", label="mo\u202eon")
    sheets.annotate_picture(row, 64)  # Pillow measures no text of several lines
    assert written(monkeypatch, row) == [r"wrong: ma\nrs 87%", r"true: mo\u202eon · two\nlines\x1b.png"]


def test_the_name_of_a_picture_made_of_another_can_be_written_anywhere(tmp_path):
    name = sheets.name_picture(7, "/deep/a:b\n\x1b<c>|\u202e.png", "../../etc", "gradcam++")
    assert name == r"000007_a-b\n\x1b-c--\u202e_..-..-etc_gradcam++".replace("\\", "-")
    (tmp_path / f"{sheets.name_picture(1, '🪐' * 80 + '.png', '木' * 80, 'gradcam++')}.jpg.part").touch()
    assert sheets.name_picture(3, "saturn 1.png", "mars") == "000003_saturn 1_mars"
