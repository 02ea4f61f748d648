"""Output: text on its way to a reader who may be slow, or gone. A thread writes it; nobody else ever waits."""

from __future__ import annotations

import io
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: How many bytes wait for a reader. Of what is more, the oldest is dropped.
LIMIT = 4 * 1024 * 1024
#: How many bytes are written at once.
BATCH = 64 * 1024
#: Seconds in which a reader has to take something when the process ends, and all of it.
PATIENCE, LAST = 1.0, 5.0


class Output:
    """A queue of text in front of a stream, and a thread that writes it.

    To put text into it costs the same whatever becomes of the stream: it may be full with nobody reading, closed, on a
    full disk, or not there at all. What cannot be written is dropped and counted by lines, and told as soon as lines
    can be written again.

    Args:
        stream: where the text goes; None for nowhere, as in a process that was started without one.
        limit: how many bytes wait at the most.
    """

    def __init__(self, stream: TextIO | None, limit: float = LIMIT) -> None:
        self.limit = limit
        #: How many lines were dropped.
        self.dropped = 0
        #: What to write, when lines can be written again, about how many were dropped; with its line end.
        self.told: Callable[[int], str] = lambda lines: f"{lines} lines were dropped here: nobody read them\n"
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._target = _target(stream, self._encoding)
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._writing = 0
        self._untold = 0
        self._before = self._telling = 0
        self._taken = 0
        self._torn = False
        self._closed = False
        self._process = os.getpid()
        self._changed = threading.Condition()
        #: The same as a stream, for whoever prints.
        self.stream: TextIO = _as_stream(self, stream)
        threading.Thread(target=self._run, name="output", daemon=True).start()

    def write(self, text: str) -> None:
        """Put text into the queue: whole lines, with their ends."""
        self.put(text.encode(self._encoding, "backslashreplace"))

    def flush(self) -> None:
        """Wait for nothing: a stream has this."""

    def isatty(self) -> bool:
        """Whether a person reads it, at a terminal."""
        return self.stream.isatty()

    def put(self, data: bytes) -> None:
        """Put text into the queue."""
        if os.getpid() != self._process:  # a fork has no thread of ours
            with suppress(OSError, ValueError):
                self._target.write(data, lambda count: None)
            return
        if self._closed:  # and no lock is taken: the interpreter may have stopped a thread that has it
            return
        with self._changed:
            self._waiting.append(data)
            self._size += len(data)
            while self._size > self.limit:
                self._drop(self._take())
            self._changed.notify_all()

    def drain(self, *, patience: float | None = PATIENCE, last: float | None = LAST) -> None:
        """Wait until all is written.

        Args:
            patience: after how many seconds in which nothing could be written to give up; None for never.
            last: after how many seconds to give up in any case; None for never.
        """
        self.stream.flush()
        rounds = None if last is None or patience is None else max(1, round(last / patience))
        with self._changed:
            taken = None
            while (self._waiting or self._writing) and taken != self._taken and rounds != 0:
                taken = self._taken
                self._changed.wait_for(lambda: not (self._waiting or self._writing), patience)
                rounds = None if rounds is None else rounds - 1

    def close(self, patience: float = PATIENCE) -> None:
        """Wait until all is written, and end; see `drain`. What is put into the queue later is lost."""
        self.drain(patience=patience)
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            written = 0

            def wrote(count: int) -> None:
                nonlocal written
                written += count
                self._taken += count

            with suppress(OSError, ValueError):
                self._target.write(batch, wrote)
            self._wrote(batch, written)
        self._target.close()

    def _next(self) -> bytes | None:
        """Return what to write now; None when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            before = b"\n" if self._torn else b""
            if self._untold:
                before += self.told(self._untold).encode(self._encoding, "backslashreplace")
            batch = [before]
            self._writing = self._before = len(before)
            self._telling = self._untold
            while self._waiting and self._writing < BATCH:
                self._writing += len(self._waiting[0])
                batch.append(self._take())
            return b"".join(batch)

    def _wrote(self, batch: bytes, written: int) -> None:
        """Note how much of a batch was written: all, a part, or nothing."""
        with self._changed:
            if written:
                self._torn = batch[written - 1 : written] != b"\n" and written < len(batch)
            if written >= self._before:
                self._untold -= self._telling
            self._drop(batch[max(written, self._before) :])
            self._writing = 0
            self._changed.notify_all()

    # -- with the lock held --------------------------------------------------------------------------------------------

    def _take(self) -> bytes:
        data = self._waiting.popleft()
        self._size -= len(data)
        return data

    def _drop(self, data: bytes) -> None:
        lines = data.count(b"\n")
        self.dropped += lines
        self._untold += lines


class _File:
    """A file, which is written straight: the buffer of its stream knows locks that outlive their owners."""

    def __init__(self, number: int) -> None:
        self._number = os.dup(number)  # another file may be opened under the same number

    def write(self, data: bytes, wrote: Callable[[int], object]) -> None:
        """Write, and tell how many bytes went out each time some did."""
        rest = memoryview(data)
        while rest:
            try:
                count = os.write(self._number, rest)
            except BlockingIOError:  # somebody who has the file as well does not want to wait for it; this thread can
                poll = select.poll()
                poll.register(self._number, select.POLLOUT)
                poll.poll()
                continue
            wrote(count)
            rest = rest[count:]

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._number)


class _Text:
    """A stream without a file, or no stream at all."""

    def __init__(self, stream: TextIO | None, encoding: str) -> None:
        self._stream = stream
        self._encoding = encoding

    def write(self, data: bytes, wrote: Callable[[int], object]) -> None:
        """Write all at once."""
        if self._stream is None:
            raise OSError("there is no stream")
        self._stream.write(data.decode(self._encoding, "replace"))
        self._stream.flush()
        wrote(len(data))

    def close(self) -> None:
        """Leave it open: it is somebody else's."""


def _target(stream: TextIO | None, encoding: str) -> _File | _Text:
    try:
        return _Text(None, encoding) if stream is None else _File(stream.fileno())
    except (OSError, ValueError):
        return _Text(stream, encoding)


class _Raw(io.RawIOBase):
    """The end of a stream for those who print."""

    def __init__(self, output: Output, under: TextIO | None) -> None:
        super().__init__()
        self._output = output
        self._under = under

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        whole = bytes(data)
        self._output.put(whole)
        return len(whole)

    def fileno(self) -> int:
        if self._under is None:
            raise OSError("there is no file")
        return self._under.fileno()

    def isatty(self) -> bool:
        return self._under is not None and self._under.isatty()


def _as_stream(output: Output, under: TextIO | None) -> TextIO:
    buffer = io.BufferedWriter(_Raw(output, under))
    encoding = getattr(under, "encoding", None) or "utf-8"
    return io.TextIOWrapper(buffer, encoding=encoding, errors="backslashreplace", line_buffering=True)


def open_standard_files() -> None:
    """Open what a process was started without of standard input, output and error, onto nothing.

    Or the next file or connection gets such a number, and whoever writes to standard error writes into it (or, as libuv
    does when it is to close one, ends the process).
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


@contextmanager
def printing_to(out: Output, errors: Output) -> Generator[None]:
    """Let whatever is printed within the block go through these, so that nobody who prints waits for a reader."""
    with redirect_stdout(out.stream), redirect_stderr(errors.stream):
        yield
