"""The search of a team in stages: each member's settings, who is a member and by which rule, and then the whole.

The order is that of MASS (Zhou et al., 2025), the parts are those of this package. Agent by agent a search finds what a
joint one of the same cost does not: there are far fewer configurations to tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from dspex.agents.agent import load
from dspex.fingerprints import metric_fingerprint, models_fingerprint, program_fingerprint
from dspex.search.events import SearchStageDone
from dspex.search.explorers import Entrant, RaceView
from dspex.search.heat import EntrantKeys, Heat
from dspex.search.hypothesis import Hypothesis, ModelsApart, described, hypotheses_of, source_of
from dspex.search.items import Strata, split_off, stratified
from dspex.search.members import alone, member_of, thawed, votes, with_member
from dspex.search.race import Race
from dspex.search.report import RaceReport
from dspex.search.rules import RaceRule, mean
from dspex.search.subsets import (
    FITS,
    LEARNING,
    PICKED,
    RecordedCandidates,
    TeamScore,
    best_team,
    difference_error,
    distinct,
    scored_team,
    searched_teams,
)
from dspex.search.team_report import BlockResult, StageResult, TeamSearchReport
from dspex.teams import BadProbabilities, BadTeam, Member, MemberVote, RecordedVotes, WeightedVote
from dspex.teams.poll import prediction_fields
from dspex.teams.shares import told_shares
from dspex.teleprompt.errors import BadTrainset
from dspex.teleprompt.identity import parameter
from dspex.teleprompt.rollouts import RolloutJob, RolloutOutcome
from dspex.teleprompt.run import OptimisationRun, check_model
from dspex.teleprompt.teleprompter import DurableTeleprompter
from foundation.options import finite, from_zero, named, whole
from supervision import ChildSpec
from supervision.errors import BadOption

#: In their order.
STAGES = ("blocks", "members", "whole")
#: The rule that a team has already.
_OWN = "its own"


class TeamSearch(DurableTeleprompter):
    """Makes a team better in stages: its members' settings, who is a member and by which rule, and then the whole.

    The student is a team, or any other program whose parts are its members, such as a chain. What comes back is as good
    as the student on the validation set, or smaller and, within the ``tolerance``, hardly worse. The validation set is
    the ``valset``, or the training set if there is none.

    1. *Blocks*: for each member its settings race: by its own metric, if it has one, and else by that of the team, with
       the other members as they are by then.
    2. *Members*, only of a team whose members vote: each candidate is asked once about each example. Which of them make
       the best team, by which rule, is then reckoned from their answers.
    3. *Whole*: an optimiser of this package goes on with the team that was found.

    An answer of a language model at temperature 0 is asked for once, whichever program asks, so that a change of one
    member of a chain costs what comes behind it. At a higher temperature each run has its own answers.

    Its ``report`` is a `TeamSearchReport`.

    Args:
        settings: for each member's name, or path in the program, what it may be instead: as ``hypotheses`` of `Race`,
            of the member's own program. They race in this order.
        metric: see `DurableTeleprompter`, also for what is not listed here.
        member_metrics: for a member's name, its own metric, of an example and of what the member has answered first; or
            one function for all members. Each may be an import path.
        rule: how settings race: a `RaceRule`, or what names one.
        passes: how often all members' settings race; the second time, the other members are better than the first.
        candidates: further `Member` that may join the team; or the import path of some.
        survivors: how many of the best settings of each member are candidates.
        rules: by which answers may be combined: of ``majority``, ``weighted``, ``confusion``, ``corrected``, ``first``.
        agreement: a candidate is left out that says what a better one says in more than this share of the examples.
        max_size: how many members the team has at most. A student with more of them does not come back.
        tolerance: a smaller team is taken if it is worse by so many standard errors of the difference at most.
        whole: the optimiser of the last stage, such as `SIMBA`, with the same metric; or a table with its import path
            as ``optimiser``, and its options.
        stages: which are done, of ``blocks``, ``members`` and ``whole``; None for all that have something to do.
        explorers: how many settings are looked at at a time.
        strata: as for `Race`.
        held_out: the share of the validation set that no stage sees, and on which the team is scored in the end. Not
            used if ``compile`` is given a ``testset``.
        lane_patience: as for `Race`.
        options: for `DurableTeleprompter`.

    Raises:
        BadHypotheses: what is given for settings cannot be raced.
        BadOption: an option makes no sense.
    """

    own_models = True
    shares_answers = True
    takes = ("valset", "testset")
    report_kind = TeamSearchReport

    def __init__(
        self,
        settings: Mapping[str, Any] | str | None = None,
        *,
        metric: Callable[..., Any],
        member_metrics: Any = None,
        rule: RaceRule | str | Mapping[str, Any] = "halving",
        passes: int = 1,
        candidates: Sequence[Member] | str = (),
        survivors: int = 1,
        rules: Sequence[str] = ("majority", "weighted", "confusion"),
        agreement: float = 0.95,
        max_size: int = 5,
        tolerance: float = 1.0,
        whole: Any = None,
        stages: Sequence[str] | None = None,
        explorers: int = 16,
        strata: Strata = None,
        held_out: float = 0.0,
        lane_patience: float = 600.0,
        **options: Any,
    ) -> None:
        super().__init__(metric=metric, **options)
        found = named("TeamSearch: settings", settings) or {}
        if not isinstance(found, Mapping):
            raise BadOption("TeamSearch: settings", settings, "give for each member's name what it may be instead")
        self.settings_of = {str(name): source_of(source) for name, source in found.items()}
        self.member_metrics = _member_metrics(member_metrics, self.settings_of)
        #: By which settings race.
        self.race = Race([], metric=metric, rule=rule, explorers=explorers, strata=strata, lane_patience=lane_patience)
        self.passes, self.survivors = _whole("passes", passes), _whole("survivors", survivors)
        self.candidates = _candidates(named("TeamSearch: candidates", candidates))
        self.rules = _chosen("rules", rules, FITS)
        same = finite(agreement)
        if same is None or not 0 < same <= 1:
            raise BadOption("TeamSearch: agreement", agreement, "give a share above 0, and at most 1")
        self.agreement = float(same)
        self.max_size = _whole("max_size", max_size)
        self.tolerance = float(from_zero("TeamSearch: tolerance", tolerance))
        self.whole = _whole_optimiser(whole, metric)
        self.stages = STAGES if stages is None else _chosen("stages", stages, STAGES)
        share = finite(held_out)
        if share is None or not 0 <= share < 1:
            raise BadOption("TeamSearch: held_out", held_out, "give a share from 0, below 1")
        self.held_out = float(share)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that decide what comes out."""
        of_whole = None
        if self.whole is not None:
            of_whole = {"optimiser": type(self.whole).__name__, **self.whole.parameters()}
        candidates = [
            [one.name, program_fingerprint(program), models_fingerprint(program, None)]
            for one, program in ((one, load(one.program)) for one in self.candidates)
        ]
        return {
            "settings": {name: described(source) for name, source in self.settings_of.items()},
            "member_metrics": {name: metric_fingerprint(metric) for name, metric in self.member_metrics.items()},
            "rule": msgspec.to_builtins(self.race.rule),
            "passes": self.passes,
            "candidates": candidates,
            "survivors": self.survivors,
            "rules": list(self.rules),
            "agreement": self.agreement,
            "max_size": self.max_size,
            "tolerance": self.tolerance,
            "whole": of_whole,
            "stages": list(self.stages),
            "strata": parameter(self.race.strata),
            "held_out": self.held_out,
        }

    def actors(self, run: OptimisationRun) -> list[ChildSpec]:
        """Return the explorers, and the one that shows how far it is."""
        return self.race.actors(run)

    async def search(self, run: OptimisationRun, student: Any, trainset: list[Any], seed: int, **data: Any) -> Any:
        """Return the best team. ``valset`` is what is scored on, ``testset`` what the team is scored on in the end.

        Raises:
            BadMember: the student has no member of a name that has settings.
            BadTrainset: there are too few examples for the last stage.
            BadOption: an option does not fit the student.
        """
        check_model(student)
        self.race.paid = self.paid
        with run.settings():
            search = _Search(self, run, student, trainset, data, seed)
            run.state = search
            return await search.best()


