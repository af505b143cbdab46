"""The commit that files are of, the run of CI that this process is part of, and links to both.

checkout_of(folder)               commit, branch and root, as git and the variables of CI have them
ci_run()                          GitHub Actions, GitLab, Jenkins, Azure Pipelines; None elsewhere
SourceLinks(folder).url(path, 20) https://github.com/me/models/blob/<commit>/flows/demand.py#L20
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

_GIT_SECONDS = 10
#: User and password in an address.
_USER = re.compile(r"(?<=//)[^/@]*@")


@dataclass(frozen=True, slots=True)
class Checkout:
    """The state of a repository.

    Attributes:
        root: its folder.
        commit: the whole hash.
        branch: None if no branch is checked out, as far as is known.
        dirty: whether files of the repository differ from the commit.
    """

    root: Path
    commit: str
    branch: str | None
    dirty: bool


@dataclass(frozen=True, slots=True)
class CIRun:
    """One run of a job in CI.

    Attributes:
        service: its name, for people.
        url: of its page.
        commit, branch: what it was started for; the branch of a pull request is the one to merge.
        workspace: the folder in which it has checked the repository out.
        repository: address of the repository on the web.
    """

    service: str
    url: str | None
    commit: str | None
    branch: str | None
    workspace: Path | None
    repository: str | None


def ci_run(variables: Mapping[str, str] | None = None) -> CIRun | None:
    """Return the run of CI that this process is part of, by its environment variables; None outside of CI."""
    given = os.environ if variables is None else variables
    for is_there, facts in _SERVICES:
        if is_there(given):
            return facts(given)
    return None


def _github(given: Mapping[str, str]) -> CIRun:
    server, name, number = (given.get(f"GITHUB_{key}", "") for key in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    repository = _address(f"{server}/{name}") if server and name else None
    attempt = given.get("GITHUB_RUN_ATTEMPT", "1")
    page = f"{repository}/actions/runs/{number}{f'/attempts/{attempt}' if attempt != '1' else ''}"
    return CIRun(
        "GitHub Actions",
        page if repository and number else None,
        given.get("GITHUB_SHA") or None,
        given.get("GITHUB_HEAD_REF") or given.get("GITHUB_REF_NAME") or None,
        _folder(given.get("GITHUB_WORKSPACE")),
        repository,
    )


def _gitlab(given: Mapping[str, str]) -> CIRun:
    return CIRun(
        "GitLab",
        _address(given.get("CI_JOB_URL")),
        given.get("CI_COMMIT_SHA") or None,
        given.get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME") or given.get("CI_COMMIT_REF_NAME") or None,
        _folder(given.get("CI_PROJECT_DIR")),
        _address(given.get("CI_PROJECT_URL")),
    )


def _jenkins(given: Mapping[str, str]) -> CIRun:
    branch = given.get("CHANGE_BRANCH") or given.get("BRANCH_NAME") or given.get("GIT_BRANCH", "")
    return CIRun(
        "Jenkins",
        _address(given.get("BUILD_URL")),
        given.get("GIT_COMMIT") or None,
        branch.removeprefix("origin/") or None,
        _folder(given.get("WORKSPACE")),
        _web_address(given.get("GIT_URL", "")),
    )


def _azure(given: Mapping[str, str]) -> CIRun:
    place, project = given.get("SYSTEM_COLLECTIONURI", "").rstrip("/"), given.get("SYSTEM_TEAMPROJECT", "")
    page = f"{place}/{quote(project)}/_build/results?buildId={given.get('BUILD_BUILDID', '')}"
    branch = given.get("SYSTEM_PULLREQUEST_SOURCEBRANCH") or given.get("BUILD_SOURCEBRANCH", "")
    return CIRun(
        "Azure Pipelines",
        _address(page) if given.get("BUILD_BUILDID") else None,
        given.get("BUILD_SOURCEVERSION") or None,
        branch.removeprefix("refs/heads/") or None,
        _folder(given.get("BUILD_SOURCESDIRECTORY")),
        _address(given.get("BUILD_REPOSITORY_URI")),
    )


_SERVICES: tuple[tuple[Callable[[Mapping[str, str]], bool], Callable[[Mapping[str, str]], CIRun]], ...] = (
    (lambda given: given.get("GITHUB_ACTIONS") == "true", _github),
    (lambda given: given.get("GITLAB_CI") == "true", _gitlab),
    (lambda given: bool(given.get("JENKINS_URL")), _jenkins),
    (lambda given: given.get("TF_BUILD", "").lower() == "true", _azure),
)


def _folder(text: str | None) -> Path | None:
    return Path(text) if text else None


def _address(text: str | None) -> str | None:
    """Return an address of the web without user and password; None for what is none."""
    if not text or not re.match(r"https?://[^/\s]", text):
        return None
    return _USER.sub("", text.strip()).rstrip("/").removesuffix(".git")


def _web_address(remote: str) -> str | None:
    """Return the address on the web of a remote repository; None for servers that we do not know."""
    found = re.match(r"(?:https?://|ssh://|)(?:[^/@]*@)?(github\.com|gitlab\.com)[:/]", remote)
    return f"https://{found[1]}/{_name_of(remote)}" if found else None


def _name_of(remote: str) -> str:
    """Return `owner/name` of the address of a repository, in any of the ways to write it."""
    path = re.sub(r"^(?:[a-z+]+://(?:[^/@]*@)?[^/]+/|[^/:]+:)", "", remote.strip(), count=1)
    return path.strip("/").removesuffix(".git")


# --- git ---------------------------------------------------------------------------------------------------


def checkout_of(folder: Path) -> Checkout | None:
    """Return the commit of a folder; None where git is not, or knows none.

    The branch is CI's where git has none, since there a commit is checked out and no branch.
    """
    found = git(folder, "rev-parse", "--show-toplevel", "HEAD", "--abbrev-ref", "HEAD")
    if found is None:
        return None
    root, commit, branch = found.splitlines()[-3:]
    changes = git(folder, "status", "--porcelain", "--untracked-files=no")
    named = branch if branch != "HEAD" else None
    if named is None and (run := ci_run()) and run.commit == commit:
        named = run.branch
    return Checkout(Path(root), commit, named, bool(changes))


def git(folder: Path, *arguments: str) -> str | None:
    """Return what git says in a folder, without space around it; None if it is not there, fails or hangs."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", os.fspath(folder), *arguments],
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return os.fsdecode(done.stdout).strip() if done.returncode == 0 else None


