"""Variables, and the spaces they make."""

from __future__ import annotations

from random import Random
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.variables import (
    BadConfiguration,
    BadVariable,
    BadVariableValue,
    Choice,
    CompositeVariable,
    Float,
    Integer,
    ModuleChoice,
    Space,
    Variable,
)

KINDS: dict[str, Any] = {
    "float": Float(name="x", low=-1.0, high=2.0, default=0.0),
    "float in steps": Float(name="x", low=0.0, high=1.0, step=0.25, default=0.5),
    "float by magnitude": Float(name="x", low=0.001, high=10.0, log=True, default=1.0),
    "integer": Integer(name="x", low=1, high=9, default=2),
    "integer in steps": Integer(name="x", low=0, high=10, step=5, default=5),
    "integer by magnitude": Integer(name="x", low=1, high=1000, log=True, default=10),
    "choice": Choice(name="x", choices={"a": 1, "b": 2}, default="a"),
    "module": ModuleChoice(name="x", choices={"Predict": object(), "Chain": object()}, default="Chain"),
}


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 1000))
def test_what_is_drawn_is_taken(kind: str, seed: int) -> None:
    """Whatever a variable draws, or Optuna suggests for it, it takes, and does not change."""
    variable = KINDS[kind]
    drawn = variable.draw(Random(seed))
    assert variable.check(drawn) == pytest.approx(drawn) if kind.startswith("float") else variable.check(drawn) == drawn
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    suggested = variable.suggest(trial)
    assert variable.check(suggested) == (pytest.approx(suggested) if kind.startswith("float") else suggested)


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        ("float", 3.0, "from -1 to 2"),
        ("float", "1", "a finite number"),
        ("float", True, "a finite number"),
        ("float", float("nan"), "a finite number"),
        ("integer", 2.5, "a whole number"),
        ("choice", "c", "choose one of 'a', 'b'"),
    ],
)
def test_what_is_not_taken(kind: str, value: Any, why: str) -> None:
    """The error names the variable, the value and what would do."""
    with pytest.raises(BadVariableValue, match=why) as caught:
        KINDS[kind].check(value)
    assert (caught.value.variable, caught.value.value) == ("x", value) or value != value


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Float(name="x", low=1.0, high=1.0), "below high"),
        (lambda: Float(name="x", low=0.0, high=1.0, log=True), "low above 0"),
        (lambda: Float(name="x", low=0.0, high=1.0, step=0.0), "above 0"),
        (lambda: Float(name="x", low=0.0, high=1.0, step=0.3), "does not lead from 0.0 to 1.0"),
        (lambda: Float(name="x", low=0.0, high=1.0, default=2.0), "from 0 to 1"),
        (lambda: Choice(name="x", choices={}), "at least one"),
        (lambda: Choice(name="x", choices={"a": 1}, default="b"), "choose one of"),
    ],
)
def test_variables_that_cannot_be(make: Any, why: str) -> None:
    """They are refused where they are made."""
    with pytest.raises((BadVariable, BadVariableValue), match=why):
        make()


def test_a_variable_of_ones_own_says_what_it_takes() -> None:
    """The base leaves everything to its kinds."""
    bare = Variable(name="x", default=1)
    with pytest.raises(NotImplementedError):
        bare.check(1)
    with pytest.raises(NotImplementedError):
        bare.draw(Random(1))
    with pytest.raises(NotImplementedError):
        bare.suggest(None)


def space(**options: Any) -> Space:
    """A model, its heat if it is the large one, and what both cost."""
    model = Choice(name="model", choices={"small": 1, "large": 5}, default="small")
    heat = Float(name="heat", low=0.0, high=2.0, default=0.0, when=lambda found: found["model"] == "large")
    cost = CompositeVariable(name="cost", of=("model", "extra"), compute=lambda model, extra: len(model) + extra)
    extra = CompositeVariable(name="extra", of=("heat",), compute=lambda heat: heat * 2)
    return Space([model, heat], [cost, extra], **options)


def test_a_whole_configuration() -> None:
    """Defaults, conditions and what follows, whatever the order in which it was declared."""
    found = space()
    assert found.defaults == {"model": "small", "heat": 0.0, "extra": 0.0, "cost": 5.0}
    assert found.complete({"model": "large", "heat": 1.0})["cost"] == 7.0
    assert found.complete({"heat": 1.0})["heat"] == 0.0
    assert found.chosen(found.defaults) == {"model": "small"}
    assert found.chosen({"model": "large", "heat": 1.0}) == {"model": "large", "heat": 1.0}


def test_all_problems_are_told_at_once() -> None:
    """Unknown names, wrong values; and, if these are right, the constraints."""
    found = space(constraints={"cheap": lambda values: values["cost"] < 6})
    with pytest.raises(BadConfiguration) as caught:
        found.complete({"model": "huge", "speed": 1})
    assert len(caught.value.problems) == 2
    with pytest.raises(BadConfiguration, match="cheap does not hold"):
        found.complete({"model": "large", "heat": 2.0})


@given(seed=st.integers(0, 100))
def test_draws_meet_the_constraints(seed: int) -> None:
    """Or say that they cannot."""
    found = space(constraints={"cheap": lambda values: values["cost"] < 6})
    assert found.draw(Random(seed))["cost"] < 6
    with pytest.raises(BadConfiguration, match="never does not hold"):
        space(constraints={"never": lambda _: False}).draw(Random(seed))


def test_suggestions_ask_only_for_what_counts() -> None:
    """A variable whose condition does not hold is not asked for."""
    trial = optuna.trial.FixedTrial({"model": "small"})
    assert space().suggest(trial) == {"model": "small", "heat": 0.0}
    both = optuna.trial.FixedTrial({"model": "large", "heat": 1.5})
    assert space().suggest(both) == {"model": "large", "heat": 1.5}


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Space([KINDS["float"], KINDS["integer"]]), "two of that name"),
        (lambda: Space([Float(name="y", low=0.0, high=1.0)]), "give a default"),
        (lambda: Space([Choice(name="y", choices={"a": 1})]), "give a default"),
        (lambda: Space([], [CompositeVariable(name="y", of=("z",), compute=str)]), "'z', which is not there"),
        (lambda: Space([KINDS["float"]], [CompositeVariable(name="x", of=("x",), compute=str)]), "two of that name"),
        (
            lambda: Space(
                [],
                [
                    CompositeVariable(name="y", of=("z",), compute=str),
                    CompositeVariable(name="z", of=("y",), compute=str),
                ],
            ),
            "follows from itself",
        ),
    ],
)
def test_spaces_that_cannot_be(make: Any, why: str) -> None:
    """They are refused where they are made."""
    with pytest.raises(BadVariable, match=why):
        make()
