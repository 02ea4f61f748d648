"""The worker process, in which programs run."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from importlib import import_module
from itertools import count
from typing import Any, TypeVar

import anyio
import msgspec

from dspex._compat import (
    active_call_id,
    bounded_history,
    is_proxy,
    module_paths,
    proxy_callback,
    proxy_lm,
    remote_settings,
    under_call,
)
from dspex._loops import await_in_loop, block_on_loop, is_running_here, next_of
from dspex.agents.process.encoding import Encoding, traceback_of
from dspex.agents.process.parts import CallFrame, KeptPart, KeptParts
from dspex.agents.process.protocol import Channel, RunFrame
from dspex.agents.process.serialization import NotSendable, Serializer
from dspex.agents.runner import run_module
from supervision.isolation.child import die_with_parent, orphaned

T = TypeVar("T")


class ProgramWorker:
    """Runs programs for the process at the other end.

    Args:
        channel: to that process.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.loop = asyncio.get_running_loop()
        self.numbers = count(1)
        self.answers: dict[int, asyncio.Queue[RunFrame]] = {}
        self._limiter = anyio.CapacityLimiter(1_000_000)  # how many run is decided there
        self._runs: dict[int, asyncio.Task[None]] = {}
        self._kept = KeptParts()

    async def serve(self) -> None:
        """Handle frames, until the other process ends."""
        self.channel.send(RunFrame("ready"))
        while (frame := await self.channel.receive()) is not None:
            if frame.kind == "run":
                call = msgspec.msgpack.decode(frame.data, type=CallFrame)
                run = WorkerRun(self, frame.run, call, self._kept.take(call))
                task = self._runs[frame.run] = self.loop.create_task(run.run(self._limiter))
                task.add_done_callback(lambda _, run=frame.run: self._runs.pop(run))  # type: ignore[misc]
            elif frame.kind == "cancel":
                if frame.run in self._runs:
                    self._runs[frame.run].cancel()
            elif frame.number in self.answers:
                self.answers[frame.number].put_nowait(frame)


