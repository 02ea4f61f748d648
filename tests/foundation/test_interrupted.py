"""No interruption, wherever it strikes, breaks a promise of the platform or leaves anything behind."""

from __future__ import annotations

import pytest

from supervision.testing import explore
from tests.foundation.interrupted import TABLE
from tests.foundation.interrupted.public import awaitables, messages, services
from tests.foundation.interrupted.spoilt import MISSING, SPOILT, try_all


@pytest.mark.parametrize("name", TABLE)
def test_an_interruption_at_any_point_does_no_harm(name: str) -> None:
    assert explore(TABLE[name].scenario).visited > 0


def test_everything_that_can_be_awaited_has_a_line_in_the_table() -> None:
    covered = {covers for line in TABLE.values() for covers in line.covers}
    assert awaitables() - covered == set(), (
        "not interrupted by any test: give it a line in tests/foundation/interrupted"
    )
    assert covered - awaitables() == set(), "in the table, but not there any more"


@pytest.mark.parametrize(("name", "argument"), [(name, each) for name, case in SPOILT.items() for each in case.valid])
def test_a_nasty_argument_is_refused_to_its_caller_and_harms_nobody(name: str, argument: str) -> None:
    assert try_all(SPOILT[name], argument) == []


def test_every_call_and_message_is_tried_with_nasty_arguments() -> None:
    without = {"Transaction.__aenter__", "Transaction.__aexit__", "Auction.asked", "Market.quote"}  # take none
    assert awaitables() - without - set(SPOILT) == set(), "give it a line in tests/foundation/interrupted/spoilt.py"
    sent = {f"{service.__name__} < {kind.__name__}" for service in services() for kind in messages(service)}
    assert sent - set(SPOILT) == set()
    missing = [name for name, case in SPOILT.items() if MISSING in list(case.valid.values())]
    assert missing == [], "say right values of the fields"
