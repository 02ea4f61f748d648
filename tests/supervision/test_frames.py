"""Asking where the threads are stops nothing, also where the garbage collector could begin in the middle of it."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

import pytest

from supervision.frames import frames_of_threads

#: Threads begin and end all the time, and each collection finds something whose finaliser lets others run.
TROUBLE = """
import gc, os, threading, time
from supervision.frames import frames_of_threads

class Finalised:
    def __init__(self):
        self.me = self
    def __del__(self):
        time.sleep(0)

def begin_and_end():
    while True:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

for _ in range(3):
    threading.Thread(target=begin_and_end, daemon=True).start()
gc.set_threshold(5)
for _ in range(3000):
    Finalised()
    frames_of_threads()
print("through", flush=True)
os._exit(0)
"""


def test_threads_that_come_and_go_while_garbage_is_collected_are_no_deadlock() -> None:
    done = subprocess.run([sys.executable, "-c", TROUBLE], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "through\n", done.stderr


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_the_collector_pauses_where_it_must_and_is_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch, inside: bool, enabled: bool
) -> None:
    asked: list[bool] = []

    def frames() -> dict[int, FrameType]:
        asked.append(gc.isenabled())
        return {}

    monkeypatch.setattr("supervision.frames.COLLECTS_INSIDE", inside)
    monkeypatch.setattr(sys, "_current_frames", frames)
    if not enabled:
        gc.disable()
    try:
        assert frames_of_threads().keys() == {threading.get_ident()}
        assert (asked, gc.isenabled()) == ([enabled and not inside], enabled)
    finally:
        gc.enable()


def test_an_error_leaves_the_collector_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supervision.frames.COLLECTS_INSIDE", True)
    monkeypatch.setattr(sys, "_current_frames", lambda: int("no frames"))
    with pytest.raises(ValueError, match="no frames"):
        frames_of_threads()
    assert gc.isenabled()


def test_this_thread_is_where_it_asks() -> None:
    assert frames_of_threads()[threading.get_ident()] is sys._getframe()


def test_nothing_of_ours_asks_otherwise() -> None:
    root = Path(__file__).parents[2]
    files = [
        file
        for package in ("supervision", "foundation", "agents", "bridge", "dspex")
        for file in (root / package).rglob("*.py")
    ]
    asking = [file.relative_to(root).as_posix() for file in files if "sys._current_frames()" in file.read_text()]
    assert asking == ["supervision/frames.py"]
