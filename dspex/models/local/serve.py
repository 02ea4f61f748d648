"""The process that runs the embedded model: ``python -m dspex.models.local.serve --model FILE``.

It serves llama.cpp's HTTP interface on a free port of 127.0.0.1, and prints one line when it is ready::

    {"url": "http://127.0.0.1:41917", "pid": 4242}

It never outlives its parent: it ends when its standard input does, and when its parent dies, also by
SIGKILL. SIGTERM and SIGINT end it in order. `dspex.models.local.process` runs this file by its path, which spares
the process the import of everything else; so nothing of this project may be imported here.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from typing import Any

#: Seconds between two looks at the parent. Only needed where a fork of the parent keeps the pipe to us open.
LOOK = 1.0


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="dspex.models.local.serve", description="Serve a language model on 127.0.0.1."
    )
    parser.add_argument("--model", required=True, help="the model's file (GGUF)")
    parser.add_argument("--alias", default="smollm2", help="the name of the model in answers")
    parser.add_argument("--threads", type=int, default=1, help="threads that compute")
    parser.add_argument("--slots", type=int, default=2, help="requests served at the same time")
    parser.add_argument("--context", type=int, default=4096, help="tokens of context, shared out among the slots")
    parser.add_argument("--cache-mib", type=int, default=64, help="memory for prompts seen before, in MiB")
    return parser.parse_args(arguments)


def parameters(library: Any, chosen: argparse.Namespace) -> Any:
    """Return llama.cpp's parameters. Its default prompt cache of 8 GiB is the one that must not stay."""
    params = library.CommonParams()
    params.model.path = chosen.model
    params.model_alias = {chosen.alias}
    params.hostnames = ["127.0.0.1"]
    params.n_ctx = chosen.context
    params.n_parallel = chosen.slots
    params.cpuparams.n_threads = chosen.threads
    params.cpuparams_batch.n_threads = chosen.threads
    params.cache_ram_mib = chosen.cache_mib
    params.verbosity = 0
    return params


def wait_for_end(stdin: int, parent: int, look: float = LOOK) -> None:
    """Return when the file descriptor ``stdin`` is at its end, or ``parent`` is no longer the parent."""
    while os.getppid() == parent:
        readable, _, _ = select.select([stdin], [], [], look)
        if readable and not os.read(stdin, 4096):
            return


def _end(_signum: int, _frame: object) -> None:
    raise SystemExit(0)


def serve(library: Any, chosen: argparse.Namespace, stdin: int, parent: int) -> None:
    """Run the server until there is nobody left to serve.

    Args:
        library: xllamacpp, or something like it.
        chosen: the command line.
        stdin: the file descriptor whose end is the end.
        parent: the process whose end is the end.

    Raises:
        RuntimeError: the library cannot load the model.
        SystemExit: SIGTERM or SIGINT came.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    server = library.Server(parameters(library, chosen))
    print(json.dumps({"url": server.listening_address, "pid": os.getpid()}), flush=True)
    wait_for_end(stdin, parent)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server; return the exit status: 0 for an ordered end, 1 if the model could not be loaded."""
    parent = os.getppid()
    chosen = options(arguments)
    try:
        serve(importlib.import_module("xllamacpp"), chosen, sys.stdin.fileno(), parent)
    except (ImportError, RuntimeError) as error:
        print(f"dspex.models.local.serve: {chosen.model}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
