"""The process of an isolated actor, and the actor that stands for it in the runtime of its supervisors."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from supervision._cell import Cell
from supervision._dispatch import handle
from supervision._import import import_path, imported
from supervision._marks import IGNORE
from supervision.actor import Actor
from supervision.errors import Refuse, Stop
from supervision.isolation.frames import (
    LENGTH,
    LONGEST,
    Answered,
    Deliver,
    Ended,
    Failed,
    Frame,
    FromChild,
    Handled,
    NotStarted,
    NotTransferable,
    RemoteError,
    Signal,
    Start,
    Started,
    answer_type,
    encode,
    pack,
    pack_reason,
    unpack,
    unpack_reason,
)
from supervision.isolation.frames import Stop as StopFrame
from supervision.messages import Exit, Message
from supervision.reasons import KILLED, Abnormal, ExitReason, ProcessExited

if TYPE_CHECKING:
    from supervision.call import ReplyTo
    from supervision.ref import Ref

_CHILD = """\
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from supervision.isolation.child import main
main()
"""


async def start_interpreter(code: str) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """Start a fresh interpreter, and return it with this end of a socket that leads to it.

    Args:
        code: is run there. Its ``sys.argv`` has the number of the other end of the socket, and, as JSON, the import
            path of this process.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        arguments = ("-c", code, str(theirs.fileno()), json.dumps(sys.path))
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, stdin=asyncio.subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
            )
        except BaseException:
            ours.close()
            raise
    return process, ours


class ChildProcess:
    """An OS process with one actor in it."""

    def __init__(self, process: asyncio.subprocess.Process, sock: socket.socket) -> None:
        self._process = process
        self._socket = sock
        #: How many operations wait on the socket, which is closed when there are none: its number may be used again.
        self._busy = 0
        self._closing = False
        self.pid = process.pid
        #: Its exit status, once it has ended and has been reaped.
        self.exited: asyncio.Task[int] = asyncio.ensure_future(process.wait())

    @classmethod
    async def start(cls) -> ChildProcess:
        """Start a process: a fresh interpreter with the import path of this one."""
        return cls(*await start_interpreter(_CHILD))

    async def send(self, frame: Frame) -> None:
        """Send a frame. If the process has ended, nothing happens: its end will be told."""
        with suppress(OSError), self._in_use():
            await asyncio.get_running_loop().sock_sendall(self._socket, encode(frame))

    async def receive(self) -> FromChild | None:
        """Return the next frame; None when there are no more. Half a frame is none.

        Raises:
            msgspec.DecodeError, ValueError: this is no frame.
        """
        head = await self._read(LENGTH.size)
        if head is None:
            return None
        length = LENGTH.unpack(head)[0]
        if length > LONGEST:
            raise ValueError(f"a frame of {length} bytes")
        body = await self._read(length)
        return None if body is None else msgspec.msgpack.decode(body, type=FromChild)

    async def _read(self, length: int) -> bytes | None:
        loop = asyncio.get_running_loop()
        data = bytearray()
        while len(data) < length:
            part = b""
            with suppress(OSError), self._in_use():
                part = await loop.sock_recv(self._socket, min(length - len(data), 1 << 20))
            if not part:
                return None
            data += part
        return bytes(data)

    def kill(self) -> None:
        """Send SIGKILL, if it has not ended."""
        if not self.exited.done():
            with suppress(ProcessLookupError):
                self._process.kill()

    def close(self) -> None:
        """Kill it, and close the connection as soon as nobody waits there any more."""
        self.kill()
        self._closing = True
        self._close_if_idle()

    @contextmanager
    def _in_use(self) -> Generator[None]:
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._closing and not self._busy:
            self._socket.close()


def exit_reason(status: int) -> ExitReason:
    """Return why an actor ended whose process ended with this status, without a goodbye."""
    if status == -signal.SIGKILL:
        return KILLED
    return ProcessExited(status, signal.Signals(-status).name if status < 0 else "")


class ProcessEnded(Message, frozen=True):
    """The process of an isolated actor has ended."""

    reason: ExitReason


