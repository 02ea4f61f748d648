"""Checks of a contract, which any backend can be run through."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec


class ContractCheck(msgspec.Struct, frozen=True):
    """One check of a contract: call it, and await it. Its name says what is promised.

    Raises:
        AssertionError: what is checked does not keep it.
    """

    name: str
    _check: Callable[[Any], Coroutine[Any, Any, None]]
    _make: Callable[[], Any]

    def __str__(self) -> str:
        """Show its name."""
        return self.name

    async def __call__(self) -> None:
        """Check a fresh one."""
        made = self._make()
        try:
            await self._check(made)
        finally:
            getattr(made, "close", lambda: None)()


def same(what: str, found: object, expected: object) -> None:
    """Check that something is as expected.

    Raises:
        AssertionError: it is not.
    """
    if found != expected:
        raise AssertionError(f"{what}: {found!r}, not {expected!r}")
