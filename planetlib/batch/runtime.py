"""OpenVINO in the place of PyTorch, where it is there and pays (extra `openvino`)."""

import importlib.util
import warnings

import torch
from torch import Tensor

from planetlib import PlanetlibError, require_known
from planetlib.classify import Classifier
from planetlib.model import Embedder, Network
from planetlib.nets.device import choose_precision

RUNTIMES = ("auto", "torch", "openvino")
#: converting takes a second; on fewer images OpenVINO does not win it back
WORTH_CONVERTING = 100


class OpenVinoRuntime:
    """As `TorchRuntime`, by OpenVINO: as many streams as there are cores, each on one of them.

    For images of `size` pixels a side; the model, in evaluation mode on the CPU, is not changed.

    Raises:
        PlanetlibError: OpenVINO is not installed.
    """

    name = "openvino"

    def __init__(self, model: Network, size: int, precision: str):
        try:
            import openvino
            from openvino.frontend import FrontEndManager
            from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
        except ImportError as error:
            said = f"the runtime 'openvino' cannot be used ({error})"
            raise PlanetlibError(said, do="pip install 'planetlib[openvino]', or take 'torch'") from error
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
        kind = {"float32": "f32", "bfloat16": "bf16"}[choose_precision(precision, torch.device("cpu"))]
        cores = torch.get_num_threads()
        choices = {"INFERENCE_PRECISION_HINT": kind, "NUM_STREAMS": cores, "INFERENCE_NUM_THREADS": cores}
        self.compiled = openvino.Core().compile_model(frontend.convert(graph), "CPU", choices)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        found = self.compiled.create_infer_request().infer([images.numpy()])
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])


def use_runtime(classifier: Classifier, name: str = "auto", images: int = 0) -> None:
    """Lets OpenVINO compute a classifier's predictions, where it is asked for or, for `auto`, so many are done sooner.

    Raises:
        PlanetlibError: unknown name, OpenVINO on another device than the CPU, or it is not installed.
    """
    require_known("runtime", name, RUNTIMES)
    device, wanted = classifier.device, name == "openvino"
    if wanted and device.type != "cpu":
        raise PlanetlibError(f"the runtime 'openvino' computes on the CPU, got the device '{device}'", "take 'torch'")
    if name == "auto" and device.type == "cpu" and images >= WORTH_CONVERTING:
        wanted = importlib.util.find_spec("openvino") is not None
    if wanted:
        size, precision = classifier.checkpoint.image_size, classifier.precision
        classifier.compute = OpenVinoRuntime(classifier.model, size, precision)
