"""Logging of the command: pretty for people, JSON for machines, always on standard error.

Libraries only log; that it is configured here and nowhere else is on purpose.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Protocol, TextIO

import structlog
from structlog.typing import Processor

from supervision.logs import is_empty

#: From which level on lines are logged, by its name on the command line.
LEVELS = {
    name: logging.getLevelNamesMapping()[name.upper()] for name in ("debug", "info", "warning", "error", "critical")
}


class LineStream(Protocol):
    """Takes whole lines, with their ends, and does not wait."""

    def write(self, text: str, /) -> object:
        """Take them."""
        ...

    def flush(self) -> object:
        """Do nothing."""
        ...


#: How continued lines begin.
_INDENT = "    "
#: How many columns a terminal has that does not say.
_NARROW = 80
#: What sets a colour; a character or such; spaces or a word.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PART = re.compile(_COLOUR.pattern + "|.")
_PIECE = re.compile(f" +|(?:{_COLOUR.pattern}|[^ ])+")


def wants_colours(stream: TextIO | None, environ: Mapping[str, str]) -> bool:
    """Return whether to write in colours: to a terminal, unless ``NO_COLOR`` is set; and if ``FORCE_COLOR`` is."""
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or (stream is not None and stream.isatty())


def columns_of(stream: TextIO | None, environ: Mapping[str, str]) -> int | None:
    """Return how many columns a terminal has: ``COLUMNS`` if that is set; None for what is no terminal."""
    if stream is None or not stream.isatty():
        return None
    told = environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit() and int(told) > 0:
        return int(told)
    return os.get_terminal_size(stream.fileno()).columns or _NARROW


def configure_logging(
    stream: LineStream,
    *,
    as_json: bool,
    colours: bool,
    columns: int | None = None,
    level: str | None = None,
) -> None:
    """Send all logs of this process, structlog's and those of the standard library, to one stream.

    Args:
        stream: where to, in whole lines. It must not wait.
        as_json: one JSON object a line.
        colours: whether people get colours.
        columns: where lines for people are folded; None for nowhere.
        level: from which level on, by its name; if None, ``info`` for structlog, and ``warning`` for libraries that log
            through the standard library.
    """
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True)
        if as_json
        else structlog.processors.TimeStamper("%H:%M:%S"),
    ]
    if as_json:
        common.append(structlog.processors.format_exc_info)
        render: list[Processor] = [structlog.processors.JSONRenderer(default=str)]
    else:
        plain = structlog.dev.plain_traceback
        pretty = structlog.dev.ConsoleRenderer(
            colors=colours, exception_formatter=plain, sort_keys=False, pad_event_to=0
        )
        render = [for_people, pretty, lambda logger, method, line: fold(str(line), columns)]
    structlog.configure(
        processors=[*common, *render],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level or "info"]),
        logger_factory=lambda *names: _Lines(stream),
        cache_logger_on_first_use=False,
    )
    _configure_standard_library(stream, common, render, LEVELS[level or "warning"])


class _Lines:
    """What structlog writes its lines to: without a lock, unlike its own, which a destructor that logs might meet."""

    def __init__(self, stream: LineStream) -> None:
        self._write = stream.write

    def msg(self, line: str) -> None:
        self._write(line + "\n")

    log = debug = info = warn = warning = error = critical = exception = fatal = msg


def _configure_standard_library(
    stream: LineStream, common: list[Processor], render: list[Processor], level: int
) -> None:
    handler = logging.StreamHandler(stream)
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    added: list[Processor] = [structlog.stdlib.add_logger_name, *common]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[strip, *render], foreign_pre_chain=added))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def for_people(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Leave out what is empty, and show tracebacks as lines: a processor of structlog's."""
    traceback = event.pop("traceback", None)
    if traceback is not None:
        event["exception"] = traceback
        event.pop("reason", None)  # it is the last line of the traceback
    return {name: value for name, value in event.items() if not is_empty(value)}


def fold(text: str, columns: int | None) -> str:
    """Return text with no line wider than so many columns: broken between words, or within one that is too long.

    >>> print(fold("a line of some words", 12))
    a line of
        some
        words
    """
    if columns is None:
        return text
    return "\n".join(_folded(line, max(columns, 2 * len(_INDENT))) for line in text.split("\n"))


def _folded(line: str, columns: int) -> str:
    out, column = "", 0
    for piece in _PIECE.findall(line):
        width = len(_COLOUR.sub("", piece))
        if column + width > columns and column > len(_INDENT):
            out, column = out.rstrip(" ") + "\n" + _INDENT, len(_INDENT)
            if piece.isspace():
                continue
        if column + width <= columns:
            out, column = out + piece, column + width
            continue
        for part in _PART.findall(piece):  # one that is longer than a line
            if column == columns and not part.startswith("\x1b"):
                out, column = out + "\n" + _INDENT, len(_INDENT)
            out, column = out + part, column + (0 if part.startswith("\x1b") else 1)
    return out


def dropped_line(as_json: bool) -> Callable[[int], str]:
    """Return what tells, in the log, that lines were dropped, as nobody read them."""
    if as_json:
        return lambda lines: json.dumps({"event": "output_lines_dropped", "level": "warning", "lines": lines}) + "\n"
    return lambda lines: f"[warning] output_lines_dropped lines={lines}\n"
