"""One commit a turn: what it costs, who may make it, what is known of it, and what survives in it (durable.md §5)."""

from __future__ import annotations

import asyncio
import enum
import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import (
    Action,
    AgentHandle,
    AgentType,
    BadCheckpoint,
    Context,
    Moved,
    NotSaved,
    Plugin,
    Signal,
    start_agent,
)
from agents.durability import (
    AgentCommit,
    Durability,
    EverySeconds,
    EveryTurns,
    JournalEntry,
    Loaded,
    MemoryStorage,
    OutcomeUnknown,
    SqliteStorage,
    StorageConflict,
    StorageError,
    StoredRow,
    history,
    replay,
)
from agents.durability.checkpoint import read_checkpoint, with_checksum
from agents.durability.checkpointer import Checkpointer
from agents.durability.delta import Part, applied, changes, lost, says_any, type_at
from agents.durability.storage import TOMBSTONE
from supervision import Runtime, StartError
from supervision.testing import advance, run, settled
from tests.agents.test_storage import SixMethods


class Colour(enum.Enum):
    """A colour."""

    RED = "red"


class Inner(msgspec.Struct, frozen=True, rename="camel"):
    """Something inside."""

    one_thing: int = 0
    loose: Any = None


class Pair(msgspec.Struct, frozen=True, array_like=True):
    """Is encoded as an array."""

    left: int = 0
    right: int = 0


class State(msgspec.Struct, frozen=True, rename="camel"):
    """A state with everything in it."""

    count: int = 0
    items: dict[str, Inner] = {}
    times: dict[str, datetime] = {}
    by_id: dict[UUID, Decimal] = {}
    tags: frozenset[str] = frozenset()
    colour: Colour = Colour.RED
    lines: tuple[str, ...] = ()
    pair: Pair = Pair()
    loose: Any = None
    loose_items: dict[str, Any] = {}
    maybe: Inner | None = None
    either: int | list[Any] | None = None
    rest: int | msgspec.UnsetType = msgspec.UNSET


class Put(Action[State]):
    """Put fields into the state as they are."""

    def run(self, context: Context[State]) -> State:
        """Put them."""
        assert context.signal is not None
        return msgspec.structs.replace(context.state, **PUT)


#: What `Put` puts.
PUT: dict[str, Any] = {}


class Add(Action[dict[str, Any]]):
    """Count."""

    def run(self, context: Context[State]) -> dict[str, Any]:
        """Count."""
        return {"count": context.state.count + 1}


class Keeper(AgentType[State]):
    """Keeps things."""

    name = "keeper"
    routes = {"put": Put, "add": Add}


KEY = "/keeper/k"


async def started(runtime: Runtime, storage: Any, kind: Any = Keeper, **options: Any) -> AgentHandle[State]:
    """Start an agent that is kept in a storage."""
    state = options.pop("state", None)
    return await start_agent(runtime, kind, id="k", state=state, durability=Durability(storage, **options))


async def put(agent: AgentHandle[State], **fields: Any) -> Any:
    """Have fields put into the state."""
    PUT.clear()
    PUT.update(fields)
    return await agent.call(agent.signal("put"))


async def add(agent: AgentHandle[State], times: int = 1) -> None:
    """Count."""
    for _ in range(times):
        await agent.call(agent.signal("add"))


def killed(agent: AgentHandle[Any]) -> None:
    """Kill a server."""
    assert agent.view.ref is not None
    agent.view.ref.kill()


class Moody(MemoryStorage):
    """Answers commits as it is told to: each item is an error, or None for a write; ``after`` it is written before."""

    def __init__(self) -> None:
        super().__init__()
        self.moods: list[StorageError | None] = []
        self.written_all_the_same = False
        self.readable = True
        self.commits: list[AgentCommit] = []

    async def load(self, key: str, before: int | None = None) -> Loaded | None:
        """Read, or fail."""
        if not self.readable:
            raise StorageError("it cannot be read")
        return await super().load(key, before)

    async def commit(self, commit: AgentCommit) -> None:
        """Write, or fail."""
        mood = self.moods.pop(0) if self.moods else None
        if mood is None or self.written_all_the_same:
            await super().commit(commit)
            self.commits.append(commit)
        if mood is not None:
            raise mood


