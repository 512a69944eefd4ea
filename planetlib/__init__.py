"""Transfer learning on pictures of planets, from raw images to explained predictions.

Modules, ground floor first (nothing imports upwards): `disk`, `files`, `fits`, `images`, `texture`, `render`,
`variety`, `outliers`, `settings`, `transforms`, `tables`, `distributed`; `data`, `model`; `fetch`, `audit`,
`checkpoint`, `runtime`; `views`, `unknowns`, `classify`, `resume`, `scale`, `export`, `evaluate`, `calibrate`,
`card`; `loop`, `stage`, `train`; `explain`, `crossval`, `faithful`; `sheets`, `figures`, `widgets`; `notebooks`,
`commands`, `answers`, `__main__`.
No module is imported here, so that `planetlib --help` answers at once.
"""

from collections.abc import Iterable

__version__ = "0.1.0"


class PlanetlibError(Exception):
    """Something the user can put right: the message says what was got, what was expected and what to do."""


def printable(text: str) -> str:
    """Text on one line with nothing in it that steers a terminal: names of files may hold newlines, escape sequences
    and marks that turn the direction of writing. Such characters are written as in Python, `\\x1b`.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def require_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raises PlanetlibError, with the known names, for one that is none of them."""
    if name not in known:
        raise PlanetlibError(f"unknown {what} '{name}'; expected one of: {', '.join(known)}")


def list_few(names: Iterable[str]) -> str:
    """Different names in a line, sorted; of many, the first and how many more."""
    names = sorted(set(names))
    return ", ".join(names[:9]) + (f" and {len(names) - 9} more" if len(names) > 9 else "")
