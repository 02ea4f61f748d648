"""What becomes of each signal of a subscription: the state machine by itself, explored, and along its table."""

from __future__ import annotations

import copy
import random
from typing import Any

import msgspec
import pytest

from agents import Signal
from agents.signals.kept_subscription import KeptSubscription
from agents.signals.messages import SignalRecord, SubscriptionOptions
from agents.signals.rows import DeliveryRow, SubscriptionChange, bucket_of, key_of, weight
from agents.signals.subscription import DEAD_SECONDS, MOST_DEATHS, BusSubscription


def record(n: int, subject: str | None = None, data: Any = None) -> SignalRecord:
    """Return a signal of a log."""
    return SignalRecord(n, 0.0, Signal(type="t", source="/", id=str(n), subject=subject, data=data))


def sent(subscription: BusSubscription, now: float = 0.0) -> list[tuple[str, int, int]]:
    """Send what can be sent; return the member, the place and the attempt of each."""
    found = []
    for member, row in subscription.sendable():
        subscription.send(member, row, now)
        found.append((member.name, row.record.sequence, row.attempt + (row.state == "sent")))
    return found


def made(*members: str, credit: int = 10, tells: bool = True, **options: Any) -> BusSubscription:
    """Return a subscription with members."""
    subscription = BusSubscription("s", SubscriptionOptions("**", **options), 0)
    for name in members:
        subscription.join(name, credit, tells=tells)
    return subscription


# -- explored ----------------------------------------------------------------------------------------------------------


class World:
    """Three signals of two keys, two members, two attempts, at most two deaths and one redrive: all that can happen."""

    def __init__(self) -> None:
        self.subscription = made("a", "b", key="subject", attempts=2, retry=0.0)
        self.log = [record(n, "xyx"[n - 1]) for n in (1, 2, 3)]
        for one in self.log:
            self.subscription.add(one)
        #: What each member works at, and what it has done.
        self.hands: list[tuple[str, int, int, str]] = []
        self.worked: set[int] = set()
        self.deaths = self.redrives = 0
        self.now = 0.0
        self.order: list[int] = []

    def moves(self) -> list[tuple[Any, ...]]:
        """Return what can happen now."""
        found: list[tuple[Any, ...]] = [("tick",)] if self.subscription.due() is not None else []
        for hand in self.hands:
            found += [("take", hand)] if hand[3] == "sent" else [("ack", hand), ("nack", hand), ("final", hand)]
        if self.deaths < 2:
            found += [("down", name) for name in ("a", "b") if self.subscription.members[name].credit]
            found += [("up", name) for name in ("a", "b") if not self.subscription.members[name].credit]
        else:
            found += [("up", name) for name in ("a", "b") if not self.subscription.members[name].credit]
        if self.subscription.dead and not self.redrives:
            found.append(("redrive",))
        return found

    def happen(self, move: tuple[Any, ...]) -> None:
        """Let something happen, and check what must always be so."""
        subscription, (kind, *rest) = self.subscription, move
        if kind in ("take", "ack", "nack", "final"):
            (hand,) = rest
            member, sequence, attempt, _ = hand
            self.hands.remove(hand)
            if kind == "take":
                subscription.take(sequence, attempt, self.now)
                self.hands.append((member, sequence, attempt, "taken"))
            elif kind == "ack":
                self.worked.add(sequence)
                subscription.ack(sequence, attempt, self.now)
            else:
                subscription.nack(sequence, attempt, "no", self.now, 0.5, final=kind == "final")
        elif kind == "down":
            self.deaths += 1
            subscription.away(rest[0], "boom", self.now, 0.5)
            self.hands = [hand for hand in self.hands if hand[0] != rest[0]]
        elif kind == "up":
            subscription.join(rest[0], 10, tells=True)
        elif kind == "tick":
            self.now = max(self.now, subscription.due() or 0.0)
            subscription.tick(self.now, 0.5)
        else:
            self.redrives += 1
            subscription.release(subscription.revive(list(subscription.dead.values())))
        self.hands += [(*one, "sent") for one in sent(subscription, self.now)]
        self.check()

    def check(self) -> None:
        """Check what must always be so."""
        subscription = self.subscription
        rows, dead = subscription.rows, subscription.dead
        assert not rows.keys() & dead.keys()
        for sequence in (1, 2, 3):
            if sequence not in rows and sequence not in dead:
                assert sequence in self.worked
        out = [row for row in rows.values() if row.state in ("sent", "taken")]
        keys = [row.key for row in out]
        assert len(set(keys)) == len(keys)
        assert sum(len(member.out) for member in subscription.members.values()) == len(out)
        status = subscription.status()
        assert status.waiting + status.sent + status.taken + status.backing_off == len(rows)
        again = restored([subscription.whole()], self.log, 3, clean=True)
        assert (set(again.rows), set(again.dead), again.floor) == (set(rows), set(dead), subscription.floor)

    def state(self) -> Any:
        """Return what two worlds have in common in which the same can happen."""
        rows = [
            (n, one.state, one.attempt, one.extra, one.member and one.member.name)
            for n, one in sorted(self.subscription.rows.items())
        ]
        members = [(one.name, one.credit, tuple(one.out)) for one in self.subscription.members.values()]
        keys = sorted((key, tuple(queue)) for key, queue in self.subscription._keys.items())
        pauses = sorted((n, attempt) for _, n, attempt in self.subscription._pauses)
        fixed = (tuple(rows), tuple(members), tuple(sorted(self.hands)), tuple(sorted(self.subscription.dead)))
        return (*fixed, tuple(keys), tuple(pauses), self.deaths, self.redrives, tuple(sorted(self.worked)))


