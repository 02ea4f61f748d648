"""When a conversation is over: endings are folds over the transcript, and nothing else."""

from __future__ import annotations

import copy
import json
import threading
from typing import Any

import pytest

from dspex.teams import (
    Agreed,
    BadTranscript,
    Dollars,
    Ended,
    Ending,
    External,
    Said,
    Seconds,
    TeamTurn,
    Tokens,
    Transcript,
    Turns,
)
from supervision.errors import BadOption


def said(*turns: tuple[str, str], **more: Any) -> Transcript:
    """What members have said, each turn the same way."""
    return Transcript(tuple(TeamTurn(member, "answered", {"text": what}, **more) for member, what in turns))


def wrong(value: Any) -> Any:
    """A value of a type that is not taken."""
    return value


def reasons(until: Ending, transcript: Transcript) -> list[str | None]:
    """What it says after each turn."""
    found = [until.ended(Transcript(transcript.turns[:count])) for count in range(len(transcript.turns) + 1)]
    return [None if one is None else one.reason for one in found]


CHAT = said(("writer", "Foo"), ("critic", "approve "), ("writer", "Bar"), ("critic", "no"))


def test_T030_the_first_that_holds_ends_it_and_names_the_reason() -> None:
    """With "and", the last one of them."""
    word = Said("critic", "APPROVE")
    assert reasons(Turns(4) | word, CHAT) == [None, None, "said", "said", "turns"]
    assert reasons(word | Turns(4), CHAT) == [None, None, "said", "said", "said"]
    assert reasons(Turns(4) & word, CHAT) == [None, None, None, None, "turns & said"]


def test_of_those_that_hold_at_once_the_first_in_declared_order_counts() -> None:
    """Whichever that is."""
    both = said(("critic", "APPROVE"), ("critic", "x"))
    assert (Turns(2) | Said("critic", "APPROVE")).ended(both) == Ended("turns", True)
    assert (Said("critic", "APPROVE") | Turns(2)).ended(both) == Ended("said", False)
    assert (Turns(9) | Tokens(9) | Turns(2)).ended(both) == Ended("turns", True)


def test_reaching_several_bounds_is_a_bound_and_a_bound_with_a_word_is_none() -> None:
    """For whoever was told the word, it is what was wanted."""
    assert (Turns(2) & Turns(1)).ended(CHAT) == Ended("turns & turns", True)
    assert (Turns(2) & Said("critic", "no")).ended(CHAT) == Ended("turns & said", False)


def test_T031_what_is_read_again_ends_where_it_would_have_ended() -> None:
    """After each turn."""
    told = said(("a", "x"), ("b", "x"), ("a", "y"), ("c", "x"), tokens=10, dollars=0.1, elapsed=1.5, signals=("stop",))
    every: list[Ending] = [
        Turns(3),
        Tokens(30),
        Dollars(0.3),
        Seconds(1.5),
        Said("c", "X"),
        Agreed(2),
        External(lambda: False, "stop"),
        Turns(2) & Agreed(2) | Seconds(9),
    ]
    for count in range(len(told.turns) + 1):
        live = Transcript(told.turns[:count])
        read = Transcript.from_json(live.to_json())
        assert read == live
        assert [one.ended(read) for one in every] == [one.ended(live) for one in every]
    restored = Transcript.from_json(Transcript(told.turns[:3]).to_json()).adding(told.turns[3])
    assert [one.ended(restored) for one in every] == [one.ended(told) for one in every]


def test_a_word_within_a_text_is_not_said() -> None:
    """A field is, by its name or any; and by that member only."""
    quoting = said(("critic", "I would not APPROVE"), ("writer", "APPROVE"))
    assert Said("critic", "APPROVE").ended(quoting) is None
    turn = TeamTurn("critic", "answered", {"note": "APPROVE", "verdict": "no", "count": 1})
    assert Said("critic", "APPROVE").ended(Transcript((turn,))) == Ended("said", False)
    assert Said("critic", "APPROVE", field="verdict").ended(Transcript((turn,))) is None
    assert Said("critic", "no", field="verdict").ended(Transcript((turn,))) == Ended("said", False)
    assert Said("critic", "int 1").ended(Transcript((turn,))) is None


