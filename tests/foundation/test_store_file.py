"""The file of a store: what was acknowledged is there, what is damaged is found, and the end of the log is told."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.store import JournalDamaged, NotWritten, StoreUnreachable
from foundation.store.file import StoreFile
from foundation.store.recovery import LogTail, log_tail


def change(key: int, value: bytes | None) -> Any:
    """Return a change of one row."""
    return ("t", b"%d" % key, value)


@settings(max_examples=100)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.none() | st.binary(max_size=3)), min_size=1, max_size=3), max_size=12
    ),
    st.integers(1, 5),
    st.sets(st.integers(0, 11)),
)
def test_the_file_says_what_a_dictionary_says(transactions: list[Any], fold_after: int, reopened: set[int]) -> None:
    with TemporaryDirectory() as folder:
        says_what_a_dictionary_says(Path(folder, "file.db"), transactions, fold_after, reopened)


def says_what_a_dictionary_says(path: Path, transactions: list[Any], fold_after: int, reopened: set[int]) -> None:
    """Write transactions, open the file now and then, and compare."""
    file = StoreFile(path, "off", fold_after)
    model: dict[bytes, bytes] = {}
    for n, changes in enumerate(transactions):
        file.append([[change(*one) for one in changes]])
        for key, value in changes:
            model.pop(b"%d" % key, None)
            if value is not None:
                model[b"%d" % key] = value
        if n in reopened:
            file.close()
            file = StoreFile(path, "off", fold_after)
            assert file.content.rows.get("t", {}) == model
            assert file.content.sequence == n + 1
    file.close()
    last = StoreFile(path)
    last.close()
    assert last.content.rows.get("t", {}) == model


def damage(path: Path, statement: str, *values: Any) -> None:
    """Change what is in the file."""
    database = sqlite3.connect(path)
    database.execute(statement, values)
    database.commit()
    database.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with four transactions, of which two are folded."""
    path = tmp_path / "file.db"
    file = StoreFile(path, "full", fold_after=2)
    for n in range(2):
        file.append([[change(n, b"v")]])
    file = reopened(file, path)
    for n in range(2, 5):
        file.append([[change(n, b"v")]])
    file.close()
    return path


def reopened(file: StoreFile, path: Path) -> StoreFile:
    """Close a file and open it with a longer journal."""
    file.close()
    return StoreFile(path, "full", fold_after=100)


DAMAGES = {
    "changed": "UPDATE journal SET body = x'90' WHERE sequence = 4",
    "missing": "DELETE FROM journal WHERE sequence = 4",
    "moved": "UPDATE journal SET sequence = sequence + 10 WHERE sequence >= 4",
    "another": "UPDATE journal SET checksum = 7 WHERE sequence = 4",
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_journal_is_refused_or_cut_and_said(path: Path, how: str) -> None:
    damage(path, DAMAGES[how])
    with pytest.raises(JournalDamaged, match=r"record 4: .* checksum is wrong; restore a backup") as caught:
        StoreFile(path)
    assert caught.value.sequence == 4
    file = StoreFile(path, damaged="cut")
    assert file.content.sequence == 3
    assert file.content.cut == (1 if how == "missing" else 2)
    assert sorted(file.content.rows["t"]) == [b"0", b"1", b"2"]
    file.append([[change(9, b"v")]])
    file.close()
    assert sorted(StoreFile(path).content.rows["t"]) == [b"0", b"1", b"2", b"9"]


def test_a_damaged_row_is_refused(path: Path) -> None:
    damage(path, "UPDATE rows SET value = x'00' WHERE key = x'30'")
    with pytest.raises(JournalDamaged, match="table 't' has a wrong checksum"):
        StoreFile(path, damaged="cut")


def test_what_sqlite_cannot_read_is_damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(JournalDamaged):
        StoreFile(path)


def test_a_file_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file.db").mkdir()
    with pytest.raises(StoreUnreachable, match=r"file\.db cannot be opened \(.*Is a directory.*\): name a directory"):
        StoreFile(tmp_path / "file.db")
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnreachable, match="Not a directory"):
        StoreFile(tmp_path / "file" / "file.db")


