"""Mixtures: layers of members, each of which sees what the layer before has proposed, and one that writes the answer.

>>> import dspy
>>> from dspy.utils.dummies import DummyLM
>>> from dspex.teams import Member, Team
>>> def member(*answers):
...     program = dspy.Predict("question -> answer")
...     program.set_lm(DummyLM([{"answer": answer} for answer in answers]))
...     return program
>>> desk = Team("desk", (Member("a", member("four", "4")), Member("b", member("5", "4"))))
>>> answer = Mixture(desk, Member("writer", member("It is 4.")))(question="2 + 2?")
>>> answer.answer, len(answer.transcript.turns)
('It is 4.', 5)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from dspex.teams.endings import Ended, Ending
from dspex.teams.errors import BadTeam
from dspex.teams.patterns.dialogue import Dialogue, DialogueProgram, SpokenTurn, Steps
from dspex.teams.program import checked_team
from dspex.teams.team import Member, Team
from foundation.options import whole


class Mixture(DialogueProgram):
    """A mixture of agents: members propose, layer after layer, and another one writes the answer.

    Each gets the inputs, and ``proposals``: what the layer before has answered, numbered in the team's order. A layer
    goes on with one answer or more. If the last one has no answer, or there is no time for it, the team's rule counts
    the last proposals, and ``degraded`` says so. ``ended`` is ``layers`` if the aggregator has written the answer, and
    else ``aggregator`` if it had none, ``proposals`` if a whole layer had none, or the bound that was reached. See
    `DialogueProgram` for the answer. It costs as many calls as there are members, for each layer but the last, and one.

    Args:
        team: whose members' programs are copied: those that propose.
        aggregator: writes the answer.
        layers: how many there are, with the aggregator as the last one.
        until: when it is over earlier.

    Raises:
        BadTeam, BadOption: it makes no sense; the text says what, and what would.
    """

    shown: ClassVar[Mapping[str, tuple[Any, str]]] = {
        "proposals": (dict[str, dict[str, Any]], "what others have proposed; they may be wrong")
    }

    def __init__(self, team: Team, aggregator: Member, *, layers: int = 3, until: Ending | None = None) -> None:
        self.proposers = [member.name for member in checked_team("Mixture", team).members]
        self.layers = whole("Mixture: layers", layers, 2)
        if not isinstance(aggregator, Member):
            raise BadTeam("Mixture: aggregator", aggregator, "give a Member")
        calls = len(self.proposers) * (layers - 1) + 1
        if team.max_calls is not None and team.max_calls < calls:
            raise BadTeam("Mixture: max_calls", team.max_calls, f"give at least {calls}, or fewer layers or members")
        self.aggregator = aggregator.name
        whole_team = msgspec.structs.replace(team, members=(*team.members, aggregator))
        # One more than are taken: it ends with the aggregator, and not at a bound.
        super().__init__(msgspec.structs.replace(whole_team, max_calls=None), until, calls + 1)
        self.check_ladder()

    def alone(self, member: str) -> Any:
        """Return the team as one in which a member, or the aggregator, answers by itself."""
        found = super().alone(member)
        found.proposers, found.aggregator, found.layers = [], member, 1
        return found

    def steps(self, dialogue: Dialogue, inputs: Mapping[str, Any]) -> Steps:
        """Ask layer by layer."""
        latest: dict[str, SpokenTurn] = {}
        for _ in range(self.layers - 1):
            shown = _numbered(self.proposers, latest)
            spoken = yield [(name, {**inputs, "proposals": shown}) for name in self.proposers]
            said = {name: one for name, one in zip(self.proposers, spoken, strict=True) if self.says(one)}
            latest = said or latest
            if not said:
                away = any(one.turn.outcome in ("lost", "late") for one in spoken)  # who is away is told as of any team
                dialogue.ended = dialogue.ended or Ended("proposals", not away)
            if dialogue.ended is not None:
                return self._voted(dialogue, latest)
        shown = _numbered(self.proposers, latest)
        (written,) = yield [(self.aggregator, {**inputs, "proposals": shown})]
        if not self.says(written):
            why = "abstained" if written.answered else written.turn.outcome
            dialogue.stop("aggregator")
            return self._voted(dialogue, latest, degraded=f"aggregator:{why}")
        dialogue.finish("layers")
        return self.answer(dialogue, written.fields)

    def _voted(self, dialogue: Dialogue, latest: Mapping[str, SpokenTurn], **more: Any) -> Any:
        """Return what the rule makes of the last proposals; the aggregator is in the ballot, too."""
        return self.vote(dialogue, self.proposers, latest, besides=[self.aggregator], **more)


def _numbered(names: list[str], latest: Mapping[str, SpokenTurn]) -> dict[str, dict[str, Any]]:
    said = [latest[name].turn.fields for name in names if name in latest]
    return {str(place): dict(fields) for place, fields in enumerate(said, 1)}
