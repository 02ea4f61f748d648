"""The line at which a coroutine waits."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

#: Where the code is that says nothing about where work waits: Python's own, what sleeps for others, and this.
_NOT_SAID = (
    sysconfig.get_path("stdlib"),
    "<frozen",
    str(Path(__file__).parents[1] / "runtime.py"),
    str(Path(__file__).with_name("interruption.py")),
)


def line(work: Any) -> str:
    """Return the innermost line at which a coroutine waits, of code that is not Python's own."""
    frames = list(_frames(work))
    outside = [frame for frame in frames if not frame.f_code.co_filename.startswith(_NOT_SAID)]
    for frame in reversed(outside or frames):
        return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"
    return "an unknown place"


def _frames(work: Any) -> Iterator[FrameType]:
    while work is not None:
        frame = getattr(work, "cr_frame", None) or getattr(work, "gi_frame", None)
        if frame is not None:
            yield frame
        work = getattr(work, "cr_await", None) or getattr(work, "gi_yieldfrom", None)
