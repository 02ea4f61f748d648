"""Population based training: several are trained at once, and now and then the worst go on from where the best are.

It is for what carries a *state* along, and whose settings may have to change on the way: weights and a learning rate, a
prompt under edit and how bold the edits are, the table of a bandit and how much it explores. After each interval the
worst members copy state and settings of one of the best, and try settings near those (`PopulationRule`). So what is
found is not one set of settings, but a schedule of them.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context, copy_context
from math import inf
from random import Random
from typing import Any, Protocol

import dspy
import msgspec

from agents.core.failures import is_order
from dspex._tasks import adopt_context, start_in
from dspex.models.call_log import call_scope
from dspex.search.errors import EveryMemberFailed
from dspex.search.events import PopulationMemberCopied, PopulationMemberLost
from dspex.search.explorers import Lane
from dspex.search.metrics import PopulationCounts
from dspex.search.population_report import MemberStep, PopulationReport
from dspex.search.population_rules import PopulationRule
from dspex.teleprompt.errors import ModelRefused, ModelUnavailable, OptimisationError, OptimisationOver
from dspex.teleprompt.events import WorkerLost
from dspex.teleprompt.identity import parameter
from dspex.teleprompt.rollouts import RolloutJob, RolloutOutcome, mean_score, plain_score
from dspex.teleprompt.run import OptimisationRun
from dspex.teleprompt.teleprompter import DurableTeleprompter
from dspex.variables import Space, Variable
from dspex.workflow.workers import WorkerPool
from foundation.options import above_zero, named, whole
from supervision import Actor, ChildSpec, Refuse, Request, handle
from supervision.errors import BadOption
from supervision.messages import describe


class TrainingStep(msgspec.Struct, frozen=True):
    """What a member is trained or scored with, in one interval.

    Attributes:
        settings: the values of the variables, all of them, and what follows from them.
        examples: to train on; or, to score, those to validate on.
        chance: of this member in this interval: the same whenever it is repeated.
        interval: from 1; 0 where its state begins.
        member: its number, from 0.
        student: a copy of the program, whose language models keep what they have answered.
    """

    settings: Mapping[str, Any]
    examples: Sequence[Any]
    chance: Random
    interval: int
    member: int
    student: Any


class Training(Protocol):
    """What is trained. All of its methods may be async, and may ask the student, or its language models.

    It may have a ``score(state, step)``, too, that returns a number, the more the better; else the metric says what the
    program of a state is worth, on the validation examples.

    A state is plain data: numbers, texts, lists, mappings. What a method gets is its own copy.
    """

    #: The settings.
    variables: Sequence[Variable] | Space

    def begin(self, step: TrainingStep) -> Any:
        """Return the state in which a member begins."""
        ...

    def train(self, state: Any, step: TrainingStep) -> Any:
        """Return the state after one interval: so many steps, edits, or answers, by what they are, never by a clock."""
        ...

    def program(self, student: Any, state: Any) -> Any:
        """Return the student, of which this is a copy, with a state in it; or another program."""
        ...


class PopulationBasedTraining(DurableTeleprompter):
    """Trains a population, in which the worst copy from the best, and returns the best of all.

    The first member begins with the default settings, the others with any. All are trained for an interval, side by
    side, by supervised actors; then they are compared. What was trained and scored is kept in the journal before it
    counts, and who copies from whom is written at once for all. So, whatever is killed, the population goes on where it
    was, and for the same seed and the same answers it ends in the same way for any number of ``members`` at work.

    A member that fails, as what trains it raises or its score is no finite number, is worse than all that have a score,
    and stays where it was unless it copies. One that is lost, as something that it needs is away, is passed over: it
    neither copies nor is copied from, and is trained again in the next interval.

    What comes back is the best state of all intervals, put into the student, with its settings as ``configuration``.
    Its ``report`` is a `PopulationReport`, which has its lineage.

    Args:
        training: a `Training`, or a class of such, or the import path of either.
        metric: see `DurableTeleprompter`, also for what is not listed here. Not needed if ``training`` has a ``score``.
        population: how many members there are.
        intervals: how often they are trained.
        rule: a `PopulationRule`, or a table of what differs from the default.
        at_once: how many members are trained at a time; None for all.
        lane_patience: seconds that a member waits for what is away until it is lost; None if all wait, as long as
            ``patience`` says.
        options: for `DurableTeleprompter`.

    Raises:
        BadOption: an option makes no sense.
    """

    report_kind = PopulationReport

    def __init__(
        self,
        training: Training | type | str,
        *,
        metric: Callable[..., Any] | None = None,
        population: int = 10,
        intervals: int = 10,
        rule: PopulationRule | Mapping[str, Any] | None = None,
        at_once: int | None = None,
        lane_patience: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(metric=metric, **options)
        self.training = _training(training)
        self.space = _space(self.training.variables)
        if metric is None and not _scores(self.training):
            raise BadOption("PopulationBasedTraining: metric", None, "give one, or a training with a score")
        self.population = whole("PopulationBasedTraining: population", population)
        self.intervals = whole("PopulationBasedTraining: intervals", intervals)
        self.rule = _rule(rule)
        self.at_once = None if at_once is None else whole("PopulationBasedTraining: at_once", at_once)
        self.lane_patience = (
            None if lane_patience is None else above_zero("PopulationBasedTraining: lane_patience", lane_patience)
        )

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that decide what comes out; more intervals go on from where fewer have ended."""
        return {
            "training": parameter(self.training),
            "population": self.population,
            "rule": msgspec.json.decode(msgspec.json.encode(self.rule)),
        }

    def actors(self, run: OptimisationRun) -> list[ChildSpec]:
        """Return those that train members, and the one that shows how far it is."""
        run.state = None
        return [self._pool(run).spec(), ChildSpec("population", PopulationView, (run,))]

    def _pool(self, run: OptimisationRun) -> TrainerPool:
        return TrainerPool(run.runtime, f"{run.name}.members", min(self.population, self.at_once or self.population))

    async def search(self, run: OptimisationRun, student: Any, trainset: list[Any], seed: int, **data: Any) -> Any:
        """Return the best program. ``valset`` is what is scored on, ``testset`` what comes back is.

        Raises:
            EveryMemberFailed: no member has a score.
        """
        with run.settings():
            made = Population(self, run, student, trainset, list(data.get("valset") or trainset), seed)
            run.state = made
            return run.original_program(await made.best(data.get("testset") or ()))


