"""The errors of the platform: one tree, in which each class says what kind of trouble it is, and what helps.

::

    FoundationError
    ├── RegistryError        foundation.registry
    ├── StoreError           foundation.store
    └── ProtectionError      foundation.protection

`describe_error` says the same of any other exception: those of the kernel, Python's own, and a program's.

>>> describe_error(TimeoutError("too late")).retryable, describe_error(KeyError("x")).category.value
(True, 'data')
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar

import msgspec

from foundation.telemetry.context import facts_of
from supervision import errors as kernel


class Category(Enum):
    """What kind of trouble it is."""

    #: How something was set up is wrong. It stays wrong until somebody changes it.
    CONFIG = "config"
    #: What was passed in is wrong.
    DATA = "data"
    #: Something else changed at the same time, or is gone for a moment. It may be different next time.
    TRANSIENT = "transient"
    #: There is not enough of something: memory, room, permits, time.
    RESOURCE = "resource"
    #: Something outside failed.
    EXTERNAL = "external"
    #: Something inside failed: a defect, or damage.
    SYSTEM = "system"


class Severity(Enum):
    """How bad it is. They can be compared."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    def __lt__(self, other: Severity) -> bool:
        return self.value < other.value


class ErrorDescription(msgspec.Struct, frozen=True):
    """What is known of an error.

    Attributes:
        category: what kind of trouble it is.
        severity: how bad it is.
        retryable: whether the same may succeed a moment later.
        remedy: what helps.
        context: the facts that were bound to the work in which it arose (`foundation.telemetry.bound`).
    """

    category: Category
    severity: Severity
    retryable: bool
    remedy: str
    context: Mapping[str, Any] = {}


class FoundationError(Exception):
    """The root of all errors of the platform."""

    category: ClassVar[Category] = Category.SYSTEM
    severity: ClassVar[Severity] = Severity.MEDIUM
    retryable: ClassVar[bool] = False
    remedy: str = "see the message"


_CONFIG = ErrorDescription(Category.CONFIG, Severity.HIGH, False, "correct what the message names")
_DATA = ErrorDescription(Category.DATA, Severity.LOW, False, "correct what the message names")
_GONE = ErrorDescription(Category.TRANSIENT, Severity.MEDIUM, True, "try again: it may be being restarted")
_LATE = ErrorDescription(Category.TRANSIENT, Severity.MEDIUM, True, "try again, or allow more time")
_FULL = ErrorDescription(Category.RESOURCE, Severity.MEDIUM, True, "try again later, or make room")
_OUTSIDE = ErrorDescription(Category.EXTERNAL, Severity.MEDIUM, True, "try again later")
_DEFECT = ErrorDescription(Category.SYSTEM, Severity.HIGH, False, "see the traceback")
_DAMAGE = ErrorDescription(Category.SYSTEM, Severity.CRITICAL, False, "stop, and restore what is damaged")

#: The first class of which an error is an instance counts.
_KNOWN: tuple[tuple[type[BaseException], ErrorDescription], ...] = (
    (kernel.SpecError, _CONFIG),
    (kernel.UnhandledMessage, _CONFIG),
    (kernel.CallCycle, _DEFECT),
    (kernel.MailboxFull, _FULL),
    (kernel.MaxChildren, _FULL),
    (kernel.NoProcess, _GONE),
    (kernel.ActorExited, _GONE),
    (TimeoutError, _LATE),
    (kernel.SupervisionError, _DEFECT),
    (MemoryError, ErrorDescription(Category.RESOURCE, Severity.CRITICAL, False, "give it more memory, or less to do")),
    (ConnectionError, _OUTSIDE),
    (sqlite3.DatabaseError, _DAMAGE),
    (OSError, _OUTSIDE),
    (LookupError, _DATA),
    (ValueError, _DATA),
    (TypeError, _DATA),
)


def describe_error(error: BaseException) -> ErrorDescription:
    """Return what is known of any error.

    Args:
        error: one of the platform's says it itself; what nobody knows is a defect: not worth trying again.
    """
    context = dict(facts_of(error))
    if isinstance(error, FoundationError):
        return ErrorDescription(error.category, error.severity, error.retryable, error.remedy, context)
    known = next((description for kind, description in _KNOWN if isinstance(error, kind)), _DEFECT)
    return msgspec.structs.replace(known, context=context) if context else known
