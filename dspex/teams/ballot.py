"""Ballots: what became of each member of a team, and what of it counts.

>>> ballot = [MemberAnswer("a", "answered", "sport"), MemberAnswer("b", "lost", why="AgentDown")]
>>> coverage(ballot, lambda member: 1.0)
0.5
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, TypeAlias

import msgspec

from dspex.teams.shares import checked_shares

#: What can become of a member that a team might ask. ``answered``: it gave an answer. ``failed``: its program raised.
#: ``lost``: it could not be asked, as something between them or below it was away. ``late``: not in by the deadline.
#: ``unasked``: its answer could not have changed the result any more, or there was no budget for it.
Outcome: TypeAlias = Literal["answered", "failed", "lost", "late", "unasked"]


class MemberAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one member.

    Attributes:
        member: its name.
        outcome: see `Outcome`.
        value: what it answered, in the field that the team combines; None for nothing, which is an abstention.
        why: the error, if it has failed or is lost; or what it said instead, if it answered without that field.
        seconds: how long it took; None if it was not asked.
        reason: ``budget``, ``breaker`` or ``overload`` if it is lost for that; else None.
    """

    member: str
    outcome: Outcome
    value: Any = None
    why: str | None = None
    seconds: float | None = None
    reason: Literal["budget", "breaker", "overload"] | None = None


class MemberVote(msgspec.Struct, frozen=True):
    """An answer as rules see it.

    Attributes:
        member: who gave it.
        form: its normal form: equal forms are the same answer.
        probabilities: of the normal forms that it chose among, if it told them.

    Raises:
        BadProbabilities: they are none.
    """

    member: str
    form: Hashable
    probabilities: Mapping[Any, float] | None = None

    def __post_init__(self) -> None:
        if self.probabilities is not None:
            checked_shares(f"MemberVote: probabilities of {self.member}", self.probabilities)


def normal_form(value: object) -> Hashable:
    """Return what makes two answers the same: texts without case and outer blanks, all else as it is written.

    >>> normal_form(" Sport ") == normal_form("sport"), normal_form(1) == normal_form(True)
    (True, False)
    >>> normal_form("  "), normal_form(None)
    (None, None)

    Args:
        value: an answer.

    Returns:
        The normal form; None if the answer is none.
    """
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return None
    if isinstance(value, str):
        return str.casefold(str.strip(value)) or None
    return f"{type(value).__name__} {_written(value)}"


def _written(value: object) -> str:
    try:
        return msgspec.json.encode(value, enc_hook=_plain, order="deterministic").decode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        return _shown(value)


def _shown(value: object) -> str:
    """Return a text that two values have in common only if they are the same."""
    try:
        return hex(value) if isinstance(value, int) else repr(value)
    except Exception:
        return object.__repr__(value)


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(type(value).__name__)
    return dump(mode="json")


def coverage(ballot: Sequence[MemberAnswer], weight: Callable[[str], float]) -> float:
    """Return which share of the weight that might have been asked has answered.

    Members that were not asked because their answers could not have changed anything are not missing.

    Args:
        ballot: what became of each.
        weight: of a member; its sign does not matter.
    """
    asked = sum(abs(weight(one.member)) for one in ballot if one.outcome != "unasked")
    answered = sum(abs(weight(one.member)) for one in ballot if one.outcome == "answered")
    return answered / asked if asked else 0.0
