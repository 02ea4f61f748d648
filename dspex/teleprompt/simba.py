"""SIMBA, with rollouts made by supervised workers: DSPy's algorithm, step by step, with the same result.

The algorithm is that of ``dspy.SIMBA`` (DSPy 3.4, ``teleprompt/simba.py``): the same draws in the same order, the same
strategies. What differs is who makes the rollouts, and what happens when something fails that is not the program.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dspex._compat import append_a_demo, append_a_rule, models_for_sampling
from dspex.teleprompt.identity import parameter
from dspex.teleprompt.rollouts import RolloutJob, RolloutOutcome, mean_score
from dspex.teleprompt.run import OptimisationRun, check_model
from dspex.teleprompt.teleprompter import DurableTeleprompter
from foundation.options import above_zero, whole


class Bucket(NamedTuple):
    """What came of an example, by several samples.

    Attributes:
        outcomes: as DSPy's own optimisers keep them, the best first.
        gap: between the best score and the worst.
        most: the best score.
        above_mean: how far that is above the mean.
    """

    outcomes: list[dict[str, Any]]
    gap: float
    most: float
    above_mean: float


class Draft(NamedTuple):
    """A program that is to become a candidate.

    Attributes:
        key: of what is asked for it.
        bucket: it is to learn from.
        program: a copy that may be changed.
        strategy: changes it, as DSPy's strategies do.
        member: whose predictors alone are changed; None for those of all.
    """

    key: str
    bucket: Bucket
    program: Any
    strategy: Any
    member: str | None = None


class SIMBA(DurableTeleprompter):
    """Stochastic Introspective Mini-Batch Ascent, supervised and durable.

    It takes what ``dspy.SIMBA`` takes, and returns the same program for the same seed and the same answers, with
    ``candidate_programs`` and ``trial_logs``. Beyond that, the predictors of a program may have different language
    models, such as the members of a team: each is sampled with copies of its own, and keeps it.

    Args:
        metric: see `DurableTeleprompter`, also for what is not listed here.
        bsize: how many examples a mini-batch has.
        num_candidates: how many new programs each step makes, and how many samples it takes of each example.
        max_steps: how many steps there are.
        max_demos: how many demonstrations a predictor keeps, about.
        prompt_model: writes the rules; ``dspy.settings.lm`` if None.
        teacher_settings: its ``lm`` takes the place of the first sampling model of all predictors.
        demo_input_field_maxlen: how many characters of an input a demonstration keeps.
        temperature_for_sampling: of the choice which program is sampled.
        temperature_for_candidates: of the choice from which program a candidate is made.
        options: for `DurableTeleprompter`.

    Raises:
        BadOption: an option makes no sense.
    """

    takes = ()

    def __init__(
        self,
        *,
        metric: Callable[..., Any],
        bsize: int = 32,
        num_candidates: int = 6,
        max_steps: int = 8,
        max_demos: int = 4,
        prompt_model: Any = None,
        teacher_settings: dict[str, Any] | None = None,
        demo_input_field_maxlen: int = 100_000,
        temperature_for_sampling: float = 0.2,
        temperature_for_candidates: float = 0.2,
        **options: Any,
    ) -> None:
        super().__init__(metric=metric, **options)
        name = type(self).__name__
        self.bsize = whole(f"{name}: bsize", bsize)
        self.num_candidates = whole(f"{name}: num_candidates", num_candidates)
        self.max_steps = whole(f"{name}: max_steps", max_steps, 0)
        self.max_demos = whole(f"{name}: max_demos", max_demos, 0)
        self.prompt_model = prompt_model
        self.teacher_settings = teacher_settings
        self.demo_input_field_maxlen = whole(f"{name}: demo_input_field_maxlen", demo_input_field_maxlen, 0)
        self.temperature_for_sampling = above_zero(f"{name}: temperature_for_sampling", temperature_for_sampling)
        self.temperature_for_candidates = above_zero(f"{name}: temperature_for_candidates", temperature_for_candidates)

    @property
    def needed(self) -> int:  # type: ignore[override]
        """How many examples are needed."""
        return self.bsize

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that decide what comes out."""
        names = ("bsize", "num_candidates", "max_steps", "max_demos", "demo_input_field_maxlen")
        temperatures = ("temperature_for_sampling", "temperature_for_candidates")
        models = {"prompt_model": parameter(self.prompt_model), "teacher_settings": parameter(self.teacher_settings)}
        return {**{name: getattr(self, name) for name in (*names, *temperatures)}, **models}

    async def search(self, run: OptimisationRun, student: Any, trainset: list[Any], seed: int, **data: Any) -> Any:
        """Return the best program."""
        check_model(student)
        with run.settings():
            ascent = Ascent(self, run, run.durable_program(student), trainset, seed)
            for step in range(self.max_steps):
                await ascent.step(step)
                run.progress.share((step + 1) / (self.max_steps + 1))
            best = await ascent.best()
        for candidate in best.candidate_programs:
            run.original_program(candidate["program"])
        return run.original_program(best)


