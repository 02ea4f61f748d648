"""Versions keep serving, whatever the folder has in it, whoever else writes to it, and however slow the disk is."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import asyncio
import datetime
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import dspy
import pydantic
import pytest
from dspy.predict.parameter import Parameter

from dspex import BadVersion, ListVersions, ProgramActor, Swap, UseVersion, Version, VersionSkipped
from dspex.serving.version_folder import VersionFolder
from dspex.serving.versions import Versions
from dspex.testing.engine import ScriptedEngine, scripted_lm
from foundation.programs import RunProgram
from supervision import ChildSpec, Ref, Runtime, Supervisor

LABELS = {"text": "yes"}


def student() -> Any:
    """The program as it was written."""
    return dspy.Predict("text -> label", temperature=0.3)


def taught(text: object = "old") -> Any:
    """A better one, with one demonstration."""
    program = student()
    program.demos = [dspy.Example(text=text, label="no")]
    return program


async def served(runtime: Runtime, folder: Path, program: Any = student) -> Ref:
    """The program, served with the versions of a folder."""
    options = {"lm": scripted_lm(ScriptedEngine(LABELS)), "versions": folder}
    spec = ChildSpec("p", ProgramActor, (program,), options, name="program:p", restart="permanent")
    await runtime.spawn(Supervisor, [spec])
    ref = runtime.whereis("program:p")
    assert ref is not None
    return ref


async def kept(folder: Path, *programs: Any) -> None:
    """Make a folder with versions, the last of which serves."""
    versions = Versions(student(), folder)
    await versions.open()
    for program in programs:
        await versions.add(program)


async def opened(folder: Path, program: Any = None) -> Versions:
    """The versions of a folder, as somebody finds them who starts."""
    versions = Versions(student() if program is None else program, folder)
    await versions.open()
    return versions


# -- what can be saved can be swapped in ----------------------------------------------------------------------------


async def test_a_demonstration_with_a_date_is_swapped_in_as_dspy_would_load_it(
    runtime: Runtime, tmp_path: Path
) -> None:
    actor = await served(runtime, tmp_path)
    better = taught(datetime.date(2026, 1, 1))
    assert await actor.call(Swap(better)) == Version(1, True)
    loaded = student()
    loaded.load(tmp_path / "0001.json")
    assert loaded.demos[0]["text"] == "2026-01-01"
    found = await opened(tmp_path)
    assert found.program.demos == loaded.demos


async def test_what_dspy_cannot_save_is_refused_to_who_asked_and_the_old_serves_on(
    runtime: Runtime, tmp_path: Path
) -> None:
    actor = await served(runtime, tmp_path)
    with pytest.raises(BadVersion, match="the state cannot be saved as JSON"):
        await actor.call(Swap(taught(object())))
    with pytest.raises(BadVersion, match=r"it cannot be saved \(AttributeError"):
        await actor.call(Swap(7))
    assert actor.alive
    assert await actor.call(ListVersions()) == [Version(0, True)]
    assert list(tmp_path.iterdir()) == []
    assert (await actor.call(RunProgram({"text": "text"}))).outputs["label"]


async def test_a_program_of_another_shape_is_refused_and_named(tmp_path: Path) -> None:
    versions = await opened(tmp_path)
    for other, named in (
        (dspy.Predict("text, more -> label"), "signature: needs instructions, and 2 fields"),
        (dspy.ChainOfThought("text -> label"), "predict: there is no such part"),
    ):
        with pytest.raises(BadVersion) as caught:
            await versions.add(other)
        assert named in str(caught.value)


async def test_a_language_model_of_its_own_is_kept_or_refused_and_never_another(tmp_path: Path) -> None:
    """DSPy leaves out the address of a model that it loads: such a version would ask somebody else."""
    versions = await opened(tmp_path)
    own = taught()
    own.set_lm(dspy.LM("openai/small", temperature=0.5))
    await versions.add(own)
    assert (await opened(tmp_path)).program.lm.model == "openai/small"
    away = taught()
    away.set_lm(dspy.LM("openai/small", api_base="http://ours/v1"))
    with pytest.raises(BadVersion, match=r"lm\.api_base: DSPy loads something else"):
        await versions.add(away)


class Shape(pydantic.BaseModel):
    """A setting that no file can hold."""

    label: str


async def test_settings_that_no_file_can_hold_stay_those_of_the_code(tmp_path: Path) -> None:
    def written(**settings: Any) -> Any:
        return dspy.Predict("text -> label", **settings)

    code = written(response_format=Shape, temperature=0.1)
    versions = await opened(tmp_path, code)
    better = code.deepcopy()
    better.config["temperature"] = 0.7
    await versions.add(better)
    found = await opened(tmp_path, code)
    assert found.program.config == {"response_format": Shape, "temperature": 0.7}
    with pytest.raises(BadVersion, match=r"self\.config\.stop cannot be saved as JSON"):
        await versions.add(written(response_format=Shape, stop=object()))


async def test_what_a_predictor_of_ones_own_saves_is_part_of_a_version(tmp_path: Path) -> None:
    class Weighted(dspy.Predict):
        def __init__(self) -> None:
            super().__init__("text -> label")
            self.weight = 1.0

        def dump_state(self, json_mode: bool = True) -> Any:
            return {**super().dump_state(json_mode), "weight": self.weight}

    versions = await opened(tmp_path, Weighted())
    better = Weighted()
    better.weight = 2.0
    await versions.add(better)
    await versions.add({**better.dump_state(), "weight": 3.0})
    assert (await opened(tmp_path, Weighted())).program.weight == 3.0


async def test_what_a_part_of_ones_own_saves_is_not_looked_into_and_what_it_raises_is_told(tmp_path: Path) -> None:
    class Table(Parameter):
        def __init__(self) -> None:
            self.rows: dict[str, int] = {}

        def dump_state(self, json_mode: bool = True) -> Any:
            return {"rows": self.rows}

        def load_state(self, state: Any) -> None:
            self.rows = {name: 1 // count for name, count in state["rows"].items()}

    class WithTable(dspy.Module):
        def __init__(self, **rows: int) -> None:
            super().__init__()
            self.table = Table()
            self.table.rows = rows

    versions = await opened(tmp_path, WithTable())
    await versions.add(WithTable(one=1))
    assert (await opened(tmp_path, WithTable())).program.table.rows == {"one": 1}
    with pytest.raises(BadVersion, match=r"does not fit the program \(ZeroDivisionError"):
        await versions.add(WithTable(zero=0))


# -- what is damaged is skipped ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "JSONDecodeError"),
        (b'{"traces": [], "tra', "JSONDecodeError"),
        (b"\x00\xff" * 100, "JSONDecodeError"),
        (b"[1]", "holds no object"),
        (b"{}", "demos: is missing"),
        (b'{"some": {"demos": []}}', "some: there is no such part"),
    ],
)
async def test_a_damaged_file_is_skipped_and_named_and_what_served_before_serves(
    runtime: Runtime, tmp_path: Path, content: bytes, why: str
) -> None:
    await kept(tmp_path, taught("one"), taught("two"), taught("three"))
    await (await opened(tmp_path)).use(1)
    await (await opened(tmp_path)).use(3)
    (tmp_path / "0003.json").write_bytes(content)
    told: list[Any] = []
    runtime.subscribe(told.append, VersionSkipped)
    actor = await served(runtime, tmp_path)
    assert await actor.call(ListVersions()) == [Version(0, False), Version(1, True), Version(2, False)]
    assert [(event.file, event.program) for event in told] == [("0003.json", "Predict")]
    assert why in told[0].why
    info = runtime.info(actor)
    assert info is not None
    assert "0003.json" in info.summary["skipped"]
    assert await actor.call(Swap(taught("four"))) == Version(4, True)
    assert (tmp_path / "0003.json").read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"one", b"\xff", "٣".encode(), b"-1", b"9" * 5000])
async def test_a_damaged_current_is_named_and_the_program_as_written_serves(tmp_path: Path, content: bytes) -> None:
    await kept(tmp_path, taught())
    (tmp_path / "current").write_bytes(content)
    found = await opened(tmp_path)
    assert (found.number, list(found.skipped)) == (0, ["current"])


async def test_a_version_whose_file_is_gone_is_named(tmp_path: Path) -> None:
    await kept(tmp_path, taught())
    (tmp_path / "0001.json").unlink()
    found = await opened(tmp_path)
    assert (found.number, found.skipped) == (0, {"0001.json": "it is not there"})


async def test_files_that_are_no_versions_are_left_alone(tmp_path: Path) -> None:
    """Foreign ones that look like a version are named; a half-written one is none yet, and its number is not used."""
    await kept(tmp_path, taught())
    for name in ("0000.json", "00001.json", "12ab.json", "notes.txt", "0007.new.json", "0009.config.json"):
        (tmp_path / name).write_text("{")
    (tmp_path / "0002.json").mkdir()
    found = await opened(tmp_path)
    assert (found.number, sorted(found.skipped)) == (1, ["0000.json", "00001.json", "0002.json"])
    assert await found.add(taught()) == Version(10, True)


async def test_a_state_of_dspys_own_without_our_settings_is_a_version(tmp_path: Path) -> None:
    taught().save(tmp_path / "0001.json")
    found = await opened(tmp_path)
    await found.use(1)
    assert (found.program.demos[0]["text"], found.program.config) == ("old", {"temperature": 0.3})


async def test_a_folder_that_is_none_keeps_no_tree_from_starting(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    actor = await served(runtime, tmp_path / "file")
    assert await actor.call(ListVersions()) == [Version(0, True)]
    with pytest.raises(OSError, match="file"):
        await actor.call(Swap(taught()))
    assert actor.alive


# -- two of them ------------------------------------------------------------------------------------------------------

_ADDS = """
import asyncio, sys, dspy
from dspex.serving.versions import Versions
async def main():
    versions = Versions(dspy.Predict("text -> label"), sys.argv[1])
    await versions.open()
    sys.stdin.readline()
    for number in range(5):
        better = dspy.Predict("text -> label")
        better.demos = [dspy.Example(text=f"{sys.argv[2]}{number}", label="x")]
        await versions.add(better)
