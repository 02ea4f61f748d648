"""Evaluations with a budget: no call is made that may pass it, and with more to spend they go on where they were."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex._compat import lm15
from dspex.evaluate import EvaluationOverBudget, EvaluationResult, evaluate
from dspex.evaluate.outcomes import ExampleOutcome
from dspex.jobs.spending import Payer, Spending, TokenPrice
from dspex.testing.engine import Outage, ScriptedEngine, exact, scripted_lm, task
from supervision import Runtime
from supervision.errors import BadOption

EXAMPLES, LABELS = task(40)
PRICE = TokenPrice(1.0, 1.0)


async def found(runtime: Runtime, engine: ScriptedEngine, program: Any = None, **options: Any) -> EvaluationResult:
    """Evaluate."""
    given = dspy.Predict("text -> label") if program is None else program
    with dspy.context(lm=scripted_lm(engine, max_tokens=50)):
        return await evaluate(given, EXAMPLES, exact, runtime=runtime, display_progress=False, **options)


@pytest.mark.parametrize("threads", [1, 4])
async def test_calls_are_counted_over_all_runs_in_a_folder(runtime: Runtime, tmp_path: Path, threads: int) -> None:
    """What is done is kept, and not asked again; what is over budget has no score."""
    engine = ScriptedEngine(LABELS)
    options: dict[str, Any] = {"log_dir": tmp_path, "num_threads": threads}
    for _ in range(2):
        with pytest.raises(EvaluationOverBudget, match=r"10 of 10 calls are made; .*more to spend") as caught:
            await found(runtime, engine, max_calls=10, **options)
        assert (engine.calls, caught.value.result.score) == (10, None)
        # Of an example that was cut off, the answer is kept.
        assert 30 <= caught.value.result.counts["missing"] < 30 + threads
    result = await found(runtime, engine, max_calls=40, **options)
    assert (engine.calls, result.counts["missing"], result.run.calls) == (40, 0, 30)
    undisturbed = await found(runtime, ScriptedEngine(LABELS), num_threads=threads)
    assert result.examples == undisturbed.examples
    assert (await found(runtime, engine, max_calls=0, **options)).score == result.score


async def test_dollars_are_reserved_before_a_call_and_never_passed(runtime: Runtime, tmp_path: Path) -> None:
    engine = ScriptedEngine(LABELS)
    whole = await found(runtime, ScriptedEngine(LABELS), budget=1.0, price=PRICE)
    assert 0 < whole.run.dollars < 1.0
    half = whole.run.dollars / 2
    with pytest.raises(EvaluationOverBudget, match="are spent, and the next call may cost more") as caught:
        await found(runtime, engine, budget=half, price=PRICE, log_dir=tmp_path)
    spent = caught.value.result.run.dollars
    assert 0 < spent <= half
    assert 0 < engine.calls < 40
    result = await found(runtime, engine, budget=1.0, price=PRICE, log_dir=tmp_path)
    assert engine.calls == 40
    assert spent + result.run.dollars == pytest.approx(whole.run.dollars)


async def test_models_of_the_program_are_paid_for_and_outages_are_not(runtime: Runtime) -> None:
    """Calls that fail do not count."""
    engine = ScriptedEngine(LABELS, outage=Outage(5, 8))
    program = dspy.Predict("text -> label")
    program.lm = scripted_lm(engine)
    result = await found(runtime, ScriptedEngine(LABELS), program, max_calls=40, num_threads=1)
    assert (result.counts["missing"], engine.calls - engine.failed) == (0, 40)


async def test_a_program_that_hides_its_error_does_not_pass_the_budget(runtime: Runtime) -> None:
    class Hides(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict("text -> label")

        async def aforward(self, text: str) -> Any:
            try:
                return await self.ask.acall(text=text)
            except Exception:
                return dspy.Prediction(label="red")

    engine = ScriptedEngine(LABELS)
    with pytest.raises(EvaluationOverBudget):
        await found(runtime, engine, Hides(), max_calls=7)
    assert engine.calls == 7


async def test_several_evaluations_have_one_payer(runtime: Runtime) -> None:
    async def save(dollars: float, calls: int) -> None:
        kept.append((dollars, calls))

    kept: list[tuple[float, int]] = []
    outcomes: list[ExampleOutcome] = []
    payer = Payer(Spending(None, 0.0, save, max_calls=60), PRICE)
    await found(runtime, ScriptedEngine(LABELS), payer=payer, on_outcome=outcomes.append)
    assert len(outcomes) == 40
    with pytest.raises(EvaluationOverBudget, match="60 of 60"):
        await found(runtime, ScriptedEngine(LABELS), payer=payer)
    assert kept[-1] == (payer.spending.spent, 60)


class _Refusing:
    """A language model that refuses those who say so, and never answers the others."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def complete(self, request: Any) -> Any:
        if "refuse" in str(request):
            raise lm15.AuthError("wrong key")
        self.asked.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize(("refused", "calls"), [(False, 1), (True, 0)])
async def test_a_call_that_is_cancelled_has_sent_its_prompt_unless_the_model_refuses_all(
    refused: bool, calls: int
) -> None:
    """With a wrong key nothing is paid for, also for the calls that were on their way."""

    async def save(dollars: float, calls: int) -> None:
        kept.append((dollars, calls))

    kept: list[tuple[float, int]] = []
    engine = _Refusing()
    payer = Payer(Spending(1.0, 0.0, save), PRICE)
    options = {"engine": ScriptedEngine(LABELS), "async_engine": engine, "cache": False, "num_retries": 0}
    lm = payer.paid(dspy.LM("known/model", **options))
    waiting = asyncio.ensure_future(lm.acall("wait"))
    await engine.asked.wait()
    if refused:
        with pytest.raises(dspy.LMAuthError):
            await lm.acall("refuse")
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (payer.spending.calls, payer.spending.spent > 0) == (calls, calls > 0)
    assert kept == [(payer.spending.spent, calls)] * calls


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1, 10**400, True, "1"])
def test_a_price_is_a_finite_number_from_0(number: Any) -> None:
    with pytest.raises(BadOption, match=r"price\.input.*give a finite number from 0"):
        TokenPrice(number, 1.0)
    with pytest.raises(BadOption, match=r"price\.output.*give a finite number from 0"):
        TokenPrice(1.0, number)
    assert TokenPrice(0, 0) == TokenPrice(0.0, 0.0)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"budget": -1}, "budget"),
        ({"budget": float("nan")}, "budget"),
        ({"budget": "all"}, "budget"),
        ({"max_calls": -1}, "max_calls"),
        ({"max_calls": 1.5}, "max_calls"),
        ({"max_calls": True}, "max_calls"),
        ({"budget": 1.0}, "give the price of"),
    ],
)
async def test_a_budget_that_is_none_or_bounds_nothing_is_refused(
    runtime: Runtime, tmp_path: Path, options: dict[str, Any], why: str
) -> None:
    """Before anything was asked."""
    engine = ScriptedEngine(LABELS)
    with pytest.raises(BadOption, match=why):
        await found(runtime, engine, log_dir=tmp_path, **options)
    assert engine.calls == 0
