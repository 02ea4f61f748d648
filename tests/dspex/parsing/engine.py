"""A language model that says what a test tells it to, word for word."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import dspy

from dspex._compat import chat_messages, lm15, streamed_words


class Parrot:
    """An engine whose answers are given, one a request, and the last one for all that follow.

    Args:
        answers: texts; errors are raised; a pair is a text and how it ended.
    """

    supports_response_schema = False
    supported_params = ()

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.prompts: list[list[dict[str, str]]] = []
        self.requests: list[Any] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Parrot:
        return self

    @property
    def calls(self) -> int:
        """How often it was asked."""
        return len(self.prompts)

    def complete(self, request: Any) -> Any:
        """Answer a request."""
        self.requests.append(request)
        self.prompts.append(chat_messages(request))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        text, finish = answer if isinstance(answer, tuple) else (answer, "stop")
        message = lm15.Message.assistant([lm15.TextPart(text)])
        return lm15.Response("known", request.model, message, finish, lm15.Usage(5, 2, 7))

    def stream(self, request: Any) -> Iterator[Any]:
        """Answer word by word."""
        return streamed_words(self.complete(request))

    def lm(self, name: str = "known/parrot", **options: Any) -> Any:
        """Return it as a language model."""
        return dspy.LM(
            name, engine=self, async_engine=AsyncParrot(self), **{"cache": False, "num_retries": 0, **options}
        )


class AsyncParrot:
    """The same for ``acall``."""

    supports_response_schema = False
    supported_params = ()

    def __init__(self, parrot: Parrot) -> None:
        self._parrot = parrot

    def __deepcopy__(self, memo: dict[int, Any]) -> AsyncParrot:
        return self

    async def complete(self, request: Any) -> Any:
        """Answer a request."""
        return self._parrot.complete(request)

    async def stream(self, request: Any) -> AsyncIterator[Any]:
        """Answer word by word."""
        for event in self._parrot.stream(request):
            yield event
