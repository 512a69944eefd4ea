"""Augmented views of the pictures of a split, as the frozen part of the network passes them on.

What frozen stages make of a view never changes, so a view passes through them once, for both stages of training, for
calibration and for a run that is resumed. It is kept in the run folder under a digest of all that it depends on:
whatever changes, the name changes, and nothing stale is read.
"""

import contextlib
import hashlib
import os
import shutil
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from planetlib import PlanetlibError
from planetlib.batch.processes import find_rank, wait_for_all
from planetlib.checkpoint import library_versions
from planetlib.data import ImageData, make_loader, progress_bar
from planetlib.draw.outliers import OUTLIERS, draw_outliers
from planetlib.draw.render import PLANETS
from planetlib.draw.variety import draw_variants
from planetlib.files.whole import open_whole
from planetlib.model import DETECTOR_STAGES, Network, choose_precision, fold_copy, pass_pieces, use_precision
from planetlib.settings import Settings
from planetlib.transforms import RECIPES, make_training_transform

#: of each kind of outliers, there is one for validation to so many for training
OUTLIERS_PER_VALIDATION = 4
#: settings that the maps depend on
_DECIDING = "backbone weights image_size recipe strength rendered outliers batch_size seed".split()
#: raised whenever the same settings and pictures would give other features: what draws, augments or passes changed
FEATURES_FORMAT = 1


def clear_features(run: str | os.PathLike) -> None:
    """Deletes what is kept of the views in a run folder; it can be computed again."""
    shutil.rmtree(Path(run) / "views", ignore_errors=True)


def outlier_kinds(class_names: list[str], settings: Settings) -> list[str]:
    """The kinds of outliers a run learns beside its classes; a class of the user's is none of them."""
    return [kind for kind in OUTLIERS if kind not in class_names] if settings.outliers else []


