"""The middleware, called as servers call it: which ids are read, and for how long they are bound."""

from __future__ import annotations

import asyncio
import io
import logging
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_tracking import ConfigurationError, Tracker, context
from agent_tracking.contexts import CURRENT
from agent_tracking.integrations import asgi, wsgi
from agent_tracking.integrations.requests import cookie_of
from agent_tracking.testing import Sink

IDS = {"anonymous_id": "cookie:visitor", "session_id": "header:X-Session-Id"}


@pytest.fixture(autouse=True)
def nothing_is_left():
    assert CURRENT.get() is None
    yield
    assert CURRENT.get() is None


def environ_of(headers, **changes):
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
    setup_testing_defaults(environ)
    return {**environ, **changes}


def scope_of(headers, kind="http"):
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": kind, "path": "/", "headers": encoded}


def seen_by_wsgi(headers, **options):
    """Return what is bound in a WSGI application during such a request."""
    seen = []

    def app(environ, start_response):
        seen.append(context.current())
        start_response("200 OK", [])
        return []

    wsgi.TrackingMiddleware(app, **options)(environ_of(headers), lambda *_: None)
    return seen[0]


def seen_by_asgi(headers, **options):
    """Return the same of an ASGI application."""
    seen = []

    async def app(scope, receive, send):
        seen.append(context.current())

    asyncio.run(asgi.TrackingMiddleware(app, **options)(scope_of(headers), None, None))
    return seen[0]


BOTH = pytest.mark.parametrize("seen_by", [seen_by_wsgi, seen_by_asgi])
MIDDLEWARE = pytest.mark.parametrize("middleware", [wsgi.TrackingMiddleware, asgi.TrackingMiddleware])

# Which ids


@BOTH
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, {}),
        ({"Cookie": "visitor=v-1"}, {"anonymous_id": "v-1"}),
        ({"Cookie": 'a=1; visitor = "v-1" ;b'}, {"anonymous_id": "v-1"}),
        ({"Cookie": "visitor=first; visitor=second"}, {"anonymous_id": "first"}),
        ({"Cookie": "visitor=a=b; Visitor=2"}, {"anonymous_id": "a=b"}),
        ({"Cookie": "{]=;;=; visitor=v-1"}, {"anonymous_id": "v-1"}),
        ({"Cookie": "not-visitor=1; visitor"}, {}),
        ({"Cookie": "visitor="}, {}),
        ({"Cookie": f"visitor={'x' * 200}"}, {"anonymous_id": "x" * 200}),
        ({"Cookie": f"visitor={'x' * 201}"}, {}),
        ({"Cookie": "visitor=a\x07b"}, {}),
        ({"Cookie": "visitor=z\xfcrich"}, {}),
        ({"x-session-id": " s-1 ", "Cookie": "other=1"}, {"session_id": "s-1"}),
        ({"X-Session-Id": "s-1", "Cookie": "visitor=v-1"}, {"session_id": "s-1", "anonymous_id": "v-1"}),
    ],
)
def test_ids_are_read_where_they_were_said_to_be_and_what_is_none_is_left_out(seen_by, headers, expected):
    assert seen_by(headers, **IDS) == expected


@BOTH
def test_nothing_is_read_and_no_context_opened_unless_it_is_asked_for(seen_by):
    headers = {"Cookie": "visitor=v-1", "X-Session-Id": "s-1"}
    assert seen_by(headers) == {}
    assert seen_by(headers, with_context=True) == {}
    assert seen_by(headers, with_context=False, **IDS) == {}


def test_without_ids_the_application_is_called_with_nothing_in_between():
    seen = []

    async def app(scope, receive, send):
        seen.append(CURRENT.get())

    assert asgi.TrackingMiddleware(app, each_request=False)._serve is app
    asyncio.run(asgi.TrackingMiddleware(app)(scope_of({}), None, None))
    blocks = iter([b""])
    assert wsgi.TrackingMiddleware(lambda *_: blocks)(environ_of({}), print) is blocks
    assert seen == [None]


@BOTH
def test_functions_of_the_request_give_ids_and_properties(seen_by):
    found = seen_by(
        {"X-User": "u-1"},
        user_id=lambda request: 42 if request else None,
        anonymous_id=lambda request: None,
        session_id=lambda request: object(),
        properties=lambda request: {"path": request.get("path") or request["PATH_INFO"]},
    )
    assert found == {"user_id": 42, "properties": {"path": "/"}}


