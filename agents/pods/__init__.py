"""Pods: declared teams of agents, which can be changed while they run.

>>> import asyncio
>>> import msgspec
>>> from agents import AgentType
>>> from supervision import Runtime
>>> class Nothing(msgspec.Struct, frozen=True):
...     pass
>>> class Worker(AgentType[Nothing]):
...     pass
>>> review = (
...     Topology("review")
...     .add("planner", Worker)
...     .add("reviewer", Worker, owner="planner")
...     .add("auditor", Worker, activation="lazy")
... )
>>> async def main() -> None:
...     async with Runtime() as runtime:
...         pod = await start_pod(runtime, review, key="monday")
...         print({name: node.status for name, node in (await pod.nodes()).items()})
...         planner = await pod.ensure("planner")
...         print(sorted(planner.children))
>>> asyncio.run(main())
{'planner': 'running', 'reviewer': 'running', 'auditor': 'stopped'}
['reviewer']
"""

from agents.pods.pod import MutationBusy as MutationBusy
from agents.pods.pod import MutationReport as MutationReport
from agents.pods.pod import NodeStatus as NodeStatus
from agents.pods.pod import Pod as Pod
from agents.pods.pod import start_pod as start_pod
from agents.pods.topology import AddNode as AddNode
from agents.pods.topology import BadTopology as BadTopology
from agents.pods.topology import Node as Node
from agents.pods.topology import RemoveNode as RemoveNode
from agents.pods.topology import Topology as Topology
