"""Timers of durable agents last: never early, none lost, each once; and what becomes of missed ticks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from agents import (
    Action,
    AgentHandle,
    AgentType,
    Context,
    Cron,
    Direct,
    Emit,
    Result,
    Schedule,
    Signal,
    TicksMissed,
    TimerDropped,
    Unschedule,
    start_agent,
)
from agents.core.cron import CronSchedule
from agents.durability import AgentCommit, Durability, EverySeconds, MemoryStorage, StorageError
from agents.instances import start_instances
from agents.server import kept_timers
from supervision import Runtime
from supervision.errors import BadOption, BadTime
from supervision.testing import VirtualClockLoop, advance, settled
from tests.agents.kinds import Listener


class State(msgspec.Struct, frozen=True):
    """The signals that have come, and what their extensions said."""

    log: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()


#: What `Ask` returns next, and how often `Tick` is still to fail.
NEXT: list[Any] = []
FAILURES: list[int] = []


class Return(Action[None]):
    """Return a directive."""

    def run(self, context: Context[State]) -> Result[None]:
        """Return it."""
        return Result(None, tuple(NEXT))


class Tick(Action[State]):
    """Note the signal, and what it says of missed ones."""

    def run(self, context: Context[State]) -> State:
        """Note it."""
        assert context.signal is not None
        if FAILURES:
            FAILURES.pop()
            raise RuntimeError("not now")
        signal, told = context.signal, context.signal.extensions
        missed = f" {told['missed']} {clock(told['first'])}-{clock(told['last'])}" if "missed" in told else ""
        state = context.state
        return State((*state.log, f"{signal.type}{missed}"), (*state.ids, signal.id))


def clock(seconds: float) -> str:
    """Return a time of the day."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M")


class Ticking(AgentType[State]):
    """Has timers."""

    name = "ticking"
    routes = {"set": Return, "tick": Tick, "tock": Tick}


