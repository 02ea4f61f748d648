"""Sinks: actors that pass each signal on: to a service over HTTP, to a process group, or to the log.

Requests of a `Webhook` are signed as `Standard Webhooks <https://www.standardwebhooks.com>`_ says, and carry
CloudEvents in JSON.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from agents.core.action import Attempts
from agents.core.execution import sleep
from agents.core.signal import Signal
from agents.core.traces import trace_of
from agents.errors import AgentError
from agents.events import SignalUndelivered
from agents.signals.cloudevents import MEDIA_TYPE, to_json
from agents.signals.heartbeat import at_work
from agents.signals.messages import Deliver, Delivery
from supervision import Actor, Address, Refuse, Request, SpecError, groups, handle, inject_context
from supervision.errors import BadOption
from supervision.logs import get_logger

if TYPE_CHECKING:
    import httpx


_log: Any = get_logger("agents")


_signals_log: Any = get_logger("agents.signals")

#: Something that a request goes through, such as a circuit breaker: it calls what it is given, or refuses to.
WebhookGuard: TypeAlias = "Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]"
#: Statuses after which another try may succeed.
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
#: At most so many undelivered signals are kept.
_UNDELIVERED_KEPT = 1000


class BadSignature(AgentError):
    """The signature of a request is missing, wrong, or too old."""


class WebhookRejected(AgentError):
    """A service has answered with an error status.

    Attributes:
        status: that.
        temporary: whether another try may succeed.
        final: whether none will.
        retry_after: seconds for which it wants to be left alone.
    """

    def __init__(self, url: str, status: int, retry_after: float = 0.0) -> None:
        self.status = status
        self.temporary = status in _TEMPORARY
        self.final = not self.temporary
        self.retry_after = retry_after
        super().__init__(f"{url} answered with status {status}")


class GetUndelivered(Request[tuple[Signal, ...]], frozen=True):
    """Which signals could not be delivered?"""


class RedeliverSignals(Request[int], frozen=True):
    """Try the signals again that could not be delivered; the answer is how many."""


class Webhook(Actor):
    """An actor that posts each signal that it is cast to a URL, one after the other, in order.

    A post that fails is tried again, when that may help; the signals behind it wait. One that could not be delivered is
    an event (`SignalUndelivered`), and is kept for `RedeliverSignals`; the last 1000 are.

    Args:
        url: where to.
        secret: what to sign with; None to sign nothing.
        attempts: how often and how long to try, as `Attempts` or a table of them.
        guard: what each post goes through, such as a circuit breaker.
        transport: how requests are made, for tests; see httpx.

    Raises:
        BadOption: the URL or the attempts are invalid, or httpx is not installed.
    """

    trap_exit = True
    #: How many deliveries of a bus it wants at a time.
    delivery_credit: ClassVar[int] = 4

    def __init__(
        self,
        url: str,
        *,
        secret: str | None = None,
        attempts: Attempts | Mapping[str, Any] = Attempts(retries=5, backoff=0.5, timeout=10.0),  # noqa: B008 - frozen
        guard: WebhookGuard | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.check_arguments(url, attempts=attempts)
        self._url = url
        self._secret = secret
        self._attempts = _attempts_of(attempts)
        self._guard = guard or _unguarded
        self._transport = transport
        self._undelivered: list[Signal] = []
        self._delivered = 0

    @classmethod
    def check_arguments(cls, url: str, *, attempts: Attempts | Mapping[str, Any] = Attempts(), **_: Any) -> None:  # noqa: B008
        """Check what stands in a tree file."""
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise BadOption("Webhook: url", url, "give one that begins with http:// or https://")
        _attempts_of(attempts)

    def init(self) -> None:
        """Make the client."""
        try:
            import httpx
        except ImportError:
            remedy = "install what it needs: pip install 'foundation-otp[webhooks]'"
            raise BadOption("Webhook", "httpx", remedy) from None
        self._client = httpx.AsyncClient(transport=self._transport, timeout=self._attempts.timeout)

    async def terminate(self, reason: Any) -> None:
        """Close the connections."""
        await self._client.aclose()

    @handle
    async def delivered(self, delivery: Delivery) -> None:
        """Post a signal from a bus, once: it comes again as the subscription says, and ends as a dead letter there."""
        delivery.taken()
        signal = delivery.signal
        try:
            body = to_json(signal)
            with at_work(self.ref, delivery):
                await self._guard(lambda: self._post(signal, body))
        except Exception as error:
            delivery.nack(str(error), final=not _is_temporary(error))
        else:
            self._delivered += 1
            delivery.ack()

    @handle
    async def deliver(self, signal: Signal) -> None:
        """Post a signal."""
        failures = 0
        try:
            body = to_json(signal)
        except Exception as error:
            self._give_up(signal, failures, error)
            return
        while True:
            try:
                await self._guard(lambda: self._post(signal, body))
            except Exception as error:
                failures += 1
                if not _is_temporary(error) or not self._attempts.should_retry(failures, error):
                    self._give_up(signal, failures, error)
                    return
                await sleep(self._attempts.delay(failures))
            else:
                self._delivered += 1
                return

    @handle
    async def on_deliver(self, request: Deliver) -> None:
        """Post a signal of a durable agent's outbox, once: the outbox tries again, in its order."""
        try:
            body = to_json(request.signal)
            await self._guard(lambda: self._post(request.signal, body))
        except Exception as error:
            raise Refuse(error) from error
        self._delivered += 1

    async def _post(self, signal: Signal, body: bytes) -> None:
        headers = {"content-type": MEDIA_TYPE, "webhook-id": signal.id, "idempotency-key": signal.id}
        headers |= inject_context(self.runtime) or trace_of(signal)
        if self._secret is not None:
            now = int(self.runtime.clock.wall_time())
            headers["webhook-timestamp"] = str(now)
            headers["webhook-signature"] = sign(self._secret, signal.id, now, body)
        answer = await self._client.post(self._url, content=body, headers=headers)
        if not answer.is_success:
            wait = answer.headers.get("retry-after", "")
            raise WebhookRejected(self._url, answer.status_code, float(wait) if wait.isdecimal() else 0.0)

    def _give_up(self, signal: Signal, attempts: int, error: Exception) -> None:
        self._undelivered = [*self._undelivered, signal][-_UNDELIVERED_KEPT:]
        about = {"destination": self._url, "signal_type": signal.type, "signal_id": signal.id, "attempts": attempts}
        self.runtime.events.emit(SignalUndelivered, ref=self.ref, error=str(error), **about)
        _log.error("signal_undelivered", error=str(error), **about)

    @handle
    def get_undelivered(self, request: GetUndelivered) -> tuple[Signal, ...]:
        """Return the signals that could not be delivered."""
        return tuple(self._undelivered)

    @handle
    def redeliver(self, request: RedeliverSignals) -> int:
        """Post the undelivered signals again."""
        again, self._undelivered = self._undelivered, []
        for signal in again:
            self.ref.cast(signal)
        return len(again)

    def format_status(self) -> Any:
        """Return the URL and the counts; not the secret."""
        return {"url": self._url, "delivered": self._delivered, "undelivered": len(self._undelivered)}


