"""A team served under a name, with an agent for each of its members."""

from __future__ import annotations

import asyncio
import copy
from collections import Counter, deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pkgutil import resolve_name
from statistics import mean
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from dspex._compat import Metered, metered
from dspex.agents.agent import BadProgram, proxy
from dspex.agents.concurrency import AnswerTimeLimit
from dspex.agents.dispatcher import Dispatcher
from dspex.agents.process import runner_of
from dspex.agents.runner import run_module
from dspex.serving.arguments import import_named
from dspex.serving.calls import CallRequest
from dspex.serving.program import ProgramActor
from dspex.teams.ballot import MemberAnswer
from dspex.teams.errors import BadTeam, TooFewAnswers
from dspex.teams.events import EscalationAlarm, MemberMissing, TeamAnswered, TeamDegraded, TeamReshaped
from dspex.teams.ladder import FULL, TeamLadder
from dspex.teams.metrics import TeamCounts
from dspex.teams.missing import degradation_reason
from dspex.teams.program import TeamProgram
from dspex.teams.recent_answers import RecentAnswers
from dspex.teams.reshaping import ReshapeTeam
from dspex.teams.team import Team
from dspex.teams.team_call import LadderState, TeamCall
from foundation.options import whole
from foundation.programs import Answer, BadVersion, SendPiece, Unavailable, Version
from supervision import (
    CallError,
    ChildSpec,
    Refuse,
    Supervisor,
    delete_child,
    handle,
    start_child,
    terminate_child,
)
from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.logs import get_logger
from supervision.messages import describe

_log: Any = get_logger("dspex")
#: When the caller of the running call waits no longer, in the runtime's time; None if it waits for ever.
_until: ContextVar[float | None] = ContextVar("dspex.team_call_until", default=None)