class Watched(MemoryStorage):
    """Notes who looks for what is due, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[str] = []
        self.fails = 0

    async def due(self, prefix: str, until: int, after: str = "", limit: int = 1000) -> list[str]:
        """Note it."""
        self.looks.append(prefix)
        if self.fails:
            self.fails -= 1
            raise StorageError("it cannot be read")
        return await super().due(prefix, until, after, limit)


@pytest.fixture
def storage() -> Watched:
    """Where the agents of a test are kept."""
    FAILURES.clear()
    return Watched()


async def started(runtime: Runtime, storage: Any, kind: Any = Ticking, **options: Any) -> AgentHandle[State]:
    """Start an agent that is kept."""
    return await start_agent(runtime, kind, id="t", durability=Durability(storage, **options))


async def set_timers(agent: AgentHandle[State], *directives: Any) -> Any:
    """Have an agent return directives."""
    NEXT[:] = directives
    return await agent.call(agent.signal("set"))


async def restarted_after(
    runtime: Runtime, storage: Any, agent: AgentHandle[State], seconds: float, kind: Any = Ticking
) -> AgentHandle[State]:
    """Kill an agent, and start it again some seconds later."""
    assert agent.view.ref is not None
    agent.view.ref.kill()
    await advance(seconds)
    again = await started(runtime, storage, kind)
    await advance(0.01)
    return again


async def at(runtime: Runtime, time: str) -> None:
    """Wait until it is a time of the day."""
    day = datetime.fromtimestamp(runtime.clock.wall_time(), UTC)
    hour, minute = map(int, time.split(":"))
    due = day.replace(hour=hour, minute=minute, second=0, microsecond=0).timestamp()
    await advance(due - runtime.clock.wall_time())


# -- once --------------------------------------------------------------------------------------------------------------


async def test_a_timer_is_never_early_and_comes_once(runtime: Runtime, storage: Watched) -> None:
    """Also where its agent is killed again and again."""
    agent = await started(runtime, storage)
    await set_timers(agent, Schedule(100.0, "tick"), Schedule(200.0, "tock", id="x"))
    for _ in range(9):
        agent = await restarted_after(runtime, storage, agent, 11.0)
    assert agent.state.log == ()
    agent = await restarted_after(runtime, storage, agent, 11.0)
    assert agent.state.log == ("tick",)
    agent = await restarted_after(runtime, storage, agent, 300.0)
    assert agent.state.log == ("tick", "tock")
    await advance(1000.0)
    assert agent.state.log == ("tick", "tock")


async def test_D045_a_timer_that_is_taken_back_never_comes(runtime: Runtime, storage: Watched) -> None:
    """Also when it is just about to, or in the turn that asked for it; D047: one with its id takes its place."""
    agent = await started(runtime, storage)
    await set_timers(agent, Schedule(10.0, "tick", id="x"), Schedule(5.0, "tick", id="y"), Unschedule("y"))
    await advance(9.999)
    await set_timers(agent, Unschedule("x"))
    await advance(100.0)
    assert agent.state.log == ()
    await set_timers(agent, Schedule(10.0, "tick", id="x"))
    await advance(9.999)
    await set_timers(agent, Schedule(60.0, "tock", id="x"))
    await advance(59.0)
    assert agent.state.log == ()
    await advance(2.0)
    assert agent.state.log == ("tock",)


async def test_D051_one_that_nobody_wants_any_more_is_dropped(runtime: Runtime, storage: Watched) -> None:
    """And told of; one without an end comes however late."""
    events: list[TimerDropped] = []
    runtime.events.subscribe(events.append, TimerDropped)  # type: ignore[arg-type]
    agent = await started(runtime, storage)
    await set_timers(agent, Schedule(10.0, "tick", id="x", expires=60.0), Schedule(10.0, "tock"))
    agent = await restarted_after(runtime, storage, agent, 3600.0)
    assert (agent.state.log, [one.timer for one in events]) == (("tock",), ["x"])
    await advance(1.0)
    await restarted_after(runtime, storage, agent, 1.0)
    assert len(events) == 1
    with pytest.raises(BadTime):
        Schedule(1.0, "tick", expires=-1.0)


async def test_what_is_saved_later_is_set_later(runtime: Runtime, storage: Watched) -> None:
    """And comes in time; one whose turn was forgotten does not come."""
    agent = await started(runtime, storage, policy=EverySeconds(5.0))
    await set_timers(agent, Schedule(1.0, "tick"))
    await advance(4.0)
    assert agent.state.log == ()
    await advance(2.0)
    assert agent.state.log == ("tick",)


# -- again and again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missed", "log"),
    [
        ("once", ["tick 12 09:05-10:00"]),
        ("skip", []),
        ("all", ["tick"] * 12),
    ],
)
async def test_D052_missed_ticks(runtime: Runtime, storage: Watched, missed: Any, log: list[str]) -> None:
    """One signal for all, none, or each, with an id of its own; the next one is the next one."""
    events: list[TicksMissed] = []
    runtime.events.subscribe(events.append, TicksMissed)  # type: ignore[arg-type]
    await at(runtime, "09:00")
    agent = await started(runtime, storage)
    await set_timers(agent, Cron("*/5 * * * *", "tick", missed=missed))
    await at(runtime, "09:02")
    assert agent.view.ref is not None
    agent.view.ref.kill()
    await at(runtime, "10:01")
    await advance(20.0)
    agent = await started(runtime, storage)
    await advance(0.01)
    assert list(agent.state.log) == log
    assert len(set(agent.state.ids)) == len(log)
    await at(runtime, "10:04")
    assert len(agent.state.log) == len(log)
    await at(runtime, "10:06")
    assert len(agent.state.log) == len(log) + 1
    assert [one.ticks for one in events] == ([] if missed == "all" else [12])


async def test_of_very_many_missed_ticks_some_come_one_by_one(
    runtime: Runtime, storage: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one for the rest: no cost that grows with the past."""
    monkeypatch.setattr(kept_timers, "COUNTED", 5)
    agent = await started(runtime, storage)
    await set_timers(agent, Cron("* * * * *", "tick", missed="all"))
    agent = await restarted_after(runtime, storage, agent, 3600.0)
    assert len(agent.state.log) == 6
    assert agent.state.log[-1].startswith("tick 5")
    await advance(60.0)
    assert agent.state.log[-1] == "tick"
    assert len(agent.state.log) == 7