@pytest.mark.once
def test_in_every_order_of_events_each_signal_is_in_one_place_and_ends_done_or_dead() -> None:
    """Whatever happens: one out for each key, nothing is lost, what is done was worked at, and all ends.

    A random sample of ways, each to its end; none of them ends with anything open.
    """
    chance = random.Random(27)
    seen = set()
    for _ in range(500):
        world = World()
        world.hands += [(*one, "sent") for one in sent(world.subscription)]
        for _ in range(200):
            moves = world.moves()
            ending = [move for move in moves if move[0] in ("take", "ack", "up")]
            if not moves or (not world.subscription.rows and not world.hands):
                break
            world.happen(chance.choice(ending if ending and chance.random() < 0.3 else moves))
            seen.add(world.state())
        assert world.subscription.rows == {}
        assert world.subscription.floor == 3
    assert len(seen) > 1500


@pytest.mark.once
def test_the_first_steps_are_explored_in_all_orders() -> None:
    """All that can happen in the first six steps."""
    world = World()
    world.hands += [(*one, "sent") for one in sent(world.subscription)]
    wave, seen = [world], set()
    for _ in range(6):
        following = []
        for one in wave:
            for move in one.moves():
                other = copy.deepcopy(one)
                other.happen(move)
                state = other.state()
                if state not in seen:
                    seen.add(state)
                    following.append(other)
        wave = following[:100]
    assert len(seen) > 300


# -- the table ---------------------------------------------------------------------------------------------------------


def restored(changes: list[Any], log: list[SignalRecord], last: int, *, clean: bool) -> BusSubscription:
    """Return a subscription put together from what was written, through bytes."""
    data = [msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=SubscriptionChange) for one in changes]
    kept = KeptSubscription(data[0])
    for one in data[1:]:
        kept.add(one)
    return kept.restored(log, last, clean=clean, now=0.0)


def test_time_begins_when_a_signal_is_taken_up_and_anew_with_each_word() -> None:
    """Sent and not taken up, it has no limit; late words and answers do not count; a lease has a longest length."""
    one = made("a", ack_within=30.0, max_lease=70.0)
    one.add(record(1))
    assert sent(one) == [("a", 1, 1)]
    assert one.due() is None
    one.take(1, 1, 100.0)
    one.take(1, 1, 105.0)
    assert one.due() == 130.0
    for now in (125.0, 150.0, 171.0):
        one.work(1, 1, now)
    one.work(1, 2, 175.0)
    one.work(9, 1, 175.0)
    assert one.due() == 180.0
    one.tick(179.0, 0.5)
    assert one.rows[1].state == "taken"
    one.tick(180.0, 0.5)
    assert (one.rows[1].state, one.ack(1, 1, 181.0), one.nack(1, 1, "x", 181.0, 0.5), one.late_answers) == (
        *("backing_off", False),
        *(False, 2),
    )
    due = one.due()
    assert due is not None
    one.tick(due, 0.5)
    assert sent(one) == [("a", 1, 2)]
    assert (one.ack(1, 1, 200.0), one.ack(1, 2, 200.0), one.rows, one.floor) == (False, True, {}, 1)


