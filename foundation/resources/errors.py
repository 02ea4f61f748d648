"""The errors of resources."""

from __future__ import annotations

from foundation.errors import Category, FoundationError, Severity


class ResourceError(FoundationError):
    """The root of all errors of resources. Nothing was taken."""

    category = Category.RESOURCE
    retryable = True


class ResourceExhausted(ResourceError):
    """There is not so much left of a resource."""

    severity = Severity.HIGH
    remedy = "try again later, take less, or raise the limit"

    def __init__(self, name: str, amount: float, used: float, most: float) -> None:
        self.name = name
        super().__init__(f"{name}: {amount:g} asked for, {used:g} of {most:g} are taken")


class Overloaded(ResourceError):
    """Work of this priority is not taken at this level of pressure."""

    severity = Severity.HIGH
    remedy = "try again later, or with a higher priority"

    def __init__(self, level: str, because: str, priority: str) -> None:
        self.level = level
        self.because = because
        super().__init__(f"pressure is {level} because of {because}: no work of {priority} priority is taken")