@BOTH
def test_a_function_that_raises_costs_its_id_only_and_is_told_of_once_without_what_it_saw(seen_by, caplog):
    def secret(request):
        raise KeyError("the-secret")

    with caplog.at_level(logging.DEBUG):
        assert seen_by({"Cookie": "visitor=v-1"}, **{**IDS, "session_id": secret}) == {"anonymous_id": "v-1"}
    (told,) = [record.getMessage() for record in caplog.records if record.name == "agent_tracking"]
    assert "function for session_id raised KeyError" in told
    assert "secret" not in told.replace("session_id", "")


async def later(request):
    return "v-1"


@MIDDLEWARE
@pytest.mark.parametrize(
    "wrong",
    ["visitor", "cookie:", "query:visitor", ":", b"cookie:visitor", 7, "cookie:a;b", "header:X Y", later],
)
def test_a_place_that_is_none_is_refused_with_what_it_should_be(middleware, wrong):
    with pytest.raises(
        ConfigurationError, match=r"anonymous_id should be 'cookie:NAME', 'header:NAME' or a f"
    ):
        middleware(None, anonymous_id=wrong)
    with pytest.raises(ConfigurationError, match="properties should be a function of the request"):
        middleware(None, properties={"a": 1})
    with pytest.raises(ConfigurationError, match="a function of the request, and not async"):
        middleware(None, properties=later)


@MIDDLEWARE
@pytest.mark.parametrize("wrong", ["2", None, -1, True, float("nan"), float("inf")])
def test_a_timeout_that_would_make_each_response_fail_is_refused_at_once(middleware, wrong):
    with pytest.raises(ConfigurationError, match="timeout should be a number of seconds, 0 or more"):
        middleware(None, timeout=wrong)


@given(st.text(), st.text())
def test_arbitrary_cookies_raise_nothing_and_give_an_id_or_none(header, value):
    headers = [
        (b"cookie", header.encode()),
        (b"cookie", f"visitor={value}".encode()),
        (b"x-session-id", b"\xff"),
    ]
    for given_headers in (headers, headers[::-1]):
        seen = []

        async def app(scope, receive, send, seen=seen):
            seen.append(context.current())

        scope = {"type": "http", "headers": given_headers}
        asyncio.run(asgi.TrackingMiddleware(app, **IDS)(scope, None, None))
        for found in seen[0].values():
            assert found.isascii()
            assert found.isprintable()
            assert 0 < len(found) <= 200
    assert cookie_of(header, value) is None or value in header


# For how long: WSGI


def streaming(seen, kind):
    """Return a WSGI application that streams two blocks and says what is bound at each step."""

    def app(environ, start_response):
        def body():
            try:
                for number in range(2):
                    seen.append((kind, number, context.current().get("anonymous_id")))
                    with context(properties={"inside": kind}):
                        yield b"block"
                        assert context.current()["properties"] == {"inside": kind}
            finally:
                seen.append((kind, "closed", context.current().get("anonymous_id")))

        start_response("200 OK", [("Content-Type", "text/plain")])
        return body()

    return app


def test_a_streamed_response_is_bound_at_each_step_and_its_thread_is_not_in_between():
    seen = []
    responses = [
        wsgi.TrackingMiddleware(streaming(seen, kind), **IDS)(
            environ_of({"Cookie": f"visitor={kind}"}), lambda *_: None
        )
        for kind in ("a", "b")
    ]
    iterators = [iter(response) for response in responses]
    for _ in range(2):
        for iterator in iterators:
            assert next(iterator) == b"block"
            assert CURRENT.get() is None
    for iterator, response in zip(iterators, responses, strict=True):
        with pytest.raises(StopIteration):
            next(iterator)
        response.close()
        assert CURRENT.get() is None
    assert seen == [
        *((kind, number, kind) for number in range(2) for kind in ("a", "b")),
        ("a", "closed", "a"),
        ("b", "closed", "b"),
    ]


def test_a_response_that_is_given_up_is_closed_inside_its_context_which_ends():
    seen = []
    app = wsgi.TrackingMiddleware(streaming(seen, "a"), **IDS)
    response = app(environ_of({"Cookie": "visitor=a"}), lambda *_: None)
    next(iter(response))
    response.close()
    assert seen[-1] == ("a", "closed", "a")


