"""What a durable agent decides to send is sent: at least once, once for receivers with tokens, in order."""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import pairwise
from typing import Any

import httpx
import msgspec
import pytest

from agents import (
    Action,
    AdoptChild,
    AgentHandle,
    AgentServer,
    AgentType,
    Attempts,
    AwaitReply,
    Branch,
    Chain,
    Context,
    Directive,
    EffectDead,
    Emit,
    Failure,
    NoToken,
    Parallel,
    Plugin,
    Reply,
    Result,
    RunInstruction,
    Schedule,
    Sensor,
    Signal,
    SignalsForgotten,
    Spawn,
    SpawnAgent,
    StartSensor,
    StopChild,
    Withdraw,
    connect,
    execute,
    start_agent,
    whereis,
)
from agents.core import execution
from agents.core.tokens import Origin
from agents.durability import (
    AgentCommit,
    Durability,
    EverySeconds,
    EveryTurns,
    MemoryStorage,
    StorageError,
)
from agents.server import executes
from agents.server import inbox as inbox_module
from agents.server import outbox as outbox_module
from agents.server.effects import Effect, directive_of, path_of, read_effect, work_data, work_of
from agents.server.messages import Ask, DirectiveResult, EffectDue, Reset
from agents.signals import Bus, dead_letters, publish, read_log, subscribe
from agents.signals.sinks import Webhook
from supervision import Actor, ActorExited, ChildSpec, Ref, Runtime, Supervisor, system
from supervision.testing import advance, settled
from tests.agents.kinds import Listener


class State(msgspec.Struct, frozen=True):
    """What the agents of these tests know."""

    log: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()


def noted(state: State, line: str) -> State:
    """Return a state with a line more."""
    return msgspec.structs.replace(state, log=(*state.log, line))


#: What `Do` is to return, by the name under which it is asked for.
DIRECTIVES: dict[str, tuple[Any, ...]] = {}


class Do(Action[State]):
    """Note something, and return directives."""

    what: str

    def run(self, context: Context[State]) -> Result[State]:
        """Return them."""
        return Result(noted(context.state, self.what), DIRECTIVES[self.what])


class Only(Action[None]):
    """Return directives, and nothing else."""

    what: str

    def run(self, context: Context[State]) -> Result[None]:
        """Return them."""
        return Result(None, DIRECTIVES[self.what])


class Hear(Action[State]):
    """Note the signal."""

    n: int = 0
    fails: bool = False

    def run(self, context: Context[State]) -> State:
        """Note it."""
        assert context.signal is not None
        if self.fails and FAILING:
            raise RuntimeError("not now")
        state = noted(context.state, f"heard {self.n}")
        return msgspec.structs.replace(state, tokens=(*state.tokens, context.signal.id))


#: While something is in it, `Hear(fails=True)` fails.
FAILING: list[int] = []


class Note(Action[State]):
    """Note the type of the signal, and some of its data."""

    status: str = ""
    token: str = ""
    in_time: bool | None = None
    tag: str = ""

    def run(self, context: Context[State]) -> State:
        """Note it."""
        assert context.signal is not None
        told = "" if self.in_time is None else f" {self.in_time}"
        words = f"{context.signal.type} {self.status}{self.tag}".strip()
        return noted(context.state, f"{words}{told}")


class Teller(AgentType[State]):
    """Does what it is told."""

    name = "teller"
    routes = {
        "do": Do,
        "only": Only,
        "hear": Hear,
        "late": Note,
        "answer": Note,
        "agent.effect.*": Note,
        "agent.child.exit": Note,
    }


@pytest.fixture
def storage() -> MemoryStorage:
    """Where the agents of a test are kept."""
    FAILING.clear()
    return MemoryStorage()


async def started(runtime: Runtime, storage: Any, id: str = "a", **options: Any) -> AgentHandle[State]:
    """Start an agent that is kept, under its id as its name."""
    given = {name: options.pop(name) for name in ("emit_to", "partition") if name in options}
    kind = options.pop("kind", Teller)
    return await start_agent(runtime, kind, id=id, name=id, durability=Durability(storage, **options), **given)


async def do(agent: AgentHandle[State], *directives: Any, only: bool = False) -> Reply[State]:
    """Have an agent return directives."""
    what = f"do {len(DIRECTIVES)}"
    DIRECTIVES[what] = directives
    return await agent.call(agent.signal("only" if only else "do", {"what": what}))


def emits(*numbers: int, to: str | None = "b", **data: Any) -> tuple[Emit, ...]:
    """Return directives that send numbers."""
    return tuple(Emit("hear", {"n": n, **data}, to=to) for n in numbers)


def killed(agent: AgentHandle[Any]) -> None:
    """Kill a server."""
    assert agent.view.ref is not None
    agent.view.ref.kill()


def heard(agent: AgentHandle[State]) -> list[str]:
    """Return what an agent has heard."""
    return [line for line in agent.state.log if line.startswith("heard")]


async def until_sent(seconds: float = 1.0) -> None:
    """Wait until deliveries are over, and what was marked is written."""
    await advance(seconds)


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_D007_tokens_of_different_agents_differ() -> None:
    """However their names are put together."""
    first, second = Origin("a", "bc", "d", "", "/", "1"), Origin("ab", "c", "d", "", "/", "1")
    assert first.token("e", "0") != second.token("e", "0")
    assert first.token("e", "0") != first.token("u", "0")


class Book(Action[dict[str, Any]]):
    """Keep the tokens that it sees."""

    attempts = Attempts(retries=2, backoff=0.01)

    async def run(self, context: Context[Any]) -> dict[str, Any]:
        """Fail twice."""
        TOKENS.append((context.token, context.token_for("charge")))
        if len(TOKENS) < 3:
            raise RuntimeError("not yet")
        return {}


class Check(Action[None]):
    """Keep the tokens that it sees."""

    def run(self, context: Context[Any]) -> None:
        """Keep them."""
        TOKENS.append((context.token, context.token_for("charge")))


TOKENS: list[tuple[str, str]] = []


async def test_D008_a_token_is_the_same_in_each_try_and_another_in_each_step(runtime: Runtime) -> None:
    """Also in steps side by side, and in a second action of the turn; without a signal there is none."""

    class Booking(AgentType[State]):
        routes = {"go": Chain(Book, Check, Parallel(Check, Check)), "two": (Check, Check), "**": Check}

    TOKENS.clear()
    agent = await start_agent(runtime, Booking, id="x", partition="p")
    signal = agent.signal("go")
    await agent.call(signal)
    tries, steps = TOKENS[:3], TOKENS[2:]
    assert len(set(tries)) == 1
    assert len({token for pair in steps for token in pair}) == 2 * len(steps)
    TOKENS.clear()
    await agent.call(agent.signal("two"))
    assert len({token for pair in TOKENS for token in pair}) == 4 + 2
    assert TOKENS[0] == TOKENS[1] or len(TOKENS) == 3
    with pytest.raises(NoToken):
        execute(Check)


