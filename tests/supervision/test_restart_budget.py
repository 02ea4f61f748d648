"""The restart budget: a sliding window, closed at its old end."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision.errors import BadBudget
from supervision.supervisors.restarts import BudgetState, RestartBudget


class Naive:
    """The rule of section 2.5 of the reference, word by word, over a list that is never pruned."""

    def __init__(self, allowed: int, seconds: float) -> None:
        self.allowed = allowed
        self.seconds = seconds
        self.times: list[float] = []

    def within(self, now: float) -> int:
        """How many are in the window."""
        return sum(time >= now - self.seconds for time in self.times)

    def spend(self, now: float) -> bool:
        """Count one."""
        self.times.append(now)
        return self.within(now) <= self.allowed


#: Quarters of a second are exact, so that the edge of the window is hit often; any other number is not excluded.
STEPS = st.one_of(st.integers(0, 12).map(lambda n: n / 4), st.floats(0.0, 5.0))


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    st.integers(0, 5),
    st.one_of(st.integers(1, 8).map(lambda n: n / 2), st.floats(0.001, 10.0)),
    st.lists(st.tuples(STEPS, st.sampled_from(["spend", "spend", "state"])), max_size=40),
)
def test_a_budget_decides_as_a_list_of_times_does(allowed: int, length: float, steps: list[tuple[float, str]]) -> None:
    """Whatever the gaps, asked in between or not, each decision and each count is that of the naive rule."""
    budget, naive = RestartBudget(allowed, length), Naive(allowed, length)
    now = 0.0
    for gap, what in steps:
        now += gap
        if what == "spend":
            assert budget.spend(now) is naive.spend(now)
        assert budget.state(now) == BudgetState(naive.within(now), allowed, length)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.integers(0, 20), st.integers(0, 30))
def test_in_one_instant_exactly_the_allowed_ones_pass(allowed: int, number: int) -> None:
    """The first R are allowed, the others are not."""
    budget = RestartBudget(allowed, 5.0)
    assert [budget.spend(7.0) for _ in range(number)] == [n < allowed for n in range(number)]


@pytest.mark.parametrize(("gap", "allowed"), [(4.999, False), (5.0, False), (5.001, True), (50.0, True)])
def test_the_window_is_closed_at_its_old_end(gap: float, allowed: bool) -> None:
    """A restart that is exactly as old as the window still counts."""
    budget = RestartBudget(1, 5.0)
    assert budget.spend(100.0)
    assert budget.spend(100.0 + gap) is allowed


def test_a_refused_restart_counts_too() -> None:
    """As in OTP, the one that was too many is in the window like any other."""
    budget = RestartBudget(0, 5.0)
    assert not budget.spend(1.0)
    assert budget.state(1.0) == BudgetState(1, 0, 5.0)
    assert budget.state(6.5) == BudgetState(0, 0, 5.0)


@pytest.mark.parametrize("value", [-1, 0.5, 3.0, "3", None, True, False, math.inf, [3]])
def test_the_number_of_restarts_is_a_whole_number(value: Any) -> None:
    """Anything else is refused, and named; there is no infinity, as in OTP."""
    with pytest.raises(BadBudget, match="give a whole number, 0 or more") as caught:
        RestartBudget(value, 5.0)
    assert (caught.value.field, caught.value.value) == ("max_restarts", value)


@pytest.mark.parametrize("value", [0, 0.0, -1, -0.001, "5", None, True, math.inf, -math.inf, math.nan, [5]])
def test_the_length_of_the_window_is_finite_and_more_than_nothing(value: Any) -> None:
    """Anything else is refused, and named."""
    with pytest.raises(BadBudget, match="give a finite number of seconds, more than 0") as caught:
        RestartBudget(1, value)
    assert caught.value.field == "max_seconds"
    assert caught.value.value is value


@pytest.mark.parametrize("value", [1, 0.001, 5, 1e9])
def test_the_length_of_the_window_may_be_any_positive_number(value: float) -> None:
    """Whole or not; the state tells it as it counts."""
    assert RestartBudget(0, value).state(0.0) == BudgetState(0, 0, float(value))