class FrozenFeatures:
    """View number → what the frozen stages make of it, and the class numbers.

    Args:
        split: `train`, mixed with rendered planets and outliers, or `val`, mixed with outliers of its own.
        settings: see `Settings`.
        samples: the samples table.
        model: its stages that come before the tail are as pretrained.
        progress: show bars.

    Attributes:
        tail: how many of each backbone's last stages are left to be passed.
        labels: class numbers (N,); outliers have numbers from `len(class_names)` on.
        numbers: of the views that are met again and again.
    """

    def __init__(self, split: str, settings: Settings, samples: pd.DataFrame, model: Network, progress: bool = True):
        self.settings, self.model, self.progress = settings, model, progress
        self.tail, self.folder = max(settings.free_stages, DETECTOR_STAGES), Path(settings.run) / "views"
        self.part, self.class_names = samples[samples.split == split], sorted(samples.label.unique())
        self.validation, self.size = split == "val", settings.image_size or model.image_size
        names, kinds = self.class_names, outlier_kinds(self.class_names, settings)
        self.drawn = [name for name in names if name in PLANETS and settings.rendered] if split == "train" else []
        numbers = [names.index(label) for label in self.part.label]
        numbers += [names.index(name) for name in self.drawn for _ in range(settings.rendered)]
        few = -(-settings.outliers // OUTLIERS_PER_VALIDATION) if self.validation else settings.outliers
        numbers += [len(names) + number for number in range(len(kinds)) for _ in range(few)]
        self.labels, self.kinds, self.outliers = torch.tensor(numbers), kinds, few
        self.numbers = range(max(1, settings.views))
        self.kept = self.validation or settings.views > 0

    @cached_property
    def data(self) -> ImageData:
        """The pictures, decoded when they are first asked for."""
        settings, size = self.settings, self.size
        transform = make_training_transform(settings.recipe, size, settings.strength)
        names, fit = self.class_names, RECIPES[settings.recipe]
        data = ImageData(self.part, names, size, fit, transform, settings.seed, self.progress)
        drawn = []
        if self.drawn:
            drawn.append(draw_variants(self.drawn, settings.rendered, size, settings.seed))
        if self.kinds:
            first = settings.outliers if self.validation else 0
            drawn.append(draw_outliers(self.kinds, range(first, first + self.outliers), size, settings.seed))
        if drawn:
            data.add_rendered(np.concatenate(drawn), self.labels[len(self.part) :])
        return data

    def load(self, number: int) -> TensorDataset:
        """A view: for each backbone maps (N, C, H, W), float32 or bfloat16, and class numbers (N,).

        With `Settings.views` 0 no view of the training pictures is met twice, and none is kept.
        """
        digest = hashlib.sha256(repr([number, *self._depends_on]).encode()).hexdigest()[:24]
        paths = [self.folder / f"{digest}_{name}.npy" for name in self.model.backbones]
        if not all(path.exists() for path in paths):
            self._compute(number, paths)
        # Copy-on-write: torch wants memory that it may write to.
        maps = [_as_maps(np.load(path, mmap_mode="c" if self.kept else None)) for path in paths]
        if not self.kept:
            for path in paths:
                path.unlink()
        return TensorDataset(*maps, self.labels)

    def embed(self, number: int) -> tuple[Tensor, Tensor]:
        """A view passed through the tail as well: features (N, F) and (N, S) of `Network.embed`, float32."""
        self.model.eval()
        device, found = next(self.model.parameters()).device, []
        with torch.inference_mode(), use_precision(self.settings.precision, device):
            for *maps, _ in make_loader(self.load(number), self.settings.batch_size, device=device):
                parts = self.model.embed([values.to(device, non_blocking=True) for values in maps], self.tail)
                found.append([part.float().cpu() for part in parts])
        features, lower = (torch.cat(parts).clone() for parts in zip(*found))
        return features, lower

    def share_out(self) -> None:
        """Where there are several processes: makes every view, each of them in one process.

        Raises:
            PlanetlibError: views are not kept, so that each process would make all of them.
        """
        rank, count = find_rank()
        if count == 1:
            return
        if not self.kept:
            raise PlanetlibError(f"got {count} processes and 0 views; train in one process, or with views (--views 4)")
        for number in self.numbers[rank::count]:
            self.load(number)
        wait_for_all()

    @cached_property
    def _depends_on(self) -> list:
        choices = self.settings.recipe_choices()
        pictures = list(zip(self.part.label, self.part.sha256))
        precision = choose_precision(self.settings.precision, next(self.model.parameters()).device)
        made = [FEATURES_FORMAT, precision, self.tail, self.validation, library_versions()]
        return [[choices[name] for name in _DECIDING], pictures, *made]

    def _compute(self, number: int, paths: list[Path]) -> None:
        settings, device = self.settings, next(self.model.parameters()).device
        self.data.epoch = number
        # Without a core of their own, processes that augment ahead only get in the way of the arithmetic.
        workers = settings.workers if device.type != "cpu" or torch.get_num_threads() > settings.workers else 0
        batches = make_loader(self.data, settings.batch_size, workers=workers, device=device)
        bar = progress_bar(batches, self.progress, desc=f"view {number + 1}", unit="step", leave=False)
        precision = choose_precision(settings.precision, device)
        trunk = partial(fold_copy(self.model, precision).pass_trunk, tail=self.tail)
        with contextlib.ExitStack() as stack, torch.inference_mode():
            # Written in turn, not into mapped memory: there, a full disk would kill the process without a word.
            files = [stack.enter_context(open_whole(path)) for path in paths]
            for step, (images, _) in enumerate(bar):
                maps_of_each = pass_pieces(trunk, images.to(device, non_blocking=True), device)
                done = [_as_numbers(maps, precision) for maps in maps_of_each]
                for file, maps in zip(files, done):
                    if step == 0:
                        shape = (len(self.data), *maps.shape[1:])
                        header = {"descr": maps.dtype.str, "fortran_order": False, "shape": shape}
                        np.lib.format.write_array_header_1_0(file, header)
                    file.write(maps.tobytes())


def _as_numbers(maps: Tensor, precision: str) -> np.ndarray:
    """NumPy has no bfloat16: its bits are kept as whole numbers."""
    kept = maps.to("cpu", torch.bfloat16 if precision == "bfloat16" else torch.float32).contiguous()
    return (kept.view(torch.int16) if precision == "bfloat16" else kept).numpy()


def _as_maps(numbers: np.ndarray) -> Tensor:
    maps = torch.from_numpy(numbers)
    return maps.view(torch.bfloat16) if maps.dtype == torch.int16 else maps
