"""Reports: the event stream as log lines, with OTP's labels and fields. A clean end is silent.

A reason takes one line, and of a huge value only the beginning is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from supervision import events
from supervision.events import Event
from supervision.logs import get_logger
from supervision.messages import cut
from supervision.reasons import LONG, Crashed, ExitReason

#: Seconds in which the reports of a kind are counted.
WINDOW = 1.0


class Reports:
    """A listener that logs what an operator wants to know: crashes, restarts, give-ups, blocked loops.

    A storm of crashes cannot flood the log: of each kind of report at most ``limit`` a second are written. What was
    left out is counted in one ``reports_left_out`` line, when the second is over.

    Args:
        logger: has ``warning`` and ``error`` as structlog's do; the program's own log (`supervision.logs`) if None.
        limit: how many reports of a kind are written in a second.
        after: calls a function after some seconds; without it, the count is written before the next report.
    """

    def __init__(
        self,
        logger: Any = None,
        *,
        limit: int = 20,
        after: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self._log: Any = get_logger("supervision") if logger is None else logger
        self._limit = limit
        self._after = after
        self._since = -WINDOW
        self._seen: Counter[type[Event]] = Counter()

    def __call__(self, event: Event) -> None:
        """Log an event, if its kind is logged."""
        report = REPORTS.get(type(event))
        if report is not None and (type(event) in ALWAYS or self._has_room(event)):
            report(self._log, event)

    def _has_room(self, event: Event) -> bool:
        if event.time - self._since >= WINDOW:
            self.flush()
            self._since = event.time
        self._seen[type(event)] += 1
        first_left_out = self._seen[type(event)] == self._limit + 1
        if first_left_out and self._after is not None and self._left_out() == {type(event): 1}:
            self._after(max(0.0, self._since + WINDOW - event.time), self.flush)
        return self._seen[type(event)] <= self._limit

    def _left_out(self) -> dict[type[Event], int]:
        return {kind: seen - self._limit for kind, seen in self._seen.items() if seen > self._limit}

    def flush(self) -> None:
        """Log how many reports were left out, if any, and restart the count."""
        left_out = {kind.__name__: number for kind, number in self._left_out().items()}
        self._seen.clear()
        if left_out:
            self._log.warning("reports_left_out", reports=sum(left_out.values()), **left_out)


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
        trap_exit=event.trap_exit,
        ancestors=list(event.ancestors),
        neighbours=list(event.neighbours),
        messages=list(event.waiting),
        client=event.client,
        state=event.state,
        last_events=list(event.log),
        **({"traceback": _short(event.reason).traceback()} if isinstance(event.reason, Crashed) else {}),
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


def _unblocked(log: Any, event: events.LoopUnblocked) -> None:
    log.warning("loop_unblocked", seconds=round(event.seconds, 3))


def _child(label: str) -> Callable[[Any, Any], None]:
    def report(log: Any, event: Any) -> None:
        log.error(
            label,
            supervisor=event.path,
            id=event.id,
            child=None if event.child is None else event.child.path,
            reason=_line(event.reason),
            restart=event.restart,
            shutdown=event.shutdown,
            type=event.type,
        )

    return report


def _application_stopped(log: Any, event: events.ApplicationStopped) -> None:
    if event.reason.clean and not event.leftovers:
        return
    leftovers = list(event.leftovers)
    log.error("application_stopped", application=event.application, reason=_line(event.reason), leftovers=leftovers)


def _hook_failed(log: Any, event: events.ApplicationHookFailed) -> None:
    log.error(
        "application_hook_failed", application=event.application, callback=event.callback, reason=_line(event.reason)
    )


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


#: The reports that are never left out. They are rare, and the watchdog's comes from a thread of its own.
ALWAYS = (events.LoopBlocked, events.LoopUnblocked, events.Zombie)
#: The events that are logged, and how.
REPORTS: dict[type[Event], Callable[[Any, Any], None]] = {
    events.CrashReport: _crashed,
    events.StartFailed: _start_failed,
    events.Zombie: _zombie,
    events.HighWater: _high_water,
    events.Unhandled: _unhandled,
    events.LoopBlocked: _blocked,
    events.LoopUnblocked: _unblocked,
    events.ChildTerminated: _child("child_terminated"),
    events.ChildStartFailed: _child("start_error"),
    events.ChildShutdownFailed: _child("shutdown_error"),
    events.GaveUp: _gave_up,
    events.ApplicationStopped: _application_stopped,
    events.ApplicationHookFailed: _hook_failed,
}
