"""Ctrl-C and SIGTERM: the first asks for an orderly stop, a second one forces it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

HANDLED = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Counts the signals that ask this process to stop, and tells the loop of them.

    Args:
        abandon: called in the signal handler when the loop does not listen: it has not even heard of the signal before.
    """

    def __init__(self, abandon: Callable[[], object]) -> None:
        self._abandon = abandon
        self._loop = asyncio.get_running_loop()
        self._sent = 0
        self._heard = 0
        #: Set by the first signal.
        self.stop = asyncio.Event()
        #: Set by the second signal.
        self.force = asyncio.Event()
        #: The name of the last signal.
        self.name = ""

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Take a signal. Called by the interpreter between any two instructions of the main thread."""
        if self._heard < self._sent:
            self._abandon()
        self._sent += 1
        self.name = signal.Signals(number).name
        self._loop.call_soon_threadsafe(self._hear)

    def _hear(self) -> None:
        self._heard += 1
        (self.stop if self._heard == 1 else self.force).set()

    @contextmanager
    def installed(self) -> Generator[StopSignals]:
        """Handle signals within the block, and restore what was there before."""
        before = {number: signal.signal(number, self.receive) for number in HANDLED}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
