"""A provider written when the hooks had fewer arguments: what it does not ask for it is not given."""

from __future__ import annotations

from pathlib import Path

from agent_tracking import EnvVar, Provider, hookimpl


class TallyProvider(Provider):
    """Counts events, whatever they are, in a file."""

    name = "sample-older"
    env = (EnvVar("SAMPLE_OLDER_FILE", required=True, help="the file that holds the number"),)

    @hookimpl
    def track(self) -> None:
        """Count one."""
        file = Path(self.values["SAMPLE_OLDER_FILE"])
        before = int(file.read_text()) if file.exists() else 0
        file.write_text(str(before + 1))
