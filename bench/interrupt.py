"""Suite ``interrupt``: the platform is interrupted at every point where something waits, and given nasty arguments."""

from __future__ import annotations

import sys
from collections import Counter
from time import perf_counter
from typing import Any

import msgspec

from supervision.testing import NASTY, BrokenByInterruption, explore
from supervision.testing.interruptions.scenario import Wrong
from tests.foundation.interrupted import TABLE
from tests.foundation.interrupted.spoilt import SPOILT, try_all


def main(only: str | None, at: str | None, *, as_json: bool) -> int:
    """Interrupt everything in the table, or one line of it, and print the figures."""
    names = [*TABLE, *SPOILT] if only is None else _chosen(only)
    found: Counter[str] = Counter()
    began = perf_counter()
    for number, name in enumerate(names, 1):
        print(f"\r[{number}/{len(names)}] {name:<40}", end="", file=sys.stderr, flush=True)
        lines = _interrupted(name, at, found) if name in TABLE else _spoilt(name, found)
        for line in lines:
            print(f"\r{line:<60}", file=sys.stderr)
    print(f"\r{'':<60}\r", end="", file=sys.stderr)
    figures: dict[str, Any] = {
        "points": {"value": found["points"], "unit": "points at which something was interrupted"},
        "leaks": {"value": found["leak"], "unit": "points after which something was left over"},
        "hangs": {"value": found["hang"], "unit": "points after which something did not end"},
        "wrong": {"value": found["wrong"], "unit": "points or nasty arguments after which something else was wrong"},
        "nasty": {"value": found["nasty"], "unit": "nasty arguments given to calls and in messages"},
        "service_deaths": {"value": found["nasty death"], "unit": "ends of actors by them"},
        "seconds": {"value": perf_counter() - began, "unit": "s"},
    }
    figures["wrong"]["value"] += found["nasty wrong"]
    _print(figures, as_json=as_json)
    return 1 if any(figures[name]["value"] for name in ("leaks", "hangs", "wrong", "service_deaths")) else 0


def _chosen(only: str) -> list[str]:
    """Return names of lines; ``points`` and ``nasty`` stand for all lines of that table."""
    tables: dict[str, list[str]] = {"points": list(TABLE), "nasty": list(SPOILT)}
    names = [name for part in only.split(",") for name in tables.get(part, [part])]
    for name in names:
        if name not in TABLE and name not in SPOILT:
            raise SystemExit(f"--only {name}: no such line; there are {', '.join([*tables, *TABLE, *SPOILT])}")
    return names


def _print(figures: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(figures).decode())
    else:
        for name, figure in figures.items():
            print(f"{name:<16}{figure['value']:>10,.6g} {figure['unit']}")


def _interrupted(name: str, at: str | None, found: Counter[str]) -> list[str]:
    """Interrupt one line of the table; return what went wrong."""
    try:
        found["points"] += explore(TABLE[name].scenario, at=at).visited
    except BrokenByInterruption as broken:
        found["points"] += broken.exploration.visited
        found.update(failure.kind for failure in broken.exploration.failures)
        return [
            f"python -m bench interrupt --only {name} --at {failure.at!r}  # {failure.where}: {failure.why[:300]}"
            for failure in broken.exploration.failures
        ]
    except Exception as error:  # also when nothing was interrupted
        found[error.kind if isinstance(error, Wrong) else "wrong"] += 1
        return [f"python -m bench interrupt --only {name}  # {type(error).__name__}: {error}"]
    return []


def _spoilt(name: str, found: Counter[str]) -> list[str]:
    """Give nasty arguments to one call; return what went wrong."""
    lines = []
    for argument in SPOILT[name].valid:
        found["nasty"] += len(NASTY)
        for finding in try_all(SPOILT[name], argument):
            found[f"nasty {finding.kind}"] += 1
            what = f"{argument} = {finding.value}: {finding.kind}: {finding.why[:200]}"
            lines.append(f"python -m bench interrupt --only {name!r}  # {what}")
    return lines
