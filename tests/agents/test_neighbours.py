"""One agent's trouble is its own: starts and restarts, what user code raises, what works while a turn takes long."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
import structlog

from agents import (
    Action,
    AgentParked,
    AgentServer,
    AgentSupervisor,
    AgentType,
    AmbiguousAgent,
    BadAgentType,
    Chain,
    Context,
    Emit,
    NoRoute,
    NotSaved,
    Plugin,
    Result,
    Sensor,
    SensorContext,
    Signal,
    StartSensor,
    acmd,
    agent_ids,
    cmd,
    connect,
    parked_agents,
    start_agent,
    whereis,
)
from agents.core.directives import Directive
from agents.core.execution import aexecute
from agents.core.failures import is_order
from agents.durability import AgentCommit, Durability, EverySeconds, MemoryStorage, StorageError
from agents.instances import _Get, start_instances
from agents.pool import start_pool
from agents.server import AGENT_SUPERVISOR, Reply, executes
from agents.server.messages import GetView
from agents.signals.messages import Deliver
from supervision import (
    IGNORE,
    Abnormal,
    Actor,
    ActorExited,
    Backoff,
    CallTimeout,
    ChildSpec,
    Exit,
    NoProcess,
    Ref,
    Runtime,
    Shutdown,
    StartError,
    Supervisor,
    count_children,
    start_child,
    system,
    terminate_child,
    which_children,
)
from supervision.events import Started
from supervision.testing import advance, settled
from tests.agents.kinds import Listener


class Held(msgspec.Struct, frozen=True):
    """A state."""

    count: int = 0
    status: str = "running"


class Add(Action[Held]):
    """Count."""

    def run(self, context: Context[Held]) -> Held:
        """Count."""
        return Held(context.state.count + 1)


class Finish(Action[Held]):
    """Be done."""

    def run(self, context: Context[Held]) -> Held:
        """Be done."""
        return Held(context.state.count, "completed")


UNDONE: list[str] = []


class Book(Action[None]):
    """Do something that can be undone."""

    async def run(self, context: Context[Held]) -> None:
        """Do it."""

    def compensate(self, context: Context[Held], done: Any, error: Exception) -> None:
        """Undo it."""
        UNDONE.append(f"{type(error).__name__}: {error}")


class Think(Action[Held]):
    """Take ten minutes."""

    async def run(self, context: Context[Held]) -> Held:
        """Take them."""
        await advance(600.0)
        return Held(context.state.count + 1)


class Thinker(AgentType[Held]):
    """Thinks, and counts."""

    name = "thinker"
    routes = {"think": Think, "add": Add, "finish": Finish, "book": Chain(Book, Think)}


# -- starts and restarts -----------------------------------------------------------------------------------------------


class Away(Plugin[Any]):
    """Cannot start some agents."""

    down: set[str] = set()

    def on_start(self, agent: Any, ref: Any) -> None:
        """Start it, or fail."""
        if agent.id in self.down:
            raise ConnectionError("database away")


class Needy(AgentType[Held]):
    """Needs a database."""

    plugins = (Away,)


@pytest.fixture(autouse=True)
def _up() -> None:
    Away.down.clear()
    UNDONE.clear()


async def test_an_agent_that_cannot_start_is_parked_told_and_tried_again_and_hurts_nobody(runtime: Runtime) -> None:
    """After the restarts of its own budget, each after a longer pause; and it runs again once it can."""
    told: list[AgentParked] = []
    runtime.subscribe(told.append, AgentParked)
    needy = await start_instances(runtime, Needy)
    for n in range(50):
        await needy.get(f"k{n}")
    Away.down.add("k1")
    ref = needy.lookup("k1")
    assert ref is not None
    ref.kill()
    await advance(30.0)
    assert (len(agent_ids(runtime)), len(told)) == (49, 1)
    assert (told[0].id, told[0].path, told[0].retry_every) == ("Needy/k1", "/agents", 60.0)
    (parked,) = parked_agents(runtime)
    assert (parked.id, parked.attempts) == ("Needy/k1", 0)
    assert "database away" in str(parked.reason)
    status = (await system.get_status(runtime.name(AGENT_SUPERVISOR))).status
    assert (status["agents"], list(status["parked"])) == (50, ["Needy/k1"])
    await advance(200.0)
    (parked,) = parked_agents(runtime)
    assert (parked.attempts >= 3, len(told)) == (True, 1)
    with pytest.raises(StartError, match="database away"):
        await needy.get("k1")
    Away.down.clear()
    await advance(61.0)
    assert (needy.lookup("k1") is not None, parked_agents(runtime)) == (True, [])


async def test_whoever_asks_for_a_parked_agent_gets_it_when_it_can_start(runtime: Runtime) -> None:
    """And it is not started a second time afterwards."""
    needy = await start_instances(runtime, Needy)
    Away.down.add("k")
    with pytest.raises(StartError):
        await needy.get("k")
    Away.down.clear()
    await needy.get("k")
    Away.down.add("k")
    ref = needy.lookup("k")
    assert ref is not None
    ref.kill()
    await advance(100.0)
    assert len(parked_agents(runtime)) == 1
    Away.down.clear()
    back = await needy.get("k")
    await advance(100.0)
    assert needy.lookup("k") == back.address
    assert parked_agents(runtime) == []
    assert (await count_children(runtime.name(AGENT_SUPERVISOR))).active == 1


async def test_an_agent_with_a_pause_of_its_own_keeps_it(runtime: Runtime) -> None:
    """And what has long been well is forgotten; nobody is parked where there is no supervisor of agents."""
    assert parked_agents(runtime) == []
    supervisor = await runtime.spawn(AgentSupervisor, max_restarts=3000, max_seconds=5.0, name=AGENT_SUPERVISOR)
    backoff = Backoff(initial=10.0, maximum=10.0, jitter=0.0)
    spec = ChildSpec("a", AgentServer, (Thinker,), {"id": "a"}, backoff=backoff)
    first = await start_child(supervisor, spec)
    assert first is not None
    first.kill()
    await advance(9.0)
    assert whereis(runtime, "a") is None
    await advance(2.0)
    assert whereis(runtime, "a") is not None
    for n in range(1100):
        ref = await start_child(supervisor, ChildSpec(n, AgentServer, (Thinker,), {"id": str(n)}))
        assert ref is not None
        ref.kill()
        await advance(0.02)
    assert len(runtime.shared[AgentSupervisor]._budgets) < 400
    for wrong in ({"retry_every": 0}, {"backoff": 3}, {"max_restarts": -1}):
        with pytest.raises(Exception, match=next(iter(wrong))):
            await runtime.spawn(AgentSupervisor, **wrong)  # type: ignore[arg-type]
    await supervisor.stop()
    assert parked_agents(runtime) == []


class Stuck(MemoryStorage):
    """Does not read until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()
        self.slow = {"/thinker/slow"}

    async def claim(self, key: str, generation: str) -> Any:
        """Read."""
        if key in self.slow:
            await self.may.wait()
        return await super().claim(key, generation)


