"""Sinks: actors to which signals can be emitted, besides agents, buses and webhooks."""

from __future__ import annotations

import logging
from typing import Any

from agents.signal import Signal
from supervision import Actor, Address, groups, handle
from supervision.errors import BadOption
from supervision.logs import get_logger

_log: Any = get_logger("agents.signals")


class GroupSink(Actor):
    """Passes each signal on to all members of a process group.

    Args:
        scope: of the group: a `groups.Groups` actor, or its name.
        group: its name.
    """

    def __init__(self, scope: Address | str, group: str) -> None:
        self._scope = self.runtime.name(scope) if isinstance(scope, str) else scope
        self._group = group

    @handle
    def pass_on(self, signal: Signal) -> None:
        """Pass a signal on."""
        groups.publish(self._scope, self._group, signal)


class LogSink(Actor):
    """Writes each signal to the log.

    Args:
        level: of the entries: ``debug``, ``info``, ``warning`` or ``error``.

    Raises:
        BadOption: there is no such level.
    """

    def __init__(self, level: str = "info") -> None:
        if level not in ("debug", "info", "warning", "error"):
            raise BadOption("LogSink: level", level, "give debug, info, warning or error")
        self._level = getattr(logging, level.upper())

    @handle
    def write(self, signal: Signal) -> None:
        """Write a signal."""
        about = {"signal_id": signal.id, "source": signal.source, "subject": signal.subject, "data": signal.data}
        _log.log(self._level, signal.type, **about)
