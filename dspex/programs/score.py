"""How often the sentiment program is right: ``python -m dspex.programs.score``.

Runs the program on the sentences of ``dspex/data/sentiment.csv`` (120, two classes, balanced), in a
supervision tree, on whatever language model the environment says. With the embedded model it is right on 118
of 120 (0.983), chance being 0.5; the wording of the instruction was chosen on these very sentences, so other
sentences will do somewhat worse.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TextIO

import msgspec

from dspex.programs.sentiment import SENTIMENT, children
from foundation.programs import RunProgram, program_name
from supervision import ChildSpec, Runtime, Supervisor

#: Seconds that one answer may take, retries while the model restarts included.
PATIENCE = 300.0


class Example(msgspec.Struct, frozen=True):
    """A text, and what a person says of it."""

    text: str
    sentiment: str


class Score(msgspec.Struct, frozen=True):
    """How many of ``total`` answers were right, and in how many seconds."""

    right: int
    total: int
    seconds: float

    @property
    def accuracy(self) -> float:
        """The part of the answers that was right, from 0 to 1."""
        return self.right / self.total

    def __str__(self) -> str:
        speed = self.total / self.seconds if self.seconds else 0.0
        counted = f"accuracy {self.accuracy:.3f} ({self.right} of {self.total})"
        return f"{counted} in {self.seconds:.1f} s, {speed:.1f}/s"


def read(path: Path | None = None) -> list[Example]:
    """Return the examples of a CSV file with columns ``text`` and ``sentiment``; our own if None."""
    source = resources.files("dspex.data").joinpath("sentiment.csv") if path is None else path
    with source.open(encoding="utf-8") as file:
        return [Example(row["text"], row["sentiment"]) for row in csv.DictReader(file)]


async def score(
    specs: Iterable[ChildSpec],
    examples: Sequence[Example],
    *,
    at_once: int = 2,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Score:
    """Run the program on examples and count.

    Args:
        specs: the children of the tree; one of them serves the program under the name ``sentiment``.
        examples: at least one.
        at_once: how many questions are asked at the same time.
        progress: called after each answer, with how many there are and how many there will be.

    Raises:
        StartError: the tree does not start, for example because the model is not installed.
        Exception: what the program raised.
    """
    async with Runtime() as runtime:
        await runtime.spawn(Supervisor, list(specs))
        began = runtime.clock.time()
        right = done = 0
        waiting = iter(examples)

        async def ask() -> None:
            nonlocal right, done
            for example in waiting:
                answer = await runtime.name(program_name(SENTIMENT)).call(
                    RunProgram({"text": example.text}), timeout=PATIENCE
                )
                right += answer.outputs["sentiment"] == example.sentiment
                done += 1
                progress(done, len(examples))

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(ask())
        return Score(right, len(examples), runtime.clock.time() - began)


def progress_line(stream: TextIO) -> Callable[[int, int], None]:
    """Return a function that keeps one line of a terminal up to date."""

    def show(done: int, total: int) -> None:
        stream.write(f"\r{done}/{total}" + ("\n" if done == total else ""))
        stream.flush()

    return show


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None, **options: Any) -> int:
    """Score the program and print the result; return the exit status."""
    parser = argparse.ArgumentParser(prog="dspex.programs.score", description="Score the sentiment program.")
    parser.add_argument("--data", type=Path, help="a CSV file with the columns text and sentiment")
    parser.add_argument("--at-once", type=int, default=2, help="questions asked at the same time")
    chosen = parser.parse_args(arguments)
    specs = options.get("specs") or children(os.environ if environ is None else environ, concurrency=chosen.at_once)
    work = score(specs, read(chosen.data), at_once=chosen.at_once, progress=progress_line(sys.stderr))
    print(asyncio.run(work))
    return 0


if __name__ == "__main__":
    sys.exit(main())
