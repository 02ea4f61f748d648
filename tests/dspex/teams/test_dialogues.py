"""Teams whose members talk: chats, debates, mixtures; what counts, what is told, and that each is a program."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal

import dspy
import pytest
from dspy.utils.dummies import DummyLM

from dspex import agent
from dspex.teams import (
    Agreed,
    BadTeam,
    ChosenSpeaker,
    Debate,
    Dollars,
    DropMember,
    External,
    Flips,
    GroupChat,
    Member,
    Mixture,
    NoAnswer,
    RandomSpeaker,
    RoundRobin,
    Said,
    Seconds,
    SoftVote,
    Team,
    Tokens,
    TooFewAnswers,
    Transcript,
    Turns,
    WeightedVote,
    flips,
    speaker_signature,
)
from dspex.teams.patterns.dialogue import DialogueProgram
from dspex.teams.rules import CombinedAnswer, MajorityVote
from dspex.testing.engine import ScriptedEngine, scripted_lm
from supervision.errors import BadOption
from supervision.testing import advance, run
from tests.dspex.teams.speakers import AWAY, HEARD, Speaker, heard, order, speakers


@pytest.fixture(autouse=True)
def _nothing_was_heard() -> Iterator[None]:
    HEARD.clear()
    yield
    HEARD.clear()


def outcomes(answer: Any) -> list[str]:
    """What became of the members."""
    return [one.outcome for one in answer.ballot]


def wrong(value: Any) -> Any:
    """A value of a type that is not taken."""
    return value


async def never(_: Any = None) -> Any:
    """Never says anything."""
    return await asyncio.get_running_loop().create_future()


async def both(make: Any, **inputs: Any) -> Any:
    """What a plain call and a coroutine answer: the same, but for the time it took."""
    found = [make()(**inputs), await make().acall(**inputs)]
    told = [[(turn.member, turn.outcome, turn.fields, turn.why) for turn in one.transcript.turns] for one in found]
    assert told[0] == told[1]
    assert [one.label for one in found] == [found[0].label] * 2
    assert [one.degraded for one in found] == [found[0].degraded] * 2
    assert [one.ended for one in found] == [found[0].ended] * 2
    return found[1]


# -- chats ---------------------------------------------------------------------------------------------------------


async def test_members_speak_in_turn_and_hear_what_was_said() -> None:
    """Until it is over; the answer is the last one in the team's field."""
    team = speakers(["one", "two"], [{"verdict": "no"}, {"verdict": "Approve"}])
    answer = await GroupChat(team, Said("b", "APPROVE")).acall(text="x")
    assert (answer.label, answer.ended, answer.degraded, order(answer)) == ("two", "said", None, "abab")
    assert [said["conversation"] for said in heard("b")] == [
        [{"member": "a", "label": "one"}],
        [{"member": "a", "label": "one"}, {"member": "b", "verdict": "no"}, {"member": "a", "label": "two"}],
    ]
    assert heard("a")[0] == {"text": "x", "conversation": []}
    assert isinstance(answer, dspy.Prediction)
    assert (answer.coverage, answer.confidence) == (1.0, 1.0)


async def test_a_plain_call_and_a_coroutine_say_the_same() -> None:
    """Whatever happens in them."""
    await both(lambda: GroupChat(speakers("A", ValueError("no"), AWAY, max_calls=7)), text="x")
    await both(lambda: Debate(speakers("A", ["B", "A"], [AWAY, "A"])), text="x")
    await both(lambda: Mixture(speakers("A", AWAY), Member("w", Speaker("w", "W"))), text="x")


async def test_a_chat_is_bounded_by_itself() -> None:
    """Two turns each, or as many calls as the team may have; then the answer says that it might have become better."""
    answer = await GroupChat(speakers("A", "B", "A")).acall(text="x")
    assert (answer.label, answer.degraded, order(answer)) == ("A", "turns", "abcabc")
    assert answer.confidence == pytest.approx(2 / 3)
    answer = await GroupChat(speakers("A", "B", max_calls=3), Turns(9)).acall(text="x")
    assert (answer.label, answer.degraded, answer.ended, order(answer)) == ("A", "turns", "turns", "aba")


