"""Routers: one member is asked, and what is learnt from that."""

from __future__ import annotations

import asyncio
import copy
import json
import math
from collections import Counter
from random import Random
from typing import Any, cast

import dspy
import pytest
from dspy.utils.dummies import DummyLM

from dspex import agent
from dspex.teams import (
    BadTeam,
    BadWeights,
    BanditRoute,
    Member,
    NoAnswer,
    RouteBy,
    Routed,
    Team,
    TeamRouter,
    TextRoute,
    TooFewAnswers,
)
from dspex.teams.patterns import router as routers
from dspex.variables import Choice, EpsilonGreedy, ThompsonSampling, UpperConfidenceBound
from supervision.errors import BadOption
from tests.dspex.teams.members import ASKED, AWAY, asked, never, outcomes, team

both = pytest.mark.parametrize("how", ["sync", "async"])


@pytest.fixture(autouse=True)
def _nobody_was_asked() -> None:
    ASKED.clear()


def by_score(**scores: float) -> RouteBy:
    """Says the same for all inputs."""
    return RouteBy(lambda _: scores)


# -- who is asked --------------------------------------------------------------------------------------------------


@both
async def test_one_member_is_asked_and_no_other(how: str) -> None:
    """The one that the function names."""
    program = TeamRouter(team({"a": "A", "b": "B"}), RouteBy(lambda inputs: inputs["to"]))
    answer = await asked(program, how, to="b")
    assert (answer.label, outcomes(answer), ASKED) == ("B", ["unasked", "answered"], ["b"])
    assert (answer.coverage, answer.confidence, answer.degraded) == (1.0, 1.0, None)
    assert answer.routed == Routed("b")
    assert isinstance(answer, dspy.Prediction)


@both
async def test_T019_the_next_by_score_answers_for_one_that_is_lost_and_the_bandit_gets_no_reward(how: str) -> None:
    """One answer is paid; that the first was lost is said, and is no 0."""
    route = BanditRoute(learned=[(None, "a", 9, 0.9), (None, "b", 9, 0.1), (None, "c", 9, 0.5)])
    program = TeamRouter(team({"a": AWAY, "b": "B", "c": "C"}), route)
    answer = await asked(program, how, text="x")
    assert (answer.label, outcomes(answer), ASKED) == ("C", ["lost", "unasked", "answered"], ["a", "c"])
    assert (answer.degraded, answer.coverage) == ("next:lost 1 of 2", 0.5)
    assert answer.routed.first == "a"
    assert route.learned[0] == (None, "a", 9, 0.9)
    assert program.reward(answer.call, 1.0)
    assert route.learned == [(None, "a", 9, 0.9), (None, "b", 9, 0.1), (None, "c", 10, pytest.approx(0.55))]


@both
async def test_all_lost_is_an_error_of_infrastructure(how: str) -> None:
    """With each reason."""
    program = TeamRouter(team({"a": AWAY, "b": AWAY}), by_score(b=1.0, a=0.5))
    with pytest.raises(TooFewAnswers, match=r"0 of 2 members.*a lost \(LMTransportError"):
        await asked(program, how, text="x")
    assert ASKED == ["b", "a"]


@both
async def test_a_refused_model_is_said_as_it_is(how: str) -> None:
    """As nobody waits for it."""
    with pytest.raises(dspy.LMAuthError, match="wrong key"):
        await asked(TeamRouter(team({"a": dspy.LMAuthError("wrong key")}), by_score()), how, text="x")


@both
@pytest.mark.parametrize("what", [ValueError("no"), None, ""])
async def test_one_that_fails_or_abstains_ends_it(how: str, what: object) -> None:
    """It was the right one to ask; another would answer another question."""
    with pytest.raises(NoAnswer, match="a "):
        await asked(TeamRouter(team({"a": what, "b": "B"}), by_score(a=1.0)), how, text="x")
    assert ASKED == ["a"]


async def test_one_that_is_late_ends_it() -> None:
    """There is no time left for another."""
    program = TeamRouter(team({"a": never, "b": "B"}, deadline=0.02), by_score(a=1.0))
    with pytest.raises(TooFewAnswers, match="a late"):
        await program.acall(text="x")
    assert ASKED == ["a"]


@both
async def test_no_more_are_asked_than_may_be(how: str) -> None:
    """The others are unasked."""
    with pytest.raises(TooFewAnswers, match=r"0 of 1.*b unasked"):
        await asked(TeamRouter(team({"a": AWAY, "b": "B"}, max_calls=1), by_score()), how, text="x")
    assert ASKED == ["a"]


