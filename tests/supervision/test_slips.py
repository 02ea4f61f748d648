"""What users get wrong, or what their objects do, harms nobody: it is refused where it is made, or has no effect."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from supervision import (
    Actor,
    BadChildSpec,
    BadOption,
    ChildSpec,
    DynamicSupervisor,
    Message,
    PartitionSupervisor,
    Refuse,
    Runtime,
    Shutdown,
    StartError,
    Stop,
    Supervisor,
    count_children,
    handle,
    start_child,
    system,
    which_child,
    which_children,
)
from supervision import events as ev
from supervision.errors import BadHandler
from supervision.mailbox import Mailbox
from supervision.reasons import Crashed
from supervision.testing import barrier, settled
from tests.supervision.probes import Do, Probe, Recorder, do, error_of


class Halt(Message):
    """Any message."""


@pytest.mark.parametrize("name", ["stop", "shutdown", "mailbox", "init", "terminate", "ref", "trap_exit", "unhandled"])
def test_a_handler_whose_name_hides_one_of_the_actors_own_is_refused_when_the_class_is_made(name: str) -> None:
    def handler(self: Any, message: Halt) -> None:
        """Any handler."""

    with pytest.raises(BadHandler, match=f"Actor has a '{name}' of its own"):
        type("Player", (Actor,), {name: handle(Halt)(handler)})


class Touchy:
    """A message that cannot be compared, nor shown."""

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError("not to be compared")

    __hash__ = object.__hash__


class Bounded(Probe):
    """With a bounded mailbox."""

    mailbox = Mailbox(capacity=9)


@pytest.mark.parametrize("kind", [Probe, Bounded])
async def test_messages_are_never_compared(runtime: Runtime, kind: type[Probe]) -> None:
    ref = await runtime.spawn(kind)

    async def wait(actor: Probe) -> None:
        await actor.runtime.sleep(1)

    ref.cast(Do(wait))
    ref.cast(Touchy())
    suspending = system.suspend(ref)
    ref.cast(Touchy())
    await suspending
    await system.get_status(ref)
    await system.resume(ref)
    await barrier(ref)
    assert ref.alive


async def test_a_monitor_is_flushed_past_messages_that_cannot_be_compared(runtime: Runtime) -> None:
    watcher, target = await runtime.spawn(Probe), await runtime.spawn(Probe)

    def watch(actor: Probe) -> Any:
        monitor = actor.monitor(target)
        target.kill()
        actor.ref.cast(Touchy())
        return actor.demonitor(monitor, flush=True)

    assert await do(watcher, watch) is False
    await barrier(watcher)
    assert watcher.alive


async def test_an_instance_is_not_spawned(runtime: Runtime) -> None:
    given: list[Any] = [Actor(), 7, Probe.__init__]
    for wrong in given:
        error = await error_of(runtime.spawn(wrong))
        assert isinstance(error, BadOption)
        assert "give a subclass of Actor, and its arguments" in str(error)
    assert list(runtime.actors()) == []


class Exits(BaseException):
    """Not an Exception."""


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
@pytest.mark.parametrize("error", [SystemExit(3), Exits("no"), LookupError("no"), Refuse(LookupError("no"))])
async def test_whatever_a_start_function_raises_is_a_failed_start(
    runtime: Runtime, kind: type[Actor], error: BaseException
) -> None:
    def start() -> Any:
        raise error

    supervisor = await runtime.spawn(kind, [ChildSpec("sibling", Probe)])
    failed = await error_of(start_child(supervisor, ChildSpec("x", start)))
    assert isinstance(failed, StartError)
    assert isinstance(failed.reason, Crashed)
    assert type(error).__qualname__ in str(failed.reason)
    assert supervisor.alive
    assert [child.ref is not None and child.ref.alive for child in await which_children(supervisor)] == [True]


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_a_first_start_that_fails_in_whatever_way_is_rolled_back_before_the_error_comes(
    runtime: Runtime, kind: type[Actor], events: Recorder
) -> None:
    def start() -> Any:
        raise SystemExit(3)

    specs = [ChildSpec("a", Probe, name="a"), ChildSpec("b", Probe, name="b"), ChildSpec("c", start)]
    assert isinstance(await error_of(runtime.spawn(kind, specs)), StartError)
    assert runtime.names() == {}
    assert list(runtime.actors()) == []


async def test_a_start_function_may_stop_with_a_reason_as_an_init_may(runtime: Runtime) -> None:
    def start() -> Any:
        raise Stop(Shutdown("closed on purpose"))

    supervisor = await runtime.spawn(Supervisor)
    failed = await error_of(start_child(supervisor, ChildSpec("x", start)))
    assert isinstance(failed, StartError)
    assert failed.reason == Shutdown("closed on purpose")


async def test_children_given_once_are_there_again_after_a_restart(runtime: Runtime) -> None:
    pools = [
        ChildSpec("args", Supervisor, ((ChildSpec(n, Probe) for n in range(3)),)),
        ChildSpec("kwargs", DynamicSupervisor, kwargs={"children": (ChildSpec(n, Probe) for n in range(3))}),
    ]
    top = await runtime.spawn(Supervisor, pools)
    for id in ("args", "kwargs"):
        ref = (await which_child(top, id)).ref
        assert ref is not None
        ref.kill()
        await barrier(top)
        new = (await which_child(top, id)).ref
        assert new is not None
        assert (await count_children(new)).active == 3


class Forgets(Actor):
    """Keeps nothing."""

    def __init__(self, big: object) -> None:
        pass


class Big:
    """Something worth forgetting."""


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_the_arguments_of_a_temporary_child_are_not_kept(runtime: Runtime, kind: type[Actor]) -> None:
    big = Big()
    watched = weakref.ref(big)
    supervisor = await runtime.spawn(kind, [ChildSpec("first", Forgets, (Big(),), restart="temporary")])
    await start_child(supervisor, ChildSpec("t", Forgets, (big,), restart="temporary"))
    await start_child(supervisor, ChildSpec("p", Forgets, (7,)))
    del big
    gc.collect()
    assert watched() is None
    kept = {child.id: child.spec.args for child in await which_children(supervisor)}
    assert kept == {"first": (), "t": (), "p": (7,)}


async def test_extra_arguments_are_checked_when_they_are_given(runtime: Runtime) -> None:
    given: list[Any] = ["abc", 7, {}]
    for wrong in given:
        assert isinstance(await error_of(runtime.spawn(DynamicSupervisor, extra_arguments=wrong)), BadOption)
    functions: list[Any] = [7, lambda args: args, lambda args, number: number]
    for function in functions:
        error = await error_of(runtime.spawn(PartitionSupervisor, Probe, partitions=2, with_arguments=function))
        assert isinstance(error, BadOption)
        assert error.field == "with_arguments"
    assert isinstance(await error_of(start_child(runtime.name("nobody"), {"id": 1, "start": 7})), BadChildSpec)


class Unshowable(Probe):
    """Its hooks end the program, if they are let."""

    def format_status(self) -> Any:
        raise SystemExit(2)

    def summary(self) -> Any:
        raise Exits(Touchy())


class Unprintable(BaseException):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise SystemExit(2)


async def test_hooks_that_show_the_state_end_nothing(runtime: Runtime, events: Recorder) -> None:
    ref = await runtime.spawn(Unshowable)
    info = runtime.info(ref)
    assert info is not None
    assert "Exits" in info.summary["summary"]

    def crash(actor: Probe) -> None:
        raise LookupError

    ref.cast(Do(crash))
    await settled(runtime)
    assert [report.state for report in events.of(ev.CrashReport)] == ["'<format_status raised SystemExit: 2>'"]


async def test_what_cannot_even_say_what_went_wrong_is_named_by_its_type(runtime: Runtime) -> None:
    class Silent(Probe):
        def format_status(self) -> Any:
            raise Unprintable

    ref = await runtime.spawn(Silent)
    status = await system.get_status(ref)
    assert status.status == "<format_status raised Unprintable: its text cannot be shown>"


async def test_a_state_whose_parts_cannot_be_shown_is_said_to_be_so(runtime: Runtime, events: Recorder) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise Unprintable

    class Holder(Probe):
        def format_status(self) -> Any:
            return {"odd": Odd()}

    def crash(actor: Probe) -> None:
        raise LookupError

    ref = await runtime.spawn(Holder)
    ref.cast(Do(crash))
    await settled(runtime)
    assert [report.state for report in events.of(ev.CrashReport)] == ["<its state cannot be shown: Unprintable>"]


class TrapsAndSays(Actor):
    """Ends with ``shutdown`` and a word."""

    trap_exit = True

    def terminate(self, reason: Any) -> None:
        raise Stop(Shutdown("oops"))


async def test_an_orderly_end_with_more_to_say_is_no_failure_of_a_dynamic_child(
    runtime: Runtime, events: Recorder
) -> None:
    pool = await runtime.spawn(DynamicSupervisor, [ChildSpec(n, TrapsAndSays) for n in range(3)])
    await pool.stop()
    assert events.of(ev.ChildShutdownFailed) == []


async def test_an_orderly_end_with_more_to_say_is_one_of_a_permanent_static_child(
    runtime: Runtime, events: Recorder
) -> None:
    supervisor = await runtime.spawn(Supervisor, [ChildSpec("a", TrapsAndSays)])
    await supervisor.stop()
    assert [event.reason for event in events.of(ev.ChildShutdownFailed)] == [Shutdown("oops")]
