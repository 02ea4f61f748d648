"""The whole thing for real: the model in its process, the program in its tree, a few sentences."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from dspex.models.local.server import LANGUAGE_MODEL, Locator
from dspex.models.selection import embedded_lm
from dspex.programs.sentiment import SENTIMENT, children
from foundation.programs import RunProgram, Unavailable, program_name
from supervision import Runtime, Supervisor, events
from tests.dspex.children import alive

PATIENCE = 120.0


def children_of_this_process() -> set[int]:
    """The numbers of the child processes that run."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split() if alive(int(pid))}


@pytest.mark.timeout(300)
async def test_the_tree_answers_and_survives_the_death_of_the_model() -> None:
    """Sentences are judged rightly, also across a kill -9 of the model; nothing is left over."""
    before = children_of_this_process()
    async with Runtime(watchdog=None, reports=False) as runtime:
        await runtime.spawn(Supervisor, children({}), max_restarts=5)
        restarted = asyncio.Event()
        runtime.subscribe(lambda event: restarted.set(), events.Restarted)
        program = runtime.name(program_name(SENTIMENT))
        good = await program.call(RunProgram({"text": "I love this place."}), timeout=PATIENCE)
        assert good.outputs == {"sentiment": "positive"}
        assert good.usage["local/smollm2"]["completion_tokens"] == 1
        (pid,) = children_of_this_process() - before
        os.kill(pid, signal.SIGKILL)
        awful = RunProgram({"text": "What an awful, broken mess."})
        try:
            bad = await program.call(awful, timeout=PATIENCE)
        except Unavailable:  # on a busy machine, the model starts for longer than a call is tried again
            await restarted.wait()
            bad = await program.call(awful, timeout=PATIENCE)
        assert bad.outputs == {"sentiment": "negative"}
        await restarted.wait()
        (again,) = children_of_this_process() - before
        assert again != pid
    assert children_of_this_process() == before


@pytest.mark.timeout(300)
async def test_the_model_chooses_and_writes() -> None:
    """The served model scores whole values, repeats itself exactly, and writes free text, all at once."""
    import dspy

    async with Runtime(watchdog=None, reports=False) as runtime:
        await runtime.spawn(Supervisor, children({})[:1])
        lm = embedded_lm(Locator(runtime, LANGUAGE_MODEL), max_tokens=8)
        with dspy.context(lm=lm):
            words = [await lm.acall("Say hello.") for _ in range(2)]
            assert words[0] == words[1] != [""]
        schema = {"type": "object", "properties": {"mood": {"enum": ["very happy", "very sad"]}}}
        format = {"type": "json_schema", "json_schema": {"name": "mood", "schema": schema}}
        chosen = await lm.acall("How do you feel after you lost your best friend?", response_format=format)
        assert chosen == ['{"mood": "very sad"}']
