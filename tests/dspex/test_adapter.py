"""The compact adapter: what it writes, and what it reads."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import enum
from typing import Any, Literal

import dspy
import pytest
from dspy.utils.dummies import DummyLM

from dspex.models.local.adapter import CompactAdapter, choices_of, response_format
from dspex.models.selection import embedded_lm
from tests.dspex.fake_llama import FakeLlama


class Colour(enum.Enum):
    """Three colours."""

    RED = "red"
    BLUE = "blue"


class Mood(dspy.Signature):
    """Judge the text."""

    text: str = dspy.InputField(desc="one sentence")
    mood: Literal["good", "bad"] = dspy.OutputField()


class Facts(dspy.Signature):
    """Say where it is."""

    place: str = dspy.InputField()
    country: str = dspy.OutputField(desc="in English")
    population: int = dspy.OutputField()


class Story(dspy.Signature):
    """Tell a story."""

    topic: str = dspy.InputField()
    story: str = dspy.OutputField()


class Maybe(dspy.Signature):
    """Answer if you can."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    note: str | None = dspy.OutputField()


def messages(llama: FakeLlama, at: str) -> list[dict[str, str]]:
    """The messages of the first question at a path."""
    found: list[dict[str, str]] = llama.asked(at)[0]["messages"]
    return found


def test_which_types_are_choices() -> None:
    """Literals, booleans and enums have values that can be listed; other types have not."""
    assert choices_of(Literal["a", 1]) == ("a", 1)
    assert choices_of(bool) == (True, False)
    assert choices_of(Colour) == ("red", "blue")
    assert choices_of(str) == choices_of(list[str]) == ()


def test_a_choice_becomes_a_schema() -> None:
    """A signature with one output of listed values asks for them in OpenAI's format."""
    format = response_format(Mood)
    assert format is not None
    assert format["type"] == "json_schema"
    assert format["json_schema"]["schema"]["properties"] == {"mood": {"title": "Mood", "enum": ["good", "bad"]}}
    assert response_format(Facts) is None
    assert response_format(Story) is None


async def test_a_choice_is_asked_for_without_a_format(llama: FakeLlama) -> None:
    """Where the language model knows schemas, the prompt says nothing of a format."""
    llama.weights = {"bad": 1.0}
    with dspy.context(lm=embedded_lm(llama.endpoint), adapter=CompactAdapter()):
        assert dspy.Predict(Mood)(text="rain").mood == "bad"
        assert (await dspy.Predict(Mood).acall(text="rain")).mood == "bad"
    assert messages(llama, "/apply-template") == [
        {"role": "system", "content": "Judge the text.\nText: one sentence"},
        {"role": "user", "content": "Text: rain"},
    ]


def test_demonstrations_look_like_answers(llama: FakeLlama) -> None:
    """Demonstrations are turns of the same lines; missing outputs are said to be missing."""
    llama.weights = {"bad": 1.0}
    demos = [{"text": "sun", "mood": "good"}]
    with dspy.context(lm=embedded_lm(llama.endpoint), adapter=CompactAdapter()):
        dspy.Predict(Mood)(text="rain", demos=demos)
    turns = [(m["role"], m["content"]) for m in messages(llama, "/apply-template")[1:]]
    assert turns == [("user", "Text: sun"), ("assistant", "Mood: good"), ("user", "Text: rain")]
    partial = CompactAdapter().format_demos(Facts, [{"place": "Rome", "country": "Italy"}])
    assert partial[1]["content"] == "Country: Italy\nPopulation: Not supplied for this particular example. "
    without = CompactAdapter().format_user_message_content(Mood, {}, prefix="Nothing:")
    assert without == "Nothing:"


def test_the_callers_own_format_wins(llama: FakeLlama) -> None:
    """A response format in the call's configuration is left alone."""
    llama.reply = '{"mood": "good"}'
    with dspy.context(lm=embedded_lm(llama.endpoint), adapter=CompactAdapter()):
        answer = dspy.Predict(Mood)(text="rain", config={"response_format": {"type": "json_object"}})
    assert answer.mood == "good"
    assert llama.asked("/completion") == []


