"""A forward proxy on loopback, for tests."""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit


class Proxy:
    """A forward proxy on loopback: tunnels, and requests with a whole address, one for each connection."""

    def __init__(self):
        self.asked = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._server.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client:
            data = b""
            while b"\r\n\r\n" not in data:
                more = client.recv(65536)
                if not more:
                    return
                data += more
            first, _, rest = data.partition(b"\r\n")
            method, target, version = first.split(b" ")
            self.asked.append((method.decode(), target.decode()))
            if method == b"CONNECT":
                host, _, port = target.decode().rpartition(":")
                begin = b""
            else:
                parts = urlsplit(target.decode())
                host, port = parts.hostname, parts.port
                path = parts.path + (f"?{parts.query}" if parts.query else "")
                begin = b"%s %s %s\r\nconnection: close\r\n%s" % (method, path.encode(), version, rest)
            with socket.create_connection((host, int(port))) as server:
                if method == b"CONNECT":
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    server.sendall(begin)
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server)
                back.join(10)


def _copy(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
