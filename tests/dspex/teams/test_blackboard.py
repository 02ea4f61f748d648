"""Blackboards: members read and write, until nobody has anything to add."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import dspy
import pytest
from dspy.utils.dummies import DummyLM

from dspex.teams import BadTeam, Blackboard, Board, BoardSource, EntryConflict, Member, NoAnswer, Team, TooFewAnswers
from supervision.errors import BadOption
from tests.dspex.teams.members import ASKED, AWAY, Says, asked, never, outcomes, team

both = pytest.mark.parametrize("how", ["sync", "async"])


@pytest.fixture(autouse=True)
def _nobody_was_asked() -> None:
    ASKED.clear()


def writes(**fields: Any) -> Any:
    """What a member adds."""
    return dspy.Prediction(**fields)


def reading(*names: str, **members: tuple[str, ...]) -> list[BoardSource]:
    """Sources that read such entries."""
    return [BoardSource(name, reads=members.get(name, names)) for name in members]


# -- whose turn it is ----------------------------------------------------------------------------------------------


@both
async def test_each_has_its_turn_when_what_it_reads_is_there(how: str) -> None:
    """In whatever order they stand in the team."""
    made = team(
        {
            "judge": lambda board: writes(label=f"{board['facts']}!"),
            "facts": lambda board: writes(facts=board["text"].upper()),
        }
    )
    program = Blackboard(made, reading(judge=("facts",), facts=("text",)))
    answer = await asked(program, how, text="goal")
    assert (answer.label, answer.facts, answer.ended, answer.steps) == ("GOAL!", "GOAL", "quiescent", 2)
    assert (answer.degraded, answer.coverage, outcomes(answer)) == (None, 1.0, ["answered"] * 2)
    assert ASKED == ["facts", "judge"]
    entry = answer.board.entries["facts"]
    assert (entry.value, entry.by, entry.version, entry.step) == ("GOAL", "facts", 2, 1)


@both
async def test_T034_what_is_written_again_as_it_stands_is_no_change(how: str) -> None:
    """Two that write the same into one entry, which both read: over after two turns. It is supported then."""
    made = team({"a": writes(label="same"), "b": writes(label="same")})
    for sources in (reading(a=("text",), b=("label",)), reading(a=("text",), b=("text",))):
        ASKED.clear()
        answer = await asked(Blackboard(made, sources), how, text="x")
        assert (answer.ended, answer.steps, ASKED) == ("quiescent", 2, ["a", "b"])
        assert answer.board.entries["label"].supports == ("b",)
    answer = await asked(Blackboard(made, reading(a=("label",), b=("label",))), how, label="same", text="x")
    assert (answer.ended, answer.steps) == ("quiescent", 2)


def rewriting(values: Callable[[int], str]) -> Team:
    """Two members that change one entry, over and over."""
    turns = iter(range(1000))
    change = lambda _: writes(note=values(next(turns)), label="done")  # noqa: E731
    return team({"start": writes(note="first"), "a": change, "b": change})


SOURCES = reading(start=("text",), a=("note",), b=("note",))


@both
async def test_T034_two_that_change_each_others_entry_end_at_the_limit_of_steps(how: str) -> None:
    """Or at how often each may; that is said."""
    answer = await asked(Blackboard(rewriting(str), SOURCES, max_steps=5), how, text="x")
    assert (answer.ended, answer.steps, answer.degraded) == ("max_steps", 5, "board:max_steps")
    ASKED.clear()
    answer = await asked(Blackboard(rewriting(str), SOURCES, max_runs=2), how, text="x")
    assert (answer.ended, answer.steps, answer.degraded) == ("max_runs", 5, "board:max_runs")
    assert ASKED == ["start", "a", "b", "a", "b"]
    answer = await asked(Blackboard(rewriting(lambda _: "always"), SOURCES), how, text="x")
    assert (answer.ended, answer.steps) == ("quiescent", 3)


@both
async def test_who_would_add_most_is_first_and_of_equals_the_first_in_the_team(how: str) -> None:
    """As each estimates it, by what is on the board."""
    made = team({name: writes(label=name) for name in "abc"})
    sources = [
        BoardSource("c", ("text",), estimate=lambda board: len(board.get("text"))),
        BoardSource("b", ("text",)),
        BoardSource("a", ("text",)),
    ]
    answer = await asked(Blackboard(made, sources), how, text="xx")
    assert (ASKED, answer.label) == (["c", "a", "b"], "b")


@both
async def test_a_source_says_by_the_board_whether_it_has_something_to_add(how: str) -> None:
    """And the caller when it is good enough."""
    made = team({"a": writes(label="A"), "b": writes(label="B"), "c": writes(label="C")})
    sources = [
        BoardSource("a", ("text",)),
        BoardSource("b", ("label",), when=lambda board: board.get("label") == "A"),
        BoardSource("c", ("label",), when=lambda board: board.get("label") == "A"),
    ]
    answer = await asked(Blackboard(made, sources), how, text="x")
    assert (answer.label, answer.ended, ASKED) == ("B", "quiescent", ["a", "b"])
    answer = await asked(Blackboard(made, sources, until=lambda board: board.get("label") == "A"), how, text="x")
    assert (answer.label, answer.ended, answer.degraded) == ("A", "until", None)


@both
async def test_inputs_stay_what_they_are_and_nothing_is_no_entry(how: str) -> None:
    """Also if a member has an output of that name; what is no fields is the one that is wanted."""
    made = team({"a": writes(text="changed", label=None), "b": lambda board: writes(label=board["text"])})
    answer = await asked(Blackboard(made, reading(a=("text",), b=("text",))), how, text="x")
    assert answer.label == "x"

    class Plain(dspy.Module):  # type: ignore[misc]
        def forward(self, text: str) -> str:
            return text

    program = Blackboard(Team("t", (Member("a", Plain),), field="label"), reading(a=("text",)))
    assert (await asked(program, how, text="y")).label == "y"


# -- members that have no answer -----------------------------------------------------------------------------------


@both
async def test_one_that_is_lost_is_not_asked_again_and_said(how: str) -> None:
    """The others go on."""
    made = team({"a": AWAY, "b": writes(label="B"), "c": ValueError("no")})
    answer = await asked(Blackboard(made, reading(a=("text",), b=("text",), c=("text",))), how, text="x")
    assert (answer.label, answer.degraded, outcomes(answer)) == (
        "B",
        "board:lost 1 of 3",
        ["lost", "answered", "failed"],
    )
    assert ASKED == ["a", "b", "c"]


@both
async def test_without_what_is_wanted_there_is_no_answer(how: str) -> None:
    """Its members are away, or failed, or wrote something else."""
    with pytest.raises(TooFewAnswers, match="a lost"):
        await asked(Blackboard(team({"a": AWAY}), reading(a=("text",))), how, text="x")
    for what in (ValueError("no"), writes(other="thing"), writes(label=" ")):
        with pytest.raises(NoAnswer):
            await asked(Blackboard(team({"a": what}), reading(a=("text",))), how, text="x")


@both
async def test_no_more_are_asked_than_may_be(how: str) -> None:
    """What is there by then is the answer."""
    made = team({"a": writes(label="A"), "b": writes(label="B")}, max_calls=1)
    answer = await asked(Blackboard(made, reading(a=("text",), b=("text",))), how, text="x")
    assert (answer.label, answer.ended, answer.degraded) == ("A", "unasked", "board:unasked")


async def test_what_is_there_at_the_deadline_is_the_answer() -> None:
    """And it is said."""
    made = Team("t", (Member("a", Says("a", "A")), Member("b", Says("b", never))), field="label", deadline=0.05)
    answer = await Blackboard(made, reading(a=("text",), b=("label",))).acall(text="x")
    assert (answer.label, answer.degraded, outcomes(answer)) == ("A", "board:lost 1 of 2", ["answered", "late"])


# -- boards --------------------------------------------------------------------------------------------------------


def test_a_write_names_the_version_that_was_read() -> None:
    """Whoever has read an older one writes nothing."""
    board = Board().written("x", 1, "a", expected=0)
    assert (board.get("x"), board.version("x"), board.get("y"), board.version("y")) == (1, 1, None, 0)
    with pytest.raises(EntryConflict, match="x was read in version 0, and has version 1") as caught:
        board.written("x", 2, "b", expected=0)
    assert (caught.value.name, caught.value.expected, caught.value.version) == ("x", 0, 1)
    assert board.written("x", 1, "a", expected=1) is board
    same = board.written("x", 1, "b", expected=1)
    assert (same.version("x"), same.entries["x"].supports) == (1, ("b",))
    assert same.written("x", 1, "b", expected=1) is same
    assert same.written("x", 2, "b", expected=1).version("x") == 2


class Odd:
    """What cannot be compared."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    __hash__ = object.__hash__


