"""Call ids: 128 bits that name one run of a program, from its answer to what people say of it later.

An id can be told from one that nobody has issued without keeping those that were: its second half is a code over its
first, which only this runtime can make. So whoever has not been given an id cannot guess one, and what is said of a
call that is long forgotten is told from what is said of none.

>>> ids = CallIds(bytes(32))
>>> ids.issue()
'5f201ad7f6148535fa0c16821a1c53c4'
>>> ids.has_issued("5f201ad7f6148535fa0c16821a1c53c4"), ids.has_issued("5f201ad7f6148535fa0c16821a1c53c5")
(True, False)
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import blake2b
from itertools import count

from supervision import Runtime

#: The header of an answer that names the call.
CALL_ID = b"x-call-id"
#: The header of a request that says who asks, such as a session or a customer.
SESSION_KEY = b"x-session-key"

_HALF = 8


class CallIds:
    """Issues call ids, and recognises them.

    Args:
        secret: what makes them: 16 to 64 bytes. Who knows it can guess them.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._numbers = count()

    def issue(self) -> str:
        """Return the next id: 32 hexadecimal digits."""
        first = self._code(b"number", next(self._numbers).to_bytes(16))
        return (first + self._code(b"issued", first)).hex()

    def has_issued(self, id: str) -> bool:
        """Return whether an id was issued here, however long ago."""
        try:
            given = bytes.fromhex(id)
        except ValueError:
            return False
        first = given[:_HALF]
        return given.hex() == id and hmac.compare_digest(given[_HALF:], self._code(b"issued", first))

    def _code(self, what: bytes, data: bytes) -> bytes:
        return blake2b(data, digest_size=_HALF, key=self._secret, person=what).digest()


def call_ids(runtime: Runtime) -> CallIds:
    """Return what issues the call ids of a runtime.

    One with a seed issues the same ids each time, so that what is drawn by them repeats; do not serve with it.
    """
    found: CallIds | None = runtime.shared.get(CallIds)
    if found is None:
        seed = runtime.seed
        secret = secrets.token_bytes(32) if seed is None else blake2b(str(seed).encode(), digest_size=32).digest()
        found = runtime.shared[CallIds] = CallIds(secret)
    return found
