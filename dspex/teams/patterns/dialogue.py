"""Teams whose members are asked in rounds: what is asked next depends on what was said before.

A pattern is a generator: it yields whom to ask what, side by side, and gets their turns. It knows neither threads nor
tasks nor clocks, so a plain call and ``acall`` say the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Generator, Hashable, Mapping, Sequence
from contextvars import copy_context
from typing import Any, ClassVar, NamedTuple, TypeAlias

import anyio
import dspy
import msgspec

from dspex._compat import Metered, is_refused, is_signature, metered
from dspex._tasks import start_in
from dspex.agents.agent import BadProgram, load
from dspex.teams.asking import Asked, ask, ask_async, new_trace, next_step
from dspex.teams.ballot import MemberAnswer, MemberVote, coverage, normal_form
from dspex.teams.endings import Ended, Ending, Turns
from dspex.teams.errors import BadTeam, NoAnswer, TooFewAnswers
from dspex.teams.missing import unanswered
from dspex.teams.poll import prediction_fields
from dspex.teams.program import TeamProgram
from dspex.teams.shares import BadProbabilities, told_shares
from dspex.teams.team import Member, Team
from dspex.teams.transcript import TeamTurn, Transcript, amount, plain_fields
from supervision.clock import machine_time

#: Whom to ask, and what.
Asks: TypeAlias = Sequence[tuple[str, Mapping[str, Any]]]


class SpokenTurn(NamedTuple):
    """A turn as it was taken.

    Attributes:
        turn: as the transcript has it.
        fields: what was said, as it was.
    """

    turn: TeamTurn
    fields: Mapping[str, Any]

    @property
    def answered(self) -> bool:
        """Whether the member has said anything."""
        return self.turn.outcome == "answered"


#: Yields whom to ask side by side, gets their turns in the same order, and returns the team's prediction.
Steps: TypeAlias = Generator[Asks, Sequence[SpokenTurn], Any]


class _Timed(NamedTuple):
    """What became of one question: None if it is late."""

    asked: Asked | None
    used: Metered | None
    trace: list[Any] | None
    elapsed: float


class Dialogue:
    """What has been said in one call, and whether it is over.

    Args:
        until: when it is over.
        names: of all members, in the team's order.
        field: what counts as an answer; also of a program that returns no fields.
        nullable: whether members may say nothing in a field, in words.
        normal: what makes two answers the same.
    """

    def __init__(
        self,
        until: Ending,
        names: Sequence[str],
        field: str,
        nullable: bool,
        normal: Callable[[Any], Hashable] = normal_form,
    ) -> None:
        self._until = until
        self._normal = normal
        self._names = names
        self._field = field
        self._nullable = nullable
        #: What each member has said at last.
        self.predictions: dict[str, Mapping[str, Any]] = {}
        self.transcript = Transcript()
        #: Why it is over; None if it goes on.
        self.ended: Ended | None = None
        #: What says that a language model is not to be had until somebody changes something.
        self.refused: BaseException | None = None

    @property
    def ballot(self) -> tuple[MemberAnswer, ...]:
        """What became of each member in its last turn."""
        return self.transcript.ballot(self._names, self._field)

    def stop(self, limit: str) -> None:
        """Say which bound was reached, unless it is over already."""
        self.ended = self.ended or Ended(limit, True)

    def finish(self, reason: str) -> None:
        """Say that it has come to its end by itself, though a bound was reached just then."""
        self.ended = Ended(reason, False)

    def record(self, asks: Asks, found: Sequence[_Timed]) -> list[SpokenTurn]:
        """Write down what became of questions, and look at the ending after each of them."""
        each = zip(asks, found, strict=True)
        spoken = [_spoken(member, one, self._field, self._nullable, self._normal) for (member, _), one in each]
        if any(one.asked is None for one in found):
            self.stop("deadline")
        for timed in found:
            error = None if timed.asked is None else timed.asked[1]
            if error is not None and is_refused(error):
                self.refused = self.refused or error
        for one in spoken:
            self.predictions |= {one.turn.member: one.fields} if one.answered else {}
            turn = msgspec.structs.replace(one.turn, signals=self._until.signals())
            self.transcript = self.transcript.adding(turn)
            self.ended = self.ended or self._until.ended(self.transcript)
        return spoken


class _Call:
    """A call of a loop: what it may use, and how long it has taken."""

    def __init__(self, team: Team) -> None:
        width = team.side_by_side or len(team.members)
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._deadline = team.deadline
        self.width = asyncio.Semaphore(width)
        self.threads = anyio.CapacityLimiter(width)

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return self._loop.time() - self._began

    @property
    def left(self) -> float | None:
        """Seconds until its deadline; None if it has none."""
        return None if self._deadline is None else max(0.0, self._deadline - self.elapsed)


class DialogueProgram(TeamProgram):
    """A team whose members are asked in rounds; the base of patterns.

    It is a program and can be served like a `TeamProgram`. The team's ``deadline`` counts for the whole call of
    ``acall``, and ``max_calls`` for all turns of it. Its answer has, besides the fields of an answer,

    - ``ballot``: what became of each member in its last turn;
    - ``coverage``: which share of the members that were asked has answered;
    - ``confidence``: which share of those that say something in the team's field says this, each at last;
    - ``degraded``: which bound was reached, or who is missing, such as ``turns`` or ``members:lost 1 of 3``; else None;
    - ``ended``: why it is over;
    - ``transcript``: what was said.

    Args:
        team: whose members' programs are copied.
        until: when it is over, at the latest after so many turns as may be.
        turns: how many turns there may be, unless the team says it by ``max_calls``.

    Raises:
        BadTeam, BadOption: it makes no sense; the text says what, and what would.
    """

    #: How many turns there are, and who is told what, depends on who is there.
    reshapable = False
    #: Inputs that members get besides those of the team, and what these are. A program of one predictor gets them into
    #: its signature; any other has to take them.
    shown: ClassVar[Mapping[str, tuple[Any, str]]] = {}
    #: Whether what members say may be nothing yet. A model that has to write a text or nothing writes "null" or "None".
    nullable: ClassVar[bool] = False

    def __init__(self, team: Team, until: Ending | None, turns: int) -> None:
        name = type(self).__name__
        if until is not None and not isinstance(until, Ending):
            raise BadTeam(f"{name}: until", until, "give an ending, such as Turns(8) | Said('critic', 'APPROVE')")
        super().__init__(team)
        if until is not None:
            until.check(self._known_outputs)
        limit = Turns(turns if team.max_calls is None else team.max_calls)
        self.until: Ending = limit if until is None else until | limit
        for member, program in self.members.items():
            _show(f"{name}: {member}", program, self.shown_to(member))

    @property
    def names(self) -> list[str]:
        """The names of the members, in the team's order."""
        return [member.name for member in self.team.members]

    @property
    def signature(self) -> Any:
        """The inputs and outputs of the first member, without what only members are shown; None if that has none."""
        found: Any = super().signature
        if found is not None:
            for shown in self.shown.keys() & found.fields.keys():
                found = found.delete(shown)
        return found

    def shown_to(self, member: str) -> Mapping[str, tuple[Any, str]]:
        """Return which inputs a member gets besides those of the team; see ``shown``."""
        return self.shown

    def steps(self, dialogue: Dialogue, inputs: Mapping[str, Any]) -> Steps:
        """Yield whom to ask, and return the team's prediction.

        Args:
            dialogue: what has been said; what is yielded is written down there.
            inputs: of the call.
        """
        raise NotImplementedError

    def forward(self, **inputs: Any) -> Any:
        """Ask one member after another.

        Raises:
            TooFewAnswers, NoAnswer: there is no answer.
        """
        dialogue, began = self._begun(), machine_time()
        steps = self.steps(dialogue, inputs)
        asks, result = next_step(steps, None)
        while asks is not None:
            found = [self._ask(member, given, began) for member, given in asks]
            asks, result = next_step(steps, dialogue.record(asks, _told(found)))
        return result

    async def aforward(self, **inputs: Any) -> Any:
        """Ask the members of each round side by side, within the deadline.

        Raises:
            TooFewAnswers, NoAnswer: there is no answer.
        """
        dialogue, call = self._begun(), _Call(self.team)
        steps = self.steps(dialogue, inputs)
        asks, result = next_step(steps, None)
        while asks is not None:
            spoken = dialogue.record(asks, _told(await self._side_by_side(asks, call)))
            if call.left == 0:
                dialogue.stop("deadline")
            asks, result = next_step(steps, spoken)
        return result

    def _begun(self) -> Dialogue:
        dialogue = Dialogue(self.until, self.names, self.field, self.nullable, self.team.normal)
        seen: Any = dialogue  # whoever is told looks at its ballot, as at that of a poll
        self.on_poll(seen)
        return dialogue

    def _ask(self, member: str, inputs: Mapping[str, Any], began: float) -> _Timed:
        trace = new_trace()
        with metered({}) as used:
            asked = ask(self.asked_as(member), inputs, trace)
        return _Timed(asked, used, trace, machine_time() - began)

    async def _ask_async(self, member: str, inputs: Mapping[str, Any], call: _Call) -> _Timed:
        async with call.width:
            trace = new_trace()
            with metered({}) as used:
                asked = await ask_async(self.asked_as(member), inputs, trace, call.threads)
            return _Timed(asked, used, trace, call.elapsed)

    async def _side_by_side(self, asks: Asks, call: _Call) -> list[_Timed]:
        tasks = [start_in(copy_context(), self._ask_async(member, inputs, call)) for member, inputs in asks]
        try:
            await asyncio.wait(tasks, timeout=call.left)
            late = _Timed(None, None, None, call.elapsed)
            return [task.result() if task.done() else late for task in tasks]
        finally:
            for task in tasks:
                task.cancel()

    def answer(self, dialogue: Dialogue, fields: Mapping[str, Any] | None, **more: Any) -> Any:
        """Return what was said as the answer of the team.

        Args:
            dialogue: what has been said.
            fields: of the answer; None if there is none.
            more: further fields, which count before the usual ones.

        Raises:
            TooFewAnswers, NoAnswer: there is none.
        """
        ballot = more.get("ballot") or dialogue.ballot
        if fields is None:
            raise dialogue.refused or _missing(dialogue, ballot)
        told = {
            "ballot": ballot,
            "coverage": coverage(ballot, lambda _: 1.0),
            "confidence": self._confidence(dialogue.transcript, fields),
            "degraded": _degraded(dialogue),
            "ended": None if dialogue.ended is None else dialogue.ended.reason,
            "transcript": dialogue.transcript,
        }
        return dspy.Prediction(**{**fields, **told, **more})

    def _confidence(self, transcript: Transcript, fields: Mapping[str, Any]) -> float:
        said = [(turn.member, self._form(turn.fields)) for turn in transcript.turns]
        last = {member: form for member, form in said if form is not None}
        form = self._form(plain_fields(fields))
        return sum(other == form for other in last.values()) / (len(last) or 1)

    def vote(
        self,
        dialogue: Dialogue,
        names: Sequence[str],
        latest: Mapping[str, SpokenTurn],
        *,
        besides: Sequence[str] = (),
        **more: Any,
    ) -> Any:
        """Return what the team's rule makes of the latest answers of members.

        Args:
            dialogue: what has been said.
            names: of the members that vote, in the team's order.
            latest: the latest answer of each that has one.
            besides: members that have no vote, and are in the ballot.
            more: further fields, which count before the usual ones.

        Raises:
            TooFewAnswers, NoAnswer: too few have one.
        """
        votes = self.votes(names, latest)
        last = dialogue.transcript.last_turns()
        ballot = tuple(_kept(name, latest.get(name), last[name], self.field) for name in names)
        ballot += dialogue.transcript.ballot(besides, self.field)
        if not votes or not self.enough(names, latest):
            return self.answer(dialogue, None, ballot=ballot)
        decision = self.team.rule.decide(votes)
        winner = next((vote.member for vote in votes if vote.form == decision.form), None)
        fields = {self.field: decision.form} if winner is None else latest[winner].fields
        told = {"coverage": coverage(ballot, self.team.rule.weight), "confidence": decision.confidence}
        return self.answer(dialogue, fields, **{"ballot": ballot, **told, **more})

    def votes(self, names: Sequence[str], latest: Mapping[str, SpokenTurn]) -> list[MemberVote]:
        """Return the latest answers of members, in the team's order, without abstentions."""
        said = [(name, latest[name].fields) for name in names if name in latest]
        votes = [(name, self._form(fields), told_shares(fields, self.field, self.team.normal)) for name, fields in said]
        return [MemberVote(name, form, likely) for name, form, likely in votes if form is not None]

    def enough(self, names: Sequence[str], latest: Mapping[str, SpokenTurn]) -> bool:
        """Return whether so many of these members have an answer as the team needs."""
        weights = {name: abs(self.team.rule.weight(name)) for name in names}
        return self.team.enough(sum(weights[name] for name in names if name in latest) / (sum(weights.values()) or 1.0))

    def says(self, spoken: SpokenTurn) -> bool:
        """Return whether a turn has an answer in the team's field."""
        return self._form(spoken.fields) is not None

    def _form(self, fields: Mapping[str, Any]) -> Hashable:
        """Return what is compared of what was said in the team's field; None if that is nothing."""
        value = fields.get(self.field)
        return None if value is None else self.team.normal(value)


