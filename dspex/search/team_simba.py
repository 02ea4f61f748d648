"""SIMBA for teams: who is changed is whoever has made the difference; and several ascents side by side.

Without its options it is `SIMBA`, draw by draw. What it decides besides takes its chance from generators of its own, so
that the draws of `SIMBA` stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pkgutil import resolve_name
from typing import Any, Literal, TypeAlias

import msgspec

from dspex.agents.agent import load
from dspex.search.archipelago import RACE, Archipelago, logs_of
from dspex.search.ascent import BestSoFar, IslandPlace, TeamAscent
from dspex.search.ascent_report import AscentReport
from dspex.search.credit import members_of
from dspex.search.islands import IslandPool
from dspex.search.race import SearchView
from dspex.search.structure import votes
from dspex.teams.rule_files import rule_text
from dspex.teams.rules import CombinationRule, MajorityVote
from dspex.teams.team import Member
from dspex.teleprompt.errors import CallsSpent
from dspex.teleprompt.identity import parameter
from dspex.teleprompt.run import OptimisationRun, all_predictors, check_model
from dspex.teleprompt.simba import SIMBA
from foundation.options import above_zero, whole
from supervision import ChildSpec
from supervision.errors import BadOption

#: What a change is of: the whole team, or one member.
Scope: TypeAlias = Literal["team", "member"]
#: More islands than that are a mistake.
_MOST_ISLANDS = 256


class TeamSIMBA(SIMBA):
    """SIMBA for programs of several members, such as teams; by default, it is `SIMBA`.

    With ``scope="member"`` each new candidate differs from the program of which it is made in one member: that is drawn
    by its credit, which goes to whoever has made the difference between the best sample of an example and the worst. A
    member of a team is one by its name; that of another program is one of its parts. Parts that are frozen, as what
    DSPy's bootstrapping optimisers have compiled is, stay byte for byte as they are.

    With several ``islands`` there are as many ascents side by side, with seeds of their own. Now and then each sends
    its best program to the next one, and in the end the winners of all race on the whole training set. An island that
    is killed is started again, and has from the journal what it knew. The program depends on the seed and the answers,
    and not on who was faster.

    Its ``report`` is a `AscentReport`.

    >>> import dspy
    >>> simba = TeamSIMBA(metric=lambda example, prediction: 1.0)
    >>> simba.expected_calls(dspy.Predict("text -> label"), 200)
    4728

    Args:
        metric: see `DurableTeleprompter`, also for what is not listed here.
        scope: what a new candidate is changed in: in all of the team, or in one member.
        member_metrics: of members, by their names, functions of an example and the outputs of the member: its credit is
            then what it was short of 1, on the average of a mini-batch.
        structure: whether some of the candidates are moves in the structure of a team that votes: a member leaves, one
            of the ``candidates`` joins, or one of the ``rules`` combines the answers. Those that would have done worse
            on the answers that are recorded are not run.
        candidates: who may join: `dspex.teams.Member`, or the import path of several.
        rules: of `dspex.teams`.
        islands: how many ascents there are.
        migrate_every: after so many steps programs are sent.
        ring_patience: for so many seconds an island may make no progress until the others go on without it. What they
            decide is kept. The time in which a language model is away does not count.
        max_calls: so many calls of language models at most, of this and of earlier processes with the same ``log_dir``;
            then the best so far comes back, by its mini-batch. Each island has its share. None for any number.
        options: for `SIMBA`.

    Raises:
        BadOption: an option makes no sense.
    """

    report_kind = AscentReport

    def __init__(
        self,
        *,
        metric: Callable[..., Any],
        scope: Scope = "team",
        member_metrics: Mapping[str, Callable[..., Any]] | None = None,
        structure: bool = False,
        candidates: Sequence[Member] | str = (),
        rules: Sequence[CombinationRule] = (MajorityVote(),),
        islands: int = 1,
        migrate_every: int = 2,
        ring_patience: float = 600.0,
        max_calls: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(metric=metric, **options)
        if scope not in ("team", "member"):
            raise BadOption("TeamSIMBA: scope", scope, "choose one of team, member")
        self.scope = scope
        self.member_metrics = _metrics(member_metrics)
        self.structure = structure
        self.candidates = _candidates(candidates)
        self.rules = tuple(rules)
        if not all(isinstance(rule, CombinationRule) and not isinstance(rule, type) for rule in self.rules):
            raise BadOption("TeamSIMBA: rules", rules, "give rules, such as MajorityVote()")
        if not isinstance(structure, bool) or ((self.candidates or self.rules != (MajorityVote(),)) and not structure):
            raise BadOption("TeamSIMBA: structure", structure, "give True if members may join, or the rule may change")
        self.islands = whole("TeamSIMBA: islands", islands)
        if self.islands > _MOST_ISLANDS:
            raise BadOption("TeamSIMBA: islands", islands, f"give at most {_MOST_ISLANDS}")
        self.migrate_every = whole("TeamSIMBA: migrate_every", migrate_every)
        self.ring_patience = above_zero("TeamSIMBA: ring_patience", ring_patience)
        self.max_calls = None if max_calls is None else whole("TeamSIMBA: max_calls", max_calls)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that decide what comes out."""
        names = ("scope", "structure", "islands", "migrate_every")
        return {
            **super().parameters(),
            **{name: getattr(self, name) for name in names},
            "member_metrics": parameter(self.member_metrics),
            "candidates": [[member.name, parameter(member.program)] for member in self.candidates],
            "rules": [rule_text(rule) or parameter(type(rule)) for rule in self.rules],
        }

    @property
    def own_models(self) -> bool:  # type: ignore[override]
        """Whether what it makes may ask other language models than the student: those of members that have joined."""
        return bool(self.candidates)

    def expected_calls(self, program: Any, examples: int) -> int:
        """Return how many calls it takes about: each run of the program asks each of its predictors once.

        Args:
            program: the student.
            examples: how many there are in the training set.
        """
        steps = self.max_steps * self.bsize * (2 * self.num_candidates + 1)
        winners = min(self.num_candidates, self.max_steps) + 1
        final = winners * examples
        if self.islands > 1:
            final = RACE.expected(self.islands * (winners - 1) + 1, examples)
        return (self.islands * steps + final) * len(all_predictors(program))

    @property
    def fits_inside(self) -> bool:
        """Whether it can be a part of another one: alone, and as long as that lets it."""
        return self.islands == 1 and self.max_calls is None

    def actors(self, run: OptimisationRun) -> list[ChildSpec]:
        """Return the islands, and the one that shows how far it is."""
        run.state = _TeamSearch(self, run)
        pool = IslandPool(run.runtime, f"{run.name}.islands", self.islands)
        islands = [pool.spec()] if self.islands > 1 else []
        return [*islands, ChildSpec("ascent", SearchView, (run,))]

    async def search(self, run: OptimisationRun, student: Any, trainset: list[Any], seed: int, **data: Any) -> Any:
        """Return the best program.

        Raises:
            ModelRefused: there is no language model.
            BadOption: there is a metric of a member that the student has not, or it has no structure to move in.
        """
        check_model(student)
        self._check(student)
        state = run.state if isinstance(run.state, _TeamSearch) else _TeamSearch(self, run)
        return await state.best(student, trainset, seed)

    def _check(self, student: Any) -> None:
        if self.structure and not votes(student):
            raise BadOption("TeamSIMBA: structure", self.structure, "the student is no team that votes; leave it out")
        members = [*members_of(student), *(member.name for member in self.candidates)]
        for name in self.member_metrics:
            if name not in members:
                raise BadOption("TeamSIMBA: member_metrics", name, f"choose among {', '.join(members)}")


