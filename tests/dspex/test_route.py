"""The pytest plugin that sends what tests call to an agent."""

from __future__ import annotations

import dspy
import pytest

pytest_plugins = ["pytester"]

_TESTS = """
import asyncio
import dspy
from dspy.utils.dummies import DummyLM

class Where(dspy.Module):
    def forward(self, deep=True):
        from supervision import current_actor
        inner = Where()(deep=False) if deep else None
        return dspy.Prediction(actor=str(current_actor()), inner=inner)

    async def aforward(self, deep=True):
        from supervision import current_actor
        inner = await Where().acall(deep=False) if deep else None
        return dspy.Prediction(actor=str(current_actor()), inner=inner)

def test_sync():
    found = Where()()
    assert "dspex.testing.route" in found.actor == found.inner.actor

def test_async():
    found = asyncio.run(Where().acall())
    assert "dspex.testing.route" in found.actor == found.inner.actor
"""


def test_calls_go_to_an_agent_and_it_tells_how_many(pytester: pytest.Pytester) -> None:
    """Each call from outside is routed, what it calls inside is not; afterwards, DSPy is as before."""
    before = (dspy.Module.__call__, dspy.Module.acall)
    pytester.makepyfile(_TESTS)
    result = pytester.runpytest_inprocess(
        "-p", "dspex.testing.route", "-o", "asyncio_default_fixture_loop_scope=function"
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["dspex: 1 sync and 1 async calls ran in an agent"])
    assert (dspy.Module.__call__, dspy.Module.acall) == before
