"""The log: readable at a terminal, one JSON object a line for machines, and with the service's own when embedded."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from foundation.run import main
from foundation.run.logs import LEVELS, columns_of, configure_logging, fold
from supervision.logs import as_text, get_logger

PARTS = """
import logging
import structlog
from supervision import Actor, Message, handle

class Go(Message, frozen=True):
    n: int = 1

class Crashing(Actor):
    def init(self):
        self.ref.cast(Go())

    @handle
    def go(self, message: Go) -> None:
        logging.getLogger("shop").info("told by logging")
        logging.getLogger("shop").warning("warned by logging")
        structlog.get_logger("shop").debug("told_in_detail", word="x")
        where = "of the data base at 10.0.0.1"
        raise RuntimeError(f"the connection {where} was closed, and everything that has to be said of it is very long")
"""
TREE = 'id = "shop"\nmax_restarts = 0\n[[children]]\nid = "a"\nstart = "parts:Crashing"\n'
MESSAGE = (
    "the connection of the data base at 10.0.0.1 was closed, and everything that has to be said of it is very long"
)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A tree whose only actor crashes."""
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "shop.toml").write_text(TREE)
    return tmp_path / "shop.toml"


def errors_of(shop: Path, *arguments: str) -> list[str]:
    """Run the command, and return the lines of standard error."""
    command = [sys.executable, "-m", "foundation.run", str(shop), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stderr.splitlines()


def at_a_terminal(shop: Path, columns: int) -> list[str]:
    """Run the command at a terminal, and return the lines that are shown there, without their colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    command = [sys.executable, "-m", "foundation.run", str(shop)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, stdin=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # the other end is closed
            os.close(ours)
        process.wait(60)
    assert b"\x1b[" in shown
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).splitlines()


def test_a_crash_report_is_readable_at_a_terminal_of_80_columns(shop: Path) -> None:
    lines = at_a_terminal(shop, 80)
    assert max(len(line) for line in lines) <= 80
    begin = next(number for number, line in enumerate(lines) if "crash_report" in line)
    end = next(number for number, line in enumerate(lines) if "child_terminated" in line)
    report = lines[begin:end]
    assert "Traceback (most recent call last):" in report
    assert any(line.startswith("    raise RuntimeError(") for line in report)
    joined = " ".join(line.strip() for line in report)
    assert joined.count(MESSAGE) == 1
    assert "actor=/shop/a kind=Crashing last_message='Go(n=1)'" in joined
    assert "None" not in joined
    assert "[]" not in joined


def test_a_wider_terminal_is_used(shop: Path) -> None:
    assert any(len(line) > 100 for line in at_a_terminal(shop, 200))


def test_a_crash_report_as_json_is_one_line(shop: Path) -> None:
    entries = [json.loads(line) for line in errors_of(shop, "--json-logs")]
    (report,) = [entry for entry in entries if entry["event"] == "crash_report"]
    assert report["traceback"].splitlines()[-1] == f"RuntimeError: {MESSAGE}"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), {"warned by logging", "crash_report", "actor"}),
        (("--log-level", "info"), {"told by logging", "warned by logging", "crash_report", "actor"}),
        (("--log-level", "DEBUG"), {"told_in_detail", "told by logging", "warned by logging", "crash_report", "actor"}),
        (("--log-level", "warning"), {"warned by logging", "crash_report"}),
        (("--log-level", "error"), {"crash_report"}),
        (("--log-level", "critical"), set()),
    ],
)
def test_what_is_logged_depends_on_the_level(shop: Path, arguments: tuple[str, ...], told: set[str]) -> None:
    events = {json.loads(line)["event"] for line in errors_of(shop, "--json-logs", *arguments)}
    known = {"told_in_detail", "told by logging", "warned by logging", "crash_report", "actor"}
    assert events & known == told


def test_a_level_that_does_not_exist_is_refused(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(shop), "--log-level", "loud"], {}) == 2
    assert capsys.readouterr().err == (f"foundation: --log-level = 'loud': choose one of {', '.join(LEVELS)}\n")
    assert main([str(shop), "--check"], {"FOUNDATION_LOG_LEVEL": "waning"}) == 2
    assert "(did you mean 'warning'?)" in capsys.readouterr().err


@pytest.fixture
def _as_before() -> Iterator[None]:
    """Logging is as it was afterwards."""
    root = logging.getLogger()
    before = structlog.get_config(), list(root.handlers), root.level
    yield
    structlog.configure(**before[0])
    root.handlers[:] = before[1]
    root.setLevel(before[2])


@pytest.mark.usefixtures("_as_before")
def test_an_exception_that_is_logged_is_shown_below_its_line() -> None:
    """By structlog, and by the standard library; in JSON it is a part of the line."""
    for as_json in (False, True):
        stream = io.StringIO()
        configure_logging(stream, as_json=as_json, colours=False)
        try:
            raise ValueError("no")
        except ValueError:
            structlog.get_logger().exception("failed")
            logging.getLogger("lib").exception("also failed")
        lines = stream.getvalue().splitlines()
        if as_json:
            assert [json.loads(line)["exception"].splitlines()[-1] for line in lines] == ["ValueError: no"] * 2
        else:
            assert lines.count("ValueError: no") == 2
            assert lines.count("Traceback (most recent call last):") == 2


def test_lines_are_folded_between_words_or_within_a_long_one() -> None:
    assert fold("x" * 200, None) == "x" * 200
    assert fold("short\n\nlines", 20) == "short\n\nlines"
    assert fold("one two three", 9) == "one two\n    three"
    assert fold("one two      three", 9) == "one two\n    three"
    assert fold("a 0123456789abcdefghij", 10) == "a 01234567\n    89abcd\n    efghij"
    assert fold("some 0123456789", 10) == "some\n    012345\n    6789"
    assert fold("\x1b[1mone\x1b[0m two \x1b[31mthree\x1b[0m", 9) == "\x1b[1mone\x1b[0m two\n    \x1b[31mthree\x1b[0m"
    assert fold("\x1b[1m0123456789\x1b[0m", 1) == "\x1b[1m01234567\n    89\x1b[0m"


def test_columns_are_those_of_the_terminal_or_what_one_says() -> None:
    assert columns_of(None, {"COLUMNS": "100"}) is None
    assert columns_of(io.StringIO(), {"COLUMNS": "100"}) is None
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        assert columns_of(terminal, {"COLUMNS": "100"}) == 100
        assert columns_of(terminal, {"COLUMNS": "0"}) == 80  # it has not been told how wide it is
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 132, 0, 0))
        assert columns_of(terminal, {"COLUMNS": "wide"}) == 132
    os.close(ours)


# -- embedded ----------------------------------------------------------------------------------------------------------

EMBEDDED = """
import asyncio, logging, sys, structlog
{configure}
from supervision import Actor, Runtime, Message, handle
from structlog.contextvars import bind_contextvars

class Go(Message, frozen=True):
    pass

class Crashing(Actor):
    @handle
    def go(self, message: Go) -> None:
        raise RuntimeError("no luck")

async def main():
    bind_contextvars(request="r-1")
    async with Runtime() as runtime:
        actor = await runtime.spawn(Crashing, name="a")
        actor.cast(Go())
        await actor.join()

asyncio.run(main())
"""


def embedded(configure: str) -> tuple[str, str]:
    """Run a program that configures its logging so; return output and errors."""
    program = EMBEDDED.format(configure=configure)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return ended.stdout, ended.stderr


def test_a_service_that_logs_through_the_standard_library_gets_the_reports_there() -> None:
    """With its format, its handlers, its levels; and the name by which they can be set."""
    out, errors = embedded("logging.basicConfig(stream=sys.stdout, format='%(levelname)s|%(name)s|%(message)s')")
    first, *traceback = out.splitlines()
    assert first.startswith("ERROR|supervision|crash_report actor=/a ")
    assert " request=r-1" in first
    assert traceback[0] == "Traceback (most recent call last):"
    assert traceback[-1] == "RuntimeError: no luck"
    assert errors == ""
    quiet = "logging.basicConfig(); logging.getLogger('supervision').setLevel(logging.CRITICAL)"
    assert embedded(quiet) == ("", "")


def test_a_service_that_has_configured_structlog_gets_the_reports_there() -> None:
    out, errors = embedded("structlog.configure(processors=[structlog.processors.JSONRenderer()])")
    assert json.loads(out)["event"] == "crash_report"
    assert errors == ""


def test_a_program_that_has_configured_nothing_is_told_on_standard_error() -> None:
    out, errors = embedded("")
    assert out == ""
    assert errors.startswith("crash_report actor=/a ")


def test_a_log_line_knows_its_fields_and_where_it_comes_from(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(structlog, "is_configured", lambda: False)
    logger: Any = get_logger("supervision")
    logger.warning("something", n=1)
    logger.log(logging.INFO, "not_logged")
    with caplog.at_level(logging.INFO):
        logger.log(logging.INFO, "something_else")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "something n=1"),
        ("INFO", "something_else"),
    ]
    record: Any = caplog.records[0]
    assert record.fields == {"n": 1}
    assert record.filename == "test_logs.py"


def test_text_for_people_leaves_out_what_is_empty() -> None:
    assert as_text("event", {"a": None, "b": [], "c": False, "d": 0, "e": "two words", "f": True}) == (
        'event d=0 e="two words" f=true'
    )
