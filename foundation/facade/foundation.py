"""The facade: the services of a runtime in one object that keeps nothing itself.

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

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from foundation.coordination import Barrier, Decision, Election, Lock, Rule, propose
from foundation.facade.protocols import (
    PROTOCOLS,
    CoordinationProtocol,
    IncompatibleProtocol,
    InfrastructureProtocol,
    RegistryProtocol,
    Version,
    check,
    parsed,
)
from foundation.options import is_a
from foundation.protection import BreakerOptions, CircuitBreaker, RateLimit
from foundation.registry import Directory
from foundation.resources import Resource
from supervision import IGNORE, Actor, Address, Runtime
from supervision.messages import describe


class Coordination:
    """The platform's own coordination.

    Args:
        runtime: where its actors run.
    """

    protocol_version: ClassVar[Version] = (1, 0)

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

    protocol_version: ClassVar[Version] = (1, 0)

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
        required = {_protocol(name): parsed(name, version) for name, version in (requires or {}).items()}
        self.runtime = runtime
        self.registry: RegistryProtocol = registry or Directory.of(runtime)
        self.coordination: CoordinationProtocol = coordination or Coordination(runtime)
        self.infrastructure: InfrastructureProtocol = infrastructure or Infrastructure(runtime)
        for name in PROTOCOLS:
            check(name, getattr(self, name), required.get(name))

    def versions(self) -> dict[str, str]:
        """Return the version of each protocol."""
        return {name: ".".join(map(str, getattr(self, name).protocol_version)) for name in PROTOCOLS}


def _protocol(name: Any) -> str:
    if not is_a(name, str) or name not in PROTOCOLS:
        raise IncompatibleProtocol(describe(name), f"there is no such protocol; there are: {', '.join(PROTOCOLS)}")
    return str(name)


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
