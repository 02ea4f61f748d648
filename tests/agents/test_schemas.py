"""States of earlier releases: they become what a type says of them, once, in one write; or stay as they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from agents import (
    Action,
    AgentHandle,
    AgentType,
    BadAgentType,
    BadCheckpoint,
    Context,
    Cron,
    NotSaved,
    Plugin,
    Result,
    Schedule,
    SchemaMismatch,
    TimerDropped,
    start_agent,
)
from agents.durability import (
    AgentCommit,
    Durability,
    EveryTurns,
    MemoryStorage,
    OutcomeUnknown,
    StorageError,
    history,
    replay,
)
from agents.durability.checkpoint import read_checkpoint
from agents.durability.journal import read_entry
from agents.durability.whole import commits_of
from agents.instances import start_instances
from supervision import Runtime, StartError
from supervision.testing import advance, settled
from tests.agents.test_storage import InAFile, SixMethods

KEY = "/till/t"
STORAGES = [MemoryStorage, SixMethods, InAFile]


class Pence(msgspec.Struct, frozen=True, rename="camel"):
    """Schema 1."""

    all_pence: int = 0
    notes: tuple[str, ...] = ()


class PayPence(Action[Pence]):
    pence: int = 1

    def run(self, context: Context[Pence]) -> Pence:
        return Pence(context.state.all_pence + self.pence, (*context.state.notes, str(self.pence)))


class Till1(AgentType[Pence]):
    name = "till"
    routes = {"paid": PayPence}


class Pounds(msgspec.Struct, frozen=True):
    """Schema 2."""

    pounds: Decimal = Decimal(0)
    notes: tuple[str, ...] = ()


class PayPounds(Action[Pounds]):
    pounds: Decimal

    def run(self, context: Context[Pounds]) -> Pounds:
        return Pounds(context.state.pounds + self.pounds, (*context.state.notes, str(self.pounds)))


#: With which states `Till2.migrate` and `Till3.migrate` were called.
MIGRATED: list[tuple[Any, int]] = []


class Till2(AgentType[Pounds]):
    name = "till"
    schema = 2
    routes = {"paid": PayPounds}

    @classmethod
    def migrate(cls, state: dict[str, Any], since: int) -> Pounds:
        MIGRATED.append((dict(state), since))
        return Pounds(Decimal(state["allPence"]) / 100, tuple(state["notes"]))


class Sums(msgspec.Struct, frozen=True):
    """Schema 3."""

    sums: dict[str, Decimal] = {}


class PaySum(Action[Sums]):
    name: str = "cash"

    def run(self, context: Context[Sums]) -> Sums:
        return Sums({**context.state.sums, self.name: Decimal(1)})


class Till3(AgentType[Sums]):
    name = "till"
    schema = 3
    routes = {"paid": PaySum}

    @classmethod
    def migrate(cls, state: dict[str, Any], since: int) -> Mapping[str, Any]:
        MIGRATED.append((dict(state), since))
        if since == 1:
            return {"sums": {"cash": Decimal(state["allPence"]) / 100}}
        return {"sums": {"cash": state["pounds"]}}


@pytest.fixture(autouse=True)
def forget() -> None:
    """Begin with nothing migrated."""
    MIGRATED.clear()


class Releases:
    """A runtime for each release of a program: none knows the types of another."""

    def __init__(self) -> None:
        self._runtimes: dict[Any, Runtime] = {}
        self._stack = AsyncExitStack()

    async def of(self, kind: Any) -> Runtime:
        """Return the runtime of a type."""
        if kind not in self._runtimes:
            made = Runtime(watchdog=None, reports=False, seed=len(self._runtimes))
            self._runtimes[kind] = await self._stack.enter_async_context(made)
        return self._runtimes[kind]

    async def close(self) -> None:
        """Close all."""
        await self._stack.aclose()
        assert [ref for runtime in self._runtimes.values() for ref in runtime.actors()] == []


@pytest.fixture
async def releases() -> AsyncIterator[Releases]:
    """Releases that are closed at the end."""
    made = Releases()
    yield made
    await made.close()


async def begun(releases: Releases, storage: Any, kind: Any, **options: Any) -> AgentHandle[Any]:
    """Start an agent that is kept in a storage."""
    return await start_agent(await releases.of(kind), kind, id="t", durability=Durability(storage, **options))


async def paid(agent: AgentHandle[Any], *payments: Mapping[str, Any]) -> None:
    """Have payments taken."""
    for payment in payments:
        reply = await agent.call(agent.signal("paid", payment))
        assert (reply.errors, reply.duplicate) == ((), False)


async def killed(agent: AgentHandle[Any]) -> None:
    """Kill a server."""
    assert agent.view.ref is not None
    agent.view.ref.kill()
    await agent.view.ref.join()


async def stored(storage: Any, key: str = KEY) -> Any:
    """Return all that is stored."""
    return await commits_of(storage).load(key)


async def refused(releases: Releases, storage: Any, kind: Any, *, owner: bool = False) -> BaseException:
    """Return why an agent does not start. Nothing is changed by that; but perhaps its ``owner``."""
    before = await stored(storage)
    with pytest.raises(StartError) as caught:
        await begun(releases, storage, kind)
    after = await stored(storage)
    assert (msgspec.structs.replace(after, epoch=before.epoch) if owner else after) == before
    assert caught.value.__cause__ is not None
    return caught.value.__cause__


@pytest.mark.parametrize("make", STORAGES)
async def test_a_state_of_an_earlier_schema_becomes_what_the_type_says(
    releases: Releases, make: Callable[[], Any]
) -> None:
    """It is saved so, with its schema, before the first turn; and is not migrated again."""
    storage = make()
    agent = await begun(releases, storage, Till1)
    await paid(agent, {"pence": 150}, {"pence": 50})
    await killed(agent)

    agent = await begun(releases, storage, Till2)
    assert agent.state == Pounds(Decimal(2), ("150", "50"))
    assert set(map(repr, MIGRATED)) == {repr(({"allPence": 200, "notes": ["150", "50"]}, 1))}
    assert agent.agent.version == 2
    loaded = await stored(storage)
    assert (read_checkpoint(KEY, loaded.snapshot).schema, loaded.turn, loaded.entries) == (2, 2, ())
    MIGRATED.clear()

    await paid(agent, {"pounds": Decimal("0.5")})
    await killed(agent)
    agent = await begun(releases, storage, Till2)
    assert (agent.state.pounds, agent.agent.version, MIGRATED) == (Decimal("2.5"), 3, [])
    assert [read_entry(KEY, data).schema for _, data in (await stored(storage)).entries] == [2]
    await agent.stop()

    agent = await begun(releases, storage, Till3)
    assert agent.state == Sums({"cash": Decimal("2.5")})
    await agent.stop()
    if isinstance(storage, InAFile):
        storage.close()


async def test_several_schemas_may_be_skipped(releases: Releases) -> None:
    """The type is asked once, for a state of the schema that was saved."""
    storage = MemoryStorage()
    agent = await begun(releases, storage, Till1, policy=EveryTurns(2))
    await paid(agent, {"pence": 150}, {"pence": 50}, {"pence": 1})
    await agent.stop()
    agent = await begun(releases, storage, Till3, policy=EveryTurns(2))
    assert agent.state == Sums({"cash": Decimal("2.01")})
    assert {since for _, since in MIGRATED} == {1}


async def test_instances_that_sleep_are_migrated_when_they_wake(releases: Releases) -> None:
    """One by one: there is no moment in which all must be."""
    storage = MemoryStorage()
    agent = await begun(releases, storage, Till1)
    await paid(agent, {"pence": 150})
    await agent.stop()
    tills = await start_instances(await releases.of(Till2), Till2, durability=Durability(storage), idle_timeout=60.0)
    assert MIGRATED == []
    assert (await tills.get("t")).state.pounds == Decimal("1.5")


# -- what is refused ---------------------------------------------------------------------------------------------------


async def test_without_a_migration_nothing_starts_and_nothing_is_changed(releases: Releases) -> None:
    """The error names both schemas, and what to do."""

    class Forgot(AgentType[Pounds]):
        name = "till"
        schema = 2

    storage = MemoryStorage()
    agent = await begun(releases, storage, Till1)
    await paid(agent, {"pence": 150})
    error = await refused(releases, storage, Forgot)
    assert isinstance(error, SchemaMismatch)
    assert (error.key, error.saved, error.schema) == (KEY, 1, 2)
    why = "it was saved with schema 1, and Forgot has 2: say in Forgot.migrate how a state of 1 becomes one of 2"
    assert str(error) == f"{KEY}: {why}"
    # Not even who owns it: the earlier release goes on.
    await paid(agent, {"pence": 50})
    await agent.stop()
    assert (await begun(releases, storage, Till2)).state.pounds == Decimal(2)


async def test_an_earlier_release_refuses_what_a_later_one_has_saved(releases: Releases) -> None:
    """It would drop what it does not know."""
    storage = MemoryStorage()
    agent = await begun(releases, storage, Till1)
    await paid(agent, {"pence": 150})
    await agent.stop()
    agent = await begun(releases, storage, Till3)
    await paid(agent, {"name": "card"})
    await agent.stop()
    for kind, schema, owner in ((Till2, 2, False), (Till1, 1, True)):
        error = await refused(releases, storage, kind, owner=owner)
        assert isinstance(error, SchemaMismatch)
        said = f"it was saved with schema 3, and {kind.__name__} has {schema}: run the release that saved it, or a"
        assert str(error) == f"{KEY}: {said} later one"
    assert (await begun(releases, storage, Till3)).state.sums == {"cash": Decimal("1.5"), "card": Decimal(1)}


class Broken(AgentType[Pounds]):
    """Migrates as it is told to."""

    name = "till"
    schema = 2
    says: Any = None

    @classmethod
    def migrate(cls, state: dict[str, Any], since: int) -> Any:
        if isinstance(cls.says, BaseException):
            raise cls.says
        return cls.says


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (ValueError("no such currency"), "failed: ValueError: no such currency"),
        (None, "returned None: give a Pounds, or its fields"),
        (Pence(1), "returned Pence(all_pence=1, notes=()): give a Pounds, or its fields"),
        ({"pound": "1"}, "there is no field 'pound'; there are pounds, notes"),
        ({"pounds": "much"}, "Invalid decimal string"),
        (Pounds("much"), "Invalid decimal string"),  # type: ignore[arg-type]
    ],
)
async def test_a_migration_that_fails_changes_nothing(releases: Releases, says: Any, why: str) -> None:
    """Nor does one that forgets to return something, or returns what would be lost."""
    storage = MemoryStorage()
    agent = await begun(releases, storage, Till1)
    await paid(agent, {"pence": 150})
    Broken.says = says
    error = await refused(releases, storage, Broken)
    assert isinstance(error, BadCheckpoint)
    assert f"{KEY}: Broken.migrate from schema 1 to 2" in str(error)
    assert why in str(error)
    await paid(agent, {"pence": 50})
    await agent.stop()


def test_a_schema_is_a_whole_number_from_1() -> None:
    """Anything else is refused when the class is defined."""
    for wrong in (0, -1, 1.5, True, "2", None):
        with pytest.raises(BadAgentType, match=r"schema = .*: give a whole number from 1"):
            type("Odd", (Till1,), {"schema": wrong})


# -- in the middle -----------------------------------------------------------------------------------------------------


class Moody(MemoryStorage):
    """Fails at the next commits, as it is told to: before or after they are written."""

    def __init__(self) -> None:
        super().__init__()
        self.moods: list[tuple[StorageError, bool]] = []
        self.damaged: set[int] = set()

    async def commit(self, commit: AgentCommit) -> None:
        """Write, or fail."""
        error, written = self.moods.pop(0) if self.moods else (None, True)
        if written:
            await super().commit(commit)
        if error is not None:
            raise error

    async def claim(self, key: str, generation: str) -> Any:
        """Read what is damaged."""
        return self._seen(await super().claim(key, generation))

    async def load(self, key: str, before: int | None = None) -> Any:
        """Read what is damaged."""
        return self._seen(await super().load(key, before))

    def _seen(self, loaded: Any) -> Any:
        damaged = loaded is not None and loaded.snapshot is not None and loaded.at in self.damaged
        return msgspec.structs.replace(loaded, snapshot=b"damaged") if damaged else loaded


@pytest.mark.parametrize(
    ("error", "written"),
    [(StorageError("full"), False), (OutcomeUnknown("dead"), False), (OutcomeUnknown("dead"), True)],
)
async def test_a_migration_that_is_cut_short_is_made_again_or_is_over(
    releases: Releases, error: StorageError, written: bool
) -> None:
    """The state, the timers and the schema change in one write."""
    storage = Moody()
    agent = await begun(releases, storage, Planning1)
    await agent.call(agent.signal("plan", {"type": "remind", "data": {"pence": 5}}))
    await agent.stop()
    storage.moods = [(error, written)]
    with pytest.raises(StartError) as caught:
        await begun(releases, storage, Planning2)
    assert isinstance(caught.value.__cause__, NotSaved)
    loaded = await stored(storage, "/planning/t")
    assert read_checkpoint("/planning/t", loaded.snapshot).schema == (2 if written else 1)
    assert ("reminded" in str(loaded.rows)) is written
    agent = await begun(releases, storage, Planning2)
    await advance(61.0)
    await settled(await releases.of(Planning2))
    assert agent.state.log == ("reminded {'pounds': '0.05'}",)
    await agent.stop()


async def test_a_start_that_is_cancelled_in_the_middle_changes_nothing(releases: Releases) -> None:
    """The next one begins anew."""

    class Slow(MemoryStorage):
        async def commit(self, commit: AgentCommit) -> None:
            if slow:
                await asyncio.get_running_loop().create_future()
            await super().commit(commit)

    slow, storage = False, Slow()
    agent = await begun(releases, storage, Till1)
    await paid(agent, {"pence": 150})
    await agent.stop()
    slow = True
    start = asyncio.ensure_future(begun(releases, storage, Till2))
    runtime = await releases.of(Till2)
    await settled(runtime)
    (cell,) = [ref for ref in runtime.actors() if ref.kind.__name__ == "AgentServer"]  # type: ignore[attr-defined]
    cell.kill()
    with pytest.raises(StartError):
        await start
    slow = False
    assert (await begun(releases, storage, Till2)).state.pounds == Decimal("1.5")


async def test_if_the_first_snapshot_of_a_schema_is_damaged_the_one_before_is_migrated_again(
    releases: Releases,
) -> None:
    """And the log behind it, in which the schema changes, is read."""
    storage = Moody()
    agent = await begun(releases, storage, Till1)
    await paid(agent, {"pence": 150}, {"pence": 50})
    await agent.stop()
    agent = await begun(releases, storage, Till2)
    await paid(agent, {"pounds": Decimal(1)})
    await agent.stop()
    storage.damaged = {2}
    again = await begun(releases, storage, Till2)
    assert again.state == Pounds(Decimal(3), ("150", "50", "1"))
    await again.stop()
    # A later schema cannot be made of a log in which it changes twice.
    error = await refused(releases, storage, Till3)
    assert "its log goes on with schema 2, and the snapshot before is not there" in str(error)


# -- the journal -------------------------------------------------------------------------------------------------------


async def test_each_version_of_a_journal_can_be_made_again_over_all_schemas(releases: Releases) -> None:
    """As a state of today."""
    storage = MemoryStorage()
    agent = await begun(releases, storage, Till1, journal=True)
    await paid(agent, {"pence": 150}, {"pence": 50}, {"pence": 100})
    await agent.stop()
    agent = await begun(releases, storage, Till2, journal=True)
    await paid(agent, {"pounds": Decimal(1)}, {"pounds": Decimal(2)})
    assert (await replay(storage, Till2, "t")).state == agent.state
    await agent.stop()
    agent = await begun(releases, storage, Till3, journal=True)
    await paid(agent, {"name": "card"})
    made = [(await replay(storage, Till3, "t", version)).state.sums for version in range(1, 7)]
    assert [sums["cash"] for sums in made] == [Decimal(text) for text in ("1.5", "2", "3", "4", "6", "6")]
    assert made[-1] == agent.state.sums
    assert [entry.schema for entry in await history(storage, KEY)] == [1, 1, 1, 2, 2, 3]
    assert (await replay(storage, Till3, "t", 0)).state == Sums()
    with pytest.raises(SchemaMismatch, match="it was saved with schema 2, and Till1 has 1"):
        await replay(storage, Till1, "t", 4)


async def test_what_was_before_the_first_snapshot_cannot_be_made_again(releases: Releases) -> None:
    """As nobody knows what a fresh agent was like then."""
    storage = MemoryStorage()
    agent = await begun(releases, storage, Till1, journal=True, policy=EveryTurns(3))
    await paid(agent, {"pence": 150}, {"pence": 50}, {"pence": 100})
    await agent.stop()
    assert (await replay(storage, Till2, "t", 3)).state.pounds == Decimal(3)
    with pytest.raises(BadCheckpoint, match="another schema, and there is no snapshot up to version 2"):
        await replay(storage, Till2, "t", 2)
    assert (await replay(storage, Till1, "t", 2)).state.all_pence == 200


# -- timers ------------------------------------------------------------------------------------------------------------


class Log(msgspec.Struct, frozen=True):
    """What has come."""

    log: tuple[str, ...] = ()


class Plan(Action[None]):
    """Set a timer."""

    type: str
    data: Any
    cron: bool = False

    def run(self, context: Context[Log]) -> Result[None]:
        if self.cron:
            return Result(None, (Cron("* * * * *", self.type, self.data),))
        return Result(None, (Schedule(60.0, self.type, self.data),))


class Note(Action[Log]):
    """Note what comes."""

    def run(self, context: Context[Log]) -> Log:
        assert context.signal is not None
        return Log((*context.state.log, f"{context.signal.type} {context.signal.data}"))


class Planning1(AgentType[Log]):
    """Schema 1."""

    name = "planning"
    routes = {"plan": Plan, "remind": Note, "tick": Note}
    schedules = (Cron("0 0 1 1 *", "tick", id="yearly"),)


class Planning2(AgentType[Log]):
    """Schema 2: reminders have another name, and other data."""

    name = "planning"
    schema = 2
    routes = {"plan": Plan, "reminded": Note, "tick": Note, "ticked": Note}
    schedules = (Cron("0 0 1 1 *", "ticked", id="yearly"),)

    @classmethod
    def migrate(cls, state: dict[str, Any], since: int) -> Mapping[str, Any]:
        return state

    @classmethod
    def migrate_signal(cls, type: str, data: Any, since: int) -> tuple[str, Any] | None:
        if type == "old":
            return None
        if type == "remind":
            return "reminded", {"pounds": str(Decimal(data["pence"]) / 100)}
        return super().migrate_signal(type, data, since)


async def test_D074_timers_of_an_earlier_schema_send_what_the_type_says(releases: Releases) -> None:
    """When they are due as ever; one that it takes away is told. The type's own schedules are as it declares them."""
    dropped: list[Any] = []
    (await releases.of(Planning2)).subscribe(dropped.append, TimerDropped)
    storage = MemoryStorage()
    agent = await begun(releases, storage, Planning1)
    pence = {"pence": 5}
    for plan in (
        {"type": "remind", "data": pence},
        {"type": "tick", "data": None},
        {"type": "old", "data": None},
        {"type": "remind", "data": pence, "cron": True},
    ):
        assert not (await agent.call(agent.signal("plan", plan))).errors
    await agent.stop()
    agent = await begun(releases, storage, Planning2)
    await settled(await releases.of(Planning2))
    assert [one.why for one in dropped] == ["it is of schema 1, and Planning2.migrate_signal takes it away"]
    await killed(agent)
    agent = await begun(releases, storage, Planning2)
    await advance(125.0)
    await settled(await releases.of(Planning2))
    assert sorted(agent.state.log) == ["reminded {'pounds': '0.05'}"] * 3 + ["tick None"]
    assert len(dropped) == 1
    await agent.stop()