def test_of_a_member_that_does_not_say_so_the_oldest_is_believed_to_be_taken_up() -> None:
    """And the next one when that is answered; when it dies, that one alone counts as tried."""
    one = made("a", tells=False, ack_within=5.0)
    for n in (1, 2, 3):
        one.add(record(n))
    assert sent(one, 0.0) == [("a", 1, 1), ("a", 2, 1), ("a", 3, 1)]
    assert [one.rows[n].state for n in (1, 2, 3)] == ["taken", "sent", "sent"]
    assert one.ack(1, 1, 3.0)
    assert (one.rows[2].state, one.due()) == ("taken", 8.0)
    assert one.ack(3, 1, 4.0)
    one.away("a", "boom", 5.0, 0.5)
    assert (one.rows[2].state, one.rows[2].attempt) == ("backing_off", 1)
    one.add(record(4))
    one.join("a", 5, tells=False)
    assert sent(one) == [("a", 4, 1)]
    one.away("a", None, 6.0, 0.5)
    assert (one.rows[4].state, one.rows[4].attempt) == ("waiting", 0)


def test_a_refusal_can_be_final_or_say_when() -> None:
    """Before it is taken up, too; the pauses double, up to a minute."""
    one = made("a", attempts=99, retry=1.0)
    for n in (1, 2, 3):
        one.add(record(n))
    sent(one)
    assert one.nack(1, 1, "never", 0.0, 0.5, final=True)
    assert one.nack(2, 1, "later", 0.0, 0.5, delay=7.0)
    assert ([letter.why for letter in one.dead.values()], one.due()) == (["never"], 7.0)
    now, pauses = 0.0, []
    for attempt in range(1, 10):
        assert one.nack(3, attempt, "no", now, 0.5)
        pauses.append(min(due for due, n, _ in one._pauses if n == 3) - now)
        now += pauses[-1]
        one.tick(now, 0.5)
        sent(one, now)
        now += 1.0
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_D081_of_each_key_one_is_out_and_members_share_the_keys() -> None:
    """Of a thousand signals with ten keys, four members have each key in order, and never two of it at once."""
    one = made("a", "b", "c", "d", key="subject")
    for n in range(1, 1001):
        one.add(record(n, f"k{n % 10}"))
    done: dict[str | None, list[int]] = {}
    by: dict[str | None, set[str]] = {}
    while batch := sent(one):
        assert len({one.rows[n].key for _, n, _ in batch}) == len(batch)
        for member, n, attempt in batch:
            key = one.rows[n].key
            done.setdefault(key, []).append(n)
            by.setdefault(key, set()).add(member)
            assert one.ack(n, attempt, 0.0)
    assert all(places == sorted(places) for places in done.values())
    assert (sum(map(len, done.values())), {len(members) for members in by.values()}) == (1000, {1})
    assert len({member for members in by.values() for member in members}) > 1


def test_D083_a_new_member_gets_its_share_of_the_keys_and_none_of_which_anything_is_out() -> None:
    """About a fifth of them move to the fifth member, and only to it; each when nothing of it is out any more."""
    names = ["a", "b", "c", "d"]
    keys = [f"k{n}" for n in range(400)]
    one = made(*names, key="subject", credit=1000)
    for n, key in enumerate(keys, 1):
        one.add(record(n, key))
    before = {n: member for member, n, _ in sent(one)}
    one.join("e", 1000, tells=True)
    for n, key in enumerate(keys, 1001):
        one.add(record(n, key))
    assert sent(one) == []
    for n in before:
        assert one.ack(n, 1, 0.0)
    after = {n - 1000: member for member, n, _ in sent(one)}
    moved = {n for n in before if before[n] != after[n]}
    assert {after[n] for n in moved} == {"e"}
    assert 0.1 < len(moved) / len(keys) < 0.3
    one.leave("e", 0.0)
    back = {n - 1000: member for member, n, _ in sent(one)}
    assert set(back) == moved
    assert all(back[n] == before[n] for n in moved)


