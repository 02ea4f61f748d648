"""What would have no effect, or could never be, is refused where it is written, with what would help."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Literal

import dspy
import msgspec
import pytest
from structlog.testing import capture_logs

from dspex.serving.interface import Contract
from dspex.teams import (
    AddMember,
    Agreed,
    BadProbabilities,
    BadTeam,
    BanditRoute,
    Blackboard,
    BoardSource,
    Cascade,
    CombinedAnswer,
    ConfusionVote,
    Debate,
    DropMember,
    External,
    GroupChat,
    HandoffTeam,
    MajorityVote,
    ManagedTeam,
    Member,
    MemberVote,
    Mixture,
    NoAnswer,
    RandomSpeaker,
    RoundRobin,
    RouteBy,
    Said,
    SelfConsistency,
    SoftVote,
    Team,
    TeamActor,
    TeamLadder,
    TeamProgram,
    TeamRouter,
    TeamRung,
    Turns,
    WeightedVote,
    WithProbabilities,
    manager_signature,
    record,
)
from foundation.options import finite
from supervision import Runtime
from supervision.errors import BadOption
from tests.dspex.teams.members import Says, team
from tests.dspex.teams.speakers import Speaker, speakers


def two(first: Any = "text -> label", second: Any = "text -> label", **options: Any) -> Team:
    """A team of two predictors."""
    return Team("desk", (Member("a", dspy.Predict(first)), Member("b", dspy.Predict(second))), **options)


# -- fields that nobody has --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        TeamProgram,
        Debate,
        lambda made: Mixture(made, Member("w", dspy.Predict("text -> label"))),
        lambda made: TeamRouter(made, RouteBy(lambda _: "a")),
        lambda made: Cascade(made, {"a": 0.5}),
        lambda made: SelfConsistency(dspy.Predict("text -> label"), field=made.field),
        Blackboard,
        GroupChat,
        HandoffTeam,
        lambda made: ManagedTeam(made, "text -> label"),
    ],
)
def test_a_field_that_no_member_has_is_refused_when_the_team_is_made(make: Callable[[Team], Any]) -> None:
    """It is a slip of the pen: all would abstain for ever."""
    with pytest.raises(BadTeam, match="field = 'tag': name an output"):
        make(two(field="tag"))


def test_each_member_of_a_vote_has_to_have_the_field_and_of_a_chat_one() -> None:
    """Who says something else than what is combined would never vote; in a chat there are critics."""
    mixed = two("text -> label", "text -> topic, verdict")
    with pytest.raises(BadTeam, match="field = 'label': name an output that each member has: b has topic, verdict"):
        mixed.program()
    assert GroupChat(mixed).able_alone == ["a"]
    good = two().program()
    with pytest.raises(BadTeam, match="z has topic"):
        good.reshaped(AddMember(Member("z", dspy.Predict("text -> topic"))))
    assert [*good.reshaped(DropMember("b")).members] == ["a"]
    verified = two("text -> label", "text, label -> good: bool", field="label")
    assert Cascade(verified, {}, verifier="b").signature is not None
    with pytest.raises(BadTeam, match="Cascade: verdict = 'bad': name an output that each member has: b has good"):
        Cascade(verified, {}, verifier="b", verdict="bad")


async def test_where_it_is_not_known_it_is_told_once_and_clearly() -> None:
    """In the ballot, in the error, and in the log."""
    made = Team(
        "t", (Member("a", Says("a", "A")), Member("b", Says("b", dspy.Prediction(topic="A", n=1)))), field="label"
    )
    program = made.program()
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(NoAnswer, match=r"b answered with nothing \(it has no topik, but topic, n\)"):
                await Team("t", made.members[1:], field="topik").program().acall(text="x")
        for _ in range(2):
            answer = TeamRouter(made, RouteBy(lambda _: "a"))(text="x")
            assert answer.ballot[0].why is None
            for found in (await program.acall(text="x"), program(text="x")):
                assert (found.label, found.ballot[1].why) == ("A", "it has no label, but topic, n")
    told = [line["why"] for line in logs if line["event"] == "member_without_field" and line["member"] == "b"]
    assert told == ["it has no topik, but topic, n"] * 3 + ["it has no label, but topic, n"]
    empty = Team("t", (Member("a", Says("a", dspy.Prediction())),), field="label").program()
    with pytest.raises(NoAnswer, match="it has no label, but nothing"):
        empty(text="x")
    board = Blackboard(team({"a": lambda inputs: dspy.Prediction(facts=1)}), [BoardSource("a", ("text",))])
    with pytest.raises(NoAnswer, match=r"a answered with nothing$"):
        board(text="x")


# -- what a team takes and gives ---------------------------------------------------------------------------------------


class Own(dspy.Module):
    """A program of one's own."""

    async def aforward(self, text: str, most: int = 3) -> dspy.Prediction:
        """Answer."""
        return dspy.Prediction(label=text[:most])


