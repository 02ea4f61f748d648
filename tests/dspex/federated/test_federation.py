"""Federations hold rounds with clients that are there, late, lost or hostile; nothing counts that should not."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec
import numpy as np
import pytest

from agents.durability import MemoryStorage
from dspex.federated import (
    BadFederation,
    BordaCount,
    CandidateScore,
    Client,
    FedAvg,
    FederatedAveraging,
    FederatedChoice,
    Federation,
    FederationResult,
    Krum,
    LocalUpdate,
    MacroMean,
    MedianWeights,
    PooledMean,
    ResumeFederation,
    Rounds,
    RunRound,
    TooFewClients,
    WeightArray,
    Weights,
)
from foundation.telemetry.collectors import collect_samples
from supervision import Actor, ChildSpec, Refuse, Runtime, StartError, handle
from supervision.errors import BadOption
from tests.dspex.federated.world import START, Answers, Steps, World, numbers

PLAN = FederatedAveraging(initial=START)
THREE = Rounds(enough=3, deadline=60.0)


@pytest.fixture
def world(runtime: Runtime) -> World:
    return World(runtime)


def _memory() -> MemoryStorage:
    return MemoryStorage()


def answers(name: str, answer: Any, seconds: float = 1.0) -> ChildSpec:
    return ChildSpec(name, Answers, (answer, seconds), name=name)


async def test_all_clients_train_and_their_mean_is_what_is_found(world: World) -> None:
    await world.start()
    result = await world.result()
    assert numbers(result) == [7.5, 7.5]  # three times the mean of 1, 2, 3 and 4
    assert (result.stopped, result.rounds, result.runs) == ("done", 3, 120)
    assert result.best == (3, 5.0)  # the loss of the weights that they got in round 3, 10 - 5
    assert [one.end.counted for one in result.history] == [("c1", "c2", "c3", "c4")] * 3
    assert await world.result() == result
    assert world.runtime.clock.time() == pytest.approx(3.0)
    assert [(event.round, event.fence, event.state, event.counted, event.asked) for event in world.closed] == [
        (number, number, "decided", 4, 4) for number in (1, 2, 3)
    ]


async def test_the_tree_shows_round_best_cost_and_time_left(world: World) -> None:
    await world.start()
    assert world.shown() == {
        "state": "running",
        "round": "0 of 3",
        "void": "0",
        "best": "none",
        "cost": "0 runs of examples",
        "left": "unknown",
        "clients": "4 of 4",
    }
    await world.runtime.sleep(1.5)
    shown = world.shown()
    assert (shown["round"], shown["best"]) == ("1 of 3, 0 of 4 reports", "10 in round 1")
    assert (shown["cost"], shown["left"]) == ("40 runs of examples", "about 2 s")
    await world.result()
    assert (world.shown()["state"], world.shown()["left"]) == ("done", "nothing")


async def test_metrics_count_rounds_and_what_became_of_clients(world: World) -> None:
    await world.start(answers("bad", lambda _: {"examples": -1}), rounds=THREE)
    await world.result()
    found = {
        (sample.name, dict(sample.labels).get("state") or dict(sample.labels)["outcome"]): sample.value
        for sample in collect_samples(world.runtime)
        if sample.name.startswith("federation")
    }
    assert found == {
        ("federation_rounds", "decided"): 3,
        ("federation_reports", "counted"): 12,
        ("federation_reports", "refused"): 3,
        ("federation_reports", "lost"): 0,
        ("federation_reports", "late"): 0,
    }


# -- clients that are dead, late, or begin again -----------------------------------------------------------------------


async def test_T067_one_client_ends_and_the_round_closes_on_the_third_reply(world: World) -> None:
    gone = ChildSpec("gone", Client, (Steps(world.runtime, 9.0),), name="gone", restart="temporary")
    await world.start(gone, steps=3, rounds=THREE)
    await world.runtime.sleep(0.5)
    victim = world.runtime.whereis("gone")
    assert victim is not None
    victim.kill()
    result = await world.result()
    assert numbers(result) == [6.0, 6.0]
    assert world.runtime.clock.time() == pytest.approx(3.0)  # and not 60 for the deadline
    assert [missing[:3] for missing in world.missing] == [(1, "gone", "lost")]
    assert [event.asked for event in world.closed] == [4, 3, 3]


async def test_a_client_that_is_started_again_is_asked_again_in_the_same_round(world: World) -> None:
    await world.start()
    await world.runtime.sleep(0.5)
    victim = world.runtime.whereis("c2")
    assert victim is not None
    victim.kill()
    result = await world.result()
    assert numbers(result) == [7.5, 7.5]
    assert world.missing == []


async def test_a_client_that_ends_again_and_again_is_lost(world: World) -> None:
    await world.start(rounds=THREE)
    for _ in range(2):
        await world.runtime.sleep(0.4)
        victim = world.runtime.whereis("c4")
        assert victim is not None
        victim.kill()
    await world.result()
    assert [missing[:3] for missing in world.missing] == [(1, "c4", "lost")]


async def test_a_late_client_is_not_waited_for_beyond_the_deadline(world: World) -> None:
    slow = ChildSpec("slow", Client, (Steps(world.runtime, 100.0, seconds=500.0),), name="slow")
    await world.start(slow, steps=3, plan=FederatedAveraging(initial=START, rounds=1), rounds=THREE)
    result = await world.result()
    assert numbers(result) == [2.0, 2.0]
    assert world.runtime.clock.time() == pytest.approx(60.0)
    assert world.missing == [(1, "slow", "late", "it had not reported when the round was over")]


async def test_with_linger_late_clients_are_not_waited_for_once_there_are_enough(world: World) -> None:
    slow = ChildSpec("slow", Client, (Steps(world.runtime, 100.0, seconds=500.0),), name="slow")
    await world.start(slow, steps=3, rounds={"enough": 3, "linger": 2.0})
    await world.result()
    assert world.runtime.clock.time() == pytest.approx(9.0)


async def test_T068_a_round_with_too_few_reports_is_void_and_is_held_again(world: World) -> None:
    await world.start(rounds=THREE)
    for name in ("c1", "c2"):
        world.steps[name].seconds = 100.0
    await world.runtime.sleep(59.0)
    for name in ("c1", "c2"):
        world.steps[name].seconds = 0.5
    await world.runtime.sleep(2.0)
    [void] = world.closed
    assert (void.state, void.why, void.metric) == ("void", "2 of 3 reports at the deadline", None)
    assert (world.shown()["round"].partition(",")[0], world.shown()["void"]) == ("0 of 3", "1")
    result = await world.result()
    assert numbers(result) == [7.5, 7.5]
    assert [event.fence for event in world.closed] == [1, 2, 3, 4]
    assert [event.state for event in world.closed] == ["void", "decided", "decided", "decided"]


async def test_after_so_many_void_rounds_in_a_row_it_ends_with_what_it_has(world: World) -> None:
    await world.start(rounds={"deadline": 5.0, "max_void": 2})
    await world.runtime.sleep(1.5)
    world.steps["c1"].seconds = 1000.0
    result = await world.result()
    assert (result.stopped, result.rounds) == ("void", 2)
    assert numbers(result) == [5.0, 5.0]


async def test_T069_too_few_clients_end_it_after_the_patience(world: World) -> None:
    never = ChildSpec("x", Client, (Steps(world.runtime, 1.0),), name="x", restart="temporary")
    await world.start(never, steps=1, rounds={"join_patience": 30.0})
    victim = world.runtime.whereis("x")
    assert victim is not None
    await world.runtime.sleep(0.5)
    victim.kill()  # round 1 is void, and then nobody comes
    with pytest.raises(TooFewClients, match=r"1 of 2 clients were there after 30 s \(c1\)") as caught:
        await world.result()
    assert (caught.value.there, caught.value.needed, caught.value.seconds) == (("c1",), 2, 30.0)
    assert world.runtime.clock.time() < 40.0
    assert world.shown()["state"].startswith("stopped: 1 of 2 clients")


async def test_it_waits_for_clients_and_goes_on_when_it_is_told_to(world: World) -> None:
    await world.runtime.spawn(
        Federation,
        FederatedAveraging(initial=START, rounds=1),
        ["c1", "c2"],
        _memory(),
        rounds={"join_patience": 10.0},
        name="all",
    )
    with pytest.raises(TooFewClients, match="nobody"):
        await world.result()
    first = await world.client(1)
    await world.runtime.spawn(first.start, *first.args, name="c1")
    resumed = world.runtime.name("all").call(ResumeFederation())
    await resumed
    await world.runtime.name("all").call(ResumeFederation())  # it runs: this is nothing
    await world.runtime.sleep(5.0)
    second = await world.client(2)
    await world.runtime.spawn(second.start, *second.args, name="c2")
    assert numbers(await world.result()) == [1.5, 1.5]
    await world.runtime.name("all").call(ResumeFederation())
    assert (await world.result()).stopped == "done"


async def test_clients_are_sampled_by_chance_and_one_seed_samples_the_same(world: World) -> None:
    await world.start(steps=8, rounds={"sample": 3})
    result = await world.result()
    sampled = [one.end.counted for one in result.history]
    assert all(len(one) == 3 for one in sampled)
    assert len(set(sampled)) > 1
    assert world.trained.total() == 9


async def test_a_thousand_clients(world: World) -> None:
    await world.start(steps=1000, plan=FederatedAveraging(initial=START, rounds=2))
    result = await world.result()
    assert numbers(result) == pytest.approx([1001.0, 1001.0])


async def test_two_federations_of_the_same_clients_do_not_mix(world: World) -> None:
    await world.start()
    plan = FederatedAveraging(initial=Weights.of({"w": [100.0, 100.0]}), rounds=2)
    await world.runtime.spawn(Federation, plan, ["c1", "c4"], _memory(), name="other")
    assert numbers(await world.result()) == [7.5, 7.5]
    assert numbers(await world.result("other")) == [105.0, 105.0]
    assert {event.federation for event in world.closed} == {"all", "other"}


# -- clients that report what cannot be used ---------------------------------------------------------------------------

NAN = Weights({"w": WeightArray((2,), np.array([np.nan, 0.0]).tobytes())})


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda _: {"weights": NAN}, "a weight is NaN, infinite or huge"),
        (lambda _: {"weights": Weights.of({"w": [np.inf, 0.0]})}, "a weight is NaN, infinite or huge"),
        (lambda _: {"weights": Weights.of({"w": [-1e300, 0.0]})}, "a weight is NaN, infinite or huge"),
        (lambda _: {"weights": Weights.of({"w": [1.0]})}, r"the arrays are w \[1\], and have to be w \[2\]"),
        (lambda _: {"weights": Weights.of({"v": [1.0, 1.0]})}, r"the arrays are v \[2\], and have to be w \[2\]"),
        (lambda _: {"weights": None}, "it has no weights"),
        (lambda _: {"examples": -5}, "it tells of -5 examples"),
        (lambda _: {"examples": 1.5}, "it tells of 1.5 examples"),
        (lambda _: {"examples": True}, "it tells of True examples"),
        (lambda _: {"runs": -5}, "-5 runs"),
        (lambda _: {"metrics": {"loss": float("nan")}}, "its loss is no finite number"),
        (lambda _: {"metrics": {"loss": 1e101}}, "its loss is no finite number"),
        (lambda _: {"metrics": dict.fromkeys(map(str, range(51)), 0.0)}, "it has 51 metrics, where 50 may be"),
        (lambda _: {"client": "c1"}, "it reports as c1"),
    ],
)
async def test_what_cannot_be_used_is_refused_and_moves_nothing(world: World, answer: Any, why: str) -> None:
    await world.start(answers("bad", answer, 0.5), rounds={"enough": 4})
    assert numbers(await world.result()) == [7.5, 7.5]
    assert len(world.missing) == 3
    for number, (round, client, outcome, told) in enumerate(world.missing, 1):
        assert (round, client, outcome) == (number, "bad", "refused")
        assert re.search(why, told)


async def test_T074_a_report_of_an_older_round_is_dropped_and_its_client_late(world: World) -> None:
    old = answers("old", lambda request: {"round": request.round - 1, "weights": Weights.of({"w": [99.0, 99.0]})}, 0.5)
    await world.start(old, rounds={"enough": 4, "deadline": 5.0})
    assert numbers(await world.result()) == [7.5, 7.5]
    assert [missing[1:3] for missing in world.missing] == [("old", "late")] * 3


async def test_a_report_with_an_older_fence_is_dropped(world: World) -> None:
    old = answers("old", lambda request: {"fence": request.fence - 1, "weights": Weights.of({"w": [99.0, 99.0]})}, 0.5)
    await world.start(old, rounds={"enough": 4, "deadline": 5.0})
    assert numbers(await world.result()) == [7.5, 7.5]


HALF: Any = LocalUpdate({"w": [1.0, 1.0]}, 1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("update", "why"),
    [
        (None, "TypeError: `train` has to return a LocalUpdate, and has returned NoneType"),
        (HALF, "TypeError: 'float' object cannot be interpreted as an integer"),
        (LocalUpdate({"w": [1.0, 1.0]}, True), "TypeError: `examples` has to be a whole number, and is True"),
    ],
)
async def test_what_a_learner_may_not_return_is_refused_before_it_is_sent(world: World, update: Any, why: str) -> None:
    class Odd:
        def train(self, weights: Any, settings: Any) -> Any:
            return update

    await world.start(ChildSpec("bad", Client, (Odd(),), name="bad"), rounds={"enough": 4})
    assert numbers(await world.result()) == [7.5, 7.5]
    assert {missing[1:] for missing in world.missing} == {("bad", "refused", why)}


class OfNumpy:
    """Says everything in NumPy's numbers."""

    def train(self, weights: Any, settings: Any) -> Any:
        return LocalUpdate(weights, np.int64(0), {"loss": np.float32(0.5)}, np.int64(3))  # type: ignore[arg-type, dict-item]

    def score(self, candidate: Any) -> Any:
        scores: list[Any] = [np.bool_(True), np.float32(0.5)]
        found = CandidateScore.of(scores)
        return msgspec.structs.replace(found, examples=np.int64(2))


