"""The command, run again: after a success, after a change, beside another one; and with options that make no sense."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from agents.durability import SqliteStorage
from dspex._compat import lm15
from dspex.jobs.history import JobHistory
from dspex.optimise.__main__ import main
from dspex.optimise.begun import begun_with
from dspex.optimise.spec import OptimisationSpec, Trainset
from dspex.teleprompt.journals import alone_in
from dspex.testing.engine import ScriptedEngine
from tests.dspex.optimise.conftest import held_lm
from tests.dspex.optimise.shop import LABELS, Held, write

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.timeout(180)]

TOML = """\
program = "tests.dspex.optimise.shop:program"
metric = "dspex.testing.engine:exact"
trainset = { path = "train.csv", inputs = ["text"] }
options = { bsize = 6, max_steps = 1, num_candidates = 2, num_threads = 2 }
price = { input = 1.0, output = 1.0 }
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A specification in a file."""
    write(tmp_path)
    (tmp_path / "small.toml").write_text(TOML)
    return tmp_path / "small.toml"


def interrupted(spec: Path, *options: str) -> int:
    """Run the command, and interrupt it at its fifth call, as Ctrl-C does."""
    engine = Held(5)

    def interrupt() -> None:
        engine.reached.wait(60)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        engine.open.set()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        return main([str(spec), *options], lm=held_lm(engine))
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)


def again(spec: Path, *options: str) -> tuple[int, int]:
    """Run the command; return its status, and how many calls it made."""
    engine = ScriptedEngine(LABELS)
    return main([str(spec), *options], lm=held_lm(engine)), engine.calls


def test_the_same_again_says_what_is_known_and_since_when(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also with other limits, and another number of threads. ``--fresh`` does it anew."""
    assert again(spec)[0] == 0
    capsys.readouterr()
    spec.write_text(TOML.replace("num_threads = 2", "num_threads = 3").replace("1.0", "2.0") + "max_calls = 1000\n")
    assert again(spec) == (0, 0)
    known, made = capsys.readouterr().out.splitlines()
    assert " is succeeded since " in known
    assert "nothing was done now" in known
    assert "program.json has the program" in made
    assert again(spec, "--json") == (0, 0)
    assert json.loads(capsys.readouterr().out)["known"] is True
    status, calls = again(spec, "--fresh")
    assert (status, calls > 0) == (0, True)


