"""What makes a result: metric, program, model, adapter and versions."""

from __future__ import annotations

import importlib.metadata
import re
from typing import Any

import dspy

from dspex._compat import CLIENT_KEYS
from dspex.fingerprints.code import code_content, program_content
from dspex.fingerprints.data import canonical, class_name, content_digest, sha256

#: Settings of a model that are secrets, whatever a provider calls them.
_SECRET = re.compile(r"(^|_)(key|secret|password|credentials?|headers|token)($|_)")


def metric_fingerprint(metric: Any, metric_id: str | None = None) -> str:
    """Return what tells a metric from others: its name and a digest of its code, and of what it uses.

    Args:
        metric: a function, or what can be called.
        metric_id: stands for the metric instead, such as a version: whoever gives it vouches that the metric is the
            same as long as this is.

    >>> metric_fingerprint(len, metric_id="length, version 1")
    'length, version 1'
    """
    return code_fingerprint(metric) if metric_id is None else metric_id


def code_fingerprint(value: Any) -> str:
    """Return what tells a function, a class, or an object from others: its name, and a digest of its code."""
    name = getattr(value, "__name__", type(value).__name__)
    return f"{name} {sha256(canonical(code_content(value)))[:16]}"


def program_fingerprint(program: Any) -> str:
    """Return what tells a program from others: a digest of its predictors, its configuration and its code.

    It does not depend on the models: see `models_fingerprint`.
    """
    return f"{type(program).__name__} {sha256(canonical(program_content(program)))[:16]}"


def model_fingerprint(lm: Any) -> Any:
    """Return a language model and its settings as plain values; None for none.

    Keys, addresses, time-outs and retries are not among the settings: they change no answer.

    >>> model_fingerprint(dspy.LM("openai/gpt-4o", temperature=0.5, api_key="secret"))
    {'model': 'openai/gpt-4o', 'type': 'chat', 'temperature': 0.5}
    """
    if lm is None:
        return None
    given = {name: value for name, value in sorted(lm.kwargs.items()) if value is not None and not _is_left_out(name)}
    settings = {name: value if isinstance(value, _PLAIN) else content_digest(value) for name, value in given.items()}
    engine = getattr(lm, "_engine_spec", "")
    own = {} if isinstance(engine, str) else {"engine": class_name(type(engine))}
    kind = {} if type(lm) is dspy.LM else {"class": class_name(type(lm))}
    return {"model": str(lm.model), "type": str(lm.model_type), **kind, **own, **settings}


_PLAIN = (str, int, float)


def _is_left_out(name: str) -> bool:
    return name in CLIENT_KEYS or is_secret(name)


def is_secret(name: str) -> bool:
    """Return whether a setting of this name is a secret, such as ``api_key``."""
    return _SECRET.search(name.lower()) is not None


def models_fingerprint(program: Any, lm: Any) -> dict[str, Any]:
    """Return the models that a program asks: by their predictors' names where they have their own, and ``lm``."""
    own = {name: model_fingerprint(one.lm) for name, one in program.named_predictors() if one.lm is not None}
    return {"lm": model_fingerprint(lm), **own}


def adapter_fingerprint(adapter: Any) -> str:
    """Return what tells an adapter from others; None is DSPy's own choice."""
    return "default" if adapter is None else code_fingerprint(adapter)


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of DSPy, and of other packages on which a result depends, as far as they are installed."""
    return {"dspy": dspy.__version__, **{name: importlib.metadata.version(name) for name in packages}}
