"""Guards: what stands around a call, alone and together. All on virtual time."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import Category, FoundationError, Severity, describe_error
from foundation.events import BreakerChanged
from foundation.protection import (
    BreakerOptions,
    Breakers,
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Hedge,
    Policy,
    ProtectionError,
    RateLimit,
    RateLimited,
    Retry,
    RetryBudget,
    TimeLimit,
    TimeLimitExceeded,
)
from foundation.protection.breaker import failed_if_raised
from foundation.store import JournalDamaged, TransactionConflict
from supervision import Actor, ChildSpec, MailboxFull, Request, Runtime, Supervisor, handle
from supervision import errors as kernel
from supervision.errors import BadOption
from supervision.testing import EventLog, advance, run, settled


class Work:
    """Does what it is told, one thing for each attempt: a result, an exception, or seconds to wait."""

    def __init__(self, runtime: Runtime, *script: Any) -> None:
        self.runtime = runtime
        self.script = list(script)
        self.attempts = 0
        self.running = 0
        self.most = 0

    async def __call__(self) -> Any:
        """Do the next thing."""
        self.attempts += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            what = self.script.pop(0) if self.script else "ok"
            if isinstance(what, float):
                await self.runtime.sleep(what)
                return what
            if isinstance(what, BaseException):
                raise what
            return what
        finally:
            self.running -= 1


@pytest.fixture
async def breakers(runtime: Runtime) -> Runtime:
    """A runtime with supervised breakers."""
    await runtime.spawn(Supervisor, [ChildSpec("breakers", Breakers, name="breakers")], max_restarts=100)
    return runtime


async def outcome(awaitable: Any) -> Any:
    """Return the result, or the type of the error."""
    try:
        return await awaitable
    except Exception as error:
        return type(error)


# -- circuit breakers ------------------------------------------------------------------------------------------------


OPTIONS = BreakerOptions(failures=3, window=10.0, reset_after=5.0, probes=2, successes=2)


async def test_a_breaker_opens_lets_probes_through_and_closes(breakers: Runtime) -> None:
    log = EventLog(breakers, BreakerChanged)
    breaker = CircuitBreaker(breakers, "mail", OPTIONS)
    work = Work(breakers, *[ConnectionError()] * 3)
    for _ in range(3):
        assert breaker.state == "closed"
        assert await outcome(breaker.call(work)) is ConnectionError
        await settled(breakers)
    assert breaker.state == "open"
    with pytest.raises(CircuitOpen, match="mail: calls fail too often; none is made for another 5 s") as caught:
        await breaker.call(work)
    assert caught.value.retry_after == 5.0
    assert work.attempts == 3
    await advance(5.0)
    assert await breaker.call(work) == "ok"
    await settled(breakers)
    assert breaker.state == "half_open"
    assert await breaker.call(work) == "ok"
    await settled(breakers)
    assert breaker.state == "closed"
    assert [(event.before, event.after) for event in log.of(BreakerChanged)] == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]


async def test_a_probe_that_fails_opens_it_again_and_probes_are_limited(breakers: Runtime) -> None:
    breaker = CircuitBreaker(breakers, "mail", OPTIONS)
    failing = Work(breakers, *[ConnectionError()] * 3)
    for _ in range(3):
        await outcome(breaker.call(failing))
    await advance(5.0)
    slow = Work(breakers, 1.0, 1.0)
    probes = [asyncio.ensure_future(breaker.call(slow)) for _ in range(2)]
    await advance(0.5)
    assert await outcome(breaker.call(slow)) is CircuitOpen
    assert slow.attempts == 2
    await asyncio.gather(*probes)
    await settled(breakers)
    assert breaker.state == "closed"
    again = CircuitBreaker(breakers, "mail")
    for _ in range(3):
        await outcome(again.call(Work(breakers, ConnectionError())))
    await advance(5.0)
    assert await outcome(again.call(Work(breakers, ConnectionError()))) is ConnectionError
    await settled(breakers)
    assert breaker.state == "open"


async def test_failures_count_for_as_long_as_the_window(breakers: Runtime) -> None:
    breaker = CircuitBreaker(breakers, "mail", OPTIONS)
    for _ in range(6):
        await outcome(breaker.call(Work(breakers, ConnectionError())))
        await advance(6.0)
    assert breaker.state == "closed"


async def test_what_is_a_failure_can_be_said(breakers: Runtime) -> None:
    def classify(result: Any, error: BaseException | None) -> Any:
        if isinstance(error, ValueError):
            return "ignore"
        return "failure" if error is not None or result == "bad" else "success"

    breaker = CircuitBreaker(breakers, "mail", BreakerOptions(failures=2), classify=classify)
    for _ in range(5):
        assert await outcome(breaker.call(Work(breakers, ValueError()))) is ValueError
        assert await breaker.call(Work(breakers, "good")) == "good"
    await settled(breakers)
    assert breaker.state == "closed"
    for _ in range(2):
        assert await breaker.call(Work(breakers, "bad")) == "bad"
    await settled(breakers)
    assert breaker.state == "open"


async def test_a_probe_that_says_nothing_gives_its_place_back(breakers: Runtime) -> None:
    breaker = CircuitBreaker(breakers, "mail", BreakerOptions(failures=1, reset_after=1.0))
    await outcome(breaker.call(Work(breakers, ConnectionError())))
    await advance(1.0)
    probe = asyncio.ensure_future(breaker.call(Work(breakers, 10.0)))
    await advance(0.1)
    probe.cancel()
    await asyncio.wait([probe])
    await settled(breakers)
    assert breaker.state == "half_open"
    assert await breaker.call(Work(breakers)) == "ok"
    await settled(breakers)
    assert breaker.state == "closed"
    assert failed_if_raised(None, asyncio.CancelledError()) == "ignore"


async def test_the_state_survives_a_restart_of_the_actor_and_probes_wait_for_it(breakers: Runtime) -> None:
    breaker = CircuitBreaker(breakers, "mail", BreakerOptions(failures=1, reset_after=1.0))
    await outcome(breaker.call(Work(breakers, ConnectionError())))
    await advance(1.0)
    breakers.whereis("breakers").kill()  # type: ignore[union-attr]
    assert await outcome(breaker.call(Work(breakers))) is CircuitOpen, "nobody watches over probes"
    await settled(breakers)
    probe = asyncio.ensure_future(breaker.call(Work(breakers, 10.0)))
    await advance(0.1)
    breakers.whereis("breakers").kill()  # type: ignore[union-attr]
    await settled(breakers)
    assert breaker.state == "half_open"
    assert await outcome(breaker.call(Work(breakers))) is CircuitOpen, "the probe is still under way"
    await advance(10.0)
    await probe
    assert breaker.state == "closed"


async def test_late_news_of_calls_that_began_before_it_opened_change_nothing(breakers: Runtime) -> None:
    breaker = CircuitBreaker(breakers, "mail", BreakerOptions(failures=1, reset_after=1.0))
    late = [asyncio.ensure_future(outcome(breaker.call(slow_failure(breakers)))) for _ in range(2)]
    await advance(0.0)
    await outcome(breaker.call(Work(breakers, ConnectionError())))
    await advance(1.0)
    assert await breaker.call(Work(breakers, 0.1)) == 0.1
    await advance(3.0)
    assert await asyncio.gather(*late) == [ConnectionError, ConnectionError]


def slow_failure(runtime: Runtime) -> Any:
    """Return what fails after a while."""

    async def fail() -> None:
        await runtime.sleep(0.5)
        raise ConnectionError

    return fail


async def test_breakers_find_their_own_name(runtime: Runtime) -> None:
    await runtime.spawn(Breakers)
    breaker = CircuitBreaker(runtime, "mail", BreakerOptions(failures=1))
    await outcome(breaker.call(Work(runtime, ConnectionError())))
    await settled(runtime)
    assert breaker.state == "open"


STEPS = st.lists(st.sampled_from(["ok", "fail", "wait"]), max_size=60)


@settings(max_examples=200)
@given(STEPS, st.integers(1, 3), st.integers(1, 3))
def test_a_breaker_does_what_a_plain_model_does(steps: list[str], failures: int, successes: int) -> None:
    """One call at a time; ``wait`` is three seconds, the window ten, the rest five."""

    async def main() -> None:
        async with Runtime(watchdog=None, reports=False) as runtime:
            await runtime.spawn(Breakers)
            options = BreakerOptions(failures=failures, window=10.0, reset_after=5.0, successes=successes)
            breaker = CircuitBreaker(runtime, "x", options)
            state, now, opened, good = "closed", 0, 0, 0
            failed: list[int] = []
            for step in steps:
                if step == "wait":
                    await advance(3.0)
                    now += 3
                    continue
                expected: Any = "ok" if step == "ok" else ConnectionError
                if state == "open" and now < opened + 5:
                    expected = CircuitOpen
                elif state == "open":
                    state, good = "half_open", 0
                if expected is not CircuitOpen:
                    failed = [at for at in failed if at > now - 10]
                    if step == "fail":
                        failed.append(now)
                        if state == "half_open" or len(failed) >= failures:
                            state, opened = "open", now
                    elif state == "half_open":
                        good += 1
                        if good >= successes:
                            state, failed = "closed", []
                work = Work(runtime, "ok" if step == "ok" else ConnectionError())
                assert await outcome(breaker.call(work)) == expected
                await settled(runtime)
                assert breaker.state == state

    run(main())


# -- rate, bulkhead, time --------------------------------------------------------------------------------------------


async def test_calls_beyond_the_rate_wait_or_are_refused(runtime: Runtime) -> None:
    waiting, refusing = RateLimit(2, 1.0), RateLimit(2, 1.0, wait=False)
    began = runtime.clock.time()
    await asyncio.gather(*(waiting.call(Work(runtime)) for _ in range(6)))
    assert runtime.clock.time() - began == pytest.approx(2.0, abs=0.01)
    results = [await outcome(refusing.call(Work(runtime))) for _ in range(3)]
    assert results == ["ok", "ok", RateLimited]
    await advance(1.0)
    assert await refusing.call(Work(runtime)) == "ok"


async def test_each_key_has_a_limit_of_its_own_and_not_all_are_remembered(runtime: Runtime) -> None:
    callers = ["a"]
    limit = RateLimit(1, 1.0, key=lambda: callers[-1], wait=False, keys=2)
    assert await outcome(limit.call(Work(runtime))) == "ok"
    assert await outcome(limit.call(Work(runtime))) is RateLimited
    for caller in "bc":
        callers.append(caller)
        assert await outcome(limit.call(Work(runtime))) == "ok"
    with pytest.raises(RateLimited, match="'c': more than 1 calls in 1 s"):
        await limit.call(Work(runtime))


async def test_a_bulkhead_limits_how_many_run_and_how_many_wait(runtime: Runtime) -> None:
    bulkhead = Bulkhead(2, waiting=1, name="disk")
    work = Work(runtime, *[1.0] * 10)
    tasks = [asyncio.ensure_future(outcome(bulkhead.call(work))) for _ in range(4)]
    results = await asyncio.gather(*tasks)
    assert results == [1.0, 1.0, 1.0, BulkheadFull]
    assert (work.attempts, work.most) == (3, 2)
    with pytest.raises(ConnectionError):
        await bulkhead.call(Work(runtime, ConnectionError()))
    blocked = [asyncio.ensure_future(bulkhead.call(work)) for _ in range(3)]
    await advance(0.1)
    with pytest.raises(BulkheadFull, match="disk: 2 calls are being made, and 1 wait"):
        await bulkhead.call(work)
    blocked[2].cancel()
    await advance(0.0)
    blocked.append(asyncio.ensure_future(bulkhead.call(work)))
    await asyncio.gather(*blocked, return_exceptions=True)
    assert await bulkhead.call(Work(runtime)) == "ok"


async def test_what_takes_too_long_is_cancelled_and_the_error_says_by_whom(runtime: Runtime) -> None:
    limit = TimeLimit(1.0)
    work = Work(runtime, 2.0)
    with pytest.raises(TimeLimitExceeded, match="longer than 1 s"):
        await limit.call(work)
    assert work.running == 0
    assert await limit.call(Work(runtime, 0.5)) == 0.5
    with pytest.raises(TimeoutError) as caught:
        await limit.call(Work(runtime, TimeoutError("its own")))
    assert type(caught.value) is TimeoutError


# -- retry and hedge -------------------------------------------------------------------------------------------------


async def test_what_may_succeed_later_is_tried_again(runtime: Runtime) -> None:
    retry = Retry(3, wait=1.0, jitter=0.0)
    began = runtime.clock.time()
    work = Work(runtime, ConnectionError(), ConnectionError(), "third")
    assert await retry.call(work) == "third"
    assert runtime.clock.time() - began == pytest.approx(3.0, abs=0.01)
    assert await outcome(retry.call(Work(runtime, *[ConnectionError()] * 3))) is ConnectionError
    hopeless = Work(runtime, ValueError())
    assert await outcome(retry.call(hopeless)) is ValueError
    assert hopeless.attempts == 1
    picky = Retry(2, wait=0.0, jitter=0.0, on=lambda error: isinstance(error, ValueError))
    assert await picky.call(Work(runtime, ValueError(), "second")) == "second"


async def test_retries_are_limited_by_a_budget_that_comes_back(runtime: Runtime) -> None:
    budget = RetryBudget(share=0.5, least=2, window=10.0)
    retry = Retry(5, wait=0.0, jitter=0.0, budget=budget)
    work = Work(runtime, *[ConnectionError()] * 20)
    assert await outcome(retry.call(work)) is ConnectionError
    assert work.attempts == 3
    assert await outcome(retry.call(work)) is ConnectionError
    assert work.attempts == 4
    for _ in range(8):
        await retry.call(Work(runtime))
    assert await outcome(retry.call(work)) is ConnectionError
    assert work.attempts == 9
    await advance(10.5)
    assert await outcome(retry.call(work)) is ConnectionError
    assert work.attempts == 12


async def test_a_second_attempt_is_made_beside_a_slow_one(runtime: Runtime) -> None:
    hedge = Hedge(1.0, most=3)
    began = runtime.clock.time()
    work = Work(runtime, 10.0, 0.5)
    assert await hedge.call(work) == 0.5
    assert runtime.clock.time() - began == pytest.approx(1.5, abs=0.01)
    assert (work.attempts, work.running) == (2, 0)
    quick = Work(runtime, 0.1)
    assert await hedge.call(quick) == 0.1
    assert quick.attempts == 1
    failing = Work(runtime, ConnectionError(), KeyError(), "third")
    assert await hedge.call(failing) == "third"
    assert await outcome(hedge.call(Work(runtime, *[KeyError()] * 3))) is KeyError
    late = Work(runtime, 10.0, KeyError(), KeyError())
    assert await hedge.call(late) == 10.0
    stopped = Work(runtime, 10.0, 10.0)
    task = asyncio.ensure_future(hedge.call(stopped))
    await advance(1.5)
    task.cancel()
    await asyncio.wait([task])
    assert (stopped.attempts, stopped.running) == (2, 0)


# -- together --------------------------------------------------------------------------------------------------------


async def test_a_policy_has_one_order(breakers: Runtime) -> None:
    """Each attempt of a retry is seen by the breaker, which refuses the rest; the fallback has the last word."""
    made_good: list[Any] = []
    policy = Policy(
        fallback=lambda error: type(error).__name__,
        compensate=made_good.append,
        time_limit=TimeLimit(100.0),
        retry=Retry(5, wait=1.0, jitter=0.0, on=lambda error: not isinstance(error, CircuitOpen)),
        breaker=CircuitBreaker(breakers, "x", BreakerOptions(failures=3)),
        rate_limit=RateLimit(100),
        bulkhead=Bulkhead(1),
        attempt_limit=TimeLimit(1.0),
        hedge=Hedge(0.4),
    )
    work = Work(breakers, *[5.0] * 20)
    assert await policy.call(work) == "CircuitOpen"
    assert work.attempts == 6, "three attempts of the retry, each hedged"
    assert [type(error) for error in made_good] == [CircuitOpen]


async def test_a_policy_without_anything_lets_everything_through(runtime: Runtime) -> None:
    assert await Policy().call(Work(runtime)) == "ok"
    with pytest.raises(KeyError):
        await Policy().call(Work(runtime, KeyError()))
    done: list[str] = []

    async def compensate(error: Exception) -> None:
        done.append(type(error).__name__)

    with pytest.raises(KeyError):
        await Policy(compensate=compensate).call(Work(runtime, KeyError()))
    assert done == ["KeyError"]

    async def fallback(error: Exception) -> str:
        return "instead"

    assert await Policy(fallback=fallback).call(Work(runtime, KeyError())) == "instead"


class Ask(Request[str], frozen=True):
    """A question."""

    text: str


class Server(Actor):
    """Fails the first time."""

    def __init__(self) -> None:
        self.asked = 0

    @handle
    def ask(self, request: Ask) -> str:
        """Answer."""
        self.asked += 1
        return f"{request.text} {self.asked}"


async def test_guards_stand_around_functions_and_addresses(runtime: Runtime) -> None:
    @Retry(3, wait=0.0, jitter=0.0)
    async def flaky(count: list[int], *, fail: int) -> str:
        """Fail some times."""
        count.append(1)
        if len(count) <= fail:
            raise ConnectionError
        return "done"

    assert await flaky([], fail=2) == "done"
    assert flaky.__name__ == "flaky"
    server = await runtime.spawn(Server, name="server")
    guarded = Bulkhead(1).around(runtime.name("server"))
    assert await guarded.call(Ask("hello")) == "hello 1"
    assert guarded.address.call(Ask("x")) is not None
    server.kill()
    assert await outcome(Retry(2, wait=0.0, jitter=0.0).around(server).call(Ask("x"), None)) is kernel.NoProcess


@pytest.mark.parametrize(
    "make",
    [
        lambda runtime: CircuitBreaker(runtime, "x", BreakerOptions(failures=0)),
        lambda runtime: RateLimit(0),
        lambda runtime: RateLimit(1, -1),
        lambda runtime: RateLimit(1, keys=0),
        lambda runtime: Bulkhead(0),
        lambda runtime: Bulkhead(1, waiting=-1),
        lambda runtime: TimeLimit(float("nan")),
        lambda runtime: TimeLimit("1"),  # type: ignore[arg-type]
        lambda runtime: TimeLimit(True),
        lambda runtime: Retry(0),
        lambda runtime: Retry(wait=-1),
        lambda runtime: RetryBudget(window=0),
        lambda runtime: RetryBudget(share=-1),
        lambda runtime: Hedge(0),
        lambda runtime: Hedge(1, most=0),
    ],
)
def test_options_that_make_no_sense_are_named(runtime: Runtime, make: Any) -> None:
    with pytest.raises(BadOption, match="give"):
        make(runtime)


# -- errors ----------------------------------------------------------------------------------------------------------


def test_every_error_of_the_platform_says_what_helps() -> None:
    def below(kind: type[FoundationError]) -> list[type[FoundationError]]:
        return [kind, *(one for child in kind.__subclasses__() for one in below(child))]

    kinds = below(FoundationError)
    assert len(kinds) > 20
    for kind in kinds:
        assert isinstance(kind.category, Category)
        assert isinstance(kind.severity, Severity)
    assert TransactionConflict.retryable
    assert not JournalDamaged.retryable
    assert issubclass(CircuitOpen, ProtectionError)


@pytest.mark.parametrize(
    ("error", "category", "retryable"),
    [
        (TransactionConflict("t", 1), Category.TRANSIENT, True),
        (BadOption("a", 1, "b"), Category.CONFIG, False),
        (kernel.NoProcess(None, 1), Category.TRANSIENT, True),  # type: ignore[arg-type]
        (kernel.NotRunning("x"), Category.SYSTEM, False),
        (TimeoutError(), Category.TRANSIENT, True),
        (ConnectionError(), Category.EXTERNAL, True),
        (MemoryError(), Category.RESOURCE, False),
        (sqlite3.DatabaseError(), Category.SYSTEM, False),
        (KeyError(), Category.DATA, False),
        (ZeroDivisionError(), Category.SYSTEM, False),
    ],
)
def test_any_error_is_described(error: Exception, category: Category, retryable: bool) -> None:
    description = describe_error(error)
    assert (description.category, description.retryable) == (category, retryable)
    assert description.remedy
    assert Severity.LOW < Severity.CRITICAL
    assert MailboxFull.__mro__


async def test_a_rate_limit_whose_key_is_a_coroutine_says_so() -> None:
    async def key() -> str:
        return "never awaited"

    async def attempt() -> None:
        raise AssertionError("not called")

    with pytest.raises(BadOption, match="give a plain function, not an async one"):
        await RateLimit(5, key=key).run(attempt)  # type: ignore[arg-type]
