"""The facade: the services of a runtime in one object that keeps nothing itself, each behind a versioned protocol.

A version is two whole numbers. Another first number means that callers have to change; a larger second one, that there
is more than before.

>>> import asyncio
>>> from foundation.facade import Foundation
>>> from foundation.registry import Registry
>>> from supervision import Actor, Runtime
>>> class Worker(Actor):
...     pass
>>> async def main() -> tuple[str, dict[str, str]]:
...     async with Runtime() as runtime:
...         await runtime.spawn(Registry)
...         platform = Foundation(runtime, requires={"registry": "1.0"})
...         await platform.registry.register("w", await runtime.spawn(Worker))
...         entry = platform.registry.lookup("w")
...         return entry.key, platform.versions()
>>> asyncio.run(main())
('w', {'registry': '1.1', 'coordination': '1.0', 'infrastructure': '1.0'})
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

from foundation.coordination import Barrier, Decision, Election, Lock, Rule, propose
from foundation.errors import Category, FoundationError, Severity
from foundation.options import is_a
from foundation.protection import BreakerOptions, CircuitBreaker, RateLimit
from foundation.registry import Directory, Entry, Metadata
from foundation.registry.query import Where
from foundation.resources import Resource
from supervision import IGNORE, Actor, Address, Call, Ref, Runtime
from supervision.messages import describe

ProtocolVersion: TypeAlias = tuple[int, int]


class Foundation:
    """The services of a runtime. It keeps nothing itself: two of them for one runtime are the same.

    Args:
        runtime: where the services run.
        registry: another implementation than the platform's own, such as a test's.
        coordination: the same.
        infrastructure: the same.
        requires: the least versions, such as ``{"registry": "1.1"}``.

    Raises:
        IncompatibleProtocol: an implementation is of another version than is required, or lacks something.
    """

    __slots__ = ("coordination", "infrastructure", "registry", "runtime")

    def __init__(
        self,
        runtime: Runtime,
        *,
        registry: RegistryProtocol | None = None,
        coordination: CoordinationProtocol | None = None,
        infrastructure: InfrastructureProtocol | None = None,
        requires: Mapping[str, str] | None = None,
    ) -> None:
        if requires is not None and not is_a(requires, Mapping):
            raise IncompatibleProtocol("requires", f"{describe(requires)} is no mapping from protocols to versions")
        required = {_protocol(name): parse_version(name, version) for name, version in (requires or {}).items()}
        self.runtime = runtime
        self.registry: RegistryProtocol = registry or Directory.of(runtime)
        self.coordination: CoordinationProtocol = coordination or Coordination(runtime)
        self.infrastructure: InfrastructureProtocol = infrastructure or Infrastructure(runtime)
        for name in PROTOCOLS:
            check_implementation(name, getattr(self, name), required.get(name))

    def versions(self) -> dict[str, str]:
        """Return the version of each protocol."""
        return {name: ".".join(map(str, getattr(self, name).protocol_version)) for name in PROTOCOLS}


class Requirements(Actor):
    """A child that starts only if the platform's protocols are of the versions that a tree requires.

    Put it first in a tree: with ``kwargs = { registry = "1.1" }`` nothing after it starts on an older platform. It does
    not stay: it is there to be asked once.

    Args:
        requires: the least versions, by protocol.

    Raises:
        IncompatibleProtocol: one is not; both versions are named.
    """

    def __init__(self, **requires: str) -> None:
        self._requires = requires

    def init(self) -> Any:
        """Ask."""
        Foundation(self.runtime, requires=self._requires)
        return IGNORE


class Coordination:
    """The platform's own coordination.

    Args:
        runtime: where its actors run.
    """

    protocol_version: ClassVar[ProtocolVersion] = (1, 0)

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def lock(self, name: str, *, capacity: int = 1) -> Lock:
        """Return a lock."""
        return Lock(self._runtime, name, capacity=capacity)

    def barrier(self, name: str, *, parties: int) -> Barrier:
        """Return a barrier."""
        return Barrier(self._runtime, name, parties=parties)

    def election(self, name: str) -> Election:
        """Return an election."""
        return Election(self._runtime, name)

    async def propose(
        self,
        proposal: Any,
        participants: Iterable[Address] | Mapping[Address, float],
        rule: Rule,
        *,
        time_limit: float = 30.0,
    ) -> Decision:
        """Ask for consent, and return the decision."""
        return await propose(self._runtime, proposal, participants, rule, time_limit=time_limit)


class Infrastructure:
    """The platform's own infrastructure.

    Args:
        runtime: where its actors run.
    """

    protocol_version: ClassVar[ProtocolVersion] = (1, 0)

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def circuit_breaker(self, name: str, options: BreakerOptions = BreakerOptions()) -> CircuitBreaker:  # noqa: B008
        """Return a circuit breaker."""
        return CircuitBreaker(self._runtime, name, options)

    def rate_limit(self, rate: float, per: float = 1.0) -> RateLimit:
        """Return a limit of how often."""
        return RateLimit(rate, per)

    def resource(self, name: str) -> Resource:
        """Return a resource."""
        return Resource(self._runtime, name)


@runtime_checkable
class RegistryProtocol(Protocol):
    """Version 1.1: who is there, and what they can do. 1.1 added queries and batches."""

    #: Of the implementation.
    protocol_version: ClassVar[ProtocolVersion]

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
    protocol_version: ClassVar[ProtocolVersion]

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
    protocol_version: ClassVar[ProtocolVersion]

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


class IncompatibleProtocol(FoundationError):
    """An implementation is of another version than is required, or lacks something."""

    category = Category.CONFIG
    severity = Severity.CRITICAL
    remedy = "install an implementation of the version that is required, or change what is required"

    def __init__(self, protocol: str, why: str) -> None:
        self.protocol = protocol
        super().__init__(f"protocol {protocol}: {why}")


def parse_version(protocol: str, version: Any) -> ProtocolVersion:
    """Return a version from text such as ``"1.10"``. It is compared as numbers: 1.10 is later than 1.9.

    Raises:
        IncompatibleProtocol: it is no version.
    """
    if is_a(version, str):
        parts = version.split(".")
        if len(parts) == 2 and all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
            return int(parts[0]), int(parts[1])
    raise IncompatibleProtocol(protocol, f"{describe(version)} is no version: write it as '1.0'")


def check_implementation(protocol: str, implementation: object, required: ProtocolVersion | None) -> None:
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


def _protocol(name: Any) -> str:
    if not is_a(name, str) or name not in PROTOCOLS:
        raise IncompatibleProtocol(describe(name), f"there is no such protocol; there are: {', '.join(PROTOCOLS)}")
    return str(name)