def test_a_write_that_fails_leaves_nothing(path: Path) -> None:
    file = StoreFile(path)
    file.content.sequence -= 1  # so that the next record has the number of one that is there
    with pytest.raises(NotWritten, match="UNIQUE constraint failed"):
        file.append([[change(7, b"v")], [change(8, b"v")]])
    file.content.sequence += 1
    file.append([[change(9, b"v")]])
    file.close()
    assert sorted(StoreFile(path).content.rows["t"]) == [b"0", b"1", b"2", b"3", b"4", b"9"]


# -- the end of the log ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a log of several transactions, as a process leaves it that is killed."""
    folder = tmp_path_factory.mktemp("crashed")
    file = StoreFile(folder / "file.db", "full", fold_after=1000)
    for n in range(6):
        file.append([[change(n, b"v" * 3000), change(n + 100, b"w" * 3000)]])
    copy = tmp_path_factory.mktemp("copy")
    for part in folder.iterdir():
        shutil.copy(part, copy / part.name)
    file.close()
    return copy / "file.db"


def torn(crashed: Path, folder: Path, size: int, flip: int | None = None) -> Path:
    """Return a copy whose log is cut, or has a wrong byte."""
    for old in folder.iterdir():
        old.unlink()
    shutil.copy(crashed, folder / crashed.name)
    log = bytearray(crashed.with_name("file.db-wal").read_bytes()[:size])
    if flip is not None and flip < len(log):
        log[flip] ^= 0xFF
    (folder / "file.db-wal").write_bytes(log)
    return folder / crashed.name


def test_a_whole_log_has_a_clean_end(crashed: Path, tmp_path: Path) -> None:
    tail = log_tail(torn(crashed, tmp_path, 1 << 30))
    assert tail.clean
    assert tail.committed > 6
    assert log_tail(tmp_path / "nothing.db") == LogTail(0, 0, 0)


def test_a_log_that_is_none_is_torn(crashed: Path, tmp_path: Path) -> None:
    assert log_tail(torn(crashed, tmp_path, 10)) == LogTail(0, 0, 10)
    whole = torn(crashed, tmp_path, 1 << 30, flip=20)
    assert log_tail(whole).committed == 0
    assert not log_tail(whole).clean


@settings(max_examples=200)
@given(where=st.floats(0, 1), cut=st.booleans())
def test_wherever_the_log_is_torn_what_is_read_is_a_beginning_and_the_rest_is_said(
    crashed: Path, where: float, cut: bool
) -> None:
    whole = crashed.with_name("file.db-wal").stat().st_size
    at = int(where * (whole - 1))
    with TemporaryDirectory() as folder:
        path = torn(crashed, Path(folder), at) if cut else torn(crashed, Path(folder), whole, flip=at)
        tail = log_tail(path)
        file = StoreFile(path)
        file.close()
    content = file.content
    assert content.tail == tail
    numbers = range(content.sequence)
    assert set(content.rows.get("t", {})) == {b"%d" % (n + more) for n in numbers for more in (0, 100)}
    if cut:
        assert tail.torn_bytes == (at if at < 32 else (at - 32) % (4096 + 24))
    else:
        assert tail.torn_bytes > 0, "a wrong byte is always said"


def test_a_frame_of_ours_with_a_wrong_mark_is_torn_and_not_taken_for_an_old_one(crashed: Path, tmp_path: Path) -> None:
    second_frame = 32 + 4096 + 24
    assert log_tail(torn(crashed, tmp_path, 1 << 30, flip=second_frame + 8)).torn_bytes > 0


def test_what_an_earlier_longer_log_left_is_not_torn(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    file = StoreFile(path, "off", fold_after=1000)
    database = file._database
    assert database is not None
    for n in range(10):
        file.append([[change(n, b"v" * 3000)]])
    assert database.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
    file.append([[change(0, b"x")]])
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("file.db", "file.db-wal"):
        shutil.copy(tmp_path / name, copy / name)
    tail = log_tail(copy / "file.db")
    assert tail.clean
    assert 0 < tail.committed < 10
    file.close()
