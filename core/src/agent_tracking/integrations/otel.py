"""The counters of a tracker as OpenTelemetry metrics: ``pip install 'agent-tracking[otel]'``.

>>> from agent_tracking.integrations.otel import observe
>>> observation = observe()

All instruments are observable: nothing is added to ``track()`` or to a delivery, and ``stats()`` is read when
a reader of the application's ``MeterProvider`` collects. Names and units follow
https://opentelemetry.io/docs/specs/semconv/general/naming/ and ``general/metrics/`` there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple
from weakref import WeakKeyDictionary

from agent_tracking import forks
from agent_tracking.api import default_tracker

try:
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation, get_meter_provider
except ImportError:
    raise ImportError(
        "agent_tracking.integrations.otel needs opentelemetry-api: pip install 'agent-tracking[otel]'"
    ) from None

if TYPE_CHECKING:
    from agent_tracking.counters import ProviderStats, Stats
    from agent_tracking.tracker import Tracker

__all__ = ["PROVIDER", "REASON", "Observing", "observe"]

#: The attributes: a provider's name; why records were dropped, one of ``agent_tracking.counters.REASONS``.
PROVIDER = "agent_tracking.provider"
REASON = "agent_tracking.reason"


def observe(*, meter_provider: MeterProvider | None = None, tracker: Tracker | None = None) -> Observing:
    """Report a tracker's counters by OpenTelemetry, from now on.

    A tracker that was never used reports nothing: this starts neither a thread nor discovery. What counts
    never goes back, though ``configure()`` and a fork make the tracker count anew: as OpenTelemetry's own
    counters, it goes on from what was reported before.

    Args:
        meter_provider: the global one by default, which may be set later.
        tracker: the process-wide one by default.

    Returns:
        What ends it: ``observe().stop()``. Calling this again for the same tracker changes nothing.

    Raises:
        ValueError: the meter provider reports another tracker.

    Example::

        metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())]))
        observe()
    """
    tracker = tracker or default_tracker()
    with forks.BOOT:
        report = _report_of(meter_provider)
        if report.tracker not in {None, tracker}:
            raise ValueError(
                "this meter provider reports another tracker: stop() that, or give a MeterProvider of its own"
            )
        report.watch(tracker)
    return Observing(report, tracker)


class Observing:
    """A tracker that is reported."""

    def __init__(self, report: _Report, tracker: Tracker) -> None:
        self._report = report
        self._tracker = tracker

    def stop(self) -> None:
        """Report nothing any more, until ``observe()`` is called again. Safe to call twice."""
        if self._report.tracker is self._tracker:
            self._report.watch(None)


class _Series(NamedTuple):
    """What tells the values of one instrument apart; ``None``: it has no such attribute."""

    provider: str | None = None
    reason: str | None = None

    def attributes(self) -> dict[str, str]:
        named = {PROVIDER: self.provider, REASON: self.reason}
        return {name: value for name, value in named.items() if value is not None}


class _Instrument(NamedTuple):
    """One instrument, and what it shows of a tracker's counters."""

    kind: Literal["counter", "up-down", "gauge"]
    name: str
    unit: str
    description: str
    values: Callable[[Stats], Iterable[tuple[_Series, float]]]


class _Report:
    """The instruments of one meter provider. It cannot give them back, so they are made once."""

    def __init__(self, meter: Meter) -> None:
        self.tracker: Tracker | None = None
        #: What ``stats()`` said, and the instruments that have shown it: one collection shows one moment.
        self._moment: tuple[int, Stats] | None = None
        self._shown: set[str] = set()
        #: By instrument and series: which counting it was, its last value, the sum of those of earlier ones.
        self._last: dict[tuple[str, _Series], tuple[int, float, float]] = {}
        make = {
            "counter": meter.create_observable_counter,
            "up-down": meter.create_observable_up_down_counter,
            "gauge": meter.create_observable_gauge,
        }
        for instrument in _INSTRUMENTS:
            make[instrument.kind](
                instrument.name, [self._callback(instrument)], instrument.unit, instrument.description
            )

    def watch(self, tracker: Tracker | None) -> None:
        """Report this one from now on."""
        self.tracker = tracker
        self._moment = None

    def _callback(self, instrument: _Instrument) -> Callable[[CallbackOptions], list[Observation]]:
        return lambda _options: list(self._read(instrument))

    def _read(self, instrument: _Instrument) -> Iterator[Observation]:
        tracker = self.tracker
        if tracker is None or not tracker.started():
            return
        moment = self._moment
        if moment is None or instrument.name in self._shown:  # the next collection
            moment = self._moment = _moment_of(tracker)
            self._shown = set()
        self._shown.add(instrument.name)
        counting, stats = moment
        for series, value in instrument.values(stats):
            counts = instrument.kind == "counter"
            shown = self._grown(instrument.name, series, counting, value) if counts else value
            yield Observation(shown, series.attributes())

    def _grown(self, name: str, series: _Series, counting: int, value: float) -> float:
        known, last, before = self._last.get((name, series), (counting, 0, 0))
        if counting != known:
            before += last
        self._last[name, series] = (counting, value, before)
        return value + before