async def test_D054_a_little_late_is_not_missed(runtime: Runtime, storage: Watched) -> None:
    """Up to the grace; behind it the policy holds."""
    await at(runtime, "09:00")
    agent = await started(runtime, storage)
    await set_timers(agent, Cron("0 * * * *", "tick"))
    await at(runtime, "09:59")
    agent = await restarted_after(runtime, storage, agent, 60.0 + 59.0)
    assert agent.state.log == ("tick",)
    await at(runtime, "10:59")
    agent = await restarted_after(runtime, storage, agent, 60.0 + 61.0)
    assert agent.state.log[1:] == ("tick 1 11:00-11:00",)
    with pytest.raises(BadOption):
        Cron("* * * * *", "tick", missed="never")  # type: ignore[arg-type]
    with pytest.raises(BadTime):
        Cron("* * * * *", "tick", grace=-1.0)


def test_D055_a_time_that_a_change_of_clocks_leaves_out_is_left_out() -> None:
    """And one that comes twice comes once."""
    schedule = CronSchedule("30 2 * * *", "Europe/Prague")
    for before, after in (
        (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 30, 0, 30, tzinfo=UTC)),
        (datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), datetime(2026, 10, 26, 1, 30, tzinfo=UTC)),
    ):
        assert datetime.fromtimestamp(schedule.next_after(before.timestamp()), UTC) == after


@pytest.mark.parametrize("overlap", ["skip", "queue"])
async def test_a_job_goes_on_from_where_it_was(runtime: Runtime, storage: Watched, overlap: Any) -> None:
    """The same one again leaves what is due; another one with its id takes its place."""
    await at(runtime, "09:00")
    agent = await started(runtime, storage)
    job = Cron("0 * * * *", "tick", overlap=overlap)
    await set_timers(agent, job)
    await at(runtime, "10:00")
    await advance(1.0)
    await set_timers(agent, job)
    await at(runtime, "11:01")
    assert agent.state.log == ("tick", "tick")
    await set_timers(agent, Cron("30 * * * *", "tock", id="tick"))
    await at(runtime, "12:01")
    assert agent.state.log == ("tick", "tick", "tock")


