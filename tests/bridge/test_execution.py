"""Work under guards, on many agents, on foreign ones; resources; batches; signals and events."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from agents import Action, AgentServer, AgentType, Context, Emit, Result, Signal, start_agent
from bridge import (
    AgentEvent,
    AgentFailed,
    EventSignals,
    EventSink,
    ForeignAgent,
    ForeignCall,
    HealthChanged,
    acquire_for_agent,
    distributed_execute,
    emit_agent_event,
    execute_protected,
    execute_with_retry,
    find_agents,
    register_agent,
    register_agents,
    setup_monitoring,
)
from foundation.protection import BreakerOptions, Breakers, CircuitBreaker, CircuitOpen, Retry
from foundation.registry import BatchFailed, Directory, Field
from foundation.resources import Limit, Resource, ResourceExhausted, Resources
from supervision import (
    Actor,
    CallTimeout,
    ChildSpec,
    DynamicSupervisor,
    Ref,
    Request,
    Runtime,
    Supervisor,
    handle,
)
from supervision.events import Exited
from supervision.testing import advance, settled
from tests.agents.kinds import Counting, Listener


class Work(Action[dict[str, Any]]):
    """Work, or fail."""

    fail: bool = False

    def run(self, context: Context[Counting]) -> dict[str, Any]:
        """Work."""
        if self.fail or context.state.count < 0:
            raise RuntimeError("no")
        return {"count": context.state.count + 1}


class FailsTwice(Action[dict[str, Any]]):
    """Works at the third time."""

    def run(self, context: Context[Counting]) -> dict[str, Any]:
        """Work."""
        TRIES.append(1)
        if len(TRIES) < 3:
            raise RuntimeError("not yet")
        return {"count": len(TRIES)}


class Tell(Action[None]):
    """Tell the telemetry."""

    def run(self, context: Context[Counting]) -> Result[None]:
        """Tell it."""
        measured = {"seconds": 3.2, "ok": True, "what": "x"}
        return Result(None, (Emit("order.packed", measured, to="telemetry"), Emit("bare", 3, to="telemetry")))


TRIES: list[int] = []


class Worker(AgentType[Counting]):
    """Works."""

    routes = {"work": Work, "flaky": FailsTwice, "tell": Tell, "event.*": Work}


def signal(type: str, data: Any = None) -> Signal:
    """Return a signal."""
    return Signal(type=type, source="/", id="1", data=data)


async def worker(runtime: Runtime, **options: Any) -> Ref:
    """Start an agent, and return its server."""
    return await runtime.spawn(AgentServer, Worker, **options)


class Ask(Request[str], frozen=True):
    """A question that no agent knows."""


class Foreign(Actor):
    """An actor that is no agent."""

    @handle
    def answer(self, request: Ask) -> str:
        """Answer."""
        return "foreign"


# -- guards ------------------------------------------------------------------------------------------------------------


async def test_a_breaker_sees_what_has_really_happened(runtime: Runtime) -> None:
    """An action that failed is a failure, though the agent has answered; then nothing gets through."""
    await runtime.spawn(Breakers)
    ref = await worker(runtime)
    breaker = CircuitBreaker(runtime, "worker", BreakerOptions(failures=2))
    assert (await execute_protected(ref, signal("work"), breaker)).agent.state.count == 1
    for _ in range(2):
        with pytest.raises(AgentFailed, match="RuntimeError: no") as caught:
            await execute_protected(ref, signal("work", {"fail": True}), breaker)
    assert caught.value.reply.agent.state.count == 1
    await settled(runtime)
    with pytest.raises(CircuitOpen):
        await execute_protected(ref, signal("work"), breaker)
    assert (await execute_protected(ref, signal("work"), None)).agent.state.count == 2


async def test_work_is_tried_again(runtime: Runtime) -> None:
    """Any failure is worth it, unless a retry of one's own says otherwise."""
    TRIES.clear()
    ref = await worker(runtime)
    assert (await execute_with_retry(ref, signal("flaky"))).agent.state.count == 3
    TRIES.clear()
    with pytest.raises(AgentFailed):
        await execute_with_retry(ref, signal("flaky"), Retry(2, on=lambda error: isinstance(error, OSError)))
    assert len(TRIES) == 1


