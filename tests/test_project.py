"""The project held against itself: rooms and their doors, environments, the package, its pages, what is in the tree."""

import ast
import hashlib
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pandas as pd
import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import planetlib
from planetlib.cli import make_parser
from planetlib.files.download import LISTING
from planetlib.files.find import SUFFIXES
from planetlib.settings import PROJECT
from tests.guards import find_module, read_guards, take_out, tomllib

PACKAGE = PROJECT / "planetlib"
MODULES = sorted(PACKAGE.rglob("*.py"))
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")), *sorted(PROJECT.glob("*/README.md"))]
SHARED = PROJECT.parent / "shared" / "data"
# Written so that this very line is no match.
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|root|tmp|work|Users|mnt|private|var/folders)/[\w.]|\b[A-Z]:\\\\?Users")

each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(PROJECT).as_posix())


def read(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


TABLE = tomllib.loads(read("pyproject.toml"))["project"]


def requirements() -> list[tuple[str, SpecifierSet]]:
    """Name and range of everything that is asked for, but for an extra of the project's own."""
    extras = [line for lines in TABLE["optional-dependencies"].values() for line in lines]
    asked = [Requirement(line) for line in TABLE["dependencies"] + extras]
    return [(canonicalize_name(one.name), one.specifier) for one in asked if one.name != TABLE["name"]]


def pins() -> list[Requirement]:
    return [Requirement(line) for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]


def committed_files() -> list[Path]:
    """What git holds, or would hold: everything that is not ignored."""
    listing = ["git", "-C", str(PROJECT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(listing, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, so nothing tells committed files from others")
    return [PROJECT / name for name in names if name and (PROJECT / name).is_file()]


# The house


def room_of(path: Path) -> str:
    """The room a module is in: "" for the library itself, "top" for what lies on top."""
    if path.parent == PACKAGE:
        return {"__init__": "", "__main__": "cli"}.get(path.stem, "top")
    return path.relative_to(PACKAGE).parts[0]


ROOMS = {room_of(path) for path in MODULES} - {"", "top"}


def doors() -> dict[str, set[str]]:
    """Room → rooms it may use, as the table of docs/how_it_is_built.md says."""
    rows = re.findall(r"^\| `(\w+)/` \|.*\| ([^|]*) \|$", read("docs/how_it_is_built.md"), re.MULTILINE)
    said = {room: set(re.findall(r"\w+", uses)) - {"nothing"} for room, uses in rows}
    return {room: ROOMS | {"top"} if uses == {"all"} else uses for room, uses in said.items()}


def imports(path: Path) -> set[str]:
    """Everything that a module imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module else set()
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def rooms_used(path: Path) -> set[str]:
    modules = {name.split(".")[1] for name in imports(path) if name.startswith("planetlib.")}
    tops = {path.stem for path in PACKAGE.glob("*.py")}
    return (modules & ROOMS) | ({"top"} if modules & tops else set())


def test_the_page_has_every_room_and_every_module_on_top():
    assert doors().keys() == ROOMS
    listed = set(re.findall(r"^\| `(\w+)` \|", read("docs/how_it_is_built.md"), re.MULTILINE))
    assert listed == {path.stem for path in PACKAGE.glob("[a-z]*.py")} and len(listed) <= 13


@each_module
def test_no_module_goes_through_a_wall(path):
    room = room_of(path)
    allowed = {"": set(), "top": {"top", "files", "nets"}, **doors()}[room]
    if path == PACKAGE / "features.py":  # the one place on top from which pictures are drawn
        allowed |= {"draw"}
    assert rooms_used(path) <= allowed | {room}


@each_module
def test_everything_public_says_what_it_is(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    public = [node for node in tree.body if getattr(node, "name", "_")[0] != "_"]
    public += [part for node in public if isinstance(node, ast.ClassDef) for part in node.body]
    named = [node for node in public if getattr(node, "name", "_")[0] != "_"]
    assert not [node.name for node in named if not ast.get_docstring(node)]


@pytest.mark.parametrize("guard", read_guards(), ids=lambda guard: guard["name"])
def test_every_guard_stands_in_the_tree_with_a_test(guard):
    source = find_module(guard).read_text(encoding="utf-8")
    assert take_out(guard, source) != ast.unparse(ast.parse(source))
    file, _, test = guard["test"].partition("::")
    assert f"def {test.partition('[')[0]}(" in read(file)


# Environments


def test_conda_installs_what_make_installs():
    environment = yaml.safe_load(read("environment.yml"))
    assert environment["name"] == TABLE["name"]
    assert f"python{TABLE['requires-python']}" in environment["dependencies"]
    assert {"pip": ["-c constraints.txt", "-e ."]} in environment["dependencies"]
    assert "--constraint constraints.txt" in read("Makefile")


def test_the_workflow_and_ci_run_what_make_runs():
    workflow = read(".github/workflows/test.yml")
    assert re.search(r"\(PYTEST\) (.*)", read("Makefile"))[1] in workflow
    targets = re.findall(r"make (\w+)$", workflow + read(".ci/run"), re.MULTILINE)
    assert targets == ["reproducible", "check", "test", "reproducible"]
    assert all(re.search(rf"^{target}:", read("Makefile"), re.MULTILINE) for target in targets)


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_on_every_python_and_system_each_dependency_has_one_pin_that_is_within_its_range(python, system):
    assert SpecifierSet(TABLE["requires-python"]).contains(python)
    versions = {"python_version": python, "python_full_version": f"{python}.6", "sys_platform": system}
    place = {**default_environment(), **versions}
    holding = [pin for pin in pins() if pin.marker is None or pin.marker.evaluate(place)]
    pinned = {canonicalize_name(pin.name): pin for pin in holding}
    assert len(pinned) == len(holding)
    for name, allowed in requirements():
        (version,) = pinned[name].specifier
        assert version.operator == "==" and allowed.contains(version.version, prereleases=True), name


def test_constraints_are_versions_alone_and_name_no_place():
    assert "://" not in read("constraints.txt") and not re.search(r"^\s*-", read("constraints.txt"), re.MULTILINE)
    assert all(pin.url is None and not pin.extras for pin in pins())


def test_what_is_imported_is_asked_for():
    asked = {name for name, _ in requirements()}
    names = {name.partition(".")[0] for path in MODULES for name in imports(path)}
    foreign = names - sys.stdlib_module_names - {"planetlib"}
    distributions = packages_distributions()
    assert {name for name in foreign if not asked & {*map(canonicalize_name, distributions.get(name, ()))}} == set()


# The package


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the package as pip would install it, and nothing of the clone."""
    clone, site = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("site")
    shutil.copytree(PACKAGE, clone / "planetlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, clone)
    build = [sys.executable, "-c", "from setuptools.build_meta import build_wheel; build_wheel('.')"]
    subprocess.run(build, cwd=clone, check=True, capture_output=True)
    zipfile.ZipFile(next(clone.glob("*.whl"))).extractall(site)
    return site


def test_all_that_lies_in_the_library_travels_with_it(installed):
    def files(folder: Path) -> set[str]:
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    here = {name for name in files(PACKAGE) if "__pycache__" not in name}
    assert here == files(installed / "planetlib") and any(name.endswith(".csv") for name in here)


@pytest.mark.parametrize(
    ("command", "says"),
    [("--version", planetlib.__version__), ("notebooks", "clone"), ("data fetch --help", "700 pictures")],
)
def test_without_a_clone_commands_work_or_say_where_to_get_one(installed, tmp_path, monkeypatch, command, says):
    monkeypatch.setenv("PYTHONPATH", str(installed))
    start = [sys.executable, "-m", "planetlib", *command.split()]
    done = subprocess.run(start, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == (2 if command == "notebooks" else 0), done.stderr
    assert says in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


# Pages


@each_page
def test_links_lead_to_files_that_exist(path):
    targets = re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8"))
    assert not [target for target in targets if "://" not in target and not (path.parent / target).exists()]


@each_page
def test_commands_on_a_page_can_be_given(path):
    text = path.read_text(encoding="utf-8")
    for line in re.findall(r"^    (?:RAY_\S+ )?(planetlib .*)", text, re.MULTILINE):
        make_parser().parse_args(shlex.split(line, comments=True)[1:])
    for module in re.findall(r"python -m (benchmarks\.\w+|tests\.\w+)", text):
        assert (PROJECT / f"{module.replace('.', '/')}.py").is_file()
    for target in re.findall(r"(?:^    |`)make ([a-z]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", read("Makefile"), re.MULTILINE), target


def test_the_readme_is_short():
    assert len(read("README.md").splitlines()) <= 120


# What is in the tree


def test_nothing_is_named_for_having_no_better_name():
    assert not [path for path in committed_files() if re.search(r"util|helper|misc|common", path.name)]


def test_no_file_carries_a_path_of_a_machine():
    for planted in ("/" + "home/someone/x", "'/" + "tmp/pytest", "C:" + "\\Users\\me"):
        assert MACHINE_PATH.search(planted)  # so that one would be found
    for path in committed_files():
        content = path.read_bytes()
        if b"\0" in content[:8000]:  # git's own way of telling binary files
            continue
        # Pictures within notebooks are long words of base64, which may hold anything.
        text = re.sub(r"[A-Za-z0-9+/=\\n]{200,}", "", content.decode("utf-8"))
        assert not MACHINE_PATH.search(text), (path.name, MACHINE_PATH.search(text))


def test_no_picture_of_another_data_set_is_in_the_tree():
    images = [path for path in committed_files() if path.suffix.lower() in SUFFIXES]
    mine = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in images}
    others = set(pd.read_csv(LISTING).sha256)
    if SHARED.is_dir():  # the data sets for comparison lie beside the project; maps may be in the tree
        sizes = {path.stat().st_size for path in images}
        near = [path for path in SHARED.rglob("*") if path.is_file() and path.stat().st_size in sizes]
        others |= {hashlib.sha256(path.read_bytes()).hexdigest() for path in near if "maps" not in path.parts}
    assert mine and not [path for digest, path in mine.items() if digest in others]
