"""What was done and not committed is undone: in this incarnation, or by the next one, before its first turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from agents import (
    Action,
    ActionFailed,
    AgentHandle,
    AgentServer,
    AgentType,
    Attempts,
    Chain,
    CompensationFailed,
    Context,
    EffectDead,
    Emit,
    Parallel,
    Plan,
    Result,
    Signal,
    start_agent,
)
from agents.core.execution import aexecute
from agents.durability import AgentCommit, Durability, MemoryStorage, StorageConflict, StorageError
from agents.durability.checkpoint import with_checksum
from agents.events import CompensationDelayed
from agents.server import sagas
from agents.server.effects import read_effect
from agents.server.messages import GetView
from agents.signals import Bus, publish, subscribe
from supervision import ChildSpec, Runtime, Supervisor
from supervision.errors import BadTime
from supervision.system import get_status
from supervision.testing import advance, settled


class State(msgspec.Struct, frozen=True):
    """How many turns were committed, and what a step has said."""

    n: int = 0
    note: str = ""


#: What was done and undone, in order; with which tokens; and how often what is to fail.
LOG: list[str] = []
TOKENS: dict[str, list[str]] = {}
FAILS: dict[str, int] = {}


class Step(Action[dict[str, Any]]):
    """Something that can be undone."""

    name: str

    async def run(self, context: Context[Any]) -> dict[str, Any]:
        """Do it."""
        note(self.name, context)
        return {"note": f"id of {self.name}"}

    async def compensate(self, context: Context[Any], done: Any, error: Exception) -> None:
        """Undo it."""
        note(f"undo {self.name}", context)
        DONE[self.name] = done


class Odd(Action[Any]):
    """Returns something that cannot be written down."""

    def run(self, context: Context[Any]) -> Any:
        """Return it."""
        note("odd", context)
        return {"what": 2**70}

    def compensate(self, context: Context[Any], done: Any, error: Exception) -> None:
        """Undo it."""
        note("undo odd", context)
        DONE["odd"] = done


class Strict(Action[dict[str, int]]):
    """Declares what it returns."""

    def run(self, context: Context[Any]) -> dict[str, int]:
        """Return it."""
        note("strict", context)
        return {"n": 3}

    def compensate(self, context: Context[Any], done: Any, error: Exception) -> None:
        """Undo it."""
        DONE["strict"] = done


DONE: dict[str, Any] = {}


def note(what: str, context: Context[Any]) -> None:
    """Note what is done, or fail."""
    LOG.append(what)
    TOKENS.setdefault(what, []).append(context.token)
    if FAILS.get(what):
        FAILS[what] -= 1
        raise RuntimeError(f"{what} fails")


class Wait(Action[None]):
    """Take a long time."""

    async def run(self, context: Context[Any]) -> None:
        """Wait."""
        await advance(100.0)


class Fail(Action[None]):
    """Fail."""

    def run(self, context: Context[Any]) -> None:
        """Fail."""
        raise RuntimeError("no")


class Add(Action[State]):
    """Count, and tell."""

    def run(self, context: Context[State]) -> Result[State]:
        """Count."""
        LOG.append("turn")
        return Result(State(context.state.n + 1))


class Unkept(Action[Any]):
    """Return what cannot be kept."""

    def run(self, context: Context[State]) -> Result[Any]:
        """Return it."""
        return Result(None, (Emit("x", {"who": context.ref}),))


def step(name: str) -> Any:
    """Return a step."""
    return (Step, {"name": name})


class Shop(AgentType[State]):
    """Books and pays."""

    name = "shop"
    routes = {
        "wait": Chain(step("book"), step("pay"), Wait),
        "good": Chain(step("book"), step("pay"), Add),
        "bad": Chain(step("book"), step("pay"), Fail),
        "side": Plan().add("a", step("a")).add("b", step("b")).add("c", Wait, after=["a", "b"]),
        "both": Parallel(step("a"), step("b"), Wait),
        "two": (step("book"), Fail),
        "odd": Chain(Odd, Strict, Wait),
        "unkept": (step("book"), Unkept),
        "add": Add,
    }


@pytest.fixture
def storage() -> MemoryStorage:
    """Where the agents of a test are kept."""
    for known in (LOG, TOKENS, FAILS, DONE):
        known.clear()  # type: ignore[attr-defined]
    return MemoryStorage()


async def started(runtime: Runtime, storage: Any, kind: Any = Shop) -> AgentHandle[State]:
    """Start an agent that is kept."""
    durability = None if storage is None else Durability(storage)
    return await start_agent(runtime, kind, id="s", name="s", durability=durability)


def cut(storage: MemoryStorage) -> MemoryStorage:
    """Return what a storage has at this moment, as a process that dies now leaves it."""
    left = MemoryStorage()
    left._stored, left._journal = dict(storage._stored), {key: list(log) for key, log in storage._journal.items()}
    left._kept = {
        key: msgspec.structs.replace(kept, snapshots=dict(kept.snapshots), rows=dict(kept.rows))
        for key, kept in storage._kept.items()
    }
    return left


async def left_in_the_middle(runtime: Runtime, storage: MemoryStorage, what: str, kind: Any = Shop) -> MemoryStorage:
    """Have a process die in the middle of a turn; return what it leaves."""
    async with Runtime(watchdog=None, reports=False) as elsewhere:
        agent = await started(elsewhere, storage, kind)
        agent.cast(Signal(type=what, source="/", id="1"))
        await advance(1.0)
        left = cut(storage)
        before = list(LOG)
        agent.view.ref.kill()  # type: ignore[union-attr]
        await settled(elsewhere)
    LOG[:] = before
    return left


async def test_D063_the_next_incarnation_undoes_what_was_cut_short(runtime: Runtime, storage: MemoryStorage) -> None:
    """The newest first, before its first turn, with what the steps have returned, and tokens of their own."""
    left = await left_in_the_middle(runtime, storage, "wait")
    assert LOG == ["book", "pay"]
    DONE.clear()
    agent = await started(runtime, left)
    agent.cast(agent.signal("add"))
    await advance(1.0)
    assert LOG == ["book", "pay", "undo pay", "undo book", "turn"]
    assert DONE == {"book": {"note": "id of book"}, "pay": None}
    assert len({token for tokens in TOKENS.values() for token in tokens}) == 4
    agent.view.ref.kill()  # type: ignore[union-attr]
    agent = await started(runtime, left)
    await advance(1.0)
    assert LOG[5:] == []


async def test_what_comes_again_after_it_was_undone_has_other_tokens(runtime: Runtime, storage: MemoryStorage) -> None:
    """Else the second booking would be taken for the first, which was cancelled."""
    left = await left_in_the_middle(runtime, storage, "wait")
    agent = await started(runtime, left)
    agent.cast(Signal(type="wait", source="/", id="1"))
    await advance(1.0)
    assert len(TOKENS["book"]) == len(set(TOKENS["book"])) == 2
    agent.view.ref.kill()  # type: ignore[union-attr]
    await settled(runtime)


@pytest.mark.parametrize("durable", [True, False])
async def test_D064_a_stop_undoes_what_was_cut_short(runtime: Runtime, storage: MemoryStorage, durable: bool) -> None:
    """Within its limit; and nobody undoes it again."""
    options = {"id": "s", "durability": Durability(storage) if durable else None}
    supervisor = await runtime.spawn(Supervisor, [ChildSpec("s", AgentServer, (Shop,), options, name="s")])
    runtime.name("s").cast(Signal(type="wait", source="/", id="1"))
    await advance(1.0)
    await supervisor.stop()
    assert LOG == ["book", "pay", "undo pay", "undo book"]
    await started(runtime, storage)
    await advance(1.0)
    assert LOG == ["book", "pay", "undo pay", "undo book"]


@pytest.mark.parametrize("durable", [True, False])
async def test_D064_what_the_caller_has_given_up_is_undone(
    runtime: Runtime, storage: MemoryStorage, durable: bool
) -> None:
    """As it is not committed."""
    agent = await started(runtime, storage if durable else None)
    with pytest.raises(TimeoutError):
        await agent.call(agent.signal("wait"), timeout=5.0)
    await advance(200.0)
    assert LOG == ["book", "pay", "undo pay", "undo book"]
    assert agent.agent.version == 0
    FAILS["undo book"] = 1
    events: list[ActionFailed] = []
    runtime.events.subscribe(events.append, ActionFailed)  # type: ignore[arg-type]
    with pytest.raises(TimeoutError):
        await agent.call(agent.signal("wait"), timeout=5.0)
    await advance(200.0)
    assert [one.action for one in events] == ["rollback"]


@pytest.mark.parametrize("durable", [True, False])
async def test_what_cannot_be_committed_is_undone(runtime: Runtime, storage: MemoryStorage, durable: bool) -> None:
    """A failure in the chain, a directive that cannot be kept."""
    agent = await started(runtime, storage if durable else None)
    reply = await agent.call(agent.signal("bad"))
    assert (len(reply.errors), reply.kept) == (1, False)
    assert LOG == ["book", "pay", "undo pay", "undo book"]
    if durable:
        LOG.clear()
        reply = await agent.call(agent.signal("unkept"))
        assert (reply.errors[0].stage, reply.kept) == ("commit", False)
        assert LOG == ["book", "undo book"]
        loaded = await storage.load("/shop/s")
        assert loaded is not None
        assert [row.kind for row in loaded.rows if row.kind == "saga"] == []


async def test_a_save_that_fails_is_undone(runtime: Runtime) -> None:
    """In this incarnation; and a step that cannot be written down is not run."""
    for known in (LOG, TOKENS, FAILS, DONE):
        known.clear()  # type: ignore[attr-defined]

    class Full(MemoryStorage):
        turns = rows = False

        async def commit(self, commit: AgentCommit) -> None:
            if (self.turns and commit.expected is not None) or (self.rows and commit.expected is None):
                raise StorageError("full")
            await super().commit(commit)

    storage = Full()
    agent = await started(runtime, storage)
    storage.turns = True
    reply = await agent.call(agent.signal("good"))
    assert (reply.errors[0].stage, reply.kept) == ("commit", False)
    assert LOG == ["book", "pay", "turn", "undo pay", "undo book"]
    LOG.clear()
    storage.turns, storage.rows = False, True
    reply = await agent.call(agent.signal("good"))
    assert (reply.errors[0].error.kind, LOG) == ("agents.errors.NotSaved", [])
    storage.rows = False
    await advance(5.0)
    assert not (await agent.call(agent.signal("good"))).errors


async def test_D070_what_is_committed_is_not_undone(runtime: Runtime, storage: MemoryStorage) -> None:
    """By nobody."""
    agent = await started(runtime, storage)
    assert (await agent.call(agent.signal("good"))).kept
    agent.view.ref.kill()  # type: ignore[union-attr]
    agent = await started(runtime, storage)
    await advance(1.0)
    assert (LOG, agent.state.n) == (["book", "pay", "turn"], 1)


@pytest.mark.parametrize("what", ["side", "both"])
async def test_D068_steps_side_by_side_are_undone_newest_first(
    runtime: Runtime, storage: MemoryStorage, what: str
) -> None:
    """By when they were begun."""
    left = await left_in_the_middle(runtime, storage, what)
    assert LOG == ["a", "b"]
    await started(runtime, left)
    await advance(1.0)
    assert LOG == ["a", "b", "undo b", "undo a"]


async def test_what_a_step_has_returned_may_not_be_known(runtime: Runtime, storage: MemoryStorage) -> None:
    """If it could not be written down, or is not as declared any more."""
    left = await left_in_the_middle(runtime, storage, "odd")
    rows = left._kept["/shop/s"].rows
    for name, row in rows.items():
        kept = msgspec.msgpack.decode(row.body[4:])
        if row.kind == "saga" and kept["value"] == {"n": 3}:
            body = with_checksum(msgspec.msgpack.encode({**kept, "value": "x"}))
            rows[name] = msgspec.structs.replace(row, body=body)
    DONE.clear()
    await started(runtime, left)
    await advance(1.0)
    assert DONE == {"odd": None, "strict": None}


async def test_D067_what_cannot_be_undone_is_told_and_can_be_tried_again(
    runtime: Runtime, storage: MemoryStorage
) -> None:
    """After an hour, between other turns; the older steps are undone all the same, and at once."""
    left = await left_in_the_middle(runtime, storage, "wait")
    FAILS["undo pay"] = 1000
    events: list[EffectDead] = []
    runtime.events.subscribe(events.append, EffectDead)  # type: ignore[arg-type]
    agent = await started(runtime, left)
    begun = runtime.clock.time()
    assert not (await agent.call(agent.signal("add"))).errors
    assert (runtime.clock.time() - begun, LOG[2:]) == (0.0, ["undo pay", "undo book", "turn"])
    await advance(0.3)
    assert LOG[5:] == ["undo pay"]
    await advance(3500.0)
    assert (set(LOG[5:]), LOG.count("undo pay") < 80, events) == ({"undo pay"}, True, [])
    await advance(200.0)
    assert [one.what for one in events] == ["Compensation"]
    (dead,) = await agent.dead_effects()
    assert "undo pay fails" in (dead.why or "")
    assert {dead.token} == set(TOKENS["undo pay"])
    FAILS["undo pay"] = 2
    assert await agent.redrive(dead.token) == 1
    await advance(1.0)
    assert await agent.dead_effects() == ()
    agent.view.ref.kill()  # type: ignore[union-attr]
    count = len(LOG)
    agent = await started(runtime, left)
    await advance(1.0)
    assert (len(LOG), await agent.dead_effects()) == (count, ())


async def test_D067_what_cannot_be_undone_is_tried_newest_first_by_each_incarnation(
    runtime: Runtime, storage: MemoryStorage
) -> None:
    """With the same tokens; how often, and what was wrong, is kept for whoever looks."""
    left = await left_in_the_middle(runtime, storage, "wait")
    FAILS["undo pay"], FAILS["undo book"] = 2, 3
    agent = await started(runtime, left)
    await advance(0.1)
    agent.view.ref.kill()  # type: ignore[union-attr]
    loaded = await left.load("/shop/s")
    assert loaded is not None
    tried = [read_effect(row) for row in loaded.rows if row.kind == "effect"]
    assert [(one.what, one.attempts, one.error) for one in tried] == [
        ("Compensation", 1, "RuntimeError: undo pay fails"),
        ("Compensation", 1, "RuntimeError: undo book fails"),
    ]
    assert [one.token for one in tried] == [TOKENS["undo pay"][-1], TOKENS["undo book"][-1]]
    agent = await started(runtime, left)
    await advance(0.1)
    assert LOG[2:] == ["undo pay", "undo book"] * 2
    await advance(5.0)
    assert LOG[6:] == ["undo pay", "undo book", "undo book"]
    assert (len(set(TOKENS["undo pay"])), len(set(TOKENS["undo book"]))) == (1, 1)


async def test_what_cannot_be_undone_with_its_turn_is_undone_later(runtime: Runtime, storage: MemoryStorage) -> None:
    """Though others are committed meanwhile, and the process dies; what its signal causes next has other tokens."""
    agent = await started(runtime, storage)
    FAILS["undo pay"] = 3
    bad = Signal(type="bad", source="/", id="1")
    assert (await agent.call(bad)).errors
    assert LOG == ["book", "pay", "undo pay", "undo book"]
    await agent.call(agent.signal("good"))
    assert LOG[4:] == ["book", "pay", "turn"]
    await advance(0.3)
    assert LOG[7:] == ["undo pay"]
    agent.view.ref.kill()  # type: ignore[union-attr]
    agent = await started(runtime, storage)
    await advance(5.0)
    assert LOG[8:] == ["undo pay", "undo pay"]
    assert len(set(TOKENS["undo pay"])) == 1
    await agent.call(bad)
    assert len(set(TOKENS["pay"])) == 3
    agent.view.ref.kill()  # type: ignore[union-attr]
    count = len(LOG)
    await started(runtime, storage)
    await advance(5.0)
    assert len(LOG) == count


async def test_what_was_undone_and_could_not_be_written_down_is_not_undone_beside_other_turns(runtime: Runtime) -> None:
    """It is written down with the next turn."""
    for known in (LOG, TOKENS, FAILS, DONE):
        known.clear()  # type: ignore[attr-defined]

    class Full(MemoryStorage):
        async def commit(self, commit: AgentCommit) -> None:
            if LOG[-1:] == ["undo pay"]:
                raise StorageError("full")
            await super().commit(commit)

    storage = Full()
    agent = await started(runtime, storage)
    await agent.call(agent.signal("bad"))
    await agent.call(agent.signal("good"))
    await advance(5.0)
    agent.view.ref.kill()  # type: ignore[union-attr]
    await started(runtime, storage)
    await advance(5.0)
    assert LOG == ["book", "pay", "undo pay", "undo book", "book", "pay", "turn"]


async def test_what_can_never_be_undone_is_told_after_an_hour(runtime: Runtime, storage: MemoryStorage) -> None:
    """Each by itself: two steps of two turns, and with the tokens that their actions see."""
    agent = await started(runtime, storage)
    FAILS["undo pay"] = 1000
    for id in ("1", "2"):
        await agent.call(Signal(type="bad", source="/", id=id))
    await advance(3500.0)
    assert await agent.dead_effects() == ()
    await advance(200.0)
    dead = await agent.dead_effects()
    assert {one.token for one in dead} == set(TOKENS["undo pay"])
    assert len(dead) == 2
    FAILS.clear()
    assert await agent.redrive() == 2
    await advance(1.0)
    assert await agent.dead_effects() == ()


async def test_an_undone_step_that_cannot_be_written_down_is_undone_again(runtime: Runtime) -> None:
    """By the next incarnation: at least once. If another owner is there, it ends."""
    for known in (LOG, TOKENS, FAILS, DONE):
        known.clear()  # type: ignore[attr-defined]

    class Moody(MemoryStorage):
        error: StorageError | None = None

        async def commit(self, commit: AgentCommit) -> None:
            if self.error is not None and commit.expected is None:
                raise self.error
            await super().commit(commit)

    left = await left_in_the_middle(runtime, MemoryStorage(), "wait")
    storage = Moody()
    storage._kept, storage._stored, storage._journal = left._kept, left._stored, left._journal
    storage.error = StorageError("full")
    agent = await started(runtime, storage)
    await settled(runtime)
    agent.view.ref.kill()  # type: ignore[union-attr]
    storage.error = None
    agent = await started(runtime, cut(left))
    await advance(1.0)
    assert LOG.count("undo book") == 2
    agent.view.ref.kill()  # type: ignore[union-attr]
    storage.error = StorageConflict("/shop/s", 1, 2, "epoch")
    agent = await started(runtime, storage)
    await settled(runtime)
    assert not agent.view.ref.alive  # type: ignore[union-attr]


async def test_a_type_may_do_without(runtime: Runtime, storage: MemoryStorage) -> None:
    """Then what was done stays when its process dies; and a class that cannot be imported is no obstacle."""

    class Local(Action[None]):
        async def run(self, context: Context[Any]) -> None:
            LOG.append("local")

        async def compensate(self, context: Context[Any], done: Any, error: Exception) -> None:
            LOG.append("undo local")

    class Careless(AgentType[State]):
        saga = False
        routes = {"go": Chain(Local, Fail)}

    class Careful(AgentType[State]):
        routes = {"go": Chain(Local, Fail)}

    agent = await started(runtime, storage, Careless)
    await agent.call(agent.signal("go"))
    assert LOG == ["local", "undo local"]
    await agent.stop()
    agent = await started(runtime, storage, Careful)
    reply = await agent.call(agent.signal("go"))
    assert "say saga = False" in reply.errors[0].error.message
    assert LOG == ["local", "undo local"]


async def test_only_of_so_many_signals_it_is_remembered(
    runtime: Runtime, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How often what they had caused was undone; the oldest is forgotten."""
    monkeypatch.setattr(sagas, "RUNS", 2)
    agent = await started(runtime, storage)
    for _ in range(4):
        await agent.call(agent.signal("bad"))
    loaded = await storage.load("/shop/s")
    assert loaded is not None
    assert len([row for row in loaded.rows if row.kind == "run"]) == 2


