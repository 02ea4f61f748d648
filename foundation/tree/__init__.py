"""Supervision trees as files and as values: read, checked, started, stopped, and looked at while they run."""

from foundation.tree.errors import TreeError as TreeError
from foundation.tree.explain import explain as explain
from foundation.tree.load import DEFAULT as DEFAULT
from foundation.tree.load import load_tree as load_tree
from foundation.tree.missing import LeftOut as LeftOut
from foundation.tree.missing import leave_out as leave_out
from foundation.tree.missing import left_out as left_out
from foundation.tree.optional import OptionalSupervisor as OptionalSupervisor
from foundation.tree.readiness import Readiness as Readiness
from foundation.tree.readiness import readiness_of as readiness_of
from foundation.tree.running import RunningTree as RunningTree
from foundation.tree.running import running_tree as running_tree
from foundation.tree.tree import Tree as Tree
from foundation.tree.view import Budget as Budget
from foundation.tree.view import Degraded as Degraded
from foundation.tree.view import Node as Node
from foundation.tree.view import NoSuchPath as NoSuchPath
from foundation.tree.view import View as View
from foundation.tree.view import degraded as degraded
from foundation.tree.view import part as part
from foundation.tree.view import view as view
