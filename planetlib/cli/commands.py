"""What each command does, with its options above it.

A command is called what its function is called, and takes the parsed options to its exit code. What it needs it imports
itself, so that --help is quick.
"""

import sys
from pathlib import Path

from planetlib import PlanetlibError, printable
from planetlib.cli.options import AUDIT, BATCH, DATA, DEVICE, RUN, SEED, TRAINING, choice, command, number, option
from planetlib.cli.runs import (
    check_pictures,
    leave_out_learnt,
    make_samples,
    make_settings,
    read_folder_samples,
    require_nothing_lost,
    run_folder,
)
from planetlib.cli.says import print_table, report_copies, report_phase, report_unreadable, say_count
from planetlib.settings import load_settings

ANSWERS = option("--out", type=Path, default=Path("answers"), help="folder that receives them")
SAMPLE_PICTURES = 200
SHOWN = 20  # pictures whose answers are printed


@command(option("--data", type=Path, default=Path("data/planets"), help="folder that receives it"), holds="data")
def data_fetch(options) -> int:
    """Download the public set of planets (700 pictures, 156 MB); resumable."""
    from planetlib.files.download import fetch_planets

    print(f"{options.data}: {say_count(fetch_planets(options.data))} downloaded, the set is whole")
    return 0


@command(DATA, option("--out", type=Path, help="CSV to write, a row for each file"), AUDIT)
def data_check(options) -> int:
    """Open and decode every picture of a folder of class folders, and look for copies."""
    from planetlib.data import find_samples
    from planetlib.files.tables import write_table

    checked = check_pictures(find_samples(options.data), options.audit)
    print_table(checked.groupby("label").status.value_counts().unstack(fill_value=0))
    code = report_copies(checked) if options.audit else 0
    if options.out:
        write_table(checked, options.out)
    return max(code, report_unreadable(checked))


@command(
    DATA,
    option("--out", type=Path, required=True, help="samples table to write (CSV)"),
    choice("seed"),
    choice("test_share"),
    AUDIT,
)
def data_split(options) -> int:
    """Deal pictures into train, val and test: a table, no file is moved."""
    settings = load_settings(data=options.data, seed=options.seed, test_share=options.test_share)
    return make_samples(settings, options.out, options.audit)


@command(
    DATA,
    option("--run", type=Path, required=True, help="folder that receives checkpoints, history and logs"),
    option("--phase", choices=("head", "finetune", "both"), default="both", help="of the training"),
    option("--resume", action="store_true", help="go on with the run that the folder holds"),
    option("--overwrite", action="store_true", help="start anew, though the folder holds a run"),
    *TRAINING,
    holds="run",
)
def train(options) -> int:
    """Train both phases, or one, on a folder of class folders."""
    from planetlib.checkpoint import PHASES, Checkpoint
    from planetlib.model import Network
    from planetlib.nets.device import choose_device, choose_precision
    from planetlib.nets.processes import join_processes
    from planetlib.show.card import write_card
    from planetlib.train import train_phase

    processes, settings = join_processes(), make_settings(options)
    device = choose_device(settings.device)
    print(f"computing on {device}, frozen stages in {choose_precision(settings.precision, device)}, channels last")
    phases = PHASES if options.phase == "both" else (options.phase,)
    anew = PHASES[PHASES.index(phases[0]) :]  # would be replaced
    require_nothing_lost(settings.run, anew, options.resume, options.overwrite)
    if options.overwrite:  # what is refused later must be refused before anything is replaced
        processes.require_fit(settings)
        Network(settings.backbone, 2, settings.head, settings.weights)
    table, code = settings.run / "samples.csv", 0
    # Finetune goes on from a head, and so with the pictures of that.
    if processes.rank == 0 and (options.overwrite and phases[0] == PHASES[0] or not table.exists()):
        code = make_samples(settings, table, options.audit)
    processes.wait()
    samples = read_folder_samples(settings.data, table)
    for phase in phases:
        history, interrupted = train_phase(phase, settings, samples, options.resume, processes=processes)
        if interrupted:
            return 130
        if processes.rank == 0:
            write_card(settings.run, Checkpoint.load(settings.run / f"{phase}.safetensors"), samples, settings)
            report_phase(history[history.phase == phase], settings, samples.label.nunique())
    return code


