"""What the command tells: to people as lines of text on standard output, to machines as log lines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import structlog

from foundation.access import BearerToken, token_in_use
from foundation.events import Serving
from foundation.programs import PREFIX, DescribeProgram, Interface, ProgramField
from foundation.run.logs import fold
from foundation.run.output import Output
from foundation.tree import LeftOutPart, RunningTree, Tree
from supervision import CallError, ChildSpec, Runtime, events

#: How wide the columns of ids and of classes are.
_IDS, _KINDS = 30, 24

_COLOURS = {"starting": "33", "running": "32", "restarted": "33", "stopping": "2", "stopped": "2", "left out": "33"}


class Console:
    """Tells what happens.

    Args:
        out: where lines for people go.
        errors: where the reason goes why the command failed.
        as_json: whether all becomes log lines instead.
        colours: whether people get colours.
        columns: where the reason is folded; None for nowhere.
    """

    def __init__(
        self, out: Output, errors: Output, *, as_json: bool = False, colours: bool = False, columns: int | None = None
    ) -> None:
        self._out = out
        self._errors = errors
        self._json = as_json
        self._columns = columns
        self._colours = colours

    def say(self, line: str, event: str, **fields: Any) -> None:
        """Tell something: the line to people, the event and its fields to machines."""
        if self._json:
            structlog.get_logger("foundation.run").info(event, **fields)
        else:
            self._out.write(f"{line}\n")

    def fail(self, line: str) -> None:
        """Tell why the command failed."""
        if self._json:
            structlog.get_logger("foundation.run").error("failed", reason=line)
        else:
            self._errors.write(fold(f"foundation: {line}\n", self._columns))

    def paint(self, state: str) -> str:
        """Return a state, in its colour, as wide as the column."""
        text = f"{state:<10}"
        return f"\x1b[{_COLOURS[state]}m{text}\x1b[0m" if self._colours else text

    # -- trees -----------------------------------------------------------------------------------------------------

    def outline(self, tree: Tree) -> None:
        """Print a tree that has not been started."""
        for path, spec in tree.outline():
            kind = getattr(spec.start, "__qualname__", type(spec.start).__name__)
            named = {} if spec.name is None else {"name": spec.name}
            fields = {"kind": kind, "restart": spec.restart, "shutdown": spec.shutdown, **named}
            self.say(f"{_indented(path):<{_IDS}} {kind:<{_KINDS}} {_remarks(spec)}", "child", path=path, **fields)
        for part in tree.left_out:
            self.left_out(part)

    def left_out(self, part: LeftOutPart) -> None:
        """Tell of a part that cannot run here."""
        self.say(str(part), "left_out", path=part.path, why=part.why, remedy=part.remedy)

    def watch(self, runtime: Runtime, tree: Tree) -> Boot:
        """Show a tree as it comes up, and as it goes down."""
        return Boot(self, runtime, tree)

    async def where_to_look(self, running: RunningTree) -> None:
        """Tell under which addresses there is something to see, and how to run each program."""
        programs = sorted(name for name in running.runtime.names() if name.startswith(PREFIX))
        for path, url in running.urls.items():
            for what, page in (("live status", "/tree"), ("readiness", "/readyz"), ("metrics", "/metrics")):
                self.say(f"  {what:<12} {url}{page}", "serving", path=path, what=what, url=url + page)
            for name in programs:
                try:
                    interface = await running.runtime.name(name).call(DescribeProgram())
                except CallError:
                    continue
                program = name.removeprefix(PREFIX)
                line = curl(f"{url}/programs/{program}", interface)
                self.say(f"  {program:<12} {line}", "program", path=path, program=program, try_it=line)
        token = token_in_use(running.runtime)
        if running.urls and token is not None and token.file is not None:
            self._token(token, token.file)

    def _token(self, token: BearerToken, file: Path) -> None:
        """Tell of a token that was made: itself once, to a person at a terminal; where it is kept, to everybody."""
        text = token.show_once() if self._out.isatty() and not self._json else None
        if text is not None:
            self.say(f"  {'token':<12} {text}", "token")
        self.say(f"  {'token kept':<12} {file}", "token", file=str(file))


class Boot:
    """Shows the actors of a tree: all while it comes up and goes down, restarted ones in between."""

    def __init__(self, console: Console, runtime: Runtime, tree: Tree) -> None:
        self._console = console
        self._prefix = f"/{tree.id}"
        self._up = False
        self._attempt: events.StartAttempt | None = None
        shown = (events.StartAttempt, events.Started, events.Restarted, events.Exited, Serving)
        self._subscription = runtime.subscribe(self._event, *shown)

    def done(self) -> None:
        """The tree is up: from now on show only what is restarted."""
        self._up = True

    def stopping(self) -> None:
        """The tree goes down."""
        self._up = False

    def _event(self, event: Any) -> None:
        if not (event.path + "/").startswith(self._prefix + "/"):
            return
        if isinstance(event, events.Restarted) and event.child is not None:
            self._show(event.child.path, event.child.id, "restarted", "")
        elif self._up:
            return
        elif isinstance(event, events.StartAttempt):
            self._tell_attempt()
            self._attempt = event
            asyncio.get_running_loop().call_soon(self._tell_attempt)
        elif isinstance(event, events.Started):
            self._tell_attempt(event.path)
            self._show(event.path, event.ref.id, "running", event.kind)
        elif isinstance(event, events.Exited):
            self._show(event.path, event.ref.id, "stopped", event.kind)

    def _tell_attempt(self, started: str = "") -> None:
        """Tell that an actor starts, unless it is done with that already."""
        event, self._attempt = self._attempt, None
        if event is not None and event.path != started:
            self._show(event.path, event.ref.id, "starting", event.kind)

    def _show(self, path: str, incarnation: int, state: str, kind: str) -> None:
        line = f"{self._console.paint(state)} {_indented(path):<{_IDS}} {kind:<{_KINDS}} {path}"
        id = path.rpartition("/")[2]
        self._console.say(line, "actor", state=state, id=id, kind=kind, path=path, incarnation=incarnation)


def _indented(path: str) -> str:
    return "  " * (path.count("/") - 1) + path.rpartition("/")[2]


def _remarks(spec: ChildSpec) -> str:
    named = "" if spec.name is None else f", name {spec.name}"
    shutdown = f"{spec.shutdown:g} s" if isinstance(spec.shutdown, (int, float)) else spec.shutdown
    return f"{spec.restart}, shutdown {shutdown}{named}"


def curl(url: str, interface: Interface) -> str:
    r"""Return a command that runs a program.

    >>> curl("http://127.0.0.1:8000/programs/echo", Interface("Echo", "", (ProgramField("text", "str"),), ()))
    'curl http://127.0.0.1:8000/programs/echo --json \'{"text": "What a lovely day."}\''
    """
    inputs = {field.name: _sample(field) for field in interface.inputs if field.required}
    body = ", ".join(f'"{name}": {value}' for name, value in inputs.items())
    return f"curl {url} --json '{{{body}}}'"


def _sample(field: ProgramField) -> str:
    """Return some value of a field's type, as JSON without apostrophes."""
    kind = field.schema.get("type")
    samples = {"integer": "1", "number": "0.5", "boolean": "true", "array": "[]", "object": "{}", "null": "null"}
    return samples.get(kind, '"What a lovely day."') if isinstance(kind, str) else '"What a lovely day."'
