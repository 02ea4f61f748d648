"""The process of an isolated actor, and the proxy actor in the parent's runtime."""

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

from supervision._core.cell import Cell
from supervision._core.dispatch import KERNEL_HANDLERS, handle
from supervision._core.phases import IGNORE
from supervision.actor import Actor
from supervision.errors import Refuse, Stop, UnhandledMessage
from supervision.isolation.decoding import read_answer, read_error, read_reason, unhandled
from supervision.isolation.frames import (
    LENGTH,
    AnsweredFrame,
    DeliverFrame,
    EndedFrame,
    FailedFrame,
    Frame,
    FromChild,
    HandledFrame,
    NotStartedFrame,
    NotTransferable,
    SignalFrame,
    StartedFrame,
    StartFrame,
    StopFrame,
    encode,
    import_path,
    pack,
    pack_reason,
)
from supervision.messages import Exit, Message, describe
from supervision.reasons import KILLED, Abnormal, ExitReason, ProcessExited

if TYPE_CHECKING:
    from supervision.call import ReplyTo
    from supervision.ref import Ref

#: Seconds that a process has to exit by itself after its last frame.
_PATIENCE = 5.0

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
    """An OS process with one actor in it.

    Args:
        process: the process.
        sock: leads there.
        longest: the longest frame that it may send, in bytes.
    """

    def __init__(self, process: asyncio.subprocess.Process, sock: socket.socket, longest: int) -> None:
        self._process = process
        self._socket = sock
        self._longest = longest
        #: What it had sent, but nobody had read, when it ended.
        self._rest = bytearray()
        #: How many operations wait on the socket, which is closed when there are none: its number may be used again.
        self._busy = 0
        self._closing = False
        self.pid = process.pid
        #: Its exit status, once it has ended and has been reaped.
        self.exited: asyncio.Task[int] = asyncio.ensure_future(process.wait())
        self.exited.add_done_callback(self._hang_up)

    @classmethod
    async def start(cls, longest: int) -> ChildProcess:
        """Start a process: a fresh interpreter with the import path of this one."""
        return cls(*await start_interpreter(_CHILD), longest)

    def _hang_up(self, _: object) -> None:
        """Shut the connection down, as children of the process may hold it open; what was sent is kept."""
        with suppress(OSError):
            while len(self._rest) <= self._longest and (part := self._socket.recv(1 << 16)):
                self._rest += part
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    async def send(self, frame: Frame) -> None:
        """Send a frame. Nothing happens if the process has ended: its end is reported anyway."""
        with suppress(OSError), self._in_use():
            await asyncio.get_running_loop().sock_sendall(self._socket, encode(frame))

    async def receive(self) -> FromChild | None:
        """Return the next frame; None when there are no more. Half a frame is none.

        Raises:
            Exception: this is no frame, or too long a one.
        """
        head = await self._read(LENGTH.size)
        if head is None:
            return None
        length = LENGTH.unpack(head)[0]
        if length > self._longest:
            raise ValueError(f"a frame of {length} bytes, where max_frame is {self._longest}")
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
                part = bytes(self._rest[: length - len(data)])
                del self._rest[: len(part)]
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
        """Kill it, and close the connection when no operation waits on it any more."""
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
    """Return the exit reason for a process that ended with this status, without an Ended frame."""
    if status == -signal.SIGKILL:
        return KILLED
    return ProcessExited(status, signal.Signals(-status).name if status < 0 else "")


class ChildProcessExited(Message, frozen=True):
    """The process of an isolated actor has ended."""

    reason: ExitReason


