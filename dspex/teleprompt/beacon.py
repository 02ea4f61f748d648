"""BEACON: Bayesian optimisation over instructions, sets of demonstrations, and other variables of a program.

The candidates are made as MIPROv2 makes them (Opsahl-Ong et al., "Optimizing Instructions and Demonstrations for
Multi-Stage Language Model Programs", 2024; DSPy's ``create_n_fewshot_demo_sets`` and ``GroundedProposer``). What to try
next is decided by a tree-structured Parzen estimator (Bergstra et al., 2011; Optuna's `TPESampler`, multivariate, with
constant liar), several trials at a time. A trial that is worse than the best one, example by example, is given up early
(Wilcoxon's signed-rank test; Optuna's `WilcoxonPruner`). One that was tried before is a trial too, for the estimator,
but nothing is asked again for it: its scores are known.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from dspex._compat import demo_sets, propose_instructions, taken_over
from dspex.fingerprints import content_digest
from dspex.teleprompt.identity import parameter
from dspex.teleprompt.rollouts import RolloutJob, RolloutOutcome, mean_score
from dspex.teleprompt.run import OptimisationRun
from dspex.teleprompt.teleprompter import DurableTeleprompter
from dspex.variables import BadConfiguration, ProgramSpace, Variable, extract
from dspex.variables.space import Constraint
from foundation.options import named, whole
from supervision.errors import BadOption

try:
    import optuna
except ModuleNotFoundError as error:
    if error.name != "optuna":
        raise
    raise ModuleNotFoundError(
        "BEACON needs Optuna; run: pip install 'foundation-otp[optuna]'", name="optuna"
    ) from error

optuna.logging.set_verbosity(optuna.logging.WARNING)

#: How often a configuration is asked for until the constraints hold.
_TRIES = 1000
#: What else there is to choose in a program.
_CHOICES = ("temperature", "adapters", "modules", "lms")
_COMPLETE, _PRUNED = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED


class TriedConfiguration(NamedTuple):
    """A configuration that was tried, and its score; for a warm start."""

    configuration: Mapping[str, Any]
    score: float


class TeamTrials(Protocol):
    """The teams of one search: what their members have answered is known, and each team of them is reckoned."""

    variables: Sequence[Variable]
    constraints: Mapping[str, Constraint]

    async def record(self, candidates: Iterable[tuple[Any, Mapping[str, Any]]]) -> None:
        """Ask the members of candidates, each a program and its configuration, as far as that was not done."""
        ...

    def judged(self, program: Any, configuration: Mapping[str, Any]) -> Sequence[Any]:
        """Return of a candidate, for each validation example, a program that answers as it does, without a call."""
        ...

    def made(self, program: Any, configuration: Mapping[str, Any]) -> Any:
        """Return a candidate as the team that it is."""
        ...


class TeamSource(Protocol):
    """Says what there is to choose in a team; `dspex.search.TeamVariables` is one."""

    def parameters(self) -> Mapping[str, Any]:
        """Return what decides what comes out, for the journal."""
        ...

    def trials(self, run: OptimisationRun, program: Any, trainset: Sequence[Any], valset: Sequence[Any]) -> TeamTrials:
        """Return what is known of the teams of a search."""
        ...


def _parzen(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _team_source(given: TeamSource | str | None) -> TeamSource | None:
    found = named("BEACON: team", given)
    if found is not None and not callable(getattr(found, "trials", None)):
        raise BadOption("BEACON: team", given, "give a dspex.search.TeamVariables, or the import path of one")
    source: TeamSource | None = found
    return source


def _instructions(given: Any) -> dict[str, list[str]]:
    remedy = 'give texts to choose from, for the name of each predictor: {"self": ["Be brief."]}'
    if not isinstance(given, Mapping):
        raise BadOption("BEACON: instructions", given, remedy)
    for said in given.values():
        if not isinstance(said, (list, tuple)) or not all(isinstance(one, str) for one in said):
            raise BadOption("BEACON: instructions", said, remedy)
    return {name: list(said) for name, said in given.items()}


def _choose(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise BadOption("BEACON: choose", given, f"give a mapping with some of {', '.join(_CHOICES)}")
    for name, value in given.items():
        if name not in _CHOICES:
            raise BadOption(f"BEACON: choose[{name!r}]", value, f"choose among {', '.join(_CHOICES)}")
    return dict(given)


def _variables(given: Any) -> tuple[Variable, ...]:
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, Variable) for one in given):
        raise BadOption("BEACON: variables", given, "give a list of dspex.variables, such as Choice")
    return tuple(given)


def _constraints(given: Any) -> dict[str, Callable[[Mapping[str, Any]], bool]]:
    if not isinstance(given, Mapping) or not all(map(callable, given.values())):
        raise BadOption("BEACON: constraints", given, "give functions of a configuration, each by a name that says it")
    return dict(given)


def _history(given: Any) -> tuple[TriedConfiguration, ...]:
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, TriedConfiguration) for one in given):
        raise BadOption("BEACON: history", given, "give what another BEACON has noted as `tried`")
    return tuple(given)


class BEACON(DurableTeleprompter):
    """Finds instructions, demonstrations and values of variables for a program.

    The first trial is the student as it is: what comes back is no worse on the validation set. It has ``trial_logs``
    and ``configuration``.

    Args:
        metric: see `DurableTeleprompter`, also for what is not listed here.
        num_trials: how many configurations are tried.
        num_candidates: how many instructions, and how many sets of demonstrations, each predictor has to choose from.
        max_bootstrapped_demos: how many demonstrations of a set are the program's own; 0 for none.
        max_labeled_demos: how many may be examples; 0 for none.
        instructions: for each predictor's name, what to choose from besides its own instruction. None to have them
            written by ``prompt_model``.
        prompt_model: writes instructions; ``dspy.settings.lm`` if None.
        teacher_settings: for ``dspy.context``, where demonstrations are bootstrapped.
        choose: what else there is to choose in the program: ``temperature``, ``adapters``, ``modules`` and ``lms``, as
            for `dspex.variables.extract`. The adapter is not in DSPy's files; ``configuration`` has it.
        variables: further variables.
        constraints: what has to hold of the variables together, each by a name that says it.
        apply: changes a program as a configuration says; called with the program and the configuration of
            ``variables``. May return another program.
        team: what there is to choose in a student that is a team, or what is reckoned from the probabilities of one
            that is not: a `dspex.search.TeamVariables`, or the import path of one. What comes back is a team then. Its
            members are asked about the validation examples and the training set, once for each of their settings;
            which of them, and by which rule, costs no calls.
        parallel: how many trials are made at a time.
        prune: whether trials that are worse than the best are given up early: after how many examples; None for never.
        history: what an earlier run has tried, for a warm start; see `tried`.
        sampler: makes, of a seed, the ``optuna.samplers`` that says what to try next, such as ``RandomSampler`` to
            compare with; None for the tree-structured Parzen estimator.
        options: for `DurableTeleprompter`.

    Raises:
        BadOption: an option makes no sense.
    """

    takes = ("valset",)

    def __init__(
        self,
        *,
        metric: Callable[..., Any],
        num_trials: int = 30,
        num_candidates: int = 6,
        max_bootstrapped_demos: int = 4,
        max_labeled_demos: int = 4,
        instructions: Mapping[str, Sequence[str]] | None = None,
        prompt_model: Any = None,
        teacher_settings: dict[str, Any] | None = None,
        choose: Mapping[str, Any] | None = None,
        variables: Sequence[Variable] = (),
        constraints: Mapping[str, Callable[[Mapping[str, Any]], bool]] | None = None,
        apply: Callable[[Any, Mapping[str, Any]], Any] | None = None,
        team: TeamSource | str | None = None,
        parallel: int = 4,
        prune: int | None = 10,
        history: Sequence[TriedConfiguration] = (),
        sampler: Callable[[int], optuna.samplers.BaseSampler] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(metric=metric, **options)
        self.num_trials = whole("BEACON: num_trials", num_trials)
        self.num_candidates = whole("BEACON: num_candidates", num_candidates)
        self.max_bootstrapped_demos = whole("BEACON: max_bootstrapped_demos", max_bootstrapped_demos, 0)
        self.max_labeled_demos = whole("BEACON: max_labeled_demos", max_labeled_demos, 0)
        self.instructions = None if instructions is None else _instructions(instructions)
        self.prompt_model, self.teacher_settings = prompt_model, teacher_settings
        self.choose = _choose(choose or {})
        self.variables, self.constraints = _variables(variables), _constraints(constraints or {})
        for name, function in (("apply", apply), ("sampler", sampler)):
            if function is not None and not callable(function):
                raise BadOption(f"BEACON: {name}", function, "give a function, or None")
        self.apply = apply
        self.team = _team_source(team)
        self.own_models = team is not None  # a team's predictors have other names than the student's
        self.parallel = whole("BEACON: parallel", parallel)
        self.prune = None if prune is None else whole("BEACON: prune", prune, 0)
        self.history = _history(history)
        self.sampler = sampler or _parzen
        #: What the last compilation has tried to the end, for the ``history`` of another.
        self.tried: list[TriedConfiguration] = []

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that decide what comes out."""
        names = ("num_trials", "num_candidates", "max_bootstrapped_demos", "max_labeled_demos", "parallel", "prune")
        return {
            **{name: getattr(self, name) for name in names},
            "instructions": parameter(self.instructions),
            "prompt_model": parameter(self.prompt_model),
            "teacher_settings": parameter(self.teacher_settings),
            "variables": parameter(self.variables),
            "constraints": parameter(self.constraints),
            "apply": parameter(self.apply),
            "history": parameter(self.history),
            "sampler": type(self.sampler(0)).__name__,
            "optuna": optuna.__version__,
            "choose": parameter(self.choose),
            **({} if self.team is None else {"team": dict(self.team.parameters())}),
        }

    async def search(self, run: OptimisationRun, student: Any, trainset: list[Any], seed: int, **data: Any) -> Any:
        """Return the best program. ``valset`` is what is scored on; the training set if there is none."""
        with run.settings():
            program = run.durable_program(student)
            valset = list(data.get("valset") or trainset)
            random.Random(seed).shuffle(valset)
            teams = None if self.team is None else self.team.trials(run, program, trainset, valset)
            space = await self._space(run, program, trainset, seed, teams)
            return run.original_program(await _Search(self, run, program, space, valset, seed, teams).best())

    async def _space(
        self, run: OptimisationRun, program: Any, trainset: list[Any], seed: int, teams: TeamTrials | None
    ) -> ProgramSpace:
        """Return what there is to choose: each predictor's instruction and demonstrations, and what else is wanted."""
        sets = await self._demo_sets(run, program, trainset, seed)
        said = await self._instructions(run, program, trainset, sets, seed)
        names = [name for name, _ in program.named_predictors()]
        return extract(
            program,
            instructions=said,
            demos={name: sets[number] for number, name in enumerate(names) if sets},
            **{**self.choose, "lms": {name: run.durable(lm) for name, lm in self.choose.get("lms", {}).items()}},
            variables=[*self.variables, *(teams.variables if teams else ())],
            constraints={**self.constraints, **(teams.constraints if teams else {})},
        )

    async def _demo_sets(
        self, run: OptimisationRun, program: Any, trainset: list[Any], seed: int
    ) -> dict[int, list[Any]]:
        if not self.max_bootstrapped_demos and not self.max_labeled_demos:
            return {}
        limits = (self.max_labeled_demos, self.max_bootstrapped_demos)
        teacher = {**(self.teacher_settings or {})}
        if teacher.get("lm") is not None:
            teacher["lm"] = run.durable(teacher["lm"])
        guarded, metric = run.guard.guarded_program(program), self.guarded_metric(run, self.metric)

        def made() -> dict[int, list[Any]]:
            with taken_over(run.guard):
                return demo_sets(guarded, self.num_candidates, trainset, limits, metric, teacher, seed)

        return await run.run_in_thread("demos", made)

    async def _instructions(
        self, run: OptimisationRun, program: Any, trainset: list[Any], sets: dict[int, list[Any]], seed: int
    ) -> Mapping[str, Sequence[str]]:
        if self.instructions is not None:
            return self.instructions
        model = run.durable(self.prompt_model)
        return await run.run_in_thread(
            "instructions",
            lambda: propose_instructions(program, trainset, model, sets or None, self.num_candidates, seed),
        )


