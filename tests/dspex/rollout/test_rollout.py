"""Rollouts as they are served: who meets which version, what is counted, and what happens around a restart."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import dspy
import msgspec
import pytest
from dspy.utils.exceptions import AdapterParseError

from agents.durability import SqliteStorage, StorageConflict, StorageError
from dspex import ProgramActor, ProgramPool, Swap, UseVersion, VersionChanged
from dspex._compat import charge
from dspex.rollout import _as_text
from dspex.serving.rollout import (
    RolloutMoved,
    RolloutUnwritten,
    ScoreMissing,
    ShadowBudgetSpent,
    ShadowSkipped,
    bucket,
    journal,
    recompute,
)
from dspex.serving.rollout.actor import TICK
from dspex.serving.rollout.journal import JOURNAL_FILE, RolloutJournal
from dspex.serving.rollout.messages import FeedbackSeen
from dspex.serving.rollout.metrics import RolloutNumbers
from dspex.serving.rollout.scoring import MOST_AT_ONCE
from dspex.serving.rollout.shadow import why_unsafe, without_cache
from dspex.serving.rollout.start import check_key
from dspex.serving.version_folder import VersionFolder
from dspex.workflow.journal import Journal
from foundation.call_ids import call_ids
from foundation.feedback import GiveFeedback
from foundation.programs import AddVersion, BadVersion, Busy, RunProgram, Unavailable
from foundation.rollouts import (
    BadRollout,
    GetRollout,
    GetRolloutHistory,
    NoRollout,
    Rollout,
    RolloutConflict,
    StaleRollout,
    StartRollout,
)
from foundation.telemetry.collectors import collect_samples
from supervision import Runtime, StartError, current_actor
from supervision.testing import advance
from tests.dspex.parsing.engine import Parrot
from tests.dspex.rollout.programs import MOMENT, Shop, Teller, failing, version


async def settled(shop: Shop, *phases: str) -> str:
    """Wait until a rollout is somewhere."""
    while (found := await shop.phase()) not in phases:
        await shop.runtime.sleep(MOMENT)
    return found


def moves_of(runtime: Runtime) -> list[Any]:
    """What is told of moves."""
    told: list[Any] = []
    runtime.subscribe(told.append, RolloutMoved)
    return told


async def histories(shop: Shop) -> list[Any]:
    """The rollouts as the journal has them, each decided again."""
    found = await shop.ref.call(GetRolloutHistory())
    past = await RolloutJournal(shop.options["versions"], asyncio.Lock()).open()
    for one in past:
        assert recompute(one.start, one.moves) == []
    assert [one.moves for one in past] == [one.moves for one in found]
    return found


# -- who meets which version ------------------------------------------------------------------------------------------


async def test_E032_a_key_meets_the_same_version_always_over_restarts_and_in_pools(
    runtime: Runtime, tmp_path: Path
) -> None:
    shop = Shop(runtime, tmp_path, size=4)
    shop.kind = ProgramPool
    await shop.open("new")
    id = (await shop.start(steps=[0.25])).id
    keys = [f"user-{number}" for number in range(24)]
    expected = {key: "by new" if bucket("shop", id, key) < 0.25 else "by old" for key in keys}
    assert {*expected.values()} == {"by new", "by old"}
    for _ in range(3):
        assert {key: await shop.ask(key=key) for key in keys} == expected
    await shop.restart()
    assert {key: await shop.ask(key=key) for key in keys} == expected
    answer = await shop.ref.call(RunProgram({"text": "x"}, key=keys[0]))
    assert answer.version == (1 if expected[keys[0]] == "by new" else 0)


async def test_the_input_that_says_who_asks_is_one_that_the_program_has(runtime: Runtime) -> None:
    """When a rollout is started, and when a tree file says it; what a program does not declare, nobody knows."""
    shop = await Shop(runtime).open("new")
    why = "key = 'customers': the program has no such input; there are: text, customer; name one of these"
    with pytest.raises(BadRollout, match=why):
        await shop.start(key="customers")
    with pytest.raises(StartError, match="key = 'customers': the program has no such input"):
        await runtime.spawn(ProgramActor, Teller(), lm=dspy.LM("openai/none"), rollout={"key": "customers"})
    check_key("anything", None)
    check_key(None, ())


async def test_an_input_may_say_who_asks(runtime: Runtime) -> None:
    shop = await Shop(runtime).open("new")
    id = (await shop.start(steps=[0.5], key="customer")).id
    for number in range(20):
        expected = "by new" if bucket("shop", id, f"c{number}") < 0.5 else "by old"
        assert await shop.ask(key=f"session {number}", customer=f"c{number}") == expected
    assert (await shop.state()).keyless == 0.0


async def test_E034_without_a_key_the_call_decides_and_that_is_told(runtime: Runtime) -> None:
    shop = await Shop(runtime).open("new")
    await shop.start(steps=[0.5])
    found = [await shop.ask() for _ in range(40)]
    assert {*found} == {"by new", "by old"}
    state = await shop.state()
    assert (state.keyless, sum(state.units.values())) == (1.0, 40)


async def test_E034_a_call_that_is_run_again_stays_with_its_version(runtime: Runtime) -> None:
    """Its agent dies with it, and another one runs it."""
    seen: list[str] = []

    async def dies_once(text: str) -> str:
        seen.append(text)
        if len(seen) == 1:
            current_actor().kill()
            await asyncio.Event().wait()
        return "by new"

    shop = Shop(runtime, None, {"new": dies_once}, size=1)
    shop.kind = ProgramPool
    await shop.open("new")
    await shop.start(steps=[0.999])
    assert await shop.ask("again", key="ada") == "by new"
    assert seen == ["again", "again"]


# -- judged -----------------------------------------------------------------------------------------------------------


async def test_E035_a_version_that_fails_is_rolled_back_and_gets_no_more_calls(
    runtime: Runtime, tmp_path: Path
) -> None:
    told = moves_of(runtime)
    shop = await Shop(runtime, tmp_path, {"bad": failing}).open("bad")
    await shop.start(steps=[0.1])
    number = 0
    while await shop.phase() == "canary":
        number += 1
        await shop.ask(key=f"u{number}")
    failed = [text for by, text in shop.program.seen if by == "bad"]
    assert len(failed) <= 60
    assert {await shop.ask(key=f"u{number}") for number in range(200)} == {"by old"}
    assert [text for by, text in shop.program.seen if by == "bad"] == failed
    assert [(event.source, event.target) for event in told] == [("candidate", "canary"), ("canary", "rolled_back")]
    assert "5 bad of 5 beside 0 of" in told[-1].why
    assert "LLR 2.989185 (rejected at 2.944439" in told[-1].why
    [history] = await histories(shop)
    assert [move.who for move in history.moves] == ["person", "rule"]


async def test_E035_calls_in_flight_are_finished_with_the_version_they_began_with(runtime: Runtime) -> None:
    gate = asyncio.Event()

    async def waits(text: str) -> str:
        if text != "wait":
            raise ValueError(text)
        await gate.wait()
        return "late, by bad"

    shop = await Shop(runtime, None, {"bad": waits}, concurrency=50).open("bad")
    await shop.start(steps=[0.5])
    waiting = asyncio.ensure_future(asyncio.gather(*(shop.ask("wait", key=f"w{number}") for number in range(20))))
    number = 0
    while await shop.phase() == "canary":
        number += 1
        await shop.ask(key=f"u{number}")
    gate.set()
    assert {*await waiting} == {"late, by bad", "by old"}
    assert await shop.phase() == "rolled_back"


async def test_a_good_version_is_promoted_and_serves_everybody_also_after_a_restart(
    runtime: Runtime, tmp_path: Path
) -> None:
    changed: list[Any] = []
    runtime.subscribe(changed.append, VersionChanged)
    told = moves_of(runtime)
    shop = await Shop(runtime, tmp_path).open("new")
    slos = [{"kind": "errors", "bound": 0.05}, {"kind": "first_try", "bound": 0.05}]
    await shop.start(steps=[0.3, 0.6], step_units=20, min_units=30, max_units=80, slos=slos, watch_seconds=60)
    number = 0
    while await shop.phase() == "canary":
        number += 1
        await shop.ask(key=f"u{number}")
    assert [event.version for event in changed] == [1]
    assert (tmp_path / "current").read_text() == "1 0\n"
    assert {await shop.ask(key=f"u{number}") for number in range(30)} == {"by new"}
    await shop.restart()
    state = await shop.state()
    assert (state.state, state.open, state.share) == ("promoted", True, 1.0)
    assert await shop.ask() == "by new"
    await advance(60 + TICK)
    state = await shop.state()
    assert (state.state, state.open) == ("promoted", False)
    assert await shop.ask() == "by new"
    assert [event.target for event in told] == ["canary", "canary", "promoted", "promoted"]
    await histories(shop)


async def test_what_was_promoted_and_breaks_its_bound_is_rolled_back(runtime: Runtime, tmp_path: Path) -> None:
    broken: list[str] = []
    shop = await Shop(runtime, tmp_path, {"new": lambda text: failing(text) if broken else None}).open("new")
    await shop.start()
    await shop.decide("promoted", why="it looks good")
    assert await shop.ask() == "by new"
    broken.append("it breaks")
    while await shop.phase() == "promoted":
        await shop.ask()
    assert await shop.ask() == "by old"
    assert (tmp_path / "current").read_text() == "0 1\n"
    await shop.restart()
    assert (await shop.ask(), await shop.phase()) == ("by old", "rolled_back")
    await histories(shop)


async def test_a_model_that_refuses_both_versions_is_nobodys_error(runtime: Runtime) -> None:
    """A wrong key holds the rollout, as an outage does."""

    def refused(text: str) -> None:
        raise dspy.LMAuthError("wrong key")

    shop = await Shop(runtime, None, {"": refused, "new": refused}).open("new")
    await shop.start(steps=[0.5], min_units=10)
    for _ in range(60):
        assert await shop.ask() == "LMAuthError"
    state = await shop.state()
    assert (state.state, "times in a row" in state.why, state.slos[0].baseline.bad) == ("held", True, 0)
    assert state.slos[0].canary.bad <= 2  # those before the old version was refused, too


async def test_a_model_that_refuses_the_new_version_alone_is_its_own_fault(runtime: Runtime) -> None:
    """It names one that there is not, perhaps: it is rolled back."""

    def refused(text: str) -> None:
        raise dspy.LMConfigurationError("no such model")

    shop = await Shop(runtime, None, {"new": refused}).open("new")
    await shop.start(steps=[0.5], min_units=10)
    for _ in range(60):
        await shop.ask()
    state = await shop.state()
    assert state.state == "rolled_back"
    assert state.why.startswith("errors rejects it")


@pytest.mark.parametrize("error", [Unavailable("away"), Busy("429")])
async def test_E041_what_nobody_is_to_blame_for_is_no_bad_event(runtime: Runtime, error: Exception) -> None:
    """A model that is away holds the rollout; when it is back, it goes on."""
    away = [error]

    def fails(text: str) -> None:
        if away:
            raise away[0]

    shop = await Shop(runtime, None, {"new": fails, "": fails}).open("new")
    await shop.start(steps=[0.5])
    while await shop.phase() == "canary":
        assert await shop.ask() in ("Unavailable", "Busy")
    state = await shop.state()
    assert (state.state, state.slos[0].canary.units, state.slos[0].baseline.units) == ("held", 0, 0)
    for _ in range(100):
        await shop.ask()
    away.clear()
    while await shop.phase() == "held":
        await shop.ask()
    state = await shop.state()
    assert (state.state, state.slos[0].canary.bad, state.slos[0].baseline.bad) == ("canary", 0, 0)
    assert state.why == "what the versions need is there again"


async def test_E041_what_the_caller_did_is_no_bad_event(runtime: Runtime) -> None:
    """Inputs that do not fit, and callers that hang up."""
    shop = await Shop(runtime, None, {"new": lambda text: asyncio.Event().wait()}).open("new")
    await shop.start(steps=[0.999])
    assert await shop.ask(unknown=1) in ("InvalidInputs", "TypeError")
    before = sum((await shop.state()).units.values())
    for _ in range(20):
        call = asyncio.ensure_future(shop.ref.call(RunProgram({"text": "x"}), None))
        while not shop.program.seen:
            await runtime.sleep(MOMENT)
        shop.program.seen.clear()
        call.cancel()
    state = await shop.state()
    assert (state.state, state.slos[0].canary.bad, sum(state.units.values())) == ("canary", 0, before)


async def test_E042_one_customer_with_500_failing_calls_is_one_bad_unit(runtime: Runtime) -> None:
    shop = await Shop(runtime, None, {"new": failing}).open("new")
    await shop.start(steps=[0.999])
    for _ in range(500):
        assert await shop.ask(key="ada") == "ValueError"
    state = await shop.state()
    assert (state.state, state.slos[0].canary.bad, state.units["canary"]) == ("canary", 1, 1)


async def test_E044_without_traffic_it_is_undecided_in_the_end(runtime: Runtime) -> None:
    told = moves_of(runtime)
    shop = await Shop(runtime).open("new")
    await shop.start(max_seconds=600)
    await advance(599)
    assert await shop.phase() == "canary"
    await advance(1 + TICK)
    assert await shop.phase() == "inconclusive"
    assert await shop.ask() == "by old"
    assert [event.target for event in told] == ["canary", "inconclusive"]
    samples = {(one.name, one.labels): one.value for one in collect_samples(runtime)}
    assert samples["rollout_moves", (("program", "shop"), ("target", "inconclusive"))] == 1
    assert samples["rollout_share", (("program", "shop"),)] == 0.0
    assert RolloutNumbers.of(runtime) is RolloutNumbers.of(runtime)


async def test_what_is_slow_is_slower_than_the_old_version_was(runtime: Runtime) -> None:
    async def slowly(seconds: float) -> None:
        await runtime.sleep(seconds)

    shop = await Shop(runtime, None, {"": lambda _: slowly(1.0), "new": lambda _: slowly(1.5)}).open("new")
    slos = [{"kind": "latency", "bound": 0.1}]
    with pytest.raises(BadRollout, match="latency: 0 calls of version 0 in the hour before are too few"):
        await shop.start(slos=slos)
    for _ in range(72):
        await shop.ask()
    state = await shop.start(slos=slos, steps=[0.5], warm_up=2)
    assert state.rollout.slos[0].over == pytest.approx(1.0)
    number = 0
    while await shop.phase() == "canary":
        number += 1
        await shop.ask(key=f"u{number}")
    state = await shop.state()
    assert state.state == "rolled_back"
    assert state.slos[0].canary.bad == state.slos[0].canary.units
    assert state.units["canary"] == state.slos[0].canary.units + 2


async def test_answers_are_scored_by_a_metric_of_the_program_on_a_sample(runtime: Runtime) -> None:
    async def polite(example: Any, prediction: Any) -> float:
        if example.text == "odd":
            raise ValueError("no idea")
        return 0.2 if prediction.label == "by new" else 0.9

    shop = await Shop(runtime, None, None, metrics={"polite": polite}).open("new")
    slo = {"kind": "score", "bound": 0.2, "over": 0.5, "metric": "polite"}
    with pytest.raises(BadRollout, match="there is no metric 'rude' for this program; there are: polite"):
        await shop.start(slos=[{**slo, "metric": "rude"}])
    await shop.start(slos=[slo], steps=[0.5])
    for number in range(5):
        await shop.ask("odd", key=f"o{number}")
    assert (await shop.state()).slos[0].canary.units == 0
    number = 0
    while await shop.phase() == "canary":
        number += 1
        await shop.ask(key=f"u{number}")
    state = await shop.state()
    assert (state.state, state.slos[0].baseline.bad) == ("rolled_back", 0)
    state = await shop.start(slos=[{**slo, "sample": 0.5}], steps=[0.5])
    for number in range(60):
        if await shop.phase() == "canary":
            await shop.ask(key=f"u{number}")
    state = await shop.state()
    assert state.slos[0].canary.units + state.slos[0].baseline.units < sum(state.units.values())


def unscored_of(runtime: Runtime) -> list[ScoreMissing]:
    """What is told of answers without a score."""
    told: list[ScoreMissing] = []
    runtime.subscribe(told.append, ScoreMissing)
    return told


async def refuses(example: Any, prediction: Any) -> float:
    """A metric that asks a model with a wrong key."""
    raise dspy.LMAuthError("wrong key", status=401)


async def fails(example: Any, prediction: Any) -> float:
    """A metric that is wrong."""
    raise ValueError("no idea, with key sk-abcdef123456")


@pytest.mark.parametrize(
    ("metric", "why"),
    [(fails, "metric: ValueError: no idea, with key ***"), (refuses, "metric: HTTP 401, LMAuthError: wrong key")],
)
@pytest.mark.parametrize("shadow", [0.0, 1.0])
async def test_a_metric_that_never_scores_is_told_and_leaves_the_old_version(
    runtime: Runtime, metric: Any, why: str, shadow: float
) -> None:
    """The status says why, each answer without a score is an event, and after 20 the rollout is undecided."""
    shop = await Shop(runtime, None, None, metrics={"polite": metric}, shadow_safe=True).open("new")
    told, moves = unscored_of(runtime), moves_of(runtime)
    slo = {"kind": "score", "bound": 0.2, "over": 0.5, "metric": "polite"}
    await shop.start(slos=[slo, {"kind": "errors", "bound": 0.2}], steps=[0.5], shadow=shadow)
    first = await shop.phase()
    number = 0
    while await shop.phase() == first:
        number += 1
        await shop.ask(key=f"u{number}")
        await runtime.sleep(MOMENT)
    state = await shop.state()
    assert (state.state, moves[-1].target, state.slos[0].why) == ("inconclusive", "inconclusive", why)
    assert "score:polite has no score for any of 20 units of version " in state.why
    assert why in state.why
    assert max(state.slos[0].canary.unscored, state.slos[0].baseline.unscored) == 20
    assert {(event.slo, event.why) for event in told} == {("score:polite", why)}
    assert {event.version for event in told} == {0, 1}
    assert "without a score" in _as_text(msgspec.to_builtins(state))
    samples = [sample for sample in RolloutNumbers.of(runtime).samples() if sample.name == "rollout_unscored_units"]
    assert sum(sample.value for sample in samples) >= 20


async def test_a_version_that_never_answers_is_not_accepted_for_want_of_bad_scores(runtime: Runtime) -> None:
    """Judged by scores alone, of which it has none; the old one has bad ones among them."""

    async def polite(example: Any, prediction: Any) -> float:
        return 0.0 if example.text == "rude" else 1.0

    shop = await Shop(runtime, None, {"new": failing}, metrics={"polite": polite}).open("new")
    slo = {"kind": "score", "bound": 0.2, "over": 0.5, "metric": "polite"}
    await shop.start(slos=[slo], steps=[0.5], min_units=20)
    number = 0
    while await shop.phase() == "canary":
        number += 1
        await shop.ask("rude" if number % 2 else "kind", key=f"u{number}")
        await runtime.sleep(MOMENT)
    state = await shop.state()
    assert (state.state, state.slos[0].canary.units, state.slos[0].canary.unscored) == ("inconclusive", 0, 20)
    assert "has no score for 20 units, 20 of them of version 1" in state.why


async def test_nor_is_it_in_the_shadow(runtime: Runtime) -> None:
    """A pair has two scores, or none."""

    async def polite(example: Any, prediction: Any) -> float:
        return 1.0

    shop = await Shop(runtime, None, {"new": failing}, metrics={"polite": polite}, shadow_safe=True).open("new")
    slo = {"kind": "score", "bound": 0.2, "over": 0.5, "metric": "polite"}
    await shop.start(slos=[slo], shadow=1.0, min_pairs=20, max_pairs=20)
    while await shop.phase() == "shadow":
        await shop.ask("kind")
        await runtime.sleep(MOMENT)
    state = await shop.state()
    assert (state.state, state.slos[0].canary.units, state.slos[0].canary.unscored) == ("inconclusive", 0, 20)
    assert state.slos[0].baseline.unscored == 0


@pytest.mark.parametrize("shadow", [0.0, 1.0])
async def test_a_metric_whose_model_is_away_says_nothing_of_anybody_and_is_told(
    runtime: Runtime, shadow: float
) -> None:
    async def away(example: Any, prediction: Any) -> float:
        raise dspy.LMServerError("overloaded", status=503)

    shop = await Shop(runtime, None, None, metrics={"polite": away}, shadow_safe=True).open("new")
    told = unscored_of(runtime)
    slo = {"kind": "score", "bound": 0.2, "over": 0.5, "metric": "polite"}
    await shop.start(slos=[slo], steps=[0.5], shadow=shadow)
    phase = await shop.phase()
    for number in range(30):
        await shop.ask(key=f"u{number}")
        await runtime.sleep(MOMENT)
    state = await shop.state()
    assert (state.state, state.slos[0].canary.unscored, state.slos[0].baseline.unscored) == (phase, 0, 0)
    assert {event.why for event in told} == {"metric: HTTP 503, LMServerError: overloaded"}


# -- restarts ---------------------------------------------------------------------------------------------------------


async def test_E038_a_rollout_goes_on_where_it_was_with_the_same_keys(runtime: Runtime, tmp_path: Path) -> None:
    shop = await Shop(runtime, tmp_path, {"new": lambda text: failing(text) if text == "fail" else None}).open("new")
    id = (await shop.start(steps=[0.2, 0.5], step_units=10)).id
    number = 0
    while (await shop.state()).step == 0:
        number += 1
        await shop.ask(key=f"u{number}")
    keys = [key for key in (f"f{n}" for n in range(50)) if bucket("shop", id, key) < 0.5][:3]
    for key in keys:
        assert await shop.ask("fail", key=key) == "ValueError"
    await advance(TICK)
    before = await shop.state()
    await shop.restart()
    after = await shop.state()
    assert after == before
    samples = {(one.name, one.labels): one.value for one in collect_samples(runtime)}
    assert samples["rollout_bad_units", (("program", "shop"), ("slo", "errors"), ("arm", "canary"))] == 3
    assert (after.id, after.step, after.slos[0].canary.bad) == (id, 1, 3)
    await histories(shop)


@pytest.mark.parametrize("phase", ["shadow", "canary", "held", "promoted", "rolled_back", "aborted", "superseded"])
async def test_E038_in_each_state_a_restart_finds_what_was_there(runtime: Runtime, tmp_path: Path, phase: str) -> None:
    shop = await Shop(runtime, tmp_path).open("new", "other")
    await shop.start(shadow=0.5 if phase == "shadow" else 0.0, steps=[0.4])
    if phase == "superseded":
        await shop.start(2, replace=True)
    elif phase not in ("shadow", "canary"):
        await shop.decide(phase)
    before = await shop.state()
    answers = [await shop.ask(key=f"u{number}") for number in range(20)]
    for _ in range(3):
        await shop.restart()
        after = await shop.state()
        assert (after.id, after.state, after.etag, after.share) == (before.id, before.state, before.etag, before.share)
        assert [await shop.ask(key=f"u{number}") for number in range(20)] == answers
    found = await histories(shop)
    assert len(found) == (2 if phase == "superseded" else 1)
    assert found[0].moves[-1].target == phase


async def test_E038_a_promotion_that_was_written_is_made_true_at_the_start(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when ``current`` is to be written: the new version serves all the same, and after a restart."""
    shop = await Shop(runtime, tmp_path).open("new")
    await shop.start()
    told: list[Any] = []
    runtime.subscribe(told.append, RolloutUnwritten)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(VersionFolder, "serve", full)
        await shop.decide("promoted")
        assert await shop.ask() == "by new"
        assert not (tmp_path / "current").exists()
        await shop.restart()
        assert await shop.ask() == "by new"
    assert {event.target for event in told} == {"version 1"}
    await advance(TICK)
    while not (tmp_path / "current").exists():
        await runtime.sleep(MOMENT)
    assert (tmp_path / "current").read_text() == "1 0\n"
    await shop.decide("rolled_back")
    assert await shop.ask() == "by old"


