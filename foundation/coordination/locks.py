"""Locks: for one holder, or for several at once, with a queue, an optional lease, and a fencing token.

The actor `Locks` decides; who holds what is kept beside it, belongs to the runtime, and is read without the mailbox. So
a restart of the actor takes no lock away from anybody; those who were waiting get `ActorExited`, and ask again.

>>> import asyncio
>>> from supervision import Runtime
>>> async def main() -> tuple[int, int, bool]:
...     async with Runtime() as runtime:
...         await runtime.spawn(Locks)
...         printer = Lock(runtime, "printer")
...         async with printer.held() as first:
...             assert printer.is_valid(first)
...         async with printer.held() as second:
...             return first.fence, second.fence, printer.is_valid(first)
>>> asyncio.run(main())
(1, 2, False)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from foundation.coordination.errors import BadArgument, NotHeld
from foundation.coordination.retained import (
    MonotonicCounter,
    RunUndo,
    UndoQueue,
    answer_or_else,
    answer_or_undo,
    retained,
)
from foundation.coordination.validation import living_ref, positive_seconds, refusing, text, whole
from foundation.events import LockExpired
from foundation.holders import HolderMonitors, current_holder
from foundation.naming import own_name
from foundation.options import is_a
from supervision import Actor, Down, Message, NoProcess, Ref, ReplyTo, Request, Runtime, Timer, handle

#: Timers fire by so many seconds early: what the resolution of asyncio's loops is.
EARLY = 1e-9


class Grant(msgspec.Struct, frozen=True):
    """The right to what a lock protects.

    Attributes:
        name: of the lock.
        fence: the fencing token: larger than that of any grant of this lock before. What the lock protects can refuse a
            smaller one than it has seen (Kleppmann, "How to do distributed locking", 2016).
        amount: how many permits.
        holder: the actor with whose end the lock is free again, or None.
        expires: the runtime's time at which it is free again, or None.
    """

    name: str
    fence: int
    amount: int
    holder: Ref | None
    expires: float | None


class LockState(msgspec.Struct):
    """What is known of a lock that somebody holds, or waits for."""

    capacity: int
    #: The largest fencing token so far.
    fence: int
    #: How many permits are held.
    held: int = 0
    grants: dict[int, Grant] = {}


class Acquire(Request[Grant], frozen=True):
    """Ask for permits."""

    name: str
    capacity: int
    amount: int
    holder: Ref | None
    lease: float | None


class Release(Request[bool], frozen=True):
    """Give permits back. The answer tells whether they were held."""

    grant: Grant


class Renew(Request[Grant], frozen=True):
    """Ask for a longer lease."""

    grant: Grant
    lease: float


class Expire(Message, frozen=True):
    """To itself: a lease may be over."""

    name: str
    fence: int


class Locks(Actor):
    """Decides who holds which lock. It is named ``locks`` unless started with another name."""

    infrastructure = True

    def __init__(self) -> None:
        self._waiting: dict[str, OrderedDict[ReplyTo[Grant], Acquire]] = {}
        self._expiry: dict[tuple[str, int], Timer] = {}
        #: By holder: the tokens of what it holds, and the requests of those who wait for it to be theirs.
        self._watched: HolderMonitors[tuple[str, int | ReplyTo[Grant]]] = HolderMonitors(self)

    def init(self) -> None:
        """Take over who holds what."""
        name = own_name(self, "locks")
        self._locks: dict[str, LockState] = retained(self.runtime, name)
        self._numbers = MonotonicCounter(self.runtime, name)
        self._undo_queue = UndoQueue(self.runtime, name)
        for lock in self._locks.values():
            for grant in lock.grants.values():
                self._watched.add(grant.holder, (grant.name, grant.fence))
                self._expire_in_time(grant)
        self.collect(RunUndo())

    @handle
    @refusing
    def acquire(self, request: Acquire) -> None:
        """Grant permits in the order in which they were asked for."""
        name, capacity = text("name", request.name), whole("capacity", request.capacity)
        amount = whole("amount", request.amount, capacity)
        lease = None if request.lease is None else positive_seconds("lease", request.lease)
        holder = None if request.holder is None else living_ref(self.runtime, "holder", request.holder, request)
        lock = self._locks.get(name)
        if lock is not None and lock.capacity != capacity:
            remedy = f"all who use this lock at a time say the same; the first said {lock.capacity}"
            raise BadArgument(f"capacity of {name}", capacity, remedy)
        reply = self.defer_reply()
        if lock is None:
            self._locks[name] = LockState(capacity, self._numbers.last)
        self._waiting.setdefault(name, OrderedDict())[reply] = Acquire(name, capacity, amount, holder, lease)
        self._watched.add(holder, (name, reply))
        self._serve(name)
        reply.on_abandoned(lambda: self._left(name, reply))

    @handle
    @refusing
    def release(self, request: Release) -> bool:
        """Take permits back."""
        grant = _checked(request.grant)
        held = self._free(grant.name, grant.fence)
        self._serve(grant.name)
        return held

    @handle
    @refusing
    def renew(self, request: Renew) -> Grant:
        """Set a new end to a lease."""
        given, lease = _checked(request.grant), positive_seconds("lease", request.lease)
        lock = self._locks.get(given.name)
        grant = None if lock is None else lock.grants.get(given.fence)
        if lock is None or grant is None:
            raise NotHeld(given.name, given.fence)
        renewed = msgspec.structs.replace(grant, expires=self.runtime.clock.time() + lease)
        lock.grants[grant.fence] = renewed
        self._expire_in_time(renewed)
        return renewed

    @handle
    def collect(self, message: RunUndo) -> None:
        """Release the grants whose callers were cancelled before the reply."""
        for grant in self._undo_queue.take():
            self._free(grant.name, grant.fence)
            self._serve(grant.name)

    @handle
    def expire(self, message: Expire) -> None:
        """Take permits back whose lease is over."""
        if not is_a(message.name, str) or not is_a(message.fence, int):
            return
        lock = self._locks.get(str.__str__(message.name))
        grant = None if lock is None else lock.grants.get(int.__int__(message.fence))
        if grant is None or grant.expires is None:
            return
        if grant.expires > self.runtime.clock.time() + EARLY:  # it was renewed
            self._expire_in_time(grant)
            return
        self._free(grant.name, grant.fence)
        self._serve(grant.name)
        self.runtime.events.emit(LockExpired, name=grant.name, fence=grant.fence, holder=grant.holder)

    @handle
    def ended(self, message: Down) -> None:
        """Release what an actor held that has ended, and refuse the requests that wait on its behalf."""
        names: dict[str, None] = {}
        for name, what in self._watched.ended(message):
            names[name] = None
            if isinstance(what, int):
                self._free(name, what)
            else:
                asked = self._waiting[name].pop(what)
                if what.waiting:
                    what.fail(_ended(asked))
        for name in names:
            self._serve(name)

    def _left(self, name: str, reply: ReplyTo[Grant]) -> None:
        """Somebody has given up waiting."""
        if self.ref.alive and name in self._waiting:
            asked = self._waiting[name].pop(reply, None)
            if asked is not None:
                self._watched.discard(asked.holder, (name, reply))
                self._serve(name)

    def _serve(self, name: str) -> None:
        """Grant what there is to those who wait, in their order. What nobody holds or waits for is forgotten."""
        lock, waiting = self._locks.get(name), self._waiting.get(name)
        if lock is None:
            return
        while waiting:
            reply, asked = next(iter(waiting.items()))
            ended = asked.holder is not None and not asked.holder.alive
            if reply.waiting and not ended and asked.amount > lock.capacity - lock.held:
                return
            del waiting[reply]
            if reply.waiting and not ended:
                self._grant(lock, reply, asked)
            elif reply.waiting:
                reply.fail(_ended(asked))
            self._watched.discard(asked.holder, (name, reply))
        self._waiting.pop(name, None)
        if not lock.grants:
            del self._locks[name]
            self._numbers.forget(lock.fence)

    def _grant(self, lock: LockState, reply: ReplyTo[Grant], asked: Acquire) -> None:
        lock.fence += 1
        lock.held += asked.amount
        expires = None if asked.lease is None else self.runtime.clock.time() + asked.lease
        grant = lock.grants[lock.fence] = Grant(asked.name, lock.fence, asked.amount, asked.holder, expires)
        self._watched.add(grant.holder, (grant.name, grant.fence))
        self._expire_in_time(grant)
        reply.reply(grant)

    def _free(self, name: str, fence: int) -> bool:
        lock = self._locks.get(name)
        grant = None if lock is None else lock.grants.pop(fence, None)
        if lock is None or grant is None:
            return False
        lock.held -= grant.amount
        self._watched.discard(grant.holder, (name, fence))
        timer = self._expiry.pop((name, fence), None)
        if timer is not None:
            timer.cancel()
        return True

    def _expire_in_time(self, grant: Grant) -> None:
        """Set the timer of a lease, instead of an earlier one."""
        if grant.expires is None:
            return
        timer = self._expiry.get((grant.name, grant.fence))
        if timer is not None:
            timer.cancel()
        left = max(0.0, grant.expires - self.runtime.clock.time())
        self._expiry[grant.name, grant.fence] = self.send_after(left, Expire(grant.name, grant.fence))


def _ended(asked: Acquire) -> NoProcess:
    assert asked.holder is not None
    return NoProcess(asked.holder, asked, "the holder has ended")


def _checked(grant: Any) -> Grant:
    """Return a grant whose name and token are what they should be."""
    if not is_a(grant, Grant):
        raise BadArgument("grant", grant, "give a grant that acquire returned")
    name, fence = text("name", grant.name), whole("fence", grant.fence)
    return Grant(name, fence, grant.amount, grant.holder, grant.expires)


class Lock:
    """A lock, by its name. All who use it say the same capacity.

    It is not re-entrant: who holds it and asks again, waits for itself.

    Args:
        runtime: where the actor runs that decides.
        name: of what is protected.
        capacity: how many permits there are: 1 for a lock that one holds alone.
        actor: the name of the `Locks`.

    Raises:
        BadArgument: the capacity is no whole number from 1.
    """

    def __init__(self, runtime: Runtime, name: str, *, capacity: int = 1, actor: str = "locks") -> None:
        self.name = text("name", name)
        self.capacity = whole("capacity", capacity)
        actor = text("actor", actor)
        self._address = runtime.name(actor)
        self._locks: dict[str, LockState] = retained(runtime, actor)
        self._undo_queue = UndoQueue(runtime, actor)

    @property
    def grants(self) -> list[Grant]:
        """Who holds it now, first granted first."""
        lock = self._locks.get(self.name)
        return [] if lock is None else list(lock.grants.values())

    def is_valid(self, grant: Grant) -> bool:
        """Tell whether a grant is still held.

        Raises:
            BadArgument: it is no grant.
        """
        fence = _checked(grant).fence
        lock = self._locks.get(self.name)
        return lock is not None and fence in lock.grants

    async def acquire(
        self,
        amount: int = 1,
        *,
        lease: float | None = None,
        timeout: float | None = None,
        holder: Ref | None = None,
    ) -> Grant:
        """Wait until the permits are granted, and hold them from then on.

        A caller that is cut off while it waits, by a cancellation, a time-out or a kill, holds nothing.

        Args:
            amount: how many permits.
            lease: for how many seconds at most; None for no limit.
            timeout: how many seconds to wait; None for any time.
            holder: the actor with whose end it is free again: the one in which this code runs, if none is given.

        Raises:
            CallTimeout: the permits were not granted in time.
            BadArgument: the amount or the lease makes no sense, or others who use it now said another capacity.
            NoProcess: the holder has ended, before or meanwhile; or no `Locks` runs.
            ActorExited: the `Locks` was restarted; ask again.
        """
        holder = current_holder() if holder is None else holder
        return await answer_or_undo(
            self._address.call(Acquire(self.name, self.capacity, amount, holder, lease), timeout), self._put
        )

    async def release(self, grant: Grant) -> bool:
        """Give it back; tell whether it was still held.

        It is given back whatever is raised, other than `BadArgument`: also if the caller is cancelled before the
        answer, and if the `Locks` is being restarted.

        Raises:
            BadArgument: it is no grant.
        """
        given = _checked(grant)
        return await answer_or_else(self._address.call(Release(given)), lambda: self._put(given))

    def _put(self, grant: Grant) -> None:
        lock = self._locks.get(grant.name)
        if lock is not None and grant.fence in lock.grants:
            self._undo_queue.put((grant.name, grant.fence), grant)

    async def renew(self, grant: Grant, lease: float) -> Grant:
        """Hold it for so many seconds from now.

        Raises:
            NotHeld: it is too late.
            BadArgument: the lease is no number of seconds.
        """
        return await self._address.call(Renew(grant, lease))

    @asynccontextmanager
    async def held(
        self, amount: int = 1, *, lease: float | None = None, timeout: float | None = None, holder: Ref | None = None
    ) -> AsyncGenerator[Grant]:
        """Hold it for the time of a block: ``async with lock.held() as grant: ...``. See `acquire`."""
        grant = await self.acquire(amount, lease=lease, timeout=timeout, holder=holder)
        try:
            yield grant
        finally:
            self._put(grant)
