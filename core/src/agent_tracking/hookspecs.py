"""The contract between the core and a provider: three hooks, checked by pluggy when it registers.

A provider implements ``track``, and ``identify`` and ``flush`` if it needs them, as methods (or as
functions of a module), plain or ``async def``, with or without the ``@hookimpl`` marker. All calls to
one provider come from one thread of its own, its *lane*: it may block, sleep or raise there without
holding up the application or another provider. Hooks only ever gain arguments, and an
implementation may leave out those that it does not need, so a provider written today keeps working.

Whatever a hook raises, even ``SystemExit``, costs its own records only, which are counted; one that never
returns holds up its own lane only, and ``stats()`` shows for how long it is ``busy``. What no thread can
contain is the end of the process: ``os._exit()``, a signal, a crash in C code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from agent_tracking.events import Identity, TrackingEvent

__all__ = ["PROJECT", "HookSpecs", "hookimpl", "hookspec"]

#: The project name that ties specifications and implementations together in pluggy.
PROJECT = "agent_tracking"

hookspec = pluggy.HookspecMarker(PROJECT)
#: Marks a method or a function as the implementation of the hook that has its name.
hookimpl = pluggy.HookimplMarker(PROJECT)


class HookSpecs:
    """The three hooks."""

    @hookspec
    def track(self, event: TrackingEvent) -> None:
        """Take one event.

        Required. ``event`` is frozen and may be kept. ``event.properties`` decodes a fresh ``dict``
        at each access; ``event.properties_json`` is the JSON text itself. Send
        ``event.message_id`` as the backend's deduplication key and ``event.timestamp`` as the time.

        Without a ``flush`` hook the event counts as delivered when this returns; with one, when the
        next ``flush`` returns.

        Raise ``RetryLater(after=seconds)`` to be handed the same records again after a pause;
        ``OSError`` and httpx's transport errors mean the same. Raise ``Reject(reason)`` to drop this
        record and have it counted. Anything else drops it under the reason ``provider-error``.

        Example::

            @hookimpl
            def track(self, event):
                self.rows.append((event.message_id, event.name, event.properties_json))
        """

    @hookspec
    def identify(self, identity: Identity) -> None:
        """Take what is known of one user.

        Optional: without it identities are not handed to this provider. ``identity.user_id`` is
        always text; ``identity.traits`` decodes a fresh ``dict``; ``identity.anonymous_id`` names
        what the user was called before, if the application said so. Errors mean what they mean in
        ``track``. One thread's ``identify`` and ``track`` calls arrive in their order.

        Example::

            @hookimpl
            def identify(self, identity):
                self.people[identity.user_id] = identity.traits
        """

    @hookspec
    def flush(self) -> None:
        """Deliver what was handed over since the last ``flush``.

        Optional; having it means that ``track`` only buffers. It is called after 50 records or 10
        seconds, whichever comes first (``AGENT_TRACKING_FLUSH_AT``,
        ``AGENT_TRACKING_FLUSH_INTERVAL``), when the application flushes, and at the end of the process.
        When it returns, all those records count as delivered. ``RetryLater(records=left)`` hands
        over again only what is left; any other error drops them all under ``provider-error``.

        Example::

            @hookimpl
            def flush(self):
                rows, self.rows = self.rows, []
                self.database.executemany(INSERT, rows)
        """
