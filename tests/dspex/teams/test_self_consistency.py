"""Self-consistency: one program several times, and what it says most often."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex.teams import BadTeam, NoAnswer, SelfConsistency, TooFewAnswers
from supervision.errors import BadOption
from tests.dspex.teams.members import ASKED, AWAY, Says, asked, never, outcomes

pytestmark = pytest.mark.filterwarnings("ignore:Implementing custom LMs")
both = pytest.mark.parametrize("how", ["sync", "async"])


@pytest.fixture(autouse=True)
def _nobody_was_asked() -> None:
    ASKED.clear()


class Sampled(dspy.BaseLM):  # type: ignore[misc]
    """A model whose answer depends on the rollout; and which notes each request that is not answered by the cache."""

    def __init__(self, answers: str, **options: Any) -> None:
        super().__init__("sampled", **{"cache": False, **options})
        self.answers = answers
        self.seen: list[tuple[int | None, float | None]] = []

    def __deepcopy__(self, memo: object) -> Sampled:
        return self

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        """Answer."""
        merged = {**self.kwargs, **kwargs}
        rollout = merged.get("rollout_id")
        self.seen.append((rollout, merged.get("temperature")))
        return _said(self.answers[(rollout or 0) % len(self.answers)])

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        """Answer."""
        return self.forward(prompt, messages, **kwargs)


def _said(label: str) -> Any:
    text = f"[[ ## label ## ]]\n{label}\n\n[[ ## completed ## ]]"
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return {"id": "1", "object": "chat.completion", "model": "sampled", "choices": [choice], "usage": {}}


@both
async def test_T018_samples_are_the_first_rollouts_and_it_ends_when_it_is_decided(how: str) -> None:
    """Three that agree of five; the same again the next time."""
    lm = Sampled("AAABB", temperature=1.0)
    program = SelfConsistency(dspy.Predict("text -> label"), 5)
    for _ in range(2):
        lm.seen.clear()
        with dspy.context(lm=lm):
            answer = await asked(program, how, text="x")
        assert (answer.label, answer.confidence, answer.degraded) == ("A", 1.0, None)
        assert outcomes(answer) == ["answered"] * 3 + ["unasked"] * 2
        assert lm.seen == [(0, 1.0), (1, 1.0), (2, 1.0)]
        assert [one.member for one in answer.ballot][:2] == ["sample 0", "sample 1"]


@both
async def test_what_is_said_most_often_is_the_answer(how: str) -> None:
    """Ties go to what was said first."""
    with dspy.context(lm=Sampled("ABBAC", temperature=1.0)):
        answer = await asked(SelfConsistency(dspy.Predict("text -> label")), how, text="x")
    assert (answer.label, answer.confidence, outcomes(answer)) == ("A", pytest.approx(0.4), ["answered"] * 5)


@both
async def test_a_model_with_a_rollout_of_its_own_has_other_samples(how: str) -> None:
    """Those of an optimiser's variants do not overlap."""
    lm = Sampled("A", temperature=1.0, rollout_id=2)
    program = SelfConsistency(dspy.Predict("text -> label"), 3)
    program.set_lm(lm)
    await asked(program, how, text="x")
    assert lm.seen == [(6, 1.0), (7, 1.0)]
    assert program.predictors()[0].lm is lm


@both
async def test_the_temperature_is_that_of_the_samples(how: str) -> None:
    """Before what the predictor and its model say."""
    lm = Sampled("A", temperature=0.0)
    program = SelfConsistency(dspy.Predict("text -> label", temperature=0.0), 3, temperature=0.7)
    with dspy.context(lm=lm):
        await asked(program, how, text="x")
    assert lm.seen == [(0, 0.7), (1, 0.7)]
    lm.seen.clear()
    with dspy.context(lm=lm):
        await asked(SelfConsistency(dspy.Predict("text -> label", temperature=0.5), 3), how, text="x")
    assert lm.seen == [(0, 0.5), (1, 0.5)]


@pytest.mark.parametrize("predictor", [{"temperature": 0}, {"temperature": 0.0}, {}])
def test_T018_several_samples_at_temperature_0_are_refused_when_it_is_made(predictor: Any) -> None:
    """As all would be the same; one is not."""
    program = dspy.Predict("text -> label", **predictor)
    program.set_lm(Sampled("A", temperature=0.0))
    with pytest.raises(BadTeam, match="raise the temperature of self"):
        SelfConsistency(program, 5)
    SelfConsistency(program, 1)
    with pytest.raises(BadTeam, match="raise the temperature"):
        SelfConsistency(dspy.Predict("text -> label"), temperature=0.0)


