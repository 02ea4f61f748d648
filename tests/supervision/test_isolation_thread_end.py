"""Threads of actors end when they can, and never hold up the end of the process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

from supervision import Runtime
from tests.supervision.test_isolation_thread import Do, Tell, Threaded, until

STUCK = """
import asyncio, threading
from supervision import Runtime
from tests.supervision.test_isolation_thread import Tell, Threaded

async def main():
    in_hand = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with Runtime() as runtime:
        ref = await runtime.spawn(Threaded)
        ref.cast(Tell(lambda actor: (loop.call_soon_threadsafe(in_hand.set), threading.Event().wait())))
        await in_hand.wait()
        ref.kill()

asyncio.run(main())
print("over")
"""


def test_a_handler_that_is_stuck_for_ever_does_not_keep_the_process_from_ending() -> None:
    script = f"import sys; sys.path[:] = {sys.path!r}\n{STUCK}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "over\n"


def test_a_thread_ends_when_its_handler_does_though_the_loop_is_closed_or_the_runtime_is() -> None:
    gate = threading.Event()
    before = set(threading.enumerate())

    async def main() -> None:
        async with Runtime(watchdog=None, reports=False) as runtime:
            refs = [await runtime.spawn(Threaded) for _ in range(2)]
            in_hand = asyncio.Event()
            loop = asyncio.get_running_loop()
            await refs[0].call(Do(lambda actor: None))
            refs[0].cast(Tell(lambda actor: (loop.call_soon_threadsafe(in_hand.set), gate.wait())))
            await in_hand.wait()
            await refs[1].call(Do(lambda actor: None))
            early, in_hand = threading.Event(), asyncio.Event()
            refs[1].cast(Tell(lambda actor: (loop.call_soon_threadsafe(in_hand.set), early.wait())))
            await in_hand.wait()
            for ref in refs:
                ref.kill()
        early.set()
        await until(lambda: runtime.statistics().leaked_threads == 1)

    asyncio.run(main())
    gate.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert set(threading.enumerate()) <= before
