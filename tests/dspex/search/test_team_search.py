"""Searches of teams: stage by stage, each answer asked for once, and a report that says what that is worth."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

from dspex.search import BadHypotheses, BadMember, Configurations, SearchStageDone, TeamSearchReport
from dspex.search.members import thawed
from dspex.teams import Debate, Member, Team, TeamProgram, WeightedVote
from dspex.teleprompt import BEACON, SIMBA, CandidateScored, EveryExampleFailed, ModelRefused
from dspex.teleprompt.errors import BadTrainset
from dspex.testing.chain import ScriptedChain, step_right
from dspex.testing.engine import exact, scripted_lm
from supervision import Runtime
from supervision.errors import BadOption
from tests.dspex.search.conftest import slow_lm
from tests.dspex.search.teams import (
    EXAMPLES,
    FIELDS,
    LABELS,
    OWN,
    SETTINGS,
    WAYS,
    Voters,
    engine,
    search,
    searched,
    told,
    wordings,
)

pytestmark = pytest.mark.usefixtures("quiet")
BEST = ["draft 3", "plan 3", "label 3"]


def outcome(report: TeamSearchReport) -> Any:
    """What is compared of two searches."""
    return (
        [(one.name, one.score, one.why) for one in report.stages],
        report.blocks,
        report.teams,
        report.chosen,
        report.trials,
        report.notes,
        (report.train, report.student_train, report.test, report.student_test, report.single_test),
    )


# -- blocks ------------------------------------------------------------------------------------------------------------


async def test_the_best_wording_of_each_agent_of_a_chain_comes_back(runtime: Runtime) -> None:
    """The student is as it was, the language model is the caller's, and what is told says the stages."""
    program, model = ScriptedChain(FIELDS), engine()
    heard: list[Any] = []
    runtime.subscribe(heard.append, SearchStageDone, CandidateScored)
    before = wordings(program)
    found, report = await searched(search(runtime, member_metrics=OWN, held_out=0.25), model, program)
    assert wordings(found) == BEST
    assert [wordings(program), found.draft.lm, program.draft.lm] == [before, None, None]
    with dspy.context(lm=scripted_lm(model)):
        assert found(text=EXAMPLES[0].text).label in LABELS.values()
    assert [(one.member, one.winner, one.own_metric) for one in report.blocks] == [
        ("draft", "hypothesis 4", True),
        ("plan", "hypothesis 4", True),
        ("label", "hypothesis 4", False),
    ]
    assert report.train > report.student_train
    assert report.test is not None
    assert report.student_test is not None
    assert report.test > report.student_test
    assert (report.items, report.tested, report.best) == (30, 10, report.train)
    stages = [event for event in heard if isinstance(event, SearchStageDone)]
    assert [(one.stage, one.why) for one in stages] == [
        ("blocks", ""),
        ("members", "there is no team of several that votes"),
        ("whole", "there is no optimiser for it"),
    ]
    assert stages[0].score == report.blocks[-1].score == report.train
    assert model.calls == report.calls + 3
    page = report.markdown()
    assert "luck of the choice" in page
    assert "| draft | hypothesis 4 |" in page


async def test_without_metrics_of_their_own_members_are_judged_by_the_team(runtime: Runtime) -> None:
    """That costs what comes behind a member, and tells less; a second pass has better partners."""
    own, alone, twice = engine(), engine(), engine()
    _, report = await searched(search(runtime, member_metrics=OWN), own)
    _, by_team = await searched(search(runtime), alone)
    _, again = await searched(search(runtime, passes=2), twice)
    assert own.calls < alone.calls < twice.calls
    assert report.train >= again.train >= by_team.train > by_team.student_train
    assert len(again.blocks) == 6
    assert "There is no test score" in report.markdown()


