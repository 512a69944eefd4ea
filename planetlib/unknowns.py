"""«None of these»: tells pictures of the classes from pictures of anything else, by what the backbone sees in them."""

import numpy as np
import torch
from torch import Tensor

#: weight of the loss's mean beside the regularisation; little, as the outliers to learn from are not those to be met
LOSS_WEIGHT = 0.133


def fit_detector(features: Tensor, numbers: Tensor, known: int) -> dict[str, Tensor]:
    """Fits a linear classifier of the classes and of kinds of outliers (Hendrycks et al. 2019, arXiv:1812.04606).

    That outliers have kinds lets each be told from the class it looks like: mercury from the moon, venus from mars.

    Args:
        features: (N, S), the second of what `PlanetClassifier.embed` gives.
        numbers: (N,), below `known` of a class, from there on of a kind of outlier.
        known: how many classes there are.

    Returns:
        `weight` (K, S) and `bias` (K,), on features as they come; the rows of the classes are the first `known`.
    """
    from sklearn.linear_model import LogisticRegression  # here, as prediction, which needs it not, starts sooner so
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # scikit-learn's C weighs the sum of the losses.
    linear = LogisticRegression(C=LOSS_WEIGHT / len(numbers), class_weight="balanced", max_iter=200)
    model = make_pipeline(StandardScaler(), linear)
    model.fit(features.numpy().astype(np.float64), numbers.numpy())
    scaler = model[0]
    weight = linear.coef_ / scaler.scale_
    bias = linear.intercept_ - weight @ scaler.mean_
    return {"weight": torch.tensor(weight, dtype=torch.float32), "bias": torch.tensor(bias, dtype=torch.float32)}


def score_unknown(detector: dict[str, Tensor], features: Tensor, known: int) -> Tensor:
    """How likely each picture is none of the `known` classes (B,), 0–1, of features (B, S)."""
    shares = torch.nn.functional.linear(features, detector["weight"], detector["bias"]).softmax(1)
    return shares[:, known:].sum(1)
