"""Items of work: claims with leases and fences, and quarantine. Values without clock and actors."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from dspex.workflow.errors import StaleFence
from foundation.options import whole
from supervision.errors import BadOption

#: ``failed``: by an error of the program, for good. ``quarantined``: it was lost with too many workers.
ItemState: TypeAlias = Literal["waiting", "claimed", "done", "failed", "quarantined"]


class Claim(msgspec.Struct, frozen=True):
    """The right to do an item.

    Attributes:
        item: its name.
        fence: the fencing token: larger than that of any claim of this item before.
        worker: who has it.
        expires: when it is given to another worker; None for never.
    """

    item: str
    fence: int
    worker: str
    expires: float | None = None


class WorkItem(msgspec.Struct):
    """What is known of an item.

    Attributes:
        state: its state.
        fence: of the last claim.
        losses: the workers that were lost with it, and why; each lease that was over for itself.
        value: what was made of it; or, if it failed, the class and the message of its error.
        print: the fingerprint of what was given for it.
    """

    state: ItemState = "waiting"
    fence: int = 0
    losses: dict[str, str] = {}
    value: Any = None
    print: str = ""


class WorkItems:
    """Items that are done by workers, each by one at a time.

    Who has a claim may do an item until it has ended, has reported, or its lease is over; then the item is given to the
    next one, before those that nobody has had. A report with a fence that is not the last one's does not count.

    Args:
        names: of the items, in the order in which they are given out.
        known: what an earlier incarnation knew of them. Their claims are void.
        max_losses: with how many workers an item is lost until no other gets it.

    Raises:
        BadOption: there are two of one name, or ``max_losses`` is no whole number from 1.

    >>> items = WorkItems(["a", "b"])
    >>> first = items.claim("w1", now=0.0, lease=10.0)
    >>> items.expire(now=10.0)
    ['a']
    >>> second = items.claim("w2", now=10.0)
    >>> second.item, second.fence
    ('a', 2)
    >>> items.complete(first, "late", usage=3.0)
    Traceback (most recent call last):
    dspex.workflow.errors.StaleFence: a was claimed with fence 1, and is at 2: it was given to somebody else
    >>> items.complete(second, "good", usage=2.0)
    >>> items["a"].value, items.usage, items.coverage
    ('good', 5.0, 0.5)
    """

    def __init__(
        self, names: Iterable[str], known: Mapping[str, WorkItem] | None = None, *, max_losses: int = 3
    ) -> None:
        self._max_losses = whole("WorkItems: max_losses", max_losses)
        self._items: dict[str, WorkItem] = {}
        for name in names:
            if name in self._items:
                raise BadOption("WorkItems: names", name, "give each item a name of its own")
            self._items[name] = (known or {}).get(name) or WorkItem()
        self._index = {name: index for index, name in enumerate(self._items)}
        self._names = list(self._items)
        self._claims: dict[str, Claim] = {}
        self._waiting: list[int] = []
        self._left = 0
        for name, item in self._items.items():
            if item.state in ("waiting", "claimed"):
                item.state = "waiting"
                self._left += 1
                self._waiting.append(self._index[name])
        #: What all work has used, also that which did not count.
        self.usage = 0.0

    def __getitem__(self, name: str) -> WorkItem:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self._left

    @property
    def coverage(self) -> float:
        """Which part of the items is done; 1 of nothing."""
        done = sum(item.state == "done" for item in self._items.values())
        return done / len(self._items) if self._items else 1.0

    @property
    def next_expiry(self) -> float | None:
        """When the next lease is over; None if there is none."""
        return min((claim.expires for claim in self._claims.values() if claim.expires is not None), default=None)

    def claim(self, worker: str, now: float, lease: float | None = None) -> Claim | None:
        """Return a claim to the first item that waits; None if none does."""
        if not self._waiting:
            return None
        name = self._names[heapq.heappop(self._waiting)]
        item = self._items[name]
        item.state, item.fence = "claimed", item.fence + 1
        self._claims[name] = Claim(name, item.fence, worker, None if lease is None else now + lease)
        return self._claims[name]

    def renew(self, claim: Claim, now: float, lease: float) -> Claim:
        """Return a claim that lasts longer.

        Raises:
            StaleFence: it is over.
        """
        self._check(claim)
        renewed = self._claims[claim.item] = msgspec.structs.replace(claim, expires=now + lease)
        return renewed

    def complete(self, claim: Claim, value: Any, usage: float = 0.0) -> None:
        """Record that an item is done.

        Raises:
            StaleFence: the claim is over. Only the usage counts.
        """
        self._end(claim, "done", value, usage)

    def fail(self, claim: Claim, kind: str, message: str, usage: float = 0.0) -> None:
        """Record that an item has failed, by an error of the program: for good.

        Raises:
            StaleFence: the claim is over. Only the usage counts.
        """
        self._end(claim, "failed", [kind, message], usage)

    def lost(self, worker: str, why: str) -> list[str]:
        """Take back what a worker had that has ended; return the names of these items."""
        theirs = [claim for claim in self._claims.values() if claim.worker == worker]
        return [self._lose(claim, worker, why) for claim in theirs]

    def expire(self, now: float) -> list[str]:
        """Take back the items whose leases are over; return their names."""
        over = [claim for claim in self._claims.values() if claim.expires is not None and claim.expires <= now]
        return [self._lose(claim, f"{claim.worker}, fence {claim.fence}", "lease") for claim in over]

    def _end(self, claim: Claim, state: ItemState, value: Any, usage: float) -> None:
        self.usage += usage
        self._check(claim)
        item = self._items[claim.item]
        item.state, item.value = state, value
        del self._claims[claim.item]
        self._left -= 1

    def _lose(self, claim: Claim, who: str, why: str) -> str:
        item = self._items[claim.item]
        item.losses = {**item.losses, who: why}
        del self._claims[claim.item]
        if len(item.losses) >= self._max_losses:
            item.state = "quarantined"
            self._left -= 1
        else:
            item.state = "waiting"
            heapq.heappush(self._waiting, self._index[claim.item])
        return claim.item

    def _check(self, claim: Claim) -> None:
        current = self._claims.get(claim.item)
        if current is None or current.fence != claim.fence:
            raise StaleFence(claim.item, claim.fence, self._items[claim.item].fence)
