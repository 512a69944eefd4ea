"""A network as predictions are computed with it: a copy, made to be quick."""

import sys
from contextlib import nullcontext
from threading import BoundedSemaphore
from typing import Protocol

import torch
from torch import Tensor, nn

from planetlib import PlanetlibError
from planetlib.nets.device import choose_precision
from planetlib.nets.folding import fold_copy


class Runtime(Protocol):
    """What passes images through a network: uint8 (B, 3, S, S) → logits (B, outputs) and pooled features (B, S)."""

    name: str

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]: ...


class TorchRuntime:
    """Computes with a copy of a network whose norms are folded, in the precision it is asked for.

    Called with images, uint8 (B, 3, S, S), by any number of threads at once, it gives what the network gives of them
    (several (B, …)), float32 on the CPU. Whatever else computes a `Classifier` does the same.

    Where a GPU has too little memory for so many, it is tried, and said, with half of them until they fit. Raises
    PlanetlibError where there is too little for a single one.
    """

    name = "torch"

    def __init__(self, network: nn.Module, device: torch.device, precision: str):
        self.device, self.most = device, sys.maxsize
        self.network = fold_copy(network, choose_precision(precision, device)).to(device)
        # On an accelerator one batch is copied while another is computed; more would only take up its memory.
        self.turns = nullcontext() if device.type == "cpu" else BoundedSemaphore(2)

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        done: list[list[Tensor]] = []
        while len(images):
            try:
                done.append(self._compute(images[: self.most]))
                images = images[self.most :]
            except torch.OutOfMemoryError as error:
                tried = min(self.most, len(images))
                if tried == 1:
                    got = f"{self.device}: too little memory for a picture of {images.shape[-1]} pixels"
                    raise PlanetlibError(got, do="end what else runs there, or take the device 'cpu'") from error
                self.most = tried // 2
                torch.cuda.empty_cache()
                said = f"{self.device}: too little memory for {tried} pictures at once; going on with {self.most}"
                print(said, file=sys.stderr)
        return tuple(map(torch.cat, zip(*done)))

    def _compute(self, images: Tensor) -> list[Tensor]:
        if self.device.type == "cuda":  # from pinned memory the copy runs beside the arithmetic
            images = images.pin_memory()
        with self.turns, torch.inference_mode():
            return [part.cpu() for part in self.network(images.to(self.device, non_blocking=True))]
