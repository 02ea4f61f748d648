"""Teams whose members are asked one after another: who comes next depends on what was answered before."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Generator, Mapping
from contextvars import copy_context
from typing import Any, TypeAlias

import anyio
import dspy
import msgspec

from dspex._compat import is_refused
from dspex._tasks import start_in
from dspex.teams.asking import Asked, ask, ask_async, new_trace, next_step
from dspex.teams.ballot import MemberAnswer, coverage
from dspex.teams.errors import NoAnswer, TooFewAnswers
from dspex.teams.missing import unanswered
from dspex.teams.poll import lacking, prediction_fields
from dspex.teams.program import TeamProgram
from dspex.teams.shares import BadProbabilities, told_shares
from dspex.teams.team import Team


class Question(msgspec.Struct, frozen=True):
    """What is asked next.

    Attributes:
        member: who is asked.
        inputs: what.
        field: the output that is wanted; None for that of the team.
    """

    member: str
    inputs: Mapping[str, Any]
    field: str | None = None


class MemberReply(msgspec.Struct, frozen=True):
    """What became of a question.

    Attributes:
        answer: as ballots have it. ``unasked`` if there was no time or no budget left.
        prediction: what the member's program returned.
        error: what it raised.
    """

    answer: MemberAnswer
    prediction: Any = None
    error: BaseException | None = None

    @property
    def usable(self) -> bool:
        """Whether there is an answer that is no abstention."""
        return self.answer.outcome == "answered" and self.answer.value is not None


#: Yields whom to ask, gets what came of it, and returns the team's prediction.
Conversation: TypeAlias = Generator[Question, MemberReply, Any]


class Replies:
    """What is known of the members so far; of one that was asked twice, the last.

    Args:
        team: that is asked.
        field: the output that is wanted.
        all_answer: whether each of them should have it.
    """

    def __init__(self, team: Team, field: str, all_answer: bool = True) -> None:
        self._team = team
        self._all_answer = all_answer
        self._field = field
        self._known: dict[str, MemberReply] = {}
        self._traces: dict[str, list[Any]] = {}
        self._asked = 0
        #: Whether the deadline has come.
        self.over = False

    @property
    def affordable(self) -> bool:
        """Whether one more may be asked."""
        return self._team.max_calls is None or self._asked < self._team.max_calls

    def record(
        self, question: Question, asked: Asked | None, trace: list[Any] | None, seconds: float | None
    ) -> MemberReply:
        """Record what a member has answered, or raised; None if it is late. Return it."""
        self._asked += 1
        found = self._known[question.member] = self._reply(question, asked, seconds)
        if asked is not None:
            self._traces.setdefault(question.member, []).extend(trace or ())
        return found

    def _reply(self, question: Question, asked: Asked | None, seconds: float | None) -> MemberReply:
        member = question.member
        if asked is None:
            self.over = True
            return MemberReply(MemberAnswer(member, "late", seconds=seconds))
        found, error = asked
        if error is not None:
            return MemberReply(unanswered(member, error, seconds), error=error)
        field = question.field or self._field
        fields = prediction_fields(found, field)
        try:
            told_shares(fields, field, self._team.normal)
        except BadProbabilities as wrong:
            return MemberReply(unanswered(member, wrong, seconds), error=wrong)
        value = fields.get(field)
        value = None if self._team.normal(value) is None else value
        why = lacking(fields, field) if self._all_answer else None
        return MemberReply(MemberAnswer(member, "answered", value, why, seconds), found)

    @property
    def predictions(self) -> dict[str, Any]:
        """What each member has answered, by its name."""
        return {name: reply.prediction for name, reply in self._known.items()}

    @property
    def ballot(self) -> tuple[MemberAnswer, ...]:
        """What became of each member, in the team's order."""
        names = [member.name for member in self._team.members]
        return tuple(self._known[name].answer if name in self._known else unasked(name).answer for name in names)

    @property
    def traces(self) -> list[Any]:
        """What the members' predictors were asked, in the team's order, but for members that are late."""
        return [entry for member in self._team.members for entry in self._traces.get(member.name, ())]

    def prediction(self, member: str, *, degraded: str | None = None, **more: Any) -> Any:
        """Return the answer of a member as that of the team.

        Args:
            member: who has answered.
            degraded: why it is a worse answer than it could be.
            more: further fields.
        """
        found, ballot = self._known[member].prediction, self.ballot
        fields = prediction_fields(found, self._field)
        share = coverage(ballot, lambda _: 1.0)
        told = {"ballot": ballot, "coverage": share, "confidence": 1.0, "degraded": degraded}
        return dspy.Prediction(**{**fields, **told, **more})

    def missing(self) -> BaseException:
        """Return the error that says why there is no answer: as `dspex.teams.poll.Poll.result` does."""
        errors = (reply.error for reply in self._known.values())
        refused = next((error for error in errors if error is not None and is_refused(error)), None)
        if refused is not None:
            return refused
        ballot = self.ballot
        away = self.over or any(one.outcome == "lost" for one in ballot)
        return TooFewAnswers(ballot) if away else NoAnswer(ballot)


