"""Monitoring: checks, thresholds, the four healths, deaths and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import Action, AgentServer, AgentType, AgentView, Context, connect, start_agent
from agents.server import GetView
from bridge import HealthChanged, Thresholds, find_agents, register_agent, responds, setup_monitoring
from bridge.health import CheckResult, HealthRecord, HealthStatus
from bridge.monitoring import CheckNow
from foundation.registry import Directory, KeyNotFound
from supervision import (
    NORMAL,
    Actor,
    CallTimeout,
    Message,
    Name,
    NoProcess,
    Ref,
    Runtime,
    count_children,
    handle,
)
from supervision.errors import BadOption, BadTime
from supervision.testing import advance, settled


class Empty(msgspec.Struct, frozen=True):
    """A state with nothing in it."""


class Worker(AgentType[Empty]):
    """An agent."""


class Odd(Actor):
    """Answers what agents are asked, and is none."""

    @handle
    def get_view(self, request: GetView) -> Any:
        """Answer."""
        return AgentView()


class Think(Action[None]):
    """Take an hour."""

    async def run(self, context: Context[Empty]) -> None:
        """Take it."""
        await advance(3600.0)


class Thinker(AgentType[Empty]):
    """Thinks."""

    routes = {"think": Think}


class Nap(Message, frozen=True):
    """Be busy for a while."""

    seconds: float


class Foreign(Actor):
    """An actor that knows nothing of agents, and can be kept busy."""

    @handle
    async def nap(self, message: Nap) -> None:
        """Be busy."""
        await advance(message.seconds)


class Patient:
    """A check that says what it is told to say: True, False, an exception, a number of seconds to take,
    or what an async function says."""

    def __init__(self) -> None:
        self.says: Any = True
        self.checks = 0

    async def __call__(self, ref: Ref) -> bool:
        """Say it."""
        self.checks += 1
        if isinstance(self.says, Exception):
            raise self.says
        if isinstance(self.says, float):
            await advance(self.says)
            return True
        return bool(await self.says() if callable(self.says) else self.says)


@pytest.fixture
def patient() -> Patient:
    """A check that can be told what to say."""
    return Patient()


@pytest.fixture
async def foreign(runtime: Runtime, directory: Directory) -> Ref:
    """A registered actor that is none of ours."""
    ref = await runtime.spawn(Foreign)
    await register_agent(directory, ref, ["sort"], key="f")
    return ref


def health(directory: Directory) -> HealthStatus | None:
    """Return what the registry says."""
    entry = directory.lookup("f")
    return None if entry is None else entry.metadata.health


async def test_health_follows_the_checks(
    runtime: Runtime, directory: Directory, monitors: Name, foreign: Ref, patient: Patient, changes: list[HealthChanged]
) -> None:
    """An actor is degraded when its check fails, unresponsive when no answers come, healthy again, and dead at its end;
    the registry and the event stream say so."""
    monitor = await setup_monitoring(monitors, directory, "f", check=patient, interval=10.0, limit=1.0)
    await advance(1)
    assert (health(directory), patient.checks, changes) == ("healthy", 1, [])
    patient.says = False
    await advance(10)
    assert health(directory) == "degraded"
    assert [entry.key for entry in directory.find("health", "degraded")] == ["f"]
    patient.says = 5.0
    await advance(40)
    assert health(directory) == "unresponsive"
    patient.says = True
    await advance(12)
    assert health(directory) == "healthy"
    patient.says = ValueError("bad pulse")
    await advance(10)
    assert health(directory) == "degraded"
    foreign.kill()
    await settled(runtime)
    assert health(directory) is None
    assert [(change.before, change.health) for change in changes] == [
        ("healthy", "degraded"),
        ("degraded", "unresponsive"),
        ("unresponsive", "healthy"),
        ("healthy", "degraded"),
        ("degraded", "dead"),
    ]
    assert [change.why for change in changes] == [
        "the check said False",
        "no answer within 1 s",
        "",
        "ValueError: bad pulse",
        "killed",
    ]
    assert {(change.ref, change.key, change.path) for change in changes} == {(foreign, "f", foreign.path)}
    assert monitor.reason is None
    await advance(10)
    assert monitor.reason == NORMAL
    assert (await count_children(monitors)).active == 0


async def test_who_comes_back_under_the_key_is_watched_again(
    runtime: Runtime, directory: Directory, monitors: Name, foreign: Ref, patient: Patient, changes: list[HealthChanged]
) -> None:
    """When the next check is due; also when the first one died during a check."""
    await setup_monitoring(monitors, directory, "f", check=patient, interval=10.0, limit=8.0)
    await advance(1)
    patient.says = 5.0
    await advance(10)
    foreign.kill()
    await settled(runtime)
    second = await runtime.spawn(Foreign)
    await register_agent(directory, second, key="f")
    patient.says = True
    await advance(20)
    patient.says = False
    await advance(20)
    assert [(change.before, change.health, change.ref) for change in changes] == [
        ("healthy", "dead", foreign),
        ("dead", "healthy", second),
        ("healthy", "degraded", second),
    ]
    checks = patient.checks
    await advance(100)
    assert patient.checks == checks + 10


async def test_a_busy_agent_is_not_dead(
    runtime: Runtime, directory: Directory, monitors: Name, changes: list[HealthChanged]
) -> None:
    """However long its turn takes: it is found, connected to, and asked how it is meanwhile."""
    agent = await start_agent(runtime, Thinker, id="t")
    assert isinstance(agent.address, Ref)
    await register_agent(directory, agent.address, ["think"], key="t")
    await setup_monitoring(monitors, directory, "t", interval=10.0, limit=1.0)
    agent.cast(agent.signal("think"))
    await advance(500)
    assert (changes, [entry.key for entry in find_agents(directory, "think")]) == ([], ["t"])
    again = await connect(agent.address, Thinker)
    assert again.view.turn is not None
    assert (again.view.turn.signal.type, again.state) == ("think", Empty())
    agent.address.kill()
    with pytest.raises(NoProcess):
        await responds(agent.address)


async def test_an_agent_needs_no_check_of_its_own(
    runtime: Runtime, directory: Directory, monitors: Name, changes: list[HealthChanged]
) -> None:
    """The default check asks the agent's server, or any other actor, whether it answers."""
    agent = await runtime.spawn(AgentServer, Worker)
    foreign = await runtime.spawn(Foreign)
    assert await responds(agent)
    assert await responds(foreign)
    assert await responds(await runtime.spawn(Odd))
    await register_agent(directory, foreign, key="f")
    await setup_monitoring(monitors, directory, "f", interval=10.0, limit=1.0)
    await advance(1)
    foreign.cast(Nap(60.0))
    await advance(40)
    assert health(directory) == "unresponsive"
    await advance(60)
    assert health(directory) == "healthy"
    assert [change.health for change in changes] == ["degraded", "unresponsive", "healthy"]
    foreign.kill()
    with pytest.raises(NoProcess):
        await responds(foreign)


