"""Draw the rooms of each package, and what they import, into the page about the architecture.

`make docs` calls it; a test holds the page to the code. A room is a folder or a file at the first level of a package.
Arrows that follow from others are left out, and so are imports for type checkers only, and `__init__`, `events` and
`errors`, which stand beside everything.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/explanation/architecture.md"
PACKAGES = ("supervision", "foundation", "agents", "bridge", "dspex")
BESIDE = {"__init__", "__main__", "events", "errors", "_version"}
_PICTURE = re.compile(r"(<!-- rooms of (\w+) -->\n).*?(<!-- end of rooms -->)", re.DOTALL)

Graph = Mapping[str, frozenset[str]]


def rooms(package: str) -> Graph:
    """What each room of a package imports of its others."""
    folder = ROOT / package
    found: dict[str, set[str]] = {}
    for file in sorted(folder.rglob("*.py")):
        room = file.relative_to(folder).parts[0].removesuffix(".py")
        if room not in BESIDE:
            found.setdefault(room, set())
    for file in sorted(folder.rglob("*.py")):
        room = file.relative_to(folder).parts[0].removesuffix(".py")
        for path in _imports(ast.parse(file.read_text()).body):
            first, *rest = path.split(".")
            if first == package and room in found and rest and rest[0] in found and rest[0] != room:
                found[room].add(rest[0])
    return {room: frozenset(others) for room, others in found.items()}


def _imports(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                node.body = []
        for node in ast.walk(statement):
            if isinstance(node, ast.ImportFrom) and node.module:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)


def circles(graph: Graph) -> list[frozenset[str]]:
    """The groups of rooms of which each can be reached from each."""
    reach = {room: _reached(graph, room) for room in graph}
    groups = {
        frozenset({one} | {other for other in reach[one] if one in reach[other]}) for one in graph if one in reach[one]
    }
    return sorted(groups, key=sorted)


def _reached(graph: Graph, start: str) -> frozenset[str]:
    reached: set[str] = set()
    todo = list(graph[start])
    while todo:
        if (room := todo.pop()) not in reached:
            reached.add(room)
            todo += graph[room]
    return frozenset(reached)


def reduced(graph: Graph) -> Graph:
    """The graph without arrows that follow from two others; within circles every arrow stays."""
    reach = {room: _reached(graph, room) for room in graph}

    def follows(room: str, other: str) -> bool:
        return any(other in reach[third] and room not in reach[third] for third in graph[room] - {other})

    def in_circle(room: str, other: str) -> bool:
        return room in reach[other] or other in reach[other]

    return {
        room: frozenset(other for other in others if in_circle(room, other) or not follows(room, other))
        for room, others in graph.items()
    }


def picture(package: str) -> str:
    """The rooms of a package in the language of Mermaid, which GitHub and most readers of Markdown draw."""
    graph = reduced(rooms(package))
    lines = ["```mermaid", "flowchart TD"]
    for room in sorted(graph):
        lines.append(f"    {room}")
        lines += [f"    {room} --> {other}" for other in sorted(graph[room])]
    return "\n".join([*lines, "```", ""])


def drawn(page: str) -> str:
    """The page with its pictures as the code is now."""
    return _PICTURE.sub(lambda found: f"{found[1]}\n{picture(found[2])}\n{found[3]}", page)


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
    sys.exit(0)
