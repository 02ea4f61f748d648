"""The commands of a page, run as somebody would who reads it: from its top to its end, in a folder of their own.

A block whose first line names a file (three backquotes, the language, and a name) is that file. In a block of the
language ``console``, lines that begin with ``$`` are commands, and what is below them is what they print: ``…`` stands
for anything, and an id (32 or 24 hexadecimal digits) for the one that there really is, from then on. A command that
ends with ``&`` is a server: it goes on until the end, and the next command waits until it serves. ``NAME=…`` is there
for those that follow, and ``cd`` leads to where they are run. What fails, HTTP's errors included, fails the test.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ID = re.compile(r"\b(?:[0-9a-f]{32}|[0-9a-f]{24})\b")
#: Where the pages have their server.
ADDRESS = "localhost:8000"


class Page:
    """A page whose commands are run in a ``with`` block.

    Args:
        path: of the page, below ``docs``; after a ``#`` the heading of the part that is meant, to the next of its kind.
        folder: where they are run; it gets a copy of the examples.
        environ: of the commands, besides that of this process.
    """

    def __init__(self, path: str, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        name, _, heading = path.partition("#")
        self.text = (ROOT / "docs" / name).read_text()
        if heading:
            self.text = self.text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
        own = {name: value for name, value in os.environ.items() if not name.startswith(("DSPEX_", "FOUNDATION_"))}
        python = f"{Path(sys.executable).parent}:{own['PATH']}"
        here = {
            "PATH": python,
            "PYTHONPATH": f"{ROOT}:{folder}",
            "CURL_HOME": str(folder),
            "FOUNDATION_PORT": self.port,
        }
        self.environ = {**own, **here, **(environ or {})}
        #: Ids that the page shows, and those that stand for them.
        self.ids: dict[str, str] = {}
        self.printed: list[tuple[str, str]] = []
        self._given: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for _, name, text in BLOCK.findall(self.text):
            if name:
                (self.folder / name).write_text(text)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self) -> list[str]:
        """Run all commands; return those that were run."""
        done = []
        for command, shown in self.commands():
            here = command.replace(ADDRESS, f"localhost:{self.port}")
            for told, found in self.ids.items():
                here = here.replace(told, found)
            if re.match(r"[A-Z]+=", here):
                self._given.append(here)
            elif here.startswith("cd "):
                self.folder = (self.folder / here.removeprefix("cd ")).resolve(strict=True)
            elif here.endswith("&"):
                self._serve(here.removesuffix("&"))
            else:
                self._run(here, shown)
            done.append(command)
        return done

    def commands(self) -> Iterator[tuple[str, str]]:
        """Return each command of the page, and what it is said to print."""
        for language, _, text in BLOCK.findall(self.text):
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:] if language == "console" else ():
                lines = part.splitlines()
                size = next(size for size in range(1, len(lines) + 1) if _whole("\n".join(lines[:size])))
                yield "\n".join(lines[:size]), "\n".join(lines[size:]).strip()

    def _run(self, command: str, shown: str) -> None:
        done = self._bash(command)
        assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
        self.printed.append((command, done.stdout))
        if shown:
            found = re.fullmatch(self._pattern(shown), done.stdout.replace("\r", "").strip(), re.DOTALL)
            assert found is not None, f"{command}:\n{done.stdout}\nand not\n{shown}"
            self.ids |= {name[1:]: value for name, value in found.groupdict().items()}

    def _bash(self, command: str) -> subprocess.CompletedProcess[str]:
        script = "\n".join([*self._given, command])
        options: Any = {"cwd": self.folder, "env": self.environ, "text": True, "capture_output": True}
        return subprocess.run(["bash", "-c", script], check=False, timeout=300, **options)

    def _pattern(self, shown: str) -> str:
        for told, found in self.ids.items():
            shown = shown.replace(told, found)
        parts, known = [], set(self.ids.values())
        for place, part in enumerate(re.split(rf"({ID.pattern}|…)", shown)):
            if not place % 2:
                parts.append(re.escape(part))
            elif part == "…":
                parts.append(".*")
            else:
                parts.append(part if part in known else f"(?P<_{part}>[0-9a-f]{{{len(part)}}})")
                known.add(part)
        return "".join(parts)

    def _serve(self, command: str) -> None:
        log = self._stack.enter_context((self.folder / "server.log").open("w"))
        words: Any = {"cwd": self.folder, "env": self.environ, "text": True}
        server = subprocess.Popen(shlex.split(command), stdout=subprocess.PIPE, stderr=log, **words)
        self._stack.callback(self._stop, server)
        assert server.stdout is not None
        # What it prints last is where it serves.
        assert any(f":{self.port}" in line for line in server.stdout), (self.folder / "server.log").read_text()

    @staticmethod
    def _stop(server: subprocess.Popen[str]) -> None:
        server.terminate()
        server.communicate(timeout=60)
        assert server.returncode == 0


def _whole(command: str) -> bool:
    """Whether a command ends here: no quote is open, and no line goes on."""
    try:
        shlex.split(command)
    except ValueError:
        return False
    return not command.endswith("\\")