async def test_a_change_of_one_agent_costs_what_comes_behind_it(runtime: Runtime) -> None:
    """At temperature 0: what comes before it is asked the same, and has its answers."""
    for field, behind in (("draft", 3), ("plan", 2), ("label", 1)):
        model = engine()
        one = search(runtime, {field: SETTINGS[field][:1]}, rule={"kind": "halving", "first": 40})
        _, report = await searched(one, model)
        assert model.calls == 40 * 3 + 40 * behind
        assert report.reused == 40 * (3 - behind)
        assert "LM answers reused" in report.markdown() or behind == 3


async def test_at_a_higher_temperature_each_run_has_its_own_answers(runtime: Runtime) -> None:
    model = engine()
    made = search(runtime, {"label": SETTINGS["label"][:1]}, rule={"kind": "halving", "first": 40})
    with dspy.context(lm=scripted_lm(model, temperature=0.7)):
        await made.acompile(ScriptedChain(FIELDS), trainset=EXAMPLES)
    assert made.report is not None
    assert (model.calls, made.report.reused) == (40 * 3 * 2, 0)


async def test_a_member_with_its_own_metric_is_asked_without_those_behind_it(runtime: Runtime) -> None:
    model = engine()
    one = search(
        runtime, {"draft": SETTINGS["draft"]}, member_metrics=step_right, rule={"kind": "halving", "first": 40}
    )
    _, report = await searched(one, model)
    # Six drafts, and then the chain as it was, and as it is.
    assert report.blocks[0].runs == 6 * 40
    assert model.calls == 6 * 40 + 2 * 2 * 40


@pytest.mark.parametrize("width", [1, 16])
async def test_the_team_is_the_same_for_any_width_and_any_delays(runtime: Runtime, width: int) -> None:
    from random import Random

    whole = search(runtime, member_metrics=OWN, passes=2, held_out=0.1)
    _, undisturbed = await searched(whole)
    made = search(runtime, member_metrics=OWN, passes=2, held_out=0.1, num_threads=width, explorers=width)
    with dspy.context(lm=slow_lm(engine(), runtime, Random(width).random)):
        await made.acompile(ScriptedChain(FIELDS), trainset=EXAMPLES)
    assert isinstance(made.report, TeamSearchReport)
    assert outcome(made.report) == outcome(undisturbed)


async def test_a_program_of_one_part_is_a_team_of_one(runtime: Runtime) -> None:
    """By whatever name its part has; settings may be a table of what there is to choose."""
    voters = Voters(0.3)
    choice: dict[str, Any] = {"instructions": {"self": ["Look closely: here. Look closely: there."]}}
    found, report = await searched(search(runtime, {"self": choice}), program=voters.member(0).program)
    assert wordings(found) == ["Look closely: here. Look closely: there."]
    assert found.lm is voters.lms[0]
    assert report.train > report.student_train
    assert found(text=EXAMPLES[0].text).label in LABELS.values()
    one, _ = await searched(search(runtime, {"m0": Configurations(**choice)}), program=voters.team(1).program())
    assert [wordings(one), list(one.members)] == [wordings(found), ["m0"]]


async def test_equal_settings_leave_the_student_as_it_was(runtime: Runtime) -> None:
    model = engine()
    same = [lambda program: None, lambda program: None]
    found, report = await searched(search(runtime, {"draft": same, "plan": same}), model)
    assert found.dump_state() == ScriptedChain(FIELDS).dump_state()
    assert model.calls == 40 * 3
    assert report.train == report.student_train


async def test_a_setting_may_have_a_language_model_of_its_own_which_it_keeps(runtime: Runtime) -> None:
    """Of the same name: what is asked of one is not taken for the other's answer."""
    better = scripted_lm(engine(base=0.99))
    other = dspy.Predict("text -> draft")
    other.lm = better
    settings = {"draft": [other], "plan": SETTINGS["plan"]}
    found, report = await searched(search(runtime, settings, rule={"kind": "halving", "first": 40}))
    assert report.blocks[0].winner == "hypothesis 1"
    assert [found.draft.lm, found.plan.lm] == [better, None]
    assert report.train > report.student_train


