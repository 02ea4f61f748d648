"""Handoffs: one member has the conversation, and gives it to another one, with as much of it as it names.

>>> import dspy
>>> from dspy.utils.dummies import DummyLM
>>> from dspex.teams import Member, Team
>>> def member(*says):
...     program = dspy.Predict("question -> answer")
...     program.set_lm(DummyLM([*says]))
...     return program
>>> front = member({"answer": "null", "handoff": '{"to": "billing", "carry": ["question"]}'})
>>> billing = member({"answer": "It was 9.99.", "handoff": "null"})
>>> desk = HandoffTeam(Team("desk", (Member("front", front), Member("billing", billing))))
>>> answer = desk(question="What was my last bill?")
>>> answer.answer, [turn.member for turn in answer.transcript.turns]
('It was 9.99.', ['front', 'billing'])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import dspy
import msgspec
import pydantic

from dspex.teams.endings import Ending
from dspex.teams.errors import AlreadyHandedOff, BadTeam
from dspex.teams.patterns.dialogue import Dialogue, DialogueProgram, SpokenTurn, Steps, missing
from dspex.teams.program import checked_team
from dspex.teams.team import Team
from foundation.options import whole

#: What of a conversation can be carried, besides fields by their names.
_PARTS = ("all", "inputs", "last", "summary")


def _undescribed(schema: dict[str, Any]) -> None:
    """Models read what the fields are, and not what this class is for."""
    schema.pop("description")


class Handoff(pydantic.BaseModel):
    """That a member gives the conversation to another one. A pydantic model, so that signatures can have it as a type.

    Attributes:
        to: who gets it.
        why: why, for the transcript; it is not carried.
        carry: what goes along, and nothing else does: ``inputs``, those that the giver had; ``last``, what it has just
            said; ``summary``, that text; ``all``, what it had and said; or fields of these, by name.
        summary: what there is to know.
    """

    model_config = pydantic.ConfigDict(frozen=True, json_schema_extra=_undescribed)

    to: str
    why: str = ""
    carry: tuple[str, ...] = pydantic.Field(
        default=("inputs", "last"),
        description="all that goes along: inputs, last (what you say now), summary, all, or names of fields",
    )
    summary: str = pydantic.Field(default="", description="what there is to know, if you carry a summary")

    @pydantic.field_validator("carry", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        """One name may stand for itself."""
        return (given,) if isinstance(given, str) else given


class ActiveMember(msgspec.Struct, frozen=True):
    """Who has a conversation.

    Attributes:
        member: who.
        version: how often it was handed off.
    """

    member: str
    version: int = 0

    def hand_off(self, to: str, version: int) -> ActiveMember:
        """Return who has it after a handoff.

        Args:
            to: who gets it.
            version: the one that the giver saw: if it is not this one's, another handoff came first.

        Raises:
            AlreadyHandedOff: it did.
        """
        if version != self.version:
            raise AlreadyHandedOff(self.member, to)
        return ActiveMember(to, version + 1)


class _Held(NamedTuple):
    """What a member was given, and by whom."""

    member: str
    inputs: Mapping[str, Any]
    conversation: tuple[Mapping[str, Any], ...]
    giver: _Held | None = None

    def noted(self, note: str) -> _Held:
        return self._replace(conversation=(*self.conversation, {"note": note}))

    def carried(self, handoff: Handoff, said: Mapping[str, Any]) -> _Held:
        """Return what the next one gets: what is named, of what this one had and said."""
        carry = set(handoff.carry)
        whole_turn = {"member": self.member, **said}
        inputs = self.inputs if carry & {"all", "inputs"} else {k: v for k, v in self.inputs.items() if k in carry}
        heard = self.conversation if "all" in carry else ()
        turn = whole_turn if carry & {"all", "last"} else {k: v for k, v in said.items() if k in carry}
        summary = ({"summary": handoff.summary},) if "summary" in carry else ()
        conversation = (*heard, *((turn,) if turn else ()), *summary)
        return _Held(handoff.to, inputs, conversation, self)


class HandoffTeam(DialogueProgram):
    """A team of which one member has the conversation, and may hand it off; see `DialogueProgram` for its answer.

    The active member gets the inputs, and ``conversation``, as far as they were carried to it. Besides its answer it
    says ``handoff``: a `Handoff`, or None if the answer is its last word. A program of one predictor gets both fields
    into its signature; any other has to take and to return them. Of several handoffs in one turn the first in the
    team's order counts; the others are refused, and told in ``refused``. One to nobody there is, or that carries what
    is not there, is told to its member, once. When the new member is lost or fails, the giver goes on, and is told so.

    Args:
        team: whose members' programs are copied.
        first: who has the conversation at first; by default the first member.
        max_handoffs: how many there may be; by default two for each member.
        until: when it is over earlier.

    Raises:
        BadTeam, BadOption: it makes no sense; the text says what, and what would.
    """

    shown: ClassVar[Mapping[str, tuple[Any, str]]] = {
        "conversation": (list[dict[str, Any]], "what was handed to you of what was said before")
    }
    nullable: ClassVar[bool] = True
    all_answer = False
    uses_rule = False

    def __init__(
        self, team: Team, *, first: str | None = None, max_handoffs: int | None = None, until: Ending | None = None
    ) -> None:
        names = [member.name for member in checked_team("HandoffTeam", team).members]
        most = 2 * len(names) if max_handoffs is None else max_handoffs
        self.max_handoffs = whole("HandoffTeam: max_handoffs", most, 0)
        self.first = names[0] if first is None else first
        if self.first not in names:
            raise BadTeam("HandoffTeam: first", first, f"name one of {', '.join(names)}")
        super().__init__(team, until, 2 * (most + 1))
        self._signature = super().signature
        for member, program in self.members.items():
            _offer(program, [name for name in names if name != member])
        self.check_ladder()

    def alone(self, member: str) -> Any:
        """Return the team as one in which a member has the conversation, and nobody to hand it to."""
        found = super().alone(member)
        found.first, found.max_handoffs = member, 0
        return found

    def said(self, prediction: Any) -> dict[str, Any]:
        """Return what a member has said, without what is between members."""
        return _without(super().said(prediction))

    @property
    def signature(self) -> Any:
        """The inputs and outputs of the first member, without what is between members; None if that has none."""
        return self._signature

    def steps(self, dialogue: Dialogue, inputs: Mapping[str, Any]) -> Steps:
        """Ask the active member, until there is no handoff."""
        active, held = ActiveMember(self.first), _Held(self.first, inputs, ())
        found: Mapping[str, Any] | None = None
        refused: list[str] = []
        misled = False
        while dialogue.ended is None:
            given = {**held.inputs, "conversation": [dict(turn) for turn in held.conversation]}
            (spoken,) = yield [(held.member, given)]
            if not spoken.answered:
                if held.giver is None:
                    dialogue.stop(f"{held.member}:{spoken.turn.outcome}")
                    break
                held = held.giver.noted(f"{held.member} {missing(spoken.turn)}")
                active = ActiveMember(held.member, active.version + 1)
                continue
            found = _without(spoken.fields) if self.says(spoken) else found
            offers = self._offers(spoken, held)
            if isinstance(offers, str):
                if misled:
                    dialogue.stop("handoff")
                misled, held = True, held.noted(offers)
                continue
            misled = False
            if not offers:
                dialogue.finish("answered")
            elif active.version >= self.max_handoffs:
                dialogue.stop("turns")
            else:
                version, said = active.version, _without(spoken.turn.fields)
                for offer in offers:
                    try:
                        active = active.hand_off(offer.to, version)
                        held = held.carried(offer, said)
                    except AlreadyHandedOff as error:
                        refused.append(str(error))
        return self.answer(dialogue, found, refused=tuple(refused), active=held.member)

    def _offers(self, spoken: SpokenTurn, held: _Held) -> list[Handoff] | str:
        """Return the handoffs of a turn, in the team's order; or what is wrong with one of them."""
        given = spoken.fields.get("handoff")
        offers = [_handoff(one) for one in (given if isinstance(given, (list, tuple)) else [given]) if one is not None]
        others = [name for name in self.names if name != held.member]
        if not others:
            return []
        known = {*_PARTS, *held.inputs, *spoken.fields}
        found: list[Handoff] = []
        for offer in offers:
            if offer is None or offer.to not in others:
                return f"A handoff is to one of: {', '.join(others)}."
            if missing := [name for name in offer.carry if name not in known]:
                return f"There is no {', '.join(missing)} to carry. Name some of: {', '.join(sorted(known))}."
            found.append(offer)
        return sorted(found, key=lambda offer: self.names.index(offer.to))


def _handoff(given: Any) -> Handoff | None:
    try:
        return Handoff.model_validate(given if isinstance(given, (Handoff, Mapping)) else {})
    except pydantic.ValidationError:
        return None


def _without(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "handoff"}


def _offer(program: Any, others: Sequence[str]) -> None:
    """Have a program of one predictor say whom it hands the conversation to."""
    predictors = program.predictors()
    if len(predictors) != 1 or "handoff" in predictors[0].signature.output_fields:
        return
    (predictor,) = predictors
    made = predictor.signature
    for name, field in made.fields.items():  # which may not be carried, or not be said yet
        made = made.with_updated_fields(name, field.annotation | None)
    desc = f"null, or who goes on instead of you: one of {', '.join(others)}"
    predictor.signature = made.append("handoff", dspy.OutputField(desc=desc), Handoff | None)
