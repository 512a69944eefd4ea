"""Frozen features: what the frozen stages make of augmented views of the pictures, computed once and kept.

It never changes, so a view passes through those stages once, for both phases of training, for calibration and for a run
that is resumed. It is kept in the run folder under a digest of all that it depends on: whatever changes, the name
changes, and nothing stale is read. Drawn pictures are kept between runs too, in the user's cache folder.
"""

import hashlib
import math
import os
import shutil
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, TensorDataset

from planetlib.checkpoint import library_versions
from planetlib.data import ImageData, load_pixels, make_loader
from planetlib.draw.mixture import draw_mixture
from planetlib.draw.outliers import OUTLIERS
from planetlib.draw.planets import PLANETS
from planetlib.files.progress import progress_bar
from planetlib.files.tensors import read_pieces, write_pieces
from planetlib.model import DETECTOR_STAGES, Network
from planetlib.nets.device import choose_precision, pass_pieces, use_precision
from planetlib.nets.folding import fold_copy
from planetlib.settings import Settings
from planetlib.transforms import RECIPES, make_training_transform

#: of each planet and each kind of outliers, one is drawn for validation to so many for training
DRAWN_PER_VALIDATION = 8
#: raised whenever the same settings and pictures would give other features: what draws, augments or passes changed
FEATURES_FORMAT = 5
#: drawn pictures of these numbers and on are for validation
VALIDATION_FROM = 50_000
#: strength of drawn pictures' augmentation, as a share of the others': they are photographed in many ways already
MILD = 0.4
#: settings that the features depend on
_DECIDING = "backbone weights image_size recipe strength drawn outliers batch_size seed".split()


def clear_features(run: str | os.PathLike) -> None:
    """Deletes the features kept in a run folder; they can be computed again."""
    shutil.rmtree(Path(run) / "features", ignore_errors=True)


def outlier_kinds(class_names: list[str], settings: Settings) -> list[str]:
    """The kinds of outliers a run learns beside its classes; a class of the user's is none of them."""
    names = {name.lower() for name in class_names}
    return [kind for kind in OUTLIERS if kind not in names] if settings.outliers else []


