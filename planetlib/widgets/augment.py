"""A studio of the training augmentation: every step with its slider."""

from html import escape

import numpy as np
from ipywidgets import HTML, Button, FloatSlider, Image
from torchvision.utils import make_grid

from planetlib import transforms
from planetlib.transforms import fit_to_square, to_picture, to_tensor
from planetlib.widgets.panel import Panel, encode_picture, in_a_row, on_change

DRAWS = 12


class AugmentationStudio(Panel):
    """A picture, uint8 (H, W, 3), and twelve draws of a recipe's augmentation, for a network that sees so many pixels.

    With a slider for each step, and the settings as code.
    """

    def __init__(self, picture: np.ndarray, recipe: str = "robust", size: int = 160):
        self.tensor = to_tensor(fit_to_square(picture, size, transforms.RECIPES[recipe]))
        self.recipe, self.size, self.seed = recipe, size, 0
        names = transforms.training_steps(recipe, size)
        steps = {name: FloatSlider(1.0, min=0, max=2, step=0.1, description=name) for name in names}
        self.again = Button(description="another draw", icon="random")
        self.again.on_click(lambda button: self._draw_again())
        self.sheet, self.code = Image(format="png"), HTML()
        on_change(self._show, *steps.values())
        children = [in_a_row(*steps.values()), self.again, self.sheet, self.code]
        super().__init__(steps, children, "move a slider for each step")
        self._show()

    @property
    def strength(self) -> float | dict[str, float]:
        """As `Settings.strength`: one number where all sliders agree, else by step."""
        values = {name: round(slider.value, 2) for name, slider in self.controls.items()}
        return values if len(set(values.values())) > 1 else next(iter(values.values()))

    def draw_still(self) -> np.ndarray:
        """The original, twice as large, and the draws in two rows beside it."""
        transform = transforms.make_training_transform(self.recipe, self.size, self.strength)
        draws = [transforms.draw_augmented(transform, self.tensor, self.seed, index) for index in range(DRAWS)]
        sheet = to_picture(make_grid(draws, DRAWS // 2, padding=0))
        return np.hstack([to_picture(self.tensor).repeat(2, axis=0).repeat(2, axis=1), sheet])

    def _draw_again(self) -> None:
        self.seed += 1
        self._show()

    def _show(self) -> None:
        self.sheet.value = encode_picture(self.draw_still())
        choices = f"recipe={self.recipe!r}, strength={self.strength!r}"
        code = f"from planetlib.settings import load_settings\n\nsettings = load_settings({choices})"
        self.code.value = f'<pre class="planetlib-code">{escape(code)}</pre>'
