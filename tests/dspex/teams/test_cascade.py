"""Cascades: the cheap member first, a dearer one where that is not sure; and how sure is sure enough."""

from __future__ import annotations

import copy
import json
import math
from random import Random
from typing import Any

import dspy
import pytest
from dspy.utils.dummies import DummyLM

from dspex.teams import (
    BadProbabilities,
    BadTeam,
    BadWeights,
    Calibration,
    Cascade,
    Debate,
    Member,
    NoAnswer,
    RouteBy,
    Team,
    TeamRouter,
    TooFewAnswers,
    calibrate,
    conformal_threshold,
    margin,
)
from supervision.errors import BadOption
from tests.dspex.teams.members import ASKED, AWAY, asked, likely, never, outcomes, team

both = pytest.mark.parametrize("how", ["sync", "async"])


@pytest.fixture(autouse=True)
def _nobody_was_asked() -> None:
    ASKED.clear()


def sure(inputs: Any) -> Any:
    """An answer that is as sure as the input says."""
    return likely("cheap", cheap=0.5 + inputs["sure"] / 2, dear=0.5 - inputs["sure"] / 2)


def cascade(cheap: object = sure, dear: object = "dear", threshold: Any = 0.4, **options: Any) -> Cascade:
    """Of two members."""
    own = {name: options.pop(name) for name in ("deadline", "max_calls") if name in options}
    return Cascade(team({"cheap": cheap, "dear": dear}, **own), {"cheap": threshold}, **options)


# -- who is asked --------------------------------------------------------------------------------------------------


@both
async def test_T021_the_dear_one_is_asked_where_the_cheap_one_is_not_sure(how: str) -> None:
    """Of a hundred calls 30: together they cost 400."""
    program = cascade(costs={"cheap": 1, "dear": 10})
    found = [await asked(program, how, sure=0.9 if number % 10 < 7 else 0.1) for number in range(100)]
    assert [answer.label for answer in found[6:8]] == ["cheap", "dear"]
    assert [answer.cost for answer in found[6:8]] == [1.0, 11.0]
    assert [outcomes(answer) for answer in found[6:8]] == [["answered", "unasked"], ["answered", "answered"]]
    assert (found[6].score, found[7].score) == (pytest.approx(0.9), None)
    assert {(answer.degraded, answer.coverage) for answer in found} == {(None, 1.0)}
    assert (program.cost, program.escalated) == (400.0, 0.3)


@both
async def test_a_score_has_to_be_above_the_threshold(how: str) -> None:
    """Many answers may have the same score: what holds for those above it does not hold for these."""
    program = cascade(threshold=0.5, score=lambda found: 0.5)
    assert (await asked(program, how, sure=1.0)).label == "dear"


@both
@pytest.mark.parametrize("score", [None, math.nan, math.inf, 10**400, "1", True])
async def test_what_is_no_score_is_not_sure(how: str, score: object) -> None:
    """So the next is asked."""
    assert (await asked(cascade(score=lambda _: score, threshold=-1.0), how, sure=1.0)).label == "dear"


@both
async def test_without_a_threshold_the_next_is_asked_always(how: str) -> None:
    """As when there were too few recorded answers."""
    assert (await asked(cascade(threshold=None), how, sure=1.0)).label == "dear"
    nothing = calibrate([(0.9, True)] * 5, alpha=0.1)
    assert (nothing.threshold, nothing.escalated) == (None, 1.0)
    assert (await asked(cascade(threshold=nothing), how, sure=1.0)).label == "dear"


@both
@pytest.mark.parametrize("what", [AWAY, ValueError("no"), None])
async def test_the_next_answers_for_one_that_has_no_answer(how: str, what: object) -> None:
    """That is no worse an answer. One that is lost was not unsure, and costs nothing."""
    program = cascade(what)
    answer = await asked(program, how, sure=1.0)
    assert (answer.label, answer.degraded) == ("dear", None)
    lost = what is AWAY
    assert (answer.cost, program.escalated) == ((1.0, 0.0) if lost else (2.0, 1.0))
    assert program.escalation["cheap"].calls == (0 if lost else 1)


@both
@pytest.mark.parametrize(
    ("what", "reason"), [(AWAY, "lost"), (ValueError("no"), "failed"), (None, "abstained"), ("", "abstained")]
)
async def test_if_the_dear_one_has_no_answer_the_unsure_one_is_taken_and_that_is_said(
    how: str, what: object, reason: str
) -> None:
    """With why."""
    answer = await asked(cascade(dear=what), how, sure=0.1)
    assert (answer.label, answer.degraded) == ("cheap", f"unsure:{reason} 1 of 2")
    assert answer.score == pytest.approx(0.1)


