"""For Celery: what is bound where a task is called is bound where it runs.

Called once where the Celery application is made, so that callers and workers both do::

    app = Celery("tasks")
    carry_context()

The ids and properties travel in the header ``agent_tracking`` of the task's message, so whoever can read the
broker can read them. Retries, chains, groups and chords hand them on; a task that runs at once (``apply()``,
``task_always_eager``) has its caller's context anyway. Within a task ``context.bind()`` adds to its own.

That workers deliver what their tasks tracked when they end needs nothing.
"""

from __future__ import annotations

from typing import Any

from celery import signals  # type: ignore[import-untyped]

from agent_tracking.contexts import apart, context
from agent_tracking.snapshot import dumps

__all__ = ["carry_context"]

_HEADER = "agent_tracking"
_HELD = "agent_tracking_context"
_FIELDS = ("user_id", "anonymous_id", "session_id", "properties")
#: The most bytes of a header: with AMQP all of a message's have to fit into one frame, 128 KiB by default
#: (AMQP 0-9-1, section 4.2.6.1). Beyond it only the ids are carried.
_HEADER_BYTES = 8_192


def carry_context() -> None:
    """Have every task run with what is bound where it was called. Calling this twice is as good as once."""
    for signal, receiver in (
        (signals.before_task_publish, _publish),
        (signals.task_prerun, _begin),
        (signals.task_postrun, _end),
    ):
        signal.connect(receiver, weak=False, dispatch_uid=f"agent_tracking{receiver.__name__}")


def _publish(headers: object = None, **_: object) -> None:
    bound = context.current()
    if bound and isinstance(headers, dict):
        if len(dumps(bound)) > _HEADER_BYTES:
            del bound["properties"]
        headers[_HEADER] = bound


def _begin(task: Any, **_: object) -> None:  # noqa: ANN401  celery.Task; Celery has no types
    request = task.request
    carried = request.get(_HEADER)
    if not isinstance(carried, dict):
        carried = {}
    bound = {name: carried[name] for name in _FIELDS if name in carried}
    held = context(**bound) if request.is_eager else apart(**bound)
    held.__enter__()
    setattr(request, _HELD, held)


def _end(task: Any, **_: object) -> None:  # noqa: ANN401
    held = task.request.get(_HELD)
    if held is not None:
        held.__exit__(None, None, None)