# -- what a commit costs -----------------------------------------------------------------------------------------------


async def test_D072_a_commit_costs_what_has_changed(tmp_path: Path) -> None:
    """One item of 30,000 is some hundred bytes, and a thousand such commits make no file of three times the state."""
    storage = SqliteStorage(tmp_path / "agents.db", sync="normal")
    keeper, signal = Checkpointer(Durability(storage), Keeper), Signal(type="put", source="/", id="1")
    agent = Keeper.new("k", {"items": {f"item {n}": Inner(n) for n in range(30_000)}})
    assert await keeper.load(agent, "g") is None
    await keeper.save(agent)
    sizes = []
    for n in range(1010):
        changed: dict[str, Any] = {"count": n} if n > 9 else {"items": {**agent.state.items, f"item {n}": Inner(-1)}}
        after = msgspec.structs.replace(
            agent, state=msgspec.structs.replace(agent.state, **changed), version=agent.version + 1
        )
        turn = keeper.change(after, agent, signal, 0.0)
        assert turn is not None
        assert turn.entry is not None
        sizes.append(len(turn.entry))
        await keeper.save(after, turn)
        agent = after
    await keeper.settled()
    assert max(sizes) <= 500
    loaded = await storage.load(KEY)
    assert loaded is not None
    assert loaded.snapshot is not None
    assert loaded.at > 900
    (pages,) = storage._database.execute("PRAGMA page_count").fetchone()
    assert pages * 4096 < 3 * len(loaded.snapshot)
    again = await Checkpointer(Durability(storage), Keeper).load(Keeper.new("k"), "g")
    assert again == agent
    storage.close()


class Store(msgspec.Struct, frozen=True):
    """Much of everything."""

    items: dict[str, int] = {}
    deep: dict[str, dict[str, int]] = {}
    queue: tuple[int, ...] = ()
    log: list[str] = []


