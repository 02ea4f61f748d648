"""The journal of a run: written before anything is seen, compacted, and owned by one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agents.durability import MemoryStorage, StorageConflict, StorageError
from dspex.workflow.errors import BadJournal, OtherRun
from dspex.workflow.journal import Journal


async def opened(storage: MemoryStorage, **what: Any) -> Journal:
    """Return a journal that is open, as after a restart."""
    journal = Journal(storage, "run")
    await journal.open(what or {"of": "test"})
    return journal


async def test_an_entry_that_was_added_is_there_after_a_restart_and_the_last_of_a_key_counts() -> None:
    storage = MemoryStorage()
    journal = await opened(storage)
    await journal.add("n", "a", 1)
    await journal.add("n", "b", [2])
    await journal.add("n", "a", 3)
    again = await opened(storage)
    assert dict(again.entries("n")) == {"a": 3, "b": [2]}
    assert again.count("n") == 2
    assert again.find("n", "c") is None
    assert dict(again.entries("other")) == {}
    assert again.size == journal.size > 0


async def test_another_run_is_refused_and_each_difference_is_named() -> None:
    storage = MemoryStorage()
    await opened(storage, seed=1, model="small")
    with pytest.raises(OtherRun, match=r"model: 'small' there, None here; seed: 1 there, 2 here") as caught:
        await opened(storage, seed=2)
    assert caught.value.differing == {"seed": (1, 2), "model": ("small", None)}
    assert await Journal(storage, "run").open({"seed": 1, "model": "small"})


async def test_what_cannot_be_encoded_is_refused_and_others_go_on() -> None:
    journal = await opened(MemoryStorage())
    with pytest.raises(TypeError):
        await journal.add("n", "bad", object())
    await journal.add("n", "good", 1)
    assert journal.find("n", "good") == 1


@pytest.mark.parametrize("data", [b"{", b'{"kind": "\xff"}', b'"text"'])
async def test_an_entry_that_cannot_be_read_is_named(data: bytes) -> None:
    storage = MemoryStorage()
    await storage.write("run", 1, expected=None, entries=[(1, data)])
    with pytest.raises(BadJournal, match="entry 1 of the journal") as caught:
        await opened(storage)
    assert caught.value.version == 1


async def test_a_compacted_journal_says_the_same_and_is_smaller() -> None:
    storage = MemoryStorage()
    journal = await opened(storage)
    for n in range(50):
        await journal.add("n", "a", n)
    await journal.add("n", "gone", 1)
    before = journal.size
    await journal.compact(lambda kind, key, value: None if key == "gone" else value)
    assert journal.size < before / 10
    assert journal.appended == 0
    await journal.add("n", "b", 1)
    again = await opened(storage)
    assert dict(again.entries("n")) == {"a": 49, "b": 1}
    assert again.size == journal.size
    assert len(await storage.entries("run", 0)) == 1


async def test_nothing_is_compacted_before_anything_was_written() -> None:
    journal = Journal(MemoryStorage(), "run")
    await journal.compact(lambda kind, key, value: value)
    assert journal.size == 0


async def test_a_compaction_and_entries_that_come_meanwhile_do_not_disturb_each_other() -> None:
    class Slow(MemoryStorage):
        async def write(self, *args: Any, **kwargs: Any) -> None:
            for _ in range(9 if kwargs.get("checkpoint") else 1):
                await asyncio.sleep(0)  # noqa: TID251 - a storage takes its time
            await super().write(*args, **kwargs)

    storage = Slow()
    journal = await opened(storage)
    keep = lambda kind, key, value: value  # noqa: E731
    adds = [journal.add("n", str(n), n) for n in range(20)]
    await asyncio.gather(adds[0], journal.compact(keep), *adds[1:10], journal.compact(keep), *adds[10:])
    assert (await opened(storage)).entries("n") == {str(n): n for n in range(20)}


async def test_T083_of_two_that_write_to_one_log_the_second_gets_a_conflict_and_nothing_is_lost() -> None:
    storage = MemoryStorage()
    await opened(storage)
    one, two = await opened(storage), await opened(storage)
    await one.add("n", "a", "one")
    with pytest.raises(StorageConflict):
        await two.add("n", "a", "two")
    with pytest.raises(StorageConflict):
        await two.add("n", "b", "two")
    with pytest.raises(StorageConflict):
        await two.compact(lambda kind, key, value: None)
    await one.add("n", "b", "one")
    assert dict((await opened(storage)).entries("n")) == {"a": "one", "b": "one"}


async def test_a_journal_goes_on_after_a_write_that_failed() -> None:
    class Full(MemoryStorage):
        full = False

        async def write(self, *args: Any, **kwargs: Any) -> None:
            if self.full:
                raise StorageError("full")
            await super().write(*args, **kwargs)

    storage = Full()
    journal = await opened(storage)
    storage.full = True
    with pytest.raises(StorageError):
        await journal.add("n", "a", 1)
    assert journal.find("n", "a") is None
    storage.full = False
    await journal.add("n", "a", 2)
    assert journal.find("n", "a") == 2


@pytest.mark.parametrize("factory", [None, getattr(asyncio, "eager_task_factory", None)])
async def test_a_journal_works_with_any_task_factory(factory: Any) -> None:
    """Also with one that has a task ended before it is there."""
    asyncio.get_running_loop().set_task_factory(factory)
    journal = await opened(MemoryStorage())
    for n in range(3):
        await asyncio.wait_for(journal.add("n", "a", n), 5)
    assert journal.find("n", "a") == 2


async def test_a_run_that_nothing_tells_from_others_has_begun_when_something_was_written() -> None:
    storage = MemoryStorage()
    for _ in range(2):
        journal = Journal(storage, "run")
        assert not await journal.open({})
        await journal.add("n", "a", 1)
    assert await journal.storage.keys() == ["run"]


async def test_the_parameters_of_a_run_are_written_together() -> None:
    """So that a process that ends in between leaves no run with half of them."""

    class Counting(MemoryStorage):
        writes = 0

        async def write(self, *args: Any, **kwargs: Any) -> None:
            self.writes += 1
            await super().write(*args, **kwargs)

    storage = Counting()
    await opened(storage, a=1, b=2, c=3)
    assert storage.writes == 1
