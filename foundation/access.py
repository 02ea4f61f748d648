"""Who may ask over HTTP: the names to serve under, the bearer token, and what it is needed for.

``python -m foundation.run`` keeps what it was told in ``runtime.shared``, where the HTTP server finds it.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from supervision import Runtime

#: What a token is needed for: changes of programs, running them too, or everything but health.
Protect = Literal["changes", "runs", "all"]
#: The file of a token that was made, in the folder for what is kept.
TOKEN_FILE = "token"  # noqa: S105 (the name of a file)
#: How long a token that was made is, in bytes.
TOKEN_BYTES = 32
#: The shortest token that may be given, in characters.
SHORTEST_TOKEN = 16


class BadAccess(ValueError):
    """This cannot say who may ask. The message names what is wrong, and the remedy; never a token."""


class Access(msgspec.Struct, frozen=True):
    """Who may ask over HTTP.

    Attributes:
        allow_hosts: names to serve under, beside those of loopback and the address that is listened at; with a port,
            such as ``shop.example:8443``, if pages are served under another one than their scheme's. ``*`` for any.
        token: what changes programs, or runs them, has to bring.
        token_file: a file that holds the token.
        protect: what the token is needed for: ``changes`` of programs, ``runs`` of them too, or ``all`` but health.
            None for ``runs`` if a token is given, else ``changes``.
        metrics_any_host: whether ``/metrics`` is served under any name, as those who scrape by address need.
        state: the folder in which a token is kept that had to be made, as nobody gave one.
    """

    allow_hosts: tuple[str, ...] = ()
    token: str | None = msgspec.field(default=None)
    token_file: str | None = None
    protect: Protect | None = None
    metrics_any_host: bool = False
    state: str = ".foundation"

    def __post_init__(self) -> None:
        _check_protect(self.protect)
        for name in self.allow_hosts:
            if not isinstance(name, str) or not name or not name.isascii() or any(c in name for c in "/@? "):
                raise BadAccess(f"allow_hosts: {name!r}: give a name or address, perhaps with a port, and no scheme")
        if self.token is not None and self.token_file is not None:
            raise BadAccess("token and token_file: give one of them")

    def __repr__(self) -> str:
        shown = "None" if self.token is None else "..."
        rest = f"{self.token_file!r}, {self.protect!r}, {self.metrics_any_host}, {self.state!r}"
        return f"Access({self.allow_hosts}, {shown}, {rest})"

    def with_changes(self, changes: Mapping[str, Any]) -> Access:
        """Return the same but for some changes, such as a tree file has them: a table.

        Raises:
            BadAccess: there is no such setting, or not with this value.
        """
        kept = {name: getattr(self, name) for name in self.__struct_fields__}
        if "token" in changes or "token_file" in changes:
            kept.update(token=None, token_file=None)
        unknown = sorted(set(changes) - set(kept))
        if unknown:
            raise BadAccess(f"{', '.join(unknown)}: there is no such setting; there are {', '.join(kept)}")
        _check_protect(changes.get("protect"))
        try:
            return msgspec.convert({**kept, **changes}, Access)
        except msgspec.ValidationError as error:
            raise BadAccess(str(error)) from None

    @property
    def given(self) -> bool:
        """Whether somebody gave a token."""
        return self.token is not None or self.token_file is not None

    @property
    def protected(self) -> Protect:
        """What the token is needed for."""
        return self.protect or ("runs" if self.given else "changes")


def _check_protect(value: object) -> None:
    if value is not None and value not in get_args(Protect):
        raise BadAccess(f"protect = {value!r}: choose one of {', '.join(get_args(Protect))}")


class BearerToken:
    """A bearer token: it can be compared, and not be read.

    Args:
        text: the token.
        file: where it is kept, if it was made.
        made: whether it was made just now.

    Raises:
        BadAccess: it is too short, or cannot be sent.
    """

    def __init__(self, text: str, file: Path | None = None, *, made: bool = False) -> None:
        if len(text) < SHORTEST_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
            raise BadAccess(f"the token: give at least {SHORTEST_TOKEN} printable ASCII characters without spaces")
        self._header = f"bearer {text}".encode()
        self._text = text
        self._file = file
        self._made = made

    def __repr__(self) -> str:
        return "Token(...)"

    @property
    def file(self) -> Path | None:
        """Where it is kept; None if it was given."""
        return self._file

    def show_once(self) -> str | None:
        """Return the token if it was made just now, the first time this is asked; else None."""
        made, self._made = self._made, False
        return self._text if made else None

    def matches(self, header: bytes | None) -> bool:
        """Return whether an ``Authorization`` header brings this token, compared in constant time.

        >>> BearerToken("0123456789abcdef").matches(b"Bearer 0123456789abcdef")
        True
        """
        given = b"" if header is None else header[:7].lower() + header[7:]
        return hmac.compare_digest(given, self._header)


def access_of(runtime: Runtime) -> Access:
    """Return what the operator has said for a runtime."""
    found: Access = runtime.shared.get(Access, Access())
    return found


def token_of(access: Access) -> BearerToken:
    """Return the token that somebody gave; else the one that is kept, which is made the first time.

    Raises:
        BadAccess: there is no such file, or what it holds is no token; or the folder cannot be written.
    """
    if access.token is not None:
        return BearerToken(access.token)
    if access.token_file is not None:
        return BearerToken(_read(Path(access.token_file)))
    path = Path(access.state) / TOKEN_FILE
    return BearerToken(_read(path), path) if path.exists() else _made(path)


def token_in_use(runtime: Runtime) -> BearerToken | None:
    """Return the token of the HTTP server of a runtime; None if nothing needs one."""
    found: BearerToken | None = runtime.shared.get(BearerToken)
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadAccess(
            f"the token's file {str(path)!r} cannot be read ({error}); correct it, or name another"
        ) from None


def _made(path: Path) -> BearerToken:
    text = secrets.token_urlsafe(TOKEN_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(new, "x", opener=_private) as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
    except OSError as error:
        remedy = "give a token (FOUNDATION_TOKEN, FOUNDATION_TOKEN_FILE), or another folder (--state)"
        raise BadAccess(f"no token can be kept in {str(path)!r} ({error}); {remedy}") from None
    return BearerToken(text, path, made=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