async def test_a_hanging_check_delays_no_other(
    runtime: Runtime, directory: Directory, monitors: Name, changes: list[HealthChanged]
) -> None:
    """Checks of many actors run side by side: though each takes its whole limit, all are done when one is."""

    async def hang(ref: Ref) -> bool:
        await asyncio.Event().wait()
        return True

    for n in range(20):
        await register_agent(directory, await runtime.spawn(Foreign), key=n)
        await setup_monitoring(monitors, directory, n, check=hang, limit=5.0)
    before = runtime.clock.time()
    while len(changes) < 20:
        await advance(0.1)
    assert runtime.clock.time() - before < 5.5
    assert len(directory.find("health", "degraded")) == 20


async def test_an_answer_can_be_slow(
    runtime: Runtime, directory: Directory, monitors: Name, foreign: Ref, patient: Patient, changes: list[HealthChanged]
) -> None:
    """A good answer that takes longer than the threshold is a bad one, and a quicker one is not."""
    patient.says = 0.4
    await setup_monitoring(monitors, directory, "f", check=patient, interval=1.0, thresholds=Thresholds(slow=0.5))
    await advance(1)
    assert health(directory) == "healthy"
    patient.says = 0.6
    await advance(2)
    assert health(directory) == "degraded"
    assert changes[0].why == "slow: 0.6 s"


