"""A subscription of a bus, as a state machine: what becomes of each signal, from its publication to its end.

A signal is *waiting*, *sent* to a member, *taken* up by it, or *backing off* before the next try; at its end it is
done, or a dead letter. Nothing here waits, writes or sends: the bus does, and tells what has happened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any

import msgspec

from agents.signals.checks import writable
from agents.signals.messages import DeadLetter, SignalRecord, SubscriptionOptions, SubscriptionStatus
from agents.signals.rows import (
    DeliveryRow,
    ExtraRow,
    RowState,
    SubscriptionChange,
    SubscriptionMember,
    bucket_of,
    key_of,
    weight,
)

#: The longest pause before a signal is delivered again, in seconds.
_LONGEST_PAUSE = 60.0
#: A signal that was out at so many deaths of the program is a dead letter.
MOST_DEATHS = 5
#: So many dead letters a subscription keeps, and for so many seconds.
DEAD_KEPT = 10_000
DEAD_SECONDS = 14 * 86400.0
#: What a member wants at a time, if neither it nor the subscription says so.
UNKNOWN_CREDIT = 100


class BusSubscription:
    """The signals of one subscription with a name, and its members.

    Args:
        name: of the subscription.
        options: of it.
        begin: the place in the log behind which it begins.
    """

    def __init__(self, name: str, options: SubscriptionOptions, begin: int) -> None:
        self.name = name
        self.options = options
        self.patterns: list[tuple[int, str]] = [(begin, options.pattern)]
        self.floor = begin
        self.members: dict[str, SubscriptionMember] = {}
        #: By name of the member: the name of its actor, if it is known by one.
        self.addresses: dict[str, str] = {}
        self.rows: dict[int, DeliveryRow] = {}
        self.dead: dict[int, DeadLetter] = {}
        self.out: int | None = None
        self.late_answers = 0
        self._last = begin
        self._done: set[int] = set()
        self._order: deque[int] = deque()
        self._keys: dict[str, deque[int]] = {}
        #: Places that can be sent: by the member that has their bucket, or None for those without a key.
        self._ready: dict[str | None, list[int]] = {None: []}
        self._holders: dict[int, list[Any]] = {}
        self._moving = False
        self._suspects: set[int] = set()
        #: Whether what is written says that there are suspects, though there are none any more.
        self.wrongly_suspected = False
        self._leases: dict[int, float] = {}
        self._pauses: list[tuple[float, int, int]] = []
        self._counts = {"waiting": 0, "sent": 0, "taken": 0, "backing_off": 0}
        self._newly_dead: list[int] = []
        self._defined = False
        self._told: tuple[int, int | None] = (-1, None)
        self._changed: dict[str, Any] = _nothing()

    # -- signals -------------------------------------------------------------------------------------------------

    def add(self, record: SignalRecord) -> None:
        """Add a signal that matches."""
        self._last = record.sequence
        self._enter(DeliveryRow(record, key_of(record, self.options.key)))

    def skip(self, sequence: int) -> None:
        """Note that the log has gone on with signals that do not match."""
        if not self._order:
            self.floor = sequence
        self._last = sequence

    def _enter(self, row: DeliveryRow) -> None:
        sequence = row.record.sequence
        self.rows[sequence] = row
        self._counts["waiting"] += 1
        if not row.extra:
            self._order.append(sequence)
        if row.key is not None:
            self._keys.setdefault(row.key, deque()).append(sequence)
        self._offer(row)

    def _is_eligible(self, row: DeliveryRow) -> bool:
        first = row.key is None or self._keys[row.key][0] == row.record.sequence
        return row.state == "waiting" and not row.held and first

    def _offer(self, row: DeliveryRow) -> None:
        if self._is_eligible(row):
            heappush(self._ready.setdefault(self._owner(row), []), row.record.sequence)

    def _owner(self, row: DeliveryRow) -> str | None:
        """Return the member that a signal with a key goes to: who has its bucket, as long as it has anything of it."""
        if row.key is None:
            return None
        bucket = bucket_of(row.key)
        holder = self._holders.get(bucket)
        return self._preferred(bucket) if holder is None else holder[0]

    def _preferred(self, bucket: int) -> str | None:
        staying = [one.name for one in self.members.values() if not one.leaving]
        return max(staying, key=lambda name: weight(name, bucket), default=None)

    # -- members -------------------------------------------------------------------------------------------------

    def join(self, name: str, credit: int, *, tells: bool) -> None:
        """Add a member, or let one come back."""
        known = self.members.get(name)
        if known is None:
            known = self.members[name] = SubscriptionMember(name)
            self._reoffer()
        known.credit, known.tells, known.leaving = credit, tells, False

    def away(self, name: str, why: str | None, now: float, chance: float) -> None:
        """A member has ended. What it had taken up has failed if it ended uncleanly (``why``); the rest waits."""
        member = self.members[name]
        member.credit = 0
        tells, member.tells = member.tells, True  # nothing is believed of it any more
        for sequence, row in list(member.out.items()):
            if row.state == "taken" and why is not None:
                self.fail(sequence, row.attempt, f"it ended its receiver: {why}", now, chance)
            else:
                self._back(row)
        member.tells = tells

    def leave(self, name: str, now: float) -> None:
        """Remove a member: what it has goes to others."""
        self.away(name, None, now, 0.0)
        self.members.pop(name, None)
        self.addresses.pop(name, None)
        self._reoffer()

    def retire(self, name: str, now: float) -> None:
        """Let a member end what it has, and give it nothing more: it leaves when it has nothing."""
        member = self.members[name]
        member.leaving, member.credit = True, 0
        self.addresses.pop(name, None)
        if not member.out:
            self.leave(name, now)
        else:
            self._reoffer()

    def _reoffer(self) -> None:
        """Divide what can be sent among the members anew."""
        self._moving = any(holder[0] != self._preferred(bucket) for bucket, holder in self._holders.items())
        self._ready = {None: []}
        for sequence, row in self.rows.items():
            if self._is_eligible(row):
                self._ready.setdefault(self._owner(row), []).append(sequence)
        for heap in self._ready.values():
            heapify(heap)

    # -- sending -------------------------------------------------------------------------------------------------

    def sendable(self) -> Iterator[tuple[SubscriptionMember, DeliveryRow]]:
        """Yield what is to be sent now, and to whom; it is sent with `send`.

        While there are suspects, one of them is sent at a time, and nothing else.
        """
        if self.out is not None or any(self.rows[one].state in ("sent", "taken") for one in self._suspects):
            return
        suspect = next(filter(self._is_eligible, (self.rows[one] for one in sorted(self._suspects))), None)
        if suspect is not None:
            yield from self._alone(suspect)
            return
        going = True
        while going:
            going = False
            for member in sorted(self.members.values(), key=lambda one: -one.free):
                row = self._next_for(member) if member.free > 0 else None
                if row is not None:
                    going = True
                    yield member, row

    def _alone(self, suspect: DeliveryRow) -> Iterator[tuple[SubscriptionMember, DeliveryRow]]:
        if not self._counts["sent"] and not self._counts["taken"]:
            owner = self._owner(suspect)
            free = [one for one in self.members.values() if one.free > 0 and owner in (None, one.name)]
            yield from ((one, suspect) for one in free[:1])

    def _next_for(self, member: SubscriptionMember) -> DeliveryRow | None:
        heaps = [heap for heap in (self._ready.get(member.name), self._ready[None]) if heap]
        while heaps:
            heap = min(heaps, key=lambda one: one[0])
            row = self.rows.get(heappop(heap))
            if row is not None and self._is_eligible(row):
                return row
            heaps = [one for one in heaps if one]
        return None

    def send(self, member: SubscriptionMember, row: DeliveryRow, now: float) -> int:
        """Note that a signal is sent; return the number of the attempt."""
        self._go("sent", row)
        row.member = member
        member.out[row.record.sequence] = row
        if row.key is not None:
            holder = self._holders.setdefault(bucket_of(row.key), [member.name, 0])
            holder[1] += 1
        if not member.tells:
            self._believe(member, now)
        return row.attempt + (row.state == "sent")

    def _believe(self, member: SubscriptionMember, now: float) -> None:
        """Of a member that does not say so: believe that it has taken up the oldest one that it has."""
        row = next(iter(member.out.values()), None)
        if row is not None and row.state == "sent":
            self._take(row, now)

    def _go(self, state: RowState, row: DeliveryRow) -> None:
        self._counts[row.state] -= 1
        self._counts[state] += 1
        row.state = state

    # -- what receivers say --------------------------------------------------------------------------------------

    def take(self, sequence: int, attempt: int, now: float) -> None:
        """A signal is taken up."""
        row = self.rows.get(sequence)
        if row is not None and row.state == "sent" and attempt == row.attempt + 1:
            self._take(row, now)

    def _take(self, row: DeliveryRow, now: float) -> None:
        self._go("taken", row)
        row.attempt += 1
        row.since = now
        self._leases[row.record.sequence] = now + self.options.ack_within

    def work(self, sequence: int, attempt: int, now: float) -> None:
        """A signal is being worked at: it has its time anew, unless that was so for too long."""
        row = self._answered(sequence, attempt)
        if row is not None and row.state == "taken" and now < row.since + self.options.max_lease:
            self._leases.pop(sequence, None)
            self._leases[sequence] = now + self.options.ack_within

    def ack(self, sequence: int, attempt: int, now: float) -> bool:
        """A signal is done; return whether the answer counts."""
        row = self._answered(sequence, attempt)
        if row is None:
            self.late_answers += 1
            return False
        self._settle(row, now)
        return True

    def _answered(self, sequence: int, attempt: int) -> DeliveryRow | None:
        """Return the signal that an answer is about, if it is about the present attempt.

        One that waits may have been sent by the bus before this one: what was done then is done.
        """
        row = self.rows.get(sequence)
        if row is None or row.state == "backing_off":
            return None
        return row if attempt == row.attempt + (row.state != "taken") else None

    def nack(self, sequence: int, attempt: int, why: str, now: float, chance: float, **how: Any) -> bool:
        """A signal was refused; return whether the answer counts. See `fail` for the rest."""
        row = self._answered(sequence, attempt)
        if row is None:
            self.late_answers += 1
            return False
        if row.state != "taken":
            row.attempt += 1
        self.fail(sequence, row.attempt, why, now, chance, **how)
        return True

    def fail(
        self,
        sequence: int,
        attempt: int,
        why: str,
        now: float,
        chance: float,
        *,
        final: bool = False,
        delay: float | None = None,
    ) -> None:
        """An attempt has failed: the signal backs off, or is dead.

        Args:
            sequence: its place.
            attempt: which attempt.
            why: for people.
            now: the time.
            chance: from 0 to 1, for the pause.
            final: whether there is to be no other attempt.
            delay: the pause, if it is not that of the subscription.
        """
        row = self.rows[sequence]
        self._clear(row)
        if final or attempt >= self.options.attempts:
            self._die(row, why, now)
            return
        pause = min(self.options.retry * 2 ** min(attempt - 1, 32), _LONGEST_PAUSE) * (0.8 + 0.4 * chance)
        self._recall(row, now)
        self._go("backing_off", row)
        self._changed["tried"][sequence] = (row.attempt, row.deaths)
        heappush(self._pauses, (now + (pause if delay is None else delay), sequence, attempt))

    def _back(self, row: DeliveryRow) -> None:
        """A signal that was sent waits again; no attempt is counted for one that was not taken up."""
        if row.state == "taken":
            row.attempt -= 1
        if self.out == row.record.sequence:
            self.out = None
        self._recall(row, 0.0)
        self._go("waiting", row)
        self._offer(row)

    def _recall(self, row: DeliveryRow, now: float) -> None:
        """Take a signal from the member that has it."""
        member, row.member = row.member, None
        sequence = row.record.sequence
        self._leases.pop(sequence, None)
        if member is None:
            return
        del member.out[sequence]
        if row.key is not None:
            bucket = bucket_of(row.key)
            holder = self._holders[bucket]
            holder[1] -= 1
            if not holder[1]:
                del self._holders[bucket]
                if self._moving:
                    self._reoffer()
        if not member.tells:
            self._believe(member, now)
        if member.leaving and not member.out:
            self.leave(member.name, now)

    def _clear(self, row: DeliveryRow) -> None:
        """There was an outcome: it is no suspect any more."""
        sequence = row.record.sequence
        if sequence in self._suspects:
            self._suspects.discard(sequence)
            row.deaths = 0
            self._changed["tried"][sequence] = (row.attempt, 0)
            self.wrongly_suspected = not self._suspects
        if self.out == sequence:
            self.out = None

    def _settle(self, row: DeliveryRow, now: float) -> None:
        """A signal is at its end."""
        sequence = row.record.sequence
        self._clear(row)
        self._recall(row, now)
        self._counts[row.state] -= 1
        del self.rows[sequence]
        self._changed["tried"].pop(sequence, None)
        if row.key is not None:
            queue = self._keys[row.key]
            queue.remove(sequence)
            if queue:
                self._offer(self.rows[queue[0]])
            else:
                del self._keys[row.key]
        self._changed["settled"].append(sequence)
        if not row.extra:
            self._done.add(sequence)
            self._advance()

    def _advance(self) -> None:
        """Move the floor on over what is at its end."""
        while self._order and self._order[0] in self._done:
            self._done.discard(self._order.popleft())
        self.floor = self._order[0] - 1 if self._order else self._last

    def _die(self, row: DeliveryRow, why: str, now: float) -> None:
        self._settle(row, now)
        sequence = row.record.sequence
        self.dead[sequence] = DeadLetter(self.name, row.record, row.attempt, writable(why), 0.0, row.extra)
        self._changed["dead"].append(sequence)
        self._newly_dead.append(sequence)

    def newly_dead(self, wall: float) -> list[DeadLetter]:
        """Return the dead letters since the last time, with the time, in seconds since the epoch."""
        sequences, self._newly_dead = self._newly_dead, []
        for sequence in sequences:
            self.dead[sequence] = msgspec.structs.replace(self.dead[sequence], time=wall)
        return [self.dead[sequence] for sequence in sequences]

    # -- time ----------------------------------------------------------------------------------------------------

    def due(self) -> float | None:
        """Return when the next lease or pause is over, if there is one."""
        lease = next(iter(self._leases.values()), None)
        pause = self._pauses[0][0] if self._pauses else None
        return min((one for one in (lease, pause) if one is not None), default=None)

    def tick(self, now: float, chance: float) -> None:
        """Deal with what is due."""
        within = self.options.ack_within
        for sequence, until in list(self._leases.items()):
            if until > now:
                break
            row = self.rows[sequence]
            why = f"it was not acknowledged within {within:g} s: is its receiver still working?"
            self.fail(sequence, row.attempt, why, now, chance)
        while self._pauses and self._pauses[0][0] <= now:
            _, sequence, attempt = heappop(self._pauses)
            paused = self.rows.get(sequence)
            if paused is not None and paused.state == "backing_off" and paused.attempt == attempt:
                self._go("waiting", paused)
                self._offer(paused)

    def drop(self, sequence: int, now: float) -> None:
        """Make a signal a dead letter, as the log is full."""
        row = self.rows.get(sequence)
        if row is not None:
            self._die(row, "it was not acknowledged before the log was full", now)

    # -- dead letters --------------------------------------------------------------------------------------------

    def forget(self, letters: list[DeadLetter]) -> None:
        """Forget dead letters."""
        for letter in letters:
            del self.dead[letter.recorded.sequence]
            self._changed["revived"].append(letter.recorded.sequence)

    def expired(self, wall: float) -> list[DeadLetter]:
        """Return the dead letters that are too many, or too old."""
        letters = list(self.dead.values())
        many = letters[: max(0, len(letters) - DEAD_KEPT)]
        return many + [one for one in letters[len(many) :] if 0.0 < one.time < wall - DEAD_SECONDS]

    def revive(self, letters: list[DeadLetter]) -> list[int]:
        """Take dead letters up again, to be sent when that is written: see `release`."""
        self.forget(letters)
        return self._again([(letter.recorded, letter.redriven + 1) for letter in letters])

    def again(self, records: list[SignalRecord]) -> list[int]:
        """Take signals up again that were done, to be sent when that is written: see `release`."""
        return self._again([(record, 1) for record in records if record.sequence not in self.rows])

    def _again(self, found: list[tuple[SignalRecord, int]]) -> list[int]:
        for record, times in found:
            row = DeliveryRow(record, key_of(record, self.options.key))
            row.extra, row.held = times, True
            self._enter(row)
            self._changed["extra"].append(record.sequence)
        return [record.sequence for record, _ in found]

    def release(self, sequences: list[int]) -> None:
        """Let signals be sent that were taken up again."""
        for sequence in sequences:
            row = self.rows.get(sequence)
            if row is not None:
                row.held = False
                self._offer(row)

    # -- deaths of the program -----------------------------------------------------------------------------------

    def suspect(self, out: int | None, *, clean: bool, now: float) -> None:
        """After a start: what may have been out when the program died without an end in order is suspected of it.

        The one that was sent alone, if there was one. While there were suspects, nothing else was out; or else it may
        have been any of the first that its members may have had. One that was out at too many deaths is a dead letter.

        Args:
            out: what was sent alone.
            clean: whether there was an end in order.
            now: the time.
        """
        if clean:
            rows = []
        elif out in self.rows:
            rows = [self.rows[out]]
        else:
            rows = [] if any(row.deaths for row in self.rows.values()) else self._first_out()
        for row in rows:
            row.deaths += 1
            self._changed["tried"][row.record.sequence] = (row.attempt, row.deaths)
        for sequence, row in list(self.rows.items()):
            if row.deaths >= MOST_DEATHS:
                self._die(row, f"the program died {row.deaths} times while it was out", now)
            elif row.deaths:
                self._suspects.add(sequence)

    def _first_out(self) -> list[DeliveryRow]:
        limit = (self.options.in_flight or UNKNOWN_CREDIT) * max(1, len(self.addresses))
        eligible = (row for row in self.rows.values() if self._is_eligible(row))
        return list(islice(eligible, limit))

    # -- what is kept --------------------------------------------------------------------------------------------

    def redefine(self, options: SubscriptionOptions, sequence: int) -> None:
        """Change the options; another pattern counts for signals from now on."""
        if options.pattern != self.options.pattern:
            self.patterns = [one for one in self.patterns if one[0] < sequence] + [(sequence, options.pattern)]
        self.options = options
        self._defined = False

    def undefined(self) -> None:
        """Note that options or members have changed."""
        self._defined = False

    def change(self) -> SubscriptionChange | None:
        """Return what has changed since the last time; None if nothing has."""
        changed, self._changed = self._changed, _nothing()
        head: dict[str, Any] = {}
        if not self._defined:
            head = self._head()
            self._defined = True
        elif not any(changed.values()) and (self.floor, self.out) == self._told:
            return None
        self._told = (self.floor, self.out)
        rows = [self.rows.get(sequence) for sequence in changed["extra"]]
        return SubscriptionChange(
            name=self.name,
            floor=self.floor,
            settled=tuple(changed["settled"]),
            tried=changed["tried"],
            extra=tuple(ExtraRow(row.record, row.extra) for row in rows if row is not None and row.extra),
            dead=tuple(self.dead[sequence] for sequence in changed["dead"] if sequence in self.dead),
            revived=tuple(changed["revived"]),
            out=self.out,
            **head,
        )

    def _head(self) -> dict[str, Any]:
        behind = [n for n, one in enumerate(self.patterns) if one[0] <= self.floor]
        self.patterns = self.patterns[behind[-1] if behind else 0 :]
        return {"options": self.options, "patterns": tuple(self.patterns), "members": dict(self.addresses)}

    def whole(self) -> SubscriptionChange:
        """Return all of it, seen from nothing."""
        self._done = {one for one in self._done if one > self.floor}
        return SubscriptionChange(
            name=self.name,
            floor=self.floor,
            settled=tuple(self._done),
            tried={n: (row.attempt, row.deaths) for n, row in self.rows.items() if row.attempt or row.deaths},
            extra=tuple(ExtraRow(row.record, row.extra) for row in self.rows.values() if row.extra),
            dead=tuple(self.dead.values()),
            out=self.out,
            **self._head(),
        )

    def status(self) -> SubscriptionStatus:
        """Return how it is."""
        members = {name: len(member.out) for name, member in self.members.items()}
        counts = (len(self.dead), len(self._suspects), self.late_answers)
        first = next(iter(self.rows.values()), None)
        return SubscriptionStatus(
            **self._counts,
            dead=counts[0],
            suspects=counts[1],
            late_answers=counts[2],
            members=members,
            oldest=None if first is None else first.record.time,
        )


def _nothing() -> dict[str, Any]:
    return {"settled": [], "tried": {}, "extra": [], "dead": [], "revived": []}