async def test_D057_D058_a_clock_that_is_set(runtime: Runtime, storage: Watched) -> None:
    """Back: no second tick, the next one by its time. Forward: what is due comes within half a minute."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    await at(runtime, "09:00")
    agent = await started(runtime, storage)
    await set_timers(agent, Cron("0 * * * *", "tick"))
    await at(runtime, "10:00")
    await advance(1.0)
    assert agent.state.log == ("tick",)
    loop.set_wall_time(runtime.clock.wall_time() - 3600.0)
    await advance(3700.0)
    assert agent.state.log == ("tick",)
    await advance(3600.0)
    assert len(agent.state.log) == 2
    loop.set_wall_time(runtime.clock.wall_time() + 3600.0)
    await advance(31.0)
    assert len(agent.state.log) == 3


async def test_D059_a_tick_whose_turn_fails_comes_again(runtime: Runtime, storage: Watched) -> None:
    """After a pause, with the same id; the next one is not lost."""
    await at(runtime, "09:00")
    agent = await started(runtime, storage)
    await set_timers(agent, Cron("0 * * * *", "tick"), Schedule(100.0, "tock"))
    FAILURES[:] = [1, 2]
    await advance(101.0)
    assert agent.state.log == ("tock",)
    FAILURES[:] = [1, 2]
    await at(runtime, "10:00")
    await advance(0.1)
    assert agent.state.log == ("tock",)
    await advance(1.0)
    assert agent.state.log == ("tock", "tick")
    await at(runtime, "11:00")
    await advance(1.0)
    assert agent.state.log == ("tock", "tick", "tick")


async def test_a_tick_whose_turn_fails_for_a_day_is_given_up(runtime: Runtime, storage: Watched) -> None:
    """And told of; the job goes on."""
    events: list[TimerDropped] = []
    runtime.events.subscribe(events.append, TimerDropped)  # type: ignore[arg-type]
    agent = await started(runtime, storage)
    await set_timers(agent, Cron("0 0 2,5 * *", "tick"), Schedule(100.0, "tock", id="once"))
    FAILURES[:] = [1] * 100_000
    await advance(3 * 24 * 3600.0)
    assert [one.timer for one in events] == ["once", "tick"]
    FAILURES.clear()
    await advance(2 * 24 * 3600.0)
    assert agent.state.log == ("tick",)


async def test_a_tick_that_cannot_be_saved_comes_again(runtime: Runtime) -> None:
    """As one whose action has failed does; one that is replaced in the meantime does not."""

    class Moody(MemoryStorage):
        fails = False

        async def commit(self, commit: AgentCommit) -> None:
            if self.fails:
                raise StorageError("full")
            await super().commit(commit)

    storage = Moody()
    agent = await started(runtime, storage)
    await set_timers(agent, Schedule(10.0, "tick"))
    storage.fails = True
    await advance(11.0)
    assert agent.state.log == ()
    storage.fails = False
    await advance(60.0)
    assert agent.state.log == ("tick",)


async def test_a_tick_that_nobody_hears_is_over(runtime: Runtime, storage: Watched) -> None:
    """It does not come again and again."""
    agent = await started(runtime, storage)
    await set_timers(agent, Schedule(10.0, "nobody.hears"), Cron("* * * * *", "nobody.hears.either"))
    await advance(70.0)
    loaded = await storage.load("/ticking/t")
    assert loaded is not None
    timers = [row for row in loaded.rows if row.kind == "timer"]
    assert [row.id for row in timers] == ["nobody.hears.either"]
    assert timers[0].due is not None
    assert timers[0].due / 1000 > runtime.clock.wall_time()
    assert agent.view.ref is not None


class Broken(Action[None]):
    """Fails."""

    def run(self, context: Context[State]) -> None:
        """Fail."""
        raise RuntimeError("broken")


async def test_a_tick_of_which_a_part_is_kept_is_over(runtime: Runtime, storage: Watched) -> None:
    """If the type says that what was done before a failure stays, it is not done again."""

    class Halves(AgentType[State]):
        name = "ticking"
        strategy = Direct("stop")
        routes = {"set": Return, "tick": (Tick, Broken)}

    agent = await started(runtime, storage, Halves)
    await set_timers(agent, Schedule(10.0, "tick"), Cron("* * * * *", "tick", id="x"))
    await advance(130.0)
    assert agent.state.log == ("tick",) * 3


class Replacing(Action[Any]):
    """Fails, though its failure puts another timer in the place of its own."""

    def run(self, context: Context[State]) -> Result[State]:
        """Put it."""
        return Result(State((*context.state.log, "again")), (Schedule(10.0, "again", id="x"),))


async def test_a_timer_that_sets_itself_again_goes_on(runtime: Runtime, storage: Watched) -> None:
    """The new one is not taken away with the old one."""

    class Again(AgentType[State]):
        name = "ticking"
        routes = {"set": Return, "again": Replacing}

    agent = await started(runtime, storage, Again)
    await set_timers(agent, Schedule(10.0, "again", id="x"))
    await advance(35.0)
    assert agent.state.log == ("again",) * 3


async def test_D060_very_many_timers_at_once(runtime: Runtime, storage: Watched) -> None:
    """Each comes once, and others are answered meanwhile."""
    agent = await started(runtime, storage)
    await set_timers(agent, *(Schedule(10.0, "tick", id=str(n)) for n in range(300)))
    await advance(10.0)
    assert (await set_timers(agent)).errors == ()
    await settled(runtime)
    assert len(agent.state.log) == 300
    assert len(set(agent.state.ids)) == 300


# -- declared ones -----------------------------------------------------------------------------------------------------


async def test_D062_what_a_type_declares_is_what_is_kept(runtime: Runtime, storage: Watched) -> None:
    """One that is gone from it is dropped, and told of; a changed one is replaced; one of the agent's own stays."""
    events: list[TimerDropped] = []
    runtime.events.subscribe(events.append, TimerDropped)  # type: ignore[arg-type]

    def declaring(*crons: Cron) -> Any:
        class Declaring(Ticking):
            schedules = crons

        return Declaring

    before = declaring(Cron("0 * * * *", "tick"), Cron("10 * * * *", "tock", id="gone"))
    after = declaring(Cron("30 * * * *", "tick"))
    await at(runtime, "09:00")
    agent = await started(runtime, storage, before)
    await set_timers(agent, Cron("20 * * * *", "tock", id="own"))
    agent = await restarted_after(runtime, storage, agent, 1.0, after)
    assert [one.timer for one in events] == ["gone"]
    await at(runtime, "09:59")
    assert agent.state.log == ("tock", "tick")
    agent = await restarted_after(runtime, storage, agent, 1.0, after)
    await at(runtime, "10:31")
    assert agent.state.log == ("tock", "tick", "tock", "tick")
    assert len(events) == 1


# -- instances that sleep ----------------------------------------------------------------------------------------------