@command(
    DATA,
    option("--run", type=Path, required=True, help="folder for tables and a run of each fold; resumable"),
    option("--folds", type=number(int, 2, 1000), default=5, help="how many"),
    option("--seeds", type=SEED, nargs="+", default=[0, 1, 2], help="a deal of the folds and a training each"),
    *(option for option in TRAINING if option[0] != ("--seed",)),
    holds="run",
)
def crossval(options) -> int:
    """Train and score on k folds: the accuracy on pictures like these."""
    from planetlib.study.crossval import cross_validate, describe_scores, score_seeds

    settings = make_settings(options)
    table = settings.run / "samples.csv"
    code = 0 if table.exists() else make_samples(settings, table, options.audit)
    samples = read_folder_samples(settings.data, table)
    scores, predictions = cross_validate(settings, samples, options.folds, sorted(set(options.seeds)))
    print(scores.round(4).to_string(index=False))
    print(score_seeds(predictions).round(4).to_string(index=False, na_rep=""))
    print(describe_scores(scores))
    print(f"written to {settings.run / 'crossval.csv'} and {settings.run / 'crossval_predictions.csv'}")
    return code


@command(
    RUN,
    option("--data", type=Path, help="folder of class folders (default: the one it was trained on)"),
    option("--split", choices=("test", "all"), default="test", help="all: of a folder the run has never seen"),
    option("--out", type=Path, help="folder for the results (default: RUN/evaluation)"),
    DEVICE,
    AUDIT,
)
def evaluate(options) -> int:
    """Score a run: report, confusion, calibration, figures."""
    import pandas as pd

    from planetlib.classify import Classifier
    from planetlib.data import TEST_SHARE, find_samples, split_samples
    from planetlib.evaluate import choose_pictures, evaluate_predictions, undo_temperature, write_evaluation
    from planetlib.files.tables import read_samples
    from planetlib.files.whole import lock_folder
    from planetlib.show.card import add_evaluation
    from planetlib.show.figures import save_evaluation

    classifier, run, code = Classifier.load(options.run, device=options.device), run_folder(options.run), 0
    samples = read_samples(run / "samples.csv") if options.data is None else find_samples(options.data)
    known, strangers = choose_pictures(samples, classifier.class_names)
    if options.split == "test":
        if options.data is not None:
            checked = check_pictures(known, options.audit)
            recipe = classifier.checkpoint.recipe
            test_share = recipe.get("test_share", TEST_SHARE)  # one made before there was a choice
            code, known = report_unreadable(checked), split_samples(checked, recipe["seed"], test_share)
        known = known[known.split == "test"]
        if options.data is not None:
            known = leave_out_learnt(known, run / "samples.csv")
        else:  # pictures that were relabelled since
            strangers = strangers[strangers.split == "test"]
    shown = pd.concat([known, strangers])  # of a folder it has seen no strangers, so all of them are test pictures
    out = options.out or run / "evaluation"
    with lock_folder(out):
        predictions = classifier.predict(shown.path, shown.label)
        evaluation = evaluate_predictions(predictions)
        uncalibrated = evaluate_predictions(undo_temperature(predictions, classifier.checkpoint.temperature))
        write_evaluation(evaluation, predictions, out)
        save_evaluation(evaluation, predictions, out, uncalibrated, classifier.checkpoint.unknown_threshold)
    if options.run.is_dir():  # the card is that of the folder's last phase; a file may be of an earlier one
        name = f"{options.split} pictures" + (f" of {options.data.resolve().name}" if options.data else "")
        add_evaluation(run, name, evaluation, uncalibrated)
    print_table(evaluation.by_class.round(3))
    if len(strangers):
        print(f"counted as unknowns: {printable(', '.join(sorted(strangers.label.unique())))}")
    print(*(f"{name}: {value:.4g}" for name, value in evaluation.summary.items() if value is not None), sep="\n")
    print(f"calibration_error_at_temperature_1: {uncalibrated.summary['calibration_error']:.4g}")
    print(f"written to {out}")
    return max(code, report_unreadable(predictions))


