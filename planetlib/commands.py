"""What each command of the command line does: thin over the library, of which each imports what it needs.

A command takes the parsed options and returns its exit code.
"""

import math
import sys
from pathlib import Path

from planetlib import PlanetlibError, list_few, printable


def fetch_data(options) -> int:
    """`planetlib data fetch`"""
    from planetlib.fetch import fetch_planets

    print(f"{options.data}: {fetch_planets(options.data)} pictures downloaded, the set is whole")
    return 0


def check_data(options) -> int:
    """`planetlib data check`"""
    from planetlib.data import find_samples
    from planetlib.tables import write_table

    checked = _check(find_samples(options.data), options.audit)
    _print_table(checked.groupby("label").status.value_counts().unstack(fill_value=0))
    code = _report_copies(checked) if options.audit else 0
    if options.out:
        write_table(checked, options.out)
    return max(code, report_unreadable(checked))


def split_data(options) -> int:
    """`planetlib data split`"""
    return report_unreadable(_make_table(options.data, options.seed, options.out, options.audit))


def _check(samples, audit: bool):
    """Opens every file; with the audit the table also has `group`."""
    from planetlib.data import check_samples

    checked = check_samples(samples)
    if not audit:
        return checked
    from planetlib.audit import audit_samples

    return audit_samples(checked)


def _make_table(data: Path, seed: int, out: Path, audit: bool):
    """Writes the samples table of a folder; returns what the check found."""
    from planetlib.data import find_samples, split_samples
    from planetlib.tables import write_table

    checked = _check(find_samples(data.resolve()), audit)
    samples = split_samples(checked, seed)
    write_table(samples, out)
    _print_table(samples.groupby(["label", "split"]).size().unstack()[["train", "val", "test"]])
    return checked


def train_run(options) -> int:
    """`planetlib train`, also by several processes under torchrun."""
    from planetlib.checkpoint import STAGES
    from planetlib.data import require_same_classes
    from planetlib.distributed import is_first, join_processes, wait_for_all
    from planetlib.model import choose_device, choose_precision
    from planetlib.settings import load_settings
    from planetlib.tables import read_samples
    from planetlib.train import train_stage

    join_processes()
    changes = {name: getattr(options, name) for name in options.settings if getattr(options, name) is not None}
    settings = load_settings(options.profile, data=options.data, run=options.run, **changes)
    if is_first():
        device = choose_device(settings.device)
        print(f"computing on {device}, frozen stages in {choose_precision(settings.precision, device)}, channels last")
    stages = STAGES if options.stage == "both" else (options.stage,)
    table = settings.run / "samples.csv"
    if not options.resume and not options.overwrite and (settings.run / f"{stages[0]}_state.pt").exists():
        raise PlanetlibError(f"{settings.run}: holds a run; --resume goes on with it, --overwrite starts anew")
    code = 0
    if is_first() and (options.overwrite or not table.exists()):
        code = report_unreadable(_make_table(settings.data, settings.seed, table, options.audit))
    wait_for_all()
    samples = read_samples(table)
    require_same_classes(settings.data, table)
    for stage in stages:
        history = train_stage(stage, settings, samples, options.resume)
        if history.attrs.get("interrupted"):
            return 130
        part = history[history.stage == stage]
        best = part.loc[part.val_loss.idxmin()]
        if best.val_loss > 10 * (even := math.log(samples.label.nunique())):  # has diverged, not just learnt little
            print(f"{stage}: got the validation loss {best.val_loss:.3g}, expected {even:.3g} or less, that of an even "
                  f"guess: lower --{stage}-lr, now {getattr(settings, f'{stage}_lr')}", file=sys.stderr)  # fmt: skip
        print(f"{stage}: epoch {best.epoch:.0f} of {len(part)} kept, validation accuracy {best.val_accuracy:.2%} "
              f"({settings.run / stage}.pt)")  # fmt: skip
    return code


def cross_validate(options) -> int:
    """`planetlib crossval`"""
    import pandas as pd

    from planetlib import crossval
    from planetlib.data import require_same_classes
    from planetlib.evaluate import evaluate_predictions
    from planetlib.settings import load_settings
    from planetlib.tables import read_samples

    changes = {name: getattr(options, name) for name in options.settings if getattr(options, name) is not None}
    settings = load_settings(options.profile, data=options.data, run=options.run, **changes)
    table, code = settings.run / "samples.csv", 0
    if not table.exists():
        code = report_unreadable(_make_table(settings.data, settings.seed, table, options.audit))
    samples = read_samples(table)
    require_same_classes(settings.data, table)
    scores, predictions = crossval.cross_validate(settings, samples, options.folds, options.seeds)
    print(scores.round(4).to_string(index=False))
    by_seed = pd.DataFrame({seed: evaluate_predictions(rows).summary for seed, rows in predictions.groupby("seed")}).T
    by_seed = by_seed[["accuracy", "calibration_error", "mean_confidence_when_wrong", "called_unknown"]].astype(float)
    print(by_seed.rename_axis("seed").reset_index().round(4).to_string(index=False, na_rep=""))
    found = crossval.summarize_scores(scores)
    print(f"accuracy {found['accuracy']:.2%}, 95 % Wilson interval {found['low']:.2%} to {found['high']:.2%} "
          f"({found['images']} images; folds are not independent, so take it as a guide); seeds' means "
          f"from {found['seed_low']:.2%} to {found['seed_high']:.2%}")  # fmt: skip
    print(f"balanced accuracy {found['balanced_accuracy']:.2%}, mean of folds")
    print(f"written to {settings.run / 'crossval.csv'} and {settings.run / 'crossval_predictions.csv'}")
    return code