def missing(turn: TeamTurn) -> str:
    """Return what has become of a member that has said nothing, such as ``is lost: AgentDown``."""
    return f"has failed: {turn.why}" if turn.outcome == "failed" else f"is {turn.outcome}: {turn.why}"


def member_of(what: str, name: str, given: Any) -> Member:
    """Return a member that may be given as a program.

    Args:
        what: which option it is, for the error.
        name: what it is called in the team then.
        given: a `Member`, or a program.

    Raises:
        BadTeam: it is neither.
    """
    if isinstance(given, Member):
        return given
    try:
        return Member(name, load(given))
    except BadProgram as error:
        raise BadTeam(what, given, f"give a Member, or a program; {error}") from error


def checked_signature(what: str, given: Any) -> Any:
    """Return a signature that may be given as a text.

    Raises:
        BadTeam: it is none.
    """
    if isinstance(given, str):
        try:
            given = dspy.ensure_signature(given)
        except (ValueError, TypeError, SyntaxError) as error:
            raise BadTeam(what, given, f"write one such as question -> answer; {error}") from error
    if not is_signature(given):
        raise BadTeam(what, given, "give a signature, such as question -> answer")
    return given


def said_so_far(transcript: Transcript, members: Container[str]) -> list[dict[str, Any]]:
    """Return what members have said, each turn with who said it, as members are shown it."""
    said = [turn for turn in transcript.turns if turn.outcome == "answered" and turn.member in members]
    return [{"member": turn.member, **turn.fields} for turn in said]


