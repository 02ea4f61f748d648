"""Optimisations that learn from what people have said of a program's answers."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex import ProgramActor, agents_supervisor
from dspex.data.examples import BadExamples
from dspex.jobs.spending import Spending
from dspex.optimise import BadOptimisationSpec, OptimisationSpec
from dspex.optimise.__main__ import main
from dspex.optimise.feedback import TAKEN, FeedbackExamples, read_taken, save_taken, with_feedback
from dspex.optimise.work import OptimisationWork
from dspex.serving.feedback import Feedback
from dspex.testing.engine import ScriptedEngine, scripted_lm
from foundation.feedback import GiveFeedback
from foundation.programs import RunProgram
from supervision import Ref, Runtime, Supervisor
from tests.dspex.optimise.conftest import Jobs
from tests.dspex.optimise.shop import EXAMPLES, LABELS, SPEC, program

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.timeout(180)]

#: What people say of the answers to so many questions: half of them what would have been right.
NUMBER = 12


async def serve(runtime: Runtime, folder: Path | None, keep: str = "content") -> Ref:
    """A program that is served, and keeps its calls."""
    calls = {"keep": keep, **({} if folder is None else {"folder": str(folder)})}
    options: dict[str, Any] = {"lm": scripted_lm(ScriptedEngine(LABELS, base=1)), "calls": calls}
    return await runtime.spawn(ProgramActor, program, name="program:shop", **options)


async def say(actor: Ref, number: int = NUMBER) -> list[str]:
    """Ask, and say of each answer that it was good, or what would have been; return what is to be learned."""
    expected = []
    for each, example in enumerate(EXAMPLES[:number]):
        id = f"{each:032x}"
        answer = await actor.call(RunProgram({"text": example.text}, call=id))
        label = f"better {each}" if each % 2 else answer.outputs["label"]
        said = {"value": False, "correction": {"label": label}} if each % 2 else {"value": True}
        await actor.call(GiveFeedback(id, **said))
        expected.append(label)
    return expected


def learned(folder: Path) -> list[dict[str, str]]:
    """What jobs in a folder have taken."""
    (file,) = folder.glob(f"*/{TAKEN}")
    return [json.loads(line) for line in file.read_text().splitlines()]


async def test_a_job_learns_from_what_was_said(jobs: Jobs, runtime: Runtime, tmp_path: Path) -> None:
    """Answers that were found good, and corrections, become examples, beside those of the file or alone."""
    expected = await say(await serve(runtime, None))
    await jobs.begin(trainset={"inputs": ["text"], "feedback": {"least": NUMBER}})
    job = await jobs.until((await jobs.start()).id)
    assert job.state == "succeeded", job.why
    assert job.version == 1
    found = learned(tmp_path / "jobs")
    assert [each["label"] for each in found] == expected
    assert [each["text"] for each in found] == [example.text for example in EXAMPLES[:NUMBER]]


async def test_a_job_without_enough_says_what_is_missing(jobs: Jobs, runtime: Runtime) -> None:
    await say(await serve(runtime, None, keep="figures"))
    await jobs.begin(trainset={"inputs": ["text"], "feedback": {"least": 5}})
    job = await jobs.until((await jobs.start()).id)
    assert job.state == "failed"
    assert job.why == (
        "BadExamples: feedback on shop: 0 examples, and at least 5 are needed. Of 12 opinions, 0 are too old or about "
        "something else, 0 are neither good nor corrected, and 12 on calls whose content is not kept "
        '(keep = "content" keeps it); 0 inputs are of the tests'
    )


async def said_in(runtime: Runtime, folder: Path) -> list[str]:
    """What is to be learned from the files of a program."""
    return await say(await serve(runtime, folder))


def test_the_command_reads_the_folder_of_a_program_that_need_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def prepare() -> list[str]:
        async with Runtime(reports=False) as runtime:
            return await said_in(runtime, tmp_path / "calls")

    expected = asyncio.run(prepare())
    spec = tmp_path / "small.toml"
    spec.write_text(
        'program = "tests.dspex.optimise.shop:program"\nmetric = "dspex.testing.engine:exact"\n'
        'trainset = { inputs = ["text"], feedback = { folder = "calls" } }\n'
        "options = { bsize = 6, max_steps = 1, num_candidates = 2, num_threads = 2 }\n"
    )
    assert main([str(spec)], lm=scripted_lm(ScriptedEngine(LABELS))) == 0, capsys.readouterr()
    assert [each["label"] for each in learned(tmp_path / "small.runs")] == expected


async def test_some_of_it_can_be_chosen(runtime: Runtime, tmp_path: Path) -> None:
    """By its name, its age and its number; inputs of tests are left out, and so is all that has other inputs."""
    await said_in(runtime, tmp_path / "calls")
    (tmp_path / "tests.jsonl").write_text(json.dumps({"text": EXAMPLES[0].text, "label": "x"}))

    async def read(*inputs: str, **options: Any) -> list[Any]:
        source = FeedbackExamples(folder="calls", **options)
        return await source.read(runtime, "shop", tmp_path, inputs or ("text",))

    assert len(await read()) == NUMBER
    assert [each.text for each in await read(most=2)] == [example.text for example in EXAMPLES[NUMBER - 2 : NUMBER]]
    assert len(await read(tests="tests.jsonl")) == NUMBER - 1
    assert len(await read(name="helpful", days=1.0)) == NUMBER
    with pytest.raises(BadExamples, match=r"0 examples, and at least 1 are needed\. Of 12 opinions, 12 are too old"):
        await read(name="polite")
    with pytest.raises(BadExamples, match="about inputs text, and not question"):
        await read("question")
    with pytest.raises(BadExamples, match=r"12 examples, and at least 13 are needed"):
        await read(least=13)
    await asyncio.to_thread(_age, tmp_path / "calls" / "calls.sqlite")
    with pytest.raises(BadExamples, match="12 are too old"):
        await read(days=1.0)


def _age(file: Path) -> None:
    """Make all feedback two days older."""
    with sqlite3.connect(file) as database:
        for number, body in database.execute("SELECT number, body FROM feedback").fetchall():
            told = json.loads(body)
            told["at"] -= 2 * 86_400
            database.execute("UPDATE feedback SET body = ? WHERE number = ?", (json.dumps(told).encode(), number))
    database.close()


async def test_what_cannot_be_read_is_said(runtime: Runtime, tmp_path: Path) -> None:
    with pytest.raises(BadExamples, match=r"feedback on shop: it cannot be read: .*have the program run here"):
        await FeedbackExamples().read(runtime, "shop", tmp_path, ("text",))
    with pytest.raises(BadExamples, match=r"nowhere.*name the folder of its calls"):
        await FeedbackExamples(folder="nowhere").read(runtime, "shop", tmp_path, ("text",))


async def test_a_job_that_goes_on_learns_from_what_it_has_begun_with(runtime: Runtime, tmp_path: Path) -> None:
    """Whatever is said, or deleted, meanwhile: else its journal would be that of another optimisation."""
    lm = scripted_lm(ScriptedEngine(LABELS))
    examples = EXAMPLES[:6]
    save_taken(tmp_path, examples)
    assert read_taken(tmp_path, ("text",)) == examples
    spec = OptimisationSpec.of("spec", {**SPEC, "trainset": {"inputs": ["text"], "feedback": {"least": 100}}})

    async def save(*_: Any) -> None: ...

    async def settings() -> dict[str, Any]:
        return {"lm": lm}

    spending = Spending(None, 0.0, save)
    await runtime.spawn(Supervisor, [agents_supervisor()])
    work = OptimisationWork(runtime, spec, tmp_path, tmp_path, settings, spending, print, "shop")
    await work.run()
    assert (tmp_path / "program.json").exists()


def test_what_was_written_down_counts_more_than_what_was_said() -> None:
    written = [dspy.Example(text="a", label="1").with_inputs("text")]
    said = [dspy.Example(text=text, label="2").with_inputs("text") for text in "ab"]
    assert [(each.text, each.label) for each in with_feedback(written, said)] == [("a", "1"), ("b", "2")]


@pytest.mark.parametrize(
    ("trainset", "why"),
    [
        ({}, "or feedback, alone or beside it"),
        ({"path": "a.csv", "table": "b", "feedback": {}}, "or feedback, alone or beside it"),
        ({"feedback": {"least": 0}}, "least"),
        ({"feedback": {"days": -1}}, "days"),
        ({"feedback": {"days": float("nan")}}, "days"),
        ({"feedback": {"least": 5, "most": 3}}, "most"),
        ({"feedback": {"since": 3}}, "since"),
    ],
)
def test_a_trainset_that_makes_no_sense_is_refused(trainset: dict[str, Any], why: str) -> None:
    with pytest.raises(BadOptimisationSpec, match=why):
        OptimisationSpec.of("spec", {**SPEC, "trainset": {"inputs": ["text"], **trainset}})


def test_what_says_no_label_is_counted() -> None:
    from dspex.serving.feedback import trainset

    base: dict[str, Any] = {"program": "p", "version": 0, "arm": None, "name": "n", "source": "user", "at": 0.0}
    known: dict[str, Any] = {"inputs": {"text": "a"}, "outputs": {"label": "b"}}
    found = trainset([Feedback("1", "a", value=False, **base, **known), Feedback("2", "b", value=True, **base)])
    assert (found.examples, found.without_inputs, found.uncorrected) == ([], 1, 1)
