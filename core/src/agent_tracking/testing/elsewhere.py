"""Addresses at which nobody answers."""

from __future__ import annotations

import atexit
import functools
import socket

__all__ = ["refused_url", "unresolvable_url"]


def refused_url() -> str:
    """Return an address of this machine that refuses connections.

    Its port stays taken by this process, without listening, so that nothing else can turn up there.
    """
    return f"http://127.0.0.1:{_taken_port()}"


def unresolvable_url() -> str:
    """Return an address whose host name no resolver knows: ``.invalid`` is reserved for that."""
    return "http://nowhere.invalid"


@functools.cache
def _taken_port() -> int:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.bind(("127.0.0.1", 0))
    atexit.register(sock.close)
    port: int = sock.getsockname()[1]
    return port