async def test_D049_an_instance_that_sleeps_is_woken_for_its_timer(runtime: Runtime, storage: Watched) -> None:
    """Not before it is due, once, and also where the program was started anew; when there is nothing, nobody looks."""
    ticking = await start_instances(runtime, Ticking, durability=Durability(storage), idle_timeout=3.0)
    await ticking.get("other")
    agent = await ticking.get("t")
    await set_timers(agent, Schedule(10.0, "tick"), Schedule(7200.0, "tock"))
    await advance(9.5)
    assert ticking.lookup("t") is None
    await advance(1.0)
    assert ticking.lookup("t") is not None
    assert (await ticking.get("t")).state.log == ("tick",)
    await advance(7000.0)
    assert ticking.lookup("t") is None
    ticking.address.kill()
    await settled(runtime)
    await advance(1000.0)
    again = await start_instances(runtime, Ticking, durability=Durability(storage), idle_timeout=3.0)
    await advance(1.0)
    assert (await again.get("t")).state.log == ("tick", "tock")
    await advance(100.0)
    looked = len(storage.looks)
    await advance(10_000.0)
    assert len(storage.looks) == looked
    assert again.lookup("t") is None


async def test_an_instance_with_something_to_send_stays_awake(runtime: Runtime, storage: Watched) -> None:
    """Unless it is told to sleep: then it is woken again for it."""
    durability = Durability(storage, EverySeconds(5.0))
    ticking = await start_instances(runtime, Ticking, durability=durability, idle_timeout=3.0)
    agent = await ticking.get("t")
    await set_timers(agent, Emit("hello", to="listener"))
    await advance(60.0)
    assert ticking.lookup("t") is not None
    assert await ticking.hibernate("t")
    assert ticking.lookup("t") is None
    await advance(2.0)
    assert ticking.lookup("t") is not None
    got: list[Signal] = []
    await runtime.spawn(Listener, got, name="listener")
    await advance(1.0)
    assert [one.type for one in got] == ["hello"]
    await advance(10.0)
    assert ticking.lookup("t") is None


async def test_what_is_saved_on_the_way_to_sleep_is_carried_out(runtime: Runtime, storage: Watched) -> None:
    """Before it sleeps; an instance that has another owner ends."""
    ticking = await start_instances(runtime, Ticking, durability=Durability(storage, EverySeconds(500.0)))
    agent = await ticking.get("t")
    got: list[Signal] = []
    await runtime.spawn(Listener, got, name="listener")
    await set_timers(agent, Emit("hello", to="listener"))
    assert await ticking.hibernate("t")
    await advance(5.0)
    assert [one.type for one in got] == ["hello"]
    await ticking.hibernate("t")
    agent = await ticking.get("t")
    await set_timers(agent, Emit("hello", to="listener"))
    await storage.claim("/ticking/t", "other")
    assert await ticking.hibernate("t")
    assert ticking.lookup("t") is None


async def test_an_instance_that_cannot_be_woken_is_tried_again(runtime: Runtime, storage: Watched) -> None:
    """And so is a storage that cannot be read; nobody else is hurt."""
    agent = await started(runtime, storage)
    await set_timers(agent, Schedule(10.0, "tick"))
    await agent.stop()
    good = storage._kept["/ticking/t"].snapshots
    storage._kept["/ticking/t"].snapshots = dict.fromkeys(good, b"damaged")
    storage.fails = 2
    ticking = await start_instances(runtime, Ticking, durability=Durability(storage))
    await advance(20.0)
    assert ticking.lookup("t") is None
    await advance(100.0)
    assert ticking.lookup("t") is None
    storage._kept["/ticking/t"].snapshots = good
    await advance(100.0)
    assert ticking.lookup("t") is not None


async def test_an_instance_that_runs_is_not_woken(runtime: Runtime, storage: Watched) -> None:
    """Whatever of it is due; one beside it is."""
    ticking = await start_instances(runtime, Ticking, durability=Durability(storage))
    agent, other = await ticking.get("t"), await ticking.get("o")
    await set_timers(agent, Emit("hello", to="listener"))
    await set_timers(other, Schedule(10.0, "tick"))
    await ticking.hibernate("o")
    await advance(11.0)
    assert ticking.lookup("o") is not None
    assert ticking.lookup("t") == agent.address
    assert (await ticking.counts()).started == 3
