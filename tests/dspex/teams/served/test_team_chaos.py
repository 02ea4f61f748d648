"""A served team of five under a thousand random kills: every call is answered, refused, or degraded with a label."""

from __future__ import annotations

from typing import Any

import pytest

from bench.team_chaos import campaign, fits
from dspex.teams import MemberAnswer
from supervision import Runtime


@pytest.mark.once
async def test_T092_under_a_thousand_kills_no_call_hangs_and_no_label_is_wrong(runtime: Runtime) -> None:
    """Nobody is left over, and the histogram of coverage has each answer once."""
    report = await campaign(runtime, 1000, 0.25)
    assert (report.kills, report.hung, report.wrong_label) == (1000, 0, 0)
    assert report.answered > 50
    assert report.degraded > 50
    assert {"full", "quorum", "single"} <= {*report.rungs}
    assert sum(report.coverage.values()) == report.answered + report.degraded == report.rungs.total()
    runners = [kind for kind in report.left if kind == "ProgramRunner"]
    assert len(runners) == 5
    assert report.left.count("TeamActor") == 1


def test_labels_that_say_something_else_than_the_ballot_are_found() -> None:
    """So that the test above would see a wrong one."""
    whole = tuple(MemberAnswer(name, "answered", "right") for name in "abc")
    lost = (*whole[:2], MemberAnswer("c", "lost"))

    def answer(ballot: Any, degraded: str | None, label: str = "right", said_by: str = "a") -> dict[str, Any]:
        return {"ballot": ballot, "degraded": degraded, "label": label, "said_by": said_by}

    good = (
        answer(whole, None),
        answer(lost, "quorum:lost 1 of 3"),
        answer(lost, "single:lost 1 of 3"),
        answer(lost, "cached:deadline"),
        answer(lost, "default:lost 3 of 5", "none"),
    )
    wrong = (
        answer(lost, None),
        answer(whole, None, "wrong"),
        answer(lost, "quorum:lost 2 of 3"),
        answer(whole, "quorum:lost 0 of 3"),
        answer(lost, "single:lost 1 of 3", said_by="c"),
        answer(lost, "cached:lost 1 of 3", "wrong"),
        answer(lost, "lost 1 of 3"),
    )
    assert [fits(one) for one in (*good, *wrong)] == [True] * 5 + [False] * 7