class AskedInTurn(TeamProgram):
    """A team whose members are asked one after another, as far as that is needed.

    It is a program and can be served like a `TeamProgram`. The team's ``rule`` and ``min_answers`` do not matter, as
    one member answers; its ``deadline`` counts for the whole call, and ``max_calls`` for all members that are asked.
    """

    uses_rule = False

    @abstractmethod
    def conversation(self, inputs: Mapping[str, Any], replies: Replies) -> Conversation:
        """Yield whom to ask, and return the team's prediction.

        Args:
            inputs: of the call.
            replies: what is known so far; what is yielded is recorded there.
        """

    def forward(self, **inputs: Any) -> Any:
        """Ask one member after another.

        Raises:
            TooFewAnswers, NoAnswer: nobody has an answer.
        """
        replies = Replies(self.team, self.field, self.all_answer)
        talk = self.conversation(inputs, replies)
        try:
            question, result = next_step(talk, None)
            while question is not None:
                if replies.affordable:
                    trace = new_trace()
                    asked = ask(self.asked_as(question.member), question.inputs, trace)
                    reply = replies.record(question, asked, trace, None)
                else:
                    reply = unasked(question.member, "budget")
                question, result = next_step(talk, reply)
            return result
        finally:
            self._tell(replies)

    async def aforward(self, **inputs: Any) -> Any:
        """Ask one member after another, within the deadline.

        Raises:
            TooFewAnswers, NoAnswer: nobody has an answer.
        """
        replies, limiter = Replies(self.team, self.field, self.all_answer), anyio.CapacityLimiter(len(self.members))
        clock = asyncio.get_running_loop().time
        began = clock()
        self.on_poll(replies)
        talk = self.conversation(inputs, replies)
        try:
            question, result = next_step(talk, None)
            while question is not None:
                left = None if self.team.deadline is None else self.team.deadline - (clock() - began)
                replies.over = replies.over or (left is not None and left <= 0)
                if replies.over:
                    reply = unasked(question.member, "deadline")
                elif replies.affordable:
                    asking, trace = clock(), new_trace()
                    asked = await _within(left, self.asked_as(question.member), question.inputs, trace, limiter)
                    reply = replies.record(question, asked, trace, clock() - asking)
                else:
                    reply = unasked(question.member, "budget")
                question, result = next_step(talk, reply)
            return result
        finally:
            self._tell(replies)

    def _tell(self, replies: Replies) -> None:
        """Give the caller the members' traces, and tell who has answered without the field."""
        if dspy.settings.trace is not None:
            dspy.settings.trace.extend(replies.traces)
        self.tell_lacking(replies.ballot)


async def _within(
    seconds: float | None,
    program: Any,
    inputs: Mapping[str, Any],
    trace: list[Any] | None,
    limiter: anyio.CapacityLimiter,
) -> Asked | None:
    """Ask a member; return None if it is late."""
    task = start_in(copy_context(), ask_async(program, inputs, trace, limiter))
    try:
        await asyncio.wait({task}, timeout=seconds)
        return task.result() if task.done() else None
    finally:
        task.cancel()


def unasked(member: str, why: str | None = None) -> MemberReply:
    """Return what becomes of a question that is not asked: why is ``budget`` or ``deadline``."""
    return MemberReply(MemberAnswer(member, "unasked", why=why))
