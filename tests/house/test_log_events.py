"""The names of events in the documents are those in the log."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from supervision.reports import REPORTS

ROOT = Path(__file__).parents[2]
PACKAGES = ("supervision", "foundation", "agents", "bridge", "dspex")
#: Words in the runbook that look like names of events: labels of metrics.
LABELS = {"mailbox_full", "no_credit", "noconnection", "noname", "noproc"}
#: The table of the how-to has these from elsewhere.
WRITTEN = {"output_lines_dropped"}


def events(*folders: str) -> set[str]:
    """Return the names of the events that are logged in these folders."""
    found = set()
    for file in (file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                found |= set(_event(node))
    return found


def _event(call: ast.Call) -> list[str]:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    place = {"warning": 0, "error": 0, "info": 0, "_child": 0, "say": 1}.get(name)
    if place is None or len(call.args) <= place:
        return []
    value = getattr(call.args[place], "value", None)
    return [value] if isinstance(value, str) and re.fullmatch(r"[a-z_]+", value) else []


def table(page: str) -> set[str]:
    """Return the names of events in the how-to's table."""
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| (?:error|warning|info) \|", (ROOT / page).read_text(), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}


def test_the_table_has_events_that_there_are_and_all_of_the_kernels() -> None:
    shown = table("docs/how-to/log.md")
    assert shown <= events(*PACKAGES) | WRITTEN
    reports = _names("supervision/reports.py")
    assert len(reports) >= len(REPORTS)
    assert reports <= shown


def _names(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {name for node in ast.walk(tree) if isinstance(node, ast.Call) for name in _event(node)}


def test_the_runbook_names_events_as_they_are_in_the_log() -> None:
    page = (ROOT / "docs/production.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `Foundation")]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert named - LABELS <= table("docs/how-to/log.md")
    assert {"crash_report", "shutdown", "loop_blocked", "loop_unblocked", "zombie"} <= named
