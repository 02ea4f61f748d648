"""What can go wrong between a program's caller and the agent that runs it.

All are failures of the infrastructure, never of the program: ``dspy.is_retryable_lm_error`` says of each that it is
worth another try, so code that is written for DSPy treats them as it treats a broken connection.
"""

from __future__ import annotations

import dspy


class AgentDown(dspy.LMTransportError):  # type: ignore[misc]
    """The agent that was to run the program died, or does not run, and no other came in time."""


class AgentTimeout(dspy.LMTimeoutError):  # type: ignore[misc]
    """The agent has not answered within the time that the caller gave it."""


class MailboxFull(dspy.LMTransportError):  # type: ignore[misc]
    """The agent has as much to do as it may have."""
