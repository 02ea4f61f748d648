"""The suspension of an optimisation while its language model is unavailable: its patience, events and error."""

from __future__ import annotations

from dspex._compat import is_away
from dspex.teleprompt.errors import ModelUnavailable
from dspex.teleprompt.events import OptimisationResumed, OptimisationSuspended
from dspex.workflow.retry import RetryPolicy
from dspex.workflow.suspension import Suspension
from supervision import Backoff, Runtime
from supervision.clock import seconds


def is_outage(error: BaseException) -> bool:
    """Return whether an error says that something is away that may come back: a language model, or a connection."""
    return is_away(error) or isinstance(error, ConnectionError)


class ModelSuspension(Suspension):
    """Lets calls pass while their language model is available; see `Suspension`.

    Args:
        runtime: whose clock, chance and events are used.
        patience: after how many seconds of an outage to give up; None for never.
        first: seconds until the first probe.
        most: seconds between two probes, at most. What the model itself asks for (``Retry-After``) counts more.
    """

    def __init__(
        self, runtime: Runtime, patience: float | None = 600.0, first: float = 0.5, most: float = 30.0
    ) -> None:
        first, most = seconds("first", first, zero=False), seconds("most", most, zero=False)
        backoff = Backoff(first, max(first, most), jitter=0.0)
        patience = None if patience is None else seconds("patience", patience)
        super().__init__(runtime, RetryPolicy(attempts=None, backoff=backoff, patience=patience, on=is_outage))

    def give_up_error(self, seconds: float, error: Exception) -> Exception:
        """Return that the optimisation is suspended."""
        return ModelUnavailable(seconds, error)

    def on_suspended(self, seconds: float, error: Exception, pause: float) -> None:
        """Emit that the model is unavailable."""
        why = f"{type(error).__name__}: {error}"
        self._runtime.events.emit(OptimisationSuspended, why=why, seconds=seconds, next=pause)

    def on_resumed(self, seconds: float) -> None:
        """Emit that it is available again."""
        self._runtime.events.emit(OptimisationResumed, seconds=seconds)