def _training(given: Any) -> Any:
    found = named("PopulationBasedTraining: training", given)
    if isinstance(found, type):
        found = found()
    missing = [name for name in ("begin", "train", "program") if not callable(getattr(found, name, None))]
    if missing or getattr(found, "variables", None) is None:
        lacks = ", ".join([*missing, *(["variables"] if getattr(found, "variables", None) is None else [])])
        raise BadOption("PopulationBasedTraining: training", given, f"it lacks {lacks}; see dspex.search.Training")
    return found


def _scores(training: Any) -> bool:
    return callable(getattr(training, "score", None))


def _space(given: Any) -> Space:
    try:
        return given if isinstance(given, Space) else Space(given)
    except (TypeError, AttributeError) as error:
        raise BadOption("PopulationBasedTraining: variables", given, "give variables, or a Space of them") from error


def _rule(given: Any) -> PopulationRule:
    if given is None or isinstance(given, PopulationRule):
        return given or PopulationRule()
    try:
        return msgspec.convert(given, PopulationRule)
    except msgspec.ValidationError as error:
        remedy = f"give a PopulationRule, or a table with quantile, resample, factors; {error}"
        raise BadOption("PopulationBasedTraining: rule", given, remedy) from error


class _Place(msgspec.Struct):
    """Where a member is: its last checkpoint, and its settings."""

    checkpoint: str
    settings: dict[str, Any]


