"""Items of work: each is done by one worker at a time, whatever becomes of the workers, and none for ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import ContextVar
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.durability import MemoryStorage, StorageError
from dspex.workflow import (
    BatchResult,
    Claim,
    DuplicateStep,
    ItemLost,
    NotEncodable,
    RetryPolicy,
    StaleFence,
    StepCancelled,
    StepChanged,
    WithUsage,
    Workflow,
    WorkflowError,
    WorkflowSuspended,
    WorkItem,
    WorkItems,
    current_step,
    run_items,
)
from foundation.holders import current_holder
from supervision import Backoff, Runtime
from supervision.errors import BadOption

STEADY = RetryPolicy(attempts=3, backoff=Backoff(0.5, 30.0, jitter=0.0))


def claimed(items: WorkItems, worker: str, now: float = 0.0, lease: float | None = None) -> Claim:
    found = items.claim(worker, now, lease)
    assert found is not None
    return found


# -- the values --------------------------------------------------------------------------------------------------


def test_items_are_given_out_in_their_order_and_what_was_lost_comes_first() -> None:
    items = WorkItems("abcd")
    first, second = claimed(items, "w1"), claimed(items, "w2")
    assert (first.item, second.item) == ("a", "b")
    assert items.lost("w1", "killed") == ["a"]
    assert items.lost("w1", "killed") == []
    assert [claimed(items, "w3").item for _ in range(3)] == ["a", "c", "d"]
    assert items.claim("w4", 0.0) is None
    assert not items.finished


def test_T081_an_item_that_is_lost_with_three_workers_is_quarantined_and_the_rest_is_done() -> None:
    items = WorkItems(["bad", "good"])
    for number in range(3):
        assert claimed(items, f"w{number}").item == "bad"
        items.lost(f"w{number}", f"killed {number}")
    assert items["bad"].state == "quarantined"
    assert items["bad"].losses == {"w0": "killed 0", "w1": "killed 1", "w2": "killed 2"}
    items.complete(claimed(items, "w3"), 1)
    assert items.finished
    assert items.coverage == 0.5


def test_leases_that_are_over_count_also_if_they_were_of_one_worker() -> None:
    items = WorkItems("a", max_losses=2)
    for now in (0.0, 10.0):
        claimed(items, "same", now, 10.0)
        items.expire(now + 10.0)
    assert items["a"].losses == {"same, fence 1": "lease", "same, fence 2": "lease"}
    assert items.finished


def test_only_different_workers_count() -> None:
    items = WorkItems("a", max_losses=2)
    for _ in range(5):
        claimed(items, "same")
        items.lost("same", "killed")
    assert items["a"].state == "waiting"


def test_T082_a_report_with_an_old_fence_does_not_count_but_its_usage_does() -> None:
    items = WorkItems("a")
    first = claimed(items, "w1", 0.0, 10.0)
    assert items.next_expiry == 10.0
    assert items.expire(9.9) == []
    assert items.expire(10.0) == ["a"]
    second = claimed(items, "w2", 10.0, 10.0)
    assert (first.fence, second.fence) == (1, 2)
    items.complete(second, "two", 2.0)
    with pytest.raises(StaleFence, match="fence 1, and is at 2"):
        items.complete(first, "one", 3.0)
    with pytest.raises(StaleFence):
        items.fail(first, "ValueError", "one", 0.5)
    with pytest.raises(StaleFence):
        items.renew(first, 0.0, 1.0)
    assert (items["a"].value, items.usage, items.coverage) == ("two", 5.5, 1.0)
    assert items.next_expiry is None


def test_a_report_that_comes_twice_counts_once() -> None:
    items = WorkItems("a")
    claim = claimed(items, "w1")
    items.complete(claim, 1)
    with pytest.raises(StaleFence):
        items.complete(claim, 2)
    assert items["a"].value == 1


def test_a_lease_that_is_renewed_lasts_longer() -> None:
    items = WorkItems("a")
    claim = items.renew(claimed(items, "w1", 0.0, 10.0), 8.0, 10.0)
    assert items.expire(17.9) == []
    items.complete(claim, 1)
    assert items.expire(100.0) == []


def test_an_item_that_has_failed_is_not_done_and_not_given_out_again() -> None:
    items = WorkItems("ab")
    items.fail(claimed(items, "w"), "ValueError", "bad")
    items.complete(claimed(items, "w"), 1)
    assert items.finished
    assert (items["a"].state, items["a"].value, items.coverage) == ("failed", ["ValueError", "bad"], 0.5)


def test_what_an_earlier_incarnation_knew_is_known_and_its_claims_are_over() -> None:
    known = {
        "a": WorkItem("done", 1, {}, 5),
        "b": WorkItem("claimed", 4, {"w0": "killed"}),
        "c": WorkItem("quarantined", 3),
    }
    items = WorkItems("abcd", known)
    again = claimed(items, "w")
    assert (again.item, again.fence) == ("b", 5)
    assert claimed(items, "w").item == "d"
    assert items.claim("w", 0.0) is None


def test_nothing_to_do_is_done() -> None:
    assert (WorkItems([]).finished, WorkItems([]).coverage, list(WorkItems("ab"))) == (True, 1.0, ["a", "b"])


def test_items_that_make_no_sense_are_refused() -> None:
    with pytest.raises(BadOption, match="a name of its own"):
        WorkItems("aa")
    with pytest.raises(BadOption, match="max_losses"):
        WorkItems("a", max_losses=0)


@given(
    st.lists(st.tuples(st.sampled_from(["claim", "done", "fail", "lost", "expire"]), st.integers(0, 3)), max_size=60)
)
def test_whatever_happens_each_item_is_done_at_most_once_and_fences_only_grow(moves: list[tuple[str, int]]) -> None:
    items, claims, fences, ended = WorkItems("abc"), [], Counter[str](), Counter[str]()
    for now, (move, number) in enumerate(moves):
        if move == "claim":
            claim = items.claim(f"w{number}", now, 3.0 if number % 2 else None)
            if claim is not None:
                assert claim.fence > fences[claim.item]
                fences[claim.item] = claim.fence
                claims.append(claim)
        elif move == "lost":
            items.lost(f"w{number}", "killed")
        elif move == "expire":
            items.expire(now)
        elif claims:
            claim = claims[number % len(claims)]
            try:
                items.complete(claim, 1) if move == "done" else items.fail(claim, "E", "e")
            except StaleFence:
                continue
            assert claim.fence == fences[claim.item]
            ended[claim.item] += 1
    assert all(count == 1 for count in ended.values())
    states = Counter(items[name].state for name in items)
    assert items.finished == (states["waiting"] + states["claimed"] == 0)


# -- the workers ---------------------------------------------------------------------------------------------------


class Bench:
    """A workflow whose items are counted."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.storage = MemoryStorage()
        self.done: Counter[str] = Counter()
        self.lost: list[ItemLost] = []
        runtime.subscribe(self.lost.append, ItemLost)

    async def open(self) -> Workflow:
        return await Workflow.open(self.runtime, self.storage, "test", retry=STEADY)

    async def double(self, number: int) -> int:
        """Take a second."""
        await self.runtime.sleep(1)
        self.done[str(number)] += 1
        return 2 * number

    async def kills(self, number: int) -> int:
        """As `double`, but 2 kills its worker."""
        if number == 2:
            self.done["kills"] += 1
            worker = current_holder()
            assert worker is not None
            worker.kill()
            await self.runtime.sleep(1)
        return await self.double(number)


