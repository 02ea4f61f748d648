"""Patterns of teams that are served: members in agents of their own, and what became of them is counted."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from dspy.utils.dummies import DummyLM
from structlog.testing import capture_logs

from dspex.teams import (
    AddMember,
    BadTeam,
    BanditRoute,
    Blackboard,
    BoardSource,
    Calibration,
    Cascade,
    EscalationAlarm,
    GroupChat,
    Member,
    MemberMissing,
    ReshapeTeam,
    RouteBy,
    SelfConsistency,
    Team,
    TeamActor,
    TeamRouter,
    Turns,
)
from foundation.programs import DescribeProgram
from supervision import Runtime
from tests.dspex.teams.served.desk import Answering, ask, away, desk, forget, members, serve


@pytest.fixture(autouse=True)
def _fresh() -> None:
    forget()


def summary(runtime: Runtime, name: str) -> str | None:
    """What /tree shows of the team."""
    found = runtime.whereis("program:desk")
    info = None if found is None else runtime.info(found)
    assert info is not None
    return info.summary.get(name)


async def test_a_router_asks_the_next_for_one_whose_agent_is_away(runtime: Runtime) -> None:
    """What was lost is counted, and told; the rewards reach the route that was given."""
    route = BanditRoute(learned=[(None, "a", 9, 0.9), (None, "b", 9, 0.5)])
    program = TeamRouter(desk("AB"), route)
    actor = await serve(runtime, program)
    missing: list[str] = []
    runtime.events.subscribe(lambda event: missing.append(event.member) if isinstance(event, MemberMissing) else None)
    assert (await ask(actor))["label"] == "A"
    away("a")
    answer = await ask(actor)
    assert (answer["label"], answer["degraded"]) == ("B", "next:lost 1 of 2")
    assert program.reward(answer["call"], 1.0)
    assert route.learned[1][2] == 10
    assert missing == ["a"]
    assert (summary(runtime, "answered"), summary(runtime, "lost")) == ("2", "1")


async def test_a_member_of_a_router_that_is_killed_is_asked_again(runtime: Runtime) -> None:
    """By its next incarnation: it is the one that was chosen."""
    actor = await serve(runtime, TeamRouter(desk("AB"), RouteBy(lambda _: "b")))
    Answering.seconds.update(b=1.0)
    runtime.clock.call_at(runtime.clock.time() + 0.5, members(runtime)["b"].kill)
    answer = await ask(actor)
    assert (answer["label"], answer["degraded"], Answering.asked["b"]) == ("B", None, 2)


async def test_a_cascade_goes_down_its_ladder(runtime: Runtime) -> None:
    """To what a member has said, sure or not."""
    actor = await serve(runtime, Cascade(desk("AB"), {"a": 0.5}), ladder=["single:a"], deadline=1.0)
    assert (await ask(actor))["label"] == "B"
    away("b")
    answer = await ask(actor)
    assert (answer["label"], answer["degraded"], Answering.asked["a"]) == ("A", "single:lost 1 of 2", 2)


async def test_a_member_of_a_cascade_that_is_asked_alone_is_sure_enough(runtime: Runtime) -> None:
    """As there is nobody behind it."""
    actor = await serve(runtime, Cascade(desk("AB"), {"a": 0.5}), ladder=["single:a"], deadline=1.0)
    away("a", "b")
    runtime.clock.call_at(runtime.clock.time() + 0.3, lambda: away("b"))
    Answering.seconds.update(b=0.5)
    answer = await ask(actor)
    assert (answer["label"], answer["degraded"]) == ("A", "single:lost 2 of 2")


async def test_samples_are_asked_of_one_agent(runtime: Runtime) -> None:
    """As they are of one program."""
    actor = await serve(runtime, SelfConsistency(Answering("a", "A"), 5, field="label", name="try"))
    answer = await ask(actor)
    assert (answer["label"], answer["confidence"], Answering.asked["a"]) == ("A", 1.0, 3)
    assert [*members(runtime)] == ["try"]
    assert summary(runtime, "members") == "1 of 1"


async def test_a_board_is_served(runtime: Runtime) -> None:
    """Its answer has the board as JSON has it."""
    sources = [BoardSource("a", ("text",)), BoardSource("b", ("text",))]
    actor = await serve(runtime, Blackboard(desk("AB"), sources))
    answer = await ask(actor)
    assert (answer["label"], answer["steps"], answer["ended"]) == ("B", 2, "quiescent")
    away("b")
    assert (await ask(actor))["degraded"] == "board:lost 1 of 2"
    assert summary(runtime, "lost") == "1"


# -- patterns with ladders ---------------------------------------------------------------------------------------------


async def test_a_route_may_name_who_is_no_part_of_a_lesser_answer(runtime: Runtime) -> None:
    """Somebody else answers as long as the one that it names is away, and no longer."""
    ladder = ["single:b", {"rung": "default", "outputs": {"label": "other"}}]
    actor = await serve(runtime, TeamRouter(desk("AB"), RouteBy(lambda _: {"a": 1.0})), ladder=ladder, deadline=1.0)
    Answering.seconds.update(a=5.0)
    late = [await ask(actor) for _ in range(2)]
    assert [one["label"] for one in late] == ["B", "B"]
    Answering.seconds.clear()
    assert [(await ask(actor))["label"] for _ in range(12)][-1] == "A"


async def test_a_bound_of_its_own_that_ends_a_conversation_is_no_lesser_answer(runtime: Runtime) -> None:
    """Nobody is away, so the ladder is not asked."""

    class Chatting(Answering):
        """Is shown what was said before."""

        async def aforward(self, text: str, **_: Any) -> Any:
            """Answer."""
            return await super().aforward(text)

    pair = Team("desk", (Member("a", Chatting("a", "A")), Member("b", Chatting("b", "B"))), field="label")
    actor = await serve(runtime, GroupChat(pair, until=Turns(2)), ladder=["single:a", "refuse"])
    found = [await ask(actor) for _ in range(7)]
    assert {(one["label"], one["degraded"]) for one in found} == {("B", "turns")}


@pytest.mark.parametrize(
    "program",
    [
        lambda: Cascade(desk("AB"), {"a": 0.5}),
        lambda: Blackboard(desk("AB"), [BoardSource("a", ("text",)), BoardSource("b", ("text",))]),
        lambda: SelfConsistency(Answering("a", "A"), 2, field="label"),
        lambda: GroupChat(desk("AB")),
    ],
)
async def test_what_was_settled_for_its_members_does_not_change_while_it_serves(runtime: Runtime, program: Any) -> None:
    """It is refused with what would help, and goes on as it is."""
    made = program()
    actor = await serve(runtime, made)
    change = ReshapeTeam((AddMember(Member("c", Answering("c", "C"))),))
    with pytest.raises(BadTeam, match="start its actor anew"):
        await actor.call(change)
    assert actor.alive


# -- what is told ------------------------------------------------------------------------------------------------------


async def test_an_alarm_of_a_cascade_is_told_once_until_it_is_over(runtime: Runtime) -> None:
    """With what has changed; and /tree shows whose it is."""
    told: list[Any] = []
    runtime.subscribe(told.append, EscalationAlarm)
    actor = await serve(runtime, Cascade(desk("AB"), {"a": Calibration(0.5, 200, 0.1, 0.0)}))
    for _ in range(40):
        await ask(actor)
    (event,) = told
    assert (event.team, event.member, event.escalated, event.expected) == ("desk", "a", 1.0, 0.1)
    assert event.why == f"the next member was asked in 100% of {event.calls} calls, and in 10% when calibrated"
    assert summary(runtime, "alarm") == "a"


async def test_a_team_whose_inputs_are_not_known_says_so_at_its_start(runtime: Runtime) -> None:
    """With what would tell them; those that ``forward`` names are known."""

    class Anything(dspy.Module):  # type: ignore[misc]
        async def aforward(self, **inputs: Any) -> Any:
            """Answer."""
            return inputs

    with capture_logs() as logs:
        await serve(runtime, desk("AB"))
        actor = await runtime.spawn(TeamActor, Team("open", (Member("a", Anything()),), field="label"), lm=DummyLM([]))
        described = await actor.call(DescribeProgram())
    assert (described.inputs, described.open) == ((), True)
    told = [line for line in logs if line["event"] == "team_without_inputs"]
    assert [(line["team"], "signature = 'text -> label'" in line["remedy"]) for line in told] == [("open", True)]
