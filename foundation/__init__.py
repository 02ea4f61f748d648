# ruff: noqa: E402  # whose the packages are is looked at before they are imported
"""The platform: what a service of actors needs beyond the kernel, and the command that keeps a tree of them running.

>>> import asyncio
>>> from foundation import running_tree
>>> async def main() -> str:
...     async with running_tree("examples.counters:TREE") as tree:
...         return tree.root.path
>>> asyncio.run(main())
'/tree'
"""

from foundation.installation import require_own, warn_of_foreign

require_own("supervision")
warn_of_foreign("agents", "bridge", "dspex")

from foundation._version import __version__ as __version__
from foundation.tree import RunningTree as RunningTree
from foundation.tree import Tree as Tree
from foundation.tree import TreeError as TreeError
from foundation.tree import load_tree as load_tree
from foundation.tree import running_tree as running_tree

#: Whose package this is: others have packages of this name, see `foundation.installation`.
__distribution__ = "foundation-otp"
