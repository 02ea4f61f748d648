"""The port to NATS: messages by its core, keys by JetStream. It needs a server from 2.11 on, with JetStream.

Keys are read from the stream's leader, as decisions hang on them. Changes of keys come by the stream's
``republish``, in one sequence for all keys of a bucket: a hole in it, or a reconnect, has everything loaded again. (The
client's watch stalls for many seconds when the server of its consumer is lost.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from importlib import util
from typing import Any, TypeVar

from foundation.cluster.errors import ClusterUnavailable, WrongRevision
from foundation.cluster.port import Entry, Keys, Watcher
from foundation.cluster.servers import read_servers, shown, without_users
from foundation.extras import MissingExtra, import_extra

#: Seconds for a connection, for an answer of the keys, and between two looks whether a feed has missed something.
CONNECT, ANSWER, CHECK = 5.0, 1.0, 30.0
#: Seconds until a feed that has missed something while it was loaded is loaded again.
AGAIN = 0.1
#: Headers of JetStream.
EXPECTED, SEQUENCE = "Nats-Expected-Last-Subject-Sequence", "Nats-Sequence"
#: Those that say that a key was deleted, or has expired.
REMOVED = ("KV-Operation", "Nats-Marker-Reason")
#: Codes of JetStream for a key at another revision.
WRONG = (10071, 10164)

#: What a cluster on NATS needs, by the arguments of `MissingExtra`.
_EXTRA = ("a cluster on NATS", "nats", "cluster")

T = TypeVar("T")


def import_nats() -> Any:
    """Return the client of NATS. Its first import takes half a second: not on a running loop.

    Raises:
        MissingExtra: it is not installed.
    """
    what, library, extra = _EXTRA
    return import_extra(library, of=what, extra=extra)


def _requiring_tls(nats: Any, client: Any) -> Callable[..., Awaitable[None]]:
    """Return what takes the first word of a server: one whose URL says ``tls`` has to speak it, at each connect."""
    take = client._process_info

    async def checked(info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and client._current_server.uri.scheme == "tls" and not info.get("tls_required"):
            if not info.get("tls_available"):
                raise nats.errors.Error("the URL says tls, and the server does not speak it")
            info["tls_required"] = True
        await take(info, initial_connection)

    return checked


async def _within(seconds: float, work: Coroutine[Any, Any, object]) -> None:
    """Do something of the client, which may swallow a cancellation that meets an error of its own.

    Raises:
        TimeoutError: it is not done in time.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=seconds)
        if not task.done():
            raise TimeoutError
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=AGAIN)
    await task


