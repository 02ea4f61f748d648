"""`survives` gives no alarm without a cause, no assurance without a reason, and shows the failure that it has found."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from supervision import Actor, BadOption, ChildSpec, Message, Request, Runtime, Supervisor, handle
from supervision.events import Exited, GaveUp, Started
from supervision.testing import (
    BadChaosPlan,
    Chaos,
    ChaosPlan,
    ChaosStep,
    Crash,
    FailStart,
    Kill,
    NeverEnds,
    NotSurvived,
    Standstill,
    Victims,
    shrink,
    survives,
)
from supervision.testing.fault_injection.shrink import kind_of

KILLS = ChaosPlan(tuple(ChaosStep(float(n), Kill(), "/app/a") for n in range(1, 8)), mode="unlimited")


async def start(runtime: Runtime) -> None:
    """Start a service of two actors."""
    await runtime.spawn(Supervisor, [ChildSpec(n, Actor) for n in "ab"], name="app", max_restarts=100)


async def use(runtime: Runtime, chaos: Chaos) -> None:
    """Let ten seconds pass."""
    await runtime.sleep(10)


def counting(verdict: Any) -> Any:
    """Return a use that counts deaths, and raises what is said of their number."""

    async def judged(runtime: Runtime, chaos: Chaos) -> None:
        deaths: list[Any] = []
        runtime.subscribe(deaths.append, Exited)
        await runtime.sleep(10)
        verdict(len(deaths))

    return judged


def failure(use: Any, plan: ChaosPlan = KILLS, start: Any = start, **options: Any) -> NotSurvived:
    """Return how a service has failed."""
    with pytest.raises(NotSurvived) as caught:
        survives(start, use, plan=plan, seeds=[3], **options)
    return caught.value


# -- the same failure --------------------------------------------------------------------------------------------------


def test_a_smaller_plan_that_fails_otherwise_is_not_taken() -> None:
    def verdict(deaths: int) -> None:
        if deaths > 2:
            raise LookupError(f"{deaths} orders lost")
        assert deaths == 0, "another one: sent twice"

    found = failure(counting(verdict))
    assert isinstance(found.cause, LookupError)
    assert len(found.plan.steps) == 3


def test_what_is_shown_is_what_the_smallest_plan_does() -> None:
    def verdict(deaths: int) -> None:
        assert deaths < 2, f"{deaths} deaths"

    found = failure(counting(verdict))
    assert str(found).startswith("seed 3: AssertionError: 2 deaths\n")
    assert str(found).count("Exited /app/a") <= 2
    assert found.__cause__ is found.cause
    again = failure(counting(verdict), found.plan)
    assert str(again) == str(found)


def test_failures_of_one_kind_have_one_class_and_one_message_but_for_numbers() -> None:
    assert kind_of(ValueError("3 of 7 at 0x7f00")) == kind_of(ValueError("12 of 8 at 0x1"))
    assert kind_of(ValueError("x")) != kind_of(TypeError("x"))
    assert kind_of(ExceptionGroup("group", [ValueError("x1")])) == kind_of(ValueError("x1"))
    assert kind_of(ValueError("lost\nbecause")) == kind_of(ValueError("lost\nfor another reason"))
    assert kind_of(AssertionError()) == ("AssertionError", "")


def test_failures_that_say_nothing_are_the_same_if_they_come_from_one_line() -> None:
    def bare(deaths: int) -> None:
        if deaths > 2:
            raise AssertionError
        if deaths:
            raise AssertionError

    assert len(failure(counting(bare)).plan.steps) == 3


async def test_shrinking_ends_after_its_tries() -> None:
    async def always(plan: ChaosPlan) -> bool:
        return True

    assert len((await shrink(KILLS, always, tries=1)).steps) == 4


# -- the whole life of a tree ------------------------------------------------------------------------------------------


def test_what_is_wrong_at_the_first_start_is_seen() -> None:
    async def wrong(runtime: Runtime) -> None:
        await start(runtime)
        ref = runtime.find("/app/a")
        runtime.events.emit(Started, ref=ref, path="/app/a", kind="Actor", name=None)

    assert "pairing: " in str(failure(use, ChaosPlan(), wrong))


def test_what_is_wrong_when_the_tree_is_stopped_in_the_end_is_seen() -> None:
    class Last(Actor):
        trap_exit = True

        def terminate(self, reason: object) -> None:
            ref = self.runtime.find("/app")
            self.runtime.events.emit(Started, ref=ref, path="/app", kind="Supervisor", name=None)

    async def wrong(runtime: Runtime) -> None:
        await runtime.spawn(Supervisor, [ChildSpec("last", Last)], name="app")

    assert "started twice" in str(failure(use, ChaosPlan(), wrong))


class Work(Message, frozen=True):
    """Something to be done."""


class Helped(Actor):
    """Has a task for a helper."""

    seconds: float | None = None

    @handle
    def work(self, message: Work) -> None:
        """Let a task do it."""
        waits = asyncio.Event().wait() if self.seconds is None else self.runtime.sleep(self.seconds)
        self.task = asyncio.get_running_loop().create_task(waits)


class Soon(Helped):
    """One whose tasks end soon."""

    seconds = 20.0


@pytest.mark.parametrize("kind", [Helped, Soon])
def test_a_task_that_outlives_everything_is_a_leak_and_one_that_ends_soon_is_none(kind: type[Helped]) -> None:
    async def start(runtime: Runtime) -> None:
        await runtime.spawn(Supervisor, [ChildSpec("a", kind, name="a")], name="app")

    async def use(runtime: Runtime, chaos: Chaos) -> None:
        runtime.name("a").cast(Work())
        await runtime.sleep(1)

    if kind is Soon:
        survives(start, use, seeds=[3])
    else:
        found = failure(use, ChaosPlan(), start)
        assert "leak: a task" in str(found)
        assert "made by /app/a; it runs on after its actor" in str(found)


# -- no assurance without a reason -------------------------------------------------------------------------------------


def test_a_plan_without_victims_is_an_error_of_the_plan() -> None:
    with pytest.raises(BadChaosPlan, match="no supervised actor of this runtime"):
        survives(start, use, victims=Victims("/nobody/*"))
    with pytest.raises(BadChaosPlan, match=r"no actor was ever at '/app/c'; there were /app, /app/a, /app/b"):
        survives(start, use, plan=ChaosPlan((ChaosStep(1.0, Kill(), "/app/c"),)))


def test_runs_in_which_nothing_has_gone_wrong_prove_nothing() -> None:
    async def strict(runtime: Runtime) -> None:
        await runtime.spawn(Supervisor, [ChildSpec("a", Actor)], name="app", max_restarts=0)

    with pytest.raises(BadChaosPlan, match="0 faults waited in vain, 20 were held back"):
        survives(strict, use, seeds=[1, 2], steps=10)
    with pytest.raises(BadChaosPlan, match="20 faults waited in vain, 0 were held back"):
        survives(start, use, seeds=[1, 2], steps=10, faults=[FailStart()])
    with pytest.raises(BadOption, match="at least one"):
        survives(start, use, seeds=[])


# -- whatever is raised ------------------------------------------------------------------------------------------------


class Never(Request[None], frozen=True):
    """A request that is never answered."""


class Silent(Actor):
    """Never answers."""

    @handle
    def never(self, request: Never) -> None:
        """Put it off."""
        self.defer_reply()


def test_a_deadlock_is_a_failure_with_actors_seed_and_plan() -> None:
    async def start(runtime: Runtime) -> None:
        await runtime.spawn(Supervisor, [ChildSpec("a", Silent, name="a")], name="app")

    async def use(runtime: Runtime, chaos: Chaos) -> None:
        await runtime.name("a").call(Never(), timeout=None)

    plan = ChaosPlan((ChaosStep(1.0, Crash(), "/app/a"),), seed=3)
    found = failure(use, plan, start)
    assert isinstance(found.cause, NeverEnds)
    assert str(found).startswith("seed 3: NeverEnds: use() has not returned 3600 virtual seconds after the last fault")
    assert "/app/a: owes 1 answers; task" in str(found)
    assert "in use, for the answer of /app/a to Never()" in str(found)
    found = failure(use, plan, start, limit=None)
    assert isinstance(found.cause, Standstill)
    assert str(found).startswith("seed 3: Standstill: nothing can happen any more")
    assert "/app/a: owes 1 answers; task" in str(found)
    assert "Started /app/a" in str(found)
    assert found.plan.steps == ()


def test_what_pytest_fail_raises_is_a_failure_and_what_ends_a_program_is_not() -> None:
    def verdict(deaths: int) -> None:
        pytest.fail("it is not as it should be")

    assert "seed 3: Failed: it is not as it should be" in str(failure(counting(verdict)))

    def skips(deaths: int) -> None:
        pytest.skip("not here")

    with pytest.raises(pytest.skip.Exception):
        survives(start, counting(skips), plan=KILLS, seeds=[1])


def test_a_service_that_does_not_start_has_not_survived() -> None:
    async def broken(runtime: Runtime) -> None:
        raise OSError("no database")

    found = failure(use, KILLS, broken)
    assert "seed 3: OSError: no database" in str(found)
    assert found.plan.steps == ()


def test_that_a_supervisor_gave_up_is_no_violation() -> None:
    async def start(runtime: Runtime) -> None:
        await runtime.spawn(Supervisor, [ChildSpec("a", Actor)], name="app", max_restarts=0)

    gave_up: list[Any] = []

    async def use(runtime: Runtime, chaos: Chaos) -> None:
        runtime.subscribe(gave_up.append, GaveUp)
        await runtime.sleep(2)

    survives(start, use, plan=ChaosPlan((ChaosStep(1.0, Kill(), "/app/a"),), mode="unlimited"), seeds=[1])
    assert len(gave_up) == 1


# -- wrong arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"seeds": 3},
        {"seeds": ["a"]},
        {"steps": 0},
        {"steps": 2.5},
        {"seconds": -1},
        {"seconds": float("nan")},
        {"mode": "gentle"},
        {"victims": "/app/*"},
        {"faults": [Kill]},
        {"faults": Kill()},
        {"tries": -1},
        {"plan": "{}"},
    ],
    ids=str,
)
def test_a_wrong_argument_is_no_failure_of_the_service(wrong: dict[str, Any]) -> None:
    with pytest.raises((BadOption, BadChaosPlan), match=next(iter(wrong))):
        survives(start, use, **{"seeds": [0], **wrong})


def test_a_plan_without_faults_is_a_run_without_faults() -> None:
    assert survives(start, use, plan=ChaosPlan(), seeds=[0])[0].planned == 0
