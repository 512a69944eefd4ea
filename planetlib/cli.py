"""The command line: its options; `commands` holds what each command does."""

import argparse
import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from planetlib import PlanetlibError, __version__, list_few, printable
from planetlib.files.whole import explain_failure, lock_folder
from planetlib.settings import CHOICES, PROFILES

EXIT_CODES = """exit codes: 0 done; 1 done, but some inputs could not be read (each is named);
            2 not usable, with one line that says why; 130 interrupted"""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    options = make_parser().parse_args(arguments)
    try:
        with lock_folder(getattr(options, options.holds)) if options.holds else nullcontext():
            return options.command(options)
    except PlanetlibError as error:
        print(f"planetlib: {printable(str(error))}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"planetlib: {printable(explain_failure(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("planetlib: interrupted", file=sys.stderr)
        return 130


def at_least(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of an option that takes a whole number, `least` or more, and `most` or less."""

    def whole_number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"got {value}, expected {least} or more")
        if most is not None and value > most:
            raise argparse.ArgumentTypeError(f"got {value}, expected {most} or less")
        return value

    return whole_number


#: option, type, help: the settings that a person may want to change
TRAIN_OPTIONS = [
    ("backbone", str, "efficientnet_lite0 (default), efficientnet_b3, resnet50 or ensemble"),
    ("weights", str, "imagenet (default) or random"),
    ("head", str, "linear (default) or reference (1024, 512, ReLU, Dropout)"),
    ("recipe", str, "augmentation and what goes with it: robust (default) or reference"),
    ("outliers", int, "drawn pictures of each kind of «none of these» mixed in (default: 60; quick and reference: 0)"),
    ("rendered", int, "rendered pictures mixed into the training of each planet (default: 60; quick and reference: 0)"),
    ("seed", int, "of split, first weights, order and augmentation (default: 0)"),
    ("image-size", int, "side of the square the network sees, pixels (default: the backbone's own)"),
    ("head-epochs", int, "epochs of stage one"),
    ("finetune-epochs", int, "epochs of stage two"),
    ("views", int, "augmented views of each picture, met in turn (default: 4; quick: 2; reference: 0, always new)"),
    ("free-stages", int, "how many of the backbone's last stages stage two frees"),
    ("batch-size", int, "pictures in a step"),
    ("head-lr", float, "peak learning rate of stage one"),
    ("finetune-lr", float, "peak learning rate of stage two"),
    ("precision", str, "auto (default), float32 or bfloat16"),
    ("workers", int, "processes that augment"),
    ("device", str, "auto (default), cpu, cuda, …"),
]


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; builds without importing torch, so that --help is quick."""
    parser = argparse.ArgumentParser(
        prog="planetlib", description="Planet classifier: train, evaluate, predict, explain.", epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"planetlib {__version__}")
    groups = parser.add_subparsers(required=True, metavar="COMMAND")

    data = _add(groups, "data", None, "fetch, check or split pictures").add_subparsers(required=True, metavar="COMMAND")
    fetch = _add(
        data,
        "fetch",
        fetch_data,
        "download the public set of planets (700 pictures, 156 MB); resumable",
        "data",
    )
    fetch.add_argument(
        "--data", type=Path, default=Path("data/planets"), help="folder that receives it (default: %(default)s)"
    )
    check = _add(data, "check", check_data, "open and decode every picture of a folder of class folders")
    check.add_argument("--data", type=Path, required=True, help="folder with one sub-folder for each class")
    check.add_argument("--out", type=Path, help="CSV to write, a row for each file")
    _add_audit(check)
    split = _add(data, "split", split_data, "deal pictures into train, val and test: a table, no file is moved")
    split.add_argument("--data", type=Path, required=True, help="folder with one sub-folder for each class")
    split.add_argument("--out", type=Path, required=True, help="samples table to write (CSV)")
    split.add_argument("--seed", type=at_least(0, 2**32 - 1), default=0, help="of the deal (default: %(default)s)")
    _add_audit(split)

    train = _add(groups, "train", train_run, "train both stages, or one, on a folder of class folders", "run")
    train.add_argument("--data", type=Path, required=True, help="folder with one sub-folder for each class")
    train.add_argument("--run", type=Path, required=True, help="folder that receives checkpoints, history and logs")
    train.add_argument("--stage", choices=("head", "finetune", "both"), default="both", help="(default: %(default)s)")
    again = train.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run that the folder holds")
    again.add_argument("--overwrite", action="store_true", help="start anew, though the folder holds a run")
    _add_training(train, TRAIN_OPTIONS)

    crossval = _add(
        groups,
        "crossval",
        cross_validate,
        "train and score on k folds: the accuracy on pictures like these",
        "run",
    )
    crossval.add_argument("--data", type=Path, required=True, help="folder with one sub-folder for each class")
    crossval.add_argument("--run", type=Path, required=True, help="folder for tables and a run of each fold; resumable")
    crossval.add_argument("--folds", type=at_least(2), default=5, help="(default: %(default)s)")
    text = "a deal of the folds and a training for each (default: 0 1 2)"
    crossval.add_argument(
        "--seeds", type=at_least(0, 2**32 - 1), nargs="+", default=[0, 1, 2], metavar="SEED", help=text
    )
    _add_training(crossval, [option for option in TRAIN_OPTIONS if option[0] != "seed"])

    evaluate = _add(groups, "evaluate", evaluate_run, "score a run: report, confusion, calibration, figures")
    evaluate.add_argument("--run", type=Path, required=True, help="run folder or checkpoint file")
    evaluate.add_argument("--data", type=Path, help="folder of class folders (default: the one it was trained on)")
    text = "the test pictures, or all: for a folder the run has never seen (default: %(default)s)"
    evaluate.add_argument("--split", choices=("test", "all"), default="test", help=text)
    evaluate.add_argument("--out", type=Path, help="folder for the results (default: RUN/evaluation)")
    _add_device(evaluate)
    _add_audit(evaluate)

    predict = _add(
        groups,
        "predict",
        predict_files,
        "predict files and folders of any depth into a CSV and pictures",
        "out",
    )
    text = "with --engine ray also addresses: s3://…, https://…, any that fsspec reads"
    predict.add_argument("inputs", nargs="+", metavar="FILE_OR_FOLDER", help=text)
    predict.add_argument("--run", type=Path, required=True, help="run folder or checkpoint file")
    predict.add_argument(
        "--out", type=Path, required=True, help="folder for predictions.csv, contact_sheet.png, pictures/"
    )
    text = "local (default): this process; ray: worker processes of a Ray cluster, which draw no pictures"
    predict.add_argument("--engine", choices=("local", "ray"), default="local", help=text)
    text = "of the table; parquet with --engine ray alone (default: %(default)s)"
    predict.add_argument("--format", choices=("csv", "parquet"), default="csv", help=text)
    text = "processes of --engine ray (default: one for each GPU of the cluster or, without any, for each CPU)"
    predict.add_argument("--workers", type=at_least(1), help=text)
    text = f"annotate all, the first {SAMPLE_PICTURES} or none (default: sample)"
    predict.add_argument("--pictures", choices=("all", "sample", "none"), help=text)
    text = "torch, openvino (an extra) or auto: openvino where it is installed and pays (default: auto)"
    predict.add_argument("--runtime", choices=("auto", "torch", "openvino"), default="auto", help=text)
    _add_device(predict)
    batch = at_least(1, 65_536)
    predict.add_argument("--batch-size", type=batch, default=32, help="pictures in a step (default: %(default)s)")
    predict.add_argument("--resume", action="store_true", help="go on with what was killed or interrupted in OUT")

    explain = _add(groups, "explain", explain_files, "draw what in a picture speaks for a class")
    explain.add_argument("files", nargs="+", type=Path, metavar="FILE")
    explain.add_argument("--run", type=Path, required=True, help="run folder or checkpoint file")
    explain.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    text = "gradcam (default), gradcam++, hirescam, xgradcam, layercam, elementwise or eigencam"
    explain.add_argument("--method", help=text)
    _add_device(explain)
    explain.add_argument("--class", dest="class_name", help="class to explain (default: the predicted one)")

    faithful = _add(
        groups,
        "faithful",
        measure_faithfulness,
        "score the methods for activation maps on a run's test pictures",
    )
    faithful.add_argument("--run", type=Path, required=True, help="run folder or checkpoint file")
    faithful.add_argument("--out", type=Path, help="CSV to write (default: RUN/faithful.csv)")
    _add_device(faithful)

    export = _add(groups, "export", export_run, "write a run as one file for other runtimes (extra onnx)")
    export.add_argument("--run", type=Path, required=True, help="run folder or checkpoint file")
    export.add_argument("--format", choices=("onnx",), default="onnx", help="(default: %(default)s)")
    export.add_argument("--out", type=Path, required=True, help="file to write, such as model.onnx")

    notebooks = _add(groups, "notebooks", run_all_notebooks, "run the five notebooks into HTML reports")
    notebooks.add_argument("--data", type=Path, help="folder of class folders (default: the embedded rendered planets)")
    notebooks.add_argument("--backbone", help="efficientnet_lite0, efficientnet_b3, resnet50 or ensemble")
    notebooks.add_argument(
        "--out", type=Path, default=Path("reports"), help="folder for the reports (default: %(default)s)"
    )
    notebooks.add_argument(
        "--store", action="store_true", help="also store outputs in the notebooks, and figures in figures/"
    )
    return parser


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="that computes: auto (default), cpu, cuda, …")


def _add_audit(parser: argparse.ArgumentParser) -> None:
    text = "look for copies, also resized, turned or cropped, and keep them on one side of a split (default: on)"
    parser.add_argument("--audit", action=argparse.BooleanOptionalAction, default=True, help=text)


def _add_training(parser: argparse.ArgumentParser, options: list[tuple]) -> None:
    _add_audit(parser)
    text = "set of defaults; quick takes a quarter of the time, for pictures all of one kind (default: %(default)s)"
    parser.add_argument("--profile", choices=PROFILES, default="full", help=text)
    for name, kind, text in options:
        least, most = CHOICES[name.replace("-", "_")].metadata["bounds"]
        parser.add_argument(f"--{name}", type=at_least(least, most) if kind is int else kind, help=text)
    parser.set_defaults(settings=[name.replace("-", "_") for name, *_ in options])


def _add(group, name: str, function, text: str, holds: str = "") -> argparse.ArgumentParser:
    """A command; `holds` is the option with the folder that one process at a time may write into."""
    parser = group.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=EXIT_CODES,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.set_defaults(command=function, holds=holds)
    return parser


if __name__ == "__main__":
    sys.exit(main())


def fetch_data(options) -> int:
    """`planetlib data fetch`"""
    from planetlib.files.download import fetch_planets

    print(f"{options.data}: {fetch_planets(options.data)} pictures downloaded, the set is whole")
    return 0


def check_data(options) -> int:
    """`planetlib data check`"""
    from planetlib.data import find_samples
    from planetlib.files.tables import write_table

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
    from planetlib.study.copies import audit_samples

    return audit_samples(checked)


def _make_table(data: Path, seed: int, out: Path, audit: bool):
    """Writes the samples table of a folder; returns what the check found."""
    from planetlib.data import find_samples, split_samples
    from planetlib.files.tables import write_table

    checked = _check(find_samples(data.resolve()), audit)
    samples = split_samples(checked, seed)
    write_table(samples, out)
    _print_table(samples.groupby(["label", "split"]).size().unstack()[["train", "val", "test"]])
    return checked


def train_run(options) -> int:
    """`planetlib train`, also by several processes under torchrun."""
    from planetlib.batch.processes import is_first, join_processes, wait_for_all
    from planetlib.checkpoint import STAGES
    from planetlib.data import require_same_classes
    from planetlib.files.tables import read_samples
    from planetlib.model import choose_device, choose_precision
    from planetlib.settings import load_settings
    from planetlib.train import train_phase

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
        history = train_phase(stage, settings, samples, options.resume)
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

    from planetlib.data import require_same_classes
    from planetlib.evaluate import evaluate_predictions
    from planetlib.files.tables import read_samples
    from planetlib.settings import load_settings
    from planetlib.study import crossval

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

    from planetlib.classify import Classifier
    from planetlib.data import find_samples, split_samples
    from planetlib.evaluate import evaluate_predictions, undo_temperature, write_evaluation
    from planetlib.files.tables import read_samples
    from planetlib.show.card import add_evaluation
    from planetlib.show.figures import save_evaluation

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
    from planetlib.batch.reports import run_notebooks
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
    from planetlib.study.copies import list_copies

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


SAMPLE_PICTURES = 200


def predict_files(options) -> int:
    """`planetlib predict`"""
    if options.engine == "ray":
        return _predict_on_ray(options)
    if options.format != "csv" or options.workers:
        given = f"--format {options.format}" if options.format != "csv" else "--workers"
        raise PlanetlibError(f"{given} comes with --engine ray; without it the table is CSV, made by one process")
    import pandas as pd

    from planetlib.batch.resume import predict_resumably
    from planetlib.checkpoint import Checkpoint, find_checkpoint
    from planetlib.classify import Classifier, gather_inputs
    from planetlib.data import progress_bar
    from planetlib.show.sheets import draw_predictions

    checkpoint, out = Checkpoint.load(find_checkpoint(options.run)), options.out / "predictions.csv"
    pairs = gather_inputs(options.inputs, checkpoint.class_names)
    classifier = Classifier(checkpoint, options.device, runtime=options.runtime, expected=len(pairs))
    wanted = {"all": len(pairs), "sample": SAMPLE_PICTURES, "none": 0}[options.pictures or "sample"]
    tables, left, code, done = [], wanted, 0, 0
    try:
        with progress_bar(desc="predicting", total=len(pairs), unit="image") as bar:
            for table in predict_resumably(classifier, pairs, out, options.batch_size, options.resume):
                done += len(table)
                bar.update(len(table))
                code = max(code, report_unreadable(table))
                if left > 0:
                    tables.append(table.head(left))
                    left -= len(table)
    except KeyboardInterrupt:
        print(f"Interrupted after {done} of {len(pairs)} pictures; their rows are in {out}.part. Predict with "
              "--resume to go on.", file=sys.stderr)  # fmt: skip
        return 130
    print(f"{len(pairs)} pictures predicted: {out}")
    if wanted:
        draw_predictions(pd.concat(tables, ignore_index=True), options.out)
        print(f"{min(wanted, len(pairs))} of them drawn: {options.out / 'pictures'}, "
              f"{options.out / 'contact_sheet.png'}")  # fmt: skip
    return code


def _predict_on_ray(options) -> int:
    from planetlib.batch.on_ray import predict_places

    if options.resume or options.pictures not in (None, "none"):
        given = "--resume" if options.resume else f"--pictures {options.pictures}"
        raise PlanetlibError(f"{given} does not go with --engine ray, which starts anew and draws no pictures")
    choices = {name: getattr(options, name) for name in ("batch_size", "workers", "device", "runtime")}
    out, count, code = options.out / f"predictions.{options.format}", 0, 0
    for table in predict_places(options.run, options.inputs, out, **choices):
        count, code = count + len(table), max(code, report_unreadable(table))
    print(f"{count} pictures predicted: {out}")
    return code


def explain_files(options) -> int:
    """`planetlib explain`"""
    from planetlib.classify import Classifier
    from planetlib.explain import DEFAULT_METHOD, map_activation, overlay_map
    from planetlib.files.read import UnreadableImage
    from planetlib.images import read_image
    from planetlib.show.figures import save_figure, show_maps
    from planetlib.show.sheets import describe_prediction, name_picture

    classifier = Classifier.load(options.run, device=options.device)
    method, code = options.method or DEFAULT_METHOD, 0
    for index, path in enumerate(options.files):
        try:
            picture = read_image(path)
        except UnreadableImage as error:
            print(f"planetlib: {printable(str(error))}", file=sys.stderr)
            code = 1
            continue
        row = next(classifier.predict([path], progress=False).itertuples())
        name = options.class_name or row.predicted
        overlay = overlay_map(picture, map_activation(classifier, picture, name, method))
        figure = show_maps([("", [picture, overlay], [describe_prediction(row)[0], f"{name}, {method}"])], 4)
        print(save_figure(figure, options.out / f"{name_picture(index, path, name, method)}.png"))
    return code


def measure_faithfulness(options) -> int:
    """`planetlib faithful`"""
    from planetlib.classify import Classifier
    from planetlib.files.tables import read_samples, write_table
    from planetlib.study.faithful import compare_methods

    run = options.run.parent if options.run.is_file() else options.run
    classifier, samples = Classifier.load(options.run, device=options.device), read_samples(run / "samples.csv")
    paths = samples.path[samples.split == "test"]
    table = compare_methods(classifier, paths)
    print(table.round(3).to_string())
    print(
        f"{len(paths)} test pictures; a map that is the same everywhere has on_planet {table.attrs['planet_area']:.3f}"
    )
    out = options.out or run / "faithful.csv"
    write_table(table.reset_index(), out)
    print(f"written to {out}")
    return 0


def export_run(options) -> int:
    """`planetlib export`"""
    from planetlib.batch.export import export_checkpoint
    from planetlib.checkpoint import Checkpoint, find_checkpoint

    path = export_checkpoint(Checkpoint.load(find_checkpoint(options.run)), options.out, options.format)
    print(f"written to {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0
