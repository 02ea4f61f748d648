"""The gateway's actor: it configures the router, and writes down what is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspex.models.gateway.budget import UsageFile
from dspex.models.gateway.router import GATEWAY, ModelRouter
from dspex.models.gateway.settings import BadGateway, Model, endpoints_of, models_of
from dspex.models.local.server import LANGUAGE_MODEL
from foundation.naming import own_name
from foundation.protection import Breakers
from supervision import ExitReason, Message, Refuse, Request, handle
from supervision.logs import get_logger

_log: Any = get_logger("dspex")

#: Seconds between two looks whether anything was used.
_WRITE_INTERVAL = 1.0


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


class WriteUsage(Message, frozen=True):
    """Write down what was used."""


class Gateway(Breakers):
    """One place for all language models: limits, budgets, circuit breakers, fallbacks and hedging.

    A program asks it as it asks any language model: `gateway_lm` returns one, and ``gateway/NAME`` is a model string
    for `dspex.ProgramActor`. Requests do not go through its mailbox; it keeps the table that says who answers, and the
    state of the breakers. What was used belongs to the runtime, and is not forgotten when this actor restarts. It is
    named ``gateway`` unless started with another name.

    Args:
        endpoints: what can answer: an `Endpoint`, or a mapping with its fields, by name.
        models: what can be asked: a `Model`, or a mapping with its fields, by name.
        server: under which name the embedded language model is found.
        usage_file: keeps what was used, so that budgets survive a restart of the process; written every second in which
            anything was used. None to forget it when the process ends.

    Raises:
        BadGateway: at its start, if an endpoint or a model makes no sense.
    """

    default_name = GATEWAY
    trap_exit = True

    def __init__(
        self,
        endpoints: Mapping[str, Any],
        models: Mapping[str, Any],
        *,
        server: str = LANGUAGE_MODEL,
        usage_file: str | Path | None = None,
    ) -> None:
        self._given = (endpoints, models)
        self._usage_file = usage_file
        self._server = server

    def init(self) -> None:
        """Take over what there is, or begin."""
        super().init()
        name = own_name(self, GATEWAY)
        self._router: ModelRouter = self.runtime.shared.setdefault((ModelRouter, name), ModelRouter(self.runtime, name))
        if self._router.given != self._given:
            endpoints, models = self._given
            self._install(endpoints, models)
        self._file = None if self._usage_file is None else UsageFile(Path(self._usage_file), self.runtime.clock)
        if self._file is not None:
            if self._router.given is None:
                self._file.read(self._router.usages)
            self.send_interval(_WRITE_INTERVAL, WriteUsage())
        self._router.given = self._given

    def _install(self, endpoints: Mapping[str, Any], models: Mapping[str, Any]) -> None:
        found = endpoints_of(endpoints)
        self._router.install(found, models_of(models, found), self._server)

    @handle
    def write_usage(self, message: WriteUsage) -> None:
        """Write down what was used."""
        if self._file is None:
            return
        try:
            self._file.write(self._router.usages)
        except OSError as error:
            _log.error("usage_not_written", file=str(self._usage_file), error=str(error))

    def terminate(self, reason: ExitReason) -> None:
        """Write down what was used."""
        self.write_usage(WriteUsage())

    @handle
    def configure(self, request: Configure) -> None:
        """Change endpoints and models."""
        known = {name: guarded.endpoint for name, guarded in self._router.endpoints.items()}
        try:
            self._install({**known, **request.endpoints}, {**self._router.models, **request.models})
        except BadGateway as error:
            raise Refuse(error) from None

    @handle
    def describe_models(self, request: DescribeModels) -> Mapping[str, Model]:
        """Say which models there are."""
        return self._router.models

    def summary(self) -> Mapping[str, object]:
        """Return which endpoints answer each model, for ``/tree``."""
        return self._router.summary()
