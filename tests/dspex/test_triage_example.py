"""The example of the tutorial `docs/first-program.md`."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import dspy
import pytest

from dspex.testing.engine import ScriptedEngine, scripted_lm
from examples import triage
from examples.triage import main, tickets

pytestmark = pytest.mark.usefixtures("quiet")


class Particular(ScriptedEngine):
    """Judges rightly if it is asked in the way it likes, and otherwise says that it is always about money."""

    def answer(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the text of the answer to a conversation."""
        said = [turn["content"] for turn in messages]
        message = said[-1].partition("[[ ## message ## ]]\n")[2].partition("\n")[0]
        topic = self.labels[message] if "Triage the message." in said[0] else "payment"
        return f"[[ ## topic ## ]]\n{topic}\n\n[[ ## completed ## ]]"


def test_the_example_compiles_a_better_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It finds the wording that its model likes, says how much better that is, and saves it as DSPy does."""
    known = {example.message: example.topic for half in tickets() for example in half}

    @contextmanager
    def language_model() -> Generator[None]:
        with dspy.context(lm=scripted_lm(Particular(known))):
            yield

    monkeypatch.setattr(triage, "language_model", language_model)
    main(["--out", str(tmp_path / "better.json")])
    out = capsys.readouterr().out
    assert "as it was written: 33% of 30 messages that it has not seen\n" in out
    assert "compiled: 100%\nit says now: 'Triage the message.', with " in out
    better = triage.triage()
    better.load(tmp_path / "better.json")
    assert better.signature.instructions == "Triage the message."
