"""What a bus keeps in a storage: its log, one entry a signal, and what has become of its subscriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from agents.core.signal import Signal
from agents.durability.checkpoint import decoded, encoded, with_checksum
from agents.durability.storage import Storage, StorageError
from agents.signals.kept_subscription import KeptSubscription
from agents.signals.messages import DeadLetter, SignalRecord, SubscriptionOptions
from agents.signals.rows import SubscriptionChange
from supervision import Actor, Exit, Ref, Request, handle

#: A snapshot of the subscriptions is written when so many bytes of changes stand behind the last one, or more if that
#: was larger.
_SNAPSHOT_BYTES = 1 << 16


class BusChange(msgspec.Struct, frozen=True):
    """What has changed since the last write, or, in a snapshot, all there is.

    Attributes:
        changes: of the subscriptions, in order.
        closed: whether the bus has ended in order with this write.
    """

    changes: tuple[SubscriptionChange, ...] = ()
    closed: bool = False


class _FirstFormat(msgspec.Struct, frozen=True):
    """What the first format of a bus kept besides its log: pattern and acknowledged place by name, dead letters."""

    subscriptions: Mapping[str, tuple[str, int]]
    dead: tuple[DeadLetter, ...]


class LoadedBus(msgspec.Struct, frozen=True):
    """A bus as it was kept: its log, its subscriptions by name, and whether it has ended in order."""

    log: list[SignalRecord]
    subscriptions: dict[str, KeptSubscription]
    clean: bool


class BusFile:
    """The place of one bus in a storage.

    Args:
        storage: which.
        key: under which the log stands; the subscriptions are kept beside it.
    """

    def __init__(self, storage: Storage, key: str) -> None:
        self.key = key
        self._storage = storage
        self._state = f"{key}/subscriptions"
        #: What was written last under each key; None if nothing was.
        self._log_version: int | None = None
        self._state_version: int | None = None
        self._snapshot_bytes = 0
        self._bytes = 0

    async def load(self) -> LoadedBus:
        """Return the bus as it was kept.

        Raises:
            BadCheckpoint: it cannot be read; it is left as it is.
            StorageError: the storage cannot be read.
        """
        stored = await self._storage.read(self.key)
        kept: dict[str, KeptSubscription] = {}
        log: list[SignalRecord] = []
        if stored is not None:
            self._log_version = stored.version
            log = [decoded(self.key, data, SignalRecord) for _, data in await self._storage.entries(self.key, -1)]
        state = await self._storage.read(self._state)
        if state is None:
            if stored is not None and stored.checkpoint is not None:
                _fold(kept, _upgraded(decoded(self.key, stored.checkpoint, _FirstFormat)))
            return LoadedBus(log, kept, clean=True)
        self._state_version = state.version
        pieces = [] if state.checkpoint is None else [state.checkpoint]
        change = BusChange(closed=True)
        for data in (*pieces, *(data for _, data in state.entries)):
            change = decoded(self._state, data, BusChange)
            _fold(kept, change)
        return LoadedBus(log, kept, change.closed)

    @property
    def wants_snapshot(self) -> bool:
        """Whether the next write of subscriptions is to be a snapshot."""
        return self._bytes > max(_SNAPSHOT_BYTES, self._snapshot_bytes)

    async def append(self, entries: Sequence[tuple[int, bytes]]) -> None:
        """Append signals to the log, all or none.

        Raises:
            StorageError: they are not written.
        """
        last, before = entries[-1][0], self._log_version
        try:
            await self._storage.write(self.key, last, expected=before, entries=entries)
        except StorageError:
            # Whoever cannot say what has become of it may have written it all the same.
            found = await self._storage.entries(self.key, -1 if before is None else before, last)
            if [data for _, data in found] != [data for _, data in entries]:
                raise
        self._log_version = last

    async def save(self, data: bytes, *, snapshot: bool) -> None:
        """Write what has changed in the subscriptions, or a snapshot of them.

        Raises:
            StorageError: it is not written.
        """
        before = self._state_version
        version = 1 if before is None else before + 1
        how: dict[str, Any] = {"checkpoint": data} if snapshot else {"entries": [(version, data)]}
        await self._storage.write(self._state, version, expected=before, **how)
        self._state_version = version
        if snapshot:
            self._snapshot_bytes, self._bytes = len(data), 0
            await self._storage.trim(self._state, version)
        else:
            self._bytes += len(data)

    async def trim(self, upto: int) -> None:
        """Forget the signals of the log up to a place."""
        await self._storage.trim(self.key, upto)

    def encoded(self, change: BusChange) -> bytes:
        """Return a change as bytes."""
        return encoded(change, "subscriptions", self._state)


class _KeptRecord(msgspec.Struct, frozen=True):
    """A `SignalRecord` whose signal is bytes already."""

    sequence: int
    time: float
    signal: msgspec.Raw


_packed = msgspec.msgpack.Encoder().encode
_signal = msgspec.msgpack.Decoder(Signal).decode


def packed(signal: Any) -> bytes:
    """Return a signal as bytes, which can be read again.

    Raises:
        TypeError, ValueError, OverflowError, RecursionError: a part of it cannot be kept.
    """
    data = _packed(signal)
    _signal(data)
    return data


def entry(sequence: int, time: float, signal: bytes) -> bytes:
    """Return an entry of the log."""
    return with_checksum(_packed(_KeptRecord(sequence, time, msgspec.Raw(signal))))


def _fold(kept: dict[str, KeptSubscription], change: BusChange) -> None:
    for one in change.changes:
        known = kept.get(one.name)
        if one.gone:
            kept.pop(one.name, None)
        elif known is None:
            kept[one.name] = KeptSubscription(one)
        else:
            known.add(one)


def _upgraded(old: _FirstFormat) -> BusChange:
    return BusChange(
        tuple(
            SubscriptionChange(
                name=name,
                options=SubscriptionOptions(pattern),
                patterns=((acked, pattern),),
                floor=acked,
                dead=tuple(one for one in old.dead if one.subscription == name),
            )
            for name, (pattern, acked) in old.subscriptions.items()
        )
    )


class WriteBus(Request["BusWritten"], frozen=True):
    """Append signals, write changes, and trim, in this order, as far as it goes."""

    signals: tuple[tuple[int, bytes], ...]
    state: bytes | None
    snapshot: bool
    trim: int | None


class BusWritten(msgspec.Struct, frozen=True):
    """What went wrong with the signals, and with the changes."""

    signals: Exception | None
    state: Exception | None


class BusWriter(Actor):
    """Writes for a bus, which goes on meanwhile. It ends with the bus, when what it writes is written.

    Args:
        bus: whose it is.
        file: where to.
    """

    trap_exit = True

    def __init__(self, bus: Ref, file: BusFile) -> None:
        self._bus = bus
        self._file = file

    def init(self) -> None:
        """End with the bus."""
        self.link(self._bus)

    @handle
    async def write(self, job: WriteBus) -> BusWritten:
        """Write."""
        return await written(self._file, job)

    @handle
    def ended(self, message: Exit) -> None:
        """End with the bus."""
        self.stop()


async def written(file: BusFile, job: WriteBus) -> BusWritten:
    """Write; return what went wrong. A storage that raises something else than it should has failed, too."""
    wrong: list[Exception | None] = [None, None]
    try:
        if job.signals:
            await file.append(job.signals)
    except Exception as error:
        wrong[0] = error
    try:
        if job.state is not None:
            await file.save(job.state, snapshot=job.snapshot)
            if job.trim is not None:
                await file.trim(job.trim)
    except Exception as error:
        wrong[1] = error
    return BusWritten(*wrong)