async def test_E050_a_candidate_whose_file_is_damaged_is_given_up_and_the_old_version_serves(
    runtime: Runtime, tmp_path: Path
) -> None:
    shop = await Shop(runtime, tmp_path).open("new")
    await shop.start(steps=[0.5])
    (tmp_path / "0001.json").write_text("{")
    await shop.restart()
    state = await shop.state()
    assert (state.state, state.who) == ("aborted", "rule")
    assert "its version cannot be used: version 1: its file" in state.why
    assert {await shop.ask(key=f"u{number}") for number in range(20)} == {"by old"}


async def test_E050_so_is_one_that_was_promoted_and_is_watched(runtime: Runtime, tmp_path: Path) -> None:
    shop = await Shop(runtime, tmp_path).open("new")
    await shop.start()
    await shop.decide("promoted")
    (tmp_path / "0001.json").write_text("{")
    await shop.restart()
    assert (await shop.phase(), await shop.ask()) == ("rolled_back", "by old")
    await shop.restart()
    assert (await shop.phase(), await shop.ask()) == ("rolled_back", "by old")


async def test_if_another_version_serves_than_the_one_it_is_compared_with_it_ends(
    runtime: Runtime, tmp_path: Path
) -> None:
    shop = await Shop(runtime, tmp_path).open("new", "other")
    await shop.start(steps=[0.5])
    (tmp_path / "current").write_text("2")
    await shop.restart()
    state = await shop.state()
    assert (state.state, state.why) == ("aborted", "version 2 serves, and not version 0, with which it is compared")
    assert await shop.ask() == "by other"


