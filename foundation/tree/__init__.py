"""Supervision trees as files and as values: read, checked, started, stopped, and looked at while they run."""

# Loading and running a tree.
from foundation.tree.running import running_tree as running_tree
from foundation.tree.load import load_tree as load_tree
from foundation.tree.tree import Tree as Tree
from foundation.tree.running import RunningTree as RunningTree
from foundation.tree.load import DEFAULT as DEFAULT
from foundation.tree.errors import TreeError as TreeError
from foundation.tree.errors import explain as explain

# Whether it can take work.
from foundation.tree.readiness import readiness_of as readiness_of
from foundation.tree.readiness import Readiness as Readiness
from foundation.tree.view import Degraded as Degraded

# A view of it while it runs.
from foundation.tree.view import view_tree as view_tree
from foundation.tree.view import view_part as view_part
from foundation.tree.view import TreeView as TreeView
from foundation.tree.view import TreeNode as TreeNode
from foundation.tree.view import BudgetView as BudgetView
from foundation.tree.view import NoSuchPath as NoSuchPath

# Optional parts that cannot run here.
from foundation.tree.optional import left_out as left_out
from foundation.tree.optional import LeftOutPart as LeftOutPart
