"""Addresses of actors on other nodes: a `Ref` like any other, whose way leads through the cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from supervision import ForeignRef
from supervision.actor import Actor
from supervision.call import Call
from supervision.clock import seconds
from supervision.errors import ActorExited, CallTimeout, NoProcess
from supervision.mailbox import MailboxStatistics
from supervision.reasons import NOPROC, NORMAL, ExitReason, NoConnection, as_reason

if TYPE_CHECKING:
    from foundation.cluster.peer import Peer, Peers
    from foundation.cluster.wire import RefData


class RemoteRef(ForeignRef):
    """The address of one incarnation of an actor on another node.

    There is one object for each actor, as long as anybody keeps it.

    Args:
        peers: the other nodes.
        data: which actor of which of them.

    Attributes:
        epoch: that of the node's process.
        ended: why the actor has ended, as far as it is known here.
    """

    __slots__ = ("_joiners", "_node", "_peers", "ended", "epoch", "id", "kind")

    def __init__(self, peers: Peers, data: RefData) -> None:
        super().__init__(peers.runtime)
        self._peers = peers
        self._node, self.epoch, self.id = data
        #: Its class is known over there only.
        self.kind = Actor
        self.ended: ExitReason | None = None
        self._joiners: list[asyncio.Future[ExitReason]] = []

    def __repr__(self) -> str:
        return f"<Actor {self.path}>"

    @property
    def path(self) -> str:
        """Its node and its number; its place in the tree is known over there."""
        return f"{self._node}/#{self.id}"

    @property
    def node(self) -> str:
        """The node it lives on."""
        return self._node

    @property
    def alive(self) -> bool:  # type: ignore[override]
        """Whether its node can be reached, and nobody here has heard of its end."""
        return self.reason is None and self._peer() is not None

    @property
    def reason(self) -> ExitReason | None:
        """Why it ended, as far as it is known here."""
        if self.ended is None and self._peers.is_past(self._node, self.epoch):
            return NOPROC
        return self.ended

    def _peer(self) -> Peer | None:
        return self._peers.reachable(self._node, self.epoch)

    def _lost(self) -> ExitReason:
        return self.reason or NoConnection(self._node)

    def take_cast(self, message: Any) -> None:
        """Send a message and forget it."""
        peer = self._peer()
        if peer is None or self.ended is not None:
            self.dead_letter(message, "noconnection" if self.reason is None else "noproc")
        else:
            peer.cast(self, message)

    async def take_send(self, message: Any) -> None:
        """Send a message, and wait for credit."""
        peer = self._peer()
        if peer is None or self.ended is not None:
            self.take_cast(message)
        else:
            await peer.send(self, message)

    def take_call(self, call: Call[Any]) -> None:
        """Send a request."""
        peer = self._peer()
        if peer is None or self.ended is not None:
            self.fail_unsent(call)
        else:
            peer.call(self, call)

    def fail_unsent(self, call: Call[Any]) -> None:
        """Fail a call that was not sent: its actor has ended, or its node cannot be reached."""
        reason = self.reason
        if reason is None:
            error: Exception = ActorExited(self, call.message, NoConnection(self._node), begun=False)
        else:
            error = NoProcess(self, call.message, _why_gone(reason))
        self.runtime.scheduler.fail(call, error)

    def take_signal(self, reason: ExitReason) -> None:
        """Send an exit signal; without a connection, nothing happens."""
        peer = self._peer()
        if peer is not None:
            peer.signal(self, reason)

    async def take_stop(self, reason: object, timeout: float | None) -> None:
        """Ask it to end in order and wait until it has."""
        wanted = NORMAL if reason is None else as_reason(reason)
        limit = None if timeout is None else seconds("timeout", timeout)
        peer = self._peer()
        if self.reason is not None:
            raise NoProcess(self, "stop", _why_gone(self.reason))
        if peer is None:
            raise ActorExited(self, "stop", NoConnection(self._node), begun=False)
        stopping = peer.stop(self, wanted)
        if limit is not None and not await self.runtime.scheduler.wait(stopping, limit):
            stopping.cancel()
            raise CallTimeout(self, "stop", limit)
        await stopping

    async def join(self) -> ExitReason:
        """Wait until it has ended, or cannot be reached any more, and return why."""
        reason = self.watch()
        if reason is not None:
            return reason
        joiner: asyncio.Future[ExitReason] = self.runtime.scheduler.loop.create_future()
        self._joiners.append(joiner)
        return await joiner

    def watch(self) -> ExitReason | None:
        """Have its node tell of its end."""
        peer = self._peer()
        if peer is None or self.ended is not None:
            return self._lost()
        peer.watch(self)
        return None

    def tell_end(self, reason: ExitReason) -> None:
        """Tell whoever monitors it, or waits for its end."""
        super().tell_end(reason)
        joiners, self._joiners = self._joiners, []
        for joiner in joiners:
            if not joiner.done():
                joiner.set_result(reason)

    def mailbox_statistics(self) -> MailboxStatistics:
        """Return how many messages wait here for credit; what waits over there is not known."""
        peer = self._peer()
        return MailboxStatistics(0 if peer is None else peer.waiting_for(self), None, 0)


def _why_gone(reason: ExitReason) -> str:
    return "no such actor" if reason == NOPROC else f"no such actor: it ended: {reason}"