@both
async def test_of_three_the_last_unsure_one_is_taken(how: str) -> None:
    """It is the better one."""
    made = team({"a": likely("A", a=0.6, b=0.4), "b": likely("B", a=0.6, b=0.4), "c": AWAY, "d": AWAY})
    answer = await asked(Cascade(made, dict.fromkeys("abc", 0.5)), how, text="x")
    assert (answer.label, answer.degraded) == ("B", "unsure:lost 2 of 4")


@both
async def test_if_nobody_has_an_answer_it_is_said_why(how: str) -> None:
    """Away, or failed."""
    with pytest.raises(TooFewAnswers, match=r"cheap failed.*dear lost"):
        await asked(cascade(ValueError("no"), AWAY), how, sure=1.0)
    with pytest.raises(NoAnswer, match=r"cheap answered.*; dear failed"):
        await asked(cascade(None, ValueError("no")), how, sure=1.0)


async def test_a_dear_one_that_is_late_leaves_the_unsure_answer() -> None:
    """It has cost something."""
    answer = await cascade(dear=never, deadline=0.02).acall(sure=0.1)
    assert (answer.label, answer.degraded, outcomes(answer)) == (
        "cheap",
        "unsure:deadline 1 of 2",
        ["answered", "late"],
    )
    assert answer.cost == 2.0


async def test_when_the_time_is_over_the_dear_one_is_not_asked() -> None:
    """So it costs nothing."""
    with pytest.raises(TooFewAnswers, match="cheap late; dear unasked"):
        await cascade(never, deadline=0.02).acall(sure=0.1)
    assert ASKED == ["cheap"]


@both
async def test_no_more_are_asked_than_may_be(how: str) -> None:
    """The unsure answer is taken."""
    answer = await asked(cascade(max_calls=1), how, sure=0.1)
    assert (answer.label, answer.degraded, ASKED) == ("cheap", "unsure:budget 1 of 2", ["cheap"])


@both
async def test_one_member_alone_is_always_sure_enough(how: str) -> None:
    """There is nothing to escalate to."""
    program = Cascade(team({"a": "A"}), {})
    assert (await asked(program, how, text="x")).label == "A"
    assert (program.escalated, program.escalation) == (0.0, {})


# -- verifiers -----------------------------------------------------------------------------------------------------


def verified(says: object, **options: Any) -> Cascade:
    """Two members, and one that looks at answers."""
    made = team({"judge": says, "cheap": "cheap", "dear": "dear"}, **options)
    return Cascade(made, {"cheap": 0.5}, verifier="judge", verdict="good", costs={"judge": 0.5, "dear": 10.0})


@both
@pytest.mark.parametrize(
    ("good", "label"),
    [(0.9, "cheap"), (True, "cheap"), (0.1, "dear"), (False, "dear"), ("yes", "dear"), (None, "dear")],
)
async def test_a_verifier_says_how_good_an_answer_is(how: str, good: object, label: str) -> None:
    """It sees the inputs and the answer; what it costs is counted."""
    seen: list[Any] = []

    def judge(inputs: Any) -> Any:
        seen.append(inputs)
        return dspy.Prediction(good=good)

    program = verified(judge)
    answer = await asked(program, how, text="x")
    assert answer.label == label
    assert seen == [{"text": "x", "label": "cheap"}]
    assert answer.cost == (1.5 if label == "cheap" else 11.5)
    assert answer.ballot[0].value == good


@both
@pytest.mark.parametrize("says", [AWAY, ValueError("no")])
async def test_a_verifier_without_an_answer_vouches_for_nothing(how: str, says: object) -> None:
    """So the next is asked."""
    assert (await asked(verified(says), how, text="x")).label == "dear"
    assert ASKED == ["cheap", "judge", "dear"]


@both
async def test_a_verifier_is_asked_about_each_answer_and_all_of_it_is_traced(how: str) -> None:
    """In the team's order; its output is the last one."""
    judge = dspy.Predict("text, label -> good: float")
    judge.set_lm(DummyLM([{"good": "0.1"}, {"good": "0.2"}]))

    def says(label: str) -> Any:
        made = dspy.Predict("text -> label")
        made.set_lm(DummyLM([{"label": label}] * 2))
        return made

    made = Team("t", (*(Member(name, says(name)) for name in "abc"), Member("judge", judge)))
    program = Cascade(made, {"a": 0.5, "b": 0.5}, verifier="judge")
    with dspy.context(trace=[]):
        answer = await asked(program, how, text="x")
        own = program.members
        assert [entry[0] for entry in dspy.settings.trace] == [own["a"], own["b"], own["c"], own["judge"], own["judge"]]
    assert (answer.label, answer.score, answer.cost) == ("c", None, 5.0)


