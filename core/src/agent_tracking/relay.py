"""The relay: delivers from a spool what other processes track, in a process of its own.

It is a tracker that tracks nothing: the same discovery, lanes, retries and counters, with the spool as their
source. Several may run on one folder: for each provider one of them delivers, the others wait to take over.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

import msgspec

from agent_tracking.backlog import Backlog, VanishedError
from agent_tracking.bell import Bell
from agent_tracking.counters import ProviderLag
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.records import ProviderRecord, ProviderState
from agent_tracking.settings import Settings, read_settings
from agent_tracking.sources.spool.browse import Browser
from agent_tracking.sources.spool.folder import Folder, SpoolError
from agent_tracking.tracker import Tracker

__all__ = ["Ending", "News", "Relay"]

#: Seconds between two looks at the backlog, and between two looks at who delivers.
_LOOK, _LEADERS = 0.2, 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class News(msgspec.Struct, frozen=True, kw_only=True):
    """How things stand.

    Attributes:
        leaders: the pid of the process that delivers for each provider; ``None`` while none does.
        stopped: the providers that must not be used any more, by the reason.
    """

    leaders: dict[str, int | None] = {}
    stopped: dict[str, str] = {}


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """What a relay did.

    Attributes:
        stopped: ``done``, ``timeout``, the name of the signal that ended it, ``failed`` when no provider
            could be used any more, or ``vanished`` when the folder was removed under ``once``.
        ok: nothing was dropped, and nothing that waited at the beginning is left.
        delivered, dropped: by provider; ``dropped`` by reason.
        left: what waits in the spool now, by provider; those with nothing are not in it.
        failed: the providers that were stopped, by the reason.
    """

    stopped: str
    ok: bool
    delivered: dict[str, int]
    dropped: dict[str, dict[str, int]]
    left: dict[str, ProviderLag]
    failed: dict[str, str]


class Relay:
    """One relay.

    Args:
        spool: the folder; made if there is none. ``None``: ``AGENT_TRACKING_SPOOL``.
        environ: the providers' variables and the settings.

    Raises:
        ConfigurationError: a setting is wrong, the folder cannot be used, or no provider is active.

    Example::

        ending = Relay("/var/lib/shop/tracking").run(once=True, timeout=60)
        print(ending.delivered, ending.left)
    """

    def __init__(self, spool: str | None = None, environ: Mapping[str, str] | None = None) -> None:
        environ = {**(os.environ if environ is None else environ), "AGENT_TRACKING_DELIVERY": "process"}
        environ.pop("AGENT_TRACKING_STRICT", None)  # what goes wrong is told, not raised
        if spool:
            environ["AGENT_TRACKING_SPOOL"] = spool
        settings = _settings(environ)
        self.path, self._browser = _open(settings.spool or "")
        self._seconds = settings.shutdown_timeout
        self._bell = Bell()
        self._signal = 0
        self.tracker = Tracker(environ=environ)
        self.tracker.role = "relay"
        records = self.tracker.providers()
        self.active = [record.name for record in records if record.state is ProviderState.ACTIVE]
        if not self.active:
            raise ConfigurationError(
                f"no provider is active ({_states(records)})", fix="see agent-tracking doctor"
            )

    def run(
        self,
        *,
        once: bool = False,
        timeout: float | None = None,
        tell: Callable[[News], None] = lambda _news: None,
    ) -> Ending:
        """Deliver until SIGTERM or SIGINT comes; a second one ends the process at once.

        On the main thread only. What is under way is finished, within ``AGENT_TRACKING_SHUTDOWN_TIMEOUT``;
        the rest stays in the spool.

        Args:
            once: end when all that waits now is settled, or only providers that are stopped have some left.
            timeout: end after so many seconds; ``None`` for as long as it takes.
            tell: told how things stand, at first and whenever that changes.

        Raises:
            ConfigurationError: the folder is gone already, or no thread can be started.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            backlog = Backlog(self.path, self.active)
        except OSError as error:
            raise ConfigurationError(f"the spool {self.path} cannot be read: {error.strerror}") from None
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            if not self.tracker.start():
                raise ConfigurationError("no thread can be started", fix="see the limits of this user")
            stopped = self._wait(backlog if once else None, deadline, tell)
            failed = self.failed()
            self.tracker.shutdown(self._seconds)
            return self._ending(stopped, backlog, failed)
        finally:
            backlog.close()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _wait(self, backlog: Backlog | None, deadline: float | None, tell: Callable[[News], None]) -> str:
        """Return why it ends."""
        told, next_news = News(), 0.0
        while not self._signal:
            now = time.monotonic()
            failed = self.failed()
            if now >= next_news or failed != told.stopped:
                news = News(leaders=self._leaders(failed), stopped=failed)
                complete = all(news.leaders.values())
                if complete and news != told:
                    told = news
                    tell(news)
                next_news = now + (_LEADERS if complete else _LOOK)
            try:
                if backlog is not None and not any(map(backlog.waits_for, self._usable(failed))):
                    return "failed" if failed else "done"
            except VanishedError:
                return "vanished"
            if not self._usable(failed):
                return "failed"
            if deadline is not None and now >= deadline:
                return "timeout"
            self._bell.wait(_LOOK if deadline is None else min(_LOOK, deadline - now))
        return signal.Signals(self._signal).name

    def _usable(self, failed: Mapping[str, str]) -> list[str]:
        return [name for name in self.active if name not in failed]

    def _leaders(self, failed: Mapping[str, str]) -> dict[str, int | None]:
        return {name: self._browser.leader(name) for name in self._usable(failed)}

    def failed(self) -> dict[str, str]:
        """Return the providers that were stopped since it began, by the reason; while it runs."""
        return {
            record.name: record.reason
            for record in self.tracker.providers()
            if record.name in self.active and record.state is ProviderState.FAILED
        }

    def left(self) -> dict[str, ProviderLag]:
        """Return what waits for each active provider that has anything waiting."""
        try:
            self._browser.refresh()
        except SpoolError:  # gone
            return {}
        found = self._browser.stats().providers
        return {name: found[name] for name in self.active if name in found and found[name].bytes}

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._signal:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._signal = number
        self._bell.ring()

    def _ending(self, stopped: str, backlog: Backlog, failed: dict[str, str]) -> Ending:
        stats = self.tracker.stats().providers
        dropped = {name: each.dropped for name, each in stats.items() if each.dropped}
        try:
            waits = any(map(backlog.waits_for, self.active))
        except VanishedError:  # perhaps file by file, which looked like having been delivered
            waits, stopped = True, "vanished" if stopped == "done" else stopped
        return Ending(
            stopped=stopped,
            ok=not dropped and not waits,
            delivered={name: each.delivered for name, each in stats.items()},
            dropped=dropped,
            left=self.left(),
            failed=failed,
        )


def _settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings; an application goes on with a default, here all of them have to be right."""
    settings, problems = read_settings(environ)
    if problems:
        texts = [str(problem).replace("; its default applies", "") for problem in problems]
        raise ConfigurationError("; ".join(texts))
    if settings.disabled:
        raise ConfigurationError("AGENT_TRACKING_DISABLED is set", fix="unset it for the relay")
    if not settings.spool:
        raise ConfigurationError(
            "no spool is named", fix="give --spool FOLDER, or set AGENT_TRACKING_SPOOL, as for the apps"
        )
    return settings


def _open(path: str) -> tuple[str, Browser]:
    try:
        folder = Folder(path)
        folder.make()
        return folder.path, Browser(folder.path)
    except SpoolError as error:
        raise ConfigurationError(str(error)) from None
    except OSError as error:
        reason = f"the spool {path} cannot be used: {error.strerror or error}"
        raise ConfigurationError(reason, fix="give a folder that this user may write to") from None


def _states(records: Sequence[ProviderRecord]) -> str:
    return ", ".join(f"{record.name}: {record.state}" for record in records) or "none is installed"