async def test_a_delivery_that_was_undone_comes_again(runtime: Runtime, storage: MemoryStorage) -> None:
    """And is done then, with tokens of its own."""
    agent = await started(runtime, storage)
    bus = await runtime.spawn(Bus)
    await subscribe(bus, "**", runtime.name("s"), name="s", attempts=3, retry=0.1)
    FAILS["pay"] = 1
    await publish(bus, Signal(type="good", source="/", id="1"))
    await advance(5.0)
    assert LOG == ["book", "pay", "undo pay", "undo book", "book", "pay", "turn"]
    assert len(set(TOKENS["book"])) == 2
    assert agent.state.n == 1


# -- compensations that never end --------------------------------------------------------------------------------------

#: What never ends: the names of steps, and which of them does not even if it is cancelled.
HANGS: set[str] = set()
STUBBORN: set[str] = set()


class Long(Action[None]):
    """Takes for ever to be undone."""

    name: str
    attempts = Attempts(undo_timeout=10.0)

    async def run(self, context: Context[Any]) -> None:
        """Do it."""
        note(self.name, context)

    async def compensate(self, context: Context[Any], done: Any, error: Exception) -> None:
        """Undo it, or wait."""
        note(f"undo {self.name}", context)
        while self.name in HANGS:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                if self.name not in STUBBORN:
                    raise


