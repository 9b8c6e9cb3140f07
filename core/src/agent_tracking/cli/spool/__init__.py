"""``agent-tracking spool``: what waits on disk, for whom, what was set aside, and what to do about it."""
