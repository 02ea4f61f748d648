"""Checks of options that several rules have."""

from __future__ import annotations

from dspex.federated.errors import BadFederation
from foundation.options import finite


def kept_share(what: str, value: float) -> None:
    """Make sure that an option is a share from 0 to below 1.

    Raises:
        BadFederation: it is not.
    """
    if (found := finite(value)) is None or not 0 <= found < 1:
        raise BadFederation(what, value, "give a share from 0 to below 1")


def trimmed_share(what: str, value: float) -> None:
    """Make sure that an option is a share that can be left out at both ends.

    Raises:
        BadFederation: it is not.
    """
    if (found := finite(value)) is None or not 0 <= found < 0.5:
        raise BadFederation(what, value, "give a share from 0 to below a half")
