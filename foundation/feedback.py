"""The messages by which the calls of a program are looked at, and by which people say what they think of them.

A program's actor answers them, if it keeps its calls; the HTTP server sends them.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from supervision import Request

#: Who says it: whoever asked; somebody who knows better; a metric; a language model.
Source: TypeAlias = Literal["user", "expert", "metric", "model"]


class UnknownCall(LookupError):
    """There was no such call."""


class CallGone(LookupError):
    """There was such a call, and there is no record of it: it is too long ago, was refused, or has been deleted."""


class BadFeedback(ValueError):
    """This is no feedback on this call. The message says what is wrong."""


class FeedbackTooLarge(BadFeedback):
    """There is more of it than is kept."""


class FeedbackTaken(Exception):
    """Feedback on this call has been given already; more is taken only from whoever has the token."""


class ListCalls(Request[list[dict[str, Any]]], frozen=True):
    """What is known of the last calls? The last to end comes first.

    Attributes:
        number: of how many.
    """

    number: int = 50


class GetCall(Request[dict[str, Any]], frozen=True):
    """What is known of a call? Answered with `UnknownCall` or `CallGone` if nothing is."""

    raises = (UnknownCall, CallGone)
    id: str


class ForgetCalls(Request[int], frozen=True):
    """Forget calls, and all that was said of them; answered with how many calls and opinions are gone for good.

    Attributes:
        id: of one call.
        key: or of all of somebody, as told in ``X-Session-Key``.
    """

    id: str | None = None
    key: str | None = None


class GiveFeedback(Request[str], frozen=True):
    """Say what somebody thinks of a call. Answered with the id of the feedback once that is safe on disk.

    Attributes:
        call: its id.
        value: good or not, a number, or a text.
        name: what is judged.
        comment: for people.
        correction: the outputs that would have been right, or some of them.
        source: who says it.
        who: which of them; what somebody says last of a call under a name counts.
        first: refuse it (`FeedbackTaken`) if there is feedback on this call.
    """

    raises = (UnknownCall, CallGone, BadFeedback, FeedbackTaken)
    call: str
    value: bool | float | str
    name: str = "helpful"
    comment: str = ""
    correction: dict[str, Any] | None = None
    source: Source = "user"
    who: str = ""
    first: bool = False


class ListFeedback(Request[list[tuple[int, dict[str, Any]]]], frozen=True):
    """What was said? The oldest comes first, each with its number.

    Attributes:
        after: the number of the last that is known.
        number: how many.
    """

    after: int = 0
    number: int = 500
