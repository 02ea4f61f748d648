"""``python -m dspex.rollout``: start, see, promote and abort the rollout of a program that is served over HTTP.

It ends with 0 if it did what it was told to, with 1 if the server did not, and with 2 if it was told nonsense.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple, TextIO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

#: Seconds that the server may take to answer.
TIMEOUT = 60.0
#: Where the server keeps a token that it has made.
TOKEN_FILE = ".foundation/token"  # noqa: S105 (the name of a file)


class _Failed(Exception):
    """The server has not done it; the message says why."""


class _Answer(NamedTuple):
    body: Any
    etag: str


class _Server:
    def __init__(self, url: str, token: str | None) -> None:
        self._url = url.rstrip("/")
        self._token = token

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> _Answer:
        """Ask the server something.

        Raises:
            _Failed: it refuses, or does not answer.
        """
        sent = {"accept": "application/json", **headers}
        if body is not None:
            sent["content-type"] = "application/json"
        if self._token is not None:
            sent["authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._url + path, data, sent, method=method)  # noqa: S310 (the scheme is looked at)
        try:
            with urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
                return _Answer(json.load(answer), answer.headers.get("etag", ""))
        except HTTPError as error:
            raise _Failed(_refusal(error)) from None
        except (OSError, HTTPException, ValueError) as error:
            raise _Failed(f"{self._url}: {error}") from None


def _refusal(error: HTTPError) -> str:
    with error:
        try:
            return f"{error.code}: {json.load(error)['detail']}"
        except (ValueError, KeyError, TypeError, OSError, HTTPException):
            return f"{error.code}: {error.reason}"


def main(
    arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None, output: TextIO | None = None
) -> int:
    """Do what the arguments say, and return the status to end with."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if urlsplit(options.url).scheme not in ("http", "https"):
        parser.error(f"URL = {options.url!r}: give that of a program, such as http://localhost:8000/programs/triage")
    out = sys.stdout if output is None else output
    try:
        options.given = _given(options) if options.command == "start" else None
        server = _Server(options.url, _token(options, os.environ if environ is None else environ))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    try:
        found = _COMMANDS[options.command](server, options)
    except _Failed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    out.write((json.dumps(found, indent=2) if options.json else _as_text(found)) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dspex.rollout", description=__doc__)
    parser.add_argument("command", choices=sorted(_COMMANDS), help="what to do")
    parser.add_argument("url", help="of the program, such as http://localhost:8000/programs/triage")
    parser.add_argument("--json", action="store_true", help="print all of it, as JSON")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help=f"by default {TOKEN_FILE}")
    parser.add_argument("--why", default="", help="the reason, for the history (promote, abort)")
    start = parser.add_argument_group("start")
    start.add_argument("--version", type=int, help="the number of a version that is there")
    start.add_argument("--file", type=Path, help="a program as DSPy saves it: it is added as a version, and tried")
    start.add_argument("--rollout", type=Path, metavar="FILE", help="how, in TOML: steps, slos, shadow and so on")
    start.add_argument("--replace", action="store_true", help="end the rollout that is open")
    return parser


def _token(options: argparse.Namespace, environ: Mapping[str, str]) -> str | None:
    if options.token_file is None and "FOUNDATION_TOKEN" in environ:
        return environ["FOUNDATION_TOKEN"]
    file = options.token_file or Path(environ.get("FOUNDATION_TOKEN_FILE", TOKEN_FILE))
    if options.token_file is None and not file.exists():
        return None
    return file.read_text().strip()


def _given(options: argparse.Namespace) -> tuple[int | None, Any, dict[str, Any]]:
    """Return the version that is to be tried, or its state, and how.

    Raises:
        OSError, ValueError: a file cannot be read; or no version is given, or two.
    """
    if (options.version is None) == (options.file is None):
        raise ValueError("start: give --version, the number of one that is there, or --file, a saved program")
    settings = {} if options.rollout is None else tomllib.loads(options.rollout.read_text())
    return options.version, None if options.file is None else json.loads(options.file.read_text()), settings


def _status(server: _Server, _: argparse.Namespace) -> Any:
    return server.ask("GET", "/rollout").body


def _start(server: _Server, options: argparse.Namespace) -> Any:
    number, state, settings = options.given
    if state is not None:
        number = server.ask("POST", "/versions?serve=false", state).body["number"]
    replace = "?replace=true" if options.replace else ""
    return server.ask("PUT", f"/rollout{replace}", {**settings, "version": number}).body


def _promote(server: _Server, options: argparse.Namespace) -> Any:
    return _decide(server, "promoted", options.why)


def _abort(server: _Server, options: argparse.Namespace) -> Any:
    return _decide(server, "aborted", options.why)


def _decide(server: _Server, state: str, why: str) -> Any:
    seen = server.ask("GET", "/rollout").etag
    return server.ask("PUT", "/rollout/state", {"state": state, "why": why}, **{"if-match": seen}).body


_COMMANDS = {"status": _status, "start": _start, "promote": _promote, "abort": _abort}


def _as_text(state: Mapping[str, Any]) -> str:
    """Return how a rollout stands, for people."""
    steps = state["rollout"]["steps"]
    where = f", step {state['step'] + 1} of {len(steps)}" if state["state"] in ("canary", "held") else ""
    lines = [
        f"version {state['version']} beside version {state['baseline']}: {state['state']} at {state['share']:g}{where}",
        f"  {state['why']} ({state['who']})",
    ]
    units = state["units"]
    lines.append(f"  units: {units['canary']} of the new version, {units['baseline']} of the old one")
    if state["pairs"] or state["skipped"]:
        asked = f"{state['pairs']} pairs, asked {state['asked']} times, ${state['spent']:.4f} spent"
        lines.append(f"  shadow: {asked}, {state['skipped']} calls left out")
    lines += [_slo_line(slo) for slo in state["slos"]]
    if state["keyless"]:
        lines.append(f"  {state['keyless']:.0%} of the calls named no key: who asks them may meet both versions")
    return "\n".join(lines)


def _slo_line(slo: Mapping[str, Any]) -> str:
    canary, baseline = (_arm(slo[arm]) for arm in ("canary", "baseline"))
    bounds = f"rejected at {slo['reject_at']:.2f}, accepted at {slo['accept_at']:.2f}"
    missing = sum(slo[arm].get("unscored", 0) for arm in ("canary", "baseline"))
    lost = f"; {missing} without a score{f' ({why})' if (why := slo.get('why')) else ''}" if missing else ""
    numbers = f"bad {canary} beside {baseline}; LLR {slo['llr']:.2f} ({bounds})"
    return f"  {slo['slo']['kind']}: {slo['verdict']}; {numbers}{lost}"


def _arm(arm: Mapping[str, Any]) -> str:
    if arm["share"] is None:
        return "0 of 0"
    return f"{arm['bad']} of {arm['units']} ({arm['low']:.1%} to {arm['high']:.1%})"


if __name__ == "__main__":
    sys.exit(main())
