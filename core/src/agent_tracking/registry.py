"""Which providers there are, what state each is in, and the lane of each that is active."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from threading import Thread
from typing import TYPE_CHECKING

from msgspec.structs import replace

from agent_tracking import discovery, forks
from agent_tracking.counters import LaneCounters, ProviderStats
from agent_tracking.delivery.backoff import RetryPolicy
from agent_tracking.delivery.lane import Lane, Schedule
from agent_tracking.delivery.outbox import Exchange, Outbox
from agent_tracking.delivery.sending import LaneSender
from agent_tracking.exceptions import ConfigurationError, ProviderLoadError, ProviderSpecError
from agent_tracking.hooks import find_hooks
from agent_tracking.http_provider import HTTPProvider, only_encodes
from agent_tracking.provider import Provider
from agent_tracking.records import ProviderRecord, ProviderState
from agent_tracking.sources.memory import MemorySource

if TYPE_CHECKING:
    from agent_tracking.logs import Reporter
    from agent_tracking.settings import Settings
    from agent_tracking.sources.protocol import Source
    from agent_tracking.spooling import Spooling
    from agent_tracking.tracker import Tracker

__all__ = ["IMPORT_SECONDS", "Registry"]

#: Seconds that the other providers wait for one whose import hangs.
IMPORT_SECONDS = 5.0


class Registry:
    """The providers of one tracker. Its methods that change it are called under ``forks.BOOT``."""

    def __init__(
        self,
        tracker: Tracker,
        settings: Settings,
        report: Reporter,
        settled: Callable[[], None],
        spooling: Spooling | None = None,
    ) -> None:
        self._tracker = tracker
        self._settings = settings
        self._report = report
        self._settled = settled
        self._spooling = spooling
        #: By name and distribution: of two distributions with one name each has its record.
        self._records: dict[tuple[str, str], ProviderRecord] = {}
        self._retired: dict[str, ProviderStats] = {}
        self._discovered = False
        #: The lanes of active providers by name; replaced as a whole, so it may be read at any time.
        self.lanes: dict[str, Lane] = {}
        for name, provider in tracker.registered.items():
            self._add_registered(name, provider)

    def records(self) -> tuple[ProviderRecord, ...]:
        """Return every provider's record, by name."""
        return tuple(self._records[key] for key in sorted(self._records))

    def stats(self) -> dict[str, ProviderStats]:
        """Return every lane's counters, those of stopped and removed ones too."""
        running = {name: lane.counters.snapshot(lane.busy()) for name, lane in self.lanes.items()}
        return {**self._retired, **running}

    def discover(self) -> None:
        """Find, choose and load the installed providers; only the first call does anything."""
        if self._discovered:
            return
        self._discovered = True
        if self._tracker.discover:
            self._discover()
        known = {*self.lanes, *(record.name for record in self._records.values())}
        for sentence in discovery.unknown_routes(self._tracker.processors, sorted(known)):
            self._report.advise(sentence)

    def _discover(self) -> None:
        environ = self._tracker.environ
        found = discovery.find()
        for problem in found.problems:
            self._report.warn("", problem, problem, 0)
        for sentence in discovery.unknown_names(found.candidates, self._settings):
            self._report.warn("", sentence, sentence, 0)
        go, stay = discovery.select(found.candidates, self._settings)
        if not self._settings.disabled:
            stay += discovery.forgotten(found.candidates, environ)
        for record in stay:
            self._note(record)
        for candidate in go:
            if candidate.name in self.lanes:
                self._note(
                    candidate.record(
                        ProviderState.DISABLED, "a provider of this name was registered at run time"
                    )
                )
            else:
                self._load(candidate)

    def _note(self, record: ProviderRecord) -> None:
        """Keep a record; say so when something is wrong with it."""
        self._records[record.name, record.distribution] = record
        if record.state not in {ProviderState.ACTIVE, ProviderState.INACTIVE, ProviderState.DISABLED}:
            advice = f": {record.fix}" if record.fix else ""
            self._report.warn(record.name, record.reason, f"{record.state}: {record.reason}{advice}", 0)

    def _load(self, candidate: discovery.Candidate) -> None:
        """Load one candidate on a thread of its own, so that one that hangs holds up nobody."""
        done: list[discovery.Loaded] = []
        adopted: list[bool] = []

        def adopt() -> None:
            with forks.BOOT:
                if done and not adopted:
                    adopted.append(True)
                    self._adopt(done[0])

        def load() -> None:
            done.append(discovery.make(candidate, self._tracker.environ))
            if overdue:
                adopt()

        overdue = False
        try:
            thread = Thread(target=load, name=f"agent_tracking.load.{candidate.name}", daemon=True)
            thread.start()
        except RuntimeError:  # the interpreter ends: no thread any more
            load()
        else:
            thread.join(IMPORT_SECONDS)
        overdue = True
        adopt()
        if not adopted:
            self._note(
                candidate.record(
                    ProviderState.FAILED,
                    f"import takes over {IMPORT_SECONDS:.0f} s",
                    f"see what {candidate.entry_point} does when imported; it becomes active when that ends",
                )
            )

    def _adopt(self, loaded: discovery.Loaded) -> None:
        record = loaded.record
        if record.state is ProviderState.ACTIVE:
            try:
                lane = self._lane(record.name, loaded.provider)
            except ProviderSpecError as error:
                record = replace(
                    record,
                    state=ProviderState.FAILED,
                    reason=str(error),
                    fix=f"pip install --upgrade {record.distribution}, or tell its author",
                )
            else:
                self._note(record)
                self.lanes = {**self.lanes, record.name: lane}
                return
        self._note(record)

    def register(self, provider: object, name: str | None) -> ProviderRecord:
        """Add a provider at run time; see ``Tracker.register_provider``."""
        if isinstance(provider, type):
            if not issubclass(provider, Provider):
                raise ProviderSpecError(
                    f"{provider.__name__} is a class, and no agent_tracking.Provider: register an instance"
                )
            provider = _made(provider, self._tracker.environ)
        name = name or getattr(provider, "name", None)
        if not isinstance(name, str) or not name.strip():
            raise ProviderSpecError(
                f"{type(provider).__name__} has no name: give it an attribute 'name', or pass name="
            )
        if name in self.lanes and self._tracker.registered.get(name) is not provider:
            raise ProviderSpecError(
                f"there is a provider {name!r} already: unregister_provider({name!r}) first"
            )
        if name not in self.lanes:
            self._add_registered(name, provider)
            self._tracker.registered[name] = provider
        return self._records[name, ""]

    def _add_registered(self, name: str, provider: object) -> None:
        lane = self._lane(name, provider)
        kind = type(provider)
        if before := self._retired.pop(name, None):
            lane.counters.resume(before)
            self._forget(name, ProviderState.FAILED)
        self._records[name, ""] = ProviderRecord(
            name=name,
            state=ProviderState.ACTIVE,
            reason="registered at run time",
            entry_point=f"{kind.__module__}:{kind.__qualname__}",
            variables=tuple(var.name for var in provider.env) if isinstance(provider, Provider) else (),
        )
        self.lanes = {**self.lanes, name: lane}

    def unregister(self, name: str) -> bool:
        """Remove a provider; see ``Tracker.unregister_provider``."""
        self._tracker.registered.pop(name, None)
        lane = self.lanes.get(name)
        if lane is None:
            return False
        lane.close("unregistered")
        self._retire(name, lane)
        self._forget(name, ProviderState.ACTIVE)
        self._settled()
        return True

    def _forget(self, name: str, state: ProviderState) -> None:
        for key, record in list(self._records.items()):
            if key[0] == name and record.state is state:
                del self._records[key]

    def _retire(self, name: str, lane: Lane) -> None:
        """Take a closed lane out: from now on its name may be registered anew."""
        if self.lanes.get(name) is not lane:
            return
        self._retired[name] = lane.counters.snapshot()
        self.lanes = {key: value for key, value in self.lanes.items() if value is not lane}
        if self._spooling is not None:
            self._spooling.forget(name)

    def _fail(self, lane: Lane, reason: str, fix: str) -> None:
        """A lane got the verdict "stop"; called on its thread."""
        name = lane.name
        if self.lanes.get(name) is not lane:
            return
        self._tracker.registered.pop(name, None)
        for key, record in list(self._records.items()):
            if key[0] == name and record.state is ProviderState.ACTIVE:
                self._records[key] = replace(
                    record,
                    state=ProviderState.FAILED,
                    reason=f"stopped: {reason}",
                    fix=f"{fix or 'correct its variables'}, then restart or register_provider() anew",
                )

    def _lane(self, name: str, provider: object) -> Lane:
        settings = self._settings
        hooks = find_hooks(provider, name)
        policy = self._tracker.retry or RetryPolicy()
        counters = LaneCounters()
        source: Source
        if self._spooling is None:
            source = MemorySource(settings.queue_records, settings.queue_bytes)
        else:
            source = self._spooling.source(name, counters)
            policy = replace(policy, window=inf)  # what waits on disk is given up by its age alone
        lane = Lane(
            name,
            hooks,
            source,
            self._report,
            schedule=Schedule(flush_at=settings.flush_at, flush_interval=settings.flush_interval),
            settled=self._settled,
            policy=policy,
            counters=counters,
            stopping=lambda reason, fix: self._fail(lane, reason, fix),
            stopped=lambda: self._retire(name, lane),
        )
        if isinstance(provider, HTTPProvider):
            sender = lane.sender = LaneSender(self._tracker.sender, self._tracker.quiet)
            outbox = Outbox(
                provider,
                sender,
                lane.pause,
                policy=policy,
                dropped=source.set_aside,
                retried=lane.counters.retry,
                failed=lambda kind, text: self._failed(name, kind, text, lane),
                observe=self._observer(),
            )
            provider.bind(outbox)
            if only_encodes(provider):
                lane.encode_with(outbox)
        return lane

    def _failed(self, name: str, kind: str, text: str, lane: Lane) -> None:
        lane.counters.error(text)
        if kind == "too-large":
            self._report.warn(name, "record-size", text, 0)
        elif kind in {"retry", "split"}:
            self._report.warn(name, kind, f"{text}; tried again" if kind == "retry" else text, 0)

    def _observer(self) -> Callable[[Exchange], None] | None:
        observers = list(self._tracker.observers)
        if self._settings.debug:
            observers.append(self._report.exchange)
        if not observers:
            return None

        def observe_all(exchange: Exchange) -> None:
            for observe in observers:
                try:
                    observe(exchange)
                except BaseException as error:  # noqa: BLE001  who only looks on may not stop the delivery
                    self._report.warn("", "observer", f"an observer raised {type(error).__name__}", 0)

        return observe_all


def _made(kind: type[Provider], environ: Mapping[str, str]) -> Provider:
    """Return a provider of this class; what its constructor raises keeps no frame that holds its values."""
    try:
        return kind(environ)
    except ConfigurationError as error:
        problem: Exception = error
    except Exception as error:  # noqa: BLE001  its text may hold the value of a variable
        problem = ProviderLoadError(f"making {kind.__name__} raised {type(error).__name__}")
    del environ
    problem.__cause__ = problem.__context__ = None
    raise problem.with_traceback(None)
