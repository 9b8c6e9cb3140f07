"""The command: a name is checked, a folder written, and the next two commands shown."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
from importlib_metadata import version

from agent_tracking.cli.new.files import render, write
from agent_tracking.cli.new.names import BadName, names_of
from agent_tracking.cli.output import Refused, printable, to_json

__all__ = ["new"]


@click.command(epilog="Example: agent-tracking new acme --plain")
@click.argument("name")
@click.option("--plain", is_flag=True, help="No HTTP: plain track() and flush().")
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Where the new folder goes; the current directory by default.",
)
@click.option("--json", "as_json", is_flag=True, help="For scripts: the paths written.")
def new(*, name: str, plain: bool, directory: Path, as_json: bool) -> None:
    """Write a complete distribution for a provider of yours.

    NAME is what the provider is called: lower-case letters, digits and '-'. The new folder is
    agent-tracking-NAME: metadata, README, source, tests, a workflow that runs them. Nothing that exists is
    overwritten. The exit status is 2 for a bad name or a folder that exists.
    """
    try:
        names = names_of(name)
    except BadName as error:
        raise Refused(str(error)) from None
    folder = directory / names.distribution
    texts = render(names, plain=plain, version=version("agent-tracking"))
    try:
        written = write(folder, texts)
    except FileExistsError:
        raise Refused(f"{printable(str(folder))} exists already: nothing was written") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Refused(f"{printable(str(folder))} cannot be written: {reason}") from None
    _tell(folder, written, as_json=as_json)


def _tell(folder: Path, written: list[Path], *, as_json: bool) -> None:
    place = str(folder) if folder.is_absolute() else f"./{folder}"
    commands = [f"pip install -e {shlex.quote(f'{place}[dev]')}", f"pytest {shlex.quote(str(folder))}"]
    if as_json:
        data = {"directory": str(folder), "paths": [str(path) for path in written], "next": commands}
        click.echo(to_json(data))
        return
    lines = [*(f"wrote {path}" for path in written), "", "Next:", *(f"  {command}" for command in commands)]
    click.echo("\n".join(map(printable, lines)))
