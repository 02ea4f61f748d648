"""The states of a rollout: where it goes from what was counted. Pure, and decided again from the journal alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dspex.serving.rollout.counts import LONGEST_STREAK, LOOK, ArmCounts, Mark, SloCounts, StepCounts, UnitTally
from dspex.serving.rollout.machine import (
    RolloutRecord,
    counts_after,
    decided,
    first_move,
    judgements,
    move_entry,
    moved,
    next_move,
    recompute,
)
from dspex.serving.rollout.view import rollout_state
from foundation.rollouts import BadRollout, Rollout, RolloutConflict, Slo

NOW = 1_000.0


def record(phase: Any = "canary", step: int = 0, cause: str = "step", **settings: Any) -> RolloutRecord:
    """A rollout that is somewhere."""
    rollout = Rollout(**{"version": 3, "steps": (0.1,), **settings})
    return RolloutRecord("0123456789abcdef", "shop", rollout, 2, NOW, phase, step, 5, "why", cause, "rule", NOW)


def step(
    bad: tuple[int, int] = (0, 0), units: tuple[int, int] = (0, 0), share: float = 0.1, *, phase: Any = "canary"
) -> StepCounts:
    """What was counted of one objective."""
    each = SloCounts(ArmCounts(*units), ArmCounts(*bad))
    return StepCounts(phase, 0, share, ArmCounts(*units), [each], ArmCounts(*units), 0, ArmCounts())


def goes(found: RolloutRecord, *counts: StepCounts, now: float = NOW) -> tuple[str, int, str] | None:
    """Where a rollout goes, to which step, and why in a word."""
    move = next_move(found, counts, now)
    return None if move is None else (move.target, move.step, move.cause)


# -- canary -----------------------------------------------------------------------------------------------------------


def test_E036_five_bad_ones_of_the_new_version_alone_roll_it_back_and_four_do_not() -> None:
    assert goes(record(), step((4, 0), (4, 36))) is None
    move = next_move(record(), [step((5, 0), (5, 45))], NOW)
    assert move is not None
    assert (move.target, move.cause) == ("rolled_back", "errors")
    assert "5 bad of 5 beside 0 of 45, LLR 2.989185 (rejected at 2.944439" in move.why


def test_E037_the_last_step_accepts_but_waits_for_its_units() -> None:
    assert goes(record(), step((0, 31), (199, 1_791))) is None
    assert goes(record(), step((0, 31), (200, 1_799))) == ("promoted", 0, "accepted")


def test_E037_the_first_step_moves_on_with_its_fiftieth_unit() -> None:
    two = record(steps=(0.05, 0.5))
    assert goes(two, step(units=(49, 950), share=0.05)) is None
    assert goes(two, step(units=(50, 951), share=0.05)) == ("canary", 1, "step")


def test_E043_steps_of_different_shares_are_not_pooled() -> None:
    two = record(step=1, steps=(0.01, 0.5))
    counts = [step((2, 198), (400, 39_600), 0.01), step((400, 400), (800, 800), 0.5)]
    assert round(judgements(two.rollout, counts)[0].llr, 6) == -47.716986
    assert goes(two, *counts) == ("promoted", 1, "accepted")


def test_what_accepts_once_upon_a_time_has_to_do_so_at_the_end() -> None:
    two = record(step=1, steps=(0.1, 0.5))
    assert goes(two, step((0, 31), (300, 2_700)), step((0, 0), (10, 9), 0.5)) == ("promoted", 1, "accepted")
    assert goes(two, step((0, 31), (300, 2_700)), step((3, 0), (10, 9), 0.5)) is None


def test_without_a_decision_the_bound_decides_at_the_end() -> None:
    """Surely within it: promoted. Perhaps not: undecided, and the old version serves."""
    assert goes(record(max_units=300), step((0, 0), (300, 2_701))) == ("promoted", 0, "bound")
    assert goes(record(max_units=300), step((3, 20), (300, 2_701))) == ("inconclusive", 0, "max_units")
    scored = record(max_units=300, slos=(Slo("score", 0.1, over=0.5, metric="m"),))
    nothing = step(units=(300, 2_701))
    nothing.slos[0] = SloCounts(ArmCounts(), ArmCounts())
    assert goes(scored, nothing) == ("inconclusive", 0, "max_units")


def test_E044_after_its_time_it_is_undecided() -> None:
    assert goes(record(max_seconds=60), step(), now=NOW + 59) is None
    assert goes(record(max_seconds=60), step(), now=NOW + 60) == ("inconclusive", 0, "max_seconds")
    assert goes(record("shadow", max_seconds=60), step(phase="shadow"), now=NOW + 60) is not None


def test_an_objective_that_rejects_needs_no_other_and_all_share_the_error_rate() -> None:
    """Five bad ones are not enough for one of three; seven are, whatever the others say."""
    slos = (Slo("errors", 0.02), Slo("latency", 0.05, over=1.0), Slo("first_try", 0.1))
    three = record(slos=slos)

    def counted(bad: int) -> StepCounts:
        found = step((0, 40), (50, 450))
        found.slos = [SloCounts(ArmCounts(50, 450), ArmCounts(*each)) for each in ((0, 40), (bad, 0), (0, 40))]
        return found

    assert goes(three, counted(6)) is None
    assert goes(three, counted(7)) == ("rolled_back", 0, "latency")


def test_a_split_that_is_not_as_ordered_holds_it_until_a_person_has_looked() -> None:
    """130 of 1,000 at a share of .1 has p .0016, and goes on; 150 has not; 149 of 999 is no time to look."""
    assert goes(record(), step(units=(130, 870))) is None
    assert goes(record(), step(units=(149, 850))) is None
    assert goes(record(), step(units=(150, 850))) == ("held", 0, "split")
    assert goes(record(), step(units=(50, 0))) is None
    held = record("held", cause="split")
    assert goes(held, step(units=(150, 850))) is None
    back = move_entry(held, decided(held, "canary", ""), [step(units=(150, 850))], NOW, "ada")
    assert counts_after(held.rollout, back) == [StepCounts.empty("canary", 0, 0.1, 1)]


@pytest.mark.parametrize("arm", ["canary", "baseline"])
def test_an_outage_holds_it_and_its_end_lets_it_go_on(arm: Any) -> None:
    """However long it is, and of one version or both: it is no bad event of anybody."""
    counts = step(units=(5, 45))
    for _ in range(LONGEST_STREAK - 1):
        counts.note_outcome(arm, answered=False)
    assert goes(record(), counts) is None
    for _ in range(1_000):
        counts.note_outcome(arm, answered=False)
    assert goes(record(), counts) == ("held", 0, "outage")
    held = record("held", cause="outage")
    for other in ("canary", "baseline"):
        for _ in range(LONGEST_STREAK - 1):
            counts.note_outcome(other, answered=True)  # type: ignore[arg-type]
    assert goes(held, counts) is None
    counts.note_outcome(arm, answered=True)
    assert goes(held, counts) == ("canary", 0, "recovered")
    assert counts.slos[0].bad == ArmCounts()


def test_what_a_cause_holds_has_an_end_and_what_a_person_holds_has_none() -> None:
    assert goes(record("held", cause="outage", max_seconds=60), step(), now=NOW + 60) is not None
    assert goes(record("held", cause="person", max_seconds=60), step(), now=NOW + 10**9) is None


# -- shadow, watch, ends ----------------------------------------------------------------------------------------------


def paired(new: int = 0, old: int = 0, both: int = 0, pairs: int = 100) -> StepCounts:
    """Pairs of calls in the shadow."""
    found = step((new, old), (pairs, pairs), phase="shadow")
    found.slos[0].both = both
    return found


def test_E054_in_the_shadow_only_pairs_that_differ_count() -> None:
    shadow = record("shadow", shadow=0.5)
    assert goes(shadow, paired(10, 0, both=30)) is None
    assert goes(shadow, paired(11, 0)) == ("rolled_back", 0, "errors")
    assert goes(shadow, paired(0, 8, pairs=49)) is None
    assert goes(shadow, paired(0, 8, pairs=50)) == ("canary", 0, "accepted")
    assert goes(shadow, paired(pairs=500)) == ("canary", 0, "bound")
    assert goes(shadow, paired(5, 5, both=20, pairs=500)) == ("inconclusive", 0, "max_pairs")


def test_the_shadow_does_not_wait_for_what_people_say() -> None:
    assert goes(record("shadow", slos=(Slo("feedback", 0.1),)), paired(pairs=50)) == ("canary", 0, "accepted")
    both = record("shadow", slos=(Slo("feedback", 0.1), Slo("errors", 0.02)))
    counts = paired(pairs=500)
    counts.slos = [SloCounts(ArmCounts(), ArmCounts()), SloCounts(ArmCounts(500, 500), ArmCounts())]
    assert goes(both, counts) == ("canary", 0, "bound")


def test_what_is_promoted_is_watched_against_its_bound_for_a_while() -> None:
    promoted = record("promoted", watch_seconds=60)
    watched = step((1, 0), (100, 0), 1.0, phase="promoted")
    assert goes(promoted, step((0, 31), (200, 1_800)), watched) is None
    assert goes(promoted, step((9, 0), (100, 0), 1.0, phase="promoted")) == ("rolled_back", 0, "errors")
    over = next_move(promoted, [watched], NOW + 60)
    assert over is not None
    assert (over.target, over.cause) == ("promoted", "watched")
    ended = moved(promoted, move_entry(promoted, over, [watched], NOW + 60))
    assert not ended.open
    assert next_move(ended, [step((99, 0), (100, 0), 1.0, phase="promoted")], NOW) is None


def test_the_word_of_people_is_void_if_those_of_one_version_speak_more_often() -> None:
    said = record(slos=(Slo("feedback", 0.1),))
    counts = step((30, 5), (40, 30))
    counts.units = ArmCounts(100, 900)
    assert [one.verdict for one in judgements(said.rollout, [counts])] == ["void"]
    assert goes(said, counts) is None
    alike = step((9, 1), (10, 90))
    alike.units = ArmCounts(100, 900)
    assert goes(said, alike) == ("rolled_back", 0, "feedback")
    few = step((5, 0), (5, 0))
    few.units = ArmCounts(100, 900)
    assert goes(said, few) == ("rolled_back", 0, "feedback")


def scoring(
    unscored: tuple[int, int], units: tuple[int, int] = (0, 0), unanswered: tuple[int, int] = (0, 0), **options: Any
) -> StepCounts:
    """What was counted of an objective that scores, of 100 units of the new version and 900 of the old one."""
    counts = step((0, 0), units, **options)
    counts.units = ArmCounts(100, 900)
    counts.slos[0].unscored, counts.slos[0].unanswered = ArmCounts(*unscored), ArmCounts(*unanswered)
    counts.slos[0].why = "metric: ValueError: no idea"
    return counts


SCORED = record(slos=(Slo("score", 0.1, over=0.5, metric="polite"),))
UNDECIDED = ("inconclusive", 0, "unscored")


@pytest.mark.parametrize("unscored", [(20, 0), (0, 20)])
def test_a_metric_that_has_scored_no_answer_of_a_version_decides_nothing(unscored: tuple[int, int]) -> None:
    """After 20, in the shadow too. Those that have one score go on, and so do calls without an answer."""
    for phase in ("canary", "shadow"):
        found = msgspec.structs.replace(SCORED, phase=phase)
        assert goes(found, scoring(unscored, phase=phase)) == UNDECIDED
        one_less = scoring((unscored[0] * 19 // 20, unscored[1] * 19 // 20), phase=phase)
        assert goes(found, one_less) is None
    scored = (1, 0) if unscored[0] else (0, 1)
    shadow = msgspec.structs.replace(SCORED, phase="shadow")
    assert goes(shadow, scoring(unscored, scored, phase="shadow")) is None
    assert goes(shadow, scoring((0, 0), (0, 0), unscored, phase="shadow")) is None
    move = next_move(SCORED, [scoring(unscored)], NOW)
    assert move is not None
    number = 3 if unscored[0] else 2
    why = f"undecided: score:polite has no score for any of 20 units of version {number}; the first: metric: ValueError"
    assert move.why.startswith(why)


def test_answers_without_a_score_have_to_be_split_as_all_units_are() -> None:
    """Those of a version that answers nobody would look as if none were bad. It is looked at after each 20."""
    assert goes(SCORED, scoring((9, 0), (50, 500), (6, 5))) == UNDECIDED
    assert goes(SCORED, scoring((9, 0), (50, 500), (6, 6))) is None
    assert goes(SCORED, scoring((1, 10), (50, 500), (1, 8))) is None
    assert goes(SCORED, scoring((0, 0), (50, 500))) is None
    alone = scoring((20, 0), (50, 0))
    alone.units = ArmCounts(70, 0)
    assert goes(SCORED, alone) is None
    quiet = scoring((15, 5), (50, 500))
    quiet.slos[0].why = ""
    move = next_move(SCORED, [quiet], NOW)
    assert move is not None
    assert "has no score for 20 units, 15 of them of version 3, which has 10.0% of all units (p " in move.why
    assert "; the first: " not in move.why
    assert goes(record(slos=(Slo("feedback", 0.1),)), scoring((20, 0))) is None


@pytest.mark.parametrize("phase", ["candidate", "rolled_back", "inconclusive", "aborted", "superseded"])
def test_what_has_ended_moves_no_more(phase: Any) -> None:
    ended = record(phase)
    assert goes(ended, step((99, 0), (100, 0)), now=NOW + 10**9) is None
    for to in ("canary", "held", "promoted", "rolled_back", "aborted"):
        with pytest.raises(RolloutConflict, match="cannot be"):
            decided(ended, to, "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("phase", "to", "target"),
    [
        ("shadow", "canary", "canary"),
        ("shadow", "aborted", "aborted"),
        ("canary", "held", "held"),
        ("canary", "promoted", "promoted"),
        ("held", "canary", "canary"),
        ("held", "aborted", "aborted"),
        ("promoted", "rolled_back", "rolled_back"),
        ("promoted", "aborted", "rolled_back"),
    ],
)
def test_people_may_decide(phase: Any, to: Any, target: str) -> None:
    assert decided(record(phase), to, "I say so")[:3] == (target, 0, "I say so")
    with pytest.raises(RolloutConflict, match="it can be"):
        decided(record(phase), "held" if phase != "canary" else "canary", "")


# -- counting ---------------------------------------------------------------------------------------------------------

GOOD, BAD, NONE = Mark.GOOD, Mark.BAD, Mark.NONE


def test_E042_a_key_counts_once_however_often_it_fails() -> None:
    tally = UnitTally(StepCounts.empty("canary", 0, 0.1, 1))
    assert tally.note("canary", 7, [GOOD])
    assert tally.note("canary", 7, [BAD])
    assert not any(tally.note("canary", 7, [BAD]) for _ in range(500))
    tally.note("canary", None, [BAD])
    tally.note("canary", None, [BAD])
    assert (tally.counts.units, tally.counts.slos[0].bad) == (ArmCounts(3, 0), ArmCounts(3, 0))


def test_what_is_said_later_is_of_the_same_unit() -> None:
    tally = UnitTally(StepCounts.empty("canary", 0, 0.1, 2))
    tally.note("baseline", 7, [GOOD, NONE])
    assert tally.counts.slos[1].units == ArmCounts()
    tally.note("baseline", 7, [NONE, BAD], new=False)
    tally.note("baseline", None, [NONE, GOOD], new=False)
    assert (tally.counts.units, tally.counts.slos[1].units) == (ArmCounts(0, 1), ArmCounts(0, 2))
    assert tally.counts.slos[1].bad == ArmCounts(0, 1)


def test_units_of_the_old_version_are_looked_at_now_and_then() -> None:
    tally = UnitTally(StepCounts.empty("canary", 0, 0.1, 1))
    found = [tally.note("baseline", None, [GOOD]) for _ in range(2 * LOOK)]
    assert [index + 1 for index, due in enumerate(found) if due] == [LOOK, 2 * LOOK]


def test_of_a_pair_both_have_to_say_something() -> None:
    counts = StepCounts.empty("shadow", 0, 0.5, 1)
    for pair in ((BAD, GOOD), (GOOD, BAD), (BAD, BAD), (GOOD, GOOD), (NONE, BAD), (BAD, NONE)):
        counts.note_pair([pair[0]], [pair[1]])
    assert (counts.units.canary, counts.slos[0]) == (6, SloCounts(ArmCounts(4, 4), ArmCounts(1, 1), 1))


def test_a_unit_without_a_score_counts_once_and_may_have_one_later() -> None:
    tally = UnitTally(StepCounts.empty("canary", 0, 0.1, 2))
    assert tally.note("canary", 7, [GOOD, Mark.UNSCORED])
    assert not tally.note("canary", 7, [GOOD, Mark.UNSCORED])
    assert tally.note("canary", 7, [GOOD, Mark.UNANSWERED])
    tally.note("canary", 7, [NONE, BAD], new=False)
    seen = tally.counts.slos[1]
    assert (seen.unscored, seen.unanswered, seen.units, seen.bad) == (ArmCounts(1, 0),) * 4
    assert tally.counts.slos[0] == SloCounts(ArmCounts(1, 0), ArmCounts())


def test_a_pair_without_both_scores_is_none() -> None:
    counts = StepCounts.empty("shadow", 0, 0.5, 1)
    counts.note_pair([Mark.UNSCORED], [BAD])
    counts.note_pair([GOOD], [Mark.UNSCORED])
    counts.note_pair([Mark.UNANSWERED], [GOOD])
    seen = counts.slos[0]
    assert (seen.units, seen.unscored, seen.unanswered) == (ArmCounts(), ArmCounts(1, 1), ArmCounts(1, 0))


# -- the journal alone ------------------------------------------------------------------------------------------------


def course(*parts: tuple[StepCounts, float]) -> tuple[RolloutRecord, list[Any]]:
    """The course of a rollout, as it is moved by the rule alone from what is counted."""
    start = RolloutRecord("0123456789abcdef", "shop", Rollout(3, 0.5, (0.05, 0.5), watch_seconds=60.0), 2, NOW)
    now = NOW
    moves = [move_entry(start, first_move(start), [], now)]
    found, counts = moved(start, moves[0]), counts_after(start.rollout, moves[0])
    for counted, at in parts:
        counts[-1] = msgspec.structs.replace(counted, phase=counts[-1].phase, step=found.step, share=counts[-1].share)
        move = next_move(found, counts, at)
        assert move is not None
        moves.append(move_entry(found, move, counts, at))
        found, counts = moved(found, moves[-1]), counts_after(found.rollout, moves[-1])
    return start, moves


def test_every_decision_can_be_made_again_from_the_journal_alone() -> None:
    start, moves = course(
        (paired(0, 8), NOW),
        (step(units=(50, 950)), NOW + 1),
        (step((0, 20), (200, 200)), NOW + 2),
        (step(units=(70, 0)), NOW + 99),
    )
    assert [move.target for move in moves] == ["shadow", "canary", "canary", "promoted", "promoted"]
    kept = msgspec.json.decode(msgspec.json.encode(moves), type=list[type(moves[0])])
    assert recompute(start, kept) == []
    person = msgspec.structs.replace(kept[3], who="ada", target="promoted", counts=[])
    assert recompute(start, [*kept[:3], person]) == []


@pytest.mark.parametrize(
    "change", [{"target": "rolled_back"}, {"step": 0}, {"cause": "bound"}, {"seq": 9}, {"at": 0.0}]
)
def test_a_journal_that_was_changed_is_seen(change: dict[str, Any]) -> None:
    start, moves = course((paired(0, 8), NOW), (step(units=(50, 950)), NOW + 1), (step(units=(5, 5)), NOW + 10**6))
    changed = msgspec.structs.replace(moves[-1], **change)
    assert recompute(start, [*moves[:-1], changed]) != []


def test_a_state_has_no_number_without_how_many_and_how_sure() -> None:
    shown = rollout_state(record(), [step((5, 50), (100, 900))])
    errors = shown.slos[0]
    assert (errors.canary.bad, errors.canary.units, errors.canary.share) == (5, 100, 0.05)
    assert errors.canary.low is not None
    assert errors.canary.low < 0.05 < (errors.canary.high or 0)
    assert (shown.units, shown.keyless, shown.share) == ({"canary": 100, "baseline": 900}, 0.0, 0.1)


# -- what makes no sense ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"version": -1}, "version"),
        ({"shadow": 1.5}, "shadow = 1.5"),
        ({"shadow": float("nan")}, "shadow"),
        ({"steps": ()}, "steps"),
        ({"steps": (0.5, 0.1)}, "each above the one before"),
        ({"steps": (0.1, 0.1)}, "each above the one before"),
        ({"steps": (0.0,)}, "steps = 0.0"),
        ({"steps": (1.0,)}, "steps = 1.0"),
        ({"steps": (float("inf"),)}, "steps = inf"),
        ({"slos": ()}, "slos"),
        ({"slos": (Slo("errors", 0.1), Slo("errors", 0.2))}, "each once"),
        ({"alpha": 0.5}, "alpha"),
        ({"beta": 0.0}, "beta"),
        ({"step_units": 0}, "step_units"),
        ({"min_units": 10**400}, "min_units"),
        ({"max_units": 10}, "at least min_units"),
        ({"steps": (0.1, 0.2), "step_units": 3_000}, "the steps before the last take 3000"),
        ({"max_pairs": 10}, "at least min_pairs"),
        ({"max_seconds": float("inf")}, "max_seconds"),
        ({"shadow_seconds": -1}, "shadow_seconds"),
        ({"watch_seconds": -1}, "watch_seconds"),
        ({"warm_up": -1}, "warm_up"),
        ({"steps": (1e-9,)}, "give a larger share"),
    ],
)
def test_a_rollout_that_makes_no_sense_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRollout) as caught:
        Rollout(**{"version": 1, **settings})
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"kind": "mood"}, "choose one of errors, latency, score, feedback, first_try"),
        ({"bound": 0.0}, "errors: bound"),
        ({"bound": 1.0}, "errors: bound"),
        ({"ratio": 1.0}, "errors: ratio"),
        ({"over": float("nan")}, "errors: over"),
        ({"kind": "latency", "over": 0.0}, "latency: over"),
        ({"kind": "score"}, "score: give metric"),
        ({"sample": 0.0}, "errors: sample"),
        ({"window": 0.0}, "errors: window"),
    ],
)
def test_an_objective_that_makes_no_sense_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRollout) as caught:
        Slo(**{"kind": "errors", "bound": 0.1, **settings})
    assert named in str(caught.value)
