"""The child: a process with one actor in it, driven by its parent's frames.

It ends with its actor, and with its parent: a thread of its own notices when the parent is gone, also while the loop is
blocked, and the system is asked to kill it then (where there is ``prctl``), also while C code holds the interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from supervision._core.dispatch import LEAST_FRAME
from supervision._core.layers import add_layer
from supervision.errors import ActorExited, Refuse, StartError, StartIgnored
from supervision.isolation.frames import (
    LENGTH,
    LONGEST_TEXT,
    NOTHING,
    AnsweredFrame,
    DeliverFrame,
    EndedFrame,
    FailedFrame,
    Frame,
    HandledFrame,
    NotStartedFrame,
    NotTransferable,
    SignalFrame,
    StartedFrame,
    StartFrame,
    StopFrame,
    ToChild,
    encode,
    encoded,
    imported,
    pack,
    pack_reason,
    unpack,
)
from supervision.messages import cut, describe
from supervision.reasons import LONG, Abnormal
from supervision.ref import Ref
from supervision.runtime import Runtime

if TYPE_CHECKING:
    from supervision._core.dispatch import Handler
    from supervision.call import Call

#: The exit status of a child whose parent has gone.
ORPHANED = 3
_PR_SET_PDEATHSIG = 1


class Connection:
    """The child's end of the connection.

    Args:
        sock: the socket.
        gone: called, in a thread, when the parent is gone.
    """

    def __init__(self, sock: socket.socket, gone: Callable[[], object]) -> None:
        self._socket = sock
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._frames: asyncio.Queue[ToChild] = asyncio.Queue()
        threading.Thread(target=self._read, name="parent", daemon=True).start()

    def _read(self) -> None:
        with (
            contextlib.suppress(OSError, RuntimeError, msgspec.MsgspecError),
            self._socket.makefile("rb") as stream,
        ):
            while len(head := stream.read(LENGTH.size)) == LENGTH.size:
                frame = msgspec.msgpack.decode(stream.read(LENGTH.unpack(head)[0]), type=ToChild)
                self._loop.call_soon_threadsafe(self._frames.put_nowait, frame)
        self._gone()

    async def receive(self) -> ToChild:
        """Return the next frame."""
        return await self._frames.get()

    def send(self, frame: Frame) -> None:
        """Send a frame. It blocks while the parent does not read, so that frames do not pile up."""
        self._socket.sendall(encode(frame))


class ActorHost:
    """Hosts the actor: carries out the parent's frames, and reports what comes of them."""

    def __init__(self, runtime: Runtime, connection: Connection) -> None:
        self._runtime = runtime
        self._connection = connection
        #: The message that the parent waits for, and its number.
        self._in_hand: tuple[Any, int] = (None, 0)
        self._answers: set[asyncio.Task[None]] = set()
        self._max_frame = LEAST_FRAME

    async def serve(self) -> None:
        """Start the actor, deliver messages, and report why it ended."""
        start = await self._connection.receive()
        assert isinstance(start, StartFrame)
        ref = await self._start(start)
        if ref is None:
            return
        self._connection.send(StartedFrame())
        following = asyncio.ensure_future(self._follow(ref))
        reason = await ref.join()
        following.cancel()
        if self._answers:
            await asyncio.wait(self._answers)
        self._connection.send(EndedFrame(pack_reason(reason, self._max_frame // 2)))

    async def _start(self, start: StartFrame) -> Ref | None:
        try:
            args = [unpack(each) for each in start.args]
            kwargs = {name: unpack(each) for name, each in start.kwargs.items()}
            kind = imported(start.kind)
            self._max_frame = kind.max_frame
            cell = self._runtime.begin(kind, tuple(args), kwargs, isolation="none")
            if cell.starting is not None:
                await cell.starting
        except StartIgnored as error:
            self._connection.send(NotStartedFrame(pack_reason(error.reason), ignored=True))
        except StartError as error:
            self._connection.send(NotStartedFrame(pack_reason(error.reason, self._max_frame // 2)))
        except Exception as error:
            self._connection.send(
                NotStartedFrame(pack_reason(Abnormal(describe(f"{type(error).__name__}: {error}", LONG, str))))
            )
        else:
            add_layer(cell, self._handle)
            return cell
        return None

    def _handle(self, actor: Any, message: Any, proceed: Handler) -> Any:
        """Report when the current message has been handled, unless it ends the actor."""
        awaited, id = self._in_hand
        if message is not awaited:
            return proceed(actor, message)
        try:
            result = proceed(actor, message)
        except Refuse:
            self._connection.send(HandledFrame(id))
            raise
        if type(result) is CoroutineType:
            return self._finish(actor, result, id)
        self._handled(actor, id)
        return result

    async def _finish(self, actor: Any, rest: Coroutine[Any, Any, Any], id: int) -> Any:
        try:
            result = await rest
        except Refuse:
            self._connection.send(HandledFrame(id))
            raise
        self._handled(actor, id)
        return result

    def _handled(self, actor: Any, id: int) -> None:
        after = actor._cell.after
        if after is None or after.stop is None:
            self._connection.send(HandledFrame(id))

    async def _follow(self, ref: Ref) -> None:
        while True:
            frame = await self._connection.receive()
            if isinstance(frame, DeliverFrame):
                self._deliver(ref, frame)
            elif isinstance(frame, SignalFrame):
                ref.exit(unpack(frame.reason))
            else:
                assert isinstance(frame, StopFrame)
                stopping = asyncio.ensure_future(ref.stop(unpack(frame.reason)))
                stopping.add_done_callback(lambda done: done.exception())

    def _deliver(self, ref: Ref, frame: DeliverFrame) -> None:
        try:
            message = unpack(frame.message)
        except Exception as error:
            self._connection.send(
                _failed(frame.id, NotTransferable.of(frame.message.kind, str(error)), self._max_frame)
            )
            if frame.request:
                self._connection.send(HandledFrame(frame.id))
            return
        self._in_hand = message, frame.id
        if frame.request:
            answering = asyncio.ensure_future(self._answer(ref.call(message, timeout=None), frame.id))
            self._answers.add(answering)
            answering.add_done_callback(self._answers.discard)
        else:
            ref.cast(message)

    async def _answer(self, call: Call[Any], id: int) -> None:
        try:
            answer = self._fitting(id, await call)
        except ActorExited:
            pass  # the Ended frame tells the parent
        except Exception as error:
            self._connection.send(_failed(id, error, self._max_frame))
        else:
            self._connection.send(answer)

    def _fitting(self, id: int, value: Any) -> AnsweredFrame:
        answer = AnsweredFrame(id, pack(value))
        size, most = len(encode(answer)) - LENGTH.size, self._max_frame
        if size > most:
            raise NotTransferable.of(value, f"it has {size:,} bytes, and max_frame of its actor is {most:,}")
        return answer


def _failed(id: int, error: Exception, most: int) -> FailedFrame:
    kind = f"{type(error).__module__}:{type(error).__qualname__}"
    share = min(most // 32, LONGEST_TEXT)  # a character has up to four bytes, and there are three texts
    fields = {name: value for name, value in vars(error).items() if not name.startswith("_")}
    where = describe(error, share, lambda error: "".join(traceback.format_exception(error))[-share:])
    texts = cut(kind, share), describe(error, share, str), where
    return FailedFrame(id, *texts, *(_encoded(each, most // 4) for each in (list(error.args), fields)))


def _encoded(value: Any, most: int) -> msgspec.Raw:
    with contextlib.suppress(NotTransferable):
        data = encoded(value)
        if memoryview(data).nbytes <= most:
            return data
    return NOTHING


def die_with_parent() -> None:
    """Ask the system to kill this process when its parent has died, where it can be asked."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def serve(sock: socket.socket, gone: Callable[[], object]) -> None:
    """Host the actor of this process until it has ended."""
    async with Runtime(reports=False) as runtime:
        await ActorHost(runtime, Connection(sock, gone)).serve()


def orphaned() -> NoReturn:
    """End at once, as the parent is gone."""
    os._exit(ORPHANED)


def main() -> None:
    """Run the process of an actor. ``sys.argv[1]`` is the number of the socket."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at a Ctrl-C the parent stops its children
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        asyncio.run(serve(sock, orphaned))
        sys.stdout.flush()
        sys.stderr.flush()
