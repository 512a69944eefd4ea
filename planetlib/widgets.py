"""Every widget: a slider over the augmentation, and a slider over pictures and their activation maps.

A picture is shown by setting the bytes of an `Image` widget, not by drawing into an output area: it does not flicker,
and the notebook does not grow.
"""

import base64
import io
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from ipywidgets import HTML, Dropdown, FloatSlider, HBox, Image, IntSlider, VBox
from PIL import Image as PillowImage

from planetlib.classify import Classifier
from planetlib.data import DataError
from planetlib.explain import METHODS, map_activation, overlay_map
from planetlib.images import read_image
from planetlib.sheets import describe_prediction
from planetlib.transforms import RECIPES, draw_augmented, fit_to_square, make_training_transform, to_picture, to_tensor

SIDE = 288  # pixels, of a picture on the page


class _Panel(VBox):
    """A box whose text form is its state, so that stored outputs compare by what a person set, not by drawn bytes.

    Where there is no kernel, `still` is shown in its place.
    """

    def __init__(self, controls: dict, children: Sequence, still: Image):
        self._controls, self._still = controls, still
        super().__init__(list(children))

    def _repr_mimebundle_(self, **options):
        bundle = super()._repr_mimebundle_(**options)
        return {**bundle, "image/png": base64.b64encode(self._still.value).decode()}

    def __repr__(self):
        state = ", ".join(f"{name}={control.value!r}" for name, control in self._controls.items())
        return f"{type(self).__name__}({state})"


class AugmentationExplorer(_Panel):
    """Draws of the training augmentation beside their original, with a slider over the strength.

    Args:
        picture: uint8 (H, W, 3).
        recipe: a name in `planetlib.transforms.RECIPES`.
        size: side of the square the network sees, in pixels.
        draws: how many to show.
    """

    def __init__(self, picture: np.ndarray, recipe: str = "robust", size: int = 160, draws: int = 11):
        self.tensor = to_tensor(fit_to_square(picture, size, RECIPES[recipe]))
        self.recipe, self.size, self.draws = recipe, size, draws
        self.strength = FloatSlider(1.0, min=0, max=2, step=0.1, description="strength")
        self.seed = IntSlider(0, min=0, max=99, description="draw")
        self.sheet = Image(format="png")
        for control in (self.strength, self.seed):
            control.observe(self._show, "value")
        self._show()
        controls = {"strength": self.strength, "draw": self.seed}
        super().__init__(controls, [HBox([self.strength, self.seed]), self.sheet], still=self.sheet)

    def _show(self, change=None):
        transform = make_training_transform(self.recipe, self.size, self.strength.value)
        drawn = [draw_augmented(transform, self.tensor, self.seed.value, index) for index in range(self.draws)]
        tiles = [to_picture(tensor) for tensor in (self.tensor, *drawn)]
        columns = -(-len(tiles) // 2)
        rows = [np.hstack(tiles[start : start + columns]) for start in (0, columns)]
        rows[1] = np.pad(rows[1], ((0, 0), (0, rows[0].shape[1] - rows[1].shape[1]), (0, 0)))
        self.sheet.value = encode_png(np.vstack(rows))


class ActivationExplorer(_Panel):
    """A slider over pictures; beside each its map, laid over it, for the class and the method that are chosen.

    Args:
        classifier: predicts and is explained.
        predictions: the predictions table of the pictures to walk through; unreadable ones are left out.

    Raises:
        DataError: none of them is readable.
    """

    def __init__(self, classifier: Classifier, predictions: pd.DataFrame):
        self.classifier = classifier
        self.rows = list(predictions[predictions.status != "unreadable"].itertuples())
        if not self.rows:
            raise DataError(
                f"none of the {len(predictions)} pictures can be read; expected at least one to walk through"
            )
        self.index = IntSlider(0, min=0, max=len(self.rows) - 1, description="picture")
        self.target = Dropdown(options=["predicted", *classifier.class_names], description="class")
        self.method = Dropdown(options=list(METHODS), description="method")
        self.strength = FloatSlider(0.5, min=0, max=1, step=0.05, description="overlay")
        self.picture, self.overlay = (Image(format="png", width=SIDE, height=SIDE) for _ in range(2))
        self.words = HTML()
        self._map = lru_cache(64)(self._compute_map)
        controls = {"picture": self.index, "class": self.target, "method": self.method, "overlay": self.strength}
        for control in controls.values():
            control.observe(self._show, "value")
        self._show()
        lines = [HBox([self.index, self.target]), HBox([self.strength, self.method])]
        super().__init__(controls, [*lines, self.words, HBox([self.picture, self.overlay])], still=self.overlay)

    def _compute_map(self, index: int, class_name: str, method: str) -> tuple[np.ndarray, np.ndarray]:
        picture = fit_to_square(read_image(self.rows[index].path), SIDE)
        return picture, map_activation(self.classifier, picture, class_name, method)

    def _show(self, change=None):
        row = self.rows[self.index.value]
        name = row.predicted if self.target.value == "predicted" else self.target.value
        picture, heat = self._map(self.index.value, name, self.method.value)
        self.picture.value = encode_png(picture)
        self.overlay.value = encode_png(overlay_map(picture, heat, self.strength.value))
        self.words.value = describe_prediction(row)[0].replace("\n", ", ") + f" · map for {name}"


def encode_png(picture: np.ndarray) -> bytes:
    """uint8 (H, W, 3) as the bytes of a PNG file, compressed little: it goes no further than the page."""
    buffer = io.BytesIO()
    PillowImage.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
