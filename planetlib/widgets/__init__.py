"""Every widget: explore the augmentation, the maps, one's own picture, doubtful labels, and a table of predictions.

A picture is shown by setting the bytes of an `Image` widget, not by drawing into an output area: it does not flicker,
and the notebook does not grow. While the kernel computes, the page merges what a slider sends, so that the newest
position is the next one shown.
"""

from importlib import import_module

_MODULES = {
    "AugmentationStudio": "augment",
    "ActivationExplorer": "explain",
    "OwnPicture": "explain",
    "LabelReview": "review",
    "PredictionsBrowser": "browse",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str):
    """Imports a widget when it is asked for: the studio needs nothing of what explains a network."""
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
