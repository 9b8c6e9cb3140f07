"""``agent-tracking new``: a complete distribution for a provider, which passes its own tests at once."""