async def test_D005_a_signal_has_the_same_id_after_a_restart(runtime: Runtime, storage: MemoryStorage) -> None:
    """Character for character; its source is the agent, and its cause the signal of the turn."""
    agent = await started(runtime, storage, partition="north")
    await do(agent, *emits(1))
    before = [row for row in storage._kept["north/teller/a"].rows.values() if row.kind == "effect"]
    killed(agent)
    agent = await started(runtime, storage, partition="north")
    got: list[Signal] = []
    await runtime.spawn(Listener, got, name="b")
    await until_sent()
    sent = msgspec.msgpack.decode(before[0].body[4:])["signal"]
    assert (got[0].id, got[0].source) == (sent["id"], "/teller/a")
    assert (got[0].id[:4], got[0].extensions["partition"]) == ("ft1-", "north")
    assert "causationid" in got[0].extensions


async def test_an_agent_that_was_deleted_and_begun_anew_has_other_tokens(
    runtime: Runtime, storage: MemoryStorage
) -> None:
    """What it sends is not taken for what the other one has sent."""
    receiver = await started(runtime, storage, "b")
    signal = Signal(type="do", source="/", id="1", data={"what": "anew"})
    DIRECTIVES["anew"] = emits(1)
    for _ in range(2):
        agent = await started(runtime, storage)
        await agent.call(signal)
        await until_sent()
        killed(agent)
        await storage.delete("/teller/a")
    assert (heard(receiver), len(set(receiver.state.tokens))) == (["heard 1"] * 2, 2)


# -- effects -----------------------------------------------------------------------------------------------------------


async def test_D001_a_turn_that_only_schedules_is_kept(runtime: Runtime, storage: MemoryStorage) -> None:
    """Though it changes no state."""
    agent = await started(runtime, storage)
    reply = await do(agent, Schedule(60.0, "late"), only=True)
    assert (reply.kept, agent.agent.version) == (True, 0)
    killed(agent)
    agent = await started(runtime, storage)
    await advance(61.0)
    assert agent.state.log == ("late",)
    await advance(100.0)
    killed(agent)
    agent = await started(runtime, storage)
    await advance(100.0)
    assert agent.state.log == ("late",)


class Dying(MemoryStorage):
    """Kills somebody before or after the n-th commit, or before the one that marks."""

    def __init__(self, number: int, *, before: bool) -> None:
        super().__init__()
        self.number, self.before = number, before
        self.victim: Ref | None = None

    async def commit(self, commit: AgentCommit) -> None:
        """Commit, and kill."""
        mine = commit.key == "/teller/a"
        self.number -= mine
        if mine and self.number == 0 and self.before:
            assert self.victim is not None
            self.victim.kill()
            raise StorageError("killed")
        await super().commit(commit)
        if mine and self.number == 0 and self.victim is not None:
            self.victim.kill()


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("before", [True, False])
async def test_D002_three_signals_are_sent_whenever_their_sender_is_killed(
    runtime: Runtime, number: int, before: bool
) -> None:
    """All of them in order, each once for a receiver that keeps tokens; or none if the caller had no answer."""
    storage = Dying(number, before=before)
    receiver = await started(runtime, MemoryStorage(), "b")
    agent = await started(runtime, storage)
    storage.victim = agent.view.ref
    DIRECTIVES["three"] = emits(1, 2, 3)
    signal = agent.signal("do", {"what": "three"})
    asked = asyncio.ensure_future(agent.call(signal))
    await asyncio.wait([asked])
    answered = asked.exception() is None
    await until_sent()
    agent = (
        await connect(whereis(runtime, "a") or runtime.name("a"))
        if whereis(runtime, "a")
        else await started(runtime, storage)
    )
    await until_sent()
    expected = ["heard 1", "heard 2", "heard 3"]
    assert heard(receiver) in ([expected] if answered else [expected, []])
    again = await agent.call(signal)
    await until_sent()
    assert heard(receiver) == expected
    assert again.duplicate is (number > 1 or not before)


