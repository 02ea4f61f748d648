"""Children, parents, orphans and sensors (S42, S44, S45)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
import pytest
import structlog

from agents import (
    Action,
    AdoptChild,
    AgentHandle,
    AgentType,
    BadParams,
    Context,
    Emit,
    NotAdopted,
    Parent,
    Result,
    Sensor,
    SensorContext,
    SetState,
    SpawnAgent,
    StartSensor,
    StopChild,
    StopSensor,
    TagTaken,
    connect,
    start_agent,
    whereis,
)
from agents.server import AGENT_SUPERVISOR, AgentSupervisor, Binding
from agents.server.sensors import SensorServer, inject
from supervision import Abnormal, Runtime, StartError
from supervision.testing import advance, settled

DO: list[tuple[Any, ...]] = []


class Log(msgspec.Struct, frozen=True):
    """What an agent has seen."""

    log: tuple[str, ...] = ()
    secret: Any = None


class Do(Action[None]):
    """Return the directives that are next in line."""

    def run(self, context: Context[Log]) -> Result[None]:
        """Return them."""
        return Result(None, DO.pop(0))


class Note(Action[None]):
    """Note a signal: its type, and what of its data tells something."""

    def run(self, context: Context[Log]) -> Result[None]:
        """Note it."""
        assert context.signal is not None
        data = context.signal.data or {}
        told = (str(data[key]) for key in ("tag", "parent_id") if key in data)
        line = " ".join((context.signal.type.removeprefix("agent."), *told))
        return Result(None, (SetState({"log": (*context.state.log, line)}),))


class Report(Action[None]):
    """Tell the parent, if there is one."""

    def run(self, context: Context[Log]) -> Result[None]:
        """Tell it."""
        parent = context.parent
        return Result(None, () if parent is None else (Emit("report", {"tag": parent.tag}, to=parent.ref),))


class Crash(Action[None]):
    """Crash the server: not as an action fails, but as a bug would."""

    def run(self, context: Context[Log]) -> None:
        """Kill it."""
        assert context.ref is not None
        context.ref.exit(Abnormal("boom"))


class Member(AgentType[Log]):
    """A parent, or a child."""

    routes = {"do": Do, "agent.**": Note, "report": Note, "report.back": Report, "crash": Crash, "heard": Note}


async def do(agent: AgentHandle[Any], *directives: Any) -> Any:
    """Have an agent return directives, and what they lead to happen."""
    DO.append(directives)
    reply = await agent.call(agent.signal("do"))
    await settled(agent.address.runtime)
    return reply


async def child(runtime: Runtime, id: str) -> AgentHandle[Log]:
    """Return a handle of an agent by its id."""
    ref = whereis(runtime, id)
    assert ref is not None
    return await connect(ref, Member)


# -- children ----------------------------------------------------------------------------------------------------------


async def test_s44_a_child_is_started_and_stopped(runtime: Runtime) -> None:
    """It is known by its tag, reports to its parent, and does not come back; its parent is told once of each."""
    parent = await start_agent(runtime, Member, id="p")
    await do(parent, SpawnAgent(Member, "w", state={"log": ("first",)}, meta={"n": 1}))
    known = parent.children["w"]
    assert (known.id, known.type, known.meta, known.ref) == ("p/w", "Member", {"n": 1}, whereis(runtime, "p/w"))
    worker = await child(runtime, "p/w")
    assert worker.state.log == ("first",)
    assert worker.agent.parent == Parent(parent.view.ref, "p", "w", {"n": 1})  # type: ignore[arg-type]
    await worker.call(worker.signal("report.back"))
    await settled(runtime)
    await do(parent, StopChild("w", "cleanup"), StopChild("nobody"))
    assert parent.children == {}
    assert whereis(runtime, "p/w") is None
    assert parent.state.log == ("child.started w", "report w", "child.exit w")
    assert parent.status().children == ()


async def test_s44_a_permanent_child_comes_back_after_a_crash(runtime: Runtime) -> None:
    """As another incarnation with the same id; its parent finds it under the same tag, and is told again."""
    parent = await start_agent(runtime, Member, id="p")
    await do(parent, SpawnAgent(Member, "w", id="worker", restart="permanent"))
    before = parent.children["w"].ref
    worker = await child(runtime, "worker")
    worker.cast(worker.signal("crash"))
    await settled(runtime)
    assert parent.children["w"].ref not in (before, None)
    assert parent.children["w"].ref == whereis(runtime, "worker")
    assert parent.state.log.count("child.started w") == 2
    await do(parent, StopChild("w", "cleanup"))
    assert (parent.children, whereis(runtime, "worker")) == ({}, None)


async def test_a_tag_is_taken_once_and_a_failed_start_is_a_signal(runtime: Runtime) -> None:
    """Both are errors of the directive; the first child stays; the agent is told of a start that failed."""
    parent = await start_agent(runtime, Member, id="p")
    await do(parent, SpawnAgent(Member, "w"), SpawnAgent(Member, "w", id="other"))
    assert parent.view.last_error is not None
    assert parent.view.last_error.kind == f"agents.errors.{TagTaken.__name__}"
    assert list(parent.children) == []
    await do(parent, SpawnAgent(Member, "w"))
    await do(parent, SpawnAgent(Member, "w"))
    assert parent.view.last_error.kind == f"agents.errors.{TagTaken.__name__}"
    assert list(parent.children) == ["w"]
    await do(parent, SpawnAgent(Member, "bad", state={"colour": 1}))
    assert parent.state.log[-1] == "child.failed bad"
    assert list(parent.children) == ["w"]


async def test_the_supervisor_of_agents_can_be_part_of_a_tree(runtime: Runtime) -> None:
    """The one that has the name is used."""
    supervisor = await runtime.spawn(AgentSupervisor, name=AGENT_SUPERVISOR)
    parent = await start_agent(runtime, Member, id="p")
    await do(parent, SpawnAgent(Member, "w"))
    assert parent.children["w"].ref.path.startswith(supervisor.path)


# -- the end of a parent -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", ["transient", "permanent"])
async def test_s45_a_child_ends_with_its_parent(runtime: Runtime, restart: Any) -> None:
    """By default, cleanly, and for good, also where the parent has crashed."""
    parent = await start_agent(runtime, Member, id="p")
    await do(parent, SpawnAgent(Member, "w", restart=restart))
    ref = parent.children["w"].ref
    parent.cast(parent.signal("crash"))
    await settled(runtime)
    reason = ref.reason
    assert reason is not None
    assert reason.clean
    assert "parent_down" in str(reason)
    assert whereis(runtime, "p/w") is None


async def test_s45_a_child_can_go_on_as_an_orphan(runtime: Runtime) -> None:
    """In silence, or told who its parent was; reports lead nowhere then."""
    parent = await start_agent(runtime, Member, id="p")
    await do(parent, SpawnAgent(Member, "quiet", on_parent_death="continue"))
    await do(parent, SpawnAgent(Member, "told", on_parent_death="emit_orphan", meta=7))
    await parent.stop()
    await settled(runtime)
    quiet, told = await child(runtime, "p/quiet"), await child(runtime, "p/told")
    assert (quiet.agent.parent, told.agent.parent) == (None, None)
    assert (quiet.state.log, told.state.log) == ((), ("orphaned told p",))
    await told.call(told.signal("report.back"))


async def test_s45_an_orphan_is_adopted_and_comes_back_to_its_adopter(runtime: Runtime) -> None:
    """Reports reach the new parent; a crash leads back to it; its end makes an orphan again."""
    parent = await start_agent(runtime, Member, id="p")
    await do(parent, SpawnAgent(Member, "w", on_parent_death="emit_orphan"))
    await parent.stop()
    await settled(runtime)
    foster = await start_agent(runtime, Member, id="f")
    await do(foster, AdoptChild("p/w", "recovered_worker", meta="x"))
    assert foster.children["recovered_worker"].id == "p/w"
    worker = await child(runtime, "p/w")
    await worker.call(worker.signal("report.back"))
    await settled(runtime)
    assert foster.state.log == ("report recovered_worker",)
    worker.cast(worker.signal("crash"))
    await settled(runtime)
    worker = await child(runtime, "p/w")
    assert foster.children["recovered_worker"].ref == worker.view.ref
    assert foster.state.log[1:] == ("child.exit recovered_worker", "child.started recovered_worker")
    await foster.stop()
    await settled(runtime)
    assert worker.agent.parent is None
    assert worker.state.log[-1] == "orphaned recovered_worker f"


async def test_s45_who_cannot_be_adopted_stays_as_it_is(runtime: Runtime) -> None:
    """A tag in use, an id that nobody has, one that is dead, has a parent, or is the agent itself."""
    parent = await start_agent(runtime, Member, id="p")
    await do(parent, SpawnAgent(Member, "w"))
    foster = await start_agent(runtime, Member, id="f")
    lonely = await start_agent(runtime, Member, id="lonely")
    dead = await start_agent(runtime, Member, id="dead")
    await dead.stop()
    assert lonely.view.ref is not None
    assert dead.view.ref is not None
    assert foster.view.ref is not None
    await foster.adopt(lonely.view.ref, "taken")
    for target, tag, kind, says in (
        (lonely.view.ref, "taken", TagTaken, "choose another one"),
        ("nobody", "a", NotAdopted, "no such agent"),
        (dead.view.ref, "a", NotAdopted, "dead|ended|NoProcess|no"),
        (parent.children["w"].ref, "a", NotAdopted, "child of 'p'"),
        (foster.view.ref, "a", NotAdopted, "its own parent"),
    ):
        with pytest.raises(kind, match=says):
            await foster.adopt(target, tag)  # type: ignore[arg-type]
    assert list(foster.children) == ["taken"]
    await foster.stop()
    await settled(runtime)
    assert lonely.agent.parent is None
    again = await start_agent(runtime, Member, binding=Binding(on_parent_death="stop"))
    assert again.view.ref is not None
    await parent.adopt(again.view.ref, "again")
    assert again.agent.parent is not None


# -- sensors -----------------------------------------------------------------------------------------------------------


class Ticker(Sensor, frozen=True):
    """Counts."""

    every: float = 0.025
    fails_at: int = -1

    def interval(self) -> float:
        """Return it."""
        return self.every

    def init(self, context: SensorContext) -> None:
        """Refuse what makes no sense."""
        context.memory["n"] = 0
        if self.every > 100:
            raise ValueError("too slow")

    def poll(self, context: SensorContext) -> Iterable[Emit]:
        """Count."""
        context.memory["n"] += 1
        if context.memory["n"] == self.fails_at:
            raise OSError("a bad look")
        return [Emit("heard", {"tag": f"{context.tag} {context.memory['n']}"})]

    def handle_event(self, event: Any, context: SensorContext) -> Iterable[Emit]:
        """Pass an event on."""
        return [Emit("heard", {"tag": 1 / event})]


class Slow(Ticker, frozen=True):
    """Takes its time to look, and tells somebody else."""

    async def poll(self, context: SensorContext) -> Iterable[Emit]:  # type: ignore[override]
        """Look."""
        await context.runtime.sleep(1.0)
        return [Emit("heard", {"tag": context.agent_id}, to="other")]


class Stream(Sensor, frozen=True):
    """Follows a stream of three, and ends, or crashes."""

    crashes: bool = False

    async def events(self, context: SensorContext) -> AsyncIterator[Emit]:
        """Follow it."""
        for n in range(3):
            await context.runtime.sleep(1.0)
            yield Emit("heard", {"tag": n})
        if self.crashes:
            raise OSError("the line is dead")


async def sensing(runtime: Runtime, *sensors: StartSensor) -> AgentHandle[Log]:
    """Start an agent with sensors."""
    agent = await start_agent(runtime, Member, id="a")
    await do(agent, *sensors)
    return agent


async def test_s42_a_sensor_polls_again_and_again(runtime: Runtime) -> None:
    """Its signals reach its agent; a look that fails gives nothing, and the sensor goes on; it ends with the agent."""
    agent = await sensing(runtime, StartSensor("t", Ticker(fails_at=2)))
    with structlog.testing.capture_logs() as logs:
        await advance(0.08)
        await settled(runtime)
    assert agent.state.log == ("heard t 1", "heard t 3")
    assert [entry["event"] for entry in logs] == ["sensor_failed"]
    await agent.stop()
    await settled(runtime)
    assert [ref for ref in runtime.actors() if "Sensor" in ref.path] == []


async def test_s42_a_sensor_is_replaced_kept_or_stopped(runtime: Runtime) -> None:
    """Under its tag; a wrong one does not start, and the one that runs goes on; a stop is silent."""
    agent = await sensing(runtime, StartSensor("t", Ticker(every=10.0)), StartSensor("t", Ticker()))
    await advance(0.03)
    assert agent.state.log == ("heard t 1",)
    for wrong in (Ticker(every="x"), Ticker(every=1000.0), 3):  # type: ignore[arg-type]
        await do(agent, StartSensor("t", wrong))  # type: ignore[arg-type]
        assert agent.view.last_error is not None
        assert "StartError" in agent.view.last_error.kind
    await do(agent, StartSensor("t", Ticker(every=50.0), keep=True))
    await advance(0.03)
    await settled(runtime)
    before = agent.state.log
    assert len(before) > 1
    await do(agent, StopSensor("t"), StopSensor("nothing"))
    await advance(5.0)
    assert agent.state.log == before


async def test_s42_events_can_be_handed_in(runtime: Runtime) -> None:
    """What they mean is up to the sensor; one that means nothing is passed over."""
    agent = await sensing(runtime, StartSensor("t", Ticker(every=99.0)))
    (sensor,) = [ref for ref in runtime.actors() if "SensorServer" in ref.path]
    with structlog.testing.capture_logs() as logs:
        inject(sensor, 0)
        inject(sensor, 2)
        await settled(runtime)
    assert (agent.state.log, len(logs)) == (("heard 0.5",), 1)
    plain: Sensor = Stream()
    context = SensorContext(runtime, sensor, "a", "t")
    assert (plain.interval(), list(plain.handle_event(1, context)), list(plain.poll(context))) == (None, [], [])  # type: ignore[arg-type]
    with pytest.raises(BadParams, match="does not say what it senses"):
        Sensor().events(context)


async def test_s42_a_stream_is_followed_to_its_end(runtime: Runtime) -> None:
    """Then its agent is told; a crash is told too, and takes a linked agent with it."""
    agent = await sensing(runtime, StartSensor("c", Stream(crashes=True)), StartSensor("s", Stream()))
    (*_, last) = [ref for ref in runtime.actors() if "SensorServer" in ref.path]
    await advance(2.9)
    last.kill()
    await settled(runtime)
    assert agent.state.log[-1] == "sensor.exit s"
    await advance(1.0)
    await settled(runtime)
    heard = [f"heard {n}" for n in (0, 0, 1, 1, 2)]
    assert sorted(agent.state.log) == [*heard, "sensor.exit c", "sensor.exit s"]
    await agent.stop()
    ends = await sensing(runtime, StartSensor("s", Stream()))
    await advance(3.5)
    await settled(runtime)
    assert ends.state.log == ("heard 0", "heard 1", "heard 2", "sensor.exit s")
    await ends.stop()
    linked = await sensing(runtime, StartSensor("c", Stream(crashes=True), link=True))
    assert linked.view.ref is not None
    await advance(3.5)
    await settled(runtime)
    assert linked.view.ref.reason is not None
    assert "the line is dead" in str(linked.view.ref.reason)


async def test_a_sensor_may_wait_and_tell_somebody_else(runtime: Runtime) -> None:
    """Its emits go where they say."""
    other = await start_agent(runtime, Member, id="o", name="other")
    agent = await sensing(runtime, StartSensor("t", Slow(every=1.0)))
    await advance(2.5)
    await settled(runtime)
    assert (agent.state.log, other.state.log) == ((), ("heard a",))
    with pytest.raises(StartError):
        await runtime.spawn(SensorServer, 3, other.view.ref, "a", "/", "t")  # type: ignore[call-overload]
