"""The errors of a cluster."""

from __future__ import annotations

from foundation.errors import Category, FoundationError, Severity


class ClusterError(FoundationError):
    """The root of all errors of a cluster."""

    category = Category.EXTERNAL


class ClusterUnavailable(ClusterError):
    """The cluster's keys cannot be written now: no server is reached, or it does not answer.

    Whether the last attempt was carried out is not known; what nobody here holds is released as soon as it is seen.
    """

    category = Category.TRANSIENT
    retryable = True
    remedy = "try again; if it stays, look after the servers of the cluster"

    def __init__(self, what: str, why: object) -> None:
        self.what = what
        super().__init__(f"{what}: {why}")


class WrongRevision(ClusterError):
    """A key has changed since it was read: the write was not carried out."""

    category = Category.TRANSIENT
    severity = Severity.LOW
    retryable = True
    remedy = "read it again, and decide again"

    def __init__(self, key: str, revision: int) -> None:
        self.key = key
        super().__init__(f"{key}: is no longer at revision {revision}")


class NodeNameTaken(ClusterError):
    """Another process is the node of this name, and alive."""

    category = Category.CONFIG
    severity = Severity.HIGH
    remedy = "give each node a name of its own"

    def __init__(self, node: str, uid: str, host: str) -> None:
        self.node = node
        self.uid = uid
        super().__init__(f"node {node}: the name is taken by process {uid} on {host}, which is alive")


class NameTaken(ClusterError):
    """An actor of another node, or another one of this node, holds the name in the cluster."""

    category = Category.DATA
    severity = Severity.LOW
    remedy = "use its holder; or register again when it is free"

    def __init__(self, name: str, node: str) -> None:
        self.name = name
        self.node = node
        super().__init__(f"{name}: is held by an actor of node {node}")


class PayloadTooLarge(ClusterError, ValueError):
    """A message is larger than what the servers of the cluster pass on.

    Attributes:
        begun: false: it was not sent.
    """

    begun = False
    category = Category.DATA
    remedy = "send less, or a reference to where it is kept; or raise max_payload of the servers"

    def __init__(self, what: str, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(f"{what}: {size:,} bytes, and {limit:,} is the limit")


class NotJoined(ClusterError, RuntimeError):
    """The cluster is asked for something before its block has begun."""

    category = Category.CONFIG
    remedy = "write: async with Cluster(...) as cluster"

    def __init__(self, what: str, node: str) -> None:
        self.node = node
        super().__init__(f"{what}: node {node} is not in the cluster yet; {self.remedy}")


class NotReached(ClusterError, TimeoutError):
    """A node cannot be reached, or nobody holds a name, within the time given."""

    category = Category.TRANSIENT
    severity = Severity.LOW
    retryable = True
    remedy = "see whether the node runs, is in this cluster, and is called so"

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"{what}: not reached within {seconds:g} s")
