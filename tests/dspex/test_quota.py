"""What may be used in a time: checked against a list of all that was ever taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.models.gateway.quota import PARTS, Quota

PER = 60.0
LIMIT = 10.0

#: Pause before a request, the amount expected of it, and which part of that it uses.
STEPS = st.lists(
    st.tuples(st.one_of(st.floats(0.0, 0.2), st.floats(0.0, 2 * PER)), st.floats(0.1, 2 * LIMIT), st.floats(0.0, 1.0)),
    max_size=60,
)


def counted(log: list[tuple[float, float]], since: float, until: float) -> float:
    """Return the sum of what was taken after one time, and up to another."""
    return sum(amount for at, amount in log if since < at <= until)


@given(STEPS)
def test_in_no_period_is_more_used_than_the_limit(steps: list[tuple[float, float, float]]) -> None:
    """As long as no more is used than was expected; and what is let in early enough is not turned away."""
    quota = Quota(LIMIT, PER)
    log: list[tuple[float, float]] = []
    now = 100.0
    for pause, most, share in steps:
        now += pause
        expected = min(most, LIMIT)
        wait = quota.wait(now, expected)
        if wait > 0:
            # A list of everything, which forgets at the last moment at which this may, has no room either.
            assert counted(log, now - PER - PER / PARTS, now) + expected > LIMIT * (1 - 1e-6)
            assert wait <= PER + 1e-6
            continue
        taken = quota.take(now, expected)
        used = expected * share
        quota.settle(taken, used - expected)
        log.append((now, used))
        assert counted(log, now - PER, now) <= LIMIT * (1 + 1e-6)
        assert quota.left(now) <= LIMIT - counted(log, now - PER, now) + 1e-6


@given(STEPS, st.floats(0.1, LIMIT))
def test_after_the_wait_there_is_room(steps: list[tuple[float, float, float]], amount: float) -> None:
    quota = Quota(LIMIT, PER)
    now = 100.0
    for pause, expected, _ in steps:
        now += pause
        quota.take(now, expected)
    wait = quota.wait(now, amount)
    if wait > 0.1:
        assert quota.wait(now + wait - 0.1, amount) > 0
    assert quota.wait(now + wait + 1e-6, amount) == 0.0


def test_an_amount_above_the_limit_is_let_in_when_nothing_else_counts() -> None:
    quota = Quota(10.0, PER)
    assert quota.wait(0.0, 25.0) == 0.0
    quota.take(0.0, 25.0)
    assert quota.wait(1.0, 0.5) == pytest.approx(59.0)
    assert quota.left(1.0) == 0.0
    assert quota.left(60.0) == 10.0


def test_what_is_settled_after_it_was_forgotten_counts_no_more() -> None:
    quota = Quota(10.0, PER)
    taken = quota.take(0.0, 5.0)
    assert quota.used(61.0) == 0.0
    quota.settle(taken, 100.0)
    assert quota.used(61.0) == 0.0
