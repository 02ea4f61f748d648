"""The errors of coordination."""

from __future__ import annotations

from foundation.errors import Category, FoundationError, Severity
from supervision.messages import describe


class CoordinationError(FoundationError):
    """The root of all errors of coordination."""

    category = Category.DATA


class BadArgument(CoordinationError, ValueError):
    """What was asked for makes no sense: ``what`` says which part, ``value`` what was given."""

    severity = Severity.LOW

    def __init__(self, what: str, value: object, remedy: str) -> None:
        self.what = what
        self.value = value
        self.remedy = remedy
        super().__init__(f"{what} = {describe(value)}: {remedy}")


class NotHeld(CoordinationError):
    """The lock is not held under this fencing token: it was released, its lease is over, or its holder has ended."""

    category = Category.TRANSIENT
    remedy = "acquire it again, and do what it protects again"

    def __init__(self, name: str, fence: int) -> None:
        self.name = name
        self.fence = fence
        super().__init__(f"{name}: nobody holds it with token {fence}: released, expired, or its holder has ended")


class BarrierBroken(CoordinationError):
    """Somebody who had arrived has ended while the others were still awaited. Nobody passes; arrive again."""

    category = Category.TRANSIENT
    retryable = True
    remedy = "arrive again"

    def __init__(self, name: str, who: object) -> None:
        self.name = name
        super().__init__(f"{name}: {who} has ended after it had arrived")


class BidRefused(CoordinationError):
    """A bid does not count: it is too low, too late, or not for this auction."""

    severity = Severity.LOW
    remedy = "bid what the auction asks for, while it is open"
