"""Cluster: runtimes on several machines whose actors reach each other by the same addresses. See `memory` for one."""

from foundation.cluster.claims import NameClaim as NameClaim
from foundation.cluster.cluster import Cluster as Cluster
from foundation.cluster.cluster import ClusterStatistics as ClusterStatistics
from foundation.cluster.errors import ClusterError as ClusterError
from foundation.cluster.errors import ClusterUnavailable as ClusterUnavailable
from foundation.cluster.errors import NameTaken as NameTaken
from foundation.cluster.errors import NodeNameTaken as NodeNameTaken
from foundation.cluster.errors import NotJoined as NotJoined
from foundation.cluster.errors import NotReached as NotReached
from foundation.cluster.errors import PayloadTooLarge as PayloadTooLarge
from foundation.cluster.memory import MemoryNetwork as MemoryNetwork
from foundation.cluster.refs import RemoteRef as RemoteRef