NUMBERS = {f"n{number}": number for number in range(6)}


@pytest.fixture
def bench(runtime: Runtime) -> Bench:
    return Bench(runtime)


async def test_items_are_done_side_by_side_and_once(bench: Bench) -> None:
    began = bench.runtime.clock.time()
    for _ in range(2):
        batch = await run_items(await bench.open(), "double", NUMBERS, bench.double, workers=3)
        assert batch == BatchResult({f"n{n}": 2 * n for n in range(6)}, {}, {}, 1.0, 0.0)
    assert bench.runtime.clock.time() - began == pytest.approx(2)
    assert set(bench.done.values()) == {1}
    assert list(bench.runtime.actors()) == []


async def test_T081_an_item_that_kills_three_workers_is_quarantined_and_the_rest_is_done(bench: Bench) -> None:
    batch = await run_items(await bench.open(), "double", NUMBERS, bench.kills, workers=2)
    assert batch.coverage == pytest.approx(5 / 6)
    assert sorted(batch.values) == ["n0", "n1", "n3", "n4", "n5"]
    assert list(batch.quarantined) == ["n2"]
    assert list(batch.quarantined["n2"].values()) == ["killed"] * 3
    assert bench.done["kills"] == 3
    assert [event.quarantined for event in bench.lost] == [False, False, True]
    assert [event.item for event in bench.lost] == ['double/item["n2"]'] * 3
    again = await run_items(await bench.open(), "double", NUMBERS, bench.kills, workers=2)
    assert again.quarantined == batch.quarantined


