"""Do tests of DSPy programs say the same when the programs run in agents?

``python -m dspex.testing.compat PATH`` runs the tests at a path twice, as they are and with the calls of programs
routed through an agent (`dspex.testing.route`), and compares what becomes of each. The exit status is 1 if one that
passes fails in an agent.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any
from xml.etree import ElementTree

import msgspec

#: What of DSPy's own tests needs a network, or is no test of programs.
IGNORED = ("clients", "core", "datasets", "docs", "examples", "metadata", "reliability", "retrievers")
_ROUTED = re.compile(r"dspex: (\d+) sync and (\d+) async calls ran in an agent")


class CompatError(Exception):
    """The tests could not be run."""


class Outcomes(msgspec.Struct, frozen=True):
    """What has become of tests.

    Attributes:
        tests: by their names: ``passed``, ``failed``, ``error`` or ``skipped``.
        routed: how many sync and async calls ran in an agent.
    """

    tests: Mapping[str, str]
    routed: tuple[int, int] = (0, 0)

    @property
    def counts(self) -> dict[str, int]:
        """How many tests have passed, failed, and so on."""
        return dict(sorted(Counter(self.tests.values()).items()))


class Comparison(msgspec.Struct, frozen=True):
    """The outcomes without agents, and with them."""

    bare: Outcomes
    routed: Outcomes

    @property
    def broken(self) -> list[str]:
        """The tests that pass, but not in an agent."""
        return [
            name
            for name, outcome in self.bare.tests.items()
            if outcome == "passed" and self.routed.tests.get(name) != "passed"
        ]

    @property
    def mended(self) -> list[str]:
        """The tests that pass in an agent only: they depend on chance, or on each other."""
        return [
            name
            for name, outcome in self.routed.tests.items()
            if outcome == "passed" and self.bare.tests.get(name) != "passed"
        ]

    def plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "bare": self.bare.counts,
            "routed": self.routed.counts,
            "sync_calls": self.routed.routed[0],
            "async_calls": self.routed.routed[1],
            "broken": self.broken,
            "mended": self.mended,
        }

    def text(self) -> str:
        """Return it as a page."""
        kinds = sorted({*self.bare.counts, *self.routed.counts})
        lines = [f"{'':10}{'bare':>8}{'in an agent':>14}"]
        lines += [f"{kind:10}{self.bare.counts.get(kind, 0):8}{self.routed.counts.get(kind, 0):14}" for kind in kinds]
        lines += ["", "{} sync and {} async calls ran in an agent".format(*self.routed.routed)]
        lines += [f"passes only without an agent: {name}" for name in self.broken]
        lines += [f"passes only in an agent: {name}" for name in self.mended]
        return "\n".join(lines)


def run(path: Path, arguments: Sequence[str], *, routed: bool) -> Outcomes:
    """Run tests in a process of their own.

    Args:
        path: of the tests.
        arguments: for pytest.
        routed: whether the calls of programs run in an agent.

    Raises:
        CompatError: pytest did not get as far as to run them.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        plugin = ["-p", "dspex.testing.route"] if routed else []
        options = [f"--junitxml={report}", "--continue-on-collection-errors", *plugin, *arguments]
        command = [sys.executable, "-m", "pytest", str(path), "-q", *options]
        done = subprocess.run(
            command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, text=True, errors="replace", check=False
        )
        if done.returncode not in (0, 1):
            raise CompatError(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}")
        found = _ROUTED.search(done.stdout)
        calls = (int(found[1]), int(found[2])) if found else (0, 0)
        return Outcomes(_outcomes(ElementTree.parse(report)), calls)  # noqa: S314  # pytest wrote it


def _outcomes(report: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for case in report.iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        kinds = {child.tag for child in case}
        outcome = next((kind for kind in ("error", "failure", "skipped") if kind in kinds), "passed")
        found[name] = {"failure": "failed"}.get(outcome, outcome)
    return found


def compare(path: Path, arguments: Sequence[str]) -> Comparison:
    """Run tests twice, and return both outcomes. Raises as `run`."""
    return Comparison(_shown("bare", path, arguments, False), _shown("in an agent", path, arguments, True))


def _shown(what: str, path: Path, arguments: Sequence[str], routed: bool) -> Outcomes:
    print(f"{what} …", file=sys.stderr, flush=True)
    outcomes = run(path, arguments, routed=routed)
    print(f"{what}: {outcomes.counts}", file=sys.stderr, flush=True)
    return outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, and print the outcome.

    Args:
        arguments: of the command line; those of the process if None. What follows ``--`` is for pytest.

    Returns:
        0 if all is the same, 1 if a test fails only in an agent, 2 if the tests could not be run.
    """
    parser = argparse.ArgumentParser(
        prog="python -m dspex.testing.compat", description=(__doc__ or "").split("\n\n")[1]
    )
    parser.add_argument("path", type=Path, help="the tests: DSPy's own, in a checkout of DSPy, or yours")
    parser.add_argument(
        "--ignore", metavar="NAME", action="append", help=f"leave out a folder (default: {' '.join(IGNORED)})"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.epilog = "What follows -- is for pytest, such as: -- -x --timeout 60"
    given = list(sys.argv[1:] if arguments is None else arguments)
    own, further = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    options = parser.parse_args(own)
    if not options.path.exists():
        parser.error(f"there is no {options.path}")
    ignored = [f"--ignore={options.path / name}" for name in (IGNORED if options.ignore is None else options.ignore)]
    try:
        found = compare(options.path, [*ignored, *further])
    except CompatError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(json.dumps(found.plain()) if options.json else found.text())
    return int(bool(found.broken))


if __name__ == "__main__":
    sys.exit(main())
