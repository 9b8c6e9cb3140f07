"""The group that the commands belong to."""

from __future__ import annotations

import click
from importlib_metadata import version

from agent_tracking.cli.demo.command import demo
from agent_tracking.cli.new.command import new
from agent_tracking.cli.providers import providers

__all__ = ["app"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("agent-tracking"), message="agent-tracking %(version)s")
def app() -> None:
    """Server-side product analytics: one track() call, and every installed provider gets the event."""


app.add_command(providers)
app.add_command(demo)
app.add_command(new)
