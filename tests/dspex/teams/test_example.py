"""The example of `docs/how-to/teams-of-programs.md`."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import dspy
import pytest

from dspex.testing.engine import ScriptedEngine, scripted_lm
from examples import triage_team
from examples.triage import WORDINGS, tickets
from foundation.tree import load_tree

ROOT = Path(__file__).parents[3]


class Particular(ScriptedEngine):
    """Judges rightly in two of the three wordings, and otherwise says that it is about money."""

    def answer(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the text of the answer to a conversation."""
        said = [turn["content"] for turn in messages]
        message = said[-1].partition("[[ ## message ## ]]\n")[2].partition("\n")[0]
        topic = "payment" if WORDINGS[1] in said[0] else self.labels[message]
        return f"[[ ## topic ## ]]\n{topic}\n\n[[ ## completed ## ]]"


def test_the_example_says_what_each_knows_and_what_the_vote_knows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two that know all are more than one that knows a third."""
    known = {example.message: example.topic for half in tickets() for example in half}

    @contextmanager
    def language_model() -> Generator[None]:
        with dspy.context(lm=scripted_lm(Particular(known))):
            yield

    monkeypatch.setattr(triage_team, "language_model", language_model)
    triage_team.main()
    assert capsys.readouterr().out.splitlines() == [
        " classify: 100%",
        "    route: 33%",
        "    about: 100%",
        " majority: 100%, in 30 messages",
        "any right: 100%; they agree in 56%",
    ]


def test_the_tree_of_the_example_can_be_started() -> None:
    """All that it names is there."""
    assert "/triage_team/desk" in dict(load_tree(ROOT / "examples/triage_team.toml").outline())
