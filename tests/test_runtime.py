"""The fast ways to compute a network against the plain one."""

import builtins
import copy

import numpy as np
import pytest
import torch
from torch import nn

from planetlib import PlanetlibError
from planetlib.batch.runtime import WORTH_CONVERTING, OpenVinoRuntime, choose_runtime
from planetlib.classify import Classifier
from planetlib.images import read_image
from planetlib.model import BACKBONES, Embedder, Network, Tail, TorchRuntime, fold_norms

CPU = torch.device("cpu")


def make_model(backbone: str) -> Network:
    """Random weights, and norms whose statistics are those of no new network, which would fold into nothing."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = Network(backbone, 5, weights="random").eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values, low, high in ((part.running_mean, -0.2, 0.2), (part.running_var, 0.5, 2), (part.weight, 1, 2)):
                values.data.uniform_(low, high, generator=generator)
            part.bias.data.uniform_(-0.5, 0.5, generator=generator)
    return model.to(memory_format=torch.channels_last)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def classifier(trained_run) -> Classifier:
    return Classifier.load(trained_run.run, device="cpu")


def assert_close(found, expected, share: float) -> None:
    """Within a share of the largest value: what is rounded are the maps, whose values are all of one order."""
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32 and one.shape == other.shape
        assert (one - other).abs().max() <= share * other.abs().max()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_folded_norms_compute_the_same(backbone, images):
    model = make_model(backbone)
    with torch.inference_mode():
        expected = Embedder(model)(images)
        folded = fold_norms(copy.deepcopy(model))
        assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
        assert_close(Embedder(folded)(images), expected, 1e-3)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("norm", ["frozen", "moving"])
def test_the_tail_computes_what_the_model_does_and_all_gradients(backbone, norm, images):
    model = make_model(backbone).double()
    model.set_free_stages(model.last_stages(3), norm)
    model.head.eval()  # no dropout
    with torch.no_grad():
        maps = model.pass_trunk(images / 255, 3)
    free = {name: values for name, values in model.named_parameters() if values.requires_grad}
    tail = Tail(model, 3)
    expected, found = (model.head(part.embed(maps, 3)[0]) for part in (model, tail.stages[0]))
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(logits.square().sum(), list(free.values())) for logits in (found, expected)]
    for name, one, other in zip(free, *slopes, strict=True):
        torch.testing.assert_close(one, other, msg=f"the gradient of {name} differs")
    assert (tail.stages[0] is model) == (norm == "moving")
    assert {id(values) for values in tail.parameters()} == {id(values) for values in model.parameters()}
    assert sum(isinstance(part, nn.BatchNorm2d) for part in model.backbones.modules()) > 40  # stay as they were


def test_the_torch_runtime_agrees_with_the_model_and_leaves_it_alone(images):
    model = make_model("efficientnet_lite0")
    before = copy.deepcopy(model.state_dict())
    with torch.inference_mode():
        expected = Embedder(model)(images)
    assert_close(TorchRuntime(model, CPU, "float32")(images), expected, 1e-3)
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())


@pytest.mark.parametrize(
    "runtime, precision, tolerance",
    [("torch", "bfloat16", 0.05), ("openvino", "float32", 1e-4), ("openvino", "bfloat16", 0.05)],
)
def test_every_way_predicts_what_the_model_predicts_in_float32(runtime, precision, tolerance, classifier, samples):
    pytest.importorskip(runtime)
    table = Classifier(classifier.checkpoint, "cpu", precision, runtime).predict(samples.path, progress=False)
    images = torch.stack([classifier.prepare(read_image(path)) for path in samples.path])
    with torch.inference_mode():
        logits = classifier.model(images)[:, :3]
    expected = (logits / classifier.checkpoint.temperature).softmax(1).numpy()
    assert np.abs(table[["prob_blue", "prob_green", "prob_red"]].to_numpy() - expected).max() <= tolerance
    assert (
        table.unknown_score - classifier.predict(samples.path, progress=False).unknown_score
    ).abs().max() < tolerance


@pytest.mark.parametrize("backbone", ["resnet50", "efficientnet_b3", "ensemble"])
def test_openvino_takes_every_backbone(backbone, images):
    pytest.importorskip("openvino")
    model = make_model(backbone)
    with torch.inference_mode():
        expected = Embedder(model)(images)
    assert_close(OpenVinoRuntime(model, 64, "float32")(images), expected, 1e-3)


def test_maps_are_drawn_from_the_model_as_it_was_trained(classifier, samples):
    classifier.predict_picture(read_image(samples.path[0]))
    assert any(isinstance(part, nn.BatchNorm2d) for part in classifier.model.modules())


# The choice


def test_openvino_is_taken_where_it_is_there_and_pays(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert choose_runtime("auto", CPU, WORTH_CONVERTING) == "openvino"
    assert choose_runtime("auto", CPU, WORTH_CONVERTING - 1) == "torch"
    assert choose_runtime("auto", torch.device("cuda"), 10**6) == "torch"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose_runtime("auto", CPU, 10**6) == "torch"
    assert choose_runtime("openvino", CPU, 1) == "openvino"


def test_openvino_on_another_device_is_refused():
    with pytest.raises(PlanetlibError, match="computes on the CPU, got the device 'cuda'; take 'torch'"):
        choose_runtime("openvino", torch.device("cuda"), 1)


def test_an_unknown_runtime_is_told():
    with pytest.raises(PlanetlibError, match="unknown runtime 'tensorrt'; expected one of: auto, torch, openvino"):
        choose_runtime("tensorrt", CPU, 1)


def test_where_openvino_is_missing_the_way_on_is_told(classifier, images, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("openvino"):
            raise ImportError("No module named 'openvino'")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PlanetlibError, match=r"No module named 'openvino'.*pip install 'planetlib\[openvino\]'"):
        Classifier(classifier.checkpoint, "cpu", runtime="openvino").predict_tensors(images)