class WorkerRun:
    """One run, in this process. It has proxies for what has stayed with the caller.

    Args:
        worker: that it belongs to.
        number: of the run.
        call: what is to be run.
        parts: of the call, by their digests.
    """

    def __init__(self, worker: ProgramWorker, number: int, call: CallFrame, parts: Mapping[bytes, KeptPart]) -> None:
        self._worker = worker
        self._number = number
        self._call = call
        self._parts = parts
        self._paths: dict[int, tuple[Any, str]] = {}
        self._proxies: dict[int, Any] = {}
        self._serializer = Serializer(lambda _: None, self._resolve)
        self._encoding = Encoding(self._refer, ())

    def _refer(self, value: Any) -> Any:
        if is_proxy(value):
            return "kept", value.dspex_number
        if id(value) in self._paths:
            return "module", self._paths[id(value)][1]
        return None

    def _resolve(self, reference: Any) -> Any:
        kind, key = reference
        if kind == "module":
            return next(module for module, path in self._paths.values() if path == key)
        if kind == "signature":
            return self._parts[key].signature()
        if key not in self._proxies:
            shown = self._serializer.unpack(self._call.described[key])
            self._proxies[key] = proxy_callback(key, self.tell) if shown is None else proxy_lm(key, shown, self)
        return self._proxies[key]

    async def run(self, limiter: Any) -> None:
        """Run the program, and tell what it returned or raised."""
        try:
            segments = [self._parts[digest].data for digest in self._call.segments]
            values = self._serializer.unpack_all(b"".join((*segments, self._call.rest)))
            module, names = next(values), next(values)
            self._paths = module_paths(module)
            found = {name: next(values) for name in names}
            asynchronous, args, kwargs = next(values)
            self._encoding = Encoding(self._refer, next(values))
            with under_call(self._call.call), remote_settings(found, self), bounded_history():
                result = await run_module(module, args, kwargs, asynchronous=asynchronous, limiter=limiter)
            self._end("returned", "what it returned", result)
        except asyncio.CancelledError:
            self._worker.channel.send(RunFrame("cancelled", self._number))
            raise
        except BaseException as error:
            self._raised(error)

    def _raised(self, error: BaseException) -> None:
        text = traceback_of(error)
        error.add_note(f"\nIn the process of the agent:\n{text}")
        try:
            self._end("raised", "what it raised", error)
        except NotSendable as refused:
            said = NotSendable(f"the error {type(error).__name__}: {error}", str(refused.__cause__))
            self._end("raised", "an error", said)

    def _end(self, kind: str, what: str, value: Any) -> None:
        self._worker.channel.send(RunFrame(kind, self._number, data=self._encoding.write(what, value)))

    # -- used by the proxies, in any thread ---------------------------------------------------------------------------

    def module_of(self, number: int | None) -> Any:
        """Return the module of the program with an ``id``; None if there is none."""
        found = self._paths.get(number or 0)
        return None if found is None else found[0]

    def tell(self, kind: str, *values: Any) -> None:
        """Send the caller something that is not answered."""
        data = self._encoding.write(f"what a {kind} is told", values, lenient=True)
        self._send(RunFrame(kind, self._number, data=data))

    def _send(self, frame: RunFrame) -> None:
        if is_running_here(self._worker.loop):
            self._worker.channel.send(frame)
        else:
            self._worker.loop.call_soon_threadsafe(self._worker.channel.send, frame)

    async def asked(self, kind: str, *values: Any) -> AsyncIterator[Any]:
        """Ask the caller something, and return what comes, up to the answer; in the worker's loop."""
        number = next(self._worker.numbers)
        frames = self._worker.answers[number] = asyncio.Queue()
        self._worker.channel.send(RunFrame(kind, self._number, number, self._encoding.write(f"a {kind}", values)))
        try:
            while True:
                frame = await frames.get()
                value = self._serializer.unpack(frame.data)
                if frame.kind == "failed":
                    raise value
                yield value
                if frame.kind == "answered":
                    return
        finally:
            del self._worker.answers[number]

    async def ask(self, kind: str, *values: Any) -> Any:
        """Ask the caller something, and return the answer; in any event loop."""
        return await await_in_loop(self._worker.loop, self._last(kind, values))

    async def _last(self, kind: str, values: tuple[Any, ...]) -> Any:
        return [value async for value in self.asked(kind, *values)][-1]

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return block_on_loop(self._worker.loop, work, "a language model, in an agent's process,")

    # -- the engine of a language model that has stayed there ------------------------------------------------------

    async def answer(self, number: int, request: Any) -> Any:
        """Have a language model asked."""
        return await self.ask("ask", self._proxies[number], request, active_call_id())

    def answer_sync(self, number: int, request: Any) -> Any:
        """The same, in a thread."""
        return self._wait(self._last("ask", (self._proxies[number], request, active_call_id())))

    async def stream(self, number: int, request: Any) -> AsyncIterator[Any]:
        """Have a language model asked, and return the events of its answer."""
        events = self.asked("stream", self._proxies[number], request, active_call_id())
        while (event := await await_in_loop(self._worker.loop, next_of(events))) is not None:
            yield event

    def stream_sync(self, number: int, request: Any) -> Iterator[Any]:
        """The same, in a thread."""
        events = self.asked("stream", self._proxies[number], request, active_call_id())
        while (event := self._wait(next_of(events))) is not None:
            yield event


async def _serve(number: int) -> None:
    with socket.socket(fileno=number) as sock:
        await ProgramWorker(await Channel.open(sock)).serve()
    orphaned()


def main(number: int, loop: str) -> None:
    """Entry point of the worker process.

    Args:
        number: of the socket.
        loop: the package of the caller's event loop: programs find the same kind here.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the parent, which then ends this process
    logging.getLogger("dspy").setLevel(os.environ.get("DSPEX_PROCESS_LOG", "WARNING"))
    factory = import_module(loop).new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(number))
