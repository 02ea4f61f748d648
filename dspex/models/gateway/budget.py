"""What an endpoint has used and may use, and the file by which budgets survive a restart of the process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from dspex.models.gateway.quota import Quota, WindowBucket
from dspex.models.gateway.settings import MINUTE, PERIODS, BadGateway, Endpoint
from foundation.protection import ProtectionError
from supervision.clock import Clock

Kind = Literal["requests", "tokens", "dollars"]

_NAMES = {seconds: name for name, seconds in PERIODS.items()}


class EndpointUsage:
    """Knows what an endpoint has used. It outlives the gateway's actor.

    Args:
        name: of the endpoint.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts = EndpointCounts()
        self._quotas: dict[tuple[Kind, float], Quota] = {}
        self._refused: set[str] = set()

    def set_limits(self, endpoint: Endpoint) -> None:
        """Apply the limits of an endpoint from now on; what was used before counts towards them."""
        limits = _limits(endpoint)
        kept = {key: self._quotas.get(key) or Quota(limit, key[1]) for key, limit in limits.items()}
        for key, limit in limits.items():
            kept[key].limit = limit
        self._quotas = kept

    def reserve(self, now: float, expected: RequestUsage) -> Reservation:
        """Take what a request is expected to use.

        Raises:
            BudgetExceeded: there is not enough left, and nothing was taken.
        """
        waits = {key: each.wait(now, expected.amount(key[0])) for key, each in self._quotas.items()}
        key = max(waits, key=waits.__getitem__, default=None)
        if key is not None and waits[key] > 0:
            raise BudgetExceeded(self.name, _title(*key), waits[key])
        self._refused.clear()
        return Reservation(
            [(kind, each, each.take(now, expected.amount(kind))) for (kind, _), each in self._quotas.items()],
            expected,
        )

    def settle(self, reservation: Reservation, used: RequestUsage) -> None:
        """Count what a request has used, instead of what was expected."""
        for kind, quota, taken in reservation.parts:
            quota.settle(taken, used.amount(kind) - reservation.expected.amount(kind))
        self.counts.sent += used.sent
        self.counts.written += used.written
        self.counts.dollars += used.dollars

    def dump(self, now: float) -> list[QuotaState]:
        """Return what counts towards the limits, with ages instead of times."""
        return [QuotaState(kind, per, each.dump(now)) for (kind, per), each in self._quotas.items()]

    def load(self, now: float, spent: Iterable[QuotaState], older: float) -> None:
        """Count what was dumped, which is so many seconds older by now."""
        for kind, per, parts in spent:
            if (kind, per) in self._quotas:
                aged = [(last + older, first + older, amount) for last, first, amount in parts]
                self._quotas[kind, per].load(now, aged)

    def first_refusal(self, error: BudgetExceeded) -> bool:
        """Return whether this is the first of several refusals for the same reason."""
        known = error.budget in self._refused
        self._refused.add(error.budget)
        return not known

    def left(self, now: float) -> Iterator[tuple[str, float]]:
        """Return what is left of each budget, by its title."""
        for key, quota in self._quotas.items():
            yield _title(*key), quota.left(now)


def _limits(endpoint: Endpoint) -> dict[tuple[Kind, float], float]:
    """Return the limits of an endpoint, by what they limit and the period; the tightest counts."""
    limits: dict[tuple[Kind, float], float] = {}

    def add(kind: Kind, per: float, limit: float | None) -> None:
        if limit is not None:
            limits[kind, per] = min(limit, limits.get((kind, per), limit))

    add("requests", MINUTE, endpoint.requests_per_minute)
    add("tokens", MINUTE, endpoint.tokens_per_minute)
    for budget in endpoint.budgets:
        add("requests", budget.seconds, budget.requests)
        add("tokens", budget.seconds, budget.tokens)
        add("dollars", budget.seconds, budget.dollars)
    return limits


def _title(kind: Kind, per: float) -> str:
    return f"{kind} per {_NAMES.get(per, f'{per:g} s')}"


class UsageFile:
    """A file that keeps what endpoints have used.

    Args:
        path: of the file, which is replaced as a whole.
        clock: of the runtime.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._written: object = None

    def read(self, usages: Mapping[str, EndpointUsage]) -> None:
        """Count what is in the file.

        Raises:
            BadGateway: it cannot be read.
        """
        self._written = _counts(usages)
        if not self._path.exists():
            return
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Content)
        except (OSError, msgspec.DecodeError) as error:
            remedy = f"remove it, and what was spent is forgotten; {error}"
            raise BadGateway("usage_file", str(self._path), remedy) from None
        older = max(0.0, self._clock.wall_time() - kept.at)
        for name, spent in kept.endpoints.items():
            if name in usages:
                usages[name].load(self._clock.time(), spent, older)

    def write(self, usages: Mapping[str, EndpointUsage]) -> None:
        """Write what has been spent, if anything was since the last time."""
        counts = _counts(usages)
        if counts == self._written:
            return
        now = self._clock.time()
        kept = _Content(self._clock.wall_time(), {name: usage.dump(now) for name, usage in usages.items()})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_name(self._path.name + ".new")
        beside.write_bytes(msgspec.json.encode(kept))
        beside.replace(self._path)
        self._written = counts


class _Content(msgspec.Struct):
    """The file: when it was written, in seconds since 1970, and what counts for each endpoint."""

    at: float
    endpoints: dict[str, list[QuotaState]]


def _counts(usages: Mapping[str, EndpointUsage]) -> dict[str, object]:
    return {name: msgspec.structs.astuple(usage.counts) for name, usage in usages.items()}


class RequestUsage(NamedTuple):
    """What one request uses: tokens that are ``sent`` and ``written``, and ``dollars``."""

    sent: float
    written: float
    dollars: float

    def amount(self, kind: Kind) -> float:
        """Return how much of it a budget of this kind counts."""
        return {"requests": 1.0, "tokens": self.sent + self.written, "dollars": self.dollars}[kind]


class Reservation(NamedTuple):
    """What was taken for a request: out of which quotas, and how much was expected."""

    parts: list[tuple[Kind, Quota, WindowBucket]]
    expected: RequestUsage


class QuotaState(NamedTuple):
    """What counts towards one limit, as plain data; see `Quota.dump`."""

    kind: Kind
    per: float
    parts: list[tuple[float, float, float]]


class EndpointCounts(msgspec.Struct):
    """What has happened at an endpoint, since it was first used."""

    requests: int = 0
    failures: int = 0
    sent: float = 0.0
    written: float = 0.0
    dollars: float = 0.0
    in_flight: int = 0


class BudgetExceeded(ProtectionError):
    """A request would use more than an endpoint may. ``retry_after`` says after how many seconds there is room."""

    remedy = "ask later, or allow more"

    def __init__(self, endpoint: str, budget: str, retry_after: float) -> None:
        self.endpoint = endpoint
        self.budget = budget
        self.retry_after = retry_after
        super().__init__(f"{endpoint}: its {budget} are used up; retry in {retry_after:.3g} s")