@both
async def test_a_verifier_counts_as_one_that_is_asked(how: str) -> None:
    """Without budget for it, nobody vouches."""
    answer = await asked(verified(dspy.Prediction(good=1.0), max_calls=1), how, text="x")
    assert (answer.label, answer.degraded) == ("cheap", "unsure:budget 1 of 2")


# -- how sure is sure enough ---------------------------------------------------------------------------------------


def test_T022_the_threshold_is_the_score_of_the_conformal_rank() -> None:
    """With nine scores and a tenth the ninth, with nineteen the eighteenth; with eight there is none."""
    nine = [score / 10 for score in range(1, 10)]
    assert conformal_threshold(nine, 0.1) == 0.9
    assert conformal_threshold(reversed(nine), 0.1) == 0.9
    assert conformal_threshold(nine[:8], 0.1) is None
    assert conformal_threshold(range(1, 20), 0.1) == 18
    assert conformal_threshold([], 0.5) is None
    assert conformal_threshold([-math.inf] * 9, 0.1) == -math.inf


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.1, math.nan, None, True, "0.1"])
def test_a_share_is_between_0_and_1(alpha: Any) -> None:
    """Or it is refused."""
    with pytest.raises(BadOption, match="alpha"):
        conformal_threshold([1.0], alpha)


@pytest.mark.parametrize("score", [math.nan, math.inf, 10**400, "1", None, True])
def test_scores_are_numbers(score: Any) -> None:
    """Or it is said which is none."""
    with pytest.raises(BadOption, match="score"):
        conformal_threshold([score], 0.1)


@pytest.mark.parametrize("alpha", [0.02, 0.05, 0.1, 0.2])
def test_wrong_answers_are_taken_in_no_more_cases_than_was_said(alpha: float) -> None:
    """On the average over many calibrations, also if many answers have the same score; and in hardly fewer."""
    chance = Random(7)

    def drawn(number: int, digits: int) -> list[tuple[float, bool]]:
        scores = [chance.random() for _ in range(number)]
        return [(round(score, digits), chance.random() < 0.4 + 0.6 * score) for score in scores]

    for digits, least in ((9, 0.5), (1, 0.0)):
        shares = []
        for _ in range(300):
            limit = calibrate(drawn(60, digits), alpha=alpha).threshold
            asked_for = drawn(60, digits)
            shares.append(sum(limit is not None and score > limit and not right for score, right in asked_for) / 60)
        assert least * (alpha - 1 / 61) < sum(shares) / 300 <= alpha + 0.01


def test_a_calibration_says_what_would_have_been() -> None:
    """Answers without a score are never taken."""
    recorded = [(0.9, True)] * 6 + [(0.5, False)] * 2 + [(0.1, False), (None, False)]
    assert calibrate(recorded, alpha=0.2) == Calibration(0.5, 10, 0.4, 0.0)
    assert calibrate(recorded, alpha=0.3) == Calibration(0.1, 10, 0.2, 0.2)
    assert calibrate(recorded, alpha=0.4) == Calibration(-math.inf, 10, 0.1, 0.3)
    assert calibrate([(0.5, True)] * 20) == Calibration(-math.inf, 20, 0.0, 0.0)
    with pytest.raises(BadWeights, match="no answers"):
        calibrate([])


async def test_a_calibrated_cascade_takes_what_was_found() -> None:
    """Minus infinity takes every answer that has a score."""
    program = cascade(threshold=calibrate([(0.5, True)] * 20))
    assert program(sure=0.0).label == "cheap"


def test_the_margin_is_that_of_the_two_likeliest() -> None:
    """What is missing to 1 is of labels that are not named; of an answer without probabilities there is none."""
    assert margin(likely("a", a=0.2, b=0.7, c=0.1)) == pytest.approx(0.5)
    assert margin(likely("a", a=0.8)) == 0.8
    assert margin(likely("a", a=6, b=3)) == pytest.approx(1 / 3)
    for nothing in (dspy.Prediction(label="a"), "text", None):
        assert margin(nothing) is None


