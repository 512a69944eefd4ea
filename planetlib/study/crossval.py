"""Cross-validation: every picture is judged by a network that saw neither it nor a copy of it.

Stratified, so that each fold has its share of every class, and grouped, so that copies lie in one fold.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from planetlib.checkpoint import PHASES
from planetlib.classify import Classifier
from planetlib.data import SPLITS, TEST_SHARE, VAL_SHARE
from planetlib.evaluate import evaluate_predictions, wilson_interval
from planetlib.files.tables import DataError, write_table
from planetlib.settings import Settings
from planetlib.train import train_phase


def make_folds(samples: pd.DataFrame, folds: int = 5, seed: int = 0) -> list[pd.DataFrame]:
    """The samples table once for each fold: `test` is the fold, the rest is dealt into `train` and `val`.

    The table's own `split` is not looked at, and no `group` is torn apart.

    Raises:
        DataError: a class has fewer groups than there are folds, or fewer than three.
    """
    groups = samples.groupby("label").group.nunique()
    least = max(folds, len(SPLITS))
    if groups.min() < least:
        few = ", ".join(f"'{label}' has {count}" for label, count in groups[groups < least].items())
        said = f"too few different pictures for {folds} folds: {few}; expected {least} or more of each class"
        raise DataError(said, do="add pictures, or take fewer folds")
    tables = []
    for rest, held_out in _deal(samples, folds, seed):
        split = np.full(len(samples), "train", object)
        split[held_out] = "test"
        # As many validation pictures to a training picture as in an ordinary split.
        parts = min(round((1 - TEST_SHARE) / VAL_SHARE), groups.min() - -(-groups.min() // folds))
        split[rest[_deal(samples.iloc[rest], max(2, parts), seed)[0][1]]] = "val"
        tables.append(samples.assign(split=split))
    return tables


def _deal(samples: pd.DataFrame, parts: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    dealer = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    return list(dealer.split(samples, samples.label, samples.group))


def cross_validate(
    settings: Settings, samples: pd.DataFrame, folds: int = 5, seeds: Sequence[int] = (0, 1, 2)
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trains both phases on all folds but one, for each fold and seed, and predicts the fold that was held out.

    Each training has its own run folder, `<run>/fold-<seed>-<fold>`. What is finished there is not done again, and what
    was interrupted goes on. `<run>` receives `crossval.csv` and `crossval_predictions.csv`, renewed after each fold.
    For each seed, which takes the place of that in the settings, the folds are dealt anew.

    Returns:
        Scores, a row for each seed and fold: `seed, fold, images, correct, accuracy, balanced_accuracy`; and the
        predictions table of the held-out pictures with `seed, fold`: each picture once for each seed.

    Raises:
        DataError: too few pictures in a class.
        CheckpointError: the run folder was made with other settings or data.
        KeyboardInterrupt: once what was being trained has said what is kept.
    """
    scores, tables = [], []
    for seed in seeds:
        for fold, table in enumerate(make_folds(samples, folds, seed)):
            run = settings.run / f"fold-{seed}-{fold}"
            predictions = _run_fold(settings.replace(seed=seed, run=run), table)
            found = evaluate_predictions(predictions)
            score = {"seed": seed, "fold": fold, "images": len(predictions), "correct": found.by_class.right.sum()}
            scores.append(score | {name: found.summary[name] for name in ("accuracy", "balanced_accuracy")})
            tables.append(predictions.assign(seed=seed, fold=fold))
            write_table(pd.DataFrame(scores), settings.run / "crossval.csv")
            write_table(pd.concat(tables, ignore_index=True), settings.run / "crossval_predictions.csv")
    return pd.DataFrame(scores), pd.concat(tables, ignore_index=True)


def _run_fold(settings: Settings, samples: pd.DataFrame) -> pd.DataFrame:
    write_table(samples, settings.run / "samples.csv")
    for phase in PHASES:  # of a finished one, this only holds settings and data against it
        if train_phase(phase, settings, samples, resume=True)[1]:
            raise KeyboardInterrupt
    held_out = samples[samples.split == "test"]
    classifier = Classifier.load(settings.run, device=settings.device)
    predictions = classifier.predict(held_out.path, held_out.label, settings.batch_size)
    lost = predictions.path[predictions.status == "unreadable"]
    if len(lost):
        do = "put it back, or take another run folder"
        raise DataError(f"{lost.iloc[0]}: has become unreadable since it was checked", do)
    return predictions


def score_seeds(predictions: pd.DataFrame) -> pd.DataFrame:
    """How far each seed's probabilities can be trusted, of the second table of `cross_validate`.

    Returns:
        `seed, accuracy, calibration_error, mean_confidence_when_wrong, called_unknown`, all in 0–1.
    """
    seeds = {seed: evaluate_predictions(rows).summary for seed, rows in predictions.groupby("seed")}
    columns = ["accuracy", "calibration_error", "mean_confidence_when_wrong", "called_unknown"]
    return pd.DataFrame(seeds, columns, dtype=float).T.rename_axis("seed").reset_index()


def describe_scores(scores: pd.DataFrame) -> str:
    """Mean accuracy over the seeds and its uncertainty, of the first table of `cross_validate`, in two lines of words.

    For each seed every picture is judged once, so its accuracy is pooled over the folds. The interval is Wilson's for
    so many pictures, seeds not counted as further pictures; it tells how far another set of pictures may differ, as if
    the judgements were independent. They are not: the trainings of different folds share most of their pictures, and
    no unbiased estimate of the variance of k-fold cross-validation exists (Bengio and Grandvalet 2004, JMLR 5,
    1089–1105). What changes with the deal and the training is the spread between seeds, given beside it.
    """
    by_seed = scores.groupby("seed")[["images", "correct"]].sum()
    accuracy, images = by_seed.correct / by_seed.images, int(by_seed.images.iloc[0])
    low, high = wilson_interval(round(accuracy.mean() * images), images)
    return (
        f"accuracy {accuracy.mean():.2%}, 95 % Wilson interval {low:.2%} to {high:.2%} ({images} images; folds are not "
        f"independent, so take it as a guide); seeds' means from {accuracy.min():.2%} to {accuracy.max():.2%}\n"
        f"balanced accuracy {scores.balanced_accuracy.mean():.2%}, mean of folds"
    )
