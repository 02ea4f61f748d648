"""The one policy by which what has failed is tried again."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import dspy
import pytest

from dspex._compat import lm15
from dspex.workflow.retry import Failures, RetryPolicy, is_refusal, is_transient, retry_after
from dspex.workflow.suspension import Suspension
from supervision import Backoff, Runtime
from supervision.errors import BadOption, BadTime

STEADY = Backoff(0.5, 30.0, jitter=0.0)


class Asking(ConnectionError):
    """An error that says when to come back."""

    def __init__(self, retry_after: Any) -> None:
        self.retry_after = retry_after


def test_T086_the_pauses_double_up_to_half_a_minute_and_what_the_model_asks_for_counts_more() -> None:
    retry, chance = RetryPolicy(attempts=9, backoff=STEADY), random.Random(1)
    assert [retry.pause(n, ConnectionError(), chance) for n in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert retry.pause(1, Asking(7), chance) == 7.0
    assert retry.pause(5, Asking("7"), chance) == 7.0


def test_jitter_only_makes_pauses_shorter_and_comes_from_the_chance_that_is_given() -> None:
    pauses = [[RetryPolicy().pause(n, OSError(), random.Random(seed)) for n in range(1, 9)] for seed in (1, 1, 2)]
    assert pauses[0] == pauses[1] != pauses[2]
    assert all(0 < pause <= 30.0 for pause in pauses[0])


@pytest.mark.parametrize("hint", [True, None, "soon", float("nan"), float("inf"), -1, 10**400, "1e999", [7]])
def test_a_hint_that_is_no_time_is_no_hint(hint: Any) -> None:
    assert retry_after(Asking(hint)) is None


def test_failures_of_the_infrastructure_are_told_from_those_of_the_program() -> None:
    transient = (ConnectionResetError(), TimeoutError(), dspy.LMTransportError("gone"), dspy.LMRateLimitError("slow"))
    final = (ValueError(), KeyError(), FileNotFoundError(), PermissionError(), dspy.LMInvalidRequestError("bad"))
    assert [is_transient(error) for error in transient] == [True] * 4
    assert [is_transient(error) for error in final] == [False] * 5


def test_attempts_and_patience_end_it() -> None:
    assert RetryPolicy(attempts=2).again(1, 0.0, 9.0)
    assert not RetryPolicy(attempts=2).again(2, 0.0, 9.0)
    assert RetryPolicy(attempts=None).again(1000, 1e9, 30.0)
    patient = RetryPolicy(attempts=None, patience=10.0)
    assert patient.again(3, 5.0, 5.0)
    assert not patient.again(3, 5.0, 5.1)


async def test_a_model_that_is_refused_is_no_outcome_and_is_not_waited_for(runtime: Runtime) -> None:
    refused = (lm15.AuthError("wrong key"), dspy.LMBillingError("no money"), lm15.UnsupportedModelError("no model"))
    assert [(is_transient(error), is_refusal(error)) for error in refused] == [(True, True)] * 3
    assert not is_refusal(dspy.LMTransportError("gone"))
    assert Failures(RetryPolicy(attempts=None), runtime).next_pause(refused[0]) is None


@pytest.mark.parametrize("options", [{"attempts": 0}, {"attempts": True}, {"backoff": 1}, {"on": 1}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadOption):
        RetryPolicy(**options)
    with pytest.raises(BadTime):
        RetryPolicy(patience=float("nan"))


async def test_without_a_class_of_its_own_a_suspension_gives_up_with_the_last_failure(runtime: Runtime) -> None:
    """What is said of an outage is said by whoever stands on it; see the tests of the optimisers' gate."""
    suspension = Suspension(runtime, RetryPolicy(attempts=3, backoff=STEADY))
    calls = 0

    async def gone() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError(calls)

    with pytest.raises(ConnectionError, match="3"):
        await suspension.run(gone)
    calls = 0

    async def back() -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ConnectionError
        return calls

    assert await suspension.run(back) == 2
    assert (suspension.outages, suspension.failed_calls, suspension.suspended) == (2, 4, None)
    assert runtime.clock.time() == pytest.approx(2.0)
    assert asyncio.get_running_loop().time() == pytest.approx(2.0)


async def test_failures_are_counted_and_timed_from_the_first_one_until_the_policy_ends_them(runtime: Runtime) -> None:
    failures = Failures(RetryPolicy(attempts=3, backoff=STEADY), runtime)
    await runtime.sleep(10.0)
    pauses = []
    while (pause := failures.next_pause(ConnectionError())) is not None:
        pauses.append(pause)
        await runtime.sleep(pause)
    assert pauses == [0.5, 1.0]
    assert (failures.count, failures.since, failures.seconds) == (3, pytest.approx(10.0), pytest.approx(1.5))