async def test_an_agent_that_takes_long_to_start_keeps_no_other_waiting(runtime: Runtime) -> None:
    """Neither the first time, nor when it is started again; who asks for it twice waits for one start."""
    storage = Stuck()
    thinkers = await start_instances(runtime, Thinker, durability=Durability(storage))
    slow = [asyncio.ensure_future(thinkers.get("slow")) for _ in range(2)]
    await settled(runtime)
    await asyncio.wait_for(thinkers.get("quick"), 1.0)
    assert [one.done() for one in slow] == [False, False]
    storage.may.set()
    first, second = await asyncio.gather(*slow)
    assert await thinkers.address.call(_Get("slow", None)) == first.address
    assert (first.address, (await thinkers.counts()).started) == (second.address, 2)
    storage.may.clear()
    assert isinstance(first.address, Ref)
    first.address.kill()
    await settled(runtime)
    await asyncio.wait_for(thinkers.get("other"), 1.0)
    storage.may.set()
    await settled(runtime)
    assert thinkers.lookup("slow") is not None


async def test_what_is_starting_is_stopped_with_the_supervisor(runtime: Runtime) -> None:
    """Or by itself; one that was stopped while it started again does not come back; one may decline to start."""
    storage = Stuck()
    supervisor = await runtime.spawn(AgentSupervisor, name=AGENT_SUPERVISOR)
    options = {"id": "slow", "durability": Durability(storage)}
    storage.may.set()
    ref = await start_child(supervisor, ChildSpec("slow", AgentServer, (Thinker,), options))
    assert ref is not None
    for _ in range(2):
        storage.may.clear()
        ref.kill()
        await settled(runtime)
        await advance(1.0)
        await terminate_child(supervisor, ref)
        storage.may.set()
        await settled(runtime)
        assert whereis(runtime, "slow") is None
        storage.may.set()
        ref = await start_child(supervisor, ChildSpec("slow", AgentServer, (Thinker,), options))
        assert ref is not None
    storage.slow.add("/thinker/new")
    storage.may.clear()
    new = {"id": "new", "durability": Durability(storage)}
    starting = asyncio.ensure_future(start_child(supervisor, ChildSpec("new", AgentServer, (Thinker,), new)))
    await settled(runtime)
    await supervisor.stop()
    with pytest.raises((ActorExited, StartError)):
        await starting
    storage.may.set()
    await settled(runtime)
    assert agent_ids(runtime) == []


