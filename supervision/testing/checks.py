"""Checks: what must hold in every run, judged from its event log; and orders that a test expects.

A check looks at one event after the other. Those in `ALWAYS` hold whatever happens. The others are made for one test:
`exact_order`, `partial_order`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import takewhile

import msgspec

from supervision import events
from supervision._core.cell import Cell
from supervision.events import ActorEvent, Event
from supervision.ref import Ref
from supervision.supervisors.childspec import child_key
from supervision.supervisors.dynamic_supervisor import DynamicSupervisor
from supervision.testing.event_log import line_of


class Violation(msgspec.Struct, frozen=True):
    """Something that must not be: which ``check`` says so, what it is, and the first event that shows it."""

    check: str
    what: str
    event: str = ""


class Check(ABC):
    """Judges a run, event by event. What it remembers does not grow with the length of the run."""

    @abstractmethod
    def see(self, event: Event) -> Iterator[Violation]:
        """Take the next event; return what is wrong with it."""

    def end(self) -> Iterator[Violation]:
        """Return what is wrong when there are no more events."""
        yield from ()

    def wrong(self, what: str, event: Event | None) -> Violation:
        """Return a violation of this check."""
        return Violation(_name(type(self)), what, "" if event is None else line_of(event))


def _name(kind: type) -> str:
    return re.sub("(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


#: Makes a check for one run: a class, or what `exact_order` and `partial_order` return.
NewCheck = Callable[[], Check]


# -- what always holds -----------------------------------------------------------------------------------------------


class _OfActors(Check):
    """Knows which actors live. Of those that were there before it began to look, it knows nothing."""

    def __init__(self) -> None:
        #: The id of the first actor that it has seen from its beginning. Ids grow.
        self._first: int | None = None
        self._newest = 0
        #: The ids of the actors that are starting, and of those that run.
        self.starting: set[int] = set()
        self.alive: set[int] = set()

    def knows(self, event: ActorEvent) -> bool:
        """Whether it has seen this actor from its beginning."""
        if self._first is None and isinstance(event, events.StartAttempt):
            self._first = event.ref.id
        return self._first is not None and event.ref.id >= self._first

    def follow(self, event: ActorEvent) -> None:
        """Note what the event says about who lives."""
        if isinstance(event, (events.StartAttempt, events.Registered)) and event.ref.id > self._newest:
            self._newest = event.ref.id
            self.starting.add(event.ref.id)
        elif isinstance(event, events.Started):
            self.starting.discard(event.ref.id)
            self.alive.add(event.ref.id)
        elif isinstance(event, (events.Exited, events.StartFailed, events.StartIgnored)):
            self.starting.discard(event.ref.id)
            self.alive.discard(event.ref.id)

    def gone(self, ref: Ref) -> bool:
        """Whether an actor that was seen from its beginning has ended; some end before their supervisor says a word."""
        id = ref.id
        return self._first is not None and id >= self._first and id not in self.alive and id not in self.starting


class Pairing(_OfActors):
    """What has started ends once, and nothing ends that has not started."""

    def see(self, event: Event) -> Iterator[Violation]:
        """Look at starts and ends."""
        if not isinstance(event, ActorEvent):
            return
        known = self.knows(event)
        if isinstance(event, events.Started) and event.ref.id in self.alive:
            yield self.wrong(f"{event.ref} started twice", event)
        elif isinstance(event, events.Exited) and known and event.ref.id not in self.alive:
            yield self.wrong(f"{event.ref} ended, and had ended or not started before", event)
        self.follow(event)


class SingleIncarnation(_OfActors):
    """A name belongs to one actor at a time, and a supervisor has one incarnation of a child at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._holders: dict[str, Ref] = {}
        self._children: dict[tuple[Ref, object], Ref] = {}
        self._running: dict[Ref, tuple[Ref, object]] = {}

    def see(self, event: Event) -> Iterator[Violation]:
        """Look at names, and at the children of supervisors."""
        if isinstance(event, ActorEvent):
            self.knows(event)
            self.follow(event)
        if isinstance(event, events.Registered):
            holder = self._holders.get(event.name)
            if holder is not None and holder is not event.ref:
                yield self.wrong(f"{event.name!r} is held by {holder} and {event.ref}", event)
            self._holders[event.name] = event.ref
        elif isinstance(event, events.Unregistered):
            self._holders.pop(event.name, None)
        elif isinstance(event, events.ChildStarted) and event.child is not None and not self.gone(event.child):
            key = (event.ref, child_key(event.id))
            other = self._children.get(key)
            dynamic = issubclass(_class_of(event.ref), DynamicSupervisor)
            if other is not None and other is not event.child and not dynamic:
                yield self.wrong(f"child {event.id!r} runs as {other} and {event.child}", event)
            self._children[key] = event.child
            self._running[event.child] = key
        elif isinstance(event, (events.Exited, events.FencedOff)):
            gone = self._running.pop(event.ref, None)
            if gone is not None and self._children.get(gone) is event.ref:
                del self._children[gone]