@both
async def test_ties_and_unnamed_members_go_by_the_teams_order(how: str) -> None:
    """Whoever has no score comes last."""
    program = TeamRouter(team({"a": AWAY, "b": AWAY, "c": AWAY, "d": "D"}), by_score(b=0.0, c=0.0))
    assert (await asked(program, how, text="x")).label == "D"
    assert ASKED == ["b", "c", "a", "d"]


async def test_a_caller_that_is_cancelled_cancels_the_member() -> None:
    """It does not go on for nobody."""
    came, gone = asyncio.Event(), asyncio.Event()

    async def hold() -> str:
        came.set()
        try:
            return await never()
        finally:
            gone.set()

    found = asyncio.ensure_future(TeamRouter(team({"a": lambda _: hold()}), by_score()).acall(text="x"))
    await came.wait()
    found.cancel()
    with pytest.raises(asyncio.CancelledError):
        await found
    await gone.wait()


async def test_a_member_may_return_something_else_than_fields() -> None:
    """Then that is the answer."""

    class Plain(dspy.Module):  # type: ignore[misc]
        def forward(self, text: str) -> str:
            return text

    program = TeamRouter(Team("t", (Member("a", Plain),), field="label"), by_score())
    assert program(text="x").label == (await program.acall(text="y")).label.replace("y", "x") == "x"


@pytest.mark.parametrize(
    ("found", "what"),
    [
        ("nobody", "name one of a, b"),
        (5, "name one of a, b"),
        ({"a": math.nan}, "finite number"),
        ({"a": 10**400}, "finite number"),
        ({"a": True}, "finite number"),
        ({"z": 1.0}, "name one of a, b"),
    ],
)
def test_a_route_that_makes_no_sense_is_refused_before_anybody_is_asked(found: Any, what: str) -> None:
    """By name, with what would."""
    with pytest.raises(BadTeam, match=what):
        TeamRouter(team({"a": "A", "b": "B"}), RouteBy(lambda _: found))(text="x")
    assert ASKED == []


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"route": lambda _: "a"}, "give RouteBy"),
        ({"explore": -0.1}, "from 0"),
        ({"explore": 1.1}, "from 0 to 1"),
        ({"explore": math.nan}, "finite"),
        ({"seed": -1}, "seed"),
        ({"seed": 0.5}, "seed"),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_made(options: dict[str, Any], what: str) -> None:
    """By name."""
    with pytest.raises((BadTeam, BadOption), match=what):
        TeamRouter(team({"a": "A"}), **{"route": by_score(), **options})


# -- what chance says ----------------------------------------------------------------------------------------------


def test_now_and_then_chance_says_whom_to_ask_and_that_is_told() -> None:
    """About as often as was said, each member as often as the others; and the same again with the same seed."""
    program, again = (
        TeamRouter(team({"a": "A", "b": "B", "c": "C"}), by_score(a=1.0), explore=0.3, seed=5) for _ in range(2)
    )
    found = [program(text="x") for _ in range(600)]
    explored = [one.routed.first for one in found if one.routed.explored]
    assert 140 < len(explored) < 220
    assert all(count > 40 for count in Counter(explored).values())
    assert {one.routed.first for one in found if not one.routed.explored} == {"a"}
    assert [again(text="x").label for _ in range(600)] == [one.label for one in found]
    other = TeamRouter(team({"a": "A", "b": "B", "c": "C"}), by_score(a=1.0), explore=0.3, seed=6)
    assert [other(text="x").label for _ in range(600)] != [one.label for one in found]


# -- bandits -------------------------------------------------------------------------------------------------------


def test_upper_confidence_bounds_are_those_of_the_formula() -> None:
    """UCB1 after 3, 2 and 1 tries with means .5, .6, .2: the one that was tried least is next."""
    bandit = UpperConfidenceBound(Choice(name="member", choices=dict.fromkeys("abc")))
    for name, tries, mean in (("a", 3, 0.5), ("b", 2, 0.6), ("c", 1, 0.2)):
        for _ in range(tries):
            bandit.note(name, mean)
    assert [round(score, 6) for score in bandit.scores(Random(0)).values()] == [1.592935, 1.938566, 2.093018]
    assert bandit.propose("a", Random(0)) == "c"


@pytest.mark.parametrize("kind", [UpperConfidenceBound, ThompsonSampling, EpsilonGreedy])
def test_a_bandit_finds_the_best_member_of_each_group(kind: Any) -> None:
    """Another one for each."""
    route = BanditRoute(lambda inputs: inputs["kind"], kind)
    program = TeamRouter(team({"a": "A", "b": "B"}), route, seed=1)
    luck, taken = Random(3), []
    worth = {("x", "A"): 0.8, ("x", "B"): 0.3, ("y", "A"): 0.2, ("y", "B"): 0.7}
    for number in range(800):
        group = "xy"[number % 2]
        answer = program(kind=group)
        taken.append((group, answer.label))
        assert program.reward(answer.call, float(luck.random() < worth[group, answer.label]))
    last = Counter(taken[-200:])
    assert last["x", "A"] > 70
    assert last["y", "B"] > 70
    assert 0 < route.regret < 0.25 * 800
    assert {group for group, *_ in route.learned} == {"x", "y"}


