"""What was spent, kept in a file: a budget for a day is not new because the process is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from dspex.gateway.account import Account, Spent
from dspex.gateway.settings import BadGateway
from supervision.clock import Clock


class _Kept(msgspec.Struct):
    """The file: when it was written, in seconds since 1970, and what counts for each endpoint."""

    at: float
    endpoints: dict[str, list[Spent]]


class SpendingFile:
    """Keeps what endpoints have spent.

    Args:
        path: of the file, which is replaced as a whole.
        clock: of the runtime.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._written: object = None

    def read(self, accounts: Mapping[str, Account]) -> None:
        """Let what is in the file count.

        Raises:
            BadGateway: it cannot be read.
        """
        self._written = _counts(accounts)
        if not self._path.exists():
            return
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except (OSError, msgspec.DecodeError) as error:
            remedy = f"remove it, and what was spent is forgotten; {error}"
            raise BadGateway("spending", str(self._path), remedy) from None
        older = max(0.0, self._clock.wall_time() - kept.at)
        for name, spent in kept.endpoints.items():
            if name in accounts:
                accounts[name].load(self._clock.time(), spent, older)

    def write(self, accounts: Mapping[str, Account]) -> None:
        """Write what has been spent, if anything was since the last time."""
        counts = _counts(accounts)
        if counts == self._written:
            return
        now = self._clock.time()
        kept = _Kept(self._clock.wall_time(), {name: account.dump(now) for name, account in accounts.items()})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_name(self._path.name + ".new")
        beside.write_bytes(msgspec.json.encode(kept))
        beside.replace(self._path)
        self._written = counts


def _counts(accounts: Mapping[str, Account]) -> dict[str, object]:
    return {name: msgspec.structs.astuple(account.counts) for name, account in accounts.items()}