async def test_signals_of_timers_that_cannot_be_migrated_fail_the_start(releases: Releases) -> None:
    """With the timer's id; and nothing is changed but its owner."""
    storage = MemoryStorage()
    agent = await begun(releases, storage, Planning1)
    await agent.call(agent.signal("plan", {"type": "remind", "data": {"wrong": 5}}))
    await agent.stop()
    before = await storage.load("/planning/t")

    class Odd(Planning2):
        name = "planning"

        @classmethod
        def migrate_signal(cls, type: str, data: Any, since: int) -> tuple[str, Any] | None:
            return "a..b", data

    for kind, why in ((Planning2, "KeyError: 'pence'"), (Odd, "BadSignal")):
        with pytest.raises(StartError) as caught:
            await begun(releases, storage, kind)
        assert isinstance(caught.value.__cause__, BadCheckpoint)
        assert f"{kind.__name__}.migrate_signal of timer '#" in str(caught.value.__cause__)
        assert why in str(caught.value.__cause__)
    after = await storage.load("/planning/t")
    assert after == msgspec.structs.replace(before, epoch=after.epoch)  # type: ignore[union-attr, type-var]


# -- slices ------------------------------------------------------------------------------------------------------------


class Seen(msgspec.Struct, frozen=True):
    """A slice."""

    times: int = 0


class Counting(Plugin[Seen]):
    """Has a slice that it reads itself."""

    def restore(self, kept: Any) -> Seen:
        return Seen(kept["times"] + 1)


async def test_slices_are_read_by_their_plugins_whatever_the_schema(releases: Releases) -> None:
    """The state is the type's business, and slices are the plugins'."""

    class Before(AgentType[Pence]):
        name = "till"
        routes = {"paid": PayPence}
        plugins = (Counting,)

    class After(Till2):
        name = "till"
        plugins = (Counting,)

    storage = MemoryStorage()
    agent = await begun(releases, storage, Before)
    await paid(agent, {"pence": 150})
    await agent.stop()
    agent = await begun(releases, storage, After)
    assert (agent.state.pounds, agent.agent.slices["counting"]) == (Decimal("1.5"), Seen(1))
