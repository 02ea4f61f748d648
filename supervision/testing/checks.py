"""Checks: what must hold in every run, judged from its event log; and orders that a test expects.

A check is a function from the event log to what violates it. Those in `ALWAYS` hold whatever happens. The others are
made for one test: `exact_order`, `partial_order`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

import msgspec

from supervision import events
from supervision.events import ActorEvent, Event
from supervision.ref import Ref
from supervision.testing.event_log import line_of


class Violation(msgspec.Struct, frozen=True):
    """Something that must not be: which ``check`` says so, what it is, and the first event that shows it."""

    check: str
    what: str
    event: str = ""


#: Gets the events of a run, in order; returns what violates it.
Check = Callable[[Iterable[Event]], Iterable[Violation]]


def _violation(check: str, what: str, event: Event | None) -> Violation:
    return Violation(check, what, "" if event is None else line_of(event))


# -- what always holds -----------------------------------------------------------------------------------------------


def pairing(log: Iterable[Event]) -> Iterator[Violation]:
    """What has started ends at most once, and nothing ends that has not started."""
    alive: set[Ref] = set()
    ended: set[Ref] = set()
    for event in log:
        if isinstance(event, events.Started):
            if event.ref in alive or event.ref in ended:
                yield _violation("pairing", f"{event.ref} started twice", event)
            alive.add(event.ref)
        elif isinstance(event, events.Exited):
            if event.ref in ended:
                yield _violation("pairing", f"{event.ref} ended twice", event)
            alive.discard(event.ref)
            ended.add(event.ref)


def single_incarnation(log: Iterable[Event]) -> Iterator[Violation]:
    """A name belongs to one actor at a time, and a supervisor has one incarnation of a child at a time."""
    holders: dict[str, Ref] = {}
    children: dict[tuple[Ref, object], Ref] = {}
    running: dict[Ref, tuple[Ref, object]] = {}
    for event in log:
        if isinstance(event, events.Registered):
            holder = holders.get(event.name)
            if holder is not None and holder is not event.ref:
                yield _violation("single_incarnation", f"{event.name!r} is held by {holder} and {event.ref}", event)
            holders[event.name] = event.ref
        elif isinstance(event, events.Unregistered):
            holders.pop(event.name, None)
        elif isinstance(event, events.ChildStarted) and event.child is not None:
            key = (event.ref, _key(event.id))
            other = children.get(key)
            if other is not None and other is not event.child:
                yield _violation("single_incarnation", f"child {event.id!r} runs as {other} and {event.child}", event)
            children[key] = event.child
            running[event.child] = key
        elif isinstance(event, (events.Exited, events.FencedOff)):
            gone = running.pop(event.ref, None)
            if gone is not None and children.get(gone) is event.ref:
                del children[gone]


def _key(id: object) -> object:
    try:
        hash(id)
    except TypeError:
        return repr(id)
    return id


#: What may be told of an actor that has ended: about its code, its mailbox, and by its supervisor.
_POSTHUMOUS = (
    events.Exited,
    events.FencedOff,
    events.Zombie,
    events.ZombieEnded,
    events.MessageDropped,
    events.Unregistered,
    events.StopRequested,
    events.SupervisorEvent,
)


def fence(log: Iterable[Event]) -> Iterator[Violation]:
    """Nothing an actor does after its end has an effect."""
    ended: set[Ref] = set()
    for event in log:
        if not isinstance(event, ActorEvent):
            continue
        if event.ref in ended and not isinstance(event, _POSTHUMOUS):
            yield _violation("fence", f"{event.ref} did something after its end", event)
        if isinstance(event, events.Exited):
            ended.add(event.ref)


def budget(log: Iterable[Event]) -> Iterator[Violation]:
    """Supervisors count their restarts right, and give up when, and only when, there are too many."""
    windows: dict[Ref, deque[float]] = defaultdict(deque)
    for event in log:
        if not isinstance(event, (events.RestartScheduled, events.GaveUp)):
            continue
        window = windows[event.ref]
        window.append(event.time)
        while window[0] < event.time - event.seconds - 1e-9:
            window.popleft()
        if isinstance(event, events.GaveUp) and len(window) <= event.allowed:
            yield _violation("budget", f"gave up at {len(window)} of {event.allowed} restarts", event)
        elif isinstance(event, events.RestartScheduled) and len(window) > event.allowed:
            yield _violation("budget", f"did not give up at {len(window)} of {event.allowed} restarts", event)
        elif isinstance(event, events.RestartScheduled) and len(window) != event.used:
            yield _violation("budget", f"counts {event.used} restarts where there were {len(window)}", event)


def stop_order(log: Iterable[Event]) -> Iterator[Violation]:
    """A supervisor that ends stops its children in the reverse order of their start; a dynamic one, all at once."""
    order: dict[Ref, dict[Ref, None]] = defaultdict(dict)
    parent: dict[Ref, Ref] = {}
    ending: set[Ref] = set()
    for event in log:
        if isinstance(event, events.ChildStarted) and event.child is not None:
            order[event.ref][event.child] = None
            parent[event.child] = event.ref
        elif isinstance(event, events.GaveUp):
            ending.add(event.ref)
        elif isinstance(event, events.StopRequested):
            above = parent.get(event.ref)
            if above in ending and event.ref in order[above] and "DynamicSupervisor" not in _kind(above):
                last = next(reversed(order[above]))
                if last is not event.ref:
                    yield _violation("stop_order", f"{event.ref} was told to end before {last}", event)
                order[above].pop(event.ref)
            ending.add(event.ref)
        elif isinstance(event, events.Exited) and event.ref in parent:
            order[parent.pop(event.ref)].pop(event.ref, None)


def _kind(ref: Ref) -> str:
    return " ".join(base.__name__ for base in ref.kind.__mro__)  # type: ignore[attr-defined]


#: The checks that hold in every run.
ALWAYS: tuple[Check, ...] = (pairing, single_incarnation, fence, budget, stop_order)


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


def exact_order(*expected: Expected) -> Check:
    """Return a check that these events come in this order, with none of the same classes and paths between them."""

    def check(log: Iterable[Event]) -> Iterator[Violation]:
        left = deque(expected)
        for event in log:
            if left and left[0].matches(event):
                left.popleft()
            elif any(each.matches(event) for each in expected):
                wanted = f"instead of {left[0]}" if left else "after the last one that was expected"
                yield _violation("exact_order", f"{type(event).__name__} came {wanted}", event)
                return
        if left:
            yield _violation("exact_order", f"{left[0]} did not come", None)

    return check


def partial_order(*pairs: tuple[Expected, Expected]) -> Check:
    """Return a check that, for each pair, the first of the first kind comes before any of the second."""

    def check(log: Iterable[Event]) -> Iterator[Violation]:
        seen: set[Expected] = set()
        reported: set[tuple[Expected, Expected]] = set()
        for event in log:
            for pair in pairs:
                first, second = pair
                if first.matches(event):
                    seen.add(first)
                elif second.matches(event) and first not in seen and pair not in reported:
                    reported.add(pair)
                    yield _violation("partial_order", f"{second} came before {first}", event)

    return check


def check_all(log: Iterable[Event], checks: Iterable[Check] | None = None) -> list[Violation]:
    """Return what violates any of some checks; of `ALWAYS` if None."""
    return [violation for check in (ALWAYS if checks is None else checks) for violation in check(log)]


def must_hold(log: Sequence[Event], *checks: Check) -> None:
    """Raise an `AssertionError` that shows the first violation, if there is one."""
    for check in checks or ALWAYS:
        for violation in check(log):
            raise AssertionError(f"{violation.check}: {violation.what}\n  {violation.event}")
