"""Seconds from nothing to ready: the command line's --help, the library and torch alone, run in turn.

python -m benchmarks.startup
"""

import subprocess
import sys
import time

from benchmarks.tables import format_table, make_parser, say_spread

REST = "import torch, torchvision, timm, pandas, sklearn.linear_model"
WAYS = {
    "python": ["-c", "pass"],
    "planetlib --help": ["-m", "planetlib", "--help"],
    **{line: ["-c", line] for line in ("import planetlib", "import torch", REST, "import planetlib.classify")},
}


def main(arguments: list[str] | None = None) -> None:
    options = make_parser(__doc__, "repeats").parse_args(arguments)
    took = {way: [] for way in WAYS}
    for _ in range(options.repeats):
        for way, command in WAYS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            took[way].append(time.perf_counter() - started)
    print(format_table(["way", "seconds"], [[way, say_spread(values, 2)] for way, values in took.items()]))


if __name__ == "__main__":
    main()
