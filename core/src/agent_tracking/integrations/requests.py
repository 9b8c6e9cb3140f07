"""What a request says of who made it: ids from its headers and cookies, bound while it is served.

They come from the client, who may say anything: so an id is printable ASCII, 200 characters at most, and
never logged; what is none counts as no id. Nothing is read that was not asked for by name.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction
from typing import Any

from agent_tracking.contexts import context
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.logs import one_line

__all__ = ["IdFrom", "PropertiesFrom", "RequestContext", "cookie_of"]

#: The most characters of an id; PostHog cuts longer ones.
ID_CHARS = 200
#: What names of headers and cookies are made of (RFC 9110, section 5.6.2); any other is never sent.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

#: Where an id is read: ``"cookie:NAME"``, ``"header:NAME"``, or a function of the ASGI scope or WSGI environ.
IdFrom = str | Callable[[Any], str | int | None]
#: A function of the scope or environ.
PropertiesFrom = Callable[[Any], Mapping[str, Any] | None]


class RequestContext:
    """Makes the context of each request.

    Args:
        header, cookies: how the server's kind of request is read.
        user_id, anonymous_id, session_id: where each is read, or ``None``.
        properties: a function, or ``None``.

    Raises:
        ConfigurationError: for a place that is none.
    """

    def __init__(
        self,
        header: Callable[[Any, str], str | None],
        cookies: Callable[[Any], str],
        *,
        user_id: IdFrom | None,
        anonymous_id: IdFrom | None,
        session_id: IdFrom | None,
        properties: PropertiesFrom | None,
    ) -> None:
        self._header, self._cookies = header, cookies
        given = {"user_id": user_id, "anonymous_id": anonymous_id, "session_id": session_id}
        self._readers = {
            name: self._reader(name, where) for name, where in given.items() if where is not None
        }
        if properties is not None:
            if not _is_function(properties):
                raise ConfigurationError(
                    "TrackingMiddleware: properties should be a function of the request, and not async"
                )
            self._readers["properties"] = properties
        self._failed: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._readers)

    def of(self, request: Any) -> context:  # noqa: ANN401  an ASGI scope or a WSGI environ
        """Return the context of a request, not entered yet; raises for nothing that it says."""
        return context(**{name: self._read(name, request) for name in self._readers})

    def _read(self, name: str, request: object) -> Any:  # noqa: ANN401  whatever a function returns
        try:
            return self._readers[name](request)
        except Exception as error:  # noqa: BLE001  analytics must not cost the request
            if name not in self._failed:
                self._failed.add(name)
                logging.getLogger("agent_tracking").warning(
                    "TrackingMiddleware: the function for %s raised %s: its requests are tracked without it",
                    name,
                    one_line(type(error).__name__, 60),
                )
            return None

    def _reader(self, name: str, where: object) -> Callable[[Any], Any]:
        if _is_function(where):
            return where  # type: ignore[return-value]
        kind, _, key = where.partition(":") if isinstance(where, str) else ("", "", "")
        kind, key = kind.strip().lower(), key.strip()
        if kind == "header" and _TOKEN.fullmatch(key):
            return lambda request: _clean(self._header(request, key))
        if kind == "cookie" and _TOKEN.fullmatch(key):
            return lambda request: _clean(cookie_of(self._cookies(request), key))
        raise ConfigurationError(
            f"TrackingMiddleware: {name} should be 'cookie:NAME', 'header:NAME' or a function of the request,"
            " which is not async"
        )


def _is_function(value: object) -> bool:
    return callable(value) and not iscoroutinefunction(value)


def cookie_of(header: str, name: str) -> str | None:
    """Return a cookie's value from the ``Cookie`` header: the first of that name, as browsers order them.

    RFC 6265, section 5.4: the one with the longest path comes first. One that is not well-formed costs the
    others nothing.
    """
    for pair in header.split(";"):
        key, found, value = pair.partition("=")
        if found and key.strip() == name:
            return value.strip().removeprefix('"').removesuffix('"')
    return None


def _clean(value: str | None) -> str | None:
    """Return an id that a client sent, or ``None`` if it is not fit to be one."""
    if value is None:
        return None
    value = value.strip()
    return value if 0 < len(value) <= ID_CHARS and value.isascii() and value.isprintable() else None
