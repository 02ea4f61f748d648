"""The tutorial `docs/first-team.md`: its commands run as they stand there, to the end.

In place of the embedded model a server says what that has said, with the same probabilities; it is a process as the
model's is, and can be stopped as that.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house.pages import ROOT, Page

STAND_IN = "from tests.dspex.teams.tenancy import CommonParams, Server\n"


@pytest.mark.once
@pytest.mark.timeout(300)
def test_the_commands_of_the_tutorial_lead_from_one_classifier_to_a_team_that_is_degraded(tmp_path: Path) -> None:
    """The team is better, says so when it is not whole, and is whole again."""
    for folder in ("clone", "stand_in"):
        (tmp_path / folder).mkdir()
    (tmp_path / "stand_in/xllamacpp.py").write_text(STAND_IN)
    python = {"PYTHONPATH": f"{tmp_path / 'stand_in'}:{ROOT}", "DSPY_CACHEDIR": str(tmp_path)}
    with Page("first-team.md", tmp_path / "clone", python) as found:
        assert len(found.run()) >= 15
