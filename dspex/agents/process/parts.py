"""What a program's process keeps of the programs that it has run, so that it need not be sent with each call.

A call names its parts by digests of their contents, and brings those that the process does not have. What it has is
decided by its parent. So a program that has changed is another part, and a new process has nothing.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dspex._compat import same_state, signature_state
from dspex.agents.process.serialization import Serializer, pack_definition

#: How many parts a process keeps, and of how many bytes together; a longer one than that of the last is not kept.
MOST, MOST_BYTES, LONGEST_PART = 256, 1 << 26, 1 << 24

#: Reads signatures, which refer to nothing.
_ALONE = Serializer(lambda _: None, lambda _: None)


class CallFrame(msgspec.Struct, array_like=True, frozen=True):
    """What is to be run.

    Attributes:
        segments: the digests of the program and of its settings, each pickled where the one before it ends.
        signatures: the digests of the signatures in it and in its arguments.
        brought: parts that the process does not have.
        dropped: those that it need not keep any longer than for this call.
        rest: the arguments, and what else belongs to this call alone, pickled as the last segment.
        described: what is said of each language model or callback that has stayed with the caller.
        call: which call is under way, for callbacks.
    """

    segments: list[bytes]
    signatures: list[bytes]
    brought: dict[bytes, bytes]
    dropped: list[bytes]
    rest: bytes
    described: list[bytes]
    call: str | None


def digest_of(data: bytes) -> bytes:
    """Return what tells a part from others."""
    return hashlib.blake2b(data, digest_size=16).digest()


class SentParts:
    """Knows, in the caller's process, what the program's process has; one for each."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[bytes, int] = OrderedDict()
        self._definitions: OrderedDict[type, tuple[Any, tuple[bytes, bytes] | None]] = OrderedDict()

    def definition(self, signature: type) -> tuple[bytes, bytes] | None:
        """Return the part that makes a signature, as it is now, and its digest; None if it goes with each call.

        Raises:
            Exception: whatever pickling it raises.
        """
        state = signature_state(signature)
        if state is None:
            return None
        known = self._definitions.get(signature)
        if known is None or not same_state(known[0], state):
            data = pack_definition(signature)
            known = self._definitions[signature] = (state, None if data is None else (digest_of(data), data))
        self._definitions.move_to_end(signature)
        if len(self._definitions) > MOST:
            self._definitions.popitem(last=False)
        return known[1]

    def send(self, parts: Mapping[bytes, bytes], send: Callable[[dict[bytes, bytes], list[bytes]], None]) -> None:
        """Send parts, and note that they are there.

        Args:
            parts: all of a call, by their digests.
            send: sends those that have to be brought along, and says what is dropped after that. What it raises is
                raised; then nothing is noted.
        """
        brought = {digest: data for digest, data in parts.items() if digest not in self._sizes}
        dropped = [digest for digest, data in brought.items() if len(data) > LONGEST_PART]
        sizes = self._sizes.copy()
        for digest, data in parts.items():
            if len(data) <= LONGEST_PART:
                sizes[digest] = len(data)
                sizes.move_to_end(digest)
        used = sum(sizes.values()) if brought else 0
        while len(sizes) > MOST or used > MOST_BYTES:
            digest, size = sizes.popitem(last=False)
            used -= size
            dropped.append(digest)
        send(brought, dropped)
        self._sizes = sizes


class KeptPart:
    """A part, in the program's process.

    Attributes:
        data: as it was sent.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._made: Any = None
        self._state: Any = None

    def signature(self) -> Any:
        """Return the signature that it defines, as its caller has it: made anew if a run has changed it."""
        if self._made is None or not same_state(self._state, signature_state(self._made)):
            self._made = _ALONE.unpack(self.data)
            self._state = signature_state(self._made)
        return self._made


class KeptParts:
    """Keeps parts, in the program's process."""

    def __init__(self) -> None:
        self._parts: dict[bytes, KeptPart] = {}

    def take(self, call: CallFrame) -> dict[bytes, KeptPart]:
        """Return the parts of a call; and keep, and drop, what it says."""
        self._parts.update((digest, KeptPart(data)) for digest, data in call.brought.items())
        found = {digest: self._parts[digest] for digest in (*call.segments, *call.signatures)}
        for digest in call.dropped:
            del self._parts[digest]
        return found
