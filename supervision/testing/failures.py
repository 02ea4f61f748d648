"""Which failures are the same: of one kind, with one message but for its numbers; of one line, if that is empty."""

from __future__ import annotations

import re
import traceback

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"(?<![A-Za-z])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
#: Numbers in a row: which ones are missing, or how many, is chance.
_NUMBERS = re.compile(r"N(?:[,;:]?\s*N)+")


def kind_of(error: BaseException) -> tuple[str, str]:
    """Return what is the same for two failures that are the same: the class of the error, and that of its message.

    >>> kind_of(KeyError("order 17 at 0x7f3a")) == kind_of(KeyError("order 4 at 0x1"))
    True
    >>> kind_of(AssertionError("lost: [3, 4, 9]")) == kind_of(AssertionError("lost: [5]"))
    True
    >>> kind_of(AssertionError("lost: [3]")) == kind_of(AssertionError("twice: [3]"))
    False
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    first = str(error).partition("\n")[0]
    text = _NUMBERS.sub("N", _NUMBER.sub("N", _ADDRESS.sub("N", first)))
    return type(error).__qualname__, text or _line(error)


def _line(error: BaseException) -> str:
    """Return the line that raised an error."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
