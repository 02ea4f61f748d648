"""Secure sums: the coordinator learns the sum of the clients' numbers, and not those of any one.

Each pair of clients has a mask, made of a seed that both can reckon and nobody else (Diffie and Hellman, 1976); the one
adds it, and the other takes it off, so that all masks are gone in the sum. A client's secret is divided among the
others (Shamir, 1979): if it drops out after the others have masked for it, enough of them give their shares back, and
its masks are taken off; else the round is void. It is the way of Bonawitz and others (2017) without their second mask,
for coordinators that keep to it: see `SecureSum`.

>>> keys = {name: MaskKey.of(number) for name, number in (("a", 3), ("b", 5), ("c", 7))}
>>> public = {name: key.public for name, key in keys.items()}
>>> total = SecureSum(public, threshold=2, label="round 1")
>>> for number, (name, key) in enumerate(keys.items()):
...     total.report(name, masked(np.array([number, 1]), name, key, public, "round 1"))
>>> total.result().tolist()
[3, 3]
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dspex.federated.errors import BadFederation, BadUpdate, CannotMerge
from foundation.options import above_zero, whole

#: Sums are taken modulo this.
MODULUS = 2**32
#: Numbers are bounded by this, and become whole numbers up to that.
CLIP, LEVELS = 8.0, 2**22
#: The field of the shares; its elements are larger than any secret.
_FIELD = 2**521 - 1
#: The group in which seeds are agreed on: number 14 of RFC 3526, of 2048 bits.
_PRIME = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)
_GENERATOR = 2
#: How many bits a secret has.
SECRET_BITS = 256


def quantised(values: Any, clip: float = CLIP, levels: int = LEVELS) -> Any:
    """Return numbers as whole ones, from 0 to ``levels``; those beyond the clip as if they were at it.

    >>> quantised(np.array([-8.0, 0.0, 99.0])).tolist()
    [0, 2097152, 4194304]

    Raises:
        BadUpdate: one is NaN.
    """
    above_zero("quantised: clip", clip)
    found = np.asarray(values, dtype=float)
    if np.isnan(found).any():
        raise BadUpdate("a number is NaN")
    return np.round((np.clip(found, -clip, clip) + clip) / (2 * clip) * levels).astype(np.uint64)


def dequantised(total: Any, clients: int, clip: float = CLIP, levels: int = LEVELS) -> Any:
    """Return what the sum of so many clients' quantised numbers stands for: off by half a step for each, at the most.

    Raises:
        BadFederation: there are so many clients that their sum may be beyond the modulus.
    """
    if clients * levels >= MODULUS:
        raise BadFederation("dequantised: clients", clients, f"give less than {MODULUS // levels}, or fewer levels")
    return np.asarray(total, dtype=float) / levels * 2 * clip - clients * clip


class MaskKey(NamedTuple):
    """A client's key, for one round or several.

    Attributes:
        secret: stays with the client, but for its shares.
        public: is told to all.
    """

    secret: int
    public: int

    @classmethod
    def of(cls, secret: int) -> MaskKey:
        """Return the key of a secret, such as ``secrets.randbits(SECRET_BITS)``.

        Raises:
            BadOption: it is no whole number from 1.
        """
        return cls(whole("MaskKey: secret", secret), pow(_GENERATOR, secret, _PRIME))

    def seed(self, public: int, label: str) -> bytes:
        """Return the seed that a client has in common with the owner of a public key.

        Raises:
            BadUpdate: this is no public key.
        """
        if not 1 < public < _PRIME - 1:
            raise BadUpdate("this is no public key")
        return _seed(pow(public, self.secret, _PRIME), label)


def _seed(common: int, label: str) -> bytes:
    return hashlib.sha256(common.to_bytes(256, "big") + label.encode()).digest()


def pair_mask(seed: bytes, size: int) -> Any:
    """Return the mask that a seed stands for."""
    return np.frombuffer(hashlib.shake_256(seed).digest(4 * size), dtype="<u4").astype(np.uint64)


def masked(values: Any, client: str, key: MaskKey, public: Mapping[str, int], label: str) -> Any:
    """Return a client's numbers with the masks of all its pairs.

    Args:
        values: whole numbers from 0.
        client: whose.
        key: of the client.
        public: the public keys of all clients of the round, by their names.
        label: of the round: no mask is used twice.

    Raises:
        BadUpdate: somebody's public key is none.
    """
    found = np.asarray(values).astype(np.uint64) % MODULUS
    for other, their in public.items():
        if other != client:
            found = _with(found, client, other, pair_mask(key.seed(their, label), found.size).reshape(found.shape))
    return found


def _with(values: Any, client: str, other: str, mask: Any) -> Any:
    """Return numbers with the mask of a pair, as the client of the two adds it."""
    return (values + (mask if client < other else MODULUS - mask)) % MODULUS


# -- shares of a secret ----------------------------------------------------------------------------------------------


class SecretShare(NamedTuple):
    """A share of a secret: a point of a polynomial."""

    at: int
    value: int


def shares_of(secret: int, count: int, threshold: int, random_below: Callable[[int], int]) -> list[SecretShare]:
    """Return shares of a secret: of fewer than the threshold, nothing can be found out about it.

    Args:
        secret: a whole number of at most `SECRET_BITS` bits.
        count: how many shares.
        threshold: how many of them are needed.
        random_below: such as ``secrets.randbelow``.

    Raises:
        BadOption, BadFederation: a number makes no sense.
    """
    whole("shares_of: threshold", threshold)
    whole("shares_of: secret", secret, 0)
    if threshold > count or secret >= _FIELD:
        raise BadFederation(
            "shares_of: threshold", threshold, f"give at most {count}, and a secret of {SECRET_BITS} bits"
        )
    rest = [random_below(_FIELD) for _ in range(threshold - 1)]

    def at(place: int) -> int:
        value = 0
        for factor in reversed([secret, *rest]):
            value = (value * place + factor) % _FIELD
        return value

    return [SecretShare(place, at(place)) for place in range(1, count + 1)]


def secret_of(shares: Sequence[SecretShare]) -> int:
    """Return the secret of as many shares as the threshold says; of fewer, some number.

    >>> shares = shares_of(123456789, count=5, threshold=3, random_below=lambda most: most // 3)
    >>> secret_of(shares[1:4]), secret_of([shares[0], shares[2], shares[4]])
    (123456789, 123456789)
    """
    total = 0
    for one in shares:
        factor = one.value
        for other in shares:
            if other.at != one.at:
                factor = factor * other.at * pow(other.at - one.at, -1, _FIELD) % _FIELD
        total += factor
    return total % _FIELD


class SecureSum:
    """What the coordinator of a secure sum has: masked numbers, and shares of the secrets of who has dropped out.

    It is for a coordinator that keeps to the protocol, and wants to know no more than the sum. One that says of a
    client which has reported that it has dropped out, and is believed by enough others, can take off its masks. Nobody
    checks whose public keys these are.

    Args:
        public: the public keys of the clients, by their names.
        threshold: how many shares of a secret are needed, and how many clients have to report.
        label: of the round.

    Raises:
        BadFederation: the threshold makes no sense: below two, the sum may be that of one client.
    """

    def __init__(self, public: Mapping[str, int], threshold: int, label: str) -> None:
        if not 2 <= threshold <= len(public):
            raise BadFederation("SecureSum: threshold", threshold, f"give 2 to {len(public)}")
        self._public, self._threshold, self._label = dict(public), threshold, label
        self._rows: dict[str, Any] = {}
        self._shares: dict[str, dict[int, SecretShare]] = {}

    def report(self, client: str, row: Any) -> None:
        """Take a client's masked numbers. The first ones count.

        Raises:
            BadUpdate: the client is no party, or there are not as many numbers as others have.
        """
        found = np.asarray(row)
        if client not in self._public:
            raise BadUpdate(f"{client} is no party")
        if any(other.shape != found.shape for other in self._rows.values()):
            raise BadUpdate(f"its numbers have the shape {list(found.shape)}, and others have another")
        self._rows.setdefault(client, found.astype(np.uint64) % MODULUS)

    @property
    def dropped(self) -> list[str]:
        """Who has not reported."""
        return [client for client in self._public if client not in self._rows]

    def reveal(self, client: str, share: SecretShare) -> None:
        """Take a share of the secret of a client that has dropped out.

        Raises:
            BadUpdate: it has reported: its secret is nobody's business.
        """
        if client not in self.dropped:
            raise BadUpdate(f"{client} has not dropped out")
        self._shares.setdefault(client, {})[share.at] = share

    def result(self) -> Any:
        """Return the sum of the numbers of all who have reported, modulo `MODULUS`.

        Raises:
            CannotMerge: too few have reported, or there are too few shares of who has not: the round is void.
        """
        if len(self._rows) < self._threshold:
            raise CannotMerge(f"{len(self._rows)} of {self._threshold} clients have reported")
        total: Any = sum(self._rows.values(), np.zeros_like(next(iter(self._rows.values())))) % MODULUS
        for client in self.dropped:
            shares = [*self._shares.get(client, {}).values()]
            if len(shares) < self._threshold:
                raise CannotMerge(f"{client} has dropped out, and {len(shares)} of {self._threshold} shares are there")
            key = MaskKey.of(secret_of(shares[: self._threshold]))
            if key.public != self._public[client]:
                raise CannotMerge(f"the shares are not those of the secret of {client}")
            for other in self._rows:
                mask = pair_mask(key.seed(self._public[other], self._label), total.size).reshape(total.shape)
                # What the other one has added for this pair, the dropped one would have taken off.
                total = _with(total, client, other, mask)
        return total
