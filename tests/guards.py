"""Takes each guard listed in `guards.toml` out of a copy of the tree, and runs the test that must then fail.

`python -m tests.guards [WORD …]` prints a line for each guard (those whose name has one of the words): its test, and
`red`, as it should be, or `STILL GREEN`. The exit code is 1 if any is not red.

An entry: `name`; `file`, in which `old`, found there once, is replaced by `new`; `test`, as pytest takes it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

PROJECT = Path(__file__).resolve().parent.parent
UNWANTED = shutil.ignore_patterns(".git", ".venv", "runs", "reports", "__pycache__", "planets")


def run_tests(tree: Path, *tests: str) -> int:
    """pytest's exit code: 0 all green, 1 some red, others: it could not run them."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *dict.fromkeys(tests)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode > 1:
        print(done.stdout[-2000:], done.stderr[-2000:], sep="\n", file=sys.stderr)
    return done.returncode


def try_guard(tree: Path, guard: dict) -> str:
    """`red` where the test notices that the guard is gone."""
    path = tree / guard["file"]
    text = path.read_text(encoding="utf-8")
    if text.count(guard["old"]) != 1:
        return f"NOT FOUND once in {guard['file']}"
    path.write_text(text.replace(guard["old"], guard["new"]), encoding="utf-8")
    try:
        return {0: "STILL GREEN", 1: "red"}.get(run_tests(tree, guard["test"]), "NO SUCH TEST, or it cannot run")
    finally:
        path.write_text(text, encoding="utf-8")


def main(words: list[str]) -> int:
    """Tries all guards, or those named."""
    guards = tomllib.loads((PROJECT / "tests" / "guards.toml").read_text(encoding="utf-8"))["guard"]
    guards = [guard for guard in guards if not words or any(word in guard["name"] for word in words)]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(shutil.copytree(PROJECT, Path(folder) / "tree", ignore=UNWANTED))
        if run_tests(tree, *(guard["test"] for guard in guards)):
            print("a test fails with every guard in place", file=sys.stderr)
            return 1
        found = []
        for guard in guards:
            found.append(try_guard(tree, guard))
            print(f"{guard['name']} | {guard['test']} | {found[-1]}", flush=True)
    print(f"{found.count('red')} of {len(guards)} guards have a test that fails without them")
    return 0 if set(found) == {"red"} else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