class _Search:
    """The trials of one run."""

    def __init__(
        self,
        beacon: BEACON,
        run: OptimisationRun,
        student: Any,
        space: ProgramSpace,
        valset: list[Any],
        seed: int,
        teams: TeamTrials | None,
    ) -> None:
        self._teams = teams
        self._of, self._run, self._student, self._space, self._valset = beacon, run, student, space, valset
        self._study = optuna.create_study(direction="maximize", sampler=beacon.sampler(seed))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._pruner = optuna.pruners.WilcoxonPruner(p_threshold=0.1, n_startup_steps=beacon.prune or 0)
        self._study.enqueue_trial(space.chosen(space.defaults))
        self._best: tuple[float, int, dict[str, Any], list[float]] | None = None
        #: So many examples are tried at a time.
        self._size = beacon.prune or len(valset)
        self._logs: dict[int, dict[str, Any]] = {}
        #: The outcomes of each configuration, as far as it was tried, by its digest.
        self._known: dict[str, list[RolloutOutcome]] = {}
        beacon.tried = []

    async def best(self) -> Any:
        """Return the best program."""
        self._remember()
        while len(self._logs) < self._of.num_trials:
            await self._generation(min(self._of.parallel, self._of.num_trials - len(self._logs)))
            self._run.progress.share(len(self._logs) / self._of.num_trials)
        assert self._best is not None
        _, _, configuration, _ = self._best
        program = self._configured(configuration)
        if self._teams is not None:
            made, student = self._teams.made, program
            program = await self._run.run_in_thread("team", lambda: made(student, configuration))
        program.trial_logs = self._logs
        program.configuration = configuration
        return program

    def _remember(self) -> None:
        """Tell the sampler what was tried before, as far as it can be chosen here."""
        for tried in self._of.history:
            try:
                configuration = self._space.complete(tried.configuration)
            except BadConfiguration:
                continue
            # Its distributions are those that the variables themselves ask for.
            fixed = optuna.trial.FixedTrial(self._space.chosen(configuration))
            self._space.suggest(fixed)
            self._study.add_trial(
                optuna.trial.create_trial(params=fixed.params, distributions=fixed.distributions, value=tried.score)
            )

    async def _generation(self, size: int) -> None:
        """Make some trials side by side. What the sampler learns, and when, does not depend on their speed."""
        trials: list[Any] = []
        tried: list[dict[str, Any]] = []
        left = _TRIES
        while len(trials) < size:
            left -= 1
            trial = self._study.ask()
            try:
                tried.append(self._space.complete(self._space.suggest(trial)))
            except BadConfiguration:
                self._study.tell(trial, state=_PRUNED)
                if left <= 0:
                    raise
            else:
                trials.append(trial)
        best = self._best
        digests: list[str] = []
        for trial, found in zip(trials, tried, strict=True):
            digests.append(self._digest(trial, found, digests))
        # The same one twice is tried once.
        different: dict[str, tuple[Any, dict[str, Any]]] = {}
        for digest, trial, found in zip(digests, trials, tried, strict=True):
            different.setdefault(digest, (trial, found))
        if self._teams is not None:
            await self._teams.record((self._configured(found), found) for _, found in different.values())
        outcomes = await self._run.gather(
            [self._trial(digest, trial, found, best) for digest, (trial, found) in different.items()]
        )
        self._run.guard.check()  # all of them had their chance
        self._known.update(zip(different, outcomes, strict=True))
        for trial, configuration, digest in zip(trials, tried, digests, strict=True):
            self._settle(trial, configuration, self._known[digest])

    def _digest(self, trial: Any, configuration: dict[str, Any], others: Sequence[str]) -> str:
        """Return what tells a configuration from others.

        A journal of before these were known may have scores of another trial of the same one, which keeps them.
        """
        digest = content_digest(self._space.chosen(configuration))
        if digest not in self._known and digest not in others:
            return digest
        own = any(self._run.is_scored(self._job(trial, number)) for number in range(self._size))
        return f"{digest}/{trial.number}" if own else digest

    @staticmethod
    def _job(trial: Any, number: int) -> str:
        return f"trial/{trial.number}/{number}"

    async def _trial(self, digest: str, trial: Any, configuration: dict[str, Any], best: Any) -> list[RolloutOutcome]:
        """Score a configuration, example by example, until it is clearly worse than the best."""
        program = self._configured(configuration)
        outcomes = list(self._known.get(digest, ()))
        judged: Sequence[Any] = [program] * len(self._valset)
        if self._teams is not None and len(outcomes) < len(self._valset):
            reckon = self._teams.judged
            judged = await self._run.run_in_thread(f"team/{trial.number}", lambda: reckon(program, configuration))
        while len(outcomes) < len(self._valset):
            first = len(outcomes)
            if first and best is not None and self._worse(outcomes, *best[::3]):
                break
            batch = self._valset[first : first + self._size]
            jobs = [
                RolloutJob(self._job(trial, first + n), judged[first + n], example) for n, example in enumerate(batch)
            ]
            made = await self._run.rollouts(jobs, check=False)
            outcomes += [msgspec.structs.replace(outcome, prediction=None, trace=[]) for outcome in made]
        return outcomes

    def _worse(self, outcomes: Sequence[RolloutOutcome], best: float, scores: Sequence[float]) -> bool:
        """Return whether Wilcoxon's test says that this is worse than the best, by the examples that both have."""
        study = optuna.create_study(direction="maximize", pruner=self._pruner)
        reference = optuna.trial.create_trial(value=best, intermediate_values=dict(enumerate(scores)))
        study.add_trial(reference)
        trial = study.ask()
        for number, outcome in enumerate(outcomes):
            trial.report(outcome.score, number)
        return bool(trial.should_prune())

    def _settle(self, trial: Any, configuration: dict[str, Any], outcomes: list[RolloutOutcome]) -> None:
        number, whole = len(self._logs), len(outcomes) == len(self._valset)
        chosen = self._space.chosen(configuration)
        self._run.scored(number, outcomes, pruned=not whole, **chosen)
        self._logs[number] = {"score": mean_score(outcomes), "pruned": not whole, "configuration": chosen}
        if not whole:
            # The sampler learns what a pruned trial has reached.
            trial.report(mean_score(outcomes), len(outcomes))
            self._study.tell(trial, state=_PRUNED)
            return
        self._study.tell(trial, mean_score(outcomes), state=_COMPLETE)
        self._of.tried.append(TriedConfiguration(chosen, mean_score(outcomes)))
        scores = [outcome.score for outcome in outcomes]
        if self._best is None or mean_score(outcomes) > self._best[0]:
            self._best = (mean_score(outcomes), number, configuration, scores)

    def _configured(self, configuration: Mapping[str, Any]) -> Any:
        """Return a program by a configuration."""
        program = self._space.apply(self._student, self._space.chosen(configuration))
        if self._of.apply is not None:
            own = {variable.name: configuration[variable.name] for variable in self._of.variables}
            program = self._of.apply(program, own) or program
        return program
