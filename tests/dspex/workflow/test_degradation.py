"""The degradation ladder: a lesser answer has a label that says why, fits into the time, and does not stay for ever."""

from __future__ import annotations

from typing import Any

import pytest

from dspex.workflow import DegradationLadder, DegradationReason, Rung
from foundation.programs import Unavailable
from supervision.errors import BadOption

FULL, QUORUM, SMALL, SINGLE = Rung("full", 2.0), Rung("quorum", 1.0), Rung("small", 0.5), Rung("single", 0.1)
CACHED, DEFAULT = Rung("cached", max_age=3600), Rung("default")


def test_T087_a_rung_that_does_not_fit_into_the_time_is_skipped() -> None:
    ladder = DegradationLadder([FULL, SMALL, SINGLE, DEFAULT])
    taken = ladder.begin(left=2.0)
    assert (taken.rung, taken.label) == (FULL, None)
    taken = ladder.down(taken, DegradationReason("lost", "2 of 5"), left=0.2)
    assert (taken.rung, taken.label) == (SINGLE, "single:lost 2 of 5")


def test_T089_an_answer_that_is_too_old_is_none() -> None:
    ladder = DegradationLadder([FULL, CACHED, DEFAULT])
    full = ladder.begin()
    assert ladder.down(full, DegradationReason("breaker"), ages={"cached": 3601}).rung == DEFAULT
    assert ladder.down(full, DegradationReason("breaker"), ages={"cached": 3600}).rung == CACHED
    assert ladder.down(full, DegradationReason("breaker")).label == "default:breaker"
    assert ladder.down(full, DegradationReason("breaker"), ages={"cached": float("nan")}).rung == DEFAULT


def test_T090_four_good_calls_do_not_go_up_again_and_the_fifth_does() -> None:
    ladder = DegradationLadder([FULL, QUORUM, SINGLE])
    ladder.down(ladder.begin(), DegradationReason("lost", "1 of 3"))
    for _ in range(4):
        assert ladder.begin().label == "quorum:lost 1 of 3"
        ladder.good()
    assert ladder.degraded
    assert ladder.begin().rung == QUORUM
    ladder.good()
    assert not ladder.degraded
    assert ladder.begin().label is None


def test_a_bad_call_in_between_begins_the_count_anew_and_a_good_probe_ends_it() -> None:
    ladder = DegradationLadder([FULL, QUORUM, SINGLE], recover_after=2)
    taken = ladder.down(ladder.begin(), DegradationReason("overload"))
    ladder.good()
    assert ladder.down(taken, DegradationReason("overload")).rung == SINGLE
    ladder.good()
    assert ladder.begin().rung == SINGLE
    ladder.recover()
    assert ladder.begin().rung == FULL


def test_a_call_that_goes_down_from_an_older_rung_takes_no_others_up() -> None:
    ladder = DegradationLadder([FULL, QUORUM, SINGLE])
    first = second = ladder.begin()
    ladder.down(ladder.down(first, DegradationReason("lost", "1 of 3")), DegradationReason("lost", "2 of 3"))
    assert ladder.down(second, DegradationReason("deadline")).label == "quorum:deadline"
    assert ladder.begin().label == "single:lost 2 of 3"


def test_T091_a_spent_budget_is_not_tried_again() -> None:
    kinds: tuple[Any, ...] = ("deadline", "lost", "budget", "breaker", "overload")
    assert [DegradationReason(kind).retryable for kind in kinds] == [True, True, False, True, True]


def test_a_call_without_the_time_for_the_first_rung_begins_lower_and_others_do_not() -> None:
    ladder = DegradationLadder([FULL, SMALL, DEFAULT])
    assert ladder.begin(left=0.7).label == "small:deadline"
    assert ladder.begin(left=5.0).rung == FULL


def test_when_there_is_no_rung_left_the_call_is_refused() -> None:
    ladder = DegradationLadder([FULL, SMALL])
    with pytest.raises(Unavailable, match="in the time that is left"):
        ladder.begin(left=0.1)
    with pytest.raises(Unavailable, match="lost 5 of 5"):
        ladder.down(
            ladder.down(ladder.begin(), DegradationReason("lost", "4 of 5")), DegradationReason("lost", "5 of 5")
        )


@pytest.mark.parametrize("rungs", [[], [FULL, FULL], [FULL, "small"], [FULL, None]])
def test_rungs_that_make_no_sense_are_refused(rungs: list[Any]) -> None:
    with pytest.raises(BadOption):
        DegradationLadder(rungs)
    with pytest.raises(BadOption):
        DegradationLadder([FULL], recover_after=0)
    for options in ({"name": ""}, {"name": "a", "p95": 0}, {"name": "a", "max_age": float("nan")}):
        with pytest.raises(BadOption):
            Rung(**options)  # type: ignore[arg-type]
