"""Quorum rounds: enough of all who were asked; what comes late changes nothing; a void round has no effect."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from agents.durability import MemoryStorage, StorageError
from dspex.workflow import Byzantine, QuorumRound, RoundClosed, StepChanged, Workflow, WorkflowError, hold_round
from foundation.coordination.consensus import Majority, Quorum, Rule, Unanimity
from foundation.coordination.errors import BadArgument
from supervision import Runtime
from supervision.errors import BadOption


def opened(size: int, rule: Rule, **options: Any) -> QuorumRound:
    return QuorumRound({f"m{n}": 1 for n in range(size)}, rule, **{"deadline": 10.0, **options})


@pytest.mark.parametrize(
    ("rule", "needed"),
    [(Majority(), {3: 2, 4: 3, 5: 3, 7: 4}), (Byzantine(), {1: 1, 4: 3, 5: 4, 7: 5, 10: 7}), (Unanimity(), {3: 3})],
)
def test_so_many_of_all_who_were_asked_have_to_answer(rule: Rule, needed: dict[int, int]) -> None:
    for size, enough in needed.items():
        found = opened(size, rule)
        for number in range(enough):
            assert found.closed is None
            found.answer(f"m{number}", number, fence=1, now=1.0)
        assert found.closed is not None
        assert (found.closed.state, len(found.closed.answers)) == ("decided", enough)


def test_whoever_answers_first_the_answers_stand_in_the_order_of_the_participants() -> None:
    outcomes = []
    for order in permutations(["m0", "m1", "m2"]):
        found = opened(3, Unanimity())
        for who in order:
            found.answer(who, who.upper(), fence=1, now=1.0)
        outcomes.append(list(found.closed.answers.items()) if found.closed else None)
    assert outcomes == [[("m0", "M0"), ("m1", "M1"), ("m2", "M2")]] * 6


def test_the_first_answer_of_a_participant_counts_also_after_it_was_restarted() -> None:
    found = opened(3, Majority())
    found.lose("m0", "killed")
    assert found.answer("m0", "first", fence=1, now=1.0)
    assert not found.answer("m0", "second", fence=1, now=2.0)
    found.lose("m0", "killed again")
    found.lose("nobody", "who is that")
    assert found.answer("m1", "x", fence=1, now=3.0)
    assert found.closed is not None
    assert (found.closed.answers, found.closed.lost, found.closed.missing) == ({"m0": "first", "m1": "x"}, {}, ("m2",))
    assert found.closed.coverage == pytest.approx(2 / 3)


def test_what_is_late_or_from_another_round_is_counted_and_changes_nothing() -> None:
    found = opened(3, Majority(), fence=2)
    assert not found.answer("m0", "old", fence=1, now=1.0)
    assert not found.answer("stranger", "x", fence=2, now=1.0)
    assert found.answer("m0", "a", fence=2, now=9.9)
    assert not found.answer("m1", "b", fence=2, now=10.0)
    assert found.closed is not None
    assert (found.closed.state, found.closed.why, found.closed.answers) == ("void", "late", {"m0": "a"})
    found.lose("m2", "killed")
    assert (found.late, found.closed.lost) == (3, {})


def test_a_round_is_void_as_soon_as_the_rule_can_be_met_no_more() -> None:
    found = opened(4, Majority())
    found.lose("m0", "killed")
    assert found.look(1.0) is None
    found.lose("m1", "refused")
    closed = found.look(1.0)
    assert closed is not None
    assert (closed.state, closed.why, closed.lost) == ("void", "lost", {"m0": "killed", "m1": "refused"})


def test_weights_count_and_what_makes_no_sense_is_refused() -> None:
    heavy = QuorumRound({"a": 3, "b": 1, "c": 1}, Majority(), 10.0)
    heavy.answer("a", 1, fence=1, now=0.0)
    assert heavy.closed is not None
    assert heavy.closed.coverage == 0.6
    for weights, rule in (({}, Majority()), ({"a": 0}, Majority()), ({"a": 1}, Quorum(2)), ({"a": 1}, 5)):
        with pytest.raises(BadArgument):
            QuorumRound(weights, rule, 10.0)  # type: ignore[arg-type]


class Members:
    """Who is asked, and how often."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.storage = MemoryStorage()
        self.asked: Counter[str] = Counter()
        self.told: list[RoundClosed] = []
        runtime.subscribe(self.told.append, RoundClosed)

    async def open(self) -> Workflow:
        return await Workflow.open(self.runtime, self.storage, "test")

    def member(self, name: str, seconds: float, error: Exception | None = None) -> Callable[[], Any]:
        async def answer() -> str:
            self.asked[name] += 1
            await self.runtime.sleep(seconds)
            if error is not None:
                raise error
            self.asked[f"{name} answered"] += 1
            return name.upper()

        return answer


