"""Nasty arguments: what a caller sends by mistake or in malice, and no service may be harmed by.

`NASTY` is a fixed collection, the same in each run; `nasty` is a strategy of hypothesis with it and much more.

>>> sorted(NASTY)[:3]
['a blank', 'a bytearray', 'a class']
>>> NASTY["ten to the 400"]() == 10**400
True
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NoReturn

from supervision.errors import SupervisionError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

#: How deep what is nested is nested: deeper than Python's limit of recursion.
DEEP = 5_000
#: How long what is long is.
LONG = 1_000_000


class NastyError(Exception):
    """What nasty objects raise."""


class MissingHypothesis(SupervisionError, ImportError):
    """The strategy needs hypothesis, which is not installed."""


def _raise(*_: object, **__: object) -> NoReturn:
    raise NastyError("a nasty object")


def _pretty(self: object, printer: Any, _: bool) -> None:
    # What hypothesis shows when a test has failed.
    printer.text(f"<nasty {type(self).__name__}>")


def _spiteful(*names: str, like: object = None) -> Callable[[], Any]:
    """Return what makes objects, some methods of which raise; their hash is that of ``like``, if anything."""
    methods: dict[str, Any] = {"_repr_pretty_": _pretty, **dict.fromkeys(names, _raise)}
    if like is not None:
        methods["__hash__"] = lambda _: hash(like)
    elif "__eq__" in names and "__hash__" not in names:
        methods["__hash__"] = object.__hash__
    return type("Spiteful", (), methods)


class _Number(float):
    """A number that cannot be compared."""

    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = _raise
    __hash__ = float.__hash__


class _Text(str):
    """A text that cannot be shown."""

    __slots__ = ()
    __str__ = __repr__ = __format__ = _raise
    _repr_pretty_ = _pretty


class _Changing:
    """An object whose hash is another one each time."""

    def __init__(self) -> None:
        self._hash = 0

    def __hash__(self) -> int:
        self._hash += 1
        return self._hash

    def __eq__(self, other: object) -> bool:
        return False


class _Mapping(dict[str, Any]):
    """A mapping that does not tell what is in it."""

    __iter__ = __getitem__ = __len__ = keys = items = values = _raise
    _repr_pretty_ = _pretty


class _Agreeing:
    """An object that is equal to everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("x")


def _nested_list() -> Any:
    value: Any = []
    for _ in range(DEEP):
        value = [value]
    return value


def _nested_tuple() -> Any:
    value: Any = ()
    for _ in range(DEEP):
        value = (value,)
    return value


def _in_itself() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


async def _coroutine_function() -> None:
    """Do nothing."""


#: Nasty arguments: by their names, functions that make them anew.
NASTY: Mapping[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "not a number": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "less than anything": lambda: float("-inf"),
    "minus one": lambda: -1,
    "zero": lambda: 0,
    "minus zero": lambda: -0.0,
    "a half": lambda: 0.5,
    "the smallest fraction": lambda: 5e-324,
    "the largest fraction": lambda: 1.7976931348623157e308,
    "true": lambda: True,
    "false": lambda: False,
    "ten to the 400": lambda: 10**400,
    "minus ten to the 400": lambda: -(10**400),
    "two to the 64": lambda: 2**64,
    "a decimal that is no number": lambda: Decimal("sNaN"),
    "a decimal": lambda: Decimal("1.5"),
    "a huge fraction": lambda: Fraction(10**400, 3),
    "a complex number": lambda: 1j,
    "a number that cannot be compared": lambda: _Number(1.0),
    "no text": lambda: "",
    "a blank": lambda: " ",
    "a null character": lambda: "\0",
    "a lone surrogate": lambda: "\ud800",
    "a long text": lambda: "x" * LONG,
    "a text that cannot be shown": lambda: _Text("x"),
    "a text that turns around": lambda: "\u202eabc",
    "a path out of here": lambda: "../../../nowhere/at/all",
    "no bytes": lambda: b"",
    "long bytes": lambda: b"\xff" * LONG,
    "a bytearray": lambda: bytearray(b"x"),
    "a list": list,
    "a list of lists": _nested_list,
    "a list in itself": _in_itself,
    "a tuple": tuple,
    "a tuple of tuples": _nested_tuple,
    "a tuple of equals": lambda: (1, 1.0, True),
    "a tuple with a list": lambda: ([],),
    "a mapping": dict,
    "a mapping with odd keys": lambda: {None: 1, 1: 2, (): 3, float("nan"): 4},
    "a mapping that tells nothing": _Mapping,
    "a set": set,
    "a set with something": lambda: {1, "a"},
    "an object": object,
    "a class": lambda: object,
    "a function": lambda: lambda *_, **__: None,
    "a function that raises": lambda: _raise,
    "a coroutine function": lambda: _coroutine_function,
    "a generator": lambda: (number for number in range(3)),
    "an exception": lambda: NastyError("a nasty object"),
    "a class of exceptions": lambda: NastyError,
    "an object that raises when it is compared": _spiteful("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"),
    "an object that raises when it is compared, of the same hash": _spiteful("__eq__", "__ne__", like="x"),
    "an object that raises when it is hashed": _spiteful("__hash__"),
    "an object that raises when it is shown": _spiteful("__repr__", "__str__", "__format__"),
    "an object that raises when it is true": _spiteful("__bool__", "__len__"),
    "an object that raises when it is walked through": _spiteful("__iter__", "__getitem__", "__contains__", "__len__"),
    "an object that raises when it is called": _spiteful("__call__"),
    "an object that raises when it is a number": _spiteful("__float__", "__int__", "__index__", "__add__", "__radd__"),
    "an object that raises when it is looked at": _spiteful("__getattr__"),
    "an object that raises always": _spiteful(
        "__eq__", "__hash__", "__repr__", "__str__", "__bool__", "__iter__", "__lt__", "__float__", "__getattr__"
    ),
    "an object of another hash each time": _Changing,
    "an object that is equal to everything": _Agreeing,
}


def nasty() -> SearchStrategy[Any]:
    """Return a strategy of nasty arguments for hypothesis: those in `NASTY`, and numbers, texts and containers.

    What it draws may raise when it is compared, hashed, or shown: do with it nothing but pass it on.

    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5)
    ... @given(nasty())
    ... def test(value: object) -> None:
    ...     service.accept(value)

    Raises:
        MissingHypothesis: hypothesis is not installed.
    """
    try:
        from hypothesis import strategies as st
    except ImportError as error:
        raise MissingHypothesis("nasty() needs hypothesis: pip install hypothesis") from error
    fixed = st.sampled_from(sorted(NASTY)).map(lambda name: NASTY[name]())
    numbers = st.one_of(st.floats(), st.integers(), st.decimals(), st.fractions(), st.complex_numbers())
    texts = st.one_of(st.text(st.characters()), st.binary(), st.text(st.characters(categories=["Cs", "Cc", "Cf"])))
    leaves = st.one_of(fixed, numbers, texts, st.datetimes(), st.timedeltas(), st.uuids())

    def containers(inner: SearchStrategy[Any]) -> SearchStrategy[Any]:
        return st.one_of(
            st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(texts, inner, max_size=3)
        )

    return st.one_of(fixed, st.recursive(leaves, containers, max_leaves=5))