class NatsPort:
    """What a node says and hears through NATS.

    Args:
        servers: their URLs; with ``nats://user:password@host``, ``tls://host``. Nothing but the server's first word is
            exchanged without TLS when the URL says ``tls``.
        replicas: on how many servers keys are kept, if this node is the first one: 3 survive the loss of one.
        options: what else the client is to know, such as ``tls``, ``nkeys_seed``, ``user_credentials``.

    Raises:
        BadOption: there is no server, or one that cannot be.
        MissingExtra: the client is not installed.
    """

    def __init__(self, servers: str | Sequence[str], *, replicas: int = 1, **options: Any) -> None:
        self._servers = read_servers(servers)
        if util.find_spec("nats") is None:
            raise MissingExtra(*_EXTRA)
        self._nats: Any = None
        self._replicas = replicas
        self._options = options
        #: What the client raises for something that is not there.
        self.missing: type[Exception]
        self._client: Any = None
        self._out: deque[tuple[str, bytes]] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._feeds: list[NatsFeed] = []
        self._noticed: Exception | None = None
        self.max_payload = 1 << 20

    async def connect(self, node: str) -> None:
        """See `Port.connect`."""
        nats = self._nats = await asyncio.to_thread(import_nats)  # it takes half a second
        self.missing = nats.js.errors.NotFoundError
        self._client = nats.NATS()
        self._client._process_info = _requiring_tls(nats, self._client)
        try:
            await _within(
                CONNECT,
                self._client.connect(
                    self._servers,
                    name=node,
                    ping_interval=0.5,
                    max_outstanding_pings=2,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.2,
                    error_cb=self._note,
                    reconnected_cb=self._reconnected,
                    **self._options,
                ),
            )
        except (OSError, TimeoutError, nats.errors.Error) as error:
            await self._client.close()
            why = without_users(str(self._noticed or error))
            raise ClusterUnavailable(", ".join(map(shown, self._servers)), why) from None
        self.max_payload = self._client.max_payload
        self._writer = asyncio.ensure_future(self._write())

    async def _note(self, error: Exception) -> None:
        """Note why there is no connection; anything else is seen by its consequences, such as a lost message.

        A server that refuses somebody says why, and hangs up: the second tells less than the first.
        """
        if self._noticed is None or not isinstance(error, OSError):
            self._noticed = error

    async def subscribe(self, subject: str, receive: Callable[[bytes], None]) -> None:
        """See `Port.subscribe`."""

        async def take(message: Any) -> None:
            receive(message.data)

        await self._client.subscribe(subject, cb=take)
        await self.ask(subject, self._client.flush)

    def publish(self, subject: str, data: bytes) -> None:
        """See `Port.publish`."""
        self._out.append((subject, data))
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _write(self) -> None:
        while True:
            while self._out:
                with suppress(self._nats.errors.Error):  # a message that is lost is noticed by its receiver
                    await self._client.publish(*self._out.popleft())
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake

    async def keys(self, bucket: str, ttl: float | None = None) -> Keys:
        """See `Port.keys`."""
        api = self._nats.js.api
        stream = self._client.jetstream(timeout=ANSWER)
        config = api.KeyValueConfig(
            bucket=bucket,
            ttl=ttl,
            replicas=self._replicas,
            storage=api.StorageType.FILE,
            republish=api.RePublish(src=f"$KV.{bucket}.>", dest=f"foundation.feed.{bucket}.>"),
            limit_marker_ttl=None if ttl is None else 10 * ttl,
        )

        async def open_bucket() -> Any:
            with suppress(self.missing):
                return await stream.key_value(bucket)
            return await stream.create_key_value(config)

        try:
            return NatsKeys(self, stream, await self.ask(bucket, open_bucket), bucket)
        except ClusterUnavailable:
            if self._client._server_info.get("jetstream"):
                raise
            raise ClusterUnavailable(bucket, "the server has no JetStream; start it with -js") from None

    async def ask(self, what: str, request: Callable[[], Awaitable[T]]) -> T:
        """Make a request to the server.

        Raises:
            WrongRevision: the key is at another one.
            ClusterUnavailable: there is no answer, or it is an error.
        """
        try:
            return await request()
        except (TimeoutError, OSError, self._nats.errors.Error) as error:
            if getattr(error, "err_code", None) in WRONG:
                raise WrongRevision(what, 0) from None
            raise ClusterUnavailable(what, str(error) or type(error).__name__) from None

    async def follow(self, feed: NatsFeed, subject: str) -> None:
        """Have a feed hear of changes."""

        async def take(message: Any) -> None:
            feed.take(message)

        await self._client.subscribe(subject, cb=take)
        await self.ask(subject, self._client.flush)
        self._feeds.append(feed)

    async def _reconnected(self) -> None:
        for feed in self._feeds:
            feed.reload()

    async def close(self) -> None:
        """See `Port.close`."""
        for feed in self._feeds:
            feed.close()
        if self._writer is not None:
            self._writer.cancel()
            with suppress(self._nats.errors.Error, OSError, TimeoutError):
                while self._out:
                    await self._client.publish(*self._out.popleft())
                await self._client.flush(timeout=1)
        if self._client is not None:
            # What is still to be sent, to a server that is gone.
            with suppress(self._nats.errors.Error, OSError, RuntimeError):
                await self._client.close()