def test_a_member_that_comes_back_takes_the_place_of_its_old_self_and_the_last_one_leaves_all() -> None:
    """Without members everything waits; nothing is offered to somebody who is away."""
    one = made("a", key="data.who")
    one.add(record(1, data={"who": "x"}))
    one.add(record(2, data={"who": "x"}))
    assert sent(one) == [("a", 1, 1)]
    one.leave("a", 0.0)
    one.add(record(3))
    assert sent(one) == []
    one.join("b", 1, tells=True)
    assert sent(one) == [("b", 1, 1)]
    one.leave("b", 0.0)
    one.join("c", 5, tells=True)
    assert sorted(n for _, n, _ in sent(one)) == [1, 3]


def test_keys_are_texts_that_are_equal_for_equal_values_alone() -> None:
    """From the subject, or by a path into the data; what has none stays in no order."""

    class Broken:
        def __repr__(self) -> str:
            raise ValueError("no")

    class Data(msgspec.Struct):
        id: Any

    assert key_of(record(1, "x"), "subject") == "x"
    assert key_of(record(1), "subject") is None
    assert key_of(record(1, "x"), None) is None
    assert key_of(record(1, data={"a": {"b": 1}}), "data.a.b") != key_of(record(1, data={"a": {"b": "1"}}), "data.a.b")
    assert key_of(record(1, data=Data(3)), "data.id") == "3"
    assert key_of(record(1, data=3), "data.id") is None
    assert "Broken" in str(key_of(record(1, data={"id": Broken()}), "data.id"))
    assert 0 <= bucket_of("\ud800") < 256
    assert weight("a", 3) == weight("a", 3) != weight("b", 3)


def test_weights_are_not_remembered_without_end() -> None:
    """However many members there were."""
    for n in range(100_050):
        weight(f"m{n}", 0)
    assert weight("m1", 0) == weight("m1", 0)


def test_dead_letters_are_taken_up_again_when_that_is_written() -> None:
    """With their attempts from the beginning, behind what waits with their key; how often is counted."""
    one = made("a", attempts=1, key="subject")
    for n in (1, 2):
        one.add(record(n, "x"))
    sent(one)
    one.nack(1, 1, "no", 0.0, 0.5)
    assert [letter.time for letter in one.newly_dead(77.0)] == [77.0]
    assert sent(one) == [("a", 2, 1)]
    held = one.revive(list(one.dead.values()))
    one.ack(2, 1, 0.0)
    assert sent(one) == []
    one.release([*held, 99])
    assert sent(one) == [("a", 1, 1)]
    one.nack(1, 1, "no", 0.0, 0.5)
    assert one.dead[1].redriven == 1
    assert one.again([record(1, "x"), record(2, "x")]) == [1, 2]
    one.drop(7, 0.0)


