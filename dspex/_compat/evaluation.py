"""How DSPy's optimisers try programs on examples, taken over where somebody else makes these runs, and only there.

``dspy.Evaluate`` and ``dspy.Parallel`` run their items in threads of their own (`ParallelExecutor`), and
``BootstrapFewShot`` one example after the other. Within `taken_over`, both hand their items to a `Runs`, and keep the
rest: what they ask, in which order they look at the results, and what they make of them.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

import dspy
from dspy.teleprompt.bootstrap import BootstrapFewShot
from dspy.utils.callback import BaseCallback
from dspy.utils.callback_context import _bind_active_call_id
from dspy.utils.parallelizer import ParallelExecutor

from dspex._compat.language_models import is_away, is_refused


class ItemOutcome(NamedTuple):
    """What became of an item: a value, or an error; and why its score is none, if that is known."""

    value: Any
    error: Exception | None = None
    failure: str | None = None


class Runs(Protocol):
    """Makes the runs of an optimiser."""

    def run_all(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[ItemOutcome]:
        """Call a function with each item, side by side, and return what became of each, in their order."""
        ...

    def scored(self, outcomes: Sequence[ItemOutcome]) -> None:
        """Called when a program was tried on examples: a value's last part is the score."""
        ...


_runs: ContextVar[Runs | None] = ContextVar("dspex.runs", default=None)


@contextmanager
def taken_over(runs: Runs | None) -> Generator[None]:
    """Have somebody make the runs of optimisers that are called within; None for DSPy itself."""
    token = _runs.set(runs)
    try:
        yield
    finally:
        _runs.reset(token)


_execute = ParallelExecutor.execute
_bootstrap = BootstrapFewShot._bootstrap


def _executed(self: Any, function: Callable[[Any], Any], data: Any) -> list[Any]:
    runs = _runs.get()
    if runs is None:
        return _execute(self, function, data)  # type: ignore[no-any-return]
    outcomes = runs.run_all(_bind_active_call_id(function), list(data))
    errors = {number: outcome.error for number, outcome in enumerate(outcomes) if outcome.error is not None}
    self.failed_indices, self.exceptions_map = list(errors), errors
    self.error_count = len(errors)
    if errors and self.error_count >= self.max_errors:
        first = next(iter(errors.values()))
        raise RuntimeError(f"{self.error_count} of {len(outcomes)} have failed, the first with {first!r}") from first
    if self.compare_results:
        runs.scored(outcomes)
    return [outcome.value for outcome in outcomes]


def _bootstrapped(self: Any, *, max_bootstraps: int | None = None) -> None:
    runs = _runs.get()
    if runs is None:
        _bootstrap(self, max_bootstraps=max_bootstraps)
        return
    wanted = max_bootstraps or self.max_bootstrapped_demos
    self.name2traces = {name: [] for name in self.name2predictor}
    found: set[int] = set()
    left = list(enumerate(self.trainset))
    # As many as are still wanted have to be tried in any case: nothing is asked that DSPy would not ask.
    while left and len(found) < wanted:
        now, left = left[: wanted - len(found)], left[wanted - len(found) :]
        outcomes = runs.run_all(lambda pair: _attempts(self, pair[1]), now)
        for (number, _), outcome in zip(now, outcomes, strict=True):
            traces, errors = outcome.value
            _count(self, errors)
            if traces is not None:
                found.add(number)
                for name, demos in traces.items():
                    self.name2traces[name].extend(demos)
    self.validation = [example for number, example in enumerate(self.trainset) if number not in found]
    random.Random(0).shuffle(self.validation)


def _attempts(self: Any, example: Any) -> tuple[dict[str, list[Any]] | None, list[Exception]]:
    """Try an example as DSPy does, on a teacher of its own; return its demonstrations, if it is good, and errors."""
    errors: list[Exception] = []
    for number in range(self.max_rounds):
        one = copy.copy(self)
        one.teacher = self.teacher.deepcopy()
        names = {id(predictor): name for name, predictor in one.teacher.named_predictors()}
        one.predictor2name = {**self.predictor2name, **names}
        one.name2traces = {name: [] for name in self.name2predictor}
        one.error_count, one.max_errors = 0, 1
        try:
            good = one._bootstrap_one_example(example, number)
        except Exception as error:
            errors.append(error)
        else:
            if good:
                return one.name2traces, errors
    return None, errors


def _count(self: Any, errors: Sequence[Exception]) -> None:
    most = self.max_errors if self.max_errors is not None else dspy.settings.max_errors
    for error in errors:
        self.error_count += 1
        if self.error_count >= most:
            raise error


ParallelExecutor.execute = _executed
BootstrapFewShot._bootstrap = _bootstrapped


class ModelWatch(BaseCallback):  # type: ignore[misc]
    """Sees which language models could not be had during a run, also where the program has let that pass."""

    def __init__(self) -> None:
        self.away: BaseException | None = None
        self.refused: BaseException | None = None

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Look at how a call has ended."""
        self.see(exception)

    def see(self, error: BaseException | None) -> None:
        """Look at an error, and at what has led to it."""
        met: set[int] = set()
        while error is not None and id(error) not in met:
            if is_away(error):
                self.away = self.away or error
            if is_refused(error):
                self.refused = self.refused or error
            met.add(id(error))
            error = error.__cause__ or error.__context__


@contextmanager
def watched() -> Generator[ModelWatch]:
    """See which language models cannot be had within."""
    watch = ModelWatch()
    with dspy.context(callbacks=[*dspy.settings.callbacks, watch]):
        yield watch
