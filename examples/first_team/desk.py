"""What a tenant's message is about: one program, a team of four, and what makes an answer right."""

from pathlib import Path
from typing import Any, Literal

import dspy

from dspex.teams import CombinationRule, DropMember, MajorityVote, Member, Team, WithProbabilities, read_rule


class Repairs(dspy.Signature):
    """Classify the message by its topic."""

    message: str = dspy.InputField()
    topic: Literal["heating", "plumbing", "electricity", "noise"] = dspy.OutputField()


def one() -> Any:
    """Return one program."""
    return dspy.Predict(Repairs)


def reworded(instruction: str) -> Any:
    """Return the same program in other words."""
    return dspy.Predict(Repairs.with_instructions(instruction))


class Keywords(dspy.Module):
    """A list of words, and no model. Of a message with none of them, it knows nothing."""

    words = {
        "heating": ("heating", "radiator", "boiler", "warm", "cold"),
        "plumbing": ("water", "pipe", "tap", "drain", "toilet"),
        "electricity": ("electric", "power", "light", "lamp", "socket"),
        "noise": ("noise", "loud", "music", "party", "quiet"),
    }

    def forward(self, message: str) -> Any:
        """Choose the topic of which most words are there."""
        text = message.casefold()
        found = {topic: sum(word in text for word in words) for topic, words in self.words.items()}
        best = max(found, key=found.__getitem__)
        return dspy.Prediction(topic=best if found[best] else None)


def desk(rule: CombinationRule | None = None) -> Team:
    """Return the team: three wordings of one question, which tell how sure they are, and the list."""
    landlord = "You work for a landlord. Read what a tenant writes, and decide which department is responsible."
    about = "Is it about warmth, about water, about power, or about neighbours?"
    members = (
        Member("classify", WithProbabilities(one())),
        Member("landlord", WithProbabilities(reworded(landlord))),
        Member("about", WithProbabilities(reworded(about))),
        Member("keywords", Keywords()),
    )
    return Team("desk", members, rule or MajorityVote())


def fitted() -> Any:
    """Return the team as a program, with the rule that `measure.py` has written."""
    return desk(read_rule(Path("rule.json").read_text())).program()


def voting() -> Any:
    """Return the team as a program, as it is before a search."""
    return desk().program()


def searched() -> Any:
    """Return the team that a search has made: it has left `about` out."""
    program = voting().reshaped(DropMember("about"))
    program.load("searched.json")
    return program


def right(example: Any, prediction: Any) -> bool:
    """Return whether the topic is the one that a person has chosen."""
    return bool(example.topic == prediction.topic)
