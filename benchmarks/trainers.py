"""What `benchmarks.train` times: planetlib and its peers, each from files to a trained network, told by a `Clock`.

All begin with the same weights of the same backbone and the same split; each has the augmentation, the batches and the
schedule that are its own. `short` cuts pictures and epochs down until nothing is left to measure.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from planetlib.checkpoint import PHASES, Checkpoint
from planetlib.data import load_pixels
from planetlib.model import Network
from planetlib.nets.device import use_precision
from planetlib.nets.processes import ALONE
from planetlib.settings import load_settings
from planetlib.show.card import write_card
from planetlib.train import Phase

BACKBONE = "efficientnet_lite0"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: processes that decode ahead, of the peers; planetlib has as many
WORKERS = 2
#: epochs of the peers, frozen and fine-tuned
EPOCHS = {"reference": (15, 85), "fastai": (1, 5)}
SHORT = {
    "image_size": 64,
    "drawn": 1,
    "outliers": 2,
    "views": 1,
    "head_epochs": 2,
    "finetune_epochs": 1,
    "workers": 0,
}


class TimeUp(Exception):
    """A run has had its share of time."""


class Clock:
    """Seconds since a process was started, without those that testing took.

    Attributes:
        rows: (seconds, test accuracy) after each epoch.
    """

    def __init__(self, started: float, limit: float = float("inf")):
        self.started, self.limit, self.rows = started, limit, []

    @property
    def seconds(self) -> float:
        """Since the start, in `time.time`."""
        return time.time() - self.started

    def leave_out(self, work: Callable):
        """What `work()` returns, as if that took no time."""
        began = time.time()
        found = work()
        self.started += time.time() - began
        return found

    def test(self, measure: Callable[[], float]) -> None:
        """Notes an accuracy; raises TimeUp where the limit is past."""
        seconds = self.seconds
        self.rows.append((seconds, self.leave_out(measure)))
        if seconds > self.limit:
            raise TimeUp(f"more than {self.limit:g} s")  # fastai asks for words


class TestPictures:
    """The test pictures in memory, uint8 (N, 3, size, size), and how many of them a network tells right."""

    __test__ = False  # no test of pytest's

    def __init__(self, samples: pd.DataFrame, size: int, fit: str):
        part, names = samples[samples.split == "test"], sorted(samples.label.unique())
        self.images = torch.from_numpy(load_pixels(part.path, size, fit, False)).permute(0, 3, 1, 2)
        self.labels, self.classes = torch.tensor([names.index(label) for label in part.label]), len(names)

    def rate(self, network: Callable[[Tensor], Tensor]) -> float:
        """Accuracy, 0–1, of a function from images to logits (B, classes or more)."""
        with torch.inference_mode():
            logits = torch.cat([network(images) for images in self.images.split(32)])
        return (logits[:, : self.classes].argmax(1) == self.labels).float().mean().item()


def train_ours(samples: pd.DataFrame, seed: int, clock: Clock, short: bool, profile: str = "full") -> None:
    """`planetlib train`, both phases, calibration and model card, with an empty run folder."""
    with tempfile.TemporaryDirectory() as folder:
        choices = {"seed": seed, "backbone": BACKBONE, **(SHORT if short else {})}
        settings = load_settings(profile, data=Path(samples.path[0]).parent.parent, run=Path(folder), **choices)
        pictures = None

        class Tested(Phase):
            def _keep(self, *arguments) -> None:
                super()._keep(*arguments)
                clock.test(lambda: pictures.rate(self.compute))

            def compute(self, images: Tensor) -> Tensor:
                self.model.eval()
                with use_precision(settings.precision, self.device):
                    return self.model(images.to(self.device)).float().cpu()

        for name in PHASES:
            phase = Tested(name, settings, samples, False, ALONE)
            size = settings.image_size or phase.model.image_size
            pictures = pictures or clock.leave_out(lambda size=size: TestPictures(samples, size, "pad"))
            phase.clear()
            phase.train()
            phase.finish()
            write_card(settings.run, Checkpoint.load(phase.best_path), samples, settings)


class Files(Dataset):
    """Pictures of a split, decoded by Pillow whenever they are asked for."""

    def __init__(self, samples: pd.DataFrame, split: str, transform: Callable):
        part, names = samples[samples.split == split], sorted(samples.label.unique())
        self.files = [(path, names.index(label)) for path, label in zip(part.path, part.label)]
        self.transform = transform

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        path, number = self.files[index]
        with Image.open(path) as image:
            return self.transform(image.convert("RGB")), number


class Peer:
    """An ordinary training script: float32, decoding in each epoch, one network for both phases."""

    def __init__(
        self, samples: pd.DataFrame, seed: int, clock: Clock, short: bool, make_head: Callable[[int], nn.Module]
    ):
        torch.manual_seed(seed)
        whole = Network(BACKBONE, samples.label.nunique())
        self.samples, self.clock, self.size = samples, clock, 64 if short else whole.image_size
        self.body = whole.backbones[BACKBONE]
        with torch.no_grad():
            features = self.body.eval()(torch.zeros(1, 3, 64, 64)).shape[1]
        self.network = nn.Sequential(self.body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), make_head(features))
        self.pictures = clock.leave_out(lambda: TestPictures(samples, self.size, "squash"))
        self.workers = 0 if short else WORKERS

    def load(self, split: str, steps: list, batch_size: int) -> DataLoader:
        """Batches of a split; `steps` come before the normalisation."""
        transform = transforms.Compose(
            [*steps, transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
        )
        data = Files(self.samples, split, transform)
        return DataLoader(data, batch_size, shuffle=split == "train", num_workers=self.workers)

    def free(self, blocks: int) -> None:
        """Frees the last so many blocks of the backbone, and freezes the others."""
        for number, block in enumerate(self.body):
            block.requires_grad_(number >= len(self.body) - blocks)

    def fit(
        self, train: DataLoader, val: DataLoader, loss: nn.Module, epochs: int, warmup: int, lr: float, decay: float
    ):
        """Trains what is free by Adam: `warmup` epochs of a rising learning rate, then a cosine; tested each epoch."""
        free = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimiser = torch.optim.Adam(free, lr, weight_decay=decay)
        rise = LinearLR(optimiser, 0.1, total_iters=max(1, warmup))
        fall = CosineAnnealingLR(optimiser, max(1, epochs - warmup))
        schedule = SequentialLR(optimiser, [rise, fall], [warmup]) if warmup else fall
        for _ in range(epochs):
            self.network.train()
            for images, labels in train:
                optimiser.zero_grad()
                loss(self.network(images), labels).backward()
                optimiser.step()
            schedule.step()
            self.network.eval()
            with torch.no_grad():
                for images, labels in val:
                    loss(self.network(images), labels).item()
            self.clock.test(lambda: self.pictures.rate(lambda pictures: self.network(normalise(pictures))))


def normalise(images: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) as networks pretrained on ImageNet want them."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images / 255 - mean) / std


def train_reference(samples: pd.DataFrame, seed: int, clock: Clock, short: bool) -> None:
    """The recipe of the reference project, written anew: see `benchmarks.train`."""

    def make_head(features: int) -> nn.Module:
        wide = [nn.Linear(features, 1024), nn.ReLU(), nn.Dropout(0.5)]
        wide += [nn.Linear(1024, 512), nn.ReLU(), nn.Dropout(0.25)]
        return nn.Sequential(*wide, nn.Linear(512, samples.label.nunique()))

    peer = Peer(samples, seed, clock, short, make_head)
    size, near = peer.size, round(1.1 * peer.size)
    flips = [transforms.RandomHorizontalFlip(), transforms.RandomVerticalFlip()]
    colour = transforms.ColorJitter(0.3, 0.3, 0.3, 0.1)
    train = peer.load("train", [transforms.RandomResizedCrop(size), transforms.RandomRotation(40), *flips, colour], 16)
    steps = [transforms.Resize((near, near)), transforms.CenterCrop(size), flips[0], transforms.RandomRotation(10)]
    val = peer.load("val", steps, 16)
    labels = samples.label[samples.split == "train"]
    weights = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    loss = nn.CrossEntropyLoss(torch.tensor(weights, dtype=torch.float32))
    frozen, tuned = (1, 1) if short else EPOCHS["reference"]
    peer.free(0)
    peer.fit(train, val, loss, frozen, 0 if short else 3, 5e-4, 1e-5)
    peer.free(5)
    peer.fit(train, val, loss, tuned, 0 if short else 5, 5e-5, 1e-5)


def train_fastai(samples: pd.DataFrame, seed: int, clock: Clock, short: bool) -> None:
    """fastai's `vision_learner` and `fine_tune` with its own defaults, but for the backbone and its pictures' size."""
    from fastai.vision import all as fastai
    from fastai.vision.learner import default_split, model_meta

    fastai.set_seed(seed, reproducible=True)
    whole = Network(BACKBONE, samples.label.nunique())
    size = 64 if short else whole.image_size
    pictures = clock.leave_out(lambda: TestPictures(samples, size, "squash"))
    table = samples[samples.split != "test"].assign(held_out=samples.split == "val")
    loaders = fastai.ImageDataLoaders.from_df(
        table, path="/", fn_col="path", label_col="label", valid_col="held_out", bs=8 if short else 64,
        item_tfms=fastai.Resize(size, method="squish"), num_workers=0 if short else WORKERS,
        batch_tfms=[*fastai.aug_transforms(), fastai.Normalize.from_stats(IMAGENET_MEAN, IMAGENET_STD)], device="cpu",
    )  # fmt: skip

    class Tested(fastai.Callback):
        def after_epoch(self):
            network = self.learn.model.eval()
            clock.test(lambda: pictures.rate(lambda images: network(normalise(images))))

    def build(pretrained: bool) -> nn.Module:
        return whole.backbones[BACKBONE]

    model_meta[build] = {"cut": lambda body: body, "split": default_split}  # nothing is to be cut off
    learner = fastai.vision_learner(loaders, build, metrics=fastai.accuracy, cbs=Tested())
    frozen, tuned = (1, 1) if short else EPOCHS["fastai"]
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(tuned, freeze_epochs=frozen)


ENGINES = {
    "ours": train_ours,
    "ours-quick": partial(train_ours, profile="quick"),
    "reference": train_reference,
    "fastai": train_fastai,
}