async def test_T082_a_holder_whose_lease_is_over_reports_too_late_and_its_usage_is_counted(bench: Bench) -> None:
    async def work(name: str) -> WithUsage:
        attempt = current_step().attempt
        await bench.runtime.sleep(9 if name != "a" else 15 if attempt == 1 else 2)
        bench.done[f"{name}{attempt}"] += 1
        return WithUsage(f"{name} by {attempt}", 3.0 if name == "a" else 0.0)

    batch = await run_items(await bench.open(), "work", {name: name for name in "abcde"}, work, workers=4, lease=10)
    assert batch.values["a"] == "a by 2"
    assert bench.done["a1"] == bench.done["a2"] == 1
    assert batch.usage == 6.0
    assert [event.why for event in bench.lost] == ["lease"]


async def test_an_item_that_always_takes_longer_than_its_lease_is_quarantined(bench: Bench) -> None:
    batch = await run_items(await bench.open(), "work", {"a": 1}, lambda value: bench.runtime.sleep(60), lease=10)
    assert list(batch.quarantined["a"].values()) == ["lease"] * 3
    assert bench.runtime.clock.time() == pytest.approx(30)


async def test_after_a_crash_only_what_was_not_done_is_done(bench: Bench) -> None:
    flow = await bench.open()
    crashed = asyncio.ensure_future(run_items(flow, "double", NUMBERS, bench.double, workers=2))
    await asyncio.wait([crashed], timeout=2.5)
    crashed.cancel()
    await asyncio.wait([crashed])
    assert bench.done == {"0": 1, "1": 1, "2": 1, "3": 1}
    assert list(bench.runtime.actors()) == []
    assert bench.lost == []  # who was told to end has lost nothing
    batch = await run_items(await bench.open(), "double", NUMBERS, bench.double, workers=2)
    assert batch.coverage == 1.0
    assert set(bench.done.values()) == {1}


async def test_losses_are_counted_over_crashes(bench: Bench) -> None:
    async def kills(number: int) -> None:
        bench.done["kills"] += 1
        worker = current_holder()
        assert worker is not None
        worker.kill()
        await bench.runtime.sleep(1)

    crashed = asyncio.ensure_future(run_items(await bench.open(), "a", {"a": 1}, kills, workers=1, max_losses=9))
    while bench.done["kills"] < 4:
        await bench.runtime.sleep(0)
    crashed.cancel()
    await asyncio.wait([crashed])
    batch = await run_items(await bench.open(), "a", {"a": 1}, kills, workers=1, max_losses=9)
    assert batch.coverage == 0.0
    assert 9 <= bench.done["kills"] <= 10  # the loss just before the crash may not have been written


async def test_if_all_workers_are_gone_for_good_the_run_ends_and_can_be_gone_on_with(bench: Bench) -> None:
    running = asyncio.ensure_future(run_items(await bench.open(), "double", NUMBERS, bench.double))
    await asyncio.wait([running], timeout=1.5)
    [name] = [name for name in bench.runtime.names() if name.startswith("workflow:test:double")]
    supervisor = bench.runtime.whereis(name)
    assert supervisor is not None
    supervisor.kill()
    with pytest.raises(WorkflowError, match="the workers of double have ended"):
        await running
    assert (await run_items(await bench.open(), "double", NUMBERS, bench.double)).coverage == 1.0
    assert set(bench.done.values()) == {1}


async def test_an_error_of_the_program_is_final_for_its_item_and_no_other_is(
    bench: Bench,
) -> None:
    def work(number: int) -> int:
        bench.done[str(number)] += 1
        if number == 1:
            raise ValueError("bad")
        if number == 2 and bench.done["2"] < 3:
            raise ConnectionError("gone")
        return number

    for _ in range(2):
        batch = await run_items(await bench.open(), "work", NUMBERS, work)
        assert batch.failed == {"n1": ("ValueError", "bad")}
        assert batch.values["n2"] == 2
    assert bench.done == {"0": 1, "1": 1, "2": 3, "3": 1, "4": 1, "5": 1}


async def test_when_the_policy_is_over_the_batch_is_suspended_and_goes_on_later(bench: Bench) -> None:
    def work(number: int) -> int:
        bench.done[str(number)] += 1
        if number == 1 and bench.done["1"] <= 3:
            raise ConnectionError("gone")
        return number

    with pytest.raises(WorkflowSuspended, match=r'work/item\["n1"\] has found'):
        await run_items(await bench.open(), "work", NUMBERS, work, workers=1)
    assert (await run_items(await bench.open(), "work", NUMBERS, work, workers=1)).coverage == 1.0
    assert bench.done["0"] == 1