async def test_speakers_are_chosen_by_somebody_who_is_shown_what_was_said() -> None:
    """Each choice is a turn; whoever chooses says nothing in the conversation, and is not its answer."""
    chooser = Speaker("chooser", {"next": "b"}, {"next": "b"}, {"next": "a"})
    desk = Team(
        "team",
        (Member("a", Speaker("a", "A"), role="writes"), Member("b", Speaker("b", "B1", "B2"))),
        field="label",
    )
    chat = GroupChat(desk, Turns(6), ChosenSpeaker(chooser))
    answer = await chat.acall(text="x")
    turns = [turn.member for turn in answer.transcript.turns]
    assert turns == ["chooser", "b", "chooser", "b", "chooser", "a"]
    assert (answer.label, [one.member for one in answer.ballot]) == ("A", ["a", "b", "chooser"])
    said = [{"member": "b", "label": "B1"}]
    assert heard("chooser")[1] == {"text": "x", "conversation": said, "speakers": {"a": "writes", "b": ""}}
    assert heard("b")[1] == {"text": "x", "conversation": said}
    assert GroupChat(desk, speaker=ChosenSpeaker(Member("m", chooser))).until.ended(answer.transcript) is None
    alone = await chat.alone("a").acall(text="x")
    assert (alone.label, len(alone.transcript.turns), chat.able_alone) == ("A", 1, ["a", "b"])
    assert (
        len((await GroupChat(desk, Turns(1), ChosenSpeaker(chooser)).alone("b").acall(text="x")).transcript.turns) == 1
    )


@pytest.mark.parametrize("says", [AWAY, ValueError("no"), {"next": "z"}, {"next": ["a"]}, {"topic": "a"}])
async def test_while_nobody_is_chosen_members_speak_one_after_another(says: Any) -> None:
    """The conversation goes on."""
    chat = GroupChat(speakers("A", "B", max_calls=7), speaker=ChosenSpeaker(Speaker("chooser", says)))
    answer = await chat.acall(text="x")
    turns = [turn.member for turn in answer.transcript.turns if turn.member != "chooser"]
    assert (turns, answer.label, answer.ended) == (["a", "b", "a"], "A", "turns")


def test_a_choice_is_typed() -> None:
    """It is one of the members, and nothing is read out of a text."""
    signature = speaker_signature("topic -> text", speakers("A", "B"))
    assert [*signature.input_fields] == ["topic", "conversation", "speakers"]
    assert signature.output_fields["next"].annotation == Literal["a", "b"]
    with pytest.raises(BadTeam, match="speaker_signature: signature = 5"):
        speaker_signature(5, speakers("A"))
    with pytest.raises(BadTeam, match="ChosenSpeaker: chooser = 5: give a Member, or a program"):
        GroupChat(speakers("A"), speaker=ChosenSpeaker(5))


async def test_a_chat_without_an_answer_says_what_became_of_each() -> None:
    """If somebody is away, that is an error of infrastructure; else it is the programs' fault."""
    with pytest.raises(NoAnswer, match=r"a answered with nothing; b failed \(ValueError: no\)"):
        await GroupChat(speakers(None, ValueError("no"))).acall(text="x")
    with pytest.raises(TooFewAnswers, match="b lost"):
        await GroupChat(speakers(None, AWAY)).acall(text="x")
    with pytest.raises(dspy.LMAuthError, match="wrong key"):
        await GroupChat(speakers(dspy.LMAuthError("wrong key"), AWAY)).acall(text="x")


async def test_whoever_is_lost_has_said_nothing_and_the_next_one_speaks() -> None:
    """The answer says who is missing."""
    answer = await GroupChat(speakers("A", AWAY, "A"), Agreed(2)).acall(text="x")
    assert (answer.label, answer.degraded, outcomes(answer)) == (
        "A",
        "members:lost 1 of 3",
        ["answered", "lost", "answered"],
    )
    assert heard("c")[0]["conversation"] == [{"member": "a", "label": "A"}]
    assert answer.coverage == pytest.approx(2 / 3)
    assert answer.ballot[1].why == "LMTransportError: away"


async def test_an_error_without_words_is_told_by_its_name() -> None:
    """As elsewhere."""
    answer = await GroupChat(speakers("A", KeyError())).acall(text="x")
    assert (answer.ballot[1].outcome, answer.ballot[1].why) == ("failed", "KeyError")


async def test_a_pattern_of_ones_own_says_whom_it_asks() -> None:
    """The base does not."""
    with pytest.raises(NotImplementedError):
        DialogueProgram(speakers("A"), None, 1)(text="x")