class Moody(Actor):
    """Does at each start what it is told, when it may."""

    def __init__(self, moods: list[Any], may: asyncio.Event) -> None:
        self.moods = moods
        self.may = may

    async def init(self) -> Any:
        """Start, decline, or fail."""
        await self.may.wait()
        mood = self.moods.pop(0)
        if isinstance(mood, Exception):
            raise mood
        return mood


async def test_a_start_that_takes_its_time_may_be_declined_or_fail(runtime: Runtime) -> None:
    """The first one, and the next; also when nobody waits for it any more."""
    supervisor = await runtime.spawn(AgentSupervisor, name=AGENT_SUPERVISOR)
    may = asyncio.Event()
    may.set()
    moods: list[Any] = [IGNORE, ValueError("no"), None, ValueError("not yet"), None, IGNORE]
    spec = ChildSpec("m", Moody, (moods, may))
    assert await start_child(supervisor, spec) is None
    with pytest.raises(StartError):
        await start_child(supervisor, spec)
    ref = await start_child(supervisor, spec)
    assert ref is not None
    ref.kill()
    await advance(5.0)
    (child,) = await which_children(supervisor)
    assert (child.restarts, moods) == (1, [IGNORE])
    assert child.ref is not None
    child.ref.kill()
    await advance(5.0)
    assert await which_children(supervisor) == []
    moods += [None, ValueError("nobody waits for it")]
    ref = await start_child(supervisor, spec)
    assert ref is not None
    may.clear()
    ref.kill()
    await settled(runtime)
    await terminate_child(supervisor, ref)
    may.set()
    await settled(runtime)
    assert (await which_children(supervisor), moods) == ([], [])
    moods.append(None)
    may.clear()
    starting = asyncio.ensure_future(start_child(supervisor, spec))
    await settled(runtime)
    runtime.subscribe(lambda event: event.ref.kill() if event.ref.kind is Moody else None, Started)
    may.set()
    assert (await starting).reason is not None  # type: ignore[union-attr]
    await settled(runtime)
    assert await which_children(supervisor) == []


# -- who is who --------------------------------------------------------------------------------------------------------


class Other(AgentType[Held]):
    """Another type."""


async def test_agents_of_different_types_with_one_key_are_different_agents(runtime: Runtime) -> None:
    """Each is found by its type; whoever does not say which is meant is told so."""
    thinkers, others = await start_instances(runtime, Thinker), await start_instances(runtime, Other)
    one, other = await thinkers.get("joe"), await others.get("joe")
    assert (one.agent.type, other.agent.type) == ("thinker", "Other")
    assert whereis(runtime, "joe", kind=Other) == other.address
    assert (agent_ids(runtime, kind=Thinker), agent_ids(runtime)) == (["joe"], ["joe", "joe"])
    with pytest.raises(AmbiguousAgent, match="thinker, Other"):
        whereis(runtime, "joe")
    blue = [await start_instances(runtime, kind, partition="blue") for kind in (Thinker, Other)]
    for some in blue:
        await some.get("joe")
    with pytest.raises(AmbiguousAgent, match="blue"):
        whereis(runtime, "joe", partition="blue")
    await others.hibernate("joe")
    assert whereis(runtime, "joe") == one.address
    again = await others.get("joe")
    assert again.address != one.address


