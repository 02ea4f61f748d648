"""Barriers: callers wait until a number of them have arrived. A barrier can be used again and again.

>>> import asyncio
>>> from supervision import Runtime
>>> async def main() -> list[int]:
...     async with Runtime() as runtime:
...         await runtime.spawn(Barriers)
...         start = Barrier(runtime, "start", parties=3)
...         crossings = await asyncio.gather(*(start.arrive() for _ in range(3)))
...         return [crossing.place for crossing in crossings]
>>> asyncio.run(main())
[1, 2, 3]
"""

from __future__ import annotations

import msgspec

from foundation.coordination.errors import BadArgument, BarrierBroken
from foundation.coordination.retained import MonotonicCounter, answer_or_undo
from foundation.coordination.validation import living_ref, refusing, text, whole
from foundation.holders import HolderMonitors, current_holder
from foundation.naming import own_name
from foundation.options import is_a
from supervision import Actor, Down, Ref, ReplyTo, Request, Runtime, handle


class Crossing(msgspec.Struct, frozen=True):
    """All have arrived.

    Attributes:
        generation: the same for all who pass together, and larger than that of anybody who has passed before.
        place: as which one this one arrived, from 1.
    """

    generation: int
    place: int


class Withdrawal:
    """Whether a waiting caller withdrew by itself, and was not cut off by its end."""

    __slots__ = ("over",)

    def __init__(self) -> None:
        self.over = False


class Arrive(Request[Crossing], frozen=True):
    """Say that one is there, and wait for the others."""

    name: str
    parties: int
    who: Ref | None
    withdrawal: Withdrawal | None = None


class BarrierState(msgspec.Struct):
    """Those who have arrived at a barrier and wait, first arrived first."""

    parties: int
    there: dict[ReplyTo[Crossing], Arrive] = {}


class Barriers(Actor):
    """Lets those pass who have all arrived. It is named ``barriers`` unless started with another name."""

    infrastructure = True

    def __init__(self) -> None:
        self._barriers: dict[str, BarrierState] = {}
        self._watched: HolderMonitors[tuple[str, ReplyTo[Crossing]]] = HolderMonitors(self)

    def init(self) -> None:
        """Take over how often anybody has passed."""
        self._numbers = MonotonicCounter(self.runtime, own_name(self, "barriers"))

    @handle
    @refusing
    def arrive(self, request: Arrive) -> None:
        """Note an arrival."""
        name, parties = text("name", request.name), whole("parties", request.parties)
        who = None if request.who is None else living_ref(self.runtime, "who", request.who, request)
        state = self._barriers.get(name)
        if state is not None and state.parties != parties:
            self._without_those_who_left(name)
            if name in self._barriers:
                remedy = f"all who use this barrier at a time say the same; the first said {state.parties}"
                raise BadArgument(f"parties of {name}", parties, remedy)
        reply = self.defer_reply()
        state = self._barriers.setdefault(name, BarrierState(parties))
        state.there[reply] = request
        self._watched.add(who, (name, reply))
        if len(state.there) >= parties:
            self._without_those_who_left(name)
        if len(state.there) == parties and all(reply.waiting for reply in state.there):
            self._let_pass(name, state)
        reply.on_abandoned(lambda: self._left(name, reply))

    @handle
    def ended(self, message: Down) -> None:
        """Let nobody pass where an actor had arrived, and waits, that has ended."""
        for name, reply in self._watched.ended(message):
            state = self._barriers.get(name)
            if state is None:
                continue  # broken already: it had arrived twice
            if reply.waiting or not self._gave_up(reply, state.there[reply]):
                for waiting in self._clear(name, state):
                    waiting.fail(BarrierBroken(name, message.target))
            else:
                self._forget(name, reply)

    def _let_pass(self, name: str, state: BarrierState) -> None:
        generation = self._numbers.next()
        for place, reply in enumerate(self._clear(name, state), start=1):
            reply.reply(Crossing(generation, place))

    def _clear(self, name: str, state: BarrierState) -> list[ReplyTo[Crossing]]:
        """Return those who wait, and begin anew."""
        del self._barriers[name]
        for reply, request in state.there.items():
            self._watched.discard(request.who, (name, reply))
        return [reply for reply in state.there if reply.waiting]

    def _without_those_who_left(self, name: str) -> None:
        for reply, request in list(self._barriers[name].there.items()):
            if not reply.waiting and self._gave_up(reply, request):
                self._forget(name, reply)

    def _left(self, name: str, reply: ReplyTo[Crossing]) -> None:
        """Somebody does not wait any more. Who has given up has not arrived; who has ended is told of by a `Down`."""
        state = self._barriers.get(name)
        request = None if state is None else state.there.get(reply)
        if request is not None and self._gave_up(reply, request):
            self._forget(name, reply)

    def _forget(self, name: str, reply: ReplyTo[Crossing]) -> None:
        there = self._barriers[name].there
        self._watched.discard(there.pop(reply).who, (name, reply))
        if not there:
            del self._barriers[name]

    def _gave_up(self, reply: ReplyTo[Crossing], request: Arrive) -> bool:
        """Tell of one who does not wait any more whether it has given up, and not just ended."""
        if request.who is None or request.who.alive:
            return True
        if reply.deadline is not None and reply.deadline <= self.runtime.clock.time():
            return True
        return is_a(request.withdrawal, Withdrawal) and request.withdrawal.over  # type: ignore[union-attr]


class Barrier:
    """A barrier, by its name. All who use it say the same number.

    Args:
        runtime: where the actor runs that decides.
        name: of the barrier.
        parties: how many have to arrive.
        actor: the name of the `Barriers`.

    Raises:
        BadArgument: there is no such number, or name.
    """

    def __init__(self, runtime: Runtime, name: str, *, parties: int, actor: str = "barriers") -> None:
        self.name = text("name", name)
        self.parties = whole("parties", parties)
        actor = text("actor", actor)
        self._address = runtime.name(actor)

    async def arrive(self, *, timeout: float | None = None, who: Ref | None = None) -> Crossing:
        """Wait until all have arrived.

        Whoever is cut off while it waits, by a cancellation, a time-out or a kill, has not arrived.

        Args:
            timeout: how many seconds to wait; None for any time.
            who: the actor that arrives; if it ends while it waits for others, the barrier breaks: the one in which this
                code runs, if none is given.

        Raises:
            BarrierBroken: one who had arrived, and waited, has ended.
            CallTimeout: they were not all there in time.
            BadArgument: others who wait have said another number.
            NoProcess: the actor that arrives has ended; or no `Barriers` runs.
            ActorExited: the `Barriers` was restarted; arrive again.
        """
        who = current_holder() if who is None else who
        withdrawal = Withdrawal()
        call = self._address.call(Arrive(self.name, self.parties, who, withdrawal), timeout)
        try:
            return await answer_or_undo(call)
        finally:
            withdrawal.over = not is_a(who, Ref) or who.alive  # type: ignore[union-attr]