async def counts(agent: AgentHandle[State]) -> dict[str, Any]:
    """Return how much an agent keeps beside its state."""
    kept: dict[str, Any] = (await get_status(agent.address)).status["kept"]
    return kept


def long(name: str) -> Any:
    """Return a step that takes for ever to be undone."""
    return (Long, {"name": name})


class Slow(AgentType[State]):
    """Books, ships and pays."""

    name = "shop"
    routes = {
        "wait": Chain(step("book"), long("ship"), long("pay"), Wait),
        "bad": Chain(step("book"), long("ship"), Fail),
        "add": Add,
    }


@pytest.fixture
def hanging() -> Iterator[None]:
    """Two steps hang."""
    HANGS.update(("ship", "pay"))
    yield
    HANGS.clear()
    STUBBORN.clear()


@pytest.mark.usefixtures("hanging")
@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_compensation_that_hangs_holds_nothing_up_for_long(
    runtime: Runtime, storage: MemoryStorage, stubborn: bool
) -> None:
    """Each is tried as long as its action says; then the agent serves, and they are tried again beside the turns."""
    left = await left_in_the_middle(runtime, storage, "wait", Slow)
    STUBBORN.update(HANGS if stubborn else ())
    delayed: list[CompensationDelayed] = []
    runtime.events.subscribe(delayed.append, CompensationDelayed)  # type: ignore[arg-type]
    agent = await started(runtime, left, Slow)
    begun = runtime.clock.time()
    assert not (await agent.call(agent.signal("add"), None)).errors
    assert runtime.clock.time() - begun == 20.0
    assert LOG[3:7] == ["undo pay", "undo ship", "undo book", "turn"]
    assert [(one.action, one.why) for one in delayed] == [("Long", "it takes longer than 10 s")] * 2
    assert {one.token for one in delayed} == {TOKENS["undo pay"][0], TOKENS["undo ship"][0]}
    kept = await counts(agent)
    assert (kept["compensations"], kept["sagas"]) == (2, 0)
    await advance(5.0)
    assert LOG[7:] == ["undo pay"]
    begun = runtime.clock.time()
    assert (await agent.call(agent.signal("add"))).agent.state.n == 2
    assert runtime.clock.time() == begun
    await advance(10.0)
    assert LOG[7:] == ["undo pay", "turn", "undo ship"]
    HANGS.clear()
    await advance(100.0)
    assert LOG[10:] == ["undo pay", "undo ship"]
    assert len(set(TOKENS["undo pay"])) == 1
    assert (await counts(agent))["compensations"] == 0
    loaded = await left.load("/shop/s")
    assert loaded is not None
    assert [row for row in loaded.rows if row.kind == "effect"] == []


