"""Teams whose members talk, served: each member in an agent of its own, and the transcript as before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import dspy
import pytest

from dspex.teams import (
    Debate,
    GroupChat,
    Handoff,
    HandoffTeam,
    ManagedTeam,
    Member,
    MemberMissing,
    Mixture,
    Team,
    TeamActor,
    TeamLadder,
    TeamRung,
    Tokens,
)
from dspex.testing.engine import ScriptedEngine, scripted_lm
from foundation.programs import RunProgram
from supervision import ChildSpec, Ref, Runtime, Supervisor
from tests.dspex.teams.speakers import AWAY, HEARD, Speaker, speakers


@pytest.fixture(autouse=True)
def _nothing_was_heard() -> Iterator[None]:
    HEARD.clear()
    yield
    HEARD.clear()


async def serve(runtime: Runtime, program: Any) -> Ref:
    """A team under the name of a program, supervised."""
    options = {"signature": "text -> label", "retries": 0}
    await runtime.spawn(Supervisor, [ChildSpec("desk", TeamActor, (program,), options, name="program:desk")])
    found = runtime.whereis("program:desk")
    assert found is not None
    return found


def managed() -> ManagedTeam:
    """A manager with one worker."""
    says = [
        {"progress": True, "next": "a", "task": "it", "label": None},
        {"progress": True, "next": "done", "task": "", "label": "A"},
    ]
    team = Team("team", (Member("a", Speaker("a", {"found": "A"})),))
    return ManagedTeam(team, "text -> label", Member("m", Speaker("m", *says)))


PATTERNS = {
    "chat": (lambda: GroupChat(speakers("B", "A")), "abab"),
    "debate": (lambda: Debate(speakers("A", "B", "A"), rounds=1), "abcabc"),
    "mixture": (lambda: Mixture(speakers("B"), Member("w", Speaker("w", "A")), layers=2), "aw"),
    "managed": (managed, "mam"),
    "handoff": (lambda: HandoffTeam(speakers({"label": None, "handoff": Handoff(to="b")}, "A")), "ab"),
}


@pytest.mark.parametrize(("make", "turns"), PATTERNS.values(), ids=PATTERNS)
async def test_it_is_served_with_an_agent_for_each_member(runtime: Runtime, make: Any, turns: str) -> None:
    """Its answer has the ballot and the transcript, as JSON has them."""
    actor = await serve(runtime, make())
    found = (await actor.call(RunProgram({"text": "x"}))).outputs
    assert found["label"] == "A"
    assert "".join(turn.member for turn in found["transcript"].turns) == turns
    agents = {name.rsplit("/", 1)[1] for name in runtime.names() if "/desk#" in name}
    assert agents == set(make().members)


async def test_a_member_whose_agent_dies_is_lost_for_this_round(runtime: Runtime) -> None:
    """It keeps the answer that it had, and the answer says so."""
    came = asyncio.Event()

    async def hold(_: Any) -> Any:
        came.set()
        return await asyncio.get_running_loop().create_future()

    actor = await serve(runtime, Debate(speakers("A", ["B", hold], "A"), rounds=1))
    told: list[Any] = []
    runtime.subscribe(told.append, MemberMissing)
    asked = asyncio.ensure_future(actor.call(RunProgram({"text": "x"})))
    await came.wait()
    (agent,) = [ref for name, ref in runtime.names().items() if name.endswith("/b")]
    agent.kill()
    found = (await asked).outputs
    assert (found["label"], found["degraded"]) == ("A", "members:lost 1 of 3")
    assert [(event.member, event.outcome) for event in told] == [("b", "lost")]
    info = runtime.info(actor)
    assert info is not None
    assert {"answered": "2", "lost": "1"}.items() <= info.summary.items()
    assert found["ballot"][1].value == "B"


async def test_what_members_use_in_their_agents_counts(runtime: Runtime) -> None:
    """For the bound of the team, and for who pays for the call."""
    program = dspy.Predict("text -> label")
    program.set_lm(scripted_lm(ScriptedEngine({"x": "good", "y": "bad"})))
    chat = GroupChat(Team("t", (Member("a", program), Member("b", program))), Tokens(1))
    actor = await serve(runtime, chat)
    answer = await actor.call(RunProgram({"text": "x"}))
    (turn,) = answer.outputs["transcript"].turns
    assert answer.outputs["degraded"] == "tokens"
    assert turn.tokens == sum(used["total_tokens"] for used in answer.usage.values()) > 0


async def test_a_ladder_has_a_lesser_answer_when_nobody_answers(runtime: Runtime) -> None:
    """As for any team."""
    ladder = TeamLadder((TeamRung.quorum(), TeamRung.default(label="other")))
    actor = await serve(runtime, GroupChat(speakers(AWAY, AWAY, ladder=ladder)))
    found = (await actor.call(RunProgram({"text": "x"}))).outputs
    assert (found["label"], found["degraded"]) == ("other", "default:lost 2 of 2")
    assert [one.outcome for one in found["ballot"]] == ["lost", "lost"]