async def test_a_compiled_part_is_searched_all_the_same_and_that_is_said(runtime: Runtime) -> None:
    program = ScriptedChain(FIELDS)
    program.plan = dspy.ChainOfThought("draft -> plan")
    program.plan.predict.lm = scripted_lm(engine())
    program.plan._compiled = True
    made, names = thawed(program)
    assert names == ["plan"]
    assert (made.plan.predict.lm, program.plan._compiled) == (program.plan.predict.lm, True)
    found, report = await searched(search(runtime, {"draft": SETTINGS["draft"][:2]}), program=program)
    assert "These parts were compiled, and are changed all the same: plan." in report.markdown()
    assert found.plan.predict.lm is program.plan.predict.lm


# -- members -----------------------------------------------------------------------------------------------------------


async def test_of_a_team_that_votes_members_and_rule_are_chosen_with_no_further_call(runtime: Runtime) -> None:
    voters = Voters(0.6, 0.6, 0.6, 0.05)
    program = voters.team(4).program()
    found, report = await searched(
        search(runtime, None, rules=["majority"], tolerance=0.0, held_out=0.25), program=program
    )
    # Each once about each example; then what was found, the student and the best single one on what nobody has seen.
    assert voters.calls == 4 * 40
    assert isinstance(found, TeamProgram)
    assert report.scored_teams == 15 + 1
    assert report.chosen is not None
    assert report.single is not None
    assert set(found.members) == set(report.chosen.members) < set(program.members)
    assert report.train == report.chosen.score >= report.single[1]
    assert report.majority <= report.chosen.score <= report.oracle
    assert report.single_test is not None
    assert found.team.members[0].role == "voter"
    assert [predictor.lm for predictor in found.predictors()] == [
        program.members[name].lm for name in report.chosen.members
    ]
    assert "oracle: any candidate is right" in report.markdown()
    assert "30 examples tell 16 teams apart badly: give about 40." in report.notes


async def test_settings_that_came_close_and_further_members_are_candidates(runtime: Runtime) -> None:
    voters = Voters(0.5, 0.5, 0.7)
    found, report = await searched(
        search(
            runtime,
            {"m0": WAYS, "m1": WAYS},
            member_metrics=exact,
            candidates=[voters.member(2)],
            survivors=2,
            rule={"kind": "halving", "first": 20},
            tolerance=0.0,
        ),
        program=voters.team(2).program(),
    )
    assert report.recorded is not None
    names = list(report.recorded.scores)
    assert [names[:2], names[-1], len(names)] == [["m0", "m1"], "m2", 5]
    assert names[2].startswith("m0: ")
    assert report.recorded.votes.members == tuple(names)
    assert report.chosen is not None
    assert report.chosen.rule in ("majority", "weighted", "confusion")
    assert found(text=EXAMPLES[0].text).label in LABELS.values()


async def test_the_finalists_of_a_race_become_a_team_without_a_call(runtime: Runtime) -> None:
    """Those that say what a better one says are left out."""
    voters = Voters(0.5)
    ways = [told(f"Way {n}. Look closely: here.") for n in range(5)]
    everything = {"kind": "halving", "first": 40}
    made = search(runtime, {"m0": ways}, rule=everything, survivors=6, agreement=0.8, rules=["majority"])
    found, report = await searched(made, program=voters.team(1).program())
    assert voters.calls == 6 * 40
    assert report.recorded is not None
    assert len(report.recorded.scores) == 6
    assert any(note.startswith("No candidates, as they say what a better one says: ") for note in report.notes)
    assert report.stages[1].calls == 0
    assert report.chosen is not None
    assert set(found.members) == set(report.chosen.members)
    assert report.train == report.chosen.score


