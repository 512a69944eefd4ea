"""What computes a network: for training its tail, for prediction PyTorch or OpenVINO (extra `openvino`).

All fold BatchNorm into the convolution before it. A runtime is called with images, uint8 (B, 3, S, S), by any number of
threads at once, and gives what `Embedder` gives, float32 on the CPU.
"""

import copy
import importlib.util
import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from threading import BoundedSemaphore
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from planetlib import PlanetlibError, require_known
from planetlib.model import DETECTOR_STAGES, PlanetClassifier, choose_precision

RUNTIMES = ("auto", "torch", "openvino")
#: converting takes a second; on fewer images OpenVINO does not win it back
WORTH_CONVERTING = 100
#: images that a core passes through a network at a time: of more, the maps no longer fit into its cache
PIECE = 8

Net = TypeVar("Net", bound=nn.Module)


class Embedder(nn.Module):
    """A model as prediction needs it: logits and what the detector of unknowns looks at, in one pass."""

    def __init__(self, model: PlanetClassifier):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, outputs) and pooled features (B, S) of images (B, 3, H, W), uint8 0–255 or float 0–1."""
        maps = self.model.pass_trunk(images, DETECTOR_STAGES)
        features, lower = self.model.embed(maps, DETECTOR_STAGES)
        return self.model.head(features), lower


class Tail(nn.Module):
    """The part of a model that training goes on from: maps of `pass_trunk` → logits; it shares the model's weights."""

    def __init__(self, model: PlanetClassifier, tail: int):
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

    def __init__(self, model: PlanetClassifier, device: torch.device, precision: str):
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


class OpenVinoRuntime:
    """The model converted for OpenVINO, as many streams as there are cores, each on one of them.

    Args:
        model: in evaluation mode, on the CPU; is not changed.
        size: side of the images in pixels.
        precision: `float32`, `bfloat16` or `auto`.

    Raises:
        PlanetlibError: OpenVINO is not installed.
    """

    def __init__(self, model: PlanetClassifier, size: int, precision: str):
        try:
            import openvino
            from openvino.frontend import FrontEndManager
            from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
        except ImportError as error:
            raise PlanetlibError(
                f"the runtime 'openvino' cannot be used ({error}): pip install 'planetlib[openvino]', or take 'torch'"
            ) from error
        # Not by `openvino.convert_model`: that reports each conversion to Intel unless the user has opted out.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracing warns of shapes, which do not change here
            example = torch.zeros(1, 3, size, size, dtype=torch.uint8)
            traced = torch.jit.freeze(torch.jit.trace(Embedder(model).eval(), (example,), check_trace=False))
            decoder = TorchScriptPythonDecoder(traced, trace_kwargs={})  # is asked until the conversion is done
            frontend = FrontEndManager().load_by_framework("pytorch")
            graph = frontend.load(decoder)
        (place,) = graph.get_inputs()
        graph.set_partial_shape(place, openvino.PartialShape([-1, 3, size, size]))
        graph.set_element_type(place, openvino.Type.u8)
        precision = choose_precision(precision, torch.device("cpu"))
        choices: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision]}
        choices |= dict.fromkeys(("NUM_STREAMS", "INFERENCE_NUM_THREADS"), torch.get_num_threads())
        self.compiled = openvino.Core().compile_model(frontend.convert(graph), "CPU", choices)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        found = self.compiled.create_infer_request().infer([images.numpy()])
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])


def choose_runtime(runtime: str, device: torch.device, images: int) -> str:
    """The named runtime; for `auto` the one that is done sooner with so many images.

    Raises:
        PlanetlibError: unknown name, or OpenVINO on another device than the CPU.
    """
    require_known("runtime", runtime, RUNTIMES)
    if runtime == "openvino" and device.type != "cpu":
        raise PlanetlibError(f"the runtime 'openvino' computes on the CPU, got the device '{device}'; take 'torch'")
    if runtime != "auto":
        return runtime
    wins = device.type == "cpu" and images >= WORTH_CONVERTING and importlib.util.find_spec("openvino")
    return "openvino" if wins else "torch"


def pass_pieces(network: Callable[[Tensor], Iterable[Tensor]], images: Tensor, device: torch.device) -> list[Tensor]:
    """What a network on a device makes of images (B, 3, H, W); on a processor `PIECE` of them at a time."""
    pieces = images.split(PIECE if device.type == "cpu" else max(1, len(images)))
    return [torch.cat(parts) for parts in zip(*map(network, pieces))]


def fold_copy(model: PlanetClassifier, precision: str) -> PlanetClassifier:
    """A copy in evaluation mode that holds its weights in `float32` or `bfloat16`, the norms folded.

    The head stays in float32: it is small, and rounding logits costs more than rounding maps.
    """
    model = fold_norms(copy.deepcopy(model).eval())
    model.backbones.to(getattr(torch, precision))
    return model


def fold_shared(model: PlanetClassifier) -> PlanetClassifier:
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