class Plain(dspy.Module):
    """One that says what it returns."""

    async def aforward(self, text: str) -> Literal["x", "y"]:
        """Answer."""
        return "x"


class Reserved(dspy.Module):
    """One whose input cannot be served."""

    async def aforward(self, lm: str) -> Any:
        """Answer."""
        return dspy.Prediction(label=lm)


def test_the_inputs_of_a_team_are_those_that_forward_names() -> None:
    """With their types, and whether they may be left out."""
    contract = Contract(Team("t", (Member("a", Own()), Member("b", Own())), field="label").program())
    found = {field.name: (field.type, field.required) for field in contract.interface.inputs}
    assert found == {"text": ("str", True), "most": ("int", False)}
    assert [field.name for field in contract.interface.outputs] == ["label"]
    assert contract.check({"text": "x"}) == {"text": "x"}
    plain = Team("t", (Member("a", Plain()),), field="label").program()
    assert plain.signature.output_fields["label"].annotation == Any
    assert Team("t", (Member("a", Reserved()),), field="label").program().signature is None


def test_members_that_tell_probabilities_declare_what_they_wrap() -> None:
    """So their fields are known."""
    asks = WithProbabilities(dspy.Predict(dspy.Signature("text -> label").with_updated_fields("label", type_=bool)))
    made = Team("t", (Member("a", asks),)).program()
    assert ([*made.signature.input_fields], made.able_alone) == (["text"], ["a"])


def test_the_inputs_of_a_cascade_are_not_its_verifiers() -> None:
    """Also if that comes first."""
    made = two("text, label -> good: bool", "text -> label", field="label")
    assert [*Cascade(made, {}, verifier="a").signature.input_fields] == ["text"]


def test_the_inputs_of_a_board_are_what_is_read_and_not_written() -> None:
    """Whoever comes first; with the types that members have for them, where these are known."""
    made = two("facts, n: int -> label", "text -> facts", field="label")
    signature = Blackboard(made).signature
    assert [*signature.input_fields] == ["text", "n"]
    assert signature.input_fields["n"].annotation is int
    assert [*signature.output_fields] == ["label"]
    known = two("text -> label", "text -> label")
    assert [*Blackboard(known, [BoardSource("a", ("text", "more"))]).signature.input_fields] == ["text", "more"]
    assert Blackboard(team({"a": "A"}), [BoardSource("a", ("text",))]).signature is None


def test_a_source_that_reads_only_inputs_can_answer_alone() -> None:
    """As the board is its own then."""
    made = Team(
        "desk",
        (Member("a", dspy.Predict("facts -> label")), Member("b", Says("b", "B")), Member("c", Says("c", "C"))),
        field="label",
    )
    board = Blackboard(made, [BoardSource("a", ("facts",)), BoardSource("b", ("text",))])
    assert board.able_alone == ["a", "b"]
    assert board.alone("b")(text="x").label == "B"
    with pytest.raises(BadTeam, match="single = 'c': choose among a, b, who can answer alone"):
        Blackboard(
            msgspec.structs.replace(made, ladder=TeamLadder((TeamRung.single("c"),))),
            [BoardSource("a", ("facts",)), BoardSource("b", ("text",))],
        )