async def test_answers_are_compared_as_the_team_says() -> None:
    """And what says nothing in its field is compared with nothing."""
    answer = await GroupChat(speakers("1.0", {"verdict": "x"}, "1", "2", normal=float), Turns(4)).acall(text="x")
    assert (answer.label, answer.confidence) == ("2", pytest.approx(1 / 3))
    answer = await Debate(speakers("1.0", "1", normal=float)).acall(text="x")
    assert (answer.label, answer.ended) == ("1.0", "unanimous")


async def test_who_has_not_spoken_was_not_asked() -> None:
    """And is not missing."""
    answer = await GroupChat(speakers("A", "B", "C"), Turns(1)).acall(text="x")
    assert (outcomes(answer), answer.coverage) == (["answered", "unasked", "unasked"], 1.0)


def test_a_turn_that_does_not_end_in_time_is_late_and_ends_it() -> None:
    """With what was said before."""
    answer = run(GroupChat(speakers("A", never, deadline=2.0)).acall(text="x"))
    assert (answer.label, answer.degraded, outcomes(answer)) == ("A", "deadline", ["answered", "late"])
    assert answer.transcript.elapsed == 2.0
    with pytest.raises(TooFewAnswers, match="a late"):
        run(GroupChat(speakers(never, deadline=0.01)).acall(text="x"))


async def test_a_caller_that_is_cancelled_cancels_whoever_speaks() -> None:
    """Nobody goes on for nobody."""
    came, gone = asyncio.Event(), asyncio.Event()

    async def hold(_: Any) -> Any:
        came.set()
        try:
            return await never()
        except asyncio.CancelledError:
            gone.set()
            raise

    asked = asyncio.ensure_future(GroupChat(speakers(hold)).acall(text="x"))
    await came.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await gone.wait()


async def test_somebody_outside_can_end_it_after_a_turn() -> None:
    """It is in the transcript."""
    flag = threading.Event()

    def ask(_: Any) -> str:
        flag.set()
        return "B"

    team = speakers("A", ask)
    answer = await GroupChat(team, External(flag.is_set, "stop")).acall(text="x")
    assert (answer.label, answer.degraded, order(answer)) == ("B", "stop", "ab")
    assert [turn.signals for turn in answer.transcript.turns] == [(), ("stop",)]


async def test_tokens_are_those_that_the_models_tell() -> None:
    """And a turn that reaches the bound is the last one."""
    program = dspy.Predict("text -> label")
    program.set_lm(scripted_lm(ScriptedEngine({"x": "good", "y": "bad"})))
    team = Team("t", (Member("a", program), Member("b", program)))
    answer = await GroupChat(team, Turns(2)).acall(text="x")
    first, second = answer.transcript.turns
    assert first.tokens > 0
    assert answer.transcript.tokens == first.tokens + second.tokens
    answer = await GroupChat(team, Tokens(first.tokens + 1)).acall(text="x")
    assert (answer.ended, len(answer.transcript.turns)) == ("tokens", 2)
    assert (await GroupChat(team, Dollars(1.0)).acall(text="x")).ended == "turns"


def test_seconds_are_those_of_the_loop() -> None:
    """Looked at after a turn."""

    async def slow(_: Any) -> str:
        await advance(2)
        return "A"

    answer = run(GroupChat(speakers(slow, "B"), Seconds(2)).acall(text="x"))
    assert (answer.label, answer.ended, order(answer)) == ("A", "seconds", "a")
    answer = run(GroupChat(speakers(slow, slow), Seconds(2.5)).acall(text="x"))
    assert [turn.elapsed for turn in answer.transcript.turns] == [2.0, 4.0]


async def test_what_is_odd_in_an_answer_is_kept_in_words() -> None:
    """The answer has it as it was; the transcript as it can be written."""

    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no")

        __repr__ = __str__

    says = {"label": "A", "odd": Odd(), "huge": 10**400}
    answer = await GroupChat(speakers(says), Turns(1)).acall(text="x")
    assert isinstance(answer.odd, Odd)
    assert answer.transcript.turns[0].fields["odd"] == "<Odd>"
    assert Transcript.from_json(answer.transcript.to_json()) == answer.transcript


