"""The optimisers of the suites about optimising: SIMBA and BEACON, and `Durable` around DSPy's own seven.

Each compiles a small program on the same small task, with a model whose answers are known. The program, its metric and
its model can be told to find something away: what is away, from which call on, and for how many.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

SIZE = 24
FEW: dict[str, Any] = {"max_bootstrapped_demos": 2, "max_labeled_demos": 2}
OWN = ("SIMBA", "BEACON")
STOCK = (
    *("BootstrapFewShot", "BootstrapFewShotWithRandomSearch", "MIPROv2", "GEPA", "COPRO", "dspy.SIMBA"),
    "BetterTogether",
)
NAMES = (*OWN, *STOCK)


class Trouble(NamedTuple):
    """What is away: the model, or something that the program or the metric reaches by itself.

    Attributes:
        place: ``model``, ``program``, ``passed`` (a program that lets the error pass) or ``metric``.
        error: makes the error.
        first: the number of the first call that finds it away.
        last: the last one; a large number for one that is gone for good.
    """

    place: str
    error: Callable[[], Exception]
    first: int
    last: int


class World:
    """What an optimisation meets with: counts the calls of each place, and has trouble in one."""

    def __init__(self, trouble: Trouble | None = None, before: Callable[[int], object] | None = None) -> None:
        from dspex.testing.engine import ScriptedEngine, task

        self.trouble, self._before = trouble, before
        self.calls: dict[str, int] = {}
        self.met = 0
        self.examples, labels = task(SIZE)
        self.engine = ScriptedEngine(labels, demo=0.1, advice=0.1, before=self._asked)

    def _asked(self, number: int) -> None:
        if self._before is not None:
            self._before(number)
        self.reach("model")

    def reach(self, place: str) -> None:
        """Count, and find it away."""
        number = self.calls[place] = self.calls.get(place, 0) + 1
        trouble = self.trouble
        if trouble is not None and trouble.place == place and trouble.first <= number <= trouble.last:
            self.met += 1
            raise trouble.error()


class Compiled(NamedTuple):
    """What a compilation has come to."""

    state: str
    calls: int
    calls_by_place: dict[str, int]
    replayed: int


def _program(world: World) -> Any:
    import dspy

    class Reach:
        """Stands for what a program has of its own; the same in all copies of it."""

        def __deepcopy__(self, memo: Any) -> Reach:
            return self

        def __call__(self) -> None:
            world.reach("program")

    class HintEngine:
        """A model of the program's own, which it can do without."""

        def complete(self, request: Any) -> Any:
            from dspex._compat import plain_response

            world.reach("passed")
            return plain_response(request, "a hint")

    hints = dspy.LM("known/hints", engine=HintEngine(), cache=False, num_retries=0)

    class Shop(dspy.Module):  # type: ignore[misc]
        """Reaches for what it has of its own, and asks."""

        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict("text -> label")
            self.reach = Reach()

        def forward(self, text: str) -> Any:
            self.reach()
            try:
                hints(text)
            except dspy.LMError:
                return dspy.Prediction(label="none")
            return self.ask(text=text)

    return Shop()


def compiled(name: str, world: World, *, log_dir: str | None = None, patience: float = 600.0) -> Compiled:
    """Compile with an optimiser."""
    import dspy

    from dspex.testing.engine import scripted_lm

    logging.disable(logging.ERROR)
    lm = scripted_lm(world.engine)
    program = _program(world)
    if name == "BetterTogether":
        program.set_lm(lm)
    options: dict[str, Any] = {"log_dir": log_dir, "patience": patience, "display_progress": False}
    options |= {"metric_id": "exact", "program_id": "shop"}
    with dspy.context(lm=lm), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        teleprompter, data = _teleprompter(name, world, lm, options)
        found = teleprompter.compile(program, trainset=world.examples, seed=0, **data)
    state = [(path, one.signature.instructions, one.demos) for path, one in found.named_predictors()]
    return Compiled(repr(state), world.engine.calls, dict(world.calls), teleprompter.report.replayed)


def _teleprompter(name: str, world: World, lm: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    from dspex.teleprompt import SIMBA, Durable
    from dspex.teleprompt.beacon import BEACON
    from dspex.testing.engine import exact

    def metric(gold: Any, pred: Any, trace: Any = None) -> float:  # noqa: ARG001
        world.reach("metric")
        return exact(gold, pred)

    if name == "SIMBA":
        return SIMBA(metric=metric, bsize=8, num_candidates=2, max_steps=2, **options), {}
    if name == "BEACON":
        return BEACON(metric=metric, num_trials=4, num_candidates=2, prompt_model=lm, **FEW, **options), {}
    stock, data = _stock(name, metric, lm, world)
    return Durable(stock, **options), data


def _stock(name: str, metric: Any, lm: Any, world: World) -> tuple[Any, dict[str, Any]]:
    import dspy

    def feedback(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:  # noqa: ARG001
        return dspy.Prediction(score=metric(gold, pred), feedback=f"It is {gold.label}.")

    more: dict[str, Any] = {"metric": metric, "max_errors": 1000, **FEW}
    search: Callable[[], Any] = lambda: dspy.BootstrapFewShotWithRandomSearch(num_candidate_programs=1, **more)  # noqa: E731
    makers: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
        "BootstrapFewShot": (lambda: dspy.BootstrapFewShot(**more), {}),
        "BootstrapFewShotWithRandomSearch": (search, {}),
        "MIPROv2": (
            lambda: dspy.MIPROv2(prompt_model=lm, task_model=lm, auto=None, num_candidates=2, **more),
            {"num_trials": 3, "minibatch_size": 8},
        ),
        "GEPA": (
            lambda: dspy.GEPA(metric=feedback, max_metric_calls=40, reflection_lm=lm),
            {"valset": world.examples[:8]},
        ),
        "COPRO": (lambda: dspy.COPRO(metric=metric, prompt_model=lm, breadth=2, depth=1), {"eval_kwargs": {}}),
        "dspy.SIMBA": (lambda: dspy.SIMBA(metric=metric, bsize=8, num_candidates=2, max_steps=2), {}),
        "BetterTogether": (
            lambda: dspy.BetterTogether(metric=metric, p=search(), c=dspy.COPRO(metric=metric, breadth=2, depth=1)),
            {"strategy": "p -> c", "valset_ratio": 0.4},
        ),
    }
    make, data = makers[name]
    return make(), data
