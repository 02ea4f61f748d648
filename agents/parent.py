"""Parents: whose child an agent is."""

from __future__ import annotations

from typing import Any

import msgspec

from supervision import Ref


class Parent(msgspec.Struct, frozen=True):
    """The agent whose child an agent is.

    Attributes:
        ref: its server.
        id: of the parent.
        tag: under which it knows the child.
        meta: what was noted when the child was started or adopted.
    """

    ref: Ref
    id: str
    tag: str
    meta: Any = None