# -- endings that never come -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("until", "what"),
    [
        (Said("critic", "APPROVE"), "Said: member = 'critic': name one of a, b"),
        (Turns(3) | Said("c", "APPROVE"), "Said: member = 'c'"),
        (
            Said("b", "APPROVE", field="verdict"),
            "Said: field = 'verdict': name an output .* b has label",
        ),
        (Agreed(3), "Agreed: members = 3: there are 2 members; ask for fewer"),
        (Turns(3) & Agreed(2, field="verdict"), "there are 0 members with a field verdict"),
    ],
)
def test_an_ending_that_nobody_could_bring_about_is_refused(until: Any, what: str) -> None:
    """When the team is made."""
    with pytest.raises(BadTeam, match=what):
        GroupChat(two(), until)


def test_an_ending_that_somebody_could_bring_about_is_taken() -> None:
    """Also where it is not known what members say."""
    until = Said("a", "x", field="label") | Agreed(2, field="label") | External(lambda: False) | Turns(9)
    assert GroupChat(two(), until).until.ended is not None
    assert GroupChat(speakers("A", "B"), Said("a", "x", field="verdict") | Agreed(2, field="verdict"))(text="x")


# -- slips of the pen --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: two(rule=MajorityVote), "Team: rule"),
        (lambda: TeamRouter(two(), BanditRoute), "TeamRouter: route"),  # type: ignore[arg-type]
        (lambda: GroupChat(two(), speaker=RandomSpeaker), "GroupChat: speaker"),  # type: ignore[arg-type]
        (lambda: TeamProgram(5), "TeamProgram: team = 5: give a Team"),  # type: ignore[arg-type]
        (lambda: Cascade(5, {}), "Cascade: team = 5: give a Team"),  # type: ignore[arg-type]
        (lambda: BoardSource("a", reads="text"), r"BoardSource: reads = 'text': give a tuple of names"),  # type: ignore[arg-type]
        (lambda: BoardSource("a", reads=("text", 5)), "BoardSource: reads = 5"),  # type: ignore[arg-type]
        (lambda: BoardSource(5), "BoardSource: member = 5"),  # type: ignore[arg-type]
        (lambda: BoardSource("a", when=True), "BoardSource: when = True: give a function"),  # type: ignore[arg-type]
        (lambda: BoardSource("a", estimate=0.5), "BoardSource: estimate = 0.5: give a function"),  # type: ignore[arg-type]
        (lambda: Blackboard(two(), until=5), "Blackboard: until = 5: give a function"),  # type: ignore[arg-type]
        (lambda: ManagedTeam(two(), "text -> label", 5), "ManagedTeam: manager = 5: give a Member, or a program"),
        (lambda: ManagedTeam(two(), "text -> label", planner=5), "ManagedTeam: planner = 5"),
        (lambda: SoftVote({"a": {"x": math.nan}}), "SoftVote: mean of a"),
        (lambda: SoftVote({"a": 5}), "SoftVote: mean of a = 5"),  # type: ignore[dict-item]
        (lambda: ConfusionVote({"x": 1.0}, {"a": {"x": {"x": -0.5}}}), "ConfusionVote: confusion of a for x"),
        (lambda: TeamActor.check_arguments(two, waiting="x"), "waiting = 'x': give a whole number from 0"),
        (lambda: TeamActor.check_arguments(two, concurrency="x"), "concurrency = 'x': give a whole number from 1"),
        (lambda: TeamActor.check_arguments(two, reties=3), r"there is no such option \(did you mean 'retries'\?\)"),
        (
            lambda: TeamActor.check_arguments(two, laders=[]),
            "ladder.*ladder, deadline.*version_settings",
        ),
    ],
)
def test_a_slip_is_refused_with_its_value_and_what_would_help(make: Callable[[], Any], what: str) -> None:
    """Before anything has changed."""
    with pytest.raises((BadTeam, BadOption), match=what):
        make()


