"""Transfer learning on pictures of planets, from raw images to explained predictions.

Modules, ground floor first (nothing imports upwards): `images`, `texture`, `render`, `variety`, `outliers`, `settings`,
`transforms`, `tables`, `distributed`; `data`, `model`; `fetch`, `audit`, `checkpoint`; `views`, `unknowns`,
`classify`, `scale`, `evaluate`, `calibrate`, `card`; `loop`, `train`; `explain`, `crossval`, `faithful`; `sheets`,
`figures`, `widgets`; `notebooks`, `commands`, `__main__`.
No module is imported here, so that `planetlib --help` answers at once.
"""

from collections.abc import Iterable

__version__ = "0.1.0"


class PlanetlibError(Exception):
    """Something the user can put right: the message says what was got, what was expected and what to do."""


def require_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raises PlanetlibError, with the known names, for one that is none of them."""
    if name not in known:
        raise PlanetlibError(f"unknown {what} '{name}'; expected one of: {', '.join(known)}")
