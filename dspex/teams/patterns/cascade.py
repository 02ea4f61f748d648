"""Cascades: a cheap member answers first, and a dearer one is asked only where the cheap one is not sure.

How sure is sure enough comes from recorded answers (`calibrate`):

>>> recorded = [(score / 100, score > 20) for score in range(100)]  # of each answer its score, and whether it was right
>>> found = calibrate(recorded, alpha=0.1)
>>> found.threshold, found.escalated, found.wrong
(0.11, 0.12, 0.09)
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

import dspy
import msgspec

from dspex.teams.declared import check_field
from dspex.teams.errors import BadTeam
from dspex.teams.patterns.in_turn import AskedInTurn, Conversation, MemberReply, Question, Replies
from dspex.teams.program import checked_team, last_output
from dspex.teams.shares import PROBABILITIES, checked_shares
from dspex.teams.team import Team
from dspex.teams.weights import BadWeights
from foundation.options import finite, from_zero, is_a, text
from supervision.errors import BadOption

#: Over how many calls it is looked whether a member is as often unsure as it was.
WINDOW = 200
#: How many standard errors are too many.
ERRORS = 3.0
_COUNTING = threading.Lock()


def conformal_threshold(scores: Iterable[float], alpha: float) -> float | None:
    """Return the score that the next one exceeds in a share of ``alpha`` of all cases at most, if it is like these.

    It is the score of rank ceil((n + 1) (1 - alpha)) among n; with fewer than 1 / alpha - 1 there is none.

    >>> [conformal_threshold([score / 10 for score in range(1, n + 1)], 0.1) for n in (8, 9, 19)]
    [None, 0.9, 1.8]

    Args:
        scores: of a calibration set. Minus infinity for what may not exceed anything.
        alpha: a share between 0 and 1.

    Returns:
        The score; None if there are too few for any.

    Raises:
        BadOption: ``alpha`` is none, or a score is no number.

    Source: Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World" (2005).
    """
    if not 0 < (finite(alpha) or 0) < 1:
        raise BadOption("conformal_threshold: alpha", alpha, "give a share above 0 and below 1")
    found = [_number(score) for score in scores]
    rank = math.ceil((len(found) + 1) * (1 - alpha) - 1e-9)  # 10 * 0.9 is 9, and not a little more
    return sorted(found)[rank - 1] if rank <= len(found) else None


class Calibration(msgspec.Struct, frozen=True):
    """From which score on a member's answer is good enough.

    Attributes:
        threshold: answers with a higher score are taken; None if none is.
        total: how many recorded answers it comes from.
        escalated: in which share of these the next member would have been asked.
        wrong: in which share of these a wrong answer would have been taken.
    """

    threshold: float | None
    total: int
    escalated: float
    wrong: float


def calibrate(recorded: Iterable[tuple[float | None, bool]], *, alpha: float = 0.1) -> Calibration:
    """Return from which score on a member may answer alone, so that this is wrong in a share of ``alpha`` at most.

    It holds on the average, for questions like those that were recorded, and is a share of *all* questions. If the
    answers to many have the same score, fewer are taken than might be.

    Args:
        recorded: for each answer its score (None if it has none), and whether it was right. Not the examples that the
            member was optimised on.
        alpha: in which share of all questions a wrong answer may be taken.

    Raises:
        BadWeights: there are no answers.
        BadOption: a number makes no sense.
    """
    items = [(-math.inf if score is None else _number(score), bool(right)) for score, right in recorded]
    if not items:
        raise BadWeights("there are no answers; record some that the member was not optimised on")
    threshold = conformal_threshold((-math.inf if right else score for score, right in items), alpha)
    taken = [right for score, right in items if threshold is not None and score > threshold]
    total = len(items)
    return Calibration(threshold, total, (total - len(taken)) / total, taken.count(False) / total)


def margin(prediction: Any) -> float | None:
    """Return how much likelier the first label was than the second; None without ``probabilities``.

    >>> round(margin(dspy.Prediction(label="a", probabilities={"a": 0.6, "b": 0.3, "c": 0.1})), 2)
    0.3

    Args:
        prediction: whose field ``probabilities`` says how probable each label is.

    Raises:
        BadProbabilities: they are none.
    """
    found = prediction.get(PROBABILITIES) if isinstance(prediction, (dspy.Example, Mapping)) else None
    if found is None:
        return None
    first, second = sorted([*checked_shares("margin: probabilities", found).values(), 0.0], reverse=True)[:2]
    return first - second


class Escalation(msgspec.Struct, frozen=True):
    """How often a member was not sure enough.

    Attributes:
        calls: how many of its last answers are looked at.
        escalated: in which share of these the next member was asked.
        expected: the share of its calibration; None if there is none.
        alarm: what has changed, if the two differ by more than chance; else None. The threshold is then worth nothing:
            calibrate anew.
    """

    calls: int
    escalated: float
    expected: float | None
    alarm: str | None


class Cascade(AskedInTurn):
    """A team whose members are asked in order, until one is sure enough of its answer.

    Its answer is that of a `TeamProgram`, and besides ``cost`` has what it has cost, and ``score`` how sure its member
    was. The last member is always sure enough. If a member is lost the next is asked; if none behind has an answer,
    that of the last one that gave any is taken: ``degraded`` is then such as ``unsure:lost 1 of 2``.

    Args:
        team: in the order of what its members cost.
        thresholds: for each member but the last, what its score has to be *above*: a number, or the `Calibration` of
            recorded answers; None, to ask the next one always.
        score: makes of a member's prediction how sure it is, or None; by default `margin`.
        verifier: the member that says how good an answer is, instead of ``score``. It answers nothing itself: it gets
            the inputs and the answer, and what it says is the score.
        verdict: the output of the verifier: a number or a truth value. By default its last one.
        costs: of each member; 1 of those that are not named.

    Raises:
        BadTeam: it makes no sense; the text says what, and what would.
    """

    #: Thresholds and their order are those of its members.
    reshapable = False

    def __init__(
        self,
        team: Team,
        thresholds: Mapping[str, float | Calibration | None],
        *,
        score: Callable[[Any], float | None] = margin,
        verifier: str | None = None,
        verdict: str | None = None,
        costs: Mapping[str, float] | None = None,
    ) -> None:
        names = [member.name for member in checked_team("Cascade", team).members]
        if verifier is not None and (verifier not in names or len(names) == 1):
            raise BadTeam("Cascade: verifier", verifier, "name a member of the team that is not its only one")
        if not callable(score):
            raise BadTeam("Cascade: score", score, "give a function of a prediction, such as margin")
        self.verifier = verifier
        super().__init__(team)
        self.thresholds = _thresholds(thresholds, self.order)
        self.score = score
        self.verdict = None if verdict is None else text("Cascade: verdict", verdict)
        if verifier is not None and verdict is None:
            self.verdict = last_output("Cascade: verdict", verifier, self.members[verifier])
        if verifier is not None:
            check_field("Cascade: verdict", str(self.verdict), {verifier: self._known_outputs[verifier]}, of_all=True)
        self.costs = _costs(costs or {}, names, self.order)
        self._counts = _Counts()
        self.check_ladder()

    def _answering(self) -> list[str]:
        return self.order

    @property
    def order(self) -> list[str]:
        """Who may be asked for an answer, in order."""
        return [member.name for member in self.team.members if member.name != self.verifier]

    def conversation(self, inputs: Mapping[str, Any], replies: Replies) -> Conversation:
        """Ask the members in order, until one is sure enough."""
        spent = 0.0
        unsure: tuple[str, float | None] | None = None
        missing: list[MemberReply] = []
        order = self.order
        for name in order:
            reply = yield Question(name, inputs)
            spent += self._cost(reply)
            score = None
            if name != order[-1]:
                if reply.usable:
                    score, paid = yield from self._scored(reply, inputs)
                    spent += paid
                sure = score is not None and self._is_enough(name, score)
                if reply.answer.outcome in ("answered", "failed"):
                    self._counts.note(name, escalated=not sure)
            else:
                sure = reply.usable
            if sure:
                self._counts.pay(spent)
                return replies.prediction(name, cost=spent, score=score)
            if reply.usable:
                unsure, missing = (name, score), []
            else:
                missing.append(reply)
        self._counts.pay(spent)
        if unsure is None:
            raise replies.missing()
        why = f"unsure:{_reason(missing[-1])} {len(missing)} of {len(order)}"
        return replies.prediction(unsure[0], degraded=why, cost=spent, score=unsure[1])

    def _scored(
        self, reply: MemberReply, inputs: Mapping[str, Any]
    ) -> Generator[Question, MemberReply, tuple[float | None, float]]:
        """Return how sure an answer is, and what it has cost to know that."""
        if self.verifier is None:
            return finite(self.score(reply.prediction)), 0.0
        said = yield Question(self.verifier, {**inputs, self.field: reply.answer.value}, self.verdict)
        value = said.answer.value
        return (float(value) if is_a(value, bool) else finite(value)), self._cost(said)

    def _is_enough(self, member: str, score: float) -> bool:
        found = self.thresholds[member]
        limit = found.threshold if isinstance(found, Calibration) else found
        return limit is not None and score > limit

    def _cost(self, reply: MemberReply) -> float:
        """Return what a question has cost: of one that is lost, or was not asked, nothing."""
        return self.costs[reply.answer.member] if reply.answer.outcome in ("answered", "failed", "late") else 0.0

    @property
    def cost(self) -> float:
        """What all calls have cost so far."""
        return self._counts.cost

    @property
    def escalated(self) -> float:
        """In which share of all calls the first member was not sure enough. Calls in which it was lost do not count."""
        calls, further = self._counts.of(self.order[0])
        return further / calls if calls else 0.0

    @property
    def escalation(self) -> dict[str, Escalation]:
        """For each member but the last: how often it was not sure enough lately, and whether that has changed."""
        return {name: _escalation(self._counts.last(name), self.thresholds[name]) for name in self.order[:-1]}

    @property
    def alarms(self) -> Mapping[str, Any]:
        """The members that are asked, and not taken, more often than when they were calibrated, or less often."""
        return {name: found for name, found in self.escalation.items() if found.alarm is not None}


class _Counts:
    """What a cascade has done. Its copies, shallow ones, share it."""

    def __init__(self) -> None:
        self.cost = 0.0
        self._totals: dict[str, tuple[int, int]] = {}
        self._last: dict[str, deque[bool]] = {}

    def note(self, member: str, *, escalated: bool) -> None:
        """Note whether the next member was asked."""
        with _COUNTING:
            calls, further = self.of(member)
            self._totals[member] = (calls + 1, further + escalated)
            self._last.setdefault(member, deque(maxlen=WINDOW)).append(escalated)

    def pay(self, cost: float) -> None:
        """Add what a call has cost."""
        with _COUNTING:
            self.cost += cost

    def of(self, member: str) -> tuple[int, int]:
        """Return how often a member was asked, and how often the next one as well."""
        return self._totals.get(member, (0, 0))

    def last(self, member: str) -> list[bool]:
        """Return in which of the last calls the next member was asked."""
        with _COUNTING:
            return list(self._last.get(member, ()))


def _escalation(last: Sequence[bool], threshold: float | Calibration | None) -> Escalation:
    share = sum(last) / len(last) if last else 0.0
    if not isinstance(threshold, Calibration) or not last:
        return Escalation(
            len(last), share, None if not isinstance(threshold, Calibration) else threshold.escalated, None
        )
    expected, total = threshold.escalated, threshold.total
    smoothed = (expected * total + 1) / (total + 2)
    error = math.sqrt(smoothed * (1 - smoothed) * (1 / total + 1 / len(last)))
    alarm = None
    if abs(share - expected) > ERRORS * error:
        alarm = f"the next member was asked in {share:.0%} of {len(last)} calls, and in {expected:.0%} when calibrated"
    return Escalation(len(last), share, expected, alarm)


def _reason(reply: MemberReply) -> str:
    """Return why there is no answer of a member, as degraded answers name it."""
    outcome = reply.answer.outcome
    if outcome == "unasked":
        return reply.answer.why or outcome
    return {"late": "deadline", "answered": "abstained"}.get(outcome, outcome)


def _number(score: object) -> float:
    """Return a score; minus infinity is one."""
    if is_a(score, float) and score == -math.inf:
        return -math.inf
    found = finite(score)
    if found is None:
        raise BadOption("score", score, "give finite numbers; None for an answer that has none")
    return found


def _thresholds(given: Any, order: Sequence[str]) -> dict[str, float | Calibration | None]:
    """Return a threshold for each member but the last."""
    first = order[:-1]
    if not isinstance(given, Mapping) or {*given} != {*first}:
        wanted = ", ".join(first) or "nobody"
        raise BadTeam("Cascade: thresholds", given, f"give one for each member but the last: {wanted}; or None for it")
    for name, found in given.items():
        if found is not None and not isinstance(found, Calibration) and finite(found) is None:
            raise BadTeam(f"Cascade: threshold of {name}", found, "give a number, what calibrate returns, or None")
    return dict(given)


def _costs(given: Mapping[str, float], names: Sequence[str], order: Sequence[str]) -> dict[str, float]:
    if stray := [name for name in given if name not in names]:
        raise BadTeam("Cascade: costs", stray, f"name members: {', '.join(names)}")
    costs = {name: from_zero(f"Cascade: cost of {name}", given.get(name, 1.0)) for name in names}
    if sorted(order, key=costs.__getitem__) != list(order):
        raise BadTeam("Cascade: costs", costs, "put the cheaper members first")
    return costs
