"""Whether a rollout can be started: all of it is checked, and found out, before anything changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pkgutil import resolve_name
from typing import Any

import msgspec

from dspex.statistics import quantile_ranks
from foundation.call_records import CallRecord
from foundation.rollouts import BadRollout, Rollout, Slo

#: The calls of so many seconds before say what is slow.
RECENT = 3_600.0
#: So many calls are looked at.
MOST_CALLS = 10_000
#: What is slow is what is slower than such a share of the calls before.
SLOW = 0.95


def rollout_of(given: Any, policy: Mapping[str, Any]) -> Rollout:
    """Return how a version is to be tried.

    Args:
        given: a `Rollout`; or a table of what differs from the policy.
        policy: what a rollout of this program is unless somebody says otherwise.

    Raises:
        BadRollout: it makes no sense.
    """
    if isinstance(given, Rollout):
        return given
    if not isinstance(given, Mapping):
        raise BadRollout(f"{given!r:.200} is no rollout: give a table, such as {{version = 1}}")
    try:
        return msgspec.convert({**policy, **given}, Rollout)
    except msgspec.ValidationError as error:
        raise BadRollout(str(error)) from None


def checked_policy(given: Mapping[str, Any] | None, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return what rollouts of a program are, as it stands in a tree file.

    Raises:
        BadRollout: it makes no sense, or names a version: which that is, is said when it is started.
    """
    policy = dict(given or {})
    if "version" in policy:
        raise BadRollout(
            f"rollout: version = {policy['version']!r}: leave it out; it is named when a rollout is started"
        )
    check_metrics(rollout_of({"version": 0}, policy).slos, metrics)
    return policy


def check_key(key: str | None, inputs: Collection[str] | None) -> None:
    """Check that a program has the input that says who asks.

    Args:
        key: its name; None for none.
        inputs: those that the program declares; None if it takes any.

    Raises:
        BadRollout: it has no such input: nobody would meet the same version again.
    """
    if key is not None and inputs is not None and key not in inputs:
        there = ", ".join(inputs) or "none"
        remedy = "name one of these, or leave it out, for the header X-Session-Key"
        raise BadRollout(f"key = {key!r}: the program has no such input; there are: {there}; {remedy}")


def check_metrics(slos: Sequence[Slo], metrics: Mapping[str, Any]) -> None:
    """Check that there are the metrics that objectives name.

    Raises:
        BadRollout: there is none of that name.
    """
    for slo in slos:
        if slo.kind == "score" and slo.metric not in metrics:
            there = ", ".join(sorted(metrics)) or "none"
            raise BadRollout(f"{slo.kind}: there is no metric {slo.metric!r} for this program; there are: {there}")


def found_metrics(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the metrics of a program by their names; each is a function, or ``package.module:function``.

    Raises:
        BadRollout: there is no such function.
    """
    found = {}
    for name, metric in (given or {}).items():
        try:
            found[name] = resolve_name(metric) if isinstance(metric, str) else metric
        except (ImportError, AttributeError, ValueError) as error:
            raise BadRollout(f"metrics: {name} = {metric!r}: write package.module:function; {error}") from error
        if not callable(found[name]):
            raise BadRollout(f"metrics: {name} = {metric!r}: give a function of an example and a prediction")
    return found


def with_slowness(rollout: Rollout, version: int, calls: Sequence[CallRecord], now: float) -> Rollout:
    """Return a rollout that knows what is slow: slower than 95 % of the calls of the version that serves.

    Args:
        rollout: the rollout.
        version: that serves.
        calls: the last ones.
        now: in seconds since the epoch.

    Raises:
        BadRollout: there are too few calls to tell.
    """
    if all(slo.kind != "latency" or slo.over is not None for slo in rollout.slos):
        return rollout
    recent = sorted(
        call.seconds
        for call in calls
        if call.version == version and call.outcome == "answered" and now - call.at <= RECENT
    )
    if not recent or quantile_ranks(len(recent), SLOW).high is None:
        raise BadRollout(
            f"latency: {len(recent)} calls of version {version} in the hour before are too few to tell what is slow;"
            " give over, in seconds"
        )
    over = recent[min(len(recent) - 1, int(SLOW * len(recent)))]
    slos = tuple(
        msgspec.structs.replace(slo, over=over) if slo.kind == "latency" and slo.over is None else slo
        for slo in rollout.slos
    )
    return msgspec.structs.replace(rollout, slos=slos)
