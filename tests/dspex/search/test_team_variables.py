"""A team's members and rule as variables of BEACON: what is searched, what is derived, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import dspy
import msgspec
import pytest

from dspex._compat import chat_messages, lm15
from dspex.optimise.spec import OptimisationSpec
from dspex.search import TeamVariables
from dspex.teams import (
    BadTeam,
    BadWeights,
    MajorityVote,
    Member,
    RecordedVotes,
    SelfConsistency,
    SoftVote,
    Team,
    TeamProgram,
    WeightedVote,
    record,
)
from dspex.teleprompt.beacon import BEACON
from dspex.teleprompt.errors import BadTrainset, EveryExampleFailed, OtherOptimisation
from dspex.testing.engine import ScriptedEngine, exact, scripted_lm, task
from supervision import Runtime
from supervision.errors import BadOption
from tests.dspex.teams.members import Says

pytestmark = pytest.mark.usefixtures("quiet")

EXAMPLES, LABELS = task(36)
TRAIN, VALID = EXAMPLES[:12], EXAMPLES[12:]
#: How good the members are.
BASES = {"weak": 0.2, "fair": 0.6, "good": 0.7, "able": 0.65}


def engines(**options: Any) -> dict[str, ScriptedEngine]:
    """The language model of each member."""
    found = enumerate(BASES.items())
    return {name: ScriptedEngine(LABELS, base=base, seed=n, **options) for n, (name, base) in found}


def team(models: dict[str, ScriptedEngine]) -> Any:
    """Members of one predictor each, with a model of their own."""
    members = []
    for name, engine in models.items():
        program = dspy.Predict("text -> label")
        program.set_lm(scripted_lm(engine))
        members.append(Member(name, program))
    return Team("team", tuple(members)).program()


def beacon(runtime: Runtime, variables: Any, **options: Any) -> BEACON:
    """A small search."""
    known = {"metric": exact, "num_trials": 12, "num_threads": 4, "instructions": {}, "runtime": runtime}
    demos = {"max_bootstrapped_demos": 0, "max_labeled_demos": 0, "parallel": 3, "prune": None}
    return BEACON(team=variables, **{**known, **demos, **options})


async def searched(
    runtime: Runtime, variables: Any, student: Any, trainset: Sequence[Any] = TRAIN, **options: Any
) -> tuple[Any, BEACON]:
    """What comes back."""
    made = beacon(runtime, variables, **options)
    return await made.acompile(student, trainset=list(trainset), valset=VALID), made


def calls(models: dict[str, ScriptedEngine]) -> int:
    """How often the models were asked."""
    return sum(engine.calls for engine in models.values())


def state(program: Any) -> Any:
    """What is compared."""
    return program.team.rule, list(program.members), program.configuration, program.trial_logs


async def test_members_and_rule_are_variables_and_cost_no_calls(runtime: Runtime) -> None:
    """All are asked about all examples once; who of them, and how, is reckoned. The best comes back as a team."""
    models = engines()
    student = team(models)
    found, made = await searched(runtime, TeamVariables(3), student)
    assert calls(models) == len(BASES) * len(EXAMPLES)
    tried = [log["configuration"] for log in found.trial_logs.values()]
    sizes = [sum(one[f"member.{name}"] == "in" for name in BASES) for one in tried]
    assert (tried[0]["rule"], sizes[0]) == ("own", 3)
    assert all(1 <= size <= 3 for size in sizes)
    assert len(set(sizes)) > 1
    assert len({one["rule"] for one in tried}) > 2
    chosen = [name for name in BASES if found.configuration[f"member.{name}"] == "in"]
    assert (list(found.members), [one.name for one in found.team.members]) == (chosen, chosen)
    assert made.report is not None
    assert made.report.best >= found.trial_logs[0]["score"]
    asked = calls(models)
    assert found(text=VALID[0].text).label in {"red", "green", "blue"}
    assert calls(models) <= asked + len(chosen)
    assert (len(student.members), student.team.rule) == (4, MajorityVote())


async def test_weights_are_those_of_the_members_that_were_chosen(runtime: Runtime) -> None:
    """Of the rule that comes back, fitted to all that was asked; of those that judge, to all but a part."""
    sizes: set[int] = set()

    def fit(records: RecordedVotes) -> WeightedVote:
        sizes.add(len(records.truth))
        return WeightedVote.fitted(records)

    found, _ = await searched(runtime, TeamVariables(rules={"mine": fit}, folds=4), team(engines()), num_trials=25)
    # Six of the 24 validation examples are a part.
    assert sizes == {len(EXAMPLES), len(EXAMPLES) - 6}
    assert found.configuration["rule"] == "mine"
    votes = await record(
        Team("all", tuple(Member(name, one) for name, one in team(engines()).members.items())), EXAMPLES
    )
    assert found.team.rule.weights == WeightedVote.fitted(votes.only(found.members)).weights


async def test_a_member_is_asked_anew_only_if_its_own_settings_differ(runtime: Runtime) -> None:
    models = engines()
    said = {"members['good']": ["Look closely: here."]}
    found, _ = await searched(runtime, TeamVariables(), team(models), instructions=said, num_trials=20)
    values = {log["configuration"]["members['good'].instruction"] for log in found.trial_logs.values()}
    assert values == {"own", "1"}
    asked = {name: engine.calls for name, engine in models.items()}
    assert asked == dict.fromkeys(BASES, len(EXAMPLES)) | {"good": 2 * len(EXAMPLES)}


async def test_examples_to_learn_from_that_are_validated_on_are_not_learned_from(runtime: Runtime) -> None:
    """Each is there once, and judges no rule that was fitted to it."""
    sizes: set[int] = set()

    def fit(records: RecordedVotes) -> MajorityVote:
        sizes.add(len(records.truth))
        return MajorityVote()

    variables = TeamVariables(rules={"mine": fit}, folds=12)
    await searched(runtime, variables, team(engines()), EXAMPLES, num_trials=8)
    assert sizes <= {36, 34}
    assert 34 in sizes


async def test_members_that_a_ladder_needs_stay(runtime: Runtime) -> None:
    student = team(engines())
    student.team = msgspec.structs.replace(student.team, ladder=["quorum", "single:fair", "refuse"])
    found, _ = await searched(runtime, TeamVariables(2), student, num_trials=8)
    assert all(log["configuration"]["member.fair"] == "in" for log in found.trial_logs.values())
    assert found.team.ladder == student.team.ladder


# -- one program -------------------------------------------------------------------------------------------------------


class Biased(ScriptedEngine):
    """Finds ``red`` too probable, whatever it is asked, and tells how probable it finds each."""

    def complete(self, request: Any) -> Any:
        """Answer."""
        self.calls += 1
        text = str(chat_messages(request)[-1]["content"])
        right = next(label for said, label in self.labels.items() if f"{said}\n" in text)
        shares = {label: 0.1 + 0.2 * (label == right) + 0.4 * (label == "red") for label in self.choices}
        total = sum(shares.values())
        told = {label: share / total for label, share in shares.items()}
        answer = f"[[ ## label ## ]]\n{max(told, key=told.__getitem__)}\n\n[[ ## completed ## ]]"
        message = lm15.Message.assistant([lm15.TextPart(answer)])
        return lm15.Response("id", request.model, message, "stop", lm15.Usage(), provider_data={"choices": told})


def colour(model: ScriptedEngine) -> Any:
    """A program whose answers can be listed."""
    choices = Literal["red", "green", "blue"]
    program = dspy.Predict(dspy.Signature("text -> label").with_updated_fields("label", type_=choices))
    program.set_lm(scripted_lm(model))
    return program


async def test_a_program_whose_model_tells_probabilities_is_corrected(runtime: Runtime) -> None:
    """They are divided by their means, without a call; it comes back as a team of one, and is read as such."""
    model = Biased(LABELS)
    found, made = await searched(runtime, TeamVariables(), colour(model), num_trials=6)
    assert model.calls == len(EXAMPLES)
    assert made.report is not None
    red = sum(example.label == "red" for example in VALID) / len(VALID)
    assert found.trial_logs[0]["score"] == pytest.approx(red)
    assert made.report.best > 0.9
    assert found.configuration == {"self.instruction": "own", "self.demos": "own", "rule": "corrected"}
    assert isinstance(found, TeamProgram)
    assert isinstance(found.team.rule, SoftVote)
    assert found(text=next(one.text for one in VALID if one.label == "blue")).label == "blue"
    for _, predictor in found.named_predictors():
        predictor.lm = None
    again = Team("program", (Member("program", found.members["program"]),), field="label").program()
    again.load_state(found.dump_state())
    assert again.team.rule == found.team.rule


async def test_a_program_whose_model_tells_none_stays_as_it_is(runtime: Runtime) -> None:
    found, _ = await searched(runtime, TeamVariables(), colour(ScriptedEngine(LABELS)), num_trials=4)
    scores = {log["score"] for log in found.trial_logs.values() if log["configuration"]["rule"] == "own"}
    assert (found.configuration["rule"], len(scores)) == ("own", 1)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.once
async def test_it_goes_on_where_it_was_and_pays_nothing_twice(runtime: Runtime, tmp_path: Path) -> None:
    """Workers and the coordinator are killed, and it is cancelled: the team is the same."""
    models = engines()
    whole, _ = await searched(runtime, TeamVariables(3), team(models))
    undisturbed = calls(models)
    cut, killed = asyncio.Event(), 0

    def kill(_: int) -> None:
        nonlocal killed
        asked = calls(theirs)
        if asked in (20, 40):
            killed += 1
            next(ref for name, ref in runtime.names().items() if ".workers." in name).kill()
        if asked == 60:
            killed += 4
            next(ref for ref in runtime.actors() if ref.path.endswith("/coordinator")).kill()
        if asked == 90:
            cut.set()

    theirs = engines(before=kill)
    first = asyncio.ensure_future(searched(runtime, TeamVariables(3), team(theirs), log_dir=tmp_path))
    await cut.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    found, made = await searched(runtime, TeamVariables(3), team(theirs), log_dir=tmp_path)
    assert state(found) == state(whole)
    assert undisturbed <= calls(theirs) <= undisturbed + killed + 4
    again, second = await searched(runtime, TeamVariables(3), team(theirs), log_dir=tmp_path)
    assert state(again) == state(whole)
    assert made.report is not None
    assert second.report is not None
    assert (made.report.resumed, second.report.calls) == (True, 0)
    with pytest.raises(OtherOptimisation, match="team"):
        await searched(runtime, TeamVariables(2), team(theirs), log_dir=tmp_path)


@pytest.mark.once
@pytest.mark.parametrize("threads", [1, 16])
async def test_the_number_of_workers_changes_nothing(runtime: Runtime, threads: int) -> None:
    one, _ = await searched(runtime, TeamVariables(3), team(engines()))
    other, _ = await searched(runtime, TeamVariables(3), team(engines()), num_threads=threads)
    assert state(one) == state(other)


def says(**members: Any) -> Any:
    """A team without language models."""
    return Team("team", tuple(Member(name, Says(name, one)) for name, one in members.items()), field="label").program()


async def test_a_member_that_fails_has_no_vote(runtime: Runtime) -> None:
    """And a rule that cannot be fitted is no result, but the next ones are tried."""

    def never(_: RecordedVotes) -> Any:
        raise BadWeights("not enough")

    student = says(good=lambda given: LABELS[given["text"]], bad=ValueError("bad"), odd=dspy.Prediction(other=1))
    rules = {"never": never, "majority": lambda _: MajorityVote()}
    found, made = await searched(runtime, TeamVariables(rules=rules), student, num_trials=16)
    assert "good" in found.members
    assert found.configuration["rule"] != "never"
    assert made.report is not None
    assert made.report.best == 1.0
    tried = found.trial_logs.values()
    assert {log["score"] for log in tried if log["configuration"]["rule"] == "never"} == {0.0}
    assert any("not enough" in str(made.report.markdown()) or trial.failures for trial in made.report.trials)


async def test_when_nothing_can_be_scored_that_is_said(runtime: Runtime) -> None:
    """A metric that never says a number; members that all fail; and rules that come to nothing in the end."""
    for metric, student in (
        (lambda *_: float("nan"), says(a="red")),
        (exact, says(a=ValueError("bad"), b=ValueError("bad"))),
    ):
        with pytest.raises(EveryExampleFailed):
            await searched(runtime, TeamVariables(), student, metric=metric, metric_id="one")

    def at_last(records: RecordedVotes) -> Any:
        if len(records.truth) == len(EXAMPLES):
            raise BadWeights("too many")
        return WeightedVote({"good": 5.0})

    student = says(a="red", b="red", good=lambda given: LABELS[given["text"]])
    with pytest.raises(BadWeights, match="too many"):
        await searched(runtime, TeamVariables(rules={"mine": at_last}), student, num_trials=12)


async def test_what_makes_no_sense_is_refused_before_anything_is_asked(runtime: Runtime) -> None:
    """With the remedy."""
    models = engines()
    pattern = SelfConsistency(colour(ScriptedEngine(LABELS)), samples=3, temperature=1.0)
    with pytest.raises(BadTeam, match="no pattern"):
        await searched(runtime, TeamVariables(), pattern)
    with pytest.raises(BadTeam, match="a Literal"):
        await searched(runtime, TeamVariables(), dspy.Predict("text -> label"))
    crowd = says(**{f"m{n}": "red" for n in range(24)})
    with pytest.raises(BadTeam, match="such as compose finds"):
        await searched(runtime, TeamVariables(2), crowd)
    unlabelled = [dspy.Example(text="x").with_inputs("text")] * 3
    with pytest.raises(BadTeam, match="give each example a label, as label"):
        await searched(runtime, TeamVariables(), team(models), unlabelled)
    with pytest.raises(BadTrainset):
        await beacon(runtime, TeamVariables()).acompile(team(models), trainset=EXAMPLES[:1])
    for rules in ("stack", {"own": MajorityVote}, {"x": 3}, [1]):
        with pytest.raises(BadTeam, match="rules"):
            TeamVariables(rules=rules)  # type: ignore[arg-type]
    for option in ({"max_members": 0}, {"folds": 1}, {"max_members": 1.5}, {"max_members": True}):
        with pytest.raises(BadOption):
            TeamVariables(**option)
    for given in (3, "no.such:module", "dspy:Nothing", "dspy:Predict", ""):
        with pytest.raises(BadOption, match="BEACON: team"):
            beacon(runtime, given)
    assert calls(models) == 0


async def test_it_may_be_named(runtime: Runtime) -> None:
    """As in a specification, by its import path; a rule by itself, by its name."""
    made = beacon(runtime, f"{__name__}:NAMED")
    assert made.team is NAMED
    assert made.parameters()["team"] == {"max_members": None, "rules": {"stacking": None}, "folds": 5}
    assert "team" not in beacon(runtime, None).parameters()


def test_a_job_names_it() -> None:
    spec = OptimisationSpec.of(
        "spec",
        {
            "program": "tests.dspex.search.stall:program",
            "metric": "dspex.testing.engine:exact",
            "trainset": {"path": "train.csv", "inputs": ["text"]},
            "optimiser": "dspex.teleprompt:BEACON",
            "options": {"team": f"{__name__}:NAMED"},
        },
    )
    made: Any = spec.teleprompter()
    assert made.team is NAMED


async def test_the_members_that_were_chosen_are_saved_and_read_as_a_team_of_these(runtime: Runtime) -> None:
    found, _ = await searched(
        runtime,
        TeamVariables(2, rules="weighted"),
        says(good=lambda given: LABELS[given["text"]], bad="red", odd="blue"),
    )
    again = Team("again", tuple(Member(name, Says(name, "red")) for name in found.members), field="label").program()
    again.load_state(found.dump_state())
    assert again.team.rule == found.team.rule


NAMED = TeamVariables(rules="stacking")
