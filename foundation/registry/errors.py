"""The errors of the registry. Each names the key or the value that is wrong, and the remedy where there is one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from foundation.errors import Category, FoundationError, Severity
from supervision import Ref
from supervision.messages import describe


class RegistryError(FoundationError):
    """The root of all errors of the registry."""

    category = Category.DATA
    severity = Severity.LOW


class KeyTaken(RegistryError):
    """The key belongs to ``ref``, which lives; it may be the very actor that was to be registered."""

    def __init__(self, key: Any, ref: Ref) -> None:
        self.key = key
        self.ref = ref
        super().__init__(f"key {describe(key)} is taken by {ref}")


class KeyNotFound(RegistryError, LookupError):
    """Nobody is registered under the key, or not the actor that was meant."""

    def __init__(self, key: Any, ref: Ref | None = None) -> None:
        self.key = key
        self.ref = ref
        named = describe(key)
        super().__init__(f"nobody is registered as {named}" if ref is None else f"{ref} is not registered as {named}")


class BadMetadata(RegistryError, ValueError):
    """The metadata cannot be kept: ``field`` says where, ``value`` what was given."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field = field
        self.value = value
        self.remedy = remedy
        super().__init__(f"{field} = {describe(value)}: {remedy}")


class NotIndexed(RegistryError, LookupError):
    """The registry keeps no index of this field."""

    def __init__(self, field: str, indexed: Iterable[str]) -> None:
        self.field = field
        super().__init__(f"{describe(field)} is not indexed; indexed are: {', '.join(indexed) or 'no fields'}")


class BadQuery(RegistryError, ValueError):
    """What was asked makes no sense: ``what`` says which part, ``value`` what was given."""

    def __init__(self, what: str, value: object, remedy: str) -> None:
        self.what = what
        self.value = value
        self.remedy = remedy
        super().__init__(f"{what} = {describe(value)}: {remedy}")


class RegistryFull(RegistryError):
    """A limit of the registry is reached: ``limit`` is its name, ``most`` its value. Nothing was changed."""

    category = Category.RESOURCE
    severity = Severity.HIGH
    retryable = True
    remedy = "unregister entries, or raise the limit"

    def __init__(self, limit: str, most: int) -> None:
        self.limit = limit
        self.most = most
        super().__init__(f"the registry is full: {limit} = {most}; unregister entries, or raise the limit")


class BatchFailed(RegistryError):
    """A batch was refused as a whole, and nothing was changed: ``errors`` says why, by the place in the batch."""

    def __init__(self, errors: Mapping[int, Exception]) -> None:
        self.errors = dict(errors)
        place, error = next(iter(self.errors.items()))
        more = f", and {len(self.errors) - 1} more" if len(self.errors) > 1 else ""
        super().__init__(f"nothing was changed: item {place}: {error}{more}")
