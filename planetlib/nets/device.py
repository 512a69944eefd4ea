"""Where a network computes, and how precisely."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from planetlib import PlanetlibError, require_known

#: images that a core passes through a network at a time: of more, the maps no longer fit into its cache
PIECE = 8


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


def pass_pieces(network: Callable[[Tensor], Iterable[Tensor]], images: Tensor, device: torch.device) -> list[Tensor]:
    """What a network on a device makes of images (B, 3, H, W); on a processor `PIECE` of them at a time."""
    pieces = images.split(PIECE if device.type == "cpu" else max(1, len(images)))
    return [torch.cat(parts) for parts in zip(*map(network, pieces))]
