"""Fixtures that several test modules share: a tiny data set, drawn here so that it needs no part of the library."""

import gzip
import io
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.io import fits
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile

import tests.toy  # noqa: F401 - adds the backbone `toy`
from planetlib.classify import Classifier
from planetlib.data import check_samples, find_samples, split_samples
from planetlib.settings import Settings
from planetlib.train import train_phase

SEVEN = ["earth", "jupiter", "mars", "moon", "neptune", "saturn", "uranus"]
COLOURS = {"blue": (60, 90, 220), "green": (70, 200, 80), "red": (220, 60, 50)}


@pytest.fixture(autouse=True, scope="session")
def quiet_environment():
    """No progress bars, no settings of whoever runs the tests, and one thread; processes that tests start inherit this.

    Networks this small gain nothing from a second thread, and lose much by it where the processor is shared.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TQDM_DISABLE", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        for name in [name for name in os.environ if name.startswith("PLANETLIB_")]:
            patch.delenv(name)
        patch.setenv("PLANETLIB_CACHE", "")  # drawn anew, and nothing left with whoever runs the tests
        torch.set_num_threads(1)
        yield


@pytest.fixture(scope="session")
def fixture_folder(tmp_path_factory) -> Path:
    """3 classes × 8 pictures of 48 × 48 pixels: a disc of the class's colour, its place and size drawn by seed."""
    folder = tmp_path_factory.mktemp("discs")
    rng = np.random.default_rng(0)
    for label, colour in COLOURS.items():
        (folder / label).mkdir()
        for number in range(8):
            Image.fromarray(draw_disc(rng, colour)).save(folder / label / f"{label} {number}.png")
    return folder


@pytest.fixture(scope="session")
def samples(fixture_folder):
    """The samples table of `fixture_folder`; take a copy before changing it."""
    return split_samples(check_samples(find_samples(fixture_folder)))


def draw_disc(rng: np.random.Generator, colour, side: int = 48) -> np.ndarray:
    """A disc on faint noise; uint8 (side, side, 3)."""
    rows, columns = np.mgrid[:side, :side]
    centre, radius = rng.uniform(0.4, 0.6, 2) * side, rng.uniform(0.2, 0.35) * side
    picture = rng.integers(0, 12, (side, side, 3), dtype=np.uint8)
    picture[np.hypot(rows - centre[0], columns - centre[1]) < radius] = colour
    return picture


@pytest.fixture(scope="session")
def trained_run(fixture_folder, samples, tmp_path_factory) -> Settings:
    """The settings of a tiny run, both phases of which are trained; `run` is its folder, to be read only."""
    run = tmp_path_factory.mktemp("run")
    settings = Settings(
        data=fixture_folder, run=run, figures=run / "figures", backbone="toy", image_size=64, views=2, head_epochs=12,
        finetune_epochs=4, free_stages=2, head_lr=0.1, batch_size=8, patience=99, label_smoothing=0.0, strength=0.3,
        precision="float32", workers=0, device="cpu", outliers=4, finetune_lr=3e-3,
    )  # fmt: skip
    for phase in ("head", "finetune"):
        train_phase(phase, settings, samples, progress=False)
    return settings


@pytest.fixture(scope="session")
def classifier(trained_run) -> Classifier:
    """That of `trained_run`."""
    return Classifier.load(trained_run.run, device="cpu")


def encode(picture, format: str = "PNG", mode: str | None = None, **options) -> bytes:
    """The bytes of an image file, from an array or an image."""
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image.copy()).save(buffer, format, **options)
    return buffer.getvalue()


def photograph(width: int = 2000, height: int = 1200) -> np.ndarray:
    """A bright disc left of the middle, with some texture: not the same turned or mirrored."""
    x, y = np.meshgrid(np.linspace(-1.2, 2, width, dtype="f4"), np.linspace(-0.9, 1, height, dtype="f4"), sparse=True)
    disc = (x**2 + y**2 < 0.5) * (150 + 60 * np.sin(9 * x) * np.cos(7 * y) - 40 * x)
    return np.stack([disc, 0.7 * disc, 0.4 * disc + 20], 2).clip(0, 255).astype(np.uint8)


@pytest.fixture
def decoded(monkeypatch) -> list[tuple[int, int]]:
    """The sizes that libjpeg is asked to decode to."""
    sizes, load = [], JpegImageFile.load

    def note(image):
        if image.size not in sizes:  # it is called again for what is decoded
            sizes.append(image.size)
        return load(image)

    monkeypatch.setattr(JpegImageFile, "load", note)
    return sizes


