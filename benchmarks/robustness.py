"""What each part of the robust recipe is worth, on pictures of other kinds than those it was trained on.

    python -m benchmarks.robustness --planets PLANETS --renders RENDERS --photos PHOTOS --out runs/robustness

trains every variant with seeds 0–2 on the training split of PLANETS alone (about four minutes each on two free cores)
and scores the test split of PLANETS, all of RENDERS and all of PHOTOS; where their classes are not those of PLANETS
they count as unknowns: area under the ROC curve on both, and the share that is let through where 95 % of the known
photographs are accepted. The split is one at random, as the reference's; a column leaves out test pictures that have a
copy on the other side, by the audit of `planetlib data check`. It prints the table, means over the seeds and half their
range, and writes it as `table.md`, and every single figure as `scores.csv`. A run that is there already is gone on
with, so what was interrupted is not lost. `--profile short` shows in a minute that it works, on the embedded pictures;
its figures mean nothing.
"""

import argparse
from pathlib import Path

import pandas as pd
from sklearn.metrics import roc_auc_score

from benchmarks.trainers import SHORT
from planetlib.classify import Classifier
from planetlib.data import check_samples, find_samples, split_samples
from planetlib.evaluate import evaluate_predictions, find_strangers
from planetlib.files.tables import write_table
from planetlib.settings import FIXTURE, Settings, load_settings
from planetlib.study.copies import audit_samples
from planetlib.train import train_phase

#: row → what differs from the default settings
TRAINED = {
    "robust": {},
    "no outliers": {"outliers": 0},
    "no rendered planets": {"rendered": 0},
    "no augmentation": {"strength": 0.0},
    "no label smoothing": {"label_smoothing": 0.0},
    # Of its 15 and 85 epochs 5 and 25, ten minutes for a seed; after those it is right on its own split.
    "reference": {"recipe": "reference", "head_epochs": 5, "finetune_epochs": 25},
}
#: row → what differs; trained on the training split of RENDERS as well, whose own column is then of its test split
EXTENDED = {"robust, trained on renders too": {}}
#: row → file of the run of "robust" it reads
DERIVED = {"head only": "head.pt"}


def train_variant(settings: Settings, samples: pd.DataFrame) -> None:
    write_table(samples, settings.run / "samples.csv")
    for stage in ("head", "finetune"):
        train_phase(stage, settings, samples, resume=True)


def add_renders(
    samples: pd.DataFrame, sets: dict[str, pd.DataFrame], seed: int
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """The samples with those of RENDERS beside them, and the sets without what is then trained on."""
    known = sets["renders"].label.isin(samples.label)
    dealt = split_samples(check_samples(sets["renders"][known]), seed)
    held_out = pd.concat([dealt[dealt.split == "test"], sets["renders"][~known]])
    return pd.concat([samples, dealt], ignore_index=True), {**sets, "renders": held_out}


def score_variant(classifier: Classifier, sets: dict[str, pd.DataFrame]) -> dict[str, float]:
    """The figures of one row and seed, in per cent, save for the confidence."""
    predictions = {name: classifier.predict(samples.path, samples.label) for name, samples in sets.items()}
    found = {name: evaluate_predictions(table) for name, table in predictions.items()}
    alone = predictions["planets"][~sets["planets"].copied.to_numpy()]
    scores = {"planets, test": 100 * found["planets"].summary["accuracy"]}
    scores["planets, without copies"] = 100 * (alone.predicted == alone.label).mean()
    for name in ("renders", "photos"):
        scores[f"{name}, balanced"] = 100 * found[name].summary["balanced_accuracy"]
        scores[f"{name}, uranus"] = 100 * found[name].by_class.accuracy.get("uranus", float("nan"))
    for name in ("planets", "photos"):
        scores[f"{name}, calibration error"] = 100 * found[name].summary["calibration_error"]
    scores["photos, confidence when wrong"] = found["photos"].summary["mean_confidence_when_wrong"]
    return scores | score_unknown_kinds(
        pd.concat([predictions["renders"], predictions["photos"]]), predictions["photos"]
    )


def score_unknown_kinds(both: pd.DataFrame, photos: pd.DataFrame) -> dict[str, float]:
    """How well unknowns are told, in per cent: by their score or, of a recipe without outliers, by low confidence."""
    trained = not both.unknown_score.isna().any()

    def rate(table: pd.DataFrame) -> pd.Series:
        return table.unknown_score if trained else 1 - table.confidence

    foreign = find_strangers(both)
    if not foreign.any():
        return {"unknowns, AUROC": float("nan"), "unknowns, let through": float("nan")}
    threshold = rate(photos[~find_strangers(photos)]).quantile(0.95)
    return {
        "unknowns, AUROC": 100 * roc_auc_score(foreign, rate(both)),
        "unknowns, let through": 100 * (rate(both)[foreign] <= threshold).mean(),
    }


def make_table(scores: pd.DataFrame, row: str = "recipe") -> str:
    """Markdown: a line for each value of the column `row`; the mean over seeds ± half the range."""
    columns = [name for name in scores.columns if name not in (row, "seed")]
    lines = [[row, *columns], ["---"] * (len(columns) + 1)]
    for first, part in scores.groupby(row, sort=False):
        middle, spread = part[columns].mean(), (part[columns].max() - part[columns].min()) / 2
        digits = {name: 2 if "confidence" in name or "value" in name else 1 for name in columns}
        lines.append([first, *(f"{middle[n]:.{digits[n]}f} ± {spread[n]:.{digits[n]}f}" for n in columns)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("planets", "renders", "photos"):
        parser.add_argument(f"--{name}", type=Path, default=FIXTURE, help="folder of class folders")
    parser.add_argument("--out", type=Path, default=Path("runs/robustness"), help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default: 0 1 2)")
    parser.add_argument("--variants", nargs="+", choices=TRAINED | EXTENDED, default=list(TRAINED | EXTENDED))
    parser.add_argument("--profile", choices=("full", "short"), default="full", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    profile, changes = ("fixture", SHORT) if options.profile == "short" else ("full", {})
    rows = []
    sets = {name: find_samples(getattr(options, name)) for name in ("renders", "photos")}
    checked = check_samples(find_samples(options.planets))
    groups = audit_samples(checked).set_index("path").group
    for seed in options.seeds:
        samples = split_samples(checked, seed)
        test = samples.split == "test"
        copied = samples.path[test].map(groups).isin(samples.path[~test].map(groups))
        sets["planets"] = samples[test].assign(copied=copied)
        for variant in options.variants:
            run = options.out / variant.replace(", ", "-").replace(" ", "-") / f"seed{seed}"
            chosen = {**(TRAINED | EXTENDED)[variant], **changes}
            trained, scored = add_renders(samples, sets, seed) if variant in EXTENDED else (samples, sets)
            train_variant(load_settings(profile, data=options.planets, run=run, seed=seed, **chosen), trained)
            for row in (variant, *DERIVED) if variant == "robust" else (variant,):
                classifier = Classifier.load(run / DERIVED.get(row, "finetune.pt"))
                rows.append({"recipe": row, "seed": seed, **score_variant(classifier, scored)})
            write_table(pd.DataFrame(rows), options.out / "scores.csv")
    table = make_table(pd.DataFrame(rows))
    (options.out / "table.md").write_text(table, encoding="utf-8")
    print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
