"""``agent-tracking spool retry``: what was set aside goes back among what waits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from agent_tracking.cli.output import console, printable, to_json
from agent_tracking.cli.spool.opening import (
    Failed,
    Opened,
    check_own,
    check_providers,
    json_option,
    opened,
    spool_option,
)
from agent_tracking.sources.spool.browse import Browser
from agent_tracking.sources.spool.spool import retry_dead

__all__ = ["dead_ids", "retry_records"]

#: Records are put back so many at a time at least, and in so many steps at most: each reads the whole file.
_STEP, _STEPS = 500, 20


@click.command("retry", epilog="Example: agent-tracking spool retry --provider posthog")
@spool_option
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--provider", "providers", multiple=True, help="Only this one's; may be given again.")
@json_option
def retry_records(
    *, spool: str | None, ids: tuple[str, ...], providers: tuple[str, ...], as_json: bool
) -> None:
    """Put records that were set aside back among those that wait, for their provider only.

    All of them, those of a provider, or those with an ID. They keep their id, so that a backend that has one
    already counts it once. Whoever delivers from the spool sends them; what is refused again is set aside
    again. The exit status is 1 if one of them could not be put back.
    """
    found = opened(spool)
    check_own(found.browser)
    check_providers(found.browser, providers)
    wanted = dead_ids(found.browser, providers, ids)
    back = _put_back(found, wanted, None if as_json else console())
    left = sum(map(len, wanted.values())) - sum(back.values())
    if as_json:
        click.echo(to_json({"put_back": back, "left": left}))
    else:
        parts = [f"{count:,} to {name}" for name, count in back.items() if count]
        click.echo(printable(f"put back: {', '.join(parts) or 'nothing'}"))
    if left:
        raise Failed(f"{left:,} of them cannot be read, or the spool takes no more: they stay set aside")


def dead_ids(browser: Browser, providers: Sequence[str], ids: Collection[str]) -> dict[str, list[str]]:
    """Return the ids of what was set aside, by provider; end with exit status 1 if one of ``ids`` is not."""
    names = list(providers) or browser.dead.providers()
    found = {
        name: [each.id for each in browser.dead.read(name) if not ids or each.id in ids] for name in names
    }
    if missing := [each for each in ids if not any(each in known for known in found.values())]:
        raise Failed(printable(f"no record with the id {missing[0]!r} was set aside"))
    return {name: known for name, known in found.items() if known}


def _put_back(found: Opened, wanted: Mapping[str, Sequence[str]], out: Console | None) -> dict[str, int]:
    """Put them back in steps, with a bar on a terminal."""
    back = dict.fromkeys(wanted, 0)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=out,
        transient=True,
        disable=out is None or not out.is_terminal,
    ) as progress:
        for name, ids in wanted.items():
            task = progress.add_task(printable(name), total=len(ids))
            step = max(_STEP, -(-len(ids) // _STEPS))
            for start in range(0, len(ids), step):
                part = set(ids[start : start + step])
                try:
                    count = retry_dead(found.browser.path, name, part, most=found.settings.spool_bytes)
                except OSError as error:
                    raise Failed(printable(str(error))) from None
                back[name] += count
                progress.advance(task, count)
    return back
