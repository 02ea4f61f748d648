"""``python -m bench`` lists the suites; ``python -m bench SUITE`` runs one."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import platform
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from pathlib import Path

import msgspec

from bench.figure import Figure
from bench.logs import log_beside_results

SUITES = {
    "agents": "turns of agents beside plain actors, routing, memory, a crowd that crashes, waking from SQLite",
    "bridge": "the same work of an agent, bare and bridged",
    "alarms": "whether chaos tests give false alarms, or miss flaws, in generated services: some of those of chaos",
    "cluster": "calls and casts between two processes on NATS beside its bare client, and the death of a node",
    "chaos": "a soak: a tree of 10,000 actors under 100,000 kills; and 100 generated services, right ones and flawed",
    "dspex": "a program as an agent beside plain gather and threads; SIMBA, GEPA, MIPROv2 beside DSPy's own",
    "interrupt": "the platform is interrupted at every point where something waits, and given nasty arguments",
    "workflow": "a workflow is killed at random points; what a step costs beside a bare append of SQLite",
    "team-crash": "an ascent of a team on islands is killed at random points; a whole one beside DSPy's own SIMBA",
    "optimise-crash": "what is left of an optimisation when its model goes away, or its process is killed",
    "quality": "optimisers with a real, small language model and real data: accuracy, and calls of the model",
    "team-chaos": "a served team of five under a kill a second: each call is answered, degraded by label, or refused",
    "rollout": "how often a rollout decides wrongly, in 10,000 simulated ones of each kind; and kills in each state",
    "registry": "reads and writes of the registry, by snapshot and through the mailbox",
    "federated": "what is learned from examples that stay where they are: digits, headlines, sentences; bad clients",
    "race": "what a race among hypotheses saves, and what that costs, with a small model and real headlines",
    "population": "where population based training wins, and where it does not: weights for digits",
    "team": "when a team of programs is worth its calls: votes, corrected biases, stacking, with a small model",
    "team-search": "what a search in stages makes of a chain of three agents, beside joint searches of the same cost",
    "team-talk": "whether a debate, and specialists that say yes or no, are worth their calls, with a small model",
    "crash": "a process that commits transactions is killed at random, thousands of times",
    "platform": "operations of all services at 100,000 entries, while others are going on",
    "check": "whether anything became slower than the baseline, by more than it varies anyway",
    "http": "a program behind the front beside a bare endpoint, with kills, leaks, health at 100,000 actors",
    "kernel": "messages, calls, starts, restarts, memory and names of the actor kernel",
}


def main(argv: list[str] | None = None) -> int:
    """Run a suite and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "suite", nargs="?", choices=sorted(SUITES), help="the suite to run; without it, list the suites"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--write", metavar="FILE", help="put the table between the marks for it in a document, too")
    parser.add_argument("--update", action="store_true", help="make the baseline of the check anew")
    parser.add_argument("--only", metavar="FIGURE", help="measure these figures only (comma separated)")
    parser.add_argument("--at", metavar="POINT", help="for the interrupt suite: this point only, such as cancel@3")
    parser.add_argument(
        "--seed", type=int, default=1, help="the seed of the chaos and the crash suite; of quality, the first"
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds the quality suite takes")
    parser.add_argument("--kills", type=int, help="how many kills: chaos 100,000, crash 2,000, of agents 100")
    parser.add_argument("--agents", action="store_true", help="for the crash suite: a service of agents")
    parser.add_argument("--sync", choices=("full", "normal", "off"), default="full", help="for the crash suite")
    parser.add_argument(
        "--small", type=float, metavar="SECONDS", help="for the http suite: the default tree on one core, so long"
    )
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop", help="the event loop to measure on")
    options = parser.parse_args(argv)
    log_beside_results()
    if options.suite is None:
        for name, what in SUITES.items():
            print(f"{name:12} {what}")
        return 0
    if options.suite == "chaos":
        from bench import chaos

        return chaos.main(options.seed, options.kills or 100_000, as_json=options.json)
    if options.suite == "crash":
        from bench import crash, crash_agents

        if options.agents:
            return crash_agents.main(options.seed, options.kills or 100, as_json=options.json, sync=options.sync)
        return crash.main(options.seed, options.kills or 2_000, as_json=options.json, sync=options.sync)
    if options.suite == "interrupt":
        from bench import interrupt

        return interrupt.main(options.only, options.at, as_json=options.json)
    if options.suite == "quality":
        return _quality(parser, options)
    if options.suite == "check":
        from bench import check

        return check.main(lambda suite, without: _measured(suite, without, options.loop), update=options.update)
    figures: dict[str, object] = importlib.import_module(f"bench.{options.suite.replace('-', '_')}").FIGURES
    names = _chosen(parser, options.only, figures) or list(figures)
    if options.suite == "http" and options.small is not None:
        from bench import http

        figures = dict(http.small(options.small))
        names = list(figures)
    results = _run(figures, names, options.loop)
    table = _table(results, options.loop)
    print(msgspec.json.encode(results).decode() if options.json else table)
    if options.write:
        _write(Path(options.write), options.suite, table)
    return 0


def _chosen(parser: argparse.ArgumentParser, only: str | None, known: Iterable[str]) -> list[str]:
    names = only.split(",") if only else []
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"--only {unknown[0]}: no such figure; there are {', '.join(known)}")
    return names


