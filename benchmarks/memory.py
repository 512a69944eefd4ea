"""Peak memory of `planetlib predict` for more and more files; the same pictures repeated by links.

    python -m benchmarks.memory --data PLANETS --run RUN

A child process that predicts tells its own peak (resource.getrusage). `--files 8 16` shows that it works.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.predict import link_images, make_run
from benchmarks.tables import format_table, make_parser
from planetlib.data import find_samples

CHILD = """import resource, sys
from planetlib.cli import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)"""


def main(arguments: list[str] | None = None) -> None:
    parser = make_parser(__doc__, "data", "run")
    parser.add_argument("--runtime", choices=("torch", "openvino"), default="torch", help="(default: %(default)s)")
    parser.add_argument("--files", type=int, nargs="+", default=[700, 7_000, 70_000], help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    os.environ["TQDM_DISABLE"] = "1"
    rows = []
    for count in options.files:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            names = sorted(find_samples(options.data).label.unique())
            run = options.run or make_run("efficientnet_lite0", None, folder / "run", names)
            link_images(options.data, count, folder / "many")
            words = ["predict", folder / "many", "--run", run, "--out", folder / "out", "--pictures", "none"]
            words += ["--runtime", options.runtime]
            started = time.perf_counter()
            said = subprocess.check_output([sys.executable, "-c", CHILD, *map(str, words)], text=True)
            peak = int(said.splitlines()[-1]) / (1e6 if sys.platform == "darwin" else 1e3)
            rows.append([f"{count:,}", f"{peak:.0f}", f"{time.perf_counter() - started:.0f}"])
    print(format_table(["files", "peak memory, MB", "seconds"], rows))


if __name__ == "__main__":
    main()
