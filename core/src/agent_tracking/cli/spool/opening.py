"""What the commands have in common: the folder, its checks, and the question before anything is destroyed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import click

from agent_tracking.cli.output import Refused, printable
from agent_tracking.settings import Settings, read_settings
from agent_tracking.sources.spool.browse import Browser
from agent_tracking.sources.spool.folder import Folder, SpoolError

__all__ = [
    "Failed",
    "Opened",
    "check_own",
    "check_providers",
    "confirm",
    "json_option",
    "opened",
    "spool_option",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Failed(click.ClickException):
    """One line on standard error, and an exit status of 1: it makes sense, but cannot be done."""

    exit_code = 1


class Opened(NamedTuple):
    """A spool that is looked at, and the settings of whoever looks."""

    browser: Browser
    settings: Settings


def spool_option(command: _Command) -> _Command:
    """Add ``--spool``."""
    return click.option("--spool", metavar="FOLDER", help="The folder; AGENT_TRACKING_SPOOL by default.")(
        command
    )


def json_option(command: _Command) -> _Command:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="For scripts.")(command)


def opened(spool: str | None) -> Opened:
    """Open a spool to look into it; nothing is made or changed."""
    settings, problems = read_settings(os.environ)
    path = spool or settings.spool
    if not path:
        raise Refused("no spool is named: give --spool FOLDER, or set AGENT_TRACKING_SPOOL")
    for error in problems:
        if "AGENT_TRACKING_SPOOL" in error.reason and "DELIVERY" not in error.reason:
            raise Refused(printable(str(error)))
    try:
        return Opened(Browser(path), settings)
    except SpoolError as error:
        raise Refused(printable(str(error))) from None


def check_own(browser: Browser) -> None:
    """Refuse to change a folder that other users' processes write to: files of this one would stop them."""
    try:
        Folder(browser.path).make()
    except OSError as error:
        raise Refused(printable(str(error))) from None


def check_providers(browser: Browser, names: Iterable[str]) -> None:
    """Refuse names of providers of which the folder knows nothing."""
    known = sorted({*browser.providers(), *browser.dead.providers()})
    for name in names:
        if name not in known:
            others = f"there is {', '.join(known)}" if known else "it knows none yet"
            raise Refused(printable(f"the spool knows no provider {name!r}: {others}"))


def confirm(what: str, *, yes: bool, as_json: bool) -> None:
    """Ask before something is destroyed; end with exit status 1 when the answer is no."""
    if yes:
        return
    if as_json or not sys.stdin.isatty():
        raise Refused(printable(f"{what}; nobody can be asked here, so add --yes to do it"))
    click.confirm(printable(f"{what}. Go on?"), abort=True, err=True)