@pytest.mark.parametrize(("one", "other"), [(1, True), (math.nan, math.nan), (Odd(), Odd()), ("a", "A")])
def test_what_is_not_the_same_for_certain_is_a_change(one: object, other: object) -> None:
    """So nothing is lost; the limits hold."""
    board = Board().written("x", one, "a", expected=0)
    assert board.written("x", other, "b", expected=1).version("x") == 2


def test_a_board_is_bounded_and_the_oldest_without_support_goes_first() -> None:
    """Never an input, nor what was just written."""
    board = Board(limit=2).written("text", "x", "", expected=0)
    board = board.written("a", 1, "m", expected=0, step=1).written("a", 1, "n", expected=2, step=2)
    board = board.written("b", 1, "m", expected=0, step=3).written("c", 1, "m", expected=0, step=4)
    assert [*board.entries] == ["text", "a", "c"]
    board = board.written("c", 1, "n", expected=board.version("c")).written("d", 1, "m", expected=0, step=5)
    assert [*board.entries] == ["text", "c", "d"]
    assert board.written("a", 2, "m", expected=0, step=6).version("a") > 5
    assert [*Board(limit=1).written("a", 1, "m", expected=0).written("a", 2, "m", expected=1).entries] == ["a"]


# -- what is none --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"sources": []}, "at least one BoardSource"),
        ({"sources": ["a"]}, "at least one BoardSource"),
        ({"sources": [BoardSource("z", ("text",))]}, "name members: a"),
        ({"sources": [BoardSource("a", ("text",)), BoardSource("a", ("text",))]}, "one source"),
        ({"sources": [BoardSource("a")]}, "say which entries"),
        ({"sources": None}, "say which entries"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_runs": 1.5}, "max_runs"),
        ({"limit": 0}, "limit"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(options: dict[str, Any], what: str) -> None:
    """When it is made."""
    with pytest.raises((BadTeam, BadOption), match=what):
        Blackboard(team({"a": "A"}), **{"sources": [BoardSource("a", ("text",))], **options})


@pytest.mark.parametrize("estimate", [math.nan, None, "1"])
def test_an_estimate_is_a_number(estimate: Any) -> None:
    """Or it is said whose is none."""
    program = Blackboard(team({"a": "A"}), [BoardSource("a", ("text",), estimate=lambda _: estimate)])
    with pytest.raises(BadTeam, match="estimate of a"):
        program(text="x")


@both
async def test_programs_of_predictors_say_what_they_read_and_are_traced(how: str) -> None:
    """Nothing has to be configured; and it is saved as any program."""

    def says(signature: str, **fields: str) -> Any:
        made = dspy.Predict(signature)
        made.set_lm(DummyLM([fields] * 3))
        return made

    made = Team(
        "t", (Member("label", says("facts -> label", label="A")), Member("facts", says("text -> facts", facts="f")))
    )
    program = Blackboard(made)
    with dspy.context(trace=[]):
        answer = await asked(program, how, text="x")
        assert [entry[0] for entry in dspy.settings.trace] == [program.members["label"], program.members["facts"]]
    assert (answer.label, answer.facts) == ("A", "f")
    assert json.dumps(Blackboard(made).dump_state())
