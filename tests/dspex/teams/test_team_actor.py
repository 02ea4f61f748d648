"""A team that is served: over HTTP, with its members' agents under supervision."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import dspy
import httpx
import pytest
from dspy.utils.dummies import DummyLM

from dspex import ProgramRan, Swap
from dspex.teams import BadTeam, Member, MemberMissing, Team, TeamActor, TeamAnswered
from foundation.http.app import application
from foundation.programs import Busy, DescribeProgram, RunProgram, Unavailable
from supervision import ChildSpec, Ref, Runtime, Supervisor
from supervision.errors import BadTime


class Answering(dspy.Module):
    """Answers when its gate is open; the gates belong to the class, as members are copied."""

    gates: dict[str, asyncio.Event] = {}
    asked: Counter[str] = Counter()

    def __init__(self, name: str, answer: str) -> None:
        super().__init__()
        self.name, self.answer = name, answer

    async def aforward(self, text: str) -> Any:
        """Answer."""
        Answering.asked[self.name] += 1
        if self.name in self.gates:
            await self.gates[self.name].wait()
        return dspy.Prediction(label=self.answer)


@pytest.fixture(autouse=True)
def _open() -> None:
    Answering.gates.clear()
    Answering.asked.clear()


def desk(answers: str = "ABA", **options: Any) -> Team:
    members = (Member(name, Answering(name, answer)) for name, answer in zip("abcde", answers, strict=False))
    return Team("desk", tuple(members), field="label", **options)


#: A team that a tree file could name.
DESK = desk()
FIVE = 5


async def serve(runtime: Runtime, team: object, **options: Any) -> Ref:
    """A team under the name of a program, supervised."""
    options.setdefault("lm", DummyLM([{"label": "A"}] * 9))
    children = [ChildSpec("desk", TeamActor, (team,), options, name="program:desk")]
    await runtime.spawn(Supervisor, children, max_restarts=1000)
    found = runtime.whereis("program:desk")
    assert found is not None
    return found


def members(runtime: Runtime) -> dict[str, Ref]:
    """The members' agents, by their names."""
    return {name.rsplit("/", 1)[1]: ref for name, ref in sorted(runtime.names().items()) if "/desk#" in name}


async def until(runtime: Runtime, true: Any) -> None:
    """Let the others work until something is true."""
    while not true():
        await runtime.sleep(0.001)


async def test_a_vote_of_three_is_served_over_http(runtime: Runtime) -> None:
    """With its ballot; and told by an event."""
    await serve(runtime, "tests.dspex.teams.test_team_actor:DESK")
    told: list[Any] = []
    runtime.subscribe(told.append, TeamAnswered, MemberMissing, ProgramRan)
    transport = httpx.ASGITransport(application(runtime))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        found = await client.post("/programs/desk", json={"text": "x"})
    assert found.status_code == 200
    answer = found.json()
    assert (answer["label"], answer["coverage"], answer["degraded"]) == ("A", 1.0, None)
    assert [(one["member"], one["outcome"], one["value"]) for one in answer["ballot"]] == [
        ("a", "answered", "A"),
        ("b", "answered", "B"),
        ("c", "answered", "A"),
    ]
    ran = [event for event in told if isinstance(event, ProgramRan)]
    assert {event.ref for event in ran} == set(members(runtime).values())
    ended = [event for event in told if isinstance(event, TeamAnswered)]
    assert [(event.team, event.asked, event.degraded) for event in ended] == [("desk", 3, None)]


async def test_T008_a_member_that_keeps_dying_is_lost_and_the_round_goes_on(runtime: Runtime) -> None:
    """Killed as often as it is asked, the answer is that of the others, and says so."""
    Answering.gates["b"] = asyncio.Event()
    actor = await serve(runtime, desk("ABA"), retries=1)
    told: list[Any] = []
    runtime.subscribe(told.append, MemberMissing)
    asked = asyncio.ensure_future(actor.call(RunProgram({"text": "x"})))
    for times in (1, 2):
        await until(runtime, lambda times=times: Answering.asked["b"] == times)
        members(runtime)["b"].kill()
    answer = (await asked).outputs
    assert (answer["label"], answer["degraded"]) == ("A", "quorum:lost 1 of 3")
    assert answer["coverage"] == pytest.approx(2 / 3)
    assert [(event.member, event.outcome) for event in told] == [("b", "lost")]
    await until(runtime, lambda: len(members(runtime)) == 3)
    info = runtime.info(actor)
    assert info is not None
    assert {"members": "3 of 3", "degraded": "1", "answered": "2", "lost": "1"}.items() <= info.summary.items()


