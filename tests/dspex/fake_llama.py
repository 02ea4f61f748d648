"""What llama-server answers, without a model: a vocabulary of words, each with the weight that a test gives
it."""

from __future__ import annotations

import json
import math
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class FakeLlama:
    """A server in a thread. Tokens are words with the space before them.

    Attributes:
        weights: how likely a word is; a word that is not there is 1e-9 likely.
        posts: what was asked: (path, body).
        refusal: if set, every question is answered with this (status, body).
        reply: what a chat completion says.
    """

    def __init__(self) -> None:
        self.weights: dict[str, float] = {}
        self.words: list[str] = []
        self.posts: list[tuple[str, dict[str, Any]]] = []
        self.refusal: tuple[int, str] | None = None
        self.reply = "Answer: Paris"
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 65536  # head and body in one piece, or the client waits 40 ms for the second

            def log_message(self, format: str, *args: object) -> None:
                """Be silent."""

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.posts.append((self.path, body))
                status, text = fake.refusal or (200, fake.answer(self.path, body))
                kind = "text/event-stream" if body.get("stream") and status == 200 else "application/json"
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def endpoint(self) -> str:
        """Where it serves."""
        return self.url

    def asked(self, path: str) -> list[dict[str, Any]]:
        """What was asked at a path."""
        return [body for at, body in self.posts if at == path]

    def answer(self, path: str, body: dict[str, Any]) -> str:
        """The answer to a question."""
        if path == "/apply-template":
            turns = "".join(f"<{m['role']}>{m['content']}\n" for m in body["messages"])
            return json.dumps({"prompt": f"{turns}<assistant>"})
        if path == "/tokenize":
            return json.dumps({"tokens": [self.token(word) for word in re.findall(r"\s*\S+", body["content"])]})
        if path == "/completion":
            return json.dumps(self.complete(body))
        return self.chat(body)

    def token(self, word: str) -> int:
        """The number of a word."""
        if word not in self.words:
            self.words.append(word)
        return self.words.index(word)

    def weight(self, token: int) -> float:
        """How likely a token is."""
        return self.weights.get(self.words[token].strip(), 1e-9)

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """One scored completion: of the biased tokens, or of those that the grammar spells out."""
        if "grammar" in body:
            tokens = [int(number) for number in re.findall(r"<\[(\d+)\]>", body["grammar"])]
            steps: list[dict[str, Any]] = [{"id": t, "logprob": math.log(self.weight(t))} for t in tokens]
            return {"tokens_evaluated": 7, "completion_probabilities": [*steps, {"id": 0, "logprob": 0.0}]}
        biased = [token for token, _ in body["logit_bias"]]
        total = sum(self.weight(token) for token in biased)
        probs = [{"id": token, "prob": self.weight(token) / total} for token in biased]
        return {
            "tokens_evaluated": 7,
            "completion_probabilities": [{"top_probs": [p for p in probs if p["prob"]]}],
        }

    def said(self, body: dict[str, Any]) -> str:
        """What a chat completion says."""
        return self.reply

    def chat(self, body: dict[str, Any]) -> str:
        """One chat completion, in a stream if wanted."""
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        head = {"id": "1", "model": "fake", "object": "chat.completion"}
        if not body.get("stream"):
            message = {"role": "assistant", "content": self.said(body)}
            choices = [{"index": 0, "finish_reason": "stop", "message": message}]
            return json.dumps({**head, "choices": choices, "usage": usage})
        pieces: list[dict[str, Any]] = [
            {"delta": {"content": piece}} for piece in re.findall(r"\s*\S+", self.said(body))
        ]
        ends: list[dict[str, Any]] = [{"delta": {}, "finish_reason": "stop"}]
        frames: list[dict[str, Any]] = [{**head, "choices": [{"index": 0, **piece}]} for piece in pieces + ends]
        frames[-1]["usage"] = usage
        return "".join(f"data: {json.dumps(frame)}\n\n" for frame in frames) + "data: [DONE]\n\n"
