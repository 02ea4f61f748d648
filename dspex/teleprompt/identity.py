"""What an optimisation is: all that decides what comes out of it, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy

from dspex.fingerprints import (
    adapter_fingerprint,
    code_fingerprint,
    content_digest,
    metric_fingerprint,
    model_fingerprint,
    models_fingerprint,
    program_fingerprint,
    versions,
)

#: Of a teleprompter of DSPy, what changes nothing, is looked at elsewhere, or is left from an earlier compilation.
_BESIDE = {
    *("metric", "metric_fn", "num_threads", "log_dir", "verbose", "display_progress", "provide_traceback", "rng"),
    *("error_count", "error_lock", "prompt_model_total_calls", "total_calls", "warn_on_score_mismatch"),
    *("use_wandb", "wandb_api_key", "wandb_init_kwargs", "use_mlflow"),
    *("trainset", "valset", "student", "teacher", "validation", "name2predictor", "predictor2name", "name2traces"),
}


def identity(
    teleprompter: str,
    student: Any,
    data: Mapping[str, Any],
    *,
    metric: Any,
    metric_id: str | None,
    program_id: str | None,
) -> dict[str, Any]:
    """Return what tells an optimisation from others, but for the teleprompter's own parameters.

    Args:
        teleprompter: its name.
        student: is optimised, with the caller's settings.
        data: training set, seed, and what else ``compile`` is given.
        metric: says how well it does; None for none.
        metric_id: vouches for the metric.
        program_id: vouches for the program.
    """
    settings = dspy.settings
    return {
        "teleprompter": teleprompter,
        "program": program_fingerprint(student) if program_id is None else program_id,
        "metric": None if metric is None else metric_fingerprint(metric, metric_id),
        "models": models_fingerprint(student, settings.lm),
        "adapter": adapter_fingerprint(settings.adapter),
        "versions": versions(),
        **{name: parameter(value) for name, value in data.items()},
    }


def parameter(value: Any) -> Any:
    """Return what is noted of a parameter: itself, if it is plain, and else a digest: of examples, or of code.

    >>> parameter(0.5), parameter({"a": None}), parameter([])
    (0.5, {'a': None}, [])
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, dspy.BaseLM):
        return model_fingerprint(value)
    if isinstance(value, dspy.Module):
        return [program_fingerprint(value), models_fingerprint(value, None)]
    if isinstance(value, dspy.teleprompt.Teleprompter):
        return {"of": type(value).__name__, **teleprompter_parameters(value)}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: parameter(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)) and not (value and all(isinstance(one, dspy.Example) for one in value)):
        return [parameter(one) for one in value]
    if isinstance(value, (list, tuple, set, frozenset)):
        return content_digest(value)[:16]
    return code_fingerprint(value)


def teleprompter_parameters(teleprompter: Any) -> dict[str, Any]:
    """Return what of a teleprompter of DSPy decides what comes out."""
    own = {name: parameter(value) for name, value in vars(teleprompter).items() if name not in _BESIDE}
    inner = getattr(teleprompter, "metric", None) or getattr(teleprompter, "metric_fn", None)
    return own if inner is None else {**own, "metric": metric_fingerprint(inner)}
