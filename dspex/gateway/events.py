"""What the gateway tells."""

from __future__ import annotations

from supervision.events import Event


class FellBack(Event, frozen=True, kw_only=True):
    """An endpoint has not answered a request, and the next one of the model's chain is asked.

    Attributes:
        model: which.
        endpoint: that has not answered.
        error: why.
    """

    model: str
    endpoint: str
    error: str


class BudgetSpent(Event, frozen=True, kw_only=True):
    """A budget of an endpoint is spent, or would be by the next request; told once, until it lets something in again.

    Attributes:
        endpoint: whose.
        budget: which, such as ``dollars per day``.
        retry_after: the seconds after which there is room for the request that was turned away.
    """

    endpoint: str
    budget: str
    retry_after: float
