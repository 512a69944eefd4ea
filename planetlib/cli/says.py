"""What commands say, on standard output and, of what went wrong, on stderr."""

import math
import sys

from planetlib import printable


def print_table(table) -> None:
    """Prints a table of classes, whose names are those of folders."""
    print(table.rename(index=printable).to_string())


def say_count(pictures: int) -> str:
    """So many pictures, in words."""
    return f"{pictures} picture" if pictures == 1 else f"{pictures} pictures"


def report_phase(part, settings, classes: int) -> None:
    """Says which epoch of a phase was kept, and on stderr where it has diverged, not just learnt little."""
    phase, best, even = part.phase.iloc[0], part.loc[part.val_loss.idxmin()], math.log(classes)
    if best.val_loss > 10 * even:
        said = f"{phase}: got the validation loss {best.val_loss:.3g}, expected {even:.3g} or less, as of an even guess"
        print(f"{said}: lower --{phase}-lr, now {getattr(settings, f'{phase}_lr')}", file=sys.stderr)
    kept = f"{phase}: epoch {best.epoch:.0f} of {len(part)} kept, validation accuracy {best.val_accuracy:.2%}"
    print(f"{kept} ({settings.run / phase}.safetensors)")


def report_unreadable(table) -> int:
    """Names the unreadable files of a table on stderr; returns the exit code."""
    unreadable = table[table.status == "unreadable"]
    for row in unreadable.itertuples():
        print(printable(f"unreadable: {row.path}: {row.error}"), file=sys.stderr)
    return 1 if len(unreadable) else 0


def report_copies(audited) -> int:
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
