"""All output goes to the log, and is told apart afterwards. Each test runs in a process of its own, whose
descriptors it may have."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from ductaflow.notebook.capture import HEAD, TAIL

PRELUDE = """
import json, os, subprocess, sys, threading
from pathlib import Path
from ductaflow.notebook.capture import Capture

capture = Capture(Path(sys.argv[1]) if sys.argv[1:] else None)
kept = []
def keep():
    kept.append(capture.collect())
"""


def run(code: str, *args: str, expected: int = 0) -> subprocess.CompletedProcess[bytes]:
    program = PRELUDE + textwrap.dedent(code) + "\nprint(json.dumps(kept))\n"
    done = subprocess.run(
        [sys.executable, "-c", program, *args], capture_output=True, timeout=60, check=False
    )
    assert expected == done.returncode, done.stderr.decode()
    return done


def collected(code: str, log: Path | None = None) -> list[Any]:
    """What `keep()` found while `code` ran inside a capture, of each time it was called."""
    inside = "with capture:\n    capture.begin()\n" + textwrap.indent(textwrap.dedent(code), "    ")
    done = run(inside, *([str(log)] if log else []))
    assert b"" == done.stderr
    pieces: list[Any] = json.loads(done.stdout)
    return pieces


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "fit_execution_output.txt"


def test_streams_in_order(log: Path) -> None:
    """Prints keep their order and the names of their streams; neighbours of one stream are joined."""
    code = """
    print("a"); print("b")
    print("c", file=sys.stderr)
    sys.stdout.writelines(["d", "\\n"])
    sys.stdout.buffer.write(b"e\\n")
    keep()
    """
    assert [[["stdout", "a\nb\n"], ["stderr", "c\n"], ["stdout", "d\ne\n"]]] == collected(code, log)
    assert "a\nb\nc\nd\ne\n" == log.read_text()


def test_without_log(tmp_path: Path) -> None:
    """Without a log the output is collected all the same, and no file is left."""
    code = f"import tempfile\ntempfile.tempdir = {str(tmp_path)!r}\nwith capture:\n    print('a')\n    keep()"
    done = run(code)

    assert [[["stdout", "a\n"]]] == json.loads(done.stdout)
    assert [] == list(tmp_path.iterdir())


def test_descriptors(log: Path) -> None:
    """What subprocesses, `os.write` and C code print is there, in order, and what came through
    descriptor 2 is known as such."""
    code = """
    import ctypes
    print("1")
    os.write(1, b"2\\n"); os.write(2, b"3\\n")
    print("4")
    subprocess.run([sys.executable, "-c", "import os; os.write(2, b'5\\\\n')"])
    print("6")
    libc = ctypes.CDLL(None)
    libc.printf(b"7\\n"); libc.printf(b"without end of line")
    print(" 8")
    libc.printf(b"9")
    keep()
    """
    assert [
        [
            ["stdout", "1\n2\n"],
            ["stderr", "3\n"],
            ["stdout", "4\n"],
            ["stderr", "5\n"],
            ["stdout", "6\n7\nwithout end of line 8\n9"],
        ]
    ] == collected(code, log) or sys.platform == "win32"
    assert "1\n2\n3\n4\n5\n6\n7\nwithout end of line 8\n9" == log.read_text()


def test_mixed_descriptors(log: Path) -> None:
    """Where a program wrote to both descriptors in turn, nothing is lost and what cannot be known is
    standard output."""
    code = """
    subprocess.run([sys.executable, "-c", "import os\\nfor i in b'1221': os.write(i - 48, b'%c' % i)"])
    keep()
    """
    assert [[["stdout", "1221"]]] == collected(code, log)


def test_any_text(log: Path) -> None:
    """Invalid UTF-8, lone surrogates, NUL, escapes and characters in two halves pass; the log has the
    bytes."""
    code = """
    print("\\udc80 \\x00 \\x1b[1m \\u2028")
    os.write(1, b"\\xff\\xc3"); os.write(1, b"\\xa9")
    keep()
    """
    assert [[["stdout", "\\udc80 \x00 \x1b[1m \u2028\n\ufffdé"]]] == collected(code, log)
    assert b"\\udc80 \x00 \x1b[1m \xe2\x80\xa8\n\xff\xc3\xa9" == log.read_bytes()


def test_stream_objects(log: Path) -> None:
    """The streams are what libraries expect: no terminal, UTF-8, a length from `write`, a descriptor."""
    code = """
    out = sys.stdout
    kept.append([out.isatty(), out.encoding, out.errors, out.write("é"), out.fileno(), sys.stderr.fileno()])
    kept.append([out.writable(), out.readable(), out.closed, out.name, out.buffer.write(b"ab")])
    out.reconfigure(line_buffering=True); out.flush(); out.close()
    print("after close")
    for bad in (b"bytes", None, 5):
        try:
            out.write(bad)
        except TypeError as exc:
            kept.append(str(exc))
    """
    attributes, more, *errors = collected(code, log)

    assert [False, "UTF-8", "backslashreplace", 1, 1, 2] == attributes
    assert [True, False, False, "<stdout>", 2] == more
    assert "éabafter close\n" == log.read_text(encoding="utf-8")
    assert [f"write() argument must be str, not {kind}" for kind in ("bytes", "NoneType", "int")] == errors


def test_notes(log: Path) -> None:
    """A note is in the log, and its tag stands among the prints in its place."""
    code = """
    print("a")
    capture.note("RESULT\\n", {"id": 1})
    os.write(1, b"b\\n")
    capture.note("", {"id": 2})
    keep()
    """
    assert [[["stdout", "a\n"], {"id": 1}, ["stdout", "b\n"], {"id": 2}]] == collected(code, log)
    assert "a\nRESULT\nb\n" == log.read_text()


def test_cells(log: Path) -> None:
    """Each cell has what came since its begin, also when asked twice; what came before is not its own."""
    code = """
    print("a"); keep(); keep()
    os.write(1, b"between\\n")
    capture.begin(); keep(); print("b"); keep()
    """
    assert [[["stdout", "a\n"]], [["stdout", "a\n"]], [], [["stdout", "b\n"]]] == collected(code, log)


def test_clear(log: Path) -> None:
    """`clear` forgets at once, with `wait` when something new comes; the log forgets nothing."""
    code = """
    print("a"); capture.note("", "tag"); capture.clear(); print("b"); keep()
    capture.clear(wait=True); keep(); print("c"); keep()
    capture.clear(wait=True); capture.note("", "tag"); keep()
    """
    assert [[["stdout", "b\n"]], [["stdout", "b\n"]], [["stdout", "c\n"]], ["tag"]] == collected(code, log)
    assert "a\nb\nc\n" == log.read_text()


def test_much_output(log: Path) -> None:
    """Of much output begin and end are kept, with a line between that counts the rest and names the log;
    rich results stay."""
    size = HEAD + TAIL + 1000
    code = f"""
    print("first"); sys.stdout.write("x" * {HEAD}); capture.note("", "tag"); sys.stdout.write("y" * {TAIL})
    sys.stdout.write("z" * {size - HEAD - TAIL - 11}); print("last")
    keep()
    """
    [[(name, begin), tag, (last_name, end)]] = collected(code, log)

    assert size == log.stat().st_size
    assert ("stdout", "tag", "stdout") == (name, tag, last_name)
    assert begin.startswith("first\nxxx")
    assert end.endswith("zzlast\n")
    assert "1,000 bytes of output are left out here; all of it is in fit_execution_output.txt" in begin
    assert len(begin) + len(end) < HEAD + TAIL + 200


def test_much_output_without_log() -> None:
    """Where there is no log, the line says that the rest is not kept."""
    [[(_, text)]] = collected(f"sys.stdout.write('x' * {HEAD + TAIL + 5}); keep()")

    assert "[... 5 bytes of output are left out here; it was not kept anywhere ...]" in text


def test_many_small_prints(log: Path) -> None:
    """Memory does not grow with the number of prints, and a cell with thousands of changes between the
    streams has few outputs."""
    code = """
    for _ in range(40_000):
        sys.stdout.write("o" * 20); sys.stderr.write("e" * 20)
    kept.append(len(capture._spans))
    kept.append([[name, len(text)] for name, text in capture.collect()])
    """
    spans, pieces = collected(code, log)

    assert spans < (HEAD + TAIL) / 20 + 5000
    assert ["stdout", "stderr"] == [name for name, _ in pieces]


def test_log_on_disk_at_any_moment(log: Path) -> None:
    """After a SIGKILL the log has everything that was printed, with or without an end of line."""
    code = """
    with capture:
        import ctypes
        print("a"); print("b", end=""); sys.stderr.write("c"); ctypes.CDLL(None).printf(b"d\\n")
        os.kill(os.getpid(), 9)
    """
    run(code, str(log), expected=-signal.SIGKILL)

    assert "a\nbcd\n" == log.read_text()


def test_appends(log: Path) -> None:
    """What is in the log already stays, and is of no cell."""
    log.write_text("header\n")

    assert [[["stdout", "a\n"]]] == collected("print('a'); keep()", log)
    assert "header\na\n" == log.read_text()


def test_threads(log: Path) -> None:
    """Threads may print at the same time: no byte is lost, each keeps its stream."""
    code = """
    def work(stream, char):
        for _ in range(2000):
            stream.write(char * 3)
    pairs = ((sys.stdout, "o"), (sys.stderr, "e")) * 2
    threads = [threading.Thread(target=work, args=pair) for pair in pairs]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    kept.append({s: sum(len(t) for n, t in capture.collect() if n == s) for s in ("stdout", "stderr")})
    kept.append(sorted({char for n, text in capture.collect() if n == "stderr" for char in text}))
    """
    assert [{"stdout": 12000, "stderr": 12000}, ["e"]] == collected(code, log)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_child(log: Path) -> None:
    """A forked child prints into the same log; for the parent it is one of those who write to descriptors."""
    code = """
    print("before")
    if (child := os.fork()) == 0:
        print("child"); print("child's error", file=sys.stderr); capture.note("note\\n", "tag")
        os._exit(0)
    os.waitpid(child, 0)
    print("after")
    keep()
    """
    pieces = collected(code, log)[0]

    assert "before\nchild\nchild's error\nnote\nafter\n" == log.read_text()
    assert log.read_text() == "".join(text for _, text in pieces)


def test_signal_handler(log: Path) -> None:
    """A signal handler may print in the middle of a print."""
    code = """
    import signal
    signal.signal(signal.SIGALRM, lambda *_: print("h", file=sys.stderr))
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    for _ in range(3000): print("0123456789")
    signal.setitimer(signal.ITIMER_REAL, 0)
    kept.append("".join(text for _, text in capture.collect()))
    """
    [text] = collected(code, log)

    assert log.read_text() == text
    assert 3000 == text.count("0123456789")


def test_truncated_log(log: Path) -> None:
    """Somebody who truncates the log loses what was there, and nothing that comes after; results stay."""
    code = """
    print("lost" * 10); capture.note("", "tag")
    Path(sys.argv[1]).write_text("x\\n")
    print("kept")
    keep()
    """
    assert [["tag", ["stdout", "x\nkept\n"]]] == collected(code, log)


def test_put_back(log: Path) -> None:
    """After the capture everything goes where it went before, also through streams that a flow has kept."""
    code = """
    before = sys.stdout
    with capture:
        stream = sys.stdout
        print("in the log")
    assert sys.stdout is before
    print("outside", flush=True); stream.write("kept stream\\n"); sys.stdout.flush(); os.write(1, b"raw\\n")
    """
    done = run(code, str(log))

    assert ["outside", "kept stream", "raw", "[]"] == done.stdout.decode().splitlines()
    assert "in the log\n" == log.read_text()


def test_only_for_a_while() -> None:
    """Redirected for a cell only, the output of the host in between is its own; a stream that the flow has
    put in place is there again in its next cell."""
    code = """
    import io
    capture.open()
    with capture.redirected():
        capture.begin(); print("cell 1"); own = sys.stdout = io.StringIO(); keep()
    print("host")
    with capture.redirected(), capture.redirected():
        capture.begin(); print("cell 2"); print("e", file=sys.stderr); keep()
    kept.append(own.getvalue())
    capture.close()
    """
    host, data = run(code).stdout.decode().splitlines()

    assert "host" == host
    assert [[["stdout", "cell 1\n"]], [["stderr", "e\n"]], "cell 2\n"] == json.loads(data)


def test_fatal_signal(log: Path) -> None:
    """A segfault leaves Python's traceback in the log."""
    code = """
    with Capture(Path(sys.argv[1])):
        import ctypes
        ctypes.string_at(0)
    """
    run(code, str(log), expected=-signal.SIGSEGV)

    assert "Segmentation fault" in log.read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk() -> None:
    """A print to a log on a full disk is an error in the flow, not a print that is lost in silence."""
    code = """
    with capture:
        print("a")
    """
    program = PRELUDE.replace("Path(sys.argv[1]) if sys.argv[1:] else None", "Path('/dev/full')")
    program += textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)

    assert 1 == done.returncode
    assert b"No space left on device" in done.stderr