async def test_numbers_of_numpy_are_numbers(world: World) -> None:
    await world.start(ChildSpec("of numpy", Client, (OfNumpy(),), name="of numpy"), rounds={"enough": 5})
    assert numbers(await world.result()) == [7.5, 7.5]
    assert world.missing == []


async def test_scores_of_numpy_are_scores(world: World) -> None:
    plan = FederatedChoice(candidates=["one", "other"])
    await world.start(ChildSpec("of numpy", Client, (OfNumpy(),), name="of numpy"), steps=0, plan=plan)
    result = await world.result()
    assert (result.scores, world.missing) == (("3/4", "3/4"), [])


def test_a_text_is_no_scores() -> None:
    with pytest.raises(TypeError, match="the scores are a text: '101'"):
        CandidateScore.of("101")  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, asyncio.CancelledError, KeyboardInterrupt])
async def test_a_client_whose_work_raises_is_refused_and_lives(world: World, error: type[BaseException]) -> None:
    class Broken:
        def train(self, weights: Any, settings: Any) -> Any:
            raise error("its disk is full")

    await world.start(ChildSpec("bad", Client, (Broken(),), name="bad"), rounds={"enough": 4})
    alive = world.runtime.whereis("bad")
    assert numbers(await world.result()) == [7.5, 7.5]
    assert {missing[1:] for missing in world.missing} == {("bad", "refused", f"{error.__name__}: its disk is full")}
    assert world.runtime.whereis("bad") is alive


