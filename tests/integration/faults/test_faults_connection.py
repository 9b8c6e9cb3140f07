"""The connection to a backend: kept, opened anew, and read as HTTP/1.1 says, by a server written byte by byte."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing, suppress

import httpx
import pytest

from agent_tracking import ConfigurationError, Request
from agent_tracking.delivery.connection import BODY_LIMIT, KEEP_SECONDS, Connection
from agent_tracking.delivery.http import HTTPSender
from agent_tracking.http_provider import Payload, json_array

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Scripted:
    """Answers each request of a connection with the next of its bytes, ``None`` ends the connection.

    Attributes:
        requests: head and body of each, as they came.
        connections: how many there were.
    """

    def __init__(self, *answers, takes=None, pieces=()):
        self.requests = []
        self._pieces = list(pieces)
        self.connections = 0
        self._answers = list(answers)
        self._takes = takes
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/v1/events?key=a%20b"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self):
        self._server.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            with client, suppress(OSError):  # whoever asked may go before it has all of the answer
                self._serve(client)

    def _serve(self, client):
        while self._answers:
            if not self._read(client):
                return
            answer = self._answers.pop(0)
            if answer is None:
                return
            client.sendall(answer)
            if self._pieces:
                time.sleep(0.05)  # no wait for luck: the second piece has to be read by itself
                client.sendall(self._pieces.pop(0))
            if b"connection: close" in answer.lower() or self._takes is not None:
                return

    def _read(self, client):
        data = b""
        while b"\r\n\r\n" not in data:
            more = client.recv(65536)
            if not more:
                return False
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        names = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        size = int(names.get(b"content-length", 0)) if self._takes is None else self._takes
        while len(body) < size:
            more = client.recv(65536)
            if not more:
                return False
            body += more
        self.requests.append((head, body))
        return True


def serve(*answers, **options):
    return closing(Scripted(*answers, **options))


def send(sender, server, body=b'{"n":1}', **more):
    return sender.send(Request(server.url, {"content-type": "application/json"}, body, **more))


def test_requests_share_a_connection_and_have_a_host_and_a_length():
    with serve(OK, OK, OK) as server, closing(HTTPSender(total=5)) as sender:
        for _ in range(3):
            assert send(sender, server).body == b"ok"
        assert server.connections == 1
        head, body = server.requests[2]
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/events?key=a%20b HTTP/1.1"
    port = server.url.split(":")[2].partition("/")[0]
    assert sorted(lines[1:]) == sorted(
        [
            f"Host: 127.0.0.1:{port}".encode(),
            b"accept-encoding: identity",
            b"content-type: application/json",
            b"Content-Length: 7",
        ]
    )
    assert body == b'{"n":1}'


@pytest.mark.parametrize("size", [10, 64 * 1024, 64 * 1024 + 1, 3_000_000])
def test_a_body_of_any_size_arrives_as_it_is(size):
    body = bytes(number % 251 for number in range(size))
    with serve(OK) as server, closing(HTTPSender(total=5)) as sender:
        assert send(sender, server, body).status == 200
        assert server.requests[0][1] == body


def test_a_connection_that_the_server_closed_between_requests_is_opened_anew():
    closes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    with serve(closes, closes, OK) as server, closing(HTTPSender(total=5)) as sender:
        assert [send(sender, server).body for _ in range(3)] == [b"ok"] * 3
        assert server.connections == 3


def test_a_connection_is_not_used_after_it_was_idle_for_long(monkeypatch):
    with serve(OK, OK) as server:
        url = httpx.URL(server.url)
        with closing(Connection(url, lambda: None)) as connection:
            request = Request(server.url, body=b"1")
            connection.exchange(request, url, time.monotonic() + 5)
            first = connection.socket
            now = time.monotonic()
            monkeypatch.setattr(time, "monotonic", lambda: now + KEEP_SECONDS + 1)
            connection.exchange(request, url, now + KEEP_SECONDS + 6)
            assert connection.socket is not first
            assert first.fileno() == -1


ANSWERS = {
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
    "until its end": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nok",
    "after an interim answer": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
}


@pytest.mark.parametrize("how", ANSWERS)
def test_an_answer_is_read_however_it_ends(how):
    with serve(ANSWERS[how], OK) as server, closing(HTTPSender(total=5)) as sender:
        assert send(sender, server).body == b"ok"
        assert send(sender, server).body == b"ok"


def test_headers_of_an_answer_come_in_lower_case_and_once_each():
    answer = b"HTTP/1.1 204 No Content\r\nRetry-After: 5\r\nX-Many: a\r\nX-MANY: b\r\nX-L: caf\xe9\r\n\r\n"
    with serve(answer) as server, closing(HTTPSender(total=5)) as sender:
        headers = send(sender, server).headers
    assert headers == {"retry-after": "5", "x-many": "a, b", "x-l": "café"}


def test_a_refusal_that_comes_before_the_whole_request_was_read_is_heard():
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with serve(refusal, takes=0) as server, closing(HTTPSender(total=5)) as sender:
        statuses = []
        try:
            statuses.append(send(sender, server, bytes(50_000_000)).status)
        except httpx.ReadError:  # the system threw the answer away with the connection
            statuses.append(413)
        assert statuses == [413]


def test_an_answer_of_more_than_64_kib_is_cut_and_its_connection_not_used_again():
    huge = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000_000)
    with serve(huge, OK) as server, closing(HTTPSender(total=5)) as sender:
        assert len(send(sender, server).body) == BODY_LIMIT
        assert send(sender, server).body == b"ok"
        assert server.connections == 2


BROKEN = {
    "the connection's end": (None, httpx.RemoteProtocolError),
    "an answer cut short": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nok",
        httpx.RemoteProtocolError,
    ),
    "no HTTP": (b"220 smtp.example ESMTP\r\n\r\n", httpx.RemoteProtocolError),
    "another protocol": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        httpx.RemoteProtocolError,
    ),
    "endless headers": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000, httpx.RemoteProtocolError),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_answer_is_an_error_of_its_kind_and_the_next_request_a_fresh_start(what):
    answer, kind = BROKEN[what]
    with serve(answer, OK) as server, closing(HTTPSender(total=5)) as sender:
        with pytest.raises(kind):
            send(sender, server)
        assert send(sender, server).body == b"ok"
        assert server.connections == 2


def test_a_header_that_is_none_is_an_error_and_nothing_is_sent():
    with serve(OK) as server, closing(HTTPSender(total=5)) as sender:
        with pytest.raises(httpx.LocalProtocolError):
            sender.send(Request(server.url, {"x": "a\r\nb: c"}, b"1"))
        assert server.requests == []
        assert send(sender, server).status == 200


def test_a_server_that_takes_nothing_costs_no_more_than_the_deadline():
    with closing(socket.create_server(("127.0.0.1", 0))) as deaf, closing(HTTPSender(total=0.3)) as sender:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        began = time.monotonic()
        with pytest.raises(httpx.WriteTimeout):
            sender.send(Request(url, body=bytes(50_000_000)))
        with pytest.raises(httpx.ReadTimeout):
            sender.send(Request(url, body=b"1"))
        assert time.monotonic() - began < 5


def test_nobody_who_listens_is_a_connect_error_with_the_systems_own_behind_it():
    with closing(socket.create_server(("127.0.0.1", 0))) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}/"
    with closing(HTTPSender(total=5)) as sender, pytest.raises(httpx.ConnectError) as caught:
        sender.send(Request(url, body=b"1"))
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_an_address_with_brackets_reaches_its_server():
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("there is no IPv6 here")
    with closing(server), closing(HTTPSender(total=5)) as sender:

        def answer():
            client, _ = server.accept()
            with client:
                client.recv(65536)
                client.sendall(OK)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert sender.send(Request(f"http://[::1]:{server.getsockname()[1]}/", body=b"1")).body == b"ok"
        thread.join(5)


@pytest.mark.parametrize("scheme", ["htps:", "ftp:", "", ":"])
def test_an_address_that_is_none_of_http_gets_nothing_sent_to_it(scheme):
    with serve(OK) as server, closing(HTTPSender(total=5)) as sender:
        with pytest.raises(ConfigurationError):
            sender.send(Request(server.url.replace("http:", scheme), {"authorization": "Bearer x"}, b"1"))
        assert server.connections == 0


def test_a_head_of_many_kilobytes_is_read_however_it_is_cut():
    head = b"HTTP/1.1 200 OK\r\nX-Policy: " + b"x" * 40_000
    rest = b"\r\nContent-Length: 2\r\n\r\nok"
    with serve(head, pieces=[rest]) as server, closing(HTTPSender(total=5)) as sender:
        assert send(sender, server).body == b"ok"


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, ValueError])
def test_a_connection_that_fails_before_tls_is_never_used_without_it(error):
    class Broken:
        def set_alpn_protocols(self, _):
            raise error

    with serve(OK, OK) as server, closing(HTTPSender(total=5, tls=Broken)) as sender:
        request = Request(server.url.replace("http:", "https:"), {"authorization": "Bearer x"}, b"1")
        for _ in range(2):
            with pytest.raises(error):
                sender.send(request)
        assert server.requests == []


def test_what_stands_behind_an_answer_is_not_the_next_one():
    stale = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale"
    no = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
    with serve(OK + stale, no) as server, closing(HTTPSender(total=5)) as sender:
        assert [send(sender, server).status for _ in range(2)] == [200, 500]


@pytest.mark.parametrize(
    ("method", "length"), [("post", True), ("put", True), ("get", False), ("delete", False)]
)
def test_a_method_is_sent_in_capitals_and_only_those_with_a_body_say_its_length(method, length):
    with serve(OK) as server, closing(HTTPSender(total=5)) as sender:
        send(sender, server, b"", method=method)
        head, _ = server.requests[0]
    assert head.startswith(method.upper().encode() + b" /")
    assert (b"Content-Length: 0" in head) == length


def test_addresses_that_do_not_answer_leave_time_for_the_one_that_does(monkeypatch):
    with serve(OK) as server, socket.socket() as full, closing(HTTPSender(total=3)) as sender:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:  # its queue is full: whoever comes next waits
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        port = int(server.url.split(":")[2].partition("/")[0])
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        found = [(*kind, full.getsockname()), (*kind, full.getsockname()), (*kind, ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        try:
            assert send(sender, server).body == b"ok"
        finally:
            for each in waiting:
                each.close()


def test_a_batch_is_put_together_without_changing_what_it_is_made_of():
    batch = [Payload(bytearray(b"1")), Payload(bytearray(b"2"))]
    assert [json_array(batch, b"{", b"}") for _ in range(2)] == [b"{[1,2]}"] * 2
    assert json_array([Payload(b"1")], b"{", b"}") == b"{[1]}"
    assert json_array([]) == b"[]"
