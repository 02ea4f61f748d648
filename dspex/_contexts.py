"""Contexts: in which one works for somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context, copy_context
from typing import Any, TypeVar

T = TypeVar("T")


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


def start_in(context: Context, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start a task in a given context."""
    return asyncio.get_running_loop().create_task(coroutine, context=context)
