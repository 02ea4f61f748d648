"""Nothing waits for a reader: output may go to one who is slow, or gone, to a full disk, or to nowhere at all."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from foundation.run.output import Output, printing_to
from foundation.run.serve import DroppedLines

TREE = """
id = "t"
max_restarts = 1000000
[[children]]
id = "metrics"
start = "foundation.telemetry.metrics:Metrics"
[[children]]
id = "http"
start = "foundation.http:HttpServer"
kwargs = { port = "${port}" }
[[children]]
id = "storm"
start = "tests.foundation.stuck:Storm"
"""


def full() -> tuple[int, int]:
    """Return the ends of a pipe that is full."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while os.write(writing, b"x" * 65536):
            pass
    except BlockingIOError:
        os.set_blocking(writing, True)
    return reading, writing


def free_port() -> int:
    """Return a port that is free at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


Start = Callable[..., tuple["subprocess.Popen[bytes]", int]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the command with a server and a storm of logs, crashes and prints; return the process, and its port."""
    tree = tmp_path / "tree.toml"
    tree.write_text(TREE)
    running: list[subprocess.Popen[bytes]] = []

    def started(*arguments: str, shell: str = "", **more: Any) -> tuple[subprocess.Popen[bytes], int]:
        port = free_port()
        command = [sys.executable, "-m", "foundation.run", str(tree), "--port", str(port), *arguments]
        if shell:
            command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
        process = subprocess.Popen(command, **more)
        running.append(process)
        return process, port

    yield started
    for one in running:
        one.kill()
        one.communicate()


def get(port: int, page: str) -> str:
    """Ask the server for a page, as soon as it is there."""
    import contextlib

    while True:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}{page}", timeout=30) as answer,
        ):
            return str(answer.read(), "utf-8")
        os.sched_yield()


def dropped(port: int) -> float:
    """Return how many lines were dropped so far, as the metrics tell."""
    lines = get(port, "/metrics").splitlines()
    found = [float(line.split()[1]) for line in lines if line.startswith("foundation_output_lines_dropped_total ")]
    return found[0]


def stops(process: subprocess.Popen[bytes]) -> int:
    """Stop the process in order, and return its status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(60)


def limit_files() -> None:
    """No file of this process may become longer than this: as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))


GONE: dict[str, dict[str, Any]] = {
    "both closed": {"shell": ">&- 2>&-"},
    "all three closed": {"shell": "<&- >&- 2>&-"},
    "standard output closed": {"shell": ">&- 2>/dev/null"},
    "standard error closed": {"shell": ">/dev/null 2>&-"},
    "a full device": {"shell": ">/dev/full 2>/dev/full"},
    "a full disk": {"shell": '>"$LOG" 2>&1', "preexec_fn": limit_files},
    "a reader that has gone": {"shell": "2>&1"},
}


@pytest.mark.parametrize(("how", "arguments"), [*((how, ()) for how in GONE), ("a full disk", ("--json-logs",))])
def test_a_runtime_serves_on_and_stops_in_order_when_its_output_is_gone(
    start: Start, tmp_path: Path, how: str, arguments: tuple[str, ...]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "LOG": str(tmp_path / "log")}
    process, port = start(*arguments, env=environment, stdout=writing, **GONE[how])
    os.close(writing)
    assert "foundation_actors" in get(port, "/metrics")
    if how != "standard output closed":  # then the log has a reader
        while dropped(port) < 1000:
            os.sched_yield()
    assert stops(process) == 0


@pytest.mark.parametrize("which", ["stdout", "stderr", "both"])
def test_a_runtime_serves_on_when_nobody_reads(start: Start, which: str) -> None:
    reading, writing = full()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    out, errors = (writing if which != "stderr" else nowhere), (writing if which != "stdout" else nowhere)
    process, port = start(stdout=out, stderr=errors)
    while dropped(port) < 1000:  # it takes 4 MiB until the first
        os.sched_yield()
    assert stops(process) == 0
    for file in (reading, writing, nowhere):
        os.close(file)


def test_a_reader_that_comes_back_is_told_how_much_was_dropped_and_what_came_last(start: Start) -> None:
    reading, writing = full()
    process, port = start("--json-logs", stdout=subprocess.DEVNULL, stderr=writing)
    os.close(writing)
    while dropped(port) < 1000:
        os.sched_yield()
    process.send_signal(signal.SIGTERM)
    with os.fdopen(reading, "rb") as stream:
        lines = stream.read().lstrip(b"x").splitlines()
    assert process.wait(60) == 0
    entries = [json.loads(line) for line in lines]
    assert next(entry["lines"] for entry in entries if entry["event"] == "output_lines_dropped") >= 1000
    assert entries[-1]["event"] == "stopped"


