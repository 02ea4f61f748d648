"""Loggers of these packages, which write to the log of the program that they are a part of.

If the program has configured structlog, to structlog; else to the standard library's ``logging``, with whatever
handlers and levels the program has set there. Nothing is configured here.
"""

from __future__ import annotations

import logging
from typing import Any

import structlog

_render = structlog.processors.LogfmtRenderer(bool_as_flag=False)
_merge = structlog.contextvars.merge_contextvars


class Logger:
    """Logs events: a name, and fields.

    Args:
        name: of the logger, in the standard library's terms: ``supervision``, ``agents``, …
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._structlog: Any = structlog.get_logger(name)

    def warning(self, event: str, **fields: Any) -> None:
        """Log a warning; an exception as ``exc_info`` is shown with its traceback."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Log an error."""
        self._log(logging.ERROR, event, fields)

    def log(self, level: int, event: str, **fields: Any) -> None:
        """Log at a level of the standard library's."""
        self._log(level, event, fields)

    def _log(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if structlog.is_configured():
            getattr(self._structlog, logging.getLevelName(level).lower())(event, **fields)
            return
        logger = logging.getLogger(self._name)
        if logger.isEnabledFor(level):
            error = fields.pop("exc_info", None)
            logger.log(level, "%s", as_text(event, fields), exc_info=error, stacklevel=3, extra={"fields": fields})


def as_text(event: str, fields: dict[str, Any]) -> str:
    """Return an event as a line of ``key=value``, and below it a traceback or a stack if there is one.

    >>> print(as_text("zombie", {"actor": "/shop/a", "client": None, "mailbox": 2, "stack": "  File shop.py, line 3"}))
    zombie actor=/shop/a mailbox=2
      File shop.py, line 3
    """
    shown = {name: value for name, value in _merge(None, "", dict(fields)).items() if not is_empty(value)}
    below = [str(shown.pop(name)).rstrip("\n") for name in ("stack", "traceback") if name in shown]
    texts = {name: value if isinstance(value, (bool, int, float)) else str(value) for name, value in shown.items()}
    return "\n".join([f"{event} {_render(None, '', texts)}".rstrip(), *below])


def is_empty(value: object) -> bool:
    """Return whether a field need not be shown to people: None, False, or an empty text or collection."""
    return value is None or value is False or (type(value) in (str, list, tuple, dict) and not value)


def get_logger(name: str) -> Any:
    """Return a logger for a part of these packages."""
    return Logger(name)
