"""Any teleprompter of DSPy, made durable: its runs are made by workers, answers are kept, outages are waited for."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import dspy

from dspex._compat import ItemOutcome, taken_over
from dspex.teleprompt.identity import teleprompter_parameters
from dspex.teleprompt.rollouts import RolloutOutcome
from dspex.teleprompt.run import OptimisationRun
from dspex.teleprompt.teleprompter import DurableTeleprompter
from supervision.errors import BadOption


class Durable(DurableTeleprompter):
    """Compiles with a teleprompter of DSPy, which stays what it is: ``BootstrapFewShot``, ``MIPROv2``, ``GEPA``, any.

    What it tries on examples is made by supervised workers, side by side, and so are the examples that it bootstraps
    from: the result is that of one after the other. It never sees a language model that is unavailable, whoever asks
    it: it waits. After a crash it is begun again, and has every finished answer from the journal: the same seed and the
    same answers lead it to where it was, without paying for them again.

    Its ``num_threads``, and a ``log_dir`` of ``GEPA``'s own, are not used.

    Args:
        teleprompter: of DSPy.
        options: for `DurableTeleprompter`, but for ``metric``, which is the teleprompter's.

    Raises:
        BadOption: it is no teleprompter.
    """

    def __init__(self, teleprompter: Any, **options: Any) -> None:
        if not isinstance(teleprompter, dspy.teleprompt.Teleprompter):
            raise BadOption("teleprompter", teleprompter, "give one of DSPy's, made: Durable(dspy.MIPROv2(metric=…))")
        metric = getattr(teleprompter, "metric", None) or getattr(teleprompter, "metric_fn", None)
        super().__init__(metric=metric, **options)
        self._teleprompter = teleprompter
        given = inspect.signature(teleprompter.compile).parameters.values()
        if not any(one.kind is one.VAR_KEYWORD for one in given):
            self.takes = tuple(one.name for one in given if one.name not in ("student", "trainset", "seed"))

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that decide what comes out."""
        own = {f"of.{name}": value for name, value in teleprompter_parameters(self._teleprompter).items()}
        own.pop("of.metric", None)
        return {"of": type(self._teleprompter).__name__, **own}

    async def search(self, run: OptimisationRun, student: Any, trainset: list[Any], seed: int, **data: Any) -> Any:
        """Return what the teleprompter compiles."""
        run.guard.on_scored, run.guard.judged = partial(_note, run), self.metric is not None
        with run.settings():
            own = self._durable(run, self._teleprompter)
            given = {name: self._durable(run, value) for name, value in {"student": student, **data}.items()}
            if "seed" in inspect.signature(own.compile).parameters:
                given["seed"] = seed
            program = given.pop("student")

            def compiled() -> Any:
                with taken_over(run.guard):
                    return own.compile(program, trainset=trainset, **given)

            found = await run.run_in_thread("compile", compiled)
        run.guard.check()
        return _restored(run, found)

    def _durable(self, run: OptimisationRun, value: Any) -> Any:
        """Return a value in which language models are durable, programs guarded, and metrics checked."""
        if isinstance(value, dspy.BaseLM):
            return run.durable(value)
        if isinstance(value, dspy.Module):
            return run.guarded(value)
        if isinstance(value, dspy.teleprompt.Teleprompter):
            return self._durable_teleprompter(run, value)
        if type(value) is dict:
            return {key: self._durable(run, one) for key, one in value.items()}
        if type(value) is list and any(isinstance(one, dspy.Module) for one in value):
            return [self._durable(run, one) for one in value]
        return value

    def _durable_teleprompter(self, run: OptimisationRun, teleprompter: Any) -> Any:
        own = copy.copy(teleprompter)
        for name, value in vars(teleprompter).items():
            if name in ("metric", "metric_fn"):
                setattr(own, name, self.guarded_metric(run, value))
            else:
                setattr(own, name, self._durable(run, value))
        gepa: Any = dspy.GEPA
        if isinstance(own, gepa):
            own.log_dir = None  # what it keeps there is a second memory, and another one
        return own


def _note(run: OptimisationRun, outcomes: Sequence[ItemOutcome]) -> None:
    """Note the score of a program that was tried on examples."""
    found = [RolloutOutcome(None, _score(outcome), failure=_failure(outcome)) for outcome in outcomes]
    run.scored(run.guard.tried, found)


def _score(outcome: ItemOutcome) -> float:
    said = 0.0 if outcome.value is None else outcome.value[-1]
    return float(getattr(said, "score", said))


def _failure(outcome: ItemOutcome) -> str | None:
    return outcome.failure if outcome.error is None else f"{type(outcome.error).__name__}: {outcome.error}"


def _restored(run: OptimisationRun, found: Any) -> Any:
    """Give a compiled program, and those that are noted in it, their own language models back."""
    best = run.original_program(found)
    for name, value in list(vars(best).items()):
        if name in _NOTED:
            setattr(best, name, _restored_inside(run, value))
    return best


#: Where DSPy's optimisers note the programs that they have tried.
_NOTED = ("candidate_programs", "mb_candidate_programs", "trial_logs", "detailed_results")


def _restored_inside(run: OptimisationRun, value: Any) -> Any:
    if isinstance(value, dspy.Module):
        return run.original_program(value)
    if isinstance(value, Mapping):
        return {key: _restored_inside(run, one) for key, one in value.items()}
    if isinstance(value, list):
        return [_restored_inside(run, one) for one in value]
    if isinstance(getattr(value, "candidates", None), list):  # GEPA's results are frozen
        value.candidates[:] = _restored_inside(run, value.candidates)
    return value
