"""The numbers of buses, for whoever collects them, such as the metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import msgspec

from agents.signals.messages import SubscriptionStatus
from supervision import Ref, Runtime

_SIGNALS = "Signals of subscriptions of buses, by what they wait for."
_OLDEST = "Age of the oldest signal that a subscription of a bus has not done."


class BusSample(msgspec.Struct, frozen=True):
    """A number of a bus: a `foundation.telemetry.collectors.MetricSample` for those who have no foundation."""

    name: str
    text: str
    labels: tuple[tuple[str, str], ...]
    value: float
    kind: Literal["gauge"] = "gauge"
    prefix: str = "agents"


class BusGauges:
    """The numbers of the buses of a runtime: those that have a name, by their subscriptions.

    Args:
        runtime: whose.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._buses: dict[Ref, Callable[[], Mapping[str, SubscriptionStatus]]] = {}

    @classmethod
    def of(cls, runtime: Runtime) -> BusGauges:
        """Return those of a runtime."""
        found: BusGauges = runtime.shared.setdefault(cls, cls(runtime))
        return found

    def add(self, bus: Ref, read: Callable[[], Mapping[str, SubscriptionStatus]]) -> None:
        """Add a bus, for as long as it lives.

        Args:
            bus: it.
            read: returns how its subscriptions are.
        """
        self._buses = {ref: one for ref, one in self._buses.items() if ref.alive}
        self._buses[bus] = read

    def samples(self) -> Iterator[BusSample]:
        """Return the numbers, as they are now."""
        now = self._runtime.clock.wall_time()
        for bus, read in self._buses.items():
            info = self._runtime.info(bus)
            if info is None or info.name is None:
                continue
            for subscription, status in read().items():
                labels = (("bus", info.name), ("subscription", subscription))
                counts = {
                    "waiting": status.waiting + status.backing_off,
                    "in_flight": status.sent + status.taken,
                    "dead": status.dead,
                }
                for state, count in counts.items():
                    yield BusSample("bus_signals", _SIGNALS, (*labels, ("state", state)), count)
                age = 0.0 if status.oldest is None else max(0.0, now - status.oldest)
                yield BusSample("bus_oldest_seconds", _OLDEST, labels, age)
