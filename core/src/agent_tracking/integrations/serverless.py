"""Runtimes that freeze the process once it has answered: deliver before the answer is given.

>>> from agent_tracking.integrations.serverless import flush_after
>>> @flush_after
... def handler(event, context):
...     return {"statusCode": 200}
>>> handler({}, None)
{'statusCode': 200}

A frozen process sends nothing, and may never be thawed: what waits is late by minutes, or lost
(https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html: processes that go on in the
background resume with the next invocation). So the answer waits for the backends, for ``timeout`` seconds at
most: this is the one place where a caller pays for delivery.

:func:`is_serverless` is what the middleware of :mod:`agent_tracking.integrations.asgi` and
:mod:`agent_tracking.integrations.wsgi` go by: ``AGENT_TRACKING_SERVERLESS`` if it is set (1/true/yes/on or
0/false/no/off); otherwise it is true where one of these variables is set:

- ``AWS_LAMBDA_FUNCTION_NAME``: AWS Lambda, and what is built on it
  (https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html);
- ``K_SERVICE``: Cloud Run services and Cloud Run functions
  (https://cloud.google.com/run/docs/container-contract), which get no CPU between requests unless
  instance-based billing is chosen: there, set ``AGENT_TRACKING_SERVERLESS=0``.

Azure Functions keep the worker running between invocations and need neither.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import ParamSpec, TypeVar, cast, overload

from agent_tracking.api import default_tracker
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.settings import boolean
from agent_tracking.tracker import Tracker

__all__ = ["FLUSH_SECONDS", "checked_timeout", "flush_after", "is_serverless"]

#: Seconds that an invocation waits for delivery at most; functions on Lambda may take 3 by default.
FLUSH_SECONDS = 2.0
_MARKS = ("AWS_LAMBDA_FUNCTION_NAME", "K_SERVICE")

P = ParamSpec("P")
R = TypeVar("R")


def checked_timeout(where: str, timeout: object) -> float:
    """Return how long an answer may wait for its delivery, in seconds.

    Raises:
        ConfigurationError: it is no number of seconds, so that each answer would fail.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout < math.inf:
        raise ConfigurationError(f"{where}: timeout should be a number of seconds, 0 or more")
    return timeout


def is_serverless(environ: Mapping[str, str] | None = None) -> bool:
    """Return whether this process may be frozen after each answer; see the module's text."""
    environ = os.environ if environ is None else environ
    if said := environ.get("AGENT_TRACKING_SERVERLESS", "").strip():
        try:
            return boolean(said)
        except ValueError:
            return False
    return any(environ.get(mark, "").strip() for mark in _MARKS)


@overload
def flush_after(handler: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def flush_after(
    *, timeout: float = FLUSH_SECONDS, tracker: Tracker | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def flush_after(
    handler: Callable[P, R] | None = None,
    /,
    *,
    timeout: float = FLUSH_SECONDS,
    tracker: Tracker | None = None,
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Deliver what was tracked before ``handler`` returns or raises; for functions, sync and async.

    Args:
        handler: the function that the runtime calls.
        timeout: seconds to wait at most.
        tracker: the process-wide one by default.

    What is not delivered in that time stays queued, for the next invocation.

    Raises:
        ConfigurationError: the handler is no function, or the timeout no number of seconds.
    """
    seconds = checked_timeout("flush_after", timeout)
    if handler is None:
        return lambda function: _wrapped(function, seconds, tracker)
    return _wrapped(handler, seconds, tracker)


def _wrapped(handler: Callable[P, R], timeout: float, tracker: Tracker | None) -> Callable[P, R]:
    if not callable(handler):
        raise ConfigurationError(
            f"flush_after wraps a function, not {type(handler).__name__}", fix="@flush_after(timeout=5)"
        )
    if inspect.iscoroutinefunction(handler):

        @functools.wraps(handler)
        async def waits(*args: P.args, **kwargs: P.kwargs) -> object:
            try:
                return await cast("Awaitable[object]", handler(*args, **kwargs))
            finally:
                await (tracker or default_tracker()).aflush(timeout)

        return cast("Callable[P, R]", waits)

    @functools.wraps(handler)
    def blocks(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return handler(*args, **kwargs)
        finally:
            (tracker or default_tracker()).flush(timeout)

    return blocks