@command(
    option("inputs", nargs="+", metavar="FILE_OR_FOLDER", help="with --engine ray also addresses: s3://…, https://…"),
    RUN,
    ANSWERS,
    option("--pictures", choices=("all", "sample", "none"), help="drawn: all, the first 200 (sample, usual) or none"),
    option("--resume", action="store_true", help="go on with what was killed or interrupted in OUT"),
    option("--runtime", choices=("auto", "torch", "openvino"), default="auto", help="auto: whichever is quicker"),
    DEVICE,
    option("--batch-size", type=BATCH, default=32, help="pictures in a step"),
    option("--engine", choices=("local", "ray"), default="local", help="ray: worker processes of a Ray cluster"),
    option("--format", choices=("csv", "parquet"), default="csv", help="of the table; parquet with --engine ray alone"),
    option("--workers", type=number(int, 1, 1024), help="processes of --engine ray (default: one a GPU or else CPU)"),
    holds="out",
)
def predict(options) -> int:
    """Predict files and folders of any depth into a CSV and pictures."""
    ray = options.engine == "ray"
    if ray and (options.resume or options.pictures not in (None, "none")):
        raise PlanetlibError("got --resume or --pictures with --engine ray, which starts anew and draws no pictures")
    if not ray and (options.workers or options.format != "csv"):
        raise PlanetlibError("got --workers or --format without --engine ray; expected CSV, made by one process")
    return _predict_on_ray(options) if ray else _predict_here(options)


def _predict_here(options) -> int:
    import pandas as pd

    from planetlib.batch.runtime import use_runtime
    from planetlib.batch.stream import predict_resumably
    from planetlib.classify import Classifier
    from planetlib.files.find import gather_inputs
    from planetlib.files.progress import progress_bar

    classifier, out = Classifier.load(options.run, device=options.device), options.out / "predictions.csv"
    pairs = gather_inputs(options.inputs, classifier.class_names)
    use_runtime(classifier, options.runtime, len(pairs))
    drawn = {"all": len(pairs), "sample": SAMPLE_PICTURES, "none": 0}[options.pictures or "sample"]
    kept, code, done, most = [], 0, 0, max(drawn, SHOWN)
    try:
        with progress_bar(desc="predicting", total=len(pairs), unit="image") as bar:
            for table in predict_resumably(classifier, pairs, out, options.batch_size, options.resume):
                if done < most:
                    kept.append(table.head(most - done))
                done += len(table)
                bar.update(len(table))
                code = max(code, report_unreadable(table))
    except KeyboardInterrupt:
        said = f"Interrupted after {done} of {say_count(len(pairs))}; their rows are in {out}.part."
        print(f"{said} Predict with --resume to go on.", file=sys.stderr)
        return 130
    rows = pd.concat(kept, ignore_index=True)
    for row in rows[rows.status != "unreadable"].head(SHOWN).itertuples():
        answer = f"unknown, looks like {row.predicted}" if row.status == "unknown" else row.predicted
        note = f" ({row.note})" if row.note else ""
        print(printable(f"{Path(row.path).name}: {answer} {row.confidence:.0%}{note}"))
    print(f"{say_count(len(pairs))} predicted: {out}")
    if drawn:
        from planetlib.files.find import DRAWN_RESULTS
        from planetlib.show.sheets import draw_predictions

        draw_predictions(rows.head(drawn), options.out)
        places = ", ".join(str(options.out / name) for name in DRAWN_RESULTS)
        print(f"{min(drawn, len(pairs))} of them drawn: {places}")
    return code


