"""The live view of a tree as a page for people: no scripts, reloads itself, light or dark as the browser likes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from urllib.parse import quote

from foundation.tree.missing import LeftOut
from foundation.tree.view import Degraded, Node, View

#: Headers of pages for people: nothing from elsewhere, and not inside anybody else's page.
SAFE_PAGE = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
#: Seconds between two looks.
RELOAD = 2

_HEAD = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{RELOAD}">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>tree</title>
<style>
:root {{ color-scheme: light dark; font: 14px/1.5 system-ui, sans-serif }}
body {{ margin: 2rem auto; max-width: 72rem; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884 }}
td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums }}
.starting, .restarting {{ color: #b07a00 }} .running {{ color: #1a8f3c }}
.stopping, .exiting, .stopped, small {{ color: #888 }}
</style></head><body>
"""

_COLUMNS = (
    '<tr><th>actor</th><th>class</th><th>state</th><th class="n">incarnation</th><th class="n">uptime</th>'
    '<th class="n">restarts</th><th class="n">budget left</th><th class="n">mailbox</th></tr>\n'
)


def page(now: View, troubles: Iterable[Degraded]) -> str:
    """Return the page."""
    rows = "".join(_rows(now.tree, 0))
    letters = ", ".join(f"{escape(why)}: {count}" for why, count in now.dead_letters.items()) or "none"
    state = ", ".join(f"{escape(t.path)} {escape(t.state)}" for t in troubles) or "ready"
    return (
        f"{_HEAD}<h1>{escape(now.node)}</h1>\n<p>{state}</p>\n"
        f"<p><small>{now.actors} actors, {now.runnable} runnable, {now.zombies} zombies; "
        f"dead letters: {letters}</small></p>\n"
        f"<table>{_COLUMNS}{rows}{_more(now.more, 0)}</table>\n"
        f"{''.join(map(_absent, now.left_out))}"
        '<p><small><a href="programs">programs</a> · <a href="metrics">metrics</a> · <a href="readyz">ready?</a>'
        "</small></p>\n</body></html>\n"
    )


def _rows(nodes: Iterable[Node], depth: int) -> Iterator[str]:
    for node in nodes:
        yield _row(node, depth)
        yield from _rows(node.children, depth + 1)
        yield _more(node.more, depth + 1, node.path)


def _more(count: int, depth: int, path: str = "") -> str:
    """Return a row for actors that are not shown."""
    if not count:
        return ""
    about = f"{count} more" if not path else f'<a href="tree?path={quote(path)}">{count} more</a>'
    return f'<tr><td style="padding-left:{depth * 1.5}rem" colspan="8"><small>{about}</small></td></tr>\n'


def _row(node: Node, depth: int) -> str:
    left = "" if node.budget is None else f"{node.budget.left} of {node.budget.allowed}"
    numbers = (node.incarnation or "", duration(node.uptime), node.restarts, left, node.mailbox)
    words = ", ".join(f"{escape(name)}: {escape(value)}" for name, value in node.summary.items())
    return (
        f'<tr><td style="padding-left:{depth * 1.5}rem" title="{escape(node.path)}">{escape(node.id)}'
        f"{f'<br><small>{words}</small>' if words else ''}</td>"
        f'<td>{escape(node.kind)}</td><td class="{escape(node.state)}">{escape(node.state)}</td>'
        + "".join(f'<td class="n">{number}</td>' for number in numbers)
        + "</tr>\n"
    )


def _absent(part: LeftOut) -> str:
    return f"<p>{escape(str(part))}</p>\n"


def duration(seconds: float) -> str:
    """Return a length of time for people.

    >>> [duration(s) for s in (0.2, 75, 7300, 200_000)]
    ['0s', '1m 15s', '2h 1m', '2d 7h']
    """
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (whole % 60, "s")]
    first = next((n for n, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count}{unit}" for count, unit in parts[first : first + 2])
