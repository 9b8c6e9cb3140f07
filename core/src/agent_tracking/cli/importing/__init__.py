"""``agent-tracking import``: a file of events and identities, delivered to the providers."""
