"""A client that retries its requests and counts the outcomes."""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

import msgspec

from supervision.errors import ActorExited, CallError, CallTimeout, MailboxFull, NoProcess
from supervision.messages import Request
from supervision.ref import Address
from supervision.runtime import Runtime

R = TypeVar("R")

#: Errors that are retried: the actor was gone, died, had no time or no room.
RETRIED = (NoProcess, ActorExited, CallTimeout, MailboxFull)


class RequestCounts(msgspec.Struct, frozen=True):
    """Requests in numbers.

    Attributes:
        sent: attempts.
        answered: requests that got their answer.
        failed: attempts that failed, by the name of the error.
        lost: requests that got no answer at all.
    """

    sent: int = 0
    answered: int = 0
    failed: dict[str, int] = {}
    lost: int = 0

    def __str__(self) -> str:
        failed = ", ".join(f"{number} {name}" for name, number in sorted(self.failed.items()))
        return f"{self.sent} sent, {self.answered} answered, {self.lost} lost" + (f" ({failed})" if failed else "")


class Client:
    """Retries requests until they are answered.

    Args:
        runtime: whose clock it uses.
        timeout: seconds that one attempt may take.
        attempts: how often it tries; None for as often as it takes.
        pause: seconds between two attempts.
    """

    def __init__(
        self, runtime: Runtime, *, timeout: float | None = 5.0, attempts: int | None = None, pause: float = 0.01
    ) -> None:
        self._runtime = runtime
        self._timeout = timeout
        self._attempts = attempts
        self._pause = pause
        self._sent = self._answered = self._lost = 0
        self._failed: Counter[str] = Counter()

    async def call(self, address: Address, request: Request[R]) -> R:
        """Send a request, until it is answered, and return the answer. A `Name` finds the replacement of a dead actor.

        Raises:
            CallError: the last attempt failed, or one failed in a way that no other attempt can mend.
        """
        attempt = 0
        while True:
            attempt += 1
            self._sent += 1
            try:
                answer = await address.call(request, self._timeout)
            except RETRIED as error:
                self._failed[type(error).__name__] += 1
                if attempt == self._attempts:
                    self._lost += 1
                    raise
            except CallError as error:
                self._failed[type(error).__name__] += 1
                self._lost += 1
                raise
            else:
                self._answered += 1
                return answer
            await self._runtime.sleep(self._pause)

    @property
    def requests(self) -> RequestCounts:
        """The outcomes so far."""
        return RequestCounts(self._sent, self._answered, dict(self._failed), self._lost)


def together(clients: list[Client]) -> RequestCounts:
    """Add up the numbers of some clients."""
    parts = [client.requests for client in clients]
    failed = sum((Counter(part.failed) for part in parts), Counter[str]())
    return RequestCounts(
        sum(part.sent for part in parts),
        sum(part.answered for part in parts),
        dict(failed),
        sum(part.lost for part in parts),
    )