@pytest.mark.parametrize(
    ("option", "value"), [("waiting", "x"), ("waiting", -1), ("concurrency", 0.5), ("isolation", "x"), ("retries", "x")]
)
async def test_a_team_that_is_started_by_code_is_checked_as_well(option: str, value: Any) -> None:
    """And not only in a tree file; before any of its agents has started."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        with pytest.raises(BadOption, match=option):
            await runtime.spawn(TeamActor, two(), **{"lm": dspy.LM("a/b"), option: value})
        assert list(runtime.actors()) == []


async def test_only_teams_are_recorded() -> None:
    """A program alone is a team of one."""
    examples = [dspy.Example(text="x", label="A").with_inputs("text")]
    for given in (dspy.Predict("text -> label"), two().program(), "desk"):
        with pytest.raises(BadTeam, match=r"(?s)record: team = .*: give a Team, such as Team\('one'"):
            await record(given, examples)  # type: ignore[arg-type]


def test_a_manager_may_be_a_program() -> None:
    """As the how-to says; its name in the team is manager, then."""
    workers = Team("desk", (Member("a", Speaker("a", {"found": "A"})),))
    leads = Speaker("m", {"progress": True, "next": "done", "task": "", "label": "A"})
    plans = dspy.Predict("text -> facts, new_plan")
    desk = ManagedTeam(workers, "text -> label", leads, planner=lambda: plans)
    assert ([*desk.members], desk(text="x").label) == (["a", "manager", "planner"], "A")
    made = ManagedTeam(workers, "text -> label", dspy.Predict(manager_signature("text -> label", workers)))
    assert made.able_alone == ["manager"]


def test_more_weight_against_an_answer_than_for_it_is_no_confidence() -> None:
    """A share is never below 0, whatever members are worth."""
    rule = WeightedVote({"a": -1.0, "b": 2.0, "c": -2.0})
    assert rule.decide([MemberVote("a", "x")]) == CombinedAnswer("x", 0.0)
    found = rule.decide([MemberVote("a", "x"), MemberVote("b", "x"), MemberVote("c", "y")])
    assert found == CombinedAnswer("x", 0.2)
    assert WeightedVote({"a": 0.0}).decide([MemberVote("a", "x")]).confidence == 0.0


def test_what_was_odd_is_a_bad_option_too() -> None:
    """So whoever looks for these finds it."""
    assert issubclass(BadProbabilities, BadOption)
    assert finite(math.nan) is None


# -- what is saved -----------------------------------------------------------------------------------------------------


class Ours(msgspec.Struct, frozen=True):
    """A rule of one's own."""

    def weight(self, member: str) -> float:
        """Return 1."""
        return 1.0

    def decide(self, votes: Sequence[MemberVote]) -> CombinedAnswer:
        """Return the last."""
        return CombinedAnswer(votes[-1].form, 1.0)

    def settled(self, votes: Sequence[MemberVote], outstanding: Sequence[str]) -> bool:
        """Return whether nobody is outstanding."""
        return not outstanding


def form(value: Any) -> Hashable:
    """What is counted."""
    return str(value)


def test_the_rules_of_teams_within_a_team_are_saved_with_it(tmp_path: Path) -> None:
    """Each under the name of its member."""

    def desk(rule: Any) -> TeamProgram:
        inner = Team("inner", (Member("x", dspy.Predict("text -> label")),), rule=rule)
        return Team("outer", (Member("a", inner.program()), Member("b", dspy.Predict("text -> label")))).program()

    program, other = desk(WeightedVote({"x": 2.0})), desk(MajorityVote())
    program.save(tmp_path / "team.json")
    assert {"rule", "members[a].rule"} < json.loads((tmp_path / "team.json").read_text()).keys()
    other.load(tmp_path / "team.json")
    assert other.members["a"].team.rule == WeightedVote({"x": 2.0})


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c"), ("a", "x")])
def test_a_state_of_other_members_is_refused_and_changes_nothing(names: tuple[str, ...]) -> None:
    """A search may have dropped some, or let some join; a member without a state of its own is none of them."""
    members = (*(Member(name, dspy.Predict("text -> label")) for name in names), Member("list", Words()))
    other = Team("desk", members, rule=WeightedVote({"a": 2.0})).program()
    program = two(rule=MajorityVote()).program()
    with pytest.raises(BadTeam, match=f"it is of {', '.join(names)}, and this team of a, b; load it into"):
        program.load_state(other.dump_state())
    assert program.team.rule == MajorityVote()
    program.load_state(two(rule=WeightedVote({"a": 2.0})).program().dump_state())
    assert program.team.rule == WeightedVote({"a": 2.0})


class Words(dspy.Module):  # type: ignore[misc]
    """Has nothing that could be saved."""

    def forward(self, text: str) -> Any:
        return dspy.Prediction(label=text)


