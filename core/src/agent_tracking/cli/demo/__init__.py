"""``agent-tracking demo``: the whole way of an event, to a sink that answers as the vendors do."""
