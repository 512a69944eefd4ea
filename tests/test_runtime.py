"""The fast ways to compute a network against the plain one, and which of them is taken."""

import copy
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from planetlib import PlanetlibError
from planetlib.batch import runtime
from planetlib.batch.runtime import WORTH_CONVERTING, OpenVinoRuntime, use_runtime
from planetlib.classify import Classifier
from planetlib.images import read_image
from planetlib.model import Embedder, Network
from planetlib.nets.folding import fold_shared
from planetlib.nets.runtime import TorchRuntime

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def make_model(backbone: str) -> Network:
    """Random weights, and norms whose statistics are those of no new network, which would fold into nothing."""
    torch.manual_seed(0)
    model = Network(backbone, 5, weights="random").eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values, low, high in ((part.running_mean, -0.2, 0.2), (part.running_var, 0.5, 2), (part.weight, 1, 2)):
                values.data.uniform_(low, high)
            part.bias.data.uniform_(-0.5, 0.5)
    return model.to(memory_format=torch.channels_last)


def count_norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def assert_close(found, expected, share: float) -> None:
    """Within a share of the largest value: what is rounded are the maps, whose values are all of one order."""
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert (one - other).abs().max() <= share * other.abs().max()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "efficientnet_b3", "resnet50"])
def test_folded_norms_compute_the_same_and_all_gradients(backbone, images):
    model = make_model(backbone)
    before = copy.deepcopy(model.state_dict())
    with torch.inference_mode():
        expected = Embedder(model)(images)
    folded = TorchRuntime(Embedder(model), CPU, "float32")
    assert_close(folded(images), expected, 1e-3)
    assert count_norms(model) > 40 and count_norms(folded.network) == 0  # a copy: the model is as it was
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())

    model.double().set_free_stages(model.last_stages(3), "frozen")
    with torch.no_grad():
        maps = model.pass_trunk(images / 255, 3)
    twin = fold_shared(model)
    assert {id(values) for values in twin.parameters()} == {id(values) for values in model.parameters()}
    free = [values for values in model.parameters() if values.requires_grad]
    logits = [part.head(part.embed(maps, 3)[0]) for part in (twin, model)]
    slopes = [torch.autograd.grad(values.square().sum(), free) for values in logits]
    assert_close([logits[0], *slopes[0]], [logits[1], *slopes[1]], 1e-9)


@pytest.mark.parametrize("name, precision, most", [
    ("torch", "bfloat16", 0.05), ("openvino", "float32", 1e-4), ("openvino", "bfloat16", 0.05),
])  # fmt: skip
def test_every_way_predicts_what_the_model_predicts_in_float32(name, precision, most, classifier, samples):
    pytest.importorskip(name)
    other = Classifier(classifier.checkpoint, "cpu", precision)
    use_runtime(other, name)
    assert other.compute.name == name
    table, plain = (one.predict(samples.path, progress=False) for one in (other, classifier))
    with torch.inference_mode():  # by the model as it was trained
        logits = other.model(torch.stack([classifier.prepare(read_image(path)) for path in samples.path]))[:, :3]
    expected = (logits / classifier.checkpoint.temperature).softmax(1).numpy()
    assert abs(table[["prob_blue", "prob_green", "prob_red"]].to_numpy() - expected).max() <= most
    assert abs(table.unknown_score - plain.unknown_score).max() <= most
    assert count_norms(other.model) > 0


@pytest.mark.soak
def test_openvino_takes_real_backbones(amount, images):
    pytest.importorskip("openvino")
    model = make_model(amount("efficientnet_lite0", "ensemble"))
    with torch.inference_mode():
        expected = Embedder(model)(images)
    assert_close(OpenVinoRuntime(model, 64, "float32")(images), expected, 1e-3)


@pytest.mark.parametrize("name, device, images, installed, taken", [
    ("auto", CPU, WORTH_CONVERTING, True, "openvino"), ("auto", CPU, WORTH_CONVERTING - 1, True, "torch"),
    ("auto", CPU, 10**6, False, "torch"), ("auto", GPU, 10**6, True, "torch"),
    ("torch", CPU, 10**6, True, "torch"), ("openvino", CPU, 1, True, "openvino"),
])  # fmt: skip
def test_openvino_is_taken_if_asked_for_or_it_pays(name, device, images, installed, taken, classifier, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object() if installed else None)
    monkeypatch.setattr(runtime, "OpenVinoRuntime", lambda *_: "openvino")
    other = SimpleNamespace(**{**vars(classifier), "device": device, "compute": "torch"})
    use_runtime(other, name, images)
    assert other.compute == taken


@pytest.mark.parametrize("name, device, told", [
    ("openvino", GPU, "on the CPU, got the device 'cuda'.*take 'torch'"),
    ("tensorrt", CPU, "unknown runtime 'tensorrt'.*auto, torch, openvino"),
    ("openvino", CPU, r"pip install 'planetlib\[openvino\]'"),
])  # fmt: skip
def test_a_runtime_that_cannot_be_is_refused(name, device, told, classifier, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)  # as where it is not installed
    other = SimpleNamespace(**{**vars(classifier), "device": device})
    with pytest.raises(PlanetlibError, match=told):
        use_runtime(other, name)
