"""What can be said of agents in a tree file: it is checked before anything starts, and then runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents import Action, AgentType, Context, Result, Signal, SpawnAgent, connect, whereis
from agents.durability import EverySeconds, EveryTurns, OnCommit, SqliteStorage
from agents.instances import Instances
from agents.pool import Pool
from agents.server.messages import Ask
from agents.signals import Bus, dead_letters, publish, read_log, subscriptions
from agents.trees import BusSubscriber, DurableAgent, KeptBus, KeyedInstances, TreeAgent, _policy, durability_of
from foundation.tree import TreeError, load_tree
from supervision import ChildSpec, Runtime, Supervisor
from supervision.errors import BadOption
from supervision.testing import advance, settled


class Held(msgspec.Struct, frozen=True):
    """A state."""

    count: int = 0


class Add(Action[Held]):
    """Count."""

    def run(self, context: Context[Held]) -> Held:
        """Count."""
        return Held(context.state.count + 1)


class Counter(AgentType[Held]):
    """Counts."""

    routes = {"add": Add}


HERE = "tests.agents.test_trees:Counter"
TREE = f"""
[[children]]
id = "bus"
name = "bus"
start = "agents.trees:KeptBus"
kwargs = {{ path = "${{state}}/agents.db", sync = "normal", ack_every = 0.1 }}

[[children]]
id = "counter"
name = "counter"
start = "agents.trees:DurableAgent"
args = ["{HERE}"]
kwargs = {{ durability = {{ path = "${{state}}/agents.db", sync = "normal" }}, state = {{ count = 5 }} }}

[[children]]
id = "counters"
name = "counters"
start = "agents.trees:KeyedInstances"
args = ["{HERE}"]
kwargs = {{ durability = {{ path = "${{state}}/agents.db", every_turns = 2 }}, partition = "p", idle_timeout = 60 }}

[[children]]
id = "pool"
name = "pool"
start = "agents.trees:AgentPool"
args = ["{HERE}"]
kwargs = {{ size = 2, on_checkin = "reset" }}

