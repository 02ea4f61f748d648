"""What MLflow's own tracing sees of programs: run as a program of its own, as its autolog changes DSPy's settings.

Prints, as JSON, the names of the spans that an OTLP receiver has got, how many traces they are, and what autolog said
inside of an actor.
"""

# mypy: disable-error-code="import-not-found,import-untyped,misc"

from __future__ import annotations

import asyncio
import gzip
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BODIES: list[bytes] = []


class Receiver(BaseHTTPRequestHandler):
    """Takes spans by OTLP over HTTP."""

    def do_POST(self) -> None:
        """Take some."""
        body = self.rfile.read(int(self.headers["content-length"]))
        BODIES.append(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def receiver() -> str:
    """Start a receiver; return where it is."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def spans() -> list[Any]:
    """The spans that have come."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    requests = [ExportTraceServiceRequest.FromString(body) for body in BODIES]
    scopes = [scope for request in requests for each in request.resource_spans for scope in each.scope_spans]
    return [span for scope in scopes for span in scope.spans]


async def main() -> None:
    """Two calls of a pool below one span, and autolog inside of an actor."""
    import dspy
    import mlflow
    from mlflow.tracing.provider import provider

    from dspex.agents.background import agents_supervisor
    from dspex.agents.pool import start_program_pool
    from supervision import Actor, Request, Runtime, Supervisor, handle
    from tests.dspex.fixed_engine import FixedEngine, fields, fixed_lm

    class Try(Request[str], frozen=True):
        """Turn autolog on."""

    class Late(Actor):
        @handle
        async def turn_on(self, request: Try) -> str:
            try:
                dspy.configure(track_usage=True)
            except RuntimeError as error:
                return str(error)
            return ""

    mlflow.dspy.autolog()
    async with Runtime(watchdog=None) as runtime:
        await runtime.spawn(Supervisor, [agents_supervisor()])
        pool = await start_program_pool(runtime, dspy.Predict("question -> answer"), size=2, name="pool")
        model = fixed_lm(FixedEngine(fields(answer="a")))
        with mlflow.start_span("both"), dspy.context(lm=model):
            await asyncio.gather(*(pool.acall(question=str(n)) for n in range(2)))
        late = await runtime.spawn(Late)
        refused, lives = await late.call(Try()), late.alive
    provider.get().force_flush()
    found = spans()
    traces = len({span.trace_id for span in found})
    print(json.dumps({"names": sorted(span.name for span in found), "traces": traces, "late": refused, "lives": lives}))


if __name__ == "__main__":
    place = receiver()
    os.environ.update(
        MLFLOW_TRACKING_URI=place,
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{place}/v1/traces",
        OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="http/protobuf",
    )
    asyncio.run(main())
