"""Keyed instances, pools and pods (S50), and how instances sleep and wake."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
import structlog

from agents import (
    Action,
    AgentError,
    AgentType,
    BadAgentType,
    BadCheckpoint,
    Context,
    StopAfter,
    agent_ids,
    start_agent,
    whereis,
)
from agents.durability import Durability, EveryTurns, MemoryStorage
from agents.instances import start_instances
from agents.pods import AddNode, BadTopology, MutationBusy, PodNode, RemoveNode, RetainedTopology, Topology, start_pod
from agents.pool import start_pool
from agents.server import AttachOwner
from agents.server.messages import Ask
from supervision import (
    Abnormal,
    Actor,
    ActorExited,
    CallTimeout,
    Message,
    Name,
    Runtime,
    StartError,
    handle,
)
from supervision.errors import BadOption, BadTime
from supervision.testing import advance, settled


class Held(msgspec.Struct, frozen=True):
    """A state."""

    counter: int = 0


class Increment(Action[Held]):
    """Count."""

    def run(self, context: Context[Held]) -> Held:
        """Count."""
        return Held(context.state.counter + 1)


class Slow(Action[Held]):
    """Count after a second."""

    async def run(self, context: Context[Held]) -> Held:
        """Count."""
        await advance(1.0)
        return Held(context.state.counter + 1)


class Fail(Action[None]):
    """Fail."""

    def run(self, context: Context[Held]) -> None:
        """Fail."""
        raise RuntimeError("no")


class Worker(AgentType[Held]):
    """Counts."""

    name = "worker"
    routes = {"increment": Increment, "slow": Slow, "fail": Fail}


class Owner(Actor):
    """Lives."""


class Use(Message, frozen=True):
    """Use a pool."""

    pool: Any
    got: list[Any]


class User(Actor):
    """Uses a worker of a pool, and does not give it back."""

    @handle
    async def use(self, message: Use) -> None:
        """Use it."""
        async with message.pool.worker() as worker:
            message.got.append(worker)
            await asyncio.Event().wait()


# -- keyed instances ---------------------------------------------------------------------------------------------------


async def test_there_is_one_instance_for_each_key(runtime: Runtime) -> None:
    """Whoever asks at the same time gets the same; each partition has its own; a first state is for fresh ones."""
    workers = await start_instances(runtime, Worker, name="workers")
    first, second, other = await asyncio.gather(
        workers.get("a", {"counter": 5}), workers.get("a", {"counter": 9}), workers.get("b")
    )
    assert first.address == second.address != other.address
    assert (first.state.counter, other.state.counter) == (5, 0)
    blue = await start_instances(runtime, Worker, partition="blue")
    assert (await blue.get("a")).address != first.address
    assert workers.lookup("a") == first.address
    counts = await workers.counts()
    assert (counts.running, counts.started, counts.restored) == (2, 2, 0)
    assert await workers.hibernate("a")
    assert not await workers.hibernate("a")
    assert (workers.lookup("a"), (await workers.counts()).running) == (None, 1)
    with pytest.raises(BadOption):
        await start_instances(runtime, int)  # type: ignore[arg-type]
    with pytest.raises(StartError):
        await workers.get("c", {"colour": 1})


async def test_an_idle_instance_sleeps_and_wakes_as_it_was(runtime: Runtime) -> None:
    """While somebody is attached it stays; a message keeps it awake for a while."""
    storage = MemoryStorage()
    durability = Durability(storage, EveryTurns(1000))
    workers = await start_instances(runtime, Worker, durability=durability, idle_timeout=10.0)
    worker = await workers.get("a")
    await worker.call(worker.signal("increment"))
    await advance(8.0)
    await worker.call(worker.signal("increment"))
    await advance(8.0)
    assert workers.lookup("a") is not None
    await advance(3.0)
    assert workers.lookup("a") is None
    owner = await runtime.spawn(Owner)
    async with workers.attached("a", owner) as again:
        assert again.state.counter == 2
        await advance(30.0)
        assert workers.lookup("a") is not None
    await advance(11.0)
    assert workers.lookup("a") is None
    async with workers.attached("a", owner), workers.attached("a", owner):
        await owner.stop()
        await settled(runtime)
        await advance(11.0)
        assert workers.lookup("a") is None
    assert (await workers.counts()).restored == 2
    two = [await runtime.spawn(Owner) for _ in range(2)]
    async with workers.attached("b", two[0]), workers.attached("b", two[1]):
        await two[1].stop()
        await advance(20.0)
        assert workers.lookup("b") is not None
    quiet = await start_agent(runtime, Worker)
    await quiet.address.call(AttachOwner(two[0], attached=True))
    await quiet.address.call(AttachOwner(two[0], attached=False))


async def test_a_crash_of_an_instance_is_its_own(runtime: Runtime) -> None:
    """It comes back; with what was saved; one that cannot be read fails whoever asks, and is left alone."""
    storage = MemoryStorage()
    workers = await start_instances(runtime, Worker, durability=Durability(storage), on_error=StopAfter(1))
    worker = await workers.get("a")
    await worker.call(worker.signal("increment"))
    worker.cast(worker.signal("fail"))
    await settled(runtime)
    again = await workers.get("a")
    assert again.address != worker.address
    assert again.state.counter == 1
    await workers.hibernate("a")
    storage._kept["/worker/a"].snapshots = {1: b"nonsense"}
    with pytest.raises(StartError) as caught:
        await workers.get("a")
    assert BadCheckpoint.__name__ in str(caught.value)
    stored = await storage.load("/worker/a")
    assert stored is not None
    assert stored.snapshot == b"nonsense"


async def test_two_who_start_the_same_instance_get_the_same(runtime: Runtime) -> None:
    """Also where each has a starter of its own, and the one comes while the other still loads."""
    storage = SlowStorage()
    both = [await start_instances(runtime, Worker, durability=Durability(storage)) for _ in range(2)]
    first, second = await asyncio.gather(*(workers.get("a") for workers in both))
    assert first.address == second.address


class SlowStorage(MemoryStorage):
    """Takes its time to read."""

    async def read(self, key: str) -> Any:
        """Read."""
        await advance(1.0)
        return await super().read(key)


# -- pools -------------------------------------------------------------------------------------------------------------


async def test_s50h_a_pool_hands_out_equal_workers(runtime: Runtime) -> None:
    """Their state stays from user to user; ten calls at once on four all succeed; the status tells how it is."""
    pool = await start_pool(runtime, Worker, 1, state={"counter": 100}, name="pool")
    for n in (101, 102):
        assert (await pool.call(pool.signal("increment"))).agent.state.counter == n
    three = await start_pool(runtime, Worker, 3)
    status = await three.status()
    assert (status.state, status.available, status.checked_out) == ("ready", 3, 0)
    async with three.worker():
        assert (await three.status()).checked_out == 1
    four = await start_pool(runtime, Worker, 4)
    replies = await asyncio.gather(*(four.call(four.signal("slow"), None) for _ in range(10)))
    assert [reply.errors for reply in replies] == [()] * 10
    assert {reply.agent.state.counter for reply in replies} == {1, 2, 3}
    assert (await four.status()).available == 4


async def test_a_full_pool_lets_users_wait(runtime: Runtime) -> None:
    """In order; whoever gives up does not get one, and none is lost."""
    pool = await start_pool(runtime, Worker, 1)
    async with pool.worker():
        assert (await pool.status()).state == "full"
        with pytest.raises(CallTimeout):
            async with pool.worker(timeout=1.0):
                pass
        waiting = asyncio.ensure_future(pool.call(pool.signal("increment")))
        given_up = asyncio.ensure_future(pool.call(pool.signal("increment")))
        await settled(runtime)
        assert (await pool.status()).waiting == 2
        given_up.cancel()
    assert (await waiting).agent.state.counter == 1
    await settled(runtime)
    status = await pool.status()
    assert (status.available, status.checked_out, status.waiting) == (1, 0, 0)


async def test_a_worker_comes_back_when_its_user_is_gone(runtime: Runtime) -> None:
    """An actor that dies gives nothing back itself; one that lives is watched only while it has one."""
    pool = await start_pool(runtime, Worker, 2)
    got: list[Any] = []
    users = [await runtime.spawn(User) for _ in range(2)]
    for user in users:
        user.cast(Use(pool, got))
    await settled(runtime)
    assert (len(got), (await pool.status()).available) == (2, 0)
    users[1].kill()
    await settled(runtime)
    assert (await pool.status()).available == 1
    users[0].kill()
    await settled(runtime)
    assert (await pool.status()).available == 2


async def test_a_cast_holds_a_worker_until_its_turn_is_over(runtime: Runtime) -> None:
    """And what goes wrong with it is logged."""
    pool = await start_pool(runtime, Worker, 1)
    pool.cast(pool.signal("slow"))
    await settled(runtime)
    assert (await pool.status()).available == 0
    await advance(2.0)
    await settled(runtime)
    assert (await pool.status()).available == 1
    with structlog.testing.capture_logs() as logs:
        pool.cast(pool.signal("unknown"))
        await settled(runtime)
    assert [entry["event"] for entry in logs] == ["pool_signal_failed"]
    assert (await pool.status()).available == 1


async def test_a_pool_can_reset_and_prefer_the_last(runtime: Runtime) -> None:
    """A worker begins anew between two users; the one that came back last is used first, if asked for."""
    pool = await start_pool(runtime, Worker, 1, on_checkin="reset", state={"counter": 7})
    for _ in range(2):
        assert (await pool.call(pool.signal("increment"))).agent.state.counter == 8
    fresh = await start_pool(runtime, Worker, 1, on_checkin="reset")
    for _ in range(2):
        assert (await fresh.call(fresh.signal("increment"))).agent.state.counter == 1
    last = await start_pool(runtime, Worker, 2, lifo=True)
    for n in (1, 2):
        assert (await last.call(last.signal("increment"))).agent.state.counter == n
    for size, options in ((0, {}), (True, {}), (2, {"on_checkin": "burn"})):
        with pytest.raises(BadOption):
            await start_pool(runtime, Worker, size, **options)  # type: ignore[arg-type]


async def test_a_worker_that_crashes_comes_back(runtime: Runtime) -> None:
    """In its place; the pool stays whole."""
    pool = await start_pool(runtime, Worker, 1)
    async with pool.worker() as worker:
        assert worker.view.ref is not None
        worker.view.ref.exit(Abnormal("boom"))
        await settled(runtime)
    assert (await pool.call(pool.signal("increment"))).agent.state.counter == 1


async def test_a_worker_that_dies_costs_the_signal_in_hand_alone(runtime: Runtime) -> None:
    """What waits for the same worker is handled when it is back, whether it was called or cast."""
    pool = await start_pool(runtime, Worker, 1)
    async with pool.worker() as worker:
        address = worker.address
    assert isinstance(address, Name)
    in_hand = address.call(Ask(pool.signal("slow")))
    await settled(runtime)
    waiting = asyncio.ensure_future(pool.call(pool.signal("increment")))
    pool.cast(pool.signal("increment"))
    await settled(runtime)
    ref = address.resolve()
    assert ref is not None
    ref.kill()
    assert (await waiting).agent.state.counter == 1
    with pytest.raises(ActorExited):
        await in_hand
    assert (await pool.call(pool.signal("increment"))).agent.state.counter == 3


# -- pods --------------------------------------------------------------------------------------------------------------


REVIEW = (
    Topology("review")
    .add("planner", Worker)
    .add("reviewer", Worker, owner="planner", meta="m")
    .add("publisher", Worker, owner="reviewer")
    .add("auditor", Worker, activation="lazy")
)


def running(nodes: Any) -> set[str]:
    """Return the names of the nodes that run."""
    return {name for name, node in nodes.items() if node.status == "running"}


async def test_s50a_eager_nodes_run_under_their_owners(runtime: Runtime) -> None:
    """Lazy ones when they are asked for."""
    pod = await start_pod(runtime, REVIEW, key="k")
    assert running(await pod.nodes()) == {"planner", "reviewer", "publisher"}
    planner, reviewer = await pod.ensure("planner"), await pod.ensure("reviewer")
    assert [*planner.children, *reviewer.children] == ["reviewer", "publisher"]
    assert planner.children["reviewer"].meta == "m"
    auditor = await pod.ensure("auditor")
    assert auditor.agent.id == "review/k/auditor"
    assert running(await pod.nodes()) == set(REVIEW.nodes)
    with pytest.raises(BadTopology, match="no such node"):
        await pod.ensure("cook")
    await pod.stop()
    assert [ref for ref in runtime.actors() if "review" in ref.path] == []


async def test_s50b_nodes_outlive_the_pod(runtime: Runtime) -> None:
    """The next pod with the same key finds them, and takes them over."""
    pod = await start_pod(runtime, REVIEW, key="k")
    await pod.ensure("auditor")
    before = {name: node.ref for name, node in (await pod.nodes()).items()}
    assert {node.source for node in (await pod.nodes()).values()} == {"started"}
    await pod.address.stop()
    again = await start_pod(runtime, REVIEW, key="k")
    nodes = await again.nodes()
    assert {name: node.ref for name, node in nodes.items()} == before
    assert {node.source for node in nodes.values()} == {"adopted", None}
    await again.stop()


async def test_s50c_a_pod_is_changed_while_it_runs(runtime: Runtime) -> None:
    """What is added is started, if it is eager; what is removed is stopped with all that it owns."""
    holder = RetainedTopology(Topology("empty"))
    pod = await start_pod(runtime, holder, key="k", name="pod")
    report = await pod.mutate(
        AddNode("planner", PodNode(Worker)), AddNode("reviewer", PodNode(Worker, "lazy", owner="planner"))
    )
    assert (report.status, report.added, report.started, report.version) == (
        *("completed", ("planner", "reviewer")),
        *(("planner",), 2),
    )
    await pod.ensure("reviewer")
    await pod.address.stop()
    pod = await start_pod(runtime, holder, key="k")
    assert (await pod.topology()).version == 2
    report = await pod.mutate(RemoveNode("planner"), AddNode("other", PodNode(Worker, "lazy")))
    assert (sorted(report.removed), report.stopped) == (["planner", "reviewer"], ("reviewer", "planner"))
    assert running(await pod.nodes()) == set()
    assert (await pod.mutate(RemoveNode("other"))).stopped == ()
    for changes in (
        (RemoveNode("nobody"),),
        (AddNode("a", PodNode(Worker)), AddNode("a", PodNode(Worker))),
        (AddNode("a", PodNode(Worker, owner="nobody")),),
    ):
        with pytest.raises(BadTopology):
            await pod.mutate(*changes)


async def test_s50d_one_change_at_a_time(runtime: Runtime) -> None:
    """A second one is refused, not queued."""
    pod = await start_pod(runtime, Topology("empty"))
    first = asyncio.ensure_future(pod.mutate(AddNode("a", PodNode(Worker))))
    await asyncio.wait([first], timeout=0)
    with pytest.raises(MutationBusy):
        await pod.mutate(AddNode("b", PodNode(Worker)))
    assert (await first).status == "completed"
    await pod.mutate(AddNode("b", PodNode(Worker)))


async def test_s50e_a_node_that_cannot_start_is_named(runtime: Runtime) -> None:
    """The topology keeps it; what needs it waits; the next change works; asking for it fails."""
    pod = await start_pod(runtime, Topology("empty"))
    bad = AddNode("bad", PodNode(Worker, state={"colour": 1}))
    report = await pod.mutate(bad, AddNode("next", PodNode(Worker, after=("bad",))))
    assert (report.status, list(report.failures), report.started) == ("failed", ["bad"], ())
    assert "no field 'colour'" in report.failures["bad"]
    assert set((await pod.topology()).nodes) == {"bad", "next"}
    assert (await pod.reconcile()).status == "failed"
    with pytest.raises(AgentError, match="bad"):
        await pod.ensure("next")
    assert (await pod.mutate(AddNode("good", PodNode(Worker)))).status == "completed"


async def test_s50f_partitions_are_apart(runtime: Runtime) -> None:
    """The same key in two of them is two teams."""
    alpha = await start_pod(runtime, REVIEW, partition="alpha")
    beta = await start_pod(runtime, REVIEW, partition="beta")
    await alpha.ensure("auditor")
    assert running(await beta.nodes()) == {"planner", "reviewer", "publisher"}
    assert whereis(runtime, "review/main/auditor", partition="alpha") is not None


def test_s50g_topologies_have_an_order() -> None:
    """Each node comes after what it needs, in waves; cycles, and nodes that are not there, are refused."""
    waves = REVIEW.waves()
    assert waves == (("auditor", "planner"), ("reviewer",), ("publisher",))
    squad = Topology("t").add("auditor", Worker).add("lead", Worker).add("squad", Worker, after=["auditor", "lead"])
    squad = squad.add("worker", Worker, after="squad")
    assert squad.waves(["worker"]) == (("auditor", "lead"), ("squad",), ("worker",))
    wrong: list[Any] = [
        lambda: Topology(""),
        lambda: REVIEW.add("planner", Worker),
        lambda: REVIEW.add("", Worker),
        lambda: REVIEW.add("x", int),  # type: ignore[arg-type]
        lambda: REVIEW.add("x", Worker, activation="soon"),  # type: ignore[arg-type]
        lambda: REVIEW.add("x", Worker, owner="y"),
        lambda: REVIEW.add("x", Worker, owner="x"),
        lambda: REVIEW.changed(
            [AddNode("a", PodNode(Worker, after=("b",))), AddNode("b", PodNode(Worker, after=("a",)))],
        ),
    ]
    for make in wrong:
        with pytest.raises(BadTopology):
            make()


async def test_a_team_heals(runtime: Runtime) -> None:
    """A node that crashes comes back, and its owner, or its children, find it again."""
    pod = await start_pod(runtime, REVIEW, durability=Durability(MemoryStorage()))
    planner, publisher = await pod.ensure("planner"), await pod.ensure("publisher")
    await planner.call(planner.signal("increment"))
    for handle_ in (planner, publisher):
        assert handle_.view.ref is not None
        handle_.view.ref.exit(Abnormal("boom"))
    await advance(1.0)
    await settled(runtime)
    again, reviewer = await pod.ensure("planner"), await pod.ensure("reviewer")
    assert again.address != planner.address
    assert (again.state.counter, list(again.children), list(reviewer.children)) == (1, ["reviewer"], ["publisher"])
    await pod.mutate(RemoveNode("publisher"))
    await advance(1.0)
    assert running(await pod.nodes()) == {"planner", "reviewer"}


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        ("zz", 5),
        ("idle_timeout", -1),
        ("idle_timeout", float("nan")),
        ("idle_timeout", "5"),
        ("durability", 5),
        ("emit_to", 5),
        ("emit_to", ""),
        ("partition", 5),
        ("partition", "a/b"),
        ("on_error", 5),
        ("on_error", "log"),
        ("debug", -1),
        ("debug", True),
        ("debug", 1.5),
        ("idle_timeout", 10**400),
    ],
)
async def test_wrong_options_of_instances_and_pools_are_refused_when_they_are_started(
    runtime: Runtime, option: str, wrong: Any
) -> None:
    """Not by the first one that is asked for; and an agent refuses them, too."""
    with pytest.raises((BadOption, BadTime), match=f"Instances: {option}"):
        await start_instances(runtime, Worker, **{option: wrong})
    with pytest.raises((BadOption, BadTime), match=f"Pool: {option}"):
        await start_pool(runtime, Worker, **{option: wrong})
    if option not in ("zz", "partition"):
        with pytest.raises((BadOption, BadTime), match=f"AgentServer: {option}"):
            await start_agent(runtime, Worker, **{option: wrong})
    assert agent_ids(runtime) == []


@pytest.mark.parametrize("wrong", [5, {"counter": "no"}, {"other": 1}, [], "state"])
async def test_a_state_that_does_not_fit_is_refused_by_instances_and_pools(runtime: Runtime, wrong: Any) -> None:
    for start in (start_instances, start_pool):
        with pytest.raises(StartError, match="BadState: Held"):
            await start(runtime, Worker, state=wrong)


async def test_a_key_of_an_instance_is_a_text(runtime: Runtime) -> None:
    workers = await start_instances(runtime, Worker, emit_to="nobody", idle_timeout=0)
    wrong: tuple[Any, ...] = (None, "", 5, [], b"x", "\ud800")
    for key in wrong:
        for ask in (workers.get, workers.find):
            with pytest.raises(BadOption, match="Instances: key"):
                await ask(key)
    assert agent_ids(runtime) == []


def test_a_partition_has_no_slash_so_that_two_agents_never_have_one_key() -> None:
    with pytest.raises(BadAgentType, match="without '/'"):
        Worker.new("y", partition="acme/doc/x")
