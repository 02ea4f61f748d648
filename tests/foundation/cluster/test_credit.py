"""Credit: never more under way than granted, and nothing waits for ever."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest

from foundation.cluster.credit import WINDOW, Incoming, Outgoing


def test_a_window_of_messages_may_be_sent_and_then_what_is_granted():
    out: Outgoing[int] = Outgoing()
    assert sum(out.may_send() for _ in range(WINDOW + 10)) == WINDOW
    out.waiting.extend((1, 2, 3))
    assert out.granted(WINDOW + 2) == [1, 2]
    assert not out.may_send()
    assert out.granted(WINDOW + 10) == [3]
    assert out.may_send()


def test_an_older_grant_takes_nothing_back():
    out: Outgoing[int] = Outgoing()
    out.granted(WINDOW + 5)
    out.granted(WINDOW)
    assert out.limit == WINDOW + 5


def test_credit_is_granted_when_half_of_the_window_is_handled():
    incoming = Incoming()
    assert [n + 1 for n in range(WINDOW) if incoming.arrived()] == [64, 128, 192, 256]
    assert incoming.handled(64) is None
    assert incoming.handled(128) == WINDOW + 128
    assert incoming.handled(128) is None


@pytest.mark.parametrize("seed", range(50))
def test_invariant_of_credit_holds_at_each_step_and_all_gets_through(seed: int):
    """I11: H ≤ R ≤ S ≤ L ≤ G ≤ H + W."""
    chance = Random(seed)
    out: Outgoing[int] = Outgoing()
    incoming = Incoming()
    mailbox: deque[int | None] = deque()
    grants: deque[int] = deque()
    arrived: list[int] = []
    handled, sent, total = 0, 0, 2000

    def arrive(message: int) -> None:
        mailbox.append(message)
        arrived.append(message)
        if incoming.arrived():
            mailbox.append(None)

    while handled < total:
        match chance.randrange(3):
            case 0 if sent < total:
                if out.may_send():
                    arrive(sent)
                else:
                    out.waiting.append(sent)
                sent += 1
            case 1 if mailbox:
                if mailbox.popleft() is not None:
                    handled += 1
                elif (limit := incoming.handled(handled)) is not None:
                    grants.append(limit)
            case 2 if grants:
                for message in out.granted(grants.popleft()):
                    arrive(message)
        assert handled <= incoming.received <= out.sent <= out.limit <= incoming.granted <= handled + WINDOW
    assert arrived == list(range(total))
