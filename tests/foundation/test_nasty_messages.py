"""No message, whatever is in it, ends a service that others share, nor is noticed by anybody but who sent it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest

from foundation.cache import Cache
from foundation.dead_letters import DeadLetterQueue, DeadLetters, NotSerializable
from foundation.naming import usable_key
from foundation.options import above_zero, from_zero, text, whole
from foundation.protection import (
    BreakerOptions,
    Breakers,
    Bulkhead,
    CircuitBreaker,
    Hedge,
    RateLimit,
    Retry,
    RetryBudget,
    TimeLimit,
)
from foundation.registry import (
    BadMetadata,
    BadQuery,
    Directory,
    Discovery,
    Entry,
    Field,
    KeyTaken,
    PartitionedDirectory,
    PartitionedRegistry,
    Register,
    Registry,
)
from foundation.registry.directory import Prepared
from foundation.registry.messages import Decided
from foundation.resources import Limit, Resource, Resources
from foundation.store import Store
from supervision import Actor, Call, CallError, ChildSpec, Message, Ref, Request, Runtime, Supervisor, handle
from supervision.errors import BadOption, SpecError
from supervision.messages import Exit, IdleTimeout, ParentExit, StopMessage, SystemRequest, Wake
from supervision.testing import advance, settled


class Evil:
    """Raises whatever is done with it."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no ==")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __str__(self) -> str:
        raise RuntimeError("no str")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Twin:
    """Is a key, until it meets its like."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if self is not other and isinstance(other, Twin):
            raise RuntimeError("there is only one")
        return self is other

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Everything:
    """Is equal to everything."""

    def __hash__(self) -> int:
        return hash("a")

    def __eq__(self, other: object) -> bool:
        return True


class Liar(int):
    """A number that does not want to be compared."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no ==")

    def __lt__(self, other: object) -> bool:
        raise RuntimeError("no <")


