"""The one decoder of files that ductaflow wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ductaflow.common import decode as decode_module
from ductaflow.common.decode import UnreadableError, convert, decode, read_json, read_lines

DEEP = 100_000

#: Whatever a disk, an editor or somebody else's program may leave in a file of ours.
HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n",
    "cut off": b'{"name": "a", "secon',
    "a list": b"[]",
    "a string": b'"name"',
    "a number": b"3",
    "null": b"null",
    "no key": b"{}",
    "wrong type": b'{"name": 3}',
    "null value": b'{"name": null}',
    "infinite": b'{"name": "a", "seconds": 1e999}',
    "infinite inside": b'{"name": "a", "rest": {"x": [1e999]}}',
    "infinite and surrogate": b'{"name": "\\udc80", "rest": {"x": [1e999]}}',
    "word for infinite": b'{"name": "a", "seconds": Infinity}',
    "NaN": b'{"name": "a", "rest": {"x": NaN}}',
    "NaN and surrogate": b'{"name": "\\udc80", "rest": {"x": NaN}}',
    "deep": b'{"name": "a", "rest": {"x": ' + b"[" * DEEP + b"]" * DEEP + b"}}",
    "deep under an unknown key": b'{"name": "a", "new": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep and surrogate": b'{"name": "\\udc80", "rest": {"x": ' + b"[" * DEEP + b"]" * DEEP + b"}}",
    "deep and cut off": b"[" * DEEP,
    "no UTF-8": b'{"name": "\xff"}',
    "UTF-16": '{"name": "a"}'.encode("utf-16"),
    "bytes of zero": bytes(64),
    "two values": b'{"name": "a"} {"name": "b"}',
    "digits without end": b'{"name": "a", "count": ' + b"9" * 10_000 + b"}",
    "fraction for a count": b'{"name": "a", "count": 1.5}',
    "true for a count": b'{"name": "a", "count": true}',
}


@dataclass(frozen=True, slots=True)
class Sample:
    name: str
    seconds: float = 0.0
    count: int = 0
    folder: Path | None = None
    rest: dict[str, object] = field(default_factory=dict)


@pytest.fixture(params=["msgspec", "plain"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What decodes: msgspec, or what takes its place where that is not installed."""
    decode_module._decoder.cache_clear()
    if request.param == "plain":
        monkeypatch.setattr(decode_module, "_msgspec", lambda: None)
    yield
    decode_module._decoder.cache_clear()


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("case", HOSTILE)
def test_any_content_is_a_value_or_one_error_that_names_the_file(case: str, tmp_path: Path) -> None:
    """No content of a file gives a traceback of another kind."""
    file = tmp_path / "file.json"
    file.write_bytes(HOSTILE[case])
    with pytest.raises(UnreadableError) as raised:
        read_json(file, Sample, hint="Remove it.")
    assert raised.value.message.startswith(f"{file}: ")
    assert len(raised.value.message) < len(str(file)) + 200
    assert "Remove it." == raised.value.hint


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("case", [case for case in HOSTILE if case not in ("empty", "blank", "UTF-16")])
def test_a_bad_line_costs_that_line_and_is_named(case: str, tmp_path: Path) -> None:
    """The lines before and after it are read."""
    file = tmp_path / "lines"
    file.write_bytes(b'{"name": "first"}\n' + HOSTILE[case] + b'\n\n{"name": "last"}\n')
    values, faults = read_lines(file, Sample)
    assert [Sample("first"), Sample("last")] == values
    assert [f"{file}:2: "] == [fault[: len(f"{file}:2: ")] for fault in faults]


@pytest.mark.usefixtures("library")
def test_what_json_dumps_wrote_is_read() -> None:
    """Names of files that are no UTF-8 survive, and unknown keys of a newer version are ignored."""
    text = json.dumps(
        {
            "name": "caf\udce9 ü",
            "folder": "/a/\udce9",
            "count": 2**70,
            "rest": {"x": [1, 2.5, None]},
            "newer": {"x": [1]},
        }
    )
    expected = Sample("caf\udce9 ü", count=2**70, folder=Path("/a/\udce9"), rest={"x": [1, 2.5, None]})
    assert expected == decode(text, Sample, where="x") == convert(json.loads(text), Sample, where="x")


@pytest.mark.usefixtures("library")
def test_a_message_names_the_place_in_the_value() -> None:
    """It says what is expected and what is there."""
    with pytest.raises(UnreadableError, match=r"^x\.json: expected int, got str at count$"):
        decode('{"name": "a", "count": "1"}', Sample, where="x.json")
    with pytest.raises(UnreadableError, match=r"^x\.json: object missing required field name$"):
        convert({}, Sample, where="x.json")
    with pytest.raises(UnreadableError, match=r"^x\.json: no valid JSON: .+ \(byte \d\)$"):
        decode("{} 1", dict[str, object], where="x.json")


def test_what_is_no_regular_file_is_named(tmp_path: Path) -> None:
    """A folder or a pipe in the place of a file is an error, and nobody waits for a writer."""
    (tmp_path / "folder").mkdir()
    for name in ("folder", "pipe"):
        if name == "pipe":
            os.mkfifo(tmp_path / name)
        with pytest.raises(UnreadableError, match=f"^{tmp_path / name}: "):
            read_json(tmp_path / name, Sample)
        assert ([], 1) == (
            read_lines(tmp_path / name, Sample)[0],
            len(read_lines(tmp_path / name, Sample)[1]),
        )
    assert read_json(tmp_path / "none", Sample) is None
    assert ([], []) == read_lines(tmp_path / "none", Sample)


def test_what_is_absurdly_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would fill the memory."""
    monkeypatch.setattr("ductaflow.common.decode.LARGEST", 10)
    (tmp_path / "large").write_bytes(b" " * 11)
    with pytest.raises(UnreadableError, match="is too large to be ours: 11 bytes"):
        read_json(tmp_path / "large", Sample)


def test_the_first_use_loads_little() -> None:
    """msgspec comes without typing_extensions, which costs more than itself and stays importable."""
    code = (
        "import sys; from ductaflow.common.decode import decode\n"
        "assert 'msgspec' not in sys.modules\n"
        "decode('{}', dict, where='x')\n"
        "assert 'msgspec' in sys.modules and 'typing_extensions' not in sys.modules\n"
        "import typing_extensions; assert typing_extensions.__name__ == 'typing_extensions'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


MANY_TYPES = """
import dataclasses, sys, threading
from ductaflow.common.decode import convert, decode

sys.setswitchinterval(1e-6)
for number in range(100):
    inner = dataclasses.make_dataclass(f"Inner{number}", [(f"field_{i}", int) for i in range(20)])
    outer = dataclasses.make_dataclass(f"Outer{number}", [(f"field_{i}", list[inner]) for i in range(20)])
    value = {field.name: [] for field in dataclasses.fields(outer)}
    together = threading.Barrier(2)

    def of_text():
        together.wait()
        decode(str(value).replace("'", '"'), outer, where="text")

    def of_values():
        together.wait()
        convert(value, outer, where="values")

    threads = [threading.Thread(target=of_text), threading.Thread(target=of_values)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_two_threads_meet_a_type_for_the_first_time():
    """The thread that writes the page and the session decode their first result at once, and none crashes."""
    ended = subprocess.run([sys.executable, "-c", MANY_TYPES], capture_output=True, text=True)

    assert (0, "") == (ended.returncode, ended.stderr)
