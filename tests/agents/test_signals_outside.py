"""Signals outside: CloudEvents against the reference library, webhooks, sinks."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import cloudevents.core.bindings.http as binding
import httpx
import pytest
import structlog
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from agents import Attempts, BadSignal, Signal, SignalUndelivered, start_agent
from agents.signals.cloudevents import MEDIA_TYPE, from_http, from_json, to_http, to_json
from agents.signals.sinks import (
    BadSignature,
    GetUndelivered,
    GroupSink,
    LogSink,
    RedeliverSignals,
    Webhook,
    WebhookRejected,
    sign,
    verify,
)
from supervision import Runtime, groups, system
from supervision.errors import BadOption
from supervision.testing import advance, settled
from tests.agents.kinds import Counter, Listener

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
SIGNALS = st.builds(
    Signal,
    type=st.lists(st.sampled_from(["order", "placed", "x-1"]), min_size=1, max_size=3).map(".".join),
    source=TEXTS.map(lambda text: f"/{text.strip() or 'x'}"),
    id=st.uuids().map(str),
    subject=st.none() | TEXTS.map(str.strip).filter(bool),
    # The library puts in the time of its own clock where there is none.
    time=st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    data=JSON,
    dataschema=st.none() | st.just("https://example.org/schema"),
    extensions=st.dictionaries(
        st.sampled_from(["causationid", "traceparent", "a1"]), TEXTS.map(str.strip).filter(bool)
    ),
)


@given(SIGNALS)
def test_json_goes_both_ways_and_through_the_reference_library(signal: Signal) -> None:
    """What is written is read as it was, here and with the `cloudevents` package, and what that writes is read here."""
    assert from_json(to_json(signal)) == signal
    event = JSONFormat().read(CloudEvent, to_json(signal))
    assert (event.get_id(), event.get_type(), event.get_source()) == (signal.id, signal.type, signal.source)
    assert (event.get_subject(), event.get_time(), event.get_data()) == (signal.subject, signal.time, signal.data)
    assert {name: event.get_extension(name) for name in signal.extensions} == signal.extensions
    back = from_json(JSONFormat().write(event))
    assert (back.id, back.type, back.data, back.time) == (signal.id, signal.type, signal.data, signal.time)
    assert back.extensions == signal.extensions


@given(SIGNALS)
def test_http_goes_both_ways_and_through_the_reference_library(signal: Signal) -> None:
    """In binary mode and in structured mode."""
    headers, body = to_http(signal)
    back = from_http(headers, body)
    assert (back.id, back.subject, back.time, back.data) == (signal.id, signal.subject, signal.time, signal.data)
    assert dict(back.extensions) == dict(signal.extensions)
    assert from_http({"Content-Type": f"{MEDIA_TYPE}; charset=utf-8"}, to_json(signal)) == signal
    event = binding.from_http(binding.HTTPMessage(headers, body), JSONFormat())
    assert (event.get_id(), event.get_subject(), event.get_time()) == (signal.id, signal.subject, signal.time)
    assert {name: event.get_extension(name) for name in signal.extensions} == signal.extensions
    if signal.data is not None:
        assert event.get_data() == signal.data
    # In binary mode the library writes everything but objects as Python shows it.
    binary = isinstance(signal.data, dict) or signal.data is None
    for write in (binding.to_binary, binding.to_structured)[0 if binary else 1 :]:
        theirs = write(event, JSONFormat())
        back = from_http(theirs.headers, theirs.body)
        assert (back.id, back.type, back.source, back.data) == (signal.id, signal.type, signal.source, signal.data)
        assert dict(back.extensions) == dict(signal.extensions)


def test_bytes_and_texts_are_data_too() -> None:
    """In JSON bytes are in base64; over HTTP both are the body as it is."""
    for data, kind in ((b"\0\1", None), (b"\0\1", "image/png"), ("hello", "text/plain")):
        signal = Signal(type="a", source="/", id="1", data=data, datacontenttype=kind)
        assert from_json(to_json(signal)) == signal
        headers, body = to_http(signal)
        assert headers["content-type"] == (kind or "application/octet-stream")
        assert from_http(headers, body).data == (data if isinstance(data, bytes) else data.encode())
    assert b"data_base64" in to_json(Signal(type="a", source="/", id="1", data=b"x"))
    text = Signal(type="a", source="/", id="1", data="hello", datacontenttype="application/vnd.x+json")
    assert from_http(*to_http(text)).data == "hello"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"specversion": "0.3", "type": "a", "source": "/", "id": "1"}', b'{"data_base64": "?"}'],
)
def test_what_is_no_event_is_refused(body: bytes) -> None:
    """With an error that shows it."""
    with pytest.raises(BadSignal):
        from_json(body)
    with pytest.raises(BadSignal):
        from_http({"content-type": MEDIA_TYPE}, body)


def test_what_cannot_be_written_is_refused() -> None:
    """Data, and extensions, that CloudEvents has no place for."""
    signal = Signal(type="a", source="/", id="1", data=object())
    for write in (to_json, to_http):
        with pytest.raises(BadSignal, match="written in JSON"):
            write(signal)
        for extensions in ({"Big": "x"}, {"a-b": "x"}, {"type": "x"}, {"a": None}):
            with pytest.raises(BadSignal):
                write(Signal(type="a", source="/", id="1", extensions=extensions))
    with pytest.raises(BadSignal, match="said to be JSON"):
        from_http({"ce-id": "1", "content-type": "application/json"}, b"{")
    with pytest.raises(BadSignal):
        from_http({"ce-id": "1"}, b"")


# -- webhooks ----------------------------------------------------------------------------------------------------------


class Service:
    """Somebody's service: it answers as it is told, and keeps what it was sent."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.got: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        self.got.append(request)
        answer = self.answers.pop(0) if self.answers else 200
        if answer == 0:
            raise httpx.ConnectError("nobody there")
        return httpx.Response(answer)

    def types(self) -> list[str]:
        """Return the types of what it was sent."""
        return [from_json(request.content).type for request in self.got]


