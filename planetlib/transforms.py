"""From a picture of any shape to the square tensor a network sees, augmented or not, and back.

Tensors are uint8 RGB (3, H, W), 0–255, all the way to the model, which normalises them itself: there is no second place
where inference could normalise otherwise than training.
"""

from collections.abc import Mapping

import cv2
import numpy as np
import torch
from torchvision.transforms import InterpolationMode, v2

from planetlib import require_known

RECIPES = {
    # The whole picture, aspect kept: a planet stays round. A body in the sky has no upright: every angle is drawn.
    "robust": "pad",
    # What the reference project does: the picture is squashed to a square, then cropped at random.
    "reference": "squash",
}


def fit_to_square(image: np.ndarray, size: int, fit: str = "pad") -> np.ndarray:
    """Resizes a picture to a square.

    Args:
        image: uint8 (H, W, 3).
        size: side of the square in pixels.
        fit: `pad` keeps the aspect and centres the picture on black; `squash` does not keep the aspect.

    Returns:
        uint8 (size, size, 3).
    """
    top, left, height, width = content_box(image.shape[:2], size, fit)
    shrinks = height * width < image.shape[0] * image.shape[1]
    # Averaging over areas is the only one of OpenCV's resizers that does not alias when it shrinks.
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    square = np.zeros((size, size, 3), np.uint8)
    square[top : top + height, left : left + width] = resized
    return square


def content_box(shape: tuple[int, int], size: int, fit: str = "pad") -> tuple[int, int, int, int]:
    """Where `fit_to_square` puts a picture of (height, width) `shape`: top, left, height, width in pixels."""
    if fit == "squash":
        return 0, 0, size, size
    scale = size / max(shape)
    height, width = (max(1, round(side * scale)) for side in shape)
    return (size - height) // 2, (size - width) // 2, height, width


def to_tensor(picture: np.ndarray) -> torch.Tensor:
    """uint8 picture (H, W, 3) to uint8 tensor (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def to_picture(tensor: torch.Tensor) -> np.ndarray:
    """uint8 tensor (3, H, W) back to a uint8 picture (H, W, 3)."""
    return tensor.permute(1, 2, 0).contiguous().numpy()


def training_steps(recipe: str, size: int, strength: float | Mapping[str, float] = 1.0) -> dict[str, v2.Transform]:
    """The augmentation of a recipe, step by step and by name, so that a notebook can show each.

    Args:
        recipe: a name in `RECIPES`.
        size: side of the square in pixels.
        strength: 0 changes nothing, 1 is the recipe, more is more; for all steps, or by name (1 for those not named).

    Returns:
        name → transform of uint8 tensors (3, size, size); apply them in order.

    Raises:
        PlanetlibError: unknown recipe or step.
    """
    require_known("recipe", recipe, RECIPES)
    if isinstance(strength, Mapping):
        names = list(training_steps(recipe, size))
        for name in strength:
            require_known("step", name, names)
        return {name: training_steps(recipe, size, strength.get(name, 1.0))[name] for name in names}
    flips = v2.Compose([v2.RandomHorizontalFlip(min(0.5, strength)), v2.RandomVerticalFlip(min(0.5, strength))])
    if recipe == "reference":
        return {
            "crop": v2.RandomResizedCrop(size, scale=(max(0.08, 1 - 0.92 * strength), 1), antialias=True),
            "rotate": v2.RandomRotation(40 * strength, InterpolationMode.BILINEAR),
            "flip": flips,
            "colour": v2.ColorJitter(0.3 * strength, 0.3 * strength, 0.3 * strength, min(0.5, 0.1 * strength)),
        }
    place = v2.RandomAffine(
        degrees=min(180, 180 * strength),
        translate=(min(1, 0.1 * strength),) * 2,
        scale=(1 / (1 + 0.6 * strength), 1 + 0.4 * strength),
        interpolation=InterpolationMode.BILINEAR,
    )
    return {
        "rotate, zoom, shift": place,
        "flip": flips,
        "colour": v2.ColorJitter(0.4 * strength, 0.4 * strength, 0.4 * strength, min(0.5, 0.05 * strength)),
        "grey": v2.RandomGrayscale(min(1, 0.1 * strength)),
        "blur": v2.RandomApply([v2.GaussianBlur(5, (0.1, 0.1 + 2 * strength))], min(1, 0.3 * strength)),
    }


def make_training_transform(recipe: str, size: int, strength: float | Mapping[str, float] = 1.0) -> v2.Transform:
    """The steps of a recipe as one transform: uint8 (3, size, size) → the same."""
    return v2.Compose(list(training_steps(recipe, size, strength).values()))


def draw_augmented(transform: v2.Transform, tensor: torch.Tensor, *seed: int) -> torch.Tensor:
    """Applies a random transform with a seed of its own.

    The draw depends on the seed alone, not on what was drawn before, nor on which process draws: so an epoch can be
    repeated exactly, with any number of workers.

    Args:
        transform: uint8 (3, H, W) → uint8 (3, H, W).
        tensor: uint8 (3, H, W).
        *seed: any number of non-negative integers, such as seed, epoch, index.
    """
    with torch.random.fork_rng(devices=[]):
        # Not `torch.manual_seed`, which would seed the accelerator's generator too, and for good.
        torch.default_generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        return transform(tensor)
