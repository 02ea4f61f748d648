"""Actors and recorders for the kernel's tests, beside those of `supervision.testing.probe`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from supervision import (
    Actor,
    ExitReason,
    Message,
    Ref,
    Request,
    Runtime,
    current_actor,
    supervisor_info,
    which_children,
)
from supervision.events import ActorEvent, Event
from supervision.testing import barrier
from supervision.testing.probe import Do as Do
from supervision.testing.probe import DoAndReply as DoAndReply
from supervision.testing.probe import Note as Note
from supervision.testing.probe import Probe as Probe
from supervision.testing.probe import do as do
from supervision.testing.probe import error_of as error_of
from supervision.testing.probe import hang as hang

E = TypeVar("E", bound=Event)

#: The recorder child of the reference (section 4.0).
rec = Probe.child


class Unknown(Message, frozen=True):
    """A message that nobody handles."""


class Question(Request[str], frozen=True):
    """A request that nobody handles."""


class Deaf(Probe):
    """A probe that does with what it does not know what any actor does."""

    unhandled = Actor.unhandled


class Tidy(Probe):
    """A probe that writes down the reason of its `terminate` as it is."""

    def terminate(self, reason: ExitReason) -> None:
        """Write down the reason."""
        self.log.append(("terminate", reason))


async def refs(supervisor: Ref) -> dict[Any, Ref | None]:
    """Return the children of a supervisor by id, first started first."""
    return {info.id: info.ref for info in reversed(await which_children(supervisor))}


async def die(ref: Ref | None, reason: object) -> None:
    """Let a child end by itself, and wait until its supervisor has done what there is to do without a pause."""
    assert ref is not None
    info = ref.runtime.info(ref)
    assert info is not None
    ref.cast(Do(lambda actor: actor.stop(reason)))
    await ref.join()
    if info.parent is not None:
        await barrier(info.parent)


async def kill(supervisor: Ref, *ids: Any) -> None:
    """Kill children in the same instant, in this order, and wait until their supervisor has dealt with it."""
    children = await refs(supervisor)
    for id in ids:
        ref = children[id]
        assert ref is not None
        ref.kill()
    await barrier(supervisor)


def restarts_used(supervisor: Ref) -> int:
    """Return how many restarts are in the window of a supervisor."""
    seen = supervisor_info(supervisor)
    assert seen is not None
    return seen.budget.used


class Recorder:
    """Keeps the events it is called with."""

    def __init__(self) -> None:
        self.all: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.all.append(event)

    def of(self, kind: type[E], ref: Ref | None = None) -> list[E]:
        """The events of a class, of one actor if one is given, in order."""
        return [
            event
            for event in self.all
            if isinstance(event, kind) and (ref is None or (isinstance(event, ActorEvent) and event.ref is ref))
        ]

    def names(self) -> list[str]:
        """The names of the classes of all events, in order."""
        return [type(event).__name__ for event in self.all]


def assert_nothing_left(runtime: Runtime) -> None:
    """No actors, names, runnable ones, timers or zombies, and no task of a worker."""
    statistics = runtime.statistics()
    left = {
        field: getattr(statistics, field)
        for field in ("actors", "names", "runnable", "timers", "zombies")
        if getattr(statistics, field)
    }
    assert left == {}
    prefix = f"{runtime.label}-worker"
    assert [task for task in asyncio.all_tasks() if task.get_name() == prefix and not task.done()] == []


async def time_of(awaitable: Awaitable[Any]) -> float:
    """Return how long an awaitable took, in the loop's seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await awaitable
    return loop.time() - began


def me() -> Ref:
    """The actor in which the code runs."""
    return current_actor()


def nothing(*_: Any) -> None:
    """Forget the arguments: for lambdas that do several things and answer nothing."""
