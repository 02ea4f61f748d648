"""Handles: how users start an agent, signal it, read it and wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Self, TypedDict, TypeVar

import msgspec

from agents.core.agent import Agent, AgentProgress, Completion, progress_of
from agents.core.agent_type import AgentType
from agents.core.signal import Signal, new_signal
from agents.errors import AgentTimeout
from agents.server.directory import directory_of, whereis
from agents.server.effects import Effect
from agents.server.error_policy import ErrorPolicy, LogOnly
from agents.server.messages import Adopt, Ask, GetDeadEffects, GetRecentTurns, GetView, RedriveEffects, Reply, SetDebug
from agents.server.server import AgentServer
from agents.server.view import AgentView, ChildAgent, TurnRecord
from supervision import ActorExited, Address, Call, CallError, Name, NoProcess, Ref, Runtime, call_when_ready
from supervision.call import DEFAULT_TIMEOUT
from supervision.errors import BadOption
from supervision.reasons import Crashed

if TYPE_CHECKING:
    from agents.durability import Durability
    from agents.server.children import Binding

S = TypeVar("S", bound=msgspec.Struct)


class AgentStatus(msgspec.Struct, frozen=True):
    """An agent at its last commit, for people.

    Attributes:
        id: of the agent.
        type: the name of its type.
        partition: of the agent.
        ref: its server.
        version: how many commands have changed it.
        progress: how far it is.
        state: all that it knows.
        children: the tags of its children.
        last_error: what failed last; None if nothing has.
    """

    id: str
    type: str
    partition: str
    ref: Ref | None
    version: int
    progress: AgentProgress
    state: Any
    children: tuple[str, ...]
    last_error: Crashed | None


class AgentHandle(Generic[S]):
    """An agent that runs: signals go to its server, reads come from its last commit without asking it.

    A handle by `Name` follows restarts: what is read is the agent of whoever holds the name now, and while nobody does,
    of the last one who did.

    Attributes:
        address: of the server: one incarnation, or the current holder of a name.
    """

    __slots__ = ("_view", "address")

    def __init__(self, address: Ref | Name, view: AgentView[S]) -> None:
        self.address = address
        self._view = view

    @property
    def view(self) -> AgentView[S]:
        """Where the agent is seen. See `AgentView` for what it shows after a restart."""
        if isinstance(self.address, Name):
            ref = self.address.resolve()
            found = None if ref is None else directory_of(ref.runtime).view_of(ref)
            if found is not None:
                self._view = found
        return self._view

    def __repr__(self) -> str:
        """Show whose it is."""
        known = self.view.committed
        return f"<AgentHandle of {self.address if known is None else f'{known.type} {known.id!r}'}>"

    # -- reading -------------------------------------------------------------------------------------------------

    @property
    def agent(self) -> Agent[S]:
        """The agent at its last commit."""
        return self.view.agent

    @property
    def state(self) -> S:
        """The agent's state at its last commit."""
        return self.view.state

    @property
    def children(self) -> Mapping[str, ChildAgent]:
        """The children of the agent, by tag."""
        return self.view.children

    def progress(self) -> AgentProgress:
        """Return the agent's progress."""
        return progress_of(self.agent)

    def status(self) -> AgentStatus:
        """Return the agent at its last commit, for people."""
        agent, view = self.agent, self.view
        return AgentStatus(
            agent.id,
            agent.type,
            agent.partition,
            view.ref,
            agent.version,
            progress_of(agent),
            agent.state,
            tuple(view.children),
            view.last_error,
        )

    async def watch(self) -> AsyncIterator[Agent[S]]:
        """Yield the agent as it is now, and then after its commits, until its server ends.

        A slow consumer gets the newest commit and misses those between. With a `Name`, the next incarnations are
        watched as well, as long as a supervisor may start another one.
        """
        seen: Agent[S] | None = None
        changed = asyncio.Event()
        goes_on = True
        while goes_on:
            async with _Watched(self, changed) as watched:
                going = True
                while going:
                    changed.clear()
                    if self.agent is not seen:
                        seen = self.agent
                        yield seen
                    going = await watched.happened()
            goes_on = await self._comes_back()

    async def completed(self, timeout: float | None = 10.0, completion: Completion | None = None) -> AgentProgress:
        """Wait until the agent's state says that it is done.

        Args:
            timeout: how many seconds; None for any time.
            completion: where the state says so.

        Returns:
            How far it is: ``completed`` or ``failed``, and the result, or what went wrong.

        Raises:
            AgentTimeout: it was not done in time.
            ActorExited: its server has ended before, and with a `Name`, its supervisor starts no other.
        """
        where = completion or Completion()
        changed = asyncio.Event()
        ref = self._server()
        try:
            async with asyncio.timeout(timeout):
                while True:
                    async with _Watched(self, changed) as watched:
                        ref = watched.ref
                        going = True
                        while going:
                            changed.clear()
                            progress = progress_of(self.agent, where)
                            if progress.done:
                                return progress
                            going = await watched.happened()
                    if not await self._comes_back():
                        raise ActorExited(ref, "wait for it", watched.reason)
        except TimeoutError:
            assert timeout is not None
            progress = progress_of(self.agent, where)
            waiting = ref.mailbox_statistics().length
            raise AgentTimeout(self.agent.id, timeout, progress.status, self.agent.version, waiting) from None

    async def _comes_back(self) -> bool:
        """Wait for the next incarnation; return whether there is one, or may be none any more."""
        if isinstance(self.address, Name):
            try:
                await call_when_ready(self.address, GetView(), None)
            except CallError:
                return False
            return True
        return False

    def _server(self) -> Ref:
        if isinstance(self.address, Ref):
            return self.address
        ref = self.address.resolve()
        if ref is None:
            raise NoProcess(self.address, "await it")
        return ref

    # -- signals -------------------------------------------------------------------------------------------------

    def signal(self, type: str, data: Any = None, *, source: str = "/", subject: str | None = None) -> Signal:
        """Return a new signal, with an id and the time.

        Args:
            type: what happened, such as ``"order.placed"``.
            data: more about it: the parameters of the actions that it is routed to.
            source: where, as a URI reference.
            subject: about what in the source.

        Raises:
            BadSignal: an argument is wrong.
        """
        return new_signal(self.address.runtime, type, data, source=source, subject=subject)

    def cast(self, signal: Signal) -> None:
        """Send a signal and forget it. Never fails and never waits."""
        self.address.cast(signal)

    def call(self, signal: Signal, timeout: float | None = DEFAULT_TIMEOUT) -> Call[Reply[S]]:
        """Send a signal; await the returned call for the reply.

        A failed action does not fail the call: it is in ``reply.errors``.

        Args:
            signal: the signal.
            timeout: seconds to wait for the answer; None waits as long as the server lives.

        Raises:
            NoRoute: the agent has no route for it.
            HookFailed: a plugin let it go no further.
            CallError: no answer, for one of the reasons that `Address.call` lists.
        """
        return self.address.call(Ask(signal), timeout)

    def cancel(self, reason: str = "cancelled") -> None:
        """Cancel the turn under way, if its actions wait for something, and send the agent a signal ``agent.cancel``.

        The turn fails with `TurnCancelled`, and what was done in it is undone (`Action.compensate`). What else the
        signal cancels is up to the routes of the agent. What waits in its mailbox is not touched.
        """
        turn = self.view.turn
        if turn is not None:
            turn.cancel(reason)
        self.cast(self.signal("agent.cancel", {"reason": reason}))

    # -- operations ----------------------------------------------------------------------------------------------

    async def adopt(self, child: Ref, tag: str, meta: Any = None) -> None:
        """Make an agent without a parent a child of this one.

        Args:
            child: its server.
            tag: by which this agent will know it.
            meta: noted with the child.

        Raises:
            TagTaken: there is a child with this tag.
            NotAdopted: it has ended, has a parent, or is this agent.
        """
        await self.address.call(Adopt(child, tag, meta))

    async def debug(self, keep: int = 500) -> None:
        """Record the agent's turns from now on, the last so many of them; 0 for none.

        Raises:
            BadOption: ``keep`` is not a whole number from 0.
        """
        await self.address.call(SetDebug(keep))

    async def recent_turns(self, limit: int = 50) -> list[TurnRecord]:
        """Return the agent's last turns, the newest first.

        Raises:
            DebugOff: they are not recorded.
            BadOption: ``limit`` is not a whole number from 0.
        """
        return await self.address.call(GetRecentTurns(limit))

    async def dead_effects(self) -> tuple[Effect, ...]:
        """Return what a durable agent has decided and given up, the oldest first."""
        return await self.address.call(GetDeadEffects())

    async def redrive(self, *tokens: str, forget: bool = False) -> int:
        """Try effects again that were given up, with the tokens that they had; return how many.

        Args:
            tokens: which; none for all.
            forget: whether to forget them instead.
        """
        return await self.address.call(RedriveEffects(tokens or None, forget))

    async def stop(self, reason: object = None) -> None:
        """End the agent's server in order, when it has handled what was sent before, and wait until it has."""
        await self._server().stop(reason)


