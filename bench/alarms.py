"""False alarms and missed mistakes: what `survives` says of services that are right, and of such with a flaw.

A right service has to survive every seed; one with a flaw, no ten of them. Both are made by numbers (`services`). Runs
go on side by side, in as many processes as there are cores.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr
from io import StringIO
from multiprocessing import get_context
from typing import NamedTuple

from bench.figure import Figure
from bench.flaws import FLAWS
from bench.logs import log_beside_results
from bench.services import AFTER, SECONDS, STEPS, Service
from supervision.testing import NotSurvived, survives

#: How many right services there are, with how many seeds each; and how many have each flaw.
SERVICES, SEEDS, FLAWED = 100, 100, 100
#: The same in the check, which is for every day.
FEW_SERVICES, FEW_SEEDS, FEW_FLAWED = 20, 5, 3
#: With so many seeds each flaw has to be found.
WITHIN = 10
#: The share of the flaws that has to be found.
REACH = 0.98


class Verdict(NamedTuple):
    """What was said of a service: how many runs there were, and the failures, or None for a flaw that was missed."""

    number: int
    flaw: str | None
    runs: int
    said: tuple[str, ...]


def run_once(service: Service, seed: int) -> str:
    """Return what is said of a service with one seed; nothing if it has survived."""
    options = {"steps": STEPS, "seconds": SECONDS, "limit": AFTER, "tries": 0}
    try:
        survives(service.start, service.use, seeds=[seed], faults=service.faults, **options)  # type: ignore[arg-type]
    except NotSurvived as failure:
        return str(failure)
    return ""


def judge_right(number: int, seeds: int) -> Verdict:
    """Run a right service with many seeds."""
    service = Service(number)
    said = [run_once(service, seed) for seed in range(seeds)]
    return Verdict(number, None, seeds, tuple(text for text in said if text))


def judge_flawed(number: int, flaw: str) -> Verdict:
    """Run a service with a flaw until that is found."""
    service = Service(number, flaw)
    with redirect_stderr(StringIO()):  # what does not end is told of when it is cleared away
        for seed in range(WITHIN):
            said = run_once(service, seed)
            if said:
                return Verdict(number, flaw, seed + 1, (said,))
    return Verdict(number, flaw, WITHIN, ())


Job = tuple[Callable[..., Verdict], tuple[object, ...]]


def right(services: int, seeds: int) -> list[Job]:
    """Return the jobs for right services."""
    return [(judge_right, (number, seeds)) for number in range(services)]


def flawed(services: int) -> list[Job]:
    """Return the jobs for services with each of the flaws."""
    return [(judge_flawed, (number, flaw)) for number in range(services) for flaw in FLAWS]


def judge(jobs: list[Job], what: str) -> list[Verdict]:
    """Do jobs side by side, and say how far they are."""
    found: list[Verdict] = []
    with ProcessPoolExecutor(
        os.cpu_count() or 1, mp_context=get_context("spawn"), initializer=log_beside_results
    ) as pool:
        for done in as_completed([pool.submit(function, *args) for function, args in jobs]):
            found.append(done.result())
            runs = sum(verdict.runs for verdict in found)
            print(f"\r[{len(found)}/{len(jobs)}] {what}, {runs:,} runs", end="", file=sys.stderr, flush=True)
    print("\r" + " " * 78 + "\r", end="", file=sys.stderr)
    return sorted(found, key=lambda verdict: (verdict.number, verdict.flaw or ""))


def alarms(verdicts: Iterable[Verdict]) -> dict[str, object]:
    """Return the figure of false alarms: there must be none."""
    found = list(verdicts)
    said = [(verdict.number, text) for verdict in found for text in verdict.said]
    first = {f"{n}": f"service {number}: {text[:300]}" for n, (number, text) in enumerate(said[:3], 1)}
    return {"value": len(said), "unit": "alarms", "runs": sum(verdict.runs for verdict in found), **first}


def planted(verdicts: Iterable[Verdict]) -> dict[str, object]:
    """Return the figure of flaws that were found."""
    found = list(verdicts)
    missed = [f"{verdict.flaw} in {verdict.number}" for verdict in found if not verdict.said]
    return {
        "value": 1 - len(missed) / len(found),
        "unit": "share",
        "planted": len(found),
        "kinds": len(FLAWS),
        "runs": sum(verdict.runs for verdict in found),
        "missed": ", ".join(missed) or "none",
    }


def main() -> dict[str, dict[str, object]]:
    """Return both figures in full."""
    return {
        "false_alarms": alarms(judge(right(SERVICES, SEEDS), "right services")),
        "planted_found": planted(judge(flawed(FLAWED), "services with a flaw")),
    }


async def false_alarms() -> Figure:
    """Measure the share of runs of right services that give an alarm, in a smaller size."""
    jobs = right(FEW_SERVICES, FEW_SEEDS)
    found = await asyncio.to_thread(judge, jobs, "right services")
    number, runs = sum(len(verdict.said) for verdict in found), sum(verdict.runs for verdict in found)
    return Figure(value=number, unit="alarms", limit=runs, ratio=number / runs, reach=0.0, better="lower", promise=True)


async def planted_found() -> Figure:
    """Measure the share of flaws that are found within ten seeds, in a smaller size."""
    found = await asyncio.to_thread(judge, flawed(FEW_FLAWED), "services with a flaw")
    number = sum(bool(verdict.said) for verdict in found)
    share = number / len(found)
    return Figure(value=number, unit="flaws", limit=len(found), ratio=share, reach=REACH, better="higher", promise=True)


FIGURES = {"false_alarms": false_alarms, "planted_found": planted_found}