@both
async def test_several_samples_of_a_model_that_comes_with_the_call_are_refused_then(how: str) -> None:
    """Before it is asked."""
    lm = Sampled("A", temperature=0.0)
    program = SelfConsistency(dspy.Predict("text -> label"))
    with dspy.context(lm=lm), pytest.raises(BadTeam, match="raise the temperature"):
        await asked(program, how, text="x")
    assert lm.seen == []


@both
async def test_without_a_model_it_is_said(how: str) -> None:
    """As any program does."""
    with dspy.context(lm=None), pytest.raises(ValueError, match="No LM is loaded"):
        await asked(SelfConsistency(dspy.Predict("text -> label")), how, text="x")


@both
async def test_samples_that_are_lost_are_no_wrong_answers(how: str) -> None:
    """More than half must have answered."""
    with pytest.raises(TooFewAnswers, match="0 of 5"):
        await asked(SelfConsistency(Says("a", AWAY), field="label"), how, text="x")
    found = iter(["A", AWAY, "A", "A"])
    answer = await asked(SelfConsistency(Says("a", lambda _: next(found)), field="label"), how, text="x")
    assert (answer.label, answer.degraded) == ("A", "quorum:lost 1 of 4")
    with pytest.raises(NoAnswer):
        await asked(SelfConsistency(Says("a", ValueError("no")), field="label"), how, text="x")


async def test_it_has_a_deadline_and_can_ask_several_at_a_time() -> None:
    """As a team has."""
    program = SelfConsistency(Says("a", never), 3, field="label", side_by_side=3, deadline=0.02, name="try")
    with pytest.raises(TooFewAnswers, match="try 0 late; try 1 late; try 2 late"):
        await program.acall(text="x")
    assert len(ASKED) == 3


@both
async def test_the_caller_has_the_traces_with_the_programs_own_predictor(how: str) -> None:
    """Once for each sample."""
    program = SelfConsistency(dspy.Predict("text -> label"))
    with dspy.context(lm=Sampled("AAABB", temperature=1.0), trace=[]):
        await asked(program, how, text="x")
        assert [entry[0] for entry in dspy.settings.trace] == program.predictors() * 3
        assert [entry[2].label for entry in dspy.settings.trace] == ["A"] * 3
    with dspy.context(lm=Sampled("A", temperature=1.0), trace=None):
        assert (await asked(program, how, text="x")).label == "A"


@both
async def test_what_is_asked_in_it_keeps_its_traces_also_if_it_fails(how: str) -> None:
    """As optimisers look at them; what is no copy of a predictor stays what it is."""
    extra = dspy.Predict("text -> label")

    class Falls(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = dspy.Predict("text -> label")

        def forward(self, text: str) -> Any:
            self.inner(text=text)
            extra(text=text)
            raise AWAY

    program = SelfConsistency(Falls, 1)
    with dspy.context(lm=Sampled("A"), trace=[]):
        with pytest.raises(TooFewAnswers):
            await asked(program, how, text="x")
        assert [entry[0] for entry in dspy.settings.trace] == [program.predictors()[0], extra]


def test_it_is_a_program_with_the_parts_of_the_one_that_is_asked(tmp_path: Path) -> None:
    """Saved and loaded, and what is changed counts in the next call; the program that was given is not changed."""
    mine = dspy.Predict("text -> label")
    program, other = SelfConsistency(mine), SelfConsistency(mine)
    assert program.signature is program.predictors()[0].signature
    program.predictors()[0].demos = [{"text": "x", "label": "A"}]
    program.save(tmp_path / "samples.json")
    other.load(tmp_path / "samples.json")
    assert json.dumps(other.dump_state()) == json.dumps(program.dump_state())
    assert [name for name, _ in program.named_predictors()] == ["members['sample']"]
    assert program.asked_as("sample 1").demos == program.predictors()[0].demos
    assert mine.demos == []


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"samples": 0}, "samples"),
        ({"samples": 2.0}, "samples"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"side_by_side": 0}, "side_by_side"),
        ({"deadline": 0}, "deadline"),
        ({"name": ""}, "name"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(options: dict[str, Any], what: str) -> None:
    """When it is made."""
    with pytest.raises((BadTeam, BadOption), match=what):
        SelfConsistency(dspy.Predict("text -> label"), **options)
