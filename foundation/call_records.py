"""What is known of a call of a program that has ended: the record that is kept, and shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

#: How a call ended: with an answer; with an error of the program; with an answer of its language model that could not
#: be read; without a language model, or with one that takes no more, or that is not to be had until somebody changes
#: something, such as its key; after its time was over; cut off by its caller.
Outcome: TypeAlias = Literal["answered", "failed", "unparsed", "unavailable", "busy", "refused", "timeout", "cancelled"]
#: For each language model what it reported.
Tokens: TypeAlias = Mapping[str, Mapping[str, Any]]


class CallContent(msgspec.Struct, frozen=True):
    """What a call was about; kept only if the program's actor was told so.

    Attributes:
        inputs: what it was given.
        outputs: what it has answered; None if it has not.
        conversations: what language models were shown, and have answered, in the order of their answers: each with
            ``model``, ``input`` and ``output``, messages as OpenTelemetry's conventions have them.
    """

    inputs: Any
    outputs: Any = None
    conversations: list[dict[str, Any]] = []


class CallRecord(msgspec.Struct, frozen=True):
    """What is known of a call that has ended.

    Attributes:
        id: its call id.
        at: when it began, in seconds since the epoch.
        version: the number of the version that ran.
        arm: for which arm of a rollout; None if none was under way.
        key: a digest of who asked; None if nobody said.
        outcome: how it ended.
        seconds: how long it ran, without its time in the queue.
        tokens: for each language model what it reported.
        cost: in dollars, as far as the prices are known.
        retries: how many attempts at language models have failed.
        unparsed: how many answers of language models could not be read, whatever has become of that.
        error: the class of the first error in it, also of one that a further attempt has made good; None if none.
        trace: the id of its trace; None if it has none.
        content: what it was about; None if that is not kept.
    """

    id: str
    at: float
    version: int
    arm: str | None
    key: str | None
    outcome: Outcome
    seconds: float
    tokens: Tokens
    cost: float
    retries: int
    error: str | None
    trace: str | None = None
    content: CallContent | None = None
    unparsed: int = 0
