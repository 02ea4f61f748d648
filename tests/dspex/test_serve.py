"""The child process's own code, run in this process with a library that only pretends to load a model."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from dspex.models.local import serve


class FakeLibrary:
    """Like xllamacpp, without a model. ``served`` are the parameters of its servers."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.served: list[Any] = []

    def CommonParams(self) -> Any:
        """Return parameters."""
        return SimpleNamespace(model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace())

    def Server(self, params: Any) -> Any:
        """Return a server."""
        if self.error is not None:
            raise self.error
        self.served.append(params)
        return SimpleNamespace(listening_address="http://127.0.0.1:1")


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Put the signal handlers back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe; the test may close the second."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


@pytest.fixture
def stdin(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> int:
    """A standard input; returns its other end."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(fileno=lambda: pipe[0]))
    return pipe[1]


def install(monkeypatch: pytest.MonkeyPatch, library: object) -> None:
    """Have the child's code import ``library``."""
    monkeypatch.setitem(sys.modules, "xllamacpp", library)


def test_it_serves_until_its_input_ends(
    stdin: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints one JSON line with its address and its number, and ends in order with its standard input."""
    library = FakeLibrary()
    install(monkeypatch, library)
    os.close(stdin)
    assert serve.main(["--model", "m.gguf"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line == {"url": "http://127.0.0.1:1", "pid": os.getpid()}
    assert library.served[0].model.path == "m.gguf"


def test_the_parameters_keep_the_model_small() -> None:
    """The prompt cache is limited, the threads and slots are as chosen, and only this machine is served."""
    chosen = serve.options(["--model", "m", "--threads", "3", "--slots", "5", "--context", "999", "--cache-mib", "7"])
    params = serve.parameters(FakeLibrary(), chosen)
    assert (params.n_parallel, params.n_ctx, params.cache_ram_mib) == (5, 999, 7)
    assert params.cpuparams.n_threads == params.cpuparams_batch.n_threads == 3
    assert params.hostnames == ["127.0.0.1"]


def test_a_model_that_cannot_be_loaded(
    stdin: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure to load ends it with status 1 and an explanation that names the file."""
    os.close(stdin)
    install(monkeypatch, FakeLibrary(RuntimeError("bad magic")))
    assert serve.main(["--model", "m.gguf"]) == 1
    assert "m.gguf: bad magic" in capsys.readouterr().err


def test_sigterm_ends_it_in_order(pipe: tuple[int, int]) -> None:
    """SIGTERM ends it with status 0 though its input goes on."""
    chosen = serve.options(["--model", "m"])
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(SystemExit) as caught:
        serve.serve(FakeLibrary(), chosen, pipe[0], os.getppid())
    os.close(pipe[1])
    assert caught.value.code == 0


def test_it_ends_when_its_parent_is_another_one(pipe: tuple[int, int]) -> None:
    """It ends when its parent has died, also if somebody keeps its input open."""
    serve.wait_for_end(pipe[0], parent=-1)
    assert os.write(pipe[1], b"x") == 1
    os.close(pipe[1])


def test_it_goes_on_while_there_is_input(pipe: tuple[int, int]) -> None:
    """Input is read and means nothing; only its end does; and a look at the parent does not end the wait."""
    os.write(pipe[1], b"x")
    threading.Timer(0.05, os.close, (pipe[1],)).start()
    serve.wait_for_end(pipe[0], os.getppid(), look=0.01)
    assert os.read(pipe[0], 1) == b""


def test_it_runs_as_a_script(stdin: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as a script, it ends with the status of `main`."""
    os.close(stdin)
    install(monkeypatch, FakeLibrary())
    monkeypatch.setattr(sys, "argv", ["serve", "--model", "m"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(serve.__file__, run_name="__main__")
    assert caught.value.code == 0
