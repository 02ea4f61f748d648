"""The last turns of an agent, for debugging."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from agents.signal import Signal
from supervision.reasons import Crashed


class TurnRecord(msgspec.Struct, frozen=True):
    """One turn of an agent, as it was recorded.

    Attributes:
        time: when it was over, in seconds since the epoch.
        signal: what it was about.
        version: of the agent after it.
        changed: the fields of the state that it has changed, with what they are now.
        directives: the kinds of the directives, in order.
        errors: what failed in it.
        partition: of the agent.
    """

    time: float
    signal: Signal
    version: int
    changed: dict[str, Any]
    directives: tuple[str, ...]
    errors: tuple[Crashed, ...]
    partition: str = ""


class Recent:
    """The last turns of an agent.

    Args:
        keep: how many.
    """

    __slots__ = ("_turns",)

    def __init__(self, keep: int) -> None:
        self._turns: deque[TurnRecord] = deque(maxlen=keep)

    def note(self, record: TurnRecord) -> None:
        """Note a turn; the oldest one is forgotten if there are too many."""
        self._turns.append(record)

    def newest(self, limit: int) -> list[TurnRecord]:
        """Return the newest ones, the newest first."""
        return list(reversed(self._turns))[:limit]
