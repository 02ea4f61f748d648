"""A disk that fails under SQLite: the writes and syncs of its own layer, so that it gets the errors that it knows."""

from __future__ import annotations

import _sqlite3
import ctypes
import mmap
import os
import random
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from foundation.store import Disk

T = TypeVar("T")

#: What goes wrong: the disk is full; it fails; it does not take what is to be safe, or slowly; it fails in folds only;
#: the process is killed in the middle of a fold.
Trouble = Literal["none", "full", "write", "sync", "slow", "fold", "kill in fold"]
TROUBLES: tuple[Trouble, ...] = ("none", "none", "full", "write", "sync", "slow", "fold", "kill in fold")

_FULL, _IOERR_WRITE, _IOERR_FSYNC = 13, 10 | 3 << 8, 10 | 4 << 8

_POINTER = ctypes.c_void_p
_OPEN = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, ctypes.c_char_p, _POINTER, ctypes.c_int, _POINTER)
_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, _POINTER, ctypes.c_int, ctypes.c_int64)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, ctypes.c_int)


class _Vfs(ctypes.Structure):
    """The beginning of SQLite's ``sqlite3_vfs``."""

    _fields_ = [
        ("version", ctypes.c_int),
        ("size", ctypes.c_int),
        ("path", ctypes.c_int),
        ("next", _POINTER),
        ("name", ctypes.c_char_p),
        ("data", _POINTER),
        ("open", _POINTER),
    ]


class _Methods(ctypes.Structure):
    """SQLite's ``sqlite3_io_methods``."""

    _fields_ = [
        ("version", ctypes.c_int),
        *((name, _POINTER) for name in ("close", "read", "write", "truncate", "sync")),
        *((f"rest_{n}", _POINTER) for n in range(13)),
    ]


class FaultyDisk(Disk):
    """Fails where a seed says so, in this process, from `install` on.

    Args:
        seed: for what happens.
        trouble: what goes wrong.
        injected: where it is counted, also by a process that is killed.
    """

    def __init__(self, seed: int, trouble: Trouble, injected: mmap.mmap) -> None:
        self._draw = random.Random(seed)
        self._trouble = trouble
        self._injected = injected
        self._folding = False
        self._kept: list[Any] = []

    def step(self, what: Any, path: Path, do: Callable[[], T]) -> T:
        """Do one step, and note whether it is a fold."""
        self._folding = what == "fold"
        return do()

    def install(self) -> None:
        """Put this between SQLite and the machine.

        Raises:
            RuntimeError: this Python's SQLite does not show how.
        """
        try:
            find = ctypes.CDLL(_sqlite3.__file__).sqlite3_vfs_find
        except (AttributeError, OSError) as error:
            raise RuntimeError(f"the SQLite of this Python cannot be made to fail: {error}") from error
        find.restype, find.argtypes = ctypes.POINTER(_Vfs), [ctypes.c_char_p]
        vfs = find(None).contents
        real = _OPEN(vfs.open)

        def opened(vfs: Any, name: bytes | None, file: int, flags: int, out: Any) -> int:
            code: int = real(vfs, name, file, flags, out)
            if code == 0 and name is not None:
                self._take_over(file)
            return code

        self._kept.append(_OPEN(opened))
        vfs.open = ctypes.cast(self._kept[-1], _POINTER)

    def _take_over(self, file: int) -> None:
        place = ctypes.cast(file, ctypes.POINTER(ctypes.POINTER(_Methods)))
        methods = _Methods.from_buffer_copy(place.contents.contents)
        write, sync = _WRITE(methods.write), _SYNC(methods.sync)

        def written(file: Any, data: Any, size: int, at: int) -> int:
            return self._fault(("full", "write")) or write(file, data, size, at)

        def synced(file: Any, flags: int) -> int:
            if self._trouble == "slow":
                time.sleep(self._draw.expovariate(200))
            before = self._draw.random() < 0.5
            return (before and self._fault(("sync",))) or sync(file, flags) or (not before and self._fault(("sync",)))

        ours = _WRITE(written), _SYNC(synced)
        methods.write, methods.sync = (ctypes.cast(one, _POINTER) for one in ours)
        self._kept.append((methods, ours))
        place[0] = ctypes.pointer(methods)

    def _fault(self, kinds: tuple[str, ...]) -> int:
        """Return the code of a failure, or 0."""
        if self._folding and self._trouble == "kill in fold" and self._draw.random() < 0.2:
            self._count(8)
            os.kill(os.getpid(), signal.SIGKILL)
        mine = self._trouble in kinds or (self._trouble == "fold" and self._folding)
        if not mine or self._draw.random() > 0.1:
            return 0
        self._count(0)
        return {"full": _FULL, "sync": _IOERR_FSYNC}.get(self._trouble, _IOERR_WRITE)

    def _count(self, place: int) -> None:
        struct.pack_into("Q", self._injected, place, struct.unpack_from("Q", self._injected, place)[0] + 1)
