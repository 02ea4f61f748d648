"""The first agent of the documentation."""

from __future__ import annotations

import pytest

from examples.first_agent import Sales, main


async def test_the_first_agent_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The example does what its text says: sells, refuses, tells the shop, and starts afresh after a crash."""
    assert await main() == Sales(1, 1)
    out = capsys.readouterr().out
    assert "/Till/t1 says till.full: {'takings': 110}" in out
    assert "sold: Sales(items=4, takings=110) version 2" in out
    assert "refused: Sell: Expected `int`, got `str` - at `$.price`" in out
    assert "a fresh till: Sales(items=0, takings=0)" in out
