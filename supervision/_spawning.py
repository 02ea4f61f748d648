"""How type checkers see the functions that start actors: with the arguments of the class that is started."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from supervision.actor import Actor

P = ParamSpec("P")
A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Spawn(Protocol[R_co]):
    """Starts an actor of a class with the arguments that the class takes.

    Without a name, all arguments are checked. A ``name`` beside them is more than Python's types can say (nothing may
    stand between ``*args`` and ``**kwargs`` of a `ParamSpec`): then the first two are checked, and the rest when the
    actor is made.
    """

    @overload
    def __call__(self, kind: Callable[P, Actor], /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(  # type: ignore[overload-cannot-match] # mypy takes any name for one of the class's arguments
        self, kind: Callable[..., Actor], /, *, name: str | None, timeout: float | None = ..., **kwargs: Any
    ) -> R_co: ...
    @overload
    def __call__(
        self,
        kind: Callable[Concatenate[A, ...], Actor],
        argument: A,
        /,
        *,
        name: str | None,
        timeout: float | None = ...,
        **kwargs: Any,
    ) -> R_co: ...
    @overload
    def __call__(
        self,
        kind: Callable[Concatenate[A, B, ...], Actor],
        first: A,
        second: B,
        /,
        *others: Any,
        name: str | None,
        timeout: float | None = ...,
        **kwargs: Any,
    ) -> R_co: ...
    @overload
    def __call__(  # type: ignore[overload-cannot-match] # the same
        self, kind: Callable[..., Actor], /, *args: Any, timeout: float | None, **kwargs: Any
    ) -> R_co: ...


def spawning(function: Callable[..., R]) -> Spawn[R]:
    """Mark a function that starts actors; it stays what it is."""
    return function