def test_what_a_wrong_key_has_ended_goes_on_and_nothing_is_asked_twice(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With another specification, or ``--fresh``, a new job is begun. With one thread no other call is under way."""
    alone = TOML.replace("num_threads = 2", "num_threads = 1")
    spec.write_text(alone)

    def refuse(call: int) -> None:
        if call > 5:
            raise lm15.AuthError("wrong key", status=401)

    assert main([str(spec)], lm=held_lm(ScriptedEngine(LABELS, before=refuse))) == 1
    assert "failed: the language model known/model is not to be had: HTTP 401, AuthError" in capsys.readouterr().out
    status, calls = again(spec)
    whole = again(spec, "--fresh")[1]
    assert (status, calls) == (0, whole - 5)
    assert main([str(spec), "--fresh"], lm=held_lm(ScriptedEngine(LABELS, before=refuse))) == 1
    spec.write_text(alone + "seed = 3\n")
    status, calls = again(spec)
    assert (status, calls >= whole / 2) == (0, True)


def test_what_has_changed_is_begun_anew_and_what_is_back_is_known(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The specification, or the examples in the file."""
    again(spec)
    spec.write_text(TOML.replace("bsize = 6", "bsize = 5") + "seed = 3\n")
    status, calls = again(spec)
    assert (status, calls > 0) == (0, True)
    assert "another options.bsize, seed than job" in capsys.readouterr().err
    spec.write_text(TOML)
    assert again(spec) == (0, 0)
    table = spec.with_name("train.csv")
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    status, calls = again(spec)
    assert (status, calls > 0) == (0, True)
    assert ", trainset.content than job" in capsys.readouterr().err


def test_ctrl_c_ends_with_a_line_and_what_is_not_over_is_not_taken_for_another(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Put back, it goes on; with ``--fresh`` it is cancelled."""
    assert interrupted(spec) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("dspex.optimise: interrupted; ")
    spec.write_text(TOML + "seed = 3\n")
    assert again(spec) == (2, 0)
    told = capsys.readouterr().err
    assert "is running, and was begun with another seed: " in told
    assert "--fresh" in told
    spec.write_text(TOML)
    assert again(spec)[0] == 0
    assert interrupted(spec, "--fresh") == 130
    spec.write_text(TOML + "seed = 3\n")
    assert again(spec, "--fresh")[0] == 0
    assert again(spec) == (0, 0)


def test_a_raised_max_calls_lets_it_go_on(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same one again does not, and says why."""
    spec.write_text(TOML + "max_calls = 5\nbudget = 1.0\n")
    assert again(spec) == (3, 5)
    capsys.readouterr()
    assert again(spec) == (3, 0)
    assert "over_budget since " in (told := capsys.readouterr().out)
    assert ": 5 of 5 calls are made; " in told
    spec.write_text(TOML + "max_calls = 1000\nbudget = 1.0\n")
    status, calls = again(spec, "--json")
    assert (status, calls > 0) == (0, True)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["calls"] == calls + 5


def test_a_second_one_in_the_folder_ends_before_it_writes_anything(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first one goes on."""
    folder = spec.with_suffix(".runs")
    again(spec)
    before = (folder / "jobs.sqlite").read_bytes()
    with alone_in(folder):
        assert again(spec, "--fresh") == (1, 0)
    assert "another optimisation is at work in this folder" in capsys.readouterr().err
    assert (folder / "jobs.sqlite").read_bytes() == before


def test_what_is_no_place_is_told_before_any_work(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, nowhere = spec.with_name("train.csv"), spec.with_name("nowhere") / "x.json"
    cases = {
        ("--folder", str(table)): "is a file; give a folder",
        ("--folder", str(table / "x")): f"{table} is a file; give a folder",
        ("--out", ""): "this is a folder; give a file",
        ("--out", str(spec.parent)): "this is a folder; give a file",
        ("--out", str(nowhere)): f"there is no folder {nowhere.parent}",
    }
    for options, told in cases.items():
        assert again(spec, *options) == (2, 0)
        assert told in capsys.readouterr().err
    assert not spec.with_suffix(".runs").exists()


def test_a_folder_that_cannot_be_read_is_told_in_a_line(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = spec.with_suffix(".runs")
    folder.mkdir()
    (folder / "jobs.sqlite").write_text("this is no database, and was never one")
    assert again(spec) == (1, 0)
    assert capsys.readouterr().err.startswith("dspex.optimise: ")


def test_a_paused_job_goes_on(spec: Path) -> None:
    """Its state was kept by another process."""
    assert interrupted(spec) == 130

    async def paused() -> None:
        storage = SqliteStorage(spec.with_suffix(".runs") / "jobs.sqlite")
        history = JobHistory(storage, "main")
        await history.open()
        (job,) = history.all()
        await history.tell(job.id, "moved", {"state": "paused", "why": "", "at": job.moved})
        storage.close()

    asyncio.run(paused())
    assert again(spec)[0] == 0
    assert again(spec) == (0, 0)


def test_rows_of_a_store_have_no_digest(tmp_path: Path) -> None:
    """Nor has a file that is not there: what is asked for is told apart by the rest."""
    fields: dict[str, Any] = {"program": "a:b", "metric": "a:c"}
    table = OptimisationSpec(trainset=Trainset(inputs=("text",), table="rows"), **fields)
    assert "content" not in begun_with(table, tmp_path)["trainset"]
    file = OptimisationSpec(trainset=Trainset(inputs=("text",), path="nowhere.csv"), **fields)
    assert begun_with(file, tmp_path)["trainset"]["content"] is None


def test_ctrl_c_before_any_work_is_told_too(
    spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dspex.optimise.__main__.read_spec", interrupt)
    assert again(spec) == (130, 0)
    assert "interrupted" in capsys.readouterr().err
