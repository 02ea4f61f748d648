"""Leases: a marker of expiry is no proof of death."""

from __future__ import annotations

import msgspec

from foundation.cluster.leases import TTL, UNSEEN, Lease, LeaseBook
from foundation.cluster.port import Entry


def written(epoch: int = 1, *, left: bool = False) -> Entry:
    return Entry("a", msgspec.msgpack.encode(Lease(epoch, "u", "host", left=left)), 1)


GONE = Entry("a", None, 2)


def test_a_node_whose_lease_is_there_is_not_dead_however_old_it_is():
    book = LeaseBook()
    book.changed(written(), 0.0)
    assert not book.dead("a", 1, 1000.0)


def test_an_expiry_that_comes_too_early_does_not_count_before_the_time_is_over():
    book = LeaseBook()
    book.changed(written(), 10.0)
    book.changed(GONE, 12.0)  # a server whose clock was set
    assert not book.dead("a", 1, 10.0 + TTL - 0.1)
    assert book.dead("a", 1, 10.0 + TTL)


def test_a_lease_whose_last_write_was_not_seen_is_waited_for_from_the_first_look():
    book = LeaseBook()
    book.loaded([GONE], 5.0)
    assert not book.dead("a", 1, 5.0 + UNSEEN - 0.1)
    assert book.dead("a", 1, 5.0 + UNSEEN)


def test_after_a_reload_nobody_knows_when_a_lease_that_is_gone_was_written():
    book = LeaseBook()
    book.changed(written(), 0.0)
    book.loaded([], 40.0)
    assert not book.dead("a", 1, 40.0 + UNSEEN - 0.1)
    assert book.dead("a", 1, 40.0 + UNSEEN)


def test_a_second_look_at_a_lease_that_is_gone_begins_nothing_anew():
    book = LeaseBook()
    book.changed(written(), 0.0)
    book.changed(GONE, 30.0)
    book.loaded([GONE], 31.0)
    assert book.dead("a", 1, 31.0)


def test_a_lease_nobody_has_ever_seen_is_waited_for():
    book = LeaseBook()
    assert not book.dead("a", 1, 7.0)
    assert not book.dead("a", 1, 7.0 + UNSEEN - 0.1)
    assert book.dead("a", 1, 7.0 + UNSEEN)


def test_a_node_that_has_left_or_whose_successor_lives_is_dead_at_once():
    book = LeaseBook()
    book.changed(written(left=True), 0.0)
    assert book.dead("a", 1, 0.0)
    book.changed(written(2), 0.0)
    assert book.dead("a", 1, 0.0)
    assert not book.dead("a", 2, 0.0)


def test_a_lease_that_comes_back_counts_again():
    book = LeaseBook()
    book.changed(written(), 0.0)
    book.changed(GONE, 30.0)
    book.changed(written(), 35.0)
    assert not book.dead("a", 1, 100.0)
    assert book.lease("a") == Lease(1, "u", "host")
    assert book.lease("b") is None
