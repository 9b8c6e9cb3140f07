"""``agent-tracking send``: one event or identity to every active provider, and what each made of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.text import Text

from agent_tracking.cli.direct import direct_tracker
from agent_tracking.cli.output import (
    Refused,
    Seconds,
    console,
    held_log,
    new_table,
    printable,
    show,
    to_json,
)
from agent_tracking.delivery.outbox import Exchange
from agent_tracking.names import clean_id
from agent_tracking.records import ProviderRecord, ProviderState
from agent_tracking.tracker import Tracker

__all__ = ["send"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the record at one provider.

    Attributes:
        outcome: ``delivered``, ``dropped``, ``waiting`` when the time was over, or ``nothing`` where the
            provider does not take such a record.
        reason: why it was dropped, or the newest error; empty when it was delivered.
        status: the newest HTTP status; ``None`` without an answer, or without HTTP.
        requests: how many were made.
    """

    provider: str
    outcome: str
    reason: str = ""
    fix: str = ""
    status: int | None = None
    requests: int = 0


class _Watch:
    """Counts the requests of each provider and keeps the newest status."""

    def __init__(self) -> None:
        self.requests: dict[str, int] = {}
        self.status: dict[str, int | None] = {}

    def __call__(self, exchange: Exchange) -> None:
        self.requests[exchange.provider] = self.requests.get(exchange.provider, 0) + 1
        self.status[exchange.provider] = exchange.status


@click.command(epilog="Example: agent-tracking send 'order paid' total=9.5 currency=CHF --user u-1")
@click.argument("words", nargs=-1, metavar="NAME [KEY=VALUE]...")
@click.option("--user", help="The user's id.")
@click.option("--anonymous", help="The anonymous id.")
@click.option("--session", help="The session's id.")
@click.option("--identify", "as_identity", is_flag=True, help="An identity: no NAME, the values are traits.")
@click.option("--timeout", type=Seconds(0.1, 600), default=15.0, show_default=True, help="Seconds to wait.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def send(
    *,
    words: tuple[str, ...],
    user: str | None,
    anonymous: str | None,
    session: str | None,
    as_identity: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Send one event to every active provider, now, and tell what each made of it.

    A VALUE is read as JSON where it is JSON (9.5, true, null, '["a"]'), as text otherwise. It is sent from
    this process, also where AGENT_TRACKING_SPOOL is set. The exit status is 0 if every provider took it, 1 if
    one did not, 2 for bad input or when no provider is active.
    """
    _check_text(*words, user, anonymous, session)
    name, data = _read(words, as_identity=as_identity)
    _check_ids(user, anonymous, session, as_identity=as_identity)
    watch = _Watch()
    with held_log(), direct_tracker(os.environ, watch) as tracker:
        active = _active(tracker)
        if as_identity:
            tracker.identify(user or "", data, anonymous_id=anonymous)
        else:
            tracker.track(name, data, user_id=user, anonymous_id=anonymous, session_id=session)
        tracker.flush(timeout)
        found = [_outcome(tracker, watch, provider, timeout) for provider in active]
    if as_json:
        ok = all(each.outcome in {"delivered", "nothing"} for each in found)
        kind = {"identify": user} if as_identity else {"event": name}
        click.echo(to_json({**kind, "data": data, "ok": ok, "providers": found}))
    else:
        _print(console(), found)
    sys.exit(0 if all(each.outcome in {"delivered", "nothing"} for each in found) else 1)


def _check_text(*given: str | None) -> None:
    for text in given:
        try:
            (text or "").encode()
        except UnicodeEncodeError:  # bytes that the locale cannot decode arrive as lone surrogates
            raise Refused(f"{_quoted(text or '')} is not UTF-8 text: check the terminal's encoding") from None


def _read(words: Sequence[str], *, as_identity: bool) -> tuple[str, dict[str, Any]]:
    """Return the event's name, empty for an identity, and the values."""
    pairs = list(words)
    name = "" if as_identity or not pairs else pairs.pop(0).strip()
    if not as_identity and not name:
        raise Refused("the event has no name: agent-tracking send NAME [KEY=VALUE]...")
    if not as_identity and "=" in name and " " not in name:
        raise Refused(f"{_quoted(name)} stands where the event's name belongs: write the name first")
    data: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise Refused(f"{_quoted(pair)} is not KEY=VALUE: write for example total=9.5")
        if key in data:
            raise Refused(f"{_quoted(key)} is given twice: leave one of them out")
        data[key] = _value(text)
    return name, data


def _value(text: str) -> Any:  # noqa: ANN401  any JSON
    try:
        return msgspec.json.decode(text.encode())
    except (ValueError, RecursionError):  # also text that is no UTF-8
        return text


def _quoted(text: str) -> str:
    short = printable(text[:60])
    return f"'{short}{'…' if len(text) > 60 else ''}'"


def _check_ids(user: str | None, anonymous: str | None, session: str | None, *, as_identity: bool) -> None:
    if as_identity and user is None:
        raise Refused("an identity needs a user: add --user ID")
    if as_identity and session is not None:
        raise Refused("an identity has no session: leave out --session")
    for option, given in (("--user", user), ("--anonymous", anonymous), ("--session", session)):
        if given is not None and clean_id(given) is None:
            raise Refused(f"{option} {_quoted(given)} stands for nobody: give a real id, or leave it out")


def _active(tracker: Tracker) -> list[str]:
    """Return the names of the active providers; end with exit status 2 when there is none."""
    records = tracker.providers()
    active = [record.name for record in records if record.state is ProviderState.ACTIVE]
    if not active:
        raise Refused(f"no provider is active ({_states(records)}): see agent-tracking doctor")
    return active


def _states(records: Sequence[ProviderRecord]) -> str:
    return ", ".join(printable(f"{record.name}: {record.state}") for record in records) or "none is installed"


def _outcome(tracker: Tracker, watch: _Watch, provider: str, timeout: float) -> Outcome:
    stats = tracker.stats().providers.get(provider)
    stopped = {record.name: record for record in tracker.providers() if record.state is ProviderState.FAILED}
    outcome, reason, fix = "nothing", "it takes no such record", ""
    if stats is None or stats.waiting:
        reason = f"not settled after {timeout:g} s: {(stats.last_error if stats else '') or 'no answer yet'}"
        outcome = "waiting"
    elif stats.dropped:
        outcome, reason = "dropped", _why(stats.dropped, stats.last_error)
    elif stats.delivered:
        outcome, reason = "delivered", ""
    if provider in stopped:
        reason, fix = stopped[provider].reason, stopped[provider].fix
    return Outcome(
        provider=provider,
        outcome=outcome,
        reason=reason,
        fix=fix,
        status=watch.status.get(provider),
        requests=watch.requests.get(provider, 0),
    )


def _why(dropped: Mapping[str, int], error: str | None) -> str:
    return ", ".join(dropped) + (f": {error}" if error else "")


def _print(out: Console, found: Sequence[Outcome]) -> None:
    table = new_table(out)
    table.add_column("provider", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("reason and fix", overflow="fold")
    for each in found:
        good = each.outcome in {"delivered", "nothing"}
        table.add_row(
            printable(each.provider),
            Text(each.outcome, style="green" if good else "bold red"),
            "" if each.status is None else str(each.status),
            printable("; fix: ".join(filter(None, (each.reason, each.fix)))),
        )
    show(out, table)