async def test_a_client_that_answers_something_else_is_lost(world: World) -> None:
    class Wrong(Actor):
        @handle
        def run_round(self, request: RunRound) -> Any:
            raise Refuse(ValueError("not today"))

    await world.start(ChildSpec("bad", Wrong, (), name="bad"), rounds={"enough": 4})
    assert numbers(await world.result()) == [7.5, 7.5]
    assert {missing[1:] for missing in world.missing} == {("bad", "lost", "ValueError: not today")}


async def test_a_hostile_client_is_held_by_clip_and_by_most_examples(world: World) -> None:
    far = answers("bad", lambda _: {"weights": Weights.of({"w": [1e9, 1e9]}), "examples": 10**12})
    plan = FederatedAveraging(initial=START, rounds=1, clip=2.0, most_examples=10)
    await world.start(far, plan=plan)
    # Of the honest ones those with steps of 2, 3 and 4 are clipped, too: their changes are longer than 2.
    assert numbers(await world.result()) == pytest.approx([(1.0 + 4 * 2**0.5) / 5] * 2)


async def test_a_round_of_which_nothing_can_be_made_is_void(world: World) -> None:
    plan = FederatedAveraging(initial=START, rounds=1, rule=Krum(faulty=1))
    await world.start(plan=plan, rounds={"max_void": 1})
    result = await world.result()
    assert (result.stopped, numbers(result)) == ("void", [0.0, 0.0])
    assert world.closed[0].why == "Krum needs 5 clients, and 4 have reported"


