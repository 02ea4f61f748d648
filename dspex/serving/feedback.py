"""Feedback: what people, metrics and models say of calls, and the trainset that can be made of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple, get_args

import dspy
import msgspec

from dspex.agents.concurrency import ProgramExited
from dspex.fingerprints import content_digest
from dspex.serving.interface import Contract, InvalidInputs
from foundation.call_records import CallRecord
from foundation.feedback import BadFeedback, FeedbackTooLarge, GiveFeedback, Source
from supervision import Ref
from supervision.events import Event

#: The longest texts, in characters, of names and people, and of values and comments.
LONGEST_NAME, LONGEST_TEXT = 100, 10_000
#: The longest correction, in bytes of JSON.
LONGEST_CORRECTION = 100_000


class FeedbackGiven(Event, frozen=True, kw_only=True):
    """Feedback on a call was given, and is safe. What a text says is not in it.

    Attributes:
        ref: the program's actor.
        path: its place in the tree.
        program: its name.
        call: the id of the call.
        version: which has answered.
        arm: for which arm of a rollout; None if none was under way.
        name: what is judged.
        value: good or not, or a number; None for a text.
        source: who says it.
    """

    ref: Ref
    path: str
    program: str
    call: str
    version: int
    arm: str | None
    name: str
    value: bool | float | None
    source: Source


class Feedback(msgspec.Struct, frozen=True, omit_defaults=True):
    """What somebody has said of a call.

    Attributes:
        id: of the feedback.
        call: of the call. Version, arm and key are those of its record.
        program: the program's name.
        version: which has answered.
        arm: for which arm of a rollout.
        name: what is judged.
        value: good or not, a number, or a text.
        comment: for people.
        correction: the outputs that would have been right, or some of them.
        source: who says it.
        who: which of them.
        at: when, in seconds since the epoch.
        key: a digest of who asked.
        inputs: of the call; None if its content is not kept.
        outputs: of the call; None as above.
    """

    id: str
    call: str
    program: str
    version: int
    arm: str | None
    name: str
    value: bool | float | str
    source: Source
    at: float
    comment: str = ""
    correction: dict[str, Any] | None = None
    who: str = ""
    key: str | None = None
    inputs: Any = None
    outputs: Any = None


def feedback_on(record: CallRecord, said: GiveFeedback, id: str, program: str, at: float) -> Feedback:
    """Return what was said of a call, with what is known of it."""
    content = record.content
    return Feedback(
        id=id,
        call=record.id,
        program=program,
        version=record.version,
        arm=record.arm,
        name=said.name,
        value=said.value,
        source=said.source,
        at=at,
        comment=said.comment,
        correction=said.correction,
        who=said.who,
        key=record.key,
        inputs=None if content is None else content.inputs,
        outputs=None if content is None else content.outputs,
    )


def check_feedback(said: GiveFeedback, contract: Contract) -> None:
    """Look whether feedback makes sense.

    Raises:
        BadFeedback: it does not. What is wrong is named.
        FeedbackTooLarge: a correction is too long.
    """
    if said.source not in get_args(Source):
        raise BadFeedback(f"source: choose one of {', '.join(get_args(Source))}")
    if isinstance(said.value, (int, float)) and not _finite(said.value):
        raise BadFeedback("value: give true or false, a finite number, or a text")
    for name, longest in (("name", LONGEST_NAME), ("who", LONGEST_NAME), ("comment", LONGEST_TEXT)):
        if len(getattr(said, name)) > longest:
            raise BadFeedback(f"{name}: give at most {longest} characters")
    if not said.name or (isinstance(said.value, str) and len(said.value) > LONGEST_TEXT):
        raise BadFeedback(f"name and value: give a name, and at most {LONGEST_TEXT} characters")
    if said.correction is not None:
        _check_correction(said.correction, contract)


def _check_correction(correction: Any, contract: Contract) -> None:
    if not isinstance(correction, Mapping) or not all(isinstance(name, str) for name in correction):
        raise BadFeedback("correction: give outputs by their names")
    try:
        size = len(msgspec.json.encode(correction))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadFeedback(f"correction: give what JSON has: {error}") from None
    if size > LONGEST_CORRECTION:
        raise FeedbackTooLarge(f"correction: it has {size:,} bytes of JSON; give at most {LONGEST_CORRECTION:,}")
    known = sorted(field.name for field in contract.interface.outputs)
    unknown = sorted(set(correction).difference(known)) if known else []
    if unknown:
        raise BadFeedback(f"correction: the program has no output {unknown[0][:50]!r}; there are {', '.join(known)}")
    try:
        contract.check_outputs(correction)
    except (InvalidInputs, ProgramExited) as error:
        raise BadFeedback(f"correction: {error}") from None


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def score_of(value: bool | float | str) -> float | None:
    """Return a value as a number; None for a text."""
    return None if isinstance(value, str) else float(value)


# -- a trainset --------------------------------------------------------------------------------------------------------


class Trainset(NamedTuple):
    """What feedback makes of calls.

    Attributes:
        examples: one for each input, as DSPy's optimisers take them; their labels are the correction, or what was
            answered if that was found good.
        keys: for each of them the digest of who asked; None if nobody said.
        conflicts: inputs for which there were several labels that count alike; the latest was taken.
        refused: inputs of tests, which were left out.
        without_inputs: feedback on calls whose content was not kept.
        uncorrected: feedback on other calls that says no label: it is neither a correction nor good.
    """

    examples: list[Any]
    keys: list[str | None]
    conflicts: int
    refused: int
    without_inputs: int
    uncorrected: int

    def split(self, share: float = 0.2) -> tuple[list[Any], list[Any]]:
        """Return a part for training, and one for validation: all examples of one asker are in the same one.

        Args:
            share: of the askers whose examples are for validation. What nobody has asked under a name goes by itself.
        """
        parts: tuple[list[Any], list[Any]] = ([], [])
        for example, key in zip(self.examples, self.keys, strict=True):
            name = content_digest(dict(example.inputs())) if key is None else key
            drawn = int.from_bytes(sha256(name.encode()).digest()[:8]) / 2**64
            parts[drawn < share].append(example)
        return parts


class _Label(NamedTuple):
    rank: int
    at: float
    labels: Mapping[str, Any]
    said: Feedback


def trainset(feedback: Iterable[Feedback], *, tests: Collection[str] = (), models: bool = False) -> Trainset:
    """Make a trainset of feedback: an expert's correction counts most, then a user's, then an answer found good.

    What was found bad and not corrected is no example.

    Args:
        feedback: in the order in which it was given: of what one says of one call under one name, the last counts.
        tests: digests (`dspex.fingerprints.content_digest`) of inputs that are for tests, and never for training.
        models: whether what metrics and models say counts, too.
    """
    last = {(each.call, each.name, each.who): each for each in feedback}
    counted = [each for each in last.values() if models or each.source in ("user", "expert")]
    found: dict[str, _Label] = {}
    conflicts: set[str] = set()
    refused: set[str] = set()
    for each in counted:
        label = _label(each)
        if label is None or each.inputs is None:
            continue
        digest = content_digest(each.inputs)
        if digest in tests:
            refused.add(digest)
            continue
        known = found.get(digest)
        if known is not None and known.rank == label.rank and known.labels != label.labels:
            conflicts.add(digest)
        if known is None or (label.rank, label.at) >= (known.rank, known.at):
            found[digest] = label
    made = [
        dspy.Example(**{**each.said.inputs, **each.labels}).with_inputs(*each.said.inputs) for each in found.values()
    ]
    without = sum(each.inputs is None for each in counted)
    uncorrected = sum(each.inputs is not None and _label(each) is None for each in counted)
    keys = [each.said.key for each in found.values()]
    return Trainset(made, keys, len(conflicts), len(refused), without, uncorrected)


def _label(said: Feedback) -> _Label | None:
    outputs = said.outputs or {}
    if said.correction is not None:
        return _Label(2 if said.source == "expert" else 1, said.at, {**outputs, **said.correction}, said)
    good = said.value is True
    return _Label(0, said.at, outputs, said) if good and outputs else None
