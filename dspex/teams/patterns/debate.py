"""Debates: members answer, see what the others have said, and may change their minds; then they vote.

>>> import dspy
>>> from dspy.utils.dummies import DummyLM
>>> from dspex.teams import Member, Team
>>> def member(*answers):
...     program = dspy.Predict("question -> answer")
...     program.set_lm(DummyLM([{"answer": answer} for answer in answers]))
...     return program
>>> desk = Team("desk", (Member("a", member("4", "4")), Member("b", member("5", "4")), Member("c", member("4", "4"))))
>>> answer = Debate(desk)(question="2 + 2?")
>>> answer.answer, answer.ended, len(answer.transcript.turns), flips(answer.transcript, "4")
('4', 'unanimous', 6, Flips(right=1, wrong=0))
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from random import Random
from typing import Any, ClassVar

import msgspec

from dspex.teams.ballot import normal_form
from dspex.teams.endings import Ending
from dspex.teams.errors import BadTeam
from dspex.teams.patterns.dialogue import Dialogue, DialogueProgram, SpokenTurn, Steps
from dspex.teams.program import checked_team
from dspex.teams.team import Team
from dspex.teams.transcript import Transcript, last_field
from foundation.options import whole


class Flips(msgspec.Struct, frozen=True):
    """How often members have changed their minds.

    Attributes:
        right: from a wrong answer to the right one.
        wrong: from the right answer to a wrong one.
    """

    right: int
    wrong: int


def flips(
    transcript: Transcript,
    truth: object,
    *,
    field: str | None = None,
    normal: Callable[[Any], Hashable] = normal_form,
) -> Flips:
    """Return how often members have changed their minds, and to what. A debate pays if it is to the right.

    Args:
        transcript: of a debate.
        truth: the right answer.
        field: where members say it; by default in their last field.
        normal: what makes two answers the same.
    """
    right = wrong = 0
    last: dict[str, bool] = {}
    for turn in transcript.turns:
        if turn.outcome == "answered":
            now = normal(last_field(turn, field)) == normal(truth)
            before = last.get(turn.member, now)
            right += now and not before
            wrong += before and not now
            last[turn.member] = now
    return Flips(right, wrong)


class Debate(DialogueProgram):
    """A team whose members see each other's answers, and may change theirs, before the rule counts them.

    All are asked the question. As long as they are not of one mind, each is asked again with ``others``: what the
    others have said, under letters that the seed deals out anew in each round, so that nobody follows a name. A member
    that has no answer in a round keeps the one it had. The rule and the quorum are those of the team; see
    `DialogueProgram` for the answer. It costs as many calls as there are members, for each round and once more.

    Measure it against a plain vote of as many answers before you use it: members of one model talk each other into what
    most of them think.

    Args:
        team: whose members' programs are copied.
        rounds: how many there are at most after the first answers.
        seed: deals out the letters.
        until: when it is over earlier. A round that has begun is ended; one that would be more than the team's
            ``max_calls`` is not begun.

    Raises:
        BadTeam, BadOption: it makes no sense; the text says what, and what would.
    """

    shown: ClassVar[Mapping[str, tuple[Any, str]]] = {
        "others": (dict[str, dict[str, Any]], "what others have answered; they may be wrong")
    }

    def __init__(self, team: Team, *, rounds: int = 2, seed: int = 0, until: Ending | None = None) -> None:
        members = len(checked_team("Debate", team).members)
        self.rounds = whole("Debate: rounds", rounds, 0)
        self.seed = whole("Debate: seed", seed, 0)
        if team.max_calls is not None and team.max_calls < members:
            raise BadTeam("Debate: max_calls", team.max_calls, f"give at least {members}, one for each member")
        super().__init__(team, until, members * (1 + rounds))
        self.check_ladder()

    def alone(self, member: str) -> Any:
        """Return the team as one in which a member answers by itself, once."""
        found = super().alone(member)
        found.rounds = 0
        return found

    def steps(self, dialogue: Dialogue, inputs: Mapping[str, Any]) -> Steps:
        """Ask all of them, round by round, until they are of one mind."""
        latest: dict[str, SpokenTurn] = {}
        for number in range(1 + self.rounds):
            if not self._affordable(dialogue):
                dialogue.stop("turns")
            if dialogue.ended is not None:
                break
            letters = self._letters(number, latest)
            shown = [{letter: latest[name].turn.fields for letter, name in letters if name != me} for me in self.names]
            spoken = yield [(me, {**inputs, "others": one}) for me, one in zip(self.names, shown, strict=True)]
            latest |= {name: one for name, one in zip(self.names, spoken, strict=True) if one.answered}
            if self._unanimous(latest):
                dialogue.finish("unanimous")
                break
        else:
            dialogue.finish("rounds")
        return self.vote(dialogue, self.names, latest)

    def _affordable(self, dialogue: Dialogue) -> bool:
        most = self.team.max_calls
        return most is None or len(dialogue.transcript.turns) + len(self.names) <= most

    def _letters(self, number: int, latest: Mapping[str, SpokenTurn]) -> list[tuple[str, str]]:
        """Return the letters of a round, and whose each is."""
        names = [name for name in self.names if name in latest]
        Random(f"{self.seed}/{number}").shuffle(names)
        return [(_letter(place), name) for place, name in enumerate(names)]

    def _unanimous(self, latest: Mapping[str, SpokenTurn]) -> bool:
        """Return whether all that have an answer have the same, and are enough."""
        forms = {vote.form for vote in self.votes(self.names, latest)}
        return len(forms) == 1 and self.enough(self.names, latest)


def _letter(place: int) -> str:
    """Return A to Z, then AA and so on."""
    before, last = divmod(place, 26)
    return (_letter(before - 1) if before else "") + chr(ord("A") + last)
