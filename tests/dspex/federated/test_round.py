"""A round as a value: which reports count, and when it is over."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.federated import BadFederation, ClientReport, FederatedRound, RoundEnd, Rounds
from supervision.errors import BadOption

FOUR = ("a", "b", "c", "d")


def opened(number: int = 1, fence: int = 1, asked: tuple[str, ...] = FOUR, **options: Any) -> FederatedRound:
    return FederatedRound(number, asked, Rounds(**{"enough": 3, **options}), deadline=60.0, fence=fence)


def reported(round: FederatedRound, *clients: str, now: float = 1.0, fence: int | None = None) -> list[str]:
    fence = round.fence if fence is None else fence
    return [round.report(ClientReport(client, round.number, fence, 5), now) for client in clients]


def ended(round: FederatedRound, now: float) -> RoundEnd:
    found = round.look(now)
    assert found is not None
    return found


def test_it_ends_when_all_have_reported_in_whatever_order() -> None:
    round = opened()
    reported(round, "d", "b", "a")
    assert round.look(59.9) is None
    reported(round, "c")
    assert ended(round, 1.0) == RoundEnd(1, 1, "decided", "", FOUR, {}, {}, ())


def test_T067_one_is_lost_and_it_ends_with_the_third_without_the_deadline() -> None:
    round = opened()
    round.lose("b", "it has ended")
    reported(round, "a", "c")
    assert round.look(2.0) is None
    reported(round, "d")
    assert ended(round, 2.0) == RoundEnd(1, 1, "decided", "", ("a", "c", "d"), {}, {"b": "it has ended"}, ())


def test_at_the_deadline_enough_are_enough() -> None:
    round = opened()
    reported(round, "a", "b", "c")
    assert round.look(59.0) is None
    assert ended(round, 60.0).counted == ("a", "b", "c")
    assert ended(round, 60.0).late == ("d",)


def test_T068_too_few_at_the_deadline_is_void() -> None:
    round = opened()
    reported(round, "a", "b")
    assert ended(round, 60.0).state == "void"
    assert ended(round, 60.0).why == "2 of 3 reports at the deadline"


def test_it_is_void_as_soon_as_there_cannot_be_enough() -> None:
    round = opened()
    round.lose("a", "it has ended")
    round.refuse("b", "a weight is NaN")
    end = ended(round, 0.0)
    assert (end.state, end.why, end.refused) == (
        "void",
        "0 of 3 reports, and no more can come",
        {"b": "a weight is NaN"},
    )
    assert end.late == ("c", "d")


def test_who_lingers_for_so_long_waits_no_longer() -> None:
    at_once, soon = opened(linger=0.0), opened(linger=5.0)
    for round in (at_once, soon):
        reported(round, "a", "b", "c", now=10.0)
    assert ended(at_once, 10.0).late == ("d",)
    assert soon.until == 15.0
    assert soon.look(14.9) is None
    assert ended(soon, 15.0).state == "decided"


def test_T073_one_report_sent_three_times_counts_once() -> None:
    round = opened()
    assert reported(round, "a", "a", "a") == ["counted", "again", "again"]
    assert list(round.reports) == ["a"]


def test_T074_a_report_of_the_round_before_is_dropped_and_late() -> None:
    round = opened(number=2, fence=2)
    assert round.report(ClientReport("a", 1, 1, 5), 1.0) == "late"
    assert (round.late, round.reports) == (1, {})
    assert round.report(ClientReport("a", 1, 2, 5), 1.0) == "late"  # it names another round
    assert reported(round, "a") == ["counted"]


def test_what_comes_after_the_end_changes_nothing() -> None:
    round = opened()
    end = ended(round, 60.0)
    assert reported(round, "a", now=60.0) == ["late"]
    round.lose("b", "it has ended")
    assert round.look(99.0) is end
    assert round.late == 1


def test_who_was_not_asked_is_a_stranger_and_loses_nothing() -> None:
    round = opened()
    assert reported(round, "x") == ["stranger"]
    round.lose("x", "it has ended")
    reported(round, "a")
    round.lose("a", "it has ended after it has reported")
    round.refuse("b", "first")
    round.refuse("b", "second")
    assert round.heard == {"a", "b"}


def test_a_report_that_was_kept_counts_with_whatever_fence() -> None:
    round = opened(fence=7)
    round.restore(ClientReport("a", 1, 3, 5), 1.0)
    assert reported(round, "a", "b", "c") == ["again", "counted", "counted"]


def test_reports_that_were_kept_came_in_time() -> None:
    round = opened()
    for client in ("a", "b", "c"):
        round.restore(ClientReport(client, 1, 1, 5), 99.0)
    assert ended(round, 99.0).state == "decided"


def test_without_a_number_all_that_are_asked_are_needed() -> None:
    assert opened(enough=None).enough == 4


@pytest.mark.parametrize(
    ("options", "there", "needed", "asked"),
    [
        ({}, 4, 4, 4),
        ({"sample": 2}, 4, 2, 2),
        ({"connected": 2, "sample": 3}, 2, 2, 2),
        ({"connected": 1, "enough": 3}, 4, 3, 4),
        ({"enough": 3, "oversample": 0.3}, 4, 3, 4),
        ({"enough": 10, "oversample": 0.1}, 20, 10, 11),
        ({"enough": 10, "oversample": 5.0}, 20, 10, 20),
    ],
)
def test_how_many_have_to_be_there_and_are_asked(options: Any, there: int, needed: int, asked: int) -> None:
    rounds = Rounds(**options)
    assert rounds.needed(max(there, 4)) == needed
    assert rounds.asked(there) == asked


@pytest.mark.parametrize(
    "wrong",
    [
        {"connected": 0},
        {"sample": True},
        {"enough": 1.5},
        {"linger": -1.0},
        {"deadline": 0.0},
        {"join_patience": float("nan")},
        {"max_void": 0},
        {"retries": -1},
        {"oversample": 0.3},
        {"oversample": 0.3, "enough": 2, "sample": 3},
        {"enough": 3, "sample": 2},
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong: Any) -> None:
    with pytest.raises((BadFederation, BadOption)):
        Rounds(**wrong)


@pytest.mark.parametrize("name", ["connected", "sample", "enough"])
def test_more_clients_than_there_are_cannot_be_asked_for(name: str) -> None:
    with pytest.raises(BadFederation, match="there are 3 clients"):
        Rounds(**{name: 4}).needed(3)