[[children]]
id = "to counter"
start = "agents.trees:BusSubscriber"
args = ["bus", "add", "counter", "counting"]
kwargs = {{ key = "subject", attempts = 3 }}
"""


def tree(folder: Path, text: str) -> Any:
    """Return the tree that a text says."""
    (folder / "tree.toml").write_text(text)
    return load_tree(str(folder / "tree.toml"), values={"state": str(folder)})


async def test_a_tree_of_agents_runs(runtime: Runtime, tmp_path: Path) -> None:
    """Its parts find each other by name, also when the bus has started again; what shares a file shares its commits."""
    found = tree(tmp_path, TREE)
    top = await runtime.spawn(found.root.start, *found.root.args, **found.root.kwargs)
    await settled(runtime)
    bus = runtime.name("bus")
    await publish(bus, *(Signal(type="add", source="/", id=str(n), data={}) for n in range(3)))
    await advance(1.0)
    assert (await subscriptions(bus))["counting"].taken == 0
    reply = await runtime.name("counter").call(Ask(Signal(type="add", source="/", id="x", data={})))
    assert (reply.agent.state.count, await dead_letters(bus)) == (9, ())
    runtime.whereis("bus").kill()  # type: ignore[union-attr]
    await advance(1.0)
    await publish(bus, Signal(type="add", source="/", id="y", data={}))
    await advance(1.0)
    starter, pool = runtime.whereis("counters"), runtime.whereis("pool")
    assert starter is not None
    assert pool is not None
    counters: Instances[Held] = Instances(starter, Counter, "p")
    joe = await counters.get("joe")
    assert (await joe.call(joe.signal("add"))).agent.state.count == 1
    workers: Pool[Held] = Pool(pool)
    assert (await workers.call(workers.signal("add"))).agent.state.count == 1
    assert whereis(runtime, "counter") is not None
    storages = [one for one in runtime.shared.values() if isinstance(one, SqliteStorage)]
    assert len(storages) == 1
    await top.stop()
    storages[0].close()


async def test_a_subscriber_waits_for_its_bus(runtime: Runtime) -> None:
    """However late it comes."""
    await runtime.spawn(BusSubscriber, "late", "add", "counter", "counting")
    await advance(100.0)
    bus = await runtime.spawn(Bus, name="late")
    await settled(runtime)
    assert list(await subscriptions(bus)) == ["counting"]
    await bus.stop()
    await settled(runtime)
    again = await runtime.spawn(Bus, name="late")
    await settled(runtime)
    assert list(await subscriptions(again)) == ["counting"]


async def test_parts_have_their_defaults(runtime: Runtime, tmp_path: Path) -> None:
    """Instances need not be saved, and a bus has its options."""
    starter = await runtime.spawn(KeyedInstances, HERE)
    counters: Instances[Held] = Instances(starter, Counter, "")
    assert (await counters.get("joe")).state.count == 0
    bus = await runtime.spawn(KeptBus, str(tmp_path / "bus.db"), keep=2, max_size=1000)
    for n in range(3):
        await publish(bus, Signal(type="x", source="/", id=str(n)))
    assert len(await read_log(bus)) == 2
    await bus.stop()


WRONG = [
    ('path = "${state}/agents.db", every', 'way = "${state}/agents.db", every', "durability"),
    ('sync = "normal", ack', 'sync = "sometimes", ack', "sync"),
    ("ack_every = 0.1", "ack_every = 0", "ack_every"),
    ("ack_every = 0.1", "keep = 0", "keep"),
    ("ack_every = 0.1", 'full = "burn"', "full"),
    ("ack_every = 0.1", "colour = 1", "colour"),
    ("test_trees:Counter", "test_trees:Held", "kind"),
    ("test_trees:Counter", "test_trees:Nobody", "kind"),
    ("count = 5", "colour = 5", "colour"),
    ("every_turns = 2", "every_turns = 0", "EveryTurns"),
    ("every_turns = 2", "every_turns = 2, every_seconds = 3", "not both"),
    ("idle_timeout = 60", "idle_timeout = -1", "idle_timeout"),
    ("size = 2", "size = 0", "size"),
    ("size = 2", "lifo = 3", "lifo"),
    ('on_checkin = "reset"', 'on_checkin = "burn"', "on_checkin"),
    ('on_checkin = "reset"', "colour = 1", "colour"),
    ('"bus", "add"', '"bus", "a..b"', "a..b"),
    ('"bus", "add"', '"", "add"', "bus"),
    ("attempts = 3", "attempts = 0", "attempts"),
    ("attempts = 3", "tries = 0", "tries"),
    ("attempts = 3", "since = -1", "since"),
    ("state = { count = 5 }", 'id = ""', "id"),
    ("state = { count = 5 }", "debug = -1", "debug"),
    ("state = { count = 5 }", 'emit_to = ""', "emit_to"),
    ('durability = { path = "${state}/agents.db", sync = "normal" }, state', "state", "DurableAgent: durability"),
]


FAMILY = f"""
[[children]]
id = "parent"
name = "parent"
start = "agents.trees:DurableAgent"
args = ["{HERE}"]

  [children.kwargs]
  durability = {{ path = "${{state}}/agents.db", sync = "normal" }}
  partition = "p"

  [[children.kwargs.spawn]]
  type = "{HERE}"
  tag = "kept"
  id = "eve"
  state = {{ count = 5 }}
  on_parent_death = "continue"
  durable = true
  emit_to = "log"
  meta = {{ room = 1 }}

  [[children.kwargs.spawn]]
  type = "{HERE}"
  tag = "fresh"
  restart = "transient"
