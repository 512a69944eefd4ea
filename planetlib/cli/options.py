"""What commands share: how a command and its options are declared, and the options that several have."""

import argparse
from collections.abc import Callable
from pathlib import Path

from planetlib.settings import CHOICES, PROFILES

#: function, options, and of those the one with the folder that one process at a time may write into
COMMANDS: list[tuple[Callable[[argparse.Namespace], int], tuple, str]] = []


def command(*options: tuple, holds: str = "") -> Callable:
    """Makes a function a command; its first line of documentation is the help."""
    return lambda function: COMMANDS.append((function, options, holds)) or function


def option(*names: str, **how) -> tuple:
    """An option, as argparse takes it; what has a default says so."""
    if how.get("default") is not None:
        how["help"] += " (default: %(default)s)"
    return names, how


def choice(name: str) -> tuple:
    """The option for a field of `Settings`; None, where it is not given, stands for what profile and recipe say."""
    field = CHOICES[name]
    usual = "the backbone's own" if field.default is None else field.default
    kind = int if field.default is None else type(field.default)
    says, metavar = f"{field.metadata['says']} (default: {usual})", kind.__name__.upper()
    return option(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=says)


def at_least(least: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number, `least` or more."""

    def whole_number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"got {value}, expected {least} or more")
        return value

    return whole_number


DATA = option("--data", type=Path, required=True, help="folder with one sub-folder for each class")
RUN = option("--run", type=Path, required=True, help="run folder or checkpoint file")
DEVICE = option("--device", default="auto", help="that computes: auto, cpu, cuda, …")
AUDIT_HELP = "look for copies, also resized, turned or cropped, and keep them on one side of a split"
AUDIT = option("--audit", action=argparse.BooleanOptionalAction, default=True, help=AUDIT_HELP)
PROFILE_HELP = "set of defaults; quick takes a quarter of the time, for pictures all of one kind"
TRAINING = (option("--profile", choices=PROFILES, default="full", help=PROFILE_HELP), *map(choice, CHOICES), AUDIT)
