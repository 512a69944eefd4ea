"""What a command needs of a folder of pictures and of a run folder, and what it must not lose there."""

from pathlib import Path

from planetlib import PlanetlibError, list_few
from planetlib.cli.says import print_table, report_unreadable, say_count
from planetlib.settings import CHOICES, load_settings


def make_settings(options):
    """The settings that options name. Raises PlanetlibError for a run inside its own data."""
    changes = {name: getattr(options, name, None) for name in CHOICES}
    run = options.run.resolve()
    if options.data.resolve() in (run, *run.parents):
        raise PlanetlibError(
            f"{options.run}: lies in {options.data}, and would be a class there; expected another place"
        )
    return load_settings(options.profile, data=options.data, run=options.run, **changes)


def make_samples(settings, table: Path, audit: bool) -> int:
    """Writes the samples table of a folder, and prints how many there are; returns the exit code."""
    from planetlib.data import find_samples, split_samples
    from planetlib.files.tables import write_table

    checked = check_pictures(find_samples(settings.data.resolve()), audit)
    samples = split_samples(checked, settings.seed, settings.test_share)
    write_table(samples, table)
    print_table(samples.groupby(["label", "split"]).size().unstack()[["train", "val", "test"]])
    return report_unreadable(checked)


def check_pictures(samples, audit: bool):
    """Opens every file; with the audit the table also has `group`."""
    from planetlib.data import check_samples

    if not audit:
        return check_samples(samples)
    from planetlib.study.copies import audit_samples

    return audit_samples(check_samples(samples))


def require_nothing_lost(run: Path, phases: tuple[str, ...], resume: bool, overwrite: bool) -> None:
    """Raises PlanetlibError where training these phases would replace a run unasked, or cannot go on with it."""
    from planetlib.checkpoint import CARD

    made, stands = (
        [phase for phase in phases if (run / f"{phase}{end}").exists()] for end in (".safetensors", "_state.pt")
    )
    if resume and overwrite or (made or stands) and not resume and not overwrite:
        got = f"{run}: {'holds a run' if made or stands else 'got both'}"
        raise PlanetlibError(f"{got}; expected either --resume, to go on with it, or --overwrite, to start anew")
    lost = [phase for phase in made if phase not in stands]
    if resume and lost and (run / CARD).exists():  # without a card it was killed between the two files
        got = f"{run}: holds checkpoints, but no {lost[0]}_state.pt to go on from"
        raise PlanetlibError(got, do="--overwrite starts anew")


def read_folder_samples(folder: Path, table: Path):
    """The samples table of a folder, with the marks beside it.

    Raises:
        DataError: as `read_samples`, or the table is of another folder, or of this one when it had other classes.
    """
    from planetlib.data import find_samples
    from planetlib.files.tables import DataError, apply_marks, read_samples

    folder, samples = folder.resolve(), read_samples(table, reviewed=False)
    paths = [Path(path) for path in samples.path]
    if not all(folder in path.parents for path in paths):
        raise DataError(f"{table}: lists pictures from elsewhere than {folder}", do="take that folder or another run")
    there, listed = set(find_samples(folder).label), {path.relative_to(folder).parts[0] for path in paths}
    if there != listed:
        raise DataError(
            f"{folder}: got the classes {list_few(there)}; expected those of {table}, {list_few(listed)}",
            do="put the folders back as they were, or take another run",
        )
    return apply_marks(samples, table)


def leave_out_learnt(test, table: Path):
    """Of pictures that are to test a run, those of which it has learnt no copy: its folder may have changed since."""
    from planetlib.files.tables import DataError, read_samples

    if not table.is_file():
        return test
    samples = read_samples(table, reviewed=False)  # one that was excluded since has been learnt all the same
    learnt = test.group.isin(test.group[test.sha256.isin(samples.sha256[samples.split != "test"])])
    if learnt.all():
        raise DataError(f"{table}: lists all {say_count(len(test))} of the test for training; expected others")
    if learnt.any():
        print(f"left out, as the run was trained on them: {say_count(learnt.sum())}")
    return test[~learnt]


def run_folder(run: Path) -> Path:
    """The folder of a run that is named by it or by its checkpoint."""
    return run.parent if run.is_file() else run
