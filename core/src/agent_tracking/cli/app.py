"""The group that the commands belong to."""

from __future__ import annotations

import click
from importlib_metadata import version

from agent_tracking.cli.demo.command import demo
from agent_tracking.cli.doctor.command import doctor
from agent_tracking.cli.importing.command import import_file
from agent_tracking.cli.new.command import new
from agent_tracking.cli.providers import providers
from agent_tracking.cli.relay import relay
from agent_tracking.cli.send import send
from agent_tracking.cli.spool.command import spool

__all__ = ["app"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("agent-tracking"), message="agent-tracking %(version)s")
def app() -> None:
    """Server-side product analytics: one track() call, and every installed provider gets the event."""


app.add_command(providers)
app.add_command(doctor)
app.add_command(send)
app.add_command(demo)
app.add_command(new)
app.add_command(import_file)
app.add_command(relay)
app.add_command(spool)