async def test_a_journal_that_cannot_be_read_keeps_no_tree_from_starting(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / JOURNAL_FILE).write_text("this is no database")
    shop = await Shop(runtime, tmp_path).open("new")
    assert await shop.ask() == "by old"
    with pytest.raises(RolloutConflict, match=r"rollouts\.db.*move it away to begin anew"):
        await shop.start()
    with pytest.raises(NoRollout, match=r"rollouts\.db"):
        await shop.state()
    with pytest.raises(NoRollout, match=r"rollouts\.db"):
        await shop.decide("aborted")
    assert "rollouts.db" in summary(shop)


def summary(shop: Shop) -> str:
    """What ``/tree`` shows of a rollout."""
    rollouts = next(ref for ref in shop.runtime.actors() if "RolloutActor" in ref.path)
    info = shop.runtime.info(rollouts)
    assert info is not None
    return str(info.summary["rollout"])


# -- the disk ---------------------------------------------------------------------------------------------------------


class FailingJournal:
    """A disk that fails, as long as a test wants it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: Exception | None = None
        for name in ("start", "move", "count", "applied"):
            monkeypatch.setattr(RolloutJournal, name, self._failing(getattr(RolloutJournal, name)))

    def _failing(self, real: Any) -> Any:
        async def write(journal: RolloutJournal, *arguments: Any) -> None:
            if self.error is not None:
                raise self.error
            await real(journal, *arguments)

        return write


async def test_taking_traffic_away_needs_no_disk_and_is_written_when_it_can_be(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    runtime.subscribe(told.append, RolloutUnwritten)
    disk = FailingJournal(monkeypatch)
    shop = await Shop(runtime, tmp_path, {"bad": failing}).open("bad")
    await shop.start(steps=[0.5])
    disk.error = StorageError("the disk is full")
    number = 0
    while not told:
        number += 1
        await shop.ask(key=f"u{number}")
    assert {await shop.ask(key=f"v{number}") for number in range(50)} == {"by old"}
    assert (await shop.phase(), told[0].target, told[0].why) == ("canary", "rolled_back", "the disk is full")
    with pytest.raises(RolloutConflict, match="is to be rolled_back, which cannot be written yet"):
        await shop.decide("held")
    with pytest.raises(StorageError, match="full"):
        await shop.decide("aborted")
    await advance(TICK)
    assert await shop.phase() == "canary"
    disk.error = None
    await advance(TICK)
    assert await shop.phase() == "aborted"
    assert {await shop.ask(key=f"v{number}") for number in range(20)} == {"by old"}


async def test_what_was_promoted_is_taken_back_without_a_disk_too(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FailingJournal(monkeypatch)
    shop = await Shop(runtime, tmp_path).open("new")
    await shop.start()
    await shop.decide("promoted")
    disk.error = StorageError("the disk is full")
    with pytest.raises(StorageError, match="full"):
        await shop.decide("rolled_back")
    assert await shop.ask() == "by old"
    disk.error = None
    await advance(TICK)
    assert (await shop.phase(), await shop.ask()) == ("rolled_back", "by old")


async def test_what_gives_traffic_waits_for_the_disk(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FailingJournal(monkeypatch)
    shop = await Shop(runtime, tmp_path).open("new")
    disk.error = StorageError("the disk is full")
    with pytest.raises(StorageError, match="full"):
        await shop.start()
    assert (await shop.phase(), await shop.ask()) == ("none", "by old")
    disk.error = None
    await shop.start(steps=[0.5])
    disk.error = StorageError("the disk is full")
    with pytest.raises(StorageError, match="full"):
        await shop.decide("promoted")
    for number in range(60):
        await shop.ask(key=f"u{number}")
    assert ((await shop.state()).state, (await shop.state()).share) == ("canary", 0.5)
    disk.error = None
    await advance(TICK)
    assert await shop.phase() == "promoted"


async def test_two_processes_on_one_journal_do_not_both_move_it(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose write comes second has no rollout any more: its old version serves, and it says why."""
    disk = FailingJournal(monkeypatch)
    shop = await Shop(runtime, tmp_path).open("new")
    await shop.start(steps=[0.5])
    disk.error = StorageConflict("rollouts", 3, 4)
    for number in range(60):
        await shop.ask(key=f"u{number}")
    with pytest.raises(NoRollout, match="another process moves the rollouts of this folder"):
        await shop.state()
    assert {await shop.ask(key=f"u{number}") for number in range(30)} == {"by old"}
    disk.error = None
    await shop.restart()
    await shop.start(replace=True)
    disk.error = StorageConflict("rollouts", 3, 4)
    with pytest.raises(StorageConflict):
        await shop.decide("aborted")
    assert "another process" in summary(shop)


