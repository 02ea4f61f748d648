"""Running a module for somebody else: in this task, or in a worker thread."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio.to_thread

from dspex._compat import bare_acall, bare_call


async def run_module(
    module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, asynchronous: bool, limiter: Any
) -> Any:
    """Call a module as DSPy does, and return what it returns.

    Args:
        module: whether its calls go to an agent or not.
        args: of the call.
        kwargs: of the call.
        asynchronous: whether ``acall`` is called, in this task; otherwise the module itself, in a worker thread, which
            is left alone when this task is cancelled.
        limiter: of the threads: never the loop's default executor.
    """
    if asynchronous:
        return await bare_acall(module, args, kwargs)
    call = partial(bare_call, module, args, kwargs)
    return await anyio.to_thread.run_sync(call, limiter=limiter, abandon_on_cancel=True)
