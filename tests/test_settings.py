"""Profiles, environment variables and arguments, in the order in which they win."""

import json
import math
import re
from pathlib import Path

import pytest

from planetlib import PlanetlibError
from planetlib import settings as settings_module
from planetlib.settings import FIXTURE, PROFILES, PROJECT, RECIPE_SETTINGS, Settings, load_settings
from planetlib.transforms import RECIPES

FROM_ENVIRONMENT = {"data": Path("a b"), "run": Path("r"), "figures": Path("f"), "backbone": "resnet50"}


def test_without_a_data_folder_the_fixture_is_taken():
    settings = load_settings()
    assert settings.data == FIXTURE and settings.run == PROJECT / "runs" / "fixture"
    assert settings.image_size == PROFILES["fixture"]["image_size"] and settings.precision == "float32"


def test_with_a_data_folder_the_profile_is_full_and_figures_lie_in_the_run_folder(tmp_path):
    run = PROJECT / "runs" / "mine"
    assert load_settings(data=tmp_path / "mine") == Settings(tmp_path / "mine", run, run / "figures")
    assert load_settings(run=tmp_path).figures == tmp_path / "figures"


def test_a_profile_named_outright_wins_over_the_data_folder(tmp_path):
    assert load_settings("fixture", data=tmp_path).image_size == PROFILES["fixture"]["image_size"]
    assert load_settings("full").image_size is None


@pytest.mark.parametrize("profile", PROFILES)
def test_a_change_wins_over_the_profile(profile):
    assert load_settings(profile, image_size=99, seed=7) == load_settings(profile).replace(image_size=99, seed=7)


@pytest.mark.parametrize("name, value", FROM_ENVIRONMENT.items())
def test_the_environment_gives_what_is_not_passed(monkeypatch, name, value):
    usual = load_settings()
    monkeypatch.setenv(f"PLANETLIB_{name.upper()}", "")
    assert load_settings(**{name: None}) == usual  # both count as not given
    monkeypatch.setenv(f"PLANETLIB_{name.upper()}", str(value))
    assert getattr(load_settings(), name) == value != getattr(usual, name)
    assert (load_settings().image_size is None) == (name == "data")  # which makes the profile full
    assert getattr(load_settings(**{name: Path("passed")}), name) == Path("passed")


@pytest.mark.parametrize("name, known", [("profile", PROFILES), ("recipe", RECIPE_SETTINGS)])
def test_an_unknown_name_is_told_which_there_are(name, known):
    with pytest.raises(PlanetlibError, match=f"'fast'.*{', '.join(known)}"):
        load_settings(**{name: "fast"})


def test_a_profile_and_a_recipe_that_set_the_same_are_refused():
    with pytest.raises(PlanetlibError, match="quick.*reference"):
        load_settings("quick", recipe="reference")
    assert load_settings("quick", recipe="robust").views == 2


def test_every_recipe_has_transforms_and_settings():
    assert RECIPE_SETTINGS.keys() == RECIPES.keys()


def test_the_reference_recipe_does_without_what_robust_adds():
    reference = load_settings("full", recipe="reference")
    assert (reference.drawn, reference.outliers, reference.label_smoothing, reference.norm) == (0, 0, 0.0, "moving")
    assert (reference.head_epochs, reference.finetune_epochs, reference.views) == (15, 85, 0)
    assert load_settings("full", recipe="reference", drawn=5).drawn == 5
    assert load_settings("full", recipe="robust") == load_settings("full")


def test_recipe_choices_are_plain_and_do_not_depend_on_where_and_with_what_it_runs(tmp_path):
    here = load_settings("full")
    assert json.loads(json.dumps(here.recipe_choices())) == here.recipe_choices()
    there = here.replace(data=tmp_path, run=tmp_path, figures=tmp_path, workers=9, device="cuda")
    assert here.recipe_choices() == there.recipe_choices() != there.replace(seed=1).recipe_choices()


@pytest.mark.parametrize("name, values", [
    ("head_epochs", [0]), ("batch_size", [0, 10**9]), ("image_size", [31, 10**9]), ("seed", [-1, 2**32]),
    ("head_lr", [0.0, math.nan, math.inf]), ("weight_decay", [-1.0]), ("warmup", [2.0]),
    ("label_smoothing", [-0.1, 1.5]), ("precision", ["float16"]),
])  # fmt: skip
def test_a_choice_out_of_its_bounds_is_refused_by_name(name, values):
    for value in values:
        with pytest.raises(PlanetlibError, match=f"{name}.*{re.escape(str(value))}.*expected"):
            load_settings(**{name: value})


def test_without_a_clone_the_embedded_pictures_are_asked_for_in_vain(monkeypatch, tmp_path):
    monkeypatch.setattr(settings_module, "FIXTURE", tmp_path / "nowhere")
    with pytest.raises(PlanetlibError, match="clone"):
        load_settings()
    assert load_settings(data=tmp_path).data == tmp_path
