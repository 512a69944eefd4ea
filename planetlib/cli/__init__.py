"""The command line: `commands` has what each does; `options`, `runs` and `says` what they share. Opens every room."""

import argparse
import sys
from contextlib import nullcontext
from typing import Any

from planetlib import PlanetlibError, __version__, printable
from planetlib.cli import commands  # noqa: F401 - each enters itself into COMMANDS
from planetlib.cli.options import COMMANDS
from planetlib.files.whole import explain_failure, lock_folder

EXIT_CODES = """exit codes: 0 done; 1 done, but some inputs could not be read, or copies have different labels (each is
            named); 2 not usable, with one line that says why; 130 interrupted"""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    options = make_parser().parse_args(arguments)
    try:
        with lock_folder(getattr(options, options.holds)) if options.holds else nullcontext():
            return options.function(options)
    except PlanetlibError as error:
        said, code = str(error), 2
    except OSError as error:
        said, code = explain_failure(error), 2
    except KeyboardInterrupt:
        said, code = "interrupted", 130
    print(f"planetlib: {printable(said)}", file=sys.stderr)
    return code


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    looks: dict[str, Any] = {"epilog": EXIT_CODES, "formatter_class": argparse.RawDescriptionHelpFormatter}
    says = "Planet classifier: train, evaluate, predict, explain."
    parser = argparse.ArgumentParser(prog="planetlib", description=says, **looks)
    parser.add_argument("--version", action="version", version=f"planetlib {__version__}")
    groups = {"": parser.add_subparsers(required=True, metavar="COMMAND")}
    data = groups[""].add_parser("data", help="fetch, check or split pictures", **looks)
    groups["data"] = data.add_subparsers(required=True, metavar="COMMAND")
    for function, options, holds in COMMANDS:
        group, _, name = function.__name__.rpartition("_")
        says = str(function.__doc__)
        added = groups[group].add_parser(name, help=says[0].lower() + says[1:-1], description=says, **looks)
        for names, how in options:
            added.add_argument(*names, **how)
        added.set_defaults(function=function, holds=holds)
    return parser