async def test_a_member_may_return_something_else_than_fields() -> None:
    """Then that is what it says in the team's field."""

    class Plain(dspy.Module):
        def forward(self, text: str, conversation: Any) -> Any:
            return f"{text}{len(conversation)}"

    program = GroupChat(Team("t", (Member("a", Plain),), field="label"), Turns(2))
    assert (await program.acall(text="x")).label == "x1"
    assert program(text="x").label == "x1"


def test_any_but_the_last_speaks_by_chance() -> None:
    """The same with the same seed; alone, one speaks again and again."""
    names = ["a", "b", "c"]
    first = order(GroupChat(speakers("A", "B", "C", max_calls=20), speaker=RandomSpeaker(3))(text="x"))
    assert first == order(GroupChat(speakers("A", "B", "C", max_calls=20), speaker=RandomSpeaker(3))(text="x"))
    assert first != order(GroupChat(speakers("A", "B", "C", max_calls=20), speaker=RandomSpeaker(4))(text="x"))
    assert all(one != other for one, other in pairwise(first))
    assert set(first) == set(names)
    assert RandomSpeaker().speaker(["a"], Transcript()) == "a"
    assert order(GroupChat(speakers("A"), speaker=RandomSpeaker())(text="x")) == "aa"


def test_a_speaker_rule_names_a_member() -> None:
    """Or it is told whom there are."""

    class Wrong:
        def speaker(self, members: Any, transcript: Any) -> str:
            return "z"

    with pytest.raises(BadTeam, match="name one of a, b"):
        GroupChat(speakers("A", "B"), speaker=Wrong())(text="x")


# -- each is a program ---------------------------------------------------------------------------------------------


def member(*answers: str, signature: str = "text -> label") -> Any:
    """A predictor with a model of its own."""
    made = dspy.Predict(signature)
    made.set_lm(DummyLM([{"label": answer} for answer in answers or ("A",) * 9]))
    return made


def three(make: Any = member) -> Team:
    return Team("desk", tuple(Member(name, make()) for name in "abc"))


def bare() -> Any:
    """A predictor without a model."""
    return dspy.Predict("text -> label")


PATTERNS = {
    "chat": GroupChat,
    "debate": Debate,
    "mixture": lambda team: Mixture(team, Member("writer", team.members[0].program)),
}
each_pattern = pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)


@each_pattern
async def test_the_caller_has_the_traces_of_the_members_in_order(pattern: Any) -> None:
    """With the program's own predictors."""
    program = pattern(three())
    for ask in (program, program.acall):
        with dspy.context(trace=[]):
            found = ask(text="x")
            found = await found if asyncio.iscoroutine(found) else found
            own = [program.members[turn.member] for turn in found.transcript.turns]
            assert [entry[0] for entry in dspy.settings.trace] == own
        program.members["a"].set_lm(DummyLM([{"label": "A"}] * 9))
    with dspy.context(trace=None):
        assert (await pattern(three()).acall(text="x")).label == "A"


@each_pattern
def test_it_is_saved_and_loaded_by_dspy(pattern: Any, tmp_path: Any) -> None:
    """Byte for byte."""
    program, other = pattern(three(bare)), pattern(three(bare))
    program.members["a"].demos = [{"text": "x", "label": "A"}]
    program.save(tmp_path / "team.json")
    other.load(tmp_path / "team.json")
    assert json.dumps(other.dump_state()) == json.dumps(program.dump_state())
    assert [name for name, _ in program.named_predictors()] == [f"members['{name}']" for name in program.members]
    assert pattern(three()).deepcopy()(text="x").label == "A"


@each_pattern
def test_it_runs_in_an_agent_and_in_evaluate(pattern: Any) -> None:
    """As any program."""
    devset = [dspy.Example(text="x", label="A").with_inputs("text")] * 2

    def metric(example: Any, found: Any, trace: Any = None) -> float:
        return float(example.label == found.label)

    assert dspy.Evaluate(devset=devset, metric=metric, num_threads=1)(agent(pattern(three()))).score == 100.0


@each_pattern
def test_its_members_are_settled_when_it_is_made(pattern: Any) -> None:
    """With another team it is another program."""
    with pytest.raises(BadTeam, match=f"make another {type(pattern(three())).__name__}"):
        pattern(three()).reshaped(DropMember("a"))


@each_pattern
def test_it_speaks_with_the_signature_of_its_first_member(pattern: Any) -> None:
    """Without what only members are shown; these have it, and the program that it was made of has not."""
    program = pattern(three())
    assert list(program.signature.fields) == ["text", "label"]
    (shown,) = program.shown
    assert list(program.members["a"].signature.input_fields) == ["text", shown]
    assert GroupChat(speakers("A")).signature is None