async def test_a_server_that_crashes_behind_its_commit_takes_nothing_back(
    runtime: Runtime, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it knows then is older than what is saved."""
    agent, receiver = await started(runtime, storage), await started(runtime, storage, "b")
    await do(agent)
    with monkeypatch.context() as patch:
        patch.setattr(outbox_module.Outbox, "add", lambda self, effects: 1 / 0)
        with pytest.raises(ActorExited):
            await do(agent, *emits(1))
    again = await started(runtime, storage)
    await until_sent()
    assert (len(again.state.log), heard(receiver)) == (2, ["heard 1"])


class Last(Actor):
    """Has an agent take a turn when the runtime ends."""

    trap_exit = True

    async def terminate(self, reason: Any) -> None:
        """Ask for it."""
        LAST.append(await self.runtime.name("a").call(Ask(Signal(type="do", source="/", id="last", data=LAST_TURN)), 5))


LAST: list[Reply[State]] = []
LAST_TURN = {"what": "last"}


async def test_a_turn_while_the_runtime_ends_is_kept_and_sent_later(runtime: Runtime, storage: MemoryStorage) -> None:
    """Nothing can be sent any more; the turn is committed and answered all the same."""
    DIRECTIVES["last"] = emits(1)
    LAST.clear()
    async with Runtime(watchdog=None, reports=False) as ending:
        first = await started(ending, storage)
        await ending.spawn(Last)
    assert [reply.errors for reply in LAST] == [()]
    assert first.view.ref is not None
    assert first.view.ref.reason is not None
    assert first.view.ref.reason.clean
    receiver, again = await started(runtime, storage, "b"), await started(runtime, storage)
    await until_sent()
    assert (again.state.log, heard(receiver)) == (("last",), ["heard 1"])


async def test_D003_what_was_answered_is_there_after_a_kill(runtime: Runtime, storage: MemoryStorage) -> None:
    """With a turn more."""
    agent = await started(runtime, storage)
    await do(agent)
    killed(agent)
    loaded = await storage.load("/teller/a")
    assert loaded is not None
    assert loaded.turn == 1
    assert len((await started(runtime, storage)).state.log) == 1


async def test_D023_what_is_saved_later_is_sent_later(runtime: Runtime, storage: MemoryStorage) -> None:
    """Neither the state nor what it has sent outlives a kill before the save; both do after it."""
    receiver = await started(runtime, MemoryStorage(), "b")
    for policy in (EveryTurns(3), EverySeconds(5.0)):
        agent = await started(runtime, storage, policy=policy)
        reply = await do(agent, *emits(1), RunInstruction(Check, "answer"))
        assert (reply.kept, reply.pending) == (False, 0)
        await until_sent()
        assert heard(receiver) == []
        killed(agent)
        assert (await started(runtime, storage)).state.log == ()
        await (await connect(runtime.name("a"))).stop()
        await storage.delete("/teller/a")
    agent = await started(runtime, storage, policy=EveryTurns(3))
    for n in (1, 2, 3):
        await do(agent, *emits(n), *((RunInstruction(Check, "answer"),) if n == 2 else ()))
    await until_sent()
    assert heard(receiver) == ["heard 1", "heard 2", "heard 3"]
    assert agent.state.log[-1] == "answer ok"


async def test_D036_destinations_do_not_wait_for_each_other(runtime: Runtime, storage: MemoryStorage) -> None:
    """And each gets its signals in order, when it is there."""
    receiver = await started(runtime, storage, "b")
    agent = await started(runtime, storage)
    await do(agent, *(one for n in (1, 2, 3) for one in (*emits(n), *emits(n, to="w"))))
    await until_sent()
    assert heard(receiver) == ["heard 1", "heard 2", "heard 3"]
    got: list[Signal] = []
    await advance(600.0)
    await runtime.spawn(Listener, got, name="w")
    await until_sent()
    assert [one.data["n"] for one in got] == [1, 2, 3]
    assert (await do(agent)).pending == 0


async def test_D043_nobody_asks_again_and_again_for_one_who_is_not_there(
    runtime: Runtime, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is waited for: an hour without a wake-up, and then it comes within a second."""
    agent = await started(runtime, storage)
    await do(agent, *emits(1))
    await until_sent()
    waits = []
    real = execution.sleep

    async def counted(seconds: float) -> None:
        waits.append(seconds)
        await real(seconds)

    monkeypatch.setattr(outbox_module, "sleep", counted)
    await advance(3600.0)
    assert waits == []
    receiver = await started(runtime, MemoryStorage(), "b")
    await until_sent()
    assert heard(receiver) == ["heard 1"]


async def test_a_receiver_that_fails_gets_it_again_and_does_it_once(runtime: Runtime, storage: MemoryStorage) -> None:
    """A turn that has failed has changed nothing, and what is behind it waits."""
    FAILING.append(1)
    receiver = await started(runtime, storage, "b")
    agent = await started(runtime, storage)
    await do(agent, *emits(1, fails=True), *emits(2))
    await until_sent(10.0)
    assert heard(receiver) == []
    FAILING.clear()
    await until_sent(60.0)
    assert heard(receiver) == ["heard 1", "heard 2"]


async def test_a_receiver_that_is_killed_gets_it_again_and_does_it_once(
    runtime: Runtime, storage: MemoryStorage
) -> None:
    """After its commit, before its receipt."""

    class Deaf(MemoryStorage):
        victim: Any = None

        async def commit(self, commit: AgentCommit) -> None:
            await super().commit(commit)
            if self.victim is not None:
                self.victim.kill()

    other = Deaf()
    receiver = await started(runtime, other, "b")
    other.victim = receiver.view.ref
    agent = await started(runtime, storage)
    await do(agent, *emits(1, 2))
    await until_sent()
    assert not receiver.view.ref.alive  # type: ignore[union-attr]
    other.victim = None
    receiver = await started(runtime, other, "b")
    await until_sent()
    assert heard(receiver) == ["heard 1", "heard 2"]


async def test_a_receiver_that_is_restarted_at_once_is_asked_again(runtime: Runtime, storage: MemoryStorage) -> None:
    """After a pause; and does it once."""

    class Deaf(MemoryStorage):
        deaths = 2

        async def commit(self, commit: AgentCommit) -> None:
            await super().commit(commit)
            if self.deaths:
                self.deaths -= 1
                runtime.name("b").exit("crash")

    options = {"id": "b", "durability": Durability(Deaf())}
    await runtime.spawn(Supervisor, [ChildSpec("b", AgentServer, (Teller,), options, name="b")])
    agent = await started(runtime, storage)
    await do(agent, *emits(1, 2))
    await until_sent(5.0)
    assert heard(await connect(runtime.name("b"), Teller)) == ["heard 1", "heard 2"]


class Ticker(Sensor):
    """Sends something at once."""

    async def events(self, context: Any) -> Any:
        """Send it."""
        yield Emit("hear", {"n": 9})


class Sensing(Plugin[Any]):
    """Has a sensor."""

    sensors = (StartSensor("ticker", Ticker()),)


async def test_what_an_agent_begins_with_is_carried_out(runtime: Runtime, storage: MemoryStorage) -> None:
    """When what was cut short is undone."""

    class Sensitive(AgentType[State]):
        routes = {"hear": Hear, "do": Do}
        plugins = (Sensing,)

    agent = await started(runtime, storage, kind=Sensitive)
    await until_sent()
    assert heard(agent) == ["heard 9"]


async def test_what_can_never_be_taken_is_dead_at_once(runtime: Runtime, storage: MemoryStorage) -> None:
    """No route, or wrong parameters: kept, told, and what is behind it goes on. It can be sent again, or forgotten."""
    events: list[EffectDead] = []
    runtime.events.subscribe(events.append, EffectDead)  # type: ignore[arg-type]
    receiver = await started(runtime, storage, "b")
    agent = await started(runtime, storage)
    await do(agent, Emit("nobody.hears", to="b"), *emits("x", 2, 3))  # type: ignore[arg-type]
    await until_sent()
    assert heard(receiver) == ["heard 2", "heard 3"]
    assert [one.destination for one in events] == ["b", "b"]
    assert [line for line in agent.state.log if line.startswith("agent")] == ["agent.effect.dead"] * 2
    dead = await agent.dead_effects()
    assert [one.token for one in dead] == [one.token for one in events]
    killed(agent)
    agent = await started(runtime, storage)
    assert len(await agent.dead_effects()) == 2
    assert await agent.redrive(dead[1].token) == 1
    await until_sent()
    assert len(await agent.dead_effects()) == 2
    assert await agent.redrive(dead[0].token, forget=True) == 1
    assert await agent.redrive(forget=True) == 1
    assert await agent.dead_effects() == ()
    plain = await start_agent(runtime, Teller, id="plain")
    assert await plain.dead_effects() == ()
    assert await plain.redrive() == 0


@pytest.mark.once
async def test_an_effect_is_dead_after_a_day(runtime: Runtime, storage: MemoryStorage) -> None:
    """And is delivered when it is sent again, with the token that it had."""
    FAILING.append(1)
    receiver = await started(runtime, storage, "b")
    agent = await started(runtime, storage)
    await do(agent, *emits(1, fails=True), *emits(2))
    await until_sent(24 * 3600.0 + 120.0)
    assert heard(receiver) == ["heard 2"]
    (dead,) = await agent.dead_effects()
    assert "not now" in (dead.why or "")
    FAILING.clear()
    assert await agent.redrive() == 1
    await until_sent()
    assert heard(receiver) == ["heard 2", "heard 1"]
    assert receiver.state.tokens[1] == dead.token


async def test_only_so_many_dead_effects_are_kept(
    runtime: Runtime, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest goes first."""
    monkeypatch.setattr(outbox_module, "DEAD_KEPT", 2)
    await started(runtime, storage, "b")
    agent = await started(runtime, storage)
    await do(agent, *(Emit("nobody.hears", n, to="b") for n in range(3)))
    await until_sent()
    assert [one.signal and one.signal.data for one in await agent.dead_effects()] == [1, 2]
    rows = [row for row in storage._kept["/teller/a"].rows.values() if row.kind in ("dead", "effect")]
    assert len(rows) == 2


async def test_what_an_agent_says_to_itself_need_not_be_heard(runtime: Runtime, storage: MemoryStorage) -> None:
    """Without a destination a signal goes to the agent itself, which may have no route for it."""
    agent = await started(runtime, storage)
    await do(agent, Emit("nobody.hears"), *emits(1, to=None))
    await until_sent()
    assert heard(agent) == ["heard 1"]
    assert await agent.dead_effects() == ()


async def test_an_agent_that_is_not_durable_takes_what_comes(runtime: Runtime, storage: MemoryStorage) -> None:
    """It has taken it up when it has tried, whatever came of it."""
    receiver = await start_agent(runtime, Teller, id="b", name="b")
    FAILING.append(1)
    agent = await started(runtime, storage)
    await do(agent, *emits(1, fails=True), *emits(2))
    await until_sent()
    assert heard(receiver) == ["heard 2"]
    assert await agent.dead_effects() == ()


@pytest.mark.parametrize("durable", [False, True])
async def test_what_a_receiver_can_never_take_is_dead_whether_it_is_durable_or_not(
    runtime: Runtime, storage: MemoryStorage, durable: bool
) -> None:
    durability = Durability(storage) if durable else None
    receiver = await start_agent(runtime, Teller, id="b", name="b", durability=durability)
    agent = await started(runtime, storage)
    await do(agent, Emit("nobody.hears", to="b"), Emit("hear", {"n": "one"}, to="b"), *emits(2))
    await until_sent()
    assert heard(receiver) == ["heard 2"]
    given_up = [str(effect.error) for effect in await agent.dead_effects()]
    assert len(given_up) == 2
    assert "NotTaken: teller has no route for signals of type 'nobody.hears'" in given_up[0]
    assert "BadParams: Hear: Expected `int`, got `str`" in given_up[1]


async def test_a_bus_has_it_when_it_is_written(runtime: Runtime, storage: MemoryStorage) -> None:
    """And any other actor when it is in its mailbox; who does not know receipts is asked for one once."""
    bus = await runtime.spawn(Bus, MemoryStorage(), name="bus")
    got: list[Signal] = []
    await runtime.spawn(Listener, got, name="listener")
    agent = await started(runtime, storage)
    await do(agent, *emits(1, 2, to="bus"), *emits(3, 4, to="listener"))
    await until_sent()
    assert [one.signal.data["n"] for one in await read_log(bus)] == [1, 2]
    assert [one.data["n"] for one in got] == [3, 4]


async def test_many_streams_are_sent_in_turn(
    runtime: Runtime, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than so many at once."""
    monkeypatch.setattr(outbox_module, "STREAMS", 2)
    receivers = [await started(runtime, storage, f"r{n}") for n in range(5)]
    agent = await started(runtime, storage)
    await do(agent, *(one for n in range(5) for one in emits(n, to=f"r{n}")))
    await until_sent()
    assert [heard(one) for one in receivers] == [[f"heard {n}"] for n in range(5)]


async def test_D048_a_signal_can_be_taken_back(runtime: Runtime, storage: MemoryStorage) -> None:
    """For sure while others are before it; what is under way may have arrived; what is not there is not taken back."""
    agent = await started(runtime, storage)
    await do(agent, *emits(1, 2, 3))
    await until_sent()
    rows = sorted((row for row in storage._kept["/teller/a"].rows.values() if row.kind == "effect"), key=str)
    tokens = [msgspec.msgpack.decode(row.body[4:])["token"] for row in rows]
    await do(agent, Withdraw(tokens[2]), Withdraw(tokens[0]), Withdraw("nothing"))
    await until_sent()
    told = [line for line in agent.state.log if "withdrawn" in line]
    assert told == [f"agent.effect.withdrawn {word}" for word in (True, False, False)]
    receiver = await started(runtime, MemoryStorage(), "b")
    await until_sent()
    assert heard(receiver)[-1] == "heard 2"
    assert "heard 3" not in heard(receiver)


async def test_what_is_redriven_behind_others_is_not_taken_for_known(runtime: Runtime, storage: MemoryStorage) -> None:
    """Its number is lower than theirs: no floor goes beyond it before it was sent."""
    agent = await started(runtime, storage)
    never = httpx.MockTransport(lambda request: httpx.Response(400))
    refusing = await runtime.spawn(Webhook, "https://example.org/", transport=never, name="b")
    await do(agent, *emits(0, 1))
    await until_sent()
    assert [effect.attempts for effect in await agent.dead_effects()] == [1, 1]
    await refusing.stop()
    await do(agent, *emits(2, 3))
    await until_sent()
    await agent.redrive((await agent.dead_effects())[0].token)
    receiver = await started(runtime, storage, "b")
    await until_sent()
    assert heard(receiver) == ["heard 2", "heard 3", "heard 0"]
    assert await agent.redrive() == 1
    await until_sent()
    assert heard(receiver)[3:] == ["heard 1"]


async def test_what_is_redriven_can_be_taken_back(runtime: Runtime, storage: MemoryStorage) -> None:
    """Behind others, as long as it has not been sent."""
    agent = await started(runtime, storage)
    receiver = await started(runtime, storage, "b")
    await do(agent, Emit("nobody.knows", to="b"))
    await until_sent()
    await receiver.stop()
    await do(agent, *emits(1, 2))
    await until_sent()
    (dead,) = await agent.dead_effects()
    await agent.redrive()
    await do(agent, Withdraw(dead.token))
    await started(runtime, storage, "b")
    await until_sent()
    assert await agent.dead_effects() == ()


async def test_what_is_taken_back_while_it_is_under_way_takes_nothing_else_with_it(
    runtime: Runtime, storage: MemoryStorage
) -> None:
    """Whether it has arrived or not, what is behind it is sent."""
    for outcome in (200, 503, 400):
        service, gate = Service(runtime, outcome), asyncio.Event()

        async def answer(request: httpx.Request, service: Service = service, gate: asyncio.Event = gate) -> Any:
            await gate.wait()
            return await service(request)

        name = f"w{outcome}"
        await runtime.spawn(Webhook, "https://example.org/", transport=httpx.MockTransport(answer), name=name)
        kept = MemoryStorage()
        agent = await started(runtime, kept, name + "a")
        await do(agent, Emit("one", to=name), Emit("two", to=name))
        await settled(runtime)
        rows = [row for row in kept._kept[f"/teller/{name}a"].rows.values() if row.kind == "effect"]
        token = read_effect(min(rows, key=lambda row: row.id)).token
        await do(agent, Withdraw(token))
        gate.set()
        await until_sent()
        await advance(2.0)
        assert [json.loads(request.content)["type"] for _, request in service.got] == ["one", "two"]
        assert await agent.dead_effects() == ()


# -- webhooks ----------------------------------------------------------------------------------------------------------


class Service:
    """Answers requests with statuses, and keeps them with their times."""

    def __init__(self, runtime: Runtime, *statuses: int, **headers: str) -> None:
        self.runtime = runtime
        self.statuses = list(statuses)
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.got: list[tuple[float, httpx.Request]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        self.got.append((self.runtime.clock.time(), request))
        status = self.statuses.pop(0) if self.statuses else 200
        return httpx.Response(status, headers=self.headers if status != 200 else {})

    @property
    def pauses(self) -> list[float]:
        """The seconds between requests."""
        times = [time for time, _ in self.got]
        return [after - before for before, after in pairwise(times)]


async def posting(runtime: Runtime, service: Service) -> None:
    """Start a webhook under the name ``w``."""
    await runtime.spawn(Webhook, "https://example.org/hook", transport=httpx.MockTransport(service), name="w")


async def test_D037_a_post_is_tried_again_with_the_same_id(runtime: Runtime, storage: MemoryStorage) -> None:
    """After pauses that double."""
    service = Service(runtime, 503, 503, 503, 503)
    await posting(runtime, service)
    agent = await started(runtime, storage)
    await do(agent, *emits(1, 2, to="w"))
    await until_sent(30.0)
    assert len(service.got) == 6
    for name in ("webhook-id", "idempotency-key"):
        ids = [request.headers[name] for _, request in service.got]
        assert (len(set(ids[:5])), ids[0] != ids[5], ids[0][:4]) == (1, True, "ft1-")
    for pause, expected in zip(service.pauses, (0.25, 0.5, 1.0, 2.0), strict=False):
        assert 0.79 * expected <= pause <= 1.21 * expected


async def test_D038_a_post_that_is_refused_is_dead_at_once(runtime: Runtime, storage: MemoryStorage) -> None:
    """The agent is told, and the next one goes."""
    service = Service(runtime, 400)
    await posting(runtime, service)
    agent = await started(runtime, storage)
    await do(agent, *emits(1, 2, to="w"))
    await until_sent()
    assert len(service.got) == 2
    (dead,) = await agent.dead_effects()
    assert dead.signal is not None
    assert dead.signal.data["n"] == 1
    assert agent.state.log[-1] == "agent.effect.dead"


async def test_D040_a_service_that_wants_to_be_left_alone_is(runtime: Runtime, storage: MemoryStorage) -> None:
    """For as long as it says."""
    service = Service(runtime, 429, 429, retry_after="30")
    await posting(runtime, service)
    agent = await started(runtime, storage)
    await do(agent, *emits(1, to="w"))
    await until_sent(100.0)
    assert len(service.got) == 3
    assert min(service.pauses) >= 30.0


# -- what cannot be kept -----------------------------------------------------------------------------------------------


class Ring(Directive, frozen=True, tag="ring of tests"):
    """Something of a user's."""

    times: int = 1


class Chime(Ring, frozen=True, tag="chime of tests"):
    """Is kept."""


class Hum(Directive, frozen=True, tag="hum of tests"):
    """May be lost."""


class Unready(Directive, frozen=True, tag="unready of tests"):
    """Cannot be carried out."""


RUNG: list[Any] = []


@executes(Ring)
def ring(server: Any, directive: Ring, signal: Signal) -> None:
    """Ring."""
    RUNG.append(directive)


@executes(Chime, durable=True)
async def chime(server: Any, directive: Chime, signal: Signal) -> None:
    """Ring, unless it fails."""
    RUNG.append((server.token_in_hand, directive.times))
    if FAILING:
        raise RuntimeError("no bell")


@executes(Hum, local=True)
def hum(server: Any, directive: Hum, signal: Signal) -> None:
    """Hum."""
    RUNG.append(server.token_in_hand)


def not_ready(server: Any, directive: Any, before: tuple[Any, ...]) -> None:
    """Refuse it."""
    raise RuntimeError("it is not ready")


@executes(Unready, local=True, check=not_ready)
def unready(server: Any, directive: Unready, signal: Signal) -> None:
    """Is never called."""


class Nameless:
    """Something that cannot even be shown."""

    def __repr__(self) -> str:
        """Raise."""
        raise RuntimeError("it has no name")


#: A list that holds itself, and one that can be written down, but is too deep to be compared.
_ENDLESS: list[Any] = []
_ENDLESS.append(_ENDLESS)
_DEEP: list[Any] = []
for _ in range(sys.getrecursionlimit() // 2):
    _DEEP = [_DEEP]


async def test_D033_D034_what_cannot_be_kept_is_refused_by_name(runtime: Runtime, storage: MemoryStorage) -> None:
    """In its own turn: the state is the old one, nothing of it is sent, and the next turn is fine."""
    agent = await started(runtime, storage)
    ref = agent.view.ref
    assert ref is not None

    class Local(Action[None]):
        def run(self, context: Context[State]) -> None:
            """Do nothing."""

    for directive, says in (
        (Emit("hear", {"who": ref}, to="b"), "Emit.data['who']"),
        (Emit("hear", to=ref), "Emit.to is"),
        (Emit("hear", {"when": (1, 2)}, to="b"), "Emit.data['when']"),
        (Schedule(1.0, "late", {"who": ref}), "Schedule.data['who']"),
        (RunInstruction(Local, "answer"), "RunInstruction.work is"),
        (RunInstruction(Chain(Check, Local), "answer"), "RunInstruction.work is"),
        (AwaitReply(ref, "hear", "answer"), "AwaitReply.to is"),
        (RunInstruction(Branch(lambda context, data: True, Check), "answer"), "RunInstruction.work is"),
        (RunInstruction(Check, "answer", meta=(1,)), "RunInstruction.meta"),
        (Ring(), "say @executes(Ring, durable=True)"),
        (Unready(), "it is not ready"),
        (Emit("hear", msgspec.Raw(b"\xc1"), to="b"), "Emit.data could not be read again"),
        (Emit("hear", {"x": _ENDLESS}, to="b"), "Emit.data cannot be saved: it is nested too deeply"),
        (Schedule(1.0, "late", {"x": _DEEP}), "Schedule.data cannot be saved: it is nested too deeply"),
        (Schedule(1e308, "late"), "Schedule.after = 1e+308 is too long"),
        (Schedule(1.0, "late", expires=1e16), "Schedule.expires = 1e+16 is too long"),
        (SpawnAgent(Teller, "w", state=msgspec.Raw(b"\xc1")), "SpawnAgent could not be read again"),
        (SpawnAgent(State, "w"), "SpawnAgent.type is"),  # type: ignore[arg-type]
        (AwaitReply(Nameless(), "hear", "answer"), "it has no name"),  # type: ignore[arg-type]
    ):
        before = agent.agent
        reply = await do(agent, directive)
        assert (reply.agent, [one.stage for one in reply.errors]) == (before, ["commit"])
        assert says in reply.errors[0].error.message
        assert (await do(agent)).errors == ()
    plain = await start_agent(runtime, Teller, id="plain")
    RUNG.clear()
    assert (await do(plain, Ring(), Chime(), Hum())).errors == ()
    assert [Ring(), (None, 1), None] == RUNG


async def test_D035_a_taken_tag_fails_the_turn_and_is_a_dead_letter(runtime: Runtime, storage: MemoryStorage) -> None:
    """Nothing is committed; the bus is told."""
    agent = await started(runtime, storage)
    bus = await runtime.spawn(Bus)
    await subscribe(bus, "do", runtime.name("a"), name="s", attempts=2, retry=0.1)
    DIRECTIVES["same"] = (SpawnAgent(Teller, "w"),)
    for id in "12":
        await publish(bus, Signal(type="do", source="/", id=id, data={"what": "same"}))
    await until_sent(5.0)
    assert [one.recorded.signal.id for one in await dead_letters(bus)] == ["2"]
    assert agent.state.log == ("same",)


async def test_a_directive_that_is_kept_is_tried_until_it_is_done(runtime: Runtime, storage: MemoryStorage) -> None:
    """With one token; the caller is told of the first try; after a crash it goes on; then it is over."""
    RUNG.clear()
    FAILING.append(1)
    agent = await started(runtime, storage)
    reply = await do(agent, Chime(3), Hum())
    assert [(one.stage, one.retried) for one in reply.errors] == [("effect", True)]
    assert reply.agent.state.log != ()
    await until_sent(0.3)
    killed(agent)
    agent = await started(runtime, storage)
    await until_sent(0.1)
    FAILING.clear()
    await until_sent()
    count = len(RUNG)
    assert {one for one in RUNG if one is not None} == {RUNG[0]}
    await until_sent(100.0)
    killed(agent)
    await started(runtime, storage)
    await until_sent()
    assert len(RUNG) == count


@pytest.mark.once
async def test_a_directive_that_never_succeeds_is_dead_after_a_day_and_can_be_tried_again(
    runtime: Runtime, storage: MemoryStorage
) -> None:
    """As a signal can."""
    RUNG.clear()
    FAILING.append(1)
    agent = await started(runtime, storage)
    await do(agent, Chime(3))
    await advance(25 * 3600.0)
    (dead,) = await agent.dead_effects()
    assert (dead.what, dead.to) == ("Chime", None)
    FAILING.clear()
    RUNG.clear()
    assert await agent.redrive() == 1
    await until_sent()
    assert [(dead.token, 3)] == RUNG
    assert await agent.dead_effects() == ()


async def test_a_directive_whose_class_is_gone_is_dead_and_the_agent_starts(
    runtime: Runtime, storage: MemoryStorage
) -> None:
    """It is no obstacle."""
    FAILING.append(1)
    agent = await started(runtime, storage)
    await do(agent, Chime(3))
    killed(agent)
    rows = storage._kept["/teller/a"].rows
    for name, row in list(rows.items()):
        if row.kind == "effect":
            body = row.body[4:].replace(b"Chime", b"Chimx")
            from agents.durability.checkpoint import with_checksum

            effect = msgspec.msgpack.decode(body, type=Effect)
            effect = msgspec.structs.replace(effect, what="Chime")
            rows[name] = msgspec.structs.replace(row, body=with_checksum(msgspec.msgpack.encode(effect)))
    agent = await started(runtime, storage)
    await until_sent()
    (dead,) = await agent.dead_effects()
    assert "it cannot be read any more" in (dead.why or "")


def test_work_is_written_down_and_read_again() -> None:
    """Classes, actions with parameters, chains and parallels of them; what is not there any more is an error."""
    for work in (Check, (Hear, {"n": 1}), Chain(Check, Hear), Parallel(Check, (Hear, {"n": 2}), limit=1)):
        data = msgspec.msgpack.decode(msgspec.msgpack.encode(work_data(work, "w", "k")))
        assert repr(work_of(data)) == repr(work)
    data = work_data(Hear(n=3), "w", "k")
    assert work_of(data) == (Hear, {"n": 3, "fails": False})
    for wrong in ("json:loads", "nowhere:Nothing"):
        with pytest.raises((TypeError, ImportError)):
            work_of(wrong)
    effect = Effect("t", "SpawnAgent", 0.0, "/", "1", data={"type": "json:JSONDecoder", "tag": "x"})
    with pytest.raises(TypeError):
        directive_of(effect)
    assert path_of(Hear, "w", "k") == "tests.agents.test_outbox:Hear"


# -- errands -----------------------------------------------------------------------------------------------------------


class Think(Action[str]):
    """Take a while."""

    async def run(self, context: Context[Any]) -> str:
        """Think."""
        THOUGHT.append(context.token)
        await advance(10.0)
        return "42"


THOUGHT: list[str] = []


async def test_an_errand_is_run_again_after_a_crash_with_the_same_token(
    runtime: Runtime, storage: MemoryStorage
) -> None:
    """Until its result has been taken; then never again."""
    THOUGHT.clear()
    agent = await started(runtime, storage)
    await do(agent, RunInstruction(Think, "answer"))
    await advance(5.0)
    killed(agent)
    agent = await started(runtime, storage)
    await advance(11.0)
    assert agent.state.log[-1] == "answer ok"
    assert len(THOUGHT) == 2
    assert len(set(THOUGHT)) == 1
    await until_sent()
    killed(agent)
    agent = await started(runtime, storage)
    await advance(20.0)
    assert (len(THOUGHT), agent.state.log.count("answer ok")) == (2, 1)


async def test_a_question_has_one_deadline_however_often_it_is_asked(runtime: Runtime, storage: MemoryStorage) -> None:
    """The other one answers it once as new; when the time is over while nobody was there, the agent is told."""
    other = await started(runtime, MemoryStorage(), "b")
    agent = await started(runtime, storage)
    await do(agent, AwaitReply("b", "hear", "answer", {"n": 5}))
    await until_sent()
    assert (agent.state.log[-1], heard(other)) == ("answer ok", ["heard 5"])
    await do(agent, AwaitReply("c", "hear", "answer", timeout=5.0))
    await until_sent()
    assert agent.state.log[-1] == "answer error"
    await do(agent, AwaitReply("b", "hear", "answer", {"n": 6}, timeout=5.0))
    killed(agent)
    await advance(10.0)
    agent = await started(runtime, storage)
    await until_sent()
    assert agent.state.log[-1] == "answer error"


async def test_a_result_that_cannot_be_taken_comes_again(runtime: Runtime, storage: MemoryStorage) -> None:
    """As the turn has changed nothing."""
    FAILING.append(1)

    class Moody(AgentType[State]):
        name = "teller"
        routes = {"do": Do, "answer": (Hear, {"n": 7, "fails": True})}

    agent = await started(runtime, storage, kind=Moody)
    await do(agent, RunInstruction(Check, "answer"), RunInstruction(Check, "nobody.hears"))
    await until_sent()
    assert heard(agent) == []
    FAILING.clear()
    await until_sent(10.0)
    assert heard(agent) == ["heard 7"]
    await until_sent()
    assert [row for row in storage._kept["/teller/a"].rows.values() if row.kind == "effect"] == []


# -- children ----------------------------------------------------------------------------------------------------------


async def test_children_are_found_again_or_started_again(runtime: Runtime, storage: MemoryStorage) -> None:
    """By their restart: one that runs is attached, one that is gone is started, a temporary one has ended."""
    agent = await started(runtime, storage)
    await do(
        agent,
        SpawnAgent(Teller, "stays", on_parent_death="continue", state=State(("first",))),
        SpawnAgent(Teller, "ends"),
        SpawnAgent(Teller, "once", restart="temporary"),
    )
    await until_sent()
    before = agent.children["stays"].ref
    killed(agent)
    await settled(runtime)
    agent = await started(runtime, storage)
    await until_sent()
    assert sorted(agent.children) == ["ends", "stays"]
    assert agent.children["stays"].ref == before
    assert agent.state.log[-1] == "agent.child.exit once"
    await do(agent, StopChild("stays"), StopChild("nobody"))
    await until_sent()
    killed(agent)
    agent = await started(runtime, storage)
    await until_sent()
    assert sorted(agent.children) == ["ends"]
    await (await connect(agent.children["ends"].ref)).stop()
    await until_sent()
    killed(agent)
    agent = await started(runtime, storage)
    await until_sent()
    assert agent.children == {}


async def test_a_child_that_has_become_anothers_is_an_error(runtime: Runtime, storage: MemoryStorage) -> None:
    """And is tried again; one that crashes is started by its supervisor, and stays kept."""
    agent = await started(runtime, storage)
    await do(agent, SpawnAgent(Teller, "w", on_parent_death="continue"))
    await until_sent()
    child = agent.children["w"].ref
    child.exit("crash")
    await until_sent(5.0)
    child = agent.children["w"].ref
    killed(agent)
    await settled(runtime)
    other = await start_agent(runtime, Teller, id="other")
    await other.adopt(child, "mine")
    agent = await started(runtime, storage)
    await until_sent()
    assert agent.children == {}
    assert agent.view.last_error is not None
    await other.stop()
    await until_sent(60.0)
    assert list(agent.children) == ["w"]


async def test_what_is_not_kept_is_carried_out_all_the_same(runtime: Runtime, storage: MemoryStorage) -> None:
    """Actors that are no agents, adoptions."""
    got: list[Signal] = []
    agent, other = await started(runtime, storage), await start_agent(runtime, Teller, id="other")
    assert (
        await do(agent, Spawn(ChildSpec("l", Listener, (got,), name="l")), AdoptChild("other", "mine"))
    ).errors == ()
    assert (runtime.whereis("l") is not None, agent.children["mine"].ref) == (True, other.view.ref)


# -- the inbox ---------------------------------------------------------------------------------------------------------


async def test_D010_a_signal_that_comes_twice_is_done_once(runtime: Runtime, storage: MemoryStorage) -> None:
    """By cast, call or bus; also after a kill, and a reset (D013, D014); another source is another one (D011)."""
    agent = await started(runtime, storage)
    signal = agent.signal("hear", {"n": 1})
    agent.cast(signal)
    reply = await agent.call(signal)
    assert (reply.duplicate, reply.kept, heard(agent)) == (True, True, ["heard 1"])
    other = msgspec.structs.replace(signal, source="/elsewhere")
    assert not (await agent.call(other)).duplicate
    killed(agent)
    agent = await started(runtime, storage)
    assert (await agent.call(signal)).duplicate
    assert agent.view.ref is not None
    agent.view.ref.cast(Reset())
    assert (await agent.call(signal)).duplicate
    assert agent.state.log == ()
    bus = await runtime.spawn(Bus)
    await subscribe(bus, "hear", runtime.name("a"), name="s")
    for _ in range(2):
        await publish(bus, Signal(type="hear", source="/", id="twice", data={"n": 2}))
    await publish(bus, signal)
    await until_sent()
    assert heard(agent) == ["heard 2"]
    assert await dead_letters(bus) == ()


async def test_D015_so_many_ids_are_remembered(
    runtime: Runtime, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest is forgotten first; one that is younger than a day is told of."""
    monkeypatch.setattr(inbox_module, "REMEMBERED", 3)
    events: list[SignalsForgotten] = []
    runtime.events.subscribe(events.append, SignalsForgotten)  # type: ignore[arg-type]
    agent = await started(runtime, storage)
    signals = [agent.signal("hear", {"n": n}) for n in range(5)]
    for signal in signals[:4]:
        await agent.call(signal)
    assert [one.count for one in events] == [1]
    killed(agent)
    agent = await started(runtime, storage)
    assert [(await agent.call(signal)).duplicate for signal in (signals[1], signals[0])] == [True, False]
    await advance(2 * 24 * 3600.0)
    await agent.call(signals[4])
    assert [one.count for one in events] == [1, 1]
    rows = [row for row in storage._kept["/teller/a"].rows.values() if row.kind == "inbox"]
    assert len(rows) == 3


def test_D017_numbers_of_a_stream_take_no_room() -> None:
    """What is below the floor never comes again; what was taken in a row is one pair."""
    taken = inbox_module.TakenNumbers()
    for number in range(1, 101):
        taken = taken.with_number(number, 1)
    assert taken.runs == ((1, 100),)
    taken = taken.with_number(101, 101)
    assert (taken.runs, taken.knows(50), taken.knows(102)) == (((101, 101),), True, False)


# -- failures of deliveries --------------------------------------------------------------------------------------------


class Half(Action[State]):
    """Fails, and still has effects."""

    def run(self, context: Context[State]) -> State:
        """Fail."""
        from agents import SetState

        raise Failure("half", (SetState({"log": ["half"]}),))


class First(Action[State]):
    """Notes that it came first."""

    def run(self, context: Context[State]) -> State:
        """Note it."""
        return noted(context.state, "first")


class Broken(Action[None]):
    """Fails."""

    def run(self, context: Context[State]) -> None:
        """Fail."""
        raise RuntimeError("broken")


async def test_what_comes_again_is_not_done_by_half(runtime: Runtime, storage: MemoryStorage) -> None:
    """Unless the type, or the failure, says what stays: then it is done, and acknowledged."""
    from agents import Direct

    class Halves(AgentType[State]):
        routes = {"two": (First, Broken), "half": Half}

    class Kept(AgentType[State]):
        strategy = Direct("stop")
        routes = {"two": (First, Broken)}

    bus = await runtime.spawn(Bus)
    agents = [await started(runtime, storage, kind.__name__, kind=kind) for kind in (Halves, Kept)]
    for agent in agents:
        await subscribe(bus, "two", agent.address, name=agent.agent.id, attempts=2, retry=0.1)
    await subscribe(bus, "half", agents[0].address, name="half", attempts=2, retry=0.1)
    for type in ("two", "half"):
        await publish(bus, Signal(type=type, source="/", id=type))
    await until_sent(5.0)
    assert [agent.state.log for agent in agents] == [("half",), ("first",)]
    assert [one.subscription for one in await dead_letters(bus)] == ["Halves"]
    reply = await agents[0].call(agents[0].signal("two"))
    assert (reply.agent.state.log, [one.stage for one in reply.errors]) == (("half", "first"), ["action"])


async def test_a_delivery_whose_effect_failed_is_acknowledged(runtime: Runtime, storage: MemoryStorage) -> None:
    """The effect is tried again; the turn is over. One that could not be saved comes again."""
    FAILING.append(1)
    RUNG.clear()

    class Moody(MemoryStorage):
        fails = 0

        async def commit(self, commit: AgentCommit) -> None:
            if self.fails:
                self.fails -= 1
                raise StorageError("full")
            await super().commit(commit)

    moody = Moody()
    agent = await started(runtime, moody)
    DIRECTIVES["chime"] = (Chime(),)
    bus = await runtime.spawn(Bus)
    await subscribe(bus, "do", runtime.name("a"), name="s", attempts=3, retry=0.1)
    moody.fails = 1
    await publish(bus, Signal(type="do", source="/", id="1", data={"what": "chime"}))
    await until_sent(0.5)
    assert agent.state.log == ("chime",)
    FAILING.clear()
    await until_sent(5.0)
    assert await dead_letters(bus) == ()
    assert len({token for token, _ in RUNG}) == 1


async def test_a_delivery_to_an_agent_that_has_moved_is_left_to_the_bus(
    runtime: Runtime, storage: MemoryStorage
) -> None:
    """Neither acknowledged nor refused: the next owner gets it."""
    agent = await started(runtime, storage)
    bus = await runtime.spawn(Bus)
    await subscribe(bus, "hear", runtime.name("a"), name="s", attempts=1)
    await storage.claim("/teller/a", "other")
    await publish(bus, Signal(type="hear", source="/", id="1", data={"n": 1}))
    await settled(runtime)
    assert not agent.view.ref.alive  # type: ignore[union-attr]
    assert await dead_letters(bus) == ()


class Sealing(Plugin[Any]):
    """Refuses signals, or changes what is emitted."""

    def on_signal(self, signal: Signal, agent: Any) -> None:
        """Refuse some."""
        if signal.subject == "refused":
            raise RuntimeError("refused")

    def on_emit(self, signal: Signal, agent: Any) -> Signal:
        """Seal it."""
        if signal.subject == "unsealed":
            raise RuntimeError("no wax")
        return msgspec.structs.replace(signal, subject="sealed")


async def test_plugins_see_what_is_kept_before_it_is(runtime: Runtime, storage: MemoryStorage) -> None:
    """What is sent again is what they have made of it; what they refuse fails the turn, or is dead."""

    class Sealed(AgentType[State]):
        routes = {"do": Do, "hear": Hear}
        plugins = (Sealing,)

    receiver = await started(runtime, storage, "b", kind=Sealed)
    agent = await started(runtime, storage, kind=Sealed)
    reply = await do(agent, Emit("hear", subject="unsealed", to="b"))
    assert [one.stage for one in reply.errors] == ["commit"]
    got: list[Signal] = []
    await runtime.spawn(Listener, got, name="l")
    await do(agent, *emits(1), *emits(2, to="l"))
    await until_sent()
    assert (got[0].subject, heard(receiver)) == ("sealed", ["heard 1"])
    with pytest.raises(Exception, match="refused"):
        await agent.call(agent.signal("hear", subject="refused"))


async def test_what_comes_late_is_dropped(runtime: Runtime, storage: MemoryStorage) -> None:
    """A result that was taken, an effect that is done; and a name may be given as an address."""
    receiver = await started(runtime, storage, "b")
    agent = await started(runtime, storage)
    await do(agent, Emit("hear", {"n": 1}, to=runtime.name("b")))
    ref = agent.view.ref
    assert ref is not None
    ref.cast(EffectDue("gone"))
    ref.cast(DirectiveResult("answer", {}, "1", "gone"))
    await until_sent()
    assert (heard(receiver), len(agent.state.log)) == (["heard 1"], 1)
    kept = (await system.get_status(ref)).status["kept"]
    assert (kept["outbox"], kept["inbox"], kept["outbox_oldest"]) == (0, 1, None)


async def test_marks_that_cannot_be_written_are_written_later(runtime: Runtime) -> None:
    """They cost a duplicate after a kill, and nothing else."""

    class NoMarks(MemoryStorage):
        fails = True

        async def commit(self, commit: AgentCommit) -> None:
            if self.fails and commit.expected is None:
                raise StorageError("full")
            await super().commit(commit)

    storage = NoMarks()
    receiver = await started(runtime, MemoryStorage(), "b")
    agent = await started(runtime, storage)
    await do(agent, *emits(1))
    await until_sent(5.0)
    killed(agent)
    agent = await started(runtime, storage)
    await until_sent()
    assert heard(receiver) == ["heard 1"]
    storage.fails = False
    await until_sent(5.0)
    assert [row for row in storage._kept["/teller/a"].rows.values() if row.kind == "effect"] == []
    await do(agent, *emits(2))
    await storage.claim("/teller/a", "other")
    await until_sent(5.0)
    assert not agent.view.ref.alive  # type: ignore[union-attr]
