"""The actor that owns a worker process, and runs programs in it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any

from dspex._tasks import on_end
from dspex.agents.process.decoding import Malformed
from dspex.agents.process.parts import SentParts
from dspex.agents.process.protocol import LONGEST_FRAME, Channel, RunFrame
from dspex.agents.process.remote_run import ENDS, QUESTIONS, RemoteRun, abandoned_answer
from dspex.agents.runner import Invoke, ProgramRunner
from supervision import Abnormal, Message, Stop, handle
from supervision.errors import BadOption
from supervision.isolation.process import exit_reason, start_interpreter
from supervision.messages import describe

if TYPE_CHECKING:
    from supervision import ExitReason, Ref

#: Seconds that the process has to end by itself.
_PATIENCE = 2.0
#: How many questions of a process are answered at once.
_QUESTIONS = 1000
#: After how many frames the event loop has its turn.
_TURN = 64

_CHILD = """\
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from dspex.agents.process.worker import main
main(int(sys.argv[1]), {loop!r})
"""


class WorkerProcessEnded(Message, frozen=True):
    """The process has ended by itself."""

    reason: ExitReason


class ProcessRunner(ProgramRunner):
    """A `ProgramRunner` whose programs run in a process of its own: they may block, crash it, or be killed.

    The program and its arguments go there as copies. What belongs to the caller stays here, and the program uses it
    by proxies: language models with their keys and limits; callbacks, usage, histories, the trace, streams. So an
    observer sees what it would see without the process, except that what a run changes in the program's own attributes
    is lost, and that what cannot be pickled is an error (`NotSendable`).

    If the process ends, so does this actor, with the reason `supervision.reasons.ProcessExited`, and its supervisor
    starts both again. When this actor ends, the process is killed.
    """

    trap_exit = True

    async def init(self) -> None:
        """Start the process, and wait until it is ready."""
        await super().init()
        self._runs: dict[int, RemoteRun] = {}
        #: Runs that nobody waits for any more, and that have not ended there yet.
        self._given_up: set[int] = set()
        self._last = 0
        self._sent = SentParts()
        self._question_slots = asyncio.Semaphore(_QUESTIONS)
        loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
        self._process, ours = await start_interpreter(_CHILD.replace("{loop!r}", repr(loop)))
        self._channel = await Channel.open(ours, LONGEST_FRAME)
        self._ending = asyncio.get_running_loop().create_task(self._hang_up(), context=Context())
        on_end(self.ref, self._close)
        try:
            first = await self._channel.receive()
        except Exception as error:
            raise Stop(_no_frame(error)) from None
        if first is None:
            raise Stop(exit_reason(await self._ended()))
        if first.kind != "ready":
            raise Stop(_no_frame(f"it began with {first.kind!r}"))
        self._reading = asyncio.get_running_loop().create_task(self._read(self.ref), context=Context())

    async def _hang_up(self) -> None:
        await self._process.wait()
        self._channel.hang_up()

    def _close(self) -> None:
        self._kill()
        self._channel.close()

    def _kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def _ended(self) -> int:
        """Wait until the process has ended, and kill it if it does not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                return await self._process.wait()
        self._kill()
        return await self._process.wait()

    async def _read(self, ref: Ref) -> None:
        try:
            turn = 0
            while (frame := await self._channel.receive()) is not None:
                turn += 1
                await self._take(frame)
                if turn % _TURN == 0:
                    await self.runtime.sleep(0)
        except Exception as error:
            self._kill()
            ref.cast(WorkerProcessEnded(_no_frame(error)))
        else:
            ref.cast(WorkerProcessEnded(exit_reason(await self._ended())))

    async def _take(self, frame: RunFrame) -> None:
        if not 0 < frame.run <= self._last or frame.number < 0:
            raise Malformed(f"there is no run {frame.run}")
        if frame.kind in ENDS:
            self._take_end(frame)
        elif frame.kind in QUESTIONS:
            await self._take_question(frame)
        elif frame.run in self._runs:
            self._runs[frame.run].take(frame)

    def _take_end(self, frame: RunFrame) -> None:
        if frame.run in self._given_up:
            self._given_up.remove(frame.run)
        elif frame.run in self._runs and not self._runs[frame.run].result.done():
            self._runs[frame.run].take(frame)
        else:
            raise Malformed(f"run {frame.run} has ended already")

    async def _take_question(self, frame: RunFrame) -> None:
        """Have a question answered; while there are too many, no more is read. A program that does not read waits."""
        run = self._runs.get(frame.run)
        work = None if run is None else run.take(frame)
        if run is None or work is None:
            self._channel.send(abandoned_answer(frame))
            await self._channel.drain()
            return
        answering = run.answer(work)
        answering.add_done_callback(lambda _: self._question_slots.release())
        await self._question_slots.acquire()

    @handle
    def process_ended(self, message: WorkerProcessEnded) -> None:
        """End for the same reason as the process."""
        self.stop(message.reason)

    def summary(self) -> Mapping[str, object]:
        """Return how busy it is, and which process it has, for ``/tree``."""
        return {**super().summary(), "pid": self._process.pid}

    async def terminate(self, reason: ExitReason) -> None:
        """Let the process end by itself, if it can."""
        self._channel.close()
        await self._ended()

    async def execute(self, request: Invoke) -> Any:
        """Run the module there."""
        number = self._last = self._last + 1
        run = self._runs[number] = RemoteRun(number, request, self._channel, self._sent)
        begun = False
        try:
            run.begin()
            begun = True
            return await run.result
        finally:
            del self._runs[number]
            if run.close() and begun:
                self._given_up.add(number)


def _no_frame(error: object) -> Abnormal:
    return Abnormal(f"its process sent something that is no frame: {describe(error, form=str)}")


def runner_of(isolation: str) -> type[ProgramRunner]:
    """Return the kind of agent that runs programs in this isolation.

    Raises:
        BadOption: there is none.
    """
    kinds = {"none": ProgramRunner, "process": ProcessRunner}
    if isolation not in kinds:
        raise BadOption("isolation", isolation, f"choose one of {', '.join(kinds)}")
    return kinds[isolation]
