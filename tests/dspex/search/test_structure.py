"""Moves in the structure of a team: reckoned on what is recorded, and run only where that speaks not against them."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

from dspex.search import AscentReport, TeamSIMBA
from dspex.search.ascent import TeamAscent
from dspex.search.structure import StructureMove, moves_of, revoted
from dspex.teams import DropMember, FirstAnswer, MajorityVote, Member, Team, WeightedVote
from dspex.teams.ballot import MemberAnswer
from dspex.teleprompt.simba import Ascent
from dspex.testing.engine import ScriptedEngine, exact, scripted_lm
from supervision import Runtime
from supervision.errors import BadOption
from tests.dspex.search.conftest import EXAMPLES, LABELS, student
from tests.dspex.search.test_islands import state

pytestmark = pytest.mark.usefixtures("quiet")
SMALL: dict[str, Any] = {"bsize": 8, "num_candidates": 3, "max_steps": 3, "structure": True}


def member(name: str, base: float) -> Member:
    """One with a model of its own, which is right so often."""
    program = dspy.Predict("text -> label")
    program.lm = scripted_lm(ScriptedEngine(LABELS, base=base, demo=0.0, advice=0.0, seed=len(name)))
    return Member(name, program)


def desk(*members: Member, **options: Any) -> Any:
    """A team of these."""
    return Team("desk", members, field="label", **options).program()


async def compiled(runtime: Runtime, program: Any, **options: Any) -> tuple[Any, AscentReport]:
    """What comes back, and the report."""
    made = TeamSIMBA(**{"metric": exact, "num_threads": 8, "runtime": runtime, **SMALL, **options})
    with dspy.context(lm=scripted_lm(ScriptedEngine(LABELS))):
        found = await made.acompile(program, trainset=EXAMPLES[:24])
    assert isinstance(made.report, AscentReport)
    for one in (found, *(candidate["program"] for candidate in found.candidate_programs)):
        one.lms = [predictor.lm for predictor in one.predictors()]
        one.set_lm(None)  # engines of tests cannot be saved
    return found, made.report


@pytest.fixture
def only_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each candidate is a move in the structure."""
    monkeypatch.setattr("dspex.search.ascent._SHARE", 1.0)


@pytest.mark.usefixtures("only_moves")
async def test_whoever_spoils_the_vote_leaves(runtime: Runtime) -> None:
    """And nobody is asked about teams that do worse on what is recorded."""
    bad, worse, good = member("bad", 0.1), member("worse", 0.0), member("good", 0.9)
    team = desk(bad, worse, good)
    found, report = await compiled(runtime, team)
    assert list(found.members) == ["good"]
    assert [one.name for one in found.team.members] == ["good"]
    assert found.lms == [team.members["good"].lm]
    moves = {trial.details.get("structure") for trial in report.trials} - {None}
    assert {"drop bad", "drop worse"} <= moves


@pytest.mark.usefixtures("only_moves")
async def test_a_move_that_does_worse_on_what_is_recorded_is_not_run(runtime: Runtime) -> None:
    """The first of two decides: without it, the team is the other one."""
    _, report = await compiled(runtime, desk(member("good", 0.9), member("bad", 0.1)))
    assert {trial.details.get("structure") for trial in report.trials} - {None} == {"drop bad"}


@pytest.mark.usefixtures("only_moves")
async def test_who_joins_brings_a_language_model_that_is_paid_for_and_kept(runtime: Runtime) -> None:
    good = member("good", 0.95)
    asked: list[Any] = []
    made = TeamSIMBA(metric=exact, runtime=runtime, candidates=[good], **SMALL)

    def paid(lm: Any) -> Any:
        asked.append(lm)
        return lm

    made.paid = paid
    with dspy.context(lm=scripted_lm(ScriptedEngine(LABELS))):
        team = desk(member("bad", 0.1), member("worse", 0.0), rule=WeightedVote({"good": 5.0}))
        found = await made.acompile(team, trainset=EXAMPLES[:24])
    assert "good" in found.members
    assert found.members["good"].lm is good.program.lm
    assert asked == [good.program.lm]
    assert made.own_models
    assert not TeamSIMBA(metric=exact).own_models


@pytest.mark.usefixtures("only_moves")
async def test_another_rule_may_be_better(runtime: Runtime) -> None:
    rules = (WeightedVote({"good": 5.0}), MajorityVote())
    program = desk(member("bad", 0.1), member("worse", 0.0), member("good", 0.9))
    found, report = await compiled(runtime, program, rules=rules, max_steps=4)
    assert found.team.rule == rules[0] or list(found.members) == ["good"]
    assert "rule WeightedVote" in {trial.details["structure"] for trial in report.trials}