URL = "https://example.org/hook"
ATTEMPTS = Attempts(retries=2, backoff=1.0)


async def hook(runtime: Runtime, service: Service, **options: Any) -> Any:
    """Start a webhook."""
    return await runtime.spawn(Webhook, URL, transport=httpx.MockTransport(service), attempts=ATTEMPTS, **options)


def signal(type: str) -> Signal:
    """Return a signal."""
    return Signal(type=type, source="/", id=f"id of {type}", data={"n": 1})


async def test_a_webhook_posts_in_order_and_signs(runtime: Runtime) -> None:
    """Whoever knows the secret can check it; it comes as an event in JSON."""
    service = Service()
    counter = await start_agent(runtime, Counter, emit_to=await hook(runtime, service, secret="secret"))
    counter.cast(counter.signal("counter.announce"))
    counter.cast(counter.signal("counter.announce"))
    await settled(runtime)
    assert service.types() == ["counter.announced"] * 2
    request = service.got[0]
    assert request.headers["content-type"] == MEDIA_TYPE
    now = runtime.clock.wall_time()
    verify("secret", request.headers, request.content, now)
    whole = request.content
    for secret, body, when in (("other", whole, now), ("secret", b"{}", now), ("secret", whole, 0.0)):
        with pytest.raises(BadSignature):
            verify(secret, request.headers, body, when)
    with pytest.raises(BadSignature):
        verify("secret", {}, b"", now)
    assert sign("whsec_c2VjcmV0", "1", 1, b"") == sign("secret", "1", 1, b"")