# -- by hand ----------------------------------------------------------------------------------------------------------


async def test_E046_a_second_rollout_is_refused_unless_it_replaces_the_first(runtime: Runtime, tmp_path: Path) -> None:
    shop = await Shop(runtime, tmp_path).open("new", "other")
    first = await shop.start()
    with pytest.raises(RolloutConflict, match="of version 1 is canary; end it, or replace it"):
        await shop.start(2)
    second = await shop.start(2, replace=True)
    assert second.id != first.id
    found = await histories(shop)
    assert [move.target for move in found[0].moves] == ["canary", "superseded"]
    await shop.decide("promoted")
    await shop.start(1)
    found = await histories(shop)
    assert [move.cause for move in found[1].moves] == ["started", "person", "replaced"]


async def test_E047_a_promotion_is_aborted_once(runtime: Runtime, tmp_path: Path) -> None:
    shop = await Shop(runtime, tmp_path).open("new")
    await shop.start()
    await shop.decide("promoted")
    assert (await shop.decide("aborted")).state == "rolled_back"
    assert await shop.ask() == "by old"
    with pytest.raises(RolloutConflict, match="it has ended"):
        await shop.decide("aborted")


async def test_E048_who_has_seen_another_state_changes_nothing(runtime: Runtime) -> None:
    shop = await Shop(runtime).open("new", "other")
    with pytest.raises(NoRollout, match="has had no rollout"):
        await shop.decide("aborted")
    seen = (await shop.start(seen='"none"')).etag
    await shop.decide("held", seen=seen)
    for work in (shop.decide("aborted", seen=seen), shop.start(2, seen=seen, replace=True)):
        with pytest.raises(StaleRollout, match="look at it again"):
            await work
    assert (await shop.decide("canary", seen=(await shop.state()).etag)).state == "canary"