class Alter(Action[Store]):
    """Change a part, as the number says."""

    seed: int

    def run(self, context: Context[Store]) -> Store:
        """Change it."""
        chance, state = Random(self.seed), context.state
        items, queue, log, number = state.items, state.queue, state.log, chance.randrange(1200)
        match chance.randrange(10):
            case 0:
                items = {**items, f"item {number}": self.seed}
            case 1:
                items = {key: value for key, value in items.items() if key != f"item {number}"}
            case 2:
                items = dict(reversed(items.items())) | {"new": number}
            case 3:
                queue = (*queue[:number], -number, *queue[number + 1 :])
            case 4:
                queue = (*queue, self.seed)
            case 5:
                queue = queue[1:]
            case 6:
                log = [*log[: number // 2], "changed", *log[number // 2 + 1 :]]
            case 7:
                log = log[:-1]
            case 8:
                return msgspec.structs.replace(state, deep={**state.deep, "a": {**state.deep["a"], str(number): -1}})
            case _:
                items = {key: value + 1 for key, value in items.items()}
        return msgspec.structs.replace(state, items=items, queue=queue, log=log)


class SetShade(Action[dict[str, Any]]):
    """Set the shade of a colour that is given by its word."""

    word: str

    def run(self, context: Context[Any]) -> dict[str, Any]:
        """Set it."""
        return {"shades": {self.word: 2}}


class Warehouse(AgentType[Store]):
    """Has much; two changes are made at a time for some signals."""

    name = "warehouse"
    routes = {"alter": Alter, "twice": (Alter, (Alter, {"seed": 1006}), (Alter, {"seed": 1009}))}


@pytest.mark.once
async def test_large_states_are_read_as_they_were_whatever_has_changed_in_them(runtime: Runtime) -> None:
    """What has changed is looked for once, between agents that take turns in turn."""
    items = {f"item {n}": n for n in range(1100)}
    first = Store(items, {"a": dict(items)}, tuple(range(1100)), [str(n) for n in range(1100)])
    storage = MemoryStorage()

    async def begun(id: str, kept: bool) -> AgentHandle[Store]:
        durability = Durability(storage) if kept else None
        return await start_agent(runtime, Warehouse, id=id, state=first, durability=durability)

    kept, other, plain = await begun("kept", True), await begun("other", True), await begun("plain", False)
    for seed in range(120):
        for agent in (kept, other, plain):
            signal = agent.signal("alter" if seed % 3 else "twice", {"seed": seed})
            assert not (await agent.call(signal)).errors
        if seed % 10 == 9:
            killed(kept)
            kept = await begun("kept", True)
        assert kept.state == other.state == plain.state


def test_a_key_that_means_another_one_takes_its_place() -> None:
    """A mapping is checked as if the whole of it were, however few of its items are new."""

    class Shades(msgspec.Struct, frozen=True):
        shades: dict[Colour, int] = {}

    class Palette(AgentType[Shades]):
        pass

    agent = Palette.new("p", Shades({Colour.RED: 1}))
    for word in ("red", "red"):
        agent = Palette.cmd(agent, SetShade(word)).agent
        assert agent.state.shades == {Colour.RED: 2}


async def test_snapshots_are_written_beside_the_turns(runtime: Runtime) -> None:
    """When the log is long; the log before the last one but one is gone, unless it is a journal."""
    for journal in (False, True):
        storage = Moody()
        agent = await started(runtime, storage, journal=journal)
        for n in range(60):
            await put(agent, lines=(str(n) * 500,))
        await settled(runtime)
        loaded = await storage.load(KEY)
        assert loaded is not None
        assert (loaded.at > 1, len(loaded.entries) < 40) == (True, True)
        assert (len(await storage.entries(KEY, -1)) == 60) is journal
        killed(agent)
        agent = await started(runtime, storage, journal=journal)
        assert agent.state.lines == ("59" * 500,)
        await agent.stop()


async def test_a_snapshot_that_fails_is_tried_again_later(runtime: Runtime) -> None:
    """And no turn notices it."""

    class NoSnapshots(MemoryStorage):
        async def commit(self, commit: AgentCommit) -> None:
            if commit.expected is None:
                raise StorageError("full")
            await super().commit(commit)

    storage = NoSnapshots()
    agent = await started(runtime, storage)
    await add(agent)
    for n in range(60):
        assert not (await put(agent, lines=(str(n) * 500,))).errors
    await settled(runtime)
    killed(agent)
    assert (await started(runtime, storage)).state.lines == ("59" * 500,)


async def test_the_end_waits_for_a_snapshot(runtime: Runtime) -> None:
    """That is being written."""

    class Slow(MemoryStorage):
        async def commit(self, commit: AgentCommit) -> None:
            if commit.expected is None:
                await advance(5.0)
            await super().commit(commit)

    storage = Slow()
    agent = await started(runtime, storage, policy=EveryTurns(2))
    for n in range(31):
        await put(agent, lines=(str(n) * 500,))
    await agent.stop()
    loaded = await storage.load(KEY)
    assert loaded is not None
    assert (loaded.turn, loaded.at > 2) == (31, True)


async def test_a_snapshot_that_cannot_be_read_is_not_needed(runtime: Runtime) -> None:
    """The one before it and the log behind that say the same; without one, the agent does not start."""
    storage = MemoryStorage()
    agent = await started(runtime, storage)
    for n in range(30):
        await put(agent, lines=(str(n) * 500,))
    await settled(runtime)
    killed(agent)
    snapshots = storage._kept[KEY].snapshots
    newest, older = max(snapshots), min(snapshots)
    snapshots[newest] = b"damaged"
    agent = await started(runtime, storage)
    assert agent.state.lines == ("29" * 500,)
    killed(agent)
    snapshots[older] = b"damaged"
    with pytest.raises(StartError, match="checksum"):
        await started(runtime, storage)
    del snapshots[older]
    with pytest.raises(StartError, match="checksum"):
        await started(runtime, storage)


async def test_a_log_that_ends_too_early_is_refused(runtime: Runtime) -> None:
    """What was acknowledged cannot be found: nobody goes on as if it had not been."""
    storage = MemoryStorage()
    agent = await started(runtime, storage)
    await add(agent, 3)
    killed(agent)
    log = storage._journal[KEY]
    last = log.pop()
    with pytest.raises(StartError, match="saved at version 3, and its log ends at 2"):
        await started(runtime, storage)
    for parts in ((Part(("nothing", "there"), 1),), (Part(("count", "x"), 1),), (Part((), 3), Part(("x",), 1))):
        entry = JournalEntry(3, 0.0, None, {}, parts=parts)
        log[:] = [*log[:1], (3, with_checksum(msgspec.msgpack.encode(entry)))]
        with pytest.raises(StartError, match=r"does not fit the state|Expected"):
            await started(runtime, storage)
    del log[:]
    log.append(last)
    with pytest.raises(StartError, match="from version 1 to 3"):
        await started(runtime, storage)


# -- what is known of a commit -----------------------------------------------------------------------------------------


async def test_D019_a_save_that_fails_surely_is_no_turn(runtime: Runtime) -> None:
    """The caller gets the error, the state is the old one, and the next turn has the number of this one."""
    storage = Moody()
    agent = await started(runtime, storage)
    await add(agent)
    storage.moods = [StorageError("the disk is full")]
    reply = await agent.call(agent.signal("add"))
    assert (reply.agent.state.count, reply.errors[0].error.kind) == (1, "agents.errors.NotSaved")
    assert not reply.kept
    await add(agent)
    assert [commit.turn for commit in storage.commits] == [1, 2]


async def test_D020_an_unknown_outcome_is_looked_up(runtime: Runtime) -> None:
    """Written all the same: the turn is one. Not written: it is none. Neither is known: the server ends."""
    storage = Moody()
    agent = await started(runtime, storage)
    await add(agent)
    storage.moods, storage.written_all_the_same = [OutcomeUnknown("the line was cut")], True
    reply = await agent.call(agent.signal("add"))
    assert (reply.agent.state.count, reply.errors) == (2, ())
    storage.moods, storage.written_all_the_same = [OutcomeUnknown("the line was cut")], False
    reply = await agent.call(agent.signal("add"))
    assert (reply.agent.state.count, reply.errors[0].error.kind) == (2, "agents.errors.NotSaved")
    await add(agent)
    assert agent.state.count == 3
    storage.moods, storage.readable = [OutcomeUnknown("the line was cut")], False
    with pytest.raises(OutcomeUnknown, match="cannot be read again"):
        await agent.call(agent.signal("add"))
    await settled(runtime)
    assert agent.view.ref is not None
    assert not agent.view.ref.alive
    storage.readable = True
    assert (await started(runtime, storage)).state.count == 3


async def test_an_unknown_outcome_may_show_another_owner(runtime: Runtime) -> None:
    """Then the server ends as if it had been told."""
    storage = Moody()
    agent = await started(runtime, storage)
    await add(agent)
    await storage.claim(KEY, "other")
    storage.moods = [OutcomeUnknown("the line was cut")]
    agent.cast(agent.signal("add"))
    await settled(runtime)
    assert agent.view.ref is not None
    assert not agent.view.ref.alive


@pytest.mark.parametrize("policy", [EverySeconds(1.0), EveryTurns(1)])
async def test_D022_a_save_that_fails_is_tried_again_by_every_policy(runtime: Runtime, policy: Any) -> None:
    """After pauses that double, though nothing else happens."""
    storage = Moody()
    agent = await started(runtime, storage, policy=policy)
    storage.moods = [StorageError("full")] * 3
    await add(agent)
    await advance(1.0 + 0.25 + 0.5 + 0.9 if isinstance(policy, EverySeconds) else 0.25 + 0.5 + 0.9)
    assert storage.commits == []
    await advance(0.2)
    assert [commit.turn for commit in storage.commits] == [1]
    killed(agent)
    assert (await started(runtime, storage)).state.count == 1


async def test_another_owner_ends_a_server_that_saves_later(runtime: Runtime) -> None:
    """By a timer as well."""
    storage = MemoryStorage()
    agent = await started(runtime, storage, policy=EverySeconds(1.0))
    await add(agent)
    await storage.claim(KEY, "other")
    await advance(1.5)
    assert agent.view.ref is not None
    assert not agent.view.ref.alive


async def test_D024_many_agents_share_transactions(runtime: Runtime, tmp_path: Path) -> None:
    """What waits goes into the next one."""
    storage, transactions = SqliteStorage(tmp_path / "agents.db", sync="normal"), 0
    durability = Durability(storage)
    agents = [await start_agent(runtime, Keeper, id=str(n), durability=durability) for n in range(500)]
    write = storage._commit

    def counted(batch: Any) -> Any:
        nonlocal transactions
        transactions += 1
        return write(batch)

    storage._commit = counted  # type: ignore[method-assign]
    await asyncio.gather(*(agent.call(agent.signal("add")) for agent in agents))
    assert transactions <= 20
    for agent in agents:
        killed(agent)
    storage.close()


async def test_D025_one_of_a_hundred_conflicts_alone(tmp_path: Path) -> None:
    """In one transaction."""
    storage = SqliteStorage(tmp_path / "agents.db")
    for n in range(100):
        await storage.claim(f"k{n}", "g")
    commits = [AgentCommit(key=f"k{n}", epoch=1, expected=n == 50, turn=1, version=1) for n in range(100)]
    outcomes = await asyncio.gather(*map(storage.commit, commits), return_exceptions=True)
    assert [type(one) for one in outcomes] == [type(None)] * 50 + [StorageConflict] + [type(None)] * 49
    storage.close()


async def test_D026_a_full_disk_refuses_and_recovers(runtime: Runtime, tmp_path: Path) -> None:
    """Commits are errors, reads go on; with room again, so do commits, without a restart."""
    storage = SqliteStorage(tmp_path / "agents.db")
    agent = await started(runtime, storage)
    await add(agent)
    (pages,) = storage._database.execute("PRAGMA page_count").fetchone()
    storage._database.execute(f"PRAGMA max_page_count = {pages}")
    reply = await put(agent, lines=("x" * 1_000_000,))
    assert "full" in reply.errors[0].error.message
    assert (agent.state.lines, (await storage.load(KEY)) is not None) == ((), True)
    storage._database.execute("PRAGMA max_page_count = 100000")
    await put(agent, lines=("x" * 1_000_000,))
    assert len(agent.state.lines) == 1
    killed(agent)
    storage.close()


async def test_a_disk_that_fails_says_that_nobody_knows(tmp_path: Path) -> None:
    """An I/O error at the end of a transaction is an unknown outcome; any other error is a sure one."""
    storage = SqliteStorage(tmp_path / "agents.db")
    await storage.claim("a", "g")

    class Broken:
        def __init__(self, inner: sqlite3.Connection) -> None:
            self.inner = inner

        def execute(self, text: str, *values: Any) -> Any:
            if text == "COMMIT":
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
                raise error
            return self.inner.execute(text, *values)

        @property
        def in_transaction(self) -> bool:
            return self.inner.in_transaction

    whole = storage._database
    storage._database = Broken(whole)  # type: ignore[assignment]
    with pytest.raises(OutcomeUnknown, match="disk I/O error"):
        await storage.commit(AgentCommit(key="a", epoch=1, expected=0, turn=1, version=1))
    storage._database = whole
    storage.close()


async def test_D027_an_older_owner_is_told_and_ends(runtime: Runtime) -> None:
    """The second one goes on from what the first one has saved."""
    storage = MemoryStorage()
    agent = await started(runtime, storage)
    await add(agent, 2)
    async with Runtime(watchdog=None, reports=False) as elsewhere:
        other = await started(elsewhere, storage)
        await add(other, 3)
        with pytest.raises(Moved, match="another writer was first"):
            await agent.call(agent.signal("add"))
        await settled(runtime)
        assert agent.view.ref is not None
        assert not agent.view.ref.alive
        await add(other)
        assert (agent.state.count, other.state.count) == (2, 6)
        killed(other)
    assert (await started(runtime, storage)).state.count == 6


async def test_D029_a_storage_with_six_methods_keeps_agents_as_well(runtime: Runtime) -> None:
    """State, log, and rows, in one checkpoint; what is damaged is refused."""
    storage: Any = SixMethods()
    agent = await started(runtime, storage, journal=True)
    await put(agent, lines=("a",), times={"now": NOW})
    await add(agent, 2)
    killed(agent)
    agent = await started(runtime, storage, journal=True)
    assert (agent.state.lines, agent.state.times, agent.state.count) == (("a",), {"now": NOW}, 2)
    assert [entry.version for entry in await history(storage, KEY)] == [1, 2, 3]
    assert (await replay(storage, Keeper, "k", 2)).state.count == 1
    killed(agent)
    stored = await storage.read(KEY)
    await storage.write(KEY, stored.version + 1, expected=stored.version, checkpoint=stored.checkpoint + b"x")
    with pytest.raises(StartError, match="checksum"):
        await started(runtime, storage)


# -- format 1 ----------------------------------------------------------------------------------------------------------


async def format_1(storage: Any) -> None:
    """Write what the release before has written: a checkpoint at version 2, and an entry behind it."""
    body = {"format": 1, "type": "keeper", "id": "k", "partition": "", "version": 2, "state": {"count": 2}}
    crons = [{"kind": "cron", "expression": "* * * * *", "type": "add", "data": None, "id": "add"}]
    signal = Signal(type="add", source="/", id="3")
    entry = JournalEntry(3, 5.0, signal, {"count": 3, "times": {"now": NOW}})
    checkpoint = with_checksum(msgspec.msgpack.encode({**body, "slices": {}, "crons": crons}))
    await storage.write(KEY, 2, expected=None, checkpoint=checkpoint)
    await storage.write(KEY, 3, expected=2, entries=[(3, with_checksum(msgspec.msgpack.encode(entry)))])


async def test_D030_a_file_of_the_release_before_is_taken_over(runtime: Runtime, tmp_path: Path) -> None:
    """State, version, cron jobs and history are as they were; a program of that release refuses it from then on."""
    path = tmp_path / "agents.db"
    database = sqlite3.connect(path)
    database.executescript(
        """CREATE TABLE agents (key TEXT PRIMARY KEY, version INTEGER NOT NULL, checkpoint BLOB, at INTEGER NOT NULL)
        WITHOUT ROWID; CREATE TABLE journal (key TEXT NOT NULL, version INTEGER NOT NULL, entry BLOB NOT NULL,
        PRIMARY KEY (key, version)) WITHOUT ROWID;"""
    )
    database.close()
    storage = SqliteStorage(path)
    await format_1(storage)
    before = await history(storage, KEY)
    agent = await started(runtime, storage, journal=True)
    assert (agent.state.count, agent.state.times, agent.agent.version) == (3, {"now": NOW}, 3)
    assert await history(storage, KEY) == before
    stored = await storage.read(KEY)
    assert stored is not None
    assert stored.checkpoint == TOMBSTONE
    assert read_checkpoint(KEY, TOMBSTONE).format == 2
    await advance(61.0)
    assert agent.state.count == 4
    killed(agent)
    agent = await started(runtime, storage, journal=True)
    assert (agent.state.count, len(await history(storage, KEY))) == (4, 2)
    await advance(61.0)
    assert agent.state.count == 5
    killed(agent)
    storage.close()


@pytest.mark.parametrize("make", [MemoryStorage, SixMethods])
async def test_D032_a_crash_in_the_middle_of_that_leaves_one_of_the_two(runtime: Runtime, make: Any) -> None:
    """Claimed, and not written: the old one is what counts, also if the release before goes on with it."""
    storage = make()
    await format_1(storage)
    if make is MemoryStorage:
        await storage.claim(KEY, "g")
        await storage.write(
            KEY,
            4,
            expected=3,
            entries=[
                (
                    4,
                    with_checksum(
                        msgspec.msgpack.encode(
                            JournalEntry(4, 6.0, Signal(type="add", source="/", id="4"), {"count": 4})
                        )
                    ),
                )
            ],
        )
    agent = await started(runtime, storage)
    assert (agent.state.count, agent.agent.version) == ((4, 4) if make is MemoryStorage else (3, 3))


# -- what survives -----------------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 29, 12, 30, tzinfo=UTC)
GIVEN: dict[str, Any] = {
    "times": {"aware": NOW, "naive": NOW.replace(tzinfo=None)},
    "by_id": {UUID(int=7): Decimal("1.50")},
    "tags": frozenset("ab"),
    "colour": Colour.RED,
    "lines": ("a", "b"),
    "pair": Pair(1, 2),
    "loose": {"a": [1, 2.5, None, b"x", True, {"b": NOW}]},
    "loose_items": {"x": ["y"]},
    "maybe": Inner(1),
    "either": [1, "x"],
    "rest": 3,
}


@pytest.mark.parametrize("journal", [False, True])
async def test_D071_what_is_declared_survives(runtime: Runtime, journal: bool) -> None:
    """Set, changed inside, taken away: each is the same, and of the same type, when it is read again."""
    storage = MemoryStorage()
    agent = await started(runtime, storage, journal=journal)
    await add(agent)
    first = {**GIVEN, "maybe": Inner(1, {"deep": [1]})}
    second = {
        "times": {"naive": GIVEN["times"]["naive"], "more": NOW},
        "by_id": {**GIVEN["by_id"], UUID(int=8): Decimal(2)},
        "lines": ("a", "b", "c"),
        "pair": Pair(1, 3),
        "maybe": Inner(2, {"deep": [1, 2]}),
        "items": {"x": Inner(1)},
        "loose": {"a": [1, 2.5], "c": "d"},
        "either": 4,
        "rest": msgspec.UNSET,
    }
    third: dict[str, Any] = {"items": {"x": Inner(2)}, "lines": ("b",), "times": {}, "maybe": None, "either": []}
    for fields in (first, second, third):
        assert (await put(agent, **fields)).errors == ()
        expected = agent.agent
        killed(agent)
        agent = await started(runtime, storage, journal=journal)
        assert agent.agent == expected
        assert lost(expected.state, agent.agent.state, "state") is None
    if journal:
        assert (await replay(storage, Keeper, "k")).state == expected.state


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"loose": NOW.replace(tzinfo=None)}, "State.loose"),
        ({"loose": [1, {"a": Decimal(1)}]}, "State.loose[1]['a']"),
        ({"loose": UUID(int=1)}, "State.loose"),
        ({"loose": (1, 2)}, "State.loose"),
        ({"loose": {1, 2}}, "State.loose"),
        ({"loose": Colour.RED}, "State.loose"),
        ({"loose": Inner()}, "State.loose"),
        ({"loose": {"a": 1, Colour.RED: 2}}, "State.loose"),
        ({"loose_items": {"a": 1, "b": (1,)}}, "State.looseItems['b']"),
        ({"items": {"x": Inner(1, (1,))}}, "State.items['x'].loose"),
        ({"maybe": Inner(1, (1,))}, "State.maybe.loose"),
        ({"either": [1, (2,)]}, "State.either[1]"),
        ({"loose": float("nan")}, None),
        ({"count": 2**70}, "count"),
    ],
)
@pytest.mark.parametrize("policy", [EveryTurns(1000), EverySeconds(5.0)])
async def test_D071_what_would_come_back_as_something_else_is_refused_by_name(
    runtime: Runtime, fields: dict[str, Any], path: str | None, policy: Any
) -> None:
    """In its own turn, by every policy: the first commit as well as a later one."""
    for first in (True, False):
        storage = MemoryStorage()
        agent = await started(runtime, storage, policy=policy)
        if not first:
            await put(agent, loose_items={"a": 1}, either=[1], count=1)
            assert agent.view.ref is not None
            await agent.stop()
            agent = await started(runtime, storage, policy=policy)
        reply = await put(agent, **fields)
        assert [one.error.message for one in reply.errors] == ([] if path is None else [reply.errors[0].error.message])
        if path is not None:
            assert path in reply.errors[0].error.message
        await add(agent)
        await agent.stop()


