"""What the command can be told: by arguments, and by the environment (``FOUNDATION_PORT`` for ``--port``).

Arguments win.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, get_args

import msgspec

from foundation._version import __version__
from foundation.access import Access, BadAccess, BearerToken, Protect
from foundation.cluster.cluster import NODE_NAME
from foundation.cluster.servers import problem, without_users
from foundation.run.chaos import ChaosSettings
from foundation.run.logs import LEVELS
from foundation.tree import DEFAULT
from foundation.tree.errors import did_you_mean

#: How the environment's variables begin.
PREFIX = "FOUNDATION_"

#: Where systemd tells a service its ``StateDirectory``.
SYSTEMD_STATE = "STATE_DIRECTORY"

#: What a tree's own values are called; these have options of their own.
_NAME, _OWN_VALUES = re.compile(r"[A-Za-z_]\w*", re.ASCII), ("host", "port", "state")

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off", "")


class BadInput(Exception):
    """The command was told something that it cannot use. The message is one line."""

    def __init__(self, option: str, value: object, remedy: str) -> None:
        self.option = option
        self.value = value
        self.remedy = remedy
        said = f"{option} = {value!r}: {remedy}" if value is not None else f"{option}: {remedy}"
        super().__init__(without_users(said))


class Settings(msgspec.Struct, frozen=True):
    """What the command was told.

    Attributes:
        tree: a TOML file, or ``package.module:attribute``.
        check: whether to check the tree and print it, and start nothing.
        json_logs: whether logs are JSON, one object a line.
        host: what ``${host}`` in a tree stands for.
        port: what ``${port}`` in a tree stands for.
        state: what ``${state}`` in a tree stands for: the directory for what is kept over restarts.
        uvloop: whether to run on uvloop; None if it is installed.
        shutdown_timeout: seconds that the tree has to stop in order.
        chaos: faults to be let in; None for none.
        trace: the share of traces that are kept, besides those with errors; None for no tracing.
        log_level: from which level on lines are logged; if None, ``info``, and ``warning`` for libraries that log
            through the standard library.
        allow_hosts: names under which the HTTP server may be reached, beside those of loopback and ``host``.
        token: what whoever changes or runs programs over HTTP has to bring; only the environment can say it, as others
            can see arguments.
        token_file: a file that holds it.
        protect: what it is needed for; see `foundation.access.Access`.
        metrics_any_host: whether ``/metrics`` is served under any name.
        cluster: the NATS servers of the cluster to join; empty for none.
        node: the name of this node there.
        share: names of the tree under which the whole cluster finds their holders.
        values: what other names in a tree stand for.
    """

    tree: str = str(DEFAULT)
    check: bool = False
    json_logs: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    state: str = ".foundation"
    uvloop: bool | None = None
    shutdown_timeout: float = 30.0
    chaos: ChaosSettings | None = None
    trace: float | None = None
    log_level: str | None = None
    allow_hosts: tuple[str, ...] = ()
    token: str | None = None
    token_file: str | None = None
    protect: Protect | None = None
    metrics_any_host: bool = False
    cluster: tuple[str, ...] = ()
    node: str | None = None
    share: tuple[str, ...] = ()
    values: Mapping[str, str] = {}

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__ if name not in _SECRET}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    @property
    def access(self) -> Access:
        """Who may ask over HTTP."""
        return Access(
            self.allow_hosts, self.token, self.token_file, self.protect, self.metrics_any_host, state=self.state
        )


def _text(value: str) -> str:
    if not value:
        raise ValueError("give something that is not empty")
    return value


def _values(value: str) -> dict[str, str]:
    """Return what stands for what: one ``NAME=VALUE`` a line."""
    found: dict[str, str] = {}
    for line in filter(None, value.splitlines()):
        name, sign, text = line.partition("=")
        if not sign or _NAME.fullmatch(name) is None or name in _OWN_VALUES:
            own = ", ".join(_OWN_VALUES)
            raise ValueError(f"{line!r}: give NAME=VALUE, and a name of letters other than {own}")
        found[name] = text
    return found


def _port(value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value) < 65536):
        raise ValueError("give a whole number from 0 (any free port) to 65535")
    return int(value)


def _seconds(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not (math.isfinite(number) and number >= 0):
        raise ValueError("give a finite number of seconds, 0 or more")
    return number


def _share(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise ValueError("give the share of traces to keep, from 0 to 1")
    return number


def _level(value: str) -> str:
    if value.lower() not in LEVELS:
        raise ValueError(f"choose one of {', '.join(LEVELS)}{did_you_mean(value, LEVELS)}")
    return value.lower()


def _flag(value: str) -> bool:
    if value.lower() not in (*_TRUE, *_FALSE):
        raise ValueError(f"choose one of {', '.join(_TRUE)}, or {', '.join(filter(None, _FALSE))}")
    return value.lower() in _TRUE


def _names(value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    try:
        return Access(names).allow_hosts
    except BadAccess as error:
        raise ValueError(str(error)) from None


def _words(value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _servers(value: str) -> tuple[str, ...]:
    urls = _words(value)
    why = problem(urls) if urls else ""
    if why:
        raise ValueError(why)
    return urls


def _node(value: str) -> str:
    if NODE_NAME.fullmatch(value) is None:
        raise ValueError("give a name of up to 64 letters, digits, _ and -")
    return value


def _token(value: str) -> str:
    try:
        BearerToken(value)
    except BadAccess as error:
        raise ValueError(str(error)) from None
    return value


def _protect(value: str) -> str:
    if value not in get_args(Protect):
        raise ValueError(f"choose one of {', '.join(get_args(Protect))}")
    return value


_READERS: dict[str, Callable[[str], Any]] = {
    "tree": _text,
    "json_logs": _flag,
    "host": _text,
    "port": _port,
    "state": _text,
    "values": _values,
    "uvloop": _flag,
    "shutdown_timeout": _seconds,
    "chaos": ChaosSettings.of,
    "trace": _share,
    "log_level": _level,
    "allow_hosts": _names,
    "token": _token,
    "token_file": _text,
    "protect": _protect,
    "metrics_any_host": _flag,
    "cluster": _servers,
    "node": _node,
    "share": _words,
}
#: Settings whose values are not shown, as they are secret.
_SECRET = ("token", "cluster")


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise BadInput("command line", None, f"{message}; --help tells more")


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m foundation.run",
        description="Start a supervision tree and keep it running until Ctrl-C, SIGTERM or SIGHUP; "
        "another one ends it at once.",
        epilog="Each option can be set by the environment too: FOUNDATION_TREE, FOUNDATION_PORT, and so on; arguments "
        "win. Exit status: 0 after a clean stop, 1 if the tree failed, 2 for bad input.",
        allow_abbrev=False,
    )
    either = argparse.BooleanOptionalAction
    parser.add_argument(
        "tree", nargs="?", metavar="TREE", help="a TOML file, or package.module:attribute (default: the default tree)"
    )
    parser.add_argument("--check", action="store_true", help="check the tree and print it, and start nothing")
    parser.add_argument("--json-logs", action=either, help="logs as JSON, one object a line")
    parser.add_argument("--host", help="where the HTTP server listens (default: 127.0.0.1)")
    parser.add_argument("--port", help="the port of the HTTP server, 0 for any (default: 8000)")
    parser.add_argument(
        "--state",
        metavar="DIR",
        help="the directory for what is kept over restarts (default: that of systemd's StateDirectory, or .foundation)",
    )
    parser.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        dest="values",
        help="what ${NAME} in the tree stands for; may be given several times. In the environment: FOUNDATION_VALUES, "
        "one a line",
    )
    parser.add_argument("--uvloop", action=either, help="whether to run on uvloop (default: if it is installed)")
    parser.add_argument("--shutdown-timeout", metavar="SECONDS", help="how long an orderly stop may take (default: 30)")
    parser.add_argument(
        "--chaos",
        metavar="PLAN|seed=...,rate=...",
        help="let faults happen to the children with the tag 'chaos': those of the file PLAN, or random ones. "
        "seed, rate (a minute, default 6), for (seconds), max (in any minute, default 10), "
        "faults (kill+exit+crash+hang+late_reply+suspend), tag, mode (within_budget, unlimited), dry (true, false)",
    )
    parser.add_argument(
        "--trace",
        metavar="SHARE",
        help="trace calls from actor to actor with OpenTelemetry, and keep this share of the traces, from 0 to 1; "
        "those with errors are always kept (default: no tracing)",
    )
    parser.add_argument(
        "--log-level",
        metavar="LEVEL",
        help=f"from which level on lines are logged: {', '.join(LEVELS)} (default: info, and warning for libraries "
        "that log through the standard library)",
    )
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        dest="allow_hosts",
        help="a name under which the HTTP server may be reached, beside localhost and the address that it listens at; "
        "may be given several times. In the environment: FOUNDATION_ALLOW_HOSTS, with commas in between",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="a file with the token that whoever changes or runs programs over HTTP has to bring. In the environment "
        "also FOUNDATION_TOKEN, the token itself. Without one, one is made when it is needed, and kept in --state",
    )
    parser.add_argument(
        "--protect",
        metavar="WHAT",
        help="what the token is needed for: changes (of programs), runs (of them too), all (but health) (default: runs "
        "if there is a token, else changes)",
    )
    parser.add_argument(
        "--metrics-any-host", action=either, help="serve /metrics under any name, for who scrapes by address"
    )
    parser.add_argument(
        "--cluster",
        metavar="URL",
        action="append",
        help="join the cluster on this NATS server, nats://HOST:PORT or tls://HOST:PORT; may be given several times, "
        "or with commas in between. In the environment, where others do not see a password: FOUNDATION_CLUSTER",
    )
    parser.add_argument("--node", metavar="NAME", help="the name of this node in the cluster; no two have the same")
    parser.add_argument(
        "--share",
        metavar="NAME",
        action="append",
        help="a name in the tree under which the whole cluster finds its holder; may be given several times, or with "
        "commas in between",
    )
    parser.add_argument("--version", action="version", version=f"foundation {__version__}")
    return parser


def read_settings(arguments: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Return what the command was told.

    Args:
        arguments: those behind the command's name.
        environ: the environment.

    Raises:
        BadInput: an argument or a variable is wrong.
        SystemExit: ``--help`` or ``--version`` was asked for, and answered.
    """
    parser = _parser()
    given, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        known = [option for action in parser._actions for option in action.option_strings]
        hint = did_you_mean(unknown[0], known)
        raise BadInput("command line", unknown[0], f"there is no such option{hint}; --help tells more")
    told = {name: value for name, value in vars(given).items() if value is not None}
    for several in ("allow_hosts", "cluster", "share"):
        if several in told:
            told[several] = ",".join(told[several])
    if "values" in told:
        told["values"] = "\n".join(told["values"])
    found = {**_from_environment(environ, told), **_read(told, _option)}
    if found.get("token") is not None and found.get("token_file") is not None:
        raise BadInput(f"{PREFIX}TOKEN and --token-file", None, "give one of them")
    if found.get("cluster") and found.get("node") is None:
        raise BadInput("--node", None, "say as which node this process joins the cluster")
    if not found.get("cluster") and (found.get("node") is not None or found.get("share")):
        raise BadInput("--cluster", None, "say which cluster to join: --node and --share are about one")
    return Settings(**found)


def _option(name: str) -> str:
    return {"tree": "TREE", "allow_hosts": "--allow-host", "values": "--set"}.get(name, f"--{name.replace('_', '-')}")


def _from_environment(environ: Mapping[str, str], told: Mapping[str, object]) -> dict[str, Any]:
    """Return what the environment says and no argument does."""
    values = {name: environ.get(_variable(name)) for name in _READERS if name not in told}
    if values.get("state", "") is None:
        values["state"] = environ.get(SYSTEMD_STATE)
    return _read({name: value for name, value in values.items() if value is not None}, _variable)


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _read(values: Mapping[str, Any], called: Callable[[str], str]) -> dict[str, Any]:
    read = {}
    for name, value in values.items():
        try:
            read[name] = _READERS[name](value) if isinstance(value, str) else value
        except ValueError as error:
            raise BadInput(called(name), None if name in _SECRET else value, str(error)) from None
    return read


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Return warnings of variables that look like ours and are not: probably misspelt."""
    known = [name.upper() for name in _READERS]
    ours = [name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX)]
    hints = [(name, did_you_mean(name, known)) for name in ours if name not in known]
    return [f"{PREFIX}{name} means nothing" + hint.replace("'", "'" + PREFIX, 1) for name, hint in hints if hint]
