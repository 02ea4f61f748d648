"""Reports: the event stream as log lines, with OTP's labels and fields. A clean end is silent.

A reason takes one line, and of a huge value only the beginning is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from supervision import events
from supervision.events import Event
from supervision.messages import cut
from supervision.reasons import LONG, Crashed, ExitReason


class Reports:
    """A listener that logs what a person on duty wants to know: crashes, restarts, give-ups, blocked loops."""

    def __init__(self, logger: Any = None) -> None:
        self._log: Any = structlog.get_logger("supervision") if logger is None else logger

    def __call__(self, event: Event) -> None:
        """Log an event, if it is one for the log."""
        report = REPORTS.get(type(event))
        if report is not None:
            report(self._log, event)


def _line(reason: ExitReason) -> str:
    return cut(str(reason).replace("\n", "\\n"), LONG)


def _short(reason: Crashed) -> Crashed:
    return msgspec.structs.replace(reason, message=cut(reason.message, LONG))


def _crashed(log: Any, event: events.CrashReport) -> None:
    log.error(
        "crash_report",
        actor=event.path,
        kind=event.kind,
        name=event.name,
        reason=_line(event.reason),
        last_message=event.message,
        mailbox=event.mailbox,
        links=event.links,
        traceback=_short(event.reason).traceback(),
    )


def _start_failed(log: Any, event: events.StartFailed) -> None:
    if not event.quiet and not event.reason.clean:
        log.error("start_failed", actor=event.path, kind=event.kind, reason=_line(event.reason))


def _zombie(log: Any, event: events.Zombie) -> None:
    log.error("zombie", actor=event.path, kind=event.kind, stack=event.stack)


def _high_water(log: Any, event: events.HighWater) -> None:
    log.warning("mailbox_high_water", actor=event.path, kind=event.kind, length=event.length)


def _unhandled(log: Any, event: events.Unhandled) -> None:
    log.warning("unhandled_message", actor=event.path, kind=event.kind, message=event.message)


def _blocked(log: Any, event: events.LoopBlocked) -> None:
    log.warning(
        "loop_blocked",
        actor=event.path,
        seconds=round(event.seconds, 3),
        file=event.file,
        line=event.line,
        stack=event.stack,
    )


def _child(label: str) -> Callable[[Any, Any], None]:
    def report(log: Any, event: Any) -> None:
        log.error(
            label,
            supervisor=event.path,
            id=event.id,
            child=None if event.child is None else event.child.path,
            reason=_line(event.reason),
        )

    return report


def _gave_up(log: Any, event: events.GaveUp) -> None:
    log.error(
        "shutdown",
        supervisor=event.path,
        reason="reached_max_restart_intensity",
        id=event.id,
        last_reason=_line(event.reason),
        max_restarts=event.allowed,
        max_seconds=event.seconds,
    )


#: The events that are logged, and how.
REPORTS: dict[type[Event], Callable[[Any, Any], None]] = {
    events.CrashReport: _crashed,
    events.StartFailed: _start_failed,
    events.Zombie: _zombie,
    events.HighWater: _high_water,
    events.Unhandled: _unhandled,
    events.LoopBlocked: _blocked,
    events.ChildTerminated: _child("child_terminated"),
    events.ChildStartFailed: _child("start_error"),
    events.ChildShutdownFailed: _child("shutdown_error"),
    events.GaveUp: _gave_up,
}