async def test_clients_without_any_example_make_a_void_round_and_one_of_them_changes_nothing(world: World) -> None:
    await world.start(rounds={"max_void": 1})
    for steps in world.steps.values():
        steps.examples = 0
    result = await world.result()
    assert world.closed[0].why == "the clients have no examples at all"
    assert (result.stopped, result.best) == ("void", None)


async def test_a_client_without_examples_says_nothing_also_to_a_median(world: World) -> None:
    far = Weights.of({"w": [99.0, 99.0]})
    nothing = answers("none", lambda _: {"examples": 0, "weights": far, "metrics": {"loss": 99.0, "mine": 1.0}})
    await world.start(nothing, steps=3, plan=FederatedAveraging(initial=START, rounds=1, rule=MedianWeights()))
    result = await world.result()
    assert numbers(result) == [2.0, 2.0]
    assert result.history[0].metrics == {"loss": 10.0}


# -- choices -----------------------------------------------------------------------------------------------------------


class Scores:
    """A scorer that has looked up what becomes of candidates."""

    def __init__(self, **found: tuple[int, int]) -> None:
        self.found = found

    def score(self, candidate: Any) -> CandidateScore:
        right, of = self.found.get(candidate["prompt"], (0, 0))
        return CandidateScore.of([1] * right + [0] * (of - right), ["x"] * of)


