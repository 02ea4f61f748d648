"""The actor that the gateway is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex.gateway.settings import BadGateway, Model, endpoints_of, models_of
from dspex.gateway.switchboard import GATEWAY, Switchboard
from dspex.local.address import LANGUAGE_MODEL
from foundation.naming import own_name
from foundation.protection import Breakers
from supervision import Refuse, Request, handle


class DescribeModels(Request[Mapping[str, Model]], frozen=True):
    """Ask which models there are, and who answers them."""


class Configure(Request[None], frozen=True):
    """Change endpoints and models while they are used. Those that are not named stay as they are.

    What has been used counts towards the new limits. Refused with `BadGateway`, and nothing changed, if it makes no
    sense. A change holds over restarts of the gateway's actor, until it is started with other arguments.

    Attributes:
        endpoints: by name; a name that is new adds one.
        models: by name; a name that is new adds one.
    """

    endpoints: Mapping[str, Any] = {}
    models: Mapping[str, Any] = {}


class Gateway(Breakers):
    """One place for all language models: limits, budgets, circuit breakers, fallbacks and hedging.

    A program asks it as it asks any language model: `gateway_lm` returns one, and ``gateway/NAME`` is a model string
    for `dspex.ProgramActor`. Requests do not go through its mailbox; it keeps the table that says who answers, and the
    state of the breakers. What was used belongs to the runtime: it is not forgotten when this actor restarts, but when
    the process ends. It is named ``gateway`` unless started with another name.

    Args:
        endpoints: what can answer: an `Endpoint`, or a mapping with its fields, by name.
        models: what can be asked: a `Model`, or a mapping with its fields, by name.
        server: under which name the embedded language model is found.

    Raises:
        BadGateway: at its start, if an endpoint or a model makes no sense.
    """

    default_name = GATEWAY

    def __init__(
        self, endpoints: Mapping[str, Any], models: Mapping[str, Any], *, server: str = LANGUAGE_MODEL
    ) -> None:
        self._given = (endpoints, models)
        self._server = server

    def init(self) -> None:
        """Take over what there is, or begin."""
        super().init()
        name = own_name(self, GATEWAY)
        self._board: Switchboard = self.runtime.shared.setdefault((Switchboard, name), Switchboard(self.runtime, name))
        if self._board.given != self._given:
            endpoints, models = self._given
            self._install(endpoints, models)
            self._board.given = self._given

    def _install(self, endpoints: Mapping[str, Any], models: Mapping[str, Any]) -> None:
        found = endpoints_of(endpoints)
        self._board.install(found, models_of(models, found), self._server)

    @handle
    def configure(self, request: Configure) -> None:
        """Change endpoints and models."""
        known = {name: lane.endpoint for name, lane in self._board.lanes.items()}
        try:
            self._install({**known, **request.endpoints}, {**self._board.models, **request.models})
        except BadGateway as error:
            raise Refuse(error) from None

    @handle
    def describe_models(self, request: DescribeModels) -> Mapping[str, Model]:
        """Say which models there are."""
        return self._board.models

    def summary(self) -> Mapping[str, object]:
        """Tell who answers what, for ``/tree``."""
        return self._board.summary()
