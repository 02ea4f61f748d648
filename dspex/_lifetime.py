"""Things that live as long as an actor, whichever way it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervision import Ref


def on_end(ref: Ref, action: Callable[[], object]) -> asyncio.Task[None]:
    """Call ``action`` once the actor has ended, in whatever way: also when it is killed, and its ``terminate`` not run.

    The task that waits for it belongs to nobody, so that what ends the actor does not end the task.

    Args:
        ref: the incarnation to wait for.
        action: called in the loop, right after the end. Its exceptions go to the loop's exception handler.
    """

    async def wait() -> None:
        await ref.join()
        action()

    return asyncio.get_running_loop().create_task(wait(), context=Context())
