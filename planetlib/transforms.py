"""From a picture of any shape to the square tensor a network sees, augmented or not, and back.

Tensors are uint8 RGB (3, H, W), 0–255, all the way to the model, which normalises them itself: there is no second place
where inference could normalise otherwise than training. torchvision, which takes as long to import as torch, is asked
for by augmentation alone: an answer does without.
"""

import math
from collections.abc import Callable, Mapping

import cv2
import numpy as np
import torch
from torch import Tensor

from planetlib import PlanetlibError, require_known

RECIPES = {
    # The whole picture, aspect kept: a planet stays round. A body in the sky has no upright: every angle is drawn.
    "robust": "pad",
    # What the reference project does: the picture is squashed to a square, then cropped at random.
    "reference": "squash",
}

#: uint8 tensor (3, size, size) → the same
Transform = Callable[[Tensor], Tensor]


def fit_to_square(image: np.ndarray, size: int, fit: str = "pad") -> np.ndarray:
    """Resizes a picture, uint8 (H, W, 3), to uint8 (size, size, 3).

    `pad` keeps the aspect and centres the picture on black; `squash` does not keep the aspect.

    Raises:
        PlanetlibError: an array that is no such picture; one of 0–1 would be taken for a black one without a word.
    """
    if image.dtype != np.uint8 or image.shape[2:] != (3,):
        raise PlanetlibError(f"got a picture of {image.dtype} {image.shape}; expected uint8 (H, W, 3)")
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