class _Watched:
    """Waits for commits of an agent, or the end of its server, for the time of a block."""

    def __init__(self, handle: AgentHandle[Any], changed: asyncio.Event) -> None:
        self.ref = handle._server()
        self._view = handle.view
        self._changed = changed

    async def __aenter__(self) -> Self:
        self._notify = self._changed.set
        self._view.watchers = (*self._view.watchers, self._notify)
        self._ended = asyncio.ensure_future(self.ref.join())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._view.watchers = tuple(one for one in self._view.watchers if one is not self._notify)
        self._ended.cancel()
        await asyncio.gather(self._ended, return_exceptions=True)

    @property
    def reason(self) -> Any:
        """Why it has ended."""
        return self._ended.result()

    async def happened(self) -> bool:
        """Wait for a commit; return whether there was one, or else the server has ended."""
        waiting = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((waiting, self._ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        return self._changed.is_set()


async def all_completed(
    handles: Iterable[AgentHandle[Any]], timeout: float | None = 10.0, completion: Completion | None = None
) -> dict[str, AgentProgress]:
    """Wait until all these agents are done; return how far each is, by its id. One that has failed is done, too.

    Raises:
        AgentTimeout: one was not done in time.
        ActorExited: the server of one has ended before.
    """
    known = list(handles)
    tasks = [asyncio.ensure_future(handle.completed(timeout, completion)) for handle in known]
    try:
        found = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {handle.agent.id: progress for handle, progress in zip(known, found, strict=True)}


async def first_completed(
    handles: Iterable[AgentHandle[S]], timeout: float | None = 10.0, completion: Completion | None = None
) -> tuple[AgentHandle[S], AgentProgress]:
    """Wait until one of these agents is done; return it, and how far it is.

    Raises:
        BadOption: there are none.
        AgentTimeout: none was done in time.
        ActorExited: the server of one has ended before.
    """
    tasks = {asyncio.ensure_future(handle.completed(timeout, completion)): handle for handle in handles}
    if not tasks:
        raise BadOption("first_completed: handles", [], "give at least one")
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        first = next(task for task in tasks if task in done)
        return tasks[first], first.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class AgentOptions(TypedDict, Generic[S], total=False):
    """What each agent of several is started with; see `AgentServer`."""

    state: S | Mapping[str, Any] | None
    emit_to: Address | str | None
    on_error: ErrorPolicy
    debug: int


async def start_agent(
    runtime: Runtime,
    kind: type[AgentType[S]],
    *,
    id: str | None = None,
    state: S | Mapping[str, Any] | None = None,
    partition: str = "",
    agent: Agent[S] | None = None,
    name: str | None = None,
    emit_to: Address | str | None = None,
    on_error: ErrorPolicy = LogOnly(),  # noqa: B008 - frozen
    binding: Binding | None = None,
    durability: Durability | None = None,
    idle_timeout: float | None = None,
    debug: int = 0,
) -> AgentHandle[S]:
    """Start an agent's server that is not supervised, and return a handle.

    A supervised one is a child specification: ``ChildSpec("c1", AgentServer, (Counter,), name="c1")``; `connect` then
    returns a handle.

    Args:
        runtime: where.
        kind: the type of the agent.
        id: of the agent; see `AgentServer`.
        state: its first state, or some of its fields.
        partition: keeps the agents of tenants apart.
        agent: a ready agent, instead of an id, a state and a partition.
        name: under which the server is registered.
        emit_to: where emitted signals go; see `AgentServer`.
        on_error: the error policy.
        binding: whose child it is.
        durability: where and when the agent is saved.
        idle_timeout: seconds after which the server ends if no message comes.
        debug: how many turns are recorded.

    Raises:
        BadOption: an argument is wrong.
        StartError: it did not start, for example with `BadState` as its cause.
        AlreadyRegistered: the name is taken.
    """
    view: AgentView[S] = AgentView()
    options: dict[str, Any] = {
        "id": id,
        "state": state,
        "partition": partition,
        "agent": agent,
        "emit_to": emit_to,
        "on_error": on_error,
        "view": view,
        "binding": binding,
        "durability": durability,
        "idle_timeout": idle_timeout,
        "debug": debug,
    }
    server = await runtime.spawn(AgentServer, kind, name=name, **options)
    return AgentHandle(server, view)


async def connect(address: Ref | Name, kind: type[AgentType[S]] | None = None) -> AgentHandle[S]:  # noqa: ARG001 - types
    """Return a handle of an agent whose server runs. It never waits behind a turn, only for a start.

    Args:
        address: of the server. With a `Name`, signals reach the server that holds the name when they are sent; what is
            seen is the view of the one that holds it now. `whereis` finds the server of an agent by its id.
        kind: the type of the agent, for type checkers.

    Raises:
        BadOption: this is not an address.
        NoProcess: there is no such server.
        UnhandledMessage: it is not an agent's server.
    """
    if not isinstance(address, Address):
        remedy = f"give a server; {whereis.__name__}(runtime, id) finds it by the id of its agent"
        raise BadOption("connect: address", address, remedy)
    ref = address.resolve() if isinstance(address, Name) else address
    view = None if ref is None or not ref.alive else directory_of(ref.runtime).view_of(ref)
    return AgentHandle(address, await address.call(GetView()) if view is None else view)
