"""A served team that cannot answer in full gives the best lesser answer that it may, and says which and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex._compat import lm15
from dspex.models.gateway.budget import BudgetExceeded
from dspex.teams import (
    BadTeam,
    MemberAnswer,
    NoAnswer,
    Team,
    TeamActor,
    TeamAnswered,
    TeamDegraded,
    TeamLadder,
    TeamRung,
    WeightedVote,
)
from dspex.teams.metrics import TeamCounts
from dspex.teams.missing import degradation_reason, loss_reason
from dspex.teams.recent_answers import RecentAnswers
from foundation.programs import Busy, Unavailable
from foundation.protection import CircuitOpen
from foundation.telemetry.collectors import collect_samples
from foundation.tree import TreeError, load_tree
from supervision import Runtime
from supervision.errors import BadOption
from tests.dspex.teams.served.desk import Answering, ask, away, desk, forget, serve


@pytest.fixture(autouse=True)
def _fresh() -> None:
    forget()


async def test_T087_a_rung_that_does_not_fit_into_the_time_is_skipped(runtime: Runtime) -> None:
    """The small model takes half a second, and two tenths are left: the best member that has answered answers."""
    small = TeamRung.single("e", name="small", p95=0.5)
    actor = await serve(runtime, desk("ABBAA", min_answers=1.0), ladder=TeamLadder((small, TeamRung.single())))
    away("d", "e")
    Answering.seconds.update(d=1.79, e=1.79)
    answer = await ask(actor, timeout=2.0)
    assert answer["degraded"] == "single:lost 2 of 5"
    assert (answer["label"], answer["said_by"], answer["coverage"]) == ("A", "a", pytest.approx(3 / 5))
    assert answer["confidence"] == pytest.approx(1 / 3)
    assert Answering.asked["e"] == 1


async def test_the_same_rung_is_taken_where_there_is_the_time(runtime: Runtime) -> None:
    """Then the member is asked, alone."""
    small = TeamRung.single("e", name="small", p95=0.5)
    actor = await serve(runtime, desk("ABBAA", min_answers=1.0), ladder=[small, "single"])
    away("d", "e")
    runtime.clock.call_at(runtime.clock.time() + 0.1, lambda: away("d"))
    Answering.seconds.update(d=0.5)
    answer = await ask(actor, timeout=2.0)
    assert (answer["said_by"], answer["degraded"]) == ("e", "small:lost 2 of 5")
    assert [one.outcome for one in answer["ballot"]] == ["answered", "answered", "answered", "lost", "answered"]


async def test_T089_an_answer_that_is_too_old_is_not_given_again(runtime: Runtime) -> None:
    """One of 3,600 seconds may be; one of 3,601 may not, and the next rung answers."""
    ladder = ["cached:3600", {"rung": "default", "outputs": {"label": "other"}}]
    actor = await serve(runtime, desk("AAA", ladder=ladder, min_answers=1.0), deadline=1.0)
    assert (await ask(actor))["degraded"] is None
    given = runtime.clock.time()
    away("a", "b")
    await runtime.sleep(given + 3600 - runtime.clock.time())
    answer = await ask(actor)
    assert (answer["label"], answer["said_by"], answer["degraded"]) == ("A", "a", "cached:lost 2 of 3")
    await runtime.sleep(1.0)
    answer = await ask(actor)
    assert (answer["label"], answer["degraded"], answer["confidence"]) == ("other", "default:lost 2 of 3", 0.0)
    assert "said_by" not in answer


async def test_a_lesser_answer_is_never_given_again(runtime: Runtime) -> None:
    """Only full ones are kept, and each for its inputs and version alone."""
    actor = await serve(runtime, desk("AAA"), ladder=["quorum", "cached:60"])
    away("a")
    assert (await ask(actor, "y"))["degraded"] == "quorum:lost 1 of 3"
    away()
    assert (await ask(actor, "x"))["degraded"] is None
    away("a", "b", "c")
    assert (await ask(actor, "x"))["degraded"] == "cached:lost 3 of 3"
    with pytest.raises(Unavailable, match="lost 3 of 3"):
        await ask(actor, "y")


async def test_T090_after_four_good_calls_it_is_degraded_and_after_the_fifth_it_is_not(runtime: Runtime) -> None:
    """Calls begin at the member alone, until five in a row were good."""
    actor = await serve(runtime, desk("BAA", ladder=["single:a", "refuse"], min_answers=1.0))
    away("b")
    assert (await ask(actor))["degraded"] == "single:lost 1 of 3"
    away()
    asked = Answering.asked["b"]
    for _ in range(4):
        answer = await ask(actor)
        assert (answer["label"], answer["degraded"]) == ("B", "single:lost 1 of 3")
    info = runtime.info(actor)
    assert info is not None
    assert info.summary["rung"] == "single"
    assert (await ask(actor))["degraded"] == "single:lost 1 of 3"
    assert Answering.asked["b"] == asked
    assert (await ask(actor))["degraded"] is None
    info = runtime.info(actor)
    assert info is not None
    assert info.summary["rung"] == "full"


@pytest.mark.parametrize(
    "error",
    [
        BudgetExceeded("cloud", "dollars", 60.0),
        lm15.BillingError("no money"),
        dspy.LMBillingError("no money"),
    ],
)
async def test_T091_where_the_budget_is_spent_nobody_is_asked_again(runtime: Runtime, error: Exception) -> None:
    """Neither by a retry nor by a rung: the default answers."""
    spent: Exception = lm15.RateLimitError("gateway: no room")
    spent.__cause__ = error
    ladder = TeamLadder((TeamRung.quorum(), TeamRung.single("b"), TeamRung.default(label="other")))
    actor = await serve(runtime, desk("AAA", ladder=ladder), retries=3)
    away("a", "b", "c", error=spent if isinstance(error, BudgetExceeded) else error)
    answer = await ask(actor)
    assert (answer["label"], answer["degraded"]) == ("other", "default:budget 3 of 3")
    assert Answering.asked == {"a": 1, "b": 1, "c": 1}
    assert [one.reason for one in answer["ballot"]] == ["budget"] * 3


async def test_a_member_that_has_answered_answers_alone_also_where_the_budget_is_spent(runtime: Runtime) -> None:
    """That costs nothing any more."""
    actor = await serve(runtime, desk("AAB", ladder=["single:c"]))
    away("a", "b", error=lm15.BillingError("no money"))
    answer = await ask(actor)
    assert (answer["label"], answer["degraded"]) == ("B", "single:budget 2 of 3")
    assert Answering.asked["c"] == 1


async def test_the_best_is_who_counts_most_among_those_that_have_answered(runtime: Runtime) -> None:
    """Whoever is away is not waited for; and nobody who abstains is the best."""
    rule = WeightedVote({"b": 5.0, "c": 3.0, "d": 3.0})
    actor = await serve(runtime, desk("ABCD", rule=rule, min_answers=1.0), ladder=["single"])
    away("b")
    assert (await ask(actor))["said_by"] == "c"


async def test_who_is_not_asked_and_who_abstains_is_not_the_best(runtime: Runtime) -> None:
    """An empty text is no answer."""
    rule = WeightedVote({"a": 5.0})
    actor = await serve(
        runtime, desk(" AB", rule=rule, min_answers=1.0), ladder=["single:a", {"rung": "single", "name": "best"}]
    )
    away("c")
    answer = await ask(actor)
    assert (answer["said_by"], answer["degraded"]) == ("b", "best:lost 1 of 3")


async def test_the_next_rung_answers_if_a_member_fails_alone(runtime: Runtime) -> None:
    """Its own failure, and that it is away, are no answer; and calls begin lower then."""
    ladder = ["single:a", {"rung": "default", "outputs": {"label": "other"}}]
    actor = await serve(runtime, desk("AAA", ladder=ladder, min_answers=1.0))
    away("a", "b")
    assert (await ask(actor))["degraded"] == "default:lost 2 of 3"
    forget()
    for _ in range(5):
        assert (await ask(actor))["degraded"] == "default:lost 2 of 3"
    assert Answering.asked.total() == 0
    away("b")
    assert (await ask(actor))["degraded"] == "single:lost 1 of 3"
    Answering.raises["a"] = ValueError("its own")
    assert (await ask(actor))["degraded"] == "default:lost 1 of 3"


async def test_what_fails_by_itself_is_told_and_no_reason_for_less(runtime: Runtime) -> None:
    """A default would hide it."""
    ladder = [{"rung": "default", "outputs": {"label": "other"}}]
    actor = await serve(runtime, desk("AAA", ladder=ladder))
    away("a", "b", error=ValueError("its own"))
    with pytest.raises(NoAnswer):
        await ask(actor)
    away("a", "b", error=dspy.LMAuthError("no key"))
    with pytest.raises(dspy.LMAuthError):
        await ask(actor)


async def test_at_its_end_a_call_is_refused_with_a_word_when_to_try_again(runtime: Runtime) -> None:
    """And the next one asks the team: nobody is refused for what was."""
    told: list[Any] = []
    runtime.subscribe(told.append, TeamDegraded)
    actor = await serve(runtime, desk("AAA"), ladder=["cached:60", "refuse:30"])
    away("a", "b")
    with pytest.raises(Unavailable, match="lost 2 of 3") as caught:
        await ask(actor)
    assert caught.value.retry_after == 30
    assert [(event.team, event.rung, event.why) for event in told] == [("desk", "refuse", "lost 2 of 3")]
    away()
    assert (await ask(actor))["degraded"] is None


async def test_where_calls_begin_at_what_cannot_be_had_the_team_is_asked(runtime: Runtime) -> None:
    """There is no kept answer to this question, and so nothing to begin with."""
    actor = await serve(runtime, desk("AAA"), ladder=["cached:60"])
    await ask(actor)
    away("a", "b")
    assert (await ask(actor))["degraded"] == "cached:lost 2 of 3"
    away()
    assert (await ask(actor, "another"))["degraded"] is None


async def test_members_are_late_before_the_caller_has_gone(runtime: Runtime) -> None:
    """A tenth of the time that the caller waits, or that a call may take, is left for the ladder."""
    actor = await serve(runtime, desk("AAA"), ladder=["single:a"], timeout=20.0)
    Answering.seconds.update(b=50.0, c=50.0)
    began = runtime.clock.time()
    assert (await ask(actor, timeout=1.0))["degraded"] == "single:deadline 2 of 3"
    assert runtime.clock.time() - began == pytest.approx(0.9)
    for _ in range(5):
        await ask(actor)
    began = runtime.clock.time()
    assert (await ask(actor))["degraded"] == "single:deadline 2 of 3"
    assert runtime.clock.time() - began == pytest.approx(18.0)


async def test_a_member_of_which_is_known_that_it_takes_too_long_is_not_asked_alone(runtime: Runtime) -> None:
    """Its last calls say so, once there are twenty."""
    ladder = ["single:b", {"rung": "default", "outputs": {"label": "other"}}]
    actor = await serve(runtime, desk("AAA", min_answers=1.0), ladder=ladder)
    Answering.seconds.update(b=0.5)
    for number in range(20):
        assert (await ask(actor, str(number)))["degraded"] is None
    away("a")
    Answering.seconds.update(a=0.7, b=50.0)
    asked = Answering.asked["b"]
    assert (await ask(actor, timeout=1.0))["degraded"] == "default:lost 1 of 3"
    assert Answering.asked["b"] == asked + 1


async def test_rungs_and_coverages_are_counted(runtime: Runtime) -> None:
    """All calls that are answered are in the histogram, and all in the counter."""
    told: list[Any] = []
    runtime.subscribe(told.append, TeamAnswered)
    actor = await serve(runtime, desk("AAA"), ladder=["quorum", "refuse"])
    await ask(actor)
    away("a")
    await ask(actor)
    away("a", "b")
    with pytest.raises(Unavailable):
        await ask(actor)
    counts = TeamCounts.of(runtime)
    assert counts.rungs == {("desk", "full"): 1, ("desk", "quorum"): 1, ("desk", "refuse"): 1}
    assert counts.coverage == {("desk", 1.0): 1, ("desk", 0.75): 1}
    assert [event.degraded for event in told] == [None, "quorum:lost 1 of 3"]
    shown = {(sample.name, *(value for _, value in sample.labels)): sample.value for sample in collect_samples(runtime)}
    assert shown["team_rungs", "desk", "refuse"] == 1
    assert shown["team_coverage", "desk", "0.75"] == 1
    assert shown["team_members", "desk", "a", "lost"] == 2


async def test_without_a_ladder_a_quorum_answers_or_nobody(runtime: Runtime) -> None:
    """As of any team; it is counted all the same."""
    actor = await serve(runtime, desk("AAA"))
    away("a")
    assert (await ask(actor))["degraded"] == "quorum:lost 1 of 3"
    away("a", "b")
    with pytest.raises(Unavailable):
        await ask(actor)
    assert TeamCounts.of(runtime).rungs == {("desk", "quorum"): 1, ("desk", "refuse"): 1}


def test_a_tree_file_writes_a_ladder_in_words_and_tables() -> None:
    """And what it writes is the same as what code does."""
    table = {"rungs": ["quorum", {"rung": "single", "member": "a", "p95": 0.5}, "refuse:7"], "recover_after": 2}
    found = TeamLadder.of(table)
    assert found.rungs == (TeamRung.quorum(), TeamRung.single("a", p95=0.5), TeamRung.refuse(7.0))
    assert (found.recover_after, found.retry_after) == (2, 7.0)
    assert TeamLadder.of(found) is found
    assert TeamLadder.of(["cached:5"]).rungs == (TeamRung.cached(5.0),)
    assert TeamLadder.of(["single"]).retry_after == 1.0


@pytest.mark.parametrize(
    ("ladder", "what"),
    [
        ([], "at least one"),
        ("quorum", "give a list"),
        ({"rungs": ["quorum"], "more": 1}, "give a list"),
        (["single", "quorum"], "write it first"),
        (["refuse", "single"], "write it last"),
        (["single", "single:a"], "a name of its own"),
        ([{"rung": "single", "name": "full"}], "a name of its own"),
        (["whatever"], "write one of"),
        ([5], "write one of"),
        (["quorum:5"], "write one of"),
        ([{"rung": "other"}], "write one of"),
        ([{"rung": ["single"]}], "write one of"),
        ([{"rung": "single", "kind": "single"}], "write one of"),
        (["cached:soon"], "seconds behind the colon"),
        (["cached"], "how many seconds old"),
        (["cached:nan"], "above 0"),
        (["cached:-1"], "above 0"),
        (["refuse:inf"], "above 0"),
        ([{"rung": "single", "p95": 10**400}], "above 0"),
        ([{"rung": "default", "outputs": 5}], "give the fields"),
        (["single:z"], "choose among a, b, c"),
        ([{"rung": "single", "member": ""}], "not empty"),
        ([{"rung": "default", "outputs": {"topic": "A"}}], "say what label is"),
        ({"rungs": ["quorum"], "recover_after": 0}, "whole number"),
    ],
)
async def test_a_ladder_that_makes_no_sense_is_refused_before_anything_starts(
    runtime: Runtime, ladder: Any, what: str
) -> None:
    """By name, and with what would."""
    with pytest.raises((BadTeam, BadOption), match=what):
        TeamActor(desk("AAA"), ladder=ladder)
    with pytest.raises((BadTeam, BadOption), match=what):
        desk("AAA", ladder=ladder)
    with pytest.raises((BadTeam, BadOption), match="rungs"):
        TeamLadder("quorum")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ('ladder = ["single:nobody"]', "choose among classify, route, about"),
        ("deadline = -1.0", "above 0"),
        ('patience = "long"', "patience"),
        ("retries = -1", "retries"),
    ],
)
def test_a_tree_file_with_wrong_options_of_a_team_is_refused_before_it_is_started(
    tmp_path: Path, option: str, what: str
) -> None:
    """By ``python -m foundation.run --check``, too."""
    file = tmp_path / "tree.toml"
    child = 'id = "desk"\nstart = "dspex.teams:TeamActor"\nargs = ["examples.triage_team:DESK"]'
    file.write_text(f"[[children]]\n{child}\nkwargs = {{ {option} }}\n")
    with pytest.raises(TreeError, match=what):
        load_tree(file)


def test_a_field_that_is_not_named_is_checked_once_it_is_known() -> None:
    """It is the last output of the first member."""
    ladder = [{"rung": "default", "outputs": {"topic": "A"}}]
    made = Team("desk", desk("A").members, ladder=ladder)  # type: ignore[arg-type]
    assert made.ladder is not None
    with pytest.raises(BadTeam, match="say what label is"):
        made.ladder.check(["a"], "label")


def test_reasons_are_told_from_errors_and_their_causes() -> None:
    """The budget before the rest, as it is the one that no retry may override."""
    assert loss_reason(CircuitOpen("cloud", 3.0)) == "breaker"
    assert loss_reason(Busy("full")) == "overload"
    assert loss_reason(lm15.RateLimitError("slow down")) == "overload"
    assert loss_reason(lm15.TransportError("gone")) is None
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert loss_reason(first) is None
    ballot = [
        MemberAnswer("a", "lost"),
        MemberAnswer("b", "late"),
        MemberAnswer("c", "lost", reason="budget"),
        MemberAnswer("d", "unasked"),
    ]
    assert str(degradation_reason(ballot)) == "budget 1 of 3"
    assert str(degradation_reason(ballot[:2])) == "lost 1 of 2"
    assert degradation_reason(ballot[3:]) is None


def test_answers_are_kept_by_their_inputs_and_no_more_of_them_than_may_be() -> None:
    """What cannot be written down, or copied, is not kept."""

    class Stubborn:
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("no copy")

    kept = RecentAnswers(2)
    for number in range(3):
        kept.add({"n": number}, number, float(number))
    assert kept.find({"n": 0}) is None
    found = kept.find({"n": 2})
    assert found is not None
    assert (found.prediction, found.at) == (2, 2.0)
    loop: list[Any] = []
    loop.append(loop)
    unwritten: tuple[Any, ...] = ({"n": object()}, {"n": loop}, {1: "a", "b": 2})
    for inputs in unwritten:
        kept.add(inputs, "answer", 0.0)
        assert kept.find(inputs) is None
    kept.add({"n": 5}, Stubborn(), 0.0)
    assert kept.find({"n": 5}) is None
    kept.add({"n": float("nan")}, "nan", 0.0)
    assert kept.find({"n": None}) is None
    assert kept.find({"n": float("nan")}) is not None
    kept.add({"image": dspy.Image(url="https://a/b.png")}, "image", 0.0)
    assert kept.find({"image": dspy.Image(url="https://a/b.png")}) is not None
    assert kept.find({"image": dspy.Image(url="https://a/c.png")}) is None