def test_a_slow_reader_gets_the_last_line_too(start: Start) -> None:
    process, port = start("--json-logs", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    get(port, "/healthz")
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    read = b""
    while data := os.read(process.stderr.fileno(), 1000):
        read += data
        os.sched_yield()
    assert json.loads(read.splitlines()[-1])["event"] == "stopped"
    assert process.wait(60) == 0


def test_the_outline_of_a_tree_is_whole_however_slow_its_reader_is_and_ends_when_the_reader_has_gone(
    tmp_path: Path,
) -> None:
    tree = tmp_path / "tree.toml"
    child = '[[children]]\nid = "{}"\nstart = "tests.foundation.stuck:Slow"\n'
    tree.write_text('id = "t"\n' + "".join(child.format(f"a{number}") for number in range(3000)))
    command = [sys.executable, "-m", "foundation.run", str(tree), "--check"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"t ")
        assert sum(1 for _ in process.stdout) == 3000
    assert process.returncode == 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


# -- the parts ---------------------------------------------------------------------------------------------------------


def test_lines_arrive_in_order_and_prints_with_them() -> None:
    stream = io.StringIO()
    output = Output(stream)
    with printing_to(output, output):
        output.write("a\n")
        print("b")
        print("c", file=sys.stderr)
        print("d", end="", flush=True)
        sys.stdout.buffer.write(b"\xc3\xa4")
    output.flush()
    output.close()
    assert stream.getvalue() == "a\nb\nc\ndä"
    output.write("too late\n")
    assert "late" not in stream.getvalue()


def test_a_stream_for_prints_is_like_the_one_below() -> None:
    with Path(os.devnull).open("w") as below:
        output = Output(below)
        assert output.stream.fileno() == below.fileno()
        assert not output.stream.isatty()
        output.close()
    nowhere = Output(None)
    assert not nowhere.stream.isatty()
    with pytest.raises(OSError, match="no file"):
        nowhere.stream.fileno()
    nowhere.close()


def test_characters_that_a_stream_does_not_know_are_written_as_escapes(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w", encoding="ascii") as below:
        output = Output(below)
        output.write("ä \ud800\n")
        print("ö", file=output.stream)
        output.close()
    assert (tmp_path / "log").read_bytes() == b"\\xe4 \\ud800\n\\xf6\n"


class Stuck(io.StringIO):
    """A stream that blocks until it is let go, and says when it does."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.go = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.blocks.set()
        self.go.wait(60)
        return super().write(text)


def test_what_waits_is_bounded_and_the_oldest_is_dropped() -> None:
    stream = Stuck()
    output = Output(stream, limit=100)
    output.write("first\n")
    assert stream.blocks.wait(60)
    for number in range(1000):
        output.write(f"{number:09}\n")
    output.write("y" * 200 + "\n")
    assert output.dropped == 1001
    output.write("last\n")
    assert [reading.value for reading in DroppedLines((output, output)).samples()] == [2002]
    output.drain(patience=0.01, last=0.02)
    assert stream.getvalue() == ""
    stream.go.set()
    output.close()
    assert stream.getvalue().splitlines() == ["first", "1001 lines were dropped here: nobody read them", "last"]


def test_a_reader_who_takes_something_is_waited_for_but_not_without_end() -> None:
    reading, writing = full()
    with os.fdopen(writing, "w") as below:
        output = Output(below)
        for _ in range(100):
            output.write("z" * 10_000 + "\n")
        output.drain(patience=0.01, last=0.05)
        assert output.dropped == 0
        with os.fdopen(reading, "rb") as other:
            taking = threading.Thread(target=other.read)
            taking.start()
            output.close()
            below.close()
            taking.join(60)


def test_a_file_that_others_do_not_want_to_wait_for_is_waited_for_here() -> None:
    reading, writing = full()
    os.set_blocking(writing, False)
    with os.fdopen(writing, "w") as below, os.fdopen(reading, "rb") as other:
        output = Output(below)
        output.write("here\n")
        while b"here" not in other.read1():
            pass
        output.close()
        assert output.dropped == 0


def test_a_line_that_was_written_in_part_is_ended_before_the_next(tmp_path: Path) -> None:
    """On a disk that was full for a while."""
    program = (
        "import resource, signal, sys\n"
        "from foundation.run.output import Output\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (15, resource.RLIM_INFINITY))\n"
        "output = Output(open(sys.argv[1], 'w'))\n"
        "for text in ('one\\n', 'two\\n', 'a long one\\n', 'lost\\n'):\n"
        "    output.write(text)\n"
        "    output.drain()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "output.write('three\\n')\n"
        "output.close()\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "log")], check=True, timeout=60)
    told = "2 lines were dropped here: nobody read them"
    assert (tmp_path / "log").read_text().splitlines() == ["one", "two", "a long ", told, "three"]


def test_the_number_of_a_file_that_was_closed_is_not_written_to(tmp_path: Path) -> None:
    """It may belong to something else by then: a connection, a store."""
    below = (tmp_path / "log").open("w")
    output = Output(below)
    number = below.fileno()
    below.close()
    with (tmp_path / "store").open("w") as store:
        assert store.fileno() == number
        output.write("a line\n")
        output.close()
    assert (tmp_path / "store").read_text() == ""
    assert (tmp_path / "log").read_text() == "a line\n"


def test_a_fork_writes_by_itself() -> None:
    """It has no thread that would."""
    program = (
        "import os, sys\n"
        "from foundation.run.output import Output, printing_to\n"
        "out, errors = Output(sys.stdout), Output(sys.stderr)\n"
        "with printing_to(out, errors):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        print('the child')\n"
        "        os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "    print('the parent')\n"
        "out.close()\n"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "the child\nthe parent\n"


def test_files_are_let_go_of() -> None:
    def opened() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = opened()
    with Path(os.devnull).open("w") as below:
        for _ in range(10):
            output = Output(below)
            output.close()
    for thread in threading.enumerate():
        if thread.name == "output":
            thread.join(60)
    assert opened() == before