async def test_two_types_with_one_name_never_share_what_is_saved(runtime: Runtime) -> None:
    """The second one is refused; a later definition of the same type is not."""

    def define() -> type[AgentType[Held]]:
        class Twice(AgentType[Held]):
            """One of two."""

        return Twice

    class Twice(AgentType[Held]):
        """Another one."""

    await start_agent(runtime, define(), id="a")
    await start_agent(runtime, define(), id="b")
    with pytest.raises(BadAgentType, match="this name, too"):
        await start_agent(runtime, Twice, id="c")


# -- what user code raises ---------------------------------------------------------------------------------------------


class Cancelling(Action[None]):
    """A library in it cancels its own task."""

    async def run(self, context: Context[Held]) -> None:
        """Wait for what was cancelled."""
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task


class Leaving(Action[None]):
    """Ends the program, or believes so."""

    def run(self, context: Context[Held]) -> None:
        """Try to."""
        raise SystemExit(1)


class Odd(Directive, frozen=True, tag="test_odd"):
    """Raises what it says."""

    late: bool


@executes(Odd)
def odd(server: AgentServer, directive: Odd, signal: Signal) -> Any:
    """Raise at once, or when it is awaited."""

    async def later() -> None:
        raise SystemExit("late")

    if directive.late:
        return later()
    raise asyncio.CancelledError


class Direct(Action[None]):
    """Asks for an odd directive."""

    late: bool = False

    def run(self, context: Context[Held]) -> Result[None]:
        """Ask."""
        return Result(None, (Odd(self.late),))


class Rude(Plugin[Any]):
    """Raises, or returns nonsense, where it is told to."""

    at = ""
    what: Any = SystemExit("rude")

    def _say(self, hook: str, otherwise: Any) -> Any:
        if self.at != hook:
            return otherwise
        if isinstance(self.what, BaseException):
            raise self.what
        return self.what

    def on_signal(self, signal: Signal, agent: Any) -> Any:
        """Raise, or not."""
        return self._say("on_signal", None)

    def provide(self, signal: Signal, agent: Any) -> Any:
        """Raise, or not."""
        return self._say("provide", {})

    def on_emit(self, signal: Signal, agent: Any) -> Any:
        """Raise, or not."""
        return self._say("on_emit", signal)

    def on_reply(self, agent: Any) -> Any:
        """Raise, or not."""
        return self._say("on_reply", agent)

    def on_stop(self, agent: Any, reason: Any) -> None:
        """Raise, or not."""
        self._say("on_stop", None)


class Say(Action[None]):
    """Emits."""

    def run(self, context: Context[Held]) -> Result[None]:
        """Emit."""
        return Result(None, (Emit("said", to="listener"),))


class Bystander(AgentType[Held]):
    """Has all kinds of rude code in it."""

    routes = {"add": Add, "cancelling": Cancelling, "leaving": Leaving, "direct": Direct, "chain": Chain(Book, Leaving)}


class Plugged(AgentType[Held]):
    """Has a rude plugin."""

    plugins = (Rude,)
    routes = {"add": Add, "say": Say, "leaving": Leaving, "cancelling": Cancelling}


async def test_whatever_an_action_or_directive_raises_ends_its_turn_at_most(runtime: Runtime) -> None:
    """Cancellations of its own, and what is no `Exception`; sync or async; and what was done is undone."""
    agent = await start_agent(runtime, Bystander, on_error=lambda error, agent: (_ for _ in ()).throw(SystemExit()))
    for type, data in (
        ("cancelling", {}),
        ("leaving", {}),
        ("direct", {}),
        ("direct", {"late": True}),
        ("chain", {}),
    ):
        reply = await agent.call(agent.signal(type, data))
        errors = reply.errors or (agent.view.last_error,)
        assert errors[0] is not None, type
    assert UNDONE == ["AgentError: it was cut short: SystemExit(1)"]
    agent.cast(agent.signal("leaving"))
    assert (await agent.call(agent.signal("add"))).agent.state.count == 1
    assert agent.address.alive  # type: ignore[union-attr]
    step = cmd(Bystander.new("x"), Leaving())
    assert "SystemExit" in str(step.errors[0].error)
    with pytest.raises(SystemExit):
        await aexecute(Chain(Book, Leaving))
    assert len(UNDONE) == 2


class Unsure(Action[None]):
    """Does something, and cannot undo it."""

    def run(self, context: Context[Held]) -> None:
        """Do it."""

    def compensate(self, context: Context[Held], done: Any, error: Exception) -> None:
        """Fail."""
        raise SystemExit("cannot be undone")


