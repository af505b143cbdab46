"""What is known of the commit and of the run of CI, and the links that are made of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ductaflow.common.ci import SourceLinks, checkout_of, ci_run

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "me/models",
    "GITHUB_RUN_ID": "77",
    "GITHUB_SHA": "c0ffee",
    "GITHUB_REF_NAME": "main",
}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_JOB_URL": "https://git.example.org/sub/me/models/-/jobs/5",
    "CI_PROJECT_URL": "https://git.example.org/sub/me/models",
    "CI_COMMIT_SHA": "c0ffee",
    "CI_COMMIT_REF_NAME": "main",
}
JENKINS = {
    "JENKINS_URL": "https://ci.example.org/",
    "BUILD_URL": "https://ci.example.org/job/models/5/",
    "GIT_COMMIT": "c0ffee",
    "GIT_BRANCH": "origin/main",
    "GIT_URL": "git@github.com:me/models.git",
}
AZURE = {
    "TF_BUILD": "True",
    "SYSTEM_COLLECTIONURI": "https://dev.azure.com/me/",
    "SYSTEM_TEAMPROJECT": "the models",
    "BUILD_BUILDID": "5",
    "BUILD_SOURCEVERSION": "c0ffee",
    "BUILD_SOURCEBRANCH": "refs/heads/main",
    "BUILD_REPOSITORY_URI": "https://me@dev.azure.com/me/models/_git/models",
}
SERVICES = {
    "GitHub Actions": (
        GITHUB,
        "https://github.com/me/models/actions/runs/77",
        "https://github.com/me/models/blob/c0ffee/flows/a%20b.py#L20",
    ),
    "GitLab": (
        GITLAB,
        "https://git.example.org/sub/me/models/-/jobs/5",
        "https://git.example.org/sub/me/models/-/blob/c0ffee/flows/a%20b.py#L20",
    ),
    "Jenkins": (
        JENKINS,
        "https://ci.example.org/job/models/5",
        "https://github.com/me/models/blob/c0ffee/flows/a%20b.py#L20",
    ),
    "Azure Pipelines": (
        AZURE,
        "https://dev.azure.com/me/the%20models/_build/results?buildId=5",
        "https://dev.azure.com/me/models/_git/models?path=/flows/a%20b.py&version=GCc0ffee"
        "&line=20&lineEnd=21&lineStartColumn=1&lineEndColumn=1",
    ),
}
FOLDER = {"GitHub Actions": "GITHUB_WORKSPACE", "GitLab": "CI_PROJECT_DIR", "Jenkins": "WORKSPACE"}


@pytest.fixture(autouse=True)
def outside_of_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests may run in CI themselves."""
    for given in (GITHUB, GITLAB, JENKINS, AZURE):
        for name in given:
            monkeypatch.delenv(name, raising=False)


def repository(folder: Path, remote: str = "") -> str:
    """Commit what lies in a folder; return the commit."""
    git = ["git", "-C", str(folder), "-c", "user.name=me", "-c", "user.email=me@example.org"]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "all"], check=True)
    if remote:
        subprocess.run([*git, "remote", "add", "origin", remote], check=True)
    return subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()


