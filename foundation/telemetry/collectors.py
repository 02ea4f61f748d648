"""Samples: numbers of a service, for whoever collects them: the metrics, a status page, a test.

A service that has some is kept in ``runtime.shared`` and has a method `samples`; `collect_samples` asks all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol, runtime_checkable

import msgspec

from supervision import Runtime


class MetricSample(msgspec.Struct, frozen=True):
    """A number.

    Attributes:
        name: as in Prometheus, without its ``prefix`` and ``_total``.
        text: what it is.
        kind: a ``gauge`` goes up and down, a ``counter`` only up.
        labels: what it is about: names that somebody has chosen, of which there are few.
        value: the number.
        prefix: whose metric it is.
    """

    name: str
    text: str
    kind: Literal["gauge", "counter"]
    labels: tuple[tuple[str, str], ...]
    value: float
    prefix: str = "foundation"


@runtime_checkable
class Collector(Protocol):
    """A service that has numbers."""

    def samples(self) -> Iterator[MetricSample]:
        """Return them, as they are now."""
        ...


def collect_samples(runtime: Runtime) -> Iterator[MetricSample]:
    """Return the numbers of all services of a runtime."""
    for service in list(runtime.shared.values()):
        if isinstance(service, Collector):
            yield from service.samples()
