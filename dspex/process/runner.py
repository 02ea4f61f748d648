"""The agent whose programs run in an OS process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context
from itertools import count
from typing import TYPE_CHECKING, Any

from dspex._lifetime import on_end
from dspex.invoke import Invoke
from dspex.process.channel import Channel
from dspex.process.visit import Visit, given_up
from dspex.runner import Runner
from supervision import Message, Stop, handle
from supervision.errors import BadOption
from supervision.isolation.process import exit_reason, start_interpreter

if TYPE_CHECKING:
    from supervision import ExitReason, Ref

#: Seconds that the process has to end by itself.
_PATIENCE = 2.0

_CHILD = """\
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from dspex.process.guest import main
main(int(sys.argv[1]))
"""


class ProcessEnded(Message, frozen=True):
    """The process has ended by itself."""

    reason: ExitReason


class ProcessRunner(Runner):
    """A `Runner` whose programs run in a process of its own: they may block, crash the interpreter, or be killed.

    The program and its arguments go there as copies. What belongs to the caller stays here, and the program uses it
    from afar: language models with their keys and limits; callbacks, usage, histories, the trace, streams. So an
    observer sees what it would see without the process, except that what a run changes in the program's own attributes
    is lost, and that what cannot be pickled is an error (`NotTransferable`).

    If the process ends, so does this actor, with the reason `supervision.ProcessExited`, and its supervisor starts both
    again. When this actor ends, the process is killed.
    """

    trap_exit = True

    async def init(self) -> None:
        """Start the process, and wait until it is ready."""
        await super().init()
        self._visits: dict[int, Visit] = {}
        self._numbers = count(1)
        self._process, ours = await start_interpreter(_CHILD)
        self._channel = await Channel.open(ours)
        on_end(self.ref, self._close)
        if await self._channel.receive() is None:
            raise Stop(exit_reason(await self._process.wait()))
        self._reading = asyncio.get_running_loop().create_task(self._read(self.ref), context=Context())

    def _close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        self._channel.close()

    async def _read(self, ref: Ref) -> None:
        while (frame := await self._channel.receive()) is not None:
            visit = self._visits.get(frame.run)
            if visit is not None:
                visit.take(frame)
            elif frame.number:
                self._channel.send(given_up(frame))
        ref.cast(ProcessEnded(exit_reason(await self._process.wait())))

    @handle
    def process_ended(self, message: ProcessEnded) -> None:
        """End for the same reason as the process."""
        self.stop(message.reason)

    def summary(self) -> Mapping[str, object]:
        """Tell how busy it is, and which process it has, for ``/tree``."""
        return {**super().summary(), "pid": self._process.pid}

    async def terminate(self, reason: ExitReason) -> None:
        """Let the process end by itself, if it can."""
        self._channel.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self._process.wait()

    async def execute(self, request: Invoke) -> Any:
        """Run the module there."""
        number = next(self._numbers)
        visit = self._visits[number] = Visit(number, request, self._channel.send)
        try:
            visit.begin()
            return await visit.result
        finally:
            del self._visits[number]
            visit.close()


def runner_of(isolation: str) -> type[Runner]:
    """Return the kind of agent that runs programs in this isolation.

    Raises:
        BadOption: there is none.
    """
    kinds = {"none": Runner, "process": ProcessRunner}
    if isolation not in kinds:
        raise BadOption("isolation", isolation, f"choose one of {', '.join(kinds)}")
    return kinds[isolation]