async def test_what_may_help_is_tried_again_and_what_is_behind_waits(runtime: Runtime) -> None:
    """After 503 and a broken line, in that order; the order of signals stays."""
    service = Service(503, 0, 200)
    webhook = await hook(runtime, service)
    for type in ("a", "b"):
        webhook.cast(signal(type))
    await settled(runtime)
    assert service.types() == ["a"]
    await advance(1.1)
    await settled(runtime)
    assert service.types() == ["a", "a"]
    await advance(2.1)
    await settled(runtime)
    assert service.types() == ["a", "a", "a", "b"]
    assert await webhook.call(GetUndelivered()) == ()


async def test_what_cannot_be_delivered_is_kept_and_told(runtime: Runtime) -> None:
    """At once if the service does not want it, else after the last try; and it can be delivered again."""
    heard: list[SignalUndelivered] = []
    subscription = runtime.subscribe(heard.append, SignalUndelivered)  # type: ignore[arg-type]
    service = Service(410, 500, 500, 500)
    webhook = await hook(runtime, service)
    for type in ("unwanted", "unlucky"):
        webhook.cast(signal(type))
    with structlog.testing.capture_logs() as logs:
        await advance(10.0)
        await settled(runtime)
    subscription.close()
    assert [(event.signal_type, event.attempts) for event in heard] == [("unwanted", 1), ("unlucky", 3)]
    assert [entry["event"] for entry in logs] == ["signal_undelivered"] * 2
    assert [one.type for one in await webhook.call(GetUndelivered())] == ["unwanted", "unlucky"]
    assert await webhook.call(RedeliverSignals()) == 2
    await settled(runtime)
    assert service.types()[4:] == ["unwanted", "unlucky"]
    assert (WebhookRejected(URL, 410).temporary, WebhookRejected(URL, 429).temporary) == (False, True)


async def test_a_post_goes_through_a_guard(runtime: Runtime) -> None:
    """Such as a circuit breaker: what it refuses counts as a failure."""
    calls: list[str] = []

    async def guard(post: Callable[[], Awaitable[Any]]) -> Any:
        calls.append("asked")
        if len(calls) == 1:
            raise RuntimeError("the circuit is open")
        return await post()

    service = Service()
    webhook = await hook(runtime, service, guard=guard)
    webhook.cast(signal("a"))
    await advance(1.5)
    await settled(runtime)
    assert (calls, service.types()) == (["asked"] * 2, ["a"])
    assert (await system.get_status(webhook)).status == {"url": URL, "delivered": 1, "undelivered": 0}


async def test_wrong_webhooks_are_refused(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is wrong, or what is to be installed."""
    wrong: list[tuple[Any, Any]] = [("ftp://x", {}), (3, {}), (URL, {"attempts": 3})]
    for url, options in wrong:
        with pytest.raises(BadOption):
            await runtime.spawn(Webhook, url, **options)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(BadOption, match=r"foundation-otp\[webhooks\]"):
        await runtime.spawn(Webhook, URL)


# -- sinks -------------------------------------------------------------------------------------------------------------


async def test_signals_reach_groups_and_logs(runtime: Runtime) -> None:
    """All members of a group get it, by the scope or its name; a log has what it says."""
    scope = await runtime.spawn(groups.Groups, name="scope")
    heard: list[Signal] = []
    for _ in range(2):
        await groups.join(scope, "listeners", await runtime.spawn(Listener, heard))
    for to in (scope, "scope"):
        sink = await runtime.spawn(GroupSink, to, "listeners")
        sink.cast(signal("a"))
    await settled(runtime)
    assert [one.type for one in heard] == ["a"] * 4
    log = await runtime.spawn(LogSink, "warning")
    with structlog.testing.capture_logs() as logs:
        log.cast(signal("b"))
        await settled(runtime)
    assert (logs[0]["event"], logs[0]["log_level"], logs[0]["data"]) == ("b", "warning", {"n": 1})
    with pytest.raises(BadOption, match="debug, info, warning or error"):
        await runtime.spawn(LogSink, "loud")