def _predict_on_ray(options) -> int:
    from planetlib.batch.on_ray import predict_places

    choices = {name: getattr(options, name) for name in ("batch_size", "workers", "device", "runtime")}
    out, count, code = options.out / f"predictions.{options.format}", 0, 0
    for table in predict_places(options.run, options.inputs, out, **choices):
        count, code = count + len(table), max(code, report_unreadable(table))
    print(f"{say_count(count)} predicted: {out}")
    return code


@command(
    option("files", nargs="+", type=Path, metavar="FILE"),
    RUN,
    ANSWERS,
    option("--method", default="fused", help="or gradcam, gradcam++, hirescam, xgradcam, layercam, …"),
    option("--class", dest="class_name", help="class to explain (default: the predicted one)"),
    DEVICE,
)
def explain(options) -> int:
    """Draw what in a picture speaks for a class."""
    from planetlib.classify import Classifier
    from planetlib.explain import map_activation, overlay_map
    from planetlib.files.read import UnreadableImage
    from planetlib.files.whole import open_whole
    from planetlib.images import read_image
    from planetlib.show.sheets import draw_explanation, name_picture

    classifier, method, code = Classifier.load(options.run, device=options.device), options.method, 0
    for index, path in enumerate(options.files):
        try:
            picture = read_image(path, classifier.checkpoint.image_size)
        except UnreadableImage as error:
            print(f"planetlib: {printable(str(error))}", file=sys.stderr)
            code = 1
            continue
        row = classifier.predict_picture(picture, str(path))
        name = options.class_name or row.predicted
        overlay = overlay_map(picture, map_activation(classifier, picture, name, method))
        place = options.out / f"{name_picture(index, path, name, method)}.png"
        with open_whole(place) as file:
            draw_explanation(picture, overlay, row, f"{name}, {method}").save(file, "PNG")
        print(place)
    return code


@command(RUN, option("--out", type=Path, help="CSV to write (default: RUN/faithful.csv)"), DEVICE)
def faithful(options) -> int:
    """Score the methods for activation maps on a run's test pictures."""
    from planetlib.classify import Classifier
    from planetlib.files.tables import read_samples, write_table
    from planetlib.study.faithful import compare_methods

    run = run_folder(options.run)
    classifier, samples = Classifier.load(options.run, device=options.device), read_samples(run / "samples.csv")
    paths = samples.path[samples.split == "test"]
    table, out = compare_methods(classifier, paths), options.out or run / "faithful.csv"
    print(table.round(3).to_string())
    print(f"{say_count(len(paths))}; a map that is the same everywhere has on_planet {table.attrs['planet_area']:.3f}")
    write_table(table.reset_index(), out)
    print(f"written to {out}")
    return 0


@command(
    RUN,
    option("--format", choices=("onnx",), default="onnx", help="of the file"),
    option("--out", type=Path, required=True, help="file to write, such as model.onnx"),
)
def export(options) -> int:
    """Write a run as one file for other runtimes (extra onnx)."""
    from planetlib.batch.export import export_checkpoint
    from planetlib.checkpoint import Checkpoint, find_checkpoint

    path = export_checkpoint(Checkpoint.load(find_checkpoint(options.run)), options.out)
    print(f"written to {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


@command(
    option("--data", type=Path, help="folder of class folders (default: the embedded drawn planets)"),
    choice("backbone"),
    option("--out", type=Path, default=Path("reports"), help="folder for the reports"),
    option("--store", action="store_true", help="also store outputs in the notebooks, and figures in figures/"),
)
def notebooks(options) -> int:
    """Run the five notebooks into HTML reports."""
    from planetlib.batch.reports import run_notebooks
    from planetlib.settings import PROJECT

    data, figures = options.data and str(options.data.resolve()), options.store and str(PROJECT / "figures")
    named = {"PLANETLIB_DATA": data, "PLANETLIB_BACKBONE": options.backbone, "PLANETLIB_FIGURES": figures}
    reports = run_notebooks(options.out, {name: value for name, value in named.items() if value}, options.store)
    print(*reports, sep="\n")
    print(f"checkpoints, evaluation, maps and predictions: {load_settings(data=options.data).run}")
    print(f"to be read in a browser: {reports[0].resolve().as_uri()}")
    return 0