async def test_members_that_are_equal_are_asked_once_and_one_of_them_is_enough(runtime: Runtime) -> None:
    voters = Voters(0.7)
    one = voters.member(0)
    program = Team("desk", (one, Member("twin", one.program))).program()
    shared = program.members["m0"].lm
    program.members["twin"].lm = shared
    found, report = await searched(search(runtime, None), program=program)
    assert voters.calls == 40
    assert list(found.members) == ["m0"]
    assert "No candidates, as they say what a better one says: twin." in report.notes
    assert report.train == report.student_train


async def test_the_present_team_is_kept_if_no_other_is_better(runtime: Runtime) -> None:
    """By its own rule, which is none of those that are tried."""
    voters = Voters(0.6, 0.6, 0.6)
    program = voters.team(3).program()
    found, report = await searched(search(runtime, None, rules=["first"], tolerance=0.0), program=program)
    assert report.chosen is not None
    assert (report.chosen.rule, report.chosen.members) == ("its own", ("m0", "m1", "m2"))
    assert found.team == program.team


async def test_a_ladder_that_names_who_has_gone_goes_too(runtime: Runtime) -> None:
    voters = Voters(0.9, 0.05)
    team = voters.team(2, ladder=["single:m1", "refuse"])
    found, report = await searched(search(runtime, None), program=team.program())
    assert list(found.members) == ["m0"]
    assert found.team.ladder is None
    assert "The ladder names a member that is not in the team any more: it has none now." in report.notes


async def test_a_member_that_fails_or_abstains_has_no_vote(runtime: Runtime) -> None:
    class Odd(dspy.Module):  # type: ignore[misc]
        """Fails, abstains, or says what makes no sense."""

        async def aforward(self, text: str) -> Any:
            number = int(text.rsplit(maxsplit=1)[-1])
            if number % 3 == 0:
                raise LookupError("nothing there")
            if number % 3 == 1:
                return dspy.Prediction(label="")
            return dspy.Prediction(label="red", probabilities={"red": -1.0})

    voters = Voters(0.8)
    team = Team("desk", (voters.member(0), Member("odd", Odd())), field="label")
    found, report = await searched(search(runtime, None, rules=["majority", "corrected"]), program=team.program())
    assert report.recorded is not None
    assert report.recorded.votes.members == ("m0",)
    assert list(found.members) == ["m0"]


async def test_of_more_than_twelve_candidates_those_picked_greedily_are_scored(runtime: Runtime) -> None:
    voters = Voters(*[0.6] * 13)
    made = search(runtime, None, max_size=5, rules=["first"], tolerance=0.0)
    found, report = await searched(made, program=voters.team(13).program())
    assert report.scored_teams == 1 + 5 * 2
    assert report.chosen is not None
    assert report.chosen.rule == "picks"
    assert isinstance(found.team.rule, WeightedVote)
    assert set(found.team.rule.weights) == set(found.members) == set(report.chosen.members)
    assert len(found.members) > 1
    assert report.train == report.chosen.score


# -- the whole ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["teleprompt:SIMBA", "teleprompt:BEACON", "search:TeamSIMBA"])
async def test_an_optimiser_goes_on_with_the_team_that_was_found(runtime: Runtime, optimiser: str) -> None:
    """It is told nothing of what is tested on, and its result is taken if it is better."""
    trials = {"num_trials": 3, "max_labeled_demos": 2}
    options = trials if optimiser.endswith("BEACON") else {"bsize": 8, "max_steps": 1}
    whole = {"optimiser": f"dspex.{optimiser}", "num_candidates": 2, **options}
    seen: set[str] = set()

    def metric(example: Any, prediction: Any, trace: Any = None) -> float:
        seen.add(example.text)
        return exact(example, prediction)

    voters = Voters(0.5, 0.5, 0.5)
    made = search(runtime, None, whole=whole, metric=metric, held_out=0.25, rules=["majority"])
    found, report = await searched(made, voters.engines[0], voters.team(3).program())
    assert [one.name for one in report.stages if not one.why] == ["members", "whole"]
    before, after = (one.score for one in report.stages[1:])
    assert before is not None
    assert after is not None
    assert after >= before - 0.15
    assert report.train >= report.student_train or report.chosen is not None
    assert len(seen) == 40
    assert not hasattr(found, "candidate_programs")
    assert isinstance(found, TeamProgram)


