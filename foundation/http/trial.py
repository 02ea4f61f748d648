"""The page on which a program can be tried by hand."""

from __future__ import annotations

import html
import json

from foundation.programs import Field, Interface

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
</style>
<h1>{name}</h1>
<p>{description}</p>
<form>{token}{inputs}<button>Run</button></form>
<pre aria-live="polite"></pre>
<p><a href="../openapi.json">OpenAPI</a> · <a href="../tree">tree</a></p>
<script>
const texts = {texts}, shown = document.querySelector("pre")
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
  }}
  shown.textContent = "…"
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
        const lines = event.match(/^event: (.*)\\ndata: (.*)$/)
        if (lines) show(lines[1], JSON.parse(lines[2]))
      }}
    }}
  }} catch (error) {{ shown.textContent = error }}
}})
</script>
</html>
"""


def trial_page(name: str, interface: Interface, *, token: bool = False) -> str:
    """Return the page of a program: a field for each input, a button, and what came back.

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
    return [field.name for field in interface.inputs if field.schema.get("type", "string") == "string"]


def _input(field: Field) -> str:
    name, type, about = (html.escape(text, quote=True) for text in (field.name, field.type, field.description))
    required = " required" if field.required else ""
    box = f'<textarea name="{name}" rows="2"{required}></textarea>'
    return f"<label>{name} <small>{type}{' · ' if about else ''}{about}</small>{box}</label>"
