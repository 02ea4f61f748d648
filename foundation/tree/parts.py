"""Two kinds of supervisors that only a tree file needs: one that may be absent, and one that begins with children."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from foundation.tree.explain import explain
from foundation.tree.missing import LeftOut, leave_out
from supervision import (
    IGNORE,
    ChildSpec,
    DynamicSupervisor,
    FailedToStartChild,
    Shutdown,
    Stop,
    Supervisor,
    check_child_specs,
    events,
)
from supervision.reasons import as_reason
from supervision.supervisor import start_reason


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

    def __init__(self, children: Iterable[object] = (), *, presence: Presence, **options: Any) -> None:
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


class SeededDynamicSupervisor(DynamicSupervisor):
    """A dynamic supervisor that begins with some children, also when it is restarted.

    Args:
        children: their specifications, in the order of their start.
        options: as for `DynamicSupervisor`.
    """

    def __init__(self, children: Iterable[object] = (), **options: Any) -> None:
        super().__init__(**options)
        self._first = check_child_specs(children)

    async def init(self) -> None:
        """Start the first children in order; if one fails, stop those that run, and fail."""
        for spec in self._first:
            try:
                cell, _ = await self.start_one(self._with_extras(spec))
            except Exception as error:
                raise await self._give_up(spec, error) from error
            if cell is not None:
                self._running[cell] = spec

    async def _give_up(self, spec: ChildSpec, error: Exception) -> Stop:
        reason = start_reason(error)
        self.tell(events.ChildStartFailed, spec.id, None, reason=reason)
        await self.terminate(reason)
        return Stop(Shutdown(FailedToStartChild(spec.id, reason)))
