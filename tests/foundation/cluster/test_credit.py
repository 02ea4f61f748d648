"""Credit: never more under way than granted, and nothing waits for ever."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest

from foundation.cluster.credit import BYTES, WINDOW, Incoming, Outgoing


def test_a_window_of_messages_may_be_sent_and_then_what_is_granted():
    out: Outgoing[int] = Outgoing(lambda _: 1)
    assert sum(out.may_send(0) for _ in range(WINDOW + 10)) == WINDOW
    out.waiting.extend((1, 2, 3))
    assert out.granted(WINDOW + 2) == [1, 2]
    assert not out.may_send(0)
    assert out.granted(WINDOW + 10) == [3]
    assert out.may_send(0)


def test_so_many_bytes_may_be_sent_and_a_message_of_any_size_gets_through():
    out: Outgoing[int] = Outgoing(lambda size: size)
    assert out.may_send(BYTES - 1)
    assert out.may_send(3 * BYTES)
    assert not out.may_send(0)
    out.waiting.extend((5, 6))
    assert out.granted(WINDOW + 1) == []
    assert out.granted(WINDOW + 2) == [5, 6]


def test_credit_is_granted_when_a_quarter_of_the_bytes_is_handled():
    incoming = Incoming()
    quarter = BYTES // 4
    assert [incoming.arrived(quarter // 2) for _ in range(4)] == [False, True, False, True]
    assert incoming.handled(1, quarter // 2) is None
    assert incoming.handled(2, quarter) == WINDOW + 2
    assert incoming.handled(3, quarter + 1) is None


def test_an_older_grant_takes_nothing_back():
    out: Outgoing[int] = Outgoing(lambda _: 1)
    out.granted(WINDOW + 5)
    out.granted(WINDOW)
    assert out.limit == WINDOW + 5


def test_credit_is_granted_when_half_of_the_window_is_handled():
    incoming = Incoming()
    assert [n + 1 for n in range(WINDOW) if incoming.arrived(1)] == [64, 128, 192, 256]
    assert incoming.handled(64, 64) is None
    assert incoming.handled(128, 128) == WINDOW + 128
    assert incoming.handled(128, 128) is None


@pytest.mark.parametrize("largest", [1, BYTES // 40, BYTES // 3, 2 * BYTES])
@pytest.mark.parametrize("seed", range(50))
def test_invariant_of_credit_holds_at_each_step_and_all_gets_through(seed: int, largest: int):
    """I11: H ≤ R ≤ S ≤ L ≤ G ≤ H + W; and of bytes, one message more than the limit at most."""
    chance = Random(seed)
    sizes = [chance.randint(0, largest) for _ in range(1000)]
    out: Outgoing[int] = Outgoing(sizes.__getitem__)
    incoming = Incoming()
    mailbox: deque[int | tuple[int, int]] = deque()
    grants: deque[int] = deque()
    arrived: list[int] = []
    handled, sent, total = 0, 0, len(sizes)

    def arrive(message: int) -> None:
        mailbox.append(message)
        arrived.append(message)
        if incoming.arrived(sizes[message]):
            mailbox.append((incoming.received, incoming.bytes))

    while handled < total:
        match chance.randrange(3):
            case 0 if sent < total:
                if out.may_send(sent):
                    arrive(sent)
                else:
                    out.waiting.append(sent)
                sent += 1
            case 1 if mailbox:
                found = mailbox.popleft()
                if isinstance(found, int):
                    handled += 1
                elif (limit := incoming.handled(*found)) is not None:
                    grants.append(limit)
            case 2 if grants:
                for message in out.granted(grants.popleft()):
                    arrive(message)
        assert handled <= incoming.received <= out.sent <= out.limit <= incoming.granted <= handled + WINDOW
        assert sum(sizes[handled : incoming.received]) <= BYTES + largest
    assert arrived == list(range(total))
