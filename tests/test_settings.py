"""Profiles, environment variables and arguments, in the order in which they win."""

import dataclasses
import json
from pathlib import Path

import pytest

from planetlib import PlanetlibError
from planetlib.settings import FIXTURE, MOST, PROFILES, PROJECT, RECIPE_SETTINGS, Settings, load_settings
from planetlib.transforms import RECIPES

FROM_ENVIRONMENT = {"data": Path("a b"), "run": Path("r"), "figures": Path("f"), "backbone": "resnet50"}


def test_without_a_data_folder_the_fixture_is_taken():
    settings = load_settings()
    assert settings.data == FIXTURE and settings.run == PROJECT / "runs" / "fixture"
    assert settings.image_size == PROFILES["fixture"]["image_size"] and settings.precision == "float32"


def test_with_a_data_folder_the_profile_is_full(tmp_path):
    settings = load_settings(data=tmp_path / "mine")
    assert settings == Settings(tmp_path / "mine", PROJECT / "runs" / "mine", PROJECT / "runs" / "mine" / "figures")


def test_a_profile_named_outright_wins_over_the_data_folder(tmp_path):
    assert load_settings("fixture", data=tmp_path).image_size == PROFILES["fixture"]["image_size"]
    assert load_settings("full").image_size is None


@pytest.mark.parametrize("profile", PROFILES)
def test_a_change_wins_over_the_profile(profile):
    assert load_settings(profile, image_size=99, seed=7) == load_settings(profile).replace(image_size=99, seed=7)


@pytest.mark.parametrize("name, value", FROM_ENVIRONMENT.items())
def test_the_environment_gives_what_is_not_passed(monkeypatch, name, value):
    monkeypatch.setenv(f"PLANETLIB_{name.upper()}", str(value))
    assert getattr(load_settings(), name) == value


@pytest.mark.parametrize("name, value", FROM_ENVIRONMENT.items())
def test_an_argument_wins_over_the_environment(monkeypatch, name, value):
    monkeypatch.setenv(f"PLANETLIB_{name.upper()}", "from the environment")
    assert getattr(load_settings(**{name: value}), name) == value


def test_a_data_folder_from_the_environment_makes_the_profile_full(monkeypatch):
    monkeypatch.setenv("PLANETLIB_DATA", "mine")
    assert load_settings().image_size is None


@pytest.mark.parametrize("name", FROM_ENVIRONMENT)
def test_none_and_an_empty_variable_count_as_not_given(monkeypatch, name):
    monkeypatch.setenv(f"PLANETLIB_{name.upper()}", "")
    assert load_settings(**{name: None}) == load_settings()


def test_figures_lie_in_the_run_folder_unless_said_otherwise(tmp_path):
    assert load_settings(run=tmp_path).figures == tmp_path / "figures"


def test_an_unknown_profile_is_told_which_there_are():
    with pytest.raises(PlanetlibError, match="^unknown profile 'fast'; expected one of: fixture, full, quick$"):
        load_settings("fast")


def test_an_unknown_recipe_is_told_which_there_are():
    with pytest.raises(PlanetlibError, match="^unknown recipe 'x'; expected one of: robust, reference$"):
        load_settings(recipe="x")


def test_a_profile_and_a_recipe_that_set_the_same_are_refused():
    with pytest.raises(PlanetlibError, match="^got the profile quick and the recipe reference, .*take one of the two$"):
        load_settings("quick", recipe="reference")
    assert load_settings("quick", recipe="robust").views == 2


def test_every_recipe_has_transforms_and_settings():
    assert RECIPE_SETTINGS.keys() == RECIPES.keys()


def test_the_reference_recipe_does_without_what_robust_adds():
    reference = load_settings("full", recipe="reference")
    assert (reference.rendered, reference.outliers, reference.label_smoothing, reference.norm) == (0, 0, 0.0, "moving")
    assert (reference.head_epochs, reference.finetune_epochs, reference.views) == (15, 85, 0)
    assert load_settings("full", recipe="reference", rendered=5).rendered == 5
    assert load_settings("full", recipe="robust") == load_settings("full")


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_settings().seed = 1


def test_recipe_choices_are_plain_and_name_no_place():
    choices = load_settings().recipe_choices()
    assert json.loads(json.dumps(choices)) == choices
    assert not choices.keys() & {"data", "run", "figures", "workers", "device"}
    assert {"backbone", "recipe", "seed", "image_size"} <= choices.keys()


def test_recipe_choices_do_not_depend_on_where_and_with_what_it_runs(tmp_path):
    here = load_settings("full")
    there = here.replace(data=tmp_path, run=tmp_path, figures=tmp_path, workers=9, device="cuda")
    assert here.recipe_choices() == there.recipe_choices() != there.replace(seed=1).recipe_choices()


@pytest.mark.parametrize("name", ["head_epochs", "finetune_epochs", "patience", "batch_size"])
def test_counts_that_would_train_nothing_are_refused(name):
    with pytest.raises(PlanetlibError, match=f"{name} is 0; expected 1 or more"):
        load_settings(**{name: 0})


@pytest.mark.parametrize("name, value", {"image_size": 10**9, "batch_size": 10**9, "seed": 2**32}.items())
def test_counts_that_no_machine_has_room_for_are_refused(name, value):
    with pytest.raises(PlanetlibError, match=f"{name} is {value}; expected {MOST[name]} or less"):
        load_settings(**{name: value})


@pytest.mark.parametrize("value", [0.0, -1e-3, float("nan"), float("inf")])
@pytest.mark.parametrize("name, usual", [("head_lr", 0.003), ("finetune_lr", 0.0005)])
def test_a_learning_rate_that_is_none_is_refused(name, usual, value):
    with pytest.raises(PlanetlibError, match=f"{name} is {value}; expected a learning rate above 0, such as {usual}$"):
        load_settings(**{name: value})


@pytest.mark.parametrize("name, value", [("weight_decay", -1.0), ("weight_decay", float("nan")), ("warmup", 2.0)])
def test_other_numbers_out_of_bounds_are_refused(name, value):
    with pytest.raises(PlanetlibError, match=f"{name} is {value}; expected "):
        load_settings(**{name: value})


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_shares_outside_nought_to_one_are_refused(value):
    with pytest.raises(PlanetlibError, match=f"label_smoothing is {value}; expected a share, 0 to 1"):
        load_settings(label_smoothing=value)
