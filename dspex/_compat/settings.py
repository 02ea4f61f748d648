"""The settings of a call, and the context in which it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextvars import Context, copy_context
from typing import Any, TypeVar

from dspy.dsp.utils.settings import main_thread_config, thread_local_overrides

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


def settings(declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for a request: the caller's overrides count, then ``declared``, then the global ones.

    Unless the caller keeps a trace, the call gets one of its own: DSPy's default is one list for the whole
    process.
    """
    return {"trace": [], **declared, **overrides()}


def adopt(caller: Context, kernel: str = "supervision.") -> Context:
    """Return the context in which to work for a caller: the caller's, but for which actor works.

    Args:
        caller: the caller's context.
        kernel: how the names of the kernel's context variables begin.
    """
    context = caller.copy()
    for variable, value in copy_context().items():
        if variable.name.startswith(kernel):
            context.run(variable.set, value)
    return context


#: Under which key the settings of a run tell the agents that it runs in.
_INSIDE = "dspex_agents"


def inside_of(agent: str) -> bool:
    """Return whether this code runs in a run of an agent. DSPy's own threads, too, know where they belong."""
    return agent in thread_local_overrides.get().get(_INSIDE, ())


def run_settings(agent: str, declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for a call in an agent: the caller's overrides count, then ``declared``, then the global.

    What nobody has overridden stays as it is, so that the program cannot tell in whose hands it is.
    """
    inside = (*thread_local_overrides.get().get(_INSIDE, ()), agent)
    return {**declared, **overrides(), _INSIDE: inside}


def start_in(context: Context, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start a task in a given context."""
    return asyncio.get_running_loop().create_task(coroutine, context=context)