class Loose(msgspec.Struct, frozen=True):
    """A slice with a loose field."""

    known: Any = None


class Noting(Plugin[Loose]):
    """Keeps a slice."""


async def test_a_slice_that_would_come_back_as_something_else_is_refused() -> None:
    """As the state is."""
    from agents import SetSlice
    from agents.core.action import Result

    class Note(Action[None]):
        def run(self, context: Context[State]) -> Result[None]:
            return Result(None, (SetSlice("noting", {"known": (1,)}),))

    class Noted(AgentType[State]):
        plugins = (Noting,)
        routes = {"note": Note}

    async with Runtime(watchdog=None, reports=False) as runtime:
        agent = await started(runtime, MemoryStorage(), Noted)
        reply = await agent.call(agent.signal("note"))
        assert "slice 'noting'.known would be read again" in reply.errors[0].error.message


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(width=16) | st.text(max_size=2) | st.just(NOW),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=1) | st.integers(0, 2), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES, VALUES)
def test_changes_make_one_value_of_another(before: Any, after: Any) -> None:
    """Any two, also when the changes have been written and read."""
    parts = msgspec.msgpack.decode(msgspec.msgpack.encode(changes(before, after)), type=list[Part])
    copy = msgspec.msgpack.decode(msgspec.msgpack.encode(before))
    made = applied(copy, parts)
    assert lost(msgspec.msgpack.decode(msgspec.msgpack.encode(after)), made, "x") is None