@pytest.mark.usefixtures("hanging")
async def test_a_stop_ends_a_compensation_that_hangs_beside_the_turns(runtime: Runtime, storage: MemoryStorage) -> None:
    """It is tried by the next incarnation."""
    left = await left_in_the_middle(runtime, storage, "wait", Slow)
    agent = await started(runtime, left, Slow)
    await agent.call(agent.signal("add"), None)
    await advance(5.0)
    assert LOG[-1] == "undo pay"
    await agent.stop()
    await settled(runtime)
    assert [actor for actor in runtime.actors() if "Compensation" in str(actor)] == []
    HANGS.clear()
    await started(runtime, left, Slow)
    await advance(1.0)
    assert LOG[-2:] == ["undo pay", "undo ship"]


@pytest.mark.usefixtures("hanging")
async def test_a_compensation_that_hangs_in_its_own_turn_is_tried_again_beside_the_next(
    runtime: Runtime, storage: MemoryStorage
) -> None:
    agent = await started(runtime, storage, Slow)
    begun = runtime.clock.time()
    reply = await agent.call(agent.signal("bad"), None)
    assert "could not be undone (TimeoutError('it takes longer than 10 s'))" in str(reply.errors[-1].error)
    assert (runtime.clock.time() - begun, LOG) == (10.0, ["book", "ship", "undo ship", "undo book"])
    assert (await agent.call(agent.signal("add"))).agent.state.n == 1
    HANGS.clear()
    await advance(100.0)
    assert LOG[4:] == ["turn", "undo ship"]


