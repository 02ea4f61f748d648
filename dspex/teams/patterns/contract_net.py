"""Contract nets: members bid for a task, and the best bid gets it; whoever is lost with it has its place taken.

`ContractNet` announces a task to contractors, which are actors: they answer `AnnounceTask` with what it would be worth
(`TaskBid`), take an `AwardTask`, and send `ReportTask` when it is done. `dspex.teams.patterns.contractor` makes one of
a program. An award has a fence, which grows with each: what is reported under an earlier one is refused, and its usage
is counted all the same (Smith, "The Contract Net Protocol", 1980).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from dspex.workflow.errors import StaleFence
from foundation.coordination.retained import MonotonicCounter, remember, retained
from foundation.coordination.validation import refusing
from foundation.holders import HolderMonitors
from foundation.naming import own_name
from foundation.options import above_zero, finite, from_zero, is_a, text, whole
from supervision import Actor, Call, Down, Message, Name, Ref, Refuse, ReplyTo, Request, Timer, handle
from supervision.errors import BadOption

#: Of how many tasks that are over the net knows what became of them.
REMEMBERED = 10_000


class TaskBid(msgspec.Struct, frozen=True):
    """What a contractor claims.

    Attributes:
        quality: how good its result will be, mostly from 0 to 1.
        cost: what it will cost.
    """

    quality: float
    cost: float = 0.0


class AnnounceTask(Request["TaskBid | None"], frozen=True):
    """To a contractor: what would you do this for? None for no bid."""

    task: str
    inputs: Any


class AwardTask(Request[bool], frozen=True):
    """To a contractor: do it, and send a `ReportTask` to ``net``. The answer is whether it does.

    Attributes:
        task: the name of the task.
        inputs: what is to be done.
        fence: goes into the report.
        net: where to report.
    """

    task: str
    inputs: Any
    fence: int
    net: Name


class ReportTask(Request[bool], frozen=True):
    """To the net: it is done. The answer is True; of a contractor whose award is over it is `StaleFence`.

    Attributes:
        task: the name of the task.
        fence: of the award.
        value: the result.
        usage: what it has cost.
        error: why there is no result; None if there is one.
        away: whether that is because something that it needs is away: it is lost then, and has not failed.
    """

    task: str
    fence: int
    value: Any = None
    usage: float = 0.0
    error: str | None = None
    away: bool = False


class Contract(msgspec.Struct, frozen=True):
    """A task that is done.

    Attributes:
        task: its name.
        member: who did it.
        value: the result.
        fence: of the award under which it was done.
        usage: what that has cost.
        bid: what was claimed.
    """

    task: str
    member: str
    value: Any
    fence: int
    usage: float
    bid: TaskBid


class AllocateTask(Request[Contract], frozen=True):
    """Have a task done by whoever bids best.

    Attributes:
        task: its name. One that is done already has its result at once, and one that is under way is not begun again.
        inputs: what is to be done.
        eligible: who may bid first; if none of them does it, all others may. None for all.
    """

    task: str
    inputs: Any
    eligible: tuple[str, ...] | None = None


class RateTask(Request[float], frozen=True):
    """Say how good a result was: a member that claims too much is believed less. The answer is by how much it claims.

    Attributes:
        task: whose result it was.
        quality: as good as bids claim it.
    """

    task: str
    quality: float


class GetContractors(Request["Mapping[str, ContractorRecord]"], frozen=True):
    """Ask what became of the members' awards."""


class ContractorRecord(msgspec.Struct):
    """What became of a member's awards.

    Attributes:
        done: how many it did.
        failed: how many it reported as failed.
        lost: how often it ended, refused, or did not report in time.
        late: how often it reported when somebody else had the task.
        usage: what all its reports have cost, late ones included.
        bias: how much better it claims to be than it was found to be, on the average.
        rated: how many of its results were rated.
    """

    done: int = 0
    failed: int = 0
    lost: int = 0
    late: int = 0
    usage: float = 0.0
    bias: float = 0.0
    rated: int = 0


class NoBids(Exception):
    """Nobody does the task. ``why`` says for each member what became of it."""

    def __init__(self, task: str, why: Mapping[str, str]) -> None:
        self.task, self.why = task, dict(why)
        told = "; ".join(f"{member} {reason}" for member, reason in self.why.items())
        super().__init__(f"{task}: nobody does it: {told}")


