"""Explorers: actors that look at hypotheses, and what they look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from dspex._tasks import adopt_context, start_in
from dspex.search.hypothesis import Hypothesis, ModelsApart
from dspex.search.rules import Elimination, mean
from dspex.teleprompt.errors import ModelRefused, ModelUnavailable
from dspex.teleprompt.events import WorkerLost
from dspex.teleprompt.rollouts import MetricGuard, RolloutJob, RolloutOutcome
from dspex.workflow.workers import WorkerPool
from supervision import Actor, ChildSpec, Refuse, Request, handle

if TYPE_CHECKING:
    from dspex.teleprompt.run import OptimisationRun


class Entrant:
    """A hypothesis that races, and what is known of it.

    Args:
        number: of the hypothesis.
        hypothesis: itself.
        program: its program.
        key: tells it from others, and is the same when the race is repeated.
        lane: whoever asks the same language models.
    """

    def __init__(self, number: int, hypothesis: Hypothesis, program: ModelsApart, key: str, lane: Lane) -> None:
        self.number, self.hypothesis, self.program, self.key, self.lane = number, hypothesis, program, key, lane
        self.outcomes: dict[int, RolloutOutcome] = {}
        #: How it was dropped; None if it was not.
        self.dropped: Elimination | None = None
        #: Why its last runs were lost; None if they were not.
        self.suspended: str | None = None

    @property
    def scores(self) -> list[float]:
        """Its scores, in the order of the items."""
        return [self.outcomes[position].score for position in range(len(self.outcomes))]

    @property
    def score(self) -> float:
        """The mean of these; 0 of none."""
        return mean(self.scores)


class Lane:
    """Those that ask the same language models: an outage of these is theirs alone.

    Args:
        run: the whole race.
        patience: seconds that it waits for them before the race goes on without; None for a lane in which the whole
            race waits.
    """

    def __init__(self, run: OptimisationRun, patience: float | None) -> None:
        self._whole, self._patience = run, patience
        self._run: OptimisationRun | None = run if patience is None else None
        self._refused: ModelRefused | None = None

    @property
    def run(self) -> OptimisationRun:
        """What makes its rollouts.

        Raises:
            ModelRefused: its language model is not to be had.
        """
        if self._refused is not None:
            raise self._refused
        if self._run is None:
            self._run = self._whole.part(self._patience)
        return self._run

    def lost(self, run: OptimisationRun, error: ModelUnavailable | ModelRefused) -> bool:
        """Take that its language model was away for too long; return whether the race can go on without it."""
        if self._patience is None or type(error) not in (ModelUnavailable, ModelRefused):
            return False
        if isinstance(error, ModelRefused):
            self._refused = error
        elif self._run is run:
            # It was waited for once. From now on it is asked, and, if it is still away, not waited for.
            self._run, self._patience = None, 0.0
        return True


class RaceView:
    """How the hypotheses of a race are looked at: as they are, and by the metric of the race.

    Args:
        name: tells the scores from those of other views; empty for none.
        shown: returns the program that is run for a hypothesis.
        metric: says what it is worth; None for that of the race.
        details: are told with each trial.
    """

    def __init__(
        self,
        name: str = "",
        shown: Callable[[Any], Any] = lambda program: program,
        metric: MetricGuard | None = None,
        **details: Any,
    ) -> None:
        self.name, self.shown, self.metric, self.details = name, shown, metric, details


class RaceField:
    """All that race, and the items on which they are looked at.

    Args:
        run: the race.
        entrants: the student first.
        examples: all, of which some are items.
        items: the numbers of these, in their order.
        paid: returns the language model that is asked instead of another.
        view: how they are looked at.
    """

    def __init__(
        self,
        run: OptimisationRun,
        entrants: Sequence[Entrant],
        examples: Sequence[Any],
        items: Sequence[int],
        paid: Any,
        view: RaceView,
    ) -> None:
        self._run, self.entrants, self.items = run, entrants, items
        self._examples, self._paid, self._view = examples, paid, view

    async def look(self, which: int, items: int) -> bool:
        """Score a hypothesis on the first items, as far as it is not known; return whether that was possible."""
        one = self.entrants[which]
        missing = [position for position in range(items) if position not in one.outcomes]
        wanted = {position: self._examples[self.items[position]] for position in missing}
        keys = {position: f"{one.key}/{self.items[position]}" for position in missing}
        made = await self.rollouts(one, [(keys[position], wanted[position]) for position in missing])
        if made is not None:
            one.outcomes.update(zip(missing, made, strict=True))
        return made is not None

    async def rollouts(self, one: Entrant, wanted: Sequence[tuple[str, Any]]) -> list[RolloutOutcome] | None:
        """Run a hypothesis on examples, each with a key; return the outcomes, or None if its language model is away."""
        run: OptimisationRun | None = None
        try:
            run = one.lane.run
            program = self._view.shown(one.program.copy(partial(self._model, run)))
            jobs = [RolloutJob(key, program, example, metric=self._view.metric) for key, example in wanted]
            outcomes = await run.rollouts(jobs, check=False)
        except (ModelUnavailable, ModelRefused) as error:
            if run is not None and not one.lane.lost(run, error):
                raise
            one.suspended = str(error)
            return None
        one.suspended = None
        return [msgspec.structs.replace(outcome, prediction=None, trace=[]) for outcome in outcomes]

    def _model(self, run: OptimisationRun, lm: Any) -> Any:
        return run.durable(self._paid(lm))


class Explore(Request[bool], frozen=True):
    """Look at a hypothesis on the first so many items, for a caller in a context; return whether that was possible."""

    field: RaceField
    which: int
    items: int
    context: Context


class Explorer(Actor):
    """Looks at one hypothesis after another. What it had made when it dies is known to the next one."""

    def __init__(self) -> None:
        self._busy: Explore | None = None

    @handle
    async def explore(self, request: Explore) -> bool:
        """Look at a hypothesis."""
        self._busy = request
        try:
            context = adopt_context(request.context)
            return await start_in(context, request.field.look(request.which, request.items))
        except Exception as error:
            raise Refuse(error) from None
        finally:
            self._busy = None

    def summary(self) -> Mapping[str, object]:
        """Return what it looks at, for ``/tree``."""
        if self._busy is None:
            return {}
        looked = self._busy.field.entrants[self._busy.which]
        return {"hypothesis": looked.hypothesis.name, "items": self._busy.items}


class ExplorerPool(WorkerPool):
    """Supervised explorers. A look whose explorer dies is made by the next one."""

    def spec(self) -> ChildSpec:
        """Return the specification of their supervisor."""
        return self.workers(Explorer)

    async def look(self, field: RaceField, which: int, items: int) -> bool:
        """Have a hypothesis looked at, as soon as an explorer is idle."""
        name = field.entrants[which].hypothesis.name
        request = Explore(field, which, items, copy_context())
        return await self.ask(request, lambda why: self._runtime.events.emit(WorkerLost, job=name, why=why))
