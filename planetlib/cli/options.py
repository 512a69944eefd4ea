"""What commands share: how a command and its options are declared, and the options that several have."""

import argparse
from collections.abc import Callable
from pathlib import Path

from planetlib.settings import CHOICES, PROFILES, PROJECT

#: function, options, and of those the one with the folder that one process at a time may write into
COMMANDS: list[tuple[Callable[[argparse.Namespace], int], tuple, str]] = []


def command(*options: tuple, holds: str = "") -> Callable:
    """Makes a function a command; its first line of documentation is the help."""

    def enter(function: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
        COMMANDS.append((function, options, holds))
        return function

    return enter


def option(*names: str, **how) -> tuple:
    """An option, as argparse takes it; what has a default says so."""
    if how.get("default") is not None:
        how["help"] += " (default: %(default)s)"
    return names, how


def choice(name: str) -> tuple:
    """The option for a field of `Settings`; None, where it is not given, stands for what profile and recipe say."""
    field = CHOICES[name]
    kind = int if field.default is None else type(field.default)
    usual = "the backbone's own" if field.default is None else field.default
    how: dict = {"help": f"{field.metadata['says']} (default: {usual})", "choices": field.metadata["among"] or None}
    if kind is not str:
        how |= {"type": number(kind, *field.metadata["bounds"]), "metavar": kind.__name__.upper()}
    return option(f"--{name.replace('_', '-')}", **how)


def number(kind: type, least: float, most: float) -> Callable:
    """The type of an option that takes a number from `least` to `most`."""

    def convert(text: str):
        value = kind(text)
        if not least <= value <= most:  # nor NaN
            raise argparse.ArgumentTypeError(f"got {value}, expected {least:g} to {most:g}")
        return value

    convert.__name__ = kind.__name__  # argparse names it where a text is no number at all
    return convert


DATA = option("--data", type=Path, required=True, help="folder with one sub-folder for each class")
RUN = option("--run", type=Path, default=PROJECT / "runs" / "fixture", help="run folder or checkpoint file")
DEVICE = option("--device", default="auto", help="that computes: auto, cpu, cuda, …")
SEED, BATCH = (number(int, *CHOICES[name].metadata["bounds"]) for name in ("seed", "batch_size"))
AUDIT_HELP = "look for copies, also resized, turned or cropped, and keep them on one side of a split"
AUDIT = option("--audit", action=argparse.BooleanOptionalAction, default=True, help=AUDIT_HELP)
PROFILE_HELP = "set of defaults; quick draws no pictures and takes a quarter of the time, for pictures all of one kind"
TRAINING = (option("--profile", choices=PROFILES, default="full", help=PROFILE_HELP), *map(choice, CHOICES), AUDIT)
