"""Seconds from nothing to ready: the command line's --help, the library and torch alone, run in turn.

python -m benchmarks.startup
"""

import argparse
import subprocess
import sys
import time

import numpy as np

WAYS = {
    "python": ["-c", "pass"],
    "planetlib --help": ["-m", "planetlib", "--help"],
    "import planetlib": ["-c", "import planetlib"],
    "import torch": ["-c", "import torch"],
    "import torch, torchvision, timm, pandas, sklearn.linear_model": [
        "-c",
        "import torch, torchvision, timm, pandas, sklearn.linear_model",
    ],
    "import planetlib.classify": ["-c", "import planetlib.classify"],
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    took = {way: [] for way in WAYS}
    for _ in range(options.repeats):
        for way, command in WAYS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            took[way].append(time.perf_counter() - started)
    print("| seconds | median | lowest–highest |\n|---|---|---|")
    for way, values in took.items():
        print(f"| {way} | {np.median(values):.2f} | {min(values):.2f}–{max(values):.2f} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