async def test_while_a_version_is_tried_another_is_chosen_by_force_only(runtime: Runtime, tmp_path: Path) -> None:
    shop = await Shop(runtime, tmp_path).open("new", "other")
    await shop.start()
    for change in (UseVersion(2), Swap(version("better"))):
        with pytest.raises(RolloutConflict, match="end it, or use force"):
            await shop.ref.call(change)
    assert (await shop.ref.call(AddVersion(version("better")))).number == 3
    assert (await shop.ref.call(UseVersion(2, force=True))).current
    assert (await shop.phase(), await shop.ask()) == ("aborted", "by other")
    await shop.start(3)
    await shop.decide("promoted")
    assert (await shop.ref.call(Swap(version("best")))).number == 4
    state = await shop.state()
    assert (state.state, state.open, await shop.ask()) == ("promoted", False, "by best")
    await shop.restart()
    assert await shop.ask() == "by best"
    with pytest.raises(BadVersion):
        await shop.ref.call(UseVersion(77))


async def test_held_keys_stay_where_they_are_and_nothing_is_counted(runtime: Runtime) -> None:
    shop = await Shop(runtime, None, {"new": failing}).open("new")
    await shop.start(steps=[0.5])
    await shop.decide("held", why="I look at it")
    found = [await shop.ask(key=f"u{number}") for number in range(30)]
    assert {*found} == {"ValueError", "by old"}
    state = await shop.state()
    assert (state.state, state.slos[0].canary.bad, state.why) == ("held", 0, "I look at it")
    assert "version 1 held" in summary(shop)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"version": 9}, "there are 0, 1"),
        ({"version": 0}, "it serves already"),
        ({"version": "1"}, "version"),
        ({"speed": 1}, "speed"),
        ({"steps": [2]}, "steps"),
        (7, "7 is no rollout"),
    ],
)
async def test_what_cannot_be_tried_is_refused_by_name(runtime: Runtime, given: Any, named: str) -> None:
    shop = await Shop(runtime).open("new")
    rollout = {"version": 1, **given} if isinstance(given, dict) else given
    with pytest.raises((BadRollout, BadVersion), match=named):
        await shop.ref.call(StartRollout(rollout))
    assert await shop.phase() == "none"


