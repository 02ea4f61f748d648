"""What is on its way when the budget of an optimisation ends is paid for: it is waited for, and kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex.jobs.spending import OverBudget, Payer, Spending, TokenPrice
from dspex.search import Hypothesis
from dspex.testing.engine import AsyncScriptedEngine, ScriptedEngine, scripted_lm
from supervision import Runtime
from tests.dspex.search.conftest import advised, race, student

#: The second one costs more than there is at first.
TEXTS = ("short", "long " * 20_000)
LABELS = {TEXTS[0]: "red", TEXTS[1]: "blue"}
EXAMPLES = [dspy.Example(text=text, label=label).with_inputs("text") for text, label in LABELS.items()]


class _Budget(Spending):
    """Refuses what is too dear only once another call is on its way."""

    def __init__(self, budget: float, spent: float, on_its_way: asyncio.Event) -> None:
        super().__init__(budget, spent, self._keep)
        self.on_its_way, self.refused = on_its_way, asyncio.Event()

    async def reserve(self, dollars: float) -> None:
        """Refuse it, or not."""
        if self._over(dollars, 1):
            await self.on_its_way.wait()
            self.refused.set()
        await super().reserve(dollars)

    async def _keep(self, dollars: float, calls: int) -> None:
        pass


class _Held(AsyncScriptedEngine):
    """Answers nobody before its event."""

    def __init__(self, engine: ScriptedEngine) -> None:
        super().__init__(engine)
        self.asked, self.released = asyncio.Event(), asyncio.Event()

    async def complete(self, request: Any) -> Any:
        """Answer, once it may."""
        self.asked.set()
        await self.released.wait()
        return await super().complete(request)


def _lm(engine: ScriptedEngine, held: _Held) -> Any:
    made = scripted_lm(engine)
    return dspy.LM(made.model, engine=engine, async_engine=held, cache=False, num_retries=0)


@pytest.mark.parametrize("apart", [False, True])
async def test_an_answer_on_its_way_at_the_end_of_the_budget_is_not_asked_for_again(
    runtime: Runtime, tmp_path: Path, apart: bool
) -> None:
    """Whether it comes from the model of all, or from one that a hypothesis alone has."""
    engine = ScriptedEngine(LABELS)
    held = _Held(engine)
    lm, other = _lm(engine, held), scripted_lm(ScriptedEngine(LABELS, seed=1))
    with_other = student()
    with_other.lm = other
    ways = [Hypothesis("other", with_other), advised(1)]

    async def raced(budget: float, spent: float) -> Spending:
        spending = _Budget(budget, spent, held.asked)
        made = race(runtime, ways if apart else [advised(1)], rule={"kind": "halving", "first": 2}, log_dir=tmp_path)
        made.paid = Payer(spending, TokenPrice(1.0, 1.0)).paid
        with dspy.context(lm=made.paid(lm)):
            racing = asyncio.ensure_future(made.acompile(student(), trainset=EXAMPLES))
            refused = asyncio.ensure_future(spending.refused.wait())
            await asyncio.wait([racing, refused], return_when="FIRST_COMPLETED")
            refused.cancel()
            # Whatever would cut it off has had its chance.
            await asyncio.wait([racing], timeout=0.05)
            held.released.set()
            await racing
        return spending

    with pytest.raises(OverBudget, match="the next call may cost more") as caught:
        await raced(0.02, 0.0)
    known = engine.calls
    assert known > 0
    await raced(10.0, caught.value.spending.spent)
    # Each of the two programs that ask this model has asked it once about each example.
    assert engine.calls == 2 * len(EXAMPLES)
