"""The protocols of the platform: what an implementation of each has to offer, and in which version.

A version is two whole numbers. Another first number means that callers have to change; a larger second one, that there
is more than before.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

from foundation.coordination import Barrier, Decision, Election, Lock, Rule
from foundation.errors import Category, FoundationError, Severity
from foundation.options import is_a
from foundation.protection import BreakerOptions, CircuitBreaker, RateLimit
from foundation.registry import Entry, Metadata
from foundation.registry.query import Where
from foundation.resources import Resource
from supervision import Address, Call, Ref
from supervision.messages import describe

Version: TypeAlias = tuple[int, int]


class IncompatibleProtocol(FoundationError):
    """An implementation is of another version than is required, or lacks something."""

    category = Category.CONFIG
    severity = Severity.CRITICAL
    remedy = "install an implementation of the version that is required, or change what is required"

    def __init__(self, protocol: str, why: str) -> None:
        self.protocol = protocol
        super().__init__(f"protocol {protocol}: {why}")


@runtime_checkable
class RegistryProtocol(Protocol):
    """Version 1.1: who is there, and what they can do. 1.1 added queries and batches."""

    #: Of the implementation.
    protocol_version: ClassVar[Version]

    def lookup(self, key: Hashable) -> Entry | None:
        """Return who is registered under a key."""
        ...

    def select(
        self, where: Where = (), *, order_by: str | None = None, descending: bool = False, limit: int | None = None
    ) -> list[Entry]:
        """Return the entries that are as is asked."""
        ...

    def count(self, where: Where = ()) -> int:
        """Return how many these are."""
        ...

    def register(self, key: Hashable, ref: Ref, metadata: Metadata = ...) -> Call[Entry]:
        """Enter an actor."""
        ...

    def update(self, key: Hashable, changes: Mapping[str, Any], ref: Ref | None = None) -> Call[Entry]:
        """Change an entry."""
        ...

    def unregister(self, key: Hashable, ref: Ref | None = None) -> Call[bool]:
        """Remove an entry."""
        ...


@runtime_checkable
class CoordinationProtocol(Protocol):
    """Version 1.0: locks, barriers, elections, consensus."""

    #: Of the implementation.
    protocol_version: ClassVar[Version]

    def lock(self, name: str, *, capacity: int = 1) -> Lock:
        """Return a lock."""
        ...

    def barrier(self, name: str, *, parties: int) -> Barrier:
        """Return a barrier."""
        ...

    def election(self, name: str) -> Election:
        """Return an election."""
        ...

    async def propose(
        self,
        proposal: Any,
        participants: Iterable[Address] | Mapping[Address, float],
        rule: Rule,
        *,
        time_limit: float = 30.0,
    ) -> Decision:
        """Ask for consent, and return the decision."""
        ...


@runtime_checkable
class InfrastructureProtocol(Protocol):
    """Version 1.0: circuit breakers, limits, resources."""

    #: Of the implementation.
    protocol_version: ClassVar[Version]

    def circuit_breaker(self, name: str, options: BreakerOptions = ...) -> CircuitBreaker:
        """Return a circuit breaker."""
        ...

    def rate_limit(self, rate: float, per: float = 1.0) -> RateLimit:
        """Return a limit of how often."""
        ...

    def resource(self, name: str) -> Resource:
        """Return a resource."""
        ...


PROTOCOLS: Mapping[str, type[Any]] = {
    "registry": RegistryProtocol,
    "coordination": CoordinationProtocol,
    "infrastructure": InfrastructureProtocol,
}


def parsed(protocol: str, version: Any) -> Version:
    """Return a version from text such as ``"1.10"``. It is compared as numbers: 1.10 is later than 1.9.

    Raises:
        IncompatibleProtocol: it is no version.
    """
    if is_a(version, str):
        parts = version.split(".")
        if len(parts) == 2 and all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
            return int(parts[0]), int(parts[1])
    raise IncompatibleProtocol(protocol, f"{describe(version)} is no version: write it as '1.0'")


def check(protocol: str, implementation: object, required: Version | None) -> None:
    """Make sure that an implementation is one, and of a version that will do.

    Args:
        protocol: its name: one of `PROTOCOLS`.
        implementation: what is to be used.
        required: the least version; None if any will do.

    Raises:
        IncompatibleProtocol: it is not, and both versions are named.
    """
    kind = PROTOCOLS[protocol]
    missing = [name for name in _members(kind) if not hasattr(implementation, name)]
    if missing:
        what = type(implementation).__name__
        raise IncompatibleProtocol(protocol, f"{what} is no implementation: it has no {', '.join(missing)}")
    version: Any = implementation.protocol_version  # type: ignore[attr-defined]
    if not is_a(version, tuple) or [type(part) for part in version] != [int, int]:
        raise IncompatibleProtocol(protocol, f"protocol_version = {describe(version)} is not two whole numbers")
    if required is not None and (version[0] != required[0] or version[1] < required[1]):
        here, there = (".".join(map(str, one)) for one in (version, required))
        raise IncompatibleProtocol(protocol, f"the implementation is of version {here}, and {there} is required")


def _members(kind: type[Any]) -> list[str]:
    return ["protocol_version", *(name for name in vars(kind) if not name.startswith("_"))]
