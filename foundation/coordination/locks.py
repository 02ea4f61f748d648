"""Locks: for one holder, or for so many at once. With a queue, a lease if asked for, and a fencing token.

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

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from foundation.coordination.errors import BadRule, NotHeld
from foundation.coordination.kept import kept
from foundation.events import LockExpired
from foundation.holder import current_holder
from foundation.naming import own_name
from supervision import (
    Actor,
    Down,
    Message,
    Monitor,
    NoProcess,
    Ref,
    Refuse,
    ReplyTo,
    Request,
    Runtime,
    handle,
)


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
    """What is known of a lock."""

    capacity: int
    fence: int = 0
    grants: dict[int, Grant] = {}

    @property
    def free(self) -> int:
        """How many permits nobody holds."""
        return self.capacity - sum(grant.amount for grant in self.grants.values())


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
        self._waiting: dict[str, deque[tuple[ReplyTo[Grant], Acquire]]] = {}
        self._watched: dict[Ref, Monitor] = {}

    def init(self) -> None:
        """Take over who holds what."""
        self._locks: dict[str, LockState] = kept(self.runtime, own_name(self, "locks"))
        for lock in self._locks.values():
            for grant in lock.grants.values():
                self._attend(grant)

    @handle
    def acquire(self, request: Acquire) -> Grant | None:
        """Grant permits in the order in which they were asked for."""
        lock = self._locks.setdefault(request.name, LockState(request.capacity))
        if lock.capacity != request.capacity:
            remedy = f"all who use this lock say the same; the first said {lock.capacity}"
            raise Refuse(BadRule(f"capacity of {request.name}", request.capacity, remedy))
        if request.holder is not None and not request.holder.alive:
            raise Refuse(NoProcess(request.holder, request, "the holder has ended"))
        waiting = self._waiting.setdefault(request.name, deque())
        waiting.append((self.defer_reply(), request))
        if request.holder is not None:
            self._watch(request.holder)
        self._grant(request.name)
        return None

    @handle
    def release(self, request: Release) -> bool:
        """Take permits back."""
        return self._free(request.grant.name, request.grant.fence)

    @handle
    def renew(self, request: Renew) -> Grant:
        """Give a holder more time."""
        lock = self._locks.get(request.grant.name)
        grant = None if lock is None else lock.grants.get(request.grant.fence)
        if lock is None or grant is None:
            raise Refuse(NotHeld(request.grant.name, request.grant.fence))
        longer = msgspec.structs.replace(grant, expires=self.runtime.clock.time() + request.lease)
        lock.grants[grant.fence] = longer
        self._attend(longer)
        return longer

    @handle
    def expire(self, message: Expire) -> None:
        """Take permits back whose lease is over."""
        grant = self._locks[message.name].grants.get(message.fence)
        if grant is not None and grant.expires is not None and grant.expires <= self.runtime.clock.time():
            self.runtime.events.emit(LockExpired, name=grant.name, fence=grant.fence, holder=grant.holder)
            self._free(grant.name, grant.fence)

    @handle
    def ended(self, message: Down) -> None:
        """Take back what an actor has held, that has ended."""
        ref = message.target
        assert isinstance(ref, Ref)
        del self._watched[ref]
        for name, lock in list(self._locks.items()):
            for grant in [grant for grant in lock.grants.values() if grant.holder is ref]:
                self._free(name, grant.fence)
            waiting = self._waiting.get(name)
            if waiting is not None:
                self._waiting[name] = deque(one for one in waiting if one[1].holder is not ref)
                self._grant(name)

    def _grant(self, name: str) -> None:
        lock, waiting = self._locks[name], self._waiting[name]
        while waiting:
            reply, request = waiting[0]
            if not reply.waiting:  # it has given up
                waiting.popleft()
                continue
            if request.amount > lock.free:
                return
            waiting.popleft()
            lock.fence += 1
            expires = None if request.lease is None else self.runtime.clock.time() + request.lease
            grant = Grant(name, lock.fence, request.amount, request.holder, expires)
            lock.grants[grant.fence] = grant
            self._attend(grant)
            reply.reply(grant)

    def _free(self, name: str, fence: int) -> bool:
        lock = self._locks.get(name)
        if lock is None or lock.grants.pop(fence, None) is None:
            return False
        if name in self._waiting:
            self._grant(name)
        return True

    def _attend(self, grant: Grant) -> None:
        if grant.holder is not None:
            self._watch(grant.holder)
        if grant.expires is not None:
            left = max(0.0, grant.expires - self.runtime.clock.time())
            self.send_after(left, Expire(grant.name, grant.fence))

    def _watch(self, ref: Ref) -> None:
        if ref not in self._watched:
            self._watched[ref] = self.monitor(ref)


class Lock:
    """A lock, by its name. All who use it say the same capacity.

    It is not re-entrant: who holds it and asks again, waits for itself.

    Args:
        runtime: where the actor runs that decides.
        name: of what is protected.
        capacity: how many permits there are: 1 for a lock that one holds alone.
        actor: the name of the `Locks`.

    Raises:
        BadRule: the capacity is no whole number from 1.
    """

    def __init__(self, runtime: Runtime, name: str, *, capacity: int = 1, actor: str = "locks") -> None:
        whole("capacity", capacity, None)
        self.name = name
        self.capacity = capacity
        self._address = runtime.name(actor)
        self._locks: dict[str, LockState] = kept(runtime, actor)

    @property
    def grants(self) -> list[Grant]:
        """Who holds it now, first granted first."""
        lock = self._locks.get(self.name)
        return [] if lock is None else list(lock.grants.values())

    def is_valid(self, grant: Grant) -> bool:
        """Tell whether a grant is still held."""
        lock = self._locks.get(self.name)
        return lock is not None and grant.fence in lock.grants

    async def acquire(
        self,
        amount: int = 1,
        *,
        lease: float | None = None,
        timeout: float | None = None,
        holder: Ref | None = None,
    ) -> Grant:
        """Wait until it is one's turn, and hold it from then on.

        Args:
            amount: how many permits.
            lease: for how many seconds at most; None for no limit.
            timeout: how many seconds to wait; None for any time.
            holder: the actor with whose end it is free again: the one in which this code runs, if none is given.

        Raises:
            CallTimeout: it was not one's turn in time.
            BadRule: the amount or the lease makes no sense.
            NoProcess: the holder has ended; or no `Locks` runs.
        """
        whole("amount", amount, self.capacity)
        if lease is not None and not lease > 0:
            raise BadRule("lease", lease, "give a number of seconds above 0")
        request = Acquire(self.name, self.capacity, amount, holder or current_holder(), lease)
        call = self._address.call(request, timeout)
        try:
            return await call
        except asyncio.CancelledError:
            if call.done() and not call.cancelled() and call.exception() is None:
                self._address.cast(Release(call.result()))  # it was granted, but nobody is there any more
            raise

    async def release(self, grant: Grant) -> bool:
        """Give it back; tell whether it was still held."""
        return await self._address.call(Release(grant))

    async def renew(self, grant: Grant, lease: float) -> Grant:
        """Hold it for so many seconds from now.

        Raises:
            NotHeld: it is too late.
            BadRule: the lease is no number of seconds.
        """
        if not lease > 0:
            raise BadRule("lease", lease, "give a number of seconds above 0")
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
            self._address.cast(Release(grant))


def whole(what: str, value: Any, most: int | None) -> None:
    """Make sure that something is a whole number from 1 to ``most``.

    Raises:
        BadRule: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1 or (most is not None and value > most):
        raise BadRule(what, value, "give a whole number from 1" + ("" if most is None else f" to {most}"))