def test_regret_is_counted_against_the_best_of_each_group() -> None:
    """By what is known of the members."""
    rows = [("x", "a", 10, 0.9), ("x", "b", 5, 0.5), ("y", "b", 4, 0.8), ("y", "a", 2, 0.3)]
    assert BanditRoute(learned=rows).regret == pytest.approx(5 * 0.4 + 2 * 0.5)
    assert BanditRoute().regret == 0


def test_rewards_that_are_late_or_never_come_hold_nobody_up() -> None:
    """Of members of whom nothing is known, the one that was asked least is next: also if one is always lost."""
    program = TeamRouter(team({"a": AWAY, "b": "B", "c": "C"}), BanditRoute())
    assert Counter(program(text="x").label for _ in range(30)).keys() == {"B", "C"}
    assert ASKED.count("a") <= 16


def test_a_reward_counts_once_and_only_for_a_call_that_was_made() -> None:
    """Whoever asks; and a call that failed had its reward: 0."""
    route = BanditRoute()
    program = TeamRouter(team({"a": lambda inputs: ValueError() if inputs["text"] == "bad" else "A"}), route)
    answer = program(text="x")
    assert program.reward(answer.call, 0.5)
    assert not program.reward(answer.call, 0.5)
    unknown: Any
    for unknown in (answer.call + 1, -1, 0, None, "1", 1.0, [], True):
        assert not program.reward(unknown, 0.5)
    wrong: Any
    for wrong in (math.nan, math.inf, 10**400, "1", None, True):
        with pytest.raises(BadOption, match="reward"):
            program.reward(answer.call, wrong)
    assert route.learned == [(None, "a", 1, 0.5)]
    with pytest.raises(NoAnswer):
        program(text="bad")
    assert route.learned == [(None, "a", 2, 0.25)]
    assert not TeamRouter(team({"a": "A"}), by_score()).reward(1, 0.5)


def test_a_route_that_does_not_learn_takes_no_reward() -> None:
    """It says so."""
    program = TeamRouter(team({"a": "A"}), by_score())
    assert not program.reward(program(text="x").call, 1.0)


