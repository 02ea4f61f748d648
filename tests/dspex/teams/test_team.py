"""Teams: who is asked, what counts, what comes of it; and that a team is a program."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from itertools import permutations
from typing import Any

import dspy
import pytest
from dspy.utils.dummies import DummyLM

from dspex import agent
from dspex.teams import (
    BadTeam,
    FirstAnswer,
    MajorityVote,
    Member,
    MemberAnswer,
    NoAnswer,
    SoftVote,
    Team,
    TooFewAnswers,
    WeightedVote,
    normal_form,
)
from dspex.teams.rules import CombinedAnswer
from dspex.teleprompt import SIMBA
from dspex.testing.engine import ScriptedEngine, scripted_lm
from supervision.errors import BadOption

ASKED: list[str] = []


class Says(dspy.Module):
    """Answers, raises, or waits, as a test wants it."""

    def __init__(self, name: str, what: object) -> None:
        super().__init__()
        self.name = name
        self.what = what

    async def aforward(self, text: str) -> Any:
        """Answer in its own time."""
        ASKED.append(self.name)
        found = await self.what() if callable(self.what) else self.what
        if isinstance(found, BaseException):
            raise found
        return dspy.Prediction(label=found)

    def forward(self, text: str) -> Any:
        """Answer at once."""
        ASKED.append(self.name)
        if isinstance(self.what, BaseException):
            raise self.what
        return dspy.Prediction(label=self.what)


@pytest.fixture(autouse=True)
def _nobody_was_asked() -> None:
    ASKED.clear()


def team(*what: object, **options: Any) -> Team:
    """A team of a, b, c and so on, each of which says one thing."""
    names = "abcdefghij"[: len(what)]
    members = [Member(name, Says(name, one)) for name, one in zip(names, what, strict=True)]
    return Team("team", tuple(members), field="label", **options)


def predictor(answer: str, signature: str = "text -> label") -> Any:
    """A predictor with a model of its own."""
    made = dspy.Predict(signature)
    made.set_lm(DummyLM([{"label": answer, "other": "thing"}] * 9))
    return made


def outcomes(answer: Any) -> list[str]:
    """What became of the members."""
    return [one.outcome for one in answer.ballot]


async def never() -> str:
    """Never answers."""
    return await asyncio.get_running_loop().create_future()


# -- votes ---------------------------------------------------------------------------------------------------------


async def test_T001_most_say_it_and_the_ballot_is_in_the_teams_order() -> None:
    """With all that came to it."""
    answer = await team("A", "B", "A").program().acall(text="x")
    assert answer.label == "A"
    assert [(one.member, one.value) for one in answer.ballot] == [("a", "A"), ("b", "B"), ("c", "A")]
    assert (answer.coverage, answer.degraded) == (1.0, None)
    assert answer.confidence == pytest.approx(2 / 3)
    assert isinstance(answer, dspy.Prediction)


async def test_T002_who_is_faster_does_not_matter() -> None:
    """The same prediction and ballot in each order of arrival, also where the first two decide."""
    for what in (("A", "B", "A"), ("A", "A", "B")):
        found = set()
        for order in permutations(range(3)):
            opened = [asyncio.Event() for _ in what]

            def saying(number: int, opened: list[asyncio.Event] = opened) -> Callable[[], Any]:
                async def say() -> str:
                    await opened[number].wait()
                    return what[number]  # noqa: B023 - called within this round

                return say

            asked = asyncio.ensure_future(team(*map(saying, range(3))).program().acall(text="x"))
            for number in order:
                opened[number].set()
                await asyncio.sleep(0)  # noqa: TID251 - one pass, in which it arrives
            answer = await asked
            shown = [(one.member, one.outcome, one.value) for one in answer.ballot]
            found.add(json.dumps([answer.label, answer.coverage, answer.confidence, shown]))
        assert len(found) == 1


async def test_T003_when_it_is_decided_nobody_else_is_asked() -> None:
    """Two at a time, and the first three agree: the fifth is never asked, the fourth counts no more."""
    answer = await team("A", "A", "A", "B", "B", side_by_side=2).program().acall(text="x")
    assert answer.label == "A"
    assert outcomes(answer) == ["answered"] * 3 + ["unasked"] * 2
    assert "".join(ASKED) in {"abc", "abcd"}
    assert answer.coverage == 1.0
    ASKED.clear()
    assert team("A", "A", "A", "B", "B").program()(text="x").label == "A"
    assert list("abc") == ASKED


async def test_T004_a_tie_goes_to_the_earliest() -> None:
    """After all were asked."""
    answer = await team("A", "A", "B", "B").program().acall(text="x")
    assert (answer.label, outcomes(answer)) == ("A", ["answered"] * 4)


async def test_the_first_original_answer_is_returned_and_not_its_normal_form() -> None:
    """As dspy.majority does."""
    assert (await team("Tech", " Sport", "sport").program().acall(text="x")).label == " Sport"
    assert (await team("1.0", "01", "1", normal=float).program().acall(text="x")).label == "1.0"


async def test_an_abstention_is_an_answer_that_counts_for_nothing() -> None:
    """It covers, and does not vote."""
    answer = await team(None, "A", "").program().acall(text="x")
    assert (answer.label, answer.confidence, answer.coverage) == ("A", 1.0, 1.0)
    with pytest.raises(NoAnswer):
        await team(None, None).program().acall(text="x")


async def test_a_member_may_return_something_else_than_fields() -> None:
    """Then that is what is combined."""

    class Plain(dspy.Module):
        async def aforward(self, text: str) -> Any:
            return "A"

    answer = await Team("t", (Member("a", Plain),), field="label").program().acall(text="x")
    assert answer.label == "A"


async def test_a_member_without_a_coroutine_runs_in_a_thread() -> None:
    """Beside the others; what it raises is its own as well."""

    class Plain(dspy.Module):
        def forward(self, text: str) -> Any:
            if text == "bad":
                raise ValueError(text)
            return dspy.Prediction(label=threading.current_thread().name)

    program = Team("t", (Member("a", Plain),), field="label").program()
    assert (await program.acall(text="x")).label.startswith("AnyIO")
    with pytest.raises(NoAnswer, match="bad"):
        await program.acall(text="bad")


async def test_a_rule_may_find_likelier_what_nobody_has_said() -> None:
    """Then that is the answer, without other fields."""

    class Contrary(MajorityVote, frozen=True):
        def decide(self, votes: Any) -> CombinedAnswer:
            return CombinedAnswer("z", 0.9)

    assert (await team("A", rule=Contrary()).program().acall(text="x")).label == "z"


async def test_probabilities_of_members_reach_the_rule() -> None:
    """From a field of that name."""

    class Likely(dspy.Module):
        async def aforward(self, text: str) -> Any:
            return dspy.Prediction(label="x", probabilities={"x": 0.6, "y": 0.4})

    rule = SoftVote({"a": {"x": 0.9, "y": 0.1}})
    answer = await Team("t", (Member("a", Likely),), rule=rule, field="label").program().acall(text="x")
    assert answer.label == "y"


# -- members that have no answer -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ValueError("no"), KeyError(), SystemExit(1), KeyboardInterrupt(), BaseException("b")]
)
async def test_T006_a_member_that_fails_is_not_asked_again_and_ends_nothing(error: BaseException) -> None:
    """Whatever it raises."""
    answer = await team("A", error, "A").program().acall(text="x")
    assert (answer.label, outcomes(answer)) == ("A", ["answered", "failed", "answered"])
    assert answer.coverage == pytest.approx(2 / 3)
    assert answer.degraded is None
    assert answer.ballot[1].why.startswith(type(error).__name__)
    assert ASKED.count("b") == 1


@pytest.mark.parametrize("error", [SystemExit(1), GeneratorExit(), BaseException("b")])
def test_what_a_member_raises_ends_nothing_in_a_plain_call_either(error: BaseException) -> None:
    """But for a Ctrl-C, which is meant for whoever calls."""
    assert outcomes(team("A", error, "A").program()(text="x")) == ["answered", "failed", "answered"]
    with pytest.raises(KeyboardInterrupt):
        team("A", KeyboardInterrupt(), "A").program()(text="x")


class Unshowable(Exception):
    """Has no text."""

    def __repr__(self) -> str:
        raise LookupError

    __str__ = __repr__


def test_an_answer_or_an_error_that_cannot_be_written_ends_nothing() -> None:
    """What cannot be shown at all is the same as nothing else."""
    program = team("A", 10**5000, Unshowable(), [Unshowable()], "A").program()
    answer = program(text="x")
    assert (answer.label, outcomes(answer)) == ("A", ["answered", "answered", "failed", "answered", "answered"])
    assert normal_form(10**5000) == normal_form(10**5000) != normal_form(10**5000 + 1)
    one, other = [Unshowable()], [Unshowable()]
    assert normal_form(one) == normal_form(one) != normal_form(other)


async def test_a_member_that_cancels_itself_has_failed() -> None:
    """Its caller was not cancelled."""
    answer = await team("A", asyncio.CancelledError(), "A").program().acall(text="x")
    assert outcomes(answer) == ["answered", "failed", "answered"]


async def test_a_caller_that_is_cancelled_cancels_the_members() -> None:
    """None of them goes on for nobody."""
    came, gone = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def hold() -> str:
        came.release()
        try:
            return await never()
        except asyncio.CancelledError:
            gone.release()
            raise

    asked = asyncio.ensure_future(team(hold, hold).program().acall(text="x"))
    for _ in range(2):
        await came.acquire()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    for _ in range(2):
        await gone.acquire()


@pytest.mark.parametrize("sync", [False, True])
async def test_T010_all_lost_is_an_error_of_infrastructure_and_names_each_reason(sync: bool) -> None:
    """No optimiser takes it for a score."""
    away = dspy.LMTransportError("away")
    program = team("A", away, away).program()
    with pytest.raises(TooFewAnswers, match=r"1 of 3 members.*b lost \(LMTransportError") as caught:
        program(text="x") if sync else await program.acall(text="x")
    assert (caught.value.asked, caught.value.answered) == (3, 1)
    assert isinstance(caught.value, dspy.LMTransportError)


async def test_a_refused_model_of_a_member_is_said_as_it_is_and_nobody_waits_for_it() -> None:
    """With enough others, it is one that is lost."""
    refused = dspy.LMAuthError("wrong key")
    with pytest.raises(dspy.LMAuthError, match="wrong key"):
        await team("A", dspy.LMTransportError("away"), refused).program().acall(text="x")
    answer = await team("A", refused, "A").program().acall(text="x")
    assert (answer.label, outcomes(answer)) == ("A", ["answered", "lost", "answered"])


async def test_too_many_that_fail_by_themselves_are_the_programs_fault() -> None:
    """And no reason to wait for anything."""
    with pytest.raises(NoAnswer, match="a failed"):
        await team(ValueError("no"), ValueError("no"), "A").program().acall(text="x")


async def test_a_lost_member_degrades_the_answer() -> None:
    """It is said, with how many."""
    answer = await team("A", dspy.LMTransportError("away"), "A").program().acall(text="x")
    assert (answer.label, answer.degraded) == ("A", "quorum:lost 1 of 3")


async def test_T009_who_is_not_in_by_the_deadline_is_late() -> None:
    """The answer is that of the others, and says so."""
    answer = await team("A", "B", never, deadline=0.05).program().acall(text="x")
    assert (answer.label, outcomes(answer)) == ("A", ["answered", "answered", "late"])
    assert answer.degraded == "quorum:deadline 1 of 3"
    assert answer.ballot[2].seconds >= 0.05
    with pytest.raises(TooFewAnswers, match="c late"):
        await team("A", never, never, deadline=0.01).program().acall(text="x")


async def test_enough_is_what_the_team_says() -> None:
    """More than half by default, of the weight."""
    away = dspy.LMTransportError("away")
    assert (await team("A", away, away, min_answers=0.3).program().acall(text="x")).coverage == pytest.approx(1 / 3)
    with pytest.raises(TooFewAnswers):
        await team("A", away).program().acall(text="x")
    assert (await team(away, "A", rule=WeightedVote({"b": 3.0})).program().acall(text="x")).coverage == 0.75


async def test_no_more_are_asked_than_may_be() -> None:
    """The others are unasked."""
    answer = await team("A", "B", "B", "B", max_calls=2).program().acall(text="x")
    assert (answer.label, outcomes(answer)) == ("A", ["answered"] * 2 + ["unasked"] * 2)


async def test_the_first_that_answers_ends_it() -> None:
    """Those behind it were asked side by side, and count no more."""
    away = dspy.LMTransportError("away")
    answer = await team(away, "B", never, rule=FirstAnswer(), min_answers=0.1).program().acall(text="x")
    assert (answer.label, outcomes(answer)) == ("B", ["lost", "answered", "unasked"])


# -- a team is a program -------------------------------------------------------------------------------------------


def three() -> Team:
    members = (Member(name, predictor(answer)) for name, answer in zip("abc", ("A", "B", "A"), strict=True))
    return Team("desk", tuple(members))


async def test_T042_the_caller_has_the_traces_of_the_members_in_order() -> None:
    """With the caller's own predictors."""
    program = three().program()
    for ask in (program, program.acall):
        with dspy.context(trace=[]):
            found = ask(text="x")
            if asyncio.iscoroutine(found):
                await found
            assert [entry[0] for entry in dspy.settings.trace] == list(program.predictors())
    with dspy.context(trace=None):
        assert (await program.acall(text="x")).label == "A"
        assert program(text="x").label == "A"


