"""Races: the same winner however they are run, fewer runs, and a report that says what that is worth."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import dspy
import pytest

from dspex.search import BadHypotheses, Hypothesis, HypothesisDropped, RaceReport
from dspex.search.metrics import RaceCounts
from dspex.search.race import SearchView
from dspex.teleprompt import CandidateScored, EveryExampleFailed, ModelRefused
from dspex.testing.engine import exact, scripted_lm
from supervision import Runtime
from supervision.errors import BadOption
from tests.dspex.search.conftest import EXAMPLES, WAYS, advised, engine, race, raced, slow_lm, student

pytestmark = pytest.mark.usefixtures("quiet")


def outcome(report: RaceReport) -> Any:
    """What is compared of two races."""
    return report.winner, report.train, report.runs, report.hypotheses, report.trials, report.test


async def test_the_best_comes_back_with_fewer_runs(runtime: Runtime) -> None:
    """The student is as it was, and its language model is the caller's."""
    program, model = student(), engine()
    told: list[Any] = []
    runtime.subscribe(told.append, CandidateScored, HypothesisDropped)
    found, report = await raced(race(runtime), model, program)
    assert report.winner == "hypothesis 7"
    assert found.signature.instructions.startswith("Way 6.")
    assert (found.lm, program.lm, "Way" in program.signature.instructions) == (None, None, False)
    # 9 on 8 items, 4 on 16, of which the student is one; then 2 on 32, and 1 on 64, and the student beside them.
    assert report.runs == report.expected + 48 == 9 * 8 + 4 * 8 + 3 * 16 + 2 * 32 == model.calls
    assert (report.items, report.everything, report.share) == (64, 576, model.calls / 576)
    assert report.best == report.train > report.student_train
    dropped = [event for event in told if isinstance(event, HypothesisDropped)]
    assert len(dropped) == 7
    assert dropped[0].why == "not among the best 4 of 9 on 8 items"
    assert {one.fate for one in report.hypotheses} == {"won", "dropped", "beaten"}
    assert len(told) - len(dropped) == len(report.trials) == 9 + 4 + 3 + 2


@pytest.mark.parametrize("rule", ["halving", "asha", "paired"])
async def test_T057_the_winner_is_the_same_for_any_width_and_any_delays(runtime: Runtime, rule: str) -> None:
    """And so are the runs, and who was dropped."""
    found = []
    for width, seed in ((1, None), (4, 1), (16, 2)):
        pauses = (lambda: 0.0) if seed is None else Random(seed).random
        made = race(runtime, rule={"kind": rule}, num_threads=width, explorers=width, strata="label", held_out=0.25)
        with dspy.context(lm=slow_lm(engine(), runtime, pauses)):
            await made.acompile(student(), trainset=EXAMPLES)
        assert isinstance(made.report, RaceReport)
        found.append(outcome(made.report))
    assert found[0] == found[1] == found[2]


async def test_the_seed_decides_in_which_order_the_items_come(runtime: Runtime) -> None:
    _, one = await raced(race(runtime), seed=1)
    _, same = await raced(race(runtime), seed=1)
    _, other = await raced(race(runtime), seed=2)
    assert one.trials == same.trials != other.trials


async def test_winner_and_student_are_scored_on_examples_that_nobody_has_raced_on(runtime: Runtime) -> None:
    """Those that are given for it, or a share of all; without any, the report says so."""
    seen: set[str] = set()

    def metric(example: Any, prediction: Any) -> float:
        seen.add(example.text)
        return exact(example, prediction)

    _, kept = await raced(race(runtime, metric=metric, held_out=0.25))
    assert (kept.items, kept.tested, len(seen)) == (48, 16, 64)
    assert kept.test is not None
    assert kept.student_test is not None
    assert kept.test > kept.student_test
    seen.clear()
    _, given = await raced(
        race(runtime, held_out=0.5), examples=EXAMPLES[:8], valset=EXAMPLES[:40], testset=EXAMPLES[50:]
    )
    assert (given.items, given.tested) == (40, 14)
    assert "score on 14 examples kept for the test" in given.markdown()
    assert "luck of the choice" in given.markdown()
    _, none = await raced(race(runtime))
    assert none.test is None
    assert "There is no test score" in none.markdown()


# -- few, many, equal ones ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["halving", "asha", "paired"])
async def test_one_hypothesis_or_none_is_a_race_too(runtime: Runtime, rule: str) -> None:
    found, report = await raced(race(runtime, [], rule=rule, held_out=0.1))
    assert (report.winner, [one.fate for one in report.hypotheses]) == ("student", ["won"])
    assert found.dump_state() == student().dump_state()
    assert report.test == report.student_test
    found, report = await raced(race(runtime, [WAYS[6]], rule=rule))
    assert report.winner == "hypothesis 1"