@pytest.mark.once
async def test_moves_go_with_strategies_islands_and_members_whatever_is_killed(runtime: Runtime) -> None:
    found = []
    counted: list[int] = []
    for workers, kills in ((1, ()), (8, (100, 300))):
        counted.clear()

        def kill(example: Any, prediction: Any, kills: Any = kills) -> float:
            counted.append(1)
            if len(counted) in kills:
                names = [ref for name, ref in runtime.names().items() if ".islands." in name]
                names += [ref for ref in runtime.actors() if ref.path.endswith("/coordinator")]
                names[len(counted) % len(names)].kill()
            return exact(example, prediction)

        program = desk(member("bad", 0.2), member("fair", 0.5), member("worse", 0.0))
        made, report = await compiled(
            runtime,
            program,
            metric=kill,
            metric_id="m",
            num_threads=workers,
            scope="member",
            islands=2,
            candidates=[member("good", 0.8)],
            member_metrics={"good": exact, "bad": exact},
            rules=(FirstAnswer(), MajorityVote()),
        )
        found.append((state(made), report.trials, report.migrations))
    assert found[0] == found[1]
    kinds = {key for trial in report.trials for key in trial.details}
    assert {"structure", "member", "island"} <= kinds


@pytest.mark.usefixtures("only_moves")
async def test_a_team_that_cannot_be_is_told_of(runtime: Runtime) -> None:
    """Its ladder names somebody who would have left."""
    program = desk(member("a", 0.2), member("bb", 0.6), ladder=["single:a", "refuse:1"])
    _, report = await compiled(runtime, program)
    assert any("drop a: ReshapeTeam" in why or "drop a: " in why for why in report.left_out)


@pytest.mark.usefixtures("only_moves")
async def test_a_team_of_one_has_nowhere_to_move(runtime: Runtime) -> None:
    _, report = await compiled(runtime, desk(member("a", 0.5)), max_steps=1)
    assert all("structure" not in trial.details for trial in report.trials)


@pytest.mark.usefixtures("only_moves")
async def test_where_nothing_is_recorded_a_move_is_run(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as when no sample of a step had an answer."""

    async def silent(self: Any, jobs: Any) -> Any:
        found = await Ascent._rollouts(self, jobs)
        for outcome in found:
            outcome.prediction = None if jobs[0].kept else outcome.prediction
        return found

    monkeypatch.setattr(TeamAscent, "_rollouts", silent)
    _, report = await compiled(runtime, desk(member("bad", 0.1), member("good", 0.9)), max_steps=1)
    assert {trial.details["structure"] for trial in report.trials} == {"drop bad", "drop good"}


def test_what_a_team_would_have_said_is_reckoned_from_its_ballot() -> None:
    program = desk(member("a", 0.5), member("b", 0.5), member("c", 0.5))
    ballot = [
        MemberAnswer("a", "answered", "Red"),
        MemberAnswer("b", "answered", "blue"),
        MemberAnswer("c", "failed", why="x"),
        MemberAnswer("d", "answered", "blue"),
    ]
    said = dspy.Prediction(label="blue", ballot=ballot, why="so")
    assert revoted(program, said).label == "Red"
    assert revoted(program, said).why == "so"
    without = StructureMove("drop a", DropMember("a")).made(program)
    assert revoted(without, said).label == "blue"
    alone = StructureMove("drop b", DropMember("b")).made(without)
    assert revoted(alone, said) is None
    moves = moves_of(alone, [member("a", 0.5)], [MajorityVote()])
    assert [(move.what, move.is_recorded) for move in moves] == [("add a", False)]


@pytest.mark.usefixtures("only_moves")
async def test_without_an_answer_that_is_left_a_team_is_worth_nothing(runtime: Runtime) -> None:
    """One that answers cannot be dropped beside one that never does."""

    class Mute(dspy.Module):  # type: ignore[misc]
        """Says nothing."""

        def forward(self, text: str) -> Any:
            """Say nothing."""
            return dspy.Prediction(label=None)

    good = member("good", 0.9)
    found, _ = await compiled(runtime, desk(good, Member("mute", Mute())))
    assert "good" in found.members


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"structure": 1}, "give True"),
        ({"structure": False, "candidates": [member("a", 0.5)]}, "give True"),
        ({"structure": False, "rules": [FirstAnswer()]}, "give True"),
        ({"rules": [MajorityVote]}, "give rules"),
        ({"candidates": 7}, "give several Member"),
        ({"candidates": "nowhere:members"}, "package.module:name"),
        ({"candidates": [student()]}, "a name of its own"),
        ({"candidates": [member("a", 0.5), member("a", 0.5)]}, "a name of its own"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(BadOption, match=why):
        TeamSIMBA(metric=exact, **{"structure": True, **options})


async def test_what_is_no_team_has_no_structure(runtime: Runtime) -> None:
    with pytest.raises(BadOption, match="no team that votes"):
        await compiled(runtime, student())
