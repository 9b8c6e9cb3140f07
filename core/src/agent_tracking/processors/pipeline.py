"""All processors of a tracker, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agent_tracking.events import Record
from agent_tracking.processors.draft import Draft
from agent_tracking.processors.step import Misused, Processor, Step, step_of

__all__ = ["Pipeline"]


class Pipeline:
    """Runs the processors on each record, in their order.

    Args:
        processors: functions and the ready-made ones.
        warn: told of a failure: a kind for counting, and one sentence.
    """

    def __init__(self, processors: Sequence[Processor], warn: Callable[[str, str], None]) -> None:
        self.processors = processors
        self._steps = [step_of(processor) for processor in processors]
        self._warn = warn

    def run(self, record: Record) -> Record | str:
        """Return the record as the providers get it, or the reason for which it is dropped."""
        draft = Draft(record)
        for step in self._steps:
            try:
                reason = step.change(draft)
            except BaseException as error:  # noqa: BLE001  a function of the application may raise anything
                if self._failed(step, error):
                    return "processor-error"
                continue
            if reason is not None:
                return reason
        return draft.settle()

    def _failed(self, step: Step, error: BaseException) -> bool:
        """Say what went wrong; return whether the record is dropped for it."""
        what = str(error) if type(error) is Misused else f"raised {type(error).__name__}"
        end = "the record was dropped" if step.required else "the record went on unchanged"
        self._warn(f"processor {step.name}", f"the processor {step.name} {what}: {end}")
        return step.required
