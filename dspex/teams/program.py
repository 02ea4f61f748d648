"""A team as a program: a ``dspy.Module`` whose parts are its members."""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import copy_context
from enum import Enum
from typing import Any, ClassVar

import anyio
import dspy
import msgspec

from dspex._tasks import start_in
from dspex.agents.agent import load
from dspex.models.local.adapter import choices_of
from dspex.teams.asking import ask, ask_async, new_trace
from dspex.teams.ballot import MemberAnswer
from dspex.teams.declared import Outputs, check_field, forward_signature, outputs_of, predictor_signature
from dspex.teams.errors import BadTeam
from dspex.teams.poll import Poll, prediction_fields
from dspex.teams.reshaping import TeamChange, changed_team, why_no_version
from dspex.teams.rule_files import read_rule, rule_text
from dspex.teams.rules import FirstAnswer
from dspex.teams.team import Member, Team
from supervision.logs import get_logger

_log: Any = get_logger("dspex")
#: In a saved state, the rule.
RULE = "rule"
#: Of whom a part of a saved state is.
_MEMBER = re.compile(r"members\[(['\"])(.+?)\1\]")


class TeamProgram(dspy.Module):  # type: ignore[misc]
    """Asks the members of a team, and combines what they answer.

    It is a program like any other: ``dspy.Evaluate``, optimisers, `dspex.agent`, ``save`` and ``load`` take it as such.
    The traces of its members come in the team's order. ``acall`` asks members side by side, within the deadline; a
    plain call asks one after another until it is decided, and has no deadline, as a thread cannot be left.

    What is saved has the rule, too, with all that was fitted: one of this package, about answers that are texts.

    Its answer is a ``dspy.Prediction`` with the fields of the winning member, and besides

    - ``ballot``: a `MemberAnswer` for each member;
    - ``coverage``: which share of the weight that was asked has answered;
    - ``confidence``: the share of the winner, see `CombinedAnswer`;
    - ``degraded``: why it is an answer of fewer members than it should be, such as ``quorum:lost 1 of 3``; else None.

    Args:
        team: whose members' programs are copied.

    Raises:
        BadProgram: a member's program is none.
        BadTeam: this is no team; the field that is to be combined is not known, or a member has no such output.
    """

    #: Whether others may join and leave it. Not if what it does was settled for its members when it was made.
    reshapable: ClassVar[bool] = True
    #: Whether each member answers in the team's field; else some may say something else.
    all_answer: ClassVar[bool] = True
    #: Whether the team's rule makes its answers.
    uses_rule: ClassVar[bool] = True
    #: Is told of each question that is put to the members side by side.
    on_poll: Callable[[Any], object] = staticmethod(lambda _: None)

    def __init__(self, team: Team) -> None:
        super().__init__()
        checked_team(type(self).__name__, team)
        self.members = {member.name: _own(member.program) for member in team.members}
        first = team.members[0].name
        self.field = team.field or last_output("Team: field", first, self.members[first])
        #: The team, without the programs: these are the parts of this one.
        self.team = msgspec.structs.replace(team, members=_bare(team.members))
        #: Of whom was told that they answer without the field.
        self._lacking: set[str] = set()
        self._declare()

    def _declare(self) -> None:
        """Look at what the members declare.

        Raises:
            BadTeam: one of them has no such output as is combined.
        """
        #: What the programs of members name as their inputs; None where that is nothing.
        self._named: dict[str, Any] = {}
        #: What each member is known to say.
        self._known_outputs: Outputs = {name: outputs_of(program) for name, program in self.members.items()}
        answering = {name: self._known_outputs[name] for name in self._answering() if name in self._known_outputs}
        check_field(f"{type(self).__name__}: field", self.field, answering, of_all=self.all_answer)

    def _answering(self) -> list[str]:
        """Return the members that are asked for an answer."""
        return [member.name for member in self.team.members]

    # -- members by themselves -----------------------------------------------------------------------------------------

    @property
    def able_alone(self) -> list[str]:
        """The members that can answer without the others: those of which a ladder may take a ``single`` answer."""
        names = self._answering()
        return [name for name in names if (known := self._known_outputs.get(name)) is None or self.field in known]

    def alone(self, member: str) -> Any:
        """Return the team as one in which a member of `able_alone` answers by itself. It shares all else with this."""
        found = copy.copy(self)
        only = tuple(one for one in self.team.members if one.name == member)
        found.team = msgspec.structs.replace(
            self.team, members=only, rule=FirstAnswer(), min_answers=None, max_calls=None, side_by_side=None
        )
        return found

    def check_ladder(self) -> None:
        """Check the ladder of the team, if it has one.

        Raises:
            BadTeam: it names a member that cannot answer alone, or has a default without the field that is combined.
        """
        if self.team.ladder is not None:
            self.team.ladder.check(self.able_alone, self.field)

    def said(self, prediction: Any) -> dict[str, Any]:
        """Return what a member has said as fields of the team's answer."""
        return prediction_fields(prediction, self.field)

    @property
    def alarms(self) -> Mapping[str, Any]:
        """What is amiss with members, by their names, with an ``alarm`` that says it. There is nothing to tell here."""
        return {}

    # -- state ---------------------------------------------------------------------------------------------------------

    def _teams(self) -> Iterator[tuple[str, TeamProgram]]:
        """Return the teams whose rule is saved, this one and those that are members, with the keys of their rules."""
        found: Any = self.named_sub_modules(TeamProgram)
        for path, team in found:
            if team.uses_rule:
                inner = path.removeprefix("self").removeprefix(".")
                yield (f"{inner}.{RULE}" if inner else RULE), team

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        """Return what is saved: the state of the members, as DSPy has it, and the rule."""
        rules = {key: rule_text(team.team.rule) for key, team in self._teams()}
        written = {key: rule for key, rule in rules.items() if rule is not None}
        return {**super().dump_state(json_mode=json_mode), **written}

    def load_state(self, state: Mapping[str, Any], **options: Any) -> None:
        """Take over what was saved. A state without a rule leaves that of the team.

        Raises:
            BadTeam: its rule is none, or it is of a team with other members.
        """
        rules = [(team, read_rule(state[key])) for key, team in self._teams() if key in state]
        self._check_members(state)
        super().load_state(state, **options)
        for team, rule in rules:
            team.team = msgspec.structs.replace(team.team, rule=rule)

    def _check_members(self, state: Mapping[str, Any]) -> None:
        """Check that a state is that of a team with these members."""
        saved = {found[2] for key in state if (found := _MEMBER.match(key))}
        own = {found[2] for name, _ in self.named_parameters() if (found := _MEMBER.match(name))}
        if saved != own:
            remedy = f"it is of {', '.join(sorted(saved)) or 'nobody'}, and this team of {', '.join(sorted(own))}"
            raise BadTeam("load_state: state", sorted(state), f"{remedy}; load it into a team of these: see reshaped")

    def why_no_version(self, other: Any) -> str | None:
        """Return why a program cannot be a version of this one; None if it can, as far as is known.

        A version has the state of another program and nothing else of it, so all else must be the same.
        """
        return why_no_version(self, other)

    def reshaped(self, *changes: TeamChange) -> TeamProgram:
        """Return the team after changes, as a program: a copy, with the programs of those that stay and that join.

        Raises:
            BadTeam, BadOption, BadProgram: a change makes no sense, or this kind of team cannot change.
        """
        if not self.reshapable:
            remedy = f"make another {type(self).__name__}, and start its actor anew with that"
            raise BadTeam("ReshapeTeam: team", self.team.name, remedy)
        team = changed_team(self.team, changes)
        found: TeamProgram = self.deepcopy()
        stay = found.members
        found.members = {
            member.name: stay[member.name] if member.program is None else _own(member.program)
            for member in team.members
        }
        found.team = msgspec.structs.replace(team, members=_bare(team.members))
        found._declare()
        found.check_ladder()
        return found

    @property
    def signature(self) -> Any:
        """The inputs and outputs of the first member: those of the team. None if they are not known.

        They are those of its one predictor, or the parameters of its ``forward``.
        """
        first = next((name for name in self._answering() if name in self.members), next(iter(self.members)))
        if first not in self._named:
            self._named[first] = forward_signature(self.members[first], self.field)
        return self._named[first] or predictor_signature(self.members[first])

    def asked_as(self, member: str) -> Any:
        """Return the program that is asked for a member."""
        return self.members[member]

    def forward(self, **inputs: Any) -> Any:
        """Ask the members one after another, until it is decided.

        Raises:
            TooFewAnswers, NoAnswer: too few have answered.
        """
        poll, traces = Poll(self.team, self.field, self._labels()), {}
        while waiting := poll.waiting:
            name = waiting[0]
            traces[name] = new_trace()
            found, error = ask(self.asked_as(name), inputs, traces[name])
            if error is None:
                poll.answered(name, found)
            else:
                poll.failed(name, error)
        self.tell_lacking(poll.ballot)
        return _ended(poll, traces)

    async def aforward(self, **inputs: Any) -> Any:
        """Ask the members side by side, until it is decided or the deadline has come.

        Raises:
            TooFewAnswers, NoAnswer: too few have answered.
        """
        asking = await self._asked(inputs)
        self.tell_lacking(asking.poll.ballot)
        return _ended(asking.poll, asking.traces)

    async def poll(self, inputs: Mapping[str, Any]) -> Poll:
        """Ask the members side by side, and return what became of each, without making one answer of it."""
        return (await self._asked(inputs)).poll

    async def _asked(self, inputs: Mapping[str, Any]) -> _Asking:
        asking = _Asking(self, inputs)
        self.on_poll(asking.poll)
        try:
            await asking.ask()
        finally:
            asking.cancel()
        return asking

    def tell_lacking(self, ballot: Iterable[MemberAnswer]) -> None:
        """Tell the log, once of each, which members answer without the field that is combined."""
        for one in ballot:
            if one.outcome == "answered" and one.why is not None and one.member not in self._lacking:
                self._lacking.add(one.member)
                _log.warning("member_without_field", team=self.team.name, member=one.member, why=one.why)

    def _labels(self) -> tuple[Any, ...]:
        """What the answer may be, if the signature lists it."""
        signature = self.signature
        field = None if signature is None else signature.output_fields.get(self.field)
        annotation = None if field is None else field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Enum):
            return tuple(annotation)
        return choices_of(annotation)


