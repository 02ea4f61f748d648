"""The table of events in the documents is what the code says."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

from supervision.events import ActorEvent, Event

#: Where events are declared.
MODULES = (
    "supervision.events",
    "foundation.events",
    "agents.events",
    "bridge.events",
    "bridge.monitoring",
    "dspex.agents.usage",
    "dspex.serving.model",
    "dspex.serving.versions",
    "dspex.serving.rollout.events",
    "dspex.parsing.events",
    "dspex.jobs.events",
    "dspex.models.gateway.endpoint",
    "dspex.variables.coordinated",
    "dspex.teleprompt.events",
    "dspex.search.events",
    "dspex.workflow.events",
    "dspex.evaluate.events",
    "dspex.teams.events",
    "dspex.federated.events",
)
PAGE = Path(__file__).parents[2] / "docs/reference/events.md"


def kinds() -> list[type[Event]]:
    """Return all kinds of events, module after module, in the order of their declaration."""
    found = []
    for name in MODULES:
        module = importlib.import_module(name)
        found += [
            kind
            for kind in vars(module).values()
            if inspect.isclass(kind)
            and issubclass(kind, Event)
            and kind.__module__ == name
            and kind not in (Event, ActorEvent)
        ]
    return found


def below(kind: type[Event]) -> list[type[Event]]:
    """Return all kinds below one."""
    return [one for child in kind.__subclasses__() for one in (child, *below(child))]


def table() -> str:
    """Return the table."""
    lines = ["| Event | Beside `seq` and `time` | Meaning |", "| --- | --- | --- |"]
    base = set(ActorEvent.__struct_fields__)
    for kind in kinds():
        own = [f"`{name}`" for name in kind.__struct_fields__ if name not in base]
        about = ["the actor"] if issubclass(kind, ActorEvent) else []
        meaning = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")
        lines.append(f"| `{kind.__module__}.{kind.__name__}` | {', '.join([*about, *own]) or 'nothing'} | {meaning} |")
    return "\n".join(lines)


def test_the_table_of_events_is_what_the_code_says() -> None:
    assert table() in PAGE.read_text(), "write docs/reference/events.md anew, with table()"


def test_no_event_is_declared_elsewhere() -> None:
    shipped = {
        kind for kind in below(Event) if kind.__module__.split(".")[0] in ("supervision", "foundation", "agents")
    }
    assert shipped - {ActorEvent} <= set(kinds())
