"""An evaluation keeps each result, goes on where it was, and tells what is a score from what is none."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pytest

from dspex._compat import lm15
from dspex.evaluate import (
    EvaluationEnded,
    EvaluationFailed,
    EvaluationGoesOn,
    EvaluationJournalError,
    EvaluationRefused,
    EvaluationResult,
    EvaluationSuspended,
    EvaluationWaits,
    ExampleScored,
    NoExamples,
    OtherEvaluation,
    evaluate,
    read_evaluation,
)
from dspex.testing.engine import Outage, ScriptedEngine, exact, scripted_lm, task
from supervision import Runtime
from supervision.errors import BadOption

EXAMPLES, LABELS = task(150)
ALWAYS: dict[str, Any] = {"base": 2.0}

pytestmark = pytest.mark.usefixtures("quiet")


class Wrong(ScriptedEngine):
    """Answers rightly, but for some texts.

    Args:
        wrong: numbers of the cases that it gets wrong.
        said: what it says of cases, in place of a label.
    """

    def __init__(self, wrong: range = range(0), said: Mapping[int, str] | None = None, **options: Any) -> None:
        super().__init__(LABELS, base=2.0, **options)
        self.wrong, self.said = wrong, dict(said or {})
        self.asked: list[int] = []

    def answer(self, messages: Any) -> str:
        """Return the text of the answer to a conversation."""
        number = int(messages[-1]["content"].partition("case number ")[2].split()[0])
        self.asked.append(number)
        if number in self.said:
            return self.said[number]
        found = super().answer(messages)
        return found if number not in self.wrong else found.replace(LABELS[f"case number {number}"], "violet")


class Program(dspy.Module):  # type: ignore[misc]
    """Asks, and then does something of its own.

    Args:
        act: is called with the number of each case, after the model was asked.
    """

    def __init__(self, act: Callable[[int], Any]) -> None:
        super().__init__()
        self.ask = dspy.Predict("text -> label")
        self.act = act

    async def aforward(self, text: str) -> Any:
        """Ask, and act."""
        found = await self.ask.acall(text=text)
        self.act(int(text.rsplit(maxsplit=1)[-1]))
        return found


async def score(example: Any, prediction: Any) -> float:
    """Return 1 if the label is right, in the event loop."""
    return exact(example, prediction)


async def found(
    runtime: Runtime,
    engine: ScriptedEngine,
    program: Any = None,
    metric: Any = score,
    devset: Any = None,
    **options: Any,
) -> EvaluationResult:
    """Evaluate."""
    with dspy.context(lm=scripted_lm(engine)):
        return await evaluate(
            dspy.Predict("text -> label") if program is None else program,
            EXAMPLES if devset is None else devset,
            metric,
            runtime=runtime,
            **options,
        )


def same(one: EvaluationResult, other: EvaluationResult) -> bool:
    """Tell whether two results are the same but for what they took."""
    return str(one) == str(other) and one.examples == other.examples and one.identity == other.identity


def cut_at(number: int, cut: asyncio.Event) -> Callable[[int], None]:
    return lambda call: cut.set() if call == number else None


# -- what is found -----------------------------------------------------------------------------------------------------


async def test_E015_a_score_has_its_intervals_and_its_coverage(runtime: Runtime) -> None:
    result = await found(runtime, Wrong(range(15)))
    assert result.score == pytest.approx(0.9)
    assert result.interval == pytest.approx((0.841565, 0.938459), abs=1e-6)
    assert result.exact == pytest.approx((0.840432, 0.942943), abs=1e-6)
    assert (result.method, result.coverage, result.size, result.total) == ("Wilson", 1.0, 150, 150)
    assert str(result).splitlines() == [
        "score     0.9 on 150 examples",
        "interval  0.8416 to 0.9385 at 95% (Wilson)",
        "interval  0.8404 to 0.9429 at 95% (Clopper-Pearson, exact)",
        "coverage  150 of 150 scored",
    ]
    assert [row.score for row in result.examples[13:17]] == [0.0, 0.0, 1.0, 1.0]
    assert result.examples[0].outputs == {"label": "violet"}


async def test_what_is_known_of_an_evaluation_is_its_identity(runtime: Runtime) -> None:
    result = await found(runtime, Wrong(), metric_id="v1")
    assert result.identity.keys() == {"metric", "program", "models", "adapter", "versions"}
    assert result.identity["metric"] == "v1"


async def test_events_tell_each_example_and_the_end(runtime: Runtime) -> None:
    told: list[Any] = []
    runtime.subscribe(told.append, ExampleScored, EvaluationEnded)
    await found(runtime, Wrong(range(1)), devset=EXAMPLES[:2], num_threads=1)
    assert [(event.outcome, event.score) for event in told[:2]] == [("scored", 0.0), ("scored", 1.0)]
    assert (told[2].score, told[2].coverage, told[2].examples) == (0.5, 1.0, 2)


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_it_runs_where_programs_without_a_runtime_do_if_there_is_none() -> None:
    with dspy.context(lm=scripted_lm(Wrong())):
        result = await evaluate(dspy.Predict("text -> label"), EXAMPLES[:3], exact)
    assert (result.score, result.run.calls) == (1.0, 3)


async def test_predictors_keep_language_models_of_their_own(runtime: Runtime) -> None:
    program, own, other = dspy.Predict("text -> label"), Wrong(), Wrong()
    program.lm = scripted_lm(own)
    result = await found(runtime, other, program)
    assert (len(own.asked), len(other.asked), result.run.calls) == (150, 0, 150)


async def test_a_program_that_is_not_async_runs_in_threads(runtime: Runtime) -> None:
    class Sync(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict("text -> label")

        def forward(self, text: str) -> Any:
            return self.ask(text=text).label

    result = await found(runtime, Wrong(), Sync(), lambda example, label: example.label == label, EXAMPLES[:9])
    assert (result.score, result.examples[0].outputs) == (1.0, {})


# -- going on ----------------------------------------------------------------------------------------------------------


async def test_E016_E017_cut_off_it_goes_on_where_it_was_and_tells_of_all(runtime: Runtime, tmp_path: Path) -> None:
    cut = asyncio.Event()
    engine = Wrong(range(15), before=cut_at(71, cut))
    first = asyncio.ensure_future(found(runtime, engine, log_dir=tmp_path, num_threads=2))
    await cut.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    again = Wrong(range(15))
    result = await found(runtime, again, log_dir=tmp_path, num_threads=8)
    assert 150 <= len(engine.asked) + len(again.asked) <= 150 + 2
    assert (result.run.resumed, result.run.calls) == (True, len(again.asked))
    assert result.run.kept + result.run.replayed + len(again.asked) == 150
    assert same(result, await found(runtime, Wrong(range(15))))


async def test_evaluated_again_nothing_is_asked_and_the_same_is_found(runtime: Runtime, tmp_path: Path) -> None:
    first = await found(runtime, Wrong(range(15)), log_dir=tmp_path)
    again = Wrong()
    second = await found(runtime, again, log_dir=tmp_path)
    assert (again.asked, second.run.kept) == ([], 150)
    assert same(first, second)
    assert same(first, await read_evaluation(tmp_path))
    assert same(first, await read_evaluation(tmp_path / "evaluation.sqlite"))


async def test_a_larger_devset_goes_on_with_what_is_known(runtime: Runtime, tmp_path: Path) -> None:
    await found(runtime, Wrong(), devset=EXAMPLES[:100], log_dir=tmp_path)
    again = Wrong()
    result = await found(runtime, again, devset=EXAMPLES, log_dir=tmp_path)
    assert (sorted(again.asked), result.size) == (list(range(100, 150)), 150)
    assert (await read_evaluation(tmp_path)).size == 150


async def test_E018_a_result_whose_writing_was_cut_off_is_made_again(runtime: Runtime, tmp_path: Path) -> None:
    await found(runtime, Wrong(), log_dir=tmp_path, num_threads=1)
    with sqlite3.connect(tmp_path / "evaluation.sqlite") as database:
        (last,) = database.execute("SELECT max(version) FROM journal").fetchone()
        database.execute("DELETE FROM journal WHERE version = ?", (last,))
        database.execute("UPDATE agents SET version = ?", (last - 1,))
    database.close()
    again = Wrong()
    result = await found(runtime, again, log_dir=tmp_path)
    assert (again.asked, result.run.kept, result.run.replayed, result.size) == ([], 149, 1, 150)


async def test_E018_a_damaged_entry_is_named(runtime: Runtime, tmp_path: Path) -> None:
    await found(runtime, Wrong(), log_dir=tmp_path)
    with sqlite3.connect(tmp_path / "evaluation.sqlite") as database:
        database.execute("UPDATE journal SET entry = substr(entry, 1, 20) WHERE version = 50")
    database.close()
    for reading in (found(runtime, Wrong(), log_dir=tmp_path), read_evaluation(tmp_path)):
        with pytest.raises(EvaluationJournalError, match=r"evaluation\.sqlite: entry 50 .*fresh=True"):
            await reading


async def test_E018_a_file_that_is_no_journal_is_named(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "evaluation.sqlite").write_text("x" * 5000)
    with pytest.raises(EvaluationJournalError, match=r"evaluation\.sqlite .*; make room on the disk, or mend"):
        await found(runtime, Wrong(), log_dir=tmp_path)


async def test_E019_another_metric_is_refused_or_begins_beside_or_is_vouched_for(
    runtime: Runtime, tmp_path: Path
) -> None:
    async def other(example: Any, prediction: Any) -> float:
        return 1 - exact(example, prediction)

    small: dict[str, Any] = {"devset": EXAMPLES[:4], "log_dir": tmp_path}
    await found(runtime, Wrong(), **small)
    with pytest.raises(OtherEvaluation, match=r"metric: .*score.* there, .*other.* here.*fresh=True") as caught:
        await found(runtime, Wrong(), metric=other, **small)
    assert caught.value.differing.keys() == {"metric"}
    assert (await found(runtime, Wrong(), metric=other, fresh=True, **small)).score == 0
    assert (await found(runtime, Wrong(), metric=other, **small)).run.kept == 4
    assert (await read_evaluation(tmp_path)).score == 0
    assert (await read_evaluation(tmp_path / "evaluation.sqlite")).score == 1
    await found(runtime, Wrong(), metric=score, metric_id="v1", fresh=True, **small)
    assert (await found(runtime, Wrong(), metric=other, metric_id="v1", num_threads=8, **small)).run.kept == 4


async def test_E019_another_program_or_model_is_refused(runtime: Runtime, tmp_path: Path) -> None:
    await found(runtime, Wrong(), log_dir=tmp_path, devset=EXAMPLES[:2])
    other = dspy.Predict("text -> label")
    other.demos = EXAMPLES[:1]
    with pytest.raises(OtherEvaluation, match="program: "):
        await found(runtime, Wrong(), other, log_dir=tmp_path, devset=EXAMPLES[:2])
    with dspy.context(lm=scripted_lm(Wrong(), temperature=0.7)), pytest.raises(OtherEvaluation, match="models: "):
        await evaluate(dspy.Predict("text -> label"), EXAMPLES[:2], score, log_dir=tmp_path, runtime=runtime)


# -- the infrastructure ------------------------------------------------------------------------------------------------


async def test_E020_a_model_that_is_away_for_ten_minutes_is_waited_for(runtime: Runtime) -> None:
    told: list[Any] = []
    runtime.subscribe(told.append, EvaluationWaits, EvaluationGoesOn)
    engine, began = Wrong(range(15), outage=Outage(41, 65)), runtime.clock.time()
    result = await found(runtime, engine, patience=900.0)
    assert runtime.clock.time() - began >= 600
    assert same(result, await found(runtime, Wrong(range(15))))
    assert len(engine.asked) == 150
    assert [type(event).__name__ for event in told[-2:]] == ["EvaluationWaits", "EvaluationGoesOn"]


async def test_E020_when_patience_is_over_it_is_suspended_and_goes_on_later(runtime: Runtime, tmp_path: Path) -> None:
    with pytest.raises(EvaluationSuspended, match="suspended with 110 of 150 missing: the language model") as caught:
        await found(runtime, Wrong(outage=Outage(41)), log_dir=tmp_path, patience=60.0, num_threads=1)
    result = caught.value.result
    assert (result.score, result.interval, result.counts["missing"]) == (None, None, 110)
    assert result.coverage == pytest.approx(40 / 150)
    assert str(result).splitlines()[:2] == ["score     none", "coverage  40 of 150 scored, 110 missing"]
    again = Wrong(range(15))
    assert (await found(runtime, again, log_dir=tmp_path)).counts["scored"] == 150
    assert len(again.asked) == 110


async def test_a_model_that_is_not_to_be_had_is_not_waited_for(runtime: Runtime, tmp_path: Path) -> None:
    def refuse(call: int) -> None:
        if call == 41:
            raise lm15.AuthError("wrong key")

    waits: list[Any] = []
    runtime.subscribe(waits.append, EvaluationWaits)
    with pytest.raises(EvaluationRefused, match=r"(?s)not to be had: LMAuthError: .* wrong key.*; mend that"):
        await found(runtime, Wrong(before=refuse), log_dir=tmp_path, num_threads=1)
    assert waits == []
    again = Wrong()
    result = await found(runtime, again, log_dir=tmp_path)
    assert (result.score, result.run.kept, len(again.asked)) == (1.0, 40, 110)
    refused = Program(lambda number: failing(lm15.BillingError("no money")) if number == 5 else None)
    with pytest.raises(EvaluationRefused, match="BillingError: no money"):
        await found(runtime, Wrong(), refused)


async def test_a_program_that_hides_an_outage_is_not_believed(runtime: Runtime) -> None:
    class Hides(dspy.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict("text -> label")

        async def aforward(self, text: str) -> Any:
            try:
                return await self.ask.acall(text=text)
            except Exception:
                raise ValueError("something went wrong") from None

    with pytest.raises(EvaluationSuspended) as caught:
        await found(runtime, Wrong(outage=Outage(41)), Hides(), patience=0.0, num_threads=1)
    assert caught.value.result.counts == {"scored": 40, "failed": 0, "unparsed": 0, "unscored": 0, "missing": 110}


async def test_what_a_tool_asks_by_itself_is_waited_for_too(runtime: Runtime) -> None:
    failures = iter([lm15.TransportError("gone")] * 3)

    def act(number: int) -> None:
        if number == 5:
            for error in failures:
                raise error

    engine = Wrong()
    result = await found(runtime, engine, Program(act))
    assert (result.score, len(engine.asked)) == (1.0, 150)
    gone = Program(lambda number: failing(lm15.TransportError("gone")) if number == 5 else None)
    with pytest.raises(EvaluationSuspended, match=r"example.* unavailable"):
        await found(runtime, Wrong(), gone, patience=10.0)


def failing(error: BaseException) -> None:
    raise error


async def test_a_worker_that_dies_leaves_its_example_to_another(runtime: Runtime) -> None:
    def kill(number: int) -> None:
        if number == 7:
            for name, ref in runtime.names().items():
                if ".workers." in name:
                    ref.kill()

    engine = Wrong(before=kill)
    result = await found(runtime, engine, num_threads=2)
    assert (result.score, sorted(engine.asked)) == (1.0, list(range(150)))


async def test_a_journal_that_cannot_be_written_ends_the_evaluation(runtime: Runtime, tmp_path: Path) -> None:
    def act(number: int) -> None:
        if number == 20:
            with sqlite3.connect(tmp_path / "evaluation.sqlite", timeout=0.0) as database:
                database.execute("UPDATE agents SET version = version + 1")
            database.close()

    with pytest.raises(
        EvaluationJournalError, match=r"evaluation\.sqlite: another process writes it; let that one end"
    ):
        await found(runtime, Wrong(), Program(act), log_dir=tmp_path, num_threads=1)


# -- outcomes ----------------------------------------------------------------------------------------------------------


async def test_E021_failures_count_and_metric_errors_are_left_out_and_named(runtime: Runtime) -> None:
    def act(number: int) -> None:
        if number in range(4):
            raise KeyError("broken")
        if number == 4:
            raise dspy.ContextWindowExceededError(model="known/model")

    async def metric(example: Any, prediction: Any) -> float:
        if example.text in {"case number 10", "case number 11", "case number 12"}:
            raise ZeroDivisionError("no label")
        return exact(example, prediction)

    result = await found(runtime, Wrong(), Program(act), metric)
    assert (result.score, result.size, result.coverage) == (pytest.approx(142 / 147), 147, 0.98)
    assert "coverage  142 of 150 scored, 5 failed (counted 0), 3 metric errors" in str(result)
    assert "          4 x KeyError: 'broken'" in str(result)
    assert "          3 x metric: ZeroDivisionError: no label" in str(result)
    strict = await found(runtime, Wrong(), Program(act), metric, min_coverage=0.99, failure_score=-1.0)
    assert (strict.score, strict.notes) == (None, ("no score: the coverage is below 0.99",))
    assert "5 failed (counted -1)" in str(strict)


async def test_an_answer_that_cannot_be_parsed_is_told_from_a_program_that_fails(runtime: Runtime) -> None:
    result = await found(runtime, Wrong(said={3: "gibberish"}), devset=EXAMPLES[:30])
    assert (result.counts["unparsed"], result.counts["failed"], result.score) == (1, 0, pytest.approx(29 / 30))
    assert result.examples[3].why.startswith("AdapterParseError: ")
    assert "1 unparsed (counted 0)" in str(result)


@pytest.mark.parametrize(
    ("said", "score"),
    [(True, 1.0), (np.float32(0.5), 0.5), (np.bool_(True), 1.0), (dspy.Prediction(score=1), 1.0), (7, 7.0)],
)
async def test_E022_numbers_of_any_kind_are_scores(runtime: Runtime, said: Any, score: float) -> None:
    result = await found(runtime, Wrong(), metric=lambda example, prediction: said, metric_id="v1", devset=EXAMPLES[:1])
    assert (result.examples[0].outcome, result.examples[0].score) == ("scored", score)


@pytest.mark.parametrize("said", [float("nan"), "good", None, float("inf"), 10**400, 1e200, 1j, object()])
async def test_E022_what_is_no_number_is_no_score(runtime: Runtime, said: Any) -> None:
    metric = lambda example, prediction: said if example.text.endswith(" 0") else 1  # noqa: E731
    result = await found(runtime, Wrong(), metric=metric, devset=EXAMPLES[:2], min_coverage=0.5)
    assert [row.outcome for row in result.examples] == ["unscored", "scored"]
    assert "is no score" in result.examples[0].why
    assert result.score == 1


async def test_a_metric_that_has_failed_is_asked_again_the_next_time(runtime: Runtime, tmp_path: Path) -> None:
    broken = True

    async def metric(example: Any, prediction: Any) -> float:
        if broken and example is EXAMPLES[3]:
            raise ConnectionResetError("no database")
        return exact(example, prediction)

    options: dict[str, Any] = {"log_dir": tmp_path, "devset": EXAMPLES[:30], "metric_id": "v1"}
    assert (await found(runtime, Wrong(), metric=metric, **options)).counts["unscored"] == 1
    broken, again = False, Wrong()
    result = await found(runtime, again, metric=metric, **options)
    assert (result.counts["scored"], result.run.kept, result.run.replayed, again.asked) == (30, 29, 1, [])


async def test_what_is_no_plain_data_is_no_output_but_for_the_metric(runtime: Runtime) -> None:
    class Makes(dspy.Module):  # type: ignore[misc]
        async def aforward(self, text: str) -> Any:
            return dspy.Prediction(
                label="red", thing=object(), share=float("nan"), text="\ud800", parts=[1, {"a": None}]
            )

    metric = lambda example, made: type(made.thing) is object  # noqa: E731
    result = await found(runtime, Wrong(), Makes(), metric, EXAMPLES[:1])
    assert (result.score, result.examples[0].outputs) == (1.0, {"label": "red", "parts": [1, {"a": None}]})


async def test_E023_if_nothing_has_a_score_it_is_an_error_with_the_first_cause(runtime: Runtime) -> None:
    with pytest.raises(
        EvaluationFailed, match="none of 150 examples has a score; the first one: KeyError: 'x'"
    ) as caught:
        await found(runtime, Wrong(), Program(lambda number: failing(KeyError("x"))))
    assert (caught.value.result.score, caught.value.result.counts["failed"]) == (None, 150)


class Nasty(Exception):
    """An error without a text."""

    def __str__(self) -> str:
        raise RuntimeError("never")


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), Nasty(), BaseExceptionGroup("all", [SystemExit()])],
)
async def test_whatever_a_program_or_a_metric_raises_is_its_example_s_alone(
    runtime: Runtime, error: BaseException
) -> None:
    result = await found(
        runtime, Wrong(), Program(lambda number: failing(error) if number == 1 else None), devset=EXAMPLES[:30]
    )
    assert (result.counts["failed"], result.counts["scored"]) == (1, 29)
    assert type(error).__name__ in result.examples[1].why

    async def metric(example: Any, prediction: Any) -> float:
        if example is EXAMPLES[1]:
            raise error
        return 1.0

    result = await found(runtime, Wrong(), metric=metric, devset=EXAMPLES[:30])
    assert (result.counts["unscored"], result.counts["scored"]) == (1, 29)


async def test_E027_the_same_example_twice_is_two_results_of_one_cluster(runtime: Runtime) -> None:
    engine = Wrong(range(1))
    with dspy.context(lm=scripted_lm(engine, cache=True)):
        result = await evaluate(
            dspy.Predict("text -> label"), [*EXAMPLES[:30], EXAMPLES[0]], score, runtime=runtime, num_threads=1
        )
    assert (result.total, result.clusters, sorted(engine.asked)) == (31, 30, list(range(30)))
    assert result.notes == ("1 examples stand in the set before: equal ones count as one cluster",)
    assert result.method == "normal, by clusters"
    assert [row.number for row in result.examples if row.example == result.examples[0].example] == [0, 1]


async def test_E028_images_are_told_apart_by_their_content(runtime: Runtime) -> None:
    class Picture:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def __repr__(self) -> str:
            return "a picture"

    class Looks(dspy.Module):  # type: ignore[misc]
        async def aforward(self, picture: Picture) -> Any:
            return dspy.Prediction(size=len(picture.data))

    pictures = [Picture(b"one"), Picture(b"one"), Picture(b"two")]
    devset = [dspy.Example(picture=picture, size=3).with_inputs("picture") for picture in pictures]
    result = await found(runtime, Wrong(), Looks(), lambda example, made: example.size == made.size, devset)
    first, second, third = result.examples
    assert (first.example, first.number, second.number) == (second.example, 0, 1)
    assert third.example != first.example


async def test_E029_without_examples_there_is_nothing_to_evaluate(runtime: Runtime, tmp_path: Path) -> None:
    with pytest.raises(NoExamples, match="no examples"):
        await found(runtime, Wrong(), devset=[])
    with pytest.raises(NoExamples, match="no evaluation is kept there"):
        await read_evaluation(tmp_path)
    await found(runtime, Wrong(), devset=EXAMPLES[:1], log_dir=tmp_path / "a")
    with sqlite3.connect(tmp_path / "a" / "evaluation.sqlite") as database:
        database.execute("DELETE FROM agents")
    database.close()
    with pytest.raises(NoExamples, match="no evaluation is kept there"):
        await read_evaluation(tmp_path / "a")


# -- repetitions and clusters ------------------------------------------------------------------------------------------


class Moody(Wrong):
    """Gets each case right every second time that it is asked."""

    def answer(self, messages: Any) -> str:
        """Return the text of the answer to a conversation."""
        found = super().answer(messages)
        return found.replace("red", "x") if self.asked.count(self.asked[-1]) % 2 else found


async def test_repetitions_are_asked_anew_and_averaged_first(runtime: Runtime, tmp_path: Path) -> None:
    red = [example for example in EXAMPLES if example.label == "red"][:25]
    engine = Moody()
    for again in (False, True):
        with dspy.context(lm=scripted_lm(engine, cache=True, temperature=1.0, rollout_id=3)):
            result = await evaluate(
                dspy.Predict("text -> label"),
                red,
                score,
                repetitions=2,
                runtime=runtime,
                num_threads=1,
                log_dir=tmp_path,
            )
        assert (result.score, result.size, result.total, result.interval) == (0.5, 25, 50, None)
        assert [row.score for row in result.examples[:4]] == [0.0, 1.0, 0.0, 1.0]
        assert (len(engine.asked), result.run.kept) == (50, 50 * again)


async def test_a_model_that_always_says_the_same_is_repeated_as_it_is(runtime: Runtime) -> None:
    engine = Wrong()
    result = await found(runtime, engine, devset=EXAMPLES[:2], repetitions=3)
    assert (result.score, len(engine.asked)) == (1.0, 6)


async def test_examples_stand_in_clusters_by_a_field_or_a_function(runtime: Runtime) -> None:
    devset = [example.copy(user=f"user {number % 30}").with_inputs("text") for number, example in enumerate(EXAMPLES)]
    by_field = await found(runtime, Wrong(range(15)), devset=devset, cluster="user")
    by_function = await found(runtime, Wrong(range(15)), devset=devset, cluster=lambda example: example.user)
    assert by_field.clusters == by_function.clusters == 30
    assert by_field.interval == by_function.interval
    assert by_field.method == "normal, by clusters"
    assert "clusters  30" in str(by_field)
    with pytest.raises(BadOption, match=r"cluster of devset\[0\].*give one of text, label"):
        await found(runtime, Wrong(), cluster="user")


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"num_threads": 0},
        {"repetitions": 0},
        {"failure_score": float("nan")},
        {"failure_score": 1e200},
        {"min_coverage": 1.1},
        {"min_coverage": -1},
        {"patience": float("nan")},
        {"metric_timeout": 0},
        {"metric_timeout": -1.0},
        {"metric_timeout": float("nan")},
        {"metric_timeout": 10**400},
        {"devset": [{"text": "a"}]},
        {"devset": [dspy.Example(text="a")]},
    ],
)
async def test_an_argument_that_makes_no_sense_is_refused_before_anything_is_done(
    runtime: Runtime, tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(BadOption if "patience" not in options else ValueError):
        await found(runtime, Wrong(), log_dir=tmp_path, **options)
    assert list(tmp_path.iterdir()) == []
