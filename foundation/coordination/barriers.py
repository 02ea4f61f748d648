"""Barriers: so many arrive, and then all go on. A barrier can be used again and again.

>>> import asyncio
>>> from supervision import Runtime
>>> async def main() -> list[int]:
...     async with Runtime() as runtime:
...         await runtime.spawn(Barriers)
...         start = Barrier(runtime, "start", parties=3)
...         passages = await asyncio.gather(*(start.arrive() for _ in range(3)))
...         return [passage.place for passage in passages]
>>> asyncio.run(main())
[1, 2, 3]
"""

from __future__ import annotations

import msgspec

from foundation.coordination.errors import BadRule, BarrierBroken
from foundation.coordination.kept import kept
from foundation.coordination.locks import whole
from foundation.coordination.watched import Watched
from foundation.holder import current_holder
from foundation.naming import own_name
from supervision import Actor, Down, Ref, Refuse, ReplyTo, Request, Runtime, handle


class Passage(msgspec.Struct, frozen=True):
    """All have arrived.

    Attributes:
        generation: how often they all had, with this time.
        place: as which one this one arrived, from 1.
    """

    generation: int
    place: int


class Arrive(Request[Passage], frozen=True):
    """Say that one is there, and wait for the others."""

    name: str
    parties: int
    who: Ref | None


class Barriers(Actor):
    """Lets those pass who have all arrived. It is named ``barriers`` unless started with another name."""

    infrastructure = True

    def __init__(self) -> None:
        self._there: dict[str, list[tuple[ReplyTo[Passage], Arrive]]] = {}
        self._watched = Watched(self)

    def init(self) -> None:
        """Take over how often they had all arrived."""
        self._generations: dict[str, int] = kept(self.runtime, own_name(self, "barriers"))

    @handle
    def arrive(self, request: Arrive) -> Passage | None:
        """Note an arrival. Who has given up waiting does not count any more."""
        there = [one for one in self._there.get(request.name, []) if one[0].waiting]
        if there and there[0][1].parties != request.parties:
            remedy = f"all who use this barrier say the same; the first said {there[0][1].parties}"
            raise Refuse(BadRule(f"parties of {request.name}", request.parties, remedy))
        there.append((self.defer_reply(), request))
        self._there[request.name] = there
        self._watched.add(request.who)
        if len(there) == request.parties:
            generation = self._generations[request.name] = self._generations.get(request.name, 0) + 1
            for place, (reply, _) in enumerate(there, start=1):
                reply.reply(Passage(generation, place))
            self._clear(request.name)
        return None

    @handle
    def ended(self, message: Down) -> None:
        """Let nobody pass where an actor had arrived that has ended."""
        ref = self._watched.ended(message)
        for name, there in list(self._there.items()):
            if any(request.who is ref for _, request in there):
                for reply, _ in there:
                    reply.fail(BarrierBroken(name, ref))
                self._clear(name)

    def _clear(self, name: str) -> None:
        del self._there[name]
        self._watched.only({request.who for there in self._there.values() for _, request in there})


class Barrier:
    """A barrier, by its name. All who use it say the same number.

    Args:
        runtime: where the actor runs that decides.
        name: of the barrier.
        parties: how many have to arrive.
        actor: the name of the `Barriers`.

    Raises:
        BadRule: there is no such number.
    """

    def __init__(self, runtime: Runtime, name: str, *, parties: int, actor: str = "barriers") -> None:
        whole("parties", parties, None)
        self.name = name
        self.parties = parties
        self._address = runtime.name(actor)

    async def arrive(self, *, timeout: float | None = None, who: Ref | None = None) -> Passage:
        """Wait until all have arrived.

        Args:
            timeout: how many seconds to wait; None for any time. Who gives up has not arrived.
            who: the actor that arrives, if it ends while others are awaited, the barrier breaks: the one in which this
                code runs, if none is given.

        Raises:
            BarrierBroken: one who had arrived has ended.
            CallTimeout: they were not all there in time.
        """
        return await self._address.call(Arrive(self.name, self.parties, who or current_holder()), timeout)
