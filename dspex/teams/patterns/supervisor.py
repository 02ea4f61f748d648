"""Managed teams: a manager gives tasks to workers, one after another, until it has the answer.

Elsewhere the manager is called a supervisor; here that word is OTP's.

>>> import dspy
>>> from dspy.utils.dummies import DummyLM
>>> from dspex.teams import Member, Team
>>> def program(signature, *answers):
...     made = dspy.Predict(signature)
...     made.set_lm(DummyLM([*answers]))
...     return made
>>> workers = Team("desk", (Member("search", program("task -> found", {"found": "42 km"}), role="finds facts"),))
>>> manager = program(
...     manager_signature("question -> answer", workers),
...     {"progress": "True", "next": "search", "task": "length of a marathon", "answer": "null"},
...     {"progress": "True", "next": "done", "task": "", "answer": "42 km"},
... )
>>> answer = ManagedTeam(workers, "question -> answer", Member("manager", manager))(question="How long is a marathon?")
>>> answer.answer, answer.ended, [turn.member for turn in answer.transcript.turns]
('42 km', 'done', ['manager', 'search', 'manager'])
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import dspy
import msgspec

from dspex.teams.ballot import normal_form
from dspex.teams.endings import Ending, Turns
from dspex.teams.errors import BadTeam
from dspex.teams.patterns.dialogue import (
    Dialogue,
    DialogueProgram,
    SpokenTurn,
    Steps,
    checked_signature,
    member_of,
    missing,
)
from dspex.teams.program import checked_team
from dspex.teams.team import Team
from foundation.options import whole

#: What a manager says when there is nothing left to do.
DONE = "done"

_LEAD = (
    "You lead workers. Choose who works next, and on what; choose done when you know the answer. "
    "Do not ask for what is done already."
)
_PLAN = "The work has come to a halt. Write anew what is known, and how to go on."


def manager_signature(signature: Any, workers: Team) -> Any:
    """Return the signature of a manager: whom it chooses is typed, and not read out of a text.

    Args:
        signature: of the whole team, such as ``question -> answer``.
        workers: among whom it chooses.

    Raises:
        BadTeam: the signature is none, or has fields of the same names.
    """
    made = _with_work(signature, workers).append_instructions(_LEAD)
    for name, field in made.output_fields.items():
        made = made.with_updated_fields(name, field.annotation | None, desc="null while it is not known")
    note = dspy.InputField(desc="what has become of your last choice")
    made = made.append("note", note, str)
    names = [member.name for member in workers.members]
    task = dspy.OutputField(desc="what that worker is to do; it knows nothing else")
    who = dspy.OutputField(desc="who works next, or done")
    progress = dspy.OutputField(desc="whether the last result has brought you further; true at the beginning")
    made = made.prepend("task", task, str).prepend("next", who, Literal[(*names, DONE)])
    return made.prepend("progress", progress, bool)


def planner_signature(signature: Any, workers: Team) -> Any:
    """Return the signature of a planner, who is asked when the work has come to a halt.

    Raises:
        BadTeam: as `manager_signature`.
    """
    made = _with_work(signature, workers).append_instructions(_PLAN)
    for name in made.output_fields:
        made = made.delete(name)
    facts = dspy.OutputField(desc="what is known, and what is not")
    plan = dspy.OutputField(desc="who does what, in which order")
    return made.append("facts", facts, str).append("new_plan", plan, str)


class ManagedTeam(DialogueProgram):
    """A manager that gives tasks to workers, until it has the answer; see `DialogueProgram` for that.

    At each turn the manager is shown the workers with their roles, and all that is ``done``: each task with who did it,
    and the result. It says whether there is ``progress``, who is ``next`` and with which ``task``, and the answer when
    it knows it. A worker gets its ``task``, and the team's inputs that its signature names.

    A task that its worker has done already is not done again: that is a stall, and so is a turn without progress. When
    there were three more stalls than turns with progress, a planner writes anew what is known and how to go on. A
    worker that is lost is told to the manager, who chooses again. A manager that chooses nobody there is is told so,
    once.

    The answer has ``stalls`` and ``replans`` besides.

    Args:
        team: the workers.
        signature: of the whole, such as ``question -> answer``.
        manager: chooses: a `Member`, or a program; by default a ``dspy.Predict`` of its `manager_signature`.
        planner: plans anew: as well; by default a ``dspy.Predict`` of its `planner_signature`.
        max_stalls: at how many stalls it does.
        max_replans: how often; after that the team gives up.
        until: when it is over earlier; at the latest after the team's ``max_calls``, by default 20 turns.

    Raises:
        BadTeam, BadOption: it makes no sense; the text says what, and what would.
    """

    shown: ClassVar[Mapping[str, tuple[Any, str]]] = {"task": (str, "what you are to do")}
    nullable: ClassVar[bool] = True
    all_answer = False
    uses_rule = False

    def __init__(
        self,
        team: Team,
        signature: Any,
        manager: Any = None,
        *,
        planner: Any = None,
        max_stalls: int = 3,
        max_replans: int = 2,
        until: Ending | None = None,
    ) -> None:
        self.workers = {member.name: member.role for member in checked_team("ManagedTeam", team).members}
        self.max_stalls = whole("ManagedTeam: max_stalls", max_stalls)
        self.max_replans = whole("ManagedTeam: max_replans", max_replans, 0)
        chosen = manager_signature(signature, team)
        chooses = dspy.Predict(chosen) if manager is None else manager
        plans = dspy.Predict(planner_signature(signature, team)) if planner is None else planner
        manager = member_of("ManagedTeam: manager", "manager", chooses)
        planner = member_of("ManagedTeam: planner", "planner", plans)
        self.manager, self.planner = manager.name, planner.name
        self._signature = checked_signature("ManagedTeam: signature", signature)
        field = team.field or next(reversed([*self._signature.output_fields]))
        if field not in self._signature.output_fields:
            raise BadTeam("ManagedTeam: field", field, "name an output of the signature")
        everybody = (*team.members, manager, planner)
        super().__init__(msgspec.structs.replace(team, members=everybody, field=field), until, 20)
        #: Those of the inputs that each worker is given.
        self._inputs = {name: _named(self.members[name], self._signature) for name in self.workers}
        self.check_ladder()

    @property
    def able_alone(self) -> list[str]:
        """The manager, as workers are given tasks, and not what the team is asked."""
        return [self.manager]

    def alone(self, member: str) -> Any:
        """Return the team as one in which the manager has to know the answer."""
        found = super().alone(member)
        found.until = Turns(1)
        return found

    @property
    def signature(self) -> Any:
        """The inputs and outputs of the team."""
        return self._signature

    def shown_to(self, member: str) -> Mapping[str, tuple[Any, str]]:
        """Return what a member is shown: workers their task."""
        return self.shown if member in self.workers else {}

    def steps(self, dialogue: Dialogue, inputs: Mapping[str, Any]) -> Steps:
        """Have the manager choose, and the worker work, until it is done."""
        work = _Work(self.max_stalls)
        found: Mapping[str, Any] | None = None
        while dialogue.ended is None:
            (spoken,) = yield [(self.manager, {**inputs, **work.shown(self.workers)})]
            found = self._outputs(spoken) or found
            if spoken.turn.outcome in ("lost", "late"):
                dialogue.stop(f"manager:{spoken.turn.outcome}")
                break
            choice = self._choice(spoken)
            if isinstance(choice, str):
                if work.misled:
                    dialogue.stop("manager")
                work.mislead(choice)
                continue
            if choice.worker == DONE and found is not None:
                dialogue.finish(DONE)
                break
            if work.stalled(choice):
                if work.replans == self.max_replans:
                    dialogue.stop("stalls")
                    break
                if dialogue.ended is None:
                    (planned,) = yield [(self.planner, {**inputs, **work.shown(self.workers, note=False)})]
                    work.replan(planned)
            elif dialogue.ended is None and work.is_new(choice):
                given = {name: inputs[name] for name in self._inputs[choice.worker] if name in inputs}
                (result,) = yield [(choice.worker, {**given, "task": choice.task})]
                work.record(choice, result)
                found = self._outputs(result) or found
        return self.answer(dialogue, found, stalls=work.stalls, replans=work.replans)

    def _outputs(self, spoken: SpokenTurn) -> Mapping[str, Any] | None:
        """Return the team's outputs, if a turn has all of them."""
        names = self._signature.output_fields
        if not self.says(spoken) or not names.keys() <= spoken.fields.keys():
            return None
        return {name: spoken.fields[name] for name in names}

    def _choice(self, spoken: SpokenTurn) -> _Choice | str:
        """Return what the manager has chosen, or what is wrong with it."""
        if not spoken.answered:
            return f"Your last answer could not be used: {spoken.turn.why}"
        worker, task = spoken.fields.get("next"), spoken.fields.get("task")
        if not isinstance(worker, str) or worker not in (*self.workers, DONE):
            return f"There is no {spoken.turn.fields.get('next')}. Choose one of: {', '.join((*self.workers, DONE))}."
        if worker != DONE and not (isinstance(task, str) and task.strip()):
            return f"Say what {worker} is to do."
        return _Choice(worker, str(task), spoken.fields.get("progress") is not False)


