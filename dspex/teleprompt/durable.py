"""Any teleprompter of DSPy, made durable: what it asks of language models is kept, and outages are waited for."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import dspy

from dspex.teleprompt.run import OptimisationRun
from dspex.teleprompt.teleprompter import DurableTeleprompter


class Durable(DurableTeleprompter):
    """Compiles with a teleprompter of DSPy, which stays what it is: ``BootstrapFewShot``, ``MIPROv2``, ``GEPA``, any.

    It never sees a language model that is unavailable. After a crash it is begun again, and has every finished answer
    from the journal: the same seed and the same answers lead it to where it was, without paying for them again. Its
    rollouts run in its own threads; those of `dspex.teleprompt.SIMBA` and ``BEACON`` are made by supervised workers.

    Args:
        teleprompter: of DSPy.
        options: for `DurableTeleprompter`: ``log_dir``, ``patience``, ``display_progress``, ``runtime``.
    """

    def __init__(self, teleprompter: Any, **options: Any) -> None:
        super().__init__(metric=getattr(teleprompter, "metric", None), num_threads=1, **options)
        self._teleprompter = teleprompter

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that decide what comes out, as far as they are plain."""
        plain = (str, int, float, bool, type(None))
        own = {name: value for name, value in vars(self._teleprompter).items() if isinstance(value, plain)}
        return {"of": type(self._teleprompter).__name__, **{f"of.{name}": value for name, value in own.items()}}

    async def search(self, run: OptimisationRun, student: Any, trainset: list[Any], seed: int, **data: Any) -> Any:
        """Return what the teleprompter compiles."""
        with run.settings():
            own = _with_durable_models(run, self._teleprompter)
            program = run.durable_program(student)
            given = {
                name: run.durable_program(value) if isinstance(value, dspy.Module) else value
                for name, value in data.items()
            }
            if "seed" in inspect.signature(own.compile).parameters:
                given["seed"] = seed
            found = await run.run_in_thread("compile", lambda: own.compile(program, trainset=trainset, **given))
        return run.original_program(found)


def _with_durable_models(run: OptimisationRun, teleprompter: Any) -> Any:
    """Return a copy of a teleprompter whose own language models are durable."""
    own = copy.copy(teleprompter)
    for name, value in vars(teleprompter).items():
        if isinstance(value, dspy.BaseLM):
            setattr(own, name, run.durable(value))
        elif isinstance(value, dict) and isinstance(value.get("lm"), dspy.BaseLM):
            setattr(own, name, {**value, "lm": run.durable(value["lm"])})
    return own
