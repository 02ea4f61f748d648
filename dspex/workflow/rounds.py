"""Quorum rounds: who was asked, which answers count, and when there are enough of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from fractions import Fraction
from typing import Any, Literal

import msgspec

from agents.durability import StorageError
from dspex.workflow.encoding import Key
from dspex.workflow.errors import WorkflowError
from dspex.workflow.events import RoundClosed
from dspex.workflow.steps import current_step, error_message
from dspex.workflow.workflow import Workflow
from foundation.coordination.consensus import Rule, Tally
from foundation.options import from_zero
from supervision.errors import BadOption


class Byzantine(Rule, frozen=True):
    """So many have to answer that most of them are honest, though up to f of 3 f + 1 lie: 3 of 4, 5 of 7, 7 of 10.

    Each participant has the weight 1. (Castro and Liskov, "Practical Byzantine Fault Tolerance", 1999.)
    """

    def needed(self, total: Fraction) -> Fraction:
        """More than half of all and of those who may lie."""
        size = int(total)
        return Fraction((size + (size - 1) // 3) // 2 + 1)


class RoundResult(msgspec.Struct, frozen=True):
    """How a round has ended.

    Attributes:
        state: ``decided``: enough have answered. ``void``: they have not, and the round has no effect.
        why: it is void: ``lost`` if too many cannot answer, ``late`` if the deadline is over; empty if it is not.
        fence: of the round.
        answers: those that are used, by participant, in the order of the participants.
        lost: why participants cannot answer.
        missing: who has not answered.
        coverage: which part of the weight of all who were asked has answered.
    """

    state: Literal["decided", "void"]
    why: str
    fence: int
    answers: dict[str, Any]
    lost: dict[str, str]
    missing: tuple[str, ...]
    coverage: float


class QuorumRound:
    """A round that is open: a value without clock and actors.

    How much weight has to answer is of all who were asked, not of who answers. The first answer of a participant
    counts, of whichever of its incarnations. What comes after the end is counted, and changes nothing.

    Args:
        weights: of the participants, in their order.
        rule: how much weight has to answer.
        deadline: until when.
        fence: larger than that of a round before it; an answer to that one is late.

    Raises:
        BadRule: nobody takes part, or the rule can never be met.

    >>> from foundation.coordination.consensus import Majority
    >>> round = QuorumRound({"a": 1, "b": 1, "c": 1}, Majority(), deadline=10.0, fence=2)
    >>> round.answer("a", "yes", fence=2, now=1.0), round.answer("b", "no", fence=1, now=2.0)
    (True, False)
    >>> round.answer("c", "no", fence=2, now=3.0), round.closed.answers, round.late
    (True, {'a': 'yes', 'c': 'no'}, 1)
    """

    def __init__(self, weights: Mapping[str, float], rule: Rule, deadline: float, fence: int = 1) -> None:
        Tally(rule, weights)  # refuses what makes no sense
        self._rule, self._given = rule, dict(weights)
        self._weights = {who: Fraction(weight) for who, weight in weights.items()}
        self.deadline = deadline
        self._fence = fence
        self._answers: dict[str, Any] = {}
        self._lost: dict[str, str] = {}
        #: How it has ended; None while it is open.
        self.closed: RoundResult | None = None
        #: How many answers came after the end, to another round, or from nobody who was asked.
        self.late = 0

    @property
    def heard(self) -> set[str]:
        """Of whom it is known whether they have answered."""
        return {*self._answers, *self._lost}

    def answer(self, who: str, value: Any, *, fence: int, now: float) -> bool:
        """Take an answer; return whether it counts.

        Args:
            who: has answered.
            value: what.
            fence: of the round to which it is an answer.
            now: the time.
        """
        if who in self._answers:
            return False  # the first one counts; the second is the same participant, restarted
        if self.look(now) is not None or fence != self._fence or who not in self._weights:
            self.late += 1
            return False
        self._answers[who] = value
        self._lost.pop(who, None)
        self._decide()
        return True

    def lose(self, who: str, why: str) -> None:
        """Record that a participant cannot answer any more."""
        if self.closed is None and who in self._weights and who not in self._answers:
            self._lost[who] = why
            self._decide()

    def look(self, now: float) -> RoundResult | None:
        """Return how the round has ended; None while it is open."""
        if self.closed is None and now >= self.deadline:
            self._close("void", "late")
        return self.closed

    def _decide(self) -> None:
        tally = Tally(self._rule, self._given)
        for who in self._answers:
            tally.vote(who, True)
        for who in self._lost:
            tally.vote(who, "absent")
        if tally.decided is True:
            self._close("decided", "")
        elif tally.decided is False:
            self._close("void", "lost")

    def _close(self, state: Literal["decided", "void"], why: str) -> None:
        answers = {who: self._answers[who] for who in self._weights if who in self._answers}
        missing = tuple(who for who in self._weights if who not in answers and who not in self._lost)
        weight = sum((self._weights[who] for who in answers), Fraction(0))
        coverage = float(weight / sum(self._weights.values()))
        self.closed = RoundResult(state, why, self._fence, answers, dict(self._lost), missing, coverage)


async def hold_round(
    flow: Workflow,
    name: str,
    ask: Mapping[str, Callable[[], Awaitable[Any]]],
    rule: Rule,
    seconds: float,
    *,
    weights: Mapping[str, float] | None = None,
    key: Key = (),
) -> RoundResult:
    """Ask participants, all at a time, until the rule is met, or can be met no more, or the time is over.

    How the round has ended is one step of the workflow, with the answers that are used; so after a crash it has ended
    as before. If it was open then, all are asked again, up to the same deadline: an answer that is to be kept is a step
    itself (``lambda: flow.step("ask", ..., key=who)``). Participants that have not answered in the end are cancelled. A
    round that is void is held again under another ``key``.

    Args:
        flow: the workflow.
        name: of the round.
        ask: asks each participant; one that raises is lost.
        rule: how much weight has to answer, such as ``Majority()`` or `Byzantine`.
        seconds: how long the round is open.
        weights: of the participants; 1 each if None.
        key: what tells the round from others of that name.

    Raises:
        BadRule, BadOption: the round makes no sense.
        Exception: as for `Workflow.step`.
    """
    seconds = from_zero("hold_round: seconds", seconds)
    weighed = dict.fromkeys(ask, 1.0) if weights is None else {who: weights.get(who, 0.0) for who in ask}
    if weights is not None and set(weights) != set(ask):
        raise BadOption("hold_round: weights", weights, "give the weight of each participant")
    QuorumRound(weighed, rule, 0.0)
    part = flow.scope(name, key)
    deadline = await part.now("opened") + seconds

    async def hold(*_: object) -> RoundResult:
        closed = await _asked(flow, ask, QuorumRound(weighed, rule, deadline, current_step().attempt))
        flow.runtime.events.emit(
            RoundClosed,
            workflow=flow.name,
            round=current_step().key,
            state=closed.state,
            why=closed.why,
            answered=len(closed.answers),
            asked=len(ask),
        )
        return closed

    found: RoundResult = await part.step("closed", hold, weighed, repr(rule), seconds, type=RoundResult)
    return found


async def _asked(
    flow: Workflow, ask: Mapping[str, Callable[[], Awaitable[Any]]], open_round: QuorumRound
) -> RoundResult:
    clock, fence = flow.runtime.clock, current_step().attempt
    asked = {asyncio.ensure_future(call()): who for who, call in ask.items()}
    try:
        while (closed := open_round.look(clock.wall_time())) is None:
            left = max(0.0, open_round.deadline - clock.wall_time())
            waiting = [task for task, who in asked.items() if who not in open_round.heard]
            await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            # In the order of the participants, not of their answers.
            for task, who in asked.items():
                if task.done() and who not in open_round.heard:
                    _hear(open_round, who, task, fence, clock.wall_time())
        return closed
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


def _hear(open_round: QuorumRound, who: str, task: asyncio.Future[Any], fence: int, now: float) -> None:
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if isinstance(error, (WorkflowError, StorageError)):
        raise error
    if error is None:
        open_round.answer(who, task.result(), fence=fence, now=now)
    else:
        open_round.lose(who, f"{type(error).__name__}: {error_message(error)}")
