"""The command, in this process: from arguments to output and exit status."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from foundation.http import HttpServer
from foundation.programs import Interface, ProgramField
from foundation.run import main
from foundation.run import run as run_process
from foundation.run.command import loop_factory, propagator_for
from foundation.run.console import Console, curl
from foundation.run.logs import wants_colours
from foundation.run.output import Output
from foundation.run.serve import RunOutcome, TreeRun
from foundation.run.settings import BadInput
from foundation.run.stopping import StopSignals
from foundation.telemetry import ContextPropagator
from foundation.telemetry.tracing import Tracing
from foundation.tree import running_tree
from supervision import Actor, ChildSpec
from tests.foundation.parts import Worker

TREE = """
id = "shop"
max_restarts = 0
[[children]]
id = "a"
start = "tests.foundation.test_command:{kind}"
{more}
"""


def stop_by(number: int) -> None:
    """Send this process a signal."""
    os.kill(os.getpid(), number)


def when_up(what: Callable[[], object]) -> None:
    """Do something once the tree is up and has been told of."""
    loop = asyncio.get_running_loop()

    def look(times: int = 50) -> None:
        loop.call_soon(look, times - 1) if times else what()

    look()


class Stopping(Actor):
    """Sends its process SIGTERM as soon as the tree is up."""

    signal: int = signal.SIGTERM

    def init(self) -> Any:
        """Send it soon."""
        when_up(lambda: stop_by(self.signal))


class CtrlC(Stopping):
    """Sends SIGINT instead."""

    signal = signal.SIGINT


class HangUp(Stopping):
    """Sends SIGHUP, as a terminal does that is closed."""

    signal = signal.SIGHUP


class Stuck(Stopping):
    """Does not stop in time."""

    trap_exit = True
    shutdown = 100.0

    async def terminate(self, reason: object) -> None:
        """Wait for ever."""
        await asyncio.get_running_loop().create_future()


class Early(Stopping):
    """Sends the signal while the tree still starts."""

    async def init(self) -> None:
        """Be stopped in the middle of the start."""
        stop_by(signal.SIGTERM)
        await asyncio.get_running_loop().create_future()


class Crashing(Actor):
    """Crashes when the tree is up."""

    def init(self) -> None:
        """Crash soon."""
        when_up(lambda: self.ref.exit("broken"))


class Leaving(Actor):
    """Ends the tree from inside."""

    def init(self) -> None:
        """End soon."""
        root = next(self.runtime.actors())
        if self.runtime.whereis("badly") is None:
            when_up(lambda: tasks.append(asyncio.ensure_future(root.stop())))
        else:
            when_up(root.kill)


#: Kept, or they might be collected.
tasks: list[asyncio.Future[None]] = []


class Broken(Actor):
    """Does not start."""

    def init(self) -> None:
        """Fail."""
        raise ValueError("no luck")


@pytest.fixture(autouse=True)
def _hangs_up() -> Iterator[None]:
    """SIGHUP does something, also if the tests are run under ``nohup``, where the command would leave it ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """The command configures logging; afterwards it is as it was."""
    root = logging.getLogger()
    before = structlog.get_config(), list(root.handlers), root.level
    yield
    structlog.configure(**before[0])
    root.handlers[:] = before[1]
    root.setLevel(before[2])


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command on a tree with one child, and return status, output and errors."""

    def command(kind: str, *arguments: str, more: str = "", **environ: str) -> tuple[int, str, str]:
        file = tmp_path / "shop.toml"
        file.write_text(TREE.format(kind=kind, more=more))
        left: list[int] = []
        status = main([str(file), *arguments], environ, leave=left.append)  # type: ignore[arg-type]
        return left[0] if left else status, *capsys.readouterr()

    return command


Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(("kind", "name"), [("Stopping", "SIGTERM"), ("CtrlC", "SIGINT"), ("HangUp", "SIGHUP")])
@pytest.mark.parametrize("loop", ["--uvloop", "--no-uvloop"])
def test_a_signal_stops_the_tree_in_order_with_status_0(run: Run, kind: str, name: str, loop: str) -> None:
    status, out, errors = run(kind, loop)
    lines = [line.split() for line in out.splitlines()]
    assert status == 0
    assert lines[0][-1] == loop.removeprefix("--").replace("no-uvloop", "asyncio")
    assert ["running", "a", kind, "/shop/a"] in lines
    assert any(line[:2] == ["up", "after"] for line in lines)
    assert f"{name}: stopping, within 30 s; once more ends it at once" in out
    assert lines[-3][:2] == ["stopped", "a"]
    assert lines[-2][:2] == ["stopped", "shop"]
    assert out.endswith("\nstopped\n")
    assert errors == ""


def test_a_tree_that_does_not_stop_in_time_is_ended_by_force_with_status_1(run: Run) -> None:
    status, _, errors = run("Stuck", "--shutdown-timeout", "0.01")
    assert status == 1
    assert errors.splitlines()[-1] == "foundation: not stopped within 0.01 s; ended by force: /shop, /shop/a"


def test_a_signal_while_the_tree_starts_stops_it_too(run: Run) -> None:
    status, out, _ = run("Early")
    assert status == 0
    assert "up after" not in out


def test_a_root_that_gives_up_is_status_1_with_the_reason_on_the_last_line(run: Run) -> None:
    status, out, errors = run("Crashing")
    assert status == 1
    assert "up after" in out
    last = errors.splitlines()[-1]
    assert last == "foundation: /shop gave up: more than 0 restarts in 5 s; last, child 'a' ended: 'broken'"


def test_a_tree_that_does_not_start_is_status_1_and_says_which_child(run: Run) -> None:
    status, out, errors = run("Broken")
    assert status == 1
    assert "up after" not in out
    assert "foundation: the tree did not start: a: ValueError: no luck" in errors.splitlines()[-1]


def test_a_tree_that_ends_by_itself_is_status_0_or_1_as_it_ended(run: Run) -> None:
    status, out, _ = run("Leaving")
    assert status == 0
    assert "the tree has ended by itself: normal" in out
    status, _, errors = run("Leaving", more='name = "badly"')
    assert status == 1
    assert errors.splitlines()[-1] == "foundation: the tree ended: killed"


def test_logs_as_json_are_one_object_a_line_and_nothing_else(run: Run) -> None:
    status, out, errors = run("Crashing", "--json-logs")
    assert (status, out) == (1, "")
    records = [json.loads(line) for line in errors.splitlines()]
    assert {"starting", "actor", "up", "ready", "failed"} <= {record["event"] for record in records}
    assert records[-1]["reason"].startswith("/shop gave up")
    assert all("timestamp" in record for record in records)


def test_colours_are_for_those_who_want_them(run: Run) -> None:
    _, out, _ = run("Stopping", FORCE_COLOR="1")
    assert "\x1b[32mrunning" in out
    assert not wants_colours(sys.stdout, {"FORCE_COLOR": "1", "NO_COLOR": "1"})
    assert not wants_colours(io.StringIO(), {})


def test_a_variable_that_means_nothing_is_a_warning(run: Run) -> None:
    _, out, _ = run("Stopping", FOUNDATION_PROT="1")
    assert "warning: FOUNDATION_PROT means nothing (did you mean 'FOUNDATION_PORT'?)" in out


def test_what_is_left_out_is_said_as_the_tree_comes_up(run: Run) -> None:
    more = '[[children]]\nid = "m"\noptional = true\nstart = "tests.foundation.parts:Worker"\nrequires = ["no_module"]'
    _, out, _ = run("Stopping", more=more)
    assert "/shop/m is left out: no_module is not installed" in out
    child = '[[children.children]]\nid = "f"\nstart = "tests.foundation.parts:Failing"'
    group = f'[[children]]\nid = "g"\noptional = true\n{child}'
    _, out, _ = run("Stopping", more=group)
    assert "/shop/g is left out: f: ValueError: no luck" in out


def test_where_to_look_is_said_when_the_tree_is_up(run: Run) -> None:
    more = """
        [[children]]
        id = "http"
        start = "foundation.http:HttpServer"
        kwargs = { port = "${port}" }
        [[children]]
        id = "p"
        start = "examples.counters:CounterProgram"
        args = ["counter"]
        name = "program:count"
        [[children]]
        id = "q"
        start = "tests.foundation.parts:Worker"
        name = "program:mute"
    """
    _, out, _ = run("Stopping", "--port", "0", more=more)
    assert "live status  http://127.0.0.1:" in out
    assert "/metrics\n" in out
    assert "  count        curl http://127.0.0.1:" in out
    assert "/programs/count --json '{\"n\": 1}'" in out
    assert "mute" not in out.partition("live status")[2].partition("stopping")[0]


def test_where_a_token_is_kept_is_said_and_itself_only_at_a_terminal(run: Run, tmp_path: Path) -> None:
    more = """
        [[children]]
        id = "http"
        start = "foundation.http:HttpServer"
        kwargs = { port = "${port}", versions = true }
    """
    _, out, err = run("Stopping", "--port", "0", "--state", str(tmp_path / "state"), more=more)
    text = (tmp_path / "state" / "token").read_text().strip()
    assert f"token kept   {tmp_path / 'state' / 'token'}" in out
    assert text not in out + err


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_a_token_that_was_made_is_shown_at_a_terminal_once(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        """A screen."""

        def isatty(self) -> bool:
            return True

    screen = Terminal()
    kwargs = {"port": 0, "versions": True, "access": {"state": str(tmp_path)}}
    async with running_tree([ChildSpec("http", HttpServer, kwargs=kwargs)], reports=False, watchdog=None) as tree:
        await Console(cast(Output, screen), cast(Output, screen), as_json=True).where_to_look(tree)
        assert screen.getvalue() == ""
        for _ in range(2):
            await Console(cast(Output, screen), cast(Output, screen)).where_to_look(tree)
    text = (tmp_path / "token").read_text().strip()
    assert screen.getvalue().count(f"token        {text}\n") == 1
    assert screen.getvalue().count("token kept") == 2


def test_a_restart_is_shown_as_it_happens(run: Run) -> None:
    more = '[[children]]\nid = "s"\nchildren = "tests.foundation.test_command:restarting"'
    _, out, _ = run("Stopping", more=more)
    lines = [line.split() for line in out.splitlines()]
    assert ["restarted", "c", "/shop/s/c"] in lines


def restarting() -> list[Any]:
    """Return a child that crashes once."""
    return [{"id": "c", "start": Once, "args": ([],)}]


class Once(Actor):
    """Crashes at its first start when the tree is up, before the signal comes."""

    def __init__(self, starts: list[int]) -> None:
        self.starts = starts

    def init(self) -> None:
        """Crash, the first time."""
        self.starts.append(1)
        if len(self.starts) == 1:
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: when_nearly_up(lambda: self.ref.exit("once")))


def when_nearly_up(what: Callable[[], object]) -> None:
    """Do something when the tree is up, and well before `when_up` does."""
    loop = asyncio.get_running_loop()

    def look(times: int = 25) -> None:
        loop.call_soon(look, times - 1) if times else what()

    look()


def test_actors_outside_of_the_tree_are_not_shown(run: Run) -> None:
    status, out, _ = run("Stopping", more='[[children]]\nid = "b"\nstart = "tests.foundation.test_command:Parent"')
    assert status == 0
    assert "Worker" not in out


class Parent(Actor):
    """Starts an actor that is not linked to it."""

    def init(self) -> None:
        """Start it."""
        self.runtime.spawn_nowait(Worker)


def test_when_code_had_to_be_ended_by_force_the_process_ends_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forced(service: TreeRun) -> RunOutcome:
        return RunOutcome(3, "ended by force", forced=True)

    monkeypatch.setattr(TreeRun, "run", forced)
    status, _, errors = run("Stopping")
    assert status == 3
    assert errors.splitlines()[0] == "foundation: ended by force"


def test_it_is_a_module_that_can_be_run() -> None:
    command = [sys.executable, "-m", "foundation.run", "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("foundation ")
    assert importlib.import_module("foundation.run.__main__").run is run_process


# -- checking, and asking ---------------------------------------------------------------------------------


def test_check_prints_the_tree_and_starts_nothing(run: Run) -> None:
    more = 'name = "n"\nshutdown = "infinity"\n[[children]]\nid = "m"\noptional = true\nstart = "no_such_module:X"'
    status, out, errors = run("Broken", "--check", more=more)
    assert (status, errors) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["shop", "Supervisor", "temporary,", "shutdown", "infinity"]
    assert lines[1] == ["a", "Broken", "permanent,", "shutdown", "infinity,", "name", "n"]
    assert lines[2][:5] == ["/shop/m", "is", "left", "out:", "No"]


def test_check_of_a_tree_that_is_wrong_is_status_2_and_one_line(run: Run, tmp_path: Path) -> None:
    status, out, errors = run("NotHere", "--check")
    assert (status, out) == (2, "")
    assert errors.startswith(f"foundation: {tmp_path}/shop.toml: child a: start = ")
    assert errors.count("\n") == 1


def test_a_wrong_argument_is_status_2(run: Run) -> None:
    status, _, errors = run("Stopping", "--port", "many")
    assert status == 2
    assert errors.startswith("foundation: --port = 'many': give a whole number")


def test_help_and_version_are_answered_with_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    from foundation import __version__

    assert main(["--version"], {}) == 0
    assert capsys.readouterr().out == f"foundation {__version__}\n"
    assert main(["--help"], {}) == 0
    shown = capsys.readouterr().out
    for option in ("--check", "--json-logs", "--host", "--port", "--uvloop", "--shutdown-timeout", "--version"):
        assert option in shown


def test_without_arguments_those_of_the_process_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--version"])
    monkeypatch.setattr(os, "environ", {})
    assert main() == 0


def test_modules_beside_the_file_and_in_the_working_directory_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    beside, here = tmp_path / "beside", tmp_path / "here"
    for folder, module in ((beside, "module_beside"), (here, "module_here")):
        folder.mkdir()
        (folder / f"{module}.py").write_text(
            "from supervision import Actor, ChildSpec, Supervisor\nT = [ChildSpec('a', Actor)]"
        )
    (beside / "t.toml").write_text('[[children]]\nid = "a"\nstart = "module_beside:Actor"\n')
    monkeypatch.chdir(here)
    before = list(sys.path)
    assert main(["../beside/t.toml", "--check"], {}) == 0
    assert main(["module_here:T", "--check"], {}) == 0
    assert sys.path == before


def test_uvloop_is_used_if_it_is_there_and_asked_for_only_if_it_is_there() -> None:
    assert loop_factory(None, lambda: False) is None
    assert loop_factory(False) is None
    assert loop_factory(None) is not None
    with pytest.raises(BadInput, match="uvloop is not installed; run: pip install uvloop"):
        loop_factory(True, lambda: False)


def test_messages_carry_facts_and_if_it_is_asked_for_traces() -> None:
    assert type(propagator_for(None)) is ContextPropagator
    assert type(propagator_for(0.5)) is Tracing
    with pytest.raises(BadInput, match="OpenTelemetry is not installed; run: pip install 'foundation-otp"):
        propagator_for(1.0, lambda: False)


async def test_signals_are_handled_as_before_when_all_is_over() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals(lambda: None).installed() as signals:
        assert signal.getsignal(signal.SIGTERM) == signals.receive
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_command_that_is_shown_has_a_sample_for_each_type() -> None:
    def sample(**schema: Any) -> str:
        return curl("u", Interface("P", "", (ProgramField("x", "t", schema=schema),), ())).partition("--json ")[2]

    assert sample(type="integer") == "'{\"x\": 1}'"
    assert sample(type="array") == "'{\"x\": []}'"
    assert sample(type=["string", "null"]) == '\'{"x": "What a lovely day."}\''
    assert sample() == '\'{"x": "What a lovely day."}\''


def test_chaos_says_whom_it_can_hit_when_the_tree_is_up(run: Run) -> None:
    _, out, _ = run("Stopping", "--chaos", "rate=1")
    assert "chaos: nobody opted in so far; write tags = ['chaos'] for a child\n" in out
    _, out, _ = run("Stopping", "--chaos", "rate=1,dry=true", more='tags = ["chaos"]')
    assert "chaos: on 1 actors that opted in, dry; it is logged\n" in out