def scorers(*found: dict[str, tuple[int, int]]) -> list[ChildSpec]:
    return [ChildSpec(f"s{number}", Client, (Scores(**one),), name=f"s{number}") for number, one in enumerate(found)]


CANDIDATES = [{"prompt": "short"}, {"prompt": "long"}]


@pytest.mark.parametrize(
    ("rule", "best", "scores"),
    [(PooledMean(), 1, ("13/35", "22/35")), (BordaCount(), 0, ("2/3", "1/3")), (MacroMean(), 1, ("13/35", "22/35"))],
)
async def test_a_candidate_is_chosen_by_a_rule(world: World, rule: Any, best: int, scores: tuple[str, ...]) -> None:
    clients = scorers(*[{"short": (3, 5), "long": (1, 5)}] * 2, {"short": (7, 25), "long": (20, 25)})
    await world.start(*clients, steps=0, plan=FederatedChoice(candidates=CANDIDATES, rule=rule, personal=True))
    result = await world.result()
    assert (result.best_candidate, result.chosen, result.scores) == (best, CANDIDATES[best], scores)
    # For two clients the short one is surely better, for the third the long one.
    assert result.personal == {"s0": CANDIDATES[0], "s1": CANDIDATES[0], "s2": CANDIDATES[1]}
    assert (result.runs, result.weights) == (70, None)
    assert world.shown()["best"].endswith("in round 1")


async def test_T071_demonstrations_that_only_one_client_has_are_no_score_of_others(world: World) -> None:
    clients = scorers({"short": (6, 10), "local:3": (8, 10)}, {"short": (1, 10)})
    candidates = [{"prompt": "short"}, {"prompt": "local:3"}, {"prompt": "nobody has this"}]
    await world.start(*clients, steps=0, plan=FederatedChoice(candidates=candidates))
    result = await world.result()
    assert (result.chosen, result.scores) == ({"prompt": "local:3"}, ("7/20", "4/5", None))


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        ((), "it has scores of 0 candidates, and 2 were asked"),
        ((CandidateScore("5", "5", 1), CandidateScore()), "the sum of 1 scores"),
        ((CandidateScore("1", "1", 1.5), CandidateScore()), "it tells of 1.5 examples"),  # type: ignore[arg-type]
        ((CandidateScore("1", "1", 10**9), CandidateScore()), "it tells of 1000000000 examples, where 0 to 100 may be"),
    ],
)
async def test_sums_that_cannot_be_are_refused(world: World, scores: Any, why: str) -> None:
    bad = answers("bad", lambda _: {"scores": scores})
    plan = FederatedChoice(candidates=CANDIDATES, most_examples=100)
    await world.start(bad, *scorers({"short": (1, 2), "long": (0, 2)}), steps=0, plan=plan, rounds={"enough": 1})
    result = await world.result()
    assert result.best_candidate == 0
    assert world.missing[0][3].startswith(why)


