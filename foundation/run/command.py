"""The command itself: from arguments to an exit status."""

from __future__ import annotations

import asyncio
import atexit
import math
import os
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import NoReturn

import msgspec

from foundation._version import __version__
from foundation.cluster.nats import import_nats
from foundation.installation import PACKAGES, foreign
from foundation.run.console import Console
from foundation.run.logs import columns_of, configure_logging, dropped_line, wants_colours
from foundation.run.output import Output, open_standard_files, printing_to
from foundation.run.serve import Joining, TreeRun
from foundation.run.settings import BadInput, Settings, read_settings, unknown_variables
from foundation.run.stopping import LAST, ExitDeadline, StopSignals, end_at_once, stuck
from foundation.telemetry import ContextPropagator
from foundation.tree import DEFAULT, Tree, TreeError, load_tree
from foundation.tree.errors import did_you_mean
from foundation.tree.imports import argument_warnings
from supervision import Propagator

#: Seconds for a reader to take something when `Streams.drain` has waited for them already.
SHORT = 0.1

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class Streams(msgspec.Struct, frozen=True):
    """Where the command tells of itself, and what ends it.

    Attributes:
        out: standard output.
        errors: standard error.
        ending: sees to the end of the process.
    """

    out: Output
    errors: Output
    ending: ExitDeadline

    def drain(self) -> None:
        """Wait, but not for long, until everything is written."""
        self.errors.drain()
        self.out.drain()

    def close(self) -> None:
        """Write what is left, to whoever reads at this moment, and nothing more."""
        self.errors.close(SHORT)
        self.out.close(SHORT)


def run() -> NoReturn:
    """Be the process: run the command, and end, within limits, whatever threads and exit handlers do."""
    open_standard_files()
    end_at_once()
    streams = Streams(Output(sys.stdout), Output(sys.stderr), ExitDeadline())
    sys.stdout, sys.stderr = streams.out.stream, streams.errors.stream
    atexit.register(streams.close)
    status = _command(sys.argv[1:], os.environ, streams)
    end_at_once()
    streams.ending.begin()
    sys.exit(status)


def main(
    arguments: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    leave: Callable[[int], object] = os._exit,
) -> int:
    """Run the command inside of a process that goes on when it has ended.

    Args:
        arguments: those behind its name; the process's own if None.
        environ: the environment; the process's own if None.
        leave: ends the process at once, when code that had to be ended by force may still run.

    Returns:
        The exit status: 0 after a clean stop, 1 if the tree failed, 2 for bad input.
    """
    streams = Streams(Output(sys.stdout), Output(sys.stderr), ExitDeadline(leave))
    told = sys.argv[1:] if arguments is None else arguments
    with printing_to(streams.out, streams.errors):
        try:
            return _command(told, os.environ if environ is None else environ, streams)
        finally:
            streams.ending.cancel()
            streams.close()


def _command(arguments: Sequence[str], environ: Mapping[str, str], streams: Streams) -> int:
    plain = Console(streams.out, streams.errors)
    try:
        settings = read_settings(arguments, environ)
        factory = loop_factory(settings.uvloop)
        with _importable(settings.tree):
            known = {"host": settings.host, "port": settings.port, "state": settings.state}
            tree = load_tree(settings.tree, values={**settings.values, **known})
            propagator = propagator_for(settings.trace)
            cluster_installed(settings.cluster)
            if settings.cluster and not settings.check:
                import_nats()  # it takes half a second, which the loop does not have
            return (
                _check(tree, settings, streams)
                if settings.check
                else _run(tree, settings, environ, factory, propagator, streams)
            )
    except (BadInput, TreeError) as error:
        plain.fail(str(error))
        return 2
    except SystemExit as asked:  # --help and --version
        return int(asked.code or 0)
    finally:
        streams.drain()


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