def _told(found: list[_Timed]) -> list[_Timed]:
    """Give the caller the traces, in the team's order."""
    if dspy.settings.trace is not None:
        for one in found:
            dspy.settings.trace.extend(one.trace or ())
    return found


def _spoken(member: str, found: _Timed, field: str, nullable: bool, normal: Callable[[Any], Hashable]) -> SpokenTurn:
    elapsed = amount(found.elapsed)
    if found.asked is None or found.used is None:
        return SpokenTurn(TeamTurn(member, "late", elapsed=elapsed), {})
    said, error = found.asked
    tokens, dollars = _usage(found.used)
    fields = {} if error is not None else prediction_fields(said, field)
    if nullable:
        fields = {name: None if _is_null(value) else value for name, value in fields.items()}
    try:
        told_shares(fields, field, normal)
    except BadProbabilities as wrong:
        error = wrong
    if error is not None:
        away = unanswered(member, error)
        return SpokenTurn(TeamTurn(member, away.outcome, {}, away.why, tokens, dollars, elapsed), {})
    return SpokenTurn(TeamTurn(member, "answered", plain_fields(fields), None, tokens, dollars, elapsed), fields)


def _is_null(value: object) -> bool:
    return isinstance(value, str) and value.strip() in ("null", "None")


def _usage(used: Metered) -> tuple[int, float]:
    """Return how many tokens a turn has used, and what it has cost."""
    rows = used.meter.get_total_tokens().values()
    return sum(int(amount(row.get("total_tokens"))) for row in rows), amount(used.history.cost)


