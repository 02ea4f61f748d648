"""Scripted engines that tell, in a file, what they have answered, and kill their process at one call."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from dspex.testing.engine import ScriptedEngine


class Telling(ScriptedEngine):
    """Notes what it was asked, in a file, when it has answered; and dies at one call. Beside the class of an engine."""

    def __init__(self, file: Path, last: int, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._file, self._last = file, last

    def answer(self, messages: Any) -> str:
        """Answer."""
        if self.calls == self._last:
            os.kill(os.getpid(), signal.SIGKILL)
        with self._file.open("a") as file:
            file.write(json.dumps([message["content"] for message in messages]) + "\n")
        return super().answer(messages)