#: What may be told of an actor that has ended: about its code, which may go on, its mailbox, and by its supervisor.
_POSTHUMOUS = (
    events.Exited,
    events.FencedOff,
    events.Zombie,
    events.ZombieEnded,
    events.MessageDropped,
    events.TracePoint,
    events.Unhandled,
    events.Unregistered,
    events.StopRequested,
    events.SupervisorEvent,
)


class Fence(_OfActors):
    """Nothing an actor does after its end has an effect."""

    def see(self, event: Event) -> Iterator[Violation]:
        """Look at events about actors that have ended."""
        if not isinstance(event, ActorEvent):
            return
        known = self.knows(event)
        self.follow(event)
        there = event.ref.id in self.alive or event.ref.id in self.starting
        posthumous = isinstance(event, (*_POSTHUMOUS, events.StartFailed, events.StartIgnored))
        if known and not there and not posthumous:
            yield self.wrong(f"{event.ref} did something after its end", event)


#: Seconds by which a restart may be told later than it was counted. So close to the window's edge, either is right.
CLOSE = 1e-3


class Budget(_OfActors):
    """Supervisors count their restarts right, and give up when, and only when, there are too many.

    What the code of one that was killed in the middle of a restart still counts is of no concern.
    """

    def __init__(self) -> None:
        super().__init__()
        #: The supervisors that were there before, and have ended.
        self._gone_before: set[int] = set()
        self._windows: dict[Ref, deque[float]] = defaultdict(deque)
        self._since: float | None = None

    def see(self, event: Event) -> Iterator[Violation]:
        """Look at restarts, and at supervisors that give up."""
        if self._since is None:
            self._since = float("-inf") if event.seq == 1 else event.time
        if not isinstance(event, ActorEvent):
            return
        known = self.knows(event)
        self.follow(event)
        if isinstance(event, events.Exited):
            if self._windows.pop(event.ref, None) is not None and not known:
                self._gone_before.add(event.ref.id)
        elif isinstance(event, (events.RestartScheduled, events.GaveUp)) and not self._is_gone(event.ref):
            yield from self._counted(event)

    def _is_gone(self, ref: Ref) -> bool:
        return ref.id in self._gone_before or self.gone(ref)

    def _counted(self, event: events.RestartScheduled | events.GaveUp) -> Iterator[Violation]:
        window = self._windows[event.ref]
        window.append(event.time)
        edge = event.time - event.seconds
        assert self._since is not None
        while window[0] < edge - CLOSE:
            window.popleft()
        if edge <= self._since:
            return  # restarts that were not seen may count
        most = len(window)
        least = most - sum(1 for _ in takewhile(lambda time: time < edge + CLOSE, window))
        if isinstance(event, events.GaveUp):
            if most <= event.allowed:
                yield self.wrong(f"gave up at {most} of {event.allowed} restarts", event)
        elif least > event.allowed:
            yield self.wrong(f"did not give up at {least} of {event.allowed} restarts", event)
        elif not least <= event.used <= most:
            yield self.wrong(f"counts {event.used} restarts where there were {most}", event)


