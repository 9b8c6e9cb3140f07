"""Every way in which Django runs an application's code, under WSGI and ASGI, each tracking ``n``."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import path
from django.utils.decorators import sync_and_async_middleware

from agent_tracking import context, identify, track
from agent_tracking.integrations import asgi, wsgi

settings.configure(
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[f"{__name__}.knows_who", f"{__name__}.passes"],
    LOGGING_CONFIG=None,
)
django.setup()
logging.getLogger("django.request").disabled = True  # nobody reads what the test's server writes


@sync_and_async_middleware
def knows_who(get_response: Callable[..., object]) -> Callable[..., object]:
    """As one behind Django's AuthenticationMiddleware would."""

    def bind(request: HttpRequest) -> None:
        if user := request.headers.get("x-user"):
            context.bind(user_id=user)

    if asyncio.iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> object:
            bind(request)
            return await get_response(request)

        return asynchronous

    def synchronous(request: HttpRequest) -> object:
        bind(request)
        return get_response(request)

    return synchronous


def passes(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """A middleware that is sync only: under ASGI what it calls runs in asgiref's threads."""

    def synchronous(request: HttpRequest) -> HttpResponse:
        return get_response(request)

    return synchronous


def count(request: HttpRequest, step: str) -> None:
    track("step", {"n": int(request.GET["n"]), "step": step})


def ready(request: HttpRequest) -> HttpResponse:
    return HttpResponse("yes")


def synchronous(request: HttpRequest) -> HttpResponse:
    count(request, "before")
    time.sleep(0.002)
    count(request, "after")
    return HttpResponse("2")


async def asynchronous(request: HttpRequest) -> HttpResponse:
    await asyncio.gather(*(asyncio.to_thread(count, request, f"to_thread {number}") for number in range(2)))
    return HttpResponse("2")


def stream(request: HttpRequest) -> HttpResponseBase:
    def rows() -> Iterator[str]:
        for number in range(2):
            count(request, f"row {number}")
            time.sleep(0.002)
            yield "row\n"
        yield "3"

    async def async_rows() -> AsyncIterator[str]:
        for row in rows():
            yield row

    count(request, "before")
    return StreamingHttpResponse(async_rows() if hasattr(request, "scope") else rows())


def fail(request: HttpRequest) -> HttpResponse:
    count(request, "before it fails")
    raise ZeroDivisionError


def known(request: HttpRequest) -> HttpResponse:
    if user := request.headers.get("x-user"):
        identify(user, {"n": int(request.GET["n"])})
    count(request, "identified")
    return HttpResponse("1")


urlpatterns = [
    path("ready", ready),
    path("sync", synchronous),
    path("async", asynchronous),
    path("stream", stream),
    path("fail", fail),
    path("identify", known),
]

IDS = {"anonymous_id": "cookie:visitor", "session_id": "header:x-session-id"}
wsgi_application = wsgi.TrackingMiddleware(
    get_wsgi_application(), **IDS, properties=lambda environ: {"path": environ["PATH_INFO"]}
)
asgi_application: Callable[..., Awaitable[None]] = asgi.TrackingMiddleware(
    get_asgi_application(), **IDS, properties=lambda scope: {"path": scope["path"]}
)