async def test_what_the_optimiser_of_the_whole_makes_is_taken_if_it_is_better(runtime: Runtime) -> None:
    voters = Voters(0.3)
    said = {"self": ["Look closely: here. Look closely: there."]}
    whole = BEACON(metric=exact, num_trials=3, max_bootstrapped_demos=0, max_labeled_demos=0, instructions=said)
    found, report = await searched(search(runtime, None, whole=whole), program=voters.member(0).program)
    assert wordings(found) == said["self"]
    assert [(one.name, one.why == "") for one in report.stages] == [
        ("blocks", False),
        ("members", False),
        ("whole", True),
    ]
    assert report.train == report.stages[-1].score
    assert report.train > report.student_train
    assert not hasattr(found, "trial_logs")
    whole = BEACON(metric=exact, num_trials=1, max_bootstrapped_demos=0, max_labeled_demos=0, instructions=said)
    found, report = await searched(search(runtime, None, whole=whole), program=voters.member(0).program)
    assert report.train == report.student_train


async def test_the_student_comes_back_if_what_was_found_is_no_better(runtime: Runtime) -> None:
    """As where a member's own metric asks for something else than the team's."""
    wrong = {"draft": lambda example, prediction: 1.0 - step_right(example, prediction)}
    found, report = await searched(search(runtime, {"draft": SETTINGS["draft"]}, member_metrics=wrong))
    assert report.blocks[0].winner == "hypothesis 1"
    assert wordings(found) == wordings(ScriptedChain(FIELDS))
    assert report.train == report.student_train
    assert "The student is as good on the validation set: it comes back as it was." in report.notes


async def test_a_stage_that_is_not_wanted_is_left_out(runtime: Runtime) -> None:
    voters = Voters(0.6, 0.6)
    made = search(runtime, {"m0": WAYS}, stages=["blocks"], member_metrics=exact)
    _, report = await searched(made, program=voters.team(2).program())
    assert [(one.name, one.why) for one in report.stages] == [
        ("blocks", ""),
        ("members", "left out"),
        ("whole", "left out"),
    ]
    assert report.chosen is None


