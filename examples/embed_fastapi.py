"""A tree inside a FastAPI service: it starts before the first request and stops, in order, after the last.

Run it: ``uvicorn examples.embed_fastapi:app``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException

from examples.counters import TREE, Add, Total
from foundation import running_tree
from foundation.http import application
from supervision import CallError


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Run the tree as long as the service runs, and show it under ``/foundation``."""
    async with running_tree(TREE) as tree:
        app.state.counter = tree.runtime.name("counter")
        app.mount("/foundation", application(tree.runtime))
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/count/{n}")
async def count(n: int) -> dict[str, int]:
    """Count ``n`` more. A counter that is being restarted is a 503, not a 500."""
    app.state.counter.cast(Add(n))
    try:
        return {"total": await app.state.counter.call(Total())}
    except CallError as error:
        raise HTTPException(503, str(error)) from error