class StandIn(Actor):
    """Stands for an actor in another process: has its mailbox, and sends it one message at a time."""

    __slots__ = ("_handled", "_ids", "_kind", "_process", "_reader", "_reason", "_start", "_waiting", "pid")

    original: type[Actor]

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._start = args, kwargs
        self._ids = 0
        self._process: ChildProcess | None = None
        self._reader: asyncio.Task[None] | None = None
        #: Why the process has ended, or is about to.
        self._reason: ExitReason | None = None
        #: What waits for the message in hand to be handled.
        self._handled: tuple[int, asyncio.Future[None]] | None = None
        #: Requests that are not answered yet, with the types of their answers.
        self._waiting: dict[int, tuple[ReplyTo[Any], Any]] = {}
        self.pid: int | None = None

    async def init(self) -> Any:
        """Start the process, and the actor in it."""
        args, kwargs = self._start
        try:
            kind = import_path(self.original)
        except ValueError as error:
            raise NotTransferable.of(self.original, str(error)) from None
        start = Start(kind, [pack(each) for each in args], {name: pack(each) for name, each in kwargs.items()})
        process = self._process = await ChildProcess.start()
        self.pid = process.pid
        self._cell.runtime.adopt(self._cell, process)
        await process.send(start)
        answer = await process.receive()
        if isinstance(answer, Started):
            self._reader = asyncio.ensure_future(self._read(process))
            return None
        if not isinstance(answer, NotStarted):
            raise Stop(exit_reason(await process.exited))
        await process.exited
        if answer.ignored:
            return IGNORE
        raise Stop(unpack_reason(answer.reason))

    async def _read(self, process: ChildProcess) -> None:
        reason: ExitReason | None = None
        try:
            while (frame := await process.receive()) is not None:
                if isinstance(frame, Ended):
                    reason = unpack_reason(frame.reason)
                else:
                    self._take(frame)
        except (msgspec.DecodeError, msgspec.ValidationError, ValueError) as error:
            reason = Abnormal(f"its process sent something that is no frame: {error}")
            process.kill()
        status = await process.exited
        self._reason = reason if reason is not None else exit_reason(status)
        if self._handled is None:
            self._cell.deliver(ProcessEnded(self._reason))
        elif not self._handled[1].done():
            self._handled[1].set_exception(Stop(self._reason))

    def _take(self, frame: FromChild) -> None:
        match frame:
            case Handled(id) if self._handled is not None and self._handled[0] == id:
                self._handled[1].set_result(None)
                self._handled = None
            case Answered(id, value):
                token, expected = self._waiting.pop(id)
                try:
                    token.reply(unpack(value, expected))
                except Exception as error:
                    token.fail(NotTransferable.of(value, str(error)))
            case Failed(id) if id in self._waiting:
                self._waiting.pop(id)[0].fail(_rebuilt(frame))
            case Failed() if self._handled is not None:  # a message without an answer that could not be read there
                self._handled[1].set_exception(_rebuilt(frame))
                self._handled = None
            case _:
                raise ValueError(f"an unexpected {type(frame).__name__}")

    # -- messages --------------------------------------------------------------------------------------------

    @handle
    def ended(self, message: ProcessEnded) -> None:
        """End like the process."""
        self.stop(message.reason)

    @handle
    async def exit(self, message: Exit) -> None:
        """Send on the end of a linked actor, without its address, which means nothing there."""
        assert self._process is not None
        await self._process.send(Signal(pack_reason(message.reason)))

    async def unhandled(self, message: Any) -> None:
        """Send a message to the process, and wait until it is handled."""
        request = self._cell.call_in_hand is not None
        await self._send(message, self.defer_reply() if request else None)

    async def _send(self, message: Any, token: ReplyTo[Any] | None) -> None:
        try:
            packed = pack(message)
        except NotTransferable as error:
            if token is None:
                raise Refuse(error) from None
            token.fail(error)
            return
        if self._reason is not None:
            raise Stop(self._reason)
        process = self._process
        assert process is not None
        self._ids += 1
        handled: asyncio.Future[None] = self._cell.sched.loop.create_future()
        self._handled = (self._ids, handled)
        if token is not None:
            self._waiting[self._ids] = (token, answer_type(message))
        await process.send(Deliver(self._ids, packed, token is not None))
        await handled

    async def terminate(self, reason: ExitReason) -> None:
        """Have the actor end in order, and wait until it has."""
        process = self._process
        if process is None or self._reason is not None:
            return
        await process.send(StopFrame(pack_reason(reason)))
        assert self._reader is not None
        await asyncio.shield(self._reader)

    def format_status(self) -> Any:
        """Return what is known of the process."""
        return {"process": self.pid, "kind": self.original.__qualname__}


def _rebuilt(frame: Failed) -> Exception:
    """Return an error as it was raised, if it can be rebuilt from its arguments."""
    if frame.args is not None:
        try:
            error: Any = imported(frame.kind)(*unpack(frame.args))
        except Exception:
            error = None
        if isinstance(error, Exception) and str(error) == frame.text:
            return error
    return RemoteError(frame.kind.replace(":", ".").removeprefix("builtins."), frame.text)


@cache
def stand_in(kind: Any) -> type[StandIn]:
    """Return the class that stands for actors of a class."""
    attributes = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__slots__": (),
        "original": getattr(kind, "isolated_from", kind),
        "mailbox": kind.mailbox,
        "shutdown": kind.shutdown,
        "trap_exit": kind.__behaviour__.trap_exit,
    }
    return type(kind.__name__, (StandIn,), attributes)


def pid_of(ref: Ref) -> int | None:
    """Return the id of the process in which an isolated actor lives; None for one that lives in this one."""
    assert isinstance(ref, Cell)
    process = ref.runtime.processes.get(ref)
    return None if process is None else process.pid
