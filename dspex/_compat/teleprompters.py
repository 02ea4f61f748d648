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
from dspy.teleprompt.simba_utils import prepare_models_for_resampling
from dspy.teleprompt.utils import create_n_fewshot_demo_sets


def models_for_sampling(program: Any, number: int, teacher: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return for each sample the language model of each predictor, by its name: a copy of the one that it has.

    For a program with one language model, these are the models that DSPy's own SIMBA would take.

    Args:
        program: may have several language models.
        number: how many samples there are.
        teacher: its ``lm`` takes the place of all models in the first sample. None for none.
    """
    own = {name: predictor.lm or dspy.settings.lm for name, predictor in program.named_predictors()}
    distinct = {id(lm): lm for lm in own.values()}
    # The first one last: the teacher keeps the rollout id that is given last.
    prepare: Any = prepare_models_for_resampling
    made = {key: prepare(_HasOneModel(lm), number, teacher) for key, lm in reversed(distinct.items())}
    return [{name: made[id(lm)][sample] for name, lm in own.items()} for sample in range(number)]


class _HasOneModel:
    """What of a program DSPy's function looks at."""

    def __init__(self, lm: Any) -> None:
        self._lm = lm

    def get_lm(self) -> Any:
        return self._lm


class ModelSet:
    """The language models of the predictors of a program, by their names, for optimisers that know of one only.

    They ask for its ``rollout_id``, which is that of the first, and for copies, which have one of each.
    """

    def __init__(self, models: dict[str, Any]) -> None:
        self.models = models
        self.kwargs = next(iter(models.values())).kwargs

    def copy(self, **changed: Any) -> ModelSet:
        """Return a set of copies; with a ``rollout_id``, all of them are so far from the original's."""
        further = changed.get("rollout_id", 0) - self.kwargs.get("rollout_id", 0)
        made: dict[int, Any] = {}
        for lm in self.models.values():
            own = {"rollout_id": lm.kwargs.get("rollout_id", 0) + further} if "rollout_id" in changed else {}
            made.setdefault(id(lm), lm.copy(**{**changed, **own}))
        return ModelSet({name: made[id(lm)] for name, lm in self.models.items()})


class HasSeveralModels:
    """What the class of a program whose predictors have different language models is given for such optimisers."""

    def get_lm(self: Any) -> Any:
        """Return the language models."""
        own = {name: predictor.lm or dspy.settings.lm for name, predictor in self.named_predictors()}
        lms = list(own.values())
        return lms[0] if all(lm is lms[0] for lm in lms) else ModelSet(own)

    def set_lm(self: Any, lm: Any) -> None:
        """Give each predictor its own of several language models, or all of them one."""
        for name, predictor in self.named_predictors():
            predictor.lm = lm.models[name] if isinstance(lm, ModelSet) else lm


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