def test_without_schemas_the_prompt_explains() -> None:
    """A language model that knows no schemas is told which values there are, and its line is read."""
    lm: Any = DummyLM([{"unused": ""}])
    lm._format_answer_fields = lambda fields: "Mood: bad"
    with dspy.context(lm=lm, adapter=CompactAdapter()):
        assert dspy.Predict(Mood)(text="rain").mood == "bad"
    system = lm.history[-1]["messages"][0]["content"]
    assert system.endswith("Answer with one line for each of these, and nothing else:\nMood: <good or bad>")


def test_other_signatures_are_asked_for_in_lines(llama: FakeLlama) -> None:
    """Several outputs are asked for and read as lines, with their types."""
    llama.reply = "Country: Italy\nPopulation: 2800000"
    with dspy.context(lm=embedded_lm(llama.endpoint), adapter=CompactAdapter()):
        answer = dspy.Predict(Facts)(place="Rome")
    assert (answer.country, answer.population) == ("Italy", 2_800_000)
    system = messages(llama, "/v1/chat/completions")[0]["content"]
    assert "Country: in English" in system
    assert system.endswith("Country: <str>\nPopulation: <int>")


@pytest.mark.parametrize("explain", [True, False])
def test_explaining_can_be_decided(llama: FakeLlama, explain: bool) -> None:
    """Whether the prompt explains the format can be said outright."""
    llama.weights = {"bad": 1.0}
    with dspy.context(lm=embedded_lm(llama.endpoint), adapter=CompactAdapter(explain=explain)):
        dspy.Predict(Mood)(text="rain")
    assert ("Answer with" in messages(llama, "/apply-template")[0]["content"]) is explain


READABLE: list[tuple[Any, str, dict[str, Any]]] = [
    (Mood, '{"mood": "good"}', {"mood": "good"}),
    (Mood, "Mood: good", {"mood": "good"}),
    (Mood, " good\n", {"mood": "good"}),
    (Mood, "mood : good", {"mood": "good"}),
    (Story, "Once upon a time:\nthe end.", {"story": "Once upon a time:\nthe end."}),
    (Story, "Story: Once\nthere\nwas.", {"story": "Once\nthere\nwas."}),
    (Story, "[1]", {"story": "[1]"}),
    (Facts, "Well.\nCountry: Italy\nPopulation: 3\nCountry: France", {"country": "Italy", "population": 3}),
    (Facts, '{"country": "Italy", "population": "3", "x": 1}', {"country": "Italy", "population": 3}),
    (Maybe, "Answer: yes", {"answer": "yes", "note": None}),
]


@pytest.mark.parametrize(("signature", "text", "fields"), READABLE)
def test_what_can_be_read(signature: Any, text: str, fields: dict[str, Any]) -> None:
    """JSON objects, labelled lines, and the bare value of a single output are understood."""
    assert CompactAdapter().parse(signature, text) == fields


@pytest.mark.parametrize(
    ("signature", "text"),
    [
        (Mood, "so so"),
        (Mood, "  "),
        (Facts, "Italy"),
        (Facts, "Country: Italy"),
        (Facts, "Country: a\nPopulation: b"),
    ],
)
def test_what_cannot_be_read_is_an_error(signature: Any, text: str) -> None:
    """A missing output, or a value that the type does not allow, is DSPy's error for unreadable answers."""
    with pytest.raises(dspy.AdapterParseError):
        CompactAdapter().parse(signature, text)


def test_other_adapters_work_with_the_engine(llama: FakeLlama) -> None:
    """DSPy's own JSON adapter asks for the same choice, and gets it."""
    llama.weights = {"bad": 1.0}
    with dspy.context(lm=embedded_lm(llama.endpoint), adapter=dspy.JSONAdapter()):
        assert dspy.Predict(Mood)(text="rain").mood == "bad"
    assert len(llama.asked("/completion")) == 1