def test_a_rule_of_ones_own_is_not_saved_and_a_state_without_one_leaves_it() -> None:
    """What is no rule is refused, and nothing has changed."""
    program = two(rule=Ours()).program()
    state = program.dump_state()
    assert "rule" not in state
    plain = two(rule=WeightedVote({"a": 2.0})).program()
    plain.load_state(state)
    assert plain.team.rule == WeightedVote({"a": 2.0})
    plain.members["a"].demos = [{"text": "x", "label": "A"}]
    for rule in ("{}", '{"type": "SoftVote", "mean": {"a": {"x": -1}}}', 5):
        with pytest.raises(BadTeam, match="read_rule: text"):
            plain.load_state({**state, "rule": rule})
    assert plain.members["a"].demos
    assert "rule" not in Cascade(two(), {"a": 0.5}).dump_state()


@pytest.mark.parametrize(
    ("mine", "other", "why"),
    [
        (lambda: two().program(), lambda: two().program(), None),
        (lambda: two(rule=MajorityVote()).program(), lambda: two(rule=WeightedVote({"a": 2.0})).program(), None),
        (lambda: two(rule=Ours()).program(), lambda: two(rule=MajorityVote()).program(), "rule = "),
        (lambda: two(deadline=3.0).program(), lambda: two().program(), None),
        (lambda: two(deadline=3.0).program(), lambda: two(deadline=2.0).program(), "deadline = 2.0"),
        (lambda: two().program(), lambda: two(ladder=TeamLadder((TeamRung.quorum(),))).program(), "ladder = "),
        (lambda: two().program(), lambda: two(normal=form).program(), "normal = "),
        (lambda: two(normal=form).program(), lambda: two(normal=form).program(), None),
        (lambda: Debate(two()), lambda: Debate(two(), rounds=1), "rounds = 1"),
        (lambda: Debate(two()), lambda: two().program(), "it is a TeamProgram, and no Debate"),
        (lambda: GroupChat(two(), Turns(2)), lambda: GroupChat(two(), Turns(2)), None),
        (lambda: GroupChat(two(), Turns(2)), lambda: GroupChat(two(), Turns(3)), "until = "),
        (lambda: GroupChat(two()), lambda: GroupChat(two(), speaker=RandomSpeaker(1)), "speaker = "),
        (lambda: GroupChat(two(), speaker=RoundRobin()), lambda: GroupChat(two()), None),
        (lambda: Cascade(two(), {"a": 0.5}), lambda: Cascade(two(), {"a": 0.5}), None),
        (lambda: Cascade(two(), {"a": 0.5}), lambda: Cascade(two(), {"a": 0.25}), "thresholds = "),
        (
            lambda: Cascade(two(), {"a": 0.5}),
            lambda: Cascade(two(rule=WeightedVote({"a": 2.0})), {"a": 0.5}),
            "rule = ",
        ),
        (lambda: TeamRouter(two(), BanditRoute()), lambda: TeamRouter(two(), BanditRoute()), None),
        (
            lambda: Blackboard(two()),
            lambda: Blackboard(two(), [BoardSource("a"), BoardSource("b", ("x",))]),
            "sources = ",
        ),
        (lambda: Blackboard(two()), lambda: Blackboard(two(), [BoardSource("a")]), "sources = "),
    ],
)
def test_a_version_is_of_the_same_team_but_for_its_state(mine: Any, other: Any, why: str | None) -> None:
    """All else would have no effect, and is told."""
    found = mine().why_no_version(other())
    assert found is None if why is None else found is not None and why in found and "actor" in found


def test_who_answers_alone_teaches_the_route_nothing() -> None:
    """It was not its choice."""
    route = BanditRoute(learned=[(None, "a", 1, 0.5)])
    router = TeamRouter(team({"a": "A", "b": "B"}), route, explore=1.0)
    alone = router.alone("b")
    answers = [alone(text="x") for _ in range(3)]
    assert [answer.label for answer in answers] == ["B"] * 3
    assert not any(router.reward(answer.call, 1.0) for answer in answers)
    assert route.learned == [(None, "a", 1, 0.5)]
