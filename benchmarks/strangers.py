"""Which score tells pictures of none of the classes from pictures of them, and what calibration is worth.

    python -m benchmarks.strangers --runs RUN... --renders RENDERS --photos PHOTOS --out runs/strangers

reads the checkpoint and the samples table of each run (`planetlib train`, one run for each seed) and scores all of
RENDERS and PHOTOS: pictures of the run's classes are known, all others strangers. No score is fitted on either folder.
It prints two tables, means over the runs and half their range, and writes them as `strangers.md` and `calibration.md`,
and every single figure as `strangers.csv` and `calibration.csv`. About two minutes for each run on two free cores.

The table of scores has the area under the ROC curve on both folders together and on each, and the share of strangers
that is let through where 95 % of the known photographs are accepted, of all and of those among PHOTOS. The table of
temperatures has the expected calibration error and the mean confidence when wrong: without any, with the one the
checkpoint has, and with the one that would fit these very pictures best, which no user could know.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from torch import Tensor

from benchmarks.tables import average_seeds, make_parser, print_table
from planetlib.calibrate import fit_temperature
from planetlib.classify import Classifier
from planetlib.data import find_samples, load_pixels
from planetlib.evaluate import evaluate_predictions, undo_temperature
from planetlib.files.tables import read_samples, write_table
from planetlib.model import score_unknown
from planetlib.transforms import to_tensor

NEIGHBOURS = 5


def embed_files(classifier: Classifier, paths) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, features of the last stage and those that the detector looks at, of plain pictures."""
    pixels = load_pixels(paths, classifier.checkpoint.image_size, classifier.checkpoint.fit)
    found = []
    for start in range(0, len(pixels), 32):
        images = torch.stack([to_tensor(picture) for picture in pixels[start : start + 32]])
        logits, lower = classifier.embed_tensors(images)
        with torch.inference_mode():
            found.append((logits, classifier.model.features(images.to(classifier.device)).float().cpu(), lower))
    return tuple(torch.cat(parts) for parts in zip(*found))


def make_scores(classifier: Classifier, samples: pd.DataFrame) -> dict[str, Callable[..., np.ndarray]]:
    """Name → function of what `embed_files` returns; the higher, the less it is one of the classes."""
    train = samples[samples.split == "train"]
    _, features, _ = embed_files(classifier, train.path)
    features, numbers = features.numpy(), train.label.map(classifier.class_names.index).to_numpy()
    near = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(normalize(features))
    means = np.stack([features[numbers == number].mean(0) for number in range(len(classifier.class_names))])
    precision = LedoitWolf(assume_centered=True).fit(features - means[numbers]).precision_

    def mahalanobis(logits: Tensor, features: Tensor, lower: Tensor) -> np.ndarray:
        gaps = features.numpy()[:, None] - means
        return np.einsum("ncf,fg,ncg->nc", gaps, precision, gaps, optimize=True).min(1)

    detector, classes = classifier.checkpoint.detector, len(classifier.class_names)
    return {
        "maximum probability": lambda logits, features, lower: -logits.softmax(1).amax(1).numpy(),
        "energy (Liu et al. 2020)": lambda logits, features, lower: -logits.logsumexp(1).numpy(),
        f"{NEIGHBOURS}th nearest training picture (Sun et al. 2022)": lambda logits, features, lower: near.kneighbors(
            normalize(features.numpy())
        )[0][:, -1],
        "Mahalanobis (Lee et al. 2018)": mahalanobis,
        "detector (outlier exposure, Hendrycks et al. 2019)": lambda logits, features, lower: score_unknown(
            detector, lower, classes
        ).numpy(),
    }


def rate_score(scores: np.ndarray, known: np.ndarray, photo: np.ndarray) -> dict[str, float]:
    """The figures of one score, in per cent.

    Args:
        scores: (N,), higher for strangers.
        known: (N,), bool.
        photo: (N,), bool; elsewhere a render.
    """
    threshold = np.quantile(scores[known & photo], 0.95)
    return {
        "AUROC": 100 * roc_auc_score(~known, scores),
        "renders": 100 * roc_auc_score(~known[~photo], scores[~photo]),
        "photos": 100 * roc_auc_score(~known[photo], scores[photo]),
        "let through": 100 * (scores[~known] <= threshold).mean(),
        "let through, photos": 100 * (scores[~known & photo] <= threshold).mean(),
    }


def rate_calibration(classifier: Classifier, predictions: pd.DataFrame) -> list[dict]:
    """Calibration error (per cent) and confidence when wrong: at temperature 1, as stored, as these labels ask for."""
    known = predictions[predictions.label.isin(classifier.class_names)]
    raw = undo_temperature(known, classifier.checkpoint.temperature)
    logits = torch.tensor(np.log(raw.filter(like="prob_").to_numpy(float).clip(1e-30)))
    best = fit_temperature(logits, torch.tensor(known.label.map(classifier.class_names.index).to_numpy()))
    rows = []
    for name, temperature in (("none", 1.0), ("stored", classifier.checkpoint.temperature), ("fitted here", best)):
        summary = evaluate_predictions(undo_temperature(raw, 1 / temperature)).summary
        rows.append({
            "temperature": name, "its value": temperature, "error": 100 * summary["calibration_error"],
            "confidence when wrong": summary["mean_confidence_when_wrong"],
        })  # fmt: skip
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="run folders, one for each seed")
    for name in ("renders", "photos"):
        parser.add_argument(f"--{name}", type=Path, required=True, help="folder of class folders")
    parser.add_argument("--out", type=Path, default=Path("runs/strangers"), help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    renders, photos = find_samples(options.renders), find_samples(options.photos)
    both, strangers, calibration = pd.concat([renders, photos]), [], []
    for run in options.runs:
        classifier, samples = Classifier.load(run), read_samples(run / "samples.csv")
        embedded, known = embed_files(classifier, both.path), both.label.isin(classifier.class_names).to_numpy()
        for name, score in make_scores(classifier, samples).items():
            rated = rate_score(score(*embedded), known, np.arange(len(both)) >= len(renders))
            strangers.append({"seed": run.name, "score": name, **rated})
        sets = {"planets, test": samples[samples.split == "test"], "renders": renders, "photos": photos}
        for name, table in sets.items():
            for row in rate_calibration(classifier, classifier.predict(table.path, table.label)):
                row["temperature"] = f"{name}, {row['temperature']}"
                calibration.append({"seed": run.name, **row})
    for name, rows, first in (("strangers", strangers, "score"), ("calibration", calibration, "temperature")):
        write_table(pd.DataFrame(rows), options.out / f"{name}.csv")
        print_table(average_seeds(pd.DataFrame(rows), first), options.out / f"{name}.md")


if __name__ == "__main__":
    main()
