"""A budget for the calls of work, in dollars and in their number: reserved before a call, settled after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from dspex._compat import DirectLM, answer_cost, engine_lm, is_refused, lm15, request_size, token_price
from dspex.models.cause import secrets_of
from dspex.teleprompt.errors import ModelUnavailable, OptimisationError
from dspex.teleprompt.suspension import is_outage
from foundation.options import finite, from_zero, whole
from supervision.errors import BadOption

#: So many tokens an answer may have, if neither the request nor the model says it.
ANSWER_TOKENS = 4096
#: So many characters are at least a token of a prompt, on the whole.
CHARACTERS = 2


class OverBudget(ModelUnavailable):
    """The next call may cost more than is left, or is one too many. With more money, work goes on where it was.

    Attributes:
        spending: what was spent.
    """

    answers = True

    def __init__(self, spending: Spending) -> None:
        self.spending = spending
        OptimisationError.__init__(self, spending.why_over())


class TokenPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dollars for a million tokens, ``input`` and ``output``: finite numbers from 0.

    Raises:
        BadOption: one of them is something else, with which no budget would hold.
    """

    input: float
    output: float

    def __post_init__(self) -> None:
        from_zero("price.input", self.input)
        from_zero("price.output", self.output)


class Spending:
    """What work has spent, and may spend: dollars, and calls of language models.

    Args:
        budget: dollars; None for any sum.
        spent: dollars, by earlier processes.
        save: keeps what is spent, dollars and calls; awaited after each call.
        max_calls: how many calls may be made; None for any number. Those that have failed do not count, nor those that
            were cancelled after the model had refused another one.
        calls: how many were made by earlier processes.
    """

    def __init__(
        self,
        budget: float | None,
        spent: float,
        save: Callable[[float, int], Awaitable[None]],
        *,
        max_calls: int | None = None,
        calls: int = 0,
    ) -> None:
        self.budget, self.spent = budget, spent
        self.max_calls, self.calls = max_calls, calls
        #: The name of the model that was the last to refuse a call altogether; empty if none has.
        self.refused_by = ""
        self._save = save
        self._reserved = 0.0
        self._asking = 0
        self._settled = asyncio.Event()

    def _over(self, dollars: float, calls: int) -> bool:
        """Whether so much more would be too much."""
        if self.max_calls is not None and self.calls + calls > self.max_calls:
            return True
        return self.budget is not None and self.spent + dollars > self.budget

    def why_over(self) -> str:
        """Return why the next call may not be made."""
        if self.max_calls is not None and self.calls >= self.max_calls:
            return f"{self.calls} of {self.max_calls} calls are made"
        return f"${self.spent:.4f} of ${self.budget or 0.0:.4f} are spent, and the next call may cost more"

    async def reserve(self, dollars: float) -> None:
        """Reserve what a call may cost at most. While it depends on calls under way, wait for them.

        Raises:
            OverBudget: that is more than is left.
        """
        while self._over(self._reserved + dollars, self._asking + 1):
            if self._over(dollars, 1):
                raise OverBudget(self)
            self._settled.clear()
            await self._settled.wait()
        self._reserved += dollars
        self._asking += 1

    async def settle(self, reserved: float, dollars: float, calls: int = 1) -> None:
        """Give back what was reserved, and spend what the call has cost; it counts as so many."""
        self._reserved -= reserved
        self._asking -= 1
        self.spent += dollars
        self.calls += calls
        self._settled.set()
        if dollars or calls:
            await self._save(self.spent, self.calls)


