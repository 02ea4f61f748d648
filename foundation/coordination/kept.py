"""What coordinators know, kept where it outlives them: with the runtime, under the name of their actor."""

from __future__ import annotations

from typing import Any

from supervision import Runtime


def kept(runtime: Runtime, name: str) -> dict[Any, Any]:
    """Return what is known under a name, for reading and, by the actor of that name, for writing."""
    known: dict[Any, Any] = runtime.shared.setdefault(("foundation.coordination", name), {})
    return known


class Numbers:
    """Numbers that only grow, also for what is forgotten and known again: fencing tokens, terms, generations.

    Args:
        runtime: it outlives its actors.
        name: of the actor.

    Whatever is known for the first time begins after the largest number of all that was forgotten.
    """

    def __init__(self, runtime: Runtime, name: str) -> None:
        self._known = kept(runtime, f"{name}: numbers")

    @property
    def last(self) -> int:
        """The largest number of what was forgotten."""
        return self._known.get("last", 0)  # type: ignore[no-any-return]

    def next(self) -> int:
        """Return a number that is larger than all of them."""
        self.forget(self.last + 1)
        return self.last

    def forget(self, number: int) -> None:
        """Remember that a number was used, instead of what it was used for."""
        self._known["last"] = max(self.last, number)
