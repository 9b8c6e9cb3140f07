"""Checks of where records wait: the spool's folder, who delivers from it, how far behind that is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from agent_tracking.cli.doctor.findings import Case, Finding, note, ok, problem
from agent_tracking.cli.output import ago
from agent_tracking.counters import ProviderLag, SpoolStats
from agent_tracking.settings import Settings
from agent_tracking.sources.spool.browse import Browser
from agent_tracking.sources.spool.folder import Folder

__all__ = ["check_spool"]

#: Seconds after which what waits is late: where nobody delivers, and where somebody does.
_UNATTENDED, _BEHIND = 60.0, 600.0
#: The part of its bound from which on a spool counts as nearly full.
_FULL = 0.8
#: The most lines that are read in search of damaged ones.
_LINES = 20_000


def check_spool(case: Case) -> Iterator[Finding]:
    """Look at the folder of ``AGENT_TRACKING_SPOOL`` and at what waits in it; nothing in it is touched."""
    settings = case.settings
    if not settings.spool:
        return
    folder = Path(settings.spool).expanduser()
    found = list(_folder(folder))
    yield from found
    if found[0].level == "ok":
        try:
            browser = Browser(str(folder))
            yield from _contents(settings, browser)
        except OSError as error:
            fix = "run this as the user that the application runs as"
            yield problem("spool", str(folder), f"it cannot be read: {error.strerror or error}", fix)
    elif settings.delivery == "relay":
        what = "another process delivers: agent-tracking relay, with the same AGENT_TRACKING_SPOOL"
        fix = "run doctor with the variables of that process, too"
        yield note("spool", "AGENT_TRACKING_DELIVERY", what, fix)


def _folder(folder: Path) -> Iterator[Finding]:
    where = str(folder)
    if not folder.exists():
        yield note("spool", where, "the folder is not there yet: the first process that tracks makes it")
    elif not folder.is_dir():
        yield problem("spool", where, "it is not a folder", "set AGENT_TRACKING_SPOOL to a folder")
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        fix = "run this as the user that the application runs as, or give the folder to it"
        yield problem("spool", where, "this user cannot read and write it", fix)
    elif folder.stat().st_uid != os.geteuid():
        fix = "run this as the user that the application runs as; give each user a spool of its own"
        yield problem("spool", where, "it belongs to another user", fix)
    elif stat.S_IMODE(folder.stat().st_mode) & 0o077 and Folder(where).foreign():
        what = "others may read it and it holds other files, so that no process uses it"
        yield problem("spool", where, what, "set AGENT_TRACKING_SPOOL to a folder of its own")
    else:
        yield ok("spool", where, "records wait here on disk")
        if stat.S_IMODE(folder.stat().st_mode) & 0o077:
            yield note("spool", where, "others may read it; the first process that uses it changes that")


def _contents(settings: Settings, browser: Browser) -> Iterator[Finding]:
    stats = browser.stats()
    if settings.delivery == "relay":
        yield _relay(settings, stats.providers)
    for name, lag in stats.providers.items():
        yield from _lag(name, lag)
    yield from _room(settings, browser, stats)
    for name in browser.dead.providers():
        count = sum(1 for _ in browser.dead.read(name))
        what = f"{count} records for {name} were set aside"
        fix = "agent-tracking spool list --dead tells why; then agent-tracking spool retry, or drop --dead"
        yield problem("spool", browser.path, what, fix)


def _relay(settings: Settings, providers: Mapping[str, ProviderLag]) -> Finding:
    pids = sorted({lag.leader for lag in providers.values() if lag.leader is not None})
    where = "AGENT_TRACKING_DELIVERY"
    if not pids:
        fix = f"start agent-tracking relay --spool {settings.spool} with the providers' variables"
        return problem("spool", where, "it is relay, but no relay runs: nothing is delivered", fix)
    return ok("spool", where, f"process {', '.join(map(str, pids))} delivers")


def _lag(name: str, lag: ProviderLag) -> Iterator[Finding]:
    late = f"about {lag.records} records wait for {name}, the oldest for {ago(lag.seconds)}"
    if not lag.bytes:
        return
    if lag.leader is None and lag.seconds > _UNATTENDED:
        fix = "start a process that delivers to it: the application, or agent-tracking relay"
        fix += f"; or drop them: agent-tracking spool drop --waiting --provider {name}"
        yield problem("spool", name, f"{late}, and no process delivers", fix)
    elif lag.seconds > _BEHIND:
        fix = "see whether its backend answers: agent-tracking doctor --send"
        yield problem("spool", name, f"{late}, though process {lag.leader} delivers", fix)
    else:
        yield ok("spool", name, late)


def _room(settings: Settings, browser: Browser, stats: SpoolStats) -> Iterator[Finding]:
    part = stats.bytes / settings.spool_bytes
    if part > _FULL:
        what = f"it is {100 * part:.0f} % full: then the oldest records are dropped"
        yield problem(
            "spool", browser.path, what, "see why nobody delivers; or raise AGENT_TRACKING_SPOOL_BYTES"
        )
    if browser.newer:
        what = f"a newer version of agent-tracking wrote {len(browser.newer)} of its files: left alone here"
        yield problem("spool", browser.path, what, "upgrade agent-tracking here, too")
    damaged = _damaged(browser, stats)
    if damaged:
        what = f"{damaged} lines are damaged: each is a record that is lost"
        yield problem("spool", browser.path, what, "check the disk; a crash of the machine leaves one or two")


def _damaged(browser: Browser, stats: SpoolStats) -> int:
    """Return how many damaged lines there are among the first of those that wait."""
    found: list[str] = []
    name = max(stats.providers, key=lambda name: stats.providers[name].bytes, default="")
    for _ in islice(browser.waiting(name, found.append), _LINES):
        pass
    return found.count("corrupt")
