"""Who may ask over HTTP: names, the token, and what it is needed for."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from foundation.access import Access, BadAccess, BearerToken, access_of, token_in_use, token_of
from foundation.http import HttpServer, application
from foundation.run.settings import BadInput, Settings, read_settings
from supervision import Runtime, StartError
from tests.supervision.probes import error_of

TOKEN = "0123456789abcdefghij"


@asynccontextmanager
async def client_of(access: Access, *, address: str = "", versions: bool = False) -> AsyncIterator[httpx.AsyncClient]:
    async with Runtime(watchdog=None, reports=False) as runtime:
        app = application(runtime, access=access, address=address, versions=versions)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            yield client


async def asked(client: httpx.AsyncClient, path: str, **headers: str) -> int:
    return (await client.get(path, headers=headers)).status_code


# -- the token -----------------------------------------------------------------------------------------------


def test_a_token_is_made_once_kept_for_its_owner_alone_and_shown_once(tmp_path: Path) -> None:
    access = Access(state=str(tmp_path / "state"))
    made = token_of(access)
    file = tmp_path / "state" / "token"
    assert made.file == file
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = made.show_once()
    assert text == file.read_text().strip()
    assert made.show_once() is None
    assert made.matches(f"Bearer {text}".encode())
    again = token_of(access)
    assert again.show_once() is None
    assert again.matches(f"bearer {text}".encode())
    assert [path.name for path in file.parent.iterdir()] == ["token"]


def test_a_token_shows_in_no_text() -> None:
    access = Access(("a.example",), TOKEN)
    settings = read_settings([], {"FOUNDATION_TOKEN": TOKEN})
    for thing in (access, BearerToken(TOKEN), settings, settings.access):
        assert TOKEN not in repr(thing)
        assert TOKEN not in str(thing)
    assert "a.example" in repr(access)
    assert "None" in repr(Access())
    with pytest.raises(BadInput) as caught:
        read_settings([], {"FOUNDATION_TOKEN": "my secret"})
    assert "my secret" not in str(caught.value)


@pytest.mark.parametrize("given", [None, b"", b"Bearer", b"Bearer " + TOKEN[:-1].encode(), b"Basic " + TOKEN.encode()])
def test_only_the_whole_token_opens(given: bytes | None) -> None:
    assert not BearerToken(TOKEN).matches(given)


def test_a_token_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(TOKEN + "\n")
    token = token_of(Access(token_file=str(tmp_path / "t")))
    assert token.matches(b"Bearer " + TOKEN.encode())
    assert token.file is None


def test_a_token_that_is_none_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("short")
    with pytest.raises(BadAccess, match="give at least 16 printable"):
        token_of(Access(token_file=str(tmp_path / "short")))
    with pytest.raises(BadAccess, match="cannot be read"):
        token_of(Access(token_file=str(tmp_path / "nowhere")))
    (tmp_path / "file").write_text("")
    with pytest.raises(BadAccess, match=r"no token can be kept in .*--state"):
        token_of(Access(state=str(tmp_path / "file" / "state")))


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"protect": "nothing"}, "choose one of changes, runs, all"),
        ({"allow_hosts": ("http://a.example",)}, "give a name or address"),
        ({"allow_hosts": ("",)}, "give a name or address"),
        ({"allow_hosts": (1,)}, "give a name or address"),
        ({"token": TOKEN, "token_file": "t"}, "give one of them"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(BadAccess, match=line):
        Access(**wrong)


def test_a_tree_can_change_what_the_command_was_told() -> None:
    told = Access(("a.example",), TOKEN, state="s")
    changed = told.with_changes({"protect": "all", "token_file": "t"})
    assert (changed.allow_hosts, changed.token, changed.token_file) == (("a.example",), None, "t")
    assert (changed.protected, changed.state) == ("all", "s")
    with pytest.raises(BadAccess, match="there is no such setting; there are allow_hosts, token"):
        told.with_changes({"hosts": []})
    with pytest.raises(BadAccess, match="Expected `array`"):
        told.with_changes({"allow_hosts": 1})


# -- what it is needed for -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("access", "tree", "run"),
    [
        (Access(), 200, 503),
        (Access(token=TOKEN), 200, 401),
        (Access(token=TOKEN, protect="changes"), 200, 503),
        (Access(token=TOKEN, protect="all"), 401, 401),
    ],
)
async def test_the_token_is_needed_for_as_much_as_was_said(access: Access, tree: int, run: int) -> None:
    async with client_of(access) as client:
        assert await asked(client, "/tree") == tree
        assert (await client.post("/programs/p", json={})).status_code == run
        assert await asked(client, "/healthz") == 200
        assert await asked(client, "/metrics") == tree
        client.headers["authorization"] = f"Bearer {TOKEN}"
        assert await asked(client, "/tree") == 200
        assert (await client.post("/programs/p", json={})).status_code == 503


async def test_where_versions_are_served_a_token_is_made(tmp_path: Path) -> None:
    async with client_of(Access(state=str(tmp_path)), versions=True) as client:
        assert await asked(client, "/programs/p/versions") == 401
        text = (tmp_path / "token").read_text().strip()
        assert await asked(client, "/programs/p/versions", authorization=f"Bearer {text}") == 503
        assert (await client.post("/programs/p", json={})).status_code == 503


async def test_where_nothing_needs_a_token_none_is_made(tmp_path: Path) -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        application(runtime, access=Access(state=str(tmp_path)))
        assert token_in_use(runtime) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_a_front_takes_what_the_command_was_told_and_what_its_tree_says(tmp_path: Path) -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        assert access_of(runtime) == Access()
        runtime.shared[Access] = Access(state=str(tmp_path / "state"))
        first = await runtime.spawn(HttpServer, port=0, versions=True)
        assert token_in_use(runtime) is not None
        await first.stop()
        second = await runtime.spawn(HttpServer, port=0, access=Access(token=TOKEN), limits={"max_body": 10})
        await second.stop()
        error = await error_of(runtime.spawn(HttpServer, port=0, access={"protect": "nothing"}))
    assert isinstance(error, StartError)
    assert "choose one of changes, runs, all" in str(error)


# -- names ---------------------------------------------------------------------------------------------------


async def test_names_are_those_of_loopback_of_the_address_and_those_allowed() -> None:
    access = Access(("Shop.example:8443", "[2001:db8::1]", "2001:db8::2"))
    async with client_of(access, address="192.0.2.1") as client:
        for name in (
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1",
            "[::1]:8000",
            "192.0.2.1:1",
            "shop.example",
            "[2001:db8::1]",
        ):
            assert (name, await asked(client, "/tree", host=name)) == (name, 200)
        for name in ("example", "evil.shop.example", "192.0.2.2", "localhost.", "shop.example.evil"):
            assert (name, await asked(client, "/tree", host=name)) == (name, 421)
        refused = (await client.get("/tree", headers={"host": "evil.example"})).json()
        assert "the HTTP server does not serve under the name 'evil.example'" in refused["detail"]
        assert "--allow-host" in refused["detail"]


@pytest.mark.parametrize("address", ["0.0.0.0", "::", ""])
async def test_an_address_that_stands_for_all_is_no_name(address: str) -> None:
    async with client_of(Access(), address=address) as client:
        assert await asked(client, "/tree", host=address or "x") == 421


async def test_a_name_to_listen_at_is_a_name_to_serve_under() -> None:
    async with client_of(Access(), address="Shop") as client:
        assert await asked(client, "/tree", host="shop:80") == 200


async def test_any_name_will_do_if_that_was_said_and_only_some_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foundation.http.guard.MOST_REMEMBERED", 2)
    async with client_of(Access(("*",))) as client:
        for name in ("a", "b", "c", "c"):
            assert await asked(client, "/tree", host=name) == 200


async def test_metrics_are_for_any_name_if_that_was_said() -> None:
    async with client_of(Access(metrics_any_host=True, token=TOKEN, protect="all")) as client:
        assert await asked(client, "/metrics", host="10.0.0.7") == 200
        assert await asked(client, "/tree", host="10.0.0.7") == 421


async def test_a_page_of_an_allowed_name_may_ask() -> None:
    """Also when a proxy has changed the name that the server sees."""
    async with client_of(Access(("shop.example", "shop.example:8443"))) as client:
        for origin in ("https://shop.example", "https://shop.example:8443", "http://localhost"):
            assert await asked(client, "/tree", origin=origin) == 200
        for origin in ("https://shop.example:1", "null", "shop.example", "http://localhost:3000"):
            assert await asked(client, "/tree", origin=origin) == 403


async def test_lengths_that_contradict_are_refused() -> None:
    async with client_of(Access()) as client:
        assert await asked(client, "/tree", **{"transfer-encoding": "chunked", "content-length": "0"}) == 400


async def test_a_page_that_needs_the_token_asks_for_it() -> None:
    from foundation.http.pages import playground_page
    from foundation.programs import Interface, ProgramField

    interface = Interface("P", "", (ProgramField("</script><b>", "str"),), ())
    assert 'id="token"' in playground_page("p", interface, token=True)
    page = playground_page("p", interface)
    assert 'id="token"' not in page
    assert 'texts = ["\\u003c/script>\\u003cb>"]' in page


# -- the command ---------------------------------------------------------------------------------------------


def test_all_can_be_said_to_the_command(tmp_path: Path) -> None:
    arguments = ["--allow-host", "a.example", "--allow-host", "b.example:1", "--protect", "all", "--metrics-any-host"]
    said = read_settings([*arguments, "--token-file", "t", "--state", "s"], {})
    assert said.access == Access(("a.example", "b.example:1"), None, "t", "all", True, state="s")
    environ = {
        "FOUNDATION_ALLOW_HOSTS": "a.example, b.example:1,",
        "FOUNDATION_TOKEN": TOKEN,
        "FOUNDATION_PROTECT": "runs",
        "FOUNDATION_METRICS_ANY_HOST": "yes",
    }
    assert read_settings([], environ).access == Access(("a.example", "b.example:1"), TOKEN, None, "runs", True)
    assert read_settings([], {}) == Settings()


@pytest.mark.parametrize(
    ("arguments", "environ", "line"),
    [
        (["--allow-host", "http://a"], {}, "--allow-host = 'http://a': "),
        ([], {"FOUNDATION_ALLOW_HOSTS": "a/b"}, "FOUNDATION_ALLOW_HOSTS = 'a/b': "),
        (["--protect", "me"], {}, "--protect = 'me': choose one of changes, runs, all"),
        ([], {"FOUNDATION_TOKEN": "short"}, "FOUNDATION_TOKEN: the token: give at least 16"),
        (["--token-file", "t"], {"FOUNDATION_TOKEN": TOKEN}, "FOUNDATION_TOKEN and --token-file: give one of them"),
    ],
)
def test_what_is_wrong_for_the_command_is_named(arguments: list[str], environ: dict[str, str], line: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_settings(arguments, environ)
    assert str(caught.value).startswith(line)
