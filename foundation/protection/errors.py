"""The errors of protection: each says that something was not done, and why."""

from __future__ import annotations

from foundation.errors import Category, FoundationError, Severity
from supervision.messages import describe


class ProtectionError(FoundationError):
    """The root of all errors of protection. What was asked for was not done."""

    category = Category.RESOURCE
    retryable = True


class CircuitOpen(ProtectionError):
    """Calls fail too often, and are not made for a while. ``retry_after`` says for how many seconds."""

    category = Category.EXTERNAL
    severity = Severity.HIGH
    remedy = "try again later; see why calls fail"

    def __init__(self, name: str, retry_after: float) -> None:
        self.name = name
        self.retry_after = retry_after
        super().__init__(f"{name}: calls fail too often; none is made for another {retry_after:.3g} s")


class RateLimited(ProtectionError):
    """There were too many calls in too short a time."""

    remedy = "call less often, or allow more"

    def __init__(self, key: object, rate: float, per: float) -> None:
        self.key = key
        super().__init__(f"{describe(key)}: more than {rate:g} calls in {per:g} s")


class BulkheadFull(ProtectionError):
    """As many calls as may be made at once are being made, and as many as may wait are waiting."""

    remedy = "try again later, or allow more at once"

    def __init__(self, name: str, most: int, waiting: int) -> None:
        self.name = name
        super().__init__(f"{name}: {most} calls are being made, and {waiting} wait")


class TimeLimitExceeded(ProtectionError, TimeoutError):
    """It took too long, and was cancelled."""

    category = Category.TRANSIENT
    remedy = "allow more time, or ask for less"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"it took longer than {seconds:g} s, and was cancelled")
