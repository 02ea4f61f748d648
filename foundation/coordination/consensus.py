"""Consensus: participants are asked, and a rule that was stated before decides.

A round ends as soon as no further vote could change the decision, and at its time limit at the latest. Who has ended,
or refuses to answer, is absent: it still counts among those whose consent the rule asks for.

>>> import asyncio
>>> from supervision import Actor, Runtime, handle
>>> class Member(Actor):
...     def __init__(self, limit: int) -> None:
...         self.limit = limit
...
...     @handle
...     def vote(self, request: Vote) -> bool | None:
...         return request.proposal <= self.limit
>>> async def main() -> tuple[bool, int]:
...     async with Runtime() as runtime:
...         await runtime.spawn(Consensus)
...         members = [await runtime.spawn(Member, limit) for limit in (10, 20, 30)]
...         decision = await propose(runtime, 15, members, Majority())
...         return decision.accepted, len(decision.yes)
>>> asyncio.run(main())
(True, 2)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any, Literal

import msgspec

from foundation.coordination.errors import BadRule
from foundation.naming import own_name
from supervision import Actor, Address, Call, Message, Refuse, ReplyTo, Request, Runtime, handle


class Vote(Request["bool | None"], frozen=True):
    """To a participant: say yes (True), no (False), or abstain (None)."""

    proposal: Any


class Rule(msgspec.Struct, frozen=True):
    """How much consent is needed, of the weight of all who were asked."""

    def needed(self, total: Fraction) -> Fraction:
        """Return how much weight has to say yes."""
        raise NotImplementedError


class Unanimity(Rule, frozen=True):
    """All say yes."""

    def needed(self, total: Fraction) -> Fraction:
        """All of it."""
        return total


class Majority(Rule, frozen=True):
    """More than half of all say yes, and not only of those who vote."""

    def needed(self, total: Fraction) -> Fraction:
        """More than half: of equal weights, the next whole number."""
        return total / 2


class Quorum(Rule, frozen=True):
    """So much weight says yes: of equal weights, so many."""

    yes: float

    def needed(self, total: Fraction) -> Fraction:
        """As much as was said."""
        return Fraction(self.yes)


class Weighted(Rule, frozen=True):
    """At least such a share of the weight says yes, from 0 to 1."""

    share: float

    def needed(self, total: Fraction) -> Fraction:
        """That share."""
        return total * Fraction(self.share)


class Decision(msgspec.Struct, frozen=True):
    """How a round ended.

    Attributes:
        accepted: whether the rule was met.
        why: ``accepted``; ``rejected``, as it could not be met any more; or ``late``, as the time was over.
        yes: who said so.
        no: who said so.
        abstained: who said neither.
        absent: who has ended, or failed to answer.
        unasked: whose answer was not needed any more, or had not come in time.
    """

    accepted: bool
    why: Literal["accepted", "rejected", "late"]
    yes: tuple[Address, ...]
    no: tuple[Address, ...]
    abstained: tuple[Address, ...]
    absent: tuple[Address, ...]
    unasked: tuple[Address, ...]


class Tally:
    """The votes of a round, and what they mean. It knows no time and no actors.

    Args:
        rule: what decides.
        weights: of each participant.

    Raises:
        BadRule: nobody takes part, a weight is not positive, or the rule could never be met.
    """

    def __init__(self, rule: Rule, weights: Mapping[Any, float]) -> None:
        if not weights:
            raise BadRule("participants", weights, "somebody has to take part")
        for who, weight in weights.items():
            if isinstance(weight, bool) or not isinstance(weight, (int, float, Fraction)) or not weight > 0:
                raise BadRule(f"weight of {who}", weight, "give a number above 0")
        self._weights = {who: Fraction(weight) for who, weight in weights.items()}
        total = sum(self._weights.values(), Fraction(0))
        self._needed = rule.needed(total)
        self._strictly = isinstance(rule, Majority)
        if not 0 < self._needed <= total:
            raise BadRule("rule", rule, f"it asks for {float(self._needed):g} of a weight of {float(total):g}")
        self.votes: dict[Any, bool | Literal["absent"] | None] = {}

    def vote(self, who: Any, vote: bool | Literal["absent"] | None) -> None:
        """Note a vote. The first of each participant counts."""
        if who in self._weights:
            self.votes.setdefault(who, vote)

    @property
    def decided(self) -> bool | None:
        """Whether the rule is met; None as long as votes that are missing could still change that."""
        yes = sum((self._weights[who] for who, vote in self.votes.items() if vote is True), Fraction(0))
        open_ = sum((weight for who, weight in self._weights.items() if who not in self.votes), Fraction(0))
        if self._enough(yes):
            return True
        return None if self._enough(yes + open_) else False

    def _enough(self, yes: Fraction) -> bool:
        return yes > self._needed if self._strictly else yes >= self._needed

    def who(self, vote: object) -> tuple[Any, ...]:
        """Return those who voted so."""
        return tuple(who for who, said in self.votes.items() if said is vote or said == vote == "absent")

    def unasked(self) -> tuple[Any, ...]:
        """Return those who have not voted."""
        return tuple(who for who in self._weights if who not in self.votes)


class Propose(Request[Decision], frozen=True):
    """Begin a round."""

    proposal: Any
    weights: Mapping[Address, float]
    rule: Rule
    time_limit: float


class Answered(Message, frozen=True):
    """To itself: a participant has answered, or cannot."""

    round: int
    who: Address
    vote: Any


class TimeOver(Message, frozen=True):
    """To itself: the time of a round is over."""

    round: int


class Round(msgspec.Struct):
    """A round that is under way."""

    tally: Tally
    reply: ReplyTo[Decision]
    calls: list[Call[bool | None]]
    timer: Any


class Consensus(Actor):
    """Holds rounds, any number at a time. It is named ``consensus`` unless started with another name."""

    infrastructure = True

    def __init__(self) -> None:
        self._rounds: dict[int, Round] = {}
        self._last = 0

    def init(self) -> None:
        """Take the name."""
        own_name(self, "consensus")

    @handle
    def propose(self, request: Propose) -> Decision | None:
        """Ask everybody."""
        try:
            tally = Tally(request.rule, request.weights)
        except BadRule as error:
            raise Refuse(error) from error
        self._last += 1
        number = self._last
        timer = self.send_after(request.time_limit, TimeOver(number))
        calls: list[Call[bool | None]] = []
        self._rounds[number] = Round(tally, self.defer_reply(), calls, timer)
        for who in request.weights:
            call = who.call(Vote(request.proposal), timeout=None)
            calls.append(call)
            call.add_done_callback(self._hearing(number, who))
        return None

    def _hearing(self, number: int, who: Address) -> Callable[[Any], None]:
        def hear(call: Call[bool | None]) -> None:
            if not call.cancelled():
                vote: Any = "absent" if call.exception() is not None else call.result()
                self.ref.cast(Answered(number, who, vote if vote in (True, False, None, "absent") else None))

        return hear

    @handle
    def answered(self, message: Answered) -> None:
        """Note a vote, and end the round if it decides."""
        round_ = self._rounds.get(message.round)
        if round_ is not None:
            round_.tally.vote(message.who, message.vote)
            decided = round_.tally.decided
            if decided is not None:
                self._end(message.round, decided, "accepted" if decided else "rejected")

    @handle
    def over(self, message: TimeOver) -> None:
        """End a round that nobody has decided in time."""
        if message.round in self._rounds:
            self._end(message.round, False, "late")

    def _end(self, number: int, accepted: bool, why: Literal["accepted", "rejected", "late"]) -> None:
        ended = self._rounds.pop(number)
        ended.timer.cancel()
        for call in ended.calls:
            call.cancel()
        tally = ended.tally
        votes = (tally.who(True), tally.who(False), tally.who(None), tally.who("absent"))
        ended.reply.reply(Decision(accepted, why, *votes, tally.unasked()))


async def propose(
    runtime: Runtime,
    proposal: Any,
    participants: Iterable[Address] | Mapping[Address, float],
    rule: Rule,
    *,
    time_limit: float = 30.0,
    actor: str = "consensus",
) -> Decision:
    """Ask actors for their consent, each with a `Vote`, and return the decision.

    Args:
        runtime: where the actor runs that holds the round.
        proposal: what is asked.
        participants: who is asked; a mapping says the weight of each, otherwise all have the weight 1.
        rule: what decides.
        time_limit: seconds after which the round ends without a decision: it is not accepted then.
        actor: the name of the `Consensus`.

    Raises:
        BadRule: nobody takes part, a weight is not positive, or the rule could never be met.
        ActorExited: the actor was restarted; ask again.
    """
    weights = participants if isinstance(participants, Mapping) else dict.fromkeys(participants, 1.0)
    if not time_limit > 0:
        raise BadRule("time_limit", time_limit, "give a number of seconds above 0")
    return await runtime.name(actor).call(Propose(proposal, weights, rule, time_limit), timeout=None)
