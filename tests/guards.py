"""Takes each guard listed in `guards.toml` out of a copy of the tree, and runs the test that must then fail.

`python -m tests.guards [WORD …]` prints a line for each guard (those whose name has one of the words): its test, and
`red`, as it should be, or `STILL GREEN`. The exit code is 1 if any is not red.

An entry has a `name`, and a `test` as pytest takes it. `where` names the module and in it the function or class, as in
`files.whole:open_whole`; `take` says what in there is taken out, by the names in it and not by the text:

    call NAME      a call of NAME: what it was given first stands in its place, so that escape(text) becomes text
    if NAME        the condition, of an if statement or expression, that asks for NAME: it is never so
    except NAME    an except that catches NAME: it catches nothing
    keyword NAME   an argument NAME=…: left out
    set NAME       what is assigned to NAME
    code TEXT      an expression or a statement, whatever its spaces, quotes and brackets

`leave` is what stands there instead; `set` and `code` need it. A number after NAME is which of several, from 1.
"""

import ast
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


class NotThere(Exception):
    """An entry names nothing in the tree, or more than one thing."""


class Taker(ast.NodeTransformer):
    """Takes one thing out of a syntax tree; `count` is how many there were of what `take` says, up to that one."""

    def __init__(self, take: str, leave: str | None):
        self.kind, _, name = take.partition(" ")
        self.name, _, number = name.partition(" ") if self.kind != "code" else (ast.unparse(_parse(name)), "", "")
        self.leave = None if leave is None else _parse(leave)
        self.wanted, self.only, self.count = int(number or 1), not number, 0

    def visit(self, node: ast.AST) -> ast.AST | None:
        if self._is_meant(node):
            self.count += 1
            if self.count == self.wanted:
                return self._take(node)
        return self.generic_visit(node)

    def _is_meant(self, node: ast.AST) -> bool:
        match self.kind, node:
            case "call", ast.Call(func=called):
                return ast.unparse(called) == self.name
            case "if", ast.If(test=asked) | ast.IfExp(test=asked):
                return self.name in _names(asked)
            case "except", ast.ExceptHandler(type=caught):
                return self.name in _names(caught)
            case "keyword", ast.keyword(arg=name):
                return name == self.name
            case "set", ast.Assign(targets=[target]):
                return ast.unparse(target) == self.name
            case "code", ast.expr() | ast.stmt():
                return not isinstance(node, ast.Expr) and ast.unparse(node) == self.name
        return False

    def _take(self, node: ast.AST) -> ast.AST | None:
        match self.kind:
            case "call":
                return self.leave or (node.args[0] if node.args else ast.Constant(None))
            case "if":
                node.test = self.leave or ast.Constant(False)
            case "except":
                node.type = self.leave or ast.Tuple([], ast.Load())
            case "keyword" if self.leave is None:
                return None
            case "keyword" | "set":
                node.value = self.leave
            case _:
                return self.leave
        return node


def _parse(text: str) -> ast.AST:
    """An expression, or else a statement."""
    (statement,) = ast.parse(text).body
    return statement.value if isinstance(statement, ast.Expr) else statement


def _names(node: ast.AST | None) -> set[str]:
    """Every name in an expression, and every dotted one."""
    parts = ast.walk(node) if node else ()
    return {ast.unparse(part) for part in parts if isinstance(part, (ast.Name, ast.Attribute))}


def read_guards() -> list[dict]:
    """The entries of `guards.toml`."""
    return tomllib.loads((PROJECT / "tests" / "guards.toml").read_text(encoding="utf-8"))["guard"]


def find_module(guard: dict, tree: Path = PROJECT) -> Path:
    """The file that a guard stands in."""
    place = tree.joinpath("planetlib", *guard["where"].partition(":")[0].split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def take_out(guard: dict, source: str) -> str:
    """The source of a guard's module without the guard.

    Raises:
        NotThere: the entry names no place in it, or several.
    """
    tree = inside = ast.parse(source)
    for name in filter(None, guard["where"].partition(":")[2].split(".")):
        named = [node for node in ast.walk(inside) if getattr(node, "name", None) == name]
        if len(named) != 1:
            raise NotThere(f"{guard['name']}: {len(named)} of {name} in {guard['where']}")
        (inside,) = named
    taker = Taker(guard["take"], guard.get("leave"))
    taker.generic_visit(inside)
    if taker.count < taker.wanted or (taker.only and taker.count > 1):
        raise NotThere(f"{guard['name']}: {taker.count} of '{guard['take']}' in {guard['where']}")
    return ast.unparse(ast.fix_missing_locations(tree))


def run_tests(tree: Path, *tests: str) -> int:
    """pytest's exit code: 0 all green, 1 some red (or for ever at it), others: it could not run them."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *dict.fromkeys(tests)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=1800)
    except subprocess.TimeoutExpired:
        return 1
    if done.returncode > 1:
        print(done.stdout[-2000:], done.stderr[-2000:], sep="\n", file=sys.stderr)
    return done.returncode


def try_guard(tree: Path, guard: dict) -> str:
    """`red` where the test notices that the guard is gone."""
    path = find_module(guard, tree)
    source = path.read_text(encoding="utf-8")
    path.write_text(take_out(guard, source), encoding="utf-8")
    try:
        return {0: "STILL GREEN", 1: "red"}.get(run_tests(tree, guard["test"]), "NO SUCH TEST, or it cannot run")
    finally:
        path.write_text(source, encoding="utf-8")


def main(words: list[str]) -> int:
    """Tries all guards, or those named."""
    guards = [guard for guard in read_guards() if not words or any(word in guard["name"] for word in words)]
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
