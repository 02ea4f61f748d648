"""Pools: equal agents that share the work which any of them can do."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar, Generic, Literal, TypeVar, Unpack

import msgspec

from agents.core.agent_type import AgentType
from agents.core.signal import Signal, new_signal
from agents.durability.checkpointer import Durability
from agents.server import AgentServer, AgentSupervisor, Reply
from agents.server.deliveries import pass_on
from agents.server.executors import BeginTask, OwnedTask
from agents.server.handle import AgentHandle, AgentOptions
from agents.server.messages import Ask, GetView, Reset
from agents.server.options import check_many
from agents.server.view import AgentView
from agents.signals.messages import Deliver, Delivery
from supervision import (
    Actor,
    ChildSpec,
    Down,
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
        available: how many are free: they run, and have nothing to do.
        checked_out: how many are in use; others end a turn, or are about to start again.
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


class _Ready(Message, frozen=True):
    """A worker has nothing to do any more; or it is gone for good."""

    worker: int
    error: BaseException | None


class _AskWorker(Message, frozen=True):
    """Message of a pool to itself: ask a worker whether it has nothing to do."""

    worker: int


class PoolServer(Actor):
    """Hands out the workers of a pool. Use it through `Pool`.

    A worker is handed out when it has nothing to do: one that comes back in the middle of a turn is free when that is
    over, and one that has crashed when it has started again. One whose user has ended comes back.

    Args:
        kind: the type of the workers.
        views: where the workers are seen, one for each.
        lifo: whether the worker that came back last is used first.
        on_checkin: what happens to its state.
        options: passed to each `AgentServer`.

    Raises:
        BadOption, BadTime, BadAgentType, BadState: one of them is wrong.
    """

    #: How many deliveries of a bus it wants at a time, until the bus knows how many workers it has.
    delivery_credit: ClassVar[int] = 1

    def __init__(
        self,
        kind: type[AgentType[Any]],
        views: tuple[AgentView[Any], ...],
        lifo: bool,
        on_checkin: OnCheckin,
        options: Mapping[str, Any],
    ) -> None:
        check_many("Pool", kind, options)
        self._kind = kind
        self._views = views
        self._lifo = lifo
        self._on_checkin = on_checkin
        self._options = options
        self._free: deque[int] = deque()
        #: By ticket: the worker that is checked out, and the monitor of its user.
        self._out: dict[object, tuple[int, Monitor | None]] = {}
        self._waiting: dict[object, tuple[ReplyTo[AgentHandle[Any]], Ref | None]] = {}
        #: The incarnation of each worker that is watched.
        self._watched: dict[Monitor, int] = {}
        #: Who waits for the receipt of a signal from an outbox, by its stream and number.
        self._in_hand: dict[tuple[str, int], list[ReplyTo[Any]]] = {}
        #: The subscriptions that know how many workers there are.
        self._granted: set[str] = set()

    async def init(self) -> None:
        """Start the workers."""
        supervisor = await self.spawn_link(AgentSupervisor)
        for number, view in enumerate(self._views):
            options = {"id": f"{self.ref.path.strip('/')}/{number}", **self._options, "view": view}
            spec = ChildSpec(number, AgentServer, (self._kind,), options, name=self._name(number).key)
            await start_child(supervisor, spec)
            self._watch(number)
            self._free.append(number)

    def _name(self, worker: int) -> Name:
        # Of this incarnation alone: the names of a pool that was killed may be held a moment longer.
        return self.runtime.name(f"{self.ref.path}#{self.ref.id}/{worker}")

    def _watch(self, worker: int) -> None:
        self._watched[self.monitor(self._name(worker))] = worker

    @handle
    def check_out(self, request: _Checkout) -> AgentHandle[Any] | None:
        """Hand out a worker, as soon as one is free."""
        worker = self._take()
        if worker is None:
            self._waiting[request.ticket] = (self.defer_reply(), request.user)
            return None
        return self._hand_out(worker, request.ticket, request.user)

    def _take(self) -> int | None:
        """Take a worker that can begin at once; one that has ended, or was given work meanwhile, is waited for."""
        while self._free:
            worker = self._free.pop() if self._lifo else self._free.popleft()
            if self._is_idle(worker):
                return worker
            self._ask(worker)
        return None

    def _is_idle(self, worker: int) -> bool:
        ref = self._name(worker).resolve()
        here = ref is not None and ref.alive and not ref.mailbox_statistics().length
        return here and self._views[worker].turn is None

    def _hand_out(self, worker: int, ticket: object, user: Ref | None) -> AgentHandle[Any]:
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
        """Take a worker back, when it has nothing to do any more."""
        if self._on_checkin == "reset":
            self._name(worker).cast(Reset())
        if self._is_idle(worker):
            self._freed(worker)
        else:
            self._ask(worker)

    def _ask(self, worker: int) -> None:
        self.ref.cast(_AskWorker(worker))  # the deadline of whoever wants a worker is not that of this question

    @handle
    def ask(self, message: _AskWorker) -> None:
        """Ask a worker whether it has nothing to do: the answer comes behind all else."""
        worker = message.worker
        asked = call_when_ready(self._name(worker), GetView(), None)
        asked.add_done_callback(lambda done: self.ref.cast(_Ready(worker, done.exception())))

    @handle
    def ready(self, message: _Ready) -> None:
        """A worker has answered: it is free."""
        worker = message.worker
        if message.error is not None:
            _log.warning("pool_worker_gone", pool=self.ref.path, worker=worker, error=str(message.error))
            return
        self._freed(worker)

    def _freed(self, worker: int) -> None:
        """A worker is free: hand it out, if anybody waits."""
        if worker not in self._watched.values():
            self._watch(worker)
        self._free.append(worker)
        taken = self._take() if self._waiting else None
        if taken is not None:
            ticket = next(iter(self._waiting))
            reply, user = self._waiting.pop(ticket)
            reply.reply(self._hand_out(taken, ticket, user))

    @handle
    def ended(self, message: Down) -> None:
        """A user has ended: take the worker back. Or a worker has ended: it is free when it has started again."""
        worker = self._watched.pop(message.monitor, None)
        if worker is not None:
            if worker in self._free:
                self._free.remove(worker)
                self._ask(worker)
            return
        for ticket, (used, monitor) in list(self._out.items()):
            if monitor is message.monitor:
                del self._out[ticket]
                self._back(used)

    @handle
    def on_cast(self, signal: Signal) -> None:
        """Have a worker handle a signal that was cast."""
        self.runtime.spawn_nowait(_PoolTask, Pool(self.ref), signal).cast(BeginTask())

    @handle
    def delivered(self, delivery: Delivery) -> None:
        """Have a worker handle a signal from a bus, and acknowledge it when that has gone well."""
        if delivery.subscription not in self._granted:
            self._granted.add(delivery.subscription)
            delivery.grant(len(self._views))
        self.runtime.spawn_nowait(_PoolDelivery, Pool(self.ref), delivery).cast(BeginTask())

    @handle
    def on_ask(self, request: Ask) -> None:
        """Have a worker handle a signal, and answer."""
        self._pass_on(request, [self.defer_reply()])

    @handle
    def on_deliver(self, request: Deliver) -> None:
        """Have a worker handle a signal from the outbox of a durable agent: the receipt is the worker's.

        What comes again while it is waited for, or worked at, gets the same one.
        """
        key = (request.stream, request.number)
        replies = self._in_hand.setdefault(key, [])
        replies.append(self.defer_reply())
        if len(replies) == 1:
            self._pass_on(request, replies, key)

    def _pass_on(self, request: Request[Any], replies: list[ReplyTo[Any]], key: Any = None) -> None:
        over = partial(self._in_hand.pop, key, None)
        self.runtime.spawn_nowait(_PoolRequest, Pool(self.ref), request, replies, over).cast(BeginTask())

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


class _PoolRequest(OwnedTask):
    """Has a worker answer a request to the pool; it is in use until it has.

    Args:
        pool: whose.
        request: what is asked.
        replies: who waits for the answer; more may come.
        over: called at the end.
    """

    def __init__(
        self, pool: Pool[Any], request: Request[Any], replies: list[ReplyTo[Any]], over: Callable[[], object]
    ) -> None:
        super().__init__(pool.address)
        self._pool = pool
        self._request = request
        self._replies = replies
        self._over = over

    async def _run(self) -> None:
        try:
            async with self._pool.worker(None) as worker:
                # If nobody waits any more, it may have been sent elsewhere.
                if any(reply.waiting for reply in self._replies):
                    answer = await call_when_ready(worker.address, self._request, None)
                    for reply in self._replies:
                        reply.reply(answer)
        except Exception as error:
            for reply in self._replies:
                reply.fail(error)
        finally:
            self._over()


class _PoolDelivery(OwnedTask):
    """Gives a delivery to a worker, and acknowledges it when its turn has gone well."""

    def __init__(self, pool: Pool[Any], delivery: Delivery) -> None:
        super().__init__(pool.address)
        self._pool = pool
        self._delivery = delivery

    async def _run(self) -> None:
        async with self._pool.worker(None) as worker:
            await pass_on(self.ref, worker.address, self._delivery)


class Pool(Generic[S]):
    """A pool of equal agents. It can subscribe to a bus, as an agent does: with its `address`, or its name.

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


class PoolOptions(AgentOptions[S], total=False):
    """What each worker of a pool is started with; see `AgentServer`."""

    partition: str
    durability: Durability | None
    idle_timeout: float | None


async def start_pool(
    runtime: Runtime,
    kind: type[AgentType[S]],
    size: int = 5,
    *,
    lifo: bool = False,
    on_checkin: OnCheckin = "keep",
    name: str | None = None,
    **options: Unpack[PoolOptions[S]],
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
        BadOption, BadTime: ``kind`` is not a type of agents, or an option is wrong.
        StartError: a worker did not start, or the state does not fit the type.
    """
    if not is_whole(size, 1):
        raise BadOption("start_pool: size", size, "give a whole number from 1")
    if on_checkin not in ("keep", "reset"):
        raise BadOption("start_pool: on_checkin", on_checkin, "give keep or reset")
    views: tuple[AgentView[S], ...] = tuple(AgentView() for _ in range(size))
    return Pool(await runtime.spawn(PoolServer, kind, views, lifo, on_checkin, options, name=name))
