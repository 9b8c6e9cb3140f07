"""What the tests of faults share: trackers with the four providers at a sink, and the account of a run."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from agent_tracking import HTTPProvider, Tracker
from agent_tracking.delivery.backoff import RetryPolicy
from agent_tracking.delivery.http import HTTPSender
from agent_tracking.testing import Backend, Fault, Sink
from agent_tracking_amplitude import AmplitudeProvider
from agent_tracking_mixpanel import MixpanelProvider
from agent_tracking_posthog import PostHogProvider
from agent_tracking_webhook import WebhookProvider

CLASSES: dict[str, type[HTTPProvider]] = {
    "posthog": PostHogProvider,
    "mixpanel": MixpanelProvider,
    "amplitude": AmplitudeProvider,
    "webhook": WebhookProvider,
    "webhook-object": WebhookProvider,
}
PROVIDERS = ("posthog", "mixpanel", "amplitude", "webhook")
RECORDS, IDENTITIES = 500, 20

#: Fast, and longer than any fault that passes.
PATIENT = RetryPolicy(first=0.02, longest=0.1, tries=5, window=30.0)
#: Gives up after three tries.
IMPATIENT = RetryPolicy(first=0.01, longest=0.02, tries=3, window=0.0)
#: Seconds in which anything here is over; machines are busy.
DEADLINE = 40.0


@dataclass(frozen=True)
class Account:
    """What became of one provider's records: by its counters, and by the sink's ledger."""

    accepted: int
    delivered: int
    dropped: dict[str, int]
    waiting: int
    retried: int
    #: Serial numbers of the records that the backend kept, by how many keys each has.
    kept: Counter[int]
    requests: int
    #: Requests that met a fault.
    faults: int
    state: str
    fix: str

    @property
    def lost(self) -> set[int]:
        """The serial numbers that the backend never kept."""
        return set(range(RECORDS)) - self.kept.keys()

    @property
    def twice(self) -> list[int]:
        """The serial numbers that the backend counts more than once."""
        return [serial for serial, count in self.kept.items() if count > 1]


def serial(record: Mapping[str, Any]) -> int:
    """Return the serial number in a record as any of the vendors gets it."""
    for field in ("properties", "event_properties", "user_properties", "traits", "$set"):
        inside = record.get(field)
        if isinstance(inside, Mapping):
            found: int = inside["n"] if "n" in inside else serial(inside)
            return found
    raise AssertionError(f"no serial number in {record}")


class Rig:
    """A tracker whose providers send to a sink."""

    def __init__(
        self,
        sink: Sink,
        names: Sequence[str] = PROVIDERS,
        *,
        url: str = "",
        retry: RetryPolicy = PATIENT,
        total: float = 10.0,
        environ: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self.sink = sink
        self.names = names
        options.setdefault("sender", lambda: HTTPSender(total=total))
        self.tracker = Tracker(environ=environ or {}, discover=False, retry=retry, **options)
        for name in names:
            self.register(name, url)

    def register(self, name: str, url: str = "") -> None:
        """Register a provider that sends to the sink's backend of its name, or to another base URL."""
        if name not in self.sink.ledger:
            self.sink.add_backend(name, _object_receiver())
        environ = self.sink.environ(name)
        if url:
            environ = {key: value.replace(self.sink.url, url) for key, value in environ.items()}
        if name == "webhook-object":
            environ["TRACKING_WEBHOOK_FORMAT"] = "object"
        self.tracker.register_provider(CLASSES[name](environ), name=name)

    def fail(self, *faults: Fault, names: Sequence[str] = ()) -> None:
        """Put faults into the queues of all backends, or of these; into both of Mixpanel's."""
        for name in names or self.names:
            for fault in faults:
                for match in ("/engage", "/import") if name == "mixpanel" and not fault.match else ("",):
                    self.sink.fail(name, _at(fault, match) if match else fault)

    def track(self, records: int = RECORDS, poison: Sequence[int] = (), start: int = 0) -> None:
        """Track so many records with a serial number, among them identities."""
        every = max(1, records // IDENTITIES)
        for number in range(start, start + records):
            if number % every == every // 2 and number not in poison:
                self.tracker.identify(f"user-{number}", {"n": number, "plan": "pro"})
            else:
                extra = {"poison": True} if number in poison else {}
                self.tracker.track("order paid", {"n": number, **extra}, user_id=f"user-{number % 50}")

    def track_together(self, records: int = RECORDS, poison: Sequence[int] = ()) -> None:
        """Track records before any of them is handed out: a lane that stops gets those that come later no more."""
        self.tracker.due = math.inf  # nobody wakes the dispatcher, which has not started
        self.track(records, poison)
        self.tracker.due = 0.0
        self.tracker.attend(time.time())

    def account(self, name: str) -> Account:
        """Return what has become of a provider's records so far."""
        stats = self.tracker.stats().providers[name]
        record = next(record for record in self.tracker.providers() if record.name == name)
        return Account(
            stats.accepted,
            stats.delivered,
            dict(stats.dropped),
            stats.waiting,
            stats.retried,
            Counter(serial(event) for event in self.sink.events(name)),
            self.sink.totals(name).requests,
            sum(bool(request.fault) for request in self.sink.requests(name)),
            str(record.state),
            f"{record.reason}: {record.fix}",
        )


def _at(fault: Fault, match: str) -> Fault:
    fields = {name: getattr(fault, name) for name in fault.__struct_fields__}
    return Fault(**{**fields, "match": match})


def _object_receiver() -> Backend:
    return Backend(environ={"TRACKING_WEBHOOK_URL": "{url}/hook"})


@contextmanager
def rigged(sink: Sink, *arguments: Any, **options: Any) -> Iterator[Rig]:
    """A rig that is shut down in the end."""
    rig = Rig(sink, *arguments, **options)
    try:
        yield rig
    finally:
        rig.tracker.shutdown(0.2)


def until(condition: Callable[[], object], seconds: float = DEADLINE) -> None:
    """Wait for a condition with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


@dataclass(frozen=True)
class Kit:
    """The helpers above, for test modules, which cannot import this one."""

    account = Account
    impatient = IMPATIENT
    patient = PATIENT
    providers = PROVIDERS
    rig = staticmethod(rigged)
    serial = staticmethod(serial)
    until = staticmethod(until)

    @staticmethod
    def python(source: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a script in a process of its own, without this one's proxies and certificates."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(source)],
            env={**kept, "PYTHONDONTWRITEBYTECODE": "1", **environ},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    @staticmethod
    def threads() -> set[str]:
        """Return the names of the threads of this process."""
        return {thread.name for thread in threading.enumerate()}


@pytest.fixture(scope="session")
def kit() -> Kit:
    """What the tests of faults share."""
    return Kit()


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A sink in threads of this process."""
    with Sink() as sink:
        yield sink


@pytest.fixture
def rig(sink: Sink) -> Iterator[Callable[..., Rig]]:
    """Makes rigs at the sink; they are shut down in the end."""
    rigs: list[Rig] = []

    def make(*arguments: Any, **options: Any) -> Rig:
        rigs.append(Rig(sink, *arguments, **options))
        return rigs[-1]

    yield make
    sink.clear()
    for each in rigs:
        each.tracker.shutdown(0.2)
