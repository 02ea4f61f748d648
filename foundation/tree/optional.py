"""A supervisor that may be absent: what an optional group of a tree file becomes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from foundation.tree.explain import explain
from foundation.tree.missing import LeftOut, leave_out
from supervision import (
    IGNORE,
    ChildLike,
    Stop,
    Supervisor,
)
from supervision.reasons import as_reason


class Presence:
    """Whether an optional part has ever run; shared by its incarnations."""

    def __init__(self) -> None:
        self.proven = False


class OptionalSupervisor(Supervisor):
    """A supervisor that does not run, instead of failing, if its children cannot be started the first time.

    Args:
        children: as for `Supervisor`.
        presence: whether it has run before; then a start that fails is a failure.
        options: as for `Supervisor`.
    """

    def __init__(self, children: Iterable[ChildLike] = (), *, presence: Presence, **options: Any) -> None:
        super().__init__(children, **options)
        self._presence = presence

    async def init(self) -> Any:
        """Start the children, or tell why not."""
        try:
            await super().init()
        except Stop as stop:
            if self._presence.proven:
                raise
            leave_out(self.runtime, LeftOut(self.ref.path, explain(as_reason(stop.reason))))
            return IGNORE
        self._presence.proven = True
        return None