def test_what_has_not_changed_costs_nothing() -> None:
    """The same, or equal; what is equal and of another type has changed."""
    assert changes(State(), State()) == []
    assert changes({"a": (1, frozenset("x"))}, {"a": (1, frozenset("x"))}) == []
    assert changes((1,), (True,)) == [Part((0,), True)]
    assert changes({"a": {}}, {"a": []}) == [Part(("a",), [])]
    assert changes({}, {UUID(int=1): 1, (1, 2): 2}) == [Part((str(UUID(int=1)),), 1), Part(((1, 2),), 2)]


def test_the_declared_type_of_a_part_is_found() -> None:
    """Through structs, mappings, sequences, and what may be None."""
    assert type_at(State, ("items", "x", "oneThing")) is int
    assert type_at(State, ("maybe", "loose", "any", 3)) is Any
    assert type_at(State, ("either", 3)) is None
    assert type_at(State, ("nothing",)) is None
    assert type_at(dict[str, tuple[int, str]], ("x", 1)) is str
    assert type_at(Annotated[list[Decimal], "x"], (3,)) is Decimal
    assert (type_at(int, ("x",)), type_at(dict, ("x",))) == (None, None)
    assert (says_any(State), says_any(Pair), says_any(dict[str, object])) == (True, False, True)