@pytest.mark.parametrize("shares", [{"cheap": math.nan}, {"cheap": -1}, {"cheap": 0.0}, {}, 3, {"dear": 1.0}])
async def test_a_member_whose_probabilities_make_no_sense_has_failed(shares: Any) -> None:
    """It is not sure of its answer, and says not how sure it is: the next one is asked, and the ballot tells why."""
    odd = dspy.Prediction(label="cheap", probabilities=shares)
    two = team({"cheap": odd, "dear": "dear"}, min_answers=0.5)
    for program in (
        Cascade(two, {"cheap": 0.5}),
        two.program(),
        Debate(two),
        TeamRouter(two, RouteBy(lambda _: "cheap")),
    ):
        try:
            answer = await program.acall(sure=1.0)
        except NoAnswer as error:  # of the router: who fails by itself is not lost, and nobody else is asked
            assert isinstance(program, TeamRouter)
            ballot = error.ballot
        else:
            assert answer.label == "dear"
            ballot = answer.ballot
        assert ballot[0].outcome == "failed"
        assert "BadProbabilities: probabilities" in (ballot[0].why or "")
    if shares != {"dear": 1.0}:
        with pytest.raises(BadProbabilities, match="margin: probabilities"):
            margin(odd)


# -- the alarm -----------------------------------------------------------------------------------------------------


def test_it_is_told_when_the_next_is_asked_more_often_than_when_it_was_calibrated() -> None:
    """Or less often; not for what is chance."""
    found = Calibration(0.4, 200, 0.3, 0.02)
    program = cascade(threshold=found)
    assert program.escalation["cheap"].alarm is None
    for number in range(100):
        program(sure=0.9 if number % 10 < 6 else 0.1)
    state = program.escalation["cheap"]
    assert (state.calls, state.escalated, state.expected, state.alarm) == (100, 0.4, 0.3, None)
    for _ in range(200):
        program(sure=0.1)
    told = program.escalation["cheap"]
    assert (told.calls, told.escalated) == (200, 1.0)
    assert told.alarm == "the next member was asked in 100% of 200 calls, and in 30% when calibrated"
    for _ in range(200):
        program(sure=0.9)
    assert "0% of 200" in (program.escalation["cheap"].alarm or "")


def test_a_threshold_by_hand_has_nothing_to_be_compared_with() -> None:
    """So there is no alarm."""
    program = cascade()
    program(sure=0.1)
    state = program.escalation["cheap"]
    assert (state.calls, state.escalated, state.expected, state.alarm) == (1, 1.0, None, None)


def test_shallow_copies_count_together_and_deep_ones_for_themselves() -> None:
    """The one is how versions are served."""
    program = cascade()
    shared, own = copy.copy(program), program.deepcopy()
    shared(sure=0.1)
    assert (program.escalated, program.cost, own.cost) == (1.0, 2.0, 0.0)


# -- what is none --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"thresholds": {}}, "for each member but the last: a, b"),
        ({"thresholds": {"a": 0.5}}, "for each member but the last: a, b"),
        ({"thresholds": {"a": 0.5, "b": 0.5, "c": 0.5}}, "for each member but the last: a, b"),
        ({"thresholds": 0.5}, "for each member but the last: a, b"),
        ({"thresholds": {"a": math.nan, "b": None}}, "threshold of a"),
        ({"thresholds": {"a": 0.5, "b": "high"}}, "threshold of b"),
        ({"score": 5}, "give a function"),
        ({"verifier": "z"}, "name a member"),
        ({"verifier": "c", "thresholds": {"a": 0.5}}, "c does not declare its outputs"),
        ({"verdict": 5, "verifier": "c", "thresholds": {"a": 0.5}}, "Cascade: verdict = 5"),
        ({"costs": {"z": 1}}, "name members"),
        ({"costs": {"a": -1}}, "from 0"),
        ({"costs": {"a": math.inf}}, "finite"),
        ({"costs": {"a": 2, "b": 1.5}}, "cheaper members first"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(options: dict[str, Any], what: str) -> None:
    """When it is made."""
    given = {"thresholds": {"a": 0.5, "b": 0.5}, **options}
    with pytest.raises((BadTeam, BadOption), match=what):
        Cascade(team({"a": "A", "b": "B", "c": "C"}), **given)


def test_a_verifier_needs_somebody_to_look_at() -> None:
    """It is no member that answers."""
    with pytest.raises(BadTeam, match="not its only one"):
        Cascade(team({"a": "A"}), {}, verifier="a")


def test_it_is_saved_and_loaded(tmp_path: Any) -> None:
    """As any program."""
    made = Team("t", (Member("a", dspy.Predict("text -> label")), Member("b", dspy.Predict("text -> label"))))
    program, other = (Cascade(made, {"a": 0.5}) for _ in range(2))
    program.members["a"].demos = [{"text": "x", "label": "A"}]
    program.save(tmp_path / "cascade.json")
    other.load(tmp_path / "cascade.json")
    assert json.dumps(other.dump_state()) == json.dumps(program.dump_state())
