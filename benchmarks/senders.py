"""Everything that is measured, by name: this project, the floor, the vendors' SDKs, and nothing at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from benchmarks.vendors import PACKAGES, VENDORS, Sender

__all__ = [
    "BASIS",
    "CAREFUL",
    "LOOK",
    "OURS",
    "SENDERS",
    "TRACKED",
    "Kind",
    "environ_of",
    "make",
    "missing",
    "variables_of",
]


class Kind(NamedTuple):
    """What a sender is.

    Attributes:
        title: for tables.
        copies: deliveries of one event.
        needs: ``""``, ``spool`` or ``relay``: what this project has to offer for it.
        tight: calls in a tight loop; fewer for one that sends each by itself.
    """

    title: str
    copies: int
    needs: str = ""
    tight: int = 20_000


SENDERS: dict[str, Kind] = {
    "control": Kind("control: an empty call", 0),
    "floor-1": Kind("floor, one backend, batch 50", 1),
    "floor-4": Kind("floor, four backends, batch 50", 4),
    "floor-4-grown": Kind("floor, four backends, a look every 0.25 s, batch up to 500", 4),
    "floor-relay": Kind("floor, to a file", 1),
    "one": Kind("**agent-tracking, one provider**", 1),
    "four": Kind("**agent-tracking, four providers**", 4),
    "spool": Kind("**agent-tracking, four providers, spool**", 4, "spool"),
    "relay": Kind("**agent-tracking, four providers, relay**", 4, "relay"),
    "posthog": Kind("posthog", 1),
    "mixpanel": Kind("mixpanel (synchronous)", 1, tight=2_000),
    "mixpanel-buffered": Kind("mixpanel (buffered)", 1),
    "amplitude": Kind("amplitude-analytics", 1),
    "segment": Kind("segment-analytics-python", 1),
    "rudderstack": Kind("rudder-sdk-python", 1),
    "snowplow": Kind("snowplow-tracker (asynchronous)", 1),
    "otel": Kind("OpenTelemetry logs, OTLP/HTTP", 1),
    "three": Kind("posthog + mixpanel (buffered) + amplitude by hand", 3),
}
#: The floor to a file that looks at the data and writes checksums: beside a relay's application only.
CAREFUL = "floor-relay-careful"
#: Seconds between two writes to a disk: what this project does by default.
LOOK = 0.1
#: Senders that every round has; the others come in fewer rounds.
BASIS = ("control", "floor-1", "floor-4", "floor-4-grown", "floor-relay")
OURS = ("one", "four", "spool", "relay")
#: The backends that one event reaches.
TRACKED = {"one": ("posthog",), "four": ("posthog", "mixpanel", "amplitude", "webhook")}


def environ_of(url: str, names: tuple[str, ...], spool: str = "", *, relay: bool = False) -> dict[str, str]:
    """Return the variables that point providers at an account of the sink."""
    every = {
        "posthog": {"POSTHOG_API_KEY": "phc_key_of_the_sink", "POSTHOG_HOST": f"{url}/posthog"},
        "mixpanel": {"MIXPANEL_TOKEN": "token-of-the-sink", "MIXPANEL_HOST": f"{url}/mixpanel"},
        "amplitude": {"AMPLITUDE_API_KEY": "key-of-the-sink", "AMPLITUDE_HOST": f"{url}/amplitude"},
        "webhook": {"TRACKING_WEBHOOK_URL": f"{url}/webhook/hook"},
    }
    found = {variable: value for name in names for variable, value in every[name].items()}
    if spool:
        found["AGENT_TRACKING_SPOOL"] = spool
    if relay:
        found["AGENT_TRACKING_DELIVERY"] = "relay"
    return found


def missing(name: str) -> str:
    """Return which distribution a sender lacks here, or nothing."""
    for package in PACKAGES.get(name, ()):
        try:
            version(package)
        except PackageNotFoundError:
            return package
    return ""


def make(name: str, url: str, folder: str = "", look: float = LOOK) -> Sender:
    """Return the sender, made in this process.

    Args:
        name: a key of ``SENDERS``, ``CAREFUL``, or ``providers-<n>``: this project with so many webhooks.
        url: the account's address.
        folder: where ``spool`` and ``relay`` keep records, and ``floor-relay`` its file.
        look: seconds between two writes of these three.
    """
    if name == "control":
        return Sender(_nothing, lambda: None)
    if name in {"floor-relay", CAREFUL}:
        from benchmarks.floor import CarefulFileFloor, FileFloor

        kind = FileFloor if name == "floor-relay" else CarefulFileFloor
        file = kind(os.path.join(folder, "floor"), look)
        return Sender(file.track, file.settle, file.close)
    if name.startswith("floor"):
        return _floor(name, url)
    if name in VENDORS:
        return VENDORS[name](url)
    if name.startswith("providers-"):
        return _several(int(name.partition("-")[2]), url)
    if name not in OURS:
        raise KeyError(name)
    return _ours({**variables_of(name, url, folder), "AGENT_TRACKING_SPOOL_SYNC": f"{look:g}"})


def variables_of(name: str, url: str, folder: str) -> dict[str, str]:
    """Return what the environment says for one of :data:`OURS`; the folder only where that is the point."""
    spool = folder if SENDERS[name].needs else ""
    return environ_of(url, TRACKED.get(name, TRACKED["four"]), spool, relay=name == "relay")


def _nothing(name: str, properties: Mapping[str, object], *, user_id: str) -> None:
    """Do nothing with the arguments that the others get."""


def _floor(name: str, url: str) -> Sender:
    from benchmarks.floor import Floor

    grown = name.endswith("grown")
    floor = Floor(url, int(name.split("-")[1]), batch=500 if grown else 50, wake=not grown)
    return Sender(floor.track, floor.settle, floor.close)


def _ours(environ: dict[str, str]) -> Sender:
    for variable in [each for each in os.environ if each.startswith("AGENT_TRACKING_")]:
        del os.environ[variable]
    os.environ.update(environ)
    import agent_tracking

    return Sender(agent_tracking.track, lambda: agent_tracking.flush(60), agent_tracking.shutdown)


def _several(count: int, url: str) -> Sender:
    import agent_tracking
    from agent_tracking_webhook import WebhookProvider

    tracker = agent_tracking.Tracker(environ={}, discover=False)
    for number in range(count):
        values = {"TRACKING_WEBHOOK_URL": f"{url}/webhook-{number}/hook", "TRACKING_WEBHOOK_FORMAT": "array"}
        tracker.register_provider(WebhookProvider(values), name=f"webhook-{number}")
    return Sender(tracker.track, lambda: tracker.flush(60), tracker.shutdown)
