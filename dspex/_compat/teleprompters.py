"""Parts of DSPy's teleprompters that ours use."""

from __future__ import annotations

import inspect
import random
from typing import Any

import dspy
from dspy.propose import GroundedProposer
from dspy.teleprompt import LabeledFewShot
from dspy.teleprompt.simba_utils import append_a_demo as append_a_demo
from dspy.teleprompt.simba_utils import append_a_rule as append_a_rule
from dspy.teleprompt.simba_utils import prepare_models_for_resampling as prepare_models_for_resampling
from dspy.teleprompt.utils import create_n_fewshot_demo_sets


def demo_sets(
    program: Any, number: int, trainset: list[Any], limits: tuple[int, int], metric: Any, teacher: Any, seed: int
) -> dict[int, list[Any]]:
    """Return sets of demonstrations for each predictor, by its number.

    Args:
        program: whose predictors they are for.
        number: how many sets.
        trainset: where they come from.
        limits: how many of a set may be examples, and how many the program's own answers.
        metric: says which answers are good enough.
        teacher: settings under which they are made.
        seed: of the choice.
    """
    labelled, bootstrapped = limits
    chance = random.Random(seed)
    if not bootstrapped:
        return _labelled_sets(program, number, trainset, labelled, chance)
    found: dict[int, list[Any]] = create_n_fewshot_demo_sets(
        program, number, trainset, labelled, bootstrapped, _with_trace(metric), teacher, seed=seed, rng=chance
    )
    return {predictor: [demos for demos in sets if demos] for predictor, sets in found.items()}


def _labelled_sets(
    program: Any, number: int, trainset: list[Any], size: int, chance: random.Random
) -> dict[int, list[Any]]:
    """Return sets of examples: what DSPy's own function cannot do, as it would bootstrap at least one of each set."""
    few = LabeledFewShot(k=size)
    made = [
        few.compile(program, trainset=chance.sample(trainset, len(trainset)), sample=False).predictors()
        for _ in range(number)
    ]
    return {number: [predictors[number].demos for predictors in made] for number in range(len(program.predictors()))}


def _with_trace(metric: Any) -> Any:
    """Return a metric that can be given a trace, as DSPy's bootstrapping does, even if it takes none."""
    try:
        inspect.signature(metric).bind(None, None, None)
    except TypeError:
        return lambda example, prediction, _trace=None: metric(example, prediction)
    return metric


def propose_instructions(
    program: Any, trainset: list[Any], prompt_model: Any, demos: Any, number: int, seed: int
) -> dict[str, list[str]]:
    """Return new instructions for each predictor, by its name: written by a language model that is shown the task."""
    chance = random.Random(seed)
    model = prompt_model or dspy.settings.lm
    proposer = GroundedProposer(program=program, trainset=trainset, prompt_model=model, rng=chance)
    found = proposer.propose_instructions_for_program(
        trainset=trainset, program=program, demo_candidates=demos, N=number, trial_logs={}
    )
    return {name: list(dict.fromkeys(found[n])) for n, (name, _) in enumerate(program.named_predictors())}
