"""Logging of the command: pretty for people, JSON for machines, always on standard error.

Libraries only log; that it is configured here and nowhere else is on purpose.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TextIO

import structlog
from structlog.typing import Processor


def wants_colours(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether to write in colours: to a terminal, unless ``NO_COLOR`` is set; and if ``FORCE_COLOR`` is."""
    if environ.get("NO_COLOR"):
        return False
    return bool(environ.get("FORCE_COLOR")) or stream.isatty()


def configure_logging(stream: TextIO, *, as_json: bool, colours: bool) -> None:
    """Send all logs of this process, structlog's and those of the standard library, to one stream.

    Args:
        stream: where to.
        as_json: one JSON object a line.
        colours: whether people get colours.
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
        renderer: Processor = structlog.processors.JSONRenderer(default=str)
    else:
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)
    structlog.configure(
        processors=[*common, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    _configure_standard_library(stream, common, renderer)


def _configure_standard_library(stream: TextIO, common: list[Processor], renderer: Processor) -> None:
    handler = logging.StreamHandler(stream)
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    added: list[Processor] = [structlog.stdlib.add_logger_name, *common]
    formatter = structlog.stdlib.ProcessorFormatter(processors=[strip, renderer], foreign_pre_chain=added)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
