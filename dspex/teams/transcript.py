"""Transcripts: what members of a team have said, turn by turn. A value, which can be written and read.

>>> said = Transcript().adding(TeamTurn("critic", "answered", {"verdict": "APPROVE"}, tokens=12))
>>> Transcript.from_json(said.to_json()) == said, said.tokens
(True, 12)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from dspex.teams.ballot import MemberAnswer, Outcome
from foundation.options import finite, from_zero, text, whole
from foundation.programs import as_json


class BadTranscript(ValueError):
    """This is no transcript. The text says why."""


class TeamTurn(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn of a member.

    Attributes:
        member: its name.
        outcome: see `Outcome`.
        fields: what it said, as JSON has it.
        why: the error, if it has failed or is lost.
        tokens: how many tokens it has used, as its language models say.
        dollars: what it has cost, as far as that is known.
        elapsed: seconds since the conversation began, at the end of the turn.
        signals: the names of what asked for an end at that time; see `dspex.teams.External`.

    Raises:
        BadOption: a number or a name makes no sense.
    """

    member: str
    outcome: Outcome
    fields: Mapping[str, Any] = {}
    why: str | None = None
    tokens: int = 0
    dollars: float = 0.0
    elapsed: float = 0.0
    signals: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        text("TeamTurn: member", self.member)
        whole("TeamTurn: tokens", self.tokens, 0)
        from_zero("TeamTurn: dollars", self.dollars)
        from_zero("TeamTurn: elapsed", self.elapsed)


class Transcript(msgspec.Struct, frozen=True):
    """What was said, in order. The turns of members that were asked side by side stand in the team's order.

    Attributes:
        turns: one for each time that a member was asked.
    """

    turns: tuple[TeamTurn, ...] = ()

    def adding(self, *turns: TeamTurn) -> Transcript:
        """Return the transcript with turns at its end."""
        return Transcript((*self.turns, *turns))

    @property
    def tokens(self) -> int:
        """How many tokens all turns have used."""
        return sum(turn.tokens for turn in self.turns)

    @property
    def dollars(self) -> float:
        """What all turns have cost, to a billionth."""
        return round(math.fsum(turn.dollars for turn in self.turns), 9)

    @property
    def elapsed(self) -> float:
        """How many seconds after the beginning the last turn ended."""
        return max((turn.elapsed for turn in self.turns), default=0.0)

    def last_turns(self) -> dict[str, TeamTurn]:
        """Return the last turn of each member that has had one."""
        return {turn.member: turn for turn in self.turns}

    def ballot(self, members: Iterable[str], field: str | None = None) -> tuple[MemberAnswer, ...]:
        """Return what became of each member in its last turn.

        Args:
            members: of the team, in its order.
            field: what counts as its answer; by default its last one.
        """
        last = self.last_turns()
        return tuple(_answer(name, last.get(name), field) for name in members)

    def to_json(self) -> bytes:
        """Return it as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, written: bytes | str) -> Transcript:
        """Read what `to_json` has written.

        Raises:
            BadTranscript: it is something else.
        """
        try:
            return msgspec.json.decode(written, type=cls)
        except (msgspec.DecodeError, TypeError, UnicodeError) as error:
            raise BadTranscript(f"this is no transcript: {error}; give what Transcript.to_json has written") from error


def last_field(turn: TeamTurn, field: str | None) -> Any:
    """Return what a turn says in a field, or in its last one; None for nothing."""
    if field is None:
        field = next(reversed([*turn.fields]), "")
    return turn.fields.get(field)


def plain_fields(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a prediction as JSON has them: what is kept is what would be read again."""
    return {str(name): _plain(value) for name, value in prediction.items()}


def amount(value: object) -> float:
    """Return a figure that somebody reports; 0 if it is none."""
    return max(0.0, finite(value) or 0.0)


def _answer(member: str, turn: TeamTurn | None, field: str | None) -> MemberAnswer:
    if turn is None:
        return MemberAnswer(member, "unasked")
    return MemberAnswer(member, turn.outcome, last_field(turn, field), turn.why, turn.elapsed)


def _plain(value: object) -> Any:
    try:
        return msgspec.json.decode(msgspec.json.encode(value, enc_hook=as_json))
    except Exception:
        return f"<{type(value).__name__}>"
