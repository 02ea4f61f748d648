"""What is rare: a clock set while letters wait to be written, a head that is too long, a pipe that is shared."""

from __future__ import annotations

import asyncio
import os
import runpy
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from foundation.dead_letters.delivery import Backlog, DeadLetters, UnwrittenLetter, WaitingLetter
from foundation.dead_letters.letter import Letter
from foundation.http.connections import _TOO_LONG, _Limited
from foundation.installation import Foreign
from foundation.run import main
from foundation.run.output import _File
from foundation.store.trie import Trie


def test_letters_that_wait_to_be_written_are_as_old_as_they_are_when_the_clock_is_set() -> None:
    letter = Letter("shop", "News", b"", "nobody is there", 0, 100.0, "waiting")
    queue = DeadLetters()
    queue._ages = cast(Any, SimpleNamespace(moved=0.0, corrections=SimpleNamespace(step=lambda: 500.0)))
    queue._backlogs = {"shop": Backlog()}
    queue._backlogs["shop"].letters = {1: WaitingLetter(0, 50.0), 2: WaitingLetter(0, 60.0)}
    queue._new = [UnwrittenLetter(None, letter, None)]
    queue._writing = True
    queue._correct()
    assert queue._new[0].letter.kept_at == 600.0
    rows: dict[Any, Any] = {1: msgspec.to_builtins(letter)}  # and number 2 was taken out by somebody
    tx = SimpleNamespace(get=lambda table, key: rows.get(key), put=lambda table, key, row: rows.update({key: row}))
    queue._put_ages(cast(Any, tx))
    assert rows[1].kept_at == 550.0
    assert 2 not in rows


class _Base(asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        """Take it, as what has read a head does."""
        told: list[Any] = cast(Any, self).told
        told.append(len(data))
        cast(Any, self).waiting = len(data) == 9 and b"y" not in data


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([b"x" * 9, b"x" * 9, b"x" * 9], [9, _TOO_LONG, "closed"]),
        ([b"x" * 11 + b"\r\n\r\n"], [_TOO_LONG, "closed"]),
        ([b"x" * 6 + b"\r\n\r\n" + b"y" * 9], [19]),  # a body does not count
        ([b"x" * 6 + b"\r\n\r", b"\n" + b"y" * 9 + b"\r\n\r\n"], [9, 14]),  # nor where the end of the head is cut
        ([b"x" * 6 + b"\r\n\r\n", b"y" * 9, b"y" * 9], [10, 9, "aborted"]),  # but not for ever
    ],
)
def test_a_head_that_is_too_long_for_any_parser_is_answered_and_ends_the_connection(
    parts: list[bytes], told: list[Any]
) -> None:
    kind: Any = type("Connection", (_Limited, _Base), {"waiting": True})
    connection = kind.__new__(kind)
    connection.told = seen = list[Any]()
    connection.limits = SimpleNamespace(max_header=10, longest=5)
    connection.transport = SimpleNamespace(
        is_closing=lambda: "closed" in seen,
        write=seen.append,
        close=lambda: seen.append("closed"),
        abort=lambda: seen.append("aborted"),
    )
    for part in parts:
        connection.data_received(part)
    assert seen == told


def test_a_package_of_somebody_else_is_named_when_a_tree_is_checked(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    foreign = Foreign("agents", "/somewhere/agents/__init__.py", ("openagents",))
    monkeypatch.setattr("foundation.run.command.foreign", lambda name: foreign if name == "agents" else None)
    tree = tmp_path / "tree.toml"
    tree.write_text('[[children]]\nid = "a"\nstart = "supervision:Actor"\n')
    assert main(["--check", str(tree)], {}) == 0
    assert "of openagents, and not that of foundation-otp" in capfd.readouterr().out


def test_a_file_that_others_do_not_want_to_wait_for_is_waited_for() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    file = _File(writing)
    counts: list[int] = []
    size = 1 << 20
    got = bytearray()

    def read() -> None:
        while len(got) < size:
            got.extend(os.read(reading, 1 << 16))

    writer = threading.Thread(target=file.write, args=(b"x" * size, counts.append))
    writer.start()
    while not counts:  # the pipe is full then, and nobody reads yet
        pass
    reader = threading.Thread(target=read)
    reader.start()
    writer.join()
    reader.join()
    file.close()
    os.close(writing)
    os.close(reading)
    assert (sum(counts), len(got)) == (size, size)


def test_the_plugin_for_pytest_does_without_pytest_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest_asyncio", None)
    there: dict[str, Callable[..., Any]] = runpy.run_path(str(Path(__file__).parents[2] / "pytest_foundation.py"))
    assert "runtime" in there
    assert "_runtime_of_asyncio" not in there


def test_taking_a_key_out_that_is_not_there_changes_nothing_however_large_the_map_is() -> None:
    whole = Trie({number: number for number in range(1000)})
    assert len(whole.changed({}, [5000, -1])) == 1000
