"""Suite ``team-talk``: whether a debate, and specialists, are worth their calls: the small model and real headlines.

60 headlines of BBC News, the first ones of the suite ``team``. Three members debate: two wordings in the model's chat
format, and one plainly. Five specialists are each asked about one section, yes or no. Answers that were asked for once
are kept, in the file of that suite. ``error`` is the standard error of the accuracy.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import dspy

from bench.figure import Better, Figure
from bench.team_members import LABELS, TOPIC, WORDINGS, Asked, asking
from dspex.models.local.adapter import CompactAdapter
from dspex.teams import (
    Debate,
    MajorityVote,
    MemberVote,
    RecordedVotes,
    Team,
    Transcript,
    flips,
    mean_probabilities,
    normal_form,
)

HEADLINES = 60
#: How often members may change their answers.
ROUNDS = 1


class Specialist(dspy.Signature):  # type: ignore[misc]
    """Say whether the headline is about the section."""

    headline: str = dspy.InputField()
    answer: Literal["yes", "no"] = dspy.OutputField()


class Debated(NamedTuple):
    """How a debate about a headline went: the transcript, what was its answer, and what is right."""

    transcript: Transcript
    answer: str
    truth: str


@cache
def _debates() -> list[Debated]:
    return asking(lambda asked: asyncio.run(_debated(asked)))


async def _debated(asked: Asked) -> list[Debated]:
    ways = [("chat", WORDINGS[0]), ("plain", WORDINGS[0]), ("chat", WORDINGS[1])]
    members = [
        asked.member(f"{way} {number}", TOPIC.with_instructions(wording), way)
        for number, (way, wording) in enumerate(ways, 1)
    ]
    debate, gate, found = Debate(Team("debate", tuple(members), field="topic"), rounds=ROUNDS), asyncio.Semaphore(2), []

    async def one(example: Any) -> Debated:
        async with gate:
            answer = await debate.acall(**example.inputs())
        found.append(answer)
        asked.show(f"debates: {len(found)} of {HEADLINES}")
        return Debated(answer.transcript, str(answer.topic), str(example.topic))

    with dspy.context(adapter=CompactAdapter()):
        debated = await asyncio.gather(*map(one, asked.headlines[:HEADLINES]))
    asked.show("")
    return debated


def _first(debated: Debated, members: int = 3) -> str:
    """Return what the first answers come to, in a vote."""
    turns = [turn for turn in debated.transcript.turns[:members] if turn.outcome == "answered"]
    votes = [MemberVote(turn.member, normal_form(turn.fields["topic"])) for turn in turns]
    return str(MajorityVote().decide(votes).form)


async def debate() -> Figure:
    """A debate of three beside the vote of their first answers, which costs three calls."""
    debates = await asyncio.to_thread(_debates)
    changed = [flips(one.transcript, one.truth, field="topic") for one in debates]
    more = {
        "calls": sum(len(one.transcript.turns) for one in debates) / len(debates),
        "flips_right": float(sum(one.right for one in changed)),
        "flips_wrong": float(sum(one.wrong for one in changed)),
    }
    before = _share([_first(one) == one.truth for one in debates])
    return _figure(_share([one.answer == one.truth for one in debates]), before, "lower", **more)


class Yes(NamedTuple):
    """How probable each specialist finds it that a headline is of its section, and what is asked directly."""

    sections: list[dict[str, float]]
    direct: RecordedVotes


@cache
def _specialists() -> Yes:
    def ask(asked: Asked) -> Yes:
        headlines = asked.headlines[:HEADLINES]
        found: list[dict[str, float]] = [{} for _ in headlines]
        for section in LABELS:
            wanted = Specialist.with_instructions(f"Say whether the headline is about {section}.")
            examples = [
                dspy.Example(headline=one.headline, answer="yes" if one.topic == section else "no").with_inputs(
                    "headline"
                )
                for one in headlines
            ]
            records = asked.record([asked.member(f"about {section}", wanted, "chat")], examples, "answer")
            for shares, cast in zip(found, records.votes, strict=True):
                shares[section] = (cast[0].probabilities or {}).get("yes", 0.0)
        return Yes(found, asked.record([asked.member("direct", TOPIC, "chat")], headlines))

    return asking(ask)


async def specialists() -> Figure:
    """Five specialists, of which the surest has it, beside one member that is asked for the section."""
    yes = await asyncio.to_thread(_specialists)
    means = mean_probabilities([{section: {"yes": share} for section, share in row.items()} for row in yes.sections])
    surest = [max(row, key=row.__getitem__) for row in yes.sections]
    corrected = [max(row, key=lambda section: row[section] / means[section]["yes"]) for row in yes.sections]
    truth = yes.direct.truth
    said = [section for row in yes.sections for section, share in row.items() if share > 0.5]
    more = {
        "corrected": _share([one == right for one, right in zip(corrected, truth, strict=True)]),
        "calls": float(len(LABELS)),
        "yes": len(said) / (len(LABELS) * len(truth)),
    }
    direct = yes.direct.accuracy(MajorityVote())
    return _figure(_share([one == right for one, right in zip(surest, truth, strict=True)]), direct, "lower", **more)


def _share(right: Sequence[bool]) -> float:
    return sum(right) / len(right)


def _figure(value: float, limit: float, better: Better, **more: float) -> Figure:
    error = math.sqrt(value * (1 - value) / HEADLINES)
    ratio = value / limit
    # It says what does not pay: were it above, the page about it would have to say something else.
    return Figure(
        value=value, unit="accuracy", limit=limit, ratio=ratio, reach=1.1, better=better, more={"error": error, **more}
    )


FIGURES = {"debate": debate, "specialists": specialists}
