"""What surrounds each run of a served program: what is done about unreadable answers, and errors as the platform's."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import dspy

from dspex._compat import OVERLOADED, PARSING, UNREACHABLE, retry_hint
from dspex.agents.concurrency import AnswerTimeLimit
from dspex.parsing.adapter import guarded
from dspex.parsing.errors import PromptTooLong, UnparsedAnswer
from dspex.parsing.events import ParsingReporter
from dspex.parsing.lenient import wrong_fields
from dspex.parsing.steps import OnUnparsed
from foundation.options import above_zero
from foundation.programs import Busy, OutOfTime, Unanswered, Unavailable


class RunGuard:
    """Knows what counts for the runs of one program.

    Args:
        unparsed: what is done about answers that cannot be read; see `OnUnparsed.of`.
        timeout: seconds that a request may take, waiting included; None for any time.

    Raises:
        BadOption: that makes no sense.
    """

    def __init__(self, unparsed: Any, timeout: float | None) -> None:
        self._policy = OnUnparsed.of(unparsed)
        self._timeout = None if timeout is None else above_zero("timeout", timeout)
        self._adapters: tuple[Any, Any] = (None, None)

    def time_limit(self) -> AnswerTimeLimit | None:
        """Return the time limit of a request that has just come."""
        return None if self._timeout is None else AnswerTimeLimit(self._timeout)

    def settings(self, found: Mapping[str, Any], reporter: ParsingReporter) -> dict[str, Any]:
        """Return the settings of a run, with the policy."""
        adapter = found.get("adapter", dspy.settings.adapter)
        given, made = self._adapters
        if made is None or given is not adapter:
            made = guarded(adapter or dspy.ChatAdapter(), self._policy)
            self._adapters = adapter, made
        return {**found, "adapter": made, PARSING: reporter}


@contextmanager
def platform_errors(limit: AnswerTimeLimit | None, reporter: ParsingReporter) -> Generator[None]:
    """Turn what ends a run into the errors that the platform knows.

    Raises:
        Busy, Unavailable: the language model takes no more, or cannot be reached.
        Unanswered: it has given nothing that is of use.
        OutOfTime: the run took too long.
    """
    try:
        yield
    except asyncio.CancelledError:
        if limit is not None and limit.passed:
            raise OutOfTime(limit.seconds) from None
        raise
    except Unanswered:
        raise
    except dspy.AdapterParseError as error:
        raise UnparsedAnswer(error, wrong_fields(error.signature, error)) from None
    except dspy.ContextWindowExceededError as error:
        raise PromptTooLong(error) from None
    except OVERLOADED as error:
        hint = retry_hint(error)
        raise Busy(f"its language model takes no more: {error}", 1.0 if hint is None else hint) from error
    except UNREACHABLE as error:
        raise Unavailable(f"its language model cannot be reached: {error}") from error
    finally:
        reporter.wanted = False
