"""The same network with each BatchNorm in the convolution before it: one to predict with, and one to train."""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Module = TypeVar("Module", bound=nn.Module)


def fold_copy(model: Module, precision: str) -> Module:
    """A copy in evaluation mode, its convolutions in `float32` or `bfloat16`, norms folded, channels last.

    Linear layers, the head, stay in float32: they are small, and rounding logits costs more than rounding maps.
    """
    model = copy.deepcopy(model).eval()
    fold_norms(model, fuse_conv_bn_eval)
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            part.to(getattr(torch, precision))
    return model.to(memory_format=torch.channels_last)


def fold_shared(model: Module) -> Module:
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
