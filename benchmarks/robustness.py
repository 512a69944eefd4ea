"""What each part of the robust recipe is worth, on pictures of other kinds than those it was trained on.

    python -m benchmarks.robustness --planets PLANETS --renders RENDERS --photos PHOTOS --websites WEBSITES

trains every variant with seeds 0–2 on the training split of PLANETS alone (about four minutes each on two free cores)
and scores the test split of PLANETS and all of RENDERS, PHOTOS and WEBSITES. Pictures there of none of the classes of
PLANETS are strangers: area under the ROC curve of the known against them, and the share that is let through, by the
threshold that the checkpoint has and where 95 % of the known photographs are accepted. The split is one at random, as
the reference's; a column leaves out test pictures that have a copy on the other side, by the audit of `planetlib data
check`.

It prints four tables, which it also writes into the folder `--out` as `table.md`: how often each recipe is right, and
how far what it says of itself can be trusted, as means over the seeds and half their range; for each set from
elsewhere, which recipe the two others would choose, and what it gives there; and who is taken for whom, counted over
the seeds. Every single figure goes to `scores.csv`, the accuracy of each class to `classes.csv`, what was wrong to
`mistakes.csv`. A run that is there already is gone on with, so what was interrupted is not lost.
`--profile short` shows in a minute that it works, on the embedded pictures; its figures mean nothing.
"""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from benchmarks.tables import average_seeds, format_table, make_parser, print_table
from benchmarks.trainers import SHORT
from planetlib.checkpoint import PHASES
from planetlib.classify import Classifier
from planetlib.data import check_samples, find_samples, split_samples
from planetlib.draw.camera import take_picture
from planetlib.draw.surface import load_map
from planetlib.evaluate import choose_pictures, evaluate_predictions, find_strangers
from planetlib.files.tables import write_table
from planetlib.settings import FIXTURE, Settings, load_settings
from planetlib.study.copies import audit_samples
from planetlib.train import train_phase

ELSEWHERE = ("renders", "photos", "websites")
#: row → what differs from the default settings
TRAINED = {
    "robust": {},
    "no outliers": {"outliers": 0},
    "no drawn planets": {"drawn": 0},
    "no augmentation": {"strength": 0.0},
    "five views": {"views": 5},
    "fewer drawn pictures": {"drawn": 60, "outliers": 36, "views": 4},
    "no label smoothing": {"label_smoothing": 0.0},
    "larger backbone": {"backbone": "efficientnet_lite2"},
    # Of its 15 and 85 epochs 5 and 25, ten minutes for a seed; after those it is right on its own split.
    "reference": {"recipe": "reference", "head_epochs": 5, "finetune_epochs": 25},
}
#: row → what differs; trained on the training split of RENDERS as well, whose own columns are then of its test split
EXTENDED = {"robust, trained on renders too": {}}


def _flatten_map(name: str) -> np.ndarray:
    """A map with nothing on it but its mean colour."""
    pixels = load_map(name)
    return np.full_like(pixels, pixels.mean((0, 1)).round())


_all_plain = partial(take_picture, plain=True)  # bodies are whole and well lit, before stars
#: row → what the drawn bodies lack: by the name of a function, what takes its place
DRAWN_OTHERWISE = {
    "no maps": {"surface.load_map": _flatten_map},
    "no photography": {"planets.take_picture": _all_plain, "outliers.take_picture": _all_plain},
}
VARIANTS = TRAINED | EXTENDED | {name: {} for name in DRAWN_OTHERWISE}


def train_variant(variant: str, settings: Settings, samples: pd.DataFrame) -> None:
    write_table(samples, settings.run / "samples.csv")
    with ExitStack() as replaced:
        for name, function in DRAWN_OTHERWISE.get(variant, {}).items():
            replaced.enter_context(patch(f"planetlib.draw.{name}", function))
        for phase in PHASES:
            if train_phase(phase, settings, samples, resume=True)[1]:
                raise KeyboardInterrupt