class _Asking:
    """The members that are being asked."""

    def __init__(self, program: TeamProgram, inputs: Mapping[str, Any]) -> None:
        self._program = program
        self._inputs = inputs
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._limiter = anyio.CapacityLimiter(len(program.members))
        self._tasks: dict[asyncio.Task[Any], str] = {}
        self.poll = Poll(program.team, program.field, program._labels())
        self.traces: dict[str, list[Any] | None] = {}

    async def ask(self) -> None:
        """Ask, and record what comes."""
        while waiting := self.poll.waiting:
            self._start([name for name in waiting if name not in self.traces])
            done, _ = await asyncio.wait(self._tasks, timeout=self._left(), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                self._record(self._tasks.pop(task), task)
            if not done:
                self.poll.close(self._seconds())

    def _start(self, names: list[str]) -> None:
        width = self._program.team.side_by_side or len(self._program.members)
        for name in names[: width - len(self._tasks)]:
            self.traces[name] = new_trace()
            asked = ask_async(self._program.asked_as(name), self._inputs, self.traces[name], self._limiter)
            self._tasks[start_in(copy_context(), asked)] = name

    def _record(self, name: str, task: asyncio.Task[Any]) -> None:
        found, error = task.result()
        if error is None:
            self.poll.answered(name, found, self._seconds())
        else:
            self.poll.failed(name, error, self._seconds())

    def _seconds(self) -> float:
        return self._loop.time() - self._began

    def _left(self) -> float | None:
        deadline = self._program.team.deadline
        return None if deadline is None else max(0.0, deadline - self._seconds())

    def cancel(self) -> None:
        """Cancel those whose answers can change nothing any more."""
        for task in self._tasks:
            task.cancel()


def _ended(poll: Poll, traces: Mapping[str, list[Any] | None]) -> Any:
    """Give the caller the members' traces, in the team's order, and return what they have come to."""
    if dspy.settings.trace is not None:
        for one in poll.ballot:
            if one.outcome in ("answered", "failed", "lost"):
                dspy.settings.trace.extend(traces[one.member] or ())
    return poll.result()


def _bare(members: Iterable[Member]) -> tuple[Member, ...]:
    return tuple(msgspec.structs.replace(member, program=None) for member in members)


def _own(source: object) -> Any:
    """Return a member's program, for the team alone.

    One that an optimiser has compiled is a part like any other: DSPy would leave it out of what is saved and optimised.
    """
    program = load(source).deepcopy()
    for _, part in program.named_sub_modules():
        part._compiled = False
    return program


def checked_team(pattern: str, team: object) -> Team:
    """Return a team.

    Raises:
        BadTeam: it is something else.
    """
    if not isinstance(team, Team):
        raise BadTeam(f"{pattern}: team", team, "give a Team")
    return team


def last_output(what: str, member: str, program: Any) -> str:
    """Return the last output of a member's program.

    Args:
        what: which option says it otherwise, for the error.
        member: its name.
        program: of the member.

    Raises:
        BadTeam: it is not known.
    """
    predictors = program.predictors()
    if not predictors:
        raise BadTeam(what, None, f"{member} does not declare its outputs; name the one that is meant")
    return str(list(predictors[-1].signature.output_fields)[-1])
