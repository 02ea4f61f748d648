"""Workflows: what was done is not done again, whatever dies; what is not known is never guessed."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import dspy
import msgspec
import pytest

from agents.durability import MemoryStorage, StorageConflict, StorageError
from dspex.workflow.errors import (
    BadStepKey,
    CannotUndo,
    DuplicateStep,
    JournalFull,
    NotEncodable,
    NoUsableCheckpoint,
    OtherRun,
    StepCancelled,
    StepChanged,
    StepFailed,
    StepTrimmed,
    UndoFailed,
    UnsupportedVersion,
    WorkflowError,
    WorkflowSuspended,
)
from dspex.workflow.events import CheckpointUnreadable, StepEnded, StepRetried
from dspex.workflow.metrics import WorkflowCounts
from dspex.workflow.retry import RetryPolicy
from dspex.workflow.steps import current_step
from dspex.workflow.workflow import Workflow
from foundation.telemetry.collectors import collect_samples
from supervision import Backoff, Runtime
from supervision.errors import BadOption
from supervision.events import Event

STEADY = RetryPolicy(attempts=9, backoff=Backoff(0.5, 30.0, jitter=0.0))


class Log:
    """A storage, and the runs that are opened on it; what was opened before is left as a crash leaves it."""

    def __init__(self, runtime: Runtime, storage: MemoryStorage | None = None) -> None:
        self.runtime = runtime
        self.storage = storage or MemoryStorage()
        self.done: Counter[str] = Counter()

    async def open(self, parameters: dict[str, Any] | None = None, **options: Any) -> Workflow:
        """Open the run, as after a crash."""
        options = {"retry": STEADY, **options}
        return await Workflow.open(self.runtime, self.storage, "test", parameters, **options)

    def work(self, name: str, value: Any = None) -> Callable[..., Any]:
        """Return work that is counted."""

        async def work(*args: Any) -> Any:
            self.done[name] += 1
            return value

        return work


class Failing(MemoryStorage):
    """A storage whose writes can be made to fail: before anything is written, or after it was."""

    def __init__(self) -> None:
        super().__init__()
        self.fail_at: int | None = None
        self.after = False
        self.writes = 0

    async def write(self, *args: Any, **kwargs: Any) -> None:
        self.writes += 1
        failing = self.fail_at is not None and self.writes >= self.fail_at
        if failing and not self.after:
            raise StorageError("disk full")
        await super().write(*args, **kwargs)
        if failing:
            raise StorageError("the answer was lost")


@pytest.fixture
def log(runtime: Runtime) -> Log:
    return Log(runtime)


@pytest.fixture
def told(runtime: Runtime) -> list[Event]:
    events: list[Event] = []
    runtime.subscribe(events.append, StepEnded, StepRetried, CheckpointUnreadable)
    return events


# -- done once -------------------------------------------------------------------------------------------------


async def test_T075_steps_that_end_in_any_order_are_not_done_again(log: Log) -> None:
    names = ["a", "b", "c"]

    async def gathered(flow: Workflow, seed: int) -> list[Any]:
        order = random.Random(seed).sample(names, 3)

        async def work(name: str) -> str:
            await log.runtime.sleep(order.index(name))
            log.done[name] += 1
            return name * 2

        return await asyncio.gather(*(flow.step("work", work, name, key=name) for name in names))

    first = await gathered(await log.open(), 1)
    for seed in range(2, 5):
        flow = await log.open()
        assert flow.resumed
        assert await gathered(flow, seed) == first == ["aa", "bb", "cc"]
    assert log.done == {"a": 1, "b": 1, "c": 1}


async def test_T075_what_was_done_before_a_crash_is_kept_and_the_rest_is_done(log: Log) -> None:
    async def body(flow: Workflow) -> list[Any]:
        async def slow(name: str) -> str:
            await log.runtime.sleep({"a": 3, "b": 1, "c": 2}[name])
            log.done[name] += 1
            return name

        return await asyncio.gather(*(flow.step("work", slow, name, key=name) for name in "abc"))

    crashed = asyncio.ensure_future(body(await log.open()))
    await log.runtime.sleep(2.5)
    crashed.cancel()
    await asyncio.wait([crashed])
    assert log.done == {"b": 1, "c": 1}
    assert await body(await log.open()) == ["a", "b", "c"]
    assert log.done == {"a": 1, "b": 1, "c": 1}


async def test_T077_a_key_is_used_once_in_an_incarnation(log: Log) -> None:
    flow = await log.open()
    assert await flow.step("score", log.work("x", 1), key=("a", 1)) == 1
    with pytest.raises(DuplicateStep, match=r"score\[\"a\",1\]"):
        await flow.step("score", log.work("x", 1), key=("a", 1))
    with pytest.raises(DuplicateStep):
        await flow.now("score", key=("a", 1))
    assert await flow.step("score", log.work("x", 2), key=("a", 2)) == 2
    assert log.done["x"] == 2


async def test_T077_also_while_the_first_one_is_running(log: Log) -> None:
    flow = await log.open()

    async def slow() -> int:
        await log.runtime.sleep(1)
        return 1

    first = asyncio.ensure_future(flow.step("a", slow))
    await asyncio.wait([first], timeout=0.5)
    with pytest.raises(DuplicateStep):
        await flow.step("a", slow)
    assert await first == 1


async def test_T078_after_a_crash_only_the_rest_of_a_sleep_is_waited_for(log: Log) -> None:
    clock = log.runtime.clock
    began = clock.time()
    crashed = asyncio.ensure_future((await log.open()).sleep("wait", 60))
    await asyncio.wait([crashed], timeout=40)
    crashed.cancel()
    await asyncio.wait([crashed])
    await (await log.open()).sleep("wait", 60)
    assert clock.time() - began == pytest.approx(60)
    await (await log.open()).sleep("wait", 60)
    assert clock.time() - began == pytest.approx(60)


async def test_a_sleep_can_have_an_end_and_be_longer_than_a_look_at_the_wall_clock(log: Log) -> None:
    flow, clock = await log.open(), log.runtime.clock
    began = clock.time()
    await flow.sleep("until", until=clock.wall_time() + 7201)
    await flow.sleep("past", until=clock.wall_time() - 5)
    assert clock.time() - began == pytest.approx(7201)
    for options in ({}, {"seconds": 1, "until": 2}, {"seconds": -1}, {"seconds": float("nan")}):
        with pytest.raises(BadOption):
            await flow.sleep("bad", **options)


@pytest.mark.parametrize("after", [False, True])
async def test_T079_what_is_in_the_journal_is_not_run_again_though_nobody_was_told(
    runtime: Runtime, after: bool
) -> None:
    """The process ends after the write of the result, and before the step has returned; or just before the write."""
    storage = Failing()
    log = Log(runtime, storage)
    flow = await log.open()
    storage.fail_at, storage.after = storage.writes + 2, after
    with pytest.raises(StorageError):
        await flow.step("a", log.work("a", 1))
    storage.fail_at = None
    assert await (await log.open()).step("a", log.work("a", 1)) == 1
    assert log.done["a"] == (1 if after else 2)


async def test_that_a_step_begins_need_only_outlive_the_process_and_what_it_returned_the_machine_too(log: Log) -> None:
    """A step waits for the disk once; one that is cut off by a power failure is done again in either way."""
    flushes: list[tuple[str, bool]] = []

    class Watched(MemoryStorage):
        async def write(self, *args: Any, **kwargs: Any) -> None:
            entry = msgspec.json.decode(kwargs["entries"][0][1])
            if entry["kind"] == "step":
                flushes.append((entry["value"]["state"], kwargs["flush"]))
            await super().write(*args, **kwargs)

    flow = await Workflow.open(log.runtime, Watched(), "test")
    await flow.step("a", log.work("a"))
    assert flushes == [("running", False), ("done", True)]


async def test_nothing_is_begun_that_is_not_in_the_journal_and_nothing_goes_on_without_it(runtime: Runtime) -> None:
    storage = Failing()
    log = Log(runtime, storage)
    flow = await log.open()
    storage.fail_at = storage.writes + 1
    with pytest.raises(StorageError):
        await flow.step("a", log.work("a"))
    storage.fail_at = None
    for broken in (flow.step("b", log.work("b")), flow.now("n"), flow.checkpoint(1)):  # none of them begins
        with pytest.raises(StorageError, match="disk full"):
            await broken
    assert not log.done
    assert await (await log.open()).step("a", log.work("a", 1)) == 1


async def test_T083_of_two_coordinators_on_one_log_the_second_ends_and_nothing_is_lost(log: Log) -> None:
    await log.open()
    one, two = await log.open(), await log.open()
    assert await one.step("a", log.work("one", "one")) == "one"
    with pytest.raises(StorageConflict):
        await two.step("a", log.work("two", "two"))
    with pytest.raises(StorageConflict):
        await two.step("b", log.work("two", "two"))
    assert await one.step("b", log.work("one", "one")) == "one"
    assert log.done == {"one": 2}
    assert await (await log.open()).step("b", log.work("two")) == "one"


async def test_a_step_knows_a_token_that_stays_and_the_number_of_its_attempt(log: Log) -> None:
    seen: list[tuple[str, int]] = []

    async def work(fail: bool = False) -> None:
        seen.append((current_step().token, current_step().attempt))
        if len(seen) < 3:
            raise ConnectionError

    with pytest.raises(WorkflowSuspended):
        await (await log.open()).step("a", work, retry=RetryPolicy(attempts=2))
    await (await log.open()).step("a", work)
    await (await log.open()).step("b", work)
    assert [attempt for _, attempt in seen] == [1, 2, 3, 1]
    assert seen[0][0] == seen[2][0] != seen[3][0]
    with pytest.raises(WorkflowError, match="in no step"):
        current_step()


async def test_a_plain_function_and_what_is_called_later_are_work_too(log: Log) -> None:
    flow = await log.open()
    assert await flow.step("sum", sum, [1, 2]) == 3
    assert await flow.step("later", lambda: log.runtime.sleep(1)) is None
    with pytest.raises(BadOption, match="step bad: work"):
        await flow.step("bad", 5)  # type: ignore[arg-type]
    with pytest.raises(BadOption, match="step bad: retry"):
        await flow.step("bad", sum, [1], retry=5)  # type: ignore[arg-type]


# -- keys, arguments, values ---------------------------------------------------------------------------------------


async def test_a_step_with_other_arguments_is_refused_before_anything_is_run(log: Log) -> None:
    assert await (await log.open()).step("a", log.work("a", 1), {"x": 1, "y": 2}) == 1
    flow = await log.open()
    with pytest.raises(StepChanged, match="begin a new log, or forget") as caught:
        await flow.step("a", log.work("a", 2), {"x": 2})
    assert caught.value.was != caught.value.now
    assert log.done["a"] == 1
    assert await flow.step("a", log.work("a", 2), {"y": 2, "x": 1}) == 1
    await flow.forget("a")
    assert await flow.step("a", log.work("a", 2), {"x": 2}) == 2
    assert await (await log.open()).step("a", log.work("a", 3), {"x": 2}) == 2


async def test_also_a_step_that_was_running_is_refused_with_other_arguments(log: Log) -> None:
    with pytest.raises(WorkflowSuspended):
        await (await log.open()).step("a", _gone, 1, retry=RetryPolicy(attempts=1))
    with pytest.raises(StepChanged):
        await (await log.open()).step("a", _gone, 2)


async def _gone(*args: Any) -> None:
    raise ConnectionError("gone")


async def test_forgetting_is_refused_for_what_is_under_way_and_is_nothing_for_what_is_not_there(log: Log) -> None:
    flow = await log.open()
    running = asyncio.ensure_future(flow.step("a", log.runtime.sleep, 1))
    await asyncio.wait([running], timeout=0.5)
    with pytest.raises(DuplicateStep):
        await flow.forget("a")
    await flow.forget("never")
    await running
    first = await flow.now("time")
    await flow.forget("time")
    await log.runtime.sleep(1)
    assert await flow.now("time") > first


@pytest.mark.parametrize("name", ["", "a/b", "a[b", 'a"b', "a\nb", 5, None])
async def test_a_name_that_could_be_taken_for_another_is_refused(log: Log, name: Any) -> None:
    with pytest.raises(BadStepKey):
        await (await log.open()).step(name, log.work("a"))
    assert not log.done


@pytest.mark.parametrize("key", [1.5, None, [1], ("a", None), (True,), "\ud800", 2**70, {}])
async def test_a_key_that_is_not_the_same_everywhere_is_refused(log: Log, key: Any) -> None:
    with pytest.raises(BadStepKey):
        await (await log.open()).step("a", log.work("a"), key=key)
    assert not log.done


class Hostile:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    __hash__ = None  # type: ignore[assignment]


def endless() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


BAD = [float("nan"), float("inf"), {"x": [float("-inf")]}, object(), Hostile(), 2**70, "\ud800", endless(), lambda: 1]


@pytest.mark.parametrize("value", BAD, ids=range(len(BAD)))
async def test_what_would_not_come_back_is_refused_at_the_step(log: Log, value: Any) -> None:
    flow = await log.open()
    with pytest.raises(NotEncodable, match="a: its arguments"):
        await flow.step("a", log.work("a"), value)
    assert not log.done
    with pytest.raises(NotEncodable, match="a: what it returned"):
        await flow.step("a", log.work("a", value))
    with pytest.raises(NotEncodable, match="the checkpoint"):
        await flow.checkpoint(value)
    with pytest.raises(NotEncodable, match="its parameters"):
        await log.open({"x": value})


class Verdict(msgspec.Struct, frozen=True):
    by_example: dict[int, float]
    tags: frozenset[str] = frozenset()


async def test_values_come_back_the_same_the_first_time_and_from_the_journal(log: Log) -> None:
    for _ in range(2):
        flow = await log.open()
        assert await flow.step("plain", log.work("a", (1, {"b": (2,)}))) == [1, {"b": [2]}]
        typed = await flow.step("typed", log.work("b", Verdict({3: 0.5}, frozenset("xy"))), type=Verdict)
        assert typed == Verdict({3: 0.5}, frozenset("xy"))
    assert log.done == {"a": 1, "b": 1}
    with pytest.raises(NotEncodable, match="str keys"):
        await flow.step("keys", log.work("c", {1: 2}))
    with pytest.raises(NotEncodable, match="its value"):
        await (await log.open()).step("typed", log.work("b"), type=int)


async def test_sets_in_arguments_have_one_fingerprint(log: Log) -> None:
    words = [f"word {n}" for n in range(100)]
    await (await log.open()).step("a", log.work("a"), set(words))
    await (await log.open()).step("a", log.work("a"), dict.fromkeys(reversed(words)).keys() | set())
    assert log.done["a"] == 1


async def test_parts_of_a_run_have_names_of_their_own(log: Log) -> None:
    flow = await log.open()
    for number in (1, 2):
        part = flow.scope("round", number)
        assert await part.step("merge", log.work("m", number)) == number
        assert await part.scope("deep").now("merge") > 0
    assert await flow.step("merge", log.work("m", 3)) == 3
    again = await log.open()
    assert await again.scope("round", 2).step("merge", log.work("m")) == 2
    with pytest.raises(BadStepKey):
        flow.scope("a/b")


async def test_another_set_of_parameters_is_another_run(log: Log) -> None:
    await log.open({"seed": 1, "folder": "x"})
    with pytest.raises(OtherRun, match="folder: 'x' there, 'y' here; seed: 1 there, None here"):
        await log.open({"folder": "y"})
    assert (await log.open({"seed": 1, "folder": "x"})).resumed


async def test_whether_a_run_is_resumed_is_decided_when_it_is_opened(log: Log) -> None:
    first = await log.open()
    await first.step("a", log.work("a"))
    assert not first.resumed
    assert (await log.open()).resumed


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"limit": 1.5}, {"keep": 0}, {"retry": 5}, {"runtime": 5}, {"name": ""}, {"name": "a/b"}]
)
async def test_options_that_make_no_sense_are_refused(log: Log, options: dict[str, Any]) -> None:
    given = {"runtime": log.runtime, "name": "test", **options}
    with pytest.raises((BadOption, BadStepKey)):
        await Workflow.open(given.pop("runtime"), log.storage, given.pop("name"), **given)
    assert await log.storage.keys() == []


# -- errors ----------------------------------------------------------------------------------------------------


async def test_an_error_of_the_program_is_final_and_is_the_same_when_the_run_is_repeated(
    log: Log, told: list[Event]
) -> None:
    def bad() -> None:
        log.done["bad"] += 1
        raise ValueError("no such label")

    for _ in range(2):
        with pytest.raises(StepFailed, match="a has failed: ValueError: no such label") as caught:
            await (await log.open()).step("a", bad)
        assert (caught.value.kind, caught.value.message) == ("ValueError", "no such label")
    assert log.done["bad"] == 1
    assert [event.state for event in told] == ["failed"]  # type: ignore[attr-defined]


async def test_an_error_whose_text_cannot_be_had_is_recorded_all_the_same(log: Log) -> None:
    class Odd(ValueError):
        def __str__(self) -> str:
            raise RuntimeError

    def odd() -> None:
        raise Odd

    def surrogate() -> None:
        raise ValueError("\ud800")

    flow = await log.open()
    with pytest.raises(StepFailed, match=r"cannot be had \(RuntimeError\)"):
        await flow.step("odd", odd)
    with pytest.raises(StepFailed, match="ValueError: \\?"):
        await flow.step("surrogate", surrogate)


async def test_T086_the_infrastructure_is_tried_again_and_is_never_a_result(log: Log, told: list[Event]) -> None:
    pauses = [0.5, 1, 2, 4, 8, 16, 30, 30]

    async def work() -> str:
        log.done["work"] += 1
        if log.done["work"] <= 8:
            raise ConnectionError("gone")
        return "back"

    began = log.runtime.clock.time()
    assert await (await log.open()).step("a", work) == "back"
    assert log.runtime.clock.time() - began == pytest.approx(sum(pauses))
    assert [event.next for event in told if isinstance(event, StepRetried)] == pauses
    ended = told[-1]
    assert isinstance(ended, StepEnded)
    assert (ended.state, ended.attempt, ended.seconds) == ("done", 9, pytest.approx(sum(pauses)))


async def test_T086_what_the_model_asks_for_counts_more(log: Log, told: list[Event]) -> None:
    class Busy(ConnectionError):
        retry_after = 7

    async def work() -> None:
        log.done["work"] += 1
        if log.done["work"] == 1:
            raise Busy

    await (await log.open()).step("a", work)
    assert [event.next for event in told if isinstance(event, StepRetried)] == [7.0]


async def test_when_the_policy_is_over_the_run_is_suspended_and_can_be_gone_on_with(log: Log) -> None:
    flow = await log.open()
    assert await flow.step("before", log.work("before", 1)) == 1
    with pytest.raises(WorkflowSuspended, match=r"3 times.*ConnectionError: gone.*to go on") as caught:
        await flow.step("a", _gone, retry=RetryPolicy(attempts=3, backoff=STEADY.backoff))
    assert (caught.value.attempts, caught.value.seconds) == (3, pytest.approx(1.5))
    again = await log.open()
    assert await again.step("before", log.work("before", 2)) == 1
    assert await again.step("a", log.work("a", "back")) == "back"


async def test_a_model_that_is_refused_suspends_the_run_at_once_and_is_no_failure_of_the_step(log: Log) -> None:
    """Once the key is right, the run is gone on with."""

    def refused() -> str:
        raise dspy.LMAuthError("wrong key")

    with pytest.raises(WorkflowSuspended, match=r"1 times.*LMAuthError: wrong key") as caught:
        await (await log.open()).step("a", refused)
    assert caught.value.seconds == 0.0
    assert await (await log.open()).step("a", log.work("a", "back")) == "back"


async def test_a_policy_of_an_own_says_what_is_worth_another_try(log: Log) -> None:
    def odd() -> int:
        log.done["odd"] += 1
        if log.done["odd"] == 1:
            raise ValueError
        return 1

    retry = RetryPolicy(on=lambda error: isinstance(error, ValueError))
    assert await (await log.open()).step("a", odd, retry=retry) == 1

    def never(error: Exception) -> bool:
        raise RuntimeError("the policy is wrong")

    with pytest.raises(RuntimeError, match="the policy is wrong"):
        await (await log.open()).step("b", _gone, retry=RetryPolicy(on=never))
    assert await (await log.open()).step("b", log.work("b", 2)) == 2


async def test_a_step_inside_of_a_step_fails_it_and_is_not_tried_again(log: Log) -> None:
    flow = await log.open(retry=RetryPolicy(on=lambda error: True))

    async def outer() -> None:
        await flow.step("inner", _raise, retry=RetryPolicy(on=lambda error: False))

    with pytest.raises(StepFailed, match="outer has failed: StepFailed: inner has failed: KeyError"):
        await flow.step("outer", outer)


def _raise() -> None:
    raise KeyError("x")


async def test_a_cancellation_from_outside_records_nothing(log: Log) -> None:
    """Whoever is cut off, by a time-out or the end of the process, leaves a step that is done by the next one."""
    flow = await log.open()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await flow.step("a", log.runtime.sleep, 60)

    async def odd() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await flow.step("b", odd)
    again = await log.open()
    assert await again.step("b", log.work("b", 1)) == 1


# -- time, chance, identity ------------------------------------------------------------------------------------


async def test_time_chance_and_identity_are_what_they_were_at_first(log: Log) -> None:
    async def ask(flow: Workflow) -> tuple[Any, ...]:
        numbers = await flow.random("numbers")
        return (
            await flow.now("time"),
            [numbers.random() for _ in range(3)],
            await flow.id("id"),
            await flow.id("id", key=2),
        )

    first = await ask(await log.open())
    await log.runtime.sleep(10)
    assert await ask(await log.open()) == first
    assert first[2] != first[3]
    assert len(first[2]) == 32
    other = Log(log.runtime)
    assert (await ask(await other.open()))[1:] != first[1:]


async def test_a_run_takes_the_version_of_the_code_with_which_it_began(log: Log) -> None:
    old = await log.open()
    await old.step("old", log.work("old", 1))
    resumed = await log.open()
    assert await resumed.version("change", 2) == 0
    assert await resumed.step("old", log.work("old", 2)) == 1
    # What is recorded stays, also when nothing lies ahead any more.
    assert await (await log.open()).version("change", 3) == 0
    with pytest.raises(UnsupportedVersion, match="has version 0, and this code supports 1 to 3"):
        await (await log.open()).version("change", 3, oldest=1)
    fresh = Log(log.runtime)
    flow = await fresh.open()
    assert await flow.version("change", 2) == 2
    with pytest.raises(UnsupportedVersion, match="supports 0 to 1"):
        await (await fresh.open()).version("change", 1)
    for options in ({"latest": 0}, {"latest": 1, "oldest": -1}):
        with pytest.raises(BadOption):
            await flow.version("bad", **options)


async def test_a_run_that_has_not_come_that_far_takes_the_latest_version(log: Log) -> None:
    old = await log.open()
    await old.step("before", log.work("a", 1))
    resumed = await log.open()
    await resumed.step("before", log.work("a", 1))
    assert await resumed.version("change", 2) == 2


async def test_a_step_that_was_running_lies_ahead_too(log: Log) -> None:
    with pytest.raises(WorkflowSuspended):
        await (await log.open()).step("old", _gone, retry=RetryPolicy(attempts=1))
    assert await (await log.open()).version("change", 1) == 0


# -- cancelling and undoing ------------------------------------------------------------------------------------


async def test_a_cancelled_run_cancels_its_steps_newest_first_and_for_good(log: Log, told: list[Event]) -> None:
    flow = await log.open()
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await log.runtime.sleep(60)
        finally:
            await log.runtime.sleep(1)
            ended.append(name)

    assert await flow.step("done", log.work("done", 1)) == 1
    tasks = [asyncio.ensure_future(flow.step("work", work, name, key=name)) for name in "abc"]
    tasks.append(asyncio.ensure_future(flow.step("gone", _gone)))
    tasks.append(asyncio.ensure_future(flow.sleep("wait", 60)))
    await asyncio.wait(tasks, timeout=10)
    await flow.cancel("too dear")
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StepCancelled] * 5
    assert ended == ["c", "b", "a"]
    assert {event.state for event in told if isinstance(event, StepEnded)} == {"done", "cancelled"}
    again = await log.open()
    assert await again.step("done", log.work("done", 2)) == 1
    for step in (again.step("work", work, "a", key="a"), again.step("new", log.work("new")), again.sleep("wait", 60)):
        with pytest.raises(StepCancelled, match="too dear"):
            await step
    with pytest.raises(StepCancelled, match="new was cancelled"):
        await (await log.open()).step("new", log.work("new"))
    assert log.done == {"done": 1}


async def test_a_step_that_ends_all_the_same_is_done(log: Log) -> None:
    flow = await log.open()

    async def stubborn() -> str:
        try:
            await log.runtime.sleep(60)
        except asyncio.CancelledError:
            return "done"
        raise AssertionError

    task = asyncio.ensure_future(flow.step("a", stubborn))
    await asyncio.wait([task], timeout=1)
    await flow.cancel()
    assert await task == "done"


async def test_a_step_inside_of_a_cancelled_one_cancels_it_as_well(log: Log) -> None:
    flow = await log.open()

    async def outer() -> None:
        await flow.step("inner", log.runtime.sleep, 60)

    task = asyncio.ensure_future(flow.step("outer", outer))
    await asyncio.wait([task], timeout=1)
    await flow.cancel("why not")
    with pytest.raises(StepCancelled, match="inner was cancelled"):
        await task
    with pytest.raises(StepCancelled, match="outer was cancelled: why not"):
        await (await log.open()).step("outer", outer)


async def test_a_step_that_is_just_being_written_down_is_cancelled_before_it_begins(log: Log) -> None:
    class Slow(MemoryStorage):
        async def write(self, *args: Any, **kwargs: Any) -> None:
            await log.runtime.sleep(1)
            await super().write(*args, **kwargs)

    log.storage = Slow()
    flow = await log.open()
    cancelling = asyncio.ensure_future(flow.cancel())
    await asyncio.wait([cancelling], timeout=0.5)
    task = asyncio.ensure_future(flow.step("a", log.work("a")))
    await cancelling
    with pytest.raises(StepCancelled):
        await task
    assert not log.done


async def test_a_step_cannot_cancel_its_own_run(log: Log) -> None:
    flow = await log.open()
    with pytest.raises(WorkflowError, match="inside of a step"):
        await flow.step("a", flow.cancel)
    with pytest.raises(BadOption):
        await flow.cancel("")


async def test_what_was_done_is_undone_newest_first_and_once(log: Log) -> None:
    undone: list[Any] = []

    async def book(what: str) -> str:
        await log.runtime.sleep({"car": 3, "hotel": 1, "flight": 2}[what])
        return f"{what} 1"

    async def body(flow: Workflow) -> None:
        await asyncio.gather(
            *(flow.step("book", book, what, key=what, undo=undone.append) for what in ("car", "hotel", "flight"))
        )
        await flow.step("pay", _raise, undo=undone.append)

    for _ in range(2):
        with pytest.raises(StepFailed, match="pay has failed"):
            await (await log.open()).run(body)
        assert undone == ["car 1", "flight 1", "hotel 1"]


async def test_undoing_goes_on_where_it_was(log: Log) -> None:
    async def body(flow: Workflow, undo: Callable[[Any], Any]) -> None:
        for name in "abc":
            await flow.step(name, log.work(name, name), undo=undo)
        await flow.step("d", _raise)

    undone: list[str] = []

    async def away(value: str) -> None:
        if value == "b":
            raise ConnectionError
        undone.append(value)

    with pytest.raises(WorkflowSuspended):
        await (await log.open(retry=RetryPolicy(attempts=1))).run(lambda flow: body(flow, away))
    assert undone == ["c"]
    with pytest.raises(StepFailed):
        await (await log.open()).run(lambda flow: body(flow, undone.append))
    assert undone == ["c", "b", "a"]


async def test_a_compensation_that_fails_keeps_no_other_from_being_done(log: Log) -> None:
    undone: list[str] = []

    def undo(value: str) -> None:
        if value == "b":
            raise ValueError("cannot")
        undone.append(value)

    flow = await log.open()
    for name in "abc":
        await flow.step(name, log.work(name, name), undo=undo)
    for _ in range(2):
        with pytest.raises(UndoFailed, match="b has failed: ValueError: cannot"):
            await flow.undo()
        assert undone == ["c", "a"]


async def test_nothing_is_undone_as_long_as_not_all_compensations_are_known(log: Log) -> None:
    undone: list[str] = []
    first = await log.open()
    for name in "ab":
        await first.step(name, log.work(name, name), undo=undone.append)
    again = await log.open()
    await again.step("a", log.work("a"), undo=undone.append)
    with pytest.raises(CannotUndo, match="not undone: b had undo"):
        await again.undo()
    assert undone == []
    await again.step("b", log.work("b"), undo=undone.append)
    await again.undo()
    assert undone == ["b", "a"]


async def test_a_forgotten_step_is_not_undone_and_a_cancelled_run_is(log: Log) -> None:
    undone: list[str] = []
    flow = await log.open()
    for name in "ab":
        await flow.step(name, log.work(name, name), undo=undone.append)
    await flow.forget("b")
    await flow.cancel()
    await flow.undo()
    assert undone == ["a"]


async def test_a_compensation_is_not_cancelled(log: Log) -> None:
    undone: list[str] = []

    async def slow(value: str) -> None:
        await log.runtime.sleep(10)
        undone.append(value)

    flow = await log.open()
    await flow.step("a", log.work("a", "a"), undo=slow)
    undoing = asyncio.ensure_future(flow.undo())
    await asyncio.wait([undoing], timeout=1)
    await flow.cancel()
    await undoing
    assert undone == ["a"]


# -- the whole ---------------------------------------------------------------------------------------------------


async def test_a_run_that_has_ended_is_not_run_again(log: Log) -> None:
    async def body(flow: Workflow) -> Any:
        log.done["body"] += 1
        return (1, 2)

    assert await (await log.open()).run(body) == [1, 2]
    assert await (await log.open()).run(body) == [1, 2]
    assert log.done["body"] == 1


async def test_a_run_that_returns_nothing_has_ended_too(log: Log) -> None:
    async def body(flow: Workflow) -> None:
        log.done["body"] += 1

    for _ in range(2):
        await (await log.open()).run(body)
    assert log.done["body"] == 1


async def test_an_error_of_the_code_between_steps_can_be_mended_and_undoes_nothing(log: Log) -> None:
    async def body(flow: Workflow) -> int:
        found: int = await flow.step("a", log.work("a", 1), undo=log.work("undone"))
        if not log.done["mended"]:
            raise RuntimeError("a bug")
        return found

    with pytest.raises(RuntimeError, match="a bug"):
        await (await log.open()).run(body)
    with pytest.raises(NotEncodable, match="its result"):
        await (await log.open()).run(lambda flow: asyncio.sleep(0, object()))  # noqa: TID251 - a coroutine
    log.done["mended"] += 1
    assert await (await log.open()).run(body) == 1
    assert log.done == {"a": 1, "mended": 1}


async def test_a_run_says_a_few_words_about_itself(log: Log) -> None:
    flow = await log.open()
    assert flow.summary() == {"workflow": "test", "resumed": "no", "steps": "0 begun", "running": "none"}
    tasks = [asyncio.ensure_future(flow.step("a", log.runtime.sleep, 9, key=n)) for n in range(7)]
    await asyncio.wait(tasks, timeout=1)
    assert flow.summary()["running"] == "a[0], a[1], a[2], a[3], a[4] and 2 more"
    await asyncio.wait(tasks)
    assert flow.summary()["steps"] == "7 begun"


async def test_the_metrics_count_steps_and_bytes(log: Log) -> None:
    flow = await log.open()
    await flow.step("a", log.work("a"))
    with pytest.raises(StepFailed):
        await flow.step("b", _raise)
    again = await log.open()
    await again.step("a", log.work("a"))
    found = {(one.name, *dict(one.labels).values()): one.value for one in collect_samples(log.runtime)}
    results = {"done": 1, "failed": 1, "cancelled": 0, "replayed": 1}
    assert {result: found["workflow_steps", result] for result in results} == results
    assert found["workflow_retries",] == 0
    assert found["workflow_journal_bytes",] > 100
    assert WorkflowCounts.of(log.runtime) is WorkflowCounts.of(log.runtime)


async def test_what_is_under_way_when_a_run_fails_is_cut_off_before_anything_is_undone(log: Log) -> None:
    undone: list[str] = []

    async def book(what: str, seconds: float) -> str:
        await log.runtime.sleep(seconds)
        log.done[what] += 1
        return what

    async def fail() -> None:
        await log.runtime.sleep(2)
        raise ValueError("no money")

    async def body(flow: Workflow) -> None:
        await asyncio.gather(
            flow.step("car", book, "car", 1, undo=undone.append),
            flow.step("pay", fail),
            flow.step("hotel", book, "hotel", 9, undo=undone.append),
            flow.sleep("wait", 9),
        )

    flow = await log.open()
    with pytest.raises(StepFailed, match="no money"):
        await flow.run(body)
    await log.runtime.sleep(20)
    assert log.done == {"car": 1}
    assert undone == ["car"]
    with pytest.raises(WorkflowError, match="has ended; open it again"):
        await flow.step("more", log.work("more"))
    # What was undone is never taken for done.
    again = await log.open()
    await again.forget("pay")
    with pytest.raises(StepFailed, match="no money"):
        await again.run(body)
    assert log.done == {"car": 1}


async def test_a_run_that_was_cancelled_and_undone_has_ended_so(log: Log) -> None:
    async def body(flow: Workflow) -> None:
        await flow.step("a", log.work("a", 1), undo=log.work("undone"))
        await flow.step("b", log.runtime.sleep, 60)

    flow = await log.open()
    running = asyncio.ensure_future(flow.run(body))
    await asyncio.wait([running], timeout=1)
    await flow.cancel("enough")
    with pytest.raises(StepCancelled, match="b was cancelled: enough"):
        await running
    with pytest.raises(StepCancelled, match="b was cancelled: enough"):
        await (await log.open()).run(body)
    assert log.done == {"a": 1, "undone": 1}


async def test_a_step_that_has_failed_can_be_mended_if_nothing_was_undone(log: Log) -> None:
    async def body(flow: Workflow) -> list[Any]:
        def judge(number: int) -> int:
            log.done[str(number)] += 1
            if number == 2 and log.done["2"] == 1:
                raise KeyError("label")
            return number

        return await asyncio.gather(*(flow.step("judge", judge, number, key=number) for number in range(4)))

    for _ in range(2):
        with pytest.raises(StepFailed):
            await (await log.open()).run(body)
    again = await log.open()
    await again.forget("judge", key=2)
    assert await again.run(body) == [0, 1, 2, 3]
    assert log.done == {"0": 1, "1": 1, "2": 2, "3": 1}


async def test_a_step_that_is_being_written_down_when_the_run_is_closed_does_not_begin(log: Log) -> None:
    class Slow(MemoryStorage):
        async def write(self, *args: Any, **kwargs: Any) -> None:
            await log.runtime.sleep(1)
            await super().write(*args, **kwargs)

    log.storage = Slow()
    flow = await log.open()
    task = asyncio.ensure_future(flow.step("a", log.work("a")))
    await asyncio.wait([task], timeout=0.5)
    await flow.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not log.done
    assert await (await log.open()).step("a", log.work("a", 1)) == 1


async def test_a_run_cannot_be_closed_from_inside_of_a_step(log: Log) -> None:
    flow = await log.open()
    with pytest.raises(WorkflowError, match="inside of a step"):
        await flow.step("a", flow.close)


async def test_a_workflow_inside_of_a_step_that_is_cancelled_fails_that_step(log: Log) -> None:
    inner = await Workflow.open(log.runtime, log.storage, "inner")
    await inner.cancel("no more")
    flow = await log.open()
    with pytest.raises(StepFailed, match="StepCancelled: a was cancelled: no more"):
        await flow.step("outer", lambda: inner.step("a", len, "x"))


async def test_a_compensation_that_came_later_counts_and_the_token_of_another_run_is_another(log: Log) -> None:
    undone: list[str] = []
    await (await log.open()).step("a", lambda: current_step().token)
    flow = await log.open()
    token = await flow.step("a", lambda: "", undo=undone.append)
    await flow.undo()
    assert undone == [token]
    other = Log(log.runtime)
    assert await (await other.open()).step("a", lambda: current_step().token) != token


async def test_steps_in_a_task_group_end_a_run_as_others_do(log: Log) -> None:
    undone: list[str] = []

    async def trip(flow: Workflow, pay: Callable[[], Any]) -> None:
        await flow.step("flight", log.work("flight", "flight"), undo=undone.append)
        async with asyncio.TaskGroup() as outer:
            outer.create_task(flow.sleep("wait", 60))
            async with asyncio.TaskGroup() as inner:
                inner.create_task(flow.step("pay", pay, retry=RetryPolicy(attempts=1)))

    async def bug(flow: Workflow) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_gone())

    with pytest.raises(WorkflowSuspended):
        await (await log.open()).run(lambda flow: trip(flow, _gone))
    assert undone == []
    for _ in range(2):
        with pytest.raises(StepFailed, match="pay has failed"):
            await (await log.open()).run(lambda flow: trip(flow, _raise))
    assert undone == ["flight"]
    with pytest.raises(ExceptionGroup):
        await (await Log(log.runtime).open()).run(bug)


# -- checkpoints -------------------------------------------------------------------------------------------------


async def rounds(flow: Workflow, log: Log, upto: int, keep_trimmed: bool = True) -> list[int]:
    """Do some rounds, with a checkpoint after each; return the sums of the rounds."""
    base = await flow.step("base", log.work("base", 10))
    sums: list[int] = flow.restored or []
    for number in range(len(sums), upto):
        part = flow.scope("round", number)
        found = [await part.step("roll", log.work(f"{number}/{n}", base + n), key=n) for n in range(3)]
        sums = [*sums, sum(found)]
        await flow.checkpoint(sums, trim=["round"] if keep_trimmed else ())
    return sums


async def stored(storage: MemoryStorage) -> int:
    """Return how many bytes the journal of a run has."""
    found = await storage.read("workflow/test")
    assert found is not None
    return len(found.checkpoint or b"") + sum(len(data) for _, data in found.entries)


async def test_a_run_goes_on_from_its_newest_checkpoint(log: Log) -> None:
    flow = await log.open()
    await rounds(flow, log, 30)
    again = await log.open()
    assert len(again.restored) == 30
    assert await rounds(again, log, 31) == [33] * 31
    assert set(log.done.values()) == {1}
    assert len([key for key in await log.storage.keys() if "checkpoint" in key]) == 3


async def test_what_is_not_needed_behind_a_checkpoint_makes_no_journal_grow(log: Log) -> None:
    flow, sizes = await log.open(), []
    for number in range(60):
        await flow.step("long", log.work("long", "x" * 1000), key=number)
        await flow.checkpoint(number, trim=["long"])
        sizes.append(await stored(log.storage))
    assert max(sizes) < 40_000
    assert sizes[-1] > sizes[0]
    # Each compaction is paid for by entries that came since the one before.
    assert sum(after < before for before, after in itertools.pairwise(sizes)) < 30


async def test_a_step_whose_value_was_trimmed_is_refused_and_not_done_again(log: Log) -> None:
    flow = await log.open(keep=1)
    part = flow.scope("round")
    await part.step("roll", log.work("roll", 1))
    await part.now("time")
    await part.step("booked", log.work("booked", 2), undo=log.work("undone"))
    with pytest.raises(StepFailed):
        await part.step("failed", _raise)
    await flow.step("rounds", log.work("other", 3))
    for number in range(3):
        await flow.checkpoint(number, trim="round" if number == 0 else ())
    again = (await log.open(keep=1)).scope("round")
    with pytest.raises(StepTrimmed, match=r"begin from flow\.restored"):
        await again.step("roll", log.work("roll", 1))
    with pytest.raises(StepTrimmed):
        await again.now("time")
    with pytest.raises(StepFailed):
        await again.step("failed", _raise)
    assert await again.step("booked", log.work("booked"), undo=log.work("undone")) == 2
    assert await (await log.open()).step("rounds", log.work("other")) == 3
    assert log.done == {"roll": 1, "booked": 1, "other": 1}


async def torn(log: Log, *generations: int) -> None:
    """Spoil some checkpoints."""
    for key in await log.storage.keys("workflow/test/checkpoint/"):
        if int(key.rpartition("/")[2].partition("-")[0]) in generations:
            await log.storage.write(key, 1, expected=1, checkpoint=b"[1, 2")


async def test_T084_if_the_newest_checkpoint_is_torn_the_one_before_is_used_and_the_journal(
    log: Log, told: list[Event]
) -> None:
    await rounds(await log.open(), log, 5)
    await torn(log, 5)
    flow = await log.open()
    assert len(flow.restored) == 4
    assert await rounds(flow, log, 6) == [33] * 6
    assert set(log.done.values()) == {1}
    [event] = [event for event in told if isinstance(event, CheckpointUnreadable)]
    assert (event.generation, event.why) == (5, "it is not what was written")


async def test_T084_a_checkpoint_may_also_be_gone_or_not_be_read(log: Log, told: list[Event]) -> None:
    await rounds(await log.open(), log, 5)
    [gone] = [key for key in await log.storage.keys() if "checkpoint/5-" in key]
    await log.storage.delete(gone)

    class Unreadable(MemoryStorage):
        async def read(self, key: str) -> Any:
            if "checkpoint/4-" in key:
                raise StorageError("bad sector")
            return await super().read(key)

    unreadable = Unreadable()
    unreadable.__dict__.update(log.storage.__dict__)
    log.storage = unreadable
    assert len((await log.open()).restored) == 3
    whys = [event.why for event in told if isinstance(event, CheckpointUnreadable)]
    assert whys == ["it is not there", "bad sector"]


async def test_T084_with_no_checkpoint_left_a_run_begins_anew_if_nothing_was_trimmed(log: Log) -> None:
    await rounds(await log.open(), log, 3)
    await torn(log, 1, 2, 3)
    flow = await log.open()
    assert flow.restored is None
    assert await rounds(flow, log, 3) == [33] * 3
    assert set(log.done.values()) == {1}


async def test_T084_and_is_refused_if_something_was(log: Log) -> None:
    await rounds(await log.open(keep=1), log, 6)
    await torn(log, *range(1, 7))
    with pytest.raises(NoUsableCheckpoint, match=r"\[6\] can be read"):
        await log.open()


async def test_what_this_incarnation_has_not_come_to_is_not_trimmed_by_its_checkpoint(log: Log) -> None:
    flow = await log.open(keep=1)
    await flow.step("round", log.work("0", 0), key=0)
    await flow.checkpoint(0, trim=["round"])
    for number in (1, 2):
        await flow.step("round", log.work(str(number), number), key=number)
    again = await log.open(keep=1)
    assert again.restored == 0
    assert await again.step("round", log.work("1"), key=1) == 1
    for _ in range(3):
        await again.checkpoint(1, trim=["round"])
    third = await log.open(keep=1)
    with pytest.raises(StepTrimmed):
        await third.step("round", log.work("1"), key=1)
    assert await third.step("round", log.work("2"), key=2) == 2
    assert set(log.done.values()) == {1}


async def test_restoring_twice_is_the_same_as_once(log: Log) -> None:
    await rounds(await log.open(), log, 4)
    one = (await log.open()).restored
    two = (await log.open()).restored
    assert one == two == [33] * 4


async def test_a_checkpoint_that_was_written_before_the_crash_is_pointed_to_after_it(runtime: Runtime) -> None:
    storage = Failing()
    log = Log(runtime, storage)
    flow = await log.open()
    storage.fail_at = storage.writes + 2
    with pytest.raises(StorageError):
        await flow.checkpoint([1])
    storage.fail_at = None
    again = await log.open()
    assert again.restored is None
    await again.checkpoint([1])
    assert (await log.open()).restored == [1]


async def test_a_version_is_not_old_because_of_what_lies_before_the_checkpoint(log: Log) -> None:
    await rounds(await log.open(), log, 2)
    assert await (await log.open()).version("change", 1) == 1


async def test_a_journal_that_has_grown_to_its_limit_refuses_what_is_new(log: Log) -> None:
    flow = await log.open(limit=1000)
    with pytest.raises(JournalFull, match="may have 1,000"):
        for number in range(100):
            await flow.step("a", log.work("a", "x" * 50), key=number)
    assert log.done["a"] < 20
    with pytest.raises(JournalFull):
        await flow.now("time")
    again = await log.open(limit=1000)
    assert await again.step("a", log.work("a"), key=0) == "x" * 50
    with pytest.raises(JournalFull):
        await again.step("b", log.work("b"))
    await again.checkpoint("all", trim=["a"])
    for _ in range(3):
        await again.checkpoint("all")
    assert await (await log.open(limit=1000)).step("b", log.work("b", 1)) == 1