class _TeamSearch:
    """What is kept of a run when its coordinator begins again, and what of it is shown.

    Args:
        simba: whose parameters are used.
        run: the run.
    """

    def __init__(self, simba: TeamSIMBA, run: OptimisationRun) -> None:
        self._of, self._run = simba, run
        self._ascents: dict[int, TeamAscent] = {}
        self._expected = 0
        #: Of several islands each waits for language models, and has its share of the calls, by itself.
        self._parts = [run.part(simba.patience) for _ in range(simba.islands)] if simba.islands > 1 else []
        if simba.max_calls is not None:
            for island, part in enumerate(self._parts):
                part.limit_calls(simba.max_calls // simba.islands, IslandPlace(island, simba.islands, set()).prefix)
            if not self._parts:
                run.limit_calls(simba.max_calls)

    async def best(self, student: Any, trainset: list[Any], seed: int) -> Any:
        """Return the best program, with language models of its own."""
        whole = self._run.report
        # As a part of another optimiser it has a report of its own, that nobody asks for.
        report = whole if isinstance(whole, AscentReport) else AscentReport(whole.optimiser, seed, whole.resumed)
        report.islands = self._of.islands
        report.expected_calls = self._expected = self._of.expected_calls(student, len(trainset))
        self._run.go_on()
        self._ascents = {}
        try:
            if self._parts:
                work = Archipelago(self._of, self._run, self._parts, student, trainset, seed, self._ascents)
                found = await work.best()
            else:
                found = await self._alone(student, trainset, seed)
        except CallsSpent:
            report.stopped = "max_calls"
            found = self._so_far()
        report.in_order()
        return found

    async def _alone(self, student: Any, trainset: list[Any], seed: int) -> Any:
        """Ascend without other islands."""
        run = self._run
        with run.settings():
            ascent = self._ascents[0] = TeamAscent(self._of, run, student, trainset, seed, IslandPlace(0, 1, set()))
            for step in range(self._of.max_steps):
                await ascent.step(step)
                run.progress.share((step + 1) / (self._of.max_steps + 1))
            best = await ascent.best()
        for candidate in best.candidate_programs:
            run.original_program(candidate["program"])
        return run.original_program(best)

    def _so_far(self) -> Any:
        """Return the best candidate so far."""
        ascents = [ascent for _, ascent in sorted(self._ascents.items())]

        def ranked() -> list[BestSoFar]:
            return sorted((one for ascent in ascents for one in ascent.best_so_far()), key=lambda one: -one.score)

        found: Any = ranked()[0].program
        found.candidate_programs = [{"score": one.score, "program": one.program} for one in ranked()]
        found.trial_logs = logs_of(self._ascents) if self._parts else ascents[0].logs
        return found

    def summary(self) -> dict[str, object]:
        """Return how far it is, for ``/tree``."""
        left, totals = self._run.progress.left, self._run.totals
        step = min((ascent.done for ascent in self._ascents.values()), default=0)
        return {
            "step": f"{step} of {self._of.max_steps}",
            "islands": self._of.islands,
            "best": f"{self._run.report.best:.3f}",
            "calls": f"{totals.calls + totals.replayed} of about {self._expected}",
            "dollars": round(totals.dollars, 4),
            "seconds_left": "" if left is None else round(left),
        }


def _candidates(given: Any) -> tuple[Member, ...]:
    """Return the candidates for members, each with its program.

    Raises:
        BadOption: they are none.
        BadProgram: one of them has no program.
    """
    try:
        found = tuple(resolve_name(given) if isinstance(given, str) else given)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise BadOption(
            "TeamSIMBA: candidates", given, f"give several Member, or package.module:name; {error}"
        ) from None
    if not all(isinstance(member, Member) for member in found) or len({one.name for one in found}) < len(found):
        raise BadOption("TeamSIMBA: candidates", given, "give Member, each with a name of its own")
    return tuple(msgspec.structs.replace(member, program=load(member.program)) for member in found)


def _metrics(given: Any) -> dict[str, Callable[..., Any]]:
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(map(callable, given.values())):
        raise BadOption("TeamSIMBA: member_metrics", given, "give for members, by their names, a function each")
    return dict(given)
