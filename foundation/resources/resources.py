"""Resources: what there is, how much of it is used, and who may have more.

>>> import asyncio
>>> from supervision import Runtime
>>> async def main() -> list[str]:
...     async with Runtime() as runtime:
...         await runtime.spawn(Resources, {"work": 2})
...         work = Resource(runtime, "work")
...         leases = [await work.acquire() for _ in range(2)]
...         levels = [work.level.name]
...         for lease in leases:
...             await work.release(lease)
...         return [*levels, work.level.name]
>>> asyncio.run(main())
['SEVERE', 'NORMAL']
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from math import inf, isfinite
from typing import Any, ClassVar, Literal, TypeVar, get_args

import msgspec

from foundation.events import MeasureFailed, PressureChanged
from foundation.holders import Granter, Grants, holder_in
from foundation.naming import own_name
from foundation.options import above_zero, is_a, text
from foundation.protection.guard import Attempt, Guard
from foundation.resources.errors import Overloaded, ResourceExhausted
from foundation.resources.limits import MEASURES, Level, Limit, Measure
from foundation.telemetry.collectors import MetricSample
from supervision import Message, NoProcess, Ref, Runtime, handle
from supervision.errors import BadOption
from supervision.messages import describe

T = TypeVar("T")
#: What is refused first: ``low`` from moderate pressure on, ``normal`` from severe; ``high`` never.
Priority = Literal["low", "normal", "high"]
_PRIORITIES = get_args(Priority)
_REFUSED_FROM = {"low": Level.MODERATE, "normal": Level.SEVERE}


class Lease(msgspec.Struct, frozen=True):
    """The right to so much of a resource.

    Attributes:
        name: of the resource.
        number: no other lease has it.
        amount: how much.
        holder: the actor with whose end it is given back, or None.
    """

    name: str
    number: int
    amount: float
    holder: Ref | None


class ResourceUsage:
    """What is known of all resources of a runtime, and the way to take and to give back.

    Both are done in one step, in the caller: there is no moment at which something is granted and not yet received.
    The actor `Resources` measures, and has given back what those held who have ended.

    Args:
        runtime: where the resources are.
        actor: the name of the `Resources`.

    Attributes:
        limits: by the name of the resource.
        given: the limits that the actor was started with the last time.
        used: how much of each.
        levels: of pressure, of each with more than normal pressure.
        leases: which are held, by number.
        measures: how what is measured is measured.
    """

    def __init__(self, runtime: Runtime, actor: str) -> None:
        self._runtime = runtime
        self.address = runtime.name(actor)
        self.grants = Grants(self.address)
        self.limits: dict[str, Limit] = {}
        self.given: Mapping[str, Limit] = {}
        self.used: dict[str, float] = {}
        self.levels: dict[str, Level] = {}
        self.leases: dict[int, Lease] = {}
        self.measures: Mapping[str, Measure] = {}
        self._last = 0
        #: How much of each is taken, exactly: sums of floats would drift.
        self._taken: dict[str, int | Fraction] = {}
        self._failing: set[str] = set()

    @classmethod
    def of(cls, runtime: Runtime, actor: str = "resources") -> ResourceUsage:
        """Return what is known of the resources of an actor.

        Raises:
            BadName: this cannot be a name.
        """
        usage: ResourceUsage | None = runtime.shared.get((ResourceUsage, actor))
        if usage is None:
            usage = runtime.shared[ResourceUsage, actor] = cls(runtime, actor)
        return usage

    @property
    def level(self) -> Level:
        """The worst of all levels."""
        return max(self.levels.values(), default=Level.NORMAL)

    @property
    def worst(self) -> str:
        """The resource with the worst level."""
        return max(self.levels, key=self.levels.__getitem__)

    def acquire(self, name: str, amount: float, holder: Ref | None, priority: Priority) -> Lease:
        """Grant a lease, if there is enough, and not too much pressure for work of this priority.

        Raises:
            ResourceExhausted, Overloaded, BadOption, NoProcess: there is none; nothing has changed.
        """
        self._must_be_kept(f"take {describe(amount)} of {name}")
        limit = self.limits.get(name)
        if limit is None:
            raise BadOption("resource", name, f"there are: {', '.join(self.limits) or 'none'}")
        taken = self._taken.get(name, 0) + _exact(amount)
        if name not in self.measures and _rounded(taken) > limit.most:
            raise ResourceExhausted(name, amount, self.used[name], limit.most)
        from_ = _REFUSED_FROM.get(priority)
        if from_ is not None and self.level >= from_:
            raise Overloaded(self.level.name.lower(), self.worst, priority)
        if holder is not None and not holder.alive:
            raise NoProcess(holder, f"take {amount:g} of {name}", "the holder has ended")
        self._last += 1
        lease = self.leases[self._last] = Lease(name, self._last, amount, holder)
        self._taken[name] = taken
        self.grants.add(holder, lease.number)
        self.update(name)
        return lease

    def release(self, number: int) -> bool:
        """Take a lease back; tell whether it was held."""
        lease = self.leases.pop(number, None)
        if lease is None:
            return False
        self.grants.remove(lease.holder, number)
        left = self._taken[lease.name] - _exact(lease.amount)
        if left:
            self._taken[lease.name] = left
        else:
            del self._taken[lease.name]
        self.update(lease.name)
        return True

    def set_limit(self, name: str, limit: Limit | None) -> None:
        """Change a limit, add one, or, with None, take one away.

        Raises:
            NoProcess: nobody keeps it.
        """
        self._must_be_kept(f"limit {name}")
        if limit is None:
            self._forget(name)
        else:
            self.limits[name] = limit
            self.update(name)

    def _must_be_kept(self, what: str) -> None:
        if self.address.resolve() is None:
            raise NoProcess(self.address, what, "nobody holds this name")

    def _forget(self, name: str) -> None:
        for known in (self.limits, self.used, self.levels):
            known.pop(name, None)
        self._failing.discard(name)

    def begin(self, limits: Mapping[str, Limit], measures: Mapping[str, Measure]) -> None:
        """Take over the limits that an actor is started with, if they are others than the last time."""
        changed = {name: limit for name, limit in limits.items() if self.given.get(name) != limit}
        self.limits = {**self.limits, **changed}
        self.given = limits
        self.measures = measures
        for name in self.limits:
            self.update(name)

    def update(self, name: str) -> None:
        """Measure how much is used of a resource, and how much pressure that is."""
        limit = self.limits.get(name)
        if limit is None:  # it was taken away while somebody had a lease
            return
        used = self._use(name)
        before = self.levels.get(name, Level.NORMAL)
        level = limit.level(used, before)
        self.used[name] = used
        if level != before:
            self._press(name, level, before)

    def _use(self, name: str) -> float:
        measure = self.measures.get(name)
        if measure is None:
            return _rounded(self._taken.get(name, 0))
        try:
            used = float(measure(self._runtime))
            if not isfinite(used):
                raise ValueError(f"it is {used}")
        except Exception as error:
            if name not in self._failing:
                self._failing.add(name)
                self._runtime.events.emit(MeasureFailed, resource=name, error=describe(error))
            return self.used.get(name, 0.0)
        self._failing.discard(name)
        return used

    def _press(self, name: str, level: Level, before: Level) -> None:
        if level is Level.NORMAL:
            del self.levels[name]
        else:
            self.levels[name] = level
        self._runtime.events.emit(
            PressureChanged,
            resource=name,
            before=before.name.lower(),
            after=level.name.lower(),
            used=self.used[name],
            most=self.limits[name].most,
        )

    def samples(self) -> Iterator[MetricSample]:
        """Return the numbers, for the metrics."""
        for name, limit in self.limits.items():
            labels = (("resource", name),)
            yield MetricSample("resource_used", "How much of a resource is used.", "gauge", labels, self.used[name])
            yield MetricSample("resource_limit", "How much there may be of it.", "gauge", labels, limit.most)
            level = self.levels.get(name, Level.NORMAL)
            yield MetricSample("resource_pressure", "Pressure: 0 normal, 1 moderate, 2 severe.", "gauge", labels, level)


class MeasureAgain(Message, frozen=True):
    """To itself: measure again."""


class Resources(Granter):
    """Measures what is used, says when it becomes much, and takes back what those held who have ended.

    It is named ``resources`` unless started with another name. Tokens that are held survive its restart, and so do
    limits that were changed meanwhile, unless it is started with others than before. A measure that raises, or gives
    no finite number, is a `MeasureFailed` event, and what it said last counts.

    Args:
        limits: by name, as a number or a `Limit`. ``memory`` (bytes, resident), ``actors``, ``waiting_messages`` and
            ``registry_entries`` are measured; anything else is what leases are taken of, such as ``work``.
        interval: seconds between two measurements.
        measures: more of what is measured, by name.

    Raises:
        BadOption: a limit makes no sense.
    """

    #: The name that it takes if it is started without one.
    default_name: ClassVar[str] = "resources"

    def __init__(
        self,
        limits: Mapping[str, float | Limit],
        *,
        interval: float = 5.0,
        measures: Mapping[str, Measure] | None = None,
    ) -> None:
        self._interval = above_zero("Resources: interval", interval)
        if not is_a(limits, Mapping):
            raise BadOption("Resources: limits", limits, "give a mapping from names to limits")
        self._limits = {text("Resources: limits", name): _limit(name, limit) for name, limit in limits.items()}
        self._measures = {**MEASURES, **(measures or {})}
        for name, measure in self._measures.items():
            if not callable(measure):
                raise BadOption(f"Resources: measures[{name!r}]", measure, "give a function of the runtime")

    def init(self) -> None:
        """Take over which leases are held, and measure for the first time."""
        self._usage = ResourceUsage.of(self.runtime, own_name(self, self.default_name))
        self._usage.begin(self._limits, self._measures)
        self.take_over(self._usage.grants)
        self.send_interval(self._interval, MeasureAgain())

    def take_back(self, what: Any) -> None:
        """Take back a lease whose holder has ended."""
        self._usage.release(what)

    @handle
    def measure(self, message: MeasureAgain) -> None:
        """Measure."""
        for name in self._usage.limits:
            self._usage.update(name)


class Resource(Guard):
    """A resource, by its name. As a guard, it takes a lease for the time of a call.

    Args:
        runtime: where the actor runs that watches over it.
        name: of the resource.
        amount: how much a call takes, as a guard.
        priority: of these calls.
        actor: the name of the `Resources`.

    Raises:
        BadOption: the name, the amount or the priority makes no sense.
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
        self.name = text("Resource: name", name)
        self._amount = above_zero("Resource: amount", amount)
        if not is_a(priority, str) or priority not in _PRIORITIES:
            raise BadOption("Resource: priority", priority, f"there are {', '.join(_PRIORITIES)}")
        self._priority: Priority = priority
        self._runtime = runtime
        self._usage = ResourceUsage.of(runtime, actor)

    @property
    def limited(self) -> bool:
        """Whether there is a limit, and somebody who keeps it now."""
        return self.name in self._usage.limits and self._usage.address.resolve() is not None

    @property
    def used(self) -> float:
        """How much of it is used, when it was last looked at."""
        return self._usage.used.get(self.name, 0.0)

    @property
    def level(self) -> Level:
        """How much pressure there is on it."""
        return self._usage.levels.get(self.name, Level.NORMAL)

    async def acquire(self, amount: float | None = None, *, holder: Ref | None = None) -> Lease:
        """Take some of it, until it is given back or its holder ends.

        It never waits: whoever is cancelled has either not begun to ask, or has the lease.

        Args:
            amount: how much; what was said when this object was made, if nothing is given.
            holder: the actor with whose end it is given back: the one in which this code runs, if none is given.

        Raises:
            ResourceExhausted: there is not so much left.
            Overloaded: there is too much pressure, on this resource or another.
            NoProcess: the holder has ended; or no `Resources` runs, because it is being restarted.
            BadOption: there is no such resource; or the amount is not finite and positive, or the holder no actor of
                this runtime.
        """
        taken = self._amount if amount is None else above_zero("acquire: amount", amount)
        return self._usage.acquire(self.name, taken, self._holder(holder), self._priority)

    def _holder(self, given: Ref | None) -> Ref | None:
        if given is None:
            return holder_in(self._runtime)
        if not is_a(given, Ref) or given.runtime is not self._runtime:
            raise BadOption("acquire: holder", given, "give the Ref of an actor of this runtime")
        return given

    async def release(self, lease: Lease) -> bool:
        """Give it back; tell whether it was still held. It works at any time, also while `Resources` is away.

        Raises:
            BadOption: this is no lease of this resource.
        """
        named = is_a(lease, Lease) and is_a(lease.name, str)
        if not named or lease.name != self.name or not is_a(lease.number, int):
            raise BadOption("release: lease", lease, f"give what was acquired of {self.name}")
        return self._usage.release(lease.number)

    async def set_limit(self, limit: float | Limit | None) -> None:
        """Change how much there may be, until the actor is started with another limit; with None, there is none.

        Raises:
            BadOption: it makes no sense.
            NoProcess: no `Resources` runs.
        """
        self._usage.set_limit(self.name, None if limit is None else _limit(self.name, limit))

    async def run(self, attempt: Attempt[T]) -> T:
        """Do something, with a lease for as long as it takes.

        Raises:
            ResourceExhausted, Overloaded: there is none.
            NoProcess, BadOption: see `acquire`.
        """
        lease = self._usage.acquire(self.name, self._amount, self._holder(None), self._priority)
        try:
            return await attempt()
        finally:
            self._usage.release(lease.number)


def _exact(amount: float) -> int | Fraction:
    return amount if isinstance(amount, int) else Fraction(amount)


def _rounded(total: int | Fraction) -> float:
    try:
        return float(total)
    except OverflowError:
        return inf


def _limit(name: str, limit: Any) -> Limit:
    return (limit if is_a(limit, Limit) else Limit(limit)).checked(name)