async def test_equal_hypotheses_are_run_once_and_the_earlier_one_stands_for_both(runtime: Runtime) -> None:
    model = engine()
    twice = [Hypothesis("one", advised(2)), Hypothesis("two", advised(2)), Hypothesis("own", student())]
    _, report = await raced(race(runtime, twice, rule={"kind": "halving", "first": 64}), model)
    assert model.calls == 2 * 64
    assert [(one.fate, one.why) for one in report.hypotheses] == [
        ("beaten", ""),
        ("won", ""),
        ("equal", "does the same as one"),
        ("equal", "does the same as student"),
    ]


async def test_those_that_differ_in_their_language_model_alone_are_not_equal(runtime: Runtime) -> None:
    """Though nothing but the model itself shows that."""
    models = [engine(base=0.1), engine(base=0.9)]
    programs = [student(), student()]
    for program, model in zip(programs, models, strict=True):
        program.lm = scripted_lm(model)
    found, report = await raced(race(runtime, programs))
    assert report.winner == "hypothesis 2"
    assert found.lm is programs[1].lm
    assert models[0].calls == 8


@pytest.mark.once
async def test_a_thousand_hypotheses_race(runtime: Runtime) -> None:
    ways = [advised(2 if number == 700 else 0, number) for number in range(1000)]
    _, report = await raced(race(runtime, ways, rule={"kind": "halving", "eta": 8, "first": 1}, num_threads=64))
    assert len(report.hypotheses) == 1001
    assert report.runs < 0.1 * report.everything


async def test_hypotheses_may_be_made_by_asking_a_model(runtime: Runtime, tmp_path: Path) -> None:
    """Its answers are kept as well."""

    def ask(program: Any, trainset: Any, seed: int) -> list[Any]:
        said = [program(text=example.text).label for example in trainset[: 2 + seed]]
        return [advised(len(said), number) for number in range(2)]

    model = engine()
    one, report = await raced(race(runtime, ask, log_dir=tmp_path), model)
    asked = model.calls
    assert asked == 2 + report.runs
    again, _ = await raced(race(runtime, ask, log_dir=tmp_path), model)
    assert (again.dump_state(), model.calls) == (one.dump_state(), asked)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


class Broken(dspy.Module):  # type: ignore[misc]
    """Never answers."""

    async def aforward(self, **_: Any) -> Any:
        """Fail."""
        raise LookupError("nothing there")


async def test_a_hypothesis_that_always_fails_is_dropped_and_no_reason_to_end(runtime: Runtime) -> None:
    """Whoever comes first: it is not the metric that fails."""

    _, report = await raced(race(runtime, [Broken(), WAYS[6]], explorers=1))
    assert report.winner == "hypothesis 2"
    broken = report.hypotheses[1]
    assert (broken.score, broken.failures, broken.fate) == (0.0, 8, "dropped")
    one_by_one = {"kind": "asha", "first": 8, "places": 1}
    good = student()
    advised(2)(good)
    found, report = await raced(race(runtime, [good], rule=one_by_one), program=Broken())
    assert (report.winner, type(found)) == ("hypothesis 1", dspy.Predict)


async def test_scores_that_are_none_count_nothing(runtime: Runtime) -> None:
    """NaN, and a metric that raises, for some examples."""

    def metric(example: Any, prediction: Any) -> float:
        number = int(example.text.split()[-1])
        if number % 5 == 0:
            raise LookupError("no such label")
        return float("nan") if number % 5 == 1 else exact(example, prediction)

    _, report = await raced(race(runtime, metric=metric))
    assert report.winner == "hypothesis 7"
    won = report.hypotheses[7]
    assert (won.items, won.failures) == (64, 26)
    assert report.failures == sum(one.failures for one in report.hypotheses) < 9 * 26
    assert won.score <= 38 / 64


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
async def test_whatever_a_metric_raises_is_its_own_failure(runtime: Runtime, error: type[BaseException]) -> None:
    """It ended the worker, and the next one tried the same, for ever."""

    def metric(example: Any, prediction: Any) -> float:
        raise error

    with pytest.raises(EveryExampleFailed, match=f"the first one: metric: {error.__name__}"):
        await raced(race(runtime, metric=metric), engine())


async def test_a_metric_that_always_fails_ends_the_race_after_the_first_look(runtime: Runtime) -> None:
    def metric(example: Any, prediction: Any) -> float:
        raise LookupError("no such label")

    model = engine()
    with pytest.raises(EveryExampleFailed, match="none of the first 72 examples"):
        await raced(race(runtime, metric=metric), model)
    assert model.calls == 72


