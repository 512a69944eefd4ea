"""What a trained network's confidence is worth: a temperature, and a detector of strangers, with its threshold.

Everything is fitted on augmented pictures. On plain validation pictures a network is nearly always right, so a
temperature fitted there would make it surer still; augmented ones are nearer to pictures from elsewhere.
"""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from planetlib.checkpoint import Checkpoint
from planetlib.features import FrozenFeatures
from planetlib.model import score_unknown

#: share of the augmented validation pictures that the threshold lets pass as known; of plain ones it is nearly all
ACCEPTED = 0.9
#: weight of the loss's mean beside the regularisation; little, as the outliers to learn from are not those to be met
LOSS_WEIGHT = 0.133


def calibrate(checkpoint: Checkpoint, train: FrozenFeatures, val: FrozenFeatures) -> Checkpoint:
    """Fits temperature, detector and threshold to the checkpoint of a phase that has ended.

    The detector learns from a view that the training saw; temperature and threshold are fitted on validation views.

    Returns:
        The checkpoint with all of these. `calibration` has the validation pictures' mean log loss before and after,
        and, of a run with outliers, the area under the ROC curve of them against outliers that the run has not
        learnt from, and the share of those that is called unknown.
    """
    from sklearn.metrics import roc_auc_score

    known = len(checkpoint.class_names)
    model = checkpoint.build_model().to(val.device)
    features, lower = (torch.cat(parts) for parts in zip(*(val.embed(number, model) for number in val.numbers)))
    with torch.inference_mode():
        logits = model.head(features.to(val.device))[:, :known].cpu()
    labels = val.labels.repeat(len(val.numbers))
    is_known = labels < known
    temperature = fit_temperature(logits[is_known], labels[is_known])
    found = {
        f"log_loss_{when}": float(functional.cross_entropy(logits[is_known] / divisor, labels[is_known]))
        for when, divisor in (("before", 1), ("after", temperature))
    }
    fitted: dict[str, Any] = {"temperature": temperature, "calibration": found}
    if checkpoint.outlier_kinds:
        detector = fit_detector(train.embed(0, model)[1], train.labels, known)
        scores = score_unknown(detector, lower, known)
        threshold = float(np.quantile(scores[is_known].numpy(), ACCEPTED))
        found["outlier_auroc"] = float(roc_auc_score(~is_known.numpy(), scores.numpy()))
        found["outliers_called_unknown"] = float((scores[~is_known] > threshold).float().mean())
        fitted |= {"detector": detector, "unknown_threshold": threshold}
    return dataclasses.replace(checkpoint, **fitted)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that makes labels likeliest (Guo et al. 2017, arXiv:1706.04599, section 4.2).

    Where all N are right, the likeliest temperature would be 0, and the network sure of everything. So one picture that
    may be of any class is counted beside them: targets fall short of certainty by 1 / (N + 1), as in Platt scaling
    (Platt 1999, "Probabilistic outputs for support vector machines", section 2.2).

    Returns:
        What logits (N, classes) are to be divided by, 0.05 to 20, given class numbers (N,); above 1 it makes a network
        less sure.
    """
    from scipy.optimize import minimize_scalar

    short = 1 / (len(logits) + 1)

    def loss(logarithm: float) -> float:
        return float(functional.cross_entropy(logits.double() / np.exp(logarithm), labels, label_smoothing=short))

    return float(np.exp(minimize_scalar(loss, bounds=np.log([0.05, 20]), method="bounded").x))


def fit_detector(features: Tensor, numbers: Tensor, known: int) -> dict[str, Tensor]:
    """Fits a linear classifier of the classes and of kinds of outliers (Hendrycks et al. 2019, arXiv:1812.04606).

    That outliers have kinds lets each be told from the class it looks like: mercury from the moon, venus from mars.

    Args:
        features: (N, S), the second of what `Network.embed` gives.
        numbers: (N,), below `known` of a class, from there on of a kind of outlier.
        known: how many classes there are.

    Returns:
        `weight` (K, S) and `bias` (K,), on features as they come; the rows of the classes are the first `known`.
    """
    from sklearn.linear_model import LogisticRegression  # here, as prediction, which needs it not, starts sooner so
    from sklearn.preprocessing import StandardScaler

    # scikit-learn's C weighs the sum of the losses.
    linear = LogisticRegression(C=LOSS_WEIGHT / len(numbers), class_weight="balanced", max_iter=200)
    scaler = StandardScaler()
    linear.fit(scaler.fit_transform(features.numpy().astype(np.float64)), numbers.numpy())
    weight = linear.coef_ / scaler.scale_
    bias = linear.intercept_ - weight @ scaler.mean_
    return {"weight": torch.tensor(weight, dtype=torch.float32), "bias": torch.tensor(bias, dtype=torch.float32)}
