"""What README, pages and CONTRIBUTING say holds: options, names, links, the packages of the design."""

from __future__ import annotations

import doctest
import inspect
import re
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
from support import TinyProject
from test_house import FLOOR_OF, modules, package_of

import ductaflow
from ductaflow.cli.app import main
from ductaflow.project.options import RunOptions
from ductaflow.project.settings import Settings
from ductaflow.store.result import Status

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
#: Where the links of the README begin: it is read on a package index too.
_BLOB = "https://github.com/ductaflow/ductaflow/blob/main/"
_RAW = "https://raw.githubusercontent.com/ductaflow/ductaflow/main/"


def test_the_two_commands_are_there() -> None:
    """The set-up is two commands, each on a line of its own, as `.ci/run` takes them."""
    main = r'^pip install -e "\.\[example\]" && pytest --ductaflow example_project$'
    assert re.search(main, README, re.MULTILINE)
    assert re.search(r'^pip install -e "\.\[test\]" && pytest$', README, re.MULTILINE)


def test_all_options_are_listed(pytester: pytest.Pytester) -> None:
    """Each option of the plugin is on the page of options; no page has one that there is not."""
    shown = pytester.runpytest_subprocess("--help").stdout.str()
    pattern = r"--ductaflow[a-z-]*"
    there = set(re.findall(pattern, shown))
    assert there == set(re.findall(pattern, PAGES["options.md"]))
    named = {name: set(re.findall(pattern, text)) for name, text in {**PAGES, "README.md": README}.items()}
    assert {} == {name: found - there for name, found in named.items() if found - there}
    assert "ductaflow_" not in shown


def test_all_commands_are_listed() -> None:
    """Each command has a line in the table of its page, and its options are named on the page."""
    text = PAGES["commands.md"]
    options = {
        option
        for command in main.commands.values()
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for option in parameter.opts
    }
    assert set(main.commands) == set(re.findall(r"^\| `ductaflow (\w+)", text, re.MULTILINE))
    assert set() == options - set(re.findall(r"(?<![\w-])-{1,2}[a-z][a-z-]*", text))


def test_all_settings_are_listed() -> None:
    """Each setting is on its page with its default, and none that is not there."""
    text = PAGES["options.md"]
    table = text[text.index("| setting |") : text.index("The project is the nearest")]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.MULTILINE))
    assert {one.name for one in fields(Settings)} - {"only_changed"} == set(rows)
    values = {name: text.strip("`") for name, text in rows.items() if text.startswith("`")}
    assert (
        Settings().but(**tomllib.loads("\n".join(f"{name} = {text}" for name, text in values.items())))
        == Settings()
    )


def test_all_names_are_listed() -> None:
    """What `from ductaflow import ...` gives is on the page of names, once, and nothing else is."""
    assert ductaflow.__all__ == sorted(re.findall(r"^::: ductaflow\.(\w+)$", PAGES["api.md"], re.MULTILINE))
    for name in ductaflow.__all__:
        assert getattr(ductaflow, name) is not None


def test_all_statuses_are_listed() -> None:
    """Both tables of the page have each status: when it is one, and what it is in pytest."""
    tables = [re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) for table in PAGES["status.md"].split("## ")]
    assert [sorted(status.value for status in Status)] * 2 == [sorted(table) for table in tables]


def test_all_keys_of_run_are_listed() -> None:
    """Each key of `_run` has a line in the table of its page, and none that is not there."""
    text = PAGES["project.md"]
    table = text[text.index("| `_run` key |") :].partition("\n\n")[0]
    listed = {
        name
        for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", cell)
    }
    assert {one.name for one in fields(RunOptions)} == listed - {"_run"}


PUBLIC_FUNCTIONS = [name for name in ductaflow.__all__ if inspect.isfunction(getattr(ductaflow, name))]


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> TinyProject:
    """The project that the examples speak of: a flow that has run for one of its instances, and a build."""
    project = TinyProject(tmp_path_factory.mktemp("documented") / "project")
    project.flow("fit", "# %%\nprint('x is', config['x'])\n_ = open('x.txt', 'w').write('1')\n")
    project.flow("projection", "pass", kind="builds")
    for number, name in enumerate(("scenario_A", "scenario_B"), start=1):
        project.config(f"flows/fit/{name}.json", x=number)
    (project.root / "inputs").mkdir()
    (project.root / "inputs/zones.db").touch()
    ductaflow.run_instance(ductaflow.load_stored(ductaflow.Project.at(project.root), "fit/scenario_A"))
    return project