class ContractAnswered(Message, frozen=True):
    """To itself: a contractor has answered, or cannot."""

    task: str
    call: Call[Any]


class ContractDue(Message, frozen=True):
    """To itself: time is over, to bid or to report."""

    task: str


class TaskState(msgspec.Struct):
    """A task that is under way."""

    asked: AllocateTask
    #: Who may bid, in the order that decides ties, and why those that do not do it do not.
    eligible: list[str]
    why: dict[str, str]
    waiting: dict[ReplyTo[Contract], None] = {}
    #: Bids that are awaited, and those that are in and have not been taken up.
    calls: dict[Call[Any], str] = {}
    bids: dict[str, TaskBid] = {}
    #: Who has the award, and the answer to it that is awaited.
    award: Award | None = None
    answer: Call[bool] | None = None
    timer: Timer | None = None

    def rest(self) -> None:
        """Await nothing."""
        for call in [*self.calls, *([] if self.answer is None else [self.answer])]:
            call.cancel()
        if self.timer is not None:
            self.timer.cancel()
        self.calls, self.answer, self.timer = {}, None, None


class Award(msgspec.Struct, frozen=True):
    """Who has a task, under which fence."""

    task: str
    member: str
    bid: TaskBid
    fence: int
    ref: Ref


class ContractNet(Actor):
    """Has tasks done by those who bid best. It is named ``contracts`` unless started with another name.

    What was done, and who has a task, survive its restart: a report is taken then, and `AllocateTask` of the same task
    has its result. Callers that waited get `ActorExited`, and ask again.

    Args:
        members: the names of the contractors' actors, by their names in the team, in the order that decides ties.
        price: what a unit of cost is worth in quality: bids are compared by quality - price * cost.
        bidding: seconds within which bids have to be in; it is over earlier if all are.
        limit: seconds within which a contractor has to report; None for any time.

    Raises:
        BadOption: at its start, if there are no members, or a number makes no sense.
    """

    infrastructure = True

    def __init__(
        self,
        members: Mapping[str, str],
        *,
        price: float = 0.1,
        bidding: float = 1.0,
        limit: float | None = None,
    ) -> None:
        if not is_a(members, Mapping) or not members:
            raise BadOption("ContractNet: members", members, "give the names of actors by those of members")
        self._members = {
            text("ContractNet: member", name): text("ContractNet: actor", actor) for name, actor in members.items()
        }
        self._price = from_zero("ContractNet: price", price)
        self._bidding = above_zero("ContractNet: bidding", bidding)
        self._limit = None if limit is None else above_zero("ContractNet: limit", limit)
        self._open: dict[str, TaskState] = {}
        self._holders: HolderMonitors[str] = HolderMonitors(self)

    def init(self) -> None:
        """Take over what is known."""
        self._name = own_name(self, "contracts")
        self._fences = MonotonicCounter(self.runtime, self._name)
        self._awards: dict[int, Award] = retained(self.runtime, f"{self._name}: awards")
        self._current: dict[str, int] = retained(self.runtime, f"{self._name}: fences")
        self._done: dict[str, Contract] = retained(self.runtime, f"{self._name}: done")
        self._rated: dict[str, float] = retained(self.runtime, f"{self._name}: rated")
        records: dict[str, ContractorRecord] = retained(self.runtime, f"{self._name}: records")
        self._records = records
        for member in self._members:
            records.setdefault(member, ContractorRecord())

    def summary(self) -> Mapping[str, object]:
        """Return what is under way, and what became of awards, for ``/tree``."""
        records = self._records.values()
        counts = {name: sum(getattr(one, name) for one in records) for name in ("done", "failed", "lost", "late")}
        return {"open": len(self._open), **counts}

    @handle
    @refusing
    def allocate(self, request: AllocateTask) -> Contract | None:
        """Announce a task; or answer what is known of it."""
        task = text("task", request.task)
        eligible = self._eligible(request.eligible)
        if task in self._done:
            return self._done[task]
        reply = self.defer_reply()
        state = self._open.get(task)
        if state is not None:
            state.waiting[reply] = None
        else:
            state = self._open[task] = TaskState(request, [], {}, {reply: None})
            self._announce(task, state, eligible)
        reply.on_abandoned(lambda: self._left(task, state, reply))
        return None

    def _eligible(self, given: Any) -> list[str]:
        if given is None:
            return list(self._members)
        names = list(given) if is_a(given, tuple) or is_a(given, list) else []
        if not names or any(name not in self._members for name in names):
            raise BadOption("AllocateTask: eligible", given, f"name some of {', '.join(self._members)}, or give None")
        return [name for name in self._members if name in names]

    def _announce(self, task: str, state: TaskState, members: Iterable[str]) -> None:
        """Ask members for their bids."""
        for member in members:
            state.eligible.append(member)
            ref = self.runtime.whereis(self._members[member])
            if ref is None:
                state.why[member] = "is not there"
            else:
                call = ref.call(AnnounceTask(task, state.asked.inputs), timeout=None)
                state.calls[call] = member
                call.add_done_callback(self._hearing(task))
        if state.calls:
            state.timer = self.send_after(self._bidding, ContractDue(task))
        else:
            self._award(task, state)

    def _hearing(self, task: str) -> Callable[[Call[Any]], None]:
        def hear(call: Call[Any]) -> None:
            if not call.cancelled():
                self.ref.cast(ContractAnswered(task, call))

        return hear

    @handle
    def answered(self, message: ContractAnswered) -> None:
        """Note a bid, or whether a contractor takes the task."""
        state, call = self._state(message.task), message.call
        if state is None or not is_a(call, Call):
            return
        if call in state.calls:
            self._bid(state, state.calls.pop(call), call)
            if not state.calls:
                self._award(message.task, state)
        elif call is state.answer:
            state.answer, error = None, call.exception()
            if error is not None or call.result() is not True:
                self._take_back(message.task, state, "refuses" if error is None else type(error).__name__)

    def _bid(self, state: TaskState, member: str, call: Call[Any]) -> None:
        error = call.exception()
        bid = None if error is not None else _sound(call.result())
        if bid is not None:
            state.bids[member] = bid
        else:
            state.why[member] = "does not bid" if error is None else f"does not bid ({type(error).__name__})"

    def _award(self, task: str, state: TaskState) -> None:
        """Give a task to the best bid of those that are left; then to whoever was not eligible; else give it up."""
        state.rest()
        for member in sorted(
            state.bids, key=lambda name: (-self._value(name, state.bids[name]), state.eligible.index(name))
        ):
            bid, ref = state.bids.pop(member), self.runtime.whereis(self._members[member])
            if ref is None:
                self._lost(state, member, "is not there")
                continue
            fence = self._fences.next()
            award = state.award = Award(task, member, bid, fence, ref)
            remember(self._awards, fence, award, REMEMBERED)
            remember(self._current, task, fence, REMEMBERED)
            self._holders.add(ref, task)
            state.answer = ref.call(
                AwardTask(task, state.asked.inputs, fence, self.runtime.name(self._name)), timeout=None
            )
            state.answer.add_done_callback(self._hearing(task))
            if self._limit is not None:
                state.timer = self.send_after(self._limit, ContractDue(task))
            return
        others = [member for member in self._members if member not in state.eligible]
        if others:
            self._announce(task, state, others)
        else:
            self._give_up(task, state)

    def _value(self, member: str, bid: TaskBid) -> float:
        """Return what a bid is worth; a member that claims too much is believed less."""
        return bid.quality - self._records[member].bias - self._price * bid.cost

    @handle
    @refusing
    def report(self, request: ReportTask) -> bool:
        """Take a result, unless somebody else has the task by now."""
        task, fence = text("task", request.task), whole("fence", request.fence)
        usage = from_zero("usage", request.usage)
        award = self._awards.get(fence)
        if award is None or award.task != task:
            raise Refuse(StaleFence(task, fence, self._current.get(task, 0)))
        record = self._records.setdefault(award.member, ContractorRecord())
        done = self._done.get(task)
        if done is not None and done.fence == fence:
            return True
        record.usage += usage
        if self._current.get(task) != fence or done is not None:
            record.late += 1
            raise Refuse(StaleFence(task, fence, self._current.get(task, 0)))
        state = self._open.get(task)
        if request.error is not None:
            self._failed(task, state, award, request)
            return True
        record.done += 1
        contract = Contract(task, award.member, request.value, fence, usage, award.bid)
        remember(self._done, task, contract, REMEMBERED)
        if state is not None:
            self._close(task, state)
            for reply in state.waiting:
                reply.reply(contract)
        return True

    def _failed(self, task: str, state: TaskState | None, award: Award, request: ReportTask) -> None:
        """Give a task that its contractor cannot do to the next."""
        record = self._records[award.member]
        if request.away is True:
            record.lost += 1
        else:
            record.failed += 1
        self._revoke(task)
        if state is not None:
            state.why[award.member] = f"{'is lost' if request.away is True else 'has failed'}: {request.error}"
            self._settle(state)
            self._award(task, state)

    @handle
    @refusing
    def rate(self, request: RateTask) -> float:
        """Note how good a result was, once."""
        task, quality = text("task", request.task), finite(request.quality)
        if quality is None:
            raise BadOption("RateTask: quality", request.quality, "give a finite number")
        done = self._done.get(task)
        if done is None:
            raise BadOption("RateTask: task", task, "name a task that was done, and not too long ago")
        record = self._records[done.member]
        if task not in self._rated:
            remember(self._rated, task, quality, REMEMBERED)
            record.rated += 1
            record.bias += (done.bid.quality - quality - record.bias) / record.rated
        return record.bias

    @handle
    def records(self, request: GetContractors) -> Mapping[str, ContractorRecord]:
        """Say what became of the members' awards."""
        return {member: msgspec.structs.replace(record) for member, record in self._records.items()}

    @handle
    def ended(self, message: Down) -> None:
        """Give the tasks of a contractor that has ended to others."""
        for task in self._holders.ended(message):
            state = self._open[task]
            self._take_back(task, state, "has ended")

    @handle
    def due(self, message: ContractDue) -> None:
        """End the bidding, or the time of a contractor."""
        state = self._state(message.task)
        if state is None or state.timer is None or state.timer.read() is not None:
            return
        if state.award is None:
            for member in state.calls.values():
                state.why[member] = "has not bid in time"
            self._award(message.task, state)
        else:
            self._take_back(message.task, state, "has not reported in time")

    def _state(self, task: Any) -> TaskState | None:
        return self._open.get(str.__str__(task)) if is_a(task, str) else None

    def _take_back(self, task: str, state: TaskState, why: str) -> None:
        """Give a task whose contractor is lost to the next."""
        assert state.award is not None
        self._lost(state, state.award.member, why)
        self._settle(state)
        self._award(task, state)

    def _lost(self, state: TaskState, member: str, why: str) -> None:
        state.why[member] = why
        self._records[member].lost += 1

    def _settle(self, state: TaskState) -> None:
        """Watch a contractor no more for a task that it does not have any more."""
        if state.award is not None:
            self._holders.discard(state.award.ref, state.award.task)
        state.award = None

    def _revoke(self, task: str) -> None:
        """Refuse what is reported under any fence so far."""
        remember(self._current, task, self._fences.next(), REMEMBERED)

    def _close(self, task: str, state: TaskState) -> None:
        del self._open[task]
        self._settle(state)
        state.rest()

    def _give_up(self, task: str, state: TaskState) -> None:
        self._close(task, state)
        self._revoke(task)
        for reply in state.waiting:
            reply.fail(NoBids(task, state.why))

    def _left(self, task: str, state: TaskState, reply: ReplyTo[Contract]) -> None:
        """Somebody waits no more; what nobody waits for is given up."""
        state.waiting.pop(reply, None)
        if not state.waiting and self.ref.alive and self._open.get(task) is state:
            self._give_up(task, state)


def _sound(bid: Any) -> TaskBid | None:
    """Return a bid that can be compared; None for one that cannot."""
    if not is_a(bid, TaskBid):
        return None
    quality, cost = finite(bid.quality), finite(bid.cost)
    return None if quality is None or cost is None or cost < 0 else TaskBid(quality, cost)