def to_tensor(picture: np.ndarray) -> Tensor:
    """uint8 picture (H, W, 3) to uint8 tensor (3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def to_picture(tensor: Tensor) -> np.ndarray:
    """uint8 tensor (3, H, W) back to a uint8 picture (H, W, 3)."""
    return tensor.permute(1, 2, 0).contiguous().numpy()


def training_steps(recipe: str, size: int, strength: float | Mapping[str, float] = 1.0) -> dict[str, Transform]:
    """The augmentation of a recipe, step by step and by name, so that a notebook can show each.

    Args:
        recipe: a name in `RECIPES`.
        size: side of the square in pixels.
        strength: 0 changes nothing, 1 is the recipe, more is more; for all steps, or by name (1 for those not named).

    Raises:
        PlanetlibError: unknown recipe or step.
    """
    from torchvision.transforms import InterpolationMode, v2

    require_known("recipe", recipe, RECIPES)
    if isinstance(strength, Mapping):
        usual = training_steps(recipe, size)
        for name in strength:
            require_known("step", name, usual)
        return usual | {name: training_steps(recipe, size, value)[name] for name, value in strength.items()}
    flips = v2.Compose([v2.RandomHorizontalFlip(min(0.5, strength)), v2.RandomVerticalFlip(min(0.5, strength))])
    if recipe == "reference":
        return {
            "crop": v2.RandomResizedCrop(size, scale=(max(0.08, 1 - 0.92 * strength), 1), antialias=True),
            "rotate": v2.RandomRotation(40 * strength, InterpolationMode.BILINEAR),
            "flip": flips,
            "colour": v2.ColorJitter(0.3 * strength, 0.3 * strength, 0.3 * strength, min(0.5, 0.1 * strength)),
        }
    zoom = 1 + 1.5 * strength
    # As often out as in, so that a distant disc and a close-up of clouds are equally likely.
    place = [
        v2.RandomAffine(
            degrees=min(180, 180 * strength),
            translate=(min(1, 0.15 * strength),) * 2,
            scale=scale,
            interpolation=InterpolationMode.BILINEAR,
        )
        for scale in ((1 / zoom, 1), (1, zoom))
    ]
    # Colour is what tells Uranus, pale and greenish, from Neptune. So hue stays nearly as it is, and colours are made
    # more vivid than they are, as photographs often are, but hardly paler, or Neptune would look like Uranus.
    pale, vivid = 1 / (1 + 0.4 * strength), 1 + 3 * strength
    colour = [v2.ColorJitter(saturation=low_high) for low_high in ((pale, 1), (1, vivid))]
    return {
        "place": v2.RandomChoice(place),
        "flip": flips,
        "sky": v2.RandomApply([RandomSky()], min(1, 0.35 * strength)),
        "light": RandomLight(1.6**strength, 1.4**strength, 1.03**strength),
        "saturation": v2.RandomChoice(colour),
        "hue": v2.ColorJitter(hue=min(0.5, 0.01 * strength)),
        "grey": v2.RandomGrayscale(min(1, 0.15 * strength)),
        "blur": v2.RandomApply([v2.GaussianBlur(7, (0.1, 0.1 + 2 * strength))], min(1, 0.4 * strength)),
        "noise": v2.RandomApply([v2.GaussianNoise(sigma=0.05)], min(1, 0.3 * strength)),
        "JPEG": v2.RandomApply([RandomJPEG()], min(1, 0.3 * strength)),
    }


class RandomLight:
    """Another camera: exposure, gamma and white balance.

    `gamma` is the largest exponent of the values in 0–1, `gain` the largest factor of all channels, `balance` that of
    each; the smallest are their inverses, and every ratio is equally likely.
    """

    def __init__(self, gamma: float, gain: float, balance: float):
        self.gamma, self.gain, self.balance = gamma, gain, balance

    def __call__(self, image: Tensor) -> Tensor:
        gain = _draw_ratio(self.gain) * _draw_ratio(self.balance, 3).view(3, 1, 1)
        return _to_bytes(255 * ((image / 255) ** _draw_ratio(self.gamma) * gain))


class RandomSky:
    """Another sky than black: grey or tinted, even or shaded off to one side, or strewn with stars.

    Whatever is nearly black is taken for sky, so the night side of a body goes with it.
    """

    DARK = 14  # a pixel none of whose channels is above this is sky

    def __call__(self, image: Tensor) -> Tensor:
        from torchvision.transforms.v2.functional import gaussian_blur

        size, kind = image.shape[-1], torch.randint(4, (1,)).item()
        sky = (torch.rand(1) * 255 + torch.empty(3, 1, 1).uniform_(-25, 25)).expand(3, size, size)
        if kind == 2:
            angle, slope = torch.rand(1).item() * 2 * math.pi, 20 + torch.rand(1) * 80
            across = torch.linspace(-1, 1, size)
            sky = sky + slope * (math.cos(angle) * across + math.sin(angle) * across[:, None])
        elif kind == 3:
            stars = torch.zeros(3, size * size)
            places = torch.randint(size * size, (int(30 * _draw_ratio(10)),))
            stars[:, places] = 255 * torch.rand(len(places))
            sky = gaussian_blur(stars.view(3, size, size), [3, 3], [0.7, 0.7])
        body = (image.amax(0, keepdim=True) > self.DARK).float()
        body = gaussian_blur(body, [5, 5], [1.2, 1.2])  # no hard edge gives the sky away
        return _to_bytes(image * body + sky * (1 - body))


class RandomJPEG:
    """Compresses with a quality of 20 to 90, by OpenCV: torchvision is giving up its own codecs."""

    def __call__(self, image: Tensor) -> Tensor:
        quality = int(torch.randint(20, 91, (1,)))
        _, encoded = cv2.imencode(".jpg", to_picture(image), (cv2.IMWRITE_JPEG_QUALITY, quality))
        return to_tensor(cv2.imdecode(encoded, cv2.IMREAD_COLOR))  # type: ignore[arg-type]


def _to_bytes(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


def _draw_ratio(most: float, count: int = 1) -> Tensor:
    """Factors (count,) from 1 / most to most, evenly distributed in their logarithm."""
    return torch.empty(count).uniform_(-1, 1).mul(math.log(most)).exp()


def make_training_transform(
    recipe: str, size: int, strength: float | Mapping[str, float] = 1.0, share: float = 1.0
) -> Transform:
    """The steps of a recipe as one transform, with a share of the strengths of `training_steps`."""
    from torchvision.transforms import v2

    if isinstance(strength, Mapping):
        names = training_steps(recipe, size, strength)
        strength = {name: share * strength.get(name, 1.0) for name in names}
    else:
        strength = share * strength
    return v2.Compose(list(training_steps(recipe, size, strength).values()))


def draw_augmented(transform: Transform, tensor: Tensor, *seed: int) -> Tensor:
    """Applies a random transform to uint8 (3, H, W) with a seed of its own: non-negative integers, however many.

    The draw depends on the seed alone, not on what was drawn before, nor on which process draws: so an epoch can be
    repeated exactly, with any number of workers.
    """
    with torch.random.fork_rng(devices=[]):
        # Not `torch.manual_seed`, which would seed the accelerator's generator too, and for good.
        torch.default_generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        return transform(tensor)
