"""What every processor is to the dispatcher: a name, a change, and whether a record may go without it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from inspect import CORO_CREATED, getcoroutinestate, iscoroutine
from typing import TypeVar

from agent_tracking.events import Identity, Record, TrackingEvent
from agent_tracking.processors.draft import Draft

__all__ = ["Misused", "Step", "close", "factory", "required", "step_of"]

Processor = Callable[[Record], "Record | None"]
F = TypeVar("F", bound=Callable[..., object])


class Misused(TypeError):
    """A function of the application returned something that it may not; the text may be logged."""


class Step:
    """A processor: called with a record, it returns one, or ``None`` to drop it.

    Attributes:
        name: what a log line calls it.
        required: whether a record is dropped when this fails, because it must not be sent without it.
        change: changes a draft; returns the reason when the record is to be dropped.
    """

    def __init__(self, name: str, change: Callable[[Draft], str | None], *, required: bool = False) -> None:
        self.name = name
        self.change = change
        self.required = required

    def __call__(self, record: Record) -> Record | None:
        """Return the changed record, or ``None`` to drop it."""
        draft = Draft(record)
        return None if self.change(draft) else draft.settle()

    def __repr__(self) -> str:
        return f"<processor {self.name}>"


def required(processor: Processor) -> Processor:
    """Mark a processor of your own as one that no record may go without: if it fails, the record is dropped.

    Example::

        @required
        def no_addresses(record):
            return record.replace(properties=without_addresses(record.properties))
    """
    if not callable(processor):
        raise TypeError(f"required() takes a function, record -> record or None, not {_type(processor)}")

    @wraps(processor)
    def wrapper(record: Record) -> Record | None:
        return processor(record)

    wrapper.required = True  # type: ignore[attr-defined]
    return wrapper


def factory(function: F) -> F:
    """Mark a function that makes a processor: listed itself, without being called, it fails safely."""
    function.makes_processors = True  # type: ignore[attr-defined]
    function.required = True  # type: ignore[attr-defined]
    return function


def step_of(processor: Processor) -> Step:
    """Return a processor as a step."""
    if isinstance(processor, Step):
        return processor
    return Step(_name(processor), _running(processor), required=_attribute(processor, "required") is True)


def _running(processor: Processor) -> Callable[[Draft], str | None]:
    def change(draft: Draft) -> str | None:
        changed = processor(draft.settle())
        if changed is None:
            return "processor"
        if type(changed) not in {TrackingEvent, Identity}:
            close(changed)
            raise Misused(f"returned {_type(changed)}, neither a record nor None")
        draft.become(changed)
        return None

    return change


def close(value: object) -> None:
    """End what an ``async def`` function returned: nobody awaits it."""
    if iscoroutine(value) and getcoroutinestate(value) == CORO_CREATED:
        value.close()


def _name(processor: object) -> str:
    while isinstance(processor, partial):
        processor = processor.func
    for attribute in ("name", "__name__"):
        name = _attribute(processor, attribute)
        if type(name) is str and name:
            return name[:100]
    return _type(processor)


def _attribute(processor: object, name: str) -> object:
    try:
        return getattr(processor, name, None)
    except Exception:  # noqa: BLE001  an object of the application may answer with anything
        return None


def _type(value: object) -> str:
    return type(value).__name__[:100]
