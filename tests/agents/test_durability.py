"""Agents that survive: policies, journals, hibernation, what cannot be read, and what cannot be saved (S47)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agents import (
    Action,
    AgentHandle,
    AgentServer,
    AgentType,
    BadCheckpoint,
    Context,
    Cron,
    Emit,
    NotSaved,
    Plugin,
    Result,
    SetSlice,
    Signal,
    StateMachineStrategy,
    StepByStep,
    StopAfter,
    Unschedule,
    connect,
    start_agent,
)
from agents.durability import (
    AgentCommit,
    Durability,
    EverySeconds,
    EveryTurns,
    MemoryStorage,
    OnCommit,
    StorageError,
    Stored,
    history,
    replay,
)
from agents.durability.checkpoint import FORMAT, Checkpoint, encoded, read_checkpoint, with_checksum
from supervision import Abnormal, Actor, ChildSpec, Ref, Runtime, StartError, Supervisor, system
from supervision.errors import BadOption, BadTime
from supervision.testing import advance, settled
from tests.agents.kinds import Listener


class State(msgspec.Struct, frozen=True, rename="camel"):
    """A state, whose fields have other names outside."""

    counter: int = 0
    last_note: str = ""
    anything: Any = None


class Add(Action[dict[str, Any]]):
    """Count."""

    amount: int = 1

    def run(self, context: Context[State]) -> dict[str, Any]:
        """Count."""
        return {"counter": context.state.counter + self.amount}


class Take(Action[dict[str, Any]]):
    """Keep anything, and say so."""

    what: Any

    def run(self, context: Context[State]) -> Result[dict[str, Any]]:
        """Keep it."""
        return Result({"anything": object() if self.what == "object" else self.what}, (Emit("taken", to="listener"),))


class Repeat(Action[None]):
    """Begin or end a cron job."""

    on: bool = True

    def run(self, context: Context[State]) -> Result[None]:
        """Begin or end it."""
        return Result(None, (Cron("* * * * *", "add", {}, id="job") if self.on else Unschedule("job"),))


class Counter(AgentType[State]):
    """Counts."""

    name = "counter"
    routes = {"add": Add, "take": Take, "repeat": Repeat}


async def started(runtime: Runtime, storage: Any, kind: Any = Counter, **options: Any) -> AgentHandle[State]:
    """Start an agent that is kept in a storage."""
    server = {name: options.pop(name) for name in ("on_error", "state") if name in options}
    return await start_agent(runtime, kind, id="c", durability=Durability(storage, **options), **server)


async def add(agent: AgentHandle[State], times: int = 1) -> None:
    """Count."""
    for _ in range(times):
        await agent.call(agent.signal("add"))


def killed(agent: AgentHandle[Any]) -> None:
    """Kill a server."""
    assert agent.view.ref is not None
    agent.view.ref.kill()


async def turn_of(storage: MemoryStorage) -> int:
    """Return the turn that was saved last."""
    loaded = await storage.load("/counter/c")
    assert loaded is not None
    return loaded.turn


# -- policies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("journal", [False, True])
async def test_s47_a_round_trip_keeps_all(runtime: Runtime, journal: bool) -> None:
    """An agent that was stopped, in whichever way, comes back as it was."""
    storage = MemoryStorage()
    agent = await started(runtime, storage, journal=journal, state={"counter": 40, "last_note": "hi"})
    await add(agent, 2)
    before = agent.agent
    for how in (killed, lambda one: one.view.ref.exit(Abnormal("x"))):
        how(agent)
        await settled(runtime)
        agent = await started(runtime, storage, journal=journal)
        assert agent.agent == before
    await agent.stop()
    assert (await started(runtime, storage)).agent == before


@pytest.mark.parametrize(
    ("policy", "lost"), [(OnCommit(), 0), (EveryTurns(2), 1), (EveryTurns(5), 3), (EverySeconds(10.0), 3)]
)
@pytest.mark.parametrize("journal", [False, True])
async def test_a_kill_loses_what_the_policy_says(runtime: Runtime, policy: Any, lost: int, journal: bool) -> None:
    """Nothing with `OnCommit`; else what came since the last checkpoint."""
    storage = MemoryStorage()
    agent = await started(runtime, storage, policy=policy, journal=journal)
    await add(agent, 3)
    killed(agent)
    assert (await started(runtime, storage)).state.counter == 3 - lost


async def test_a_checkpoint_comes_in_time(runtime: Runtime) -> None:
    """Some seconds after a commit, once for all commits until then, and not again without one."""
    storage = MemoryStorage()
    agent = await started(runtime, storage, policy=EverySeconds(10.0))
    await add(agent, 3)
    await advance(9.0)
    assert await turn_of(storage) == 0
    await advance(1.5)
    assert await turn_of(storage) == 3
    await advance(100.0)
    await add(agent)
    await agent.call(agent.signal("repeat", {"on": False}))
    await advance(11.0)
    await agent.stop()
    assert (await started(runtime, storage)).state.counter == 4


class Friend(Actor):
    """Is linked to somebody."""

    def __init__(self, to: Ref) -> None:
        self.link(to)


async def test_a_durable_agent_outlives_friends_that_end_in_order(runtime: Runtime) -> None:
    """And saves itself when one crashes."""
    storage = MemoryStorage()
    agent = await started(runtime, storage, policy=EveryTurns(100))
    await add(agent)
    assert agent.view.ref is not None
    friend = await runtime.spawn(Friend, agent.view.ref)
    await friend.stop()
    await settled(runtime)
    assert agent.view.ref.reason is None
    status = (await system.get_status(agent.view.ref)).status
    assert (status["agent"], status["version"], status["last_error"]) == ("c", 1, None)
    other = await runtime.spawn(Friend, agent.view.ref)
    other.exit(Abnormal("boom"))
    await settled(runtime)
    assert agent.view.ref.reason == Abnormal("boom")
    assert (await started(runtime, storage)).state.counter == 1


async def test_an_order_to_stop_from_above_saves_as_well(runtime: Runtime) -> None:
    """A supervisor that shuts down, as in a deployment, loses nothing either."""
    storage = MemoryStorage()
    options = {"id": "c", "durability": Durability(storage, EveryTurns(1000))}
    supervisor = await runtime.spawn(Supervisor, [ChildSpec("c", AgentServer, (Counter,), options, name="c")])
    agent = await connect(runtime.name("c"), Counter)
    await add(agent, 5)
    await supervisor.stop()
    assert (await started(runtime, storage)).state.counter == 5


async def test_a_supervised_agent_goes_on_after_a_crash(runtime: Runtime) -> None:
    """From its last commit; its clients need not know."""
    storage = MemoryStorage()
    options = {"id": "c", "durability": Durability(storage), "on_error": StopAfter(1)}
    supervisor = await runtime.spawn(Supervisor, [ChildSpec("c", AgentServer, (Counter,), options, name="c")])
    agent = await connect(runtime.name("c"), Counter)
    await add(agent, 2)
    agent.cast(agent.signal("add", {"amount": "x"}))
    await settled(runtime)
    await add(agent)
    assert (await connect(runtime.name("c"), Counter)).state.counter == 3
    await supervisor.stop()


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Durability(3), BadOption),  # type: ignore[arg-type]
        (lambda: Durability(MemoryStorage(), 3), BadOption),  # type: ignore[arg-type]
        (lambda: EveryTurns(0), BadOption),
        (lambda: EveryTurns(True), BadOption),
        (lambda: EverySeconds(0), BadTime),
    ],
)
def test_wrong_policies_are_refused(make: Any, error: type[Exception]) -> None:
    """Where they are given."""
    with pytest.raises(error):
        make()


# -- journals ----------------------------------------------------------------------------------------------------------


async def test_any_version_can_be_had_again(runtime: Runtime) -> None:
    """From the journal: each commit with its cause, and what it has changed, and no more."""
    storage = MemoryStorage()
    agent = await started(runtime, storage, journal=True)
    signals = [agent.signal("add", {"amount": n}) for n in range(1, 5)]
    for signal in signals:
        await agent.call(signal)
    await agent.call(agent.signal("add", {"amount": 0}))
    entries = await history(storage, "/counter/c")
    assert [(entry.version, entry.state) for entry in entries] == [
        *((n, {"counter": total}) for n, total in ((1, 1), (2, 3), (3, 6), (4, 10))),
        (5, {}),
    ]
    assert [entry.signal and entry.signal.id for entry in entries[:4]] == [signal.id for signal in signals]
    assert [(await replay(storage, Counter, "c", n)).state.counter for n in range(6)] == [0, 1, 3, 6, 10, 10]
    assert (await replay(storage, Counter, "c")).version == 5
    assert len(await history(storage, "/counter/c", 2, 4)) == 2
    with pytest.raises(BadCheckpoint, match="ends at version 5, before 9"):
        await replay(storage, Counter, "c", 9)
    await storage.trim("/counter/c", 2)
    with pytest.raises(BadCheckpoint, match="from version 0 to 3"):
        await replay(storage, Counter, "c")


async def test_a_long_journal_has_checkpoints(runtime: Runtime) -> None:
    """So that a restart does not read all of it."""
    storage = MemoryStorage()
    agent = await started(runtime, storage, journal=True)
    await add(agent, 150)
    await settled(runtime)
    stored = await storage.load("/counter/c")
    assert stored is not None
    assert (stored.version, len(stored.entries) < 150) == (150, True)
    assert len(await history(storage, "/counter/c")) == 150
    killed(agent)
    assert (await started(runtime, storage, journal=True)).state.counter == 150


# -- what else is kept -------------------------------------------------------------------------------------------------


class Slice(msgspec.Struct, frozen=True):
    """What a plugin knows."""

    n: int = 0


class Learn(Action[None]):
    """Have all plugins know something."""

    def run(self, context: Context[State]) -> Result[None]:
        """Tell them."""
        return Result(None, tuple(SetSlice(key, {"n": 7}) for key in ("plain", "cache", "session")))


class Plain(Plugin[Slice]):
    """Is kept as it is."""

    routes = {"learn": Learn}


class Cache(Plugin[Slice]):
    """Is not kept."""

    def checkpoint(self, known: Slice) -> None:
        """Keep nothing."""


class Session(Plugin[Slice]):
    """Is kept elsewhere; a pointer is kept here."""

    elsewhere: dict[str, Slice] = {}
    fails = False

    def checkpoint(self, known: Slice) -> str:
        """Keep a pointer."""
        self.elsewhere["sess-123"] = known
        return "sess-123"

    def restore(self, kept: str) -> Slice:
        """Follow it."""
        if self.fails:
            raise KeyError(kept)
        return self.elsewhere[kept]


class Plugged(AgentType[State]):
    """Has plugins, and a machine."""

    name = "plugged"
    plugins = (Plain, Cache, Session)
    strategy = StepByStep(StateMachineStrategy())
    routes = {"add": Add}


@pytest.mark.parametrize("journal", [False, True])
async def test_s47_plugins_keep_drop_or_point(runtime: Runtime, journal: bool) -> None:
    """A slice is kept, dropped, or put elsewhere; a machine goes on; what waits for a step does not."""
    storage = MemoryStorage()
    agent = await started(runtime, storage, Plugged, journal=journal)
    for type in ("plain.learn", "agent.step", "add"):
        await agent.call(agent.signal(type))
    assert agent.agent.slices["cache"] == Slice(7)
    killed(agent)
    agent = await started(runtime, storage, Plugged, journal=journal)
    slices = agent.agent.slices
    assert (slices["plain"], slices["cache"], slices["session"]) == (Slice(7), Slice(0), Slice(7))
    assert (slices["strategy"].processed_count, slices["steps"].work) == (1, ())
    Session.fails = True
    killed(agent)
    try:
        with pytest.raises(StartError) as caught:
            await started(runtime, storage, Plugged, journal=journal)
    finally:
        Session.fails = False
    assert "slice 'session': KeyError" in str(caught.value.__cause__)


@pytest.mark.parametrize("journal", [False, True])
async def test_what_a_strategy_notes_is_a_commit_as_well(runtime: Runtime, journal: bool) -> None:
    """Also where no action has changed anything: a machine that has failed has failed after a crash, too."""

    class Machined(AgentType[State]):
        name = "machined"
        strategy = StateMachineStrategy()
        routes = {"add": Add}

    storage = MemoryStorage()
    agent = await started(runtime, storage, Machined, journal=journal)
    await agent.call(agent.signal("add", {"amount": "x"}))
    assert (agent.agent.version, agent.agent.slices["strategy"].state) == (1, "failed")
    killed(agent)
    agent = await started(runtime, storage, Machined, journal=journal)
    assert (agent.agent.version, agent.agent.slices["strategy"].state) == (1, "failed")


async def test_s49_cron_jobs_are_saved(runtime: Runtime) -> None:
    """Through a kill; one that was taken back does not come again."""
    storage = MemoryStorage()
    agent = await started(runtime, storage)
    await agent.call(agent.signal("repeat"))
    killed(agent)
    agent = await started(runtime, storage)
    await advance(61.0)
    assert agent.state.counter == 1
    await agent.call(agent.signal("repeat", {"on": False}))
    killed(agent)
    agent = await started(runtime, storage)
    await advance(200.0)
    assert agent.state.counter == 1


# -- what goes wrong ---------------------------------------------------------------------------------------------------


async def test_what_cannot_be_read_is_left_as_it_is(runtime: Runtime) -> None:
    """A damaged checkpoint, one of another type, format, or state: the agent does not start, nothing is overwritten."""
    storage = MemoryStorage()
    key = "/counter/c"

    def checkpoint(**fields: Any) -> bytes:
        whole = {"format": FORMAT, "type": "counter", "id": "c", "partition": "", "version": 3, "state": {"counter": 1}}
        return with_checksum(msgspec.msgpack.encode({**whole, **fields}))

    for data, says in (
        (b"", "checksum"),
        (b"\0\0\0\0nonsense", "checksum"),
        (with_checksum(b"nonsense"), "Expected|malformed|MessagePack"),
        (with_checksum(msgspec.msgpack.encode([1])), "Expected `object`"),
        (checkpoint(format=99), "format 99"),
        (checkpoint(type="other"), "it is of other"),
        (checkpoint(state={"counter": "x"}), "Expected `int`"),
    ):
        await storage.delete(key)
        await storage.write(key, 3, expected=None, checkpoint=data)
        with pytest.raises(StartError) as caught:
            await started(runtime, storage)
        assert isinstance(caught.value.__cause__, BadCheckpoint)
        assert caught.value.__cause__.key == key
        assert any(word in str(caught.value.__cause__) for word in says.split("|"))
        assert await storage.read(key) == Stored(3, data, 3)
    await storage.delete(key)
    await storage.write(key, 3, expected=None, checkpoint=checkpoint(state={"counter": 5, "colour": 1}))
    assert (await started(runtime, storage)).state == State(counter=5)
    await storage.write(key, 4, expected=3, entries=[(4, with_checksum(b"nonsense"))])
    with pytest.raises(BadCheckpoint, match="an entry of the journal"):
        await history(storage, key)
    await storage.delete(key)
    good = with_checksum(
        msgspec.msgpack.encode({"version": 1, "time": 0.0, "signal": _SIGNAL, "state": {"counter": 8}})
    )
    await storage.write(key, 1, expected=None, entries=[(1, good)])
    await (await connect_again(runtime)).stop()
    assert (await started(runtime, storage)).state.counter == 8
    await (await connect_again(runtime)).stop()
    await storage.delete(key)
    await storage.write(key, 3, expected=None, checkpoint=checkpoint(slices={"gone": 1}))
    assert (await started(runtime, storage)).agent.slices == {}
    kept = read_checkpoint(key, checkpoint())
    assert (kept.version, kept) == (3, Checkpoint(FORMAT, "counter", "c", "", 3, {"counter": 1}))


class Packed(msgspec.Struct, frozen=True):
    """A state of which a part is bytes that are packed already."""

    part: msgspec.Raw = msgspec.Raw(b"\xc0")


class Pack(Action[Packed]):
    """Keep a part that is packed."""

    part: bytes = b""

    def run(self, context: Context[Packed]) -> Packed:
        """Keep it."""
        return Packed(msgspec.Raw(self.part))


class Packer(AgentType[Packed]):
    """Keeps what is packed."""

    routes = {"pack": Pack}


async def test_what_could_not_be_read_again_is_not_saved(runtime: Runtime) -> None:
    """A journal refuses a signal that it could not read again, a commit such a state: in their turn, not a start."""
    storage = MemoryStorage()
    agent = await started(runtime, storage, journal=True)
    forged = agent.signal("add")
    msgspec.structs.force_setattr(forged, "subject", 17)
    for wrong in (forged, msgspec.structs.replace(agent.signal("add"), extensions={"a": msgspec.Raw(b"\xc1")})):
        reply = await agent.call(wrong)
        assert (reply.agent.state, reply.errors[0].stage) == (State(), "commit")
        assert "counter.signal could not be read again" in reply.errors[0].error.message
    await add(agent)
    killed(agent)
    assert (await started(runtime, storage, journal=True)).state == State(counter=1)
    assert len(await history(storage, "/counter/c")) == 1
    packer = await started(runtime, storage, Packer)
    for part, says in (
        (b"\x01", "part would be read again as something else"),
        (b"\xc1", "part could not be read again"),
    ):
        reply = await packer.call(packer.signal("pack", {"part": part}))
        assert says in reply.errors[0].error.message
    killed(packer)
    assert (await started(runtime, storage, Packer)).agent.version == 0


async def test_what_cannot_be_saved_is_rolled_back(runtime: Runtime) -> None:
    """A commit that cannot be encoded is none: the error says where, nothing is emitted, and the next one works."""
    storage = MemoryStorage()
    heard: list[Signal] = []
    await runtime.spawn(Listener, heard, name="listener")
    for journal in (False, True):
        agent = await started(runtime, storage, journal=journal)
        before = agent.agent
        reply = await agent.call(agent.signal("take", {"what": "object"}))
        assert reply.agent == agent.agent == before
        assert reply.errors[0].action == "checkpoint"
        assert "cannot be saved" in reply.errors[0].error.message
        assert "anything" in reply.errors[0].error.message
        agent.cast(agent.signal("take", {"what": "object"}))
        await settled(runtime)
        assert heard == []
        await add(agent)
        await agent.stop()
        assert (await started(runtime, storage)).state.counter == before.state.counter + 1
        running = await connect_again(runtime)
        await running.stop()
    for value, way in (
        ({"a": [1, {"b": object()}]}, "x['a'][1]['b']"),
        (State(anything=(1, object())), "x.anything[1]"),
    ):
        with pytest.raises(NotSaved, match="cannot be saved") as caught:
            encoded(value, "x", "k")
        assert way in str(caught.value)


_SIGNAL = {"type": "add", "source": "/", "id": "1"}


async def connect_again(runtime: Runtime) -> AgentHandle[State]:
    """Return a handle of the agent that runs."""
    from agents import whereis

    ref = whereis(runtime, "c")
    assert ref is not None
    return await connect(ref, Counter)


class Moody(MemoryStorage):
    """Fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False

    async def commit(self, commit: AgentCommit) -> None:
        """Write, or fail."""
        if self.fails:
            raise StorageError("the disk is full")
        await super().commit(commit)


@pytest.mark.parametrize("journal", [False, True])
async def test_a_storage_that_fails_commits_nothing(runtime: Runtime, journal: bool) -> None:
    """The agent is as it was, the caller gets the error, and the agent goes on when the storage does."""
    storage = Moody()
    agent = await started(runtime, storage, journal=journal)
    await add(agent)
    storage.fails = True
    reply = await agent.call(agent.signal("add"))
    assert (reply.agent.state.counter, len(reply.errors)) == (1, 1)
    assert "the disk is full" in reply.errors[0].error.message
    storage.fails = False
    await add(agent)
    assert agent.state.counter == 2
    killed(agent)
    assert (await started(runtime, storage, journal=journal)).state.counter == 2


async def test_a_late_checkpoint_that_fails_is_an_error_and_tried_again(runtime: Runtime) -> None:
    """Soon, and with the next commit."""
    storage = Moody()
    agent = await started(runtime, storage, policy=EverySeconds(1.0))
    storage.fails = True
    await add(agent)
    await advance(2.0)
    assert agent.view.last_error is not None
    storage.fails = False
    await add(agent)
    await advance(2.0)
    killed(agent)
    assert (await started(runtime, storage)).state.counter == 2
