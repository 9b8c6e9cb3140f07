"""One call of the command: the input is opened, the providers are looked at, the import runs."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic

import msgspec

from agent_tracking.cli.importing.delivery import Delivery, active, make_environ, make_tracker
from agent_tracking.cli.importing.files import Form, Input, Lines, form_of, open_input
from agent_tracking.cli.importing.interruption import Interruption
from agent_tracking.cli.importing.mapping import Choices
from agent_tracking.cli.importing.problems import BadInput, quoted
from agent_tracking.cli.importing.records import Maker
from agent_tracking.cli.importing.rehearsal import rehearsing_tracker
from agent_tracking.cli.importing.report import ProviderTotals, Report, Totals
from agent_tracking.cli.importing.rows import Chunk, chunks, csv_rows, json_rows, read_header
from agent_tracking.cli.importing.run import Progress, run
from agent_tracking.cli.importing.screen import Screen
from agent_tracking.cli.importing.state import State, StateFile, check, fingerprints
from agent_tracking.records import ProviderRecord, ProviderState
from agent_tracking.tracker import Tracker

__all__ = ["Job", "Opened"]

#: Makes what shows the progress, from the bytes of the file that are done and all of them.
MakeScreen = Callable[[int, "int | None"], Screen]


class Opened:
    """An input whose rows can be read: what it is, and its columns if it has them."""

    def __init__(self, file: str, form: str | None, choices: Choices, ignored: Counter[str] | None) -> None:
        self.form: Form = form_of(file, form)
        self.source: Input = open_input(file)
        self.lines = Lines(self.source.stream)
        self._header: list[str] | None = None
        self._delimiter = ""
        if self.form == "csv":
            self._header, self._delimiter = read_header(self.lines)
        self._maker = Maker(choices, self.source.mtime, self._header, ignored)

    def chunks(self, position: int, line: int) -> Iterator[Chunk]:
        """Return what is left of it behind a position where an import ended; 0 is the beginning."""
        if position:
            self.lines.skip_to(position, line)
        rows = (
            json_rows(self.lines)
            if self._header is None
            else csv_rows(self.lines, self._header, self._delimiter)
        )
        return chunks(rows, self._maker, self.lines, self.source, first=not position)


class Job(msgspec.Struct, kw_only=True):
    """What is to be imported, where to, and how it is shown."""

    file: str
    form: str | None
    choices: Choices
    only: Sequence[str]
    state: str | None
    restart: bool
    make_screen: MakeScreen
    asked: Interruption

    def run(self) -> Report:
        """Import the file; return what came of it. Raises ``BadInput``."""
        environ = make_environ(os.environ, self.only)
        with _told(self.file):
            opened = Opened(self.file, self.form, self.choices, None)
        tracker = make_tracker(environ)
        ready = active(tracker, self.only)
        keep = self._state_file(opened.source)
        state = self._begin(opened.source, ready, environ, keep)
        progress = Progress(state.totals, state.position)
        for record in ready:
            progress.totals.providers.setdefault(record.name, ProviderTotals())
        began_at, names = state.line, [record.name for record in ready]

        def settled(chunk: Chunk) -> None:
            if keep is not None:
                state.position, state.line = chunk.position, chunk.line
                keep.write(state)

        try:
            report = self._deliver(opened, progress, tracker, names, settled, began_at)
        except BadInput:
            if keep is not None and not state.position:
                keep.remove()
            raise
        if keep is not None and not report.stopped:
            keep.remove()
        report.state = str(keep.path) if keep is not None and report.stopped else ""
        return report

    def rehearse(self) -> Report:
        """Do the same, and send nothing: for ``--dry-run``."""
        environ = make_environ(os.environ, self.only)
        ignored: Counter[str] = Counter()
        with _told(self.file):
            opened = Opened(self.file, self.form, self.choices, ignored)
        real = make_tracker(environ)
        found = active(real, self.only) if self.only else real.providers()
        names = [record.name for record in found if record.state is ProviderState.ACTIVE]
        tracker, rehearsal = rehearsing_tracker(environ)
        progress = Progress(Totals())
        report = self._deliver(opened, progress, tracker, [rehearsal.name], lambda _chunk: None, 0)
        report.dry_run = True
        report.totals.providers = {name: ProviderTotals() for name in names}
        report.records = rehearsal.records
        report.ignored = dict(ignored.most_common(10))
        return report

    def _state_file(self, source: Input) -> StateFile | None:
        if source.identity is None:
            if self.state is not None:
                raise BadInput(f"{source.name} can't be read a second time: --state has no use")
            return None
        return StateFile(Path(self.state if self.state is not None else f"{self.file}.import-state"))

    def _begin(
        self,
        source: Input,
        ready: Sequence[ProviderRecord],
        environ: dict[str, str],
        keep: StateFile | None,
    ) -> State:
        """Return the state to go on from, which is then written down."""
        variables = {record.name: record.variables for record in ready}
        identity = source.identity
        if keep is None or identity is None:
            return State.fresh(self.choices)
        source.lock()
        found = keep.read()
        if found is not None and found.position and not self.restart:
            with _told(self.file):
                check(found, keep.path, identity, self.choices, variables, environ)
            return found
        salt = secrets.token_hex(8)
        state = State(
            input=identity,
            choices=self.choices,
            salt=salt,
            targets=fingerprints(variables, environ, salt),
        )
        keep.write(state)
        return state

    def _deliver(
        self,
        opened: Opened,
        progress: Progress,
        tracker: Tracker,
        names: list[str],
        settled: Callable[[Chunk], None],
        began_at: int,
    ) -> Report:
        source, totals = opened.source, progress.totals
        started = monotonic()
        with ExitStack() as stack:
            stack.enter_context(_told(self.file))
            waiting = opened.chunks(progress.position, began_at)
            progress.read = source.read_bytes() if progress.position else 0
            screen = self.make_screen(progress.read, source.size)
            stack.callback(tracker.shutdown, 0)
            stack.callback(screen.close)

            def tick(lines: float, read: float, trouble: str) -> None:
                screen.show(round(totals.lines + lines) - began_at, progress.read + read, trouble)

            delivery = Delivery(tracker, names, self.asked)
            stopped = run(waiting, delivery, progress, settled, tick)
        seconds = monotonic() - started
        lines = totals.lines - began_at
        return Report(
            ok=not (stopped or totals.wrong or totals.refused()),
            file=source.name,
            format=opened.form,
            dry_run=False,
            totals=totals,
            began_at=began_at,
            seconds=round(seconds, 3),
            rate=round(lines / seconds) if seconds else 0,
            stopped=stopped,
        )


@contextmanager
def _told(file: str) -> Iterator[None]:
    """Put the file's name in front of what is wrong with it, unless it is there already."""
    try:
        yield
    except BadInput as error:
        name = "standard input" if file == "-" else quoted(file, 200)
        text = str(error)
        known = text.startswith((name, "--", "the format of"))
        raise BadInput(text if known else f"{name}: {text}") from None