# -- what makes no sense -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ({"settings": 5}, BadOption, "for each member's name"),
        ({"settings": "tests.nowhere:settings"}, BadOption, "package.module:name"),
        ({"settings": {"draft": 5}}, BadHypotheses, "give programs"),
        ({"member_metrics": {"other": exact}}, BadOption, "there are such of draft, plan, label"),
        ({"member_metrics": {"draft": "exact"}}, BadOption, "package.module:name"),
        ({"member_metrics": {"draft": 5}}, BadOption, "give a function"),
        ({"passes": 0}, BadOption, "passes"),
        ({"passes": 10**400}, BadOption, "passes"),
        ({"passes": float("nan")}, BadOption, "passes"),
        ({"survivors": 0}, BadOption, "survivors"),
        ({"max_size": 0}, BadOption, "max_size"),
        ({"tolerance": -1.0}, BadOption, "tolerance"),
        ({"tolerance": float("nan")}, BadOption, "tolerance"),
        ({"tolerance": 10**400}, BadOption, "tolerance"),
        ({"agreement": 0}, BadOption, "agreement"),
        ({"agreement": float("nan")}, BadOption, "agreement"),
        ({"held_out": 1.0}, BadOption, "held_out"),
        ({"held_out": float("nan")}, BadOption, "held_out"),
        ({"rules": "majority"}, BadOption, "choose among majority"),
        ({"rules": ["loudest"]}, BadOption, "choose among majority"),
        ({"rules": []}, BadOption, "choose among majority"),
        ({"stages": ["topology"]}, BadOption, "choose among blocks, members, whole"),
        ({"candidates": [5]}, BadOption, "give several Member"),
        ({"candidates": 5}, BadOption, "give several Member"),
        ({"whole": 5}, BadOption, "give SIMBA, BEACON, or another"),
        ({"whole": {"bsize": 5}}, BadOption, "name an optimiser"),
        ({"whole": SIMBA(metric=step_right)}, BadOption, "the same metric"),
        ({"rule": "fastest"}, BadOption, "halving, asha, paired"),
        ({"explorers": 0}, BadOption, "explorers"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    runtime: Runtime, options: dict[str, Any], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        search(runtime, **{"settings": SETTINGS, **options})


@pytest.mark.parametrize(
    ("options", "error", "why"),
    [
        ({"settings": {"critic": WAYS}}, BadMember, "choose among draft, plan, label"),
        ({"settings": None}, BadOption, "give settings of members"),
        ({"stages": ["members"]}, BadOption, "give settings of members"),
        ({"whole": SIMBA(metric=exact, bsize=41)}, BadTrainset, "at least 41"),
    ],
)
async def test_what_does_not_fit_the_program_is_refused_before_anything_is_asked(
    runtime: Runtime, options: dict[str, Any], error: type[Exception], why: str
) -> None:
    model = engine()
    with pytest.raises(error, match=why):
        await searched(search(runtime, **{"settings": SETTINGS, **options}), model)
    assert model.calls == 0


async def test_what_does_not_fit_a_team_is_refused_before_anything_is_asked(runtime: Runtime) -> None:
    voters = Voters(0.5, 0.5)
    program = voters.team(2).program()
    with pytest.raises(BadMember, match="choose among m0, m1"):
        await searched(search(runtime, {"m2": WAYS}), program=program)
    with pytest.raises(BadOption, match="a member has this name already"):
        await searched(search(runtime, None, candidates=[voters.member(1)]), program=program)
    bare = [dspy.Example(text=one.text).with_inputs("text") for one in EXAMPLES]
    with pytest.raises(BadOption, match="weighted and confusion need a label, as label, in each example"):
        await searched(search(runtime, None), program=program, examples=bare)
    assert voters.calls == 0
    with pytest.raises(ModelRefused, match="no language model is configured"):
        await search(runtime).acompile(ScriptedChain(FIELDS), trainset=EXAMPLES)


async def test_answers_without_labels_can_be_voted_on(runtime: Runtime) -> None:
    """Where no rule has to learn, and the metric needs none."""
    voters = Voters(0.5, 0.5)
    bare = [dspy.Example(text=one.text).with_inputs("text") for one in EXAMPLES]

    def red(example: Any, prediction: Any) -> float:
        return float(prediction.label == "red")

    made = search(runtime, None, metric=red, rules=["majority", "first"])
    _, report = await searched(made, program=voters.team(2).program(), examples=bare)
    assert report.chosen is not None


async def test_a_team_whose_members_talk_has_blocks_and_no_vote_over_recorded_answers(runtime: Runtime) -> None:
    voters = Voters(0.5, 0.5)
    program = Debate(voters.team(2))
    made = search(runtime, {"members['m0']": WAYS[1:2]}, rule={"kind": "halving", "first": 40})
    _, report = await searched(made, program=program, examples=EXAMPLES[:6])
    assert report.stages[1].why == "there is no team of several that votes"


# -- metrics that fail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [float("nan"), None, "five", 10**400])
async def test_a_metric_that_says_no_score_ends_it_with_what_it_has_said(runtime: Runtime, said: Any) -> None:
    with pytest.raises(EveryExampleFailed, match="is no score"):
        await searched(search(runtime, metric=lambda example, prediction: said))
    with pytest.raises(EveryExampleFailed, match="is no score"):
        await searched(search(runtime, member_metrics={"draft": lambda example, prediction: said}))


async def test_a_metric_that_fails_now_and_then_counts_nothing_there(runtime: Runtime) -> None:
    def metric(example: Any, prediction: Any) -> float:
        number = int(example.text.split()[-1])
        if number % 5 == 0:
            raise LookupError("no such label")
        return float("nan") if number % 5 == 1 else exact(example, prediction)

    _, report = await searched(search(runtime, metric=metric, member_metrics=OWN))
    assert report.failures > 0
    assert report.train <= 0.6


async def test_a_member_that_is_never_asked_is_no_better_by_any_setting(runtime: Runtime) -> None:
    class Skipping(ScriptedChain):
        """Uses its draft for nothing."""

        async def aforward(self, text: str) -> Any:
            found = await self.plan.acall(draft=text)
            return await self.label.acall(plan=found.plan)

    with pytest.raises(EveryExampleFailed, match="draft was not asked"):
        await searched(search(runtime, member_metrics=OWN), program=Skipping(FIELDS))

    class Failing(ScriptedChain):
        """Fails before anybody is asked."""

        async def aforward(self, text: str) -> Any:
            raise LookupError(f"nothing about {text}")

    with pytest.raises(EveryExampleFailed, match="nothing about case"):
        await searched(search(runtime, member_metrics=OWN), program=Failing(FIELDS))


async def test_a_setting_that_always_fails_is_no_better_than_one_that_is_wrong(runtime: Runtime) -> None:
    class Broken(dspy.Module):  # type: ignore[misc]
        """Never answers."""

        async def aforward(self, **_: Any) -> Any:
            raise LookupError("nothing there")

    settings = {"draft": [*SETTINGS["draft"], Broken()]}
    found, report = await searched(search(runtime, settings, member_metrics=OWN["draft"]))
    assert wordings(found)[0] == "draft 3"
    broken = report.blocks[0].hypotheses[-1]
    assert (broken.score, broken.failures) == (0.0, 10)


# -- what is seen ------------------------------------------------------------------------------------------------------


async def test_what_it_does_is_seen_while_it_runs(runtime: Runtime) -> None:
    told_of: list[dict[str, Any]] = []

    def look(number: int) -> None:
        if number % 20 == 0:
            view = next(ref for ref in runtime.actors() if ref.path.endswith("/race"))
            info = runtime.info(view)
            assert info is not None
            told_of.append(dict(info.summary or {}))

    made = search(runtime, member_metrics=OWN)
    await searched(made, engine(before=look))
    assert {one["stage"] for one in told_of} >= {"blocks"}
    assert told_of[0]["step"] == "1 of 4"
    assert {"rule", "best", "reused", "seconds_left"} <= told_of[0].keys()


async def test_a_plain_program_is_searched_in_threads(runtime: Runtime) -> None:
    """One without ``aforward``; also one that takes every error for its own, and a member that fails."""

    class Plain(dspy.Module):  # type: ignore[misc]
        """A chain of two."""

        def __init__(self) -> None:
            super().__init__()
            self.draft, self.label = dspy.Predict("text -> draft"), dspy.Predict("draft -> label")

        def forward(self, text: str) -> Any:
            try:
                draft = self.draft(text=text).draft
            except Exception:
                draft = "none"
            return self.label(draft=draft)

    class Broken(dspy.Module):  # type: ignore[misc]
        """Never answers."""

        def forward(self, **_: Any) -> Any:
            raise LookupError("nothing there")

    settings = {"draft": [*SETTINGS["draft"], Broken()]}
    found, report = await searched(search(runtime, settings, member_metrics=OWN["draft"]), program=Plain())
    assert wordings(found)[0] == "draft 3"
    broken = report.blocks[0].hypotheses[-1]
    assert (broken.score, broken.failures) == (0.0, 10)


@pytest.mark.parametrize("options", [{"islands": 2}, {"max_calls": 100}])
def test_the_whole_is_one_ascent_that_is_paid_by_the_search(runtime: Runtime, options: dict[str, int]) -> None:
    whole = {"optimiser": "dspex.search:TeamSIMBA", **options}
    with pytest.raises(BadOption, match="TeamSIMBA with one island, and without max_calls"):
        search(runtime, None, whole=whole)
