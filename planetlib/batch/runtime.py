"""What computes a network: for training its tail, for prediction PyTorch or OpenVINO (extra `openvino`).

All fold BatchNorm into the convolution before it. A runtime is called with images, uint8 (B, 3, S, S), by any number of
threads at once, and gives what `Embedder` gives, float32 on the CPU.
"""

import importlib.util
import warnings

import torch
from torch import Tensor

from planetlib import PlanetlibError, require_known
from planetlib.model import Embedder, Network, choose_precision

RUNTIMES = ("auto", "torch", "openvino")
#: converting takes a second; on fewer images OpenVINO does not win it back
WORTH_CONVERTING = 100


class OpenVinoRuntime:
    """The model converted for OpenVINO, as many streams as there are cores, each on one of them.

    Args:
        model: in evaluation mode, on the CPU; is not changed.
        size: side of the images in pixels.
        precision: `float32`, `bfloat16` or `auto`.

    Raises:
        PlanetlibError: OpenVINO is not installed.
    """

    def __init__(self, model: Network, size: int, precision: str):
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
