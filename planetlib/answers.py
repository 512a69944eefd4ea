"""What the commands do that apply a trained run to pictures; they import as those of `commands` do."""

import sys

from planetlib import PlanetlibError, printable
from planetlib.commands import report_unreadable

SAMPLE_PICTURES = 200


def predict_files(options) -> int:
    """`planetlib predict`"""
    if options.engine == "ray":
        return _predict_on_ray(options)
    if options.format != "csv" or options.workers:
        given = f"--format {options.format}" if options.format != "csv" else "--workers"
        raise PlanetlibError(f"{given} comes with --engine ray; without it the table is CSV, made by one process")
    import pandas as pd

    from planetlib.checkpoint import Checkpoint, find_checkpoint
    from planetlib.classify import Classifier, gather_inputs
    from planetlib.data import progress_bar
    from planetlib.resume import predict_resumably
    from planetlib.sheets import draw_predictions

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
    from planetlib.scale import predict_places

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
    from planetlib.figures import save_figure, show_maps
    from planetlib.files import UnreadableImage
    from planetlib.images import read_image
    from planetlib.sheets import describe_prediction, name_picture

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
    from planetlib.faithful import compare_methods
    from planetlib.tables import read_samples, write_table

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
    from planetlib.checkpoint import Checkpoint, find_checkpoint
    from planetlib.export import export_checkpoint

    path = export_checkpoint(Checkpoint.load(find_checkpoint(options.run)), options.out, options.format)
    print(f"written to {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0
