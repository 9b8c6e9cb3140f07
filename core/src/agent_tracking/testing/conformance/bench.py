"""The provider in a tracker of its own, at a stand-in for its backend, and what has come there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from agent_tracking.counters import ProviderStats
from agent_tracking.delivery.backoff import RetryPolicy
from agent_tracking.delivery.http import HTTPSender
from agent_tracking.events import Record
from agent_tracking.http_provider import HTTPProvider, Payload
from agent_tracking.provider import Provider
from agent_tracking.records import ProviderRecord
from agent_tracking.testing.backends import Backend
from agent_tracking.testing.conformance import records
from agent_tracking.testing.faults import Fault
from agent_tracking.testing.ledger import Received
from agent_tracking.testing.sink import Sink
from agent_tracking.tracker import Tracker

if TYPE_CHECKING:
    from agent_tracking.testing.conformance.base import Kit

__all__ = ["FIRST_IDENTITY", "IMPATIENT", "PATIENT", "SETTLED", "Bench"]

#: Fast, and longer than any fault that passes.
PATIENT = RetryPolicy(first=0.01, longest=0.03, tries=6, window=4.0)
#: Gives up after two tries.
IMPATIENT = RetryPolicy(first=0.01, longest=0.02, tries=2, window=0.0)
#: Seconds after which what is not settled never will be; machines are busy.
SETTLED = 30.0
#: The serial numbers of identities begin here.
FIRST_IDENTITY = 900


class Bench:
    """One provider and the place that it delivers to.

    Args:
        kit: the test's class.
        folder: for a provider that is not HTTP: its place is in there.
    """

    def __init__(self, kit: Kit, folder: Path) -> None:
        self.kit = kit
        self.http = issubclass(kit.provider, HTTPProvider)
        self.name = kit.provider.name
        self._folder = folder
        self._end = ExitStack()
        self._sink: Sink | None = None
        self._tracker: Tracker | None = None
        #: Every record that the provider was given, as it was.
        self.given: list[tuple[Record, Record]] = []

    def __enter__(self) -> Bench:  # noqa: PYI034  typing.Self is newer than Python 3.10
        if self.http:
            sink = self._sink = Sink()
            if backend := self.kit.make_backend():
                sink.add_backend(self.name, backend)
            elif self.name not in sink.ledger:
                sink.add_backend(self.name, Backend())
            self._end.enter_context(sink)
        return self

    def __exit__(self, *_: object) -> None:
        if self._sink is not None:
            self._sink.clear()
        if self._tracker is not None:
            self._tracker.shutdown(0.2)
        self._end.close()

    @property
    def sink(self) -> Sink:
        """The stand-in."""
        if self._sink is None:
            raise RuntimeError("a provider that is not HTTP has no sink")
        return self._sink

    @property
    def place(self) -> str:
        """What ``make_environ`` gets: an address or a folder."""
        if self.http:
            return f"{self.sink.url}/{self.name}"
        place = self._folder / "place"
        place.mkdir(exist_ok=True)
        return str(place)

    @property
    def environ(self) -> dict[str, str]:
        """The provider's variables."""
        return dict(self.kit.make_environ(self.place))

    def provider(self, environ: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401  of the author's class
        """Return a provider that is registered nowhere."""
        return self.kit.provider(self.environ if environ is None else environ)

    def batches(self, provider: HTTPProvider) -> list[tuple[str, list[Payload]]]:
        """Return the payloads of a few records by endpoint, as a batch carries them."""
        found: dict[str, list[Payload]] = {endpoint.name: [] for endpoint in provider.endpoints}
        given: list[Record] = [*records.ordinary(), records.identity({"plan": "pro"}, anonymous_id="anon-1")]
        for record in given:
            for payload in records.payloads(provider, record):
                found[payload.endpoint or provider.endpoints[0].name].append(payload)
        most = {endpoint.name: endpoint.records for endpoint in provider.endpoints}
        return [(name, batch[: most[name]]) for name, batch in found.items() if batch]

    def start(
        self,
        retry: RetryPolicy = PATIENT,
        total: float = 10.0,
        environ: Mapping[str, str] | None = None,
        **settings: str,
    ) -> Tracker:
        """Return the tracker, with the provider registered."""
        tracker = self._tracker = Tracker(
            environ=settings,
            discover=False,
            retry=retry,
            sender=lambda: HTTPSender(total=total),
            processors=[self._keep],
        )
        provider: Provider = self.provider(environ)
        tracker.register_provider(provider, name=self.name or None)
        return tracker

    def _keep(self, record: Record) -> Record:
        twin = type(record)(**{field: getattr(record, field) for field in record.__struct_fields__})
        self.given.append((record, twin))
        return record

    @property
    def tracker(self) -> Tracker:
        """The tracker that was started."""
        if self._tracker is None:
            raise RuntimeError("start() first")
        return self._tracker

    def track(
        self, count: int = 12, start: int = 0, extra: Mapping[int, Mapping[str, Any]] | None = None
    ) -> None:
        """Track so many events with serial numbers, and give some of them extra properties."""
        for serial in range(start, start + count):
            mark = {records.MARK: f"conformance-{serial:06d}", "total": 9.5}
            properties = {**mark, **(extra or {}).get(serial, {})}
            self.tracker.track(
                "order paid",
                properties,
                user_id=f"user-{serial % 5}-4242",
                timestamp=records.TIME + serial,
                message_id=records.message_id(serial),
            )

    def identify(self, count: int = 2, start: int = FIRST_IDENTITY) -> None:
        """Track so many identities with serial numbers."""
        for serial in range(start, start + count):
            self.tracker.identify(
                f"user-{serial % 5}-4242",
                {records.MARK: f"conformance-{serial:06d}", "plan": "pro"},
                message_id=records.message_id(serial),
            )

    def fail(self, *faults: Fault) -> None:
        """Put faults into the queue, for the requests to each of the provider's addresses on its own."""
        for fault in faults:
            for path in self.paths():
                fields = {name: getattr(fault, name) for name in fault.__struct_fields__}
                self.sink.fail(self.name, Fault(**{**fields, "match": path}))

    def paths(self) -> list[str]:
        """Return the paths that the provider sends to, behind the stand-in's prefix."""
        provider = self.provider()
        urls = [provider.request(name, batch).url for name, batch in self.batches(provider)]
        prefix = f"/{self.name}"
        return list(dict.fromkeys(urlsplit(url).path.removeprefix(prefix) or "/" for url in urls))

    def settle(self, seconds: float = SETTLED) -> None:
        """Wait until everything is settled."""
        result = self.tracker.flush(seconds)
        self.kit.hold(not result.waiting, f"after {seconds} s records still wait: {dict(result.waiting)}")

    def arrived(self, expected: Sequence[int]) -> Counter[int]:
        """Return the serial numbers of what has come and counts, each as often as it counts.

        Where only a number is known it must be that of the expected ones.
        """
        if not self.http:
            told = self.kit.delivered(self.place)
            if isinstance(told, int):
                self.kit.hold(told == len(expected), f"{told} events came instead of {len(expected)}")
                return Counter(expected)
            found = Counter(map(records.serial_of, told))
            return Counter({serial: count for serial, count in found.items() if serial < FIRST_IDENTITY})
        found = Counter()
        for record in self.sink.events(self.name):
            found.update(records.serials_in(orjson.dumps(record).decode()))
        return found

    def requests(self) -> list[Received]:
        """Return the requests that came."""
        return self.sink.requests(self.name)

    def stats(self) -> ProviderStats:
        """Return the provider's counters."""
        return self.tracker.stats().providers[self.name]

    def record(self) -> ProviderRecord:
        """Return what the tracker says of the provider."""
        (found,) = [record for record in self.tracker.providers() if record.name == self.name]
        return found

    def check_account(
        self, expected: Sequence[int], dropped: Mapping[str, int] | None = None, *, more: bool = False
    ) -> None:
        """Fail unless exactly these came, each counted once, and the counters say the same.

        Args:
            expected: serial numbers.
            dropped: how many were dropped, by reason.
            more: what the counters accept is more than what is expected to come.
        """
        kit, arrived, stats = self.kit, self.arrived(expected), self.stats()
        kit.hold_nothing(sorted(set(expected) - arrived.keys()), "records were lost, by number")
        kit.hold_nothing(
            [serial for serial, count in arrived.items() if count > 1], "records count twice, by number"
        )
        kit.hold_nothing(sorted(arrived.keys() - set(expected)), "records came that should not, by number")
        kit.hold(
            stats.dropped == (dropped or {}),
            f"dropped should be {dropped or {}}, the counters say {stats.dropped} ({stats.last_error})",
        )
        if not more:
            kit.hold(stats.delivered == len(expected), f"delivered: {stats.delivered} of {len(expected)}")
