"""The ledger: every message that arrives is handled, dropped and counted, or waits; none is lost unnoticed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from supervision import events
from supervision._core.cell import Cell
from supervision._core.layers import add_layer, remove_layer
from supervision.call import Call
from supervision.events import Event
from supervision.mailbox import BoundedBox
from supervision.messages import Request
from supervision.runtime import Runtime
from supervision.testing.checks import Violation
from supervision.testing.fault_injection.wire import add_tap

#: Reasons of dead letters that the ledger does not count: those of requests, whose callers get an error; and that of
#: messages that a fault dropped before they arrived.
_NOT_COUNTED = ("late_reply", "expired", "chaos")


class Ledger:
    """Counts the messages to the actors of a runtime: what has arrived was handled, was dropped, or waits.

    Requests are not counted, as their callers always get an answer or an error. Make it before the actors whose
    messages are to be counted; each message costs more then.

    >>> from supervision import Actor, Message, Runtime, handle
    >>> from supervision.testing import run, settled
    >>> class Note(Message):
    ...     pass
    >>> class Reader(Actor):
    ...     @handle
    ...     def read(self, message: Note) -> None:
    ...         pass
    >>> async def main() -> None:
    ...     async with Runtime(watchdog=None) as runtime:
    ...         ledger = Ledger(runtime)
    ...         reader = await runtime.spawn(Reader, name="reader")
    ...         for _ in range(3):
    ...             reader.cast(Note())
    ...         await settled(runtime)
    ...         reader.kill()
    ...         reader.cast(Note())
    ...         print(ledger.accounts(), ledger.violations())
    >>> run(main())
    {'/reader': {'arrived': 4, 'handled': 3, 'dropped': 1, 'waiting': 0}} []
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._arrived: defaultdict[str, int] = defaultdict(int)
        self._handled: defaultdict[str, int] = defaultdict(int)
        self._dropped: defaultdict[str, int] = defaultdict(int)
        self._ends: list[Callable[[], None]] = []
        self._subscription = runtime.subscribe(self._see, events.StartAttempt, events.MessageDropped)

    def _see(self, event: Event) -> None:
        if isinstance(event, events.MessageDropped):
            if event.why not in _NOT_COUNTED and event.path in self._arrived:
                self._dropped[event.path] += 1
            return
        assert isinstance(event, events.StartAttempt)
        assert isinstance(event.ref, Cell)
        self._watch(event.ref, event.path)

    def _watch(self, cell: Cell, path: str) -> None:
        #: Messages that have arrived and are not handled: how many times each object, by its identity.
        waiting: dict[int, list[Any]] = {}
        self._arrived[path] += 0

        def arrived(message: Any, number: int) -> None:
            if not isinstance(message, Request):
                self._arrived[path] += number
                waiting.setdefault(id(message), [0, message])[0] += number

        def handled(actor: Any, message: Any, proceed: Any) -> Any:
            entry = waiting.get(id(message))
            if entry is not None and entry[0] > 0:
                entry[0] -= 1
                self._handled[path] += 1
                if not entry[0]:
                    del waiting[id(message)]
            return proceed(actor, message)

        self._ends.append(add_tap(cell, arrived))
        add_layer(cell, handled, outer=True)
        self._ends.append(lambda: remove_layer(cell, handled) if cell.table is not None else None)

    def accounts(self) -> dict[str, dict[str, int]]:
        """Return, for each path, how many messages have arrived, and what has become of them."""
        queued: defaultdict[str, int] = defaultdict(int)
        for cell in self._runtime.actors():
            assert isinstance(cell, Cell)
            queued[cell.path] += sum(1 for message in _waiting_for(cell) if not isinstance(message, Call))
        return {
            path: {
                "arrived": arrived,
                "handled": self._handled[path],
                "dropped": self._dropped[path],
                "waiting": queued[path],
            }
            for path, arrived in self._arrived.items()
            if arrived
        }

    def violations(self) -> list[Violation]:
        """Return where the sums do not agree. Call it when all is settled."""
        wrong = []
        for path, account in self.accounts().items():
            if account["arrived"] != account["handled"] + account["dropped"] + account["waiting"]:
                wrong.append(Violation("conservation", f"{path}: {account}"))
        return wrong

    def close(self) -> None:
        """Stop counting."""
        self._subscription.close()
        for end in self._ends:
            end()


def _waiting_for(cell: Cell) -> list[Any]:
    box = cell.box
    messages = list(box.messages if isinstance(box, BoundedBox) else box or ())
    if isinstance(box, BoundedBox):
        messages += [message for message, _ in box.waiting]
    return [*messages, *([cell.head] if cell.head_waits() else ())]
