"""Everything that a process prints goes to one log, at once and in order, and can be split by stream later.

File descriptors 1 and 2 are the log, and `sys.stdout` and `sys.stderr` write straight to it. There is no
pipe and no reader thread: the log on disk is complete at any moment, even after a SIGKILL, nothing is held in
memory, and C code that prints under the GIL cannot deadlock. Python's own streams note the position of what
they write:

    log      |hello\\n|ls: no such file\\n|bye\\n|
    spans    [stdout )[   a gap         )[stdout)

A gap was written by a subprocess, by `os.write` or by C code. Descriptors 1 and 2 are opened separately, so
each has its own position: bytes between the position of 1 and the position of 2 are standard error. Before
that both may have written in turn, and all of it counts as standard output: a Jupyter kernel, which reads two
pipes, would know more about the stream and less about the order. A program that opens `/dev/stdout` by name
truncates the log, as it does whenever output goes to a file.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import io
import itertools
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

from ductaflow.common.files import temporary_prefix

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


Stream = Literal["stdout", "stderr"]
#: Text of a stream, or the tag of a note.
Piece: TypeAlias = tuple[Stream, str] | object
#: Bytes kept in the notebook from the beginning and from the end of a cell's stream output.
HEAD = TAIL = 512 * 1024
#: With more pieces than this, a cell's output is sorted by stream, as a kernel does within a flush interval.
MANY = 2000
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
_DESCRIPTORS: dict[Stream, int] = {"stdout": 1, "stderr": 2}


@dataclass(slots=True)
class _Span:
    """A range of bytes of the log: output of a stream, or (with a tag) a note."""

    stream: Stream
    start: int
    end: int
    tag: object = None


class Capture:
    """Sends the output of this process to a log; `collect` returns what came since `begin`.

    Args:
        log: the file to append to, also the Python traceback of a fatal signal (a segfault); without one, a
            temporary file holds the output until it is collected.
    """

    def __init__(self, log: Path | None = None) -> None:
        self.log = log
        self._had_fatal_tracebacks = False
        self._lock = threading.RLock()
        self._is_fork = False
        self._path: Path | None = None
        self._fd = -1
        self._fds: dict[Stream, int] = {}
        self._saved_fds: dict[Stream, int] = {}
        self._outer: dict[Stream, TextIO | None] = {}
        self._streams: dict[Stream, TextIO | _TextStream] = {}
        self._start = 0
        self._end = 0
        self._spans: list[_Span] = []
        #: Start and spans that a waiting `clear` drops as soon as new output comes.
        self._waiting: tuple[int, list[_Span]] | None = None
        self._is_noting = False

    # --- switching it on and off ---------------------------------------------------------------------------

    def __enter__(self) -> Capture:
        self.open()
        self.redirect()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.restore()
        self.close()

    def open(self) -> None:
        """Open the log without redirecting anything yet."""
        global _current
        self._path = self.log or _temporary_file()
        self._fd = os.open(self._path, _APPEND)
        # each with its own position, see the module docstring
        self._fds = {stream: os.open(self._path, _APPEND) for stream in _DESCRIPTORS}
        self._streams = {stream: _stream_of(self, stream) for stream in _DESCRIPTORS}
        self._reader = self._path.open("rb", buffering=0)
        if self.log is None and os.name == "posix":
            self._path.unlink()
        self._start = self._end = self._size()
        _line_buffer_c_stdout()
        _current = self

    def close(self) -> None:
        """Close the log. Later prints go where they went before."""
        global _current
        with self._lock:
            for fd in (self._fd, *self._fds.values()):
                os.close(fd)
            self._fd = -1
            self._reader.close()
            if self.log is None and os.name != "posix" and self._path is not None:
                self._path.unlink(missing_ok=True)
        if _current is self:
            _current = None

    def redirect(self) -> None:
        """Send all output of the process to the log from now on."""
        _flush(sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
        self._outer = {"stdout": sys.stdout, "stderr": sys.stderr}
        for stream, fd in _DESCRIPTORS.items():
            with contextlib.suppress(OSError):  # closed from the start, as under pythonw
                self._saved_fds[stream] = os.dup(fd)
            os.dup2(self._fds[stream], fd)
        # a flow that replaced a stream finds its own again in the next cell
        sys.stdout, sys.stderr = self._streams["stdout"], self._streams["stderr"]
        if self.log is not None:
            self._had_fatal_tracebacks = faulthandler.is_enabled()
            faulthandler.enable(self._fds["stderr"])

    def restore(self) -> None:
        """Send output where it went before `redirect`."""
        _flush(sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
        self._streams = {"stdout": sys.stdout, "stderr": sys.stderr}
        sys.stdout, sys.stderr = self._outer["stdout"], self._outer["stderr"]
        for stream, fd in _DESCRIPTORS.items():
            saved = self._saved_fds.pop(stream, None)
            if saved is None:
                os.close(fd)
            else:
                os.dup2(saved, fd)
                os.close(saved)
        if self.log is not None:
            faulthandler.disable()
            if self._had_fatal_tracebacks and sys.__stderr__ is not None:
                faulthandler.enable(sys.__stderr__)

    @contextlib.contextmanager
    def redirected(self) -> Iterator[None]:
        """Redirect for the length of a block; does nothing if the process is already redirected."""
        if self._saved_fds:
            yield
            return
        self.redirect()
        try:
            yield
        finally:
            self.restore()

    # --- writing -------------------------------------------------------------------------------------------

    def write(self, stream: Stream, data: bytes) -> None:
        """Append bytes of a stream to the log. Safe in threads, signal handlers and forked children.

        Raises:
            OSError: the disk is full, or the log cannot be written for another reason.
        """
        with self._lock:
            if self._is_fork:
                # A gap for the parent: it shares the position of our own descriptor.
                _write_all(_DESCRIPTORS[stream], data)
            elif self._is_noting:
                # A signal handler prints in the middle of the lines below: also a gap.
                _write_all(self._fds[stream], data)
            elif self._fd >= 0:
                # like `_noting`, in half the time
                self._is_noting = True
                try:
                    self._append(data, stream)
                finally:
                    self._is_noting = False
            elif (outer := self._outer.get(stream)) is not None:
                outer.write(data.decode("utf-8", "replace"))

    def note(self, text: str, tag: object) -> None:
        """Append text that is not stream output; `collect` returns `tag` in its place."""
        if self._is_fork:
            self.write("stdout", text.encode("utf-8", "backslashreplace"))
            return
        with self._noting():
            self._catch_up()
            before = self._end
            self._append(text.encode("utf-8", "backslashreplace"), "stdout", tag)
            if self._end == before:
                self._spans.append(_Span("stdout", before, before, tag))

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        with self._lock:
            self._is_noting = True
            try:
                yield
            finally:
                self._is_noting = False

    def _append(self, data: bytes, stream: Stream, tag: object = None) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            view = view[written:]
            end = os.lseek(self._fd, 0, os.SEEK_CUR)
            if end - written != self._end:
                self._add_gap(end - written)
            self._add(_Span(stream, self._end, end, tag))

    def _add(self, span: _Span) -> None:
        last = self._spans[-1] if self._spans else None
        if last and last.stream == span.stream and last.tag is span.tag and last.end == span.start:
            last.end = span.end
        else:
            self._spans.append(span)
            if len(self._spans) % 4096 == 0:
                self._forget_middle(span.end)
        self._end = span.end

    def _add_gap(self, upto: int) -> None:
        """Assign bytes that did not come through our streams to a stream."""
        if upto < self._end and self._size() < self._end:
            # Someone truncated the log: the noted prints are gone, the rich results are not.
            self._spans = [_Span("stdout", 0, 0, span.tag) for span in self._spans if span.tag is not None]
            self._start = self._end = 0
            self._waiting = None
        if upto > self._end:
            # Nothing came through descriptor 1 after its position: the rest came through descriptor 2.
            first, second = (os.lseek(self._fds[stream], 0, os.SEEK_CUR) for stream in _DESCRIPTORS)
            if second > max(first, self._end):
                if self._end < first < upto:
                    self._add(_Span("stdout", self._end, first))
                self._add(_Span("stderr", self._end, upto))
            else:
                self._add(_Span("stdout", self._end, upto))

    def _forget_middle(self, end: int) -> None:
        """Drop the notes on output that `collect` leaves out: a cell may print a hundred million times."""
        head, tail = self._start + HEAD, end - TAIL
        self._spans = [s for s in self._spans if s.start < head or s.end > tail or s.tag is not None]

    # --- what a cell printed -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start a new cell: later output belongs to it."""
        with self._noting():
            _flush_c()
            self._start = self._end = self._size()
            self._spans, self._waiting = [], None

    def clear(self, *, wait: bool = False) -> None:
        """Forget the cell's output so far (the log keeps it), or with `wait` as soon as new output comes."""
        with self._noting():
            self._catch_up()
            if not wait:
                self._waiting = None
            elif self._has_news():
                self._waiting = self._start, self._spans
            self._start, self._spans = self._end, []

    def _has_news(self) -> bool:
        return bool(self._spans) or self._end > self._start

    def collect(self) -> list[Piece]:
        """Return the output since `begin`, in order. May be called several times.

        Returns:
            Pairs of stream and text, with neighbours of the same stream joined, and the tags of notes between
            them. Beyond a megabyte, a line stands in place of the middle.
        """
        _flush(sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
        with self._noting():
            self._catch_up()
            start, spans = self._start, self._spans
            if self._waiting and not self._has_news():
                start, spans = self._waiting
            collected = list(self._texts(self._pieces(start, list(_without_holes(start, spans)))))
        return collected if len(collected) <= MANY else _sorted_by_stream(collected)

    def _pieces(self, start: int, spans: list[_Span]) -> Iterator[tuple[Stream, bytes] | _Span]:
        head, tail = start + HEAD, self._end - TAIL
        if head >= tail:
            head = tail = self._end
        left_out = sum(_overlap(span, head, tail) for span in spans if span.tag is None)
        for span in spans:
            if span.tag is not None:
                yield span
                continue
            yield span.stream, self._read(span.start, min(span.end, head))
            if left_out and _overlap(span, head, tail):
                yield span.stream, self._left_out_line(left_out).encode()
                left_out = 0
            yield span.stream, self._read(max(span.start, tail), span.end)

    @staticmethod
    def _texts(pieces: Iterable[tuple[Stream, bytes] | _Span]) -> Iterator[Piece]:
        """Join neighbours before decoding: a character may have been written in two halves."""
        stream: Stream = "stdout"
        raw = bytearray()
        for piece in pieces:
            same = not isinstance(piece, _Span) and piece[0] == stream
            if raw and not same:
                yield stream, raw.decode("utf-8", "replace")
                raw = bytearray()
            if isinstance(piece, _Span):
                yield piece.tag
            else:
                stream = piece[0] if piece[1] else stream
                raw += piece[1]
        if raw:
            yield stream, raw.decode("utf-8", "replace")

    def _left_out_line(self, count: int) -> str:
        where = f"all of it is in {self.log.name}" if self.log else "it was not kept anywhere"
        return f"\n[... {count:,} bytes of output are left out here; {where} ...]\n"

    def _read(self, start: int, end: int) -> bytes:
        if end <= start:
            return b""
        self._reader.seek(start)
        parts = []
        while start < end and (part := self._reader.read(end - start)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def _size(self) -> int:
        return os.fstat(self._fd).st_size

    def _catch_up(self) -> None:
        """Note output that came through the descriptors since Python's streams last wrote."""
        _flush_c()
        size = self._size()
        if size != self._end:
            self._add_gap(size)


class Ahead(Capture):
    """Stands in for the capture of a run that has not begun, while modules are imported for it.

    These modules find, and may keep, the streams of the run: the next capture opened in this process, or in a
    fork of it, takes them over.

    Attributes:
        said: whether anything was printed or displayed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.said = False
        for stream in _DESCRIPTORS:
            _streams_ahead[stream] = _TextStream(self, stream)

    def write(self, stream: Stream, data: bytes) -> None:
        self.said = True

    def note(self, text: str, tag: object) -> None:
        self.said = True

    def clear(self, *, wait: bool = False) -> None:
        """Do nothing: nothing is kept."""

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Receive all prints for the length of a block, and pass none on."""
        self.said = False
        outer = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = _streams_ahead["stdout"], _streams_ahead["stderr"]
        try:
            yield
        finally:
            sys.stdout, sys.stderr = outer


class _TextStream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr` of a flow: never buffers, never closes, takes any text."""

    encoding = "UTF-8"
    errors = "backslashreplace"
    line_buffering = True
    mode = "w"

    def __init__(self, capture: Capture, stream: Stream) -> None:
        self.name = f"<{stream}>"
        self.buffer = _ByteStream(capture, stream)

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.buffer.write(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def reconfigure(self, **options: object) -> None:
        """Accept any options without effect: the stream is UTF-8 and unbuffered."""

    def fileno(self) -> int:
        return self.buffer.fileno()

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Stay open: a flow that closed its output would lose its own error message."""


class _ByteStream(io.RawIOBase):
    """The `buffer` of a text stream: the same stream in bytes."""

    def __init__(self, capture: Capture, stream: Stream) -> None:
        self.capture = capture
        self._stream: Stream = stream
        self.name = f"<{stream}>"
        self.mode = "wb"

    def write(self, data: ReadableBuffer, /) -> int:
        raw = memoryview(data).tobytes()
        if raw:
            self.capture.write(self._stream, raw)
        return len(raw)

    def fileno(self) -> int:
        return _DESCRIPTORS[self._stream]

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Stay open, as the text stream does."""


#: The capture that is open in this process, to which descriptors 1 and 2 belong: there is one at most.
_current: Capture | None = None
#: Streams that exist before their capture, see `Ahead`.
_streams_ahead: dict[Stream, _TextStream] = {}
#: Flushes the C library's standard output, if the library lets us.
_flush_c: Callable[[], object] = lambda: None  # noqa: E731


def current() -> Capture | None:
    """Return the open capture of this process, if any."""
    return _current


def _stream_of(capture: Capture, name: Stream) -> _TextStream:
    stream = _streams_ahead.pop(name, None) or _TextStream(capture, name)
    stream.buffer.capture = capture
    return stream


def _without_holes(start: int, spans: Iterable[_Span]) -> Iterator[_Span]:
    """Yield the spans from `start` on, with forgotten ranges between them as standard output."""
    for span in spans:
        if span.start > start:
            yield _Span("stdout", start, span.start)
        yield span
        start = span.end


def _sorted_by_stream(collected: list[Piece]) -> list[Piece]:
    """Join the texts of each stream between two tags."""
    joined: list[Piece] = []
    for is_text, group in itertools.groupby(collected, key=lambda piece: isinstance(piece, tuple)):
        if not is_text:
            joined += group
            continue
        texts = [piece for piece in group if isinstance(piece, tuple)]
        for name in _DESCRIPTORS:
            if text := "".join(text for stream, text in texts if stream == name):
                joined.append((name, text))
    return joined


def _overlap(span: _Span, start: int, end: int) -> int:
    return max(0, min(span.end, end) - max(span.start, start))


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _flush(*streams: TextIO | None) -> None:
    for stream in streams:
        if stream is not None:
            # the flow may have closed it, or replaced it with something that is not a stream
            with contextlib.suppress(ValueError, OSError, AttributeError):
                stream.flush()


def _temporary_file() -> Path:
    handle, name = tempfile.mkstemp(prefix=temporary_prefix(), suffix=".txt")
    os.close(handle)
    return Path(name)


def _after_fork() -> None:
    if _current is not None:
        _current._is_fork = True
        # another thread of the parent may have held the lock
        _current._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@functools.cache
def _line_buffer_c_stdout() -> None:
    """Make C code in this process print line by line: for a file, stdio holds back up to 4 kB, which come out
    of order and are lost with a kill."""
    global _flush_c
    if os.name != "posix":
        return
    import ctypes

    line_buffered = 1
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a C library without these names
        libc = ctypes.CDLL(None)
        stdout = ctypes.c_void_p.in_dll(libc, "__stdoutp" if sys.platform == "darwin" else "stdout")
        libc.setvbuf(stdout, None, line_buffered, 0)
        # not fflush(NULL), which waits for a thread that reads from any C stream
        _flush_c = functools.partial(libc.fflush, stdout)
