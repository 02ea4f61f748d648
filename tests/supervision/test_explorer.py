"""The interruption explorer finds what breaks when work is cut off, says where, and finds nothing in what holds."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from supervision import Actor, ChildSpec, Request, Supervisor, handle
from supervision.errors import BadOption, BadTime
from supervision.testing import (
    NASTY,
    BrokenByInterruption,
    Exploration,
    NastyError,
    ScenarioRun,
    advance,
    explore,
    nasty,
)
from supervision.testing.interruptions._points import Points
from supervision.testing.nasty import DEEP, MissingHypothesis


class Bank:
    """A service of somebody who knows nothing of actors."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.accounts = {"ada": 100, "bob": 0}
        self.reserved = 0

    async def transfer(self, amount: int) -> None:
        async with self.lock:
            self.accounts["ada"] -= amount
            await advance(1)
            self.accounts["bob"] += amount

    async def careful(self, amount: int) -> None:
        async with self.lock:
            await advance(1)
            self.accounts["ada"] -= amount
            self.accounts["bob"] += amount

    async def reserve(self) -> None:
        self.reserved += 1
        await advance(1)
        self.reserved -= 1


def broken(scenario: Callable[[ScenarioRun], Awaitable[None]], **options: Any) -> Exploration:
    """Explore what does not hold, and return what was found."""
    with pytest.raises(BrokenByInterruption) as caught:
        explore(scenario, **options)
    return caught.value.exploration


# -- any asyncio program -----------------------------------------------------------------------------------------------


async def transfer(run: ScenarioRun) -> None:
    bank = Bank()
    await run.interrupt(lambda: bank.transfer(30))
    assert sum(bank.accounts.values()) == 100


async def careful(run: ScenarioRun) -> None:
    bank = Bank()
    outcome = await run.interrupt(lambda: bank.careful(30))
    assert bank.accounts["bob"] == (30 if outcome.done else 0)
    assert not bank.lock.locked()
    assert (outcome.interrupted is None) == (run.way is None or not run.struck)


def test_work_that_holds_has_points_and_no_failures() -> None:
    found = explore(careful)
    assert found.points == {"cancel": 3, "timeout": 3}
    assert str(found) == "6 points (cancel 3, timeout 3), 0 failures"


def test_work_that_does_not_hold_is_found_with_a_line_to_run_it_again() -> None:
    with pytest.raises(BrokenByInterruption, match=r"again with: explore\(transfer, at='cancel@1'\)") as caught:
        explore(transfer)
    first = caught.value.exploration.failures[0]
    assert (first.at, first.kind) == ("cancel@1", "wrong")
    assert first.where.startswith("virtual_loop.py")
    (again,) = broken(transfer, at=first.at).failures
    assert (again.at, again.where, again.kind) == (first.at, first.where, first.kind)
    assert explore(careful, at="timeout@2") == Exploration({"timeout@2": 1})


def test_only_the_ways_that_are_asked_for_are_gone() -> None:
    assert explore(careful, ways=["timeout"]).points == {"timeout": 3}
    assert explore(careful, ways=["kill", "restart"]).points == {}


