"""Configuration of the gateway: endpoints, with their limits, and models, which are chains of endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import dspy
import msgspec
from msgspec import Meta

from foundation.protection import BreakerOptions

T = TypeVar("T")
Above = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(gt=0)]

MINUTE = 60.0
#: Periods that have a name, in seconds.
PERIODS = {"minute": MINUTE, "hour": 3600.0, "day": 86_400.0, "week": 604_800.0}


class BadGateway(ValueError):
    """An endpoint or a model of the gateway makes no sense: ``value`` is what was given, ``remedy`` what to do."""

    def __init__(self, where: str, value: object, remedy: str) -> None:
        self.where = where
        self.value = value
        self.remedy = remedy
        super().__init__(f"{where}: {value!r}: {remedy}")


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an endpoint costs, in dollars for a million tokens: of what is sent (``input``) and written (``output``)."""

    input: Annotated[float, Meta(ge=0)]
    output: Annotated[float, Meta(ge=0)]

    def of(self, sent: float, written: float) -> float:
        """Return the price of so many tokens, in dollars."""
        return (sent * self.input + written * self.output) / 1e6


class UsageBudget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an endpoint may use in any period of this length.

    Attributes:
        requests: how many; None for any number.
        tokens: sent and written, together.
        dollars: how many.
        per: the length, in seconds, or ``minute``, ``hour``, ``day`` or ``week``. It slides: what was used counts until
            it is as old as that.
    """

    requests: Count | None = None
    tokens: Count | None = None
    dollars: Above | None = None
    per: Above | str = "day"

    @property
    def seconds(self) -> float:
        """The length of the period."""
        return PERIODS[self.per] if isinstance(self.per, str) else self.per


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that answers: a language model at one provider, under one account.

    Attributes:
        lm: a ``dspy.BaseLM``; or its model string, such as ``openai/gpt-4.1-mini``; or ``local``, the embedded model.
        options: for ``dspy.LM``, if ``lm`` is a string, such as ``api_base`` or ``max_tokens``.
        requests_per_minute: at most.
        tokens_per_minute: at most, sent and written, together.
        at_once: so many requests may be on their way; None for any number.
        waiting: so many more may wait for one of them to end.
        budgets: what it may use.
        price: what it costs; None for what DSPy knows of it.
        timeout: seconds that an answer may take; None for any time.
        retries: how often a request that has failed is sent here again, before the next endpoint is asked.
        breaker: when it is left alone, because it fails too often.
    """

    lm: Any
    options: dict[str, Any] = {}
    requests_per_minute: Above | None = None
    tokens_per_minute: Above | None = None
    at_once: Count | None = None
    waiting: Annotated[int, Meta(ge=0)] = 0
    budgets: tuple[UsageBudget, ...] = ()
    price: Price | None = None
    timeout: Above | None = None
    retries: Annotated[int, Meta(ge=0)] = 0
    breaker: BreakerOptions = BreakerOptions()


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name under which programs ask, and who answers.

    Attributes:
        endpoints: their names, in the order in which they are asked: the next one if one fails, or may not be asked.
        hedge: seconds after which a slow request is sent to the next one as well; the first answer counts. None for
            never.
    """

    endpoints: tuple[str, ...]
    hedge: Above | None = None


def endpoints_of(given: Mapping[str, Any]) -> dict[str, Endpoint]:
    """Return what was given as endpoints, checked.

    Raises:
        BadGateway: it makes no sense.
    """
    found = _converted("endpoint", given, Endpoint)
    for name, endpoint in found.items():
        if not isinstance(endpoint.lm, (str, dspy.BaseLM)) or endpoint.lm == "":
            raise BadGateway(f"endpoint {name!r}: lm", endpoint.lm, "give a dspy.BaseLM, or its model string")
        for option in endpoint.breaker.__struct_fields__:
            if not getattr(endpoint.breaker, option) > 0:
                raise BadGateway(f"endpoint {name!r}: breaker", endpoint.breaker, f"give {option} above 0")
        for budget in endpoint.budgets:
            if isinstance(budget.per, str) and budget.per not in PERIODS:
                raise BadGateway(f"endpoint {name!r}: per", budget.per, f"give seconds, or one of {', '.join(PERIODS)}")
    return found


def models_of(given: Mapping[str, Any], endpoints: Mapping[str, Any]) -> dict[str, Model]:
    """Return what was given as models, checked.

    Args:
        given: by name.
        endpoints: those there are.

    Raises:
        BadGateway: it makes no sense.
    """
    found = _converted("model", given, Model)
    for name, model in found.items():
        if not model.endpoints:
            raise BadGateway(f"model {name!r}: endpoints", (), "name at least one")
        for endpoint in model.endpoints:
            if endpoint not in endpoints:
                raise BadGateway(f"model {name!r}: endpoint", endpoint, f"choose among {', '.join(endpoints)}")
    return found


def _converted(what: str, given: Mapping[str, Any], kind: type[T]) -> dict[str, T]:
    found: dict[str, T] = {}
    for name, value in given.items():
        try:
            found[name] = msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise BadGateway(f"{what} {name!r}", value, str(error)) from None
    return found
