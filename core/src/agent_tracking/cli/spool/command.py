"""The group that the commands about a spool belong to."""

from __future__ import annotations

import click

from agent_tracking.cli.spool.drop import drop_records
from agent_tracking.cli.spool.listing import list_records, show_record
from agent_tracking.cli.spool.retry import retry_records
from agent_tracking.cli.spool.status import show_status

__all__ = ["spool"]


@click.group(epilog="Example: agent-tracking spool status --spool /var/lib/shop/tracking")
def spool() -> None:
    """Look into a spool: what waits on disk, for whom, what was set aside; send it again or drop it.

    Run it as the user that the applications run as. Processes may go on writing and delivering meanwhile.
    Each command takes --spool FOLDER (AGENT_TRACKING_SPOOL by default) and --json.
    """


spool.add_command(show_status)
spool.add_command(list_records)
spool.add_command(show_record)
spool.add_command(retry_records)
spool.add_command(drop_records)