@pytest.mark.parametrize(
    "options",
    [
        {"ways": ["scare"]},
        {"at": "cancel"},
        {"at": "scare@1"},
        {"at": "cancel@0"},
        {"at": "cancel@x"},
        {"at": "cancel@99"},
        {"most": 2},
        {"limit": 0},
        {"grace": float("nan")},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises((BadOption, BadTime)):
        explore(careful, **options)


async def test_it_is_not_for_a_loop_that_runs() -> None:
    with pytest.raises(RuntimeError, match="plain function"):
        explore(careful)


def test_what_is_left_over_is_found() -> None:
    async def reserve(run: ScenarioRun) -> None:
        bank = Bank()
        await run.interrupt(bank.reserve, counts=lambda: {"reserved": bank.reserved})

    async def task(run: ScenarioRun) -> None:
        async def work() -> None:
            helper = asyncio.ensure_future(asyncio.Event().wait())
            await advance(1)
            helper.cancel()

        await run.interrupt(work)

    found = broken(reserve, grace=5.0)
    assert found.failures[0].kind == "leak"
    assert found.failures[0].why == "left over after 5 s: {'reserved': 1}"
    assert "'tasks': 1" in broken(task).failures[0].why


def test_what_does_not_end_is_found() -> None:
    async def deaf(run: ScenarioRun) -> None:
        async def work() -> None:
            try:
                await advance(1)
            except asyncio.CancelledError:
                await advance(1_000_000)

        await run.interrupt(work)

    async def endless(run: ScenarioRun) -> None:
        await run.interrupt(lambda: advance(1))
        if run.struck:
            await asyncio.Event().wait()

    found = broken(deaf, ways=["cancel"], at="cancel@1").failures
    assert (found[0].kind, "in advance" in found[0].why) == ("hang", True)
    assert broken(endless).failures[0].why == "the scenario does not end"


def test_errors_that_a_caller_does_not_reckon_with_are_found() -> None:
    async def work() -> None:
        try:
            await advance(1)
        except asyncio.CancelledError:
            raise KeyError("state") from None

    async def surprise(run: ScenarioRun) -> None:
        await run.interrupt(work)

    async def expected(run: ScenarioRun) -> None:
        await run.interrupt(work, raises=(KeyError,))

    async def behind(run: ScenarioRun) -> None:
        def fail() -> None:
            raise KeyError("in a callback")

        async def soon() -> None:
            try:
                await advance(1)
            except asyncio.CancelledError:
                asyncio.get_running_loop().call_soon(fail)
                raise

        await run.interrupt(soon)

    async def late(run: ScenarioRun) -> None:
        await run.interrupt(lambda: advance(1))
        if run.struck:
            raise TimeoutError("of its own")

    assert broken(surprise).failures[0].why == "it raised KeyError: 'state'"
    assert explore(expected).visited > 0
    assert "in a callback" in broken(behind).failures[0].why
    assert broken(late).failures[0].why == "TimeoutError: of its own"


def test_a_scenario_that_fails_without_any_interruption_fails_as_it_is() -> None:
    async def work() -> None:
        raise LookupError("nothing there")

    async def fails(run: ScenarioRun) -> None:
        await run.interrupt(work)

    with pytest.raises(LookupError, match="nothing there"):
        explore(fails)


def test_work_in_a_thread_is_interrupted_before_it_begins_and_before_anybody_hears_that_it_is_done() -> None:
    written: list[tuple[str | None, int]] = []

    async def write(run: ScenarioRun) -> None:
        file: list[int] = []
        seen = []

        async def work() -> None:
            await asyncio.to_thread(file.append, 1)
            seen.append(1)

        outcome = await run.interrupt(work)
        written.append((outcome.interrupted, len(file)))
        assert outcome.done == bool(seen)

    found = explore(write, ways=["cancel"])
    at = [f"cancel@{point}" for point in range(1, found.points["cancel"] + 1)]
    assert [where for where, _ in written[1:-1]] == at
    assert (at[0], 1) in written, "it is written although nobody waits for it any more"


def test_a_generator_that_is_closed_in_the_middle_is_closed_inside() -> None:
    closed = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.append(1)

    async def scenario() -> None:
        run = ScenarioRun(None, 0, 1.0, 1.0)
        step = run._points.stepped(work())
        step.send(None)  # type: ignore[attr-defined]
        step.close()  # type: ignore[attr-defined]

    asyncio.run(scenario())
    assert closed == [1]


# -- actors ------------------------------------------------------------------------------------------------------------


class Take(Request[int]):
    pass


class GiveBack(Request[None]):
    pass


class Permits(Actor):
    """Hands out permits, and forgets who has them."""

    def __init__(self, taken: list[int], forgets: bool) -> None:
        self.taken = taken
        self.forgets = forgets

    @handle
    def take(self, request: Take) -> int:
        self.taken.append(1)
        return len(self.taken)

    @handle
    def give_back(self, request: GiveBack) -> None:
        if not self.taken:
            raise LookupError("there is nothing to be given back")
        self.taken.pop()


async def permits(run: ScenarioRun, taken: list[int]) -> None:
    async with run.runtime() as runtime:
        spec = ChildSpec("permits", Permits, (taken, True), name="permits")
        await runtime.spawn(Supervisor, [spec], name="services")
        name = runtime.name("permits")

        async def work() -> None:
            await name.call(Take())
            await runtime.sleep(1.0)
            await name.call(GiveBack())

        await run.interrupt(work, services=["permits"], counts=lambda: {"taken": len(taken)})


def test_a_caller_that_is_cancelled_late_or_killed_and_a_service_that_restarts_are_ways_too() -> None:
    async def scenario(run: ScenarioRun) -> None:
        await permits(run, [])

    found = broken(scenario)
    assert set(found.points) == {"cancel", "timeout", "kill", "restart permits"}
    assert {failure.kind for failure in found.failures} == {"leak"}
    assert {failure.at.partition("@")[0] for failure in found.failures} == set(found.points)


def test_a_service_that_crashes_is_found() -> None:
    async def scenario(run: ScenarioRun) -> None:
        taken: list[int] = []
        async with run.runtime() as runtime:
            spec = ChildSpec("permits", Permits, (taken, True), name="permits")
            await runtime.spawn(Supervisor, [spec], name="services")

            async def work() -> None:
                try:
                    await runtime.sleep(1.0)
                except asyncio.CancelledError:
                    runtime.name("permits").cast(GiveBack())
                    raise

            await run.interrupt(work)

    assert "/services/permits crashed: LookupError" in broken(scenario, ways=["cancel"]).failures[0].why


def test_a_service_is_restarted_by_a_function_too() -> None:
    restarts = []

    async def scenario(run: ScenarioRun) -> None:
        await run.interrupt(lambda: advance(1), services={"database": lambda: restarts.append(run.point)})

    assert explore(scenario, ways=["restart"]).points == {"restart database": 3}
    assert restarts == [1, 2, 3]


def test_a_service_that_is_away_already_is_not_killed_again() -> None:
    async def scenario(run: ScenarioRun) -> None:
        async with run.runtime() as runtime:
            await run.interrupt(lambda: runtime.sleep(1.0), services=["nobody"])

    assert explore(scenario, ways=["restart"]).visited > 0


class Written(Request[None]):
    pass


class Journal(Actor):
    """Writes in a thread."""

    isolation = "thread"

    def __init__(self, file: list[int]) -> None:
        self.file = file

    @handle
    def write(self, request: Written) -> None:
        self.file.append(threading.get_ident())


def test_a_journal_is_interrupted_between_its_write_and_its_answer() -> None:
    kept = []

    async def scenario(run: ScenarioRun) -> None:
        file: list[int] = []
        async with run.runtime() as runtime:
            await runtime.spawn(Supervisor, [ChildSpec("journal", Journal, (file,), name="journal")])
            name = runtime.name("journal")
            await name.call(Written())
            await runtime.sleep(3600.0)  # its thread waits for more
            file.clear()
            outcome = await run.interrupt(lambda: name.call(Written()), services=["journal"])
        kept.append((outcome.done, len(file)))

    assert explore(scenario, ways=["restart"]).visited >= 3
    assert (False, 0) in kept, "killed before it was written"
    assert (False, 1) in kept, "killed when it was written, and nobody had heard of it"
    assert (True, 1) in kept


def test_the_place_of_work_that_does_not_wait_is_not_known() -> None:
    assert Points(1).place == "an unknown place"


# -- nasty arguments ---------------------------------------------------------------------------------------------------


def test_nasty_objects_raise_what_their_names_say() -> None:
    spiteful = {name: make() for name, make in NASTY.items() if "raises when" in name}
    checks: dict[str, Callable[[Any], object]] = {
        "compared": lambda value: value == 1,
        "hashed": hash,
        "shown": repr,
        "true": bool,
        "walked through": list,
        "a number": float,
        "looked at": lambda value: value.anything,
    }
    for does, what in checks.items():
        with pytest.raises(NastyError):
            what(spiteful[f"an object that raises when it is {does}"])


def test_nasty_values_are_made_anew_and_are_what_they_are_called() -> None:
    changing, agreeing = (
        NASTY["an object of another hash each time"](),
        NASTY["an object that is equal to everything"](),
    )
    assert hash(changing) != hash(changing)
    assert changing != changing
    assert agreeing == 7
    assert hash(agreeing) == hash("x")
    assert NASTY["a list"]() is not NASTY["a list"]()
    assert hash(NASTY["an object that raises when it is compared, of the same hash"]()) == hash("x")
    deep, depth = NASTY["a tuple of tuples"](), 0
    while deep:
        deep, depth = deep[0], depth + 1
    assert depth == DEEP
    asyncio.run(NASTY["a coroutine function"]()())
    assert NASTY["a function"]()() is None
    assert list(NASTY["a generator"]()) == [0, 1, 2]


def test_the_strategy_draws_them_and_a_failure_can_be_shown() -> None:
    from hypothesis import find, settings
    from hypothesis.vendor.pretty import pretty

    found = find(nasty(), lambda value: type(value).__name__ == "Spiteful", settings=settings(max_examples=5000))
    shown: Any = pretty
    assert shown(found) == "<nasty Spiteful>"


def test_without_hypothesis_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(MissingHypothesis, match="pip install hypothesis"):
        nasty()
    assert issubclass(MissingHypothesis, ImportError)
