"""Recorded votes: members are asked once, and all figures come of that; members that tell probabilities."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import asyncio
import enum
from fractions import Fraction
from typing import Any, Literal

import dspy
import numpy as np
import pytest
from dspy.utils.dummies import DummyLM

from dspex import agent
from dspex.models.local.adapter import CompactAdapter
from dspex.models.selection import embedded_lm
from dspex.teams import (
    BadProbabilities,
    BadTeam,
    BadWeights,
    ConfusionVote,
    FirstAnswer,
    MajorityVote,
    Member,
    MemberVote,
    NoAnswer,
    RecordedVotes,
    SoftVote,
    Stacking,
    Team,
    TooFewAnswers,
    WeightedVote,
    WithProbabilities,
    accuracy_weight,
    mean_probabilities,
    record,
)
from supervision.errors import BadOption
from tests.dspex.fake_llama import FakeLlama

ASKED: list[tuple[str, str]] = []


class Knows(dspy.Module):
    """Answers by a table; what is not in it raises."""

    def __init__(self, name: str, table: dict[str, Any]) -> None:
        super().__init__()
        self.name, self.table = name, table

    async def aforward(self, text: str) -> Any:
        """Look it up."""
        ASKED.append((self.name, text))
        found = self.table[text]
        if isinstance(found, BaseException):
            raise found
        if isinstance(found, dict):
            return dspy.Prediction(label=max(found, key=found.__getitem__), probabilities=found)
        return dspy.Prediction(label=found)


def example(text: str, label: object = None) -> Any:
    return dspy.Example(text=text, label=label).with_inputs("text")


def team(*tables: dict[str, Any], **options: Any) -> Team:
    members = [Member(name, Knows(name, table)) for name, table in zip("abcde", tables, strict=False)]
    return Team("team", tuple(members), field="label", **options)


@pytest.fixture(autouse=True)
def _nobody_was_asked() -> None:
    ASKED.clear()


# -- recording -----------------------------------------------------------------------------------------------------


async def test_each_member_is_asked_once_whatever_the_team_would_need() -> None:
    """Neither an early end nor a limit of calls leaves one out; and the votes come in the order of the examples."""
    same = {"1": "A", "2": "b"}
    desk = team(same, same, {"1": "B", "2": "a"}, max_calls=1, rule=FirstAnswer())
    told: list[int] = []
    records = await record(desk, [example("1", "a "), example("2", "A")], width=2, done=told.append)
    assert records.truth == ("a", "a")
    assert records.answers == [{"a": "a", "b": "a", "c": "b"}, {"a": "b", "b": "b", "c": "a"}]
    assert sorted(ASKED) == [(name, text) for name in "abc" for text in "12"]
    assert told == [1, 2]


async def test_no_more_examples_are_asked_about_at_the_same_time_than_allowed() -> None:
    """One example after the other."""
    await record(team({"1": "x", "2": "x", "3": "x"}), [example(text, "x") for text in "123"], width=1)
    assert ASKED == [("a", "1"), ("a", "2"), ("a", "3")]


async def test_who_fails_or_abstains_has_no_vote() -> None:
    """That says something of it, and is recorded."""
    records = await record(team({"1": ValueError("no")}, {"1": " "}, {"1": "x"}), [example("1", "x")])
    assert records.answers == [{"c": "x"}]
    assert records.members == ("c",)


async def test_who_is_away_makes_a_record_impossible() -> None:
    """As that says nothing of it."""
    away = team({"1": "x", "2": "x"}, {"1": "x", "2": dspy.LMTransportError("away")})
    with pytest.raises(TooFewAnswers, match="b lost"):
        await record(away, [example("1", "x"), example("2", "x")])


async def test_a_record_that_is_given_up_leaves_nobody_asking() -> None:
    """All that was begun ends."""
    begun, ended = asyncio.Event(), asyncio.Event()

    class Waits(dspy.Module):
        async def aforward(self, text: str) -> Any:
            begun.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.set()

    asking = asyncio.ensure_future(record(Team("t", (Member("a", Waits()),), field="label"), [example("1", "x")]))
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.wait_for(ended.wait(), 1)


@pytest.mark.parametrize("label", [None, " "])
async def test_an_example_without_a_label_is_refused_before_anybody_is_asked(label: object) -> None:
    """By its number."""
    with pytest.raises(BadTeam, match="as label") as error:
        await record(team({"1": "x"}), [example("1", "x"), example("2", label)])
    assert error.value.value == 1
    assert ASKED == []


@pytest.mark.parametrize("wrong", [dspy.Example(text="2", label="x"), {"text": "2", "label": "x"}, None])
async def test_what_is_no_example_is_refused_before_anybody_is_asked(wrong: Any) -> None:
    """Nor is one that does not say what its inputs are."""
    with pytest.raises(BadTeam, match="with_inputs") as error:
        await record(team({"1": "x"}), [example("1", "x"), wrong])
    assert error.value.value == 1
    assert ASKED == []


async def test_a_record_of_no_examples_is_refused() -> None:
    """Nothing could be said of it."""
    with pytest.raises(BadWeights, match="at least one"):
        await record(team({"1": "x"}), [])


@pytest.mark.parametrize("width", [0, -1, 1.5, True, 10**400])
async def test_a_width_that_makes_no_sense_is_refused(width: Any) -> None:
    """By name."""
    with pytest.raises(BadOption, match="record: width"):
        await record(team({"1": "x"}), [example("1", "x")], width=width)


# -- figures -------------------------------------------------------------------------------------------------------


def votes(*rows: str) -> list[list[MemberVote]]:
    """A row of answers for each example, of a, b and c; a dot is none."""
    return [[MemberVote(name, form) for name, form in zip("abc", row, strict=True) if form != "."] for row in rows]


RECORDS = RecordedVotes(votes("xyx", "yyx", "xxy", "x.y", "..."), "xyyyx")


def test_figures_of_recorded_votes() -> None:
    """Each reckoned by hand."""
    assert RECORDS.counts("a") == (2, 4)
    assert RECORDS.counts("b") == (1, 3)
    assert RECORDS.counts("c") == (3, 4)
    assert RECORDS.best_member == "c"
    assert RECORDS.oracle == pytest.approx(4 / 5)
    assert RECORDS.accuracy(MajorityVote()) == pytest.approx(2 / 5)
    assert RECORDS.only(["c"]).accuracy(MajorityVote()) == pytest.approx(3 / 5)
    assert RECORDS.examples([3, 1]) == RecordedVotes(votes("x.y", "yyx"), ("y", "y"))
    assert RecordedVotes(votes("xy."), ("z",)).best_member == "a"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (("xxx", "xxx", "yyy", "yyy"), 1.0),
        (("xyx", "yxx", "xyx", "yxx"), -1.0),  # c is always right: a and b alone
        (("xx.", "xy.", "yx.", "yy."), 0.0),
        (("x.x", ".x."), 1.0),
        (("xy.",), 1.0),
    ],
)
def test_errors_that_come_together_are_correlated(rows: tuple[str, ...], expected: float) -> None:
    """Over all pairs of members; and as far as nothing is known, they are."""
    assert RecordedVotes(votes(*rows), "x" * len(rows)).error_correlation == pytest.approx(expected)


@pytest.mark.parametrize(("cast", "truth"), [([], []), ([[]], []), ([], ["x"])])
def test_records_of_nothing_are_refused(cast: Any, truth: Any) -> None:
    """Nothing could be said of them."""
    with pytest.raises(BadWeights, match="at least one"):
        RecordedVotes(cast, truth)


def test_nobody_is_the_best_where_nobody_votes() -> None:
    """An error, and no figure."""
    with pytest.raises(BadWeights, match="no member has an answer"):
        _ = RecordedVotes([[]], ["x"]).best_member


def test_rules_are_fitted_to_records() -> None:
    """A team with such a rule is another value."""
    desk = team({}, {}, {})
    fitted = desk.fitted(RECORDS, WeightedVote.fitted)
    assert isinstance(desk.rule, MajorityVote)
    assert fitted.rule == WeightedVote(
        {
            "a": accuracy_weight(2, 4, labels=2),
            "b": accuracy_weight(1, 3, labels=2),
            "c": accuracy_weight(3, 4, labels=2),
        }
    )
    assert isinstance(desk.fitted(RECORDS).rule, Stacking)
    confusion = desk.fitted(RECORDS, ConfusionVote.fitted).rule
    assert isinstance(confusion, ConfusionVote)
    assert confusion.confusion["c"]["y"] == {"x": 2 / 5, "y": 3 / 5}
    soft = desk.fitted(RECORDS, SoftVote.fitted).rule
    assert soft == SoftVote({"a": {"x": 0.75, "y": 0.25}, "b": {"y": 2 / 3, "x": 1 / 3}, "c": {"x": 0.5, "y": 0.5}})
    assert WeightedVote.fitted(RecordedVotes(votes("x.."), ["x"])) == WeightedVote(
        {"a": accuracy_weight(1, 1, labels=2)}
    )


async def test_a_team_with_a_fitted_rule_answers_what_the_rule_says() -> None:
    """Also what no member has said, in the words of the probabilities."""
    always = {"1": {"Sport": 0.8, "Tech": 0.2}, "2": {"Sport": 0.6, "Tech": 0.4}}
    desk = team(always, always, always)
    records = await record(desk, [example("1", "sport"), example("2", "tech")] * 3)
    for fit in (SoftVote.fitted, Stacking.fitted):
        program = desk.fitted(records, fit).program()
        assert (await program.acall(text="1")).label == "Sport"
        found = await program.acall(text="2")
        assert (found.label, [one.value for one in found.ballot]) == ("Tech", ["Sport"] * 3)
        assert 0.5 < found.confidence < 1


# -- probabilities -------------------------------------------------------------------------------------------------


class Tells(dspy.Module):
    """Tells the probabilities of its answer."""

    def __init__(self, told: object) -> None:
        super().__init__()
        self.told = told

    async def aforward(self, text: str) -> Any:
        """Answer."""
        return dspy.Prediction(label="x", probabilities=self.told)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"X": 3, " x": 1.0, "y": 4}, {"x": 0.5, "y": 0.5}),
        ({"x": 0.5, "y": 0.25}, {"x": 0.5, "y": 0.25}),
        ({"x": np.float32(0.5), "y": Fraction(1, 2)}, {"x": 0.5, "y": 0.5}),
        (None, None),
    ],
)
async def test_probabilities_are_of_normal_forms(told: Any, expected: Any) -> None:
    """What is more than one is divided by its sum; what is missing is that of labels which are not named."""
    records = await record(Team("t", (Member("a", Tells(told)),), field="label"), [example("1", "x")])
    (vote,) = records.votes[0]
    assert (vote.form, vote.probabilities) == ("x", expected)


ODD: list[Any] = [
    {"x": 0, "y": 0},
    {"x": float("nan"), "y": 1},
    {"x": -0.5, "y": 1},
    {"x": float("inf"), "y": 1},
    {"x": 1e308, "y": 1e308},
    {"x": 10**400, "y": 1},
    {"x": Fraction(10**400), "y": 1},
    {"x": True, "y": 1},
    {"x": "much"},
    {None: 0.5, "x": 0.5},
    {"y": 1.0},
    {},
    [0.5, 0.5],
]


@pytest.mark.parametrize("told", ODD)
async def test_a_member_that_tells_what_are_no_probabilities_has_failed(told: Any) -> None:
    """Its ballot says with what, and what would be some; and no vote can be made of them."""
    program = Team("t", (Member("a", Tells(told)),), field="label").program()
    with pytest.raises(NoAnswer, match=r"a failed \(BadProbabilities: probabilities = ") as caught:
        await program.acall(text="1")
    assert caught.value.ballot[0].outcome == "failed"
    if told != {"y": 1.0}:  # which are some, but not of this answer
        with pytest.raises(BadProbabilities, match="probabilities of a"):
            mean_probabilities([{"a": told}])
        with pytest.raises(BadProbabilities, match="MemberVote: probabilities of a"):
            MemberVote("a", "x", told)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("annotation", "first", "second"),
    [(Literal["red", "blue"], "red", "blue"), (bool, True, False), (Colour, Colour.RED, Colour.BLUE)],
)
async def test_an_answer_that_no_member_gave_is_one_that_the_signature_lists(
    annotation: Any, first: Any, second: Any
) -> None:
    """And no normal form of it."""

    def member() -> Any:
        said = {True: "True", Colour.RED: "red"}.get(first, first)
        made = dspy.Predict(dspy.Signature("text -> label").with_updated_fields("label", type_=annotation))
        made.set_lm(DummyLM([{"label": said}] * 9))
        return made

    desk = Team("t", (Member("a", member()),))
    records = await record(desk, [example("1", second), example("2", second)])
    (red,), (blue,) = {records.votes[0][0].form}, set(records.truth)
    turned = desk.program().team.normal
    assert (turned(first), turned(second)) == (red, blue)
    rule = ConfusionVote({red: 0.5, blue: 0.5}, {"a": {red: {red: 0.1, blue: 0.9}, blue: {red: 0.9, blue: 0.1}}})
    program = desk.fitted(records, lambda _: rule).program()
    assert program(text="1").label == second
    assert (await program.acall(text="1")).label == second


def colour(llama: FakeLlama) -> Any:
    """A program that asks the embedded model for a choice."""
    made = dspy.Predict(dspy.Signature("text -> label").with_updated_fields("label", type_=Literal["red", "blue"]))
    made.set_lm(embedded_lm(llama.endpoint))
    return made


async def test_the_embedded_model_says_how_probable_each_answer_is(llama: FakeLlama) -> None:
    """Asked in a thread, and in the loop; and in an agent."""
    llama.weights = {"red": 0.2, "blue": 0.6}
    program = WithProbabilities(colour(llama))
    with dspy.context(adapter=CompactAdapter()):
        for found in (program(text="x"), await program.acall(text="x"), await agent(program).acall(text="x")):
            assert found.label == "blue"
            assert found.probabilities == pytest.approx({"red": 0.25, "blue": 0.75})
        desk = Team("t", (Member("a", program),))
        records = await record(desk, [example("x", "red")])
    assert records.votes[0][0].probabilities == pytest.approx({"red": 0.25, "blue": 0.75})
    assert [name for name, _ in desk.program().named_predictors()] == ["members['a'].program"]


async def test_a_truth_value_has_its_probabilities_too(llama: FakeLlama) -> None:
    """By the values, not by how the model writes them."""
    llama.weights = {"true": 0.9, "false": 0.1}
    asks = dspy.Predict(dspy.Signature("text -> label").with_updated_fields("label", type_=bool))
    asks.set_lm(embedded_lm(llama.endpoint))
    with dspy.context(adapter=CompactAdapter()):
        assert WithProbabilities(asks)(text="x").probabilities == pytest.approx({True: 0.9, False: 0.1})


def test_the_answer_of_a_model_that_does_not_tell_is_as_it_was() -> None:
    """Without the field."""
    made = dspy.Predict(dspy.Signature("text -> label").with_updated_fields("label", type_=Literal["red", "blue"]))
    made.set_lm(DummyLM([{"label": "red"}]))
    found = WithProbabilities(made)(text="x")
    assert (found.label, "probabilities" in found) == ("red", False)


@pytest.mark.parametrize(
    "program",
    [
        dspy.Predict("text -> label"),
        dspy.ChainOfThought(dspy.Signature("text -> label").with_updated_fields("label", type_=bool)),
        Knows("a", {}),
    ],
)
def test_programs_whose_answers_cannot_be_listed_are_refused(program: Any) -> None:
    """With the remedy."""
    with pytest.raises(BadTeam, match="one output, a Literal"):
        WithProbabilities(program)
