"""What a job does: it can be stopped at any moment, and begun again it goes on where it was."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeAlias

from dspex.jobs.spending import Payer, Spending, TokenPrice
from dspex.models.cause import away_words, failure_words
from dspex.serving.model import model_name


class ModelAway(NamedTuple):
    """A language model is away: ``why``, in words."""

    why: str


#: Told by work: its progress; that its language model is away; None when that is back.
WorkNews: TypeAlias = "dict[str, Any] | ModelAway | None"
#: Returns the settings of a job: its language model, and the adapter.
JobSettings: TypeAlias = "Callable[[], Awaitable[dict[str, Any]]]"


class JobWork:
    """The work on one job.

    Args:
        settings: returns its language model, and the adapter.
        spending: what it has spent, and may.
        price: of its language models, if DSPy does not know it.
        told: is called with what there is to tell.
    """

    def __init__(
        self,
        settings: JobSettings,
        spending: Spending,
        price: TokenPrice | None,
        told: Callable[[WorkNews], object],
    ) -> None:
        self._settings = settings
        self.payer = Payer(spending, price, self._asked)
        self.told = told
        self._away = False
        #: Whether it is not to be begun any more.
        self.over = False
        #: The task at work; None before.
        self.task: asyncio.Task[None] | None = None

    @abstractmethod
    async def run(self) -> None:
        """Do the work, and keep what comes out."""

    async def settings(self) -> dict[str, Any]:
        """Return the language model that is asked, and the adapter; and tell which one it is."""
        found = await self._settings()
        self.told({"model": model_name(found["lm"])})
        return found

    def _asked(self, error: Exception | None, model: str) -> None:
        if error is not None or self._away:
            self._away = error is not None
            self.told(None if error is None else ModelAway(away_words(error, model, self.payer.secrets())))

    def failure(self, error: BaseException) -> tuple[str, str]:
        """Return why the work has failed, in words without secrets, and in a word."""
        return failure_words(error, self.payer.secrets(), self.payer.spending.refused_by)

    async def stop(self) -> None:
        """Stop, and wait until nothing is written any more."""
        if self.task is not None:
            if not self.task.cancelling():  # what it does at its end is not cut off
                self.task.cancel()
            await asyncio.wait([self.task])