class Population:
    """The members of one run.

    Args:
        of: the teleprompter.
        run: keeps what was done.
        student: the program.
        trainset: to train on.
        valset: to score on.
        seed: of all chance.
    """

    def __init__(
        self,
        of: PopulationBasedTraining,
        run: OptimisationRun,
        student: Any,
        trainset: Sequence[Any],
        valset: Sequence[Any],
        seed: int,
    ) -> None:
        self._of, self._run, self._student, self._seed = of, run, student, seed
        self._examples = {"train": trainset, "score": valset}
        self._pool = of._pool(run)
        self._lanes = [Lane(run, of.lane_patience) for _ in range(of.population)]
        self._places = [_Place(f"0/{member}", self._first(member)) for member in range(of.population)]
        self._interval = 0
        #: What was away when a member was lost.
        self._away: OptimisationError | None = None
        assert isinstance(run.report, PopulationReport)
        self._report = run.report
        self._counts = PopulationCounts.of(run.runtime)

    def _chance(self, what: str, interval: int, member: int) -> Random:
        return Random(f"{self._seed}/population/{what}/{interval}/{member}")

    def _first(self, member: int) -> dict[str, Any]:
        space = self._of.space
        return space.chosen(space.draw(self._chance("first", 0, member)) if member else space.defaults)

    # -- the intervals -------------------------------------------------------------------------------------------------

    async def best(self, testset: Sequence[Any]) -> Any:
        """Train the population, and return the program of its best state."""
        for interval in range(1, self._of.intervals + 1):
            self._interval = interval
            await self._one_interval(interval)
            self._run.progress.share(interval / self._of.intervals)
        winner = self._report.winner
        assert winner is not None  # some member has a score in each interval
        program = await self._program(self._run, winner.checkpoint, f"made/{winner.checkpoint}")
        if testset:
            outcomes = await self._run.rollouts(
                [RolloutJob(f"test/{winner.checkpoint}/{n}", program, one) for n, one in enumerate(testset)]
            )
            self._report.test = mean_score(outcomes)
        program.configuration = dict(winner.settings)
        return program

    async def _one_interval(self, interval: int) -> None:
        known = self._run.known(f"interval/{interval}")
        lost: dict[str, str] = {} if known is None else known["lost"]
        members = [member for member in range(self._of.population) if str(member) not in lost]
        steps = await self._run.gather([self._pool.train(self, interval, member) for member in members])
        if known is None:
            known = await self._run.once(f"interval/{interval}", lambda: self._settled(interval, steps))
        gone = [
            MemberStep(interval, int(member), *self._place(int(member)), "lost", why=why)
            for member, why in lost.items()
        ]
        self._note(interval, sorted([*steps, *gone], key=lambda step: step.member))
        self._go_on(interval, steps, known)

    def _place(self, member: int) -> tuple[str, dict[str, Any]]:
        return self._places[member].checkpoint, dict(self._places[member].settings)

    async def _settled(self, interval: int, steps: Sequence[MemberStep]) -> dict[str, Any]:
        """Return who was lost, who copies from whom, and with which settings these go on; it is written at once."""
        scores = {step.member: -inf if step.score is None else step.score for step in steps if step.outcome != "lost"}
        if all(score == -inf for score in scores.values()):
            if len(scores) < len(steps) and self._away is not None:
                raise self._away  # nobody is there; what was away may come back
            raise EveryMemberFailed(interval, len(steps), steps[0].why)
        copies = self._of.rule.copies(scores, self._chance("copy", interval, 0))
        settings = {}
        for member, source in copies.items():
            chance = self._chance("explore", interval, member)
            settings[str(member)] = self._of.rule.explored(self._of.space, self._places[source].settings, chance)
        return {
            "lost": {str(step.member): step.why for step in steps if step.outcome == "lost"},
            "copies": {str(member): source for member, source in copies.items()},
            "settings": settings,
        }

    def _note(self, interval: int, steps: Sequence[MemberStep]) -> None:
        """Tell what came of members."""
        report, name = self._report, self._report.optimiser
        for step in steps:
            report.steps.append(step)
            self._counts.members[step.outcome] += 1
            if step.outcome == "lost":
                self._run.runtime.events.emit(
                    PopulationMemberLost, optimiser=name, interval=interval, member=step.member, why=step.why
                )
                continue
            best = report.winner
            if step.score is not None and (best is None or best.score is None or step.score >= best.score):
                best = report.winner = self._better(best, step)
            outcome = RolloutOutcome(None, step.score or 0.0, failure=step.why or None)
            told = {"interval": interval, "member": step.member, "settings": dict(step.settings)}
            highest = 0.0 if best is None or best.score is None else best.score
            self._run.scored(len(report.trials), [outcome], best=highest, **told)

    @staticmethod
    def _better(best: MemberStep | None, step: MemberStep) -> MemberStep:
        """Return the better of two steps, of which the second is no worse: of equal ones the later interval."""
        same = best is not None and best.score == step.score and best.interval == step.interval
        return best if best is not None and same else step

    def _go_on(self, interval: int, steps: Sequence[MemberStep], known: Mapping[str, Any]) -> None:
        """Move the members to where they go on: checkpoint first, then settings."""
        trained = {step.member: step.checkpoint for step in steps if step.outcome == "trained"}
        for member, checkpoint in trained.items():
            self._places[member].checkpoint = checkpoint
        for member, source in known["copies"].items():
            place, settings = self._places[int(member)], known["settings"][member]
            place.checkpoint = trained[source]
            place.settings = dict(settings)
            self._report.copies += 1
            self._counts.members["copied"] += 1
            self._run.runtime.events.emit(
                PopulationMemberCopied,
                optimiser=self._report.optimiser,
                interval=interval,
                member=int(member),
                source=source,
                settings=settings,
            )

    # -- one member ----------------------------------------------------------------------------------------------------

    async def take(self, interval: int, member: int) -> MemberStep:
        """Train a member for an interval, and score it."""
        began, settings = self._place(member)
        step = MemberStep(interval, member, began, settings, "trained")
        lane, run = self._lanes[member], None
        try:
            run = lane.run
            with dspy.context(lm=run.durable(self._run.original(dspy.settings.lm))):
                return await self._took(run, step)
        except (ModelUnavailable, ModelRefused) as error:
            if run is not None and not lane.lost(run, error):
                raise
            self._away = error
            return msgspec.structs.replace(step, outcome="lost", why=str(error))

    async def _took(self, run: OptimisationRun, step: MemberStep) -> MemberStep:
        if step.began == f"0/{step.member}":
            await self._done(run, "begin", f"train/{step.began}", step)
        found = await self._done(run, "train", f"train/{step.checkpoint}", step)
        if found["failure"] is None:
            found = await self._scored(run, step)
        if found["failure"] is None:
            return msgspec.structs.replace(step, score=found["value"])
        return msgspec.structs.replace(step, outcome="failed", why=found["failure"])

    async def _scored(self, run: OptimisationRun, step: MemberStep) -> dict[str, Any]:
        """Return the score of what was trained, or why it has none."""
        if _scores(self._of.training):
            return await self._done(run, "score", f"score/{step.checkpoint}", step)
        key = f"score/{step.checkpoint}"
        try:
            program = await self._program(run, step.checkpoint, key)
        except OptimisationError:
            raise
        except Exception as error:
            return {"value": None, "failure": f"program: {type(error).__name__}: {error}"}
        valset = self._examples["score"]
        outcomes = await run.rollouts(
            [RolloutJob(f"{key}/{n}", program, one) for n, one in enumerate(valset)], check=False
        )
        failures = [outcome.failure for outcome in outcomes if outcome.failure is not None]
        if len(failures) == len(outcomes):
            return {"value": None, "failure": failures[0]}
        return {"value": mean_score(outcomes), "failure": None}

    async def _done(self, run: OptimisationRun, what: str, key: str, of: MemberStep) -> dict[str, Any]:
        """Have something done once: what came of it is a value, or a failure of its own."""

        async def work() -> dict[str, Any]:
            try:
                return {"value": await self._called(run, what, key, of), "failure": None}
            except OptimisationError:
                raise
            except Exception as error:
                return {"value": None, "failure": f"{what}: {type(error).__name__}: {error}"}

        found: dict[str, Any] = await run.once(key, work)
        return found

    async def _called(self, run: OptimisationRun, what: str, key: str, of: MemberStep) -> Any:
        method = getattr(self._of.training, what)
        interval = 0 if what == "begin" else of.interval

        def arguments() -> list[Any]:
            """All of them new: whoever does it again may have changed them."""
            step = TrainingStep(
                self._of.space.complete(of.settings),
                self._examples["score" if what == "score" else "train"],
                self._chance(what, interval, of.member),
                interval,
                of.member,
                run.durable_program(self._student),
            )
            known = {"begin": None, "train": of.began, "score": of.checkpoint}[what]
            return [step] if known is None else [self._state(known), step]

        found = await self._asked(run, key, method, arguments)
        return plain_score(found) if what == "score" else _kept(found)

    async def _asked(
        self, run: OptimisationRun, key: str, method: Callable[..., Any], arguments: Callable[[], list[Any]]
    ) -> Any:
        """Call a method, as often as it takes until nothing that it needs is away."""

        def called() -> Any:
            with _own_failure():
                return method(*arguments())

        async def once() -> Any:
            if inspect.iscoroutinefunction(method):
                with call_scope(key), _own_failure():
                    return await method(*arguments())
            return await run.run_in_thread(key, called)

        return await run.guard.attempt(once)

    def _state(self, checkpoint: str) -> Any:
        found = self._run.known(f"train/{checkpoint}")
        if found["failure"] is not None:
            raise RuntimeError(found["failure"])
        return copy.deepcopy(found["value"])

    async def _program(self, run: OptimisationRun, checkpoint: str, key: str) -> Any:
        """Return the student with a state in it."""
        arguments = lambda: [run.durable_program(self._student), self._state(checkpoint)]  # noqa: E731
        found = await self._asked(run, key, self._of.training.program, arguments)
        if not isinstance(found, dspy.Module):
            raise TypeError(f"it is {describe(found)}, and no dspy.Module; return the student, or another one")
        return found

    def summary(self) -> dict[str, object]:
        """Return how far it is, for ``/tree``."""
        report, left = self._report, self._run.progress.left
        best = report.winner
        return {
            "interval": f"{self._interval} of {self._of.intervals}",
            "members": self._of.population,
            "copies": report.copies,
            "best": "" if best is None else f"{best.score:.3f}, {best.checkpoint}",
            "calls": self._run.totals.calls,
            "dollars": round(self._run.totals.dollars, 4),
            "seconds_left": "" if left is None else round(left),
        }