class _Search:
    """One run of it."""

    def __init__(
        self,
        of: TeamSearch,
        run: OptimisationRun,
        student: Any,
        trainset: Sequence[Any],
        data: Mapping[str, Any],
        seed: int,
    ) -> None:
        self._of, self._run, self._seed = of, run, seed
        assert isinstance(run.report, TeamSearchReport)
        self._report, self._keys = run.report, EntrantKeys()
        examples, testset = list(data.get("valset") or trainset), list(data.get("testset") or ())
        order = stratified(examples, seed, of.race.strata)
        chosen, kept = (order, []) if testset else split_off(order, of.held_out)
        #: What is scored on, what is tested on, and what is learnt from.
        self._items = [examples[number] for number in sorted(chosen)]
        self._tested = testset or [examples[number] for number in kept]
        self._trainset = list(trainset) if data.get("valset") else self._items
        thawn, compiled = thawed(student)
        if compiled:
            told = ", ".join(compiled)
            self._report.notes.append(f"These parts were compiled, and are changed all the same: {told}.")
        self._student = run.durable_program(thawn)
        #: The best so far.
        self._team = self._student
        self._finalists: dict[str, list[Any]] = {}
        self._candidates: dict[str, Any] = {}
        self._heat: Heat | None = None
        self._stage, self._number = "", 0
        self._smaller = self._too_large = False
        self._steps = self._checked_steps()
        self._begun = self._calls = 0

    # -- stages --------------------------------------------------------------------------------------------------------

    def _checked_steps(self) -> dict[str, int]:
        """Return the stages that have something to do, and how many steps each has."""
        of = self._of
        originals = {name: member_of(self._student, name) for name in of.settings_of}
        steps = {
            "blocks": of.passes * len(originals),
            "members": int(votes(self._student) and self._may_be_several()),
            "whole": int(of.whole is not None),
        }
        found = {name: count for name, count in steps.items() if count and name in of.stages}
        if not found:
            remedy = "give settings of members, candidates of a team that votes, or an optimiser of the whole"
            raise BadOption("TeamSearch: stages", list(of.stages), remedy)
        if of.whole is not None and len(self._trainset) < of.whole.needed:
            raise BadTrainset(len(self._trainset), of.whole.needed)
        if "members" in found:
            self._check_candidates()
        return found

    def _may_be_several(self) -> bool:
        """Return whether there may be more than one candidate."""
        of = self._of
        raced = of.survivors > 1 and bool(of.settings_of) and "blocks" in of.stages
        return raced or len(self._student.members) + len(of.candidates) > 1

    def _check_candidates(self) -> None:
        names = [*self._student.members, *(one.name for one in self._of.candidates)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadOption("TeamSearch: candidates", twice, "a member has this name already; give each its own")
        learning = [rule for rule in self._of.rules if rule in LEARNING]
        if learning and None in self._truth():
            remedy = f"{' and '.join(learning)} need a label, as {self._student.field}, in each example; leave them out"
            raise BadOption("TeamSearch: rules", list(self._of.rules), remedy)

    def _truth(self) -> list[Any]:
        normal, field = self._student.team.normal, self._student.field
        return [normal(example.get(field)) for example in self._items]

    async def best(self) -> Any:
        """Search, and return the best team."""
        await self._done("blocks", self._blocks)
        await self._done("members", self._members)
        await self._done("whole", self._whole)
        return await self._concluded()

    async def _done(self, name: str, work: Callable[[], Any]) -> None:
        before, score, why = self._run.totals.calls, None, ""
        if name in self._steps:
            self._stage = name
            score = await work()
        else:
            why = "left out" if name not in self._of.stages else _nothing_to_do(name)
        calls = self._run.totals.calls
        self._report.stages.append(StageResult(name, score, calls - before, why))
        self._run.runtime.events.emit(
            SearchStageDone, optimiser=self._report.optimiser, stage=name, score=score, calls=calls, why=why
        )

    def _step(self) -> None:
        """Begin the next step: what is told of progress is a share of it."""
        total = sum(self._steps.values()) + 1
        self._run.progress.stage(self._begun / total, (self._begun + 1) / total)
        self._begun += 1

    # -- blocks --------------------------------------------------------------------------------------------------------

    async def _blocks(self) -> float | None:
        originals = {name: member_of(self._student, name) for name in self._of.settings_of}
        score = None
        for number in range(self._of.passes):
            for name, original in originals.items():
                score = await self._block(number, name, original)
        return score

    async def _block(self, number: int, name: str, original: Any) -> float | None:
        """Race the settings of a member, and return the score of the team, if the race was by that."""
        self._step()
        source, metric = self._of.settings_of[name], self._of.member_metrics.get(name)
        work = lambda: hypotheses_of(source, original, self._trainset, self._seed)  # noqa: E731
        found = await self._run.run_in_thread(f"settings/{number}/{name}", work)
        settings = [Hypothesis("student", self._team)]
        for one in found if number else found[1:]:
            named = one.name if one is not found[0] else "as it was"
            thawn, _ = thawed(one.program)
            settings.append(Hypothesis(named, with_member(self._team, name, thawn), one.why))
        report = RaceReport("Race", self._seed, resumed=False)
        details: dict[str, Any] = {"stage": "blocks", "member": name}
        view = RaceView(**details)
        if metric is not None:
            guard = self._of.metric_guard(metric)
            view = RaceView(f"member/{name}", partial(alone, name=name), guard, **details)
        self._heat = Heat(
            self._of.race,
            self._run,
            settings,
            self._items,
            None,
            self._seed,
            report=report,
            keys=self._keys,
            view=view,
            first=self._number,
        )
        self._number += len(settings)
        best = await self._heat.run()
        self._finalists[name] = [
            (one.hypothesis.name, member_of(self._durable(one), name))
            for one in self._heat.finalists(self._of.survivors)
            if one is not best
        ]
        self._team = self._durable(best)
        self._report.blocks.append(
            BlockResult(
                name,
                best.hypothesis.name,
                report.train,
                report.student_train,
                metric is not None,
                report.runs,
                tuple(report.hypotheses),
            )
        )
        return report.train if metric is None else None

    def _durable(self, one: Entrant) -> Any:
        return one.program.copy(lambda lm: self._run.durable(self._of.paid(lm)))

    # -- members -------------------------------------------------------------------------------------------------------

    async def _members(self) -> float:
        self._step()
        team = self._team.team
        self._candidates = self._all_candidates()
        recorded = await self._recorded()
        names = [member.name for member in team.members]
        present = [scored_team(recorded, names, _OWN, lambda _: team.rule, team.enough)]
        self._too_large = len(names) > self._of.max_size
        different = recorded.only(distinct(recorded, self._of.agreement))
        if same := [name for name in recorded.scores if name not in different.scores]:
            self._report.notes.append(f"No candidates, as they say what a better one says: {', '.join(same)}.")

        def work() -> tuple[list[TeamScore], Mapping[str, float]]:
            size = self._of.max_size
            return searched_teams(different, self._of.rules, max_size=size, seed=self._seed, enough=team.enough)

        found, weights = await self._run.run_in_thread("teams", work)
        teams = found if self._too_large else [*found, *present]
        chosen = best_team(teams, self._of.tolerance)
        report = self._report
        report.scored_teams, report.chosen, report.recorded = len(teams), chosen, recorded
        report.teams = sorted(teams, key=lambda one: (-one.score, len(one.members)))[:10]
        report.single = recorded.best_single, mean(recorded.scores[recorded.best_single])
        report.oracle = recorded.oracle
        everybody = scored_team(recorded, list(recorded.scores), "majority", FITS["majority"], team.enough)
        report.majority = everybody.score
        needed = math.ceil(10 * math.log2(len(teams)))
        if len(self._items) < needed:
            few = f"{len(self._items)} examples tell {len(teams)} teams apart badly: give about {needed}."
            report.notes.append(few)
        if chosen not in present:
            self._compose(chosen, recorded, weights)
        return chosen.score

    def _all_candidates(self) -> dict[str, Any]:
        found = dict(self._team.members)
        for member, others in self._finalists.items():
            found |= {f"{member}: {name}": program for name, program in others}
        for one in self._of.candidates:
            thawn, _ = thawed(load(one.program))
            for _, predictor in thawn.named_predictors():
                predictor.lm = self._of.paid(predictor.lm)
            found[one.name] = self._run.durable_program(thawn)
        return found

    async def _recorded(self) -> RecordedCandidates:
        """Ask each candidate about each example."""
        names, normal, field = list(self._candidates), self._team.team.normal, self._team.field
        jobs = [
            RolloutJob(f"alone/{key}/{number}", program, example, kept=True)
            for key, program in ((self._key(program), program) for program in self._candidates.values())
            for number, example in enumerate(self._items)
        ]
        outcomes = await self._run.rollouts(jobs)
        size = len(self._items)
        own = {name: outcomes[n * size : (n + 1) * size] for n, name in enumerate(names)}
        for name, found in own.items():
            best = max(self._report.best, mean([one.score for one in found]))
            self._run.scored(self._number, found, best=best, stage="members", member=name)
            self._number += 1
        cast = [[_vote(name, own[name][number], field, normal) for name in names] for number in range(size)]
        given = RecordedVotes([[vote for vote in row if vote is not None] for row in cast], self._truth())
        return RecordedCandidates(given, {name: [one.score for one in found] for name, found in own.items()})

    def _compose(self, chosen: TeamScore, recorded: RecordedCandidates, weights: Mapping[str, float]) -> None:
        before = self._team.team
        known = {one.name: one for one in (*before.members, *self._of.candidates)}
        self._smaller = len(chosen.members) < len(before.members)
        members = [self._member(name, known) for name in chosen.members]
        if chosen.rule == PICKED:
            rule: Any = WeightedVote({name: weights[name] for name in chosen.members})
        else:
            rule = FITS[chosen.rule](recorded.votes.only(chosen.members))
        changed = {"members": tuple(members), "rule": rule, "field": self._team.field}
        try:
            team = msgspec.structs.replace(before, **changed)
        except BadTeam:
            team = msgspec.structs.replace(before, ladder=None, **changed)
            self._report.notes.append("The ladder names a member that is not in the team any more: it has none now.")
        made = team.program()
        for name, program in made.members.items():
            for (_, mine), (_, given) in zip(
                program.named_predictors(), self._candidates[name].named_predictors(), strict=True
            ):
                mine.lm = given.lm
        self._team = made

    def _member(self, name: str, known: Mapping[str, Member]) -> Member:
        like = known.get(name) or known[name.partition(": ")[0]]
        return Member(name, self._candidates[name], role=like.role, correlated_with=like.correlated_with)

    # -- whole ---------------------------------------------------------------------------------------------------------

    async def _whole(self) -> float:
        self._step()
        optimiser = self._of.whole
        assert optimiser is not None
        inside = optimiser.inside(self._of)
        found = await inside.search(self._run, self._team, self._trainset, self._seed, valset=self._items)
        for name in ("candidate_programs", "trial_logs", "simba_idx", "configuration"):
            vars(found).pop(name, None)
        made = self._run.durable_program(found)
        now, before = await self._scores(made), await self._scores(self._team)
        if mean(now) > mean(before):
            self._team = made
        return max(mean(now), mean(before))

    # -- what came of it -----------------------------------------------------------------------------------------------

    def _key(self, program: Any) -> str:
        return self._keys.of(ModelsApart(program, self._run.original))

    async def _scores(self, program: Any) -> list[float]:
        """Return the scores on the validation set. What a race has looked at is known."""
        return await self._scored(program, "", self._items)

    async def _scored(self, program: Any, what: str, examples: Sequence[Any]) -> list[float]:
        key = self._key(program)
        jobs = [RolloutJob(f"{key}/{what}{number}", program, example) for number, example in enumerate(examples)]
        outcomes: list[RolloutOutcome] = await self._run.rollouts(jobs, check=False)
        return [one.score for one in outcomes]

    async def _concluded(self) -> Any:
        self._step()
        self._heat, self._stage = None, "report"
        report, single = self._report, self._report.single
        found, student = await self._scores(self._team), await self._scores(self._student)
        worse = mean(student) - mean(found)
        # A smaller team was taken though it may be a little worse.
        as_good = worse > self._of.tolerance * difference_error(student, found) if self._smaller else worse >= 0
        if as_good and not self._too_large and self._key(self._team) != self._key(self._student):
            report.notes.append("The student is as good on the validation set: it comes back as it was.")
            self._team, found = self._student, student
        report.items, report.train, report.student_train = len(self._items), mean(found), mean(student)
        outcomes = [RolloutOutcome(example, score) for example, score in zip(self._items, found, strict=True)]
        self._run.scored(self._number, outcomes, best=mean(found), stage="report")
        if self._tested:
            report.tested = len(self._tested)
            report.test = mean(await self._scored(self._team, "test/", self._tested))
            report.student_test = mean(await self._scored(self._student, "test/", self._tested))
            if single is not None:
                best = await self._scored(self._candidates[single[0]], "alone/test/", self._tested)
                report.single_test = mean(best)
        self._run.progress.share(1.0)
        return self._run.original_program(self._team.deepcopy())

    def summary(self) -> dict[str, object]:
        """Return how far it is, for ``/tree``."""
        left = self._run.progress.left
        heat = {} if self._heat is None else self._heat.summary()
        total = sum(self._steps.values()) + 1
        return {
            **heat,
            "stage": self._stage,
            "step": f"{self._begun} of {total}",
            "calls": self._run.totals.calls,
            "reused": self._run.totals.reused,
            "dollars": round(self._run.totals.dollars, 4),
            "seconds_left": "" if left is None else round(left),
        }


def _nothing_to_do(stage: str) -> str:
    return {
        "blocks": "no member has settings",
        "members": "there is no team of several that votes",
        "whole": "there is no optimiser for it",
    }[stage]


def _vote(name: str, outcome: RolloutOutcome, field: str, normal: Callable[[Any], Any]) -> MemberVote | None:
    """Return what a candidate has voted; None if it has failed, or abstains."""
    if outcome.prediction is None:
        return None
    fields = prediction_fields(outcome.prediction, field)
    form = normal(fields.get(field))
    try:
        return None if form is None else MemberVote(name, form, told_shares(fields, field, normal))
    except BadProbabilities:
        return None


def _whole(option: str, given: Any) -> int:
    return whole(f"TeamSearch: {option}", given)


def _member_metrics(given: Any, names: Mapping[str, Any]) -> dict[str, Callable[..., Any]]:
    if given is None:
        return {}
    found = named("TeamSearch: member_metrics", given)
    if not isinstance(found, Mapping) and not callable(found):
        raise BadOption(
            "TeamSearch: member_metrics", given, "give a function, or for members, by their names, one each"
        )
    each = found if isinstance(found, Mapping) else dict.fromkeys(names, found)
    metrics = {name: named("TeamSearch: member_metrics", metric) for name, metric in each.items()}
    for name, metric in metrics.items():
        if name not in names:
            remedy = f"it judges the settings of a member, and there are such of {', '.join(names) or 'none'}"
            raise BadOption(f"TeamSearch: member_metrics of {name}", metric, remedy)
        if not callable(metric):
            raise BadOption(f"TeamSearch: member_metrics of {name}", metric, "give a function, or its import path")
    return metrics


def _candidates(given: Any) -> tuple[Member, ...]:
    if not isinstance(given, Sequence) or not all(isinstance(one, Member) for one in given):
        raise BadOption("TeamSearch: candidates", given, "give several Member, each with a name and a program")
    return tuple(given)


def _chosen(option: str, given: Any, known: Any) -> tuple[str, ...]:
    names = () if isinstance(given, str) or not isinstance(given, Sequence) else tuple(given)
    if not names or any(not isinstance(name, str) or name not in known for name in names):
        raise BadOption(f"TeamSearch: {option}", given, f"choose among {', '.join(known)}")
    return tuple(dict.fromkeys(names))


def _whole_optimiser(given: Any, metric: Any) -> DurableTeleprompter | None:
    """Return the optimiser of the last stage."""
    made = given
    if isinstance(given, Mapping):
        options = dict(given)
        kind = named("TeamSearch: whole", options.pop("optimiser", None))
        if not isinstance(kind, type) or not issubclass(kind, DurableTeleprompter):
            raise BadOption("TeamSearch: whole", given, "name an optimiser, such as dspex.teleprompt:SIMBA")
        made = kind(metric=metric, **options)
    if made is None:
        return None
    if not isinstance(made, DurableTeleprompter) or not made.fits_inside:
        remedy = "give SIMBA, BEACON, or another one without actors; TeamSIMBA with one island, and without max_calls"
        raise BadOption("TeamSearch: whole", given, remedy)
    if made.metric is not metric:
        raise BadOption("TeamSearch: whole", given, "give it the same metric: all stages are for that")
    return made
