"""The message with which a program's own method is called in an agent."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context
from typing import Any

from supervision import Request


class Invoke(Request[Any], frozen=True):
    """Call a module, exactly as its caller has: the answer is what it returns or raises.

    Attributes:
        module: the module; often the agent's own program, or a copy of it that an optimiser has changed.
        asynchronous: whether ``acall`` was called, and not the module itself.
        args: of the call.
        kwargs: of the call.
        context: the caller's, with everything that DSPy and others keep in it.
        agent: under which key the run knows its agent; see `dspex.door`.
    """

    module: Any
    asynchronous: bool
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    context: Context
    agent: str
