"""`survives` of generated services: right ones give no alarm, each flaw is found. `python -m bench chaos` has more."""

from __future__ import annotations

import pytest

from bench.alarms import WITHIN, judge_flawed, judge_right
from bench.flaws import FLAWS


@pytest.mark.parametrize("number", range(10))
def test_a_right_service_gives_no_alarm(number: int) -> None:
    assert judge_right(number, seeds=2).said == ()


@pytest.mark.once
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of what cannot be killed
@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_is_found_within_ten_seeds(flaw: str) -> None:
    verdict = judge_flawed(len(flaw), flaw)
    assert verdict.said, f"{flaw} was not found within {WITHIN} seeds"
