"""What to do while a language model is away: wait, all together, and let one ask whether it is back."""

from __future__ import annotations

from dspex._compat import is_infrastructure
from dspex.teleprompt.errors import Suspended
from dspex.teleprompt.events import OptimisationResumed, OptimisationSuspended
from dspex.workflow.retry import Retry
from dspex.workflow.suspension import Suspension
from supervision import Backoff, Runtime
from supervision.clock import seconds


class Gate(Suspension):
    """Lets calls pass while their language model is there; see `Suspension`.

    Args:
        runtime: whose clock, chance and events are used.
        patience: after how many seconds of an outage to give up; None for never.
        first: seconds until the first look.
        most: seconds between two looks, at most. What the model itself asks for (``Retry-After``) counts more.
    """

    def __init__(
        self, runtime: Runtime, patience: float | None = 600.0, first: float = 0.5, most: float = 30.0
    ) -> None:
        first, most = seconds("first", first, zero=False), seconds("most", most, zero=False)
        backoff = Backoff(first, max(first, most), jitter=0.0)
        patience = None if patience is None else seconds("patience", patience)
        super().__init__(runtime, Retry(attempts=None, backoff=backoff, patience=patience, on=is_infrastructure))

    def given_up(self, away: float, error: Exception) -> Exception:
        """Return that the optimisation is suspended."""
        return Suspended(away, error)

    def told(self, away: float, error: Exception, pause: float) -> None:
        """Tell that the model is away."""
        why = f"{type(error).__name__}: {error}"
        self._runtime.events.emit(OptimisationSuspended, why=why, seconds=away, next=pause)

    def over(self, away: float) -> None:
        """Tell that it is back."""
        self._runtime.events.emit(OptimisationResumed, seconds=away)
