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

from foundation.coordination.errors import BadArgument
from foundation.coordination.retained import answer_or_undo
from foundation.coordination.validation import (
    address,
    number_text,
    plain_number,
    positive_seconds,
    refusing,
    text,
)
from foundation.naming import own_name
from foundation.options import is_a
from supervision import Actor, Address, Call, Message, ReplyTo, Request, Runtime, Timer, handle
from supervision.messages import describe


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
        return _exact("yes", self.yes)


class Weighted(Rule, frozen=True):
    """At least such a share of the weight says yes, from 0 to 1."""

    share: float

    def needed(self, total: Fraction) -> Fraction:
        """That share."""
        return total * _exact("share", self.share)


def _exact(what: str, value: Any) -> Fraction:
    """Return a number above 0 as a fraction.

    Raises:
        BadArgument: it is none, or too large for a float.
    """
    exact = value if type(value) is Fraction else Fraction(plain_number(value) or 0)
    if exact <= 0:
        raise BadArgument(what, value, "give a number above 0 that is finite as a float")
    return exact


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
        BadArgument: nobody takes part, a weight is not positive, or the rule could never be met.
    """

    def __init__(self, rule: Rule, weights: Mapping[Any, float]) -> None:
        if not weights:
            raise BadArgument("participants", weights, "give at least one participant")
        self._weights = {who: _exact(f"weight of {describe(who)}", weight) for who, weight in weights.items()}
        total = sum(self._weights.values(), Fraction(0))
        if not is_a(rule, Rule):
            raise BadArgument("rule", rule, "give Unanimity(), Majority(), Quorum(...) or Weighted(...)")
        self._needed = _exact("needed", rule.needed(total))
        self._strictly = is_a(rule, Majority)
        if self._needed > total:
            raise BadArgument(
                "rule", rule, f"it asks for {number_text(self._needed)} of a weight of {number_text(total)}"
            )
        self.votes: dict[Any, bool | Literal["absent"] | None] = {}
        self._yes = Fraction(0)
        self._missing = total

    def vote(self, who: Any, vote: bool | Literal["absent"] | None) -> None:
        """Note a vote. The first of each participant counts."""
        weight = self._weights.get(who)
        if weight is not None and who not in self.votes:
            self.votes[who] = vote
            self._missing -= weight
            if vote is True:
                self._yes += weight

    @property
    def decided(self) -> bool | None:
        """Whether the rule is met; None as long as votes that are missing could still change that."""
        if self._enough(self._yes):
            return True
        return None if self._enough(self._yes + self._missing) else False

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


class RoundTimeout(Message, frozen=True):
    """To itself: the time of a round is over."""

    round: int


class VoteReceived(Message, frozen=True):
    """To itself: a participant has answered, or cannot."""

    round: int
    call: Call[bool | None]


class VotingRound(msgspec.Struct):
    """A round that is under way."""

    tally: Tally
    reply: ReplyTo[Decision]
    timer: Timer
    calls: dict[Call[bool | None], Address] = {}

    def close(self) -> None:
        """Cancel the calls to participants that have not answered."""
        self.timer.cancel()
        for call in self.calls:
            call.cancel()


class Consensus(Actor):
    """Holds rounds, any number at a time. It is named ``consensus`` unless started with another name."""

    infrastructure = True

    def __init__(self) -> None:
        self._rounds: dict[int, VotingRound] = {}
        self._last = 0

    def init(self) -> None:
        """Take the name."""
        own_name(self, "consensus")

    @handle
    @refusing
    def propose(self, request: Propose) -> None:
        """Ask everybody."""
        time_limit = positive_seconds("time_limit", request.time_limit)
        tally = self._tally(request)
        reply = self.defer_reply()
        self._last += 1
        number = self._last
        round_ = self._rounds[number] = VotingRound(tally, reply, self.send_after(time_limit, RoundTimeout(number)))
        for who in tally.unasked():
            call = who.call(Vote(request.proposal), timeout=None)
            round_.calls[call] = who
            call.add_done_callback(self._hearing(number))
        reply.on_abandoned(lambda: self._abandoned(number))

    def _tally(self, request: Propose) -> Tally:
        """Check everything: a rule, and a mapping, can be somebody's own code."""
        try:
            weights = {address(self.runtime, "participant", who): weight for who, weight in request.weights.items()}
        except BadArgument:
            raise
        except Exception as error:
            why = f"give actors, or a mapping of actors to weights (this raises {describe(error)})"
            raise BadArgument("participants", request.weights, why) from error
        try:
            return Tally(request.rule, weights)
        except BadArgument:
            raise
        except Exception as error:
            raise BadArgument(
                "rule", request.rule, f"needed() has to return a number; it raised {describe(error)}"
            ) from error

    def _hearing(self, number: int) -> Callable[[Call[bool | None]], None]:
        def hear(call: Call[bool | None]) -> None:
            if not call.cancelled():
                self.ref.cast(VoteReceived(number, call))

        return hear

    @handle
    def answered(self, message: VoteReceived) -> None:
        """Note a vote, and end the round if it decides."""
        round_ = self._round(message.round)
        if round_ is None or not is_a(message.call, Call) or message.call not in round_.calls:
            return
        round_.tally.vote(round_.calls[message.call], _said(message.call))
        decided = round_.tally.decided
        if decided is not None:
            self._end(message.round, decided, "accepted" if decided else "rejected")

    @handle
    def over(self, message: RoundTimeout) -> None:
        """End a round that nobody has decided in time."""
        round_ = self._round(message.round)
        if round_ is not None and round_.timer.read() is None:
            self._end(message.round, False, "late")

    def _round(self, number: object) -> VotingRound | None:
        return self._rounds.get(number) if type(number) is int else None

    def _abandoned(self, number: int) -> None:
        """Nobody wants to know any more."""
        self._rounds.pop(number).close()

    def _end(self, number: int, accepted: bool, why: Literal["accepted", "rejected", "late"]) -> None:
        ended = self._rounds.pop(number)
        ended.close()
        tally = ended.tally
        votes = (tally.who(True), tally.who(False), tally.who(None), tally.who("absent"))
        ended.reply.reply(Decision(accepted, why, *votes, tally.unasked()))


def _said(call: Call[Any]) -> bool | Literal["absent"] | None:
    """Return a vote: what is neither yes nor no is an abstention, and no answer is absence."""
    if call.exception() is not None:
        return "absent"
    vote = call.result()
    return vote if vote is True or vote is False else None


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
        BadArgument: nobody takes part, a weight or the time limit is no number above 0, or the rule could never be met.
        ActorExited: the actor was restarted; ask again.

    Whoever is cut off while it waits holds no round any more: nobody is asked any longer.
    """
    given: Any = participants
    try:
        weights = dict(given) if is_a(given, Mapping) else dict.fromkeys(given, 1.0)
    except Exception as error:
        why = f"give actors, or a mapping of actors to weights (this raises {describe(error)})"
        raise BadArgument("participants", participants, why) from error
    return await answer_or_undo(
        runtime.name(text("actor", actor)).call(Propose(proposal, weights, rule, time_limit), timeout=None)
    )
