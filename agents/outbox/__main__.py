"""``python -m agents.outbox``: see, redrive and forget what durable agents have decided and not done.

It ends with 0 if it did what it was told to, with 1 if it could not, and with 2 if it was told nonsense.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from agents.outbox.file import KeptEffect, OutboxFile, OutboxFileError, now
from agents.server.effects import shortened

_COLUMNS = ("STATE", "AGENT", "WHAT", "TO", "AGE", "TRIES", "TOKEN", "LAST ERROR")
#: So much of an error is shown in a table, in characters.
_LONGEST_ERROR = 200
_USAGE = """python -m agents.outbox list PATH [--agent NAME] [--json]
       python -m agents.outbox show PATH TOKEN [--json]
       python -m agents.outbox redrive PATH TOKEN ... | --agent NAME | --all
       python -m agents.outbox forget PATH TOKEN [--yes]
       python -m agents.outbox fork PATH [--yes]"""
_STATES = (
    "STATE is waiting (for its first try), failing (and tried again), dead (given up), or begun (an action in a turn "
    "that was not committed: the next start undoes it)."
)


def main(
    arguments: Sequence[str] | None = None, output: TextIO | None = None, ask: Callable[[str], str] = input
) -> int:
    """Do what the arguments say, and return the status to end with.

    Args:
        arguments: those behind the command's name; the process's own if None.
        output: where to tell; standard output if None.
        ask: asks a question of whoever runs it.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    out = sys.stdout if output is None else output
    if options.order == "redrive" and not (options.tokens or options.agent or options.all):
        parser.error("redrive: say which: TOKEN ..., --agent NAME, or --all")
    if options.order == "redrive" and options.all and (options.tokens or options.agent):
        parser.error("redrive: --all is all that was given up: say it alone, without TOKEN and --agent")
    try:
        file = OutboxFile(options.path)
        return _ORDERS[options.order](file, options, out, ask)
    except OutboxFileError as error:
        print(f"agents.outbox: {_printable(str(error))}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m agents.outbox",
        usage=_USAGE,
        description="See, redrive and forget what durable agents have decided and not done. The file can be looked at "
        "while its service runs; to change it, stop the service.",
        epilog=_STATES,
        allow_abbrev=False,
    )
    orders = parser.add_subparsers(
        dest="order", required=True, metavar="list|show|redrive|forget|fork", prog="python -m agents.outbox"
    )
    path = argparse.ArgumentParser(add_help=False)
    path.add_argument("path", metavar="PATH", help="the SQLite file that the agents are kept in")
    of = argparse.ArgumentParser(add_help=False)
    of.add_argument("--agent", metavar="NAME", help="of this agent only: its key, or the end of it: order/17, or 17")
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="as JSON")
    yes = argparse.ArgumentParser(add_help=False)
    yes.add_argument("--yes", action="store_true", help="do not ask whether it is meant")
    text = "what was decided and not done"
    orders.add_parser("list", parents=[path, of, as_json], help=text, description=f"List {text}.", epilog=_STATES)
    text = "one of them, with its data"
    show = orders.add_parser("show", parents=[path, as_json], help=text, description=f"Show {text}.")
    show.add_argument("token", metavar="TOKEN")
    text = "have what was given up tried again, with its token, when the service starts"
    redrive = orders.add_parser("redrive", parents=[path, of, as_json], help=text, description=text.capitalize() + ".")
    redrive.add_argument("tokens", metavar="TOKEN", nargs="*", help="which")
    redrive.add_argument("--all", action="store_true", help="all that was given up")
    text = "forget one: nobody will do it"
    forget = orders.add_parser("forget", parents=[path, yes, as_json], help=text, description=text.capitalize() + ".")
    forget.add_argument("token", metavar="TOKEN")
    text = "make agents of their own of those in a copy of a file, such as a backup"
    more = "Their effects have other tokens then, and what was open is given up for now: perhaps it was done since."
    orders.add_parser("fork", parents=[path, yes, as_json], help=text, description=f"{text.capitalize()}. {more}")
    return parser


