"""A served team changes its members while it serves: calls under way keep theirs, and nobody is left over."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from dspex import ListVersions, UseVersion
from dspex.agents.agent import BadProgram
from dspex.teams import AddMember, BadTeam, DropMember, Member, ReshapeTeam, TeamReshaped
from foundation.programs import BadVersion, RunProgram
from supervision import Ref, Runtime
from tests.dspex.teams.served.desk import Answering, ask, desk, forget, members, serve, until


@pytest.fixture(autouse=True)
def _fresh() -> None:
    forget()


def joining(name: str = "z", answer: str = "Z", **more: Any) -> AddMember:
    """Somebody joins."""
    return AddMember(Member(name, Answering(name, answer)), **more)


async def reshape(actor: Ref, *changes: Any, why: str = "") -> int:
    """The number of the version after changes."""
    return (await actor.call(ReshapeTeam(changes, why))).number


async def test_the_next_call_has_the_new_members_and_one_under_way_those_that_it_began_with(runtime: Runtime) -> None:
    """Who has left is there until that has ended; and an event tells of it."""
    told: list[Any] = []
    runtime.subscribe(told.append, TeamReshaped)
    actor = await serve(runtime, desk("AAA"))
    Answering.seconds.update(b=3.0, z=1.0)
    running = asyncio.ensure_future(actor.call(RunProgram({"text": "x"})))
    await until(runtime, lambda: Answering.asked["b"] == 1)
    assert await reshape(actor, joining(), DropMember("c"), DropMember("b"), why="b is slow") == 1
    answer = await ask(actor)
    assert [(one.member, one.value) for one in answer["ballot"]] == [("a", "A"), ("z", "Z")]
    assert sorted(members(runtime)) == ["a", "b", "c", "z"]
    before = (await running).outputs
    assert [(one.member, one.outcome) for one in before["ballot"]][:2] == [("a", "answered"), ("b", "answered")]
    await until(runtime, lambda: sorted(members(runtime)) == ["a", "z"])
    assert [(event.team, event.version, event.before, event.after, event.why) for event in told] == [
        ("desk", 1, ("a", "b", "c"), ("a", "z"), "b is slow")
    ]
    info = runtime.info(actor)
    assert info is not None
    assert {"team": "a, z", "members": "2 of 2", "coverage": "1.00"}.items() <= info.summary.items()


async def test_the_version_before_can_be_served_again(runtime: Runtime) -> None:
    """With an agent for each of its members."""
    actor = await serve(runtime, desk("AB"))
    assert await reshape(actor, DropMember("b"), joining()) == 1
    await until(runtime, lambda: sorted(members(runtime)) == ["a"])
    await ask(actor)
    assert sorted(members(runtime)) == ["a", "z"]
    await actor.call(UseVersion(0))
    assert [one.member for one in (await ask(actor))["ballot"]] == ["a", "b"]
    await until(runtime, lambda: sorted(members(runtime)) == ["a", "b"])
    assert [(version.number, version.current) for version in await actor.call(ListVersions())] == [
        (0, True),
        (1, False),
    ]


async def test_one_takes_the_place_of_another_in_the_order_that_decides_ties(runtime: Runtime) -> None:
    """A member may also be replaced by another of its own name."""
    actor = await serve(runtime, desk("AB"))
    await reshape(actor, joining(instead_of="a"))
    assert [(one.member, one.value) for one in (await ask(actor))["ballot"]] == [("z", "Z"), ("b", "B")]
    await reshape(actor, joining("b", "C", instead_of="b"))
    answer = await ask(actor)
    assert ([one.value for one in answer["ballot"]], answer["label"]) == (["Z", "C"], "Z")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ((), "at least one AddMember"),
        (("b",), "at least one AddMember"),
        ((DropMember("z"),), "choose among a, b"),
        ((joining(instead_of="z"),), "choose among a, b"),
        ((joining("a"),), "a name of its own"),
        ((DropMember("a"), DropMember("b")), "at least one Member"),
        ((DropMember("b"),), "ladder: single"),
        ((AddMember(Member("z", 5)),), "5"),
    ],
)
async def test_changes_that_make_no_sense_are_refused_and_nothing_has_changed(
    runtime: Runtime, changes: Any, what: str
) -> None:
    """By name, and with what would."""
    actor = await serve(runtime, desk("AB"), ladder=["single:b"])
    with pytest.raises((BadTeam, BadProgram), match=what):
        await reshape(actor, *changes)
    assert [version.number for version in await actor.call(ListVersions())] == [0]
    assert [one.member for one in (await ask(actor))["ballot"]] == ["a", "b"]


async def test_of_two_changes_at_a_time_the_second_is_checked_against_what_the_first_has_left(runtime: Runtime) -> None:
    """It has nothing to do any more, and its caller is told."""
    actor = await serve(runtime, desk("ABC"))
    first, second = (asyncio.ensure_future(actor.call(ReshapeTeam((DropMember("b"),)))) for _ in range(2))
    assert (await first).number == 1
    with pytest.raises(BadVersion, match="choose among a, c"):
        await second


async def test_a_team_whose_versions_are_kept_in_a_folder_keeps_its_members(runtime: Runtime, tmp_path: Path) -> None:
    """What is in there would fit no more."""
    actor = await serve(runtime, desk("AB"), versions=tmp_path)
    with pytest.raises(BadVersion, match="of one structure"):
        await reshape(actor, DropMember("b"))
    assert len((await ask(actor))["ballot"]) == 2


async def test_a_state_that_is_given_later_is_one_of_the_new_members(runtime: Runtime) -> None:
    """Versions are made of the team as it is now."""
    actor = await serve(runtime, desk("AB"))
    await reshape(actor, joining())
    found = desk("AB").program().reshaped(joining())
    assert [*found.members] == ["a", "b", "z"]
    assert [one.program for one in found.team.members] == [None] * 3


async def test_a_team_that_ends_while_somebody_leaves_leaves_nobody(runtime: Runtime) -> None:
    """Its supervisor starts it again as it was written."""
    actor = await serve(runtime, desk("AAA"))
    Answering.seconds.update(a=5.0, b=5.0)
    running = asyncio.ensure_future(actor.call(RunProgram({"text": "x"})))
    await until(runtime, lambda: Answering.asked["a"] == 1)
    await reshape(actor, DropMember("c"))
    actor.kill()
    with pytest.raises(Exception, match="desk"):
        await running
    await until(runtime, lambda: len(members(runtime)) == 3 and runtime.whereis("program:desk") is not None)


@pytest.mark.parametrize("error", [OSError("no such model file"), SystemExit(3)])
async def test_what_the_making_of_a_member_raises_is_told_to_who_has_asked_for_it(
    runtime: Runtime, error: BaseException
) -> None:
    """And nobody else notices."""

    def factory() -> Any:
        raise error

    actor = await serve(runtime, desk("AB"))
    running = asyncio.ensure_future(ask(actor))
    with pytest.raises(BadTeam, match=type(error).__name__):
        await reshape(actor, AddMember(Member("z", factory)))
    assert (await running)["label"] == "A"


def test_one_change_that_is_not_in_a_tuple_is_refused_where_it_is_written() -> None:
    """It is an easy slip."""
    with pytest.raises(BadTeam, match="give a tuple"):
        ReshapeTeam(joining())  # type: ignore[arg-type]
