"""The report while a session runs: what it plans, when it is written, and how it ends."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import a_result, full_disk, stored

from ductaflow.common.errors import DuctaflowError
from ductaflow.common.paths import REPORT_HTML, REPORT_JSON, RunFolder
from ductaflow.report import (
    Entry,
    LiveReport,
    Working,
    build_report,
    render_html,
)
from ductaflow.report.schema import AtWork, Origin

STARTED, FINISHED = "2030-01-02T03:04:05.000Z", "2030-01-02T03:06:10.000Z"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


class Clock:
    """A clock that only the test moves; a write takes `cost` seconds of it, and `work` of the processor."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cost: float = 0.0, work: float = 0.0) -> None:
        from ductaflow.report import live

        self.now, self.worked, self.writes = 100.0, 0.0, 0
        write = live._write

        def counted(*args: Any) -> Path:
            self.writes += 1
            self.now += cost
            self.worked += work
            return write(*args)

        monkeypatch.setattr(live, "_write", counted)
        monkeypatch.setattr(live.LiveReport, "clock", staticmethod(lambda: self.now))
        monkeypatch.setattr(live.LiveReport, "work", staticmethod(lambda: self.worked))


@pytest.fixture
def live(runs: Path) -> Iterator[LiveReport]:
    report = LiveReport(runs, session_id="s1", min_interval=1000.0)
    yield report
    report.close()


def twin(runs: Path) -> dict[str, Any]:
    return json.loads((runs / REPORT_JSON).read_text())  # type: ignore[no-any-return]


def test_planned_instances_are_on_the_page_from_the_start(runs: Path, live: LiveReport) -> None:
    """What has not run yet is shown as that, beside what earlier sessions left."""
    stored(runs, a_result(instance="old"))
    live.expect([Entry(a_result("not_run", instance=name)) for name in "ab"])

    data = twin(runs)

    assert [instance["id"] for instance in data["instances"]] == ["fit/old", "fit/a", "fit/b"]
    assert (data["summary"]["not_run"], data["earlier_summary"]["success"], data["finished"]) == (2, 1, None)


def test_live_report_ends_as_the_report_made_at_once(runs: Path) -> None:
    """The page that grew is the page that `build_report` and `write_report` make."""
    result = stored(runs, a_result("error", cause="exit", message="\u2028"))
    live = LiveReport(runs, session_id="s1")
    live.update(Entry(result, "n"))

    path = live.close(FINISHED)

    made = build_report(
        [Entry(result, "n")], session_id="s1", started=STARTED, finished=FINISHED, runs_dir=runs
    )
    data = made | {key: twin(runs)[key] for key in ("started", *Origin.__annotations__)}
    assert data == twin(runs)
    assert render_html(data) == path.read_text()


def test_update_replaces_the_planned_instance_in_its_place(runs: Path, live: LiveReport) -> None:
    """One id is one row."""
    live.expect([Entry(a_result("not_run", instance=name)) for name in "ab"])
    live.update(Entry(a_result("warning", instance="a")))
    live.close()

    assert [instance["status"] for instance in twin(runs)["instances"]] == ["warning", "not_run"]