def test_dead_letters_have_an_end() -> None:
    """They are too many, or too old."""
    one = made("a")
    for n in range(1, 10_004):
        one.add(record(n))
        one.drop(n, 0.0)
    one.newly_dead(1000.0)
    assert [letter.recorded.sequence for letter in one.expired(1000.0)] == [1, 2, 3]
    assert len(one.expired(1001.0 + DEAD_SECONDS)) == 10_003


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_changes_put_together_are_the_whole() -> None:
    """At every step of random lives: whoever reads the changes has what whoever reads the whole has."""
    for seed in range(40):
        chance = random.Random(seed)
        one = made("a", attempts=2, retry=0.0)
        one.addresses["a"] = "worker"
        changes = [one.change()]
        log: list[SignalRecord] = []
        now = 0.0
        for _ in range(60):
            kind = chance.choice(["add", "skip", "ack", "nack", "tick", "redrive", "forget", "replay", "pattern"])
            out = [row for row in one.rows.values() if row.state in ("sent", "taken")]
            if kind == "add" or (kind == "skip" and not log):
                log.append(record(len(log) + 1))
                one.add(log[-1])
            elif kind == "skip":
                log.append(SignalRecord(len(log) + 1, 0.0, Signal(type="z", source="/", id=f"z{len(log)}")))
                one.add(log[-1])
            elif kind in ("ack", "nack") and out:
                row = chance.choice(out)
                attempt = row.attempt + (row.state == "sent")
                if kind == "ack":
                    one.ack(row.record.sequence, attempt, now)
                else:
                    one.nack(row.record.sequence, attempt, "no", now, 0.5)
            elif kind == "tick":
                now += 1.0
                one.tick(now, 0.5)
            elif kind in ("redrive", "forget"):
                letters = chance.sample(list(one.dead.values()), min(1, len(one.dead)))
                one.release(one.revive(letters)) if kind == "redrive" else one.forget(letters)
            elif kind == "replay":
                closed = [r for r in log if r.sequence not in one.rows and r.sequence not in one.dead]
                one.release(one.again(chance.sample(closed, min(1, len(closed)))))
            elif kind == "pattern":
                one.redefine(msgspec.structs.replace(one.options, attempts=chance.randrange(1, 4)), len(log))
            sent(one, now)
            if chance.random() < 0.3:
                change = one.change()
                changes += [] if change is None else [change]
        change = one.change()
        changes += [] if change is None else [change]
        assert one.change() is None
        piecewise = restored(changes, log, len(log), clean=True)
        at_once = restored([one.whole()], log, len(log), clean=True)
        for other in (piecewise, at_once):
            assert (set(other.rows), other.dead, other.floor) == (set(one.rows), one.dead, one.floor)
            assert {n: row.extra for n, row in other.rows.items()} == {n: row.extra for n, row in one.rows.items()}
            tried = {n: row.attempt for n, row in one.rows.items() if row.state == "backing_off"}
            assert {n: other.rows[n].attempt for n in tried} == tried
            assert (other.options, other.addresses) == (one.options, {"a": "worker"})


def test_another_pattern_counts_from_then_on() -> None:
    """What was open stays, what comes is matched anew: after a restart, too."""
    one = BusSubscription("s", SubscriptionOptions("a"), 0)
    log = [SignalRecord(n, 0.0, Signal(type="ab"[n % 2], source="/", id=str(n))) for n in range(6)][1:]
    one.add(log[1])
    changes = [one.change()]
    one.redefine(SubscriptionOptions("b"), 2)
    one.redefine(SubscriptionOptions("b", attempts=3), 2)
    for each in (log[2], log[4]):
        one.add(each)
    changes.append(one.change())
    again = restored(changes, log, 5, clean=True)
    assert set(again.rows) == set(one.rows) == {2, 3, 5}
    again.undefined()
    assert again.change().patterns == ((0, "a"), (2, "b"))  # type: ignore[union-attr]
    again.join("m", 9, tells=True)
    for _, n, attempt in sent(again):
        again.ack(n, attempt, 0.0)
    again.undefined()
    assert again.change().patterns == ((2, "b"),)  # type: ignore[union-attr]


def test_many_settled_places_are_forgotten_when_the_floor_has_passed_them() -> None:
    """However long the life of a subscription is."""
    kept = KeptSubscription(SubscriptionChange(name="s", options=SubscriptionOptions("**"), patterns=((0, "**"),)))
    kept.add(SubscriptionChange(name="s", floor=1500, settled=tuple(range(1, 2000))))
    assert len(kept.settled) == 499


# -- deaths of the program ---------------------------------------------------------------------------------------------


def test_D042_who_kills_the_program_is_found_and_its_neighbours_go_free() -> None:
    """After an unclean end what may have been out is suspected; one of them is out at a time; who is out at the next
    death is one death nearer to its end, and who has an outcome is no suspect any more."""
    log = [record(n) for n in range(1, 21)]
    one = made("a", credit=9, in_flight=9)
    for each in log:
        one.add(each)
    one.addresses["a"] = "worker"
    changes = [one.change()]
    innocent: set[int] = set()
    deaths = 0
    while True:
        deaths += 1
        one = restored(changes, log, 20, clean=False)
        changes.append(one.change())
        if 7 in one.dead:
            break
        one.join("a", 9, tells=True)
        while True:
            batch = sent(one)
            assert len(batch) == 1
            ((_, n, attempt),) = batch
            one.out = n
            changes.append(one.change())
            if n == 7:
                break
            one.take(n, attempt, 0.0)
            assert one.ack(n, attempt, 0.0)
            innocent.add(n)
    assert deaths == MOST_DEATHS
    assert one.dead[7].why == f"the program died {MOST_DEATHS} times while it was out"
    one.join("a", 9, tells=True)
    while batch := sent(one):
        for _, n, attempt in batch:
            assert n not in innocent
            innocent.add(n)
            one.ack(n, attempt, 0.0)
    assert innocent == set(range(1, 21)) - {7}
    assert list(one.dead) == [7]


