"""The three hooks: they match, survive hooks that have grown, and leave records as they are."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agent_tracking.counters import ProviderStats
from agent_tracking.events import Identity, Record, TrackingEvent
from agent_tracking.exceptions import ProviderSpecError, Reject
from agent_tracking.hooks import find_hooks
from agent_tracking.hookspecs import hookspec
from agent_tracking.http_provider import HTTPProvider
from agent_tracking.provider import Provider
from agent_tracking.testing.conformance import records
from agent_tracking.testing.conformance.base import Kit, needs
from agent_tracking.testing.conformance.bench import FIRST_IDENTITY, Bench
from agent_tracking.testing.conformance.calls import Caller

__all__ = ["HookTests"]

#: Before 2001 some backends take a time for a mistake.
_LONG_AGO = 1.0e9
#: Bytes of properties over which a backend need not take an event.
_LARGE = 20_000


class _Grown:
    """The specifications as a later version might have them: every hook has gained arguments."""

    @hookspec
    def track(self, context: object, event: object, deadline: float) -> None:
        """Take one event."""

    @hookspec
    def identify(self, context: object, identity: object, deadline: float) -> None:
        """Take one identity."""

    @hookspec
    def flush(self, deadline: float) -> None:
        """Deliver."""


class _Taken:
    """In place of an outbox: counts what it gets."""

    def __init__(self) -> None:
        self.added = self.sent = 0

    def add(self, _record: object, _payloads: object) -> None:
        self.added += 1

    def send(self) -> None:
        self.sent += 1


def _may_be_lost(provider: Provider, record: Record) -> bool:
    """Return whether a record is rejected by ``encode``, too old or too large."""
    if record.time < _LONG_AGO or len(record.data_json) > _LARGE:
        return True
    try:
        if isinstance(provider, HTTPProvider):
            provider.encode(record)
    except Reject:
        return True
    return False


class HookTests(Kit):
    """What the lane calls."""

    def test_its_hooks_match_the_specifications(self, bench: Bench) -> None:
        """``track(event)`` and, if there are any, ``identify(identity)`` and ``flush()``; no others.

        If it fails: the message shows both signatures.
        """
        try:
            find_hooks(bench.provider(), self.provider.name)
        except ProviderSpecError as error:
            self.hold(False, str(error))

    def test_its_hooks_work_when_the_specifications_have_grown(self, bench: Bench) -> None:
        """A later version may pass more arguments; a hook that names fewer gets those it names.

        If it fails: name the arguments as the specification does, and take no ``*args``.
        """
        provider = bench.provider()
        taken = _Taken()
        if isinstance(provider, HTTPProvider):
            provider.bind(taken)
        caller = Caller(provider, _Grown)
        try:
            caller.call("track", object(), records.ordinary()[1], 1.0)
            caller.call("identify", object(), records.identity({"plan": "pro"}, serial=901), 1.0)
            caller.call("flush", 1.0)
        finally:
            caller.close()
        if bench.http:
            done = taken.added, taken.sent
            self.hold(done == (2, 1), f"handed over and sent {done} times instead of (2, 1)")
        else:
            self.hold(bench.arrived([1]) == {1: 1}, "what grown hooks handed over did not come")

    def test_hostile_events_are_delivered_or_rejected(self, bench: Bench) -> None:
        """Any event may come: none makes the provider fail, and none costs another one.

        If it fails: raise ``Reject(reason)`` for what cannot be kept, cut what is too long; the message
        names the exception, or the request that the backend refused.
        """
        bench.start()
        events = [record for _, record in records.hostile() if isinstance(record, TrackingEvent)]
        for serial, record in enumerate(events):
            bench.tracker.track(
                record.name,
                msgspec.json.decode(record.properties_json),
                user_id=record.user_id,
                anonymous_id=record.anonymous_id,
                session_id=record.session_id,
                timestamp=record.time,
                message_id=records.message_id(serial),
            )
        stats = self._settled(bench, events)
        if bench.http and self.capabilities.dedup:
            taken = set(bench.sink.ledger[bench.name].accepted_keys())
            provider = bench.provider()
            missing = [
                record
                for serial, record in enumerate(events)
                if records.message_id(serial) not in taken and not _may_be_lost(provider, record)
            ]
            self.hold_nothing(missing, "the backend took all but")
        if not bench.http:
            arrived = bench.arrived(range(stats.delivered))
            self.hold(len(arrived) == stats.delivered, f"{stats.delivered} delivered, {len(arrived)} came")
            self.hold_nothing([serial for serial, often in arrived.items() if often > 1], "came twice")

    @needs("identities")
    def test_hostile_identities_are_delivered_or_rejected(self, bench: Bench) -> None:
        """The same holds for identities.

        If it fails: see the test above.
        """
        bench.start()
        identities = [record for _, record in records.hostile() if isinstance(record, Identity)]
        for serial, record in enumerate(identities, FIRST_IDENTITY):
            bench.tracker.identify(
                record.user_id,
                msgspec.json.decode(record.traits_json),
                anonymous_id=record.anonymous_id,
                timestamp=record.time,
                message_id=records.message_id(serial),
            )
        self._settled(bench, identities)

    def _settled(self, bench: Bench, given: Sequence[Record]) -> ProviderStats:
        """Wait; at most those may be dropped that no provider could save."""
        bench.settle()
        stats = bench.stats()
        self.hold("provider-error" not in stats.dropped, f"a hostile record: {stats.last_error}")
        self.hold(stats.accepted == len(given), f"{stats.accepted} of {len(given)} were handed over")
        provider = bench.provider()
        lost = [record for record in given if _may_be_lost(provider, record)]
        count = sum(stats.dropped.values())
        self.hold(
            count <= len(lost),
            f"dropped {stats.dropped}, where {len(lost)} are too large, too old or rejected by encode()",
        )
        return stats

    def test_records_are_left_as_they_are(self, bench: Bench) -> None:
        """All providers get the same frozen records; what one does to them would be seen by all.

        If it fails: change a copy (``event.properties`` is one).
        """
        bench.start()
        bench.track()
        bench.identify()
        bench.settle()
        self.hold(len(bench.given) == 14, f"{len(bench.given)} records instead of 14")
        changed = [record.message_id for record, twin in bench.given if record != twin]
        self.hold_nothing(changed, "records were changed")