class Faceless:
    """Does not say what it is."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")


def nested(depth: int) -> Any:
    """Return an empty tuple in tuples."""
    value: Any = ()
    for _ in range(depth):
        value = (value,)
    return value


def endless() -> Any:
    """Return a list that is in itself."""
    value: list[Any] = []
    value.append(value)
    return value


NASTY: list[Any] = [
    None,
    True,
    0,
    -1,
    0.5,
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    10**5000,
    Decimal("NaN"),
    Decimal("sNaN"),
    1j,
    "",
    "\ud800",
    "x" * 100_000,
    b"\xff",
    [],
    {},
    {"a": Evil()},
    (math.nan,),
    nested(100_000),
    endless(),
    bytearray(b"a"),
    object(),
    Evil(),
    Twin(),
    Everything(),
    Liar(3),
    Faceless(),
    iter([1]),
    Exception(Evil()),
    print,
    int,
]

KERNEL = (Call, Exit, IdleTimeout, ParentExit, StopMessage, SystemRequest, Wake)


class Idle(Actor):
    """Does nothing."""


class Note(Message, frozen=True):
    """Something to know."""

    text: str


class Ask(Request[str], frozen=True):
    """Something to answer."""

    text: str


class Shop(Actor):
    """Answers."""

    @handle
    def ask(self, request: Ask) -> str:
        """Say so."""
        return request.text

    @handle
    def note(self, message: Note) -> None:
        """Listen."""


SERVICES: dict[str, tuple[Any, ...]] = {
    "registry": (Registry, ({"a": "hash", "n": "ordered"},)),
    "many": (Registry, ({"a": "hash", "n": "ordered"},), {"keys": "duplicate", "max_bytes": 10**9}),
    "resources": (Resources, ({"work": 10},)),
    "breakers": (Breakers, ()),
    "dead_letters": (DeadLetters, ()),
}


@pytest.fixture
async def services(runtime: Runtime, tmp_path: Path) -> dict[str, Ref]:
    """All services, each of which may not be restarted once."""
    specs = [ChildSpec("store", Store, (tmp_path / "s.db", ["dead_letters"]), {"sync": "off"}, name="store")]
    for name, (kind, args, *options) in SERVICES.items():
        specs.append(ChildSpec(name, kind, args, options[0] if options else {}, name=name))
    await runtime.spawn(Supervisor, specs, max_restarts=0)
    return {name: refs(runtime, name) for name in SERVICES}


def refs(runtime: Runtime, name: str) -> Ref:
    """Return the actor of a name."""
    ref = runtime.whereis(name)
    assert ref is not None
    return ref


def kinds(service: Ref) -> Iterator[type[Any]]:
    """Return all types of messages that a service handles, but those of the kernel that end it."""
    tables = service.kind.__behaviour__.tables.values()
    for kind in dict.fromkeys(kind for table in tables for kind in table):
        if issubclass(kind, msgspec.Struct) and not issubclass(kind, KERNEL):
            yield kind


def filled(kind: type[Any], given: Any) -> Iterator[Any]:
    """Return messages of a type with something nasty in one field, and in all."""
    fields = kind.__struct_fields__
    plain = {
        "key": "k",
        "ref": given,
        "metadata": {},
        "changes": {},
        "to": "shop",
        "reason": "why",
        "message": Note("a"),
    }
    for nasty, field in product(NASTY, fields):
        yield kind(**{name: nasty if name == field else plain.get(name) for name in fields})
    for nasty in NASTY:
        yield kind(**dict.fromkeys(fields, nasty))
    if not fields:
        yield kind()


@pytest.mark.parametrize("name", SERVICES)
async def test_no_message_ends_a_service(runtime: Runtime, services: dict[str, Ref], name: str) -> None:
    service, idle = services[name], await runtime.spawn(Idle)
    sent = 0
    for kind in kinds(service):
        for message in filled(kind, idle):
            sent += 1
            service.cast(message)
            if isinstance(message, Request):
                answer = await answered(service.call(message, timeout=60.0))
                assert not isinstance(answer, CallError), "the service has lived on"
                if isinstance(answer, Prepared):
                    answer.undo()
                    service.cast(Decided())
    assert sent > 30
    await settled(runtime)
    assert service.alive
    assert runtime.whereis(name) is service
    service.kill()
    await settled(runtime)


async def answered(call: Awaitable[Any]) -> Any:
    """Return the answer, or the error, which can be read."""
    try:
        return await call
    except Exception as error:
        if not str(error):
            raise
        return error


def made(make: Callable[[Any], Any], nasty: Any) -> Any:
    """Return what was made of something, or the error, which names it."""
    try:
        return make(nasty)
    except SpecError as error:
        if not str(error):
            raise
        return error


REGISTRIES = ("registry", "many")


@pytest.mark.parametrize("name", REGISTRIES)
async def test_what_a_registry_has_taken_it_takes_over_again(runtime: Runtime, tmp_path: Path, name: str) -> None:
    """Whatever was taken of all that is nasty: neighbours read and write, and a restart succeeds."""
    kind, args, *options = SERVICES[name]
    spec = ChildSpec(name, kind, args, options[0] if options else {}, name=name)
    await runtime.spawn(Supervisor, [spec], max_restarts=100)
    directory, idle = Directory.of(runtime, name), await runtime.spawn(Idle)
    taken = 0
    for nasty in NASTY:
        for key, metadata in (
            (nasty, {}),
            (("m", taken), nasty),
            (("a", taken), {"a": nasty}),
            (("n", taken), {"n": nasty}),
        ):
            answer = await answered(directory.register(key, idle, metadata))
            taken += isinstance(answer, Entry)
            assert isinstance(answer, (Entry, BadOption, BadMetadata, KeyTaken))
    assert taken > 20
    neighbours(directory)
    before = {entry.order for entry in directory.root.all()}
    refs(runtime, name).kill()
    await settled(runtime)
    assert {entry.order for entry in directory.root.all()} == before
    neighbours(directory)
    await directory.register("neighbour", idle, {"a": "x", "n": 3})
    await directory.set_limits(max_bytes=10**9)
    assert directory.lookup("neighbour") is not None
    idle.kill()
    await settled(runtime)
    assert len(directory.root) == 0


def neighbours(directory: Directory) -> None:
    """Ask what others ask."""
    directory.select(Field("n") > 1, order_by="n")
    directory.select(Field("a") == "x", order_by="a", descending=True, limit=3)
    directory.select((Field("a") == 1) | ~(Field("n") < 0.5))
    directory.find("a", 1)
    directory.root.counts("a")
    assert directory.lookup("nobody") is None


async def test_readers_are_told_what_is_wrong_with_their_question(runtime: Runtime) -> None:
    await runtime.spawn(Registry, {"a": "hash"}, name="r.0")
    directory, idle = Directory.of(runtime, "r.0"), await runtime.spawn(Idle)
    parts = PartitionedDirectory.of(runtime, 1, "r")
    await directory.register(Twin(), idle)
    await directory.put_meta("m", [1, [2]])
    assert directory.meta("m") == (1, (2,)), "nobody can change it"
    unusable: list[Any] = [[], Evil(), Twin()]
    for key in unusable:
        with pytest.raises(BadOption):
            directory.lookup(key)
    for key in (*unusable[:2], math.nan):
        for read in (directory.lookup_all, directory.root.lookup, parts.lookup, directory.meta):
            with pytest.raises(BadOption):
                read(key)
        with pytest.raises(BadOption):
            directory.find("a", key)
    for question in ({"limit": -1}, {"limit": True}, {"limit": 0.5}, {"order_by": 5}):
        for ask in (directory.select, directory.explain):
            with pytest.raises(BadQuery):
                ask(**question)
    with pytest.raises(BadQuery):
        Field("a") == Evil()  # noqa: B015
    with pytest.raises(BadOption):
        directory.batch(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", REGISTRIES)
async def test_a_batch_with_something_nasty_in_it_is_refused_as_a_whole(
    runtime: Runtime, services: dict[str, Ref], name: str
) -> None:
    directory, idle = Directory.of(runtime, name), await runtime.spawn(Idle)
    await directory.register(Twin(), idle, {"a": Twin()})
    with pytest.raises(BadOption, match="give what can be compared"):
        await directory.register("other", idle, {"a": Twin()})
    for key in (Twin(), Evil()):
        with pytest.raises(Exception, match="nothing was changed: item 1"):
            await directory.batch([Register("a", idle, {}), Register(key, idle, {})])
        results = await directory.batch([Register("b", idle, {}), Register(key, idle, {})], partial=True)
        assert isinstance(results[1], BadOption)
        await directory.unregister("b")
    assert directory.lookup("a") is None
    assert len(directory.root) == 1


MAKERS: dict[str, Any] = {
    "TimeLimit": TimeLimit,
    "Hedge": Hedge,
    "Hedge.most": lambda it: Hedge(1.0, it),
    "Bulkhead": Bulkhead,
    "Bulkhead.waiting": lambda it: Bulkhead(1, it),
    "RateLimit": RateLimit,
    "RateLimit.per": lambda it: RateLimit(1, it),
    "RateLimit.keys": lambda it: RateLimit(1, keys=it),
    "Retry": Retry,
    "Retry.wait": lambda it: Retry(1, wait=it),
    "Retry.wait_max": lambda it: Retry(1, wait_max=it),
    "Retry.jitter": lambda it: Retry(1, jitter=it),
    "RetryBudget": RetryBudget,
    "RetryBudget.least": lambda it: RetryBudget(least=it),
    "RetryBudget.window": lambda it: RetryBudget(window=it),
    "Resources": Resources,
    "Resources.limits": lambda it: Resources({"a": it}),
    "Resources.names": lambda it: Resources({it: 1} if type(it) is str else {1: it}),  # type: ignore[dict-item]
    "Resources.limit": lambda it: Resources({"a": Limit(1, severe=it)}),
    "Resources.interval": lambda it: Resources({}, interval=it),
    "Resources.measures": lambda it: Resources({}, measures={"a": it}),
    "DeadLetters": lambda it: DeadLetters(attempts=it),
    "DeadLetters.expiry": lambda it: DeadLetters(expiry=it),
    "DeadLetters.window": lambda it: DeadLetters(window=it),
    "DeadLetters.store": lambda it: DeadLetters(store=it),
    "Registry.in_doubt": lambda it: Registry(in_doubt=it),
    "Registry.listeners": lambda it: Registry(listeners=it),
    "Registry.listener": lambda it: Registry(listeners=[it]),
    "Registry.max_entries": lambda it: Registry(max_entries=it),
}


@pytest.mark.parametrize("what", MAKERS)
def test_options_are_right_or_named(what: str) -> None:
    assert sum(isinstance(made(MAKERS[what], nasty), SpecError) for nasty in NASTY) > 10


async def test_arguments_are_right_or_named(runtime: Runtime, services: dict[str, Ref]) -> None:
    resource, cache = Resource(runtime, "work"), Cache[Any, Any](runtime, "c")
    queue, idle = DeadLetterQueue(runtime), await runtime.spawn(Idle)
    await runtime.spawn(Shop, name="shop")

    async def load() -> int:
        return 1

    calls: dict[str, Any] = {
        "acquire": resource.acquire,
        "acquire for": lambda it: resource.acquire(1, holder=it),
        "release": resource.release,
        "set_limit": Resource(runtime, "other").set_limit,
        "get": lambda it: cache.get(it, load),
        "get with": lambda it: cache.get("other", it),
        "send": lambda it: queue.send("shop", it),
        "send to": lambda it: queue.send(it, Note("a")),
        "send within": lambda it: queue.send("shop", Ask("a"), timeout=it),
        "redeliver": queue.redeliver,
        "register": lambda it: Directory.of(runtime).register("a", it),
        "update": lambda it: Directory.of(runtime).update("a", it),
        "update of": lambda it: Directory.of(runtime).update("a", {}, it),
    }
    for name, call in calls.items():
        answers = [await answered(call(nasty)) for nasty in NASTY]
        refused = [answer for answer in answers if isinstance(answer, Exception)]
        expected: tuple[type[Exception], ...] = (SpecError, NotSerializable, BadMetadata, LookupError)
        if name == "get with":  # what is called may be called for something else
            expected = (*expected, TypeError)
        assert len(refused) > 5, name
        assert [error for error in refused if not isinstance(error, expected)] == [], name
    makers: list[Callable[[Any], Any]] = [
        lambda it: CircuitBreaker(runtime, it),
        lambda it: CircuitBreaker(runtime, "a", it),
        lambda it: CircuitBreaker(runtime, "a", BreakerOptions(failures=it)),
        lambda it: CircuitBreaker(runtime, "a", BreakerOptions(window=it)),
        lambda it: Resource(runtime, it),
        lambda it: Resource(runtime, "a", amount=it),
        lambda it: Resource(runtime, "a", priority=it),
        lambda it: Cache(runtime, it),
        lambda it: Cache(runtime, "a", size=it),
        lambda it: Cache(runtime, "a", ttl=it),
        cache.peek,
        cache.invalidate,
        lambda it: cache.put(it, 1),
    ]
    for make in makers:
        assert sum(isinstance(made(make, nasty), SpecError) for nasty in NASTY) > 5
    await settled(runtime)
    assert all(service.alive for service in services.values())
    assert idle.alive


def test_what_is_no_key_is_said() -> None:
    for key in (1, "a", (1, ("b", frozenset({2}))), int, object(), 0.5):
        assert usable_key("key", key) is key
    for key, why in (
        ([], "dictionary key"),
        (Evil(), "raises RuntimeError"),
        ((1, math.nan), "nan is not equal to itself"),
        (frozenset({math.nan}), "not equal to itself"),
        (Everything(), "or is to everything"),
        (nested(100), "less than 50 levels"),
    ):
        with pytest.raises(BadOption, match=why):
            usable_key("key", key)


def test_numbers_are_finite() -> None:
    for nasty in (math.nan, math.inf, 10**400, True, "1", None, -1):
        for check in (above_zero, from_zero, whole):
            with pytest.raises(BadOption, match="x"):
                check("x", nasty)
    assert (above_zero("x", 0.5), from_zero("x", 0), whole("x", 3)) == (0.5, 0, 3)
    for nasty in ("", None, 5):
        with pytest.raises(BadOption):
            text("x", nasty)


class Sizeless:
    """Does not say how large it is."""

    def __sizeof__(self) -> int:
        raise RuntimeError("no size")


async def test_what_does_not_say_its_size_or_has_no_end(runtime: Runtime, services: dict[str, Ref]) -> None:
    directory, idle = Directory.of(runtime, "many"), await runtime.spawn(Idle)
    assert (await directory.register("a", idle, {"x": Sizeless()})).key == "a"
    with pytest.raises(BadMetadata, match="looking at them raises"):
        await directory.update("a", {"x": endless()})
    await directory.register("b", idle, {"n": 1})
    await directory.register("b", idle, {"n": 2})
    with pytest.raises(BadMetadata, match="can be compared"):
        await directory.update("b", {"n": 1j})
    assert [entry.metadata["n"] for entry in directory.lookup_all("b")] == [1, 2]
    assert services["many"].alive


async def test_times_with_and_without_a_zone_are_kept_apart(runtime: Runtime, services: dict[str, Ref]) -> None:
    directory, idle = Directory.of(runtime), await runtime.spawn(Idle)
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC).replace(tzinfo=None)
    values: list[Any] = [noon, noon.replace(tzinfo=UTC), noon.time(), (1, "a"), ("a", 1), (1, 2), b"x", noon.date()]
    for n, value in enumerate(values):
        await directory.register(n, idle, {"n": [value]})
    for n, value in enumerate(values):
        assert [entry.key for entry in directory.select(Field("n") >= value)] == [n]
        assert [entry.key for entry in directory.select(Field("n") == value)] == [n]
    assert len(directory.select(order_by="n", limit=20)) == len(values)
    await directory.register("one", idle, {"n": 1, "m": 1})
    assert directory.select(Field("n") > Liar(3)) == directory.select(Field("m") > Liar(3)) == []
    for equal in (1.0, True, Decimal(1), Fraction(1), 1 + 0j):
        assert [entry.key for entry in directory.select(Field("n") == equal)] == ["one"], "one value, one entry"
    assert services["registry"].alive


@pytest.mark.parametrize(
    "keys", [(1, 1.0, True, Decimal(1), Fraction(1), 1 + 0j), (-1, -1.0), (2**61, 2.0**61), (0.5,)]
)
async def test_equal_keys_are_one_key_in_every_number_of_parts(runtime: Runtime, keys: tuple[Any, ...]) -> None:
    await runtime.spawn(PartitionedRegistry, 7)
    directory, idle = PartitionedDirectory.of(runtime, 7), await runtime.spawn(Idle)
    for key in (*keys, *((key, "nested") for key in keys)):
        await directory.register(key, idle)
        for other in keys:
            found = directory.lookup((other, "nested") if isinstance(key, tuple) else other)
            assert found is not None
            assert found.key == key
        for other in keys:
            answer = await answered(directory.register((other, "nested") if isinstance(key, tuple) else other, idle))
            assert isinstance(answer, KeyTaken)
        await directory.unregister(key)


async def test_one_agents_odd_numbers_are_no_trouble_for_others(runtime: Runtime) -> None:
    await runtime.spawn(Registry)
    directory = Directory.of(runtime)
    for n, used in enumerate((0.9, "high", 0.2, math.nan, 10**400, {"a": 1}, True)):
        card = {"capabilities": ["solve"], "health": "healthy", "resources": {"memory_usage": used}}
        await directory.register(n, await runtime.spawn(Idle), card)
    await directory.register("ill", await runtime.spawn(Idle), {"node": {"a": [1]}})
    discovery = Discovery(directory)
    assert [entry.key for entry in discovery.least_loaded("solve", 3)] == [2, 0, 1]
    assert discovery.utilisation("memory_usage") == {"memory_usage": pytest.approx(0.55)}
    assert discovery.health().by_node == {}


async def test_a_listener_that_is_none_is_told_at_the_start(runtime: Runtime) -> None:
    with pytest.raises(SpecError, match="listeners"):
        await runtime.spawn(Registry, listeners=[""])
    await advance(0.0)
    assert asyncio.all_tasks()
