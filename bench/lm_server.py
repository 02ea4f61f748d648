"""A language model behind HTTP, with a set latency: in a process of its own, with the interface of OpenAI.

What it answers is decided by a hash; see `dspex.testing.engine`. Run as ``python -m bench.lm_server``, it prints its
port, and serves until its standard input is closed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Generator
from contextlib import contextmanager
from subprocess import PIPE, Popen
from typing import Any

import uvicorn

from dspex.testing.engine import ScriptedEngine, task

#: How many texts it knows.
SIZE = 200


class Served:
    """The application.

    Args:
        latency: seconds that an answer takes, on average; it varies by a quarter.
        errors: how often it answers with an error, as a share.
    """

    def __init__(self, latency: float, errors: float) -> None:
        self.engine = ScriptedEngine(task(SIZE)[1])
        self._latency = latency
        self._errors = errors
        self._chance = random.Random(1)

    async def __call__(self, _: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer a request."""
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        messages = json.loads(body + message["body"])["messages"]
        await asyncio.sleep(self._latency * (0.75 + 0.5 * self._chance.random()))
        if self._chance.random() < self._errors:
            await _reply(send, 503, {"error": {"message": "overloaded", "type": "server_error"}}, ("retry-after", "0"))
            return
        turns = [{"role": turn["role"], "content": _text(turn["content"])} for turn in messages]
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ""}}
        choice["message"]["content"] = self.engine.answer(turns)  # type: ignore[index]
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        answer = {"id": "1", "object": "chat.completion", "model": "known", "choices": [choice], "usage": usage}
        await _reply(send, 200, answer)


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


async def _reply(send: Any, status: int, body: dict[str, Any], *headers: tuple[str, str]) -> None:
    data = json.dumps(body).encode()
    named = [("content-type", "application/json"), ("content-length", str(len(data))), *headers]
    encoded = [(name.encode(), value.encode()) for name, value in named]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": data})


async def _serve(latency: float, errors: float) -> None:
    config = uvicorn.Config(Served(latency, errors), port=0, log_level="error", lifespan="off", backlog=4096)
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.should_exit = True
    server.force_exit = True
    await serving


@contextmanager
def served(latency: float, errors: float = 0.0) -> Generator[str]:
    """Serve in another process, and return the address."""
    command = [sys.executable, "-m", "bench.lm_server", "--latency", str(latency), "--errors", str(errors)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        finally:
            process.stdin.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--errors", type=float, default=0.0)
    options = parser.parse_args()
    asyncio.run(_serve(options.latency, options.errors))