class Yielding(Action[None]):
    """Waits once."""

    async def run(self, context: Context[Held]) -> None:
        """Wait."""
        await asyncio.get_running_loop().create_future()


async def test_what_is_meant_for_others_is_passed_on(runtime: Runtime) -> None:
    """The end of a coroutine; what could not be undone is noted at what cut it short."""
    with pytest.raises(SystemExit) as caught:
        await aexecute(Chain(Unsure, Leaving))
    assert "could not be undone" in caught.value.__notes__[0]
    for work in (aexecute(Chain(Book, Yielding)), acmd(Bystander.new("x"), Chain(Book, Yielding))):
        work.send(None)
        work.close()
    assert UNDONE == []


def test_without_a_loop_a_cancellation_is_a_failure() -> None:
    """There is no task that could be meant."""
    assert not is_order(asyncio.CancelledError())


async def test_whatever_a_hook_raises_or_returns_ends_its_turn_at_most(runtime: Runtime) -> None:
    """Each of them; the error names the plugin and the hook."""
    heard: list[Signal] = []
    await runtime.spawn(Listener, heard, name="listener")
    agent = await start_agent(runtime, Plugged)
    try:
        for what in (SystemExit("rude"), asyncio.CancelledError(), "nonsense"):
            Rude.what = what
            for hook in ("on_signal", "provide"):
                Rude.at = hook
                with pytest.raises(Exception, match=rf"rude.{hook}"):
                    await agent.call(agent.signal("add"))
            Rude.at = "on_emit"
            await agent.call(agent.signal("say"))
            assert "rude.on_emit" in str(agent.view.last_error)
            Rude.at = "on_reply"
            with structlog.testing.capture_logs() as logs:
                assert isinstance(await agent.call(agent.signal("add")), Reply)
            assert [entry["hook"] for entry in logs] == ["on_reply"]
        Rude.at, Rude.what = "on_stop", SystemExit("rude")
        with structlog.testing.capture_logs() as logs:
            await agent.stop()
        assert [entry["hook"] for entry in logs] == ["on_stop"]
        assert (heard, agent.state.count) == ([], 3)
    finally:
        Rude.at = ""


class Flaky(Sensor):
    """Fails in its polls, and with events passed in, by what is no `Exception`."""

    def interval(self) -> float:
        """Poll each second."""
        return 1.0

    def poll(self, context: SensorContext) -> list[Emit]:
        """Fail the first time."""
        context.memory["polls"] = context.memory.get("polls", 0) + 1
        if context.memory["polls"] == 1:
            raise asyncio.CancelledError
        return [Emit("add")]


class Sensing(AgentType[Held]):
    """Has a sensor."""

    plugins = (type("Sense", (Plugin,), {"sensors": (StartSensor("s", Flaky()),)}),)
    routes = {"add": Add}


async def test_a_sensor_goes_on_whatever_it_raises(runtime: Runtime) -> None:
    """With the next poll."""
    agent = await start_agent(runtime, Sensing)
    await advance(3.5)
    assert agent.state.count == 2


# -- busy is not dead --------------------------------------------------------------------------------------------------


async def test_whatever_is_asked_of_a_busy_agent_is_answered(runtime: Runtime) -> None:
    """It is got by its key, connected to, looked at; only what has to be a turn waits for one."""
    thinkers = await start_instances(runtime, Thinker)
    thinker = await thinkers.get("k")
    thinker.cast(thinker.signal("think"))
    await settled(runtime)
    again = await asyncio.wait_for(thinkers.get("k"), 1.0)
    assert isinstance(again.address, Ref)
    assert again.address == thinker.address
    assert (await asyncio.wait_for(connect(again.address, Thinker), 1.0)).state == Held()
    assert again.view.turn is not None
    assert (again.view.turn.signal.type, again.view.turn.since) == ("think", runtime.clock.wall_time())
    with pytest.raises(CallTimeout):
        await again.call(again.signal("add"), 1.0)
    await advance(600.0)
    await settled(runtime)
    assert (again.state.count, again.view.turn) == (1, None)


