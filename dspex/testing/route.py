"""A pytest plugin: every program that a test calls runs in an agent. See ``docs/how-to/program-agents.md``.

With ``-p dspex.testing.route``, each call of a ``dspy.Module`` from outside a program, sync or async, goes to an agent
in another thread and event loop, and comes back. What a program calls within its run stays there. At the end it prints
how many calls were routed, so that nobody mistakes a run without agents for one with them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import dspy

from dspex._compat import inside_of
from dspex.agents.background import PROGRAM_AGENTS, background_runtime
from dspex.agents.dispatcher import Dispatcher
from dspex.agents.runner import ProgramRunner
from supervision import ChildSpec, start_child

_NAME = "dspex.testing.route"
_routed: Counter[str] = Counter()
_originals: dict[str, Any] = {}


async def _opened(runtime: Any) -> Dispatcher:
    await start_child(runtime.name(PROGRAM_AGENTS), ChildSpec(_NAME, ProgramRunner, name=_NAME))
    return Dispatcher(runtime, runtime.name(_NAME))


def pytest_configure() -> None:
    """Send the calls of every module to an agent."""
    background = background_runtime()
    dispatcher = background.run(lambda: _opened(background.runtime))
    call, acall = dspy.Module.__call__, dspy.Module.acall
    _originals.update({"__call__": call, "acall": acall})

    def routed_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if inside_of(dispatcher.key):
            return call(self, *args, **kwargs)
        _routed["sync"] += 1
        return dispatcher.call(self, args, kwargs)

    async def routed_acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        if inside_of(dispatcher.key):
            return await acall(self, *args, **kwargs)
        _routed["async"] += 1
        return await dispatcher.acall(self, args, kwargs)

    dspy.Module.__call__ = routed_call
    dspy.Module.acall = routed_acall


def pytest_unconfigure() -> None:
    """Let modules be called as before."""
    for name, original in _originals.items():
        setattr(dspy.Module, name, original)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many calls went to an agent."""
    terminalreporter.write_line(f"dspex: {_routed['sync']} sync and {_routed['async']} async calls ran in an agent")
