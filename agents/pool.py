"""Pools: equal agents that share the work which any of them can do."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, Literal, TypeVar

import msgspec

from agents.core.agent_type import AgentType
from agents.core.signal import Signal, new_signal
from agents.server import AgentServer, Reply
from agents.server.executors import BeginTask, OwnedTask
from agents.server.handle import AgentHandle
from agents.server.messages import Ask, Reset
from agents.server.view import AgentView
from supervision import (
    Actor,
    ChildSpec,
    Down,
    DynamicSupervisor,
    Message,
    Monitor,
    Name,
    NotRunning,
    Ref,
    ReplyTo,
    Request,
    Runtime,
    call_when_ready,
    current_actor,
    handle,
    start_child,
)
from supervision.errors import BadOption
from supervision.logs import get_logger
from supervision.options import is_whole

_log: Any = get_logger("agents")
S = TypeVar("S", bound=msgspec.Struct)

#: What happens to the state of a worker that is given back: it is kept for the next user, or reset to the first state.
OnCheckin = Literal["keep", "reset"]


class PoolStatus(msgspec.Struct, frozen=True):
    """A pool at this moment.

    Attributes:
        size: how many workers it has.
        available: how many are free.
        checked_out: how many are in use.
        waiting: how many wait for one.
    """

    size: int
    available: int
    checked_out: int
    waiting: int

    @property
    def state(self) -> str:
        """``ready`` if a worker is free, or else ``full``."""
        return "ready" if self.available else "full"


class _Checkout(Request[AgentHandle[Any]], frozen=True):
    """A worker, when one is free, checked out under this ticket."""

    ticket: object
    user: Ref | None


class _Checkin(Message, frozen=True):
    """Give the worker of a ticket back, or wait for one no longer."""

    ticket: object


class _Status(Request[PoolStatus], frozen=True):
    """How is it?"""


class PoolServer(Actor):
    """Hands out the workers of a pool. Use it through `Pool`.

    A worker that crashes is started again in its place. One whose user has ended comes back.

    Args:
        kind: the type of the workers.
        views: where the workers are seen, one for each.
        lifo: whether the worker that came back last is used first.
        on_checkin: what happens to its state.
        options: passed to each `AgentServer`.
    """

    def __init__(
        self,
        kind: type[AgentType[Any]],
        views: tuple[AgentView[Any], ...],
        lifo: bool,
        on_checkin: OnCheckin,
        options: Mapping[str, Any],
    ) -> None:
        self._kind = kind
        self._views = views
        self._lifo = lifo
        self._on_checkin = on_checkin
        self._options = options
        self._free: deque[int] = deque(range(len(views)))
        #: By ticket: the worker that is checked out, and the monitor of its user.
        self._out: dict[object, tuple[int, Monitor | None]] = {}
        self._waiting: dict[object, tuple[ReplyTo[AgentHandle[Any]], Ref | None]] = {}

    async def init(self) -> None:
        """Start the workers."""
        supervisor = await self.spawn_link(DynamicSupervisor, max_restarts=1000)
        for number, view in enumerate(self._views):
            options = {"id": f"{self.ref.path.strip('/')}/{number}", **self._options, "view": view}
            spec = ChildSpec(number, AgentServer, (self._kind,), options, name=self._name(number).key)
            await start_child(supervisor, spec)

    def _name(self, worker: int) -> Name:
        # Of this incarnation alone: the names of a pool that was killed may be held a moment longer.
        return self.runtime.name(f"{self.ref.path}#{self.ref.id}/{worker}")

    @handle
    def check_out(self, request: _Checkout) -> AgentHandle[Any] | None:
        """Hand out a worker, as soon as one is free."""
        if not self._free:
            self._waiting[request.ticket] = (self.defer_reply(), request.user)
            return None
        return self._hand_out(request.ticket, request.user)

    def _hand_out(self, ticket: object, user: Ref | None) -> AgentHandle[Any]:
        worker = self._free.pop() if self._lifo else self._free.popleft()
        self._out[ticket] = (worker, None if user is None else self.monitor(user))
        return AgentHandle(self._name(worker), self._views[worker])

    @handle
    def check_in(self, message: _Checkin) -> None:
        """Take a worker back."""
        self._waiting.pop(message.ticket, None)
        out = self._out.pop(message.ticket, None)
        if out is not None:
            if out[1] is not None:
                self.demonitor(out[1], flush=True)
            self._back(out[0])

    def _back(self, worker: int) -> None:
        if self._on_checkin == "reset":
            self._name(worker).cast(Reset())
        self._free.append(worker)
        if self._waiting:
            ticket = next(iter(self._waiting))
            reply, user = self._waiting.pop(ticket)
            reply.reply(self._hand_out(ticket, user))

    @handle
    def ended(self, message: Down) -> None:
        """A user has ended: take the worker back."""
        for ticket, (worker, monitor) in list(self._out.items()):
            if monitor is message.monitor:
                del self._out[ticket]
                self._back(worker)

    @handle
    def on_cast(self, signal: Signal) -> None:
        """Have a worker handle a signal that was cast."""
        self.runtime.spawn_nowait(_PoolTask, Pool(self.ref), signal).cast(BeginTask())

    @handle
    def status(self, request: _Status) -> PoolStatus:
        """Return how it is."""
        return PoolStatus(len(self._views), len(self._free), len(self._out), len(self._waiting))


class _PoolTask(OwnedTask):
    """Gives one signal that was cast to the pool to a worker, which is in use until its turn is over."""

    def __init__(self, pool: Pool[Any], signal: Signal) -> None:
        super().__init__(pool.address)
        self._pool = pool
        self._signal = signal

    async def _run(self) -> None:
        try:
            async with self._pool.worker(None) as worker:
                await call_when_ready(worker.address, Ask(self._signal), None)
        except Exception as error:
            _log.warning("pool_signal_failed", signal=self._signal.type, error=str(error))


class Pool(Generic[S]):
    """A pool of equal agents.

    Attributes:
        address: of the actor that hands them out.
    """

    __slots__ = ("address",)

    def __init__(self, address: Ref) -> None:
        self.address = address

    @asynccontextmanager
    async def worker(self, timeout: float | None = 5.0) -> AsyncGenerator[AgentHandle[S]]:
        """Give a worker for the time of a block. It comes back however the block is left.

        Args:
            timeout: seconds to wait for one.

        Raises:
            CallTimeout: none was free in time.
        """
        ticket = object()
        try:
            yield await self.address.call(_Checkout(ticket, _user()), timeout)
        finally:
            self.address.cast(_Checkin(ticket))

    async def call(self, signal: Signal, timeout: float | None = 5.0) -> Reply[S]:
        """Have a worker handle a signal, and return the reply.

        A worker that dies before it has begun with the signal finds it there when it is started again.

        Args:
            signal: the signal; `signal` makes one.
            timeout: seconds to wait for a worker, and then for its answer.
        """
        async with self.worker(timeout) as worker:
            return await call_when_ready(worker.address, Ask(signal), timeout)

    def cast(self, signal: Signal) -> None:
        """Have a worker handle a signal, when one is free; it is in use until its turn is over."""
        self.address.cast(signal)

    def signal(self, type: str, data: Any = None) -> Signal:
        """Return a new signal."""
        return new_signal(self.address.runtime, type, data, source="/")

    async def status(self) -> PoolStatus:
        """Return how the pool is."""
        return await self.address.call(_Status())


def _user() -> Ref | None:
    try:
        return current_actor()
    except NotRunning:
        return None


async def start_pool(
    runtime: Runtime,
    kind: type[AgentType[S]],
    size: int = 5,
    *,
    lifo: bool = False,
    on_checkin: OnCheckin = "keep",
    name: str | None = None,
    **options: Any,
) -> Pool[S]:
    """Start a pool of agents.

    Args:
        runtime: where.
        kind: the type of the agents.
        size: how many.
        lifo: whether the one that came back last is used first; else the one that has been free for longest.
        on_checkin: ``keep`` the state of one that comes back, or ``reset`` it.
        name: of the actor that hands them out.
        options: passed to each `AgentServer`, such as ``state``.

    Raises:
        BadOption: the size is not a whole number from 1, or ``on_checkin`` is not one of those.
        StartError: a worker did not start.
    """
    if not is_whole(size, 1):
        raise BadOption("start_pool: size", size, "give a whole number from 1")
    if on_checkin not in ("keep", "reset"):
        raise BadOption("start_pool: on_checkin", on_checkin, "give keep or reset")
    views: tuple[AgentView[S], ...] = tuple(AgentView() for _ in range(size))
    return Pool(await runtime.spawn(PoolServer, kind, views, lifo, on_checkin, options, name=name))
