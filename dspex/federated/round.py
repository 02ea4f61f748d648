"""A round of a federation: who was asked, which reports count, and when it is over. A value without clock and actors.

>>> rounds = Rounds(sample=3, enough=2, deadline=60.0)
>>> round = FederatedRound(1, ("a", "b", "c"), rounds, deadline=60.0, fence=7)
>>> [round.report(ClientReport(who, 1, fence, 5), now=1.0) for who, fence in (("a", 7), ("a", 7), ("b", 6))]
['counted', 'again', 'late']
>>> round.report(ClientReport("b", 1, 7, 5), now=2.0), round.look(now=2.0)
('counted', None)
>>> round.lose("c", "it has ended"), round.look(now=3.0).state, round.late
(None, 'decided', 1)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from dspex.federated.errors import BadFederation
from dspex.federated.messages import ClientReport
from foundation.options import above_zero, from_zero, whole

#: What becomes of a report: it counts; the client's has been counted already; it is too late, or of another round; its
#: sender was not asked.
Reception: TypeAlias = Literal["counted", "again", "late", "stranger"]


class Rounds(msgspec.Struct, frozen=True, kw_only=True):
    """How the rounds of a federation are held.

    Attributes:
        connected: how many clients have to be there before a round begins; None for as many as ``sample`` or
            ``enough`` says, or for all of the federation's if neither does.
        sample: how many of those that are there are asked, by chance; None for all.
        enough: how many reports a round needs; None for all that are asked.
        oversample: how many more are asked than ``enough``, as a share: .3 asks 4 for 3. None to ask ``sample``.
        deadline: seconds after which a round is over.
        linger: seconds that are waited for the others once there are enough; None for up to the deadline.
        join_patience: seconds that are waited for clients to be there, before the federation gives up.
        max_void: how many rounds in a row may be void before it ends with what it has.
        retries: how often a client that ends while it is asked is asked again, in the same round.

    Raises:
        BadFederation, BadOption: a number makes no sense, or does not go with the others.
    """

    connected: int | None = None
    sample: int | None = None
    enough: int | None = None
    oversample: float | None = None
    deadline: float = 60.0
    linger: float | None = None
    join_patience: float = 60.0
    max_void: int = 3
    retries: int = 1

    def __post_init__(self) -> None:
        for name in ("connected", "sample", "enough"):
            if getattr(self, name) is not None:
                whole(f"Rounds: {name}", getattr(self, name))
        for name in ("oversample", "linger"):
            if getattr(self, name) is not None:
                from_zero(f"Rounds: {name}", getattr(self, name))
        above_zero("Rounds: deadline", self.deadline)
        from_zero("Rounds: join_patience", self.join_patience)
        whole("Rounds: max_void", self.max_void)
        whole("Rounds: retries", self.retries, 0)
        if self.oversample is not None and (self.enough is None or self.sample is not None):
            raise BadFederation("Rounds: oversample", self.oversample, "give `enough`, and no `sample`")
        if self.enough is not None and self.sample is not None and self.enough > self.sample:
            raise BadFederation("Rounds: enough", self.enough, f"give at most sample={self.sample}")

    def needed(self, clients: int) -> int:
        """Return how many of so many clients have to be there.

        Raises:
            BadFederation: more are asked for than there are.
        """
        for name in ("connected", "sample", "enough"):
            if (getattr(self, name) or 0) > clients:
                raise BadFederation(f"Rounds: {name}", getattr(self, name), f"there are {clients} clients")
        return max(self.connected or self.sample or self.enough or clients, self.enough or 0)

    def asked(self, there: int) -> int:
        """Return how many clients are asked, of so many that are there."""
        if self.oversample is not None and self.enough is not None:
            # To so many digits a float is what was written: 1.1 times 10 is 11.
            return min(there, math.ceil(round(self.enough * (1 + self.oversample), 9)))
        return min(there, self.sample or there)


class RoundEnd(msgspec.Struct, frozen=True):
    """How a round has ended.

    Attributes:
        round: which round.
        fence: with which was asked last.
        state: ``decided``, or ``void``: it changes nothing.
        why: it is void.
        counted: the clients whose reports are used, in the federation's order.
        refused: why reports of others cannot be used.
        lost: why others cannot report.
        late: those that have not reported in time.
    """

    round: int
    fence: int
    state: Literal["decided", "void"]
    why: str
    counted: tuple[str, ...]
    refused: dict[str, str]
    lost: dict[str, str]
    late: tuple[str, ...]


class FederatedRound:
    """A round that is open.

    It ends when all that were asked are heard of, or `Rounds.linger` after there are enough, or at its deadline; with
    fewer than enough it is void, and that as soon as there cannot be enough any more. The first report of a client
    counts, of whichever of its incarnations.

    Args:
        number: of the round, from 1.
        asked: the clients, in the federation's order.
        rounds: how rounds are held.
        deadline: until when.
        fence: larger than that of everybody who asked before: the reports to those are late.
    """

    def __init__(self, number: int, asked: Sequence[str], rounds: Rounds, deadline: float, fence: int) -> None:
        self.number, self.asked, self.deadline, self.fence = number, tuple(asked), deadline, fence
        self.enough = rounds.enough or len(self.asked)
        self._linger = rounds.linger
        self._enough_at = math.inf
        #: The reports that count.
        self.reports: dict[str, ClientReport] = {}
        self._refused: dict[str, str] = {}
        self._lost: dict[str, str] = {}
        #: How it has ended; None while it is open.
        self.end: RoundEnd | None = None
        #: How many reports came too late, or were of another round.
        self.late = 0

    @property
    def heard(self) -> set[str]:
        """Of whom it is known whether they report."""
        return {*self.reports, *self._refused, *self._lost}

    @property
    def until(self) -> float:
        """When it is over in any case, as far as is known now."""
        return min(self.deadline, self._enough_at + (math.inf if self._linger is None else self._linger))

    def restore(self, report: ClientReport, now: float) -> None:
        """Count a report that was kept before the coordinator was restarted, whatever fence it has.

        It came in time, also if the deadline is over by now: so all of them are restored before anybody looks.
        """
        self._count(report, now)

    def report(self, report: ClientReport, now: float) -> Reception:
        """Take a report, and return what becomes of it."""
        if report.client not in self.asked:
            return "stranger"
        if report.client in self.heard:
            return "again"
        if self.look(now) is not None or report.fence != self.fence or report.round != self.number:
            self.late += 1
            return "late"
        self._count(report, now)
        self._settle(now)
        return "counted"

    def _count(self, report: ClientReport, now: float) -> None:
        self.reports[report.client] = report
        if len(self.reports) == self.enough:
            self._enough_at = now

    def refuse(self, client: str, why: str) -> None:
        """Record that what a client has reported cannot be used."""
        self._miss(self._refused, client, why)

    def lose(self, client: str, why: str) -> None:
        """Record that a client cannot report any more."""
        self._miss(self._lost, client, why)

    def _miss(self, missing: dict[str, str], client: str, why: str) -> None:
        if self.end is None and client in self.asked and client not in self.heard:
            missing[client] = why
            self._settle(-math.inf)

    def look(self, now: float) -> RoundEnd | None:
        """Return how the round has ended; None while it is open."""
        self._settle(now)
        return self.end

    def _settle(self, now: float) -> None:
        if self.end is not None:
            return
        outstanding = len(self.asked) - len(self.heard)
        if len(self.reports) + outstanding < self.enough:
            self.end = self._ended("void", f"{len(self.reports)} of {self.enough} reports, and no more can come")
        elif not outstanding or now >= self.until:
            if len(self.reports) >= self.enough:
                self.end = self._ended("decided", "")
            else:
                self.end = self._ended("void", f"{len(self.reports)} of {self.enough} reports at the deadline")

    def _ended(self, state: Literal["decided", "void"], why: str) -> RoundEnd:
        counted = tuple(client for client in self.asked if client in self.reports)
        late = tuple(client for client in self.asked if client not in self.heard)
        return RoundEnd(self.number, self.fence, state, why, counted, dict(self._refused), dict(self._lost), late)