async def test_a_tree_file_says_how_versions_are_tried(runtime: Runtime) -> None:
    policy = {"steps": [0.3], "slos": [{"kind": "errors", "bound": 0.1}], "key": "customer"}
    shop = await Shop(runtime, None, None, rollout=policy).open("new")
    state = await shop.start(min_units=7)
    assert (state.share, state.rollout.key, state.rollout.min_units) == (0.3, "customer", 7)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rollout": {"version": 3}}, "leave it out"),
        ({"rollout": {"steps": []}}, "steps"),
        ({"rollout": {"slos": [{"kind": "score", "bound": 0.1, "over": 1, "metric": "m"}]}}, "no metric 'm'"),
        ({"metrics": {"m": "nowhere:function"}}, "write package.module:function"),
        ({"metrics": {"m": 7}}, "give a function"),
    ],
)
async def test_a_tree_file_that_makes_no_sense_is_refused_at_the_start(
    runtime: Runtime, options: Any, named: str
) -> None:
    with pytest.raises(StartError, match=named):
        await Shop(runtime, None, None, **options).open()


# -- the shadow -------------------------------------------------------------------------------------------------------


async def shadowed(shop: Shop, **settings: Any) -> None:
    """Start in the shadow, of every call."""
    await shop.start(shadow=1.0, **settings)


async def test_in_the_shadow_the_new_version_is_asked_too_and_answers_nobody(runtime: Runtime) -> None:
    shop = await Shop(runtime).open("new")
    await shadowed(shop, min_pairs=5, max_pairs=300, steps=[0.2])
    number = 0
    while await shop.phase() == "shadow":
        number += 1
        assert await shop.ask(f"text {number}") == "by old"
    state = await shop.state()
    assert (state.state, state.pairs) == ("canary", 300)
    assert sum(by == "new" for by, _ in shop.program.seen) >= 300


async def test_E054_a_version_that_is_worse_in_the_shadow_never_answers(runtime: Runtime) -> None:
    shop = await Shop(runtime, None, {"new": failing}).open("new")
    await shadowed(shop)
    while await shop.phase() == "shadow":
        assert await shop.ask() == "by old"
    state = await shop.state()
    assert (state.state, state.slos[0].canary.bad, state.slos[0].baseline.bad) == ("rolled_back", 11, 0)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), BaseExceptionGroup("all", [SystemExit()])])
async def test_whatever_a_version_raises_in_the_shadow_ends_that_run_alone(
    runtime: Runtime, error: BaseException
) -> None:
    def raises(text: str) -> None:
        raise error

    shop = await Shop(runtime, None, {"new": raises}).open("new")
    await shadowed(shop)
    while await shop.phase() == "shadow":
        assert await shop.ask() == "by old"
    assert (await shop.state()).state == "rolled_back"


async def test_E052_a_slow_shadow_changes_nothing_and_what_is_too_much_is_skipped(runtime: Runtime) -> None:
    skipped: list[Any] = []
    runtime.subscribe(skipped.append, ShadowSkipped)

    async def slowly(_: str) -> None:
        await runtime.sleep(10.0)

    shop = await Shop(runtime, None, {"new": slowly}).open("new")
    await shadowed(shop, shadow_limit=2, shadow_seconds=5)
    before = runtime.clock.time()
    assert {await shop.ask() for _ in range(50)} == {"by old"}
    assert runtime.clock.time() - before < 1.0
    state = await shop.state()
    assert (state.pairs, state.skipped, len(skipped)) == (0, 48, 48)
    await advance(6.0)
    state = await shop.state()
    assert (state.pairs, state.slos[0].canary.bad) == (2, 2)
    await shop.ask()
    began = runtime.clock.time()
    await shop.ref.stop()
    assert runtime.clock.time() - began < 1.0


async def test_scores_of_pairs_are_compared_and_outages_are_none(runtime: Runtime) -> None:
    def away(text: str) -> None:
        if text == "away":
            raise Unavailable("away")

    def polite(example: Any, prediction: Any) -> bool:
        return bool(prediction.label != "by new")

    shop = await Shop(runtime, None, {"new": away}, metrics={"polite": polite}).open("new")
    await shadowed(shop, slos=[{"kind": "score", "bound": 0.2, "over": 0.5, "metric": "polite"}])
    for _ in range(10):
        await shop.ask("away")
    assert (await shop.state()).pairs == 0
    while await shop.phase() == "shadow":
        await shop.ask()
    state = await shop.state()
    assert (state.state, state.slos[0].canary.bad, state.slos[0].baseline.bad) == ("rolled_back", 11, 0)


def costing(dollars: float) -> Any:
    """What costs so much."""
    return lambda _: charge(dollars)


@pytest.mark.parametrize(
    ("limits", "asked"),
    [
        ({"shadow_budget": 1.05}, 10),
        ({"shadow_calls": 7}, 7),
        ({"shadow_budget": 1.0, "shadow_calls": 3}, 3),
        ({"shadow_budget": 0.05}, 1),
    ],
)
async def test_a_shadow_that_has_spent_its_budget_asks_no_more_and_what_it_has_decides(
    runtime: Runtime, limits: dict[str, Any], asked: int
) -> None:
    """It says so once; with too few pairs to be sure, the old version serves on."""
    told: list[ShadowBudgetSpent] = []
    runtime.subscribe(told.append, ShadowBudgetSpent)
    shop = await Shop(runtime, None, {"new": costing(0.1)}).open("new")
    await shadowed(shop, **limits)
    while await shop.phase() == "shadow":
        assert set(await asyncio.gather(*(shop.ask() for _ in range(3)))) == {"by old"}
    state = await shop.state()
    assert (state.state, state.asked, state.pairs) == ("inconclusive", asked, asked)
    assert state.spent == pytest.approx(0.1 * asked)
    assert "with the shadow's budget spent, after" in state.why
    assert [(event.asked, event.spent) for event in told] == [(asked, state.spent)]
    for _ in range(5):
        assert await shop.ask() == "by old"
    assert sum(by == "new" for by, _ in shop.program.seen) == asked


async def test_a_shadow_that_has_spent_its_budget_goes_on_if_all_is_within_its_bound(runtime: Runtime) -> None:
    shop = await Shop(runtime, None, {"new": costing(0.1)}).open("new")
    await shadowed(shop, shadow_budget=2.05, slos=[{"kind": "errors", "bound": 0.9}], steps=[0.2])
    while await shop.phase() == "shadow":
        await shop.ask()
    state = await shop.state()
    assert (state.state, state.asked) == ("canary", 20)
    assert "with the shadow's budget spent, after 20 pairs, all is within its bound" in state.why


