"""The listening socket and a thread for each connection.

Threads with blocking sockets, because faults are about sockets: a thread can stop in the middle of an
answer, wait, or send an RST, and the others don't notice. Every thread is a daemon, and ``close()``
wakes all of them.

A child made by ``os.fork()`` has none of these threads. It closes its copies of the sockets at once, so
that the parent's connections end when the parent ends them, and in the child the server counts as
closed. (A fork in C that runs no Python hooks leaves the copies open until the child ends.)
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable

from agent_tracking.testing.wire import BadRequestError, Wire

__all__ = ["Server"]

_BACKLOG = 512
#: Seconds within which ``close()`` returns.
_CLOSE = 1.0

#: Guards ``_servers``; taken before any server's ``forking``.
_fork_lock = threading.Lock()
_servers: weakref.WeakSet[Server] = weakref.WeakSet()
_held: list[Server] = []


class Server:
    """Serves connections until closed.

    Args:
        serve: called with each connection on its own thread; returns when it is done with it.
        port: 0 lets the system choose.
        tls: makes each connection a TLS connection.
        name: what the threads are called.
        forget: called in a forked child.
    """

    def __init__(
        self,
        serve: Callable[[Wire], None],
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        name: str,
        forget: Callable[[], None],
    ) -> None:
        self._serve = serve
        self._forget = forget
        self._tls = tls
        self._name = name
        self.closed = False
        #: Held while a socket is made and entered: a fork in between would leave a copy to the child.
        self.forking = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
        self._listener.setblocking(False)
        self._wake, self._woken = socket.socketpair()
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept_all, name=f"{name}-accept", daemon=True)
        with _fork_lock:
            _servers.add(self)
        self._acceptor.start()

    def close(self) -> None:
        """End every connection and every thread, within a second; safe to call twice."""
        if self.closed:
            return
        self.closed = True
        self._wake.send(b"x")
        deadline = time.monotonic() + _CLOSE
        self._acceptor.join(_CLOSE)
        with _fork_lock:
            _servers.discard(self)
        with self.forking:
            waiting = list(self._threads)
            for sock in list(self._sockets):
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # past TLS: its thread may be reading
        for thread in waiting:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        self._close_sockets()

    def forget(self) -> None:
        """In a forked child: close the copies of the sockets, quietly."""
        self.closed = True
        self.forking = threading.Lock()
        self._threads.clear()
        self._listener.close()
        self._close_sockets()
        self._forget()

    def _close_sockets(self) -> None:
        for sock in (self._wake, self._woken, *list(self._sockets)):
            sock.close()
        self._sockets.clear()

    def _accept_all(self) -> None:
        with selectors.DefaultSelector() as selector, self._listener:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self.closed:
                selector.select()
                if not self.closed:
                    self._accept()

    def _accept(self) -> None:
        with self.forking:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # the peer has gone already
                return
            sock.setblocking(True)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                try:
                    sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                except OSError:
                    sock.close()
                    return
            self._sockets.add(sock)
            thread = threading.Thread(target=self._run, args=(sock,), name=self._name, daemon=True)
            self._threads.add(thread)
            thread.start()

    def _run(self, sock: socket.socket) -> None:
        wire = Wire(sock)
        try:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            try:
                self._serve(wire)
            except BadRequestError as error:
                wire.refuse(error.status)
        except OSError:  # the peer has gone, or close() was called
            pass
        finally:
            with self.forking:
                sock.close()
                self._sockets.discard(sock)
                self._threads.discard(threading.current_thread())


def _before_fork() -> None:
    _fork_lock.acquire()
    for server in list(_servers):
        server.forking.acquire()
        _held.append(server)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().forking.release()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    global _fork_lock  # noqa: PLW0603  the child's own
    _fork_lock = threading.Lock()
    _held.clear()
    for server in list(_servers):
        server.forget()
    _servers.clear()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
