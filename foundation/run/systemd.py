"""Telling systemd how it goes (``sd_notify(3)``): datagrams to the socket that ``NOTIFY_SOCKET`` names."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from supervision import Runtime
from supervision.logs import get_logger

#: Seconds until a socket that was full is tried again.
AGAIN = 0.1

_log: Any = get_logger("foundation.run")


class ServiceManager:
    """The service manager, if there is one that wants to know: that the service is ready, stops, and moves.

    If it has a watchdog (``WatchdogSec`` of a unit), it gets a sign of life twice in that time, from a timer of the
    loop: a loop that stands still gives none, and the service is restarted.

    Args:
        runtime: whose timers are used.
        environment: where the manager says what it wants to know.
    """

    def __init__(self, runtime: Runtime, environment: Mapping[str, str] = os.environ) -> None:
        self._timers = runtime.scheduler.timers
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]  # in Linux's abstract name space
        period = watchdog_period(environment)
        if self._address and period is not None:
            self._timers.after(period / 2, lambda: self.tell("WATCHDOG=1", again=False), period / 2)

    @classmethod
    def of(cls, runtime: Runtime) -> ServiceManager:
        """Return that of the process's environment."""
        return cls(runtime, os.environ)

    def tell(self, state: str, *, again: bool = True) -> bool:
        """Tell it something. This does not wait, and one that cannot be reached is no error: the tree matters more.

        Args:
            state: such as ``READY=1`` or ``STOPPING=1``.
            again: whether to try again when it has too much to read at the moment.

        Returns:
            Whether it was told.
        """
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(state.encode(), self._address)
        except BlockingIOError:
            if again:
                self._timers.after(AGAIN, lambda: self.tell(state))
            return False
        except OSError as error:
            _log.warning("service_manager_not_told", state=state, error=str(error))
            return False
        return True


def watchdog_period(environment: Mapping[str, str]) -> float | None:
    """Return within how many seconds the service manager wants a sign of life; None for never.

    Args:
        environment: where it says so, in microseconds (``WATCHDOG_USEC``), and to which process (``WATCHDOG_PID``).

    >>> watchdog_period({"WATCHDOG_USEC": "30000000"})
    30.0
    """
    said, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if process not in ("", str(os.getpid())) or not (said.isascii() and said.isdigit()):
        return None
    return int(said) / 1e6 or None
