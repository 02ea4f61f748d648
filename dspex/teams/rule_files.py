"""Rules as text: what was fitted to recorded votes is kept, and read where the team is made.

>>> read_rule(write_rule(WeightedVote({"a": 2.5})))
WeightedVote(weights={'a': 2.5})
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from dspex.teams.errors import BadTeam
from dspex.teams.rules import CombinationRule, ConfusionVote, FirstAnswer, MajorityVote, SoftVote, WeightedVote
from dspex.teams.stacking import Stacking

_Rule: TypeAlias = MajorityVote | WeightedVote | ConfusionVote | SoftVote | FirstAnswer | Stacking


def write_rule(rule: CombinationRule) -> str:
    """Return a rule as a JSON object; its ``type`` is the name of its class.

    Args:
        rule: one of this package, about forms that are texts, as `normal_form` makes them.

    Raises:
        BadTeam: it is another, or about other forms, and could not be read again.
    """
    written = rule_text(rule)
    if written is None:
        raise BadTeam("write_rule: rule", rule, "give a rule of dspex.teams, about forms that are texts")
    return written


def rule_text(rule: CombinationRule) -> str | None:
    """Return what `write_rule` writes; None of a rule that could not be read again."""
    try:
        written = msgspec.json.format(msgspec.json.encode(rule)).decode()
        same: Any = read_rule(written) == rule
    except (TypeError, BadTeam):
        return None
    return written if same else None


def read_rule(text: str | bytes) -> CombinationRule:
    """Return the rule that `write_rule` has written.

    Raises:
        BadTeam: the text is none, or a number in it makes no sense.
    """
    try:
        rule: CombinationRule = msgspec.json.decode(text, type=_Rule)
    except (msgspec.DecodeError, UnicodeError, TypeError) as error:
        raise BadTeam("read_rule: text", text, f"give what write_rule has written; {error}") from error
    return rule