def test_a_suspect_waits_for_a_member_that_may_have_it() -> None:
    """With a key, for that of its bucket; one that was not taken up when its receiver went is sent again."""
    one = made("a", key="subject")
    for n in (1, 2):
        one.add(record(n, "x"))
    again = restored([one.change()], [record(1, "x"), record(2, "x")], 2, clean=False)
    assert sent(again) == []
    again.join("a", 1, tells=True)
    again.members["a"].out[99] = DeliveryRow(record(99), None)
    assert sent(again) == []
    del again.members["a"].out[99]
    assert sent(again) == [("a", 1, 1)]
    again.out = 1
    assert sent(again) == []
    again.away("a", None, 0.0, 0.5)
    again.join("a", 1, tells=True)
    assert (again.out, sent(again)) == (None, [("a", 1, 1)])
    again.nack(1, 1, "no", 0.0, 0.5)
    assert (again.rows[1].deaths, again.status().suspects) == (0, 0)


def test_a_suspect_behind_another_signal_of_its_key_waits_for_that_one() -> None:
    """Others go on, or nothing ever would."""
    one = made("a", key="subject")
    one.add(record(1, "x"))
    sent(one)
    one.ack(1, 1, 0.0)
    one.release(one.again([record(1, "x")]))
    assert sent(one) == [("a", 1, 1)]
    one.out = 1
    one.add(record(2, "x"))
    again = restored([one.whole()], [record(1, "x"), record(2, "x")], 2, clean=False)
    again.join("a", 9, tells=True)
    assert (again.status().suspects, sent(again)) == (1, [("a", 2, 1)])
    assert again.ack(2, 1, 0.0)
    assert sent(again) == [("a", 1, 1)]
    assert sent(again) == []
    again.nack(1, 1, "no", 0.0, 0.5)
    again.add(record(3))
    assert sent(again) == [("a", 3, 1)]


def test_a_suspect_waits_until_nothing_else_is_out() -> None:
    """What was sent before it was its turn comes first."""
    one = made("a", key="subject")
    one.add(record(1, "x"))
    sent(one)
    one.ack(1, 1, 0.0)
    one.release(one.again([record(1, "x")]))
    sent(one)
    one.out = 1
    for n in (2, 3):
        one.add(record(n, "xy"[n % 2]))
    again = restored([one.whole()], [record(n, "xxy"[n - 1]) for n in (1, 2, 3)], 3, clean=False)
    again.join("a", 9, tells=True)
    assert sorted(n for _, n, _ in sent(again)) == [2, 3]
    assert again.ack(2, 1, 0.0)
    assert sent(again) == []
    assert again.ack(3, 1, 0.0)
    assert sent(again) == [("a", 1, 1)]


def test_a_member_that_has_nothing_leaves_at_once_and_another_when_it_has_nothing() -> None:
    """It gets nothing more; what has its keys waits for what it has."""
    one = made("a", "b", key="subject", credit=100)
    for n in range(1, 41):
        one.add(record(n, f"k{n}"))
    by = {n: member for member, n, _ in sent(one)}
    for n in range(41, 81):
        one.add(record(n, f"k{n - 40}"))
    one.retire("b", 0.0)
    assert sent(one) == []
    for n in by:
        assert one.ack(n, 1, 0.0)
    assert (list(one.members), {member for member, _, _ in sent(one)}) == (["a"], {"a"})
    one.join("c", 1, tells=True)
    one.retire("c", 0.0)
    assert list(one.members) == ["a"]


@pytest.mark.parametrize("clean", [True, False])
def test_after_an_end_in_order_nobody_is_suspected(clean: bool) -> None:
    """Only what may have been out is, otherwise: as many as its members may have had."""
    one = made("a", in_flight=2)
    for n in (1, 2, 3):
        one.add(record(n))
    again = restored([one.change()], [record(n) for n in (1, 2, 3)], 3, clean=clean)
    assert again.status().suspects == (0 if clean else 2)
