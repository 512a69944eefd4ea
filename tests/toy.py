"""A backbone of a few thousand weights, for tests that a real one would prove no more by.

Importing this adds it to the backbones, as `toy`; `python -m tests.toy COMMAND …` is the command line with it.
"""

import sys
from collections import OrderedDict

import torch
from torch import nn

from planetlib.model import BACKBONES, Backbone

WIDTHS = (3, 12, 16, 24, 32, 64)
NAMES = ("stem", "stage1", "stage2", "stage3", "top")
HALF = (0.5, 0.5, 0.5)


def build_toy(weights: str) -> nn.Sequential:
    """Five stages, of which the first three halve the picture; always with the same weights."""
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for number, (name, width, wider) in enumerate(zip(NAMES, WIDTHS, WIDTHS[1:])):
            convolution = nn.Conv2d(width, wider, 3, stride=2 if number < 3 else 1, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            stages[name] = nn.Sequential(convolution, nn.BatchNorm2d(wider), nn.ReLU())
    return nn.Sequential(stages)


BACKBONES["toy"] = (Backbone("toy", build_toy, WIDTHS[-1], 64, "stage1", HALF, HALF, licence="none"),)

if __name__ == "__main__":
    from planetlib.cli import main

    sys.exit(main())