async def test_a_member_that_is_killed_once_is_asked_again_and_nobody_notices(runtime: Runtime) -> None:
    """Its next incarnation answers."""
    gate = Answering.gates["b"] = asyncio.Event()
    actor = await serve(runtime, desk())
    asked = asyncio.ensure_future(actor.call(RunProgram({"text": "x"})))
    await until(runtime, lambda: Answering.asked["b"] == 1)
    members(runtime)["b"].kill()
    await until(runtime, lambda: Answering.asked["b"] == 2)
    gate.set()
    assert (await asked).outputs["degraded"] is None


async def test_too_few_answers_are_unavailable_and_worth_another_try(runtime: Runtime) -> None:
    """Over HTTP that is a 503."""
    Answering.gates.update(a=asyncio.Event(), b=asyncio.Event())
    actor = await serve(runtime, desk(deadline=0.02))
    with pytest.raises(Unavailable, match="1 of 3 members have answered"):
        await actor.call(RunProgram({"text": "x"}))
    info = runtime.info(actor)
    assert info is not None
    assert info.summary["late"] == "2"


async def test_it_is_bounded_and_described_as_a_program_is(runtime: Runtime) -> None:
    """By the signature of its first member."""
    made = Team("desk", (Member("a", dspy.Predict("text: str -> label: str")),))
    described = await (await serve(runtime, lambda: made)).call(DescribeProgram())
    assert [field.name for field in described.inputs] == ["text"]


async def test_the_next_request_is_refused_when_enough_wait(runtime: Runtime) -> None:
    """As for any program."""
    Answering.gates["a"] = gate = asyncio.Event()
    actor = await serve(runtime, desk(), concurrency=1, waiting=0)
    asked = asyncio.ensure_future(actor.call(RunProgram({"text": "x"})))
    await until(runtime, lambda: Answering.asked["a"] == 1)
    with pytest.raises(Busy):
        await actor.call(RunProgram({"text": "x"}))
    gate.set()
    await asked


async def test_a_version_is_swapped_for_all_members(runtime: Runtime) -> None:
    """As a state that DSPy has saved."""
    made = Team("desk", tuple(Member(name, dspy.Predict("text -> label")) for name in "abc"))
    actor = await serve(runtime, made)
    assert (await actor.call(RunProgram({"text": "x"}))).outputs["label"] == "A"
    other = made.program()
    other.members["b"].demos = [{"text": "x", "label": "A"}]
    version = await actor.call(Swap(other.dump_state()))
    assert version.number == 1
    assert (await actor.call(RunProgram({"text": "x"}))).outputs["label"] == "A"


@pytest.mark.parametrize(
    ("team", "what"),
    [("nowhere:team", "package.module:name"), ("tests.dspex.teams.test_team_actor:FIVE", "give a Team"), (5, "a Team")],
)
async def test_what_is_no_team_is_refused_at_the_start(runtime: Runtime, team: object, what: str) -> None:
    """By name."""
    with pytest.raises(BadTeam, match=what):
        TeamActor(team)
    with pytest.raises(BadTime, match="patience"):
        TeamActor(team, patience=-1)
    with pytest.raises(BadTeam, match=what):
        await runtime.spawn(TeamActor, team, lm=DummyLM([]))


async def test_T092_under_kills_every_call_is_answered_refused_or_degraded_with_a_label(runtime: Runtime) -> None:
    """Nobody hangs, no answer is wrong, no agent is left over."""
    actor = await serve(runtime, desk("AAAAB", deadline=5.0), concurrency=8, waiting=None)
    chance = runtime.random
    kinds: Counter[str] = Counter()

    async def ask() -> None:
        try:
            answer = (await actor.call(RunProgram({"text": "x"}))).outputs
        except (Unavailable, Busy):
            kinds["refused"] += 1
            return
        assert answer["label"] == "A"
        missing = sum(one.outcome in ("lost", "late") for one in answer["ballot"])
        assert (answer["degraded"] is None) == (missing == 0)
        kinds["whole" if answer["degraded"] is None else "degraded"] += 1

    for _ in range(50):
        asked = [asyncio.ensure_future(ask()) for _ in range(8)]
        for _ in range(4):
            running = list(members(runtime).values())
            if running:
                chance.choice(running).kill()
            await runtime.sleep(0.001)
        await asyncio.gather(*asked)
    assert kinds.total() == 400
    await until(runtime, lambda: len(members(runtime)) == 5)
    actor.kill()
    await until(runtime, lambda: len(members(runtime)) == 5 and runtime.whereis("program:desk") is not None)
