"""A client's transport that holds every answer of the HTTP server against its own OpenAPI document."""

from __future__ import annotations

import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

#: What comes back where nothing is served, or no program is: the document knows no path there.
NOWHERE = {401, 403, 404, 405, 421, 503}


class DocumentedTransport(httpx.AsyncBaseTransport):
    """Asks an application, and the same for its document; what it answers has to be there.

    Args:
        app: the application.
        headers: with which the document is asked for, such as a token.
    """

    def __init__(self, app: Any, headers: dict[str, str] | None = None) -> None:
        self._inner = httpx.ASGITransport(app)
        self._headers = headers or {}
        #: The operations that were asked, by method and path in the document, with the status.
        self.seen: set[tuple[str, str, int]] = set()

    async def document(self) -> Any:
        """Return the document as it is now."""
        async with httpx.AsyncClient(transport=self._inner, base_url="http://localhost") as client:
            return (await client.get("/openapi.json", headers=self._headers)).json()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Ask, and check the answer."""
        response = await self._inner.handle_async_request(request)
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            await response.aread()
        self._check(await self.document(), request, response)
        return response

    def _check(self, document: Any, request: httpx.Request, response: httpx.Response) -> None:
        path, method = request.url.raw_path.decode().partition("?")[0], request.method.lower()
        found = next((each for each in document["paths"] if matches(each, path)), None)
        if found is None or method not in document["paths"][found]:
            assert response.status_code in NOWHERE, (method, path, response.status_code)
            return
        self.seen.add((method, found, response.status_code))
        operation, status = document["paths"][found][method], str(response.status_code)
        assert status in operation["responses"], (method, found, status, response.text)
        said = operation["responses"][status]
        content = said.get("content", {})
        kind = response.headers.get("content-type", "").partition(";")[0]
        assert kind in content or (not content and not kind), (method, found, status, kind)
        missing = {name for name in said.get("headers", {}) if name.lower() not in response.headers}
        assert not missing or status in ("429", "503"), (method, found, status, missing)
        if kind.endswith("json"):
            schema = {**content[kind]["schema"], "components": document["components"]}
            Draft202012Validator(schema).validate(response.json())


def matches(template: str, path: str) -> bool:
    """Whether a path is one of a template with ``{id}``; one that has none comes before, as with routes."""
    return re.fullmatch(re.escape(template).replace(r"\{id\}", "[^/]+"), path) is not None
