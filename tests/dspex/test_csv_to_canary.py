"""The tutorial `docs/csv-to-canary.md`: its commands run as they stand there, to the end.

The language model is a stand-in that is right about as often as the embedded one with the same instructions: with that
itself, hundreds of calls would take minutes on a busy machine.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from tests.dspex.fake_llama import FakeLlama
from tests.house.pages import ROOT, Page

#: How many of 60 messages it judges rightly, by a word of the instruction: those to learn from, and those of the test.
RIGHT = {"landlord": (34, 32), "by its topic": (50, 47)}


class Tenancy(FakeLlama):
    """Knows what the messages are about, as far as the instruction helps; and believes examples, as models do."""

    def __init__(self) -> None:
        super().__init__()
        with (ROOT / "examples/from_csv_to_canary/messages.csv").open(newline="") as file:
            self._topics = {row["message"]: row["topic"] for row in csv.DictReader(file)}
        halves = [sorted(list(self._topics)[start::2], key=lambda message: crc32(message.encode())) for start in (1, 0)]
        self._places = {message: (half, place) for half in (0, 1) for place, message in enumerate(halves[half])}

    def said(self, body: dict[str, Any]) -> str:
        """Return what is said."""
        system, *turns = (turn["content"] for turn in body["messages"])
        message = turns[-1].partition("[[ ## message ## ]]\n")[2].partition("\n")[0]
        instruction = system.rpartition("objective is:")[2]
        right = next((right for word, right in RIGHT.items() if word in instruction), (40, 40))
        half, place = self._places.get(message, (0, 0))
        topic = self._topics.get(message, "plumbing")
        if len(turns) > 1 or place >= right[half]:
            topic = "noise" if topic != "noise" else "heating"
        return f"[[ ## topic ## ]]\n{topic}\n\n[[ ## completed ## ]]"


@pytest.mark.once
@pytest.mark.timeout(900)
def test_the_commands_of_the_tutorial_lead_from_a_csv_to_a_canary(tmp_path: Path) -> None:
    """The better program answers everybody in the end, and the worse one nobody."""
    (tmp_path / "clone").mkdir()
    with Tenancy() as server:
        model = {"DSPEX_LM": "openai/topics", "DSPEX_API_BASE": server.url, "DSPEX_API_KEY": "none"}
        with Page("csv-to-canary.md", tmp_path / "clone", {**model, "DSPY_CACHEDIR": str(tmp_path)}) as found:
            assert len(found.run()) >= 20
    moves = next(printed for command, printed in found.printed if command.endswith("rollout/history"))
    assert re.findall(r'"target":"(\w+)"', moves)[-1] == "promoted"
