"""What is read of answers that miss their form, and what is not."""

from __future__ import annotations

import enum
from typing import Any, Literal

import dspy
import pydantic
import pytest

from dspex._compat import FinishReason
from dspex.parsing.events import UnparsedCounts, checked_report
from dspex.parsing.lenient import read


class Colour(enum.Enum):
    """One of two."""

    RED = "red"
    BLUE = "blue"


class Point(pydantic.BaseModel):
    """A place."""

    x: int
    y: int


def signature(annotation: Any) -> Any:
    """A question with one answer."""
    return dspy.Signature("q -> a").with_updated_fields("a", type_=annotation)


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (int, '```json\n{"a": 1}\n```', 1),
        (int, "{'A': '1'} is it.", 1),
        (int, "[[##a##]] 5", 5),
        (int, "**a**: 5", 5),
        (int, "a: 5", 5),
        (int, "<a>5</a>", 5),
        (int, "a: `5`", 5),
        (str, "## A ##\nblue\n[[ ## completed ## ]]", "blue"),
        (Literal["yes", "no"], "a: **Yes.**", "yes"),
        (Colour, "a: Blue", Colour.BLUE),
        (Point, 'Here: {"x": 1, "y": 2}', Point(x=1, y=2)),
        (list[int], "They are [1, 2, 3].", [1, 2, 3]),
        (str, "I think so", None),
        (str, "see {x} or [1]", None),
        (str, '{"a": "  "}', None),
        (int, "I think it is 5", None),
        (int, "a: five", None),
        (int, '{"a": {"b": 1}}', None),
        (Point, "{" * 100_000 + "}" * 100_000, None),
        (Literal["yes", "no"], "a: perhaps", None),
        (int, "", None),
    ],
)
def test_an_answer_is_read_if_its_fields_are_there(annotation: Any, text: str, value: Any) -> None:
    """And nothing is made up where they are not."""
    found = read(signature(annotation), text)
    assert found == (None if value is None else {"a": value})


def test_several_fields_all_have_to_be_there() -> None:
    """Those with a default need not."""
    two = dspy.Signature("q -> one_thing: int, other: str")
    assert read(two, "One Thing: 1\nother: blue\nand green") == {"one_thing": 1, "other": "blue\nand green"}
    assert read(two, "one_thing: 1") is None
    optional = two.with_updated_fields("other", type_=str | None)
    assert read(optional, "one_thing: 1") == {"one_thing": 1, "other": None}


@pytest.mark.parametrize(
    "values",
    [
        ["repair", True, 1, "ChatAdapter"],
        ["repair", 1, 1, "ChatAdapter", ()],
        ["again", True, 1, "ChatAdapter", ()],
        ["repair", True, 1, "ChatAdapter", (1,)],
        ["repair", True, 1, "ChatAdapter", ("a",) * 1001],
    ],
)
def test_what_a_process_reports_is_checked(values: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        checked_report(values)


def test_old_versions_are_counted_together() -> None:
    """So that the metrics of a program that changes often do not grow."""
    counts = UnparsedCounts()
    for version in range(8):
        counts.add("P", version, "none")
    labels = [dict(sample.labels)["version"] for sample in counts.samples()]
    assert labels == ["other", "3", "4", "5", "6", "7"]
    assert next(sample.value for sample in counts.samples()) == 3


def test_how_an_answer_ended_is_found_in_what_other_engines_say() -> None:
    """Those that answer as OpenAI does."""
    finish = FinishReason()
    finish.append({"response": {"choices": [{"finish_reason": "length", "message": {"refusal": None}}]}})
    assert (finish.cut, finish.refused) == (True, False)
    finish.append({"response": {"choices": [{"finish_reason": "stop", "message": {"refusal": "No."}}]}})
    assert (finish.cut, finish.refused) == (False, True)