# --- links to lines of the source --------------------------------------------------------------------------


class SourceLinks:
    """Links to lines of sources as the commit has them, where a run of CI has checked them out.

    Args:
        folder: of the project, which may be a part of the repository.
    """

    def __init__(self, folder: Path) -> None:
        run = ci_run()
        self._repository = (run and run.repository) or ""
        self._service = run.service if run else ""
        self._root: Path | None = None
        self._commit, self._has_git = "", False
        self._inside = functools.cache(self._path_in_commit)
        if run is None or not self._repository:
            return
        found = checkout_of(folder)
        if found is None:
            self._root, self._commit = run.workspace, run.commit or ""
            return
        remote = git(folder, "remote", "get-url", "origin")
        # A part that is another repository has other commits.
        if not remote or _same_repository(remote, self._repository):
            self._root, self._commit, self._has_git = found.root, found.commit, True

    def url(self, path: Path, line: int | None = None) -> str | None:
        """Return the address of a line; None if the commit does not have the file as it is."""
        if not self._commit or (inside := self._inside(path)) is None:
            return None
        web = urlsplit(self._repository)
        if "_git" in web.path.split("/"):
            # a repository of Azure
            at = f"&line={line}&lineEnd={line + 1}&lineStartColumn=1&lineEndColumn=1" if line else ""
            return f"{self._repository}?path=/{quote(inside)}&version=GC{self._commit}{at}"
        is_gitlab = self._service == "GitLab" or web.hostname == "gitlab.com"
        between = "/-/blob" if is_gitlab else "/blob"
        return f"{self._repository}{between}/{self._commit}/{quote(inside)}{f'#L{line}' if line else ''}"

    def _path_in_commit(self, path: Path) -> str | None:
        if self._root is None:
            return None
        real, root = os.path.realpath(path), os.path.realpath(self._root)
        if not real.startswith(os.path.join(root, "")):
            return None
        inside = os.path.relpath(real, root)
        if self._has_git:
            # Nothing is said of a file that is there and as it was committed.
            state = git(self._root, "status", "--porcelain", "--ignored", "--", f":(top,literal){inside}")
            if state != "" or not os.path.isfile(real):
                return None
        return inside.replace(os.sep, "/")


def _same_repository(remote: str, web: str) -> bool:
    name, other = _name_of(remote).lower(), _name_of(web).lower()
    return name.endswith(other) or other.endswith(name)