class _Choice(NamedTuple):
    worker: str
    task: str
    progress: bool

    @property
    def key(self) -> object:
        return self.worker, normal_form(self.task)


class _Work:
    """What is done, and how it goes."""

    def __init__(self, max_stalls: int) -> None:
        self._max_stalls = max_stalls
        self._done: dict[object, dict[str, Any]] = {}
        self._note = ""
        self._plan: Mapping[str, Any] = {}
        self.misled = False
        self.stalls = 0
        self.replans = 0

    def shown(self, workers: Mapping[str, str], *, note: bool = True) -> dict[str, Any]:
        """Return what the manager is shown, or the planner, besides the inputs."""
        shown = {"workers": dict(workers), "plan": dict(self._plan), "done": list(self._done.values())}
        return {**shown, "note": self._note} if note else shown

    def mislead(self, note: str) -> None:
        """Note what was wrong with a choice."""
        self.misled, self._note = True, note

    def stalled(self, choice: _Choice) -> bool:
        """Reckon whether a choice brings the work further; return whether it has come to a halt."""
        known = self._done.get(choice.key)
        self.misled = False
        self._note = "" if choice.worker != DONE else "There is no answer yet. Give it, or choose a worker."
        if known is not None:
            self._note = f"{choice.worker} has done that already, with this result: {known['result']}"
        goes_on = choice.progress and known is None and choice.worker != DONE
        self.stalls = max(0, self.stalls - 1) if goes_on else self.stalls + 1
        return self.stalls >= self._max_stalls

    def is_new(self, choice: _Choice) -> bool:
        """Return whether a worker is to work on it."""
        return choice.worker != DONE and choice.key not in self._done

    def record(self, choice: _Choice, result: SpokenTurn) -> None:
        """Note what a worker has found. What is lost is not done, and may be asked for again."""
        turn = result.turn
        self._note = "" if result.answered else f"{choice.worker} {missing(turn)}"
        if turn.outcome in ("answered", "failed"):
            said: Any = dict(turn.fields) if result.answered else f"failed: {turn.why}"
            self._done[choice.key] = {"worker": choice.worker, "task": choice.task, "result": said}

    def replan(self, planned: SpokenTurn) -> None:
        """Begin anew, with what the planner says."""
        self._plan = planned.turn.fields or self._plan
        self.stalls, self.replans, self._note = 0, self.replans + 1, ""


def _with_work(given: Any, workers: Team) -> Any:
    """Return a signature with what whoever leads is shown."""
    made, names = checked_signature("ManagedTeam: signature", given), [member.name for member in workers.members]
    if DONE in names:
        raise BadTeam("ManagedTeam: team", DONE, "call this worker something else; a manager says it at the end")
    taken = {"workers", "plan", "done", "note", "progress", "next", "task", "facts", "new_plan"} & {*made.fields}
    if taken:
        raise BadTeam("ManagedTeam: signature", sorted(taken), "call these fields something else")
    made = made.append("workers", dspy.InputField(desc="who they are, and what for"), dict[str, str])
    made = made.append("plan", dspy.InputField(desc="what is known, and how to go on"), dict[str, Any])
    return made.append("done", dspy.InputField(desc="the tasks that are done, and their results"), list[dict[str, Any]])


def _named(program: Any, signature: Any) -> list[str]:
    """Return the inputs of a team that a program takes, if it has one predictor that says so."""
    predictors = program.predictors()
    fields = predictors[0].signature.input_fields if len(predictors) == 1 else {}
    return [name for name in signature.input_fields if name in fields]