"""


async def test_an_agent_in_a_tree_has_the_children_that_are_declared(tmp_path: Path) -> None:
    """Those that are saved come back as they were, the others as they began; and those that run are found again."""
    found = tree(tmp_path, FAMILY)

    async def count(runtime: Runtime, id: str) -> int:
        child = whereis(runtime, id, partition="p")
        assert child is not None
        agent = await connect(child, Counter)
        return (await agent.call(agent.signal("add"))).agent.state.count

    for first in (6, 8):
        async with Runtime(watchdog=None, reports=False) as runtime:
            await runtime.spawn(found.root.start, *found.root.args, **found.root.kwargs)
            parent = await connect(runtime.name("parent"), Counter)
            while len(parent.children) < 2:
                await advance(0.1)
            assert {tag: (child.id, child.meta) for tag, child in parent.children.items()} == {
                "kept": ("eve", {"room": 1}),
                "fresh": ("parent/fresh", None),
            }
            assert await count(runtime, "eve") == first
            assert await count(runtime, "parent/fresh") == 1
            before = parent.children
            assert parent.view.ref is not None
            parent.view.ref.kill()
            while len(parent.children) < 2 or parent.children["fresh"].ref == before["fresh"].ref:
                await advance(0.1)
            assert parent.children["kept"].ref == before["kept"].ref
            assert await count(runtime, "eve") == first + 1
            assert await count(runtime, "parent/fresh") == 1
            storages = [one for one in runtime.shared.values() if isinstance(one, SqliteStorage)]
        storages[0].close()


class Work(Action[None]):
    """Take a while."""

    async def run(self, context: Context[Held]) -> None:
        """Work."""
        assert context.ref is not None
        await context.ref.runtime.sleep(10.0)


class Busy(AgentType[Held]):
    """Works."""

    routes = {"work": Work}


async def test_a_child_that_ends_with_its_parent_is_waited_for(runtime: Runtime) -> None:
    """The parent that starts again finds it at work: it gets another one when that one has ended."""
    spawn = [{"type": "tests.agents.test_trees:Busy", "tag": "child", "restart": "transient"}]
    spec = ChildSpec("parent", TreeAgent, (HERE,), {"id": "parent", "spawn": spawn}, name="parent")
    await runtime.spawn(Supervisor, [spec])
    await settled(runtime)
    child = whereis(runtime, "parent/child")
    assert child is not None
    child.cast(Signal(type="work", source="/", id="1"))
    await settled(runtime)
    parent = runtime.whereis("parent")
    assert parent is not None
    parent.kill()
    await advance(5.0)
    assert whereis(runtime, "parent/child") == child
    await advance(10.0)
    again = whereis(runtime, "parent/child")
    assert again not in (None, child)
    handle = await connect(runtime.name("parent"), Counter)
    assert handle.children["child"].ref == again


def test_an_option_of_a_child_is_checked_when_it_is_given() -> None:
    """Also by an action."""
    with pytest.raises(BadOption, match=r"SpawnAgent\.durable"):
        SpawnAgent(Counter, "child", durable=1)  # type: ignore[arg-type]


class Start(Action[None]):
    """Start a child."""

    durable: bool

    def run(self, context: Context[Held]) -> Result[None]:
        """Start it."""
        return Result(None, (SpawnAgent(Counter, "child", durable=self.durable, emit_to="log"),))


class Starter(AgentType[Held]):
    """Starts children."""

    routes = {"start": Start}


async def test_an_agent_in_a_tree_can_start_children(tmp_path: Path) -> None:
    """Durable ones, too, if it is."""
    here = "tests.agents.test_trees:Starter"
    table = {"path": str(tmp_path / "agents.db"), "sync": "normal"}
    async with Runtime(watchdog=None, reports=False) as runtime:
        await runtime.spawn(DurableAgent, here, table, id="kept")
        await runtime.spawn(TreeAgent, here, id="plain")
        for id, durable, refused in (("kept", True, False), ("plain", False, False), ("plain", True, True)):
            server = whereis(runtime, id)
            assert server is not None
            agent = await connect(server, Starter)
            reply = await agent.call(agent.signal("start", {"durable": durable}))
            assert bool(reply.errors) == refused
            assert not refused or "SpawnAgent.durable" in str(reply.errors[0].error)
            assert list(agent.children) == ["child"]
        child = whereis(runtime, "kept/child")
        assert child is not None
        await child.call(Ask(Signal(type="add", source="/", id="1", data={})))
        child.kill()
        while (again := whereis(runtime, "kept/child")) is None:
            await advance(0.1)
        assert (await connect(again, Counter)).state.count == 1
        (storage,) = (one for one in runtime.shared.values() if isinstance(one, SqliteStorage))
    storage.close()


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        ('tag = "fresh"', 'tag = "kept"', "spawn.kept.tag"),
        ('tag = "fresh"', 'tag = ""', "spawn.1.tag"),
        ('tag = "fresh"', "tag = 7", "spawn.1.tag"),
        ('tag = "fresh"', "", "spawn.1.tag"),
        (f'type = "{HERE}"\n  tag = "fresh"', 'type = "no.such:Type"\n  tag = "fresh"', "spawn.fresh.type"),
        (f'type = "{HERE}"\n  tag = "fresh"', 'type = "json:JSONDecoder"\n  tag = "fresh"', "spawn.fresh.type"),
        ('restart = "transient"', 'restart = "sometimes"', "spawn.fresh.restart"),
        ('restart = "transient"', 'on_parent_death = "cry"', "spawn.fresh.on_parent_death"),
        ('restart = "transient"', "durable = 3", "spawn.fresh.durable"),
        ('restart = "transient"', 'emit_to = ""', "spawn.fresh.emit_to"),
        ('restart = "transient"', 'id = ""', "spawn.fresh.id"),
        ('restart = "transient"', "state = { colour = 5 }", "colour"),
        ('restart = "transient"', "colour = 5", "spawn.fresh.colour"),
        ("agents.trees:DurableAgent", "agents.trees:TreeAgent", "spawn.kept.durable"),
        ("[[children.kwargs.spawn]]", "[children.kwargs.spawn]", "spawn"),
    ],
)
def test_a_child_that_is_declared_wrong_is_named_with_its_key(tmp_path: Path, good: str, bad: str, says: str) -> None:
    """Before anything starts."""
    text = FAMILY.replace(good, bad)
    if "TreeAgent" in bad:
        text = text.replace('durability = { path = "${state}/agents.db", sync = "normal" }', "")
    if bad.startswith("[children"):
        text = text[: text.rindex(bad)]
    with pytest.raises(TreeError, match=re.escape(says)):
        tree(tmp_path, text)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"url": "ftp://x"}, "url"),
        ({"url": "https://x", "attempts": {"tries": 1}}, "attempts"),
        ({"url": "https://x", "attempts": {"retries": -1}}, "retries"),
        ({"url": "https://x", "attempts": 3}, "attempts"),
    ],
)
def test_a_webhook_in_a_tree_is_checked(arguments: dict[str, Any], says: str) -> None:
    """Its attempts are a table there."""
    child = {"id": "hook", "start": "agents.signals.sinks:Webhook", "kwargs": arguments}
    with pytest.raises(TreeError, match=says):
        load_tree({"children": [child]})
    child["kwargs"] = {"url": "https://x", "attempts": {"retries": 1, "timeout": 2.0}}
    load_tree({"children": [child]})


@pytest.mark.parametrize(("good", "bad", "says"), WRONG)
def test_what_is_wrong_in_the_file_is_said_before_anything_starts(
    tmp_path: Path, good: str, bad: str, says: str
) -> None:
    """With the place and the remedy."""
    assert good in TREE
    with pytest.raises(TreeError, match=says):
        tree(tmp_path, TREE.replace(good, bad))
    assert not (tmp_path / "agents.db").exists()


def test_each_policy_can_be_said() -> None:
    """And nothing at all."""
    policies = []
    for table in ({"path": "a"}, {"path": "a", "every_turns": 2}, {"path": "a", "every_seconds": 1.5}):
        found = durability_of("x", table)
        assert found is not None
        policies.append(_policy(found))
    assert policies == [OnCommit(), EveryTurns(2), EverySeconds(1.5)]
    assert durability_of("x", None) is None
