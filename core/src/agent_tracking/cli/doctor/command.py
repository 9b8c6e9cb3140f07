"""The command: everything is looked at, and what was found is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping

import click

from agent_tracking.cli.doctor.examine import examine
from agent_tracking.cli.doctor.findings import Case, Finding, problem
from agent_tracking.cli.doctor.masking import Masker
from agent_tracking.cli.doctor.network import check_network
from agent_tracking.cli.doctor.packages import Import, check_imports, check_providers
from agent_tracking.cli.doctor.processes import check_processes
from agent_tracking.cli.doctor.python import check_python
from agent_tracking.cli.doctor.report import Report, report_json, show_report
from agent_tracking.cli.doctor.requests import Origin, check_requests
from agent_tracking.cli.doctor.sending import Sent, check_sent, send_one
from agent_tracking.cli.doctor.settings import check_settings
from agent_tracking.cli.doctor.spool import check_spool
from agent_tracking.cli.doctor.variables import check_variables
from agent_tracking.cli.output import console
from agent_tracking.status import read_status, status_folder

__all__ = ["CHECKS", "doctor"]

#: The checks that look at the case and nothing else; one more is one more here.
CHECKS: tuple[Callable[[Case], Iterable[Finding]], ...] = (
    check_settings,
    check_variables,
    check_python,
    check_providers,
    check_spool,
)


@click.command(epilog="Example: agent-tracking doctor --send")
@click.option("--send", is_flag=True, help="Send one real test event to every active provider.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def doctor(*, send: bool, as_json: bool) -> None:
    """Find out why nothing arrives: look at everything on the way, and tell what to do.

    Settings, variables, the interpreter, providers and their imports, each provider's host (name, connection,
    TLS, proxy, clock), and the counters of running processes. Run it where the application runs: with its
    Python and its variables. Nothing secret is shown. The exit status is 0 when there is no problem, 1 when
    there is one, 2 for bad usage.
    """
    report, masker = _look(os.environ, send=send)
    if as_json:
        click.echo(report_json(report, masker))
    else:
        show_report(console(), report, masker)
    sys.exit(1 if report.problems else 0)


def _look(environ: Mapping[str, str], *, send: bool) -> tuple[Report, Masker]:
    case = examine(environ)
    masker = Masker(
        [var for each in case.installed for var in each.env],
        environ,
        [word for each in case.installed for word in (each.record.name, each.record.distribution)],
    )
    findings = [finding for check in CHECKS for finding in check(case)]
    imports: dict[str, Import] = {}
    findings += check_imports(case, imports)
    origins: dict[Origin, list[str]] = {}
    findings += check_requests(case, origins)
    findings += check_network(origins, environ)
    folder = status_folder(case.settings)
    seen = [] if folder is None else read_status(folder)
    findings += check_processes(case, seen)
    sent: list[Sent] = []
    if send:
        sent = send_one(environ, masker)
        findings += check_sent(sent) if sent else [_nobody()]
    report = Report(
        findings=findings,
        settings=case.settings,
        providers=[each.record for each in case.installed],
        imports=imports,
        processes=seen,
        sent=sent,
    )
    return report, masker


def _nobody() -> Finding:
    return problem("send", "all", "no provider is active: nothing was sent", "see the other findings")