class PaidModel:
    """A language model whose calls are paid out of a budget. Outages, and their end, are told.

    Args:
        lm: the language model.
        price: what it costs, if DSPy does not know.
        spending: pays.
        told: is called with an error when the model is away, and with None after each answer; and with its name.

    Raises:
        BadOption: there is a budget, and the price is not known.
    """

    def __init__(
        self, lm: Any, price: TokenPrice | None, spending: Spending, told: Callable[[Exception | None, str], object]
    ) -> None:
        known = token_price(lm) if price is None else (price.input, price.output)
        if spending.budget is not None and known is None:
            raise BadOption("budget", spending.budget, f"give the price of {lm.model!r}: DSPy does not know it")
        self._price = known or (0.0, 0.0)
        self._given = price
        self._limit = lm.kwargs.get("max_tokens") or lm.kwargs.get("max_completion_tokens") or ANSWER_TOKENS
        self._asked = DirectLM(lm)
        self._spending = spending
        self._told = told
        self._outages = self._refusals = 0
        self.lm = engine_lm(lm, self.answer)

    async def answer(self, request: Any) -> Any:
        """Ask the model."""
        letters, most = request_size(request)
        worst = self._dollars(letters / CHARACTERS, most or self._limit)
        await self._spending.reserve(worst)
        cost, calls, outages, refusals = 0.0, 0, self._outages, self._refusals
        try:
            response = await self._asked.ask(request)
            answered_since = self._outages == outages
            cost, calls = self._cost(request, response), 1
        except asyncio.CancelledError:
            if refusals == self._refusals:  # it has at least sent its prompt, and to nobody who refuses all
                cost, calls = self._dollars(letters / CHARACTERS, 0.0), 1
            raise
        except Exception as error:
            if is_refused(error):
                self._refusals += 1
                self._spending.refused_by = self._asked.name
            if is_outage(error):
                self._outages += 1
                self._told(error, self._asked.name)
            raise
        finally:
            await asyncio.shield(self._spending.settle(worst, cost, calls))
        if answered_since:  # one that was on its way when the model went away does not say that it is back
            self._told(None, self._asked.name)
        return response

    def _dollars(self, sent: float, written: float) -> float:
        return (sent * self._price[0] + written * self._price[1]) / 1e6

    def _cost(self, request: Any, response: Any) -> float:
        known = answer_cost(self._asked.lm, request, response) if self._given is None else None
        usage = response.usage or lm15.Usage()
        return self._dollars(usage.input_tokens or 0, usage.output_tokens or 0) if known is None else known


class Payer:
    """Pays for all language models of a piece of work.

    Args:
        spending: what was spent, and may be.
        price: of the models that DSPy does not know.
        told: see `PaidModel`.
    """

    def __init__(
        self,
        spending: Spending,
        price: TokenPrice | None = None,
        told: Callable[[Exception | None, str], object] = lambda *_: None,
    ) -> None:
        self.spending = spending
        self._price, self._told = price, told
        #: The models that are paid for, with those that are given instead.
        self._paid: dict[int, tuple[Any, Any]] = {}

    def paid(self, lm: Any) -> Any:
        """Return a language model that answers as another one, and is paid for; None for None, itself if it is one.

        Raises:
            BadOption: there is a budget, and its price is not known.
        """
        if lm is None or any(lm is paid for _, paid in self._paid.values()):
            return lm
        if id(lm) not in self._paid:
            self._paid[id(lm)] = lm, PaidModel(lm, self._price, self.spending, self._told).lm
        return self._paid[id(lm)][1]

    def unpaid(self, lm: Any) -> Any:
        """Return the language model in whose place another one answers; itself if it is none of these."""
        return next((given for given, paid in self._paid.values() if paid is lm), lm)

    def secrets(self) -> set[str]:
        """Return what of the settings of these models is secret."""
        return {secret for lm, _ in self._paid.values() for secret in secrets_of(lm)}


def checked_budget(budget: Any) -> float | None:
    """Return a budget.

    Raises:
        BadOption: it is no sum of money.
    """
    if budget is None:
        return None
    number = finite(budget)
    if number is None or number < 0:
        raise BadOption("budget", budget, "give dollars, 0 or more")
    return float(number)


def checked_calls(max_calls: Any) -> int | None:
    """Return how many calls may be made.

    Raises:
        BadOption: it is no number of calls.
    """
    return None if max_calls is None else whole("max_calls", max_calls, 0)
