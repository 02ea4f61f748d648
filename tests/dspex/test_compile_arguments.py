"""What optimisers are given is checked before they begin: nothing wrong passes in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex.optimise.spec import BadOptimisationSpec, OptimisationSpec
from dspex.search import BadHypotheses, Hypothesis, Race
from dspex.search.items import stratified
from dspex.teleprompt import BEACON, SIMBA, Durable
from dspex.testing.engine import ScriptedEngine, exact, scripted_lm, task
from supervision.errors import BadOption

EXAMPLES, LABELS = task(8)
OPTIMISERS = [
    SIMBA(metric=exact, bsize=2),
    BEACON(metric=exact),
    Race([], metric=exact),
    Durable(dspy.BootstrapFewShot(metric=exact)),
]


@pytest.fixture
def engine() -> ScriptedEngine:
    """A language model that nobody has asked."""
    return ScriptedEngine(LABELS)


@pytest.mark.parametrize("optimiser", OPTIMISERS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"student": 5}, "student = 5: give a dspy.Module"),
        ({"student": dspy.Predict}, "student = .*give a dspy.Module"),
        ({"trainset": "abc"}, "trainset = 'abc': give a list of dspy.Example"),
        ({"trainset": None}, "trainset = None: give a list"),
        ({"trainset": {"text": "a"}}, "trainset = .*give a list"),
        ({"trainset": iter(EXAMPLES)}, "trainset = .*give a list"),
        ({"trainset": [*EXAMPLES, {"text": "a"}]}, r"trainset = \{.*each is a dspy.Example"),
        ({"sed": 3}, "sed = 3: .* takes trainset, seed"),
    ],
)
def test_what_is_no_argument_of_compile_is_refused(
    optimiser: Any, given: dict[str, Any], why: str, engine: ScriptedEngine
) -> None:
    """Before any model is asked."""
    arguments = {"student": dspy.Predict("text -> label"), "trainset": EXAMPLES, **given}
    with dspy.context(lm=scripted_lm(engine)), pytest.raises(BadOption, match=why):
        optimiser.compile(arguments.pop("student"), **arguments)
    assert engine.calls == 0


@pytest.mark.parametrize("name", ["valset", "testset"])
@pytest.mark.parametrize("given", ["abc", [1]])
def test_other_examples_are_looked_at_as_well(name: str, given: Any, engine: ScriptedEngine) -> None:
    race = Race([dspy.Predict("text -> label")], metric=exact)
    with dspy.context(lm=scripted_lm(engine)), pytest.raises(BadOption, match=name):
        race.compile(dspy.Predict("text -> label"), trainset=EXAMPLES, **{name: given})
    assert engine.calls == 0


def test_those_of_dspy_take_what_they_take_without_us() -> None:
    assert Durable(dspy.BootstrapFewShot(metric=exact)).takes == ("teacher",)
    assert Durable(dspy.InferRules(metric=exact)).takes == ("teacher", "valset")

    class Own(dspy.teleprompt.Teleprompter):  # type: ignore[misc]
        def compile(self, student: Any, **whatever: Any) -> Any:
            raise NotImplementedError

    assert Durable(Own()).takes is None


@pytest.mark.parametrize("given", [5, None, "MIPROv2", dspy.MIPROv2])
def test_what_is_no_optimiser_cannot_be_made_durable(given: Any) -> None:
    with pytest.raises(BadOption, match="give one of DSPy's, made"):
        Durable(given)


@pytest.mark.parametrize("given", [5, "", "  ", b"runs", True])
def test_a_log_dir_is_the_path_of_a_folder(given: Any) -> None:
    with pytest.raises(BadOption, match=r"log_dir = .*give the path of a folder"):
        SIMBA(metric=exact, log_dir=given)


def test_what_an_optimiser_does_not_take_is_refused_in_a_file(tmp_path: Path) -> None:
    spec = {
        "program": "tests.dspex.search.stall:program",
        "metric": "dspex.testing.engine:exact",
        "trainset": {"path": "train.csv", "inputs": ["text"]},
        "optimiser": "dspex.teleprompt:SIMBA",
    }
    assert OptimisationSpec.of("x", spec).compile == {}
    with pytest.raises(BadOptimisationSpec, match="SIMBA takes trainset, seed"):
        OptimisationSpec.of("x", {**spec, "compile": {"valset": []}})


def test_strata_are_a_field_that_there_is() -> None:
    with pytest.raises(BadOption, match="strata = 'nope': no example has this field; they have label, text"):
        stratified(EXAMPLES, 0, "nope")
    assert sorted(stratified(EXAMPLES, 0, "label")) == [*range(8)]


@pytest.mark.parametrize("name", ["", 5, [1], None])
def test_a_hypothesis_has_a_name(name: Any) -> None:
    with pytest.raises(BadHypotheses, match="a name is wanted first"):
        Hypothesis(name, dspy.Predict("text -> label"))
