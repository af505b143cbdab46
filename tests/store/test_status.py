"""The table of statuses, and that whoever shows or ranks one asks it."""

from __future__ import annotations

import pickle
import re
from importlib import resources
from pathlib import Path

import pytest
from support import page_data

from ductaflow.report import build_report, render_html
from ductaflow.store.result import BY_ATTENTION, Status, status_named, worst


def test_a_build_is_as_bad_as_the_worst_of_its_flows() -> None:
    """From best to worst; nothing at all is a success."""
    order = ["unchanged", "success", "warning", "not_run", "blocked", "error"]
    assert order == sorted(Status, key=lambda status: status.severity)
    assert Status.SUCCESS is worst([])
    assert Status.BLOCKED is worst([Status.SUCCESS, Status.BLOCKED, Status.NOT_RUN])


def test_what_needs_a_person_comes_first() -> None:
    """Lists begin with errors and end with what did not run; the first three need a person."""
    assert ["error", "blocked", "warning", "success", "unchanged", "not_run"] == list(BY_ATTENTION)
    assert ["error", "blocked", "warning"] == [each for each in BY_ATTENTION if each.needs_attention]


@pytest.mark.parametrize(
    ("fact", "expected"),
    [
        ("is_good", {"success", "warning"}),
        ("is_error", {"error"}),
        ("is_verdict", {"success", "warning", "error"}),
        ("has_run", {"success", "warning", "error", "unchanged"}),
        ("has_good_run", {"success", "warning", "unchanged"}),
    ],
)
def test_facts(fact: str, expected: set[str]) -> None:
    """Which statuses have a fact."""
    assert expected == {status for status in Status if getattr(status, fact)}


@pytest.mark.parametrize("word", ["Failed", " red ", "error", "TIMEOUT"])
def test_words_for_an_error(word: str) -> None:
    """Conductors of people have words of their own, in any case."""
    assert Status.ERROR is status_named(word)


def test_no_word_means_two_statuses() -> None:
    """Each synonym leads to its own status, also with a blank; an unknown word to none."""
    assert all(status is status_named(word) for status in Status for word in (status, *status.synonyms))
    assert Status.NOT_RUN is status_named("not run")
    assert status_named("weird") is None


def test_a_status_is_its_word_in_files_and_between_processes() -> None:
    """As JSON and pickled it is the same member again."""
    assert all(status is Status(str(status)) is pickle.loads(pickle.dumps(status)) for status in Status)


def test_the_page_has_the_table_as_data(tmp_path: Path) -> None:
    """The script lists no status itself."""
    data = build_report([], session_id="s", started="", finished="", runs_dir=tmp_path)
    found = page_data(render_html(data)).head["statuses"]
    assert list(BY_ATTENTION) == [status["name"] for status in found]
    assert [status.word for status in BY_ATTENTION] == [status["word"] for status in found]


@pytest.mark.parametrize("status", Status)
def test_a_status_has_colours_and_a_sign_on_the_page(status: Status) -> None:
    """In light and dark, as a class and as a symbol."""
    assets = resources.files("ductaflow.report") / "assets"
    css, html = (assets / "base.css").read_text(), (assets / "page.html").read_text()
    assert 2 == len(re.findall(rf"--{status}: #", css)) == len(re.findall(rf"--{status}-soft: #", css))
    assert f".s-{status} {{" in css
    assert f'id="sign-{status}"' in html
