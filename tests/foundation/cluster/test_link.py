"""Links: how two nodes come to know each other's session, and when a link counts as broken."""

from __future__ import annotations

from random import Random

import pytest

from foundation.cluster.link import BEHIND, SILENCE, Hello, Link, LinkReport, Verdict


def open_links() -> tuple[Link, Link]:
    """Two ends that are up."""
    a, b = Link(0.0), Link(0.0)
    exchange(a, b)
    assert a.up
    assert b.up
    return a, b


def exchange(a: Link, b: Link, now: float = 0.0) -> None:
    """Let hellos go back and forth, from a, until nobody answers."""
    ends, answer = (a, b), True
    for _ in range(20):
        if not answer:
            return
        _, answer = ends[1].on_hello(ends[0].hello(), now)
        ends = ends[1], ends[0]
    raise AssertionError("hellos without end")


def test_a_link_opens_whoever_begins_and_hellos_come_to_an_end():
    open_links()
    a, b = Link(0.0), Link(0.0)
    first, second = a.hello(), b.hello()
    assert b.on_hello(first, 0.0) == (False, True)
    assert a.on_hello(second, 0.0) == (False, True)
    exchange(a, b)  # both have to answer
    exchange(b, a)
    assert a.up
    assert b.up


def test_messages_are_delivered_in_order_and_once():
    a, b = open_links()
    assert b.arrived(a.session, a.number(), 0.0) is Verdict.DELIVER
    assert b.arrived(a.session, a.number(), 0.0) is Verdict.DELIVER
    assert b.arrived(a.session, 2, 0.0) is Verdict.DUPLICATE
    assert b.arrived(a.session + 1, 3, 0.0) is Verdict.LATE


def test_a_hole_is_a_gap_and_a_new_session_heals_it():
    a, b = open_links()
    a.number()
    old = a.session
    assert b.arrived(old, a.number(), 0.0) is Verdict.GAP
    b.broken()
    assert a.on_bye(old)
    a.broken()
    exchange(b, a)
    assert a.session > old
    assert b.arrived(old, 3, 0.0) is Verdict.LATE
    assert b.arrived(a.session, a.number(), 0.0) is Verdict.DELIVER


def test_who_did_not_hear_of_a_break_learns_of_it_by_the_next_hello():
    a, b = open_links()
    a.broken()
    assert b.on_hello(a.hello(), 0.0) == (True, True)
    exchange(b, a)
    assert a.up
    assert b.up


def test_a_hello_of_a_session_that_was_given_up_is_answered_and_not_accepted():
    a, b = open_links()
    old = a.hello()
    b.broken()
    assert b.on_hello(old, 0.0) == (False, True)
    assert b.accepted == 0
    exchange(b, a)
    assert a.up
    assert b.up


def test_a_hello_that_comes_twice_or_late_changes_nothing():
    a, b = open_links()
    again = Hello(a.session, a.accepted, 0)
    assert b.on_hello(again, 0.0) == (False, False)
    a.broken()
    exchange(a, b)
    session = b.accepted
    assert b.on_hello(again, 0.0)[0] is False
    assert b.accepted == session


def test_a_message_in_the_session_confirms_the_link_whose_hello_was_lost():
    a, b = Link(0.0), Link(0.0)
    b.on_hello(a.hello(), 0.0)
    a.on_hello(b.hello(), 0.0)
    assert a.up
    assert not b.up
    assert b.arrived(a.session, a.number(), 0.0) is Verdict.DELIVER
    assert b.up


def test_a_beat_in_both_sessions_confirms_the_link_too():
    a, b = Link(0.0), Link(0.0)
    b.on_hello(a.hello(), 0.0)
    a.on_hello(b.hello(), 0.0)
    b.on_beat(LinkReport(1, a.session + 1, b.session, 0), 0.0)
    assert not b.up
    b.on_beat(a.report(1), 0.0)
    assert b.up


def test_a_bye_of_another_session_means_nothing():
    a, _ = open_links()
    assert not a.on_bye(a.session + 1)
    a.broken()
    assert not a.on_bye(a.session)


def test_silence_breaks_a_link():
    a, _ = open_links()
    a.on_beat(LinkReport(1, a.accepted, a.session, 0), 5.0)
    assert a.why_broken(5.0 + SILENCE - 0.01) is None
    assert "nothing heard" in (a.why_broken(5.0 + SILENCE) or "")
    a.broken()
    assert a.why_broken(100.0) is None


def test_beats_that_do_not_say_my_session_break_a_link():
    a, _ = open_links()
    for step in range(1, 5):
        a.on_beat(None if step % 2 else LinkReport(1, a.accepted, 0, 0), step / 4)
    assert "not heard by it" in (a.why_broken(1.0) or "")


def test_the_loss_of_the_last_messages_is_noticed_by_beats():
    a, _ = open_links()
    a.on_beat(LinkReport(1, a.accepted, a.session, 1), 0.25)
    a.on_beat(LinkReport(1, a.accepted, a.session, 1), 0.5)
    assert a.why_broken(0.25 + BEHIND - 0.01) is None
    assert "lost" in (a.why_broken(0.25 + BEHIND) or "")
    a.arrived(a.accepted, 1, 0.5)
    a.on_beat(LinkReport(1, a.accepted, a.session, 1), 0.75)
    assert a.why_broken(1.0) is None


def test_messages_that_beats_have_overtaken_are_not_lost_while_others_arrive():
    a, _ = open_links()
    for n in range(1, 20):
        a.on_beat(LinkReport(1, a.accepted, a.session, 100), n / 4)
        assert a.why_broken(n / 4) is None
        a.arrived(a.accepted, n, n / 4)
    a.on_beat(LinkReport(1, a.accepted, a.session, 100), 5.0)
    a.on_beat(LinkReport(1, a.accepted, a.session, 100), 5.5)
    assert "lost" in (a.why_broken(5.5) or "")


def test_who_stood_still_does_not_blame_the_peer():
    a, _ = open_links()
    a.paused(3.0)
    assert a.why_broken(3.5) is None
    assert a.why_broken(4.0) is not None


def test_a_beat_says_the_epoch_both_sessions_and_what_was_sent():
    a, b = open_links()
    a.number()
    assert a.report(7) == LinkReport(7, a.session, b.session, 1)


@pytest.mark.parametrize("seed", range(200))
def test_ends_that_break_and_lose_hellos_at_random_agree_once_hellos_get_through(seed: int):
    chance = Random(seed)
    ends = Link(0.0), Link(0.0)
    under_way: list[tuple[int, Hello]] = []
    for _ in range(60):
        who = chance.randrange(2)
        match chance.randrange(4):
            case 0:
                ends[who].broken()
            case 1:
                under_way.append((1 - who, ends[who].hello()))
            case 2 if under_way:
                to, hello = under_way.pop(chance.randrange(len(under_way)))
                if chance.random() < 0.7 and ends[to].on_hello(hello, 0.0)[1]:
                    under_way.append((1 - to, ends[to].hello()))
            case _ if ends[who].up:
                session = ends[who].session
                ends[1 - who].arrived(session, ends[who].number(), 0.0)
    for _ in range(3):  # as beats do
        exchange(ends[0], ends[1])
        exchange(ends[1], ends[0])
    for one, other in (ends, ends[::-1]):
        assert one.up
        assert one.accepted == other.session
        assert one.hello().given_up < other.session
