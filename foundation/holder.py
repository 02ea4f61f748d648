"""The holder of what is held on behalf of an actor, and is free again when that ends."""

from __future__ import annotations

from supervision import NotRunning, Ref, current_actor


def current_holder() -> Ref | None:
    """Return the actor in which this code runs, or None."""
    try:
        return current_actor()
    except NotRunning:
        return None
