"""FrozenFeatures through the frozen stages: what they are, and that none is stale."""

import os

import pytest
import torch

from planetlib import PlanetlibError
from planetlib.draw.outliers import OUTLIERS
from planetlib.features import OUTLIERS_PER_VALIDATION, FrozenFeatures, clear_features
from planetlib.model import Network, Tail


@pytest.fixture(scope="module")
def model(trained_run):
    torch.manual_seed(0)
    return Network(trained_run.backbone, 3 + len(OUTLIERS))


@pytest.fixture
def settings(trained_run, tmp_path):
    return trained_run.replace(run=tmp_path / "run")


@pytest.fixture
def views(settings, samples, model):
    return FrozenFeatures("train", settings, samples, model, progress=False)


def test_trunk_and_tail_together_give_what_the_model_gives(views, model):
    images = torch.stack([views.data[index][0] for index in range(len(views.data))])
    tail = Tail(model, views.tail).eval()
    with torch.inference_mode():
        expected = model.eval()(images)
        torch.testing.assert_close(tail(*views.load(0).tensors[:-1]), expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(model.head(views.embed(0)[0]), expected, rtol=1e-3, atol=1e-4)


def test_bfloat16_is_kept_in_half_the_space_and_agrees(views, settings, samples, model):
    short = FrozenFeatures("train", settings.replace(precision="bfloat16"), samples, model, progress=False)
    full, half = views.load(0).tensors[0], short.load(0).tensors[0]
    assert (full.dtype, half.dtype) == (torch.float32, torch.bfloat16)
    # Each of six layers rounds to 8 bits, and BatchNorm enlarges what is left.
    assert (full - half.float()).norm() < 0.1 * full.norm()
    assert (full - half.float()).norm() > 1e-3 * full.norm()


def test_the_tail_takes_maps_of_either_precision(views, model):
    maps = views.load(0).tensors[0][:4]
    tail = Tail(model, views.tail).eval()
    with torch.inference_mode():
        full, half = tail(maps), tail(maps.bfloat16())
    assert half.dtype == torch.float32 and (full - half).abs().max() < 0.1 * full.abs().max()


def test_labels_are_of_the_pictures_then_of_the_rendered_then_of_the_outliers(settings, samples, model):
    named = samples.assign(label=samples.label.replace({"red": "mars", "blue": "neptune"}))  # the same pictures
    views = FrozenFeatures("train", settings.replace(rendered=2), named, model, progress=False)
    part = named[named.split == "train"]
    names = ["green", "mars", "neptune"]
    numbers = [names.index(label) for label in part.label] + [1, 1, 2, 2]
    numbers += [3 + kind for kind in range(len(OUTLIERS)) for _ in range(settings.outliers)]
    assert views.labels.tolist() == numbers == views.data.labels
    assert len(views.load(0)) == len(numbers)


def test_validation_has_outliers_of_its_own_and_nothing_rendered(settings, samples, model):
    train, val = (
        FrozenFeatures(split, settings.replace(rendered=2), samples, model, progress=False)
        for split in ("train", "val")
    )
    few = settings.outliers // OUTLIERS_PER_VALIDATION
    assert len(val.labels) == (samples.split == "val").sum() + few * len(OUTLIERS)
    seen = {picture.tobytes() for picture in train.data.rendered}
    assert not any(picture.tobytes() in seen for picture in val.data.rendered)


def test_a_kept_view_is_read_not_made_anew(views, settings, samples, model, monkeypatch):
    first = views.load(0).tensors[0].clone()
    again = FrozenFeatures("train", settings, samples, model, progress=False)
    monkeypatch.setattr(FrozenFeatures, "data", property(lambda self: pytest.fail("decoded again")))
    assert torch.equal(again.load(0).tensors[0], first)


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"strength": 0.5}, {"outliers": 5}, {"free_stages": 5}, {"image_size": 96}, {"recipe": "reference"}],
)
def test_whatever_changes_nothing_stale_is_read(changes, views, settings, samples, model):
    views.load(0)
    other = FrozenFeatures("train", settings.replace(**changes), samples, model, progress=False)
    before = set(other.folder.iterdir())
    other.load(0)
    assert len(set(other.folder.iterdir()) - before) == 1


def test_other_pictures_or_labels_are_other_views(views, settings, samples, model):
    views.load(0)
    for other in (samples.assign(label=samples.label.replace("red", "pink")), samples.iloc[::-1]):
        assert FrozenFeatures("train", settings, other, model, progress=False)._depends_on != views._depends_on


def test_after_a_change_of_what_draws_nothing_stale_is_read(views, settings, samples, model, monkeypatch, tmp_path):
    before, changed = views._depends_on, tmp_path / "variety.py"
    changed.write_text("# uranus is pink now")
    monkeypatch.setattr("planetlib.features._DRAWING", [changed])
    assert FrozenFeatures("train", settings, samples, model, progress=False)._depends_on != before


def test_a_view_that_was_cut_off_is_made_anew(views, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(KeyboardInterrupt))
        views.load(0)
    assert len(views.load(0)) == len(views.labels)


def test_clearing_leaves_the_rest_of_the_run_alone(views, settings):
    views.load(0)
    (settings.run / "head.pt").write_bytes(b"x")
    clear_features(settings.run)
    assert [path.name for path in settings.run.iterdir()] == ["head.pt"]


def test_views_that_are_not_kept_are_not_for_several_processes(settings, samples, model, monkeypatch):
    monkeypatch.setattr("planetlib.features.find_rank", lambda: (0, 2))
    with pytest.raises(PlanetlibError, match="got 2 processes and 0 views"):
        FrozenFeatures("train", settings.replace(views=0), samples, model, progress=False).share_out()


def test_every_view_is_made_by_one_of_the_processes(views, monkeypatch):
    made = []
    monkeypatch.setattr(views, "load", made.append)
    for rank in (0, 1):
        monkeypatch.setattr("planetlib.features.find_rank", lambda rank=rank: (rank, 2))
        views.share_out()
    assert sorted(made) == list(views.numbers)
    monkeypatch.setattr("planetlib.features.find_rank", lambda: (0, 1))
    assert views.share_out() is None and len(made) == len(views.numbers)  # one process makes each when it is met


def test_under_autocast_the_tail_leaves_maps_as_they_are(views, model, monkeypatch):
    seen = []
    monkeypatch.setattr(
        model, "embed", lambda maps, tail: (seen.append(maps[0].dtype), (torch.zeros(4, 1280), None))[1]
    )
    maps, tail = views.load(0).tensors[0][:4].bfloat16(), Tail(model, views.tail).eval()
    with torch.autocast("cpu", torch.bfloat16):
        tail(maps)
    tail(maps)
    assert seen == [torch.bfloat16, torch.float32]
