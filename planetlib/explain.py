"""Class activation maps: which parts of a picture speak for a class.

Each method weighs the maps A (C, H, W) that a stage puts out by their slopes G (C, H, W), the derivatives of the
class's logit, and adds them up over the channels. The formulas are those of pytorch-grad-cam, which itself imports
more than all of planetlib needs.

`fused` multiplies two such maps: `gradcam` of the last stage tells what speaks for the class, coarsely; `layercam` of a
stage with twice as many rows and columns tells where exactly. (So Guided Grad-CAM is a product, arXiv:1610.02391,
section 3.3; LayerCAM fuses stages by their maximum.)
"""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import torch
from torch import Tensor

from planetlib import require_known
from planetlib.classify import Classifier
from planetlib.model import Network
from planetlib.transforms import content_box


def _weigh_plusplus(maps: Tensor, slopes: Tensor) -> Tensor:
    """Chattopadhay et al. 2018, arXiv:1710.11063, equation 19, for a logit passed through exp."""
    shares = slopes**2 / (2 * slopes**2 + maps.sum((1, 2), keepdim=True) * slopes**3 + 1e-6)
    shares = shares.where(slopes != 0, 0)
    return (slopes.relu() * shares).sum((1, 2), keepdim=True) * maps


def _weigh_xgrad(maps: Tensor, slopes: Tensor) -> Tensor:
    """Fu et al. 2020, arXiv:2008.02312, equation 8."""
    shares = maps / (maps.sum((1, 2), keepdim=True) + 1e-7)
    return (slopes * shares).sum((1, 2), keepdim=True) * maps


def _project(maps: Tensor, slopes: Tensor) -> Tensor:
    """Muhammad and Yeasin 2020, arXiv:2008.00299: the first principal component, whatever the class."""
    pixels = maps.flatten(1).T.numpy()
    pixels = pixels - pixels.mean(0)
    component = np.linalg.svd(pixels, full_matrices=False)[2][0]
    return torch.from_numpy(pixels @ component).view(1, *maps.shape[1:])


#: name → maps and slopes of a stage (C, H, W) to what is added up over the channels (C, H, W)
FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    # Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    "gradcam": lambda maps, slopes: slopes.mean((1, 2), keepdim=True) * maps,
    "gradcam++": _weigh_plusplus,
    # Draelos and Carin 2020, arXiv:2011.08891, equation 4.
    "hirescam": lambda maps, slopes: slopes * maps,
    "xgradcam": _weigh_xgrad,
    # Jiang et al. 2021, doi:10.1109/TIP.2021.3089943, equation 4.
    "layercam": lambda maps, slopes: slopes.relu() * maps,
    # pytorch-grad-cam's own: of each pixel only what speaks for the class.
    "elementwise": lambda maps, slopes: (slopes * maps).relu(),
    "eigencam": _project,
}
METHODS = ("fused", *FORMULAS)
#: lies most on the planet, and changes most with the class and with the head; `planetlib faithful` compares them
DEFAULT_METHOD = "fused"
#: shares of a map's maximum at which contours are drawn, for those who cannot tell the colours
CONTOURS = (0.25, 0.5, 0.75)

#: colour maps even in lightness, fit for the colour-blind
COLOURS = ("inferno", "viridis", "magma", "plasma", "cividis")


def map_activation(
    classifier: Classifier,
    picture: np.ndarray,
    class_name: str,
    method: str = DEFAULT_METHOD,
    stage: str | None = None,
) -> np.ndarray:
    """What in a picture speaks for a class.

    A map is scaled to its own minimum and maximum: it shows where, not how much; the strengths of two maps cannot be
    compared.

    Args:
        classifier: whose model is asked.
        picture: uint8 (H, W, 3).
        class_name: the class to explain; it need not be the predicted one.
        method: a name in `METHODS`.
        stage: a name in `classifier.model.stage_names`; by default the last of each backbone, and for `fused` the last
            with twice as many rows.

    Returns:
        float32 (H, W) on the picture's own pixels, 0–1.

    Raises:
        PlanetlibError: unknown class, method or stage.
    """
    require_known("class", class_name, classifier.class_names)
    require_known("method", method, METHODS)
    model = classifier.model
    parts = _choose_stages(model, method, stage)
    image = classifier.prepare(picture)[None].to(classifier.device)
    kept: dict[str, Tensor] = {}

    def keep(name, module, inputs, output):
        # The weights may be frozen, so the maps themselves ask for gradients; none is computed further back than that.
        kept[name] = output.requires_grad_()

    hooks = [model.get_stage(name).register_forward_hook(partial(keep, name)) for part in parts for name in part]
    try:
        with torch.enable_grad():
            logit = model(image)[0, classifier.class_names.index(class_name)]
            slopes = dict(zip(kept, torch.autograd.grad(logit, list(kept.values()))))
    finally:
        for hook in hooks:
            hook.remove()
    heats = []
    for part in parts:
        heat = np.ones(image.shape[2:], np.float32)
        for name, formula in part.items():
            speaking = FORMULAS[formula](kept[name][0].detach().cpu(), slopes[name][0].cpu()).sum(0).relu()
            heat = heat * cv2.resize(_scale(speaking.numpy()), (image.shape[3], image.shape[2]))
        heats.append(heat)
    heat = _scale(np.mean(heats, axis=0))
    top, left, height, width = content_box(picture.shape[:2], image.shape[-1], classifier.checkpoint.fit)
    inside = np.ascontiguousarray(heat[top : top + height, left : left + width], dtype=np.float32)
    return cv2.resize(inside, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _choose_stages(model: Network, method: str, stage: str | None) -> list[dict[str, str]]:
    """For each backbone to be asked: stage → formula of the maps that are multiplied."""
    if stage is not None:
        require_known("stage", stage, model.stage_names)
    if method != "fused":
        return [{name: method} for name in (model.last_stages(1) if stage is None else [stage])]
    last = {name.partition(".")[0]: name for name in model.last_stages(1)}
    finer = model.finer_stages if stage is None else [stage]
    return [{name: "layercam", last[name.partition(".")[0]]: "gradcam"} for name in finer]


def _scale(heat: np.ndarray) -> np.ndarray:
    """To 0–1 by its own minimum and maximum."""
    heat = heat - heat.min()
    return heat / (heat.max() + 1e-7)


def overlay_map(picture: np.ndarray, heat: np.ndarray, strength: float = 0.5, colours: str = "inferno") -> np.ndarray:
    """Lays a map over a picture, the more the warmer it is, with contours at `CONTOURS`.

    Args:
        picture: uint8 (H, W, 3).
        heat: float (H, W), 0–1.
        strength: 0 shows the picture alone, 1 the map alone.
        colours: a name in `COLOURS`.

    Returns:
        uint8 (H, W, 3).

    Raises:
        PlanetlibError: unknown colours.
    """
    require_known("colours", colours, COLOURS)
    heat = heat.clip(0, 1).astype(np.float32)
    levels = (heat * 255).round().astype(np.uint8)
    tinted = cv2.cvtColor(cv2.applyColorMap(levels, getattr(cv2, f"COLORMAP_{colours.upper()}")), cv2.COLOR_BGR2RGB)
    share = strength * (strength + (1 - strength) * heat[..., None])
    overlay = (picture + share * (tinted.astype(np.float32) - picture)).round().astype(np.uint8)
    around = np.ones((3 + 2 * (len(picture) // 600),) * 2, np.uint8)
    for level in CONTOURS if strength else ():
        within = (heat >= level).astype(np.uint8)
        overlay[within > cv2.erode(within, around)] = 255
    return overlay
