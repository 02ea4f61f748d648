"""The settings of a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspy.dsp.utils.settings import main_thread_config, thread_local_overrides


def overrides() -> dict[str, Any]:
    """Return the settings that the running code has overridden with ``dspy.context``.

    ``dspy.context`` notes all settings, also those that it does not change; these are not overrides. (A
    setting that was overridden with the very object that ``dspy.configure`` had set cannot be told from one
    that was not.)
    """
    missing = object()
    noted = thread_local_overrides.get()
    return {key: value for key, value in noted.items() if main_thread_config.get(key, missing) is not value}


def settings(declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for a request: the caller's overrides count, then ``declared``, then the global ones.

    Unless the caller keeps a trace, the call gets one of its own: DSPy's default is one list for the whole
    process.
    """
    return {"trace": [], **declared, **overrides()}


#: Under which key the settings of a run tell the agents that it runs in.
_INSIDE = "dspex_agents"


def inside_of(agent: str) -> bool:
    """Return whether this code runs in a run of an agent. DSPy's own threads, too, know where they belong."""
    return agent in thread_local_overrides.get().get(_INSIDE, ())


def run_settings(agent: str, declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for a call in an agent: the caller's overrides count, then ``declared``, then the global.

    What nobody has overridden stays as it is, so that the program sees no difference.
    """
    inside = (*thread_local_overrides.get().get(_INSIDE, ()), agent)
    return {**declared, **overrides(), _INSIDE: inside}
