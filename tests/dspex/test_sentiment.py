"""The program of the default tree, its children, and the scorer."""

from __future__ import annotations

import io
import runpy
import sys
from collections import Counter
from pathlib import Path

import dspy
import pytest

from dspex.models.local.server import LANGUAGE_MODEL, LanguageModelServer
from dspex.programs import score
from dspex.programs.score import Example, Score, progress_line, read
from dspex.programs.sentiment import SENTIMENT, children, sentiment
from dspex.serving.program import ProgramActor
from foundation.programs import program_name
from supervision import ChildSpec, check_child_specs
from tests.dspex.samples import scripted


def guessing(*answers: str) -> list[ChildSpec]:
    """The program on a language model that gives these answers."""
    lm = scripted()
    lm.answers = iter({"sentiment": answer} for answer in answers)
    program = "dspex.programs.sentiment:sentiment"
    return [ChildSpec("s", ProgramActor, args=(program,), kwargs={"lm": lm}, name=program_name(SENTIMENT))]


def test_the_program_is_plain_dspy() -> None:
    """The program is a predictor of DSPy, and nothing else."""
    assert type(sentiment()) is dspy.Predict


def test_the_children_are_the_model_and_the_program() -> None:
    """With the embedded model, the model's server and the program are children, found by stable names."""
    model, program = children({}, concurrency=3)
    check_child_specs([model, program])
    assert (model.start, model.name, model.kwargs["slots"]) == (LanguageModelServer, LANGUAGE_MODEL, 3)
    assert (program.start, program.name, program.kwargs["concurrency"]) == (ProgramActor, program_name(SENTIMENT), 3)


def test_no_server_for_a_model_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """With another language model named in the environment, none is served here."""
    monkeypatch.setenv("DSPEX_LM", "openai/m")
    assert [spec.id for spec in children()] == [SENTIMENT]


def test_the_examples_are_balanced() -> None:
    """The package's own examples are 120 different sentences, half of them positive."""
    examples = read()
    assert Counter(example.sentiment for example in examples) == {"positive": 60, "negative": 60}
    assert len({example.text for example in examples}) == 120


async def test_the_score_counts_what_is_right() -> None:
    """The score is the part of right answers; each answer moves the progress."""
    examples = [
        Example("a", "positive"),
        Example("b", "positive"),
        Example("c", "negative"),
        Example("d", "negative"),
    ]
    seen: list[tuple[int, int]] = []
    specs = guessing("positive", "negative", "negative", "negative")
    found = await score.score(specs, examples, at_once=1, progress=lambda done, total: seen.append((done, total)))
    assert (found.right, found.total, found.accuracy) == (3, 4, 0.75)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_score_reads_well() -> None:
    """A score is one line; one without time has no speed."""
    assert str(Score(3, 4, 2.0)) == "accuracy 0.750 (3 of 4) in 2.0 s, 2.0/s"
    assert str(Score(4, 4, 0.0)).endswith("in 0.0 s, 0.0/s")


def test_the_progress_is_one_line() -> None:
    """The progress line is written over itself, and ends when all is done."""
    stream = io.StringIO()
    show = progress_line(stream)
    show(1, 2)
    show(2, 2)
    assert stream.getvalue() == "\r1/2\r2/2\n"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command scores a file and prints the score."""
    data = tmp_path / "some.csv"
    data.write_text("text,sentiment\nlovely,positive\nawful,negative\n")
    assert score.main(["--data", str(data), "--at-once", "1"], specs=guessing("positive", "positive")) == 0
    out = capsys.readouterr()
    assert out.out.startswith("accuracy 0.500 (1 of 2)")
    assert out.err == "\r1/2\r2/2\n"


def test_the_module_is_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The scorer runs with ``python -m``."""
    monkeypatch.setattr(sys, "argv", ["score", "--help"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(score.__file__, run_name="__main__")
    assert caught.value.code == 0
    assert "--at-once" in capsys.readouterr().out