def test_T041_a_team_is_saved_and_loaded_by_dspy(tmp_path: Any) -> None:
    """Byte for byte; and each member alone as well."""
    plain = Team("desk", tuple(Member(name, dspy.Predict("text -> label")) for name in "abc"))
    program, other = plain.program(), plain.program()
    program.members["a"].demos = [{"text": "x", "label": "A"}]
    program.save(tmp_path / "team.json")
    other.load(tmp_path / "team.json")
    assert json.dumps(other.dump_state()) == json.dumps(program.dump_state())
    assert [name for name, _ in program.named_predictors()] == ["members['a']", "members['b']", "members['c']"]


def test_the_members_are_the_teams_own() -> None:
    """What is changed in the team is not changed in the programs it was made of; what was compiled is a part too."""
    mine = predictor("A")
    mine._compiled = True
    made = Team("t", (Member("a", mine),)).program()
    made.members["a"].demos = [{"text": "x", "label": "A"}]
    assert (mine.demos, mine._compiled) == ([], True)
    assert len(list(made.named_predictors())) == 1


def test_a_team_runs_in_an_agent_and_in_evaluate() -> None:
    """As any program."""
    devset = [dspy.Example(text="x", label="A").with_inputs("text")] * 2
    program = agent(three().program())

    def metric(example: Any, found: Any, trace: Any = None) -> float:
        return float(example.label == found.label)

    assert dspy.Evaluate(devset=devset, metric=metric, num_threads=1)(program).score == 100.0