async def test_a_compensation_may_run_into_a_time_limit_of_its_own(runtime: Runtime, storage: MemoryStorage) -> None:
    """That is another error than that of its action's."""

    class Limited(Action[None]):
        async def run(self, context: Context[Any]) -> None:
            """Do it."""

        async def compensate(self, context: Context[Any], done: Any, error: Exception) -> None:
            raise TimeoutError("its own")

    with pytest.raises(CompensationFailed, match="its own"):
        await aexecute(Chain(Limited, Fail))


class Asks(Action[None]):
    """Asks its agent when it is undone."""

    async def run(self, context: Context[Any]) -> None:
        """Do it."""
        LOG.append("ask")

    async def compensate(self, context: Context[Any], done: Any, error: Exception) -> None:
        """Ask."""
        LOG.append("undo ask")
        assert context.ref is not None
        await context.ref.call(GetView())


class Asking(AgentType[State]):
    """Asks."""

    name = "shop"
    routes = {"wait": Chain(Asks, Wait), "add": Add}


async def test_a_compensation_may_ask_its_agent_once_that_serves(runtime: Runtime, storage: MemoryStorage) -> None:
    """Before its first turn the agent does not answer, and that is told at once."""
    left = await left_in_the_middle(runtime, storage, "wait", Asking)
    agent = await started(runtime, left, Asking)
    begun = runtime.clock.time()
    await agent.call(agent.signal("add"))
    assert (runtime.clock.time() - begun, LOG) == (0.0, ["ask", "undo ask", "turn"])
    await advance(5.0)
    assert LOG[3:] == ["undo ask"]
    assert (await counts(agent))["compensations"] == 0


async def test_what_cannot_be_undone_any_more_is_told_with_why(
    runtime: Runtime, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its class is gone; when it is there again, it is undone."""
    left = await left_in_the_middle(runtime, storage, "wait")
    delayed: list[CompensationDelayed] = []
    runtime.events.subscribe(delayed.append, CompensationDelayed)  # type: ignore[arg-type]
    with monkeypatch.context() as patched:
        patched.delattr(f"{__name__}.Step")
        agent = await started(runtime, left)
        await agent.call(agent.signal("add"))
        await advance(0.3)
        assert {(one.action, one.why.split(":")[0]) for one in delayed} == {("Step", "AttributeError")}
        assert len(delayed) == 4
    await advance(5.0)
    assert LOG[2:] == ["turn", "undo pay", "undo book"]


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), 10**400, None, "5"])
def test_the_time_for_undoing_is_a_length_of_time(wrong: Any) -> None:
    with pytest.raises(BadTime, match="undo_timeout"):
        Attempts(undo_timeout=wrong)