async def test_if_nothing_could_be_run_nothing_is_chosen(world: World) -> None:
    await world.start(*scorers({}), steps=0, plan=FederatedChoice(candidates=CANDIDATES), rounds={"max_void": 1})
    result = await world.result()
    assert result == FederationResult("void", 0, history=result.history)


async def test_a_client_that_only_trains_is_refused_when_it_is_to_score(world: World) -> None:
    plan = FederatedChoice(candidates=CANDIDATES)
    await world.start(*scorers({"short": (1, 1)}), steps=1, plan=plan, rounds={"enough": 1})
    assert (await world.result()).best_candidate == 0
    assert world.missing == [(1, "c1", "refused", "TypeError: Steps has no method `score`")]


# -- what makes no sense -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: FederatedAveraging(initial=None),  # type: ignore[arg-type]
        lambda: FederatedAveraging(initial=Weights.of({"w": [np.nan]})),
        lambda: FederatedAveraging(initial=Weights.of({})),
        lambda: FederatedAveraging(initial=START, settings=5),  # type: ignore[arg-type]
        lambda: FederatedAveraging(initial=START, settings={"rate": float("nan")}),
        lambda: FederatedAveraging(initial=START, settings={"rate": "fast"}),  # type: ignore[dict-item]
        lambda: FederatedAveraging(initial=START, settings={1: 0.5}),  # type: ignore[dict-item]
        lambda: FederatedAveraging(initial=START, rule=PooledMean()),  # type: ignore[arg-type]
        lambda: FederatedAveraging(initial=START, rounds=0),
        lambda: FederatedAveraging(initial=START, clip=0.0),
        lambda: FederatedAveraging(initial=START, most_examples=0),
        lambda: FederatedAveraging(initial=START, metric=""),
        lambda: FederatedChoice(candidates=[]),
        lambda: FederatedChoice(candidates=[object()]),
        lambda: FederatedChoice(candidates=[float("inf")]),
        lambda: FederatedChoice(candidates=[{1: "would come back as a text"}]),
        lambda: FederatedChoice(candidates=[10**400]),
        lambda: FederatedChoice(candidates=[1], rule=FedAvg()),  # type: ignore[arg-type]
        lambda: FederatedChoice(candidates=[1], most_examples=-1),
        lambda: Federation("nowhere", ["a"], _memory()),
        lambda: Federation("json:JSONDecoder", ["a"], _memory()),
        lambda: Federation(lambda: 3, ["a"], _memory()),
        lambda: Federation(PLAN, [], _memory()),
        lambda: Federation(PLAN, "abc", _memory()),
        lambda: Federation(PLAN, ["a", "a"], _memory()),
        lambda: Federation(PLAN, [""], _memory()),
        lambda: Federation(PLAN, ["a"], _memory(), rounds={"enuogh": 3}),
        lambda: Federation(PLAN, ["a"], _memory(), rounds={"enough": 3}),
        lambda: Federation(PLAN, ["a"], _memory(), rounds={"deadline": -1.0}),
        lambda: Federation(PLAN, ["a"], _memory(), rounds=7),  # type: ignore[arg-type]
        lambda: Federation(PLAN, ["a"], _memory(), resume_after=0.0),
        lambda: Federation(PLAN, ["a"], 3),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises((BadFederation, BadOption)):
        wrong()


async def test_another_plan_on_the_same_log_is_refused(world: World) -> None:
    store = _memory()
    await world.start(store=store, steps=1)
    await world.result()
    top = world.runtime.whereis("top of all")
    assert top is not None
    await top.stop()
    plan = FederatedAveraging(initial=START, rounds=9)
    with pytest.raises(StartError, match="another run"):
        await world.runtime.spawn(Federation, plan, ["c1"], store, name="all")