async def test_what_was_not_begun_goes_to_the_next_incarnation_and_is_no_failure(runtime: Runtime) -> None:
    """A retry is not spent on it; one for what was begun is."""
    begun: list[int] = []

    class Number(Request[int], frozen=True):
        n: int

    class Slow(Actor):
        @handle
        async def number(self, request: Number) -> int:
            begun.append(request.n)
            await self.runtime.sleep(1.0)
            return request.n

    await runtime.spawn(Supervisor, [ChildSpec("slow", Slow, name="slow")])
    name = runtime.name("slow")
    works = [asyncio.ensure_future(execute_with_retry(name, Number(n), Retry(1))) for n in range(3)]
    await settled(runtime)
    ref = name.resolve()
    assert ref is not None
    ref.kill()
    first, *others = await asyncio.gather(*works, return_exceptions=True)
    assert isinstance(first, Exception)
    assert others == [1, 2]
    assert begun == [0, 1, 2]


async def test_a_foreign_actor_is_bridged_alike(runtime: Runtime, directory: Directory) -> None:
    """One with requests of its own, and an object that is no actor at all: registered, found, asked, monitored."""

    class Robot:
        async def __call__(self, payload: Any) -> Any:
            if payload == "bad":
                raise ValueError("bad payload")
            return f"done {payload}"

    monitors = await runtime.spawn(DynamicSupervisor)
    robot = await runtime.spawn(ForeignAgent, Robot())
    foreign = await runtime.spawn(Foreign)
    await register_agents(directory, {"robot": (robot, ["talk"]), "foreign": (foreign, ["talk", "listen"])})
    assert await execute_protected(foreign, Ask(), None) == "foreign"
    assert await execute_with_retry(robot, ForeignCall("x")) == "done x"
    with pytest.raises(ValueError, match="bad payload"):
        await execute_protected(robot, ForeignCall("bad"), None)
    await setup_monitoring(monitors, directory, "robot", interval=1.0)
    heard: list[HealthChanged] = []
    runtime.subscribe(heard.append, HealthChanged)  # type: ignore[arg-type]
    results = await distributed_execute(directory, "talk", ForeignCall("y"))
    assert (results["robot"].answer, results["robot"].error) == ("done y", None)
    assert "UnhandledMessage" in type(results["foreign"].error).__name__
    robot.kill()
    await settled(runtime)
    assert [event.health for event in heard] == ["dead"]


# -- many agents -------------------------------------------------------------------------------------------------------


class Busy(Actor):
    """Counts how many work at the same time."""

    now = most = 0

    @handle
    async def work(self, request: ForeignCall) -> None:
        """Work."""
        Busy.now += 1
        Busy.most = max(Busy.most, Busy.now)
        await advance(request.payload)
        Busy.now -= 1


async def test_work_goes_to_all_who_can_do_it(runtime: Runtime, directory: Directory) -> None:
    """With a result for each, no more than so many at the same time, and a time for each."""
    Busy.now = Busy.most = 0
    for n in range(5):
        await register_agent(directory, await runtime.spawn(Busy), ["work"], key=n)
    await register_agent(directory, await worker(runtime, state={"count": -5}), ["work"], key="agent")
    results = await distributed_execute(directory, "work", ForeignCall(1.0), limit=2)
    assert (len(results), Busy.most) == (6, 2)
    assert [results[n].error for n in range(5)] == [None] * 5
    results = await distributed_execute(directory, "work", ForeignCall(9.0), timeout=2.0)
    assert all(isinstance(results[n].error, CallTimeout) for n in range(5))
    assert (await distributed_execute(directory, "fly", ForeignCall(1.0))) == {}
    for limit in (0, True, "many"):
        with pytest.raises(ValueError, match="limit"):
            await distributed_execute(directory, "work", ForeignCall(1.0), limit=limit)  # type: ignore[arg-type]
    await advance(60.0)