def _attempts_of(given: Any) -> Attempts:
    if isinstance(given, Attempts):
        return given
    known = ("retries", "backoff", "max_backoff", "timeout")
    if isinstance(given, Mapping) and given.keys() <= set(known):
        return Attempts(**given)
    raise BadOption("Webhook: attempts", given, f"give Attempts(...), or a table of {', '.join(known)}")


def _is_temporary(error: Exception) -> bool:
    """Whether another try may succeed."""
    return (
        error.temporary
        if isinstance(error, WebhookRejected)
        else not isinstance(error, (TypeError, ValueError, SpecError))
    )


async def _unguarded(post: Callable[[], Awaitable[Any]]) -> Any:
    return await post()


def sign(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a request.

    Args:
        secret: shared with the service: ``whsec_`` and base64, or any text.
        id: of the message.
        timestamp: in seconds since the epoch.
        body: of the request.

    >>> sign(
    ...     "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ...     "msg_p5jXN8AQM9LWM0D4loKWxJek",
    ...     1614265330,
    ...     b'{"test": 2432232314}',
    ... )
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    digest = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: float, tolerance: float = 300.0) -> None:
    """Check, as the service that gets it, that a request is signed.

    Args:
        secret: shared with the sender.
        headers: of the request.
        body: of the request.
        now: in seconds since the epoch.
        tolerance: how many seconds a signature may be old, or ahead.

    Raises:
        BadSignature: the signature is missing, wrong, or too old.
    """
    known = {name.lower(): value for name, value in headers.items()}
    id, stamp = known.get("webhook-id", ""), known.get("webhook-timestamp", "")
    if not stamp.isdecimal() or abs(now - int(stamp)) > tolerance:
        raise BadSignature("the time of the request is missing, or too far from now")
    expected = sign(secret, id, int(stamp), body)
    given = known.get("webhook-signature", "").split()
    if not any(hmac.compare_digest(expected, one) for one in given):
        raise BadSignature("the signature does not fit the request")


class GroupSink(Actor):
    """Passes each signal on to all members of a process group.

    Args:
        scope: of the group: a `groups.Groups` actor, or its name.
        group: its name.
    """

    def __init__(self, scope: Address | str, group: str) -> None:
        self._scope = self.runtime.name(scope) if isinstance(scope, str) else scope
        self._group = group

    @handle
    def pass_on(self, signal: Signal) -> None:
        """Pass a signal on."""
        groups.publish(self._scope, self._group, signal)

    @handle
    def delivered(self, delivery: Delivery) -> None:
        """Pass a signal from a bus on."""
        self.pass_on(delivery.signal)
        delivery.ack()


class LogSink(Actor):
    """Writes each signal to the log.

    Args:
        level: of the entries: ``debug``, ``info``, ``warning`` or ``error``.

    Raises:
        BadOption: there is no such level.
    """

    def __init__(self, level: str = "info") -> None:
        if level not in ("debug", "info", "warning", "error"):
            raise BadOption("LogSink: level", level, "give debug, info, warning or error")
        self._level = getattr(logging, level.upper())

    @handle
    def write(self, signal: Signal) -> None:
        """Write a signal."""
        about = {"signal_id": signal.id, "source": signal.source, "subject": signal.subject, "data": signal.data}
        _signals_log.log(self._level, signal.type, **about)

    @handle
    def delivered(self, delivery: Delivery) -> None:
        """Write a signal from a bus."""
        self.write(delivery.signal)
        delivery.ack()