class _OfChildren(_OfActors):
    """Knows the children of supervisors, in their order.

    A child that is restarted keeps its place. One that was started again by an order may have another one, and is left
    out; so is a supervisor that was there before: in which order its children were started was not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        #: The supervisors that were seen from their beginning, and live.
        self._seen: set[Ref] = set()
        #: The ids of each supervisor's children, in order.
        self._order: dict[Ref, dict[object, None]] = {}
        self._alive: dict[tuple[Ref, object], Ref] = {}
        self._place: dict[Ref, tuple[Ref, object]] = {}
        #: The places that were taken again, not known yet whether by a restart; and those that were not by one.
        self._again: set[tuple[Ref, object]] = set()
        self._moved: set[tuple[Ref, object]] = set()

    def learn(self, event: Event) -> None:
        """Note what the event says about children."""
        if isinstance(event, ActorEvent):
            self.knows(event)
            self.follow(event)
        if isinstance(event, events.StartAttempt):
            self._seen.add(event.ref)
        elif isinstance(event, events.ChildStarted) and event.child is not None:
            if event.ref in self._seen and not issubclass(_class_of(event.ref), DynamicSupervisor):
                self._started((event.ref, child_key(event.id)), event.child)
        elif isinstance(event, events.Restarted):
            self._again.discard((event.ref, child_key(event.id)))
        elif isinstance(event, (events.Exited, events.StartFailed, events.StartIgnored)):
            self._gone(event.ref)

    def _started(self, place: tuple[Ref, object], child: Ref) -> None:
        order = self._order.setdefault(place[0], {})
        if place in self._again:
            self._moved.add(place)
        if place[1] in order:
            self._again.add(place)
        order[place[1]] = None
        if not self.gone(child):
            self._alive[place] = child
            self._place[child] = place

    def _gone(self, ref: Ref) -> None:
        self._seen.discard(ref)
        place = self._place.pop(ref, None)
        if place is not None and self._alive.get(place) is ref:
            del self._alive[place]
        for id in self._order.pop(ref, ()):
            self._again.discard((ref, id))
            self._moved.discard((ref, id))

    def sure(self, place: tuple[Ref, object]) -> bool:
        """Whether a child stands in the order where it was first seen."""
        return place not in self._again and place not in self._moved

    def after(self, place: tuple[Ref, object]) -> Iterator[Ref]:
        """Return the children that run and come after one, the last one first."""
        above, id = place
        for other in reversed(self._order.get(above, {})):
            if other == id:
                return
            if (above, other) in self._alive and self.sure((above, other)):
                yield self._alive[above, other]


class StopOrder(_OfChildren):
    """A supervisor that ends stops its children in the reverse of their order; a dynamic one, all at once."""

    def __init__(self) -> None:
        super().__init__()
        self._ending: set[Ref] = set()

    def see(self, event: Event) -> Iterator[Violation]:
        """Look at starts, and at orders to end."""
        self.learn(event)
        if isinstance(event, events.GaveUp):
            self._ending.add(event.ref)
        elif isinstance(event, events.StopRequested):
            yield from self._stopped(event)
        elif isinstance(event, events.Exited):
            self._ending.discard(event.ref)

    def _stopped(self, event: events.StopRequested) -> Iterator[Violation]:
        place = self._place.get(event.ref)
        if place is not None:
            if place[0] in self._ending and self.sure(place):
                for last in self.after(place):
                    yield self.wrong(f"{event.ref} was told to end before {last}", event)
                    break
            self._alive.pop(place, None)
        if event.ref in self._order:
            self._ending.add(event.ref)


class RestartOrder(_OfChildren):
    """Children that are restarted together are all stopped before any is started, and start in their order."""

    def __init__(self) -> None:
        super().__init__()
        #: By supervisor: the children that have to be stopped before any is started.
        self._old: dict[Ref, list[Ref]] = {}

    def see(self, event: Event) -> Iterator[Violation]:
        """Look at restarts."""
        self.learn(event)
        if isinstance(event, events.RestartScheduled) and event.ref in self._seen:
            self._old[event.ref] = list(self._together((event.ref, child_key(event.id))))
        elif isinstance(event, events.Restarted):
            yield from self._restarted(event)
        elif isinstance(event, events.Exited):
            self._old.pop(event.ref, None)

    def _together(self, place: tuple[Ref, object]) -> Iterator[Ref]:
        """Return the children that are restarted together with one."""
        above = place[0]
        strategy = _strategy_of(above)
        if strategy == "rest_for_one" and self.sure(place):
            yield from self.after(place)
        elif strategy == "one_for_all":
            yield from (self._alive[above, id] for id in self._order.get(above, ()) if (above, id) in self._alive)

    def _restarted(self, event: events.Restarted) -> Iterator[Violation]:
        place = event.ref, child_key(event.id)
        for other in self._old.get(event.ref, ()):
            if other in self._place and other is not event.child:
                yield self.wrong(f"{event.child} was restarted before {other} was stopped", event)
                return
        if _strategy_of(event.ref) != "one_for_one" and self.sure(place):
            for other in self.after(place):
                yield self.wrong(f"{event.child} was restarted after {other}, which comes behind it", event)
                return


def _strategy_of(ref: Ref) -> str:
    assert isinstance(ref, Cell)
    return getattr(ref.actor, "strategy", "one_for_one")


def _class_of(ref: Ref | None) -> type:
    assert isinstance(ref, Cell)
    return ref.kind


#: The checks that hold in every run.
ALWAYS: tuple[NewCheck, ...] = (Pairing, SingleIncarnation, Fence, Budget, StopOrder, RestartOrder)


# -- what a test expects ---------------------------------------------------------------------------------------------


class Expected(msgspec.Struct, frozen=True):
    """An event that is expected: of a class, about the actors at a path, which may be a pattern."""

    kind: type[Event]
    path: str = "*"

    def matches(self, event: Event) -> bool:
        """Whether an event is the one that is expected."""
        return isinstance(event, self.kind) and fnmatchcase(getattr(event, "path", ""), self.path)

    def __str__(self) -> str:
        return f"{self.kind.__name__} {self.path}"


class ExactOrder(Check):
    """These events come in this order, with none of the same classes and paths between them."""

    def __init__(self, expected: tuple[Expected, ...]) -> None:
        self._expected = expected
        self._left = deque(expected)
        self._broken = False

    def see(self, event: Event) -> Iterator[Violation]:
        """Look whether it is the next, or none of them."""
        if self._left and self._left[0].matches(event):
            self._left.popleft()
        elif not self._broken and any(each.matches(event) for each in self._expected):
            self._broken = True
            wanted = f"instead of {self._left[0]}" if self._left else "after the last one that was expected"
            yield self.wrong(f"{type(event).__name__} came {wanted}", event)

    def end(self) -> Iterator[Violation]:
        """Look whether all have come."""
        if self._left and not self._broken:
            yield self.wrong(f"{self._left[0]} did not come", None)


class PartialOrder(Check):
    """For each pair, the first of the first kind comes before any of the second."""

    def __init__(self, pairs: tuple[tuple[Expected, Expected], ...]) -> None:
        self._waiting = dict.fromkeys(pairs)

    def see(self, event: Event) -> Iterator[Violation]:
        """Look whether the second of a pair comes while the first is still waited for."""
        for pair in list(self._waiting):
            first, second = pair
            if first.matches(event):
                del self._waiting[pair]
            elif second.matches(event):
                del self._waiting[pair]
                yield self.wrong(f"{second} came before {first}", event)


def exact_order(*expected: Expected) -> NewCheck:
    """Return a check that these events come in this order, with none of the same classes and paths between them."""
    return lambda: ExactOrder(expected)


def partial_order(*pairs: tuple[Expected, Expected]) -> NewCheck:
    """Return a check that, for each pair, the first of the first kind comes before any of the second."""
    return lambda: PartialOrder(pairs)


class Judge:
    """Judges a run by some checks, while it goes on; keeps the first violations.

    Args:
        checks: what makes the checks.
        keep: how many violations are kept. All are counted.
    """

    def __init__(self, checks: Iterable[NewCheck] = ALWAYS, keep: int = 100) -> None:
        self._checks = [new() for new in checks]
        self._keep = keep
        self.violations: list[Violation] = []
        self.number = 0

    def __call__(self, event: Event) -> None:
        """Take the next event."""
        for check in self._checks:
            self._note(check.see(event))

    def end(self) -> list[Violation]:
        """Return the violations, when there are no more events."""
        for check in self._checks:
            self._note(check.end())
        return self.violations

    def _note(self, found: Iterator[Violation]) -> None:
        for violation in found:
            self.number += 1
            if self.number <= self._keep:
                self.violations.append(violation)


def check_all(log: Iterable[Event], checks: Iterable[NewCheck] = ALWAYS) -> list[Violation]:
    """Return what violates any of some checks in a whole log."""
    judge = Judge(checks)
    for event in log:
        judge(event)
    return judge.end()


def must_hold(log: Iterable[Event], *checks: NewCheck) -> None:
    """Raise an `AssertionError` that shows the first violation, if there is one.

    Args:
        log: the events of a run.
        checks: what must hold; all that always holds if there are none.
    """
    raise_first(check_all(log, checks or ALWAYS))


def raise_first(violations: Iterable[Violation]) -> None:
    """Raise an `AssertionError` that shows the first of some violations, if there is one."""
    for violation in violations:
        raise AssertionError(f"{violation.check}: {violation.what}\n  {violation.event}")
