"""The dead-letter queue, as senders use it: deliver a message now, or have it kept until its receiver is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

from foundation.dead_letters.letter import (
    Letter,
    NotSerializable,
    letter_rows,
    letter_state,
    letters_in_state,
    storable_text,
)
from foundation.dead_letters.messages import (
    KeepLetter,
    PurgeLetters,
    RedeliverLetters,
    has_room,
    receiver_name,
    worth_keeping,
)
from foundation.options import is_a
from foundation.store import Database
from foundation.telemetry.collectors import MetricSample
from supervision import CallError, Message, Ref, Request, Runtime
from supervision.messages import describe


class DeadLetterQueue:
    """A dead-letter queue, as its users see it.

    Args:
        runtime: where it runs.
        actor: the name of the `DeadLetters`.
        store: the name of its store.
        table: its table.
    """

    def __init__(
        self, runtime: Runtime, *, actor: str = "dead_letters", store: str = "store", table: str = "dead_letters"
    ) -> None:
        self._runtime = runtime
        self._address = runtime.name(actor)
        self._database = Database.of(runtime, store)
        self._table = table
        runtime.shared[DeadLetterQueue, actor] = self

    async def send(
        self, to: str, message: Message | Request[Any], timeout: float | None = 5.0
    ) -> Literal["delivered", "kept"]:
        """Send a message to whoever holds a name, and keep it if it cannot be delivered now.

        When this returns, the message was delivered, or it is on the disk and will be.

        Args:
            to: the name of the receiver.
            message: a request, whose answer is not returned; or a message without an answer, for which it is enough
                that its receiver lives.
            timeout: seconds to wait for the answer to a request.

        Raises:
            NotSerializable: it is no message; or it could not be delivered, and cannot be kept.
            BadName, BadTime: the receiver or the time-out makes no sense.
            StoreError, NoProcess: it could not be delivered, and the store, or the queue, is not there to keep it.
            Exception: what the receiver refused the request with.
        """
        if not is_a(message, (Message, Request)):
            raise NotSerializable(f"{describe(message)} is no Message and no Request")
        address = self._runtime.name(receiver_name(to))
        tried = address.resolve()
        if not isinstance(message, Request):
            if tried is None or not has_room(tried):
                why = "nobody holds this name" if tried is None else "its mailbox is full"
                return await self._keep(to, message, why, None)
            tried.cast(message)
            return "delivered"
        try:
            await address.call(message, timeout)
        except CallError as error:
            if not worth_keeping(error):
                raise
            return await self._keep(to, message, storable_text(error), tried)
        return "delivered"

    async def _keep(self, to: str, message: Message | Request[Any], reason: str, tried: Ref | None) -> Literal["kept"]:
        await self._address.call(KeepLetter(to, message, reason, tried), timeout=None)
        return "kept"

    def waiting(self) -> dict[int, Letter]:
        """Return the letters that are to be delivered, by number."""
        return letters_in_state(self._database, self._table, "waiting")

    def given_up(self) -> dict[int, Letter]:
        """Return the letters that were given up, by number."""
        return letters_in_state(self._database, self._table, "given up")

    async def redeliver(self, to: str | None = None) -> int:
        """Try again at once, for one receiver or for all. Return how many letters that are.

        Raises:
            BadOption: this is no name of a receiver.
        """
        return await self._address.call(RedeliverLetters(to))

    async def purge(self) -> int:
        """Forget the letters that were given up, and those that cannot be read. Return how many those were.

        Raises:
            StoreError: the store does not take it.
        """
        return await self._address.call(PurgeLetters(), timeout=None)

    def samples(self) -> Iterator[MetricSample]:
        """Return the numbers, for the metrics."""
        text = "Dead letters that are kept."
        numbers = Counter(letter_state(row) for _, row in letter_rows(self._database, self._table))
        for state, label in (("waiting", "waiting"), ("given up", "given_up")):
            yield MetricSample("dead_letters_kept", text, "gauge", (("state", label),), numbers[state])
