"""How a batch reaches a provider: lanes, retries, HTTP."""
