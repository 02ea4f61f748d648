"""Group chats: members speak in turn, and hear what the others have said.

>>> import dspy
>>> from dspy.utils.dummies import DummyLM
>>> from dspex.teams import Member, Said, Team
>>> def member(signature, *answers):
...     program = dspy.Predict(signature)
...     program.set_lm(DummyLM([*answers]))
...     return program
>>> writer = member("topic -> text", {"text": "Foo"}, {"text": "Food for thought"})
>>> critic = member("topic -> verdict", {"verdict": "too short"}, {"verdict": "APPROVE"})
>>> desk = Team("desk", (Member("writer", writer), Member("critic", critic)))
>>> answer = GroupChat(desk, until=Said("critic", "APPROVE"))(topic="food")
>>> answer.text, answer.ended, [turn.member for turn in answer.transcript.turns]
('Food for thought', 'said', ['writer', 'critic', 'writer', 'critic'])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, ClassVar, Protocol, runtime_checkable

import msgspec

from dspex.teams.endings import Ending, Turns
from dspex.teams.errors import BadTeam
from dspex.teams.patterns.dialogue import Dialogue, DialogueProgram, Steps, said_so_far
from dspex.teams.program import checked_team
from dspex.teams.team import Team
from dspex.teams.transcript import Transcript
from foundation.options import whole


@runtime_checkable
class SpeakerRule(Protocol):
    """Who speaks next."""

    def speaker(self, members: Sequence[str], transcript: Transcript) -> str:
        """Return who speaks next.

        Args:
            members: of the team, in its order.
            transcript: what was said so far.
        """
        ...


class RoundRobin(msgspec.Struct, frozen=True):
    """One after another, in the team's order."""

    def speaker(self, members: Sequence[str], transcript: Transcript) -> str:
        """Return who speaks next."""
        return members[len(transcript.turns) % len(members)]


class RandomSpeaker(msgspec.Struct, frozen=True):
    """Any member but the one that spoke last, by chance.

    Attributes:
        seed: the same seed has the same speakers.

    Raises:
        BadOption: it is no whole number from 0.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        whole("RandomSpeaker: seed", self.seed, 0)

    def speaker(self, members: Sequence[str], transcript: Transcript) -> str:
        """Return who speaks next."""
        last = transcript.turns[-1].member if transcript.turns else None
        others = [member for member in members if member != last] or list(members)
        return others[Random(f"{self.seed}/{len(transcript.turns)}").randrange(len(others))]


class GroupChat(DialogueProgram):
    """A team whose members speak in turn; see `DialogueProgram` for its answer.

    Each gets the inputs, and ``conversation``: what was said before, with who said it. The answer is the last one that
    anybody gave in the team's field. A member that is lost or fails has said nothing, and the next one speaks.

    Args:
        team: whose members' programs are copied.
        until: when it is over; at the latest after the team's ``max_calls``, by default two turns for each member.
        speaker: who speaks next.

    Raises:
        BadTeam, BadOption: it makes no sense; the text says what, and what would.
    """

    shown: ClassVar[Mapping[str, tuple[Any, str]]] = {
        "conversation": (list[dict[str, Any]], "what was said before, in order, and who said it")
    }
    all_answer = False
    uses_rule = False

    def __init__(self, team: Team, until: Ending | None = None, speaker: SpeakerRule = RoundRobin()) -> None:  # noqa: B008
        if isinstance(speaker, type) or not isinstance(speaker, SpeakerRule):
            raise BadTeam("GroupChat: speaker", speaker, "give RoundRobin(), RandomSpeaker(seed), or a rule of yours")
        super().__init__(team, until, 2 * len(checked_team("GroupChat", team).members))
        self.speaker = speaker
        self.check_ladder()

    def alone(self, member: str) -> Any:
        """Return the team as one in which a member speaks by itself, once."""
        found = super().alone(member)
        found.speaker, found.until = RoundRobin(), Turns(1)
        return found

    def steps(self, dialogue: Dialogue, inputs: Mapping[str, Any]) -> Steps:
        """Have one speak after another."""
        found: Mapping[str, Any] | None = None
        while dialogue.ended is None:
            name = self.speaker.speaker(self.names, dialogue.transcript)
            if name not in self.members:
                raise BadTeam("GroupChat: speaker", name, f"name one of {', '.join(self.names)}")
            shown = {"conversation": said_so_far(dialogue.transcript)}
            (spoken,) = yield [(name, {**inputs, **shown})]
            found = spoken.fields if self.says(spoken) else found
        return self.answer(dialogue, found)
