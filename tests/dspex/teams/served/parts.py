"""Members of the matrix: they say what is written, unless a test has them be away, or hold their answer."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import dspy

from dspex.agents.dispatcher import AgentDown
from dspex.teams import (
    BanditRoute,
    Blackboard,
    BoardSource,
    Cascade,
    ConfusionVote,
    Debate,
    FirstAnswer,
    GroupChat,
    Handoff,
    HandoffTeam,
    MajorityVote,
    ManagedTeam,
    Member,
    MemberVote,
    Mixture,
    RecordedVotes,
    RouteBy,
    SelfConsistency,
    SoftVote,
    Stacking,
    Team,
    TeamRouter,
    Turns,
    WeightedVote,
)

Fields = Mapping[str, Any]


class Hold:
    """Holds the answers of a member: ``came`` is set when it is asked, and ``go`` lets it answer."""

    def __init__(self) -> None:
        self.came, self.go = asyncio.Event(), asyncio.Event()


class Part(dspy.Module):
    """Says what is written, with the label of its first demonstration if it has one."""

    away: dict[str, BaseException] = {}
    held: dict[str, Hold] = {}
    asked: Counter[str] = Counter()

    def __init__(self, name: str, says: Fields | Callable[[Fields], Fields]) -> None:
        super().__init__()
        self.name, self.says = name, says
        self.ask = dspy.Predict("text -> label")

    def forward(self, **inputs: Any) -> Any:
        """Answer at once."""
        return self._said(inputs)

    def _said(self, inputs: Fields) -> Any:
        Part.asked[self.name] += 1
        if self.name in self.away:
            raise self.away[self.name]
        written = dict(self.says(inputs) if callable(self.says) else self.says)
        if self.ask.demos and written.get("label") is not None:
            written |= said(self.ask.demos[0]["label"])
        return dspy.Prediction(**written)

    async def aforward(self, **inputs: Any) -> Any:
        """Answer, unless it is held."""
        if self.name in self.held:
            self.held[self.name].came.set()
            await self.held[self.name].go.wait()
        return self._said(inputs)


def forget() -> None:
    """Begin anew: nobody is away, and nobody held."""
    Part.away.clear()
    Part.held.clear()
    Part.asked.clear()


def gone(*names: str) -> None:
    """Have these members be away."""
    Part.away.update(dict.fromkeys(names, AgentDown("gone")))


def said(label: str, **more: Any) -> dict[str, Any]:
    """What a member says that is nearly sure of it."""
    other = {"A": "B", "B": "A"}[label]
    return {"label": label, "probabilities": {label: 0.9, other: 0.1}, **more}


def team(**says: Fields | Callable[[Fields], Fields]) -> Team:
    """A team of members by their names, and what each says."""
    return Team("team", tuple(Member(name, Part(name, one)) for name, one in says.items()), field="label")


def of_three(rule: Any) -> Callable[[], Any]:
    """What makes a vote of three, two of which say A."""
    return lambda: Team(
        "team",
        tuple(Member(name, Part(name, said(label))) for name, label in zip("abc", "AAB", strict=True)),
        field="label",
        rule=rule,
    ).program()


def fitted() -> Stacking:
    """Believes what a and b say."""
    rows = [(one, other) for one in "ab" for other in "ab"] * 3
    cast = [[MemberVote("a", one), MemberVote("b", one), MemberVote("c", other)] for one, other in rows]
    return Stacking.fitted(RecordedVotes(cast, [one for one, _ in rows]))


def confused() -> ConfusionVote:
    """Knows that a and b are mostly right."""
    row = {"a": {"a": 0.9, "b": 0.1}, "b": {"a": 0.1, "b": 0.9}}
    return ConfusionVote({"a": 0.5, "b": 0.5}, {"a": row, "b": row, "c": row})


def managed() -> Any:
    """A manager with one worker, whose finding it waits for."""

    def leads(inputs: Fields) -> Fields:
        if inputs["done"] or "a: found" in inputs["note"] or "lost" in inputs["note"]:
            return {"progress": True, "next": "done", "task": "", "label": "A"}
        return {"progress": True, "next": "a", "task": "it", "label": "A"}

    return ManagedTeam(team(a={"found": "A"}), "text -> label", Member("m", Part("m", leads)))


def hands_on(inputs: Fields) -> Fields:
    """Hand the conversation to b, unless b is known to be lost."""
    lost = any("note" in turn for turn in inputs["conversation"])
    return {"label": "A" if lost else None, "handoff": None if lost else Handoff(to="b")}


def board() -> Any:
    """One finds facts, and the other one judges by them."""
    made = team(a={"facts": "some"}, b={"label": "A"})
    for member, signature in zip(made.members, ("text -> facts", "facts -> label"), strict=True):
        member.program.signature = dspy.Signature(signature)
    return Blackboard(made, [BoardSource("a", ("text",)), BoardSource("b", ("facts",))])


VOTES: dict[str, Callable[[], Any]] = {
    "majority": of_three(MajorityVote()),
    "weighted": of_three(WeightedVote({"b": 2.0})),
    "confusion": of_three(confused()),
    "soft": of_three(SoftVote({"a": {"a": 0.5, "b": 0.5}})),
    "first": of_three(FirstAnswer()),
    "stacking": of_three(fitted()),
}
LEARNED = [(None, "a", 9, 1.0), (None, "b", 9, 0.0)]
PATTERNS: dict[str, Callable[[], Any]] = {
    **VOTES,
    "router": lambda: TeamRouter(team(a=said("A"), b=said("B")), RouteBy(lambda _: "a")),
    "bandit": lambda: TeamRouter(team(a=said("A"), b=said("B")), BanditRoute(learned=LEARNED)),
    "cascade": lambda: Cascade(team(a=said("A"), b=said("A")), {"a": 0.95}),
    "samples": lambda: SelfConsistency(Part("a", said("A")), 3, field="label", name="a", temperature=0.7),
    "board": board,
    "debate": lambda: Debate(team(a=said("A"), b=said("B"), c=said("A")), rounds=1),
    "mixture": lambda: Mixture(team(a=said("A"), b=said("B")), Member("w", Part("w", said("A"))), layers=2),
    "managed": managed,
    "handoff": lambda: HandoffTeam(team(a=hands_on, b={"label": "A"})),
    "chat": lambda: GroupChat(team(a=said("B"), b=said("A")), Turns(2)),
}
