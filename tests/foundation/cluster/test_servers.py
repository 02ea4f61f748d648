"""What a cluster is told at its beginning: servers, names, and what is asked of it too early."""

from __future__ import annotations

from typing import Any

import pytest

from foundation.cluster import Cluster, MemoryNetwork, NotJoined
from foundation.cluster.servers import problem, read_servers, shown, without_users
from foundation.run.serve import Joining
from supervision import Runtime
from supervision.errors import BadOption


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nats://ada:secret@host:4222", "nats://host:4222"),
        ("nats://token@host", "nats://host"),
        ("tls://ada:se@cr/et@host", "tls://host"),
        ("ada:secret@host:4222", "host:4222"),
        ("nats://host:4222", "nats://host:4222"),
    ],
)
def test_a_url_is_shown_without_its_user(url: str, told: str):
    assert shown(url) == told
    assert without_users(f"no answer of {url}!") == f"no answer of {told}!" or "://" not in url


def test_whoever_joins_is_shown_without_passwords():
    assert "secret" not in repr(Joining(("nats://ada:secret@host",), "a", ("till",)))


@pytest.mark.parametrize(
    "servers",
    [
        "nats://host:4222",
        ["nats://ada:secret@a:4222", "tls://b", "c", "d:4222", "nats://[::1]:4222"],
        ("ws://a", "wss://b:443"),
    ],
)
def test_what_can_be_servers(servers: Any):
    assert read_servers(servers) == ([servers] if isinstance(servers, str) else list(servers))
    assert problem(read_servers(servers)) == ""


@pytest.mark.parametrize(
    ("servers", "why"),
    [
        ([], "at least one server"),
        ((), "at least one server"),
        (None, "None: give URLs of servers"),
        (5, "5: give URLs of servers"),
        (["nats://a", 5], "give URLs of servers"),
        (b"nats://ada:secret@a", "give URLs of servers"),
        ({"nats://ada:secret@a"}, "give URLs of servers"),
        (MemoryNetwork(), r"such as MemoryNetwork\(\).port\(\)"),
        ("", "give URLs of servers"),
        ("nats://ada:secret@a,nats://b", "give several servers as a list"),
        ("nats://a b", "a comma or a blank"),
        ("nats://ada:secret@host:abc", "nats://host:abc is no URL of a server: its port"),
        ("nats://ada:secret@host:99999", "from 1 to 65535"),
        ("nats://host:0", "from 1 to 65535"),
        ("nats://", "give nats://HOST:PORT"),
        ("http://host:4222", "begin with one of nats://, tls://, ws://, wss://"),
        (["nats://ada:secret@a", "ws://b"], "begin all with nats or tls, or all with ws or wss"),
    ],
)
def test_what_cannot_be_servers_is_refused_at_once_and_without_passwords(servers: Any, why: str):
    with pytest.raises(BadOption, match=why) as caught:
        Cluster(Runtime(), servers, node="a")
    assert caught.value.field == "servers"
    assert "secret" not in f"{caught.value} {caught.value.value!r}"


@pytest.mark.parametrize("names", ["abc", b"abc", 5, None, [5], [""], ["till", None]])
def test_what_cannot_be_names_to_share_is_refused(names: Any):
    with pytest.raises(BadOption, match="give a list of names, such as"):
        Cluster(Runtime(), MemoryNetwork().port(), node="a", names=names)


async def test_a_cluster_that_is_not_joined_yet_says_so():
    async with Runtime(watchdog=None) as runtime:
        cluster = Cluster(runtime, MemoryNetwork().port(), node="a")
        for word in (cluster.nodes, cluster.names, cluster.statistics):
            with pytest.raises(NotJoined, match="node a is not in the cluster yet; write: async with"):
                word()
        asked = (
            cluster.wait_for_node("b"),
            cluster.wait_for_name("x"),
            cluster.register("x", runtime.name("y")),
            cluster.release("x"),
        )
        for one in asked:
            with pytest.raises(NotJoined):
                await one
        assert cluster.whereis("x") is None
