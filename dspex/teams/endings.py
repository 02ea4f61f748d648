"""Endings: when a conversation of members is over. Values, joined with ``&`` and ``|``.

Each looks at the transcript and at nothing else, so what is read again ends where it would have ended. They are looked
at after every turn, in the order in which they are written; the first that holds names the reason.

>>> from dspex.teams.transcript import TeamTurn, Transcript
>>> until = Turns(4) | Said("critic", "APPROVE")
>>> said = Transcript((TeamTurn("writer", "answered", {"text": "Hello"}),))
>>> until.ended(said) is None
True
>>> until.ended(said.adding(TeamTurn("critic", "answered", {"verdict": "approve"}))).reason
'said'
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import ClassVar

import msgspec

from dspex.teams.ballot import normal_form
from dspex.teams.declared import Outputs, check_field
from dspex.teams.errors import BadTeam
from dspex.teams.transcript import TeamTurn, Transcript, last_field
from foundation.options import above_zero, text, whole
from supervision.errors import BadOption


class Ended(msgspec.Struct, frozen=True):
    """That a conversation is over.

    Attributes:
        reason: why, such as ``turns`` or ``said``.
        limit: whether a bound was reached: then an answer is one that might have become better.
    """

    reason: str
    limit: bool


class Ending(msgspec.Struct, frozen=True):
    """When a conversation is over."""

    def ended(self, transcript: Transcript) -> Ended | None:
        """Return why a conversation is over after these turns; None if it goes on."""
        raise NotImplementedError

    def signals(self) -> tuple[str, ...]:
        """Return what asks for an end from outside at this moment: it is written down with the turn."""
        return ()

    def check(self, outputs: Outputs) -> None:
        """Check that a team can end in this way.

        Args:
            outputs: of its members, as far as they are known.

        Raises:
            BadTeam: it cannot: nobody could say what it waits for.
        """

    def __and__(self, other: object) -> Ending:
        return AllEndings((self, other)) if isinstance(other, Ending) else NotImplemented

    def __or__(self, other: object) -> Ending:
        return AnyEnding((self, other)) if isinstance(other, Ending) else NotImplemented


class _Joined(Ending, frozen=True):
    endings: tuple[Ending, ...]

    def signals(self) -> tuple[str, ...]:
        """Return what any of them says."""
        return tuple(name for one in self.endings for name in one.signals())

    def check(self, outputs: Outputs) -> None:
        """Check each of them."""
        for one in self.endings:
            one.check(outputs)


class AnyEnding(_Joined, frozen=True):
    """The first of several that holds, as ``|`` joins them.

    Attributes:
        endings: in the order in which they are looked at.
    """

    def ended(self, transcript: Transcript) -> Ended | None:
        """Return what the first one says that holds."""
        return next((found for one in self.endings if (found := one.ended(transcript)) is not None), None)


class AllEndings(_Joined, frozen=True):
    """All of several, as ``&`` joins them. It is a limit if all of them are.

    Attributes:
        endings: in the order in which their reasons are told.
    """

    def ended(self, transcript: Transcript) -> Ended | None:
        """Return what they say together, if all of them hold."""
        found = [one.ended(transcript) for one in self.endings]
        held = [one for one in found if one is not None]
        if len(held) < len(found):
            return None
        return Ended(" & ".join(one.reason for one in held), all(one.limit for one in held))


class _Bound(Ending, frozen=True):
    """So much of something is used up. The reason is the name of the class in small letters, and it is a limit."""

    most: float
    _whole: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check = whole if self._whole else above_zero
        check(f"{type(self).__name__}: most", self.most)

    @abstractmethod
    def used(self, transcript: Transcript) -> float: ...

    def ended(self, transcript: Transcript) -> Ended | None:
        """Return the reason if so much was used after these turns."""
        return Ended(type(self).__name__.lower(), True) if self.used(transcript) >= self.most else None


class Turns(_Bound, frozen=True):
    """So many turns were taken.

    Attributes:
        most: how many.

    Raises:
        BadOption: it is no whole number from 1.
    """

    most: int
    _whole = True

    def used(self, transcript: Transcript) -> float:
        """Return how many turns were taken."""
        return len(transcript.turns)


class Tokens(_Bound, frozen=True):
    """So many tokens were used, as the language models tell.

    Attributes:
        most: how many.

    Raises:
        BadOption: it is no whole number from 1.
    """

    most: int
    _whole = True

    def used(self, transcript: Transcript) -> float:
        """Return how many tokens were used."""
        return transcript.tokens


class Dollars(_Bound, frozen=True):
    """So much was spent, as far as prices are known.

    Attributes:
        most: how many dollars.

    Raises:
        BadOption: it is no finite number above 0.
    """

    def used(self, transcript: Transcript) -> float:
        """Return how much was spent."""
        return transcript.dollars


class Seconds(_Bound, frozen=True):
    """So much time has passed. A turn that never ends is what the deadline of a pattern is for.

    Attributes:
        most: how many seconds.

    Raises:
        BadOption: it is no finite number above 0.
    """

    def used(self, transcript: Transcript) -> float:
        """Return the seconds that had passed when the last turn ended."""
        return transcript.elapsed


class Said(Ending, frozen=True):
    """A member has said something, in a field by itself: a word within a text is not meant by it.

    Attributes:
        member: who.
        what: what it says; case and outer blanks do not count.
        field: where; by default in any of its fields.

    Raises:
        BadOption: one of them is no text.
    """

    member: str
    what: str
    field: str | None = None

    def __post_init__(self) -> None:
        text("Said: member", self.member)
        if normal_form(text("Said: what", self.what)) is None:
            raise BadOption("Said: what", self.what, "give a text with something in it")
        if self.field is not None:
            text("Said: field", self.field)

    def ended(self, transcript: Transcript) -> Ended | None:
        """Return ``said`` if that was said in any turn."""
        return Ended("said", False) if any(map(self._says, transcript.turns)) else None

    def check(self, outputs: Outputs) -> None:
        """Check that there is such a member, with such a field."""
        if self.member not in outputs:
            raise BadTeam("Said: member", self.member, f"name one of {', '.join(outputs)}")
        if self.field is not None:
            check_field("Said: field", self.field, {self.member: outputs[self.member]}, of_all=True)

    def _says(self, turn: TeamTurn) -> bool:
        if turn.member != self.member:
            return False
        values = turn.fields.values() if self.field is None else [turn.fields.get(self.field)]
        return any(isinstance(value, str) and normal_form(value) == normal_form(self.what) for value in values)


class Agreed(Ending, frozen=True):
    """So many members say the same, each in its last turn.

    Attributes:
        members: how many.
        field: where they say it; by default in the last field of each.

    Raises:
        BadOption: it is no whole number from 2, or the field no text.
    """

    members: int
    field: str | None = None

    def __post_init__(self) -> None:
        whole("Agreed: members", self.members, 2)
        if self.field is not None:
            text("Agreed: field", self.field)

    def ended(self, transcript: Transcript) -> Ended | None:
        """Return ``agreed`` if so many say the same."""
        forms = [normal_form(last_field(turn, self.field)) for turn in transcript.last_turns().values()]
        counts = Counter(form for form in forms if form is not None)
        return Ended("agreed", False) if max(counts.values(), default=0) >= self.members else None

    def check(self, outputs: Outputs) -> None:
        """Check that there are so many members, with such a field."""
        able = [name for name, known in outputs.items() if self.field is None or known is None or self.field in known]
        if len(able) < self.members:
            of_them = "members" if self.field is None else f"members with a field {self.field}"
            raise BadTeam("Agreed: members", self.members, f"there are {len(able)} {of_them}; ask for fewer")


class External(Ending, frozen=True):
    """Somebody outside asks for an end. What was answered after a turn is in the transcript, with the turn.

    Attributes:
        asked: tells whether somebody does, such as ``event.is_set``; it is called after each turn, and must not wait.
        name: what this is called in transcripts and reasons.

    Raises:
        BadOption: it cannot be called, or the name is no text.
    """

    asked: Callable[[], bool]
    name: str = "external"

    def __post_init__(self) -> None:
        text("External: name", self.name)
        if not callable(self.asked):
            raise BadOption("External: asked", self.asked, "give what says whether to end, such as event.is_set")

    def __deepcopy__(self, memo: object) -> External:
        """Copies of a program listen to the same one."""
        return self

    def ended(self, transcript: Transcript) -> Ended | None:
        """Return its name if an end was asked for after any turn."""
        return Ended(self.name, True) if any(self.name in turn.signals for turn in transcript.turns) else None

    def signals(self) -> tuple[str, ...]:
        """Return its name if an end is asked for now."""
        return (self.name,) if self.asked() else ()