async def test_what_calls_side_by_side_will_cost_is_reserved(runtime: Runtime) -> None:
    """The first runs alone, as nobody knows what it costs; then so many as the budget has room for."""
    gate, seen = asyncio.Event(), 0

    async def pay(_: str) -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            await gate.wait()
        charge(0.4)

    shop = await Shop(runtime, None, {"new": pay}).open("new")
    await shadowed(shop, shadow_budget=1.3, shadow_limit=4)
    while (await shop.state()).asked < 1:
        await shop.ask()
    while (await shop.state()).spent == 0:
        await runtime.sleep(MOMENT)
    for _ in range(10):
        await shop.ask()
    state = await shop.state()
    assert (state.asked, state.spent, state.state) == (3, 0.4, "shadow")
    assert state.skipped >= 8
    gate.set()
    while await shop.phase() == "shadow":
        await shop.ask()
    assert (await shop.state()).spent == pytest.approx(1.2)


async def test_what_a_shadow_has_spent_outlives_a_restart(runtime: Runtime, tmp_path: Path) -> None:
    shop = await Shop(runtime, tmp_path, {"new": costing(0.1)}).open("new")
    await shadowed(shop, shadow_calls=20)
    for _ in range(3):
        await shop.ask()
    while (await shop.state()).pairs < 3:
        await runtime.sleep(MOMENT)
    await shop.restart()
    state = await shop.state()
    assert (state.asked, state.spent) == (3, pytest.approx(0.3))
    while await shop.phase() == "shadow":
        await shop.ask()
    assert (await shop.state()).asked == 20


@pytest.mark.parametrize("limits", [{"shadow_budget": 0}, {"shadow_budget": float("nan")}, {"shadow_calls": 0}])
async def test_a_budget_that_is_none_is_refused(runtime: Runtime, limits: dict[str, Any]) -> None:
    shop = await Shop(runtime).open("new")
    with pytest.raises(BadRollout, match="shadow_"):
        await shadowed(shop, **limits)


async def test_the_shadow_ends_with_the_phase_and_leaves_dspys_cache_alone(runtime: Runtime) -> None:
    program = version("new")
    copied = without_cache(program)
    assert (copied.told.config, program.told.config) == ({"cache": False}, {})
    gate = asyncio.Event()
    shop = await Shop(runtime, None, {"new": lambda _: gate.wait()}).open("new")
    await shadowed(shop)
    await shop.ask()
    while not any(by == "new" for by, _ in shop.program.seen):
        await runtime.sleep(MOMENT)
    await shop.decide("canary")
    await runtime.sleep(MOMENT)
    assert (await shop.state()).pairs == 0


def search(query: str) -> str:
    """A tool."""
    return query


async def test_E054_a_program_that_may_not_be_asked_twice_is_refused(runtime: Runtime) -> None:
    shop = await Shop(runtime, None, None, shadow_safe=False).open("new")
    with pytest.raises(BadRollout, match="cannot be asked twice if its calls have effects"):
        await shadowed(shop)
    await shop.start(shadow=0.0)
    react = dspy.ReAct("question -> answer", tools=[search])
    assert "its tools (search) may have effects" in str(why_unsafe(react, None))
    assert why_unsafe(react, True) is None
    assert why_unsafe(version("x"), None) is None
    own = version("x")
    own.shadow_safe = False
    assert why_unsafe(own, None) is not None
    assert why_unsafe(own, True) is None
    own.shadow_safe = True
    own.react = react
    assert why_unsafe(own, None) is None


# -- the rest of its life ---------------------------------------------------------------------------------------------


