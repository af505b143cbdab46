"""The pytest plugin: its options, and which hooks take part. Inert without `--ductaflow`.

options                -> collection: items.SessionOptions, and the settings of each project
which files are items  -> collection.InstanceHooks, projects.Projects, items.InstanceFile
one item               -> items.InstanceItem: setup, runtest
which worker, when     -> xdist_scheduler.GraphScheduling
which machine          -> shards.Sharding
new warnings           -> baseline.Baseline
results                -> controller.ControllerHooks, artifact.Artifact, summary, github.GitHub
while it runs          -> progress.Live
--pdb, --trace         -> debugger
Ctrl-C, SIGTERM        -> signals
"""

from __future__ import annotations

import contextlib

import pytest

#: Options without a value, and those with one: its name, and what it means.
_FLAGS = {
    "": "Collect and run the stored instances",
    "-changed": "Run what has changed since its last good run; the rest is `unchanged`",
    "-upstream": "Run also what the selected instances read from, at any distance",
    "-downstream": "Run also what reads from the selected instances, at any distance",
    "-accept": "Make the results of what ran the expected ones; the exit code is 1 if that changed any",
    "-durations-update": "Write to the file of durations what the good runs of this session took",
    "-baseline-update": "Write the warnings of this session to the baseline, and fail on none",
    "-baseline-strict": "Fail also if a warning of the baseline no longer occurs",
    "-no-html": "Make no HTML of the notebooks",
    "-no-report": "Write no status report",
}
_VALUES = {
    "-timeout": ("SECONDS", "Limit of a run whose config has none. Default: the setting timeout, if any."),
    "-engine": ("NAME", "What executes the cells. Default: the setting engine, else a warm process."),
    "-shard": ("I/N", "Run one of N shares of the selection, such as 2/5, with all that it reads from"),
    "-durations": ("FILE", "Seconds of instances, to balance the shares. Default: the setting durations."),
    "-baseline": ("FILE", "Fail on warnings that this file does not have. Default: the setting baseline."),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ductaflow", "stored instances of flows and builds as tests (ductaflow)")
    for name, meaning in _FLAGS.items():
        group.addoption(f"--ductaflow{name}", action="store_true", help=meaning)
    for name, (value, meaning) in _VALUES.items():
        kind = float if value == "SECONDS" else str
        group.addoption(f"--ductaflow{name}", metavar=value, type=kind, help=meaning)


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("ductaflow"):
        return
    try:
        from pytest_ductaflow.collection import InstanceHooks
    except ImportError as exc:
        # The name `ductaflow` is that of a file in the project, which says that it is of another version.
        if type(exc).__name__ == "OneFileError":
            raise pytest.UsageError(str(exc)) from None
        raise

    common = InstanceHooks(config)
    config.pluginmanager.register(common, "ductaflow-instances")
    if not hasattr(config, "workerinput") and not config.option.collectonly:
        from pytest_ductaflow.controller import ControllerHooks

        config.pluginmanager.register(ControllerHooks(config, common), "ductaflow-controller")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Help who pasted the node id of an instance without the flag: for pytest it is in no file."""
    if exitstatus == pytest.ExitCode.USAGE_ERROR and not config.getoption("ductaflow"):
        named = [kind for kind in ("/flows/", "/builds/") if any(kind in text for text in config.args)]
        if named and (stored := _stored_by(config)):
            terminalreporter.write_line(f"ductaflow: to run what is stored in {stored}/, add --ductaflow")


def _stored_by(config: pytest.Config) -> str | None:
    """The config folder that an argument lies in, by its name; None if none does."""
    from pytest_ductaflow.projects import Projects, named_paths

    projects = Projects(config.rootpath, config.invocation_params.dir)
    with contextlib.suppress(pytest.UsageError):
        # what is wrong with the settings is said to those who ask for our part
        for path in named_paths(config):
            if root := projects.root_of_config(path):
                return projects.settings_at(root).config_dir
    return None
