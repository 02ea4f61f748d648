"""The requests by which a registry is changed. `Directory` sends them; so may anybody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foundation.registry.snapshot import Entry
from supervision import Ref, Request


class Register(Request[Entry], frozen=True):
    """Enter an actor under a key."""

    key: Any
    ref: Ref
    metadata: Any


class Update(Request[Entry], frozen=True):
    """Change some fields of an entry's metadata; only if it is the entry of ``ref``, if that is given."""

    key: Any
    changes: Mapping[str, Any]
    ref: Ref | None = None


class Unregister(Request[bool], frozen=True):
    """Remove an entry; only if it is the entry of ``ref``, if that is given. The answer tells whether there was one."""

    key: Any
    ref: Ref | None = None
