"""The dashboard and the alert rules ask for metrics that there are, with labels that they have."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from dspex.federated.metrics import FederationCounts
from dspex.parsing.events import UnparsedCounts
from dspex.search.metrics import PopulationCounts, RaceCounts
from dspex.serving.call_counts import CallCounts
from dspex.teams.metrics import TeamCounts
from dspex.workflow.metrics import WorkflowCounts
from foundation.cache import Cache
from foundation.dead_letters import DeadLetterQueue
from foundation.programs import Busy
from foundation.registry import Directory
from foundation.resources import Resource, Resources
from foundation.run.serve import DroppedLines
from foundation.store import Store
from foundation.telemetry import metrics
from foundation.telemetry.metrics import Metrics
from supervision import Refuse, Runtime

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"\b(?:foundation|dspex)_[a-z_]+")
#: What Prometheus makes of one metric.
SUFFIXES = re.compile(r"_(total|bucket|sum|count|created)$")


async def names(runtime: Runtime, folder: Path) -> dict[str, set[str]]:
    """Return the names of all metrics of a runtime in which each service runs, with their labels."""
    registry = CollectorRegistry()
    await runtime.spawn(Metrics, registry)
    await runtime.spawn(Store, folder / "store.db", ["dead_letters"])
    await runtime.spawn(Resources, {"work": 1})
    await Resource(runtime, "work").release(await Resource(runtime, "work", priority="high").acquire())
    Directory.of(runtime)
    held = [Cache[str, str](runtime, "pages")]  # its numbers are there as long as anybody has it
    DeadLetterQueue(runtime)
    runtime.shared[DroppedLines] = DroppedLines(())
    WorkflowCounts.of(runtime)
    RaceCounts.of(runtime)
    PopulationCounts.of(runtime)
    UnparsedCounts.of(runtime).add("triage", 0, "none")
    with pytest.raises(Refuse), CallCounts.of(runtime).turned_away("triage", 0):
        raise Refuse(Busy("it has too much to do"))
    teams = TeamCounts.of(runtime)
    teams.members["triage", "plain", "answered"] += 1
    teams.rungs["triage", "full"] += 1
    teams.answered("triage", 1.0)
    federations = FederationCounts.of(runtime)
    federations.rounds["all", "decided"] += 1
    federations.reports["all", "counted"] += 1
    found: dict[str, set[str]] = {}
    for family in registry.collect():
        instrument = registry._names_to_collectors.get(family.name)
        labels = set(getattr(instrument, "_labelnames", ()))
        labels |= {label for sample in family.samples for label in sample.labels}
        found[family.name] = labels | ({"reason"} if family.name == "foundation_dead_letters" else set())
    held.clear()
    return found


def base(name: str) -> str:
    """Return the name of the metric to which a name belongs."""
    return SUFFIXES.sub("", name)


def expressions() -> list[str]:
    """Return all that the dashboard and the rules ask."""
    panels = json.loads((ROOT / "deploy/grafana.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    rules = (ROOT / "deploy/alerts.yml").read_text()
    return asked + [part.split("labels:")[0] for part in rules.split("expr:")[1:]]


async def test_dashboard_and_rules_ask_for_what_there_is(runtime: Runtime, tmp_path: Path) -> None:
    known = await names(runtime, tmp_path)
    asked = expressions()
    assert len(asked) > 25
    for expression in asked:
        metrics_in_it = {base(name) for name in NAME.findall(expression)}
        assert metrics_in_it <= set(known), expression
        labels = set().union(*(known[name] for name in metrics_in_it)) | {"le"}
        grouped = [label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")]
        matched = re.findall(r"[{,]\s*([a-z_]+)\s*(?:=~|!=|=)", expression)
        assert {*grouped, *matched} <= labels, expression


async def test_every_metric_is_in_the_table_of_the_module_and_every_one_in_the_table_is_there(
    runtime: Runtime, tmp_path: Path
) -> None:
    known = {name for name in await names(runtime, tmp_path) if name.startswith(("foundation_", "dspex_"))}
    table = metrics.__doc__ or ""
    documented = {base(name) for name in NAME.findall(table)}
    documented |= {f"foundation_{name}" for name in re.findall(r"``…_([a-z_]+)``", table)}
    documented |= {"foundation_resource_limit"} & known
    assert documented - {"foundation_limit"} == known


def test_every_alert_says_what_it_is_about() -> None:
    rules = (ROOT / "deploy/alerts.yml").read_text()
    assert rules.count("- alert:") == rules.count("summary:") == rules.count("severity:")


def test_every_alert_is_explained() -> None:
    rules = (ROOT / "deploy/alerts.yml").read_text()
    page = (ROOT / "docs/production.md").read_text()
    for name in re.findall(r"- alert: (\w+)", rules):
        assert f"| `{name}` |" in page
