"""Actors and recorders for the kernel's tests."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from supervision import (
    Actor,
    ChildSpec,
    Down,
    Exit,
    ExitReason,
    IdleTimeout,
    Message,
    Ref,
    Request,
    Runtime,
    current_actor,
    handle,
    look,
    which_children,
)
from supervision.events import ActorEvent, Event
from supervision.testing import barrier

E = TypeVar("E", bound=Event)


class Note(Message, frozen=True):
    """Something to be written into the log."""

    text: Any


class Do(Message, frozen=True):
    """A function to be run in the actor, plain or async, with the actor as its argument."""

    what: Callable[[Any], Any]


class Ask(Request[Any], frozen=True):
    """A function to be run in the actor; what it returns is the answer."""

    what: Callable[[Any], Any]


class Unknown(Message, frozen=True):
    """A message that nobody handles."""


class Question(Request[str], frozen=True):
    """A request that nobody handles."""


class Puppet(Actor):
    """Does what it is told, and writes what happens to it into a log that outlives it.

    Exits are logged as ``("exit", sender, reason)``, downs as ``("down", target, reason)``.
    """

    def __init__(self, log: list[Any] | None = None, trap: bool = False) -> None:
        self.log: list[Any] = [] if log is None else log
        self.trap_exit = trap
        self.state: Any = None

    @handle
    def note(self, message: Note) -> None:
        """Write it down."""
        self.log.append(message.text)

    @handle
    def do(self, message: Do) -> Any:
        """Do it."""
        result = message.what(self)
        return result if inspect.iscoroutine(result) else None

    @handle
    def ask(self, request: Ask) -> Any:
        """Do it and answer."""
        return request.what(self)

    @handle
    def exited(self, message: Exit) -> None:
        """Write down who ended and why."""
        self.log.append(("exit", message.sender, message.reason))

    @handle
    def down(self, message: Down) -> None:
        """Write down who ended and why."""
        self.log.append(("down", message.target, message.reason))

    @handle
    def idle(self, message: IdleTimeout) -> None:
        """Write it down."""
        self.log.append("idle")


class Tidy(Puppet):
    """A puppet that writes down its `terminate`."""

    def terminate(self, reason: ExitReason) -> None:
        """Write down the reason."""
        self.log.append(("terminate", reason))


class Rec(Puppet):
    """The recorder child of the reference (section 4.0).

    It writes ``+id`` when it has started, ``!id`` when an attempt failed, and ``-id(reason)`` when it cleans up, which
    takes ``slow_stop`` seconds. Its n-th start does what the n-th entry of ``plan`` says: "ok", a value that ``init``
    returns, or an exception that it raises. The last entry stays.
    """

    def __init__(self, log: list[Any], id: Any, plan: list[Any], slow_stop: float, trap: bool) -> None:
        super().__init__(log, trap)
        self.id = id
        self.slow_stop = slow_stop
        self.step = plan.pop(0) if len(plan) > 1 else plan[0]

    def init(self) -> Any:
        """Follow the plan."""
        if self.step == "ok":
            self.log.append(f"+{self.id}")
            return None
        self.log.append(f"!{self.id}")
        if isinstance(self.step, BaseException):
            raise self.step
        return self.step

    async def terminate(self, reason: ExitReason) -> None:
        """Take the time that was said, and write down the reason."""
        if self.slow_stop:
            await self.runtime.sleep(self.slow_stop)
        self.log.append(f"-{self.id}({reason})")


def rec(log: list[Any], id: Any, *plan: Any, slow_stop: float = 0.0, trap: bool = True, **fields: Any) -> ChildSpec:
    """Return the specification of a recorder child; ``fields`` are those of a `ChildSpec`."""
    return ChildSpec(id, Rec, (log, id, list(plan or ("ok",)), slow_stop, trap), **fields)


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
    seen = look(supervisor)
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


async def error_of(awaitable: Awaitable[Any]) -> BaseException:
    """Return the exception that an awaitable raises."""
    with pytest.raises(BaseException) as caught:
        await awaitable
    return caught.value


async def do(ref: Ref, what: Callable[[Any], Any]) -> Any:
    """Run a function in a puppet and return what it returns."""
    return await ref.call(Ask(what), timeout=None)


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