def add_renders(
    samples: pd.DataFrame, sets: dict[str, pd.DataFrame], seed: int
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """The samples with those of RENDERS beside them, and the sets without what is then trained on."""
    known, strangers = choose_pictures(sets["renders"], samples.label.unique())
    dealt = split_samples(check_samples(known), seed)
    held_out = pd.concat([dealt[dealt.split == "test"], strangers])
    return pd.concat([samples, dealt], ignore_index=True), {**sets, "renders": held_out}


def score_variant(
    classifier: Classifier, sets: dict[str, pd.DataFrame]
) -> tuple[dict[str, float], pd.DataFrame, pd.DataFrame]:
    """The figures of one row and seed, in per cent save for the confidence; `set, class, images, accuracy`; and what is
    wrong, `set, label, predicted, images`."""
    predictions = {name: classifier.predict(samples.path, samples.label) for name, samples in sets.items()}
    alone = predictions["planets"][~sets["planets"].copied.to_numpy()]
    scores = {"planets, without copies": 100 * (alone.predicted == alone.label).mean()}
    classes, mistakes = [], []
    for name, table in predictions.items():
        found = evaluate_predictions(table)
        scores |= {
            f"{name}, right": 100 * found.summary["accuracy"],
            f"{name}, balanced": 100 * found.summary["balanced_accuracy"],
            f"{name}, worst class": 100 * found.by_class.accuracy.min(),
            f"{name}, calibration error": 100 * found.summary["calibration_error"],
            f"{name}, confidence when wrong": found.summary["mean_confidence_when_wrong"],
            f"{name}, called unknown": 100 * found.summary["called_unknown"],
        }
        classes.append(found.by_class[["images", "accuracy"]].rename_axis("class").reset_index().assign(set=name))
        mistakes.append(found.wrong.groupby(["label", "predicted"]).size().reset_index(name="images").assign(set=name))
    elsewhere = pd.concat([predictions[name] for name in ELSEWHERE])
    return scores | rate_strangers(elsewhere, predictions["photos"]), pd.concat(classes), pd.concat(mistakes)


def rate_strangers(predictions: pd.DataFrame, photos: pd.DataFrame) -> dict[str, float]:
    """How well strangers are told, in per cent: by their score or, of a recipe without outliers, by low confidence.

    Args:
        predictions: of pictures of the classes and of strangers.
        photos: those that the threshold for 95 % is laid by.
    """
    scored = not predictions.unknown_score.isna().any()

    def rate(table: pd.DataFrame) -> pd.Series:
        return table.unknown_score if scored else 1 - table.confidence

    strange = find_strangers(predictions)
    names = ("AUROC", "let through", "let through at 95 %")
    if not strange.any():
        return {f"strangers, {name}": np.nan for name in names}
    threshold = rate(photos[~find_strangers(photos)]).quantile(0.95)
    found = [
        roc_auc_score(strange, rate(predictions)),
        (predictions.status[strange] != "unknown").mean(),
        (rate(predictions)[strange] <= threshold).mean(),
    ]
    return {f"strangers, {name}": 100 * value for name, value in zip(names, found)}


def make_tables(scores: pd.DataFrame) -> str:
    """Markdown: how often each recipe is right, and how far what it says of itself can be trusted."""
    right = ["planets, right", "planets, without copies"]
    right += [f"{name}, {what}" for name in ELSEWHERE for what in ("balanced", "worst class")]
    trusted = [f"{name}, calibration error" for name in ("planets", *ELSEWHERE)]
    trusted += [f"{name}, confidence when wrong" for name in ("photos", "websites")]
    trusted += [f"{name}, called unknown" for name in ("planets", *ELSEWHERE)]
    trusted += [name for name in scores if name.startswith("strangers")]
    return average_seeds(scores, "recipe", right) + "\n" + average_seeds(scores, "recipe", trusted)


def choose_without(scores: pd.DataFrame) -> str:
    """Markdown: for each set from elsewhere the recipe that is best on the two others, and what it gives on this one.

    So a choice among these recipes is reported where it was not made.
    """
    means = scores.groupby("recipe")[[f"{name}, balanced" for name in ELSEWHERE]].mean()
    means = means.drop(index=list(EXTENDED), errors="ignore")  # has learnt from one of the sets
    rows = []
    for name in means:
        elsewhere = means.drop(columns=name).mean(axis=1)
        chosen = elsewhere.idxmax()
        rows.append([name, chosen, f"{elsewhere[chosen]:.1f}", f"{means.at[chosen, name]:.1f}"])
    return format_table(["not chosen on", "best on the two others", "there", "here"], rows)


def count_mistakes(mistakes: pd.DataFrame, least: int = 3) -> str:
    """Markdown: who is taken for whom by each recipe, counted over seeds, `least` times or more."""
    counts = mistakes.pivot_table("images", ["recipe", "label", "predicted"], "set", "sum", 0)
    counts = counts.assign(all=counts.sum(axis=1)).sort_values(["recipe", "all"], ascending=[True, False])
    counts = counts[counts["all"] >= least].astype(int).astype(str).reset_index()
    return format_table(list(counts), counts.to_numpy())


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__, "seeds", "profile")
    for name in ("planets", *ELSEWHERE):
        parser.add_argument(f"--{name}", type=Path, default=FIXTURE, help="folder of class folders")
    parser.add_argument("--out", type=Path, default=Path("runs/robustness"), help="(default: %(default)s)")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="(default: all)")
    options = parser.parse_args(arguments)
    profile, changes = ("fixture", SHORT) if options.profile == "short" else ("full", {})
    rows, classes, mistakes = [], [], []
    sets = {name: find_samples(getattr(options, name)) for name in ELSEWHERE}
    checked = check_samples(find_samples(options.planets))
    groups = audit_samples(checked).set_index("path").group
    for seed in options.seeds:
        samples = split_samples(checked, seed)
        test = samples.split == "test"
        copied = samples.path[test].map(groups).isin(samples.path[~test].map(groups))
        sets["planets"] = samples[test].assign(copied=copied)
        for variant in options.variants:
            run = options.out / variant.replace(", ", "-").replace(" ", "-") / f"seed{seed}"
            chosen = {**VARIANTS[variant], **changes}
            trained, scored = add_renders(samples, sets, seed) if variant in EXTENDED else (samples, sets)
            settings = load_settings(profile, data=options.planets, run=run, seed=seed, **chosen)
            train_variant(variant, settings, trained)
            phases = {variant: "finetune"} | ({"head only": "head"} if variant == "robust" else {})
            for row, phase in phases.items():
                found, by_class, wrong = score_variant(Classifier.load(run / f"{phase}.safetensors"), scored)
                rows.append({"recipe": row, "seed": seed, **found})
                classes.append(by_class.assign(recipe=row, seed=seed))
                mistakes.append(wrong.assign(recipe=row, seed=seed))
            write_table(pd.DataFrame(rows), options.out / "scores.csv")
            write_table(pd.concat(classes), options.out / "classes.csv")
            write_table(pd.concat(mistakes), options.out / "mistakes.csv")
    scores = pd.DataFrame(rows)
    tables = [make_tables(scores), choose_without(scores), count_mistakes(pd.concat(mistakes))]
    print_table("\n".join(tables), options.out / "table.md")


if __name__ == "__main__":
    main()
