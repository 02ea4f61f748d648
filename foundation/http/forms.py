"""Bodies of forms (``multipart/form-data``, RFC 7578), as programs take images and files."""

from __future__ import annotations

from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from http import HTTPStatus
from typing import Any, TypeVar

from foundation.http.problems import Problem
from foundation.programs import FormPart

T = TypeVar("T")

FORM = "multipart/form-data"
#: How many parts a form may have.
MOST_PARTS = 1000
#: How long the head of a part may be, in bytes.
_LONGEST_HEAD = 8192


def parse_form(body: bytes, content_type: bytes) -> dict[str, Any]:
    r"""Return what is in a form: for each name a `FormPart`, or a list if there are several of the name.

    >>> body = b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n--x--\r\n'
    >>> parse_form(body, b"multipart/form-data; boundary=x")["note"].data
    b'hello'

    Args:
        body: of the request.
        content_type: of the request, which says what stands between the parts.

    Raises:
        Problem: it is no form.
    """
    boundary = _read(lambda: _head(b"content-type: " + content_type).get_boundary())
    if not boundary:
        raise _bad("Content-Type does not say what stands between its parts (boundary)")
    # A part begins on a line of its own, and so does the first one.
    _before, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1", "replace"), MOST_PARTS + 2)
    if len(parts) > MOST_PARTS + 1:
        raise _bad(f"it has more than {MOST_PARTS} parts")
    if not parts or not parts[-1].startswith(b"--"):
        raise _bad("its end is missing")
    found: dict[str, Any] = {}
    for part in parts[:-1]:
        name, value = _part(part)
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def _part(part: bytes) -> tuple[str, FormPart]:
    head, between, data = part.partition(b"\r\n\r\n")
    if not between or len(head) > _LONGEST_HEAD:
        raise _bad("a part has no head, or one that is too long")
    name, media_type, filename = _read(lambda: _said(_head(head.lstrip())))
    if name is None:
        raise _bad("a part has no name (Content-Disposition: form-data; name=…)")
    return name, FormPart(data, media_type, filename)


def _said(head: EmailMessage) -> tuple[str | None, str, str | None]:
    """Return the name of a part, its media type and the name of its file."""
    disposition: Any = head["content-disposition"]
    if disposition is None or disposition.content_disposition != "form-data":
        return None, "", None
    return disposition.params.get("name"), head.get_content_type(), head.get_filename()


def _read(work: Callable[[], T]) -> T:
    try:
        return work()
    except Exception as error:  # the parser raises many, also RecursionError
        raise _bad(f"a head cannot be read ({type(error).__name__})") from error


def _head(lines: bytes) -> EmailMessage:
    return message_from_bytes(lines + b"\r\n\r\n", policy=policy.HTTP)


def _bad(why: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "bad-form", f"the body is no {FORM}: {why}")