def _kept(name: str, latest: SpokenTurn | None, last: TeamTurn, field: str) -> MemberAnswer:
    """Return what became of a member that keeps its latest answer when it has no other one."""
    if latest is None:
        return MemberAnswer(name, last.outcome, None, last.why, last.elapsed)
    why = None if last.outcome == "answered" else f"{last.outcome} later: {last.why}"
    return MemberAnswer(name, "answered", latest.fields.get(field), why, latest.turn.elapsed)


def _missing(dialogue: Dialogue, ballot: tuple[MemberAnswer, ...]) -> BaseException:
    reason = "nothing" if dialogue.ended is None else dialogue.ended.reason
    if reason == "deadline" or any(one.outcome in ("lost", "late") for one in ballot):
        return TooFewAnswers(ballot)
    return NoAnswer(ballot, f"there was no answer when {reason} ended it")


def _degraded(dialogue: Dialogue) -> str | None:
    if dialogue.ended is not None and dialogue.ended.limit:
        return dialogue.ended.reason
    asked = [turn.outcome for turn in dialogue.transcript.last_turns().values()]
    for outcome in ("lost", "late"):
        if outcome in asked:
            return f"members:{outcome} {asked.count(outcome)} of {len(asked)}"
    return None


def _show(who: str, program: Any, shown: Mapping[str, tuple[Any, str]]) -> None:
    """Have a program of one predictor take what members are shown."""
    predictors = program.predictors()
    if len(predictors) != 1:
        return
    (predictor,) = predictors
    for name, (kind, description) in shown.items():
        if name in predictor.signature.output_fields:
            raise BadTeam(who, name, "call this output something else; members are shown something of that name")
        if name not in predictor.signature.input_fields:
            field = dspy.InputField(desc=description)
            predictor.signature = predictor.signature.append(name, field, kind)
