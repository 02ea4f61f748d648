"""A language model whose every answer, and failure, is fixed beforehand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import dspy

from dspex._compat import lm15, streamed_words

QUESTION = "What is the capital of Freedonia?"
SECRET = "Fredville-on-Sea"


def fields(**values: object) -> str:
    """Fields as ChatAdapter reads them."""
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in values.items()) + "\n\n[[ ## completed ## ]]"


class FixedEngine:
    """Answers requests by a script, the last line of which is repeated: texts, and errors to be raised.

    Reports 5 tokens in and 2 out, as the model ``m-2026``.
    """

    supports_response_schema = False

    def __init__(self, *script: str | Exception, usage: Any = None, finish: str = "stop") -> None:
        self.script: Sequence[str | Exception] = script or (fields(reasoning="It is known.", answer=SECRET),)
        self.requests: list[Any] = []
        self._usage = lm15.Usage(5, 2, 7) if usage is None else usage
        self._finish: Any = finish

    def __deepcopy__(self, memo: dict[int, Any]) -> FixedEngine:
        return self

    def complete(self, request: Any) -> Any:
        """Answer."""
        line = self.script[min(len(self.requests), len(self.script) - 1)]
        self.requests.append(request)
        if isinstance(line, Exception):
            raise line
        message = lm15.Message.assistant([lm15.TextPart(line)])
        return lm15.Response("resp1", "m-2026", message, self._finish, self._usage)

    def stream(self, request: Any) -> Iterator[Any]:
        """Answer word by word."""
        return streamed_words(self.complete(request))


class AsyncFixedEngine:
    """The same for ``acall``."""

    def __init__(self, engine: FixedEngine) -> None:
        self._engine = engine

    def __deepcopy__(self, memo: dict[int, Any]) -> AsyncFixedEngine:
        return self

    async def complete(self, request: Any) -> Any:
        """Answer."""
        return self._engine.complete(request)

    async def stream(self, request: Any) -> AsyncIterator[Any]:
        """Answer word by word."""
        for event in self._engine.stream(request):
            yield event


def fixed_lm(engine: FixedEngine, model: str = "openai/m", **options: Any) -> Any:
    """Return the model as a ``dspy.LM``, without cache or retries unless ``options`` say otherwise."""
    defaults = {"cache": False, "num_retries": 0}
    return dspy.LM(model, engine=engine, async_engine=AsyncFixedEngine(engine), **{**defaults, **options})
