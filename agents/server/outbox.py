"""The outbox of a durable agent: the signals that it has decided to send, until their receivers have them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from agents.core.execution import sleep
from agents.core.traces import trace_of
from agents.durability.checkpoint import decoded, encoded
from agents.durability.storage import RowName, StoredRow
from agents.errors import AgentError
from agents.server.effects import DEAD, DEFAULT, OPEN, Effect, again, effect_row, read_effect, tried
from agents.server.executors import BeginTask, OwnedTask
from agents.signals.messages import Deliver, Publish
from supervision import ActorExited, Address, Name, NoProcess, NotRunning, UnhandledMessage, resume_context

if TYPE_CHECKING:
    from agents.server.server import AgentServer
    from supervision import Ref

#: The first pause after a failure, in seconds; they double up to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 60.0
#: For so many seconds an effect is tried; then it is dead.
BUDGET = 24 * 3600.0
#: So many dead effects are kept for each agent; then the oldest one is forgotten.
DEAD_KEPT = 1000
#: So many streams of an agent are sent at once.
STREAMS = 16
#: How long one try may take, in seconds.
TRY = 60.0
_COUNTER = "sent"
_LAST = 1 << 62


class NotTaken(AgentError):
    """A receiver could not take a signal now: its turn has failed.

    Attributes:
        final: whether it never will.
        retry_after: seconds before it may be asked again.
    """

    def __init__(self, why: str, *, final: bool = False, retry_after: float = 0.0) -> None:
        self.final = final
        self.retry_after = retry_after
        super().__init__(why)


class Outbox:
    """What one durable agent sends: in order for each destination, one at a time, until each receiver has it.

    A receiver has it when it says so: a durable agent after its commit, a bus after its write, a webhook after the
    answer of its service, any other actor when the signal is in its mailbox.

    Args:
        server: whose outbox it is.
        stream: the name of its streams.
        rows: what is kept of it.
    """

    def __init__(self, server: AgentServer, stream: str, rows: Iterable[StoredRow] = ()) -> None:
        self._server = server
        self._stream = stream
        self._streams: dict[str, deque[tuple[str, Effect]]] = {}
        self._dead: dict[str, Effect] = {}
        #: By stream, the numbers of signals in it that are behind later ones, as they were dead before.
        self._late: dict[str, set[int]] = {}
        self._sent: dict[str, int] = {}
        self._senders: dict[str, Ref] = {}
        for row in rows:
            if row.kind == _COUNTER:
                self._sent[row.id] = decoded(row.id, row.body, int)
            elif row.kind == DEAD:
                self._dead[row.id] = read_effect(row)
            elif row.kind == OPEN:
                effect = read_effect(row)
                if effect.to is not None:
                    self._streams.setdefault(effect.to, deque()).append((row.id, effect))

    # -- what is there -----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return how many signals are not delivered."""
        return sum(map(len, self._streams.values()))

    @property
    def oldest(self) -> float | None:
        """When the oldest of them was decided, in seconds since the epoch."""
        return min((stream[0][1].at for stream in self._streams.values()), default=None)

    def dead(self) -> tuple[Effect, ...]:
        """Return what was given up."""
        return tuple(self._dead.values())

    def next_number(self, to: str, more: int = 0) -> int:
        """Return the number of the next signal to a destination, behind so many others of its turn."""
        return self._sent.get(to, 0) + 1 + more

    def counter(self, to: str, number: int) -> StoredRow:
        """Return the row that says how many signals were sent to a destination."""
        return StoredRow(_COUNTER, to, encoded(number, "number", to))

    # -- changes -----------------------------------------------------------------------------------------------------

    def count(self, effects: Iterable[tuple[str, Effect]]) -> None:
        """Count signals whose turn is committed, though it may not be saved yet."""
        for _, effect in effects:
            assert effect.to is not None
            self._sent[effect.to] = effect.seq

    def add(self, effects: Iterable[tuple[str, Effect]]) -> None:
        """Add signals whose turn is saved, and send them."""
        for id, effect in effects:
            assert effect.to is not None
            self._streams.setdefault(effect.to, deque()).append((id, effect))
        self.pump()

    def pump(self) -> None:
        """Have streams sent, as many as may be at once; while the runtime ends, by the next incarnation."""
        with suppress(NotRunning):
            for to in list(self._streams):
                sender = self._senders.get(to)
                if len(self._senders) < STREAMS and (sender is None or sender.reason is not None):
                    task = self._server.runtime.spawn_nowait(StreamSender, self._server.ref, self, to)
                    self._senders[to] = task
                    task.cast(BeginTask())

    def head(self, to: str) -> tuple[str, Effect] | None:
        """Return the signal that is to be sent next to a destination; None if all were."""
        stream = self._streams.get(to)
        if stream:
            return stream[0]
        self._streams.pop(to, None)
        self._senders.pop(to, None)
        self.pump()
        return None

    def floor(self, to: str) -> int:
        """Return the lowest number that may still be sent to a destination."""
        dead: list[int] = [effect.seq for effect in self._dead.values() if effect.to == to]
        return min(self._streams[to][0][1].seq, *dead, *self._late.get(to, ()), _LAST)

    def delivered(self, to: str, id: str) -> None:
        """Remove a signal that its receiver has."""
        if self._removed(to, id) is not None:
            self._server.mark(drop=[(OPEN, id)])

    def failed(self, to: str, id: str, why: str) -> None:
        """Note with a signal that it could not be sent, for whoever looks at what is kept."""
        if self._is_head(to, id):
            effect = tried(self._streams[to][0][1], why)
            self._streams[to][0] = (id, effect)
            self._server.mark([effect_row(OPEN, id, effect, effect.what)])

    def give_up(self, to: str, id: str, why: str) -> None:
        """Keep a signal among the dead."""
        effect = self._removed(to, id)
        if effect is not None:
            self.bury(id, tried(effect, why), why)

    def _is_head(self, to: str, id: str) -> bool:
        """Return whether a signal is still the one that is sent: it may have been taken back meanwhile."""
        stream = self._streams.get(to)
        return stream is not None and len(stream) > 0 and stream[0][0] == id

    def _removed(self, to: str, id: str) -> Effect | None:
        if not self._is_head(to, id):
            return None
        _, effect = self._streams[to].popleft()
        self._not_late(effect)
        return effect

    def _not_late(self, effect: Effect) -> None:
        if effect.to in self._late:
            self._late[effect.to].discard(effect.seq)
            if not self._late[effect.to]:
                del self._late[effect.to]

    def bury(self, id: str, effect: Effect, why: str) -> None:
        """Keep an effect that was given up, and tell."""
        server = self._server
        dead = msgspec.structs.replace(effect, why=why)
        self._dead[id] = dead
        forgotten = list(self._dead)[: max(0, len(self._dead) - DEAD_KEPT)]
        for old in forgotten:
            del self._dead[old]
        server.mark([effect_row(DEAD, id, dead, effect.what)], [(OPEN, id), *((DEAD, old) for old in forgotten)])
        server.tell_dead(dead)

    def redrive(self, tokens: Iterable[str] | None) -> int:
        """Try dead signals again, with the tokens that they had; return how many. None for all."""
        wanted = None if tokens is None else set(tokens)
        some = [(id, one) for id, one in self._dead.items() if wanted is None or one.token in wanted]
        now = self._server.runtime.clock.wall_time()
        for id, effect in some:
            fresh = again(effect, now)
            del self._dead[id]
            self._server.mark([effect_row(OPEN, id, fresh, effect.what)], [(DEAD, id)])
            if effect.to is None:
                self._server.carry_on(id, fresh)
            else:
                self._streams.setdefault(effect.to, deque()).append((id, fresh))
                self._late.setdefault(effect.to, set()).add(effect.seq)
        self.pump()
        return len(some)

    def forget(self, tokens: Iterable[str] | None) -> int:
        """Forget dead effects; return how many. None for all."""
        wanted = None if tokens is None else set(tokens)
        gone = [id for id, one in self._dead.items() if wanted is None or one.token in wanted]
        for id in gone:
            del self._dead[id]
        self._server.mark(drop=[(DEAD, id) for id in gone])
        return len(gone)

    def withdraw(self, token: str) -> tuple[RowName, bool] | None:
        """Return the row of an open signal, and whether it has surely not been sent; None if there is none."""
        for to, stream in self._streams.items():
            for place, (id, effect) in enumerate(stream):
                if effect.token == token:
                    return (OPEN, id), place > 0 or to not in self._senders
        return None

    def drop(self, id: str) -> None:
        """Remove a signal that was withdrawn."""
        for to, stream in self._streams.items():
            for _, effect in filter(lambda one: one[0] == id, stream):
                self._not_late(effect)
            self._streams[to] = deque(one for one in stream if one[0] != id)

    # -- sending -----------------------------------------------------------------------------------------------------

    async def send(self, to: str, effect: Effect) -> None:
        """Send a signal, and return when its receiver has it.

        Raises:
            Exception: it does not have it, or nobody knows.
        """
        server, signal = self._server, effect.signal
        assert signal is not None
        address: Address = server.emit_to if to == DEFAULT else server.runtime.name(to)
        holder = address.resolve() if isinstance(address, Name) else address
        if holder is None:
            raise NoProcess(server.runtime.name(to), signal, "nobody holds this name")
        with resume_context(server.runtime, trace_of(signal)):
            await self._pass_on(holder, to, effect)

    async def _pass_on(self, holder: Address, to: str, effect: Effect) -> None:
        server, signal = self._server, effect.signal
        assert signal is not None
        ways: dict[Any, int] = server.runtime.shared.setdefault(Outbox, {})
        kind = getattr(holder, "kind", holder)
        requests = (Deliver(signal, f"{self._stream}>{to}", effect.seq, self.floor(to)), Publish((signal,)))
        for way in range(ways.get(kind, 0), len(requests)):
            try:
                await holder.call(requests[way], TRY)
            except UnhandledMessage:
                ways[kind] = way + 1  # whoever is of its kind does not know it either
            else:
                return
        holder.cast(signal)


