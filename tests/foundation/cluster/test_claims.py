"""Names of the cluster: who gets them, who keeps them, and when they are given up."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from foundation.cluster import Cluster, ClusterUnavailable, MemoryNetwork, NameTaken, NodeNameTaken
from foundation.cluster.errors import WrongRevision
from foundation.cluster.identity import CLUSTER
from foundation.cluster.leases import FENCE, UNSEEN, Lease
from foundation.cluster.names import key_of
from foundation.events import NameClaimed, NameGivenUp, NodeDown, NodeFenced
from supervision import Actor, ChildSpec, Ref, Runtime, Supervisor
from supervision.errors import BadName, BadOption, NoProcess
from tests.foundation.cluster.conftest import Nodes
from tests.foundation.cluster.kinds import Clerk, Echo


def given_up(nodes: Nodes, node: str) -> list[str]:
    """Why a node has given names up."""
    return [event.why for event in nodes.told(node, NameGivenUp) if isinstance(event, NameGivenUp)]


async def test_a_name_has_one_holder_whose_epoch_grows(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    first, second = await a.runtime.spawn(Clerk), await b.runtime.spawn(Clerk)
    claim = await a.register("till", first)
    assert (claim.name, claim.ref, claim.epoch, claim.valid) == ("till", first, 1, True)
    assert str(claim) == "<NameClaim till epoch 1>"
    with pytest.raises(NameTaken, match="node a") as caught:
        await b.register("till", second)
    assert (caught.value.name, caught.value.node) == ("till", "a")
    with pytest.raises(NameTaken):
        await a.register("till", first)
    assert await a.release("till")
    assert not await a.release("till")
    assert not claim.valid
    assert (await b.register("till", second)).epoch == 2
    assert [event.epoch for event in nodes.told("b", NameClaimed) if isinstance(event, NameClaimed)] == [2]
    assert given_up(nodes, "a") == ["released"]


async def test_C048_who_registers_sees_it_at_once_and_others_soon(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await a.runtime.spawn(Clerk)
    await a.register("till", clerk)
    assert a.whereis("till") is clerk
    assert a.names() == {"till": clerk}
    await a.runtime.sleep(0.05)
    assert set(b.names()) == {"till"}
    assert b.statistics().names == 1
    assert (a.statistics().claims, a.statistics().nodes) == (1, 1)


async def test_a_name_is_free_when_its_holder_has_ended_and_only_then(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await a.runtime.spawn(Clerk)
    claim = await a.register("till", clerk)
    clerk.kill()
    assert a.whereis("till") is None
    await a.runtime.sleep(0.1)
    assert not claim.valid
    assert b.whereis("till") is None
    assert given_up(nodes, "a") == ["its holder has ended"]
    assert (await b.register("till", await b.runtime.spawn(Clerk))).epoch == 2


async def test_the_holder_of_a_name_that_was_released_may_end_without_more(nodes: Nodes):
    (a,) = await nodes.start("a")
    clerk = await a.runtime.spawn(Clerk)
    await a.register("till", clerk)
    await a.release("till")
    clerk.kill()
    await a.runtime.sleep(0.1)
    assert given_up(nodes, "a") == ["released"]


async def test_only_live_actors_of_this_node_get_names(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    clerk = await b.runtime.spawn(Clerk, name="clerk")
    with pytest.raises(BadOption):
        await a.register("till", clerk)
    await b.register("till", b.runtime.name("clerk"))
    with pytest.raises(BadOption):
        await a.register("other", await a.wait_for_name("till"))
    with pytest.raises(BadName):
        await b.register("", clerk)
    clerk.kill()
    with pytest.raises(NoProcess):
        await b.register("dead", clerk)


async def test_C038_of_many_who_claim_at_once_one_wins(nodes: Nodes):
    clusters = await nodes.start("a", "b", "c")
    clerks = [await cluster.runtime.spawn(Clerk) for cluster in clusters]
    nodes.network.delay = (0.001, 0.02)
    claims = [cluster.register("till", clerk) for cluster, clerk in zip(clusters, clerks, strict=True)]
    outcomes = await asyncio.gather(*claims, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NameClaim", "NameTaken", "NameTaken"]


@pytest.mark.parametrize("seed", range(10))
async def test_C033_a_claim_whose_answer_was_lost_is_known_by_its_id(nodes: Nodes, seed: int):
    a, b = await nodes.start("a", "b")
    nodes.network.random.seed(seed)
    nodes.network.lost_answers = 0.7
    clerks = [await a.runtime.spawn(Clerk), await b.runtime.spawn(Clerk)]
    claims = [cluster.register("till", clerk) for cluster, clerk in zip((a, b), clerks, strict=True)]
    outcomes = await asyncio.gather(*claims, return_exceptions=True)
    nodes.network.lost_answers = 0.0
    await a.runtime.sleep(5.0)
    assert len(a.claims) + len(b.claims) <= 1
    for cluster, clerk, outcome in zip((a, b), clerks, outcomes, strict=True):
        if not isinstance(outcome, BaseException):
            assert cluster.whereis("till") is clerk
    held = await a.names_keys.get(key_of("till"))
    assert held is not None
    entry = a.table.names["till"]
    assert entry.free == (not a.claims and not b.claims)


async def test_a_claim_is_not_tried_for_ever_and_what_was_written_all_the_same_is_released(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    nodes.network.lost_answers = 1.0
    claiming = asyncio.ensure_future(a.register("other", await a.runtime.spawn(Clerk)))
    await a.runtime.sleep(0.5)
    nodes.network.lost_answers, nodes.network.keys_down = 0.0, True
    with pytest.raises(ClusterUnavailable):
        await claiming
    assert b.whereis("other") is not None
    nodes.network.keys_down = False
    await a.runtime.sleep(5.0)
    assert b.whereis("other") is None
    assert (await b.register("other", await b.runtime.spawn(Clerk))).epoch == 2


async def test_a_release_that_cannot_be_written_is_done_later(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    claim = await a.register("till", await a.runtime.spawn(Clerk))
    nodes.network.keys_down = True
    with pytest.raises(ClusterUnavailable):
        await a.release("till")
    assert not claim.valid
    await a.runtime.sleep(3.0)
    nodes.network.keys_down = False
    await a.runtime.sleep(5.0)
    assert (await b.register("till", await b.runtime.spawn(Clerk))).epoch == 2


async def test_a_name_of_a_dead_node_can_be_had_when_its_lease_is_over_and_not_before(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    await b.register("till", await b.runtime.spawn(Clerk))
    await a.wait_for_name("till")
    nodes.network.kill("b")
    killed, clerk = a.runtime.clock.time(), await a.runtime.spawn(Clerk)
    while True:
        try:
            claim = await a.register("till", clerk)
        except NameTaken:
            await a.runtime.sleep(0.5)
        else:
            break
    assert 27.0 <= a.runtime.clock.time() - killed <= 31.0
    assert claim.epoch == 2
    assert a.runtime.whereis("till") is clerk


async def test_C028_a_node_that_is_cut_off_gives_its_names_up_long_before_others_get_them(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    claim = await a.register("till", await a.runtime.spawn(Clerk))
    nodes.network.isolate("a")
    cut, clerk = a.runtime.clock.time(), await b.runtime.spawn(Clerk)
    while claim.valid:
        await a.runtime.sleep(0.1)
    stopped = a.runtime.clock.time()
    assert 17.0 <= stopped - cut <= FENCE + 0.5
    (fenced,) = nodes.told("a", NodeFenced)
    assert isinstance(fenced, NodeFenced)
    assert fenced.names == ("till",)
    with pytest.raises(ClusterUnavailable):
        await a.register("more", await a.runtime.spawn(Clerk))
    while True:
        try:
            newer = await b.register("till", clerk)
        except NameTaken:
            await b.runtime.sleep(0.1)
        else:
            break
    assert b.runtime.clock.time() - stopped >= 7.0
    assert newer.epoch == 2
    nodes.network.heal()
    await a.wait_for_node("b", 20.0)
    await a.runtime.sleep(5.0)
    assert newer.valid
    assert a.identity.epoch == 1
    assert (await a.register("more", await a.runtime.spawn(Clerk))).valid


async def test_a_node_that_is_fenced_and_comes_back_in_time_releases_what_it_held(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    claim = await a.register("till", await a.runtime.spawn(Clerk))
    nodes.network.isolate("a")
    await a.runtime.sleep(FENCE + 1.0)
    assert not claim.valid
    nodes.network.heal()
    await a.runtime.sleep(5.0)
    assert (await b.register("till", await b.runtime.spawn(Clerk))).epoch == 2


async def test_a_lease_that_expires_too_early_costs_the_names_and_nobody_else_gets_them_too_early(nodes: Nodes):
    """F19: the clock of the keys jumps."""
    a, b = await nodes.start("a", "b")
    claim = await a.register("till", await a.runtime.spawn(Clerk))
    await a.runtime.sleep(1.0)
    bucket = nodes.network.bucket("foundation_nodes", None)
    bucket.put("a", None, bucket.entries["a"].revision)
    with pytest.raises(NameTaken):
        await b.register("till", await b.runtime.spawn(Clerk))
    assert claim.valid
    await a.runtime.sleep(3.0)
    assert not claim.valid
    assert given_up(nodes, "a") == ["its lease had expired"]
    assert nodes.told("b", NodeDown) == []


async def test_C032_refreshes_whose_answers_are_lost_are_known_as_ones_own(nodes: Nodes):
    (a,) = await nodes.start("a")
    claim = await a.register("till", await a.runtime.spawn(Clerk))
    nodes.network.lost_answers = 1.0
    await a.runtime.sleep(12.0)
    assert claim.valid
    nodes.network.lost_answers = 0.0
    await a.runtime.sleep(12.0)
    assert claim.valid
    nodes.network.lost_answers = 1.0
    await a.runtime.sleep(24.0)
    assert not claim.valid


async def test_a_claim_that_another_node_has_overwritten_is_not_valid(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    claim = await a.register("till", await a.runtime.spawn(Clerk))
    other = await a.register("other", await a.runtime.spawn(Clerk))
    b.book.dead = lambda node, epoch, now: True  # type: ignore[method-assign]
    await b.register("till", await b.runtime.spawn(Clerk))
    await a.runtime.sleep(0.1)
    assert not claim.valid
    assert given_up(nodes, "a") == ["node b has claimed it"]
    a._port.reload()  # type: ignore[attr-defined]
    assert other.valid
    assert a.table.names["till"].node == "b"


async def test_a_claim_overwritten_while_nothing_was_heard_is_found_by_the_next_load(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    claim = await a.register("till", await a.runtime.spawn(Clerk))
    b.book.dead = lambda node, epoch, now: True  # type: ignore[method-assign]
    nodes.network.cut("*", "a")
    await b.register("till", await b.runtime.spawn(Clerk))
    nodes.network.heal()
    assert claim.valid
    a._port.reload()  # type: ignore[attr-defined]
    assert not claim.valid


async def test_another_process_under_the_same_name_makes_this_one_leave(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    claim = await b.register("till", await b.runtime.spawn(Clerk))
    bucket = nodes.network.bucket("foundation_nodes", None)
    other = msgspec.msgpack.encode(Lease(2, "another", "elsewhere"))
    bucket.put("b", other, bucket.entries["b"].revision)
    await a.runtime.sleep(5.0)
    assert a.nodes() == b.nodes() == {}
    assert not claim.valid
    with pytest.raises(ClusterUnavailable):
        await b.register("till", await b.runtime.spawn(Clerk))
    assert msgspec.msgpack.decode(bucket.entries["b"].value or b"", type=Lease).uid == "another"


async def test_keys_that_are_lost_make_a_node_leave(nodes: Nodes):
    """F20: a bucket that comes back empty has another id."""
    a, b = await nodes.start("a", "b")
    claim = await a.register("till", await a.runtime.spawn(Clerk))
    bucket = nodes.network.bucket("foundation_names", None)
    del bucket.entries[CLUSTER]
    a._port.reload()  # type: ignore[attr-defined]
    assert not claim.valid
    assert a.nodes() == {}
    await b.runtime.sleep(0.1)
    assert b.nodes() == {}
    a._port.reload()  # type: ignore[attr-defined]
    bucket.put("name.x", b"", 0)
    lease = nodes.network.bucket("foundation_nodes", None).entries["a"]
    await a.runtime.sleep(5.0)
    assert nodes.network.bucket("foundation_nodes", None).entries["a"] is lease
    a.lost()
    assert given_up(nodes, "a") == ["the keys of the cluster are lost: it is another one now"]


def lose_keys(network: MemoryNetwork) -> None:
    """The server comes back with an empty store."""
    for bucket in ("foundation_names", "foundation_nodes"):
        network.bucket(bucket, None).entries.clear()


async def test_a_node_whose_lease_went_with_all_keys_leaves_and_writes_nothing_any_more(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    claim = await a.register("till", await a.runtime.spawn(Clerk))
    lose_keys(nodes.network)
    await a.runtime.sleep(5.0)
    assert not claim.valid
    assert given_up(nodes, "a") == ["the keys of the cluster are lost: it is another one now"]
    assert a.nodes() == b.nodes() == {}
    await a.__aexit__(None, None, None)
    assert nodes.network.bucket("foundation_nodes", None).entries == {}


async def test_of_two_processes_of_one_name_the_one_of_the_lost_keys_leaves_and_harms_the_other_one_in_nothing(
    nodes: Nodes,
):
    (a,) = await nodes.start("a")
    claim = await a.register("till", await a.runtime.spawn(Clerk))
    lose_keys(nodes.network)
    async with (
        Runtime(watchdog=None, reports=False) as runtime,
        Cluster(runtime, nodes.network.port(), node="a") as twin,
    ):
        newer = await twin.register("till", await runtime.spawn(Clerk))
        await runtime.sleep(60.0)
        assert (claim.valid, newer.valid) == (False, True)
        assert not a.in_office
        assert twin.in_office
        assert not twin.table.names["till"].free


async def test_a_lease_of_the_lost_cluster_is_written_over(nodes: Nodes):
    (a,) = await nodes.start("a")
    bucket = nodes.network.bucket("foundation_nodes", None)
    other = Lease(7, "another", "elsewhere", cluster=a.identity.cluster + 1)
    bucket.put("a", msgspec.msgpack.encode(other), bucket.entries["a"].revision)
    await a.runtime.sleep(5.0)
    assert a.in_office
    assert msgspec.msgpack.decode(bucket.entries["a"].value or b"", type=Lease).uid == a.identity.uid


async def test_a_store_without_buckets_is_a_lost_one_at_the_second_look(nodes: Nodes, monkeypatch: pytest.MonkeyPatch):
    (a,) = await nodes.start("a")
    claim = await a.register("till", await a.runtime.spawn(Clerk))
    kept = dict(nodes.network.bucket("foundation_names", None).entries)

    async def refused(key: str, value: bytes, revision: int) -> int:
        raise ClusterUnavailable(key, "no response from stream")

    with monkeypatch.context() as patch:
        patch.setattr(a.identity._nodes, "write", refused)
        await a.runtime.sleep(5.0)
        lose_keys(nodes.network)
        await a.runtime.sleep(0.4)
        nodes.network.bucket("foundation_names", None).entries.update(kept)
        await a.runtime.sleep(5.0)
        assert claim.valid
        lose_keys(nodes.network)
        await a.runtime.sleep(2.0)
    assert not claim.valid
    assert a.peers.closed


async def test_names_of_a_node_that_counts_as_dead_are_not_found_any_more(nodes: Nodes):
    a, b = await nodes.start("a", "b")
    await b.register("till", await b.runtime.spawn(Clerk))
    await a.wait_for_name("till")
    nodes.network.kill("b")
    await a.runtime.sleep(20.0)
    assert set(a.names()) == {"till"}
    await a.runtime.sleep(15.0)
    assert a.names() == {}
    assert a.runtime.whereis("till") is None
    assert a.statistics().names == 0
    async with (
        Runtime(watchdog=None, reports=False) as runtime,
        Cluster(runtime, nodes.network.port(), node="c") as c,
    ):
        await runtime.sleep(UNSEEN + 0.1)
        assert c.names() == {}


async def test_a_node_joins_although_answers_of_the_keys_are_lost(nodes: Nodes):
    nodes.network.lost_answers = 1.0
    asyncio.get_running_loop().call_later(1.5, setattr, nodes.network, "lost_answers", 0.0)
    (a,) = await nodes.start("a")
    assert a.identity.epoch == 1
    assert a.in_office


async def test_a_node_does_not_join_without_keys():
    network = MemoryNetwork()
    network.keys_down = True
    async with Runtime(watchdog=None, reports=False) as runtime:
        with pytest.raises(ClusterUnavailable):
            await Cluster(runtime, network.port(), node="a").__aenter__()
        assert runtime.elsewhere is None
        assert runtime.node == "local"


async def test_a_node_leaves_also_without_keys_and_its_successor_waits(nodes: Nodes):
    async with Runtime(watchdog=None, reports=False) as runtime:
        async with Cluster(runtime, nodes.network.port(), node="a") as a:
            await a.register("till", await runtime.spawn(Clerk))
            nodes.network.keys_down = True
        nodes.network.keys_down = False
        left = runtime.clock.time()
        async with Cluster(runtime, nodes.network.port(), node="a") as again:
            assert runtime.clock.time() - left > 20.0
            assert again.identity.epoch == 2
            assert (await again.register("till", await runtime.spawn(Clerk))).epoch == 2


async def test_a_lease_without_a_record_of_its_node_is_respected(nodes: Nodes):
    other = msgspec.msgpack.encode(Lease(1, "another", "elsewhere"))
    nodes.network.bucket("foundation_nodes", 30.0).put("a", other, 0)
    async with Runtime(watchdog=None, reports=False) as runtime:
        with pytest.raises(NodeNameTaken, match="another on elsewhere") as caught:
            await Cluster(runtime, nodes.network.port(), node="a").__aenter__()
    assert (caught.value.node, caught.value.uid) == ("a", "another")


async def test_a_release_that_meets_another_write_is_tried_again(nodes: Nodes, monkeypatch: pytest.MonkeyPatch):
    (a,) = await nodes.start("a")
    await a.register("till", await a.runtime.spawn(Clerk))
    write, wrong = a.names_keys.write, [WrongRevision("till", 1)]

    async def meeting(key: str, value: bytes, revision: int) -> int:
        if wrong:
            raise wrong.pop()
        return await write(key, value, revision)

    monkeypatch.setattr(a.names_keys, "write", meeting)
    assert await a.release("till")
    assert a.table.names["till"].free


async def test_a_node_leaves_although_its_keepers_have_ended(nodes: Nodes):
    async with Runtime(watchdog=None, reports=False) as runtime:
        async with Cluster(runtime, nodes.network.port(), node="a") as a:
            claim = await a.register("till", await runtime.spawn(Clerk))
            runtime.name("cluster").kill()
        assert not claim.valid


# -- shared names ------------------------------------------------------------------------------------------------------


async def supervised(runtime: Runtime, name: str, kind: type[Actor] = Clerk) -> Ref:
    """Start an actor under a supervisor, with a name."""
    await runtime.spawn(Supervisor, [ChildSpec(name, kind, name=name)])
    ref = runtime.whereis(name)
    assert ref is not None
    return ref


async def test_shared_names_are_found_everywhere_and_follow_restarts(nodes: Nodes):
    a, b = await nodes.start("a", "b", names=("till", "unused"))
    ref = await supervised(b.runtime, "till")
    assert (await a.wait_for_name("till")).id == ref.id
    ref.kill()
    await a.runtime.sleep(0.2)
    again = await a.wait_for_name("till")
    assert again.id != ref.id
    assert await a.runtime.name("till").call(Echo("x")) == "x"


async def test_who_has_a_shared_name_at_home_uses_that_and_the_cluster_keeps_the_first(nodes: Nodes):
    a, b = await nodes.start("a", "b", names=("till",))
    first = await supervised(a.runtime, "till")
    await b.wait_for_name("till")
    second = await supervised(b.runtime, "till")
    await b.runtime.sleep(5.0)
    assert b.runtime.whereis("till") is second
    assert b.whereis("till") is not second
    assert a.whereis("till") is first
    await a.__aexit__(None, None, None)
    await b.runtime.sleep(5.0)
    assert b.whereis("till") is second


async def test_a_shared_name_that_was_released_is_left_alone_until_another_actor_has_it(nodes: Nodes):
    a, b = await nodes.start("a", "b", names=("till",))
    first = await supervised(a.runtime, "till")
    await b.wait_for_name("till")
    assert await a.release("till")
    await a.runtime.sleep(5.0)
    assert a.whereis("till") is None
    await a.register("till", first)
    assert await a.release("till")
    first.kill()
    await a.runtime.sleep(5.0)
    assert a.claims["till"].epoch == 3


async def test_a_shared_name_is_claimed_again_after_a_fence(nodes: Nodes):
    (a,) = await nodes.start("a", names=("till",))
    await supervised(a.runtime, "till")
    await a.wait_for_name("till")
    nodes.network.isolate("a")
    await a.runtime.sleep(FENCE + 3.0)
    assert a.claims == {}
    nodes.network.heal()
    await a.runtime.sleep(5.0)
    assert a.claims["till"].epoch == 2


async def test_the_keeper_of_names_goes_on_after_a_crash_with_what_is_held(nodes: Nodes):
    (a,) = await nodes.start("a")
    clerk = await a.runtime.spawn(Clerk)
    claim = await a.register("till", clerk)
    a.runtime.name("cluster.names").kill()
    await a.runtime.sleep(0.1)
    assert claim.valid
    clerk.kill()
    await a.runtime.sleep(0.1)
    assert not claim.valid
    assert (await a.register("till", await a.runtime.spawn(Clerk))).epoch == 2