def test_a_program_that_takes_what_it_is_shown_is_left_as_it_is() -> None:
    """And one of several predictors has to take it by itself."""
    mine = dspy.Predict("text, conversation: str -> label")
    program = GroupChat(Team("t", (Member("a", mine),)))
    assert program.members["a"].signature.input_fields["conversation"].annotation is str
    with pytest.raises(BadTeam, match="call this output something else"):
        GroupChat(Team("t", (Member("a", dspy.Predict("text -> label, conversation")),)))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: GroupChat(wrong("team")), "GroupChat: team"),
        (lambda: GroupChat(speakers("A"), until=wrong("turns")), "GroupChat: until"),
        (lambda: GroupChat(speakers("A"), speaker=wrong("a")), "GroupChat: speaker"),
        (lambda: RandomSpeaker(wrong(1.5)), "RandomSpeaker: seed"),
        (lambda: Debate(wrong(None)), "Debate: team"),
        (lambda: Debate(speakers("A"), rounds=-1), "Debate: rounds"),
        (lambda: Debate(speakers("A"), seed=wrong(None)), "Debate: seed"),
        (lambda: Debate(speakers("A", "B", max_calls=1)), "give at least 2"),
        (lambda: Mixture(wrong(5), Member("w", Speaker)), "Mixture: team"),
        (lambda: Mixture(speakers("A"), Speaker("w", "W")), "Mixture: aggregator"),
        (lambda: Mixture(speakers("A"), Member("a", Speaker)), "a name of its own"),
        (lambda: Mixture(speakers("A"), Member("w", Speaker), layers=1), "Mixture: layers"),
        (lambda: Mixture(speakers("A", "B", max_calls=4), Member("w", Speaker)), "give at least 5"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make: Any, what: str) -> None:
    """When it is made."""
    with pytest.raises((BadTeam, BadOption), match=what):
        make()


# -- debates -------------------------------------------------------------------------------------------------------


async def test_T032_a_debate_ends_when_they_are_of_one_mind() -> None:
    """Three calls if they are at once, nine if they never are."""
    answer = await Debate(speakers("A", "A ", "a")).acall(text="x")
    assert (answer.label, answer.ended, order(answer)) == ("A", "unanimous", "abc")
    answer = await Debate(speakers("A", "B", "A")).acall(text="x")
    assert (answer.label, answer.ended, answer.degraded, order(answer)) == ("A", "rounds", None, "abc" * 3)
    assert answer.confidence == pytest.approx(2 / 3)
    answer = await Debate(speakers("A", ["B", "A"], "A")).acall(text="x")
    assert (answer.label, answer.ended, order(answer)) == ("A", "unanimous", "abc" * 2)
    assert order(await Debate(speakers("A", "B"), rounds=0).acall(text="x")) == "ab"


async def test_each_sees_what_the_others_said_under_letters_and_no_names() -> None:
    """Not what it said itself; which letters, the seed says, for each round anew."""
    seen = []
    for seed in range(12):
        HEARD.clear()
        await Debate(speakers("1", "2", "3"), seed=seed).acall(text="x")
        letters = []
        for number, me in ((number, me) for number in (1, 2) for me in "abc"):
            others = heard(me)[number]["others"]
            assert list(others) == sorted(others)
            assert {one["label"] for one in others.values()} == {"1", "2", "3"} - {str("abc".index(me) + 1)}
            assert set(others) < {"A", "B", "C"}
            letters.append("".join(one["label"] for one in others.values()))
        assert heard("a")[0]["others"] == {}
        seen.append(tuple(letters))
    assert len(set(seen)) > 5
    assert any(letters[:3] != letters[3:] for letters in seen)
    HEARD.clear()
    await Debate(speakers("1", "2", "3"), seed=11).acall(text="x")
    again = ["".join(one["label"] for one in heard(me)[n]["others"].values()) for n in (1, 2) for me in "abc"]
    assert tuple(again) == seen[-1]


async def test_there_are_letters_for_any_number() -> None:
    """After Z comes AA."""
    members = tuple(Member(f"m{number}", Speaker(f"m{number}", f"{number}")) for number in range(30))
    await Debate(Team("t", members, field="label"), rounds=1).acall(text="x")
    letters = {letter for name, inputs in HEARD for letter in inputs["others"]}
    assert {"A", "Z", "AA", "AD"} <= letters
    assert len(letters) == 30