@pytest.mark.parametrize("name", PUBLIC_FUNCTIONS)
def test_every_public_function_has_an_example_that_runs(
    documented: TinyProject, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example in its docstring does what it shows; one that is a flow runs as a script."""
    monkeypatch.chdir(shutil.copytree(documented.root, tmp_path / "project"))
    text = inspect.getdoc(getattr(ductaflow, name)) or ""
    example = text.partition("\nExample:\n")[2]
    assert example
    if ">>>" not in example:
        Path("config/flows/trend.json").write_text('{"x": 1}')
        Path("flows/trend.py").write_text(inspect.cleandoc(example), encoding="utf-8")
        done = subprocess.run([sys.executable, "flows/trend.py"], capture_output=True, encoding="utf-8")
        assert 0 == done.returncode, done.stderr
        assert "1" in done.stdout.splitlines()
        return
    names = {public: getattr(ductaflow, public) for public in ductaflow.__all__}
    given = {**names, "Path": Path, "sqlite3": sqlite3}
    parsed = doctest.DocTestParser().get_doctest(example, given, name, None, None)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    failed, _ = runner.run(parsed, out=said.append, clear_globs=False)
    for made in parsed.globs.values():
        if isinstance(made, sqlite3.Connection):
            made.close()  # from Python 3.13 on, one that nobody closes is a warning
    assert not failed, "".join(said)


def test_the_good_test_of_contributing_passes(project: TinyProject) -> None:
    """What CONTRIBUTING shows as a good test is one."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {"TinyProject": TinyProject}
    exec(code, names)
    names["test_a_run_that_is_killed_says_by_what"](project)


def test_the_house_of_the_design() -> None:
    """The design lists every package on its floor, and every module in its package."""
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    block = design[design.index("## 4. The house") : design.index("## 5.")]
    floors: dict[str, int] = {}
    listed: dict[str, set[str]] = {}
    for line in block.splitlines():
        if found := re.match(r"(\d)  src/(\S+)/ ", line):
            package = found[2].replace("/", ".")
            floors[package] = int(found[1]) - 1
        elif found := re.match(r"     (\w+(?:/\w+)*)\.py ", line):
            listed.setdefault(package, set()).add(found[1].replace("/", "."))
    expected: dict[str, set[str]] = {}
    for module in modules():
        name = module.removeprefix(package_of(module)).lstrip(".")
        if name or module == "ductaflow":
            expected.setdefault(package_of(module), set()).add(name or "__init__")
    assert FLOOR_OF == floors
    assert expected == listed


@pytest.mark.parametrize("document", ["docs/design.md", "CONTRIBUTING.md"])
def test_what_documents_say_of_the_source_exists(document: str) -> None:
    """Each file of the source, and each name in a module, that design and CONTRIBUTING speak of is there."""
    text = (ROOT / document).read_text(encoding="utf-8")
    sources = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "src").glob("*/**/*.py")}
    files = [
        path.relative_to(ROOT).as_posix() for part in ("src", "tests") for path in (ROOT / part).rglob("*.*")
    ]
    written = re.findall(r"`(?:src/)?([\w/]+\.(?:py|js|css|html))`", text)
    names = [found for found in re.findall(r"`(?:\w+/)*(\w+)\.(\w+)(?:\.\w+)*`", text) if found[0] in sources]
    unknown = [name for name in written if not any(f"/{file}".endswith(f"/{name}") for file in files)]
    unknown += [
        f"{module}.{name}"
        for module, name in names
        if name not in ("py", "json", "html", "md")
        and not re.search(rf"^(?:def |class )?{name}\b", sources[module], re.MULTILINE)
    ]
    assert len(written) + len(names) > 10
    assert [] == unknown


def slug(heading: str) -> str:
    """The anchor of a heading, on GitHub and on the site alike."""
    plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", plain).strip())


def anchors(text: str) -> set[str]:
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)}


def links(text: str) -> list[str]:
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"\]\(([^)\s]+)\)", without_code) + re.findall(r'src="([^"]+)"', without_code)


def is_there(target: str, folder: Path, page: str) -> bool:
    """Whether the file of a link is in the repository, with its anchor."""
    path, _, anchor = target.partition("#")
    file = folder / path
    text = (
        page
        if not path
        else file.read_text(encoding="utf-8")
        if file.suffix == ".md" and file.is_file()
        else ""
    )
    return (not path or file.is_file()) and (not anchor or anchor in anchors(text))


def test_the_links_of_the_readme() -> None:
    """They are absolute, as a package index needs them, and each document, anchor and picture is there."""
    targets = links(README)
    ours = [target.removeprefix(_BLOB).removeprefix(_RAW) for target in targets]
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)

    assert [] == [target for target in targets if not target.startswith("https://")]
    assert [] == [target for target in pictures if not target.startswith(_RAW)]
    assert [] == [
        target for target in ours if not target.startswith("https://") and not is_there(target, ROOT, README)
    ]
    assert len(ours) > 15


def test_the_readme_is_short() -> None:
    """At most 150 lines; the first success is among the first forty."""
    lines = README.splitlines()
    assert len(lines) <= 150
    assert "pip install pytest-ductaflow" in lines[:40]


@pytest.mark.parametrize("name", PAGES)
def test_no_bar_in_the_code_of_a_table(name: str) -> None:
    """GitHub shows `a\\|b` as `a|b` there, and the site as it stands."""
    assert "\\|" not in PAGES[name]


@pytest.mark.parametrize("name", PAGES)
def test_the_links_of_a_page(name: str) -> None:
    """Each document, anchor and picture that a page links to is there, for who reads it on GitHub."""
    text = PAGES[name]
    targets = [target for target in links(text) if not target.startswith("https://")]
    assert [] == [target for target in targets if not is_there(target, ROOT / "docs", text)]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """mkdocstrings has none either; every page is in the navigation; nothing is fetched from elsewhere."""
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "mkdocs.yml").write_text(settings, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("Build ")]
    pages = re.findall(r": (\S+\.md)$", settings, re.MULTILINE)
    site = {path: path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")}
    fetched = r"<(?:script|img|iframe)[^>]+src=.?https?:|<link[^>]+(?:stylesheet|icon)[^>]+href=.?https?:"

    assert (0, ["No issues found"]) == (done.returncode, said)
    assert sorted(PAGES) == sorted(pages)
    assert len(pages) + 1 == len(site)  # and the page of what is not there
    assert [] == [found for text in site.values() for found in re.findall(fetched, text)]
    api = (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
    assert [] == [name for name in ductaflow.__all__ if f'id="ductaflow.{name}"' not in api]