def encode_fits(*hdus) -> bytes:
    """The bytes of a FITS file of these parts, the first of which is a `PrimaryHDU`."""
    buffer = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(buffer)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def every_format() -> dict[str, bytes]:
    """One good file of every format and kind: its name → its bytes. All show the same disc."""
    picture = draw_disc(np.random.default_rng(0), (220, 60, 50))
    image, grey = Image.fromarray(picture), picture[:, :, 0]

    def several(format: str) -> bytes:
        return encode(image, format, save_all=True, append_images=[Image.fromarray(255 - picture)])

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    numbers = 1000 + 10.0 * grey
    numbers[5, 5] = np.nan
    plain = encode_fits(fits.PrimaryHDU(numbers))
    rows = fits.BinTableHDU.from_columns([fits.Column("x", "J", array=[1, 2])])
    return {
        "rgb.png": encode(image), "palette.png": encode(image, mode="P"), "alpha.png": encode(image, mode="RGBA"),
        "grey and alpha.png": encode(image, mode="LA"), "one bit.png": encode(image, mode="1"),
        "16 bit.png": encode(np.uint16(100 + 20.0 * grey)), "animated.png": several("PNG"),
        "plain.jpg": encode(image, "JPEG"), "progressive.jpg": encode(image, "JPEG", progressive=True),
        "turned.jpg": encode(image, "JPEG", exif=exif), "cmyk.jpg": encode(image, "JPEG", "CMYK"),
        "two.jpg": several("MPO"), "plain.webp": encode(image, "WEBP"),
        "lossless.webp": encode(image, "WEBP", "RGBA", lossless=True), "animated.webp": several("WEBP"),
        "plain.tif": encode(image, "TIFF"), "16 bit.tif": encode(np.uint16(100 + 20.0 * grey), "TIFF"),
        "32 bit.tif": encode(np.int32(grey), "TIFF"), "float.tif": encode(np.float32(numbers), "TIFF"),
        "lzw.tif": encode(image, "TIFF", compression="tiff_lzw"), "jpeg.tif": encode(image, "TIFF", compression="jpeg"),
        "fax.tif": encode(image, "TIFF", "1", compression="group4"), "pages.tif": several("TIFF"),
        "animated.gif": several("GIF"), "plain.gif": encode(image, "GIF"), "plain.bmp": encode(image, "BMP"),
        "palette.bmp": encode(image, "BMP", "P"), "plain.avif": encode(image, "AVIF"),
        "animated.avif": several("AVIF"), "plain.jp2": encode(image, "JPEG2000"),
        "stream.j2k": encode(image, "JPEG2000", no_jp2=True), "plain.fits": plain,
        "zipped.fits.gz": gzip.compress(plain), "cube.fts": encode_fits(fits.PrimaryHDU(np.stack([numbers, numbers]))),
        "16 bit.fit": encode_fits(fits.PrimaryHDU(np.uint16(100 + 20.0 * grey))),
        "packed.fits.fz": encode_fits(fits.PrimaryHDU(), fits.CompImageHDU(np.float32(numbers))),
        "table first.fits": encode_fits(fits.PrimaryHDU(), rows, fits.ImageHDU(np.float32(numbers))),
    }  # fmt: skip


def row_of(**changes) -> SimpleNamespace:
    """A row of the predictions table, right about mars, with changes."""
    good = {"path": "a.png", "label": "mars", "predicted": "mars", "confidence": 0.873, "status": "ok", "error": ""}
    return SimpleNamespace(**{**good, **changes})


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> list[str]:
    """Three pictures: red, green and blue."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("red", "green", "blue"):
        Image.new("RGB", (40, 20), name).save(folder / f"{name}.png")
    return [str(folder / f"{name}.png") for name in ("red", "green", "blue")]


def predictions_of(rows: list[tuple], names: list[str], path: str) -> pd.DataFrame:
    """A predictions table of (label, predicted, confidence, status) rows, all of one picture."""
    table = pd.DataFrame(rows, columns=["label", "predicted", "confidence", "status"])
    table.insert(0, "path", path)
    table["unknown_score"] = np.where(table.status == "unknown", 0.9, 0.1)
    table["error"] = np.where(table.status == "unreadable", "empty file", "")
    others = (1 - table.confidence) / (len(names) - 1)
    for name in names:
        table[f"prob_{name}"] = np.where(table.predicted == name, table.confidence, others)
    return table


@pytest.fixture(scope="session")
def predictions(pictures) -> pd.DataFrame:
    """Of each of the seven classes two right ones and one that is taken for the next class."""
    following = dict(zip(SEVEN, SEVEN[1:] + SEVEN[:1]))
    rows = [(name, name, 0.95, "ok") for name in SEVEN for _ in range(2)]
    rows += [(name, following[name], 0.55, "unknown") for name in SEVEN]
    return predictions_of(rows, SEVEN, pictures[0])