def evaluate_run(options) -> int:
    """`planetlib evaluate`"""
    import pandas as pd

    from planetlib.card import add_evaluation
    from planetlib.classify import Classifier
    from planetlib.data import find_samples, split_samples
    from planetlib.evaluate import evaluate_predictions, undo_temperature, write_evaluation
    from planetlib.figures import save_evaluation
    from planetlib.tables import read_samples

    classifier, code = Classifier.load(options.run, device=options.device), 0
    run = options.run.parent if options.run.is_file() else options.run
    samples = read_samples(run / "samples.csv") if options.data is None else find_samples(options.data)
    foreign = ~samples.label.isin(classifier.class_names)
    if foreign.all():
        raise PlanetlibError(
            f"{options.data or run}: got the classes {list_few(samples.label)}; expected some of the run's: "
            f"{list_few(classifier.class_names)}; give a folder of those, or the run of these"
        )
    unknowns, samples = samples[foreign], samples[~foreign]
    if options.split == "test" and options.data is not None:
        checked = _check(samples, options.audit)
        code = report_unreadable(checked)
        samples = split_samples(checked, classifier.checkpoint.recipe["seed"])
    samples = samples[samples.split == "test"] if options.split == "test" else samples
    samples = pd.concat([samples, unknowns])  # of these it has seen none, so all of them are test pictures
    predictions = classifier.predict(samples.path, samples.label)
    evaluation = evaluate_predictions(predictions)
    uncalibrated = evaluate_predictions(undo_temperature(predictions, classifier.checkpoint.temperature))
    out = options.out or run / "evaluation"
    write_evaluation(evaluation, predictions, out)
    save_evaluation(evaluation, predictions, out, uncalibrated, classifier.checkpoint.unknown_threshold)
    if options.run.is_dir():  # the card is that of the folder's last stage; a file may be of an earlier one
        name = f"{options.split} pictures" + (f" of {options.data.resolve().name}" if options.data else "")
        add_evaluation(run, name, evaluation, uncalibrated)
    _print_table(evaluation.by_class.round(3))
    if len(unknowns):
        print(f"counted as unknowns: {printable(', '.join(sorted(unknowns.label.unique())))}")
    print(*(f"{name}: {value:.4g}" for name, value in evaluation.summary.items() if value is not None), sep="\n")
    print(f"calibration_error_at_temperature_1: {uncalibrated.summary['calibration_error']:.4g}")
    print(f"written to {out}")
    return max(code, report_unreadable(predictions))


def run_all_notebooks(options) -> int:
    """`planetlib notebooks`"""
    from planetlib.notebooks import run_notebooks
    from planetlib.settings import PROJECT, load_settings

    environment = {
        "PLANETLIB_DATA": options.data and str(options.data.resolve()),
        "PLANETLIB_BACKBONE": options.backbone,
        "PLANETLIB_FIGURES": str(PROJECT / "figures") if options.store else None,
    }
    environment = {name: value for name, value in environment.items() if value}
    reports = run_notebooks(options.out, environment, in_place=options.store)
    run = load_settings(data=options.data).run
    print(*reports, sep="\n")
    print(f"checkpoints, evaluation, maps and predictions: {run}")
    return 0


def _print_table(table) -> None:
    """Prints a table of classes, whose names are those of folders."""
    print(table.rename(index=printable).to_string())


def _report_copies(audited) -> int:
    """Lists the groups of copies, and on stderr those whose labels differ; returns the exit code."""
    from planetlib.audit import list_copies

    copies = list_copies(audited)
    print(f"{len(copies)} pictures have copies, in {copies.group.nunique()} groups")
    for group, part in copies.groupby("group"):
        print(f"group {group}: {printable(', '.join(part.path))}")
        if part.conflict.any():
            named = ", ".join(f"{row.path} ({row.label})" for row in part.itertuples())
            print(f"label conflict: copies with different labels: {printable(named)}", file=sys.stderr)
    return 1 if copies.conflict.any() else 0


def report_unreadable(table) -> int:
    """Names the unreadable files of a table on stderr; returns the exit code."""
    unreadable = table[table.status == "unreadable"]
    for row in unreadable.itertuples():
        print(printable(f"unreadable: {row.path}: {row.error}"), file=sys.stderr)
    return 1 if len(unreadable) else 0
