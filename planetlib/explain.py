"""Class activation maps: which parts of a picture speak for a class. The methods are pytorch-grad-cam's."""

import cv2
import numpy as np
import torch
from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMElementWise, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from planetlib import require_known
from planetlib.classify import Classifier
from planetlib.transforms import content_box

METHODS = {
    "gradcam": GradCAM,
    "gradcam++": GradCAMPlusPlus,
    "hirescam": HiResCAM,
    "xgradcam": XGradCAM,
    "layercam": LayerCAM,
    "elementwise": GradCAMElementWise,
    "eigencam": EigenCAM,
}
#: none is more faithful; with one linear layer for a head, `hirescam` and `xgradcam` are the same: `planetlib faithful`
DEFAULT_METHOD = "gradcam"

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
        stage: a name in `classifier.model.stage_names`; by default the last of each backbone.

    Returns:
        float32 (H, W) on the picture's own pixels, 0–1.

    Raises:
        PlanetlibError: unknown class, method or stage.
    """
    require_known("class", class_name, classifier.class_names)
    require_known("method", method, METHODS)
    model = classifier.model
    stages = model.last_stages(1) if stage is None else [stage]
    image = classifier.prepare(picture)[None].to(classifier.device)
    target = ClassifierOutputTarget(classifier.class_names.index(class_name))
    layers = [model.get_stage(name) for name in stages]
    # The weights may be frozen, so the maps themselves ask for gradients; none is computed further back than they are.
    hooks = [layer.register_forward_hook(lambda module, inputs, output: output.requires_grad_()) for layer in layers]
    try:
        with torch.enable_grad(), METHODS[method](model, layers) as cam:
            heat = cam(image, [target])[0]
    finally:
        for hook in hooks:
            hook.remove()
    model.zero_grad()  # the way back to the maps also left gradients in the weights that are free
    top, left, height, width = content_box(picture.shape[:2], image.shape[-1], classifier.checkpoint.fit)
    inside = np.ascontiguousarray(heat[top : top + height, left : left + width], dtype=np.float32)
    return cv2.resize(inside, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def overlay_map(picture: np.ndarray, heat: np.ndarray, strength: float = 0.5, colours: str = "inferno") -> np.ndarray:
    """Lays a map over a picture.

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
    levels = (heat.clip(0, 1) * 255).round().astype(np.uint8)
    tinted = cv2.cvtColor(cv2.applyColorMap(levels, getattr(cv2, f"COLORMAP_{colours.upper()}")), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(picture, 1 - strength, tinted, strength, 0)