class TeamActor(ProgramActor):
    """Serves a team as `ProgramActor` serves a program, and has an agent run each of its members.

    A member that dies is started again. Its part of a call is asked for again by the next incarnation, so often and in
    such time as is allowed; after that the team goes on without it, and says so: a member that is lost has given no
    wrong answer. `DescribeProgram`, versions, the HTTP front and `dspex.agent` see a program.

    With a ladder, what cannot be answered in full is answered by a lesser answer, whose ``degraded`` says which and
    why, such as ``single:lost 3 of 5``: the best one that can be had before the caller gives up. Calls go on to begin
    there until ``recover_after`` of them in a row were good. A caller that waits for a limited time is told in time:
    members are late when nine tenths of it are over.

    Args:
        team: a `Team`, a `TeamProgram`, what makes one, or ``package.module:name`` of any of these.
        ladder: see `TeamLadder.of`, such as ``["quorum", "single:chat", "cached:3600", "refuse"]``; None for the
            team's own. Without any, a quorum answers, or the call is refused.
        deadline: seconds after which members are late; None for the team's own.
        concurrency: how many calls of the team run at the same time.
        waiting: how many more may wait; the next is refused (`Busy`). None for any number.
        retries: how often a member is asked again when its agent has died with it.
        patience: seconds to wait for a member's agent that is being restarted.
        isolation: ``process`` to give each member an OS process; see `dspex.agents.process.ProcessRunner`.
        options: as for `ProgramActor`: ``lm``, ``adapter``, ``settings``, ``versions``, ``signature``.

    Raises:
        BadTeam, BadProgram, BadOption: at its start, if there is no such team, or an option is wrong.
    """

    def __init__(
        self,
        team: object,
        *,
        ladder: Any = None,
        deadline: float | None = None,
        concurrency: int = 16,
        waiting: int | None = 64,
        retries: int = 1,
        patience: float = 1.0,
        isolation: str = "none",
        **options: Any,
    ) -> None:
        self._patience = seconds("patience", patience)
        self._retries = whole("retries", retries, 0)
        runner_of(isolation)
        program = _changed(_program(team), ladder, deadline)
        super().__init__(program, concurrency=concurrency, waiting=waiting, **options)
        self._isolation = isolation
        self._served: WeakKeyDictionary[Any, _ServedVersion] = WeakKeyDictionary()
        self._ladder = None if program.team.ladder is None else LadderState(program.team.ladder)
        self._outcomes: Counter[str] = Counter()
        self._degraded = 0
        #: Of the last answers.
        self._coverage: deque[float] = deque(maxlen=100)
        #: The members that an alarm was raised for, and that it still stands for.
        self._alarms: set[str] = set()

    @classmethod
    def check_arguments(
        cls,
        team: object,
        /,
        *,
        ladder: Any = None,
        deadline: float | None = None,
        retries: int = 1,
        patience: float = 1.0,
        isolation: str = "none",
        **options: Any,
    ) -> None:
        """Check what stands in a tree file."""
        whole("retries", retries, 0)
        seconds("patience", patience)
        runner_of(isolation)
        super().check_arguments(team, **options)
        _changed(_program(team), ladder, deadline)

    @classmethod
    def check_program(cls, source: object) -> None:
        """Check that a team is named, or what makes one."""
        found = import_named(source)
        if not (callable(found) or isinstance(found, Team)):
            raise BadTeam("TeamActor: team", source, f"give a Team, or what makes one, not {type(found).__name__}")

    async def init(self) -> None:
        """Start the members' agents."""
        await super().init()
        if self.contract.interface.open and not self.contract.interface.inputs:
            remedy = "say what it takes and gives, such as signature = 'text -> label', or name the inputs of forward"
            _log.warning("team_without_inputs", team=self.label, remedy=remedy)
        self._counts = TeamCounts.of(self.runtime)
        #: The members that have an agent.
        self._staff = set(self.program.members)
        #: Held while agents are started or stopped.
        self._staffing = asyncio.Lock()
        #: How many calls run with a version.
        self._running: Counter[Any] = Counter()
        children = [self._agent(member) for member in self.program.members]
        self._agents = await self.spawn_link(Supervisor, children, max_restarts=100 * len(children), max_seconds=1.0)

    @property
    def label(self) -> str:
        """What the team is called in errors and events."""
        return str(self.program.team.name)

    def summary(self) -> Mapping[str, object]:
        """Return how busy it is, which version serves, and how its members fare, for ``/tree``."""
        alive = sum(self.runtime.whereis(self._name(member)) is not None for member in self._staff)
        team = ", ".join(f"{one.name} ({one.role})" if one.role else one.name for one in self.program.team.members)
        coverage = {"coverage": f"{mean(self._coverage):.2f}"} if self._coverage else {}
        members = {"team": team, "members": f"{alive} of {len(self._staff)}", **coverage, "degraded": self._degraded}
        rung = {} if self._ladder is None else {"rung": self._ladder.walk.current}
        alarm = {"alarm": ", ".join(sorted(self._alarms))} if self._alarms else {}
        return {**super().summary(), **members, **rung, **alarm, **self._outcomes}

    async def _answer(
        self, request: CallRequest, inputs: dict[str, Any], send: SendPiece | None, limit: AnswerTimeLimit | None
    ) -> Answer:
        ends = [end for end in (request.deadline, None if limit is None else limit.until) if end is not None]
        token = _until.set(min(ends, default=None))
        try:
            return await super()._answer(request, inputs, send, limit)
        finally:
            _until.reset(token)

    async def perform(self, program: Any, inputs: dict[str, Any]) -> Any:
        """Ask the members of a version, each in its agent; and if that gives no full answer, find a lesser one."""
        clock, served = self.runtime.clock, self._version(program)
        run = lambda asked: run_module(asked, (), inputs, asynchronous=True, limiter=self.limiter)  # noqa: E731
        call = TeamCall(served.program, inputs, run, clock, _until.get(), self._ladder, served.recent)
        began = clock.time()
        self._running[program] += 1
        try:
            await self._engage(program)
            found = await call.answer()
        except (Unavailable, TooFewAnswers):
            self._note_rung("refuse", str(degradation_reason(call.ballot)))
            raise
        finally:
            self._note_members(call.ballot)
            self._note_alarms(served.program.alarms)
            self._running -= Counter((program,))  # without those that have none left
            self._dismiss()
        self._note_rung(call.rung, (found.degraded or "").partition(":")[2])
        self._counts.answered(self.label, found.coverage)
        self._coverage.append(found.coverage)
        self.runtime.events.emit(
            TeamAnswered,
            team=self.label,
            coverage=found.coverage,
            confidence=found.confidence,
            degraded=found.degraded,
            asked=sum(one.outcome != "unasked" for one in found.ballot),
            seconds=clock.time() - began,
        )
        return found

    def _note_rung(self, rung: str, why: str) -> None:
        self._counts.rungs[self.label, rung] += 1
        if rung != FULL.name:
            self._degraded += 1
            self.runtime.events.emit(TeamDegraded, team=self.label, rung=rung, why=why)

    def _note_members(self, ballot: tuple[MemberAnswer, ...]) -> None:
        for one in ballot:
            self._outcomes[one.outcome] += 1
            self._counts.members[self.label, one.member, one.outcome] += 1
            if one.outcome == "answered" and self._ladder is not None and one.seconds is not None:
                self._ladder.took(one.member, one.seconds)
            if one.outcome in ("failed", "lost", "late"):
                self.runtime.events.emit(
                    MemberMissing, team=self.label, member=one.member, outcome=one.outcome, why=one.why
                )

    def _note_alarms(self, alarms: Mapping[str, Any]) -> None:
        """Tell of what is amiss with members, once each time."""
        for member in alarms.keys() - self._alarms:
            found = alarms[member]
            about = {"team": self.label, "member": member, "calls": found.calls, "why": found.alarm}
            shares = {"escalated": found.escalated, "expected": found.expected}
            self.runtime.events.emit(EscalationAlarm, **about, **shares)
        self._alarms = {*alarms}

    def _version(self, program: Any) -> _ServedVersion:
        """Return a version whose members' calls go to their agents."""
        found = self._served.get(program)
        if found is None:
            routed = copy.copy(program)
            routed.members = {name: proxy(part, self._dispatcher(name)) for name, part in program.members.items()}
            found = self._served[program] = _ServedVersion(routed, RecentAnswers())
        return found

    # -- who is there --------------------------------------------------------------------------------------------------

    @handle
    def reshape(self, request: ReshapeTeam) -> None:
        """Have other members from the next call on, as a version of its own."""
        program = self.program
        try:
            made = self._reshaped(request)
        except (BadTeam, BadOption, BadProgram) as error:
            raise Refuse(error) from None
        self._change(lambda: self._told(self._reshape(request, program, made)), request.force)

    def _reshaped(self, request: ReshapeTeam) -> Any:
        """Return the program after changes."""
        try:
            return self.program.reshaped(*request.changes)
        except (BadTeam, BadOption, BadProgram):
            raise
        except (Exception, SystemExit) as error:  # of what makes the program of somebody who joins
            raise BadTeam("ReshapeTeam: changes", request.changes, f"this was raised: {describe(error)}") from error

    async def _reshape(self, request: ReshapeTeam, program: Any, made: Any) -> Version:
        """Serve what was made of a program; or make it of the one that serves by now."""
        before = tuple(self.program.members)
        if self.program is not program:
            try:
                made = self._reshaped(request)
            except (BadTeam, BadOption, BadProgram) as error:
                raise BadVersion(self._versions.number, str(error)) from error
        found = await self._versions.rebuild(made)
        about = {"team": self.label, "before": before, "after": tuple(made.members), "why": request.why}
        self.runtime.events.emit(TeamReshaped, **about, version=found.number)
        self._dismiss()
        return found

    async def _engage(self, program: Any) -> None:
        """Have an agent for each member of a version."""
        if not program.members.keys() <= self._staff:
            async with self._staffing:
                for member in program.members.keys() - self._staff:
                    await start_child(self._agents, self._agent(member))
                    self._staff.add(member)

    def _dismiss(self) -> None:
        """Have no agent for members that neither the version that serves nor a call under way has."""
        if self._unneeded():
            self._begin(self._stop_unneeded())

    def _unneeded(self) -> list[str]:
        used = [self.program, *self._running]
        return sorted(self._staff - {member for program in used for member in program.members})

    async def _stop_unneeded(self) -> None:
        with suppress(CallError):  # the team has ended
            async with self._staffing:
                # Looked at anew each time: whoever leaves may be needed again meanwhile.
                while unneeded := self._unneeded():
                    member = unneeded[0]
                    self._staff.remove(member)
                    await terminate_child(self._agents, member)
                    await delete_child(self._agents, member)

    def _agent(self, member: str) -> ChildSpec:
        return ChildSpec(member, runner_of(self._isolation), (self.concurrency, None, {}), name=self._name(member))

    def _name(self, member: str) -> str:
        # Of this incarnation alone: the names of a team that was killed may be held a moment longer.
        return f"{self.ref.path}#{self.ref.id}/{member}"

    def _dispatcher(self, member: str) -> Dispatcher:
        address = self.runtime.name(self._name(member))
        return Dispatcher(self.runtime, address, retries=self._retries, patience=self._patience)

    @contextmanager
    def measured(self, program: str, settings: Mapping[str, Any]) -> Generator[Metered]:
        """Apply settings and measure; the members' agents tell what they have run."""
        with metered(settings) as used:
            yield used


class _ServedVersion(NamedTuple):
    """A version that serves, with the members' calls going to their agents; and its last full answers."""

    program: Any
    recent: RecentAnswers


def _changed(program: Any, ladder: Any, deadline: float | None) -> Any:
    """Return the program of a team with another ladder and deadline, where they are given.

    Raises:
        BadTeam, BadOption: they make no sense, or do not fit the team.
    """
    given = {"ladder": None if ladder is None else TeamLadder.of(ladder), "deadline": deadline}
    team = msgspec.structs.replace(program.team, **{name: value for name, value in given.items() if value is not None})
    found = copy.copy(program)
    found.team = team
    found.check_ladder()
    return found


def _program(source: object) -> Any:
    """Return the program of a team, however that is named."""
    found = source
    if isinstance(source, str):
        try:
            found = resolve_name(source)
        except (ImportError, AttributeError, ValueError) as error:
            raise BadTeam("TeamActor: team", source, f"write package.module:name; {error}") from error
    if callable(found) and not isinstance(found, TeamProgram):
        found = found()
    if isinstance(found, Team):
        found = found.program()
    if not isinstance(found, TeamProgram):
        raise BadTeam("TeamActor: team", source, f"give a Team, or what makes one, not {type(found).__name__}")
    return found