def test_members_agree_when_so_many_say_the_same_at_last() -> None:
    """What they said before does not count, nor that they say nothing."""
    assert reasons(Agreed(2), said(("a", "x"), ("b", "X "), ("b", "y"), ("c", "y"))) == [
        None,
        None,
        "agreed",
        None,
        "agreed",
    ]
    silent = Transcript((TeamTurn("a", "lost"), TeamTurn("b", "lost"), TeamTurn("c", "answered", {"text": None})))
    assert Agreed(2).ended(silent) is None
    turns = tuple(TeamTurn(name, "answered", {"label": "x", "why": name}) for name in "ab")
    assert Agreed(2).ended(Transcript(turns)) is None
    assert Agreed(2, field="label").ended(Transcript(turns)) == Ended("agreed", False)


def test_bounds_are_of_all_turns_together() -> None:
    """Reached, not passed; three dimes are thirty cents."""
    told = said(("a", "x"), ("b", "y"), ("a", "z"), tokens=10, dollars=0.1)
    assert reasons(Tokens(20), told) == [None, None, "tokens", "tokens"]
    assert reasons(Dollars(0.3), told) == [None, None, None, "dollars"]
    times = (TeamTurn("a", "answered", elapsed=2.0), TeamTurn("b", "answered", elapsed=1.0))
    assert reasons(Seconds(2), Transcript(times)) == [None, "seconds", "seconds"]
    assert (told.tokens, told.dollars, told.elapsed, Transcript().elapsed) == (30, 0.3, 0.0, 0.0)


def test_who_asks_from_outside_is_written_down_with_the_turn() -> None:
    """The ending looks at what is written, and is not asked again."""
    flag = threading.Event()
    until = Turns(5) | External(flag.is_set, "stop") & Turns(1)
    assert until.signals() == ()
    flag.set()
    assert until.signals() == ("stop",)
    assert until.ended(said(("a", "x"))) is None
    assert until.ended(said(("a", "x"), signals=("stop",))) == Ended("stop & turns", True)
    assert copy.deepcopy(until).signals() == ("stop",)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Turns(0), "Turns: most"),
        (lambda: Turns(True), "Turns: most"),
        (lambda: Turns(10**400), "Turns: most"),
        (lambda: Tokens(wrong(1.5)), "Tokens: most"),
        (lambda: Dollars(float("nan")), "Dollars: most"),
        (lambda: Dollars(0), "Dollars: most"),
        (lambda: Seconds(float("inf")), "Seconds: most"),
        (lambda: Seconds(-1), "Seconds: most"),
        (lambda: Said("", "x"), "Said: member"),
        (lambda: Said("a", wrong(None)), "Said: what"),
        (lambda: Said("a", "  "), "something in it"),
        (lambda: Said("a", "x", field=""), "Said: field"),
        (lambda: Agreed(1), "from 2"),
        (lambda: Agreed(2, field=wrong(3)), "Agreed: field"),
        (lambda: External(wrong(True)), "event.is_set"),
        (lambda: External(bool, ""), "External: name"),
        (lambda: TeamTurn("", "answered"), "TeamTurn: member"),
        (lambda: TeamTurn("a", "answered", tokens=-1), "tokens"),
        (lambda: TeamTurn("a", "answered", dollars=float("nan")), "dollars"),
        (lambda: TeamTurn("a", "answered", elapsed=float("-inf")), "elapsed"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(make: Any, what: str) -> None:
    """When it is made."""
    with pytest.raises(BadOption, match=what):
        make()


@pytest.mark.parametrize("other", [None, "turns", 4])
def test_endings_are_joined_with_endings_only(other: Any) -> None:
    """As Python says it."""
    with pytest.raises(TypeError, match="unsupported operand"):
        Turns(1) | other
    with pytest.raises(TypeError, match="unsupported operand"):
        Turns(1) & other


@pytest.mark.parametrize(
    "written", [b"", b"[]", b'{"turns":[{"member":"a"}]}', "\udc80", 5, b"\xff", json.dumps({"turns": 1})]
)
def test_what_is_no_transcript_is_said_so(written: Any) -> None:
    """With what would be one."""
    with pytest.raises(BadTranscript, match="has written"):
        Transcript.from_json(written)


@pytest.mark.parametrize(
    "turn",
    [
        {"member": "a", "outcome": "gone"},
        {"member": "", "outcome": "answered"},
        {"member": "a", "outcome": "answered", "tokens": -5},
        {"member": "a", "outcome": "answered", "dollars": -0.5},
    ],
)
def test_a_written_turn_that_makes_no_sense_is_refused(turn: Any) -> None:
    """As one that is made."""
    with pytest.raises(BadTranscript):
        Transcript.from_json(json.dumps({"turns": [turn]}))


def test_an_ending_of_ones_own_says_itself_when_it_holds() -> None:
    """The base does not."""
    with pytest.raises(NotImplementedError):
        Ending().ended(CHAT)