def _moment_of(tracker: Tracker) -> tuple[int, Stats]:
    """Return the counters, and of which counting they are."""
    while True:
        counting = tracker.counting
        stats = tracker.stats()
        if counting == tracker.counting:
            return counting, stats


def _report_of(meter_provider: MeterProvider | None) -> _Report:
    """Return the report of a meter provider; the global one counts as the same before and after it is set."""
    if meter_provider is None or meter_provider is get_meter_provider():
        if not _global:
            _global.append(_Report(get_meter_provider().get_meter("agent_tracking")))
        return _global[0]
    if meter_provider not in _reports:
        _reports[meter_provider] = _Report(meter_provider.get_meter("agent_tracking"))
    return _reports[meter_provider]


_global: list[_Report] = []
_reports: WeakKeyDictionary[MeterProvider, _Report] = WeakKeyDictionary()


def _each(value: Callable[[ProviderStats], float]) -> Callable[[Stats], Iterable[tuple[_Series, float]]]:
    return lambda stats: [(_Series(name), value(counters)) for name, counters in stats.providers.items()]


def _delays(stats: Stats) -> Iterator[tuple[_Series, float]]:
    spooled = stats.spool.providers if stats.spool else {}
    for name, counters in stats.providers.items():
        waited = spooled[name].seconds if name in spooled else 0.0
        yield _Series(name), max(counters.delay or 0.0, waited)


def _dropped(stats: Stats) -> Iterator[tuple[_Series, float]]:
    for name, counters in stats.providers.items():
        for reason, count in counters.dropped.items():
            yield _Series(name, reason), count


_INSTRUMENTS = (
    _Instrument(
        "counter",
        "agent_tracking.intake.tracked",
        "{record}",
        "Records that track() and identify() were given.",
        lambda stats: [(_Series(), stats.tracked)],
    ),
    _Instrument(
        "counter",
        "agent_tracking.intake.dropped",
        "{record}",
        "Records that no provider was given, by reason.",
        lambda stats: [(_Series(reason=reason), count) for reason, count in stats.dropped.items()],
    ),
    _Instrument(
        "up-down",
        "agent_tracking.intake.waiting",
        "{record}",
        "Records that no provider was given yet.",
        lambda stats: [(_Series(), stats.intake)],
    ),
    _Instrument(
        "counter",
        "agent_tracking.records.accepted",
        "{record}",
        "Records that a provider was given.",
        _each(lambda counters: counters.accepted),
    ),
    _Instrument(
        "counter",
        "agent_tracking.records.delivered",
        "{record}",
        "Records that a provider delivered.",
        _each(lambda counters: counters.delivered),
    ),
    _Instrument(
        "counter",
        "agent_tracking.records.retried",
        "{record}",
        "Records that a provider was given once more, each time it was.",
        _each(lambda counters: counters.retried),
    ),
    _Instrument(
        "counter",
        "agent_tracking.records.dropped",
        "{record}",
        "Records that a provider was given and that were given up, by reason.",
        _dropped,
    ),
    _Instrument(
        "up-down",
        "agent_tracking.records.waiting",
        "{record}",
        "Records that a provider was given and has neither delivered nor dropped.",
        _each(lambda counters: counters.waiting),
    ),
    _Instrument(
        "gauge",
        "agent_tracking.records.delay",
        "s",
        "For how long the oldest record that waits for a provider has waited; 0: none waits.",
        _delays,
    ),
)
