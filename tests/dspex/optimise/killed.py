"""An optimisation in a process that kills itself at one of its calls: ``python -m … SPEC CALL``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from dspex.optimise.__main__ import main
from dspex.testing.engine import ScriptedEngine, scripted_lm
from tests.dspex.optimise.shop import LABELS


def run(spec: str, last: int) -> int:
    """Do the optimisation, note its calls in a file, and die at one of them."""

    def before(call: int) -> None:
        with Path(spec).with_suffix(".calls").open("a") as file:
            file.write("x")
        if call == last:
            os.kill(os.getpid(), signal.SIGKILL)

    return main([spec, "--json"], lm=scripted_lm(ScriptedEngine(LABELS, before=before)))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], int(sys.argv[2])))
