"""Transfer learning on pictures of planets, from raw images to explained predictions.

To be read in this order: `settings`, `images`, `data`, `transforms`, `model`, `features`, `train`, `checkpoint`,
`calibrate`, `classify`, `evaluate`, `explain`; then `cli`, the command line, the one that opens the rooms beside them:
`files`, `draw`, `show`, `widgets`, `study`, `batch`. No module is imported here, so that `planetlib --help` is quick.
"""

from collections.abc import Iterable

__version__ = "0.2.0"


class PlanetlibError(Exception):
    """Something the user can put right.

    Args:
        message: what was got and what was expected.
        do: what to do next.
    """

    def __init__(self, message: str, do: str = ""):
        super().__init__(message)
        self.do = do

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.do}" if self.do else self.args[0]


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