async def test_a_turn_that_takes_long_can_be_cancelled(runtime: Runtime) -> None:
    """What was done in it is undone, its caller is told, nothing is committed; what waits comes next."""
    thinker = await start_agent(runtime, Thinker)
    thinking = thinker.call(thinker.signal("book"), None)
    await settled(runtime)
    turn = thinker.view.turn
    assert turn is not None
    thinker.cancel("too late")
    thinker.cancel("again")
    (error,) = (await thinking).errors
    assert "the turn for 'book' was cancelled: too late" in str(error.error)
    assert UNDONE == ["AgentError: it was cut short: CancelledError()"]
    turn.cancel("long over")
    thinker.cancel()
    assert (await thinker.call(thinker.signal("add"))).agent.state.count == 1
    assert thinker.agent.version == 1


async def test_handles_by_name_follow_restarts(runtime: Runtime) -> None:
    """What is read, watched and waited for is the agent of the present incarnation."""
    options = {"durability": Durability(MemoryStorage())}
    supervisor = await runtime.spawn(Supervisor, [ChildSpec("a", AgentServer, (Thinker,), options, name="a")])
    agent = await connect(runtime.name("a"), Thinker)

    async def watch() -> list[int]:
        return [one.state.count async for one in agent.watch()]

    watching = asyncio.ensure_future(watch())
    done = asyncio.ensure_future(agent.completed(None))
    await settled(runtime)
    await agent.call(agent.signal("add"))
    await settled(runtime)
    runtime.whereis("a").kill()  # type: ignore[union-attr]
    await settled(runtime)
    await agent.call(agent.signal("add"))
    await settled(runtime)
    assert (agent.state.count, agent.status().version) == (2, 2)
    await agent.call(agent.signal("finish"))
    assert (await done).status == "completed"
    again = await start_agent(runtime, Thinker, name="b")
    waiting = asyncio.ensure_future((await connect(runtime.name("b"), Thinker)).completed(None))
    await settled(runtime)
    await again.stop()
    with pytest.raises(ActorExited):
        await waiting
    await supervisor.stop()
    assert await watching == [0, 1, 1, 2, 2]
    assert agent.state.status == "completed"
    with pytest.raises(NoProcess):
        await agent.stop()


async def test_a_pool_hands_out_no_worker_that_is_busy_or_has_just_died(runtime: Runtime) -> None:
    """One that was given back in the middle of a turn is free when that is over; one that crashed, when it is back."""
    pool = await start_pool(runtime, Thinker, 2)
    with pytest.raises(CallTimeout):
        await pool.call(pool.signal("think"), 1.0)
    await settled(runtime)
    assert (await pool.status()).available == 1
    async with pool.worker() as idle:
        assert idle.view.turn is None
        with pytest.raises(CallTimeout):
            async with pool.worker(1.0):
                pass
    await advance(600.0)
    await settled(runtime)
    assert (await pool.status()).available == 2
    async with pool.worker() as one:
        pass
    await settled(runtime)
    one.cast(one.signal("think"))
    async with pool.worker() as other:
        assert other.address != one.address
    await settled(runtime)
    async with pool.worker() as again:
        assert again.address == other.address
    await settled(runtime)
    dead = other.view.ref
    assert dead is not None
    dead.kill()
    assert (await pool.call(pool.signal("add"))).agent.state.count >= 1
    other.view.ref.exit(Abnormal("boom"))  # type: ignore[union-attr]
    await advance(1.0)
    assert (await pool.status()).available == 1
    await advance(600.0)
    await settled(runtime)
    assert (await pool.status()).available == 2


async def test_a_worker_that_was_taken_away_is_said_to_be_gone(runtime: Runtime) -> None:
    """The others go on."""
    pool = await start_pool(runtime, Thinker, 2)
    supervisor = next(ref for ref in runtime.actors() if isinstance(ref, Ref) and ref.kind is AgentSupervisor)
    async with pool.worker() as worker:
        pass
    with structlog.testing.capture_logs() as logs:
        await terminate_child(supervisor, worker.address)
        await settled(runtime)
    assert [entry["event"] for entry in logs] == ["pool_worker_gone"]
    assert (await pool.status()).available == 1
    assert (await pool.call(pool.signal("add"))).agent.state.count == 1


# -- sleeping ----------------------------------------------------------------------------------------------------------


class Remote(MemoryStorage):
    """Takes its time to write, and can be away."""

    away = False

    async def commit(self, commit: AgentCommit) -> None:
        """Write."""
        await advance(0.5)
        if self.away:
            raise StorageError("away")
        await super().commit(commit)