class StreamSender(OwnedTask):
    """Sends one stream of an outbox, in order, until it is empty. Ends with the agent's server.

    Args:
        owner: the agent's server.
        outbox: whose.
        to: which.
    """

    def __init__(self, owner: Ref, outbox: Outbox, to: str) -> None:
        super().__init__(owner)
        self._outbox = outbox
        self._to = to

    async def _run(self) -> None:
        failures = 0
        while (head := self._outbox.head(self._to)) is not None:
            id, effect = head
            try:
                await self._outbox.send(self._to, effect)
            except Exception as error:
                failures += 1
                final, why = getattr(error, "final", False), f"{type(error).__name__}: {error}"
                if final or self.runtime.clock.wall_time() - effect.at >= BUDGET:
                    self._outbox.give_up(self._to, id, why)
                    failures = 0
                else:
                    self._outbox.failed(self._to, id, why)
                    await self._pause(error, failures)
            else:
                failures = 0
                self._outbox.delivered(self._to, id)

    async def _pause(self, error: Exception, failures: int) -> None:
        """Wait before the next try; for somebody who is not there, until it is."""
        pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 16), LONGEST_PAUSE)
        pause *= self.runtime.random.uniform(0.8, 1.2)
        absent = isinstance(error, (NoProcess, ActorExited)) and self._to != DEFAULT
        if absent and self.runtime.whereis(self._to) is None:
            await self.runtime.wait_for_name(self._to, until=self.runtime.clock.time() + BUDGET)
            return
        await sleep(max(pause, getattr(error, "retry_after", 0.0)))
