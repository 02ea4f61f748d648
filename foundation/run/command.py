"""The command itself: from arguments to an exit status."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import NoReturn

from foundation._version import __version__
from foundation.installation import PACKAGES, foreign
from foundation.run.console import Console
from foundation.run.logs import configure_logging, wants_colours
from foundation.run.serve import Outcome, Service
from foundation.run.settings import BadInput, Settings, read_settings, unknown_variables
from foundation.run.signals import StopSignals
from foundation.telemetry import CarryContext
from foundation.tree import DEFAULT, Tree, TreeError, load_tree
from supervision import Carrier

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def main(
    arguments: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    leave: Callable[[int], NoReturn] = os._exit,
) -> int:
    """Run the command.

    Args:
        arguments: those behind its name; the process's own if None.
        environ: the environment; the process's own if None.
        leave: ends the process at once, when code that had to be ended by force may still run.

    Returns:
        The exit status: 0 after a clean stop, 1 if the tree failed, 2 for bad input.
    """
    environ = os.environ if environ is None else environ
    plain = Console(sys.stdout, sys.stderr)
    try:
        settings = read_settings(sys.argv[1:] if arguments is None else arguments, environ)
        factory = loop_factory(settings.uvloop)
        with _importable(settings.tree):
            tree = load_tree(
                settings.tree, values={"host": settings.host, "port": settings.port, "state": settings.state}
            )
            carrier = carrier_for(settings.trace)
            return _check(tree, plain) if settings.check else _run(tree, settings, environ, factory, carrier, leave)
    except (BadInput, TreeError) as error:
        plain.fail(str(error))
        return 2
    except SystemExit as asked:  # --help and --version
        return int(asked.code or 0)


def loop_factory(
    wanted: bool | None, installed: Callable[[], bool] = lambda: util.find_spec("uvloop") is not None
) -> LoopFactory | None:
    """Return what makes the event loop; None for asyncio's own.

    Args:
        wanted: whether uvloop is to be used; None if it is installed.
        installed: tells whether it is.

    Raises:
        BadInput: it is wanted and not installed.
    """
    if wanted is False or (wanted is None and not installed()):
        return None
    if not installed():
        raise BadInput("--uvloop", None, "uvloop is not installed; run: pip install uvloop")
    import uvloop

    return uvloop.new_event_loop


def carrier_for(
    trace: float | None, installed: Callable[[], bool] = lambda: util.find_spec("opentelemetry") is not None
) -> Carrier:
    """Return what goes along with messages: the facts bound to the work, and its trace if that is wanted.

    Args:
        trace: the share of traces that are kept; None for no tracing.
        installed: tells whether OpenTelemetry is.

    Raises:
        BadInput: traces are wanted and OpenTelemetry is not installed.
    """
    if trace is None:
        return CarryContext()
    if not installed():
        raise BadInput("--trace", None, "OpenTelemetry is not installed; run: pip install 'foundation-otp[otel]'")
    from foundation.telemetry.tracing import Tracing

    return Tracing(trace)


@contextmanager
def _importable(tree: str) -> Generator[None]:
    """Let a tree name modules in the working directory, and beside its file."""
    before = list(sys.path)
    places = [str(Path.cwd())] if ":" in tree else [str(Path.cwd()), str(Path(tree).resolve().parent)]
    sys.path += [place for place in places if place not in sys.path]
    try:
        yield
    finally:
        sys.path[:] = before


def _check(tree: Tree, console: Console) -> int:
    console.outline(tree)
    for found in filter(None, map(foreign, PACKAGES)):
        console.say(f"warning: {found}", "warning", message=str(found))
    return 0


def _run(
    tree: Tree,
    settings: Settings,
    environ: Mapping[str, str],
    factory: LoopFactory | None,
    carrier: Carrier,
    leave: Callable[[int], NoReturn],
) -> int:
    colours = wants_colours(sys.stderr, environ)
    configure_logging(sys.stderr, as_json=settings.json_logs, colours=colours)
    console = Console(sys.stdout, sys.stderr, as_json=settings.json_logs, colours=wants_colours(sys.stdout, environ))
    for warning in unknown_variables(environ):
        console.say(f"warning: {warning}", "warning", message=warning)
    loop = "asyncio" if factory is None else "uvloop"
    name = "the default tree" if settings.tree == str(DEFAULT) else settings.tree
    console.say(f"foundation {__version__}: {name}, on {loop}\n", "starting", version=__version__, tree=name, loop=loop)

    def gone(outcome: Outcome) -> NoReturn:
        console.fail(outcome.reason)
        sys.stdout.flush()
        leave(outcome.status)

    with asyncio.Runner(loop_factory=factory) as runner:
        outcome = runner.run(_serve(tree, settings, console, gone, carrier))
        if outcome.forced:
            gone(outcome)
    if outcome.reason:
        console.fail(outcome.reason)
    return outcome.status


async def _serve(
    tree: Tree,
    settings: Settings,
    console: Console,
    gone: Callable[[Outcome], NoReturn],
    carrier: Carrier,
) -> Outcome:
    signals = StopSignals(lambda: gone(Outcome(1, "forced: the event loop is blocked")))
    with signals.installed():
        limit, chaos = settings.shutdown_timeout, settings.chaos
        return await Service(tree, console, signals, limit, chaos, carrier, settings.access).run()