class Tree(msgspec.Struct, frozen=True):
    """Contains itself."""

    below: tuple[Tree, ...] = ()


def test_a_type_that_contains_itself_says_whether_it_is_open() -> None:
    """And does not turn in circles."""
    assert not says_any(Tree)


def test_a_cron_of_format_1_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """It is no job that nobody notices is missing."""

    async def scenario() -> None:
        storage = MemoryStorage()
        async with Runtime(watchdog=None, reports=False) as runtime:
            agent = await started(runtime, storage)
            await add(agent)
            killed(agent)
            storage._kept[KEY].rows["timer", "x"] = StoredRow("timer", "x", b"damaged")
            with pytest.raises(StartError) as caught:
                await started(runtime, storage)
            assert isinstance(caught.value.__cause__, BadCheckpoint)

    run(scenario())


async def test_rows_that_cannot_be_written_wait_for_the_next_commit(runtime: Runtime) -> None:
    """They are not forgotten."""
    storage = Moody()
    keeper = Checkpointer(Durability(storage), Keeper)
    fresh = Keeper.new("k")
    assert await keeper.load(fresh, "g") is None
    await keeper.save(fresh)
    keeper.mark([StoredRow("timer", "t", b"x")])
    storage.moods = [StorageError("full")] * 2
    with pytest.raises(NotSaved):
        await keeper.flush()
    keeper.mark(drop=[("timer", "u")])
    with pytest.raises(NotSaved):
        await keeper.save(fresh)
    await keeper.save(fresh)
    loaded = await storage.load(KEY)
    assert loaded is not None
    assert loaded.rows == (StoredRow("timer", "t", b"x"),)


async def test_a_time_to_save_that_has_been_saved_meanwhile_does_nothing(runtime: Runtime) -> None:
    """The turn after a failure has taken all with it."""
    storage = Moody()
    agent = await started(runtime, storage, policy=EveryTurns(1))
    storage.moods = [StorageError("full")]
    await add(agent, 2)
    assert [commit.turn for commit in storage.commits] == [2]
    await advance(1.0)
    assert len(storage.commits) == 1
