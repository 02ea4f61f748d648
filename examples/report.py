"""A report on a folder of messages: each is read and judged, and a table is written. Killed, it goes on where it was.

Run it: ``python -m examples.report FOLDER --log report.sqlite``; kill it with ``kill -9``, or have it do so itself with
``--die-after 3``; run it again. ``docs/how-to/workflows.md`` explains it; ``examples/report.toml`` keeps it in a tree.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import msgspec

from agents.durability import SqliteStorage
from dspex.workflow import StepEnded, Workflow
from supervision import Runtime

#: What makes a message urgent.
URGENT = ("at once", "broken", "immediately", "urgent")


class Verdict(msgspec.Struct, frozen=True):
    """What is thought of a message."""

    file: str
    words: int
    urgent: bool


def extract(path: str) -> str:
    """Return the text of a message."""
    return Path(path).read_text()


async def judge(file: str, text: str) -> Verdict:
    """Return what to think of a message. Here a program could ask a language model."""
    return Verdict(file, len(text.split()), any(word in text.lower() for word in URGENT))


def write(folder: str, verdicts: Sequence[Verdict]) -> str:
    """Write the table, and return where it is. Written twice, it is the same."""
    path = Path(folder) / "report.md"
    lines = [f"| {verdict.file} | {verdict.words} | {'yes' if verdict.urgent else 'no'} |" for verdict in verdicts]
    path.write_text("\n".join(["| message | words | urgent |", "| --- | --- | --- |", *lines, ""]))
    return str(path)


async def report(flow: Workflow, folder: str) -> str:
    """The workflow: a step for each message to read it, one to judge it, and one to write the table.

    The keys say what a step is about: a file that comes later, or another order, changes nothing of what was done.
    """
    files = await flow.step("list", lambda: sorted(path.name for path in Path(folder).glob("*.txt")))

    async def judged(file: str) -> Verdict:
        text = await flow.step("extract", extract, str(Path(folder) / file), key=file)
        verdict: Verdict = await flow.step("judge", judge, file, text, key=file, type=Verdict)
        return verdict

    verdicts = await asyncio.gather(*(judged(file) for file in files))
    written: str = await flow.step("write", write, folder, verdicts)
    return written


async def run(folder: str, log: Path, die_after: int | None) -> None:
    """Run the workflow, and tell what it does."""
    ended = 0

    def tell(event: StepEnded) -> None:
        nonlocal ended
        ended += 1
        print(f"{event.step} {event.state}", flush=True)
        if ended == die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    storage = SqliteStorage(log)
    async with Runtime() as runtime:
        runtime.subscribe(tell, StepEnded)
        flow = await Workflow.open(runtime, storage, "report", {"folder": folder})
        print("going on where it was" if flow.resumed else "beginning")
        print(f"written to {await flow.run(lambda flow: report(flow, folder))}")
    storage.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments, and run the workflow."""
    parser = argparse.ArgumentParser(prog="python -m examples.report", description=__doc__)
    parser.add_argument("folder", help="the folder with the messages, as .txt files")
    parser.add_argument("--log", type=Path, default=Path("report.sqlite"), help="the file that keeps the run")
    parser.add_argument("--die-after", type=int, help="kill -9 after so many steps")
    options = parser.parse_args(arguments)
    asyncio.run(run(options.folder, options.log, options.die_after))


if __name__ == "__main__":
    main()