class NatsKeys:
    """The keys of a bucket: one stream, with the last message of each key."""

    def __init__(self, port: NatsPort, stream: Any, bucket: Any, name: str) -> None:
        self._port = port
        self._stream = stream
        self._bucket = bucket
        self._name = name

    async def get(self, key: str) -> Entry | None:
        """See `Keys.get`."""

        async def read() -> Entry | None:
            try:
                found = await self._stream.get_msg(f"KV_{self._name}", subject=f"$KV.{self._name}.{key}")
            except self._port.missing:
                return None
            return Entry(key, _value(found.data, found.headers), found.seq)

        return await self._port.ask(key, read)

    async def write(self, key: str, value: bytes, revision: int) -> int:
        """See `Keys.write`."""
        return await self._publish(key, value, revision, {})

    async def delete(self, key: str, revision: int) -> None:
        """See `Keys.delete`."""
        await self._publish(key, b"", revision, {"KV-Operation": "DEL"})

    async def _publish(self, key: str, value: bytes, revision: int, headers: dict[str, str]) -> int:
        subject, wanted = f"$KV.{self._name}.{key}", {**headers, EXPECTED: str(revision)}
        ack = await self._port.ask(key, lambda: self._stream.publish(subject, value, headers=wanted))
        return int(ack.seq)

    async def watch(self, watcher: Watcher) -> None:
        """See `Keys.watch`."""
        feed = NatsFeed(self, watcher, prefix=f"foundation.feed.{self._name}.")
        await self._port.follow(feed, f"foundation.feed.{self._name}.>")
        await feed.load()

    async def last(self) -> int:
        """Return the number of the last change."""
        found = await self._port.ask(self._name, lambda: self._stream.stream_info(f"KV_{self._name}"))
        return int(found.state.last_seq)

    async def all(self) -> list[Entry]:
        """Return all keys."""
        return await self._port.ask(self._name, self._read_all)

    async def _read_all(self) -> list[Entry]:
        info = await self._stream.stream_info(f"KV_{self._name}")
        if not info.state.messages:
            return []
        watching = await self._bucket.watchall()
        entries = []
        try:
            while True:
                found = await watching.updates(timeout=ANSWER)
                if (
                    found is None
                ):  # on a busy machine the client says so too early, before it has looked at what has come
                    continue
                entries.append(Entry(found.key, None if found.operation else found.value, found.revision))
                if found.delta == 0:
                    break
        finally:
            await watching.stop()
        return entries


def _value(data: bytes | None, headers: Any) -> bytes | None:
    """Return the value of a key; None if it was deleted."""
    return None if headers and any(name in headers for name in REMOVED) else data


class NatsFeed:
    """The changes of a bucket, in order and without holes, to one watcher."""

    def __init__(self, keys: NatsKeys, watcher: Watcher, prefix: str) -> None:
        self._keys = keys
        self._watcher = watcher
        self._prefix = prefix
        #: The number of the last change that was told; None while all is being loaded.
        self._last: int | None = None
        self._waiting: list[tuple[int, Entry]] = []
        self._task: asyncio.Task[None] | None = None
        self._seen = 0
        self._timer: asyncio.TimerHandle | None = None

    def take(self, message: Any) -> None:
        """Take a change."""
        number = int(message.headers[SEQUENCE])
        entry = Entry(message.subject.removeprefix(self._prefix), _value(message.data, message.headers), number)
        whole = self._last is not None
        self._tell(number, entry)
        if whole and self._last is None:
            self.reload()

    async def load(self) -> None:
        """Load everything, and go on with what has come meanwhile.

        Raises:
            ClusterUnavailable: there is no answer.
        """
        self._last = None
        last = await self._keys.last()
        entries = await self._keys.all()
        self._watcher.loaded(entries)
        self._last, waiting, self._waiting = last, self._waiting, []
        for number, entry in waiting:
            if number > last:
                self._tell(number, entry)
        self._look_again(None if self._last is not None else AGAIN)

    def _tell(self, number: int, entry: Entry) -> None:
        """Tell the next change; if it is not the next one, all is to be loaded again."""
        if self._last is None:
            self._waiting.append((number, entry))
        elif number == self._last + 1:
            self._last = number
            self._watcher.changed(entry)
        elif number > self._last:
            self._last = None
            self._waiting.append((number, entry))

    def reload(self) -> None:
        """Load everything again, as soon as there is an answer."""
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._reload())

    async def _reload(self) -> None:
        try:
            await self.load()
        except ClusterUnavailable:
            self._look_again(ANSWER)

    def _look_again(self, after: float | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(CHECK if after is None else after, self._look)

    def _look(self) -> None:
        self._task = asyncio.ensure_future(self._compare())

    async def _compare(self) -> None:
        """Load everything again if what the last look has seen was not told since."""
        if self._last is None or self._last < self._seen:
            await self._reload()
            return
        with suppress(ClusterUnavailable):
            self._seen = await self._keys.last()
        self._look_again()

    def close(self) -> None:
        """Tell nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
