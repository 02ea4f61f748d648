"""DSPy's own optimisers, small, and a program for them whose course a test decides."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy

from dspex.testing.engine import ScriptedEngine, exact, scripted_lm, task

EXAMPLES, LABELS = task(20)
FEW: dict[str, Any] = {"max_bootstrapped_demos": 2, "max_labeled_demos": 2}
#: What an optimiser is compiled with besides.
DATA: dict[str, dict[str, Any]] = {
    "MIPROv2": {"num_trials": 3, "minibatch_size": 8},
    "GEPA": {"valset": EXAMPLES[:8]},
    "COPRO": {"eval_kwargs": {"num_threads": 4}},
    "BetterTogether": {"strategy": "p -> c", "valset_ratio": 0.4, "seed": 0},
}


def feedback(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
    """A metric that says why."""
    return dspy.Prediction(score=exact(gold, pred), feedback=f"It is {gold.label}.")


def random_search(metric: Any, **options: Any) -> Any:
    """A random search."""
    return dspy.BootstrapFewShotWithRandomSearch(metric=metric, num_candidate_programs=1, **FEW, **options)


OPTIMISERS: dict[str, Callable[[Any, Any, dict[str, Any]], Any]] = {
    "BootstrapFewShot": lambda metric, lm, more: dspy.BootstrapFewShot(metric=metric, **FEW, **more),
    "BootstrapFewShotWithRandomSearch": lambda metric, lm, more: random_search(metric, **more),
    "MIPROv2": lambda metric, lm, more: dspy.MIPROv2(
        metric=metric, prompt_model=lm, task_model=lm, auto=None, num_candidates=2, **FEW, **more
    ),
    "GEPA": lambda metric, lm, more: dspy.GEPA(
        metric=feedback if metric is exact else metric, max_metric_calls=40, reflection_lm=lm, track_stats=True
    ),
    "COPRO": lambda metric, lm, more: dspy.COPRO(metric=metric, prompt_model=lm, breadth=2, depth=1),
    "SIMBA": lambda metric, lm, more: dspy.SIMBA(metric=metric, bsize=8, num_candidates=2, max_steps=1),
    "BetterTogether": lambda metric, lm, more: dspy.BetterTogether(
        metric=metric, p=random_search(metric, **more), c=dspy.COPRO(metric=metric, breadth=2, depth=1)
    ),
}


def model(**options: Any) -> tuple[Any, ScriptedEngine]:
    """A language model that advice and demonstrations make better, and its engine."""
    engine = ScriptedEngine(LABELS, demo=0.1, advice=0.1, **options)
    return scripted_lm(engine), engine


class Asks(dspy.Module):
    """Asks, after it has reached for something of its own; sync only, as DSPy's optimisers are."""

    def __init__(self, reach: Callable[[str], object] = str) -> None:
        super().__init__()
        self.ask = dspy.Predict("text -> label")
        self.reach = reach

    def forward(self, text: str) -> Any:
        """Ask."""
        self.reach(text)
        return self.ask(text=text)


def student(name: str, lm: Any, program: Any = None) -> Any:
    """A student for an optimiser: one of them wants it to have its own language model."""
    program = program or dspy.Predict("text -> label")
    if name == "BetterTogether":
        program.set_lm(lm)
    return program


def compiled(name: str, teleprompter: Any, program: Any) -> Any:
    """What an optimiser makes of a program."""
    return teleprompter.compile(program, trainset=EXAMPLES, **DATA.get(name, {}))


def state(program: Any) -> Any:
    """What is compared of a program."""
    return [(path, predictor.signature.instructions, predictor.demos) for path, predictor in program.named_predictors()]