async def test_a_decision_whose_caller_has_gone_before_it_was_made_is_none(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, reached = asyncio.Event(), asyncio.Event()
    move = RolloutJournal.move

    async def slowly(journal: RolloutJournal, entry: Any) -> None:
        reached.set()
        await gate.wait()
        await move(journal, entry)

    shop = await Shop(runtime, tmp_path).open("new")
    await shop.start()
    monkeypatch.setattr(RolloutJournal, "move", slowly)
    first = asyncio.ensure_future(shop.decide("held"))
    await reached.wait()
    second = asyncio.ensure_future(shop.decide("aborted"))
    await runtime.sleep(MOMENT)
    second.cancel()
    await runtime.sleep(MOMENT)
    gate.set()
    assert (await first).state == "held"
    assert await shop.phase() == "held"


async def test_the_journal_does_not_grow_with_the_past(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MOST_ENTRIES", 20)
    monkeypatch.setattr(journal, "REMEMBERED", 3)
    shop = await Shop(runtime, tmp_path).open("new")
    for _ in range(30):
        await shop.start(replace=True)
    state = await shop.state()
    await shop.restart()
    assert await shop.state() == state
    found = await shop.ref.call(GetRolloutHistory())
    assert 3 <= len(found) < 20


def rollouts_of(shop: Shop) -> Any:
    """The actor of the rollouts."""
    return next(ref for ref in shop.runtime.actors() if "RolloutActor" in ref.path)


async def test_what_people_say_counts_in_the_step_of_the_call_and_in_time(runtime: Runtime) -> None:
    shop = await Shop(runtime).open("new")
    slos = [{"kind": "feedback", "bound": 0.1, "window": 100}, {"kind": "errors", "bound": 0.1}]
    await shop.start(slos=slos, steps=[0.5])
    calls = [str(number) for number in range(12)]
    for call in calls:
        await shop.ref.call(RunProgram({"text": "x"}, call=call))
    say = rollouts_of(shop)
    for call in calls[:4]:
        say.cast(FeedbackSeen(call, good=False))
        say.cast(FeedbackSeen(call, good=False))
    say.cast(FeedbackSeen("unknown", good=False))
    said = (await shop.state()).slos[0]
    assert said.canary.bad + said.baseline.bad == said.canary.units + said.baseline.units == 4
    say.cast(FeedbackSeen(calls[4], good=True))
    await advance(101)
    say.cast(FeedbackSeen(calls[5], good=False))
    said = (await shop.state()).slos[0]
    assert (said.canary.units + said.baseline.units, said.canary.bad + said.baseline.bad) == (5, 4)
    await shop.decide("held")
    say.cast(FeedbackSeen(calls[6], good=False))
    await shop.decide("aborted")
    say.cast(FeedbackSeen(calls[7], good=False))
    assert (await shop.state()).slos[0] == said


async def test_no_more_calls_are_remembered_for_what_people_say_than_are_needed(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dspex.serving.rollout.actor.MOST_AWAITED", 2)
    shop = await Shop(runtime).open("new")
    await shop.start(slos=[{"kind": "feedback", "bound": 0.1}], steps=[0.5])
    for call in "abc":
        await shop.ref.call(RunProgram({"text": "x"}, call=call))
    for call in "abc":
        rollouts_of(shop).cast(FeedbackSeen(call, good=True))
    said = (await shop.state()).slos[0]
    assert said.canary.units + said.baseline.units == 2


async def test_scoring_never_holds_a_call_and_ends_with_the_actor(runtime: Runtime) -> None:
    """What is too much is not scored; what still runs when the program ends is cancelled."""
    begun: list[str] = []

    async def slowly(example: Any, prediction: Any) -> float:
        begun.append(example.text)
        await asyncio.Event().wait()
        return 1.0

    shop = await Shop(runtime, None, None, metrics={"slow": slowly}).open("new")
    await shop.start(slos=[{"kind": "score", "bound": 0.2, "over": 0.5, "metric": "slow"}], steps=[0.5])
    for number in range(MOST_AT_ONCE + 10):
        await shop.ask(key=f"u{number}")
    await runtime.sleep(MOMENT)
    assert len(begun) == MOST_AT_ONCE
    await shop.restart()


async def test_a_rollout_may_be_given_as_a_value(runtime: Runtime) -> None:
    shop = await Shop(runtime).open("new")
    rollout = Rollout(1, steps=(0.2,))
    assert (await shop.ref.call(StartRollout(rollout))).rollout == rollout


async def test_what_a_program_raises_for_its_models_answer_is_no_first_try(runtime: Runtime) -> None:
    def unreadable(text: str) -> None:
        raise AdapterParseError("ChatAdapter", dspy.Signature("text -> label"), "gibberish")

    shop = await Shop(runtime, None, {"new": unreadable}).open("new")
    await shop.start(slos=[{"kind": "first_try", "bound": 0.1}], steps=[0.5])
    number = 0
    while await shop.phase() == "canary":
        number += 1
        await shop.ask(key=f"u{number}")
    assert await shop.phase() == "rolled_back"


async def test_a_score_that_comes_after_its_rollout_is_no_score(runtime: Runtime) -> None:
    gate = asyncio.Event()

    async def waits(example: Any, prediction: Any) -> float:
        await gate.wait()
        return 0.0

    shop = await Shop(runtime, None, None, metrics={"waits": waits}).open("new")
    how: Any = {"slos": [{"kind": "score", "bound": 0.2, "over": 0.5, "metric": "waits"}], "steps": [0.5]}
    await shop.start(**how)
    await shop.ask()
    await shop.start(replace=True, **how)
    gate.set()
    await runtime.sleep(MOMENT)
    assert (await shop.state()).slos[0].canary.units + (await shop.state()).slos[0].baseline.units == 0


async def test_a_candidate_that_does_not_fit_is_refused(runtime: Runtime) -> None:
    shop = await Shop(runtime).open()
    with pytest.raises(BadVersion, match="does not fit"):
        await shop.ref.call(AddVersion({"nothing": 1}))


async def test_in_a_pool_the_shadow_runs_in_an_agent(runtime: Runtime) -> None:
    shop = Shop(runtime, None, {"new": failing}, size=2)
    shop.kind = ProgramPool
    await shop.open("new")
    await shadowed(shop)
    while await shop.phase() == "shadow":
        assert await shop.ask() == "by old"
    assert (await shop.state()).slos[0].canary.bad == 11


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
async def test_whatever_a_metric_raises_is_no_score_and_ends_nothing(runtime: Runtime, error: BaseException) -> None:
    def raises(example: Any, prediction: Any) -> float:
        raise error

    async def raises_too(example: Any, prediction: Any) -> float:
        raise error

    shop = await Shop(runtime, None, None, metrics={"a": raises, "b": raises_too}).open("new")
    slos = [{"kind": "score", "bound": 0.2, "over": 0.5, "metric": name} for name in "ab"]
    await shop.start(slos=slos, steps=[0.5])
    for _ in range(6):
        await shop.ask()
    await advance(1.0)
    state = await shop.state()
    assert [slo.canary.units + slo.baseline.units for slo in state.slos] == [0, 0]


async def test_a_folder_that_may_not_be_read_keeps_no_tree_from_starting(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists = Path.exists

    def refused(path: Path, **options: Any) -> bool:
        if path.name == JOURNAL_FILE:
            raise PermissionError(13, "Permission denied")
        return exists(path, **options)

    monkeypatch.setattr(Path, "exists", refused)
    shop = await Shop(runtime, tmp_path).open("new")
    with pytest.raises(RolloutConflict, match="Permission denied"):
        await shop.start()
    assert await shop.ask() == "by old"


async def test_a_journal_of_something_else_is_refused(runtime: Runtime, tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / JOURNAL_FILE)
    await Journal(storage, "rollouts").open({"of": "something else"})
    storage.close()
    shop = await Shop(runtime, tmp_path).open("new")
    with pytest.raises(RolloutConflict, match="the log holds another run"):
        await shop.start()


async def test_feedback_on_calls_rolls_a_version_back(runtime: Runtime) -> None:
    """Of people alone; what a model or a metric says, and what is said of something else, does not count."""
    shop = await Shop(runtime).open("new")
    await shop.start(slos=[{"kind": "feedback", "bound": 0.1}], steps=[0.5])
    ids = call_ids(runtime)
    number = 0
    while await shop.phase() == "canary":
        number += 1
        call = ids.issue()
        answer = await shop.ref.call(RunProgram({"text": "x"}, call=call, key=f"u{number}"))
        await shop.ref.call(GiveFeedback(call, False, source="model"))
        await shop.ref.call(GiveFeedback(call, False, "tone"))
        await shop.ref.call(GiveFeedback(call, "a text"))
        await shop.ref.call(GiveFeedback(call, answer.version == 0))
    said = (await shop.state()).slos[0]
    assert (said.canary.bad, said.baseline.bad) == (said.canary.units, 0)
    assert await shop.phase() == "rolled_back"


async def test_a_first_answer_that_cannot_be_read_is_no_error_and_no_first_try(runtime: Runtime) -> None:
    """The model is asked again, and answers: the call is answered, and its record says so."""
    parrot = Parrot(*["I think it is four.", "[[ ## a ## ]]\n4\n\n[[ ## completed ## ]]"] * 8)
    actor = await runtime.spawn(ProgramActor, lambda: dspy.Predict("q -> a: int"), lm=parrot.lm(), name="program:first")
    better = dspy.Predict("q -> a: int")
    better.demos = [dspy.Example(q="1 + 1?", a=2)]
    await actor.call(AddVersion(better))
    slos = [{"kind": "errors", "bound": 0.1}, {"kind": "first_try", "bound": 0.1}]
    await actor.call(StartRollout({"version": 1, "steps": [0.5], "slos": slos}))
    for _ in range(8):
        assert (await actor.call(RunProgram({"q": "2 + 2?"}))).outputs == {"a": 4}
    state = await actor.call(GetRollout())
    errors, first = state.slos
    assert errors.canary.bad + errors.baseline.bad == 0
    assert (first.canary.bad, first.baseline.bad) == (first.canary.units, first.baseline.units)
    assert first.canary.bad + first.baseline.bad == 8
