"""SIMBA for teams: who is changed is whoever has made the difference.

Without its options it is `SIMBA`, draw by draw. What it decides besides takes its chance from generators of its own, so
that the draws of `SIMBA` stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Literal, NamedTuple, TypeAlias

import dspy

from dspex.models.call_log import call_scope
from dspex.search.credit import member_credit, members_of, steps_of
from dspex.search.rules import mean
from dspex.teleprompt.errors import ModelRefused
from dspex.teleprompt.identity import parameter
from dspex.teleprompt.rollouts import RolloutOutcome
from dspex.teleprompt.run import OptimisationRun
from dspex.teleprompt.simba import SIMBA, Ascent, Bucket, Draft
from supervision.errors import BadOption

#: What a change is of: the whole team, or one member.
Scope: TypeAlias = Literal["team", "member"]
#: So much more than its credit speaks for each member: nobody is never changed.
_ANYWAY = 0.5
#: In the journal, what members were short of by their own metrics.
_CREDIT = "credit"
#: So many answers of members are judged at a time.
_WIDTH = 32


class TeamSIMBA(SIMBA):
    """SIMBA for programs of several members, such as teams; by default, it is `SIMBA`.

    With ``scope="member"`` each new candidate differs from the program of which it is made in one member: that is drawn
    by its credit, which goes to whoever has made the difference between the best sample of an example and the worst. A
    member of a team is one by its name; that of another program is one of its parts. Parts that are frozen, as what
    DSPy's bootstrapping optimisers have compiled is, stay byte for byte as they are.

    Args:
        metric: see `DurableTeleprompter`, also for what is not listed here.
        scope: what a new candidate is changed in: in all of the team, or in one member.
        member_metrics: of members, by their names, functions of an example and the outputs of the member: its credit is
            then what it was short of 1, on the average of a mini-batch.
        options: for `SIMBA`.

    Raises:
        BadOption: an option makes no sense.
    """

    def __init__(
        self,
        *,
        metric: Callable[..., Any],
        scope: Scope = "team",
        member_metrics: Mapping[str, Callable[..., Any]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(metric=metric, **options)
        if scope not in ("team", "member"):
            raise BadOption("TeamSIMBA: scope", scope, "choose one of team, member")
        self.scope = scope
        self.member_metrics = _metrics(member_metrics)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that decide what comes out."""
        return {**super().parameters(), "scope": self.scope, "member_metrics": parameter(self.member_metrics)}

    async def search(self, run: OptimisationRun, student: Any, trainset: list[Any], seed: int, **data: Any) -> Any:
        """Return the best program.

        Raises:
            ModelRefused: there is no language model.
            BadOption: there is a metric of a member that the student has not.
        """
        if dspy.settings.lm is None and any(predictor.lm is None for predictor in student.predictors()):
            raise ModelRefused(ValueError("no language model is configured: dspy.configure(lm=dspy.LM(...))"))
        self._check(student)
        with run.settings():
            ascent = TeamAscent(self, run, run.durable_program(student), trainset, seed)
            for step in range(self.max_steps):
                await ascent.step(step)
                run.progress.share((step + 1) / (self.max_steps + 1))
            best = await ascent.best()
        for candidate in best.candidate_programs:
            run.original_program(candidate["program"])
        return run.original_program(best)

    def _check(self, student: Any) -> None:
        members = list(members_of(student))
        for name in self.member_metrics:
            if name not in members:
                raise BadOption("TeamSIMBA: member_metrics", name, f"choose among {', '.join(members)}")


def _metrics(given: Any) -> dict[str, Callable[..., Any]]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(map(callable, given.values())):
        raise BadOption("TeamSIMBA: member_metrics", given, "give for members, by their names, a function each")
    return dict(given)


class _Said(NamedTuple):
    """What a member has said in a run on an example."""

    member: str
    example: Any
    outputs: Any