def test_writes_keep_their_distance(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the interval nothing is written; what was held back is on the next page."""
    clock = Clock(monkeypatch)
    live = LiveReport(runs, session_id="s1", min_interval=1000.0)
    live.expect([Entry(a_result("not_run"))])
    live.update(Entry(a_result("success")))
    assert (clock.writes, twin(runs)["summary"]["not_run"]) == (1, 1)

    clock.now += 1000.0
    live.update(Entry(a_result("warning", instance="b")))

    assert (clock.writes, twin(runs)["summary"]["success"], twin(runs)["summary"]["warning"]) == (2, 1, 1)
    live.close()


@pytest.mark.parametrize(
    ("cost", "work", "rest"),
    [(0.0, 0.0, 1.0), (100.0, 0.0, 1.0), (0.75, 0.02, 4.0), (0.0, 0.05, 10.0), (9.0, 5.0, 15.0)],
)
def test_a_result_is_on_the_page_within_15_seconds(
    runs: Path, monkeypatch: pytest.MonkeyPatch, cost: float, work: float, rest: float
) -> None:
    """The next write waits 200 times the processor time of the last one, at most 15 s, however slow the disk.

    The first write does not count: it also reads what earlier sessions left.
    """
    clock = Clock(monkeypatch, cost, work)
    live = LiveReport(runs, session_id="s1")
    live.expect([])
    live.update(Entry(a_result()))
    assert 1 == clock.writes
    clock.now += 1.0
    live.update(Entry(a_result()))
    assert 2 == clock.writes
    clock.now += rest - 0.01
    live.update(Entry(a_result()))
    assert 2 == clock.writes
    clock.now += 0.02
    live.update(Entry(a_result()))
    assert 3 == clock.writes
    live.close()


def test_twin_of_thousands_is_written_less_often(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is written after 15 s whatever it costs; its twin, which is longer, when that is paid for."""
    clock = Clock(monkeypatch, work=0.5)
    live = LiveReport(runs, session_id="s1")
    live.expect([])
    seen = []
    for number in range(10):
        clock.now += 20.0
        live.update(Entry(a_result(instance=f"a{number}")))
        assert f"a{number}" in (runs / REPORT_HTML).read_text()
        seen.append(len(twin(runs)["instances"]))
    assert [1, 1, 1, 1, 1, 6, 6, 6, 6, 6] == seen
    live.close()
    assert 10 == len(twin(runs)["instances"])


def test_the_first_error_is_on_the_page_at_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may wait for just this, on a slow disk too; the errors after it keep the distance."""
    clock = Clock(monkeypatch, cost=0.75)
    live = LiveReport(runs, session_id="s1", min_interval=1000.0)
    live.expect([Entry(a_result("not_run", instance=name)) for name in "abc"])
    live.update(Entry(a_result(instance="a")))
    assert 1 == clock.writes
    failed = clock.now
    live.update(Entry(a_result("error", instance="b")))
    assert (2, 1) == (clock.writes, twin(runs)["summary"]["error"])
    assert clock.now - failed < 2
    live.update(Entry(a_result("error", instance="c")))
    assert 2 == clock.writes
    live.close()


def test_a_slow_disk_holds_up_nobody(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session goes on while a page is written; what fails meanwhile is on the next one, at once."""
    from ductaflow.report import live as module

    write, entered, gate = module._write, threading.Semaphore(0), threading.Semaphore(0)
    errors: list[int] = []

    def slow(*args: Any) -> Path:
        entered.release()
        assert gate.acquire(timeout=60)
        path = write(*args)
        errors.append(twin(runs)["summary"]["error"])
        return path

    monkeypatch.setattr(module, "_write", slow)
    monkeypatch.setattr(LiveReport, "held_up", 0.0)
    live = LiveReport(runs, session_id="s1", min_interval=1000.0)
    live.expect([Entry(a_result("not_run", instance=name)) for name in "ab"])
    assert entered.acquire(timeout=60)
    live.update(Entry(a_result("error", instance="a")))
    live.update(Entry(a_result(instance="b")))
    assert not (runs / REPORT_JSON).exists()

    gate.release()
    assert entered.acquire(timeout=60)
    gate.release(2)
    live.close()
    assert [0, 1, 1] == errors


def test_the_page_tells_what_is_at_work(runs: Path) -> None:
    """Twenty by name, and how long the session may still take; the page that is final has none of it."""
    running = [AtWork(id=f"fit/{number}", since="2030-01-01T00:00:00Z") for number in range(23)]
    live = LiveReport(runs, session_id="s1", at_work=lambda: Working(running, 95.0))
    live.expect([Entry(a_result("not_run"))])

    alive = twin(runs)["alive"]
    assert (running[:20], 3, 95.0) == (alive["running"], alive["running_left_out"], alive["left"])
    live.close()
    assert twin(runs)["alive"] is None


def test_last_result_before_a_long_run_gets_on_the_page(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came within the interval is written when that is over, though nothing else happens."""
    from ductaflow.report import live as module

    written = threading.Event()
    write = module._write

    def told(*args: Any) -> Path:
        path = write(*args)
        if twin(runs)["summary"]["success"]:
            written.set()
        return path

    monkeypatch.setattr(module, "_write", told)
    live = LiveReport(runs, session_id="s1", min_interval=0.001)
    live.expect([Entry(a_result("not_run"))])
    live.update(Entry(a_result()))

    assert written.wait(60)
    live.close()


def test_full_disk_disturbs_the_session_only_at_its_end(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed refresh is tried again; if the final page cannot be written either, that is the error."""
    live = LiveReport(runs, session_id="s1", min_interval=0.0)
    with monkeypatch.context() as patch:
        full_disk(patch)
        live.update(Entry(a_result()))
        with pytest.raises(DuctaflowError, match="No space left"):
            live.close()

    assert json.loads(live.close().with_suffix(".json").read_text())["summary"]["success"] == 1


def test_logs_are_read_once(runs: Path) -> None:
    """Writing again needs neither the log nor anything else of a run that is on the page."""
    result = stored(runs, a_result(), "the log\n")
    live = LiveReport(runs, session_id="s1", min_interval=0.0)
    live.update(Entry(result))
    RunFolder(result.folder or runs, "fit").log.unlink()

    live.close()

    assert twin(runs)["instances"][0]["log_tail"] == "the log\n"


def test_thousands_of_results_cost_little_memory(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A green result costs the session under 3 kB, whatever its record says of packages."""
    import tracemalloc

    Clock(monkeypatch)
    live = LiveReport(runs, session_id="s1", min_interval=1e9)
    environment = {"packages": {f"package{number}": "1.2.3" for number in range(50)}}
    live.expect([Entry(a_result(instance="first", environment=environment))])
    tracemalloc.start()
    try:
        for number in range(300):
            live.update(
                Entry(a_result(instance=f"i{number}", environment=json.loads(json.dumps(environment))))
            )
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held / 300 < 3_000
    live.close()
