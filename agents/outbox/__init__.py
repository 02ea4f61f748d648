"""What durable agents have decided and not done, seen and changed from outside, while their service does not run.

``python -m agents.outbox list service.db`` is for people; `OutboxFile` is for programs. While a service runs, its
agents tell (`AgentHandle.dead_effects`) and try again (`AgentHandle.redrive`) themselves.
"""

from agents.outbox.file import OutboxFile as OutboxFile
from agents.outbox.file import KeptEffect as KeptEffect
from agents.outbox.file import EffectState as EffectState
from agents.outbox.file import OutboxFileError as OutboxFileError
from agents.outbox.file import BadOutboxFile as BadOutboxFile
from agents.outbox.file import FileInUse as FileInUse
from agents.outbox.file import NoSuchEffect as NoSuchEffect
from agents.outbox.file import NoSuchAgent as NoSuchAgent
