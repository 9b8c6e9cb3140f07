"""For authors: one check for the addresses that operators put into a provider's variables.

What passes can be joined with a path and sent to; what does not is a :class:`ConfigurationError` whose
text never holds the value, since webhook addresses are secrets.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from agent_tracking.exceptions import ConfigurationError

__all__ = ["http_url"]

#: What RFC 3986 lets an address be made of, https://www.rfc-editor.org/rfc/rfc3986#section-2
_WRITTEN = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9\-_.]*[A-Za-z0-9_.])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


def http_url(variable: str, value: str, *, exact: bool = False, credentials: str = "") -> str:
    """Return ``value`` if it is an ``http`` or ``https`` address, without ``/`` at its end.

    Args:
        variable: the variable that it came from, for the error's text.
        value: the address: scheme and host, perhaps a port and a path.
        exact: a whole address rather than a base: it may have a query, and its end is kept.
        credentials: the variable that credentials belong in, for the error's text.

    Raises:
        ConfigurationError: it has no scheme or host, a bad port, a user or password, a query
            (unless ``exact``), a fragment, or a character that no address has.

    Example::

        self.host = http_url("ACME_HOST", self.values["ACME_HOST"])
    """
    if not _WRITTEN.fullmatch(value):
        raise ConfigurationError(
            f"{variable} has a character that no address has",
            fix="check it for spaces, line breaks and quotes; write other characters percent-encoded",
        )
    parts = _split(variable, value)
    if "@" in parts.netloc:
        raise ConfigurationError(
            f"{variable} has a user or a password in it",
            fix=f"move them to {credentials}" if credentials else "leave them out",
        )
    if "#" in value:
        raise ConfigurationError(f"{variable} has a fragment", fix="leave out the # and what follows it")
    if exact:
        return value
    if "?" in value:
        raise ConfigurationError(f"{variable} has a query", fix="leave out the ? and what follows it")
    return value.rstrip("/")


def _split(variable: str, value: str) -> SplitResult:
    """Return the parts of an address that has a scheme, a host and, if any, a port that exists."""
    if not value.lower().startswith(("http://", "https://")):
        raise ConfigurationError(
            f"{variable} does not begin with http:// or https://", fix="write it as https://host"
        )
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # its text may quote the value, so it is not what the error below comes from
        host, port = "", None
    # Only IPv6 addresses stand in brackets; Pythons before 3.11.4 take anything there.
    if not _HOST.fullmatch(host) or port == 0 or ("[" in parts.netloc) is not (":" in host):
        raise ConfigurationError(f"{variable} has no valid host or port", fix="write it as https://host")
    return parts
