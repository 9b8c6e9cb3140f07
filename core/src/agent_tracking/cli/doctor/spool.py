"""Checks of where records wait: the spool's folder, and who delivers from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from agent_tracking.cli.doctor.findings import Case, Finding, note, ok, problem

__all__ = ["check_spool"]


def check_spool(case: Case) -> Iterator[Finding]:
    """Look whether the folder of ``AGENT_TRACKING_SPOOL`` can be used; nothing in it is touched."""
    settings = case.settings
    if not settings.spool:
        return
    folder = Path(settings.spool).expanduser()
    if not folder.exists():
        yield note(
            "spool", str(folder), "the folder is not there yet: the first process that tracks makes it"
        )
    elif not folder.is_dir():
        yield problem("spool", str(folder), "it is not a folder", "set AGENT_TRACKING_SPOOL to a folder")
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        fix = "run this as the user that the application runs as, or give the folder to it"
        yield problem("spool", str(folder), "this user cannot read and write it", fix)
    elif folder.stat().st_uid != os.geteuid():
        fix = "run this as the user that the application runs as; give each user a spool of its own"
        yield problem("spool", str(folder), "it belongs to another user", fix)
    else:
        yield ok("spool", str(folder), "records wait here on disk")
    if settings.delivery == "relay":
        what = "another process delivers: agent-tracking relay, with the same AGENT_TRACKING_SPOOL"
        yield note(
            "spool", "AGENT_TRACKING_DELIVERY", what, "run doctor with the variables of that process, too"
        )
