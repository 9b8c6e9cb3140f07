"""``agent-tracking spool drop``: records are destroyed, after a question."""

from __future__ import annotations

from collections.abc import Sequence

import click

from agent_tracking.cli.output import Refused, printable, to_json
from agent_tracking.cli.spool.opening import (
    Failed,
    check_own,
    check_providers,
    confirm,
    json_option,
    opened,
    spool_option,
)
from agent_tracking.cli.spool.retry import dead_ids
from agent_tracking.cli.spool.status import size_text
from agent_tracking.sources.spool.browse import Browser
from agent_tracking.sources.spool.skipping import LedError, skip_waiting

__all__ = ["drop_records"]


@click.command("drop", epilog="Example: agent-tracking spool drop --dead --provider posthog")
@spool_option
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option(
    "--dead", "set_aside", is_flag=True, help="What was set aside: all, a provider's, or these IDs."
)
@click.option("--waiting", is_flag=True, help="All that waits for one provider.")
@click.option("--provider", "providers", multiple=True, help="Whose; may be given again.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def drop_records(
    *,
    spool: str | None,
    ids: tuple[str, ...],
    set_aside: bool,
    waiting: bool,
    providers: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> None:
    """Destroy what was set aside (--dead), or all that waits for a provider (--waiting --provider NAME).

    It asks first. What waits can only be dropped while nobody delivers to that provider; the other providers
    get their copies all the same. The exit status is 1 if the answer is no, or it cannot be done now.
    """
    if set_aside == waiting:
        raise Refused("say what to drop: --dead for what was set aside, or --waiting --provider NAME")
    if waiting and (ids or not providers):
        raise Refused("--waiting drops all that waits for one provider: add --provider NAME, and no ID")
    browser = opened(spool).browser
    check_own(browser)
    check_providers(browser, providers)
    dropped = (
        _drop_waiting(browser, providers, yes=yes, as_json=as_json)
        if waiting
        else _drop_dead(browser, providers, ids, yes=yes, as_json=as_json)
    )
    if as_json:
        click.echo(to_json({"dropped": dropped}))
    else:
        about = "about " if waiting else ""
        parts = [f"{about}{count:,} of {name}" for name, count in dropped.items() if count]
        click.echo(printable(f"dropped: {', '.join(parts) or 'nothing'}"))


def _drop_dead(
    browser: Browser, providers: Sequence[str], ids: Sequence[str], *, yes: bool, as_json: bool
) -> dict[str, int]:
    found = dead_ids(browser, providers, ids)
    if not found:
        return {}
    what = ", ".join(f"{len(known):,} of {name}" for name, known in found.items())
    confirm(f"this destroys records that were set aside: {what}", yes=yes, as_json=as_json)
    try:
        return {name: browser.dead.drop(name, set(known)) for name, known in found.items()}
    except OSError as error:
        raise Failed(printable(str(error))) from None


def _drop_waiting(browser: Browser, providers: Sequence[str], *, yes: bool, as_json: bool) -> dict[str, int]:
    lags = browser.stats().providers
    found = {name: lags[name] for name in providers if name in lags and lags[name].bytes}
    for name, lag in found.items():
        if lag.leader is not None:
            raise Failed(_led(name, lag.leader))
    if not found:
        return {}
    what = ", ".join(f"about {e.records:,} ({size_text(e.bytes)}) for {name}" for name, e in found.items())
    confirm(f"this destroys records that wait: {what}", yes=yes, as_json=as_json)
    for name in found:
        try:
            skip_waiting(browser.path, name)
        except LedError:
            raise Failed(_led(name, browser.leader(name))) from None
        except OSError as error:
            raise Failed(printable(str(error))) from None
    return {name: lag.records for name, lag in found.items()}


def _led(name: str, pid: int | None) -> str:
    who = "a process" if pid is None else f"process {pid}"
    return printable(f"{who} delivers to {name} now: stop it first")