async def test_a_timeout_of_the_check_itself_is_no_answer(
    runtime: Runtime, directory: Directory, monitors: Name, foreign: Ref, patient: Patient
) -> None:
    """A check whose own call timed out says that there was no answer, not that the answer was bad."""
    patient.says = CallTimeout(foreign, "ping", 0.1)
    thresholds = Thresholds(unresponsive_after=1)
    await setup_monitoring(monitors, directory, "f", check=patient, thresholds=thresholds)
    await advance(1)
    assert health(directory) == "unresponsive"


async def test_who_is_unregistered_is_not_monitored(
    runtime: Runtime, directory: Directory, monitors: Name, foreign: Ref, patient: Patient, changes: list[HealthChanged]
) -> None:
    """A monitor ends when its actor is unregistered, or the key belongs to another one."""
    await setup_monitoring(monitors, directory, "f", check=patient, interval=10.0)
    await advance(1)
    await directory.unregister("f")
    await register_agent(directory, await runtime.spawn(Foreign), key="f")
    await advance(10)
    assert (await count_children(monitors)).active == 0
    assert (patient.checks, changes) == (1, [])


async def test_unregistered_during_a_check(
    runtime: Runtime, directory: Directory, monitors: Name, foreign: Ref, patient: Patient
) -> None:
    """An actor that is unregistered while its check runs is left alone, and its monitor ends with the next check."""
    patient.says = 6.0
    await setup_monitoring(monitors, directory, "f", check=patient, interval=10.0)
    await advance(1)
    await directory.unregister("f")
    await advance(20)
    assert (await count_children(monitors)).active == 0


async def test_a_death_during_a_check(
    runtime: Runtime, directory: Directory, monitors: Name, foreign: Ref, patient: Patient, changes: list[HealthChanged]
) -> None:
    """An actor that ends while its check runs is dead, and nothing else is said of it."""
    patient.says = 6.0
    await setup_monitoring(monitors, directory, "f", check=patient)
    await advance(1)
    foreign.kill()
    await advance(10)
    assert [change.health for change in changes] == ["dead"]


async def test_a_death_by_a_check(
    runtime: Runtime, directory: Directory, monitors: Name, foreign: Ref, patient: Patient, changes: list[HealthChanged]
) -> None:
    """An actor that has ended when its check says that all is well is dead all the same."""

    async def dies() -> bool:
        foreign.kill()
        return True

    patient.says = dies
    await setup_monitoring(monitors, directory, "f", check=patient)
    await settled(runtime)
    assert [change.health for change in changes] == ["dead"]


async def test_a_death_between_checks(
    runtime: Runtime, directory: Directory, monitors: Name, foreign: Ref, patient: Patient, changes: list[HealthChanged]
) -> None:
    """An actor that ends at the very moment of a check is dead, not unregistered: the event tells."""
    await setup_monitoring(monitors, directory, "f", check=patient, interval=10.0)
    await advance(1)
    monitor = runtime.find("/top/monitors/health of f")
    assert monitor is not None
    monitor.cast(CheckNow())
    foreign.kill()
    await settled(runtime)
    assert [change.health for change in changes] == ["dead"]
    assert patient.checks == 1