def put(path: Path, text: str = "pass\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_gives_its_run_and_links_to_lines(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without git the variables of CI alone say where the repository lies and which commit it is."""
    variables, page, line = SERVICES[service]
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(FOLDER.get(service, "BUILD_SOURCESDIRECTORY"), str(tmp_path))
    run = ci_run()
    assert run is not None
    assert (service, page, "c0ffee", "main") == (run.service, run.url, run.commit, run.branch)
    links = SourceLinks(tmp_path)
    assert line == links.url(put(tmp_path / "flows" / "a b.py"), 20)
    assert links.url(tmp_path.parent / "elsewhere.py", 20) is None


@pytest.mark.parametrize(
    ("given", "branch"),
    [
        ({**GITHUB, "GITHUB_HEAD_REF": "fix", "GITHUB_REF_NAME": "7/merge"}, "fix"),
        ({**GITLAB, "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "fix"}, "fix"),
        ({**JENKINS, "BRANCH_NAME": "PR-7", "CHANGE_BRANCH": "fix"}, "fix"),
        ({**AZURE, "SYSTEM_PULLREQUEST_SOURCEBRANCH": "refs/heads/fix"}, "fix"),
    ],
)
def test_the_branch_of_a_pull_request_is_the_one_to_merge(given: dict[str, str], branch: str) -> None:
    """Not the name that the service gives to the merge."""
    run = ci_run(given)
    assert run is not None
    assert branch == run.branch


def test_a_second_attempt_has_a_page_of_its_own() -> None:
    """The page of a run without an attempt is that of the last one."""
    run = ci_run({**GITHUB, "GITHUB_RUN_ATTEMPT": "2"})
    assert run is not None
    assert run.url == "https://github.com/me/models/actions/runs/77/attempts/2"


def test_there_is_no_run_outside_of_ci() -> None:
    """Nor where a service says that it is not on."""
    assert ci_run({}) is None
    assert ci_run({**GITHUB, "GITHUB_ACTIONS": "false"}) is None


def test_only_addresses_of_the_web_are_links() -> None:
    """A link of a page runs nothing, whatever the variables hold, and shows no password."""
    run = ci_run({**GITLAB, "CI_JOB_URL": "javascript:alert(1)", "CI_PROJECT_URL": "https://u:p@host/me/m"})
    assert run is not None
    assert run.url is None
    assert run.repository == "https://host/me/m"


def test_a_project_that_is_a_part_of_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links begin at the root of the repository, with the commit that is checked out."""
    source = put(tmp_path / "models" / "flows" / "demand.py")
    commit = repository(tmp_path, "git@github.com:Me/Models.git")
    for name, value in GITHUB.items():
        monkeypatch.setenv(name, value)
    url = SourceLinks(tmp_path / "models").url(source, 20)
    assert url == f"https://github.com/me/models/blob/{commit}/models/flows/demand.py#L20"


def test_what_the_commit_does_not_have_as_it_is_has_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to a file that is not committed leads nowhere; to one that was changed, to another line."""
    changed = put(tmp_path / "flows" / "changed.py")
    put(tmp_path / ".gitignore", "made.py\n")
    repository(tmp_path)
    put(changed, "x = 1\n")
    for name, value in GITHUB.items():
        monkeypatch.setenv(name, value)
    links = SourceLinks(tmp_path)
    assert links.url(changed, 1) is None
    assert links.url(put(tmp_path / "flows" / "new.py"), 1) is None
    assert links.url(put(tmp_path / "flows" / "made.py"), 1) is None
    assert links.url(tmp_path / "flows" / "gone.py", 1) is None
    assert links.url(tmp_path / ".gitignore", 1) is not None


def test_a_checkout_of_another_repository_has_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workflow may check out a second one; its commits are not those of the first."""
    source = put(tmp_path / "flows" / "demand.py")
    repository(tmp_path, "https://github.com/you/other")
    for name, value in GITHUB.items():
        monkeypatch.setenv(name, value)
    assert SourceLinks(tmp_path).url(source, 1) is None


def test_a_checkout_has_commit_branch_and_whether_it_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a commit is checked out and no branch, as in CI, the variables name the branch."""
    source = put(tmp_path / "flows" / "demand.py")
    commit = repository(tmp_path)
    found = checkout_of(source.parent)
    assert found is not None
    assert (tmp_path.resolve(), commit, "main", False) == (
        found.root.resolve(),
        found.commit,
        found.branch,
        found.dirty,
    )
    put(source, "x = 1\n")
    subprocess.run(["git", "-C", str(tmp_path), "checkout", "-q", "--detach"], check=True)
    found = checkout_of(tmp_path)
    assert found is not None
    assert (None, True) == (found.branch, found.dirty)
    for name, value in {**GITHUB, "GITHUB_SHA": commit}.items():
        monkeypatch.setenv(name, value)
    found = checkout_of(tmp_path)
    assert found is not None
    assert found.branch == "main"
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent.parent))
    assert checkout_of(tmp_path.parent) is None
