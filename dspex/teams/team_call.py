"""One call of a served team: the team is asked, and if that gives no full answer, a lesser one is looked for."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import dspy
import msgspec

from dspex.teams.ballot import MemberAnswer, coverage
from dspex.teams.errors import NoAnswer, TooFewAnswers
from dspex.teams.ladder import FULL, TeamLadder, TeamRung
from dspex.teams.missing import degradation_reason
from dspex.teams.poll import Poll, prediction_fields
from dspex.teams.recent_answers import RecentAnswers
from dspex.workflow.degradation import ChosenRung, DegradationReason
from foundation.programs import Unavailable
from supervision.clock import Clock

#: From so many calls of a member on, it is known in which time it answers 19 times of 20.
KNOWN_FROM = 20
#: Which part of the time that the caller waits is left for lesser answers.
RESERVE = 0.1


class LadderState:
    """What a served team knows for its lesser answers: where calls begin, and how long its members take.

    Args:
        ladder: what it may give.
    """

    def __init__(self, ladder: TeamLadder) -> None:
        self.ladder = ladder
        self.walk = ladder.state()
        self._seconds: dict[str, deque[float]] = {}

    def took(self, member: str, seconds: float) -> None:
        """Note how long a member took for an answer."""
        self._seconds.setdefault(member, deque(maxlen=200)).append(seconds)

    def p95(self, member: str) -> float | None:
        """Return in which time a member answers 19 times of 20; None as long as that is not known."""
        found = sorted(self._seconds.get(member, ()))
        return found[int(0.95 * len(found))] if len(found) >= KNOWN_FROM else None


class TeamCall:
    """One call.

    Args:
        program: the version of the team that is asked, with its members' calls going to their agents.
        inputs: of the call.
        run: runs a program with them.
        clock: tells the time.
        until: when the caller waits no longer; None if it waits for ever.
        state: of the ladder; None if there is none.
        recent: the last full answers of this version.

    Attributes:
        rung: the name of the rung that has answered.
    """

    def __init__(
        self,
        program: Any,
        inputs: Mapping[str, Any],
        run: Callable[[Any], Coroutine[Any, Any, Any]],
        clock: Clock,
        until: float | None,
        state: LadderState | None,
        recent: RecentAnswers,
    ) -> None:
        self._program, self._team, self._inputs, self._run = program, program.team, inputs, run
        self._clock, self._until = clock, until
        self._state, self._recent = state, recent
        self._polls: list[Poll] = []
        self.rung = FULL.name

    @property
    def ballot(self) -> tuple[MemberAnswer, ...]:
        """What has become of each member so far; of one that was asked twice, the last time."""
        known = {one.member: one for poll in self._polls for one in poll.ballot if one.outcome != "unasked"}
        return tuple(known.get(one.name, MemberAnswer(one.name, "unasked")) for one in self._team.members)

    async def answer(self) -> Any:
        """Return the answer of the team, or the best lesser one that can be had in time.

        Raises:
            Unavailable: there is a ladder, and none of its answers can be had.
            TooFewAnswers: too few have answered, as some are away, and there is no ladder.
            NoAnswer: too few have answered, and nobody is away.
        """
        if self._state is None:
            found = await self._asked(self._program)
            self.rung = FULL.name if _is_full(found) else "quorum"
            return found
        return await self._descend(self._state)

    async def _descend(self, state: LadderState) -> Any:
        begun = taken = self._begin(state)
        # If nobody is away, and yet there is no answer, the time was over before the next one was asked.
        reason = state.walk.reason or DegradationReason("deadline")
        found = None
        if getattr(taken.rung, "kind", "quorum") == "quorum":
            found = await self._had(self._program)
            if found is not None and _is_full(found):
                state.walk.good()
                if state.ladder.keeps_answers:
                    self._recent.add(self._inputs, found, self._clock.time())
                return found
            taken = self._down(state, ChosenRung(FULL), reason)
        while (lesser := await self._lesser(taken, found)) is None:
            taken = self._down(state, taken, reason)
        if taken is begun:
            state.walk.good()
        self.rung = taken.rung.name
        return lesser

    def _begin(self, state: LadderState) -> ChosenRung:
        try:
            return state.walk.begin(**self._known(state))
        except Unavailable:
            # Nothing is to be had where calls begin at the moment: the team may be well again.
            return ChosenRung(FULL)

    def _down(self, state: LadderState, taken: ChosenRung, reason: DegradationReason) -> ChosenRung:
        try:
            return state.walk.down(taken, degradation_reason(self.ballot) or reason, **self._known(state))
        except Unavailable as error:
            self.rung = "refuse"
            raise Unavailable(str(error), state.ladder.retry_after) from None

    def _known(self, state: LadderState) -> dict[str, Any]:
        """Return what decides which rungs can be had."""
        ages, took = {}, {}
        for rung in state.ladder.rungs:
            if rung.kind == "cached" and (recent := self._recent.find(self._inputs)) is not None:
                ages[rung.name] = self._clock.time() - recent.at
            if rung.kind == "single" and (seconds := self._takes(state, rung)) is not None:
                took[rung.name] = seconds
        return {"left": self._left(), "ages": ages, "took": took}

    def _takes(self, state: LadderState, rung: TeamRung) -> float | None:
        """Return the seconds that a member's answer takes: none if it is there already; None if nothing is known."""
        member = self._member(rung)
        if self._given(member) is not None:
            return 0.0
        return state.p95(member) if rung.p95 is None else rung.p95

    async def _lesser(self, taken: ChosenRung, found: Any) -> Any:
        """Return the answer of a rung; None if it cannot be had."""
        rung: Any = taken.rung
        if rung.kind == "quorum":
            return found
        if rung.kind == "single":
            fields = await self._single(rung)
            return None if fields is None else self._labelled(fields, taken)
        if rung.kind == "cached":
            recent = self._recent.find(self._inputs)
            return None if recent is None else self._labelled(recent.prediction, taken)
        return self._labelled(rung.outputs, taken)

    async def _single(self, rung: TeamRung) -> Any:
        name = self._member(rung)
        known = next(one for one in self.ballot if one.member == name)
        if known.outcome == "answered" or known.reason == "budget":
            return self._given(name)
        try:
            return await self._had(self._program.alone(name))
        except NoAnswer:
            return None

    def _member(self, rung: TeamRung) -> str:
        """Return whose answer a rung is: the best of those that have given one; or, if nobody has, of all."""
        names = self._program.able_alone
        given = [name for name in names if self._given(name) is not None]
        return rung.member or max(given or names, key=self._team.rule.weight)

    def _given(self, member: str) -> Any:
        """Return the answer that a member has given; None for none, and for an abstention."""
        for poll in self._polls:
            if any(one.member == member and one.outcome == "answered" for one in poll.ballot):
                found = poll.predictions[member]
                return None if self._form(found) is None else found
        return None

    def _form(self, prediction: Any) -> Any:
        return self._team.normal(prediction_fields(prediction, self._program.field).get(self._program.field))

    def _labelled(self, found: Any, taken: ChosenRung) -> Any:
        """Return a lesser answer as a prediction of the team, with what became of the members in this call."""
        ballot, weight = self.ballot, self._team.rule.weight
        forms = {one.member: self._team.normal(one.value) for one in ballot if one.outcome == "answered"}
        form = self._form(found)
        cast = sum(abs(weight(member)) for member in forms)
        same = sum(abs(weight(member)) for member, other in forms.items() if other == form)
        return dspy.Prediction(
            **{
                **self._program.said(found),
                "ballot": ballot,
                "coverage": coverage(ballot, weight),
                "confidence": same / cast if cast else 0.0,
                "degraded": taken.label,
            }
        )

    async def _had(self, program: Any) -> Any:
        """Return what members answer; None if too few can be had.

        Raises:
            NoAnswer: too few have answered, and nobody is away.
            BaseException: a model is not to be had until somebody changes something else than a budget.
        """
        try:
            return await self._asked(program)
        except TooFewAnswers:
            return None
        except Exception:
            reason = degradation_reason(self.ballot)
            if reason is None or reason.retryable:
                raise
            return None

    async def _asked(self, program: Any) -> Any:
        asked = copy.copy(program)
        asked.team = msgspec.structs.replace(asked.team, ladder=None, deadline=self._deadline())
        asked.on_poll = self._polls.append
        return await self._run(asked)

    def _left(self) -> float | None:
        return None if self._until is None else max(0.0, self._until - self._clock.time())

    def _deadline(self) -> float | None:
        """Return the seconds until members are late: in time for the caller to be told."""
        left = self._left()
        given: float | None = self._team.deadline
        if left is None:
            return given
        mine = max(0.001, left * (1 - RESERVE))
        return mine if given is None else min(given, mine)


def _is_full(found: Any) -> bool:
    """Return whether nobody is missing in an answer. That a bound of its own ended a conversation is no such thing."""
    return found.degraded is None or degradation_reason(found.ballot) is None