asyncio.run(main())
"""


def test_two_processes_on_one_folder_lose_nothing_of_each_other(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", _ADDS, str(tmp_path), name], stdin=subprocess.PIPE) for name in "ab"
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
    assert [process.wait(120) for process in processes] == [0, 0]
    texts = [json.loads(path.read_text())["demos"][0]["text"] for path in tmp_path.glob("*[0-9].json")]
    assert sorted(texts) == [f"{name}{number}" for name in "ab" for number in range(5)]
    assert sorted(path.name for path in tmp_path.iterdir() if "new" in path.name) == []


async def test_versions_added_side_by_side_have_numbers_of_their_own(tmp_path: Path) -> None:
    """Two that know nothing of each other, each with its own thread."""
    first, second = await opened(tmp_path), await opened(tmp_path)
    found = await asyncio.gather(*(one.add(taught(str(n))) for n, one in enumerate([first, second] * 5)))
    assert sorted(version.number for version in found) == list(range(1, 11))


async def test_a_number_that_another_takes_in_between_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not there when one looked, and is when one writes."""
    first, second = await opened(tmp_path), await opened(tmp_path)
    await first.add(taught("first"))
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(()))
    assert await second.add(taught("second")) == Version(2, True)
    monkeypatch.undo()
    assert len((await opened(tmp_path)).list()) == 3


