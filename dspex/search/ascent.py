"""One ascent of `TeamSIMBA`: which member is changed, who leaves or joins, and what is sent to other islands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from dspex.models.call_log import call_scope
from dspex.search.credit import member_credit, members_of, steps_of
from dspex.search.islands import Emigrant
from dspex.search.rules import mean
from dspex.search.structure import StructureMove, moves_of, revoted
from dspex.teams.errors import BadTeam
from dspex.teams.team import Member
from dspex.teleprompt.rollouts import RolloutOutcome, mean_score
from dspex.teleprompt.run import OptimisationRun, all_predictors
from dspex.teleprompt.simba import Ascent, Bucket, Draft

if TYPE_CHECKING:
    from dspex.search.team_simba import TeamSIMBA

#: So much more than its credit speaks for each member: nobody is never changed.
_ANYWAY = 0.5
#: In the journal, what members were short of by their own metrics.
_CREDIT = "credit"
#: In the journal, what moves in the structure come to on recorded answers.
_STRUCTURE = "structure"
#: So many answers of members are judged at a time.
_WIDTH = 32
#: Which share of the candidates are moves in the structure.
_SHARE = 0.2


class IslandPlace(NamedTuple):
    """Where an ascent is made.

    Attributes:
        island: the number of the island.
        islands: how many there are.
        noted: the candidates that were told of: whoever begins again makes them once more.
    """

    island: int
    islands: int
    noted: set[int]

    @property
    def prefix(self) -> str:
        """With what the keys of all that happens here begin."""
        return f"island/{self.island}/" if self.islands > 1 else ""


class BestSoFar(NamedTuple):
    """A program, and the mean score on the mini-batch by which it was chosen."""

    score: float
    program: Any


class AllPredictors:
    """The predictors of several programs, each name once; as DSPy looks at a program.

    Args:
        programs: an earlier one's predictor stands for a later one's of the same name.
    """

    def __init__(self, programs: Sequence[Any]) -> None:
        self._found: dict[str, Any] = {}
        for program in programs:
            for name, predictor in program.named_predictors():
                self._found.setdefault(name, predictor)

    def named_predictors(self) -> list[tuple[str, Any]]:
        """Return them."""
        return list(self._found.items())


class _Said(NamedTuple):
    """What a member has said in a run on an example."""

    member: str
    example: Any
    outputs: Any


class TeamAscent(Ascent):
    """The state of one run, or of one island of it.

    Args:
        simba: whose parameters are used.
        run: makes its rollouts.
        student: with language models of its own.
        trainset: the examples.
        seed: of all chance.
        place: where it is.
    """

    _of: TeamSIMBA

    def __init__(
        self,
        simba: TeamSIMBA,
        run: OptimisationRun,
        student: Any,
        trainset: list[Any],
        seed: int,
        place: IslandPlace,
    ) -> None:
        super().__init__(simba, run, run.durable_program(student), trainset, seed, place.prefix)
        self._place = place
        #: Of which programs it has the scores, but has not made them.
        self._immigrants: set[int] = set()
        #: How many steps are done.
        self.done = 0
        #: Drafts that are moves in the structure, by their ids.
        self._moves: dict[int, StructureMove] = {}
        #: What has come of the samples of this step.
        self._samples: Sequence[RolloutOutcome] = ()
        self._candidate_members = [self._prepared(member) for member in simba.candidates]
        #: What members were short of in the last mini-batch, by their own metrics.
        self._shortfalls: dict[str, float] = {}
        #: Candidates by their ids, each with what the report tells of it.
        self._told: dict[int, tuple[Any, dict[str, Any]]] = {}

    async def step(self, step: int) -> None:
        """Make a step."""
        await super().step(step)
        self.done = step + 1

    # -- whose turn it is --------------------------------------------------------------------------------------------

    async def _learn(self, step: int, outcomes: Sequence[RolloutOutcome], names: Mapping[int, str]) -> None:
        metrics, self._samples = self._of.member_metrics, outcomes
        if not metrics or self._of.scope == "team":
            return
        found = [members_of(program).items() for program in self._programs]
        owners = {name: member for members in found for member, own in members for name in own}
        said = [one for outcome in outcomes for one in _last_said(outcome, names, owners) if one.member in metrics]
        key = f"{self._prefix}{step}/member"
        told = await self._run.recorded(_CREDIT, key, lambda: self._judged(key, said))
        self._leave_out(*told["left_out"])
        self._shortfalls = told["shortfalls"]

    def _leave_out(self, *why: str) -> None:
        """Tell what could not be done, once."""
        known = self._run.report.left_out
        known += [one for one in why if one not in known]

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
            works = [self._run.guard.attempt(partial(judge, number, one)) for number, one in some]
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
        move = self._moves.pop(id(draft.program), None)
        if move is not None:
            return await self._is_worth_it(draft, move)
        if self._of.structure:  # who has left is not in the draft
            own = {name for name, _ in draft.program.named_predictors()}
            names = {key: name for key, name in names.items() if name in own}
        if draft.member is None:
            return await super()._improve(draft, names, tenth, ninetieth)
        mine = self._changed(draft.program, draft.member)
        before = {name: _state(predictor) for name, predictor in draft.program.named_predictors()}
        if not await super()._improve(draft, names, tenth, ninetieth):
            return False
        for name, predictor in draft.program.named_predictors():
            if name not in mine:
                predictor.demos, predictor.signature = before[name]
        self._told[id(draft.program)] = draft.program, {"member": draft.member}
        # What was learnt may be of others alone: then there is nothing to try.
        return any(_state(predictor) != before[name] for name, predictor in mine.items())

    # -- the structure -----------------------------------------------------------------------------------------------

    def _prepared(self, member: Member) -> Member:
        """Return a candidate for a member, whose language models are paid for and recorded."""
        program = member.program.deepcopy()
        for mine, given in zip(all_predictors(program), all_predictors(member.program), strict=True):
            mine.lm = self._run.durable(self._of.paid(given.lm))
        return msgspec.structs.replace(member, program=program)

    def _sampled(self) -> Any:
        return AllPredictors(self._programs) if self._of.structure else super()._sampled()

    def _draft(self, step: int, number: int, bucket: Bucket, names: Mapping[int, str]) -> Draft:
        draft = super()._draft(step, number, bucket, names)
        chance = Random(f"{self._seed}/structure/{step}/{number}")
        if not self._of.structure or chance.random() >= _SHARE:
            return draft
        source = self._programs[draft.program.simba_idx]
        moves = moves_of(source, self._candidate_members, self._of.rules)
        if not moves:
            return draft
        move = chance.choice(moves)
        try:
            program = move.made(source)
        except BadTeam as error:
            self._leave_out(f"{draft.key}: {move.what}: {error}")
            return draft
        self._moves[id(program)] = move
        return draft._replace(program=program, member=None)

    async def _is_worth_it(self, draft: Draft, move: StructureMove) -> bool:
        """Return whether a team after a move is to be run: not if it does worse on the answers that are recorded."""
        self._told[id(draft.program)] = draft.program, {"structure": move.what}
        said = [one for one in self._samples if hasattr(one.prediction, "ballot")] if move.is_recorded else []
        if not said:
            return True
        before = mean([one.score for one in said])
        work = partial(self._revoted, draft.key, draft.program, said)
        after: float = await self._run.recorded(_STRUCTURE, draft.key, work)
        return after >= before

    async def _revoted(self, key: str, program: Any, said: Sequence[RolloutOutcome]) -> float:
        """Return the mean score of a team on recorded answers."""
        guard = self._of.metric_guard(self._of.metric)

        async def judge(number: int, one: RolloutOutcome) -> float:
            prediction = revoted(program, one.prediction)
            if prediction is None:
                return 0.0
            with call_scope(f"{key}/{number}"):
                score, _, _ = await guard.score(one.example, prediction)
            return score

        scores: list[float] = []
        for first in range(0, len(said), _WIDTH):
            some = list(enumerate(said[first : first + _WIDTH], first))
            works = [self._run.guard.attempt(partial(judge, number, one)) for number, one in some]
            scores += await self._run.gather(works)
        return mean(scores)

    def _scored(self, number: int, candidate: Any, outcomes: Sequence[RolloutOutcome], step: int) -> float:
        unique = number * self._place.islands + self._place.island
        if unique in self._place.noted:
            return mean_score(outcomes)
        self._place.noted.add(unique)
        _, details = self._told.get(id(candidate), (None, {}))
        where = {"island": self._place.island} if self._place.islands > 1 else {}
        return self._run.scored(unique, outcomes, step=step, **where, **details)

    # -- other islands -----------------------------------------------------------------------------------------------

    def emigrant(self) -> Emigrant | None:
        """Return a copy of the best program, by its mini-batch, with language models of its own; None if it has none.

        Of equal ones it is the earlier.
        """
        if len(self._programs) < 2:
            return None
        best = max(range(1, len(self._programs)), key=self._mean)
        return Emigrant(self._run.original_program(self._programs[best].deepcopy()), list(self._scores[best]))

    def register(self, immigrant: Emigrant) -> None:
        """Have a program among those that are sampled, and from which candidates are made."""
        program = self._run.durable_program(immigrant.program)
        program.simba_idx = len(self._programs)
        self._immigrants.add(program.simba_idx)
        self._programs.append(program)
        self._scores[program.simba_idx] = list(immigrant.scores)

    # -- what there is -----------------------------------------------------------------------------------------------

    def best_so_far(self) -> list[BestSoFar]:
        """Return copies of the candidates, the best first, with language models of their own; the student for none."""
        own = [index for index in range(1, len(self._programs)) if index not in self._immigrants] or [0]
        found = [(self._mean(index), self._programs[index].deepcopy()) for index in own]
        ranked = sorted(found, key=lambda one: -one[0])
        return [BestSoFar(score, self._run.original_program(program)) for score, program in ranked]

    @property
    def logs(self) -> dict[int, dict[str, Any]]:
        """What is told of each step."""
        return self._logs

    def summary(self) -> dict[str, object]:
        """Return how far it is, for ``/tree``."""
        best = max((self._mean(index) for index in range(1, len(self._programs))), default=0.0)
        return {"step": f"{self.done} of {self._of.max_steps}", "programs": len(self._programs), "best": f"{best:.3f}"}


def _state(predictor: Any) -> tuple[list[Any], Any]:
    return list(predictor.demos), predictor.signature


def _last_said(outcome: RolloutOutcome, names: Mapping[int, str], owners: Mapping[str, str]) -> list[_Said]:
    """Return what each member has said last."""
    said = {owners[names[id(predictor)]]: outputs for predictor, _, outputs in outcome.trace if id(predictor) in names}
    return [_Said(member, outcome.example, outputs) for member, outputs in said.items()]
