"""A studio of the training augmentation: every step with its slider."""

from html import escape

import numpy as np
from ipywidgets import HTML, Button, FloatSlider, HBox, Image, Layout

from planetlib.transforms import (
    RECIPES,
    draw_augmented,
    fit_to_square,
    make_training_transform,
    to_picture,
    to_tensor,
    training_steps,
)
from planetlib.widgets.panel import Panel, encode_png

DRAWS = 12


class AugmentationStudio(Panel):
    """One picture and twelve draws of its augmentation, with a slider for each step and the settings as code.

    Args:
        picture: uint8 (H, W, 3).
        recipe: a name in `planetlib.transforms.RECIPES`.
        size: side of the square the network sees, in pixels.
    """

    def __init__(self, picture: np.ndarray, recipe: str = "robust", size: int = 160):
        self.tensor = to_tensor(fit_to_square(picture, size, RECIPES[recipe]))
        self.recipe, self.size, self.seed = recipe, size, 0
        self.steps = {
            name: FloatSlider(1.0, min=0, max=2, step=0.1, description=name, style={"description_width": "11em"},
                              layout=Layout(width="26em"))
            for name in training_steps(recipe, size)
        }  # fmt: skip
        self.again = Button(description="another draw", icon="random")
        self.again.on_click(lambda button: self._draw_again())
        self.sheet, self.code = Image(format="png"), HTML()
        for slider in self.steps.values():
            slider.observe(lambda change: self._show(), "value")
        self._show()
        sliders = HBox([*self.steps.values()], layout=Layout(flex_flow="row wrap"))
        super().__init__(self.steps, [sliders, self.again, self.sheet, self.code], "move a slider for each step")

    @property
    def strength(self) -> float | dict[str, float]:
        """As `Settings.strength`: one number where all sliders agree, else by step."""
        values = {name: round(slider.value, 2) for name, slider in self.steps.items()}
        return values if len(set(values.values())) > 1 else next(iter(values.values()))

    def draw_still(self) -> np.ndarray:
        """The original, twice as large, and the draws in two rows beside it."""
        transform = make_training_transform(self.recipe, self.size, self.strength)
        draws = [to_picture(draw_augmented(transform, self.tensor, self.seed, index)) for index in range(DRAWS)]
        rows = [np.hstack(draws[: DRAWS // 2]), np.hstack(draws[DRAWS // 2 :])]
        original = to_picture(self.tensor).repeat(2, axis=0).repeat(2, axis=1)
        return np.hstack([original, np.vstack(rows)])

    def _draw_again(self) -> None:
        self.seed += 1
        self._show()

    def _show(self) -> None:
        self.sheet.value = encode_png(self.draw_still())
        code = (
            "from planetlib.settings import load_settings\n\n"
            f"settings = load_settings(recipe={self.recipe!r}, strength={self.strength!r})"
        )
        self.code.value = f'<pre style="white-space:pre-wrap;user-select:all">{escape(code)}</pre>'