async def test_the_registry_may_be_away(
    runtime: Runtime, directory: Directory, monitors: Name, foreign: Ref, patient: Patient, changes: list[HealthChanged]
) -> None:
    """A change of health that the registry cannot take in is noted after the next check; the event comes at once."""
    await setup_monitoring(monitors, directory, "f", check=patient, interval=10.0)
    await advance(1)

    registry = runtime.whereis("registry")
    assert registry is not None

    async def lose_the_registry() -> bool:
        runtime.unregister("registry")
        return False

    patient.says = lose_the_registry
    await advance(10)
    assert [change.health for change in changes] == ["degraded"]
    assert health(directory) == "healthy"
    runtime.register("registry", registry)
    patient.says = False
    await advance(10)
    assert health(directory) == "degraded"


async def test_a_restarted_monitor_goes_on(
    runtime: Runtime, directory: Directory, monitors: Name, foreign: Ref, patient: Patient, changes: list[HealthChanged]
) -> None:
    """A monitor that is killed is restarted, and begins with the health that the registry has."""
    patient.says = False
    monitor = await setup_monitoring(monitors, directory, "f", check=patient, interval=10.0)
    await advance(1)
    monitor.kill()
    patient.says = True
    await advance(1)
    assert health(directory) == "healthy"
    assert [(change.before, change.health) for change in changes] == [("healthy", "degraded"), ("degraded", "healthy")]


async def test_a_monitor_restarted_too_late(
    runtime: Runtime, directory: Directory, monitors: Name, foreign: Ref, patient: Patient, changes: list[HealthChanged]
) -> None:
    """A monitor that is restarted after the end of its actor says so and ends."""
    monitor = await setup_monitoring(monitors, directory, "f", check=patient)
    foreign.kill()
    monitor.kill()
    await settled(runtime)
    assert [change.health for change in changes] == ["dead"]
    assert (await count_children(monitors)).active == 0


async def test_wrong_arguments_monitor_nobody(
    runtime: Runtime, directory: Directory, monitors: Name, foreign: Ref
) -> None:
    """An unknown key, an actor registered without a health, and times and thresholds that are none, are named."""
    with pytest.raises(KeyNotFound):
        await setup_monitoring(monitors, directory, "nobody")
    await directory.register("bare", foreign, {"health": "healthy"})
    with pytest.raises(BadOption, match="register_agent"):
        await setup_monitoring(monitors, directory, "bare")
    for wrong in ({"interval": 0}, {"limit": -1.0}):
        with pytest.raises(BadTime, match=next(iter(wrong))):
            await setup_monitoring(monitors, directory, "f", **wrong)
    for count in ("degraded_after", "unresponsive_after", "healthy_after"):
        for value in (0, True, 1.5):
            with pytest.raises(BadOption, match=count):
                Thresholds(**cast("Any", {count: value}))
    with pytest.raises(BadTime, match="slow"):
        Thresholds(slow=0.0)
    assert (await count_children(monitors)).active == 0


OUTCOMES = st.lists(st.sampled_from("gbs"), max_size=30)


@given(OUTCOMES, st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_health_by_definition(outcomes: list[str], degraded: int, unresponsive: int, healthy: int) -> None:
    """Health is what the last run of equal outcomes says, if it is long enough, and else what it was."""
    record = HealthRecord(Thresholds(degraded, unresponsive, healthy), "healthy")
    seen = ""
    before: HealthStatus = "healthy"
    say: dict[str, Callable[[], CheckResult]] = {
        "g": lambda: CheckResult(answered=True),
        "b": lambda: CheckResult(answered=True, why="bad"),
        "s": lambda: CheckResult(answered=False, why="silence"),
    }
    for outcome in outcomes:
        seen += outcome
        silent = len(seen) - len(seen.rstrip("s"))
        bad = len(seen) - len(seen.rstrip("bs"))
        good = len(seen) - len(seen.rstrip("g"))
        if silent >= unresponsive:
            before = "unresponsive"
        elif bad >= degraded:
            before = "degraded"
        elif good >= healthy:
            before = "healthy"
        assert record.add(say[outcome]()) == before