def _quality(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    from bench import quality

    tasks = _chosen(parser, options.only, quality.NAMES) or quality.DEFAULT
    write = None if options.write is None else lambda table: _write(Path(options.write), "quality", table)
    return quality.main(options.seed, options.seeds, tasks, as_json=options.json, write=write)


def _measured(suite: str, without: tuple[str, ...], loop: str) -> dict[str, Figure]:
    figures = importlib.import_module(f"bench.{suite.replace('-', '_')}").FIGURES
    return _run(figures, [name for name in figures if not name.startswith(without)], loop)


def _write(document: Path, suite: str, table: str) -> None:
    begin, end = f"<!-- figures: python -m bench {suite} -->\n", "<!-- end of figures -->"
    before, rest = document.read_text().split(begin, 1)
    _, after = rest.split(end, 1)
    document.write_text(f"{before}{begin}```text\n{table}\n```\n\nTwo shared cores of a virtual machine.\n{end}{after}")


def _run(figures: dict[str, object], names: list[str], loop: str) -> dict[str, Figure]:
    async def measure() -> dict[str, Figure]:
        results = {}
        for n, name in enumerate(names, 1):
            print(f"\r[{n}/{len(names)}] {name:<24}", end="", file=sys.stderr, flush=True)
            results[name] = await figures[name]()  # type: ignore[operator]
        print(f"\r{'':<40}\r", end="", file=sys.stderr)
        return results

    if loop == "uvloop":
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    else:
        factory = asyncio.new_event_loop
    # What others print on the way, such as DSPy's progress bars, is not a result.
    with asyncio.Runner(loop_factory=factory) as runner, redirect_stdout(sys.stderr):
        return runner.run(measure())


def _table(results: dict[str, Figure], loop: str) -> str:
    lines = [
        f"{platform.python_implementation()} {platform.python_version()}, {loop}, {platform.machine()}",
        f"{'figure':<18}{'value':>14} {'unit':<13}{'raw limit':>14}{'ratio':>9}  {'to reach'}",
    ]
    for name, figure in results.items():
        sign = "≥" if figure.better == "higher" else "≤"
        mark = "" if figure.reached else "  ← short"
        measured = f"{figure.value:>14,.6g} {figure.unit:<13}{figure.limit:>14,.6g}{figure.ratio:>9.3f}"
        lines.append(f"{name:<18}{measured}  {sign} {figure.reach:g}{mark}")
        if figure.more:
            lines.append("    " + ", ".join(f"{key} = {value:.4g}" for key, value in figure.more.items()))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