def propagator_for(
    trace: float | None, installed: Callable[[], bool] = lambda: util.find_spec("opentelemetry") is not None
) -> Propagator:
    """Return what goes along with messages: the facts bound to the work, and its trace if that is wanted.

    Args:
        trace: the share of traces that are kept; None for no tracing.
        installed: tells whether OpenTelemetry is.

    Raises:
        BadInput: traces are wanted and OpenTelemetry is not installed.
    """
    if trace is None:
        return ContextPropagator()
    if not installed():
        raise BadInput("--trace", None, "OpenTelemetry is not installed; run: pip install 'foundation-otp[otel]'")
    from foundation.telemetry.tracing import Tracing

    return Tracing(trace)


def cluster_installed(
    servers: Sequence[str], installed: Callable[[], bool] = lambda: util.find_spec("nats") is not None
) -> None:
    """See that what a cluster needs is there, if there is one.

    Args:
        servers: those of the cluster; none for no cluster.
        installed: tells whether the client is.

    Raises:
        BadInput: it is not.
    """
    if servers and not installed():
        raise BadInput("--cluster", None, "nats-py is not installed; run: pip install 'foundation-otp[cluster]'")


def _unknown_shares(tree: Tree, shares: Sequence[str]) -> list[str]:
    """Return warnings of names that are to be shared, and that no child of the tree has."""
    known = [spec.name for _, spec in tree.outline() if spec.name is not None]
    return [
        f"--share {name}: no child of the tree has this name{did_you_mean(name, known)}; nobody finds it in the "
        "cluster unless an actor takes it later"
        for name in shares
        if name not in known
    ]


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


def _check(tree: Tree, settings: Settings, streams: Streams) -> int:
    """Print a tree, to a reader who may take their time."""
    streams.out.limit = math.inf
    console = Console(streams.out, streams.errors)
    console.outline(tree)
    later = [why for _, spec in tree.outline() for why in argument_warnings(spec.start, spec.args, spec.kwargs)]
    for found in (*filter(None, map(foreign, PACKAGES)), *later, *_unknown_shares(tree, settings.share)):
        console.say(f"warning: {found}", "warning", message=str(found))
    streams.out.drain(patience=None)
    return 0


def _run(
    tree: Tree,
    settings: Settings,
    environ: Mapping[str, str],
    factory: LoopFactory | None,
    propagator: Propagator,
    streams: Streams,
) -> int:
    out, errors, ending = streams.out, streams.errors, streams.ending
    as_json = settings.json_logs
    colours, columns = wants_colours(errors.stream, environ), columns_of(errors.stream, environ)
    configure_logging(errors, as_json=as_json, colours=colours, columns=columns, level=settings.log_level)
    errors.told = dropped_line(as_json)
    console = Console(out, errors, as_json=as_json, colours=wants_colours(out.stream, environ), columns=columns)
    for warning in (*unknown_variables(environ), *_unknown_shares(tree, settings.share)):
        console.say(f"warning: {warning}", "warning", message=warning)
    loop = "asyncio" if factory is None else "uvloop"
    name = "the default tree" if settings.tree == str(DEFAULT) else settings.tree
    console.say(f"foundation {__version__}: {name}, on {loop}\n", "starting", version=__version__, tree=name, loop=loop)
    signals = StopSignals(ending.begin)
    limit, outputs = settings.shutdown_timeout, (out, errors)
    joining = Joining(settings.cluster, settings.node, settings.share) if settings.node is not None else None
    service = TreeRun(tree, console, signals, limit, settings.chaos, propagator, outputs, settings.access, joining)
    ending.limit = settings.shutdown_timeout + LAST
    ending.tell = lambda: _tell_stuck(console, service, ending.limit, streams)
    with signals.installed(), asyncio.Runner(loop_factory=factory) as runner:
        outcome = runner.run(service.run())
        ending.begin()
        if outcome.forced:
            console.fail(outcome.reason)
            streams.drain()
            ending.leave(outcome.status)
    if outcome.reason:
        console.fail(outcome.reason)
    return outcome.status


def _tell_stuck(console: Console, service: TreeRun, limit: float, streams: Streams) -> None:
    left = ", ".join((*service.unended(), stuck()))
    console.fail(f"not ended within {limit:g} s, and ended by force; in the way: {left}")
    streams.errors.close()