class TeamAscent(Ascent):
    """The state of one run. Its arguments are those of `Ascent`, with a `TeamSIMBA`."""

    _of: TeamSIMBA

    def __init__(
        self, simba: TeamSIMBA, run: OptimisationRun, student: Any, trainset: list[Any], seed: int, prefix: str = ""
    ) -> None:
        super().__init__(simba, run, student, trainset, seed, prefix)
        #: What members were short of in the last mini-batch, by their own metrics.
        self._shortfalls: dict[str, float] = {}
        #: Candidates by their ids, each with what the report tells of it.
        self._told: dict[int, tuple[Any, dict[str, Any]]] = {}

    # -- whose turn it is --------------------------------------------------------------------------------------------

    async def _learn(self, step: int, outcomes: Sequence[RolloutOutcome], names: Mapping[int, str]) -> None:
        metrics = self._of.member_metrics
        if not metrics or self._of.scope == "team":
            return
        owners = {name: member for member, own in members_of(self._sampled()).items() for name in own}
        said = [one for outcome in outcomes for one in _last_said(outcome, names, owners) if one.member in metrics]
        key = f"{self._prefix}{step}/member"
        found = await self._run.recorded(_CREDIT, key, lambda: self._judged(key, said))
        known = self._run.report.left_out
        known += [why for why in found["left_out"] if why not in known]
        self._shortfalls = found["shortfalls"]

    async def _judged(self, key: str, said: Sequence[_Said]) -> dict[str, Any]:
        """Return what members were short of, on the average, and where that cannot be said."""
        guards = {member: self._of.metric_guard(metric) for member, metric in self._of.member_metrics.items()}
        short: dict[str, list[float]] = {}
        failures: dict[str, str] = {}

        async def judge(number: int, one: _Said) -> tuple[float, dict[str, Any], str | None]:
            with call_scope(f"{key}/{number}"):
                return await guards[one.member].score(one.example, one.outputs)

        for first in range(0, len(said), _WIDTH):
            some = list(enumerate(said[first : first + _WIDTH], first))
            works = [self._run.guard.attempt(lambda n=n, one=one: judge(n, one)) for n, one in some]  # type: ignore[misc]
            for (_, one), (score, _, failure) in zip(some, await self._run.gather(works), strict=True):
                if failure is None:
                    short.setdefault(one.member, []).append(min(1.0, max(0.0, 1 - score)))
                else:
                    failures.setdefault(one.member, f"{key}: {one.member}: {failure}")
        shortfalls = {member: mean(known) for member, known in short.items()}
        return {"shortfalls": shortfalls, "left_out": list(failures.values())}

    def _member(self, step: int, number: int, bucket: Bucket, program: Any, names: Mapping[int, str]) -> str | None:
        members = members_of(program)
        if self._of.scope == "team" or len(members) < 2:
            return None
        runs = [steps_of(bucket.outcomes[place]["trace"], names) for place in (0, -1)]
        credit = {**member_credit(members, *runs), **self._shortfalls}
        chance = Random(f"{self._seed}/member/{step}/{number}")
        return chance.choices(list(members), [credit[member] + _ANYWAY for member in members])[0]

    # -- what is changed ---------------------------------------------------------------------------------------------

    def _changed(self, program: Any, member: str | None) -> dict[str, Any]:
        predictors = super()._changed(program, member)
        if member is None:
            return predictors
        return {name: predictors[name] for name in members_of(program)[member]}

    async def _improve(self, draft: Draft, names: Mapping[int, str], tenth: Any, ninetieth: Any) -> bool:
        if draft.member is None:
            return await super()._improve(draft, names, tenth, ninetieth)
        own = self._changed(draft.program, draft.member)
        before = {name: _state(predictor) for name, predictor in draft.program.named_predictors()}
        if not await super()._improve(draft, names, tenth, ninetieth):
            return False
        for name, predictor in draft.program.named_predictors():
            if name not in own:
                predictor.demos, predictor.signature = before[name]
        self._told[id(draft.program)] = draft.program, {"member": draft.member}
        # What was learnt may be of others alone: then there is nothing to try.
        return any(_state(predictor) != before[name] for name, predictor in own.items())

    def _scored(self, number: int, candidate: Any, outcomes: Sequence[RolloutOutcome], step: int) -> float:
        _, details = self._told.get(id(candidate), (None, {}))
        return self._run.scored(number, outcomes, step=step, **details)


def _state(predictor: Any) -> tuple[list[Any], Any]:
    return list(predictor.demos), predictor.signature


def _last_said(outcome: RolloutOutcome, names: Mapping[int, str], owners: Mapping[str, str]) -> list[_Said]:
    """Return what each member has said last."""
    said = {owners[names[id(predictor)]]: outputs for predictor, _, outputs in outcome.trace if id(predictor) in names}
    return [_Said(member, outcome.example, outputs) for member, outputs in said.items()]
