"""What one endpoint has used, and may use."""

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


class BudgetExceeded(ProtectionError):
    """A request would use more than an endpoint may. ``retry_after`` says after how many seconds there is room."""

    remedy = "ask later, or allow more"

    def __init__(self, endpoint: str, budget: str, retry_after: float) -> None:
        self.endpoint = endpoint
        self.budget = budget
        self.retry_after = retry_after
        super().__init__(f"{endpoint}: its {budget} are used up; there is room in {retry_after:.3g} s")


class RequestUsage(NamedTuple):
    """What one request uses: tokens that are ``sent`` and ``written``, and ``dollars``."""

    sent: float
    written: float
    dollars: float

    def amount(self, kind: Kind) -> float:
        """Return how much of it a budget of this kind counts."""
        return {"requests": 1.0, "tokens": self.sent + self.written, "dollars": self.dollars}[kind]


class Reservation(NamedTuple):
    """What was taken for a request: out of which allowances, and how much was expected."""

    parts: list[tuple[Kind, Quota, WindowBucket]]
    expected: RequestUsage


class QuotaState(NamedTuple):
    """What counts towards one limit, as plain data; see `Quota.dump`."""

    kind: Kind
    per: float
    parts: list[tuple[float, float, float]]


class EndpointCounts(msgspec.Struct):
    """What has happened at an endpoint, since its account was opened."""

    requests: int = 0
    failures: int = 0
    sent: float = 0.0
    written: float = 0.0
    dollars: float = 0.0
    in_flight: int = 0


class EndpointUsage:
    """Knows what an endpoint has used. It outlives the gateway's actor.

    Args:
        name: of the endpoint.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts = EndpointCounts()
        self._allowances: dict[tuple[Kind, float], Quota] = {}
        self._refused: set[str] = set()

    def set_limits(self, endpoint: Endpoint) -> None:
        """Let the limits of an endpoint count from now on; what was used before counts towards them."""
        limits = _limits(endpoint)
        kept = {key: self._allowances.get(key) or Quota(limit, key[1]) for key, limit in limits.items()}
        for key, limit in limits.items():
            kept[key].limit = limit
        self._allowances = kept

    def reserve(self, now: float, expected: RequestUsage) -> Reservation:
        """Take what a request is expected to use.

        Raises:
            BudgetExceeded: there is not enough left, and nothing was taken.
        """
        waits = {key: each.wait(now, expected.amount(key[0])) for key, each in self._allowances.items()}
        key = max(waits, key=waits.__getitem__, default=None)
        if key is not None and waits[key] > 0:
            raise BudgetExceeded(self.name, _title(*key), waits[key])
        self._refused.clear()
        return Reservation(
            [(kind, each, each.take(now, expected.amount(kind))) for (kind, _), each in self._allowances.items()],
            expected,
        )

    def settle(self, ticket: Reservation, used: RequestUsage) -> None:
        """Count what a request has used, instead of what was expected."""
        for kind, allowance, taken in ticket.parts:
            allowance.settle(taken, used.amount(kind) - ticket.expected.amount(kind))
        self.counts.sent += used.sent
        self.counts.written += used.written
        self.counts.dollars += used.dollars

    def dump(self, now: float) -> list[QuotaState]:
        """Return what counts towards the limits, with ages instead of times."""
        return [QuotaState(kind, per, each.dump(now)) for (kind, per), each in self._allowances.items()]

    def load(self, now: float, spent: Iterable[QuotaState], older: float) -> None:
        """Let what was dumped count, which is so many seconds older by now."""
        for kind, per, parts in spent:
            if (kind, per) in self._allowances:
                aged = [(last + older, first + older, amount) for last, first, amount in parts]
                self._allowances[kind, per].load(now, aged)

    def first_refusal(self, error: BudgetExceeded) -> bool:
        """Return whether this is the first of several refusals for the same reason."""
        known = error.budget in self._refused
        self._refused.add(error.budget)
        return not known

    def left(self, now: float) -> Iterator[tuple[str, float]]:
        """Return what is left of each budget, by its title."""
        for key, allowance in self._allowances.items():
            yield _title(*key), allowance.left(now)


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


class _Content(msgspec.Struct):
    """The file: when it was written, in seconds since 1970, and what counts for each endpoint."""

    at: float
    endpoints: dict[str, list[QuotaState]]


class UsageFile:
    """Keeps what endpoints have spent.

    Args:
        path: of the file, which is replaced as a whole.
        clock: of the runtime.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._written: object = None

    def read(self, accounts: Mapping[str, EndpointUsage]) -> None:
        """Let what is in the file count.

        Raises:
            BadGateway: it cannot be read.
        """
        self._written = _counts(accounts)
        if not self._path.exists():
            return
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Content)
        except (OSError, msgspec.DecodeError) as error:
            remedy = f"remove it, and what was spent is forgotten; {error}"
            raise BadGateway("spending", str(self._path), remedy) from None
        older = max(0.0, self._clock.wall_time() - kept.at)
        for name, spent in kept.endpoints.items():
            if name in accounts:
                accounts[name].load(self._clock.time(), spent, older)

    def write(self, accounts: Mapping[str, EndpointUsage]) -> None:
        """Write what has been spent, if anything was since the last time."""
        counts = _counts(accounts)
        if counts == self._written:
            return
        now = self._clock.time()
        kept = _Content(self._clock.wall_time(), {name: account.dump(now) for name, account in accounts.items()})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_name(self._path.name + ".new")
        beside.write_bytes(msgspec.json.encode(kept))
        beside.replace(self._path)
        self._written = counts


def _counts(accounts: Mapping[str, EndpointUsage]) -> dict[str, object]:
    return {name: msgspec.structs.astuple(account.counts) for name, account in accounts.items()}
