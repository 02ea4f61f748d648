"""Contract nets: who gets a task, and what becomes of it when somebody is lost with it."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from dspex.teams import (
    AllocateTask,
    AnnounceTask,
    AwardTask,
    Contract,
    ContractNet,
    Contractor,
    GetContractors,
    NoBids,
    RateTask,
    ReportTask,
    TaskBid,
)
from dspex.teams.patterns.contract_net import ContractAnswered, ContractDue
from dspex.workflow.errors import StaleFence
from supervision import Actor, ActorExited, Call, Ref, Refuse, ReplyTo, Runtime, handle
from supervision.errors import BadOption
from tests.dspex.teams.members import ASKED, AWAY, Says


class Bidder(Actor):
    """Bids what it was told, takes awards as it was told, and leaves reports to the test."""

    def __init__(self, bid: Any = None, accepts: Any = True, *, silent: bool = False) -> None:
        self.bid, self.accepts, self.silent = bid, accepts, silent
        self.kept: list[ReplyTo[Any]] = []

    def init(self) -> None:
        """Note what comes."""
        self.awards: asyncio.Queue[AwardTask] = self.runtime.shared.setdefault(asyncio.Queue, asyncio.Queue())

    @handle
    def announced(self, request: AnnounceTask) -> Any:
        """Bid."""
        if self.silent:
            self.kept.append(self.defer_reply())
            return None
        if isinstance(self.bid, Exception):
            raise Refuse(self.bid)
        return self.bid

    @handle
    def awarded(self, request: AwardTask) -> Any:
        """Take it or not."""
        self.awards.put_nowait(request)
        if isinstance(self.accepts, Exception):
            raise Refuse(self.accepts)
        return self.accepts


async def net(runtime: Runtime, options: dict[str, Any] | None = None, **bids: Any) -> Ref:
    """A net with bidders by their names: with a bid, or with a bid and whether an award is taken; None is not there."""
    for name, bid in bids.items():
        if bid is not None:
            await runtime.spawn(Bidder, *(bid if isinstance(bid, tuple) else (bid,)), name=f"the {name}")
    return await runtime.spawn(ContractNet, {name: f"the {name}" for name in bids}, **(options or {}))


async def next_award(runtime: Runtime) -> AwardTask:
    """The next award, in order."""
    found: AwardTask = await runtime.shared.setdefault(asyncio.Queue, asyncio.Queue()).get()
    return found


def actor(runtime: Runtime, name: str) -> Ref:
    found = runtime.whereis(f"the {name}")
    assert found is not None
    return found


FIRST, SECOND = TaskBid(0.8, 2.0), TaskBid(0.7, 0.5)


async def test_T036_the_better_value_gets_it_and_who_ends_with_it_has_its_place_taken(runtime: Runtime) -> None:
    """.8 at 2 against .7 at .5 at a price of .1: the second. It ends: the first, with the next fence.

    Its late report is refused, and what it has used is counted.
    """
    contracts = await net(runtime, a=FIRST, b=SECOND)
    done = contracts.call(AllocateTask("report", {"text": "x"}))
    award = await next_award(runtime)
    assert (award.task, award.inputs, award.fence) == ("report", {"text": "x"}, 1)
    assert award.net == runtime.name("contracts")
    actor(runtime, "b").kill()
    again = await next_award(runtime)
    assert again.fence == 2
    with pytest.raises(StaleFence, match="fence 1, and is at 2"):
        await contracts.call(ReportTask("report", 1, "late", usage=0.25))
    assert not done.done()
    assert await contracts.call(ReportTask("report", 2, "in time", usage=2.0))
    assert await done == Contract("report", "a", "in time", 2, 2.0, FIRST)
    records = await contracts.call(GetContractors())
    assert (records["b"].lost, records["b"].late, records["b"].usage, records["b"].done) == (1, 1, 0.25, 0)
    assert (records["a"].done, records["a"].usage) == (1, 2.0)
    info = runtime.info(contracts)
    assert info is not None
    assert info.summary == {"open": "0", "done": "1", "failed": "0", "lost": "1", "late": "1"}


async def test_at_most_one_result_of_a_task_is_taken_and_it_stays(runtime: Runtime) -> None:
    """Reported again it is the same; of another it is refused; asked for again it is there at once."""
    contracts = await net(runtime, a=FIRST, b=SECOND)
    done, same = (contracts.call(AllocateTask("t", {})) for _ in range(2))
    award = await next_award(runtime)
    assert await contracts.call(ReportTask("t", award.fence, "once", usage=1.0))
    assert await contracts.call(ReportTask("t", award.fence, "twice", usage=1.0))
    assert (await done).value == (await same).value == "once"
    assert (await contracts.call(AllocateTask("t", {}))).value == "once"
    assert (await contracts.call(GetContractors()))["b"].usage == 1.0
    for task, fence in (("t", 9), ("other", award.fence)):
        with pytest.raises(StaleFence):
            await contracts.call(ReportTask(task, fence))


@pytest.mark.parametrize(
    ("bid", "why"),
    [
        (None, "is not there"),
        ((None,), "does not bid$"),
        (ValueError("no"), "does not bid .ValueError"),
        (TaskBid(math.nan), "does not bid"),
        (TaskBid(1.0, math.inf), "does not bid"),
        (TaskBid(1.0, -1.0), "does not bid"),
        ("cheap", "does not bid"),
        ((FIRST, False), "refuses"),
        ((FIRST, "yes"), "refuses"),
        ((FIRST, ValueError("no")), "ValueError"),
    ],
)
async def test_if_nobody_does_it_it_is_said_why(runtime: Runtime, bid: Any, why: str) -> None:
    """Of each."""
    contracts = await net(runtime, a=bid)
    with pytest.raises(NoBids, match=f"t: nobody does it: a {why}") as caught:
        await contracts.call(AllocateTask("t", {}))
    assert caught.value.task == "t"
    assert caught.value.why.keys() == {"a"}


async def test_who_is_not_there_any_more_when_it_would_get_the_task_does_not_get_it(runtime: Runtime) -> None:
    """As it ended after it had bid."""
    contracts = await net(runtime, {"bidding": 60.0}, a=FIRST, b=SECOND, c=None)
    slow = await runtime.spawn(Bidder, silent=True, name="the c")
    done = contracts.call(AllocateTask("t", {}))
    await contracts.call(GetContractors())
    await actor(runtime, "b").call(AnnounceTask("other", {}))
    await contracts.call(GetContractors())
    actor(runtime, "b").kill()
    slow.kill()
    assert (await next_award(runtime)).fence == 1
    await contracts.call(ReportTask("t", 1, "x"))
    assert (await done).member == "a"


async def test_ties_go_by_the_teams_order(runtime: Runtime) -> None:
    """Whoever bid first."""
    contracts = await net(runtime, {"price": 0.0}, a=TaskBid(0.5), b=TaskBid(0.5, 9.0))
    done = contracts.call(AllocateTask("t", {}))
    await contracts.call(ReportTask("t", (await next_award(runtime)).fence, "x"))
    assert (await done).member == "a"


async def test_first_those_that_are_eligible_and_if_none_does_it_the_others(runtime: Runtime) -> None:
    """Once."""
    contracts = await net(runtime, a=FIRST, b=SECOND, c=(FIRST, False))
    done = contracts.call(AllocateTask("t", {}, ("c",)))
    assert [(await next_award(runtime)).fence for _ in range(2)] == [1, 2]
    await contracts.call(ReportTask("t", 2, "x"))
    assert (await done).member == "b"


async def test_who_does_not_bid_in_time_is_no_bidder(runtime: Runtime) -> None:
    """The others are not kept waiting."""
    contracts = await net(runtime, {"bidding": 0.02}, a=FIRST, b=None)
    await runtime.spawn(Bidder, silent=True, name="the b")
    done = contracts.call(AllocateTask("t", {}))
    await contracts.call(ReportTask("t", (await next_award(runtime)).fence, "x"))
    assert (await done).member == "a"
    actor(runtime, "a").kill()
    with pytest.raises(NoBids, match="a is not there; b has not bid in time"):
        await contracts.call(AllocateTask("u", {}))


async def test_who_does_not_report_in_time_has_lost_it(runtime: Runtime) -> None:
    """The next has it; and nobody if there is none: what is reported then is refused."""
    contracts = await net(runtime, {"limit": 0.02}, a=FIRST, b=SECOND)
    with pytest.raises(NoBids, match="b has not reported in time; a has not reported in time"):
        await contracts.call(AllocateTask("t", {}))
    for fence in (1, 2):
        with pytest.raises(StaleFence, match="is at 3"):
            await contracts.call(ReportTask("t", fence, "late", 1.0))
    records = await contracts.call(GetContractors())
    assert [(record.lost, record.late, record.usage) for record in records.values()] == [(1, 1, 1.0)] * 2


async def test_who_reports_that_it_has_failed_or_is_away_has_its_place_taken(runtime: Runtime) -> None:
    """These are two things."""
    contracts = await net(runtime, a=FIRST, b=SECOND)
    done = contracts.call(AllocateTask("t", {}))
    assert await contracts.call(ReportTask("t", (await next_award(runtime)).fence, error="ValueError: no"))
    assert await contracts.call(ReportTask("t", (await next_award(runtime)).fence, error="away", away=True))
    with pytest.raises(NoBids, match="b has failed: ValueError: no; a is lost: away"):
        await done
    records = await contracts.call(GetContractors())
    assert (records["b"].failed, records["b"].lost, records["a"].failed, records["a"].lost) == (1, 0, 0, 1)


async def test_what_nobody_waits_for_is_given_up(runtime: Runtime) -> None:
    """Its report is refused; as long as one waits it goes on."""
    contracts = await net(runtime, a=FIRST)
    first, second = (contracts.call(AllocateTask("t", {})) for _ in range(2))
    fence = (await next_award(runtime)).fence
    first.cancel()
    await contracts.call(GetContractors())
    second.cancel()
    await asyncio.sleep(0)  # noqa: TID251 - one pass, in which it is told
    with pytest.raises(StaleFence):
        await contracts.call(ReportTask("t", fence, "x"))
    done = contracts.call(AllocateTask("t", {}))
    await contracts.call(ReportTask("t", (await next_award(runtime)).fence, "y"))
    assert (await done).value == "y"


async def test_a_member_that_claims_too_much_is_believed_less(runtime: Runtime) -> None:
    """By as much as its results were found worse, on the average; each counts once."""
    contracts = await net(runtime, a=TaskBid(0.9), b=TaskBid(0.7))
    for task, quality, member in (("t", 0.5, "a"), ("u", 0.7, "b"), ("v", 0.7, "b")):
        done = contracts.call(AllocateTask(task, {}))
        await contracts.call(ReportTask(task, (await next_award(runtime)).fence, "x"))
        assert (await done).member == member
        bias = await contracts.call(RateTask(task, quality))
        assert bias == pytest.approx(0.4 if member == "a" else 0.0)
        assert await contracts.call(RateTask(task, 0.0)) == bias
    records = await contracts.call(GetContractors())
    assert (records["a"].rated, records["b"].rated) == (1, 2)
    with pytest.raises(BadOption, match="name a task that was done"):
        await contracts.call(RateTask("w", 0.5))
    with pytest.raises(BadOption, match="quality"):
        await contracts.call(RateTask("t", math.nan))


async def restarted(runtime: Runtime) -> tuple[Ref, int]:
    """The next incarnation of a net that has ended while ``a`` has the task ``t``; and the fence of that."""
    contracts = await net(runtime, a=FIRST)
    done = contracts.call(AllocateTask("t", {}))
    fence = (await next_award(runtime)).fence
    contracts.kill()
    with pytest.raises(ActorExited):
        await done
    return await runtime.spawn(ContractNet, {"a": "the a"}), fence


async def test_what_was_done_and_who_has_a_task_survive_a_restart(runtime: Runtime) -> None:
    """A report is taken by the next incarnation; fences grow on."""
    again, fence = await restarted(runtime)
    assert await again.call(ReportTask("t", fence, "x", 1.0))
    assert (await again.call(AllocateTask("t", {}))).value == "x"
    other = again.call(AllocateTask("u", {}))
    assert (await next_award(runtime)).fence == fence + 1
    await again.call(ReportTask("u", fence + 1, error="no"))
    with pytest.raises(NoBids):
        await other
    again.kill()
    third = await runtime.spawn(ContractNet, {"a": "the a"})
    assert (await third.call(GetContractors()))["a"].done == 1


async def test_a_failure_that_is_reported_after_a_restart_is_noted(runtime: Runtime) -> None:
    """The caller has to ask again, and gets another award."""
    again, fence = await restarted(runtime)
    assert await again.call(ReportTask("t", fence, error="no"))
    with pytest.raises(StaleFence):
        await again.call(ReportTask("t", fence, "x"))


async def test_what_makes_no_sense_is_refused_to_its_sender(runtime: Runtime) -> None:
    """And the net goes on."""
    contracts = await net(runtime, a=FIRST)
    wrong: list[Any] = [
        AllocateTask("", {}),
        AllocateTask("t", {}, ()),
        AllocateTask("t", {}, ("z",)),
        AllocateTask("t", {}, 5),  # type: ignore[arg-type]
        ReportTask("t", 0),
        ReportTask("", 1),
        ReportTask("t", 1, usage=math.nan),
        ReportTask("t", 1, usage=-1.0),
    ]
    for request in wrong:
        with pytest.raises(BadOption):
            await contracts.call(request)
    for message in (ContractDue("t"), ContractDue(5), ContractAnswered("t", Call), ContractAnswered(5, None)):  # type: ignore[arg-type]
        contracts.cast(message)
    done = contracts.call(AllocateTask("t", {}))
    fence = (await next_award(runtime)).fence
    for stray in (ContractDue("t"), ContractAnswered("t", None), ContractAnswered("t", done)):  # type: ignore[arg-type]
        contracts.cast(stray)
    await contracts.call(ReportTask("t", fence, "x"))
    assert (await done).value == "x"


@pytest.mark.parametrize(
    ("members", "options", "what"),
    [
        ({}, {}, "members"),
        (["a"], {}, "members"),
        ({"": "a"}, {}, "member"),
        ({"a": 5}, {}, "actor"),
        ({"a": "b"}, {"price": -1}, "price"),
        ({"a": "b"}, {"bidding": 0}, "bidding"),
        ({"a": "b"}, {"limit": math.inf}, "limit"),
    ],
)
async def test_a_net_that_makes_no_sense_does_not_start(
    runtime: Runtime, members: Any, options: dict[str, Any], what: str
) -> None:
    """It says what, and what would."""
    with pytest.raises(Exception, match=f"ContractNet: {what}"):
        await runtime.spawn(ContractNet, members, **options)


# -- programs that bid ---------------------------------------------------------------------------------------------


async def test_programs_bid_for_tasks_and_do_them(runtime: Runtime) -> None:
    """By what they say a task would be worth; one that has enough to do, or whose function fails, does not bid."""
    ASKED.clear()
    gate = asyncio.Event()

    async def slowly() -> str:
        await gate.wait()
        return "slow"

    def broken_bid(inputs: Any) -> TaskBid:
        raise ValueError(inputs)

    def bid(inputs: Any) -> TaskBid | None:
        return TaskBid({"long": 0.9, "odd": None}.get(inputs["kind"], 0.1), 1.0)  # type: ignore[arg-type]

    await runtime.spawn(Contractor, Says("slow", lambda _: slowly()), bid, name="the slow")
    await runtime.spawn(Contractor, Says("fast", "fast"), TaskBid(0.5, 0.1), name="the fast")
    broken = await runtime.spawn(Contractor, Says("broken", "x"), broken_bid, name="the broken")
    contracts = await runtime.spawn(ContractNet, {name: f"the {name}" for name in ("slow", "fast", "broken")})
    first = contracts.call(AllocateTask("first", {"kind": "long"}))
    while "slow" not in ASKED:
        await runtime.sleep(0.001)
    info = runtime.info(actor(runtime, "slow"))
    assert info is not None
    assert info.summary == {"running": "1"}
    assert not await actor(runtime, "slow").call(AwardTask("more", {}, 99, runtime.name("contracts")))
    second = await contracts.call(AllocateTask("second", {"kind": "long"}))
    assert (second.member, second.value.label, second.usage) == ("fast", "fast", 0.0)
    assert (await contracts.call(AllocateTask("third", {"kind": "short"}))).member == "fast"
    gate.set()
    assert (await first).value.label == "slow"
    assert broken.alive


@pytest.mark.parametrize(("error", "why"), [(ValueError("no"), "has failed: ValueError: no"), (AWAY, "is lost")])
async def test_a_program_that_has_no_result_says_so(runtime: Runtime, error: Exception, why: str) -> None:
    """Whether it has failed, or its model is away."""
    await runtime.spawn(Contractor, Says("a", error), TaskBid(1.0), name="the a")
    contracts = await runtime.spawn(ContractNet, {"a": "the a"})
    with pytest.raises(NoBids, match=why):
        await contracts.call(AllocateTask("t", {}))


async def gated(runtime: Runtime, came: asyncio.Event, gate: asyncio.Event) -> Ref:
    """A contractor that works until a gate opens."""

    async def work() -> str:
        came.set()
        await gate.wait()
        return "done"

    return await runtime.spawn(Contractor, Says("a", lambda _: work()), TaskBid(1.0), name="the a")


async def test_a_report_waits_for_a_net_that_is_restarted(runtime: Runtime) -> None:
    """It is taken by the next incarnation."""
    came, gate = asyncio.Event(), asyncio.Event()
    await gated(runtime, came, gate)
    contracts = await runtime.spawn(ContractNet, {"a": "the a"})
    asked = contracts.call(AllocateTask("t", {}))
    await came.wait()
    contracts.kill()
    with pytest.raises(ActorExited):
        await asked
    gate.set()
    await runtime.sleep(0.02)
    again = await runtime.spawn(ContractNet, {"a": "the a"})
    while not (await again.call(GetContractors()))["a"].done:
        await runtime.sleep(0.01)
    assert (await again.call(AllocateTask("t", {}))).value.label == "done"


async def test_a_report_that_belongs_to_somebody_else_by_now_changes_nothing(runtime: Runtime) -> None:
    """Nor one that no net takes: it is given up in the end."""
    came, gate = asyncio.Event(), asyncio.Event()
    contractor = await gated(runtime, came, gate)
    contracts = await runtime.spawn(ContractNet, {"a": "the a"}, limit=0.02)
    with pytest.raises(NoBids, match="a has not reported in time"):
        await contracts.call(AllocateTask("t", {}))
    await came.wait()
    gate.set()
    while not (await contracts.call(GetContractors()))["a"].late:
        await runtime.sleep(0.001)
    assert contractor.alive


async def test_a_report_that_no_net_takes_is_given_up(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some tries."""
    monkeypatch.setattr("dspex.teams.patterns.contractor.PAUSES", (0.001,))
    came, gate = asyncio.Event(), asyncio.Event()
    contractor = await gated(runtime, came, gate)
    contracts = await runtime.spawn(ContractNet, {"a": "the a"})
    asked = contracts.call(AllocateTask("t", {}))
    await came.wait()
    contracts.kill()
    with pytest.raises(ActorExited):
        await asked
    gate.set()
    while await contractor.call(AnnounceTask("more", {})) is None:
        await runtime.sleep(0.001)


async def test_a_contractor_that_is_killed_leaves_no_task(runtime: Runtime) -> None:
    """Its work is cancelled, and its place taken."""
    came, gone = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        came.set()
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        return "never"

    await runtime.spawn(Contractor, Says("a", lambda _: work()), TaskBid(1.0), name="the a")
    contracts = await runtime.spawn(ContractNet, {"a": "the a"})
    asked = contracts.call(AllocateTask("t", {}))
    await came.wait()
    actor(runtime, "a").kill()
    with pytest.raises(NoBids, match="a has ended"):
        await asked
    await gone.wait()


async def test_a_contractor_that_makes_no_sense_does_not_start(runtime: Runtime) -> None:
    """It says what."""
    for args, options in (
        ((Says("a", "A"), 5), {}),
        ((Says("a", "A"), TaskBid(1.0)), {"concurrency": 0}),
        ((5, TaskBid(1.0)), {}),
    ):
        with pytest.raises(Exception, match=r"Contractor|dspy\.Module"):
            await runtime.spawn(Contractor, *args, **options)