async def test_a_version_that_another_process_has_added_can_be_used(tmp_path: Path) -> None:
    first, second = await opened(tmp_path), await opened(tmp_path)
    await first.add(taught())
    assert (await second.find(1)).demos[0]["text"] == "old"
    assert await second.use(1) == Version(1, True)
    assert second.program.demos[0]["text"] == "old"
    with pytest.raises(BadVersion, match="version 9: there are 0, 1"):
        await second.find(9)
    (tmp_path / "0002.json").write_text("{")
    with pytest.raises(BadVersion, match="version 2: its file"):
        await second.use(2)
    (tmp_path / "0002.json").write_text("{}")
    with pytest.raises(BadVersion, match="version 2: it does not fit"):
        await second.use(2)
    for number in (-1, 10**400):
        with pytest.raises(BadVersion):
            await second.use(number)
    assert second.number == 1


# -- the disk ---------------------------------------------------------------------------------------------------------


async def test_the_loop_never_waits_for_the_disk_and_requests_are_answered_meanwhile(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = threading.get_ident()
    held, reached = threading.Event(), threading.Event()
    used: list[int] = []
    fsync, iterdir = os.fsync, Path.iterdir

    def slow(descriptor: int) -> None:
        used.append(threading.get_ident())
        reached.set()
        held.wait(20)
        fsync(descriptor)

    def listed(path: Path) -> Any:
        used.append(threading.get_ident())
        return iterdir(path)

    monkeypatch.setattr(os, "fsync", slow)
    monkeypatch.setattr(Path, "iterdir", listed)
    actor = await served(runtime, tmp_path)
    swap = asyncio.ensure_future(actor.call(Swap(taught())))
    while not reached.is_set():
        await runtime.sleep(0.001)
    assert (await actor.call(RunProgram({"text": "text"}))).outputs["label"]
    assert await actor.call(ListVersions()) == [Version(0, True)]
    held.set()
    assert await swap == Version(1, True)
    assert loop not in used


async def test_a_change_whose_caller_or_actor_goes_is_finished_before_the_next_one_looks(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, reached = threading.Event(), threading.Event()
    serve = VersionFolder.serve

    def slow(self: VersionFolder, served: tuple[int, ...]) -> None:
        reached.set()
        held.wait(20)
        serve(self, served)

    monkeypatch.setattr(VersionFolder, "serve", slow)
    actor = await served(runtime, tmp_path)
    swap = asyncio.ensure_future(actor.call(Swap(taught())))
    while not reached.is_set():
        await runtime.sleep(0.001)
    swap.cancel()
    actor.kill()
    await actor.join()
    held.set()
    while (again := runtime.whereis("program:p")) in (None, actor):
        await runtime.sleep(0.001)
    assert again is not None
    assert await again.call(ListVersions()) == [Version(0, False), Version(1, True)]


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
async def test_a_full_disk_is_told_and_changes_nothing_that_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    await kept(tmp_path, taught("one"))
    versions = await opened(tmp_path)
    fsync, count = os.fsync, iter(range(1, 100))

    def full(descriptor: int) -> None:
        if next(count) == step:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(os, "fsync", full)
        await versions.add(taught("two"))
    assert versions.number == 1
    assert (await opened(tmp_path)).skipped == {}
    assert [path.name for path in tmp_path.iterdir() if "new" in path.name] == []
    await versions.use(1)
    assert (await versions.add(taught("three"))).current
    assert (await opened(tmp_path)).program.demos[0]["text"] == "three"


async def test_what_cannot_be_kept_in_memory_is_the_same_as_in_a_folder() -> None:
    versions = Versions(student())
    await versions.open()
    assert await versions.add(taught(), serve=False) == Version(1, False)
    assert versions.number == 0
    with pytest.raises(BadVersion, match="version 2: there are 0, 1"):
        await versions.use(2)
    assert await versions.use(1) == Version(1, True)


async def test_a_version_that_does_not_serve_is_not_the_one_that_is_used_after_a_restart(
    runtime: Runtime, tmp_path: Path
) -> None:
    versions = await opened(tmp_path)
    await versions.add(taught(), serve=False)
    actor = await served(runtime, tmp_path)
    assert await actor.call(ListVersions()) == [Version(0, True), Version(1, False)]
    assert await actor.call(UseVersion(1)) == Version(1, True)
