"""The request that carries a batch: the same on every try, within the limits, fit to be sent."""

from __future__ import annotations

from urllib.parse import urlsplit

from agent_tracking.http_provider import Request
from agent_tracking.testing.conformance import records
from agent_tracking.testing.conformance.base import Kit, needs
from agent_tracking.testing.conformance.bench import Bench
from agent_tracking.testing.faults import Fault

__all__ = ["RequestTests"]

#: The core's own affair.
_RESERVED = {"content-length", "content-encoding", "transfer-encoding", "connection", "host"}


class RequestTests(Kit):
    """``request`` is pure but for the headers that ``Capabilities.volatile_headers`` names."""

    @needs("http")
    def test_a_request_is_the_same_each_time(self, bench: Bench) -> None:
        """The same batch gives the same address, headers and body, from another provider as well.

        If it fails: keep the time of sending, counters and random numbers out of it. Headers that must
        differ are declared in ``Capabilities(volatile_headers=(...))``.
        """
        one, two = bench.provider(), bench.provider()
        for name, batch in bench.batches(one):
            first = self._stable(one.request(name, batch))
            one.request(name, batch[:1])
            again, another = one.request(name, batch), two.request(name, batch)
            self.hold(first == self._stable(again), f"a second request to {name!r} differs")
            self.hold(first == self._stable(another), f"another provider's request to {name!r} differs")

    @needs("http")
    def test_a_request_can_be_sent(self, bench: Bench) -> None:
        """The address is absolute; headers are text; a content type is given; the rest is the core's.

        If it fails: see the message. Compression, lengths and connections are the core's affair.
        """
        provider = bench.provider()
        for name, batch in bench.batches(provider):
            request = provider.request(name, batch)
            parts = urlsplit(request.url)
            absolute = parts.scheme in {"http", "https"} and parts.netloc
            self.hold(absolute, f"the address of {name!r} is not absolute")
            there = request.url.startswith(bench.place)
            self.hold(there, f"{name!r} is not sent to the place that make_environ was given")
            headers = {key.lower(): value for key, value in request.headers.items()}
            self.hold(len(headers) == len(request.headers), f"{name!r} has a header twice")
            self.hold("content-type" in headers, f"{name!r} has no content-type")
            ours = sorted(headers.keys() & _RESERVED)
            self.hold_nothing(ours, f"{name!r} sets headers that are the core's")
            self.hold(request.body, f"{name!r} has no body")

    @needs("http")
    def test_a_batch_is_left_as_it_is(self, bench: Bench) -> None:
        """The same payloads are sent again when a request fails.

        If it fails: do not sort, pop from or append to the batch.
        """
        provider = bench.provider()
        for name, batch in bench.batches(provider):
            before = [(payload.body, payload.endpoint, payload.key) for payload in batch]
            provider.request(name, batch)
            after = [(payload.body, payload.endpoint, payload.key) for payload in batch]
            self.hold(before == after, "request() changes the batch")

    @needs("http", "retry")
    def test_a_retry_sends_the_same_bytes_and_keys(self, bench: Bench) -> None:
        """After a failure the request is the same byte for byte, so that the backend can tell a double.

        If it fails: make ids and times in ``encode``, from the record, and nothing in ``request``.
        """
        bench.start()
        bench.fail(Fault.status(503, times=2))
        bench.track()
        bench.settle()
        for path in bench.paths():
            tries = [request for request in bench.requests() if request.path == path][:3]
            if not tries:
                continue
            self.hold(len(tries) == 3, f"{len(tries)} requests instead of three")
            first = tries[0]
            for again in tries[1:]:
                self.hold(first.body == again.body, "a retry has another body")
                self.hold(first.raw_size == again.raw_size, "a retry has another length")
                self.hold(first.keys == again.keys, "a retry has other keys")
                same = self._kept(first.headers) == self._kept(again.headers)
                self.hold(same and first.query == again.query, "a retry has other headers or another query")
        bench.check_account(range(12))

    @needs("http")
    def test_bodies_are_compressed_only_where_an_endpoint_says_so(self, bench: Bench) -> None:
        """Bodies over a kilobyte are compressed for endpoints with ``gzip=True`` and for no other.

        If it fails: set ``gzip`` of the endpoint by what the backend documents. An answer 400 or 415 to
        the first request means that the backend takes none.
        """
        bench.start()
        bench.track(40)
        if self.capabilities.identities:
            bench.identify(30)
        bench.settle()
        provider, prefix = bench.provider(), f"/{bench.name}"
        squeezed = {
            urlsplit(provider.request(name, batch).url).path.removeprefix(prefix) or "/": endpoint.gzip
            for name, batch in bench.batches(provider)
            for endpoint in provider.endpoints
            if endpoint.name == name
        }
        for request in bench.requests():
            if len(request.body) >= 1024:
                expected = squeezed.get(request.path)
                found = request.headers.get("content-encoding") == "gzip"
                self.hold(found == expected, f"{request.path}: compressed is {found}, declared {expected}")

    @needs("http")
    def test_limits_are_kept(self, bench: Bench) -> None:
        """No request carries more records or bytes than its endpoint declares, and none is needed twice.

        If it fails: see what ``request`` adds to the payloads; leave room for it in ``body_bytes``.
        """
        provider = bench.provider()
        most = {endpoint.name: endpoint for endpoint in provider.endpoints}
        big = [records.event({"text": "x" * 20_000}, serial=serial) for serial in range(20)]
        for record in big:
            for payload in records.payloads(provider, record):
                endpoint = most[payload.endpoint or provider.endpoints[0].name]
                self.hold(
                    len(payload.body) <= endpoint.record_bytes, "an event of 20 kB is over record_bytes"
                )
        bench.start()
        bench.track(40, extra={serial: {"text": "x" * 20_000} for serial in range(40)})
        bench.settle()
        bench.check_account(range(40))

    def _kept(self, headers: dict[str, str]) -> dict[str, str]:
        volatile = {name.lower() for name in self.capabilities.volatile_headers}
        return {name: value for name, value in headers.items() if name.lower() not in volatile}

    def _stable(self, request: Request) -> tuple[str, str, dict[str, str], bytes]:
        headers = {name.lower(): value for name, value in request.headers.items()}
        return request.method, request.url, self._kept(headers), request.body