async def test_without_a_language_model_it_does_not_begin(runtime: Runtime) -> None:
    with dspy.context(lm=None), pytest.raises(ModelRefused):
        await race(runtime).acompile(student(), trainset=EXAMPLES)


async def test_what_is_no_program_is_refused_before_anything_is_run(runtime: Runtime) -> None:
    model = engine()
    with pytest.raises(BadHypotheses, match="hypothesis 1 is no program"):
        await raced(race(runtime, ["way"]), model)
    assert model.calls == 0


@pytest.mark.parametrize(
    "options",
    [
        *[{"explorers": 0}, {"max_rollouts": 0}, {"held_out": 1.0}, {"held_out": "a"}, {"lane_patience": 0}],
        *[{"rule": "x"}, {"metric": 5}, {"num_threads": 2.5}, {"num_threads": True}],
    ],
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadOption):
        race(None, **options)  # type: ignore[arg-type]


# -- a bound -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("most", "runs"), [(72, 72), (110, 104), (10_000, 216)], ids=["first rung", "second rung", "more than enough"]
)
async def test_with_a_bound_the_best_so_far_comes_back(runtime: Runtime, most: int, runs: int) -> None:
    """A result, not an error; with more, on the same journal, it goes on."""
    model = engine()
    _, report = await raced(race(runtime, max_rollouts=most), model)
    assert report.runs == model.calls == runs
    assert (report.stopped is None) == (most == 10_000)
    if report.stopped:
        assert "It was stopped: max_rollouts" in report.markdown()
        assert report.winner in {one.name for one in report.hypotheses if one.fate == "won"}


async def test_with_a_higher_bound_it_goes_on_where_it_was(runtime: Runtime, tmp_path: Path) -> None:
    model = engine()
    await raced(race(runtime, max_rollouts=110, log_dir=tmp_path), model)
    found, report = await raced(race(runtime, max_rollouts=500, log_dir=tmp_path), model)
    assert (report.resumed, report.runs, model.calls) == (True, 216, 216)
    whole, _ = await raced(race(runtime))
    assert found.dump_state() == whole.dump_state()


async def test_a_bound_below_the_first_round_is_refused(runtime: Runtime) -> None:
    with pytest.raises(BadOption, match="the first round takes 72"):
        await raced(race(runtime, max_rollouts=71))


async def test_asha_with_a_bound_leaves_nothing_under_way(runtime: Runtime) -> None:
    model = engine()
    made = race(runtime, rule={"kind": "asha", "first": 8, "places": 3}, max_rollouts=60)
    _, report = await raced(made, model)
    assert report.runs == model.calls
    assert 40 < report.runs <= 60
    assert {"not seen"} < {one.fate for one in report.hypotheses}


# -- what is seen ------------------------------------------------------------------------------------------------------


async def test_the_tree_and_the_metrics_show_how_far_it_is(runtime: Runtime) -> None:
    shown: list[dict[str, Any]] = []
    explored: list[Any] = []

    def look(number: int) -> None:
        if number in (1, 80):
            for ref in runtime.actors():
                info = runtime.info(ref)
                if info is not None and info.summary:
                    (shown if ref.path.endswith("/race") else explored).append(info.summary)

    _, report = await raced(race(runtime), engine(before=look))
    assert shown[0]["hypotheses"] == "9 of 9"
    assert shown[-1]["hypotheses"] == "4 of 9"
    assert shown[-1]["items"] == "8 of 64"
    assert shown[-1]["runs"].endswith(f"of about {report.expected}")
    assert {"hypothesis": "student", "items": "8"} in [{k: str(v) for k, v in one.items()} for one in explored]
    counts = RaceCounts.of(runtime)
    assert counts.hypotheses == {"begun": 9, "dropped": 7, "won": 1}
    assert (counts.runs, counts.saved) == (216, 360)
    assert {sample.name: sample.value for sample in counts.samples()}["race_runs_saved"] == 360


async def test_before_it_begins_there_is_nothing_to_show() -> None:
    class Run:
        """One that has not begun."""

        state = None

    assert SearchView(Run()).summary() == {}  # type: ignore[arg-type]


async def test_the_report_is_a_page_and_a_plot(runtime: Runtime, tmp_path: Path) -> None:
    _, report = await raced(race(runtime, log_dir=tmp_path, held_out=0.25))
    page = (tmp_path / "report.md").read_text()
    assert f"The winner is **{report.winner}**." in page
    assert f"| {report.winner} | {report.train:.4f} | 48 | 0 | won |  |" in page
    assert (tmp_path / "trials.png").stat().st_size > 1000