async def test_a_member_that_is_lost_keeps_its_last_answer() -> None:
    """It counts, the others see it, and the answer says that somebody was missing."""
    answer = await Debate(speakers("B", ["A", AWAY], ["A", ValueError("no")])).acall(text="x")
    assert (answer.label, answer.ended, answer.degraded) == ("A", "rounds", "members:lost 1 of 3")
    assert [(one.value, one.outcome) for one in answer.ballot] == [
        ("B", "answered"),
        ("A", "answered"),
        ("A", "answered"),
    ]
    assert answer.ballot[1].why == "lost later: LMTransportError: away"
    assert answer.ballot[2].why == "failed later: ValueError: no"
    assert sorted(one["label"] for one in heard("a")[2]["others"].values()) == ["A", "A"]
    assert answer.coverage == 1.0


async def test_who_was_lost_at_first_is_asked_again() -> None:
    """And the others do not wait for it if they are enough."""
    answer = await Debate(speakers("A", "B", [AWAY, "B"])).acall(text="x")
    assert (answer.label, order(answer), answer.degraded) == ("B", "abc" * 3, None)
    answer = await Debate(speakers("A", "A", [AWAY, "B"])).acall(text="x")
    assert (answer.label, answer.ended, order(answer), answer.degraded) == (
        "A",
        "unanimous",
        "abc",
        "members:lost 1 of 3",
    )
    assert outcomes(answer) == ["answered", "answered", "lost"]
    assert answer.coverage == pytest.approx(2 / 3)


async def test_too_few_have_no_answer_in_a_debate_either() -> None:
    """As in any team."""
    with pytest.raises(TooFewAnswers, match="1 of 3 members have answered"):
        await Debate(speakers("A", AWAY, AWAY)).acall(text="x")
    with pytest.raises(NoAnswer, match="rounds ended it"):
        await Debate(speakers(None, "A", KeyError(), KeyError())).acall(text="x")
    answer = await Debate(speakers("A", AWAY, AWAY, min_answers=0.3)).acall(text="x")
    assert (answer.label, answer.ended) == ("A", "unanimous")


async def test_no_round_is_begun_that_would_be_too_many_calls() -> None:
    """The vote is that of the rounds before."""
    answer = await Debate(speakers("A", "B", "A", max_calls=8)).acall(text="x")
    assert (answer.label, answer.degraded, order(answer)) == ("A", "turns", "abcabc")
    answer = await Debate(speakers("A", "B", "A"), until=Turns(2)).acall(text="x")
    assert (answer.label, answer.degraded, order(answer)) == ("A", "turns", "abc")


async def test_no_more_are_asked_at_the_same_time_than_may_be() -> None:
    """In each round."""
    now = most = 0

    async def count(_: Any) -> str:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)  # noqa: TID251 - one pass, in which others could come
        now -= 1
        return "A"

    await Debate(speakers(count, count, count, "B", side_by_side=2)).acall(text="x")
    assert most == 2


async def test_the_rule_of_the_team_counts_the_votes() -> None:
    """With weights, probabilities, or what nobody has said."""
    answer = await Debate(speakers("A", "B", "B", rule=WeightedVote({"a": 3.0})), rounds=0).acall(text="x")
    assert (answer.label, answer.confidence) == ("A", 0.6)
    likely = {"label": "x", "probabilities": {"x": 0.6, "y": 0.4}}
    rule = SoftVote({"a": {"x": 0.9, "y": 0.1}})
    assert (await Debate(speakers(likely, rule=rule)).acall(text="x")).label == "y"

    class Contrary(MajorityVote, frozen=True):
        def decide(self, votes: Any) -> CombinedAnswer:
            return CombinedAnswer("z", 0.9)

    assert (await Debate(speakers("A", rule=Contrary())).acall(text="x")).label == "z"


async def test_flips_are_counted_when_the_right_answer_is_known() -> None:
    """To it and away from it, turn by turn; who is lost has not changed its mind."""
    says = (["A", "B", "A"], ["B", "A", "A"], ["B", AWAY, "A"], ["B", "C", "B"])
    answer = await Debate(speakers(*says)).acall(text="x")
    assert flips(answer.transcript, "a") == Flips(right=3, wrong=1)
    assert flips(answer.transcript, "b", field="label") == Flips(right=2, wrong=4)
    assert flips(answer.transcript, "a", field="other") == Flips(0, 0)
    assert flips(answer.transcript, "A", normal=str) == Flips(right=3, wrong=1)


