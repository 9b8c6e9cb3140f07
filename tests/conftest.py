"""The fixtures and the conformance report that authors use, here as well."""

pytest_plugins = ["agent_tracking.testing.fixtures"]
