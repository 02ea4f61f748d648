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
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import dspy
import msgspec

from dspex.teams.endings import Ending, Turns
from dspex.teams.errors import BadTeam
from dspex.teams.patterns.dialogue import Dialogue, DialogueProgram, Steps, checked_signature, member_of, said_so_far
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


class ChosenSpeaker(msgspec.Struct, frozen=True):
    """Whom somebody chooses, before each turn: a turn of its own, which is in the transcript and costs a call.

    It is shown the inputs, the ``conversation``, and the ``speakers`` with their roles, and says who is ``next``: a
    name, which is typed and never read out of a text. While it is lost, or names nobody there is, the members speak
    one after another.

    Attributes:
        chooser: a `Member`, or a program, that takes these and says this; see `speaker_signature`.
    """

    chooser: Any

    def speaker(self, members: Sequence[str], transcript: Transcript) -> str:
        """Return whom it has named last; else who comes after the last speaker."""
        last = transcript.turns[-1]
        if (found := last.fields.get("next")) in members:
            return str(found)
        spoke = [turn.member for turn in transcript.turns if turn.member in members]
        return members[(members.index(spoke[-1]) + 1) % len(members)] if spoke else members[0]


def speaker_signature(signature: Any, team: Team) -> Any:
    """Return the signature of a `ChosenSpeaker`'s program.

    Args:
        signature: whose inputs the team has, such as ``topic -> text``.
        team: whose members speak.

    Raises:
        BadTeam: the signature is none.
    """
    made = checked_signature("speaker_signature: signature", signature).with_instructions("Choose who speaks next.")
    for name in made.output_fields:
        made = made.delete(name)
    said = dspy.InputField(desc="what was said before, in order, and who said it")
    made = made.append("conversation", said, list[dict[str, Any]])
    made = made.append("speakers", dspy.InputField(desc="who they are, and what for"), dict[str, str])
    names = tuple(member.name for member in team.members)
    return made.append("next", dspy.OutputField(desc="who speaks next"), Literal[names])


class GroupChat(DialogueProgram):
    """A team whose members speak in turn; see `DialogueProgram` for its answer.

    Each gets the inputs, and ``conversation``: what was said before, with who said it. The answer is the last one that
    anybody gave in the team's field. A member that is lost or fails has said nothing, and the next one speaks.

    Args:
        team: whose members' programs are copied.
        until: when it is over; at the latest after the team's ``max_calls``, by default two turns for each member, and
            as many choices if the speaker is chosen.
        speaker: who speaks next: `RoundRobin`, `RandomSpeaker`, `ChosenSpeaker`, or a rule of yours.

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
            raise BadTeam(
                "GroupChat: speaker",
                speaker,
                "give a rule, such as RoundRobin() or RandomSpeaker(seed)",
            )
        self.speakers = {member.name: member.role for member in checked_team("GroupChat", team).members}
        self.chooser: str | None = None
        turns = 2 * len(self.speakers)
        if isinstance(speaker, ChosenSpeaker):
            chooser = member_of("ChosenSpeaker: chooser", "chooser", speaker.chooser)
            team = msgspec.structs.replace(team, members=(*team.members, chooser))
            self.chooser, turns = chooser.name, 2 * turns
            speaker = ChosenSpeaker(None)  # its program is a part of this one
        super().__init__(team, until, turns)
        self.speaker = speaker
        self.check_ladder()

    def alone(self, member: str) -> Any:
        """Return the team as one in which a member speaks by itself, once."""
        found = super().alone(member)
        found.speaker, found.until, found.chooser, found.speakers = RoundRobin(), Turns(1), None, {member: ""}
        return found

    def shown_to(self, member: str) -> Mapping[str, tuple[Any, str]]:
        """Return what a member is shown: whoever chooses has it in its signature."""
        return {} if member == self.chooser else self.shown

    def _answering(self) -> list[str]:
        return [name for name in super()._answering() if name != self.chooser]

    def steps(self, dialogue: Dialogue, inputs: Mapping[str, Any]) -> Steps:
        """Have one speak after another."""
        found: Mapping[str, Any] | None = None
        while dialogue.ended is None:
            given = {**inputs, "conversation": said_so_far(dialogue.transcript, self.speakers)}
            if self.chooser is not None:
                yield [(self.chooser, {**given, "speakers": dict(self.speakers)})]
                if dialogue.ended is not None:
                    break
            name = self.speaker.speaker([*self.speakers], dialogue.transcript)
            if name not in self.speakers:
                raise BadTeam("GroupChat: speaker", name, f"name one of {', '.join(self.speakers)}")
            (spoken,) = yield [(name, given)]
            found = spoken.fields if self.says(spoken) else found
        return self.answer(dialogue, found)