class FrozenFeatures:
    """View number → what the frozen stages make of it, and the class numbers.

    Args:
        split: `train` or `val`, each mixed with drawn planets and outliers of its own.
        settings: see `Settings`.
        samples: the samples table.
        model: its stages that come before the tail are as pretrained.
        progress: show bars.

    Attributes:
        tail: how many of each backbone's last stages are left to be passed.
        labels: class numbers (N,); outliers have numbers from `len(class_names)` on.
        numbers: of the views that are met again and again.
        kept: with `Settings.views` 0 no view of the training pictures is met twice, and none is kept.
    """

    def __init__(self, split: str, settings: Settings, samples: pd.DataFrame, model: Network, progress: bool = True):
        self.settings, self.model, self.progress = settings, model, progress
        self.device = next(model.parameters()).device
        self.precision = choose_precision(settings.precision, self.device)
        self.tail, self.folder = max(settings.free_stages, DETECTOR_STAGES), Path(settings.run) / "features"
        self.part, self.class_names = samples[samples.split == split], sorted(samples.label.unique())
        self.validation = split == "val"
        names, self.kinds = self.class_names, outlier_kinds(self.class_names, settings)
        fewer = DRAWN_PER_VALIDATION if self.validation else 1
        self.drawn, self.outliers = (math.ceil(count / fewer) for count in (settings.drawn, settings.outliers))
        self.planets = [name for name in names if name.lower() in PLANETS and settings.drawn]
        numbers = [names.index(label) for label in self.part.label]
        numbers += [names.index(name) for name in self.planets for _ in range(self.drawn)]
        numbers += [len(names) + number for number in range(len(self.kinds)) for _ in range(self.outliers)]
        self.labels = torch.tensor(numbers)
        self.size = settings.image_size or model.image_size
        self.numbers = range(max(1, settings.views))
        self.kept = self.validation or settings.views > 0

    @cached_property
    def pixels(self) -> np.ndarray:
        """The pictures of files, uint8 (N, size, size, 3), decoded when they are first asked for."""
        return load_pixels(self.part.path, self.size, RECIPES[self.settings.recipe], self.progress)

    def augment_files(self, number: int) -> ImageData:
        """The pictures of files in a view."""
        settings = self.settings
        transform = make_training_transform(settings.recipe, self.size, settings.strength)
        return ImageData(self.pixels, self.labels[: len(self.part)].tolist(), transform, (settings.seed, number))

    def augment_drawn(self, number: int) -> ImageData:
        """The drawn pictures in a view: in each there are new ones."""
        settings, files = self.settings, len(self.part)
        planets = [name.lower() for name in self.planets], self._numbers(number, self.drawn)
        kinds = self.kinds, self._numbers(number, self.outliers)
        worth = self.kept and (self.planets or self.kinds)  # what is met once, or nothing, is not worth its room
        made = [FEATURES_FORMAT, library_versions()] if worth else None
        pixels = draw_mixture(planets, kinds, self.size, settings.seed, made)
        transform = make_training_transform(settings.recipe, self.size, settings.strength, MILD)
        return ImageData(pixels, self.labels[files:].tolist(), transform, (settings.seed, number), files)

    def _numbers(self, view: int, count: int) -> range:
        """Of the pictures drawn of each kind in a view."""
        start = view * count % VALIDATION_FROM + VALIDATION_FROM * self.validation
        return range(start, start + count)

    def load(self, number: int) -> TensorDataset:
        """A view: for each backbone maps (N, C, H, W), float32 or bfloat16, and class numbers (N,)."""
        digest = hashlib.sha256(repr([number, *self._depends_on]).encode()).hexdigest()[:24]
        paths = [self.folder / f"{digest}_{name}.npy" for name in self.model.backbones]
        try:
            maps = [read_pieces(path, self.kept) for path in paths]
        except (FileNotFoundError, ValueError, EOFError):  # not there yet, or damaged
            self._pass_view(number, paths)
            maps = [read_pieces(path, self.kept) for path in paths]
        if not self.kept:
            for path in paths:
                path.unlink()
        return TensorDataset(*maps, self.labels)

    def embed(self, number: int, model: Network) -> tuple[Tensor, Tensor]:
        """A view passed through the tail of a model as well: features (N, F) and (N, S) of `Network.embed`, float32."""
        model.eval()
        found = []
        with torch.inference_mode(), use_precision(self.precision, self.device):
            for *maps, _ in make_loader(self.load(number), self.settings.batch_size, device=self.device):
                parts = model.embed([values.to(self.device, non_blocking=True) for values in maps], self.tail)
                found.append([part.float().cpu() for part in parts])
        features, lower = (torch.cat(parts).clone() for parts in zip(*found))
        return features, lower

    @cached_property
    def _depends_on(self) -> list:
        choices = self.settings.recipe_choices()
        pictures = list(zip(self.part.label, self.part.sha256))
        made = [FEATURES_FORMAT, self.precision, self.tail, self.validation, library_versions()]
        return [[choices[name] for name in _DECIDING], pictures, *made]

    def _pass_view(self, number: int, paths: list[Path]) -> None:
        """Writes what the frozen stages make of a view, a file for each backbone."""
        settings, device = self.settings, self.device
        data: ConcatDataset = ConcatDataset([self.augment_files(number), self.augment_drawn(number)])
        # On a processor one core is left to the arithmetic.
        workers = min(settings.workers, torch.get_num_threads() - 1) if device.type == "cpu" else settings.workers
        batches = make_loader(data, settings.batch_size, workers=workers, device=device)
        bar = progress_bar(batches, self.progress, desc=f"view {number + 1}", unit="step", leave=False)
        trunk = partial(fold_copy(self.model, self.precision).pass_trunk, tail=self.tail)
        with ExitStack() as stack, torch.inference_mode():
            files = [stack.enter_context(write_pieces(path, len(data))) for path in paths]
            for images, _ in bar:
                for add, maps in zip(files, pass_pieces(trunk, images.to(device, non_blocking=True), device)):
                    add(maps)
