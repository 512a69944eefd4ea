"""The project's files held against each other: environments, floors, sizes, and what may not be in the tree."""

import ast
import hashlib
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import planetlib
from planetlib.images import SUFFIXES
from planetlib.settings import FIXTURE, PROJECT

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

PACKAGE = PROJECT / "planetlib"
MODULES = sorted(PACKAGE.rglob("*.py"))
SHARED = PROJECT.parent / "shared" / "data"
# Written so that this very line is no match.
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|root|tmp|work|Users|mnt|private|var/folders)/[\w.]|\b[A-Z]:\\\\?Users")

each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())


def project_table() -> dict:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements() -> list[Requirement]:
    project = project_table()
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    asked = [Requirement(line) for line in project["dependencies"] + extras]
    return [requirement for requirement in asked if requirement.name != project["name"]]  # an extra of its own


def pins() -> list[Requirement]:
    lines = (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def committed_files() -> list[Path]:
    """What git holds, or would hold: everything that is not ignored."""
    listing = ["git", "-C", str(PROJECT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(listing, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout, so nothing tells committed files from others")
    return [PROJECT / name for name in names if name and (PROJECT / name).is_file()]


# Environments


def test_conda_and_pip_ask_for_the_same_python():
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text(encoding="utf-8"))
    assert f"python{project_table()['requires-python']}" in environment["dependencies"]


def test_conda_installs_what_pyproject_lists_at_the_pinned_versions():
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == project_table()["name"] == "planetlib"
    (by_pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert by_pip == ["-c constraints.txt", "-e .[test]"]
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert "--require-hashes --requirement requirements.lock" in makefile


def test_the_lock_has_the_same_pins_with_a_hash_of_each():
    text = (PROJECT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.search(r"==.*--hash=sha256:[0-9a-f]{64}", line) for line in lines) and "://" not in text
    locked = {Requirement(line.partition(" --hash")[0]) for line in lines}
    of_torch = re.compile("nvidia-|cuda-|triton")  # whose versions torch itself pins
    assert {str(pin) for pin in locked if not of_torch.match(pin.name)} <= {str(pin) for pin in pins()}


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_every_dependency_has_a_pin_within_its_range(requirement):
    found = [pin for pin in pins() if canonicalize_name(pin.name) == canonicalize_name(requirement.name)]
    assert found
    for pin in found:
        (version,) = pin.specifier
        assert version.operator == "==" and requirement.specifier.contains(version.version, prereleases=True), pin


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_on_every_python_and_system_one_pin_holds_for_each_dependency(python, system):
    assert SpecifierSet(project_table()["requires-python"]).contains(python)
    place = {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.6",
        "sys_platform": system,
    }
    holding = [canonicalize_name(pin.name) for pin in pins() if pin.marker is None or pin.marker.evaluate(place)]
    assert len(holding) == len(set(holding))
    assert {canonicalize_name(requirement.name) for requirement in requirements()} <= set(holding)


def test_constraints_are_versions_alone_and_name_no_place():
    text = (PROJECT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text and not re.search(r"^\s*-", text, re.MULTILINE)
    assert all(pin.url is None and not pin.extras for pin in pins())


def test_the_version_is_one_that_pip_understands():
    assert SpecifierSet(">=0").contains(planetlib.__version__)


# Modules


def floors() -> list[str]:
    """The order of modules as the package's docstring gives it, ground floor first."""
    order = planetlib.__doc__.partition("imports upwards):")[2].partition("Nothing is imported here")[0]
    return re.findall(r"`(\w+)`", order)


def module_name(path: Path) -> str:
    """The module, or the package, that stands on a floor; "" for the library itself."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0].removesuffix("__init__")


def imported_modules(path: Path) -> set[str]:
    """Modules of the library that a module imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            parts = [node.module] if node.module != "planetlib" else [f"planetlib.{alias.name}" for alias in node.names]
        else:
            parts = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {part.split(".")[1] for part in parts if part.startswith("planetlib.")}
    return found & {module_name(path) for path in MODULES}


def test_every_module_has_its_floor():
    assert sorted(floors()) == sorted({module_name(path) for path in MODULES} - {""})


@each_module
def test_no_module_imports_upwards(path):
    name = module_name(path)
    below = floors()[: floors().index(name)] if name else []
    within = {name} if path.parent != PACKAGE else set()  # a package is one room
    assert imported_modules(path) <= set(below) | within


def test_imports_are_found_also_within_functions():
    assert {"train", "classify", "fetch"} <= imported_modules(PROJECT / "planetlib" / "commands.py")


@each_module
def test_a_module_fits_in_a_head(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 300


@each_module
def test_everything_public_says_what_it_is(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    places = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    public = [
        node for place in places for node in place.body if isinstance(node, kinds) and not node.name.startswith("_")
    ]
    assert not [node.name for node in public if not ast.get_docstring(node)]


def test_every_module_has_its_tests():
    tested = {path.stem.removeprefix("test_") for path in (PROJECT / "tests").glob("test_*.py")}
    through_another = {"texture", "loop", "stage", "commands", "answers"}  # through `render`, `train` and `__main__`
    assert {module_name(path).strip("_") for path in MODULES} - {""} - tested == through_another


def test_every_guard_stands_in_the_tree_with_a_test():
    guards = tomllib.loads((PROJECT / "tests" / "guards.toml").read_text(encoding="utf-8"))["guard"]
    for guard in guards:
        file, _, test = guard["test"].partition("::")
        assert (PROJECT / guard["file"]).read_text(encoding="utf-8").count(guard["old"]) == 1, guard["name"]
        assert f"def {test.partition('[')[0]}(" in (PROJECT / file).read_text(encoding="utf-8") or not test, guard[
            "name"
        ]
    assert len({guard["name"] for guard in guards}) == len(guards) > 90


def test_nothing_is_named_for_having_no_better_name():
    assert not [path for path in committed_files() if re.search(r"util|helper|misc|common", path.name)]


# What is in the tree


def test_no_file_carries_a_path_of_a_machine():
    for path in committed_files():
        content = path.read_bytes()
        if b"\0" in content[:8000]:  # git's own way of telling binary files
            continue
        # Pictures within notebooks are long words of base64, which may hold anything.
        text = re.sub(r"[A-Za-z0-9+/=\\n]{200,}", "", content.decode("utf-8"))
        assert not MACHINE_PATH.search(text), (path.name, MACHINE_PATH.search(text))


def test_a_path_of_a_machine_would_be_found():
    for path in ("/" + "home/someone/x", "'/" + "tmp/pytest", "C:" + "\\Users\\me"):
        assert MACHINE_PATH.search(path)
    assert not MACHINE_PATH.search("data/tmp/x https://example.org/home/x")


def test_the_embedded_pictures_are_small():
    assert sum(path.stat().st_size for path in FIXTURE.rglob("*") if path.is_file()) < 1_000_000


def images_of(paths) -> dict[str, Path]:
    images = [path for path in paths if path.suffix.lower() in SUFFIXES]
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in images}


def test_no_picture_of_the_public_data_set_is_in_the_tree():
    listed = set(pd.read_csv(PROJECT / "data" / "planets.csv").sha256)
    mine = images_of(committed_files())
    assert mine and not [path for digest, path in mine.items() if digest in listed]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the data sets for comparison do not lie beside the project")
def test_no_picture_of_another_data_set_is_in_the_tree():
    mine = images_of(committed_files())
    sizes = {path.stat().st_size for path in mine.values()}
    others = images_of(path for path in SHARED.rglob("*") if path.is_file() and path.stat().st_size in sizes)
    assert any(SHARED.rglob("*.png")) and not [path for digest, path in mine.items() if digest in others]