class Ascent:
    """The state of one run.

    Args:
        simba: whose parameters are used.
        run: makes its rollouts.
        student: with durable language models.
        trainset: the examples.
        seed: of all chance.
        prefix: with which the keys of what it does begin.
    """

    def __init__(
        self, simba: SIMBA, run: OptimisationRun, student: Any, trainset: list[Any], seed: int, prefix: str = ""
    ) -> None:
        self._of, self._run, self._trainset, self._seed, self._prefix = simba, run, trainset, seed, prefix
        self._rng = random.Random(seed)
        self._rng_np = np.random.default_rng(seed)
        student.simba_idx = 0
        self._programs: list[Any] = [student]
        self._scores: dict[int, list[float]] = {0: []}
        self._winning: list[Any] = [student]
        self._indices = list(range(len(trainset)))
        self._rng.shuffle(self._indices)
        self._next = 0
        self._logs: dict[int, dict[str, Any]] = {}
        demo = append_a_demo(simba.demo_input_field_maxlen)
        self._strategies = [demo, append_a_rule] if simba.max_demos > 0 else [append_a_rule]
        self._prompt_model = run.durable(simba.prompt_model)
        teacher = dict(simba.teacher_settings or {})
        self._teacher = {**teacher, "lm": run.durable(teacher.get("lm"))} if teacher else None

    async def step(self, step: int) -> None:
        """Sample a mini-batch, make candidates of what was learnt, and score them."""
        self._logs[step] = {}
        batch = self._batch()
        outcomes, names = await self._sample(step, batch)
        await self._learn(step, outcomes, names)
        scores = [float(outcome.score) for outcome in outcomes]
        tenth, ninetieth = np.percentile(scores, 10), np.percentile(scores, 90)
        candidates = await self._candidates(step, self._buckets(batch, outcomes), names, tenth, ninetieth)
        await self._judge(step, batch, candidates)

    async def _learn(self, step: int, outcomes: Sequence[RolloutOutcome], names: Mapping[int, str]) -> None:
        """Look at all samples of a step, whose predictors have names by their ids, before candidates are made."""

    def _batch(self) -> list[Any]:
        size = self._of.bsize
        if self._next + size > len(self._trainset):
            self._rng.shuffle(self._indices)
            self._next = 0
        chosen = self._indices[self._next : self._next + size]
        self._next += size
        return [self._trainset[index] for index in chosen]

    async def _sample(self, step: int, batch: Sequence[Any]) -> tuple[list[RolloutOutcome], dict[int, str]]:
        models = models_for_sampling(self._sampled(), self._of.num_candidates, self._teacher)
        top = self._top()
        jobs: list[RolloutJob] = []
        names: dict[int, str] = {}
        for m, of_predictor in enumerate(models):
            for e, example in enumerate(batch):
                program = self._programs[self._draw(top, self._of.temperature_for_sampling)].deepcopy()
                for name, predictor in program.named_predictors():
                    predictor.lm = of_predictor[name]
                    names[id(predictor)] = name
                jobs.append(RolloutJob(f"{self._prefix}{step}/sample/{m}/{e}", program, example, kept=True))
        return await self._rollouts(jobs), names

    def _sampled(self) -> Any:
        """Return a program that has all predictors that are sampled."""
        return self._programs[0]

    async def _rollouts(self, jobs: Sequence[RolloutJob]) -> list[RolloutOutcome]:
        return await self._run.rollouts(jobs)

    def _buckets(self, batch: Sequence[Any], outcomes: Sequence[RolloutOutcome]) -> list[Bucket]:
        buckets = []
        for index in range(len(batch)):
            found = sorted(
                (outcome.mapping() for outcome in outcomes[index :: len(batch)]), key=_score_of, reverse=True
            )
            most, least = float(found[0]["score"]), float(found[-1]["score"])
            average = sum(item["score"] for item in found) / len(found)
            buckets.append(Bucket(found, most - least, most, most - average))
        return sorted(buckets, key=lambda bucket: bucket[1:], reverse=True)

    async def _candidates(
        self, step: int, buckets: Sequence[Bucket], names: dict[int, str], tenth: Any, ninetieth: Any
    ) -> list[Any]:
        wanted, rest = self._of.num_candidates + 1, list(enumerate(buckets))
        found: list[Any] = []
        while rest and len(found) < wanted:
            # What is drawn for a bucket does not depend on how those before it turn out: all can be tried at once.
            tries, rest = rest[: wanted - len(found)], rest[wanted - len(found) :]
            drafts = [self._draft(step, number, bucket, names) for number, bucket in tries]
            improved = await self._run.gather([self._improve(draft, names, tenth, ninetieth) for draft in drafts])
            found += [draft.program for draft, better in zip(drafts, improved, strict=True) if better]
        return found

    def _draft(self, step: int, number: int, bucket: Bucket, names: Mapping[int, str]) -> Draft:
        """Return a copy of a program, with some of its demonstrations dropped, and the strategy to improve it."""
        source = self._draw(self._top(), self._of.temperature_for_candidates)
        program = self._programs[source].deepcopy()
        member = self._member(step, number, bucket, program, names)
        predictors = program.predictors()
        most = max((len(predictor.demos) for predictor in predictors), default=0)
        limit = self._of.max_demos if self._of.max_demos > 0 else 3
        drop = min(max(self._rng_np.poisson(most / limit), int(most >= limit)), most)
        dropped = [self._rng.randrange(most) for _ in range(drop)]
        for predictor in self._changed(program, member).values():
            predictor.demos = [demo for number, demo in enumerate(predictor.demos) if number not in dropped]
        key = f"{self._prefix}{step}/strategy/{number}"
        return Draft(key, bucket, program, self._rng.choice(self._strategies), member)

    def _member(self, step: int, number: int, bucket: Bucket, program: Any, names: Mapping[int, str]) -> str | None:
        """Return whose predictors alone are changed; None for those of all."""

    def _changed(self, program: Any, member: str | None) -> dict[str, Any]:
        """Return the predictors that are changed, by their names: those of a member, or all."""
        return dict(program.named_predictors())

    async def _improve(self, draft: Draft, names: Mapping[int, str], tenth: Any, ninetieth: Any) -> bool:
        def work() -> Any:
            return draft.strategy(
                draft.bucket.outcomes,
                draft.program,
                predictor2name=names,
                name2predictor=dict(draft.program.named_predictors()),
                batch_10p_score=tenth,
                batch_90p_score=ninetieth,
                prompt_model=self._prompt_model,
            )

        return await self._run.attempt(draft.key, work)

    async def _judge(self, step: int, batch: Sequence[Any], candidates: Sequence[Any]) -> None:
        jobs = [
            RolloutJob(f"{self._prefix}{step}/candidate/{c}/{e}", candidate, example)
            for c, candidate in enumerate(candidates)
            for e, example in enumerate(batch)
        ]
        outcomes = await self._rollouts(jobs)
        size, first = len(batch), len(self._programs)
        own = [outcomes[c * size : (c + 1) * size] for c in range(len(candidates))]
        averages = [self._scored(first + c, candidates[c], found, step) for c, found in enumerate(own)]
        if averages:
            self._winning.append(candidates[averages.index(max(averages))].deepcopy())
        for candidate, found in zip(candidates, own, strict=True):
            candidate.simba_idx = len(self._programs)
            self._programs.append(candidate)
            self._scores[candidate.simba_idx] = [outcome.score for outcome in found]

    def _scored(self, number: int, candidate: Any, outcomes: Sequence[RolloutOutcome], step: int) -> float:
        """Note the score of a candidate, and return it."""
        return self._run.scored(number, outcomes, step=step)

    def winners(self) -> list[Any]:
        """Return copies of the student and of the best candidates of steps that are as far apart as possible."""
        last, number = len(self._winning) - 1, self._of.num_candidates + 1
        chosen = [0] if last < 1 else [round(n * last / (number - 1)) for n in range(number)]
        return [self._winning[index].deepcopy() for index in dict.fromkeys(chosen)]

    async def best(self) -> Any:
        """Return the best of the winners, by the whole training set."""
        programs = self.winners()
        jobs = [
            RolloutJob(f"{self._prefix}final/{p}/{e}", program, example)
            for p, program in enumerate(programs)
            for e, example in enumerate(self._trainset)
        ]
        outcomes = await self._rollouts(jobs)
        size, scores = len(self._trainset), []
        for p in range(len(programs)):
            scores.append(mean_score(outcomes[p * size : (p + 1) * size]))
            if p != 0:
                self._logs[p - 1]["train_score"] = scores[-1]
        found = [{"score": score, "program": program} for score, program in zip(scores, programs, strict=True)]
        best = programs[scores.index(max(scores))].deepcopy()
        best.candidate_programs = sorted(found, key=_score_of, reverse=True)
        best.trial_logs = self._logs
        return best

    def _mean(self, index: int) -> float:
        scores = self._scores.get(index)
        return sum(scores) / len(scores) if scores else 0.0

    def _top(self) -> list[int]:
        ranked = sorted(range(len(self._programs)), key=self._mean, reverse=True)
        top = ranked[: self._of.num_candidates]
        if 0 not in top:
            top[-1] = 0
        return list(dict.fromkeys(top))

    def _draw(self, indices: list[int], temperature: float) -> int:
        weights = [np.exp(self._mean(index) / temperature) for index in indices]
        total = sum(weights)
        return self._rng.choices(indices, weights=[weight / total for weight in weights], k=1)[0]


def _score_of(item: dict[str, Any]) -> Any:
    return item["score"]