@contextmanager
def _own_failure() -> Generator[None]:
    """Make an error of what would end more than who raises it."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, (Exception, OptimisationOver)) or is_order(error):
            raise
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def _kept(state: Any) -> Any:
    """Return a state as it is read from the journal.

    Raises:
        ValueError: it cannot be kept.
    """
    try:
        return msgspec.json.decode(msgspec.json.encode(state))
    except Exception as error:
        raise ValueError(
            f"this is no plain data, and cannot be kept; of an array, give its tolist(): {error}"
        ) from error


class TrainMember(Request[MemberStep], frozen=True):
    """Train a member for an interval, for a caller in a context."""

    of: Population
    interval: int
    member: int
    context: Context


class Trainer(Actor):
    """Trains one member after another. What it had done when it dies is known to the next one."""

    def __init__(self) -> None:
        self._busy: TrainMember | None = None

    @handle
    async def train(self, request: TrainMember) -> MemberStep:
        """Train a member."""
        self._busy = request
        try:
            context = adopt_context(request.context)
            return await start_in(context, request.of.take(request.interval, request.member))
        except Exception as error:
            raise Refuse(error) from None
        finally:
            self._busy = None

    def summary(self) -> Mapping[str, object]:
        """Return whom it trains, for ``/tree``."""
        busy = self._busy
        return {} if busy is None else {"member": busy.member, "interval": busy.interval}


class TrainerPool(WorkerPool):
    """Supervised trainers. A member whose trainer dies is trained by the next one."""

    def spec(self) -> ChildSpec:
        """Return the specification of their supervisor."""
        return self.workers(Trainer)

    async def train(self, of: Population, interval: int, member: int) -> MemberStep:
        """Have a member trained, as soon as a trainer is idle."""
        told = lambda why: self._runtime.events.emit(WorkerLost, job=f"{interval}/{member}", why=why)  # noqa: E731
        return await self.ask(TrainMember(of, interval, member, copy_context()), told)


class PopulationView(Actor):
    """Shows how far a population is, for ``/tree``.

    Args:
        run: the run.
    """

    def __init__(self, run: OptimisationRun) -> None:
        self._run = run

    def summary(self) -> Mapping[str, object]:
        """Return it."""
        made = self._run.state
        return {} if made is None else made.summary()