def test_our_simba_compiles_a_team() -> None:
    """With one model for all members."""
    labels = {f"text {n}": "good" if n % 2 else "bad" for n in range(12)}
    train = [dspy.Example(text=text, label=label).with_inputs("text") for text, label in labels.items()]
    made = Team("t", tuple(Member(name, dspy.Predict("text -> label")) for name in "ab")).program()
    with dspy.context(lm=scripted_lm(ScriptedEngine(labels))):
        compiled = SIMBA(
            metric=lambda example, found: float(example.label == found.label),
            bsize=4,
            num_candidates=2,
            max_steps=1,
        ).compile(made, trainset=train, seed=0)
    assert [name for name, _ in compiled.named_predictors()] == ["members['a']", "members['b']"]


# -- what is no team -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"name": ""}, "name"),
        ({"members": ()}, "at least one"),
        ({"members": 5}, "several Member"),
        ({"members": ("a",)}, "at least one"),
        ({"members": (Member("a", None), Member("a", None))}, "a name of its own"),
        ({"rule": "majority"}, "give a rule"),
        ({"min_answers": 0}, "above 0"),
        ({"min_answers": 1.5}, "at most 1"),
        ({"min_answers": float("nan")}, "above 0"),
        ({"deadline": 0}, "above 0"),
        ({"deadline": float("inf")}, "finite"),
        ({"side_by_side": 0}, "from 1"),
        ({"max_calls": 1.5}, "from 1"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(options: Mapping[str, Any], what: str) -> None:
    """When the team is made."""
    with pytest.raises(BadOption if issubclass(BadTeam, BadOption) else (BadTeam, BadOption), match=what):
        Team(**{"name": "t", "members": (Member("a", None),), **options})


def test_a_member_has_a_name() -> None:
    """A text."""
    with pytest.raises(BadOption, match="Member: name"):
        Member("", None)


def test_the_field_must_be_known() -> None:
    """Where no predictor says it."""
    with pytest.raises(BadTeam, match="a does not declare its outputs"):
        Team("t", (Member("a", Says("a", "A")),)).program()
    assert Team("t", (Member("a", predictor("A", "text -> other, label")),)).program().field == "label"


def test_a_team_speaks_with_the_signature_of_its_first_member() -> None:
    """Or with what its forward takes; with the field that is combined, if it does not say what it gives."""
    program = three().program()
    assert program.signature is program.members["a"].signature
    made = team("A").program().signature
    assert ([*made.input_fields], [*made.output_fields]) == (["text"], ["label"])


def test_ballots_say_what_they_have() -> None:
    """And no more."""
    assert MemberAnswer("a", "unasked").value is None
