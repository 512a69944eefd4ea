"""Every widget: explore the augmentation, the maps, one's own picture, doubtful labels, and a table of predictions.

A picture is shown by setting the bytes of an `Image` widget, not by drawing into an output area: it does not flicker,
and the notebook does not grow. While the kernel computes, the page merges what a slider sends, so that the newest
position is the next one shown.
"""

from planetlib.widgets.augment import AugmentationStudio
from planetlib.widgets.browse import PredictionsBrowser
from planetlib.widgets.explain import ActivationExplorer, OwnPicture
from planetlib.widgets.review import LabelReview

__all__ = ["ActivationExplorer", "AugmentationStudio", "LabelReview", "OwnPicture", "PredictionsBrowser"]
