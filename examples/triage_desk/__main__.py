"""The command: ``python -m examples.triage_desk``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from foundation.run import main as run

TREE = Path(__file__).with_name("desk.toml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the desk until Ctrl-C; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.triage_desk",
        description='A triage desk: curl --json \'{"customer": "Ann", "text": "I cannot login"}\' '
        "127.0.0.1:8000/desk/tickets sends it a ticket. Kill it with -9 and start it again: nothing that it has "
        "acknowledged is lost.",
        epilog="All options of python -m foundation.run can be given too, such as --check, --json-logs, --log-level.",
        allow_abbrev=False,
    )
    parser.add_argument("--port", type=int, default=8000, help="where it listens (8000)")
    parser.add_argument("--state", default=".triage_desk", help="the folder for what is kept (.triage_desk)")
    parser.add_argument("--outside", metavar="URL", help="the services outside; without, the desk serves them itself")
    parser.add_argument("--visitors", type=int, default=5, help="how many tickets come in by themselves (5)")
    told, more = parser.parse_known_args(arguments)
    if told.outside is None and told.port == 0:
        parser.error("with --port 0, say where the services outside are: --outside URL")
    outside = told.outside or f"http://127.0.0.1:{told.port}/outside"
    values = ["--set", f"outside={outside}", "--set", f"visitors={told.visitors}"]
    return run([str(TREE), "--port", str(told.port), "--state", told.state, *values, *more])


if __name__ == "__main__":
    sys.exit(main())
