"""The command line: its options; `commands` holds what each command does."""

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from planetlib import PlanetlibError, __version__, answers, commands, printable
from planetlib.disk import explain_failure, lock_folder
from planetlib.settings import LEAST, MOST, PROFILES

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
        commands.fetch_data,
        "download the public set of planets (700 pictures, 156 MB); resumable",
        "data",
    )
    fetch.add_argument(
        "--data", type=Path, default=Path("data/planets"), help="folder that receives it (default: %(default)s)"
    )
    check = _add(data, "check", commands.check_data, "open and decode every picture of a folder of class folders")
    check.add_argument("--data", type=Path, required=True, help="folder with one sub-folder for each class")
    check.add_argument("--out", type=Path, help="CSV to write, a row for each file")
    _add_audit(check)
    split = _add(
        data, "split", commands.split_data, "deal pictures into train, val and test: a table, no file is moved"
    )
    split.add_argument("--data", type=Path, required=True, help="folder with one sub-folder for each class")
    split.add_argument("--out", type=Path, required=True, help="samples table to write (CSV)")
    split.add_argument("--seed", type=at_least(0, MOST["seed"]), default=0, help="of the deal (default: %(default)s)")
    _add_audit(split)

    train = _add(groups, "train", commands.train_run, "train both stages, or one, on a folder of class folders", "run")
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
        commands.cross_validate,
        "train and score on k folds: the accuracy on pictures like these",
        "run",
    )
    crossval.add_argument("--data", type=Path, required=True, help="folder with one sub-folder for each class")
    crossval.add_argument("--run", type=Path, required=True, help="folder for tables and a run of each fold; resumable")
    crossval.add_argument("--folds", type=at_least(2), default=5, help="(default: %(default)s)")
    text = "a deal of the folds and a training for each (default: 0 1 2)"
    crossval.add_argument(
        "--seeds", type=at_least(0, MOST["seed"]), nargs="+", default=[0, 1, 2], metavar="SEED", help=text
    )
    _add_training(crossval, [option for option in TRAIN_OPTIONS if option[0] != "seed"])

    evaluate = _add(groups, "evaluate", commands.evaluate_run, "score a run: report, confusion, calibration, figures")
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
        answers.predict_files,
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
    text = f"annotate all, the first {answers.SAMPLE_PICTURES} or none (default: sample)"
    predict.add_argument("--pictures", choices=("all", "sample", "none"), help=text)
    text = "torch, openvino (an extra) or auto: openvino where it is installed and pays (default: auto)"
    predict.add_argument("--runtime", choices=("auto", "torch", "openvino"), default="auto", help=text)
    _add_device(predict)
    batch = at_least(1, MOST["batch_size"])
    predict.add_argument("--batch-size", type=batch, default=32, help="pictures in a step (default: %(default)s)")
    predict.add_argument("--resume", action="store_true", help="go on with what was killed or interrupted in OUT")

    explain = _add(groups, "explain", answers.explain_files, "draw what in a picture speaks for a class")
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
        answers.measure_faithfulness,
        "score the methods for activation maps on a run's test pictures",
    )
    faithful.add_argument("--run", type=Path, required=True, help="run folder or checkpoint file")
    faithful.add_argument("--out", type=Path, help="CSV to write (default: RUN/faithful.csv)")
    _add_device(faithful)

    export = _add(groups, "export", answers.export_run, "write a run as one file for other runtimes (extra onnx)")
    export.add_argument("--run", type=Path, required=True, help="run folder or checkpoint file")
    export.add_argument("--format", choices=("onnx",), default="onnx", help="(default: %(default)s)")
    export.add_argument("--out", type=Path, required=True, help="file to write, such as model.onnx")

    notebooks = _add(groups, "notebooks", commands.run_all_notebooks, "run the five notebooks into HTML reports")
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
        least, most = (bounds.get(name.replace("-", "_")) for bounds in (LEAST, MOST))
        parser.add_argument(f"--{name}", type=kind if least is None else at_least(least, most), help=text)
    parser.set_defaults(settings=[name.replace("-", "_") for name, *_ in options])


def _add(group, name: str, function, text: str, holds: str = "") -> argparse.ArgumentParser:
    """A command; `holds` is the option with the folder that one process at a time may write into."""
    parser = group.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=EXIT_CODES,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.set_defaults(command=function, holds=holds)
    return parser


if __name__ == "__main__":
    sys.exit(main())