@pytest.fixture
def members(runtime: Runtime) -> Members:
    return Members(runtime)


async def test_a_round_ends_as_it_is_decided_and_stays_so_after_a_crash(members: Members) -> None:
    ask = {name: members.member(name, seconds) for name, seconds in (("a", 3), ("b", 1), ("c", 2))}
    for _ in range(2):
        closed = await hold_round(await members.open(), "vote", ask, Majority(), 10.0)
        assert (closed.state, closed.answers, closed.missing) == ("decided", {"b": "B", "c": "C"}, ("a",))
    await members.runtime.sleep(10)
    assert members.asked == {"a": 1, "b": 1, "c": 1, "b answered": 1, "c answered": 1}
    [event] = members.told
    assert (event.round, event.state, event.answered, event.asked) == ("vote/closed", "decided", 2, 3)


async def test_a_round_that_was_open_at_the_crash_keeps_its_deadline_and_what_was_a_step(members: Members) -> None:
    def asking(flow: Workflow) -> dict[str, Callable[[], Any]]:
        calls = {"a": members.member("a", 1), "b": members.member("b", 60), "c": members.member("c", 60)}
        return {name: lambda name=name, call=call: flow.step("ask", call, key=name) for name, call in calls.items()}

    began = members.runtime.clock.time()
    flow = await members.open()
    crashed = asyncio.ensure_future(hold_round(flow, "vote", asking(flow), Majority(), 10.0))
    await asyncio.wait([crashed], timeout=6)
    crashed.cancel()
    await asyncio.wait([crashed])
    flow = await members.open()
    closed = await hold_round(flow, "vote", asking(flow), Majority(), 10.0)
    assert (closed.state, closed.why, closed.answers, closed.fence) == ("void", "late", {"a": "A"}, 2)
    assert members.runtime.clock.time() - began == pytest.approx(10)
    assert members.asked["a"] == 1


async def test_who_raises_is_lost_and_a_void_round_is_held_again_under_another_key(members: Members) -> None:
    ask = {
        "a": members.member("a", 1),
        "b": members.member("b", 1, ConnectionError("gone")),
        "c": members.member("c", 1, asyncio.CancelledError()),  # type: ignore[arg-type]
    }
    flow = await members.open()
    closed = await hold_round(flow, "vote", ask, Majority(), 10.0, key=1)
    assert (closed.state, closed.why) == ("void", "lost")
    assert closed.lost == {"b": "ConnectionError: gone", "c": "CancelledError: "}
    again = {name: members.member(name, 1) for name in "abc"}
    assert (await hold_round(flow, "vote", again, Unanimity(), 10.0, key=2)).state == "decided"


async def test_what_is_wrong_with_the_run_is_no_lost_answer(members: Members) -> None:
    for error in (StorageError("full"), WorkflowError("closed")):
        with pytest.raises(type(error)):
            await hold_round(await members.open(), "vote", {"a": members.member("a", 1, error)}, Majority(), 10.0)


async def test_a_round_that_makes_no_sense_is_refused_and_another_one_is_told_apart(members: Members) -> None:
    flow, ask = await members.open(), {"a": members.member("a", 1)}
    wrong: list[dict[str, Any]] = [{"seconds": -1}, {"weights": {"b": 1}}, {"weights": {"a": 0}}, {"ask": {}}]
    for options in [*wrong, {"rule": Quorum(2)}]:
        given: dict[str, Any] = {"ask": ask, "rule": Majority(), "seconds": 10.0, **options}
        with pytest.raises((BadOption, BadArgument)):
            await hold_round(flow, "vote", given.pop("ask"), given.pop("rule"), given.pop("seconds"), **given)
    assert not members.asked
    await hold_round(flow, "vote", ask, Majority(), 10.0, weights={"a": 2})
    with pytest.raises(StepChanged):
        await hold_round(await members.open(), "vote", ask, Majority(), 10.0)