# -- mixtures ------------------------------------------------------------------------------------------------------


def mixture(*says: object, writer: object = "W", **options: Any) -> Any:
    """A mixture of members and a writer."""
    layers = options.pop("layers", 3)
    until = options.pop("until", None)
    team = speakers(*says, **options)
    return Mixture(
        team, Member("w", Speaker("w", *(writer if isinstance(writer, list) else [writer]))), layers=layers, until=until
    )


async def test_T033_each_layer_sees_the_one_before_and_one_writes() -> None:
    """Four members in three layers are nine calls."""
    answer = await mixture(["1", "5"], "2", "3", "4").acall(text="x")
    assert (answer.label, answer.ended, answer.degraded, order(answer)) == ("W", "layers", None, "abcdabcdw")
    assert heard("b")[0]["proposals"] == {}
    first = {str(place): {"label": str(place)} for place in (1, 2, 3, 4)}
    assert heard("b")[1]["proposals"] == first
    assert heard("w") == [{"text": "x", "proposals": {**first, "1": {"label": "5"}}}]
    assert answer.confidence == pytest.approx(1 / 5)
    assert outcomes(answer) == ["answered"] * 5


async def test_T033_a_layer_goes_on_without_one_that_is_lost() -> None:
    """It says so, unless it came back."""
    answer = await mixture([AWAY, "1"], "2", AWAY, None).acall(text="x")
    assert (answer.label, answer.degraded) == ("W", "members:lost 1 of 5")
    assert heard("a")[1]["proposals"] == {"1": {"label": "2"}}
    assert heard("w")[0]["proposals"] == {"1": {"label": "1"}, "2": {"label": "2"}}
    answer = await mixture([AWAY, "1"], "2").acall(text="x")
    assert answer.degraded is None


async def test_a_layer_without_any_answer_ends_it() -> None:
    """The layer before counts, if there is one."""
    with pytest.raises(TooFewAnswers, match="a lost"):
        await mixture(AWAY, AWAY).acall(text="x")
    with pytest.raises(NoAnswer, match="proposals ended it"):
        await mixture(ValueError("no"), None).acall(text="x")
    answer = await mixture(["A", AWAY], ["A", AWAY]).acall(text="x")
    assert (answer.label, answer.degraded, order(answer)) == ("A", "members:lost 2 of 2", "abab")
    assert answer.ended == "proposals"
    answer = await mixture(["A", None], ["A", ValueError("no")]).acall(text="x")
    assert (answer.label, answer.degraded, answer.ended) == ("A", "proposals", "proposals")


@pytest.mark.parametrize(
    ("writer", "degraded"),
    [(AWAY, "aggregator:lost"), (ValueError("no"), "aggregator:failed"), (None, "aggregator:abstained")],
)
async def test_a_writer_without_an_answer_leaves_it_to_the_vote(writer: Any, degraded: str) -> None:
    """Of the last layer."""
    answer = await mixture("A", "B", "B", writer=writer).acall(text="x")
    assert (answer.label, answer.degraded, answer.ended) == ("B", degraded, "aggregator")
    last = answer.ballot[-1]
    assert (last.member, last.outcome) == ("w", "answered" if writer is None else degraded.partition(":")[2])
    assert answer.confidence == pytest.approx(2 / 3)


async def test_a_mixture_that_is_over_earlier_votes() -> None:
    """At a bound."""
    answer = await mixture("A", "B", "B", until=Turns(3)).acall(text="x")
    assert (answer.label, answer.degraded, order(answer)) == ("B", "turns", "abc")


def test_a_mixture_whose_time_is_over_votes() -> None:
    """Of what was proposed by then."""
    answer = run(mixture("A", "A", never, deadline=2.0).acall(text="x"))
    assert (answer.label, answer.degraded, order(answer)) == ("A", "deadline", "abc")
    answer = run(mixture("A", "A", writer=never, deadline=2.0).acall(text="x"))
    assert (answer.label, answer.degraded) == ("A", "aggregator:late")


def test_a_round_robin_is_a_rule() -> None:
    """One of two."""
    assert [RoundRobin().speaker(["a", "b"], Transcript())] == ["a"]
