"""From a picture to the square a network sees, augmented or not, and back."""

import random

import numpy as np
import pytest
import torch

from planetlib import PlanetlibError
from planetlib.transforms import (
    RECIPES,
    RandomJPEG,
    RandomLight,
    RandomSky,
    content_box,
    draw_augmented,
    fit_to_square,
    make_training_transform,
    to_picture,
    to_tensor,
    training_steps,
)

SIZE = 32


@pytest.fixture
def picture() -> np.ndarray:
    """Smooth colours beside a black sky, so that any turn, crop or change of colour can be seen."""
    rows, columns = np.mgrid[:SIZE, :SIZE] * (255 / SIZE)
    square = np.stack([rows, columns, 255 - rows], axis=2).astype(np.uint8)
    square[:, : SIZE // 4] = 0
    return square


@pytest.fixture
def tensor(picture) -> torch.Tensor:
    return to_tensor(picture)


@pytest.mark.parametrize("shape, padded", [
    ((20, 80), (12, 0, 8, 32)), ((80, 20), (0, 12, 32, 8)), ((48, 48), (0, 0, 32, 32)), ((500, 1), (0, 15, 32, 1)),
    ((7, 9), (3, 0, 25, 32)),
])  # fmt: skip
def test_pad_keeps_the_aspect_and_centres_and_squash_fills_the_square(shape, padded):
    for fit, box in {"pad": padded, "squash": (0, 0, SIZE, SIZE)}.items():
        assert content_box(shape, SIZE, fit) == box
        top, left, height, width = box
        expected = np.zeros((SIZE, SIZE, 3), np.uint8)
        expected[top : top + height, left : left + width] = 200
        np.testing.assert_array_equal(fit_to_square(np.full((*shape, 3), 200, np.uint8), SIZE, fit), expected)


def test_shrinking_averages_rather_than_picks():
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::4] = 200  # every fourth column
    np.testing.assert_array_equal(fit_to_square(stripes, 32), np.full((32, 32, 3), 50))


def test_a_square_of_the_right_size_is_left_as_it_is(picture):
    np.testing.assert_array_equal(fit_to_square(picture, SIZE), picture)


def test_a_tensor_has_the_channels_first_and_comes_back():
    picture = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    tensor = to_tensor(picture)
    assert tensor.shape == (3, 9, 12) and tensor.dtype == torch.uint8 and tensor[2, 5, 7] == picture[5, 7, 2]
    np.testing.assert_array_equal(to_picture(tensor), picture)


@pytest.mark.parametrize("strength", [0.5, 1, 3])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_step_does_something_and_keeps_shape_and_type(recipe, strength, tensor):
    for name, step in training_steps(recipe, SIZE, strength).items():
        drawn = [draw_augmented(step, tensor, seed) for seed in range(30)]
        assert all(one.shape == tensor.shape and one.dtype == torch.uint8 for one in drawn), name
        assert any(not torch.equal(one, tensor) for one in drawn), name


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_draw_depends_on_every_part_of_its_seed_and_nothing_else(recipe, tensor):
    transform = make_training_transform(recipe, SIZE)
    seeds = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 2)]
    drawn = [draw_augmented(transform, tensor, *seed) for seed in seeds]
    assert len({image.numpy().tobytes() for image in drawn}) == len(drawn)
    torch.manual_seed(2)
    assert torch.equal(draw_augmented(transform, tensor, *seeds[0]), drawn[0])


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_draw_does_not_move_the_global_generators(recipe, tensor, monkeypatch):
    # There may be no accelerator here, so it is watched whether its seed is asked to change.
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("the accelerator was seeded"))
    before = torch.random.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()
    draw_augmented(make_training_transform(recipe, SIZE), tensor, 5)
    after = torch.random.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


@pytest.mark.parametrize("recipe", RECIPES)
def test_strength_zero_changes_nothing_and_leaves_out_a_step(recipe, tensor):
    names = list(training_steps(recipe, SIZE))
    for strength in (0, dict.fromkeys(names, 0)):
        none = make_training_transform(recipe, SIZE, strength)
        assert all(torch.equal(draw_augmented(none, tensor, seed), tensor) for seed in range(5))
    kept = make_training_transform(recipe, SIZE, dict.fromkeys(names[1:], 0))
    first = training_steps(recipe, SIZE)[names[0]]
    assert torch.equal(draw_augmented(kept, tensor, 3), draw_augmented(first, tensor, 3))


@pytest.mark.parametrize(
    "recipe, strength, known", [("robust", {"x": 0}, "place, flip"), ("x", 1, "robust, reference")]
)
def test_an_unknown_step_or_recipe_is_told(recipe, strength, known):
    with pytest.raises(PlanetlibError, match=f"'x'.*{known}"):
        make_training_transform(recipe, SIZE, strength)


def test_another_sky_changes_the_dark_and_leaves_the_body(tensor):
    drawn = [draw_augmented(RandomSky(), tensor, seed) for seed in range(20)]
    assert all(torch.equal(one[:, 8:-8, 16:-8], tensor[:, 8:-8, 16:-8]) for one in drawn)
    assert any(one[:, :, :4].float().mean() > 60 for one in drawn)


def test_light_keeps_the_order_of_brightness_and_stays_within_its_bounds(tensor):
    step = RandomLight(1.8, 1.4, 1.0)
    greys = torch.arange(256, dtype=torch.uint8).expand(3, 4, 256).contiguous()
    for seed in range(20):
        drawn = draw_augmented(step, greys, seed).float()
        assert (drawn.diff(dim=2) >= 0).all() and torch.equal(drawn[0], drawn[2])
        middle = drawn[0, 0, 128].item() / 255
        assert (128 / 255) ** 1.8 / 1.4 - 0.01 <= middle <= (128 / 255) ** (1 / 1.8) * 1.4 + 0.01


def test_white_balance_moves_the_channels_apart_by_no_more_than_asked():
    step = RandomLight(1.0, 1.0, 1.06)
    grey = torch.full((3, 4, 4), 128, dtype=torch.uint8)
    drawn = torch.stack([draw_augmented(step, grey, seed).float()[:, 0, 0] for seed in range(50)])
    assert drawn.min() >= 120 and drawn.max() <= 136 and (drawn.amax(1) - drawn.amin(1)).max() > 5


def test_jpeg_changes_little_and_keeps_the_colours_in_their_channels():
    flat = torch.tensor([200, 90, 30], dtype=torch.uint8).view(3, 1, 1).expand(3, 16, 16).contiguous()
    for seed in range(10):
        assert (draw_augmented(RandomJPEG(), flat, seed).float() - flat.float()).abs().max() < 20
