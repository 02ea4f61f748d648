"""The facade: implementations are injected, and refused if they are of the wrong version."""

from __future__ import annotations

from typing import Any

import pytest

from foundation.coordination import Consensus, Locks, Unanimity, Vote
from foundation.facade import (
    Coordination,
    CoordinationProtocol,
    Foundation,
    IncompatibleProtocol,
    Infrastructure,
    InfrastructureProtocol,
    Requirements,
)
from foundation.protection import Breakers
from foundation.registry import Directory, PartitionedDirectory, Registry
from foundation.resources import Resources
from supervision import Actor, ChildSpec, Runtime, StartError, Supervisor, handle


class Member(Actor):
    """Agrees."""

    @handle
    def vote(self, request: Vote) -> bool | None:
        """Say yes."""
        return True


async def test_all_services_are_reached_through_it(runtime: Runtime) -> None:
    for kind in (Registry, Locks, Consensus, Breakers):
        await runtime.spawn(kind)
    await runtime.spawn(Resources, {"work": 1})
    platform = Foundation(runtime, requires={"registry": "1.1", "coordination": "1.0", "infrastructure": "1.0"})
    member = await runtime.spawn(Member)
    await platform.registry.register("m", member, {"n": 1})
    await platform.registry.update("m", {"n": 2})
    assert platform.registry.count(("n", 2, "eq")) == len(platform.registry.select()) == 1
    async with platform.coordination.lock("l").held() as grant:
        assert grant.fence == 1
    assert (await platform.coordination.propose("?", [member], Unanimity())).accepted
    assert platform.coordination.barrier("b", parties=2).parties == 2
    assert platform.coordination.election("e").leader is None
    assert platform.infrastructure.circuit_breaker("c").state == "closed"
    assert platform.infrastructure.resource("work").used == 0

    async def work() -> str:
        return "done"

    assert await platform.infrastructure.rate_limit(1).call(work) == "done"
    assert isinstance(platform.coordination, CoordinationProtocol)
    assert isinstance(platform.infrastructure, InfrastructureProtocol)


async def test_it_keeps_nothing(runtime: Runtime) -> None:
    await runtime.spawn(Registry)
    member = await runtime.spawn(Member)
    await Foundation(runtime).registry.register("m", member)
    entry = Foundation(runtime).registry.lookup("m")
    assert entry is not None
    assert entry.ref is member
    assert Foundation.__slots__


class Another(Directory):
    """Another registry."""

    protocol_version = (1, 9)


async def test_implementations_are_injected(runtime: Runtime) -> None:
    mine = Another(runtime.name("mine"))
    platform = Foundation(
        runtime, registry=mine, coordination=Coordination(runtime), infrastructure=Infrastructure(runtime)
    )
    assert platform.registry is mine
    assert platform.versions()["registry"] == "1.9"
    Foundation(runtime, registry=PartitionedDirectory.of(runtime, 2))


@pytest.mark.parametrize(
    ("requires", "message"),
    [
        ({"registry": "1.2"}, "protocol registry: the implementation is of version 1.1, and 1.2 is required"),
        ({"registry": "2.0"}, "of version 1.1, and 2.0 is required"),
        ({"registry": "1.10"}, "of version 1.1, and 1.10 is required"),
        ({"coordination": "0.9"}, "of version 1.0, and 0.9 is required"),
        ({"registry": "1"}, "'1' is no version: write it as '1.0'"),
        ({"registry": 1.1}, "1.1 is no version"),
        (5, "5 is no mapping"),
        ({5: "1.0"}, "no such protocol"),
        ({"registry": "9" * 5000 + ".0"}, "is no version"),
        ({"storage": "1.0"}, "no such protocol; there are: registry, coordination, infrastructure"),
    ],
)
async def test_an_incompatible_version_is_refused_with_both_named(
    runtime: Runtime, requires: Any, message: str
) -> None:
    with pytest.raises(IncompatibleProtocol, match=message):
        Foundation(runtime, requires=requires)


async def test_versions_are_compared_as_numbers(runtime: Runtime) -> None:
    class Later(Directory):
        protocol_version = (1, 10)

    Foundation(runtime, registry=Later(runtime.name("r")), requires={"registry": "1.9"})


async def test_what_lacks_something_is_no_implementation(runtime: Runtime) -> None:
    with pytest.raises(IncompatibleProtocol, match="Infrastructure is no implementation: it has no lock, barrier"):
        Foundation(runtime, coordination=Infrastructure(runtime))  # type: ignore[arg-type]

    class Odd(Directory):
        protocol_version = "1.0"  # type: ignore[assignment]

    with pytest.raises(IncompatibleProtocol, match=r"protocol_version = '1\.0' is not two whole numbers"):
        Foundation(runtime, registry=Odd(runtime.name("r")))  # type: ignore[arg-type]


async def test_a_tree_can_require_versions(runtime: Runtime, expect_crash: Any) -> None:
    expect_crash()
    good = ChildSpec("requirements", Requirements, (), {"registry": "1.0"})
    await runtime.spawn(Supervisor, [good, ChildSpec("registry", Registry)])
    bad = ChildSpec("requirements", Requirements, (), {"registry": "9.0"})
    with pytest.raises(StartError, match=r"of version 1\.1, and 9\.0 is required"):
        await runtime.spawn(Supervisor, [bad, ChildSpec("other", Registry, name="other")])
    assert runtime.whereis("other") is None
