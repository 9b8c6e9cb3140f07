"""Where records wait for their lane, and are acknowledged: memory now, a spool or a stream later."""

from agent_tracking.sources.memory import MemorySource
from agent_tracking.sources.protocol import Source

__all__ = ["MemorySource", "Source"]
