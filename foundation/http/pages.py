"""The pages for people: the live view of a tree, and for each program a page with a form that runs it.

The view has no scripts and reloads itself; both are light or dark as the browser prefers.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any
from urllib.parse import quote

from foundation.programs import Interface, ProgramField
from foundation.tree.optional import LeftOutPart
from foundation.tree.view import Degraded, TreeNode, TreeView

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


def tree_page(now: TreeView, troubles: Iterable[Degraded]) -> str:
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


def _rows(nodes: Iterable[TreeNode], depth: int) -> Iterator[str]:
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


def _row(node: TreeNode, depth: int) -> str:
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


def _absent(part: LeftOutPart) -> str:
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


_BOX = '<label>token <small>not kept</small><input id="token" type="password" autocomplete="off"></label>'
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{name}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem }}
label {{ display: block; margin-top: 1rem }}
textarea, input {{ width: 100%; font: inherit; box-sizing: border-box }}
button {{ margin-top: 1rem; font: inherit; padding: .3rem 1rem }}
pre {{ background: #8882; padding: 1rem; white-space: pre-wrap }}
small {{ opacity: .7 }}
table {{ border-collapse: collapse; width: 100% }}
caption, th, td {{ text-align: left; padding: .25rem .75rem .25rem 0 }}
</style>
<h1>{name}</h1>
<p>{description}</p>
<form>{token}{inputs}<button>Run</button></form>
<pre aria-live="polite"></pre>
<table hidden><caption></caption><thead><tr><th>member<th>outcome<th>answer<th>why</thead><tbody></tbody></table>
<p><a href="../openapi.json">OpenAPI</a> · <a href="../tree">tree</a></p>
<script>
const texts = {texts}, shown = document.querySelector("pre"), votes = document.querySelector("table")
const showBallot = answer => {{
  const ballot = Array.isArray(answer.ballot) ? answer.ballot.filter(one => one?.member && one?.outcome) : []
  votes.hidden = !ballot.length
  votes.caption.textContent = "coverage " + answer.coverage + (answer.degraded ? ", degraded: " + answer.degraded : "")
  votes.tBodies[0].replaceChildren(...ballot.map(one => {{
    const row = document.createElement("tr")
    for (const cell of [one.member, one.outcome, one.value ?? "", one.why ?? ""])
      row.insertCell().textContent = typeof cell === "object" ? JSON.stringify(cell) : cell
    return row
  }}))
}}
const read = field => {{
  if (texts.includes(field.name)) return field.value
  try {{ return JSON.parse(field.value) }} catch {{ return field.value }}
}}
document.querySelector("form").addEventListener("submit", async event => {{
  event.preventDefault()
  const fields = [...event.target.querySelectorAll("textarea")].filter(field => field.value || field.required)
  const body = JSON.stringify(Object.fromEntries(fields.map(field => [field.name, read(field)])))
  const written = {{}}
  const show = (kind, data) => {{
    if (kind === "status") return shown.textContent = data.message
    if (kind === "chunk") written[data.field] = (written[data.field] ?? "") + data.text
    const text = JSON.stringify(kind === "chunk" ? written : data, null, 2)
    shown.textContent = (kind === "error" ? data.status + "\\n" : "") + text
    if (kind === "answer") showBallot(data)
  }}
  shown.textContent = "…"
  votes.hidden = true
  try {{
    const headers = {{ "accept": "text/event-stream", "content-type": "application/json" }}
    const token = document.querySelector("#token")?.value
    if (token) headers.authorization = "Bearer " + token
    const response = await fetch(location.href, {{ method: "POST", headers, body }})
    if (!response.ok) return show("error", await response.json())
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
    let rest = ""
    for (let part = await reader.read(); !part.done; part = await reader.read()) {{
      const events = (rest + part.value).split("\\n\\n")
      rest = events.pop()
      for (const event of events) {{
        const lines = event.match(/^event: (.*)\\n(?:id: .*\\n)?data: (.*)$/)
        if (lines) show(lines[1], JSON.parse(lines[2]))
      }}
    }}
  }} catch (error) {{ shown.textContent = error }}
}})
</script>
</html>
"""


def playground_page(name: str, interface: Interface, *, token: bool = False) -> str:
    """Return the page of a program: a field for each input, a button, and what came back; of a team, also its ballot.

    Args:
        name: of the program.
        interface: what it takes and gives.
        token: whether a run has to bring a token.
    """
    return _PAGE.format(
        name=html.escape(name),
        description=html.escape(interface.description),
        inputs="".join(map(_input, interface.inputs)),
        token=_BOX if token else "",
        # A script ends at its end tag, also inside of a text.
        texts=json.dumps(_texts(interface)).replace("<", "\\u003c"),
    )


def _texts(interface: Interface) -> list[str]:
    """Return the inputs that are sent as they are written: texts, and those of which nothing is said."""
    return [field.name for field in interface.inputs if not field.schema or _may_be_text(field.schema)]


def _may_be_text(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "string" or any(map(_may_be_text, schema.get("anyOf", ())))


def _input(field: ProgramField) -> str:
    name, type, about = (html.escape(text, quote=True) for text in (field.name, field.type, field.description))
    required = " required" if field.required else ""
    box = f'<textarea name="{name}" rows="2"{required}></textarea>'
    return f"<label>{name} <small>{type}{' · ' if about else ''}{about}</small>{box}</label>"