async def test_what_has_failed_is_done_anew_after_it_was_forgotten_and_what_is_done_is_not(bench: Bench) -> None:
    def work(number: int) -> int:
        bench.done[str(number)] += 1
        if number == 1 and bench.done["1"] == 1:
            raise KeyError("label")
        return number

    flow = await bench.open()
    assert (await run_items(flow, "work", NUMBERS, work)).coverage < 1
    await flow.forget("work")
    assert (await run_items(flow, "work", NUMBERS, work)).coverage == 1
    assert bench.done["0"] == 1
    # With other items, those that are the same are not done again either.
    with pytest.raises(StepChanged):
        await run_items(await bench.open(), "work", {**NUMBERS, "n0": 10, "n9": 9}, work)
    flow = await bench.open()
    await flow.forget("work")
    batch = await run_items(flow, "work", {**NUMBERS, "n0": 10, "n9": 9}, work)
    assert (batch.values["n0"], batch.values["n9"]) == (10, 9)
    assert bench.done == {"0": 1, "1": 2, "2": 1, "3": 1, "4": 1, "5": 1, "9": 1, "10": 1}


class Verdict(msgspec.Struct, frozen=True):
    label: str


async def test_values_have_a_type_and_what_cannot_be_kept_ends_the_batch(bench: Bench) -> None:
    for _ in range(2):
        batch = await run_items(await bench.open(), "typed", {"a": "x"}, Verdict, type=Verdict)
        assert batch.values == {"a": Verdict("x")}
    with pytest.raises(NotEncodable, match=r'bad/item\["a"\]: what it returned'):
        await run_items(await bench.open(), "bad", {"a": "x"}, lambda value: object())
    with pytest.raises(NotEncodable, match="worse: its arguments"):
        await run_items(await bench.open(), "worse", {"a": object()}, bench.double)


async def test_without_a_journal_nothing_goes_on(bench: Bench) -> None:
    class Full(MemoryStorage):
        full = False

        async def write(self, *args: Any, **kwargs: Any) -> None:
            if self.full:
                raise StorageError("full")
            await super().write(*args, **kwargs)

    async def work(number: int) -> int:
        await bench.double(number)
        storage.full = number == 1
        return number

    storage = bench.storage = Full()
    with pytest.raises(StorageError):
        await run_items(await bench.open(), "work", NUMBERS, work, workers=1)
    storage.full = False
    assert (await run_items(await bench.open(), "work", NUMBERS, bench.double, workers=1)).coverage == 1.0
    assert (bench.done["0"], bench.done["1"]) == (1, 2)


async def test_a_batch_is_a_step(bench: Bench) -> None:
    flow = await bench.open()
    batch = asyncio.ensure_future(run_items(flow, "double", NUMBERS, bench.double, key=1))
    await asyncio.wait([batch], timeout=0.5)
    with pytest.raises(DuplicateStep):
        await run_items(flow, "double", NUMBERS, bench.double, key=1)
    await flow.cancel()
    with pytest.raises(StepCancelled):
        await batch
    assert not bench.done
    assert list(bench.runtime.actors()) == []


async def test_items_are_done_in_the_context_of_who_wants_them_done(bench: Bench) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="none")
    variable.set("mine")
    seen: set[Any] = set()

    async def work(number: int) -> None:
        seen.add((variable.get(), type(current_holder()).__name__, current_step().key))

    await run_items(await bench.open(), "work", {"a": 1}, work)
    [(value, holder, key)] = seen
    assert (value, key) == ("mine", 'work/item["a"]')
    assert holder != "NoneType"


async def test_of_a_batch_that_has_ended_a_checkpoint_keeps_the_result_alone(bench: Bench) -> None:
    flow = await Workflow.open(bench.runtime, bench.storage, "test", retry=STEADY, keep=1)
    await run_items(flow, "done", NUMBERS, bench.double)
    with pytest.raises(WorkflowSuspended):
        await run_items(flow, "running", {"a": 1}, _gone)
    for number in range(2):
        await flow.checkpoint(number)
    assert list(flow.journal.entries("item")) == ['running/item["a"]']
    assert (await run_items(await bench.open(), "done", NUMBERS, bench.double)).coverage == 1.0


def _gone(value: Any) -> None:
    raise ConnectionError


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"lease": 0}, {"max_losses": 0}, {"retry": 5}, {"work": 5}, {"workers": 1.5}]
)
async def test_arguments_that_make_no_sense_are_refused(bench: Bench, options: dict[str, Any]) -> None:
    flow = await bench.open()
    given = {"work": bench.double, **options}
    with pytest.raises(BadOption):
        await run_items(flow, "double", NUMBERS, given.pop("work"), **given)
    assert not bench.done
