"""The settings of a call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dspy.dsp.utils.settings import DEFAULT_CONFIG, main_thread_config, thread_local_overrides

T = TypeVar("T")


def overrides() -> dict[str, Any]:
    """Return the settings that the running code has overridden with ``dspy.context``.

    ``dspy.context`` notes all settings, also those that it does not change; these are not overrides. (A
    setting that was overridden with the very object that ``dspy.configure`` had set cannot be told from one
    that was not.)
    """
    missing = object()
    noted = thread_local_overrides.get()
    return {key: value for key, value in noted.items() if main_thread_config.get(key, missing) is not value}


#: How many answers the history of a language model, or of a module, keeps while a program is served.
HISTORY = 50


def settings(declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for a request: the caller's overrides count, then ``declared``, then the global ones.

    Unless the caller keeps a trace, the call gets one of its own: DSPy's default is one list for the whole
    process. Histories keep `HISTORY` answers, unless somebody says otherwise: by DSPy's default they keep 10,000 each.
    """
    own = main_thread_config["max_history_size"] != DEFAULT_CONFIG["max_history_size"]
    history = main_thread_config["max_history_size"] if own else HISTORY
    return {"trace": [], "max_history_size": history, **declared, **overrides()}


#: Under which key the settings of a run tell the agents that it runs in.
_INSIDE = "dspex_agents"


def inside_of(agent: str) -> bool:
    """Return whether this code runs in a run of an agent. DSPy's own threads, too, know where they belong."""
    return agent in thread_local_overrides.get().get(_INSIDE, ())


def run_callbacks(settings: Mapping[str, Any]) -> list[Any]:
    """Return the callbacks of a run with these settings: ours are added to them, and never take their place."""
    noted = {**main_thread_config, **thread_local_overrides.get(), **settings}
    return list(noted.get("callbacks") or ())


def run_settings(agent: str, declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for a call in an agent: the caller's overrides count, then ``declared``, then the global.

    What nobody has overridden stays as it is, so that the program sees no difference.
    """
    inside = (*thread_local_overrides.get().get(_INSIDE, ()), agent)
    return {**declared, **overrides(), _INSIDE: inside}


_state: Any = sys.modules["dspy.dsp.utils.settings"]
#: What the code of a module has set by ``dspy.configure``, when a program was loaded from it.
_configured: dict[str, dict[str, Any]] = {}


def load_configured(module: str, load: Callable[[], T]) -> tuple[T, dict[str, Any]]:
    """Load a program, whose code may call ``dspy.configure``, whoever has called it before.

    DSPy has one configuration, and runs the code of a module once. So what a module has set is remembered for the
    programs that come from it; what else is set counts for a program, unless another program's module has set it.

    Args:
        module: from which the program comes, by its name.
        load: loads it.

    Returns:
        The program, and the settings that are configured for it.
    """
    before = dict(main_thread_config)
    owners = _state.config_owner_thread_id, _state.config_owner_async_task
    # The first to call it is the only one who may; this code is not that of a second caller, but of a program.
    _state.config_owner_thread_id = _state.config_owner_async_task = None
    try:
        found = load()
    finally:
        _state.config_owner_thread_id, _state.config_owner_async_task = owners
    missing = object()
    own = _configured.setdefault(module, {})
    own.update({key: value for key, value in main_thread_config.items() if before.get(key, missing) is not value})
    others = {id(value) for name, set_by in _configured.items() if name != module for value in set_by.values()}
    shared = {key: value for key, value in main_thread_config.items() if id(value) not in others and _chosen(key)}
    return found, {**shared, **own}


def _chosen(key: str) -> bool:
    return key in ("lm", "adapter") and main_thread_config[key] is not DEFAULT_CONFIG[key]
