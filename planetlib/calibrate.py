"""What a trained network's confidence is worth: a temperature, and a detector of pictures of none of the classes.

Everything is fitted on augmented pictures. On plain validation pictures a network is nearly always right, so a
temperature fitted there would make it surer still; augmented ones are nearer to pictures from elsewhere.
"""

import dataclasses

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional

from planetlib.checkpoint import Checkpoint
from planetlib.classify import Classifier
from planetlib.data import ImageData, make_loader, progress_bar
from planetlib.outliers import OUTLIERS, draw_outliers
from planetlib.render import PLANETS
from planetlib.settings import Settings
from planetlib.transforms import make_training_transform
from planetlib.unknowns import fit_detector, score_unknown
from planetlib.variety import draw_variants

#: share of the augmented validation pictures that the threshold lets pass as known
ACCEPTED = 0.95


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that makes labels likeliest (Guo et al. 2017, arXiv:1706.04599, section 4.2).

    Args:
        logits: (N, classes).
        labels: class numbers (N,).

    Returns:
        What logits are to be divided by, 0.05 to 20; above 1 it makes a network less sure.
    """

    def loss(logarithm: float) -> float:
        return float(functional.cross_entropy(logits.double() / np.exp(logarithm), labels))

    return float(np.exp(minimize_scalar(loss, bounds=np.log([0.05, 20]), method="bounded").x))


def calibrate(checkpoint: Checkpoint, settings: Settings, samples: pd.DataFrame, progress: bool = True) -> Checkpoint:
    """Fits temperature, detector and threshold of a checkpoint.

    The detector learns from the training pictures, the rendered planets and four fifths of the drawn outliers;
    temperature and threshold are fitted on the validation pictures.

    Args:
        checkpoint: of a stage that has ended.
        settings: those it was trained with.
        samples: the samples table it was trained on.
        progress: show bars.

    Returns:
        The checkpoint with all of these. `calibration` has the validation pictures' mean log loss before and
        after, the area under the ROC curve of them against outliers that the detector has not seen, and the share of
        those that is called unknown.
    """
    names, size = checkpoint.class_names, checkpoint.image_size
    kinds = tuple(kind for kind in OUTLIERS if kind not in names)  # a class of the user's is none of the unknowns
    outliers = draw_outliers(kinds, settings.outliers, size, settings.seed)
    numbers = np.repeat(np.arange(len(names), len(names) + len(kinds)), settings.outliers)
    held_out = np.arange(len(numbers)) % settings.outliers >= round(0.8 * settings.outliers)
    transform = make_training_transform(settings.recipe, size, settings.strength)

    def embed(split: str, views: int, drawn: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor, Tensor]:
        part = samples[samples.split == split]
        data = ImageData(pd.concat([part] * views), names, size, checkpoint.fit, transform, settings.seed, progress)
        # Views that the training did not draw; those of validation it did not learn from.
        data.epoch = settings.head_epochs + settings.finetune_epochs
        for pixels, labels in drawn:
            data.add_rendered(pixels, labels)
        batches = make_loader(data, settings.batch_size, workers=settings.workers)
        batches = progress_bar(batches, progress, desc="calibrating", unit="step", leave=False)
        found = [(*classifier.embed_tensors(images), labels) for images, labels in batches]
        return tuple(torch.cat(parts) for parts in zip(*found))

    classifier = Classifier(checkpoint, settings.device)
    planets = [name for name in names if name in PLANETS and settings.rendered]
    drawn = [(outliers[~held_out], numbers[~held_out])]
    if planets:
        variants = draw_variants(tuple(planets), settings.rendered, size, settings.seed)
        drawn.append((variants, np.repeat([names.index(name) for name in planets], settings.rendered)))
    _, features, labels = embed("train", 1, drawn)
    detector = fit_detector(features, labels, len(names))

    logits, features, labels = embed("val", settings.views, [(outliers[held_out], numbers[held_out])])
    known = labels < len(names)
    scores = score_unknown(detector, features, len(names))
    temperature = fit_temperature(logits[known], labels[known])
    threshold = float(np.quantile(scores[known].numpy(), ACCEPTED))
    found = {
        "log_loss_before": float(functional.cross_entropy(logits[known], labels[known])),
        "log_loss_after": float(functional.cross_entropy(logits[known] / temperature, labels[known])),
        "outlier_auroc": float(roc_auc_score(~known.numpy(), scores.numpy())) if held_out.any() else float("nan"),
        "outliers_called_unknown": float((scores[~known] > threshold).float().mean()),
    }
    return dataclasses.replace(
        checkpoint, temperature=temperature, detector=detector, unknown_threshold=threshold, calibration=found
    )
