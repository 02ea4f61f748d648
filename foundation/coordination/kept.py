"""What coordinators know, kept where it outlives them: with the runtime, under the name of their actor."""

from __future__ import annotations

from typing import Any

from supervision import Runtime


def kept(runtime: Runtime, name: str) -> dict[Any, Any]:
    """Return what is known under a name, for reading and, by the actor of that name, for writing."""
    known: dict[Any, Any] = runtime.shared.setdefault(("foundation.coordination", name), {})
    return known
