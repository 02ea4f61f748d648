"""A tree inside a program that has a loop of its own: no web server, no signal handlers, nothing installed.

Run it: ``python -m examples.embed_plain``.
"""

from __future__ import annotations

import asyncio

from examples.counters import TREE, Add, Total
from foundation import running_tree


async def main() -> int:
    """Count to five. The tree is started before the block and stopped, in order, after it."""
    async with running_tree(TREE) as tree:
        counter = tree.runtime.name("counter")
        counter.cast(Add(2))
        counter.cast(Add(3))
        total = await counter.call(Total())
        print("counted", total)
        return total


if __name__ == "__main__":
    asyncio.run(main())
