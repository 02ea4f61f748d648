"""Resources: what there is, how much of it is used, and who may have more.

>>> import asyncio
>>> from supervision import Runtime
>>> async def main() -> list[str]:
...     async with Runtime() as runtime:
...         await runtime.spawn(Resources, {"work": 2})
...         work = Resource(runtime, "work")
...         tokens = [await work.acquire() for _ in range(2)]
...         levels = [work.level.name]
...         for token in tokens:
...             await work.release(token)
...         return [*levels, work.level.name]
>>> asyncio.run(main())
['SEVERE', 'NORMAL']
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar, get_args

import msgspec

from foundation.events import PressureChanged
from foundation.holder import current_holder
from foundation.naming import own_name
from foundation.protection.guard import Attempt, Guard
from foundation.protection.limits import positive
from foundation.readings import Reading
from foundation.resources.errors import Overloaded, ResourceExhausted
from foundation.resources.measures import MEASURES, Measure
from foundation.resources.pressure import Level, Limit
from supervision import Actor, Down, Message, Monitor, Ref, Refuse, Request, Runtime, handle
from supervision.errors import BadOption

T = TypeVar("T")
#: What is refused first: ``low`` from moderate pressure on, ``normal`` from severe; ``high`` never.
Priority = Literal["low", "normal", "high"]
_REFUSED_FROM = {"low": Level.MODERATE, "normal": Level.SEVERE}


class Token(msgspec.Struct, frozen=True):
    """The right to so much of a resource.

    Attributes:
        name: of the resource.
        number: no other token has it.
        amount: how much.
        holder: the actor with whose end it is given back, or None.
    """

    name: str
    number: int
    amount: float
    holder: Ref | None


class Book:
    """What is known of all resources of a runtime. Anybody reads it; only the actor `Resources` writes it.

    Attributes:
        limits: by the name of the resource.
        used: how much of each.
        levels: of pressure, of each.
        tokens: which are held, by number.
    """

    def __init__(self) -> None:
        self.limits: dict[str, Limit] = {}
        self.used: dict[str, float] = {}
        self.levels: dict[str, Level] = {}
        self.tokens: dict[int, Token] = {}
        self.last = 0

    @classmethod
    def of(cls, runtime: Runtime, actor: str = "resources") -> Book:
        """Return the book of an actor."""
        book: Book = runtime.shared.setdefault((Book, actor), cls())
        return book

    @property
    def level(self) -> Level:
        """The worst of all levels."""
        return max(self.levels.values(), default=Level.NORMAL)

    @property
    def worst(self) -> str:
        """The resource with the worst level."""
        return max(self.levels, key=self.levels.__getitem__)

    def readings(self) -> Iterator[Reading]:
        """Return the numbers, for the metrics."""
        for name, limit in self.limits.items():
            labels = (("resource", name),)
            yield Reading("resource_used", "How much of a resource is used.", "gauge", labels, self.used[name])
            yield Reading("resource_limit", "How much there may be of it.", "gauge", labels, limit.most)
            text = "Pressure: 0 normal, 1 moderate, 2 severe."
            yield Reading("resource_pressure", text, "gauge", labels, self.levels[name])


class Take(Request[Token], frozen=True):
    """Take some of a resource."""

    name: str
    amount: float
    holder: Ref | None
    priority: Priority


class GiveBack(Request[bool], frozen=True):
    """Give it back. The answer tells whether it was held."""

    token: Token


class SetLimit(Request[None], frozen=True):
    """Change a limit, or add one."""

    name: str
    limit: Limit


class Look(Message, frozen=True):
    """To itself: measure again."""


class Resources(Actor):
    """Measures what is used, says when it becomes much, and hands out tokens for the rest.

    It is named ``resources`` unless started with another name. Tokens that are held survive its restart.

    Args:
        limits: by name, as a number or a `Limit`. ``memory`` (bytes, resident), ``actors``, ``waiting_messages`` and
            ``registry_entries`` are measured; anything else is what tokens are taken of, such as ``work``.
        interval: seconds between two measurements.
        measures: more of what is measured, by name.

    Raises:
        BadOption: a limit makes no sense.
    """

    infrastructure = True

    def __init__(
        self,
        limits: Mapping[str, float | Limit],
        *,
        interval: float = 5.0,
        measures: Mapping[str, Measure] | None = None,
    ) -> None:
        if not interval > 0:
            raise BadOption("Resources: interval", interval, "give a number of seconds above 0")
        self._limits = {name: _limit(name, limit) for name, limit in limits.items()}
        self._measures = {**MEASURES, **(measures or {})}
        self._interval = interval
        self._watched: dict[Ref, Monitor] = {}

    def init(self) -> None:
        """Take over which tokens are held, and measure for the first time."""
        self._book = Book.of(self.runtime, own_name(self, "resources"))
        self._book.limits = {**self._book.limits, **self._limits}
        for token in self._book.tokens.values():
            self._watch(token.holder)
        self.look(Look())
        self.send_interval(self._interval, Look())

    @handle
    def look(self, message: Look) -> None:
        """Measure."""
        for name in self._book.limits:
            self._update(name)

    @handle
    def take(self, request: Take) -> Token:
        """Hand out a token, if there is enough, and not too much pressure for work of this priority."""
        book, name = self._book, request.name
        limit = book.limits.get(name)
        if limit is None:
            known = ", ".join(book.limits) or "none"
            raise Refuse(BadOption("resource", name, f"there are: {known}"))
        if name not in self._measures and book.used[name] + request.amount > limit.most:
            raise Refuse(ResourceExhausted(name, request.amount, book.used[name], limit.most))
        from_ = _REFUSED_FROM.get(request.priority)
        if from_ is not None and book.level >= from_:
            raise Refuse(Overloaded(book.level.name.lower(), book.worst, request.priority))
        book.last += 1
        token = book.tokens[book.last] = Token(name, book.last, request.amount, request.holder)
        self._watch(token.holder)
        self._update(name)
        return token

    @handle
    def give_back(self, request: GiveBack) -> bool:
        """Take a token back."""
        token = self._book.tokens.pop(request.token.number, None)
        if token is not None:
            self._update(token.name)
        return token is not None

    @handle
    def set_limit(self, request: SetLimit) -> None:
        """Change a limit at run time."""
        try:
            self._book.limits[request.name] = request.limit.checked(request.name)
        except BadOption as error:
            raise Refuse(error) from error
        self._update(request.name)

    @handle
    def ended(self, message: Down) -> None:
        """Take back what an actor has held, that has ended."""
        ref = message.target
        assert isinstance(ref, Ref)
        del self._watched[ref]
        for token in [token for token in self._book.tokens.values() if token.holder is ref]:
            self.give_back(GiveBack(token))

    def _update(self, name: str) -> None:
        book = self._book
        measure = self._measures.get(name)
        if measure is None:
            used = sum(token.amount for token in book.tokens.values() if token.name == name)
        else:
            used = measure(self.runtime)
        before = book.levels.get(name, Level.NORMAL)
        book.used[name] = used
        book.levels[name] = level = book.limits[name].level(used, before)
        if level != before:
            self.runtime.events.emit(
                PressureChanged,
                resource=name,
                before=before.name.lower(),
                after=level.name.lower(),
                used=used,
                most=book.limits[name].most,
            )

    def _watch(self, ref: Ref | None) -> None:
        if ref is not None and ref not in self._watched:
            self._watched[ref] = self.monitor(ref)


class Resource(Guard):
    """A resource, by its name. As a guard, it takes a token for the time of a call.

    Args:
        runtime: where the actor runs that hands it out.
        name: of the resource.
        amount: how much a call takes, as a guard.
        priority: of these calls.
        actor: the name of the `Resources`.

    Raises:
        BadOption: the amount or the priority makes no sense.
    """

    def __init__(
        self,
        runtime: Runtime,
        name: str,
        *,
        amount: float = 1,
        priority: Priority = "normal",
        actor: str = "resources",
    ) -> None:
        positive("Resource", "amount", amount)
        if priority not in get_args(Priority):
            raise BadOption("Resource: priority", priority, f"there are {', '.join(get_args(Priority))}")
        self.name = name
        self._amount = amount
        self._priority: Priority = priority
        self._address = runtime.name(actor)
        self._book = Book.of(runtime, actor)

    @property
    def limited(self) -> bool:
        """Whether there is a limit, and somebody who keeps it now."""
        return self.name in self._book.limits and self._address.resolve() is not None

    @property
    def used(self) -> float:
        """How much of it is used, when it was last looked at."""
        return self._book.used.get(self.name, 0.0)

    @property
    def level(self) -> Level:
        """How much pressure there is on it."""
        return self._book.levels.get(self.name, Level.NORMAL)

    async def acquire(self, amount: float | None = None, *, holder: Ref | None = None) -> Token:
        """Take some of it, until it is given back or its holder ends.

        Args:
            amount: how much; what was said when this object was made, if nothing is given.
            holder: the actor with whose end it is given back: the one in which this code runs, if none is given.

        Raises:
            ResourceExhausted: there is not so much left.
            Overloaded: there is too much pressure, on this resource or another.
            BadOption: there is no such resource.
        """
        taken = self._amount if amount is None else amount
        request = Take(self.name, taken, holder or current_holder(), self._priority)
        return await self._address.call(request)

    async def release(self, token: Token) -> bool:
        """Give it back; tell whether it was still held."""
        return await self._address.call(GiveBack(token))

    async def set_limit(self, limit: float | Limit) -> None:
        """Change how much there may be, until the actor is restarted with another limit.

        Raises:
            BadOption: it makes no sense.
        """
        await self._address.call(SetLimit(self.name, limit if isinstance(limit, Limit) else Limit(limit)))

    async def run(self, attempt: Attempt[T]) -> T:
        """Do something, with a token for as long as it takes.

        Raises:
            ResourceExhausted, Overloaded: there is none.
        """
        token = await self.acquire()
        try:
            return await attempt()
        finally:
            self._address.cast(GiveBack(token))


def _limit(name: str, limit: Any) -> Limit:
    return (limit if isinstance(limit, Limit) else Limit(limit)).checked(name)