@pytest.mark.parametrize("when", ["call", "iteration", "close"])
def test_a_wsgi_application_that_raises_does_so_as_ever_and_its_context_ends(when):
    bound = []

    class Body:
        def __iter__(self):
            bound.append(CURRENT.get())
            if when == "iteration":
                raise ZeroDivisionError
            return iter([b""])

        def close(self):
            bound.append(CURRENT.get())
            if when == "close":
                raise ZeroDivisionError

    def app(environ, start_response):
        bound.append(CURRENT.get())
        if when == "call":
            raise ZeroDivisionError
        return Body()

    def serve():
        response = wsgi.TrackingMiddleware(app, **IDS)(environ_of({}), lambda *_: None)
        try:
            list(response)
        finally:
            response.close()

    with pytest.raises(ZeroDivisionError):
        serve()
    assert len(set(bound)) == 1
    assert bound[0].ended


def test_lists_and_the_servers_own_files_are_handed_on_as_they_are():
    for response in ([b"a"], FileWrapper(io.BytesIO(b"a"))):
        app = wsgi.TrackingMiddleware(lambda *_, response=response: response, **IDS)
        environ = environ_of({"Cookie": "visitor=v-1"}, **{"wsgi.file_wrapper": FileWrapper})
        assert app(environ, lambda *_: None) is response


def test_it_keeps_to_the_wsgi_specification():
    seen = []
    app = validator(wsgi.TrackingMiddleware(validator(streaming(seen, "a")), **IDS))
    environ = environ_of({"Cookie": "visitor=a"}, QUERY_STRING="")
    response = app(environ, lambda *_: lambda _: None)
    try:
        assert list(response) == [b"block"] * 2
    finally:
        response.close()
    assert {bound for *_, bound in seen} == {"a"}


# For how long: ASGI


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_an_asgi_application_is_bound_to_its_end_with_all_its_messages(kind):
    seen = []

    async def receive():
        await asyncio.sleep(0)
        return {"type": "message"}

    async def app(scope, receive, send):
        for _ in range(3):
            await receive()
            seen.append((scope["number"], context.current()["anonymous_id"]))
            context.bind(user_id=scope["number"] + 1)
        seen.append((scope["number"], context.current()["user_id"] - 1))
        if scope["number"] % 2:
            raise ZeroDivisionError

    async def main():
        middleware = asgi.TrackingMiddleware(app, **IDS)

        async def one_after_another(first):
            for number in range(first, 40, 4):
                scope = {**scope_of({"Cookie": f"visitor={number}"}, kind), "number": number}
                try:
                    await middleware(scope, receive, None)
                except ZeroDivisionError:
                    assert number % 2
                assert CURRENT.get() is None

        await asyncio.gather(*map(one_after_another, range(4)))

    asyncio.run(main())
    assert len(seen) == 160
    assert all(str(number) == str(bound) for number, bound in seen)


def test_what_a_client_that_leaves_cancels_ends_its_context():
    bound = []

    async def app(scope, receive, send):
        bound.append(CURRENT.get())
        await asyncio.sleep(60)

    async def main():
        task = asyncio.create_task(asgi.TrackingMiddleware(app, **IDS)(scope_of({}), None, None))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert bound[0].ended


def test_where_each_request_is_delivered_its_records_have_its_ids():
    with Sink() as sink:
        tracker = Tracker(environ={**sink.environ("webhook"), "AGENT_TRACKING_PROVIDERS": "webhook"})
        options = {**IDS, "tracker": tracker, "each_request": True, "timeout": 20}

        def wsgi_app(environ, start_response):
            def body():
                tracker.track("wsgi")
                yield b""

            return body()

        async def asgi_app(scope, receive, send):
            tracker.track("asgi")

        headers = {"Cookie": "visitor=v-1"}
        response = wsgi.TrackingMiddleware(wsgi_app, **options)(environ_of(headers), lambda *_: None)
        list(response)
        response.close()
        asyncio.run(asgi.TrackingMiddleware(asgi_app, **options)(scope_of(headers), None, None))
        found = [(event["event"], event.get("anonymousId")) for event in sink.events("webhook")]
        tracker.shutdown(1)
    assert found == [("wsgi", "v-1"), ("asgi", "v-1")]
