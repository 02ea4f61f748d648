"""A team as a program: a ``dspy.Module`` whose parts are its members."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
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
from dspex.teams.errors import BadTeam
from dspex.teams.poll import Poll
from dspex.teams.reshaping import TeamChange, changed_team
from dspex.teams.team import Member, Team


class TeamProgram(dspy.Module):  # type: ignore[misc]
    """Asks the members of a team, and combines what they answer.

    It is a program like any other: ``dspy.Evaluate``, optimisers, `dspex.agent`, ``save`` and ``load`` take it as such.
    The traces of its members come in the team's order. ``acall`` asks members side by side, within the deadline; a
    plain call asks one after another until it is decided, and has no deadline, as a thread cannot be left.

    Its answer is a ``dspy.Prediction`` with the fields of the winning member, and besides

    - ``ballot``: a `MemberAnswer` for each member;
    - ``coverage``: which share of the weight that was asked has answered;
    - ``confidence``: the share of the winner, see `CombinedAnswer`;
    - ``degraded``: why it is an answer of fewer members than it should be, such as ``quorum:lost 1 of 3``; else None.

    Args:
        team: whose members' programs are copied.

    Raises:
        BadProgram: a member's program is none.
        BadTeam: the field that is to be combined is not known.
    """

    #: Whether others may join and leave it. Not if what it does was settled for its members when it was made.
    reshapable: ClassVar[bool] = True
    #: Is told of each question that is put to the members side by side.
    on_poll: Callable[[Any], object] = staticmethod(lambda _: None)

    def __init__(self, team: Team) -> None:
        super().__init__()
        self.members = {member.name: _own(member.program) for member in team.members}
        first = team.members[0].name
        self.field = team.field or last_output(first, self.members[first])
        #: The team, without the programs: these are the parts of this one.
        self.team = msgspec.structs.replace(team, members=_bare(team.members))

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
        return found

    @property
    def signature(self) -> Any:
        """The inputs and outputs of the first member, if it has one predictor: those of the team. Else None."""
        predictors = next(iter(self.members.values())).predictors()
        return predictors[0].signature if len(predictors) == 1 else None

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
        return _ended(poll, traces)

    async def aforward(self, **inputs: Any) -> Any:
        """Ask the members side by side, until it is decided or the deadline has come.

        Raises:
            TooFewAnswers, NoAnswer: too few have answered.
        """
        asking = await self._asked(inputs)
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

    def _labels(self) -> tuple[Any, ...]:
        """What the answer may be, if the signature lists it."""
        field = None if self.signature is None else self.signature.output_fields.get(self.field)
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


def last_output(member: str, program: Any) -> str:
    """Return the last output of a member's program.

    Raises:
        BadTeam: it is not known.
    """
    predictors = program.predictors()
    if not predictors:
        raise BadTeam("Team: field", None, f"name the output of {member} that is combined")
    return str(list(predictors[-1].signature.output_fields)[-1])
