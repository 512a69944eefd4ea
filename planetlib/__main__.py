"""The command line: thin over the library, which is imported by the command that needs it."""

import argparse
import sys
from pathlib import Path

from planetlib import PlanetlibError, __version__

EXIT_CODES = """exit codes: 0 done; 1 done, but some inputs could not be read (each is named);
            2 not usable, with one line that says why"""
SAMPLE_PICTURES = 200


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    options = make_parser().parse_args(arguments)
    try:
        return options.command(options)
    except (PlanetlibError, OSError) as error:
        print(f"planetlib: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("planetlib: interrupted", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; builds without importing torch, so that --help is quick."""
    parser = argparse.ArgumentParser(
        prog="planetlib", description="Planet classifier: train, evaluate, predict, explain.", epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"planetlib {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    data = commands.add_parser("data", help="fetch, check or split pictures").add_subparsers(required=True, metavar="COMMAND")
    fetch = _add(data, "fetch", fetch_data, "download the public set of planets (700 pictures, 156 MB); resumable")
    fetch.add_argument("--data", type=Path, default=Path("data/planets"), help="folder that receives it (default: %(default)s)")
    check = _add(data, "check", check_data, "open and decode every picture of a folder of class folders")
    check.add_argument("--data", type=Path, required=True, help="folder with one sub-folder for each class")
    check.add_argument("--out", type=Path, help="CSV to write, a row for each file")
    split = _add(data, "split", split_data, "deal pictures into train, val and test: a table, no file is moved")
    split.add_argument("--data", type=Path, required=True, help="folder with one sub-folder for each class")
    split.add_argument("--out", type=Path, required=True, help="samples table to write (CSV)")
    split.add_argument("--seed", type=int, default=0, help="of the deal (default: %(default)s)")

    train = _add(commands, "train", train_run, "train both stages, or one, on a folder of class folders")
    train.add_argument("--data", type=Path, required=True, help="folder with one sub-folder for each class")
    train.add_argument("--run", type=Path, required=True, help="folder that receives checkpoints, history and logs")
    train.add_argument("--stage", choices=("head", "finetune", "both"), default="both", help="(default: %(default)s)")
    again = train.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the run that the folder holds")
    again.add_argument("--overwrite", action="store_true", help="start anew, though the folder holds a run")
    train.add_argument("--profile", choices=("full", "fixture"), default="full", help="set of defaults (default: %(default)s)")
    for name, kind, text in TRAIN_OPTIONS:
        train.add_argument(f"--{name}", type=kind, help=text, default=argparse.SUPPRESS)

    evaluate = _add(commands, "evaluate", evaluate_run, "score a run: report, confusion, calibration, figures")
    evaluate.add_argument("--run", type=Path, required=True, help="run folder or checkpoint file")
    evaluate.add_argument("--data", type=Path, help="folder of class folders (default: the one it was trained on)")
    evaluate.add_argument("--split", choices=("test", "all"), default="test",
                          help="the test pictures, or all: for a folder the run has never seen (default: %(default)s)")  # fmt: skip
    evaluate.add_argument("--out", type=Path, help="folder for the results (default: RUN/evaluation)")

    predict = _add(commands, "predict", predict_files, "predict files and folders of any depth into a CSV and pictures")
    predict.add_argument("inputs", nargs="+", type=Path, metavar="FILE_OR_FOLDER")
    predict.add_argument("--run", type=Path, required=True, help="run folder or checkpoint file")
    predict.add_argument("--out", type=Path, required=True, help="folder for predictions.csv, contact_sheet.png, pictures/")
    predict.add_argument("--pictures", choices=("all", "sample", "none"), default="sample",
                         help=f"annotate all, the first {SAMPLE_PICTURES} or none (default: %(default)s)")  # fmt: skip
    predict.add_argument("--batch-size", type=int, default=32, help="pictures in a step (default: %(default)s)")

    explain = _add(commands, "explain", explain_files, "draw what in a picture speaks for a class")
    explain.add_argument("files", nargs="+", type=Path, metavar="FILE")
    explain.add_argument("--run", type=Path, required=True, help="run folder or checkpoint file")
    explain.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    explain.add_argument("--method", default="gradcam",
                         help="gradcam, gradcam++, hirescam, xgradcam, layercam, elementwise, eigencam (default: %(default)s)")  # fmt: skip
    explain.add_argument("--class", dest="class_name", help="class to explain (default: the predicted one)")

    notebooks = _add(commands, "notebooks", run_all_notebooks, "run the five notebooks into HTML reports")
    notebooks.add_argument("--data", type=Path, help="folder of class folders (default: the embedded rendered planets)")
    notebooks.add_argument("--backbone", help="efficientnet_lite0, efficientnet_b3, resnet50 or ensemble")
    notebooks.add_argument("--out", type=Path, default=Path("reports"), help="folder for the reports (default: %(default)s)")
    notebooks.add_argument("--store", action="store_true", help="also store outputs in the notebooks, and figures in figures/")
    return parser


TRAIN_OPTIONS = [
    ("backbone", str, "efficientnet_lite0 (default), efficientnet_b3, resnet50 or ensemble"),
    ("weights", str, "imagenet (default) or random"),
    ("head", str, "linear (default) or reference (1024, 512, ReLU, Dropout)"),
    ("recipe", str, "augmentation: robust (default) or reference"),
    ("seed", int, "of split, first weights, order and augmentation (default: 0)"),
    ("image-size", int, "side of the square the network sees, pixels (default: the backbone's own)"),
    ("head-epochs", int, "epochs of stage one"),
    ("finetune-epochs", int, "epochs of stage two"),
    ("free-stages", int, "how many of the backbone's last stages stage two frees"),
    ("batch-size", int, "pictures in a step"),
    ("precision", str, "auto (default), float32 or bfloat16"),
    ("workers", int, "processes that augment"),
    ("device", str, "auto (default), cpu, cuda, …"),
]


def _add(commands, name: str, function, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=EXIT_CODES,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.set_defaults(command=function)
    return parser


def fetch_data(options) -> int:
    """`planetlib data fetch`"""
    from planetlib.fetch import fetch_planets

    count = fetch_planets(options.data)
    print(f"{options.data}: {count} pictures downloaded, the set is whole")
    return 0


def check_data(options) -> int:
    """`planetlib data check`"""
    from planetlib.data import check_samples, find_samples, write_table

    checked = check_samples(find_samples(options.data))
    print(checked.groupby("label").status.value_counts().unstack(fill_value=0).to_string())
    if options.out:
        write_table(checked, options.out)
    return _report_unreadable(checked)


def split_data(options) -> int:
    """`planetlib data split`"""
    return _report_unreadable(_make_table(options.data, options.seed, options.out))


def _make_table(data: Path, seed: int, out: Path):
    """Writes the samples table of a folder; returns what the check found."""
    from planetlib.data import check_samples, find_samples, split_samples, write_table

    checked = check_samples(find_samples(data.resolve()))
    samples = split_samples(checked, seed)
    write_table(samples, out)
    print(samples.groupby(["label", "split"]).size().unstack()[["train", "val", "test"]].to_string())
    return checked


def train_run(options) -> int:
    """`planetlib train`"""
    from planetlib.checkpoint import STAGES
    from planetlib.data import read_samples
    from planetlib.settings import load_settings
    from planetlib.train import train_stage

    names = [name.replace("-", "_") for name, *_ in TRAIN_OPTIONS]
    changes = {name: getattr(options, name) for name in names if hasattr(options, name)}
    settings = load_settings(options.profile, data=options.data, run=options.run, **changes)
    stages = STAGES if options.stage == "both" else (options.stage,)
    table = settings.run / "samples.csv"
    if not options.resume and not options.overwrite and (settings.run / f"{stages[0]}_state.pt").exists():
        raise PlanetlibError(f"{settings.run}: holds a run; --resume goes on with it, --overwrite starts anew")
    code = 0
    if "head" in stages and not (options.resume and table.exists()):
        code = _report_unreadable(_make_table(settings.data, settings.seed, table))
    for stage in stages:
        history = train_stage(stage, settings, read_samples(table), options.resume)
        if history.attrs.get("interrupted"):
            return 130
        part = history[history.stage == stage]
        best = part.loc[part.val_loss.idxmin()]
        print(f"{stage}: epoch {best.epoch:.0f} of {len(part)} kept, validation accuracy {best.val_accuracy:.2%} "
              f"({settings.run / stage}.pt)")  # fmt: skip
    return code


def evaluate_run(options) -> int:
    """`planetlib evaluate`"""
    from planetlib.classify import Classifier
    from planetlib.data import find_samples, make_samples, read_samples
    from planetlib.evaluate import evaluate_predictions, write_evaluation
    from planetlib.figures import save_evaluation

    classifier = Classifier.load(options.run)
    run = options.run.parent if options.run.is_file() else options.run
    if options.data is None:
        samples = read_samples(run / "samples.csv")
    elif options.split == "all":
        samples = find_samples(options.data)
    else:
        samples = make_samples(options.data, classifier.checkpoint.recipe["seed"])
    if options.split != "all":
        samples = samples[samples.split == options.split]
    foreign = ~samples.label.isin(classifier.class_names)
    if foreign.any():
        print(f"left out, none of the run's classes: {', '.join(sorted(samples.label[foreign].unique()))}", file=sys.stderr)
        samples = samples[~foreign]
    predictions = classifier.predict(samples.path, samples.label)
    evaluation = evaluate_predictions(predictions)
    out = options.out or run / "evaluation"
    write_evaluation(evaluation, predictions, out)
    save_evaluation(evaluation, predictions, out)
    print(evaluation.by_class.round(3).to_string())
    print(*(f"{name}: {value:.4g}" for name, value in evaluation.summary.items() if value is not None), sep="\n")
    print(f"written to {out}")
    return _report_unreadable(predictions)


def predict_files(options) -> int:
    """`planetlib predict`"""
    import pandas as pd
    from planetlib.classify import Classifier, gather_inputs, write_predictions
    from planetlib.data import progress_bar
    from planetlib.figures import annotate_picture, make_contact_sheet

    classifier = Classifier.load(options.run)
    pairs = gather_inputs(options.inputs, classifier.class_names)
    wanted = {"all": len(pairs), "sample": SAMPLE_PICTURES, "none": 0}[options.pictures]
    tables, code = [], 0
    with progress_bar(desc="predicting", total=len(pairs), unit="image") as bar:
        for table in write_predictions(classifier.stream(pairs, options.batch_size), options.out / "predictions.csv"):
            bar.update(len(table))
            code = max(code, _report_unreadable(table))
            if bar.n - len(table) < wanted:
                tables.append(table)
    print(f"{len(pairs)} pictures predicted: {options.out / 'predictions.csv'}")
    if wanted:
        shown = pd.concat(tables, ignore_index=True).head(wanted)
        (options.out / "pictures").mkdir(exist_ok=True)
        for row in progress_bar(shown.itertuples(), desc="drawing", total=len(shown), unit="image"):
            annotate_picture(row).save(options.out / "pictures" / f"{row.Index:06d}_{Path(row.path).stem}.jpg", quality=90)
        make_contact_sheet(shown).save(options.out / "contact_sheet.png")
        print(f"{len(shown)} of them drawn: {options.out / 'pictures'}, {options.out / 'contact_sheet.png'}")
    return code


def explain_files(options) -> int:
    """`planetlib explain`"""
    from planetlib.classify import Classifier
    from planetlib.explain import map_activation, overlay_map
    from planetlib.figures import describe_prediction, save_figure, show_maps
    from planetlib.images import UnreadableImage, read_image

    classifier, code = Classifier.load(options.run), 0
    for path in options.files:
        try:
            picture = read_image(path)
        except UnreadableImage as error:
            print(f"planetlib: {error}", file=sys.stderr)
            code = 1
            continue
        row = next(classifier.predict([path], progress=False).itertuples())
        name = options.class_name or row.predicted
        overlay = overlay_map(picture, map_activation(classifier, picture, name, options.method))
        figure = show_maps([("", [picture, overlay], [describe_prediction(row)[0], f"{name}, {options.method}"])], 4)
        print(save_figure(figure, options.out / f"{path.stem}_{name}_{options.method}.png"))
    return code


def run_all_notebooks(options) -> int:
    """`planetlib notebooks`"""
    from planetlib.notebooks import run_notebooks
    from planetlib.settings import PROJECT, load_settings

    environment = {}
    if options.data:
        environment["PLANETLIB_DATA"] = str(options.data.resolve())
    if options.backbone:
        environment["PLANETLIB_BACKBONE"] = options.backbone
    if options.store:
        environment["PLANETLIB_FIGURES"] = str(PROJECT / "figures")
    reports = run_notebooks(options.out, environment, in_place=options.store)
    run = load_settings(data=options.data).run
    print(*reports, sep="\n")
    print(f"checkpoints, evaluation, maps and predictions: {run}")
    return 0


def _report_unreadable(table) -> int:
    """Names the unreadable files of a table on stderr; returns the exit code."""
    unreadable = table[table.status == "unreadable"]
    for row in unreadable.itertuples():
        print(f"unreadable: {row.path}: {row.error}", file=sys.stderr)
    return 1 if len(unreadable) else 0


if __name__ == "__main__":
    sys.exit(main())
