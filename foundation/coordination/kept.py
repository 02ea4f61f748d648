"""What coordinators know, kept where it outlives them: with the runtime, under the name of their actor."""

from __future__ import annotations

from typing import Any

from supervision import Actor, Runtime


def kept(owner: Actor | Runtime, name: str) -> dict[Any, Any]:
    """Return what is known under a name.

    Args:
        owner: the runtime; or the actor itself, which takes ``name`` if it was started without one.
        name: of the actor.
    """
    if isinstance(owner, Runtime):
        known: dict[Any, Any] = owner.shared.setdefault(("foundation.coordination", name), {})
        return known
    info = owner.runtime.info(owner.ref)
    assert info is not None
    if info.name is None:
        owner.runtime.register(name, owner.ref)
    return kept(owner.runtime, info.name or name)
