"""The pages about programs in production: their commands run, against servers that they start themselves."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dspex.testing.engine import ScriptedEngine
from examples.triage import reworded
from tests.dspex.fake_llama import FakeLlama
from tests.house.pages import ROOT, Page

pytestmark = [pytest.mark.once, pytest.mark.timeout(600)]


class Topics(ScriptedEngine):
    """Knows what each ticket of the examples is about, and gives advice to optimisers."""

    def __init__(self) -> None:
        with (ROOT / "examples/tickets.csv").open() as file:
            super().__init__({row["message"]: row["topic"] for row in csv.DictReader(file)}, base=0.8)

    def answer(self, messages: Any) -> str:
        """Answer with a topic, where a label is what the engine knows."""
        return super().answer(messages) if "module_advice" in messages[0]["content"] else self._topic(messages)

    def _topic(self, messages: Any) -> str:
        asked = [{**each, "content": each["content"].replace("topic", "label")} for each in messages]
        return super().answer(asked).replace("label", "topic")


class TopicServer(FakeLlama):
    """The same behind the API of OpenAI."""

    def __init__(self) -> None:
        super().__init__()
        self._topics = Topics()

    def said(self, body: dict[str, Any]) -> str:
        """Return what is said."""
        return self._topics.answer(body["messages"])


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Callable[[str], Page]]:
    """Opens a page, with a language model in the environment that knows the examples."""
    with TopicServer() as server:
        model = {"DSPEX_LM": "openai/topics", "DSPEX_API_BASE": server.url, "DSPEX_API_KEY": "none"}
        yield lambda path: Page(path, tmp_path, model)


def test_the_commands_of_the_page_about_calls(page: Callable[[str], Page]) -> None:
    with page("how-to/observe-programs.md") as found:
        assert len([command for command in found.run() if "curl" in command]) >= 5
        assert len(found.ids) == 1


def test_the_commands_of_the_page_about_feedback(page: Callable[[str], Page]) -> None:
    with page("how-to/feedback.md") as found:
        assert len([command for command in found.run() if "curl" in command]) >= 4
        (said,) = [printed for command, printed in found.printed if command.endswith('TOKEN"')]
    assert [json.loads(line)["source"] for line in said.splitlines()] == ["user", "expert"]


def test_the_commands_of_the_page_about_rollouts(page: Callable[[str], Page], tmp_path: Path) -> None:
    reworded().save(tmp_path / "better.json")
    with page("how-to/rollout.md") as found:
        found.run()
    firsts = [printed.splitlines()[0] for command, printed in found.printed if "dspex.rollout" in command]
    assert firsts[:5] == [
        "version 1 beside version 0: canary at 0.05, step 1 of 3",
        "version 1 beside version 0: canary at 0.05, step 1 of 3",
        "version 1 beside version 0: aborted at 0",
        "version 1 beside version 0: canary at 0.1, step 1 of 2",
        "version 1 beside version 0: promoted at 1",
    ]
    last = json.loads(found.printed[-1][1])
    assert (last["why"], last["rollout"]["steps"]) == ("seen enough", [0.1, 0.5])


def test_the_commands_of_the_page_about_optimisations(page: Callable[[str], Page]) -> None:
    with page("how-to/optimise-jobs.md") as found:
        assert len([command for command in found.run() if "curl" in command]) >= 5


def test_the_commands_of_the_page_about_races(page: Callable[[str], Page]) -> None:
    with page("how-to/race.md") as found:
        assert len(found.run()) == 3
    first, second = (printed for command, printed in found.printed if "examples.race" in command)
    assert first == second


def test_the_commands_of_the_page_about_searches_of_teams(page: Callable[[str], Page]) -> None:
    with page("how-to/search-teams.md") as found:
        assert len(found.run()) == 3
    first, second = (printed for command, printed in found.printed if "examples.team_search" in command)
    assert first == second


def test_the_commands_about_evaluations_over_http(page: Callable[[str], Page]) -> None:
    with page("how-to/evaluate.md#Over HTTP") as found:
        assert len([command for command in found.run() if "curl" in command]) >= 5


def test_the_commands_of_the_page_about_evaluations(tmp_path: Path) -> None:
    """With the embedded model."""
    with Page("how-to/evaluate.md#From the command line", tmp_path) as found:
        assert len(found.run()) == 4
