"""Ask each member about each message once; fit rules to learn.csv, and say what they come to on both files."""

import asyncio
import csv
from pathlib import Path

import dspy
from desk import desk

from dspex import language_model
from dspex.teams import ConfusionVote, MajorityVote, RecordedVotes, SoftVote, Stacking, record, write_rule


def asked(path: str) -> RecordedVotes:
    """Return what the members say of the messages in a file."""
    with Path(path).open(newline="") as file:
        examples = [dspy.Example(**row).with_inputs("message") for row in csv.DictReader(file)]
    return asyncio.run(record(desk(), examples, width=1))


def told(what: str, learned: float, tested: float) -> None:
    """Print a line."""
    print(f"{what:<10} {learned:9.0%} {tested:9.0%}")


with language_model(slots=3):
    learn, test = asked("learn.csv"), asked("test.csv")

print("           learn.csv  test.csv")
for member in learn.members:
    told(member, learn.counts(member)[0] / len(learn.truth), test.counts(member)[0] / len(test.truth))
rules = {
    "majority": MajorityVote(),
    "corrected": SoftVote.fitted(learn),
    "confusion": ConfusionVote.fitted(learn),
    "stacking": Stacking.fitted(learn),
}
for name, rule in rules.items():
    told(name, learn.accuracy(rule), test.accuracy(rule))
wordings = ["classify", "landlord", "about"]
model_only = Stacking.fitted(learn.only(wordings))
told("no list", learn.only(wordings).accuracy(model_only), test.only(wordings).accuracy(model_only))
told("any right", learn.oracle, test.oracle)
print(f"they err together: {test.error_correlation:.2f}")
Path("rule.json").write_text(write_rule(rules["stacking"]))