class ProxyActor(Actor):
    """The proxy of an actor in another process: has its mailbox, and sends it one message at a time."""

    __slots__ = ("_handled", "_ids", "_kind", "_process", "_reader", "_reason", "_start", "_waiting", "pid")

    original: type[Actor]

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._start = args, kwargs
        self._ids = 0
        self._process: ChildProcess | None = None
        self._reader: asyncio.Task[None] | None = None
        #: Why the process has ended, or is about to.
        self._reason: ExitReason | None = None
        #: The number of the current message, and a future of its being handled.
        self._handled: tuple[int, asyncio.Future[None]] | None = None
        #: Requests that are not answered yet.
        self._waiting: dict[int, tuple[ReplyTo[Any], Any]] = {}
        self.pid: int | None = None

    async def init(self) -> Any:
        """Start the process, and the actor in it."""
        args, kwargs = self._start
        try:
            kind = import_path(self.original)
        except ValueError as error:
            raise NotTransferable.of(self.original, str(error)) from None
        start = StartFrame(kind, [pack(each) for each in args], {name: pack(each) for name, each in kwargs.items()})
        process = self._process = await ChildProcess.start(self.original.max_frame)
        self.pid = process.pid
        self._cell.runtime.adopt(self._cell, process)
        await process.send(start)
        try:
            answer = await process.receive()
            reason = read_reason(answer.reason) if isinstance(answer, NotStartedFrame) else None
            assert isinstance(answer, NotStartedFrame | StartedFrame | None), f"it began with {type(answer).__name__}"
        except Exception as error:
            raise Stop(_no_frame(error)) from None
        if isinstance(answer, StartedFrame):
            self._reader = asyncio.ensure_future(self._read(process))
            return None
        status = await self._ended(process)
        if isinstance(answer, NotStartedFrame) and answer.ignored:
            return IGNORE
        raise Stop(exit_reason(status) if reason is None else reason)

    async def _ended(self, process: ChildProcess) -> int:
        """Wait for the exit of a process that sent its last frame or closed the connection; kill it if it is late."""
        if not await self._cell.sched.wait(process.exited, _PATIENCE):
            process.kill()
        return await process.exited

    async def _read(self, process: ChildProcess) -> None:
        try:
            reason = await self._follow(process)
        except Exception as error:
            reason = _no_frame(error)
            process.kill()
        status = await self._ended(process)
        self._reason = reason if reason is not None else exit_reason(status)
        if self._handled is None:
            self._cell.deliver(ChildProcessExited(self._reason))
        elif not self._handled[1].done():
            self._handled[1].set_exception(Stop(self._reason))

    async def _follow(self, process: ChildProcess) -> ExitReason | None:
        """Process its frames up to the end; return the reason if it gives one."""
        while (frame := await process.receive()) is not None:
            if isinstance(frame, EndedFrame):
                return read_reason(frame.reason)
            self._take(frame)
        return None

    def _take(self, frame: FromChild) -> None:
        match frame:
            case HandledFrame(id) if self._handled is not None and self._handled[0] == id:
                self._handled[1].set_result(None)
                self._handled = None
            case AnsweredFrame(id, value) if id in self._waiting:
                token, request = self._waiting.pop(id)
                try:
                    token.reply(read_answer(value, type(request), self._messages()))
                except NotTransferable as error:
                    token.fail(error)
            case FailedFrame(id) if id in self._waiting:
                token, request = self._waiting.pop(id)
                token.fail(self._error(frame, request))
            case FailedFrame(id) if self._handled is not None and self._handled[0] == id:
                # A message without an answer, that could not be read there.
                self._handled[1].set_exception(self._error(frame, None))
                self._handled = None
            case _:
                raise ValueError(f"an unexpected {type(frame).__name__}")

    def _messages(self) -> tuple[type, ...]:
        """Return the types of the messages that the actor handles."""
        tables = self.original.__behaviour__.tables.values()
        return tuple(kind for table in tables for kind in table if kind not in KERNEL_HANDLERS)

    def _error(self, frame: FailedFrame, request: Any) -> Exception:
        if unhandled(frame):
            return UnhandledMessage(self._cell, request)
        return read_error(frame, (*self.original.raises, *getattr(type(request), "raises", ())))

    # -- messages --------------------------------------------------------------------------------------------

    @handle
    def ended(self, message: ChildProcessExited) -> None:
        """End like the process."""
        self.stop(message.reason)

    @handle
    async def exit(self, message: Exit) -> None:
        """Pass on the exit signal of a linked actor, without its address, which is not valid there."""
        assert self._process is not None
        await self._process.send(SignalFrame(pack_reason(message.reason)))

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
            self._waiting[self._ids] = (token, message)
        await process.send(DeliverFrame(self._ids, packed, token is not None))
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
        """Return the process and the class."""
        return {"process": self.pid, "kind": self.original.__qualname__}


def _no_frame(error: Exception) -> Abnormal:
    return Abnormal(f"its process sent something that is no frame: {describe(error, form=str)}")


@cache
def proxy_class(kind: Any) -> type[ProxyActor]:
    """Return the proxy class for a class of actors."""
    attributes = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__slots__": (),
        "original": getattr(kind, "isolated_from", kind),
        "mailbox": kind.mailbox,
        "shutdown": kind.shutdown,
        "trap_exit": kind.__behaviour__.trap_exit,
    }
    return type(kind.__name__, (ProxyActor,), attributes)


def pid_of(ref: Ref) -> int | None:
    """Return the id of the process in which an isolated actor lives; None for one that lives in this one."""
    assert isinstance(ref, Cell)
    process = ref.runtime.processes.get(ref)
    return None if process is None else process.pid