def test_calls_that_never_get_a_reward_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first."""
    monkeypatch.setattr(routers, "MOST_WAITING", 2)
    program = TeamRouter(team({"a": "A"}), BanditRoute())
    calls = [program(text="x").call for _ in range(3)]
    assert [program.reward(call, 1.0) for call in calls] == [False, True, True]


def test_what_was_learned_can_be_kept_and_members_may_come_and_go() -> None:
    """As JSON, for instance; a member of whom nothing is known is asked first."""
    route = BanditRoute(lambda inputs: inputs["kind"])
    route.note("x", "a", 1.0)
    route.note("x", "b", 0.0)
    kept = BanditRoute(lambda inputs: inputs["kind"], learned=json.loads(json.dumps(route.learned)))
    assert kept.learned == route.learned
    kept.note("x", "a", 0.0)
    assert kept.learned == [("x", "a", 2, 0.5), ("x", "b", 1, 0.0)]
    assert kept.scores({"kind": "x"}, ["a", "c"], Random(0)).keys() == {"a", "c"}
    assert kept.learned == [("x", "a", 2, 0.5), ("x", "b", 1, 0.0)]
    program = TeamRouter(team({"a": "A", "c": "C"}), kept)
    assert program(kind="x").label == "C"


@pytest.mark.parametrize(
    "row", [5, ("x", "a", 1), ("x", "a", 0, 0.5), ("x", "a", 1, math.nan), ([], "a", 1, 0.5), ("x", "", 1, 0.5)]
)
def test_what_nobody_has_learned_is_refused(row: Any) -> None:
    """With what would be right."""
    with pytest.raises((BadTeam, BadOption), match="BanditRoute"):
        BanditRoute(learned=[row])


def test_a_group_is_hashable() -> None:
    """Or it is said."""
    with pytest.raises(BadTeam, match="hashable"):
        TeamRouter(team({"a": "A"}), BanditRoute(cast(Any, lambda _: [])))(text="x")


def test_shallow_copies_share_what_they_learn_and_deep_ones_do_not() -> None:
    """The one is how versions are served, the other how optimisers try things."""
    program: Any = TeamRouter(team({"a": "A"}), BanditRoute())
    shared, own = copy.copy(program), program.deepcopy()
    answer = shared(text="x")
    assert not own.reward(answer.call, 1.0)
    assert program.reward(answer.call, 1.0)
    assert (len(shared.route.learned), len(own.route.learned)) == (1, 0)


# -- fitted --------------------------------------------------------------------------------------------------------


def test_a_fitted_route_asks_the_member_that_was_right_on_such_texts() -> None:
    """On texts that it has not seen."""
    chance = Random(2)
    words = {"sport": ["goal", "match", "team"], "tech": ["chip", "code", "phone"]}
    topics = [chance.choice(["sport", "tech"]) for _ in range(120)]
    texts = [" ".join([*chance.sample(words[topic], 2), "news", f"number {n}"]) for n, topic in enumerate(topics)]
    right = [{name: chance.random() < (0.9 if name == topic else 0.3) for name in words} for topic in topics]
    route = TextRoute.fitted(texts[:80], right[:80])
    program = TeamRouter(team({"sport": "sport", "tech": "tech", "new": "new"}), route)
    found = [program(text=text).label for text in texts[80:]]
    assert sum(label == topic for label, topic in zip(found, topics[80:], strict=True)) >= 38
    shares = route.scores({"text": texts[0]}, ["sport", "tech", "new"], Random(0))
    assert shares.keys() == {"sport", "tech"}
    assert all(0 < share < 1 for share in shares.values())
    assert route == TextRoute.fitted([{"text": text} for text in texts[:80]], right[:80])


def test_a_member_that_was_not_asked_there_is_not_wrong_there() -> None:
    """It is left out of what it is fitted to."""
    texts = ["x y", "x z", "y z"]
    route = TextRoute.fitted(texts, [{"a": True, "b": True}, {"a": True}, {"a": True}])
    assert route.weights["b"].keys() == {"", "x", "y"}


@pytest.mark.parametrize(("texts", "right"), [([], []), (["x"], []), (["x"], [{}])])
def test_there_must_be_answers_to_fit_to(texts: Any, right: Any) -> None:
    """As many as texts."""
    with pytest.raises(BadWeights, match="at least one"):
        TextRoute.fitted(texts, right)


@pytest.mark.parametrize("options", [{"rounds": 0}, {"decay": -1}, {"decay": math.nan}])
def test_numbers_of_a_fit_make_sense(options: Any) -> None:
    """Or are refused."""
    with pytest.raises(BadOption):
        TextRoute.fitted(["x"], [{"a": True}], **options)


# -- a router is a program -----------------------------------------------------------------------------------------


def predictor(answer: str) -> Any:
    """A predictor with a model of its own."""
    made = dspy.Predict("text -> label")
    made.set_lm(DummyLM([{"label": answer}] * 9))
    return made


@both
async def test_the_caller_has_the_trace_of_whom_was_asked(how: str) -> None:
    """With its own predictors, in the team's order; of those that were lost as well."""

    class Falls(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = predictor("X")

        def forward(self, text: str) -> Any:
            self.inner(text=text)
            raise AWAY

    program = TeamRouter(Team("t", (Member("a", predictor("A")), Member("b", Falls))), by_score(b=1.0))
    with dspy.context(trace=[]):
        assert (await asked(program, how, text="x")).label == "A"
        own = [program.members["a"], program.members["b"].inner]
        assert [entry[0] for entry in dspy.settings.trace] == own
    with dspy.context(trace=None):
        assert (await asked(program, how, text="x")).label == "A"


def test_it_is_saved_and_loaded_runs_in_an_agent_and_in_evaluate(tmp_path: Any) -> None:
    """As any program."""
    made = Team("t", (Member("a", predictor("A")), Member("b", predictor("B"))))
    program, other = TeamRouter(made, by_score(a=1.0)), TeamRouter(made, by_score(a=1.0))
    program.members["a"].demos = [{"text": "x", "label": "A"}]
    program.members["a"].lm = program.members["b"].lm = None
    program.save(tmp_path / "router.json")
    other.load(tmp_path / "router.json")
    assert json.dumps(other.dump_state()) == json.dumps(program.dump_state())
    assert [name for name, _ in program.named_predictors()] == ["members['a']", "members['b']"]
    devset = [dspy.Example(text="x", label="A").with_inputs("text")] * 4

    def metric(example: Any, found: Any, trace: Any = None) -> float:
        return float(example.label == found.label)

    served = agent(TeamRouter(made, by_score(a=1.0)))
    assert dspy.Evaluate(devset=devset, metric=metric, num_threads=2)(served).score == 100.0
