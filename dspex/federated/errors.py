"""What goes wrong in federations."""

from __future__ import annotations

from collections.abc import Sequence

from supervision.errors import SpecError


class BadFederation(SpecError):
    """A federation, a rule of it or a client cannot be made of this."""


class BadUpdate(ValueError):
    """What a client has reported cannot be used: ``why``."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


class CannotMerge(Exception):
    """Nothing can be made of the reports of a round, which is void therefore: ``why``."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


class TooFewClients(Exception):
    """A round could not begin: too few clients were there when the patience was over.

    Attributes:
        there: who was.
        needed: how many had to be.
        seconds: how long was waited for them.
    """

    def __init__(self, there: Sequence[str], needed: int, seconds: float) -> None:
        self.there, self.needed, self.seconds = tuple(there), needed, seconds
        super().__init__(
            f"{len(self.there)} of {needed} clients were there after {seconds:g} s ({', '.join(there) or 'nobody'}); "
            "start the others, or lower `connected`, and resume"
        )


class StaleRound(Exception):
    """A client has seen a later fence of this federation: whoever asks has been succeeded.

    Attributes:
        federation: its name.
        fence: with which was asked.
        seen: the latest one.
    """

    def __init__(self, federation: str, fence: int, seen: int) -> None:
        self.federation, self.fence, self.seen = federation, fence, seen
        super().__init__(f"{federation} asked with fence {fence}, and {seen} was there: somebody else coordinates it")
