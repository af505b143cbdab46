"""What is published: it asks for what it imports, says what holds, and is made of the sources alone."""

from __future__ import annotations

import ast
import email
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = ROOT / ".github" / "workflows"
#: What a distribution is imported as, where that is not its own name with `_` for `-`.
MODULES = {"beautifulsoup4": "bs4", "ipython": "IPython", "pytest-xdist": "xdist"}
#: Imported only where it is there already, each for the reason.
GUESTS = {
    "PIL": "reads the pictures that flows write",
    "_typeshed": "for type checkers alone",
    "allure": "gets parameters where its plugin is active",
    "coverage": "measures flows where pytest-cov does",
    "dask": "comes with distributed",
    "debugpy": "is asked whether it is there",
    "entrypoints": "is kept from listing engines, where papermill asks it",
    "sitecustomize": "is the one that ours stands in front of",
}


def names_in(requirements: list[str]) -> set[str]:
    """What distributions are imported as."""
    names = {re.split(r"[^\w.-]", line)[0] for line in requirements}
    return {MODULES.get(name, name.replace("-", "_")) for name in names}


def imported() -> dict[str, list[str]]:
    """The packages of others that the source imports, wherever in a module, and the modules that do."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        if "templates" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=aliases):
                    modules = [alias.name for alias in aliases]
                case ast.ImportFrom(module=str(module), level=0):
                    modules = [module]
                case ast.Call(
                    func=ast.Name(id="import_module" | "find_spec")
                    | ast.Attribute(attr="import_module" | "find_spec"),
                    args=[ast.Constant(value=str(module)), *_],
                ):
                    modules = [module]
                case _:
                    continue
            for module in modules:
                found.setdefault(module.split(".")[0], []).append(path.name)
    ours = {"ductaflow", "pytest_ductaflow"}
    return {name: found[name] for name in found.keys() - ours - set(sys.stdlib_module_names)}


def test_it_asks_for_what_it_imports_and_no_more() -> None:
    """Both ways: nothing comes along by luck, and nobody installs what nothing needs."""
    declared = names_in(PROJECT["dependencies"])
    optional = names_in(PROJECT["optional-dependencies"]["dask"]) | GUESTS.keys()

    assert {} == {name: by for name, by in imported().items() if name not in declared | optional}
    assert set() == declared - imported().keys()


def test_what_it_says_of_itself_holds() -> None:
    """Its Pythons and systems are those that the tests run on, and every dependency has a lower bound."""
    matrix = yaml.safe_load((WORKFLOWS / "tests.yml").read_text())["jobs"]["tests"]["strategy"]["matrix"]
    systems = {"ubuntu": "POSIX :: Linux", "windows": "Microsoft :: Windows", "macos": "MacOS"}
    said = PROJECT["classifiers"]
    pythons = [line.rpartition(" ")[2] for line in said if re.search(r":: 3\.\d+$", line)]

    assert pythons == matrix["python"]
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    assert {f"Operating System :: {systems[name.split('-')[0]]}" for name in matrix["os"]} == {
        line for line in said if line.startswith("Operating System")
    }
    assert [] == [line for line in PROJECT["dependencies"] if ">=" not in line]
    assert {"Homepage", "Documentation", "Source", "Issues", "Changelog"} == PROJECT["urls"].keys()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The archive of sources, and the wheel made of what is in it."""
    folder = tmp_path_factory.mktemp("dist")
    hatch = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run([*hatch, "-t", "sdist"], cwd=ROOT, check=True, capture_output=True)
    [sources] = folder.iterdir()
    with tarfile.open(sources) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sources.name.removesuffix(".tar.gz")
    subprocess.run([*hatch, "-t", "wheel"], cwd=unpacked, check=True, capture_output=True)
    return sources, next(folder.glob("*.whl"))


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


@pytest.mark.slow
def test_the_distributions_have_what_they_need(built: tuple[Path, Path]) -> None:
    """Every file of the packages, from the sources alone, which hold nothing but what makes the wheel."""
    sources, wheel = built
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "src"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    tracked = {line.removeprefix("src/") for line in files.stdout.splitlines()}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    with tarfile.open(sources) as archive:
        besides = {name.split("/", 1)[1] for name in archive.getnames() if "/src/" not in name}

    assert tracked == packed
    assert {".gitignore", "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"} == besides


@pytest.mark.slow
def test_the_page_of_the_index_leads_somewhere(built: tuple[Path, Path]) -> None:
    """The description has no link or picture that holds in the repository alone."""
    about = metadata_of(built[1])
    text = str(about.get_payload())
    targets = re.findall(r"\]\(([^)\s]+)", text) + re.findall(r"""(?:src|href)=["']([^"']+)""", text)

    assert targets
    assert [] == [target for target in targets if not target.startswith(("https://", "#"))]
    assert set(PROJECT["urls"]) == {line.split(",")[0] for line in about.get_all("Project-URL", [])}


def test_a_release_is_checked_before_it_is_published() -> None:
    """A tag names the version; only one job may publish, and that runs no code of ours."""
    workflow = yaml.safe_load((WORKFLOWS / "publish.yml").read_text())
    # YAML reads the key `on` as true
    assert {"push": {"tags": ["v*"]}} == workflow[True]
    jobs = workflow["jobs"]
    text = " ".join(str(step.get("run", "")) for step in jobs["build"]["steps"])
    for check in (
        "python -m build",
        "twine check --strict",
        "check-wheel-contents",
        "cmp ",
        "GITHUB_REF_NAME",
    ):
        assert check in text
    assert {"contents": "read"} == workflow["permissions"]
    publish = jobs["publish"]
    assert {"id-token": "write"} == publish["permissions"]
    assert "pypi" == publish["environment"]["name"]
    assert all("run" not in step for step in publish["steps"])
    assert "build" in publish["needs"]
