"""What optimisers are given is checked before they begin: nothing wrong passes in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex.optimise.spec import BadOptimisationSpec, OptimisationSpec
from dspex.search import BadHypotheses, Hypothesis, Race, TeamSearch, TeamSIMBA
from dspex.search.items import stratified
from dspex.teleprompt import BEACON, SIMBA, BadTrainset, Durable
from dspex.testing.engine import ScriptedEngine, exact, scripted_lm, task
from supervision.errors import BadOption

EXAMPLES, LABELS = task(8)
NAN = float("nan")
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


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *[
            (kind, {name: value})
            for kind in (SIMBA, TeamSIMBA)
            for name in ("bsize", "num_candidates")
            for value in (0, -1, NAN, 1.5, True, "3", None, 10**400)
        ],
        *[
            (SIMBA, {name: value})
            for name in ("max_steps", "max_demos", "demo_input_field_maxlen")
            for value in (-1, NAN, "x", 1.5)
        ],
        *[
            (SIMBA, {name: value})
            for name in ("temperature_for_sampling", "temperature_for_candidates")
            for value in (0, -1, NAN, "x", None)
        ],
        *[
            (BEACON, {name: value})
            for name in ("num_trials", "num_candidates", "parallel")
            for value in (0, -1, NAN, 1.5, True, "3", None, 10**400)
        ],
        *[
            (BEACON, {name: value})
            for name in ("max_bootstrapped_demos", "max_labeled_demos", "prune")
            for value in (-1, NAN, "3", 1.5)
        ],
        (BEACON, {"instructions": {"self": "Look"}}),
        (BEACON, {"instructions": {"self": [3]}}),
        (BEACON, {"instructions": ["Look"]}),
        (BEACON, {"choose": 3}),
        (BEACON, {"choose": {"tempratur": True}}),
        (BEACON, {"variables": "x"}),
        (BEACON, {"variables": ["x"]}),
        (BEACON, {"variables": None}),
        (BEACON, {"constraints": {"x": 3}}),
        (BEACON, {"constraints": [3]}),
        (BEACON, {"history": [3]}),
        (BEACON, {"history": 3}),
        (BEACON, {"apply": 3}),
        (BEACON, {"sampler": 3}),
        (SIMBA, {"num_threads": 10**400}),
        (SIMBA, {"num_threads": 10_001}),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_when_it_is_given(kind: Any, options: dict[str, Any]) -> None:
    """Not only in compile; and nothing hangs, or goes on with something else."""
    name = next(iter(options))
    with pytest.raises(BadOption, match=name):
        kind(metric=exact, **options)


def test_a_training_set_that_is_too_small_is_told_as_it_is() -> None:
    for optimiser, size, why in (
        (BEACON(metric=exact), 0, "0 examples: at least 1 are needed; give some"),
        (SIMBA(metric=exact, bsize=4), 1, "1 example: at least 4 are needed; give more, or a smaller bsize"),
    ):
        with pytest.raises(BadTrainset, match=why):
            optimiser.compile(dspy.Predict("text -> label"), trainset=EXAMPLES[:size])


@pytest.mark.parametrize("kind", [SIMBA, TeamSIMBA, BEACON, lambda **options: Race([], **options)])
def test_a_misspelt_option_is_told_with_the_one_that_is_meant(kind: Any) -> None:
    with pytest.raises(BadOption, match=r"num_thread = 3: there is no such option \(did you mean 'num_threads'\?"):
        kind(metric=exact, num_thread=3)
    with pytest.raises(BadOption, match="there is no such option"):
        kind(metric=exact, nothing_like_it=3)
    with pytest.raises(BadOption, match=r"SIMBA: max_step = 3.*did you mean 'max_steps'"):
        SIMBA(metric=exact, max_step=3)


def test_a_metric_of_a_member_judges_settings() -> None:
    """So there have to be some."""
    settings = {"a": [dspy.Predict("text -> label")]}
    with pytest.raises(BadOption, match=r"member_metrics of b = .*there are such of a"):
        TeamSearch(settings, metric=exact, member_metrics={"b": exact})
    with pytest.raises(BadOption, match="there are such of none"):
        TeamSearch(metric=exact, member_metrics={"b": exact})
    for wrong in (3, NAN, [exact]):
        with pytest.raises(BadOption, match="member_metrics = "):
            TeamSearch(metric=exact, member_metrics=wrong)