async def test_agents_are_found_by_what_is_asked(runtime: Runtime, directory: Directory) -> None:
    """By capability, by anything that is known of them, or both; those that are unresponsive are left out."""
    refs = [await worker(runtime) for _ in range(4)]
    for n, ref in enumerate(refs):
        await register_agent(directory, ref, ["even"] if n % 2 == 0 else ["odd"], key=n, metadata={"hall": n // 2})
    await directory.update(3, {"health": "unresponsive"})
    assert [entry.key for entry in find_agents(directory)] == [0, 1, 2]
    assert [entry.key for entry in find_agents(directory, "even")] == [0, 2]
    assert [entry.key for entry in find_agents(directory, where=Field("details.hall") == 0)] == [0, 1]
    assert [entry.key for entry in find_agents(directory, "odd", Field("details.hall") == 0)] == [1]
    assert find_agents(directory, "odd", Field("details.hall") == 1) == []
    with pytest.raises(BatchFailed):
        await register_agents(directory, {"new": (refs[0], ["x"]), 0: (refs[1], ["x"])})
    assert directory.lookup("new") is None


async def test_resources_are_held_for_the_life_of_an_agent(runtime: Runtime) -> None:
    """All that is asked for, or nothing; what is held is given back when the agent ends."""
    await runtime.spawn(Resources, {"gpu": Limit(2), "seats": Limit(5)}, name="resources")
    ref = await worker(runtime)
    tokens = await acquire_for_agent(ref, {"seats": 4, "gpu": 1})
    gpu, seats = Resource(runtime, "gpu"), Resource(runtime, "seats")
    with pytest.raises(ResourceExhausted):
        await acquire_for_agent(ref, {"gpu": 1, "seats": 4})
    assert await gpu.release(tokens["gpu"])
    await settled(runtime)
    assert (gpu.used, seats.used) == (0, 4)
    ref.kill()
    await settled(runtime)
    assert seats.used == 0


# -- signals and events ------------------------------------------------------------------------------------------------


async def test_signals_become_events(runtime: Runtime) -> None:
    """Numbers are measurements, the rest is metadata; with nobody listening nothing is made."""
    await runtime.spawn(EventSink, name="telemetry")
    agent = await start_agent(runtime, Worker, id="w")
    await agent.call(agent.signal("tell"))
    await settled(runtime)
    heard: list[AgentEvent] = []
    runtime.subscribe(heard.append, AgentEvent)  # type: ignore[arg-type]
    await agent.call(agent.signal("tell"))
    await settled(runtime)
    packed, bare = heard
    assert (packed.name, dict(packed.measurements)) == ("order.packed", {"seconds": 3.2})
    assert (packed.metadata["ok"], packed.metadata["what"], packed.metadata["source"]) == (True, "x", "/Worker/w")
    assert dict(bare.measurements) == {"data": 3}


async def test_events_become_signals(runtime: Runtime) -> None:
    """Of the kinds that are asked for, for as long as it lives; what happens to the receiver is left out."""
    heard: list[Signal] = []
    listener = await runtime.spawn(Listener, heard)
    signals = await runtime.spawn(EventSignals, listener, Exited, AgentEvent)
    agent = await start_agent(runtime, Worker)
    await agent.stop()
    emit_agent_event(listener, "loop")
    await settled(runtime)
    assert [one.type for one in heard] == ["event.Exited"]
    assert heard[0].data["ref"] == agent.address
    assert heard[0].source == signals.path
    signals.kill()
    emit_agent_event(signals, "late")
    other = await runtime.spawn(EventSignals, listener, AgentEvent)
    await other.stop()
    emit_agent_event(agent.view.ref or listener, "later")
    await settled(runtime)
    assert len(heard) == 1
    assert msgspec.structs.asdict(heard[0])["type"] == "event.Exited"
