"""Asks for an argument that the hook does not have."""

from agent_tracking import Provider as Base


class Provider(Base):
    """Its ``track`` does not match the specification."""

    name = "wrong-signature"

    def track(self, event, request):
        """Never called."""
