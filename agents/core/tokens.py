"""Tokens: the ids under which receivers know effects, the same however often an effect is tried.

>>> effect_token("", "order", "17", "g", "/shop", "1", "0", "e", "0")
'ft1-yo4npqzm3ykieheox5zbmszhxylwjkfj'
>>> effect_token("a", "bc") == effect_token("ab", "c")
False
"""

from __future__ import annotations

from base64 import b32encode
from hashlib import blake2b

import msgspec


def effect_token(*parts: str) -> str:
    """Return the token of a row of texts: a hash in which each stands with its length."""
    digest = blake2b(digest_size=20)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(4, "big") + data)
    return f"ft1-{b32encode(digest.digest()).decode().lower()}"


class Origin(msgspec.Struct, frozen=True):
    """Which turn something comes from. Attempts are no part of it: a retry is the same thing.

    Attributes:
        partition: of the agent.
        type: of the agent.
        id: of the agent.
        generation: distinguishes it from one with its id that was deleted.
        source: of the signal that caused the turn.
        cause: the id of that signal.
        run: how often what the turn did was undone before.
    """

    partition: str
    type: str
    id: str
    generation: str
    source: str
    cause: str
    run: int = 0

    def token(self, kind: str, place: str) -> str:
        """Return the token of something in the turn.

        Args:
            kind: ``e`` for an effect, ``s`` for a step, ``c`` for what undoes one, ``u`` for what a user does.
            place: distinguishes it from others of its kind.
        """
        of = (self.partition, self.type, self.id, self.generation, self.source, self.cause, str(self.run))
        return effect_token(*of, kind, place)