def _list(file: OutboxFile, options: Any, out: TextIO, _: Any) -> int:
    effects = file.effects(options.agent)
    if options.json:
        _tell_json(out, effects)
    elif effects:
        lines = [_COLUMNS, *(_line(effect) for effect in effects)]
        widths = [max(map(len, column)) for column in list(zip(*lines, strict=True))[:-1]]
        for *cells, last in lines:
            print(*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), last, sep="  ", file=out)
    else:
        print("nothing waits, and nothing was given up", file=out)
    return 0


def _line(effect: KeptEffect) -> tuple[str, ...]:
    what = effect.what if effect.type is None else effect.type
    to = "-" if effect.to is None else effect.to or "(default)"
    age = _age(effect.at)
    error = shortened(" ".join((effect.error or "").split()), _LONGEST_ERROR)
    line = (effect.state, effect.agent, what, to, age, str(effect.attempts), effect.token, error)
    return tuple(map(_printable, line))


def _printable(text: str) -> str:
    """Return a text in one line, which does nothing to a terminal: an escape for each character that cannot be seen."""
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def _age(at: float) -> str:
    """Return how long ago something was, for people; nothing if nobody knows."""
    if not at:
        return "-"
    seconds = max(0.0, now() - at)
    for size, unit in ((86_400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _show(file: OutboxFile, options: Any, out: TextIO, _: Any) -> int:
    effect = file.effect(options.token)
    if options.json:
        _tell_json(out, effect)
    else:
        _tell(effect, out)
    return 0


def _tell(effect: KeptEffect, out: TextIO) -> None:
    decided = datetime.fromtimestamp(effect.at, UTC).isoformat(timespec="seconds")
    told = {"at": f"{decided} ({_age(effect.at)} ago)" if effect.at else None, "data": _json(effect.data)}
    for name, value in {**msgspec.structs.asdict(effect), **told}.items():
        if value is not None:
            lines = map(_printable, str(value).split("\n"))
            print(f"{name:<9}", f"\n{'':<10}".join(lines), file=out)


def _redrive(file: OutboxFile, options: Any, out: TextIO, _: Any) -> int:
    count = file.redrive(*options.tokens, agent=options.agent)
    _done(out, options, {"redriven": count}, f"{count} to be tried again when the service starts")
    return 0


def _forget(file: OutboxFile, options: Any, out: TextIO, ask: Callable[[str], str]) -> int:
    if not options.yes:
        _tell(file.effect(options.token), out)
        if not _meant("Forget it? Nobody will do it then.", ask):
            print("nothing was changed", file=out)
            return 1
    forgotten = file.forget(options.token)
    _done(out, options, {"forgotten": forgotten.token}, f"{forgotten.token} is forgotten")
    return 0


def _fork(file: OutboxFile, options: Any, out: TextIO, ask: Callable[[str], str]) -> int:
    question = f"Is {file.path} a copy? What is forked does again what the other one has done since."
    if not options.yes and not _meant(question, ask):
        print("nothing was changed", file=out)
        return 1
    count = file.fork()
    _done(out, options, {"agents": count}, f"agents of their own now: {count}")
    return 0


def _meant(question: str, ask: Callable[[str], str]) -> bool:
    try:
        return ask(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _done(out: TextIO, options: Any, told: dict[str, Any], text: str) -> None:
    if options.json:
        _tell_json(out, told)
    else:
        print(text, file=out)


def _tell_json(out: TextIO, value: Any) -> None:
    print(_json(value), file=out)


def _json(value: Any) -> str:
    text = msgspec.json.format(msgspec.json.encode(value, enc_hook=str)).decode()
    return "\n".join(map(_printable, text.split("\n")))


_ORDERS: dict[str, Callable[[OutboxFile, Any, TextIO, Callable[[str], str]], int]] = {
    "list": _list,
    "show": _show,
    "redrive": _redrive,
    "forget": _forget,
    "fork": _fork,
}


def _run() -> int:
    """Run as a process; that nobody reads on, as behind ``| head``, is no error to be told."""
    try:
        try:
            return main()
        finally:
            print(end="", flush=True)
    except BrokenPipeError:
        # What is left goes nowhere, also when Python flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(_run())