async def test_nothing_acknowledged_is_lost_between_asleep_and_awake(runtime: Runtime) -> None:
    """What comes while an instance is saved is handled first, and who asks for it then gets the one that has it all."""
    storage = Remote()
    thinkers = await start_instances(runtime, Thinker, durability=Durability(storage, EverySeconds(60.0)))
    thinker = await thinkers.get("k")
    await thinker.call(thinker.signal("add"))
    asleep = asyncio.ensure_future(thinkers.hibernate("k"))
    await settled(runtime)
    woken = await thinkers.get("k")
    assert (await woken.call(woken.signal("add"))).agent.state.count == 2
    assert await asleep
    assert (await thinkers.get("k")).state.count == 2
    storage.away = True
    thinker = await thinkers.get("k")
    await thinker.call(thinker.signal("add"))
    with pytest.raises(NotSaved):
        await thinkers.hibernate("k")
    assert (await thinkers.get("k")).state.count == 3


async def test_who_asks_for_an_instance_that_ends_gets_the_next_one(runtime: Runtime) -> None:
    """When the one before has been saved; meanwhile nobody finds it."""
    storage = Remote()
    thinkers = await start_instances(runtime, Thinker, durability=Durability(storage, EverySeconds(60.0)))
    thinker = await thinkers.get("k")
    await thinker.call(thinker.signal("add"))
    ending = asyncio.ensure_future(thinker.stop())
    await settled(runtime)
    assert thinkers.lookup("k") is None
    following = asyncio.ensure_future(thinkers.get("k"))
    await settled(runtime)
    assert not following.done()
    await ending
    assert (await following).state.count == 1


async def test_an_idle_instance_that_cannot_be_saved_stays(runtime: Runtime) -> None:
    """And sleeps once it can."""
    storage = Remote()
    durability = Durability(storage, EverySeconds(600.0))
    thinkers = await start_instances(runtime, Thinker, durability=durability, idle_timeout=10.0)
    thinker = await thinkers.get("k")
    await thinker.call(thinker.signal("add"))
    storage.away = True
    await advance(15.0)
    assert thinkers.lookup("k") is not None
    storage.away = False
    await advance(15.0)
    assert thinkers.lookup("k") is None
    assert (await thinkers.get("k")).state.count == 1


async def test_an_instance_to_which_something_comes_while_it_falls_asleep_stays(runtime: Runtime) -> None:
    """It handles that, and sleeps when it has been idle again."""
    storage = Remote()
    durability = Durability(storage, EverySeconds(600.0))
    thinkers = await start_instances(runtime, Thinker, durability=durability, idle_timeout=10.0)
    thinker = await thinkers.get("k")
    await thinker.call(thinker.signal("add"))
    await advance(10.2)
    assert (await thinker.call(thinker.signal("add"))).agent.state.count == 2
    assert thinkers.lookup("k") is not None
    await advance(15.0)
    assert thinkers.lookup("k") is None
    assert (await thinkers.get("k")).state.count == 2


async def _twice(agent: Any) -> None:
    for _ in range(2):
        await agent.call(Signal(type="add", source="/", id="1"))


async def _delivered_twice(agent: Any) -> None:
    for _ in range(2):
        await agent.address.call(Deliver(Signal(type="add", source="/", id="2"), "s>k", 1, 1))


async def _unknown(agent: Any) -> None:
    with pytest.raises(NoRoute):
        await agent.call(agent.signal("nobody.knows"))


async def _linked(agent: Any) -> None:
    agent.address.cast(Exit(agent.address, Shutdown()))


@pytest.mark.parametrize(
    "look",
    [
        lambda agent: agent.address.call(GetView()),
        lambda agent: agent.dead_effects(),
        lambda agent: agent.redrive(),
        lambda agent: agent.debug(5),
        _twice,
        _delivered_twice,
        _unknown,
        _linked,
    ],
    ids=["view", "dead effects", "redrive", "debug", "signal twice", "number twice", "no route", "exit"],
)
async def test_an_instance_that_is_only_looked_at_sleeps_all_the_same(runtime: Runtime, look: Any) -> None:
    """A message that changes nothing does not keep it awake for ever."""
    thinkers = await start_instances(runtime, Thinker, durability=Durability(MemoryStorage()), idle_timeout=10.0)
    await look(await thinkers.get("k"))
    await advance(25.0)
    assert thinkers.lookup("k") is None
