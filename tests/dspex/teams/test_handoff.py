"""Handoffs: who has the conversation, what goes along with it, and that it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import dspy
import pytest
from dspy.utils.dummies import DummyLM

from dspex import agent
from dspex.teams import (
    ActiveMember,
    AlreadyHandedOff,
    BadTeam,
    Handoff,
    HandoffTeam,
    Member,
    NoAnswer,
    Said,
    Team,
    TooFewAnswers,
)
from supervision.errors import BadOption
from supervision.testing import run
from tests.dspex.teams.speakers import AWAY, HEARD, heard, order, speakers


@pytest.fixture(autouse=True)
def _nothing_was_heard() -> Iterator[None]:
    HEARD.clear()
    yield
    HEARD.clear()


def wrong(value: Any) -> Any:
    """A value of a type that is not taken."""
    return value


def give(to: object, *carry: str, label: object = None, **more: Any) -> dict[str, Any]:
    """What a member says that hands the conversation off."""
    named = {"carry": carry} if carry else {}
    return {"label": label, "handoff": Handoff(to=wrong(to), **wrong(named), **more)}


async def test_whoever_has_the_conversation_gives_it_to_another_one() -> None:
    """By default with the inputs, and what it has just said; the answer is the last one."""
    answer = await HandoffTeam(speakers(give("b", label="let me see", why="money"), "9.99")).acall(text="x")
    assert (answer.label, answer.ended, answer.degraded, order(answer)) == ("9.99", "answered", None, "ab")
    assert (answer.active, answer.refused, "handoff" in answer) == ("b", (), False)
    assert heard("a") == [{"text": "x", "conversation": []}]
    assert heard("b") == [{"text": "x", "conversation": [{"member": "a", "label": "let me see"}]}]
    assert answer.transcript.turns[0].fields["handoff"]["why"] == "money"
    assert HandoffTeam(speakers(give("b"), "9.99"))(text="x").label == "9.99"
    assert (await HandoffTeam(speakers("A", "B"), first="b").acall(text="x")).label == "B"


@pytest.mark.parametrize(
    ("carry", "inputs", "conversation"),
    [
        (("all",), {"text": "x", "card": "SECRET"}, [{"member": "a", "label": None, "note": "SECRET"}]),
        (("inputs",), {"text": "x", "card": "SECRET"}, []),
        (("last",), {}, [{"member": "a", "label": None, "note": "SECRET"}]),
        (("summary",), {}, [{"summary": "he wants it back"}]),
        (("text", "summary"), {"text": "x"}, [{"summary": "he wants it back"}]),
        (("note",), {}, [{"note": "SECRET"}]),
        (("text", "label"), {"text": "x"}, [{"label": None}]),
    ],
)
async def test_what_is_carried_is_what_is_named(carry: Any, inputs: Any, conversation: Any) -> None:
    """And no more than that."""
    says = {**give("b", *carry, summary="he wants it back"), "note": "SECRET"}
    await HandoffTeam(speakers(says, "B")).acall(text="x", card="SECRET")
    assert heard("b") == [{**inputs, "conversation": conversation}]


async def test_T027_a_secret_of_an_earlier_message_is_in_no_prompt_of_the_next_member() -> None:
    """Nor in its trace, nor in that of whoever comes after it and is given all that it has."""
    secret = "4111-1111"
    members = []
    for name, says in SAYS.items():
        program = dspy.Predict("card, text -> note, label")
        program.set_lm(DummyLM(says))
        members.append(Member(name, program))
    program = HandoffTeam(Team("desk", tuple(members), field="label"))
    with dspy.context(trace=[]):
        answer = await program.acall(card=secret, text="give it back")
        traced = [str(entry[1]) for entry in dspy.settings.trace]
    assert (answer.label, order(answer)) == ("done", "abc")
    asked = {name: [entry["messages"] for entry in one.lm.history] for name, one in program.members.items()}
    prompts = {name: json.dumps(messages, default=str) for name, messages in asked.items()}
    assert secret in prompts["a"]
    assert "carried over" in prompts["b"]
    assert [secret in prompts[name] for name in "bc"] == [False, False]
    assert [secret in what for what in traced] == [True, False, False]


#: Of three members: the first has a secret, the second is given only what it said at last, the third all that it has.
SAYS = {
    "a": [{"note": "carried over", "label": "null", "handoff": '{"to": "b", "carry": ["last"]}'}],
    "b": [{"note": "n", "label": "null", "handoff": '{"to": "c", "carry": ["all"]}'}],
    "c": [{"note": "n", "label": "done", "handoff": "null"}],
}


async def test_T028_of_two_handoffs_in_one_turn_the_first_in_the_teams_order_counts() -> None:
    """However they are listed; the other is refused, and told."""
    for targets in ("bc", "cb"):
        says = {"label": None, "handoff": [Handoff(to=to) for to in targets]}
        answer = await HandoffTeam(speakers(says, "B", "C")).acall(text="x")
        assert (answer.label, order(answer)) == ("B", "ab")
        assert answer.refused == ("the conversation is b's by now, and cannot be handed to c; ask who has it",)


def test_T028_a_handoff_of_what_was_handed_off_is_refused() -> None:
    """By the version that the giver saw."""
    first = ActiveMember("a")
    second = first.hand_off("b", first.version)
    assert second == ActiveMember("b", 1)
    with pytest.raises(AlreadyHandedOff, match="the conversation is b's by now") as caught:
        second.hand_off("c", first.version)
    assert (caught.value.member, caught.value.to) == ("b", "c")
    assert second.hand_off("a", second.version) == ActiveMember("a", 2)


async def test_T029_a_conversation_that_goes_to_and_fro_ends() -> None:
    """After two handoffs for each member."""
    answer = await HandoffTeam(speakers(give("b", label="A"), give("a"))).acall(text="x")
    assert (answer.label, answer.degraded, order(answer)) == ("A", "turns", "ababa")
    with pytest.raises(NoAnswer, match="turns ended it"):
        await HandoffTeam(speakers(give("b"), give("a"))).acall(text="x")
    answer = await HandoffTeam(speakers(give("b", label="A"), give("a")), max_handoffs=1).acall(text="x")
    assert (answer.degraded, order(answer)) == ("turns", "ab")
    answer = await HandoffTeam(speakers(give("b", label="A"), "B"), max_handoffs=0).acall(text="x")
    assert (answer.label, answer.degraded, order(answer)) == ("A", "turns", "a")
    answer = await HandoffTeam(speakers(give("b", label="A"), give("a"), max_calls=3)).acall(text="x")
    assert (answer.degraded, order(answer)) == ("turns", "aba")
    answer = await HandoffTeam(speakers(give("b", label="A"), give("a")), until=Said("a", "A")).acall(text="x")
    assert (answer.label, answer.ended, answer.degraded) == ("A", "said", None)


async def test_the_last_word_may_be_said_at_the_last_turn() -> None:
    """Then nothing is missing."""
    answer = await HandoffTeam(speakers(give("b"), "B", max_calls=2)).acall(text="x")
    assert (answer.label, answer.degraded) == ("B", None)


@pytest.mark.parametrize(
    ("says", "note"),
    [
        (give("z"), "A handoff is to one of: b."),
        (give("a"), "A handoff is to one of: b."),
        ({"label": None, "handoff": "b"}, "A handoff is to one of: b."),
        ({"label": None, "handoff": {"to": 5}}, "A handoff is to one of: b."),
        (
            give("b", "card"),
            "There is no card to carry. Name some of: all, handoff, inputs, label, last, summary, text.",
        ),
    ],
)
async def test_a_handoff_that_cannot_be_is_told_once(says: Any, note: str) -> None:
    """Then its member goes on; after the second one it is over."""
    answer = await HandoffTeam(speakers([says, "A"], "B")).acall(text="x")
    assert (answer.label, order(answer)) == ("A", "aa")
    assert heard("a")[1]["conversation"] == [{"note": note}]
    with pytest.raises(NoAnswer, match="handoff ended it"):
        await HandoffTeam(speakers(says, "B")).acall(text="x")
    answer = await HandoffTeam(speakers([says, give("b")], "B")).acall(text="x")
    assert (answer.label, order(answer)) == ("B", "aab")


async def test_when_the_new_member_is_lost_the_giver_goes_on() -> None:
    """It is told so; a first member that is lost is the end of it."""
    answer = await HandoffTeam(speakers([give("b"), "A"], AWAY)).acall(text="x")
    assert (answer.label, answer.degraded, order(answer)) == ("A", "members:lost 1 of 2", "aba")
    assert heard("a")[1] == {"text": "x", "conversation": [{"note": "b is lost: LMTransportError: away"}]}
    answer = await HandoffTeam(speakers([give("b"), "A"], ValueError("no"))).acall(text="x")
    assert heard("a")[-1]["conversation"] == [{"note": "b has failed: ValueError: no"}]
    with pytest.raises(TooFewAnswers, match="a lost"):
        await HandoffTeam(speakers(AWAY, "B")).acall(text="x")
    with pytest.raises(NoAnswer, match="a:failed ended it"):
        await HandoffTeam(speakers(KeyError(), "B")).acall(text="x")
    with pytest.raises((NoAnswer, TooFewAnswers)):
        await HandoffTeam(speakers(give("b"), AWAY)).acall(text="x")


async def test_a_member_that_says_nothing_and_hands_nothing_off_ends_it() -> None:
    """Without an answer."""
    with pytest.raises(NoAnswer, match="answered ended it"):
        await HandoffTeam(speakers(None, "B")).acall(text="x")


def test_a_deadline_counts_for_all_of_it() -> None:
    """With what was said before."""

    async def never(_: Any) -> Any:
        return await asyncio.get_running_loop().create_future()

    answer = run(HandoffTeam(speakers(give("b", label="A"), never, deadline=2.0)).acall(text="x"))
    assert (answer.label, answer.degraded) == ("A", "deadline")


async def test_a_model_that_says_nothing_in_words_has_said_nothing() -> None:
    """It has to write a text or null."""
    for nothing in ("null", " None ", "", None):
        with pytest.raises(NoAnswer):
            await HandoffTeam(speakers(nothing)).acall(text="x")
    answer = await HandoffTeam(speakers(give("b", label="null"), "none")).acall(text="x")
    assert (answer.label, answer.confidence) == ("none", 1.0)


def test_a_model_reads_what_the_fields_of_a_handoff_are() -> None:
    """And not what the class is for."""
    schema = Handoff.model_json_schema()
    assert "description" not in schema
    assert "summary" in schema["properties"]["carry"]["description"]


def predictors() -> Team:
    return Team("desk", tuple(Member(name, dspy.Predict("text -> label: int")) for name in "ab"))


def test_a_program_of_one_predictor_gets_the_fields_into_its_signature(tmp_path: Any) -> None:
    """The team speaks without them; it is saved and loaded by DSPy, and runs in an agent."""
    program, other = HandoffTeam(predictors()), HandoffTeam(predictors())
    made = program.members["a"].signature
    assert list(made.fields) == ["text", "conversation", "label", "handoff"]
    assert made.output_fields["handoff"].annotation == Handoff | None
    assert made.output_fields["label"].annotation == int | None
    assert "one of b" in made.output_fields["handoff"].json_schema_extra["desc"]
    assert list(program.signature.fields) == ["text", "label"]
    assert HandoffTeam(speakers("A")).signature is None
    program.members["a"].demos = [{"text": "x", "label": 1}]
    program.save(tmp_path / "team.json")
    other.load(tmp_path / "team.json")
    assert json.dumps(other.dump_state()) == json.dumps(program.dump_state())
    assert agent(HandoffTeam(speakers("A", "B")).deepcopy())(text="x").label == "A"


def test_one_that_has_them_is_left_as_it_is() -> None:
    """It knows what it does."""
    mine = dspy.Predict(
        dspy.Signature(
            {
                "text": (str, dspy.InputField()),
                "label": (str, dspy.OutputField()),
                "handoff": (Handoff, dspy.OutputField()),
            }
        )
    )
    program = HandoffTeam(Team("t", (Member("a", mine),), field="label"))
    assert program.members["a"].signature.output_fields["label"].annotation is str


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: HandoffTeam(wrong("team")), "HandoffTeam: team"),
        (lambda: HandoffTeam(speakers("A"), first="z"), "HandoffTeam: first"),
        (lambda: HandoffTeam(speakers("A"), max_handoffs=-1), "HandoffTeam: max_handoffs"),
        (lambda: HandoffTeam(speakers("A"), max_handoffs=wrong(1.5)), "HandoffTeam: max_handoffs"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make: Any, what: str) -> None:
    """When it is made."""
    with pytest.raises((BadTeam, BadOption), match=what):
        make()


def test_one_name_to_carry_may_stand_for_itself() -> None:
    """As models write it."""
    assert Handoff(to="b", carry=wrong("last")).carry == ("last",)


def test_where_the_time_is_over_before_the_next_is_asked_that_is_nobodys_fault() -> None:
    """It is worth another try: an error of infrastructure, and not one of the programs."""

    async def main() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.call_at(loop.time() + 2.0, over.set)

        async def just_in_time(_: Any) -> Any:
            await over.wait()
            return {"label": None, "handoff": Handoff(to="b")}

        with pytest.raises(TooFewAnswers, match="a answered with nothing; b unasked"):
            await HandoffTeam(speakers(just_in_time, "B", deadline=2.0)).acall(text="x")

    run(main())
