"""The operating-system process of the embedded model, seen by its owner: start, ready, stop, kill."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from pathlib import Path

import msgspec

SERVE = Path(__file__).with_name("serve.py")
#: How many of the last lines of its standard error are kept to explain its end.
TAIL = 20


class ProcessEnd(msgspec.Struct, frozen=True):
    """How a process ended.

    Attributes:
        status: its exit status; minus the number of the signal, if it was one.
        last_words: the last lines of its standard error.
    """

    status: int
    last_words: str = ""

    def __str__(self) -> str:
        how = f"signal {-self.status}" if self.status < 0 else f"exit status {self.status}"
        return f"the language model's process ended by {how}" + (f": {self.last_words}" if self.last_words else "")


class _Ready(msgspec.Struct):
    """The line that the process prints when it is ready."""

    url: str


class NotReady(Exception):
    """The process did not say that it is ready."""


def command(model: Path, *options: str) -> list[str]:
    """Return the command that serves a model, with this Python, whatever the working directory is."""
    return [sys.executable, "-P", str(SERVE), "--model", str(model), *options]


def _kill_late(starting: asyncio.Task[asyncio.subprocess.Process]) -> None:
    """Kill a process whose start was cancelled."""
    if not starting.cancelled() and starting.exception() is None:
        with contextlib.suppress(ProcessLookupError):
            starting.result().kill()


class ServerProcess:
    """One process that serves a model.

    Its standard input is a pipe whose other end only we hold: if we vanish, it sees the end of the pipe and
    ends.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._stderr: deque[str] = deque(maxlen=TAIL)
        self._listening = asyncio.get_running_loop().create_task(self._listen())
        #: Whether its end was asked for.
        self.stopping = False

    @classmethod
    async def start(cls, arguments: Sequence[str]) -> ServerProcess:
        """Start a process.

        Args:
            arguments: the program and its arguments; it must keep to the contract of `dspex.models.local.serve`.

        Raises:
            OSError: it cannot be started.
        """
        pipe = asyncio.subprocess.PIPE
        # A session of its own: a Ctrl-C in the terminal is for its owner, who then stops it in order.
        starting = asyncio.get_running_loop().create_task(
            asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True),
            context=Context(),
        )
        try:
            return cls(await asyncio.shield(starting))
        except asyncio.CancelledError:
            starting.add_done_callback(_kill_late)
            raise

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self._stderr.append(line.decode(errors="replace").strip())

    async def ready(self, timeout: float) -> str:
        """Wait until it serves, and return its base URL.

        Args:
            timeout: seconds to wait.

        Raises:
            NotReady: it ended before, or it took too long.
        """
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise NotReady(f"the language model's process was not ready after {timeout:g} s") from None
        if not line:
            raise NotReady(str(await self.ended()))
        try:
            return msgspec.json.decode(line, type=_Ready).url
        except msgspec.DecodeError as error:
            raise NotReady(f"the language model's process printed {line!r} instead of its URL: {error}") from None

    async def ended(self) -> ProcessEnd:
        """Wait for its end, and return how it ended."""
        status = await self._process.wait()
        await self._listening
        return ProcessEnd(status, "\n".join(self._stderr))

    def kill(self) -> None:
        """End it at once. It is fine if it has ended."""
        self.stopping = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self, grace: float) -> None:
        """Ask it to end, and wait until it has; kill it if it has not after ``grace`` seconds."""
        self.stopping = True
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(grace):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
